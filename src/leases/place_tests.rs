use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Judge, MOST, Place, Rollouts, found, may_hold, taken_out};
use crate::{
    leases::{Record, Stage, record::tests::record},
    rollout::PodFacts,
    watch::{KeySet, SecretUse},
};

const WRITTEN: i64 = 1_000_100;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn left(secret: &str, second: i64, after: Option<u64>) -> Place {
    Place { secret: secret.into(), replaced: Some(at(second)), after }
}

/// Replaced in `db` by what came after revision 6.
fn retired() -> Record {
    Record {
        stage: Stage::Retiring,
        retired: Some(at(WRITTEN)),
        replaced_by: 7,
        places: vec![left("db", WRITTEN, Some(6))],
        ..record()
    }
}

fn pod(created: i64) -> PodFacts {
    PodFacts {
        name: "pod".into(),
        uid: "pod".into(),
        created: Some(at(created)),
        scheduled: true,
        terminating: false,
        finished: false,
        annotations: BTreeMap::new(),
        controller: None,
        rollout_hash: None,
        uses: vec![SecretUse { secret: "db".into(), required: KeySet::All, optional: KeySet::Nothing }],
        health: crate::rollout::PodHealth::default(),
        restarted: Vec::new(),
    }
}

fn marked(created: i64, revision: u64) -> PodFacts {
    let marker = ("rollout.botsecret.dev/db".to_owned(), format!("{revision}.key.print"));
    PodFacts { annotations: BTreeMap::from([marker]), ..pod(created) }
}

fn holds(pod: &PodFacts, record: &Record) -> bool {
    may_hold(pod, record, Some(("db", 8)))
}

#[test]
fn p7_whatever_uses_the_secret_and_began_no_later_than_the_write_may_hold_it() {
    let optional = |key: &str| SecretUse {
        secret: "db".into(),
        required: KeySet::Nothing,
        optional: KeySet::Some(std::iter::once(key.to_owned()).collect()),
    };
    let elsewhere = SecretUse { secret: "other".into(), ..optional("username") };
    let owned = Some(("Job".to_owned(), "job".to_owned()));
    let table = [
        ("earlier", pod(WRITTEN - 90_000), true),
        ("in the same second", pod(WRITTEN), true),
        ("later", pod(WRITTEN + 1), false),
        ("terminating", PodFacts { terminating: true, ..pod(WRITTEN - 1) }, true),
        ("of a job", PodFacts { controller: owned, ..pod(WRITTEN - 1) }, true),
        ("finished", PodFacts { finished: true, ..pod(WRITTEN - 1) }, false),
        ("without a node", PodFacts { scheduled: false, ..pod(WRITTEN - 1) }, false),
        ("without a time", PodFacts { created: None, ..pod(0) }, true),
        ("by another key, optional", PodFacts { uses: vec![optional("KEY")], ..pod(WRITTEN - 1) }, true),
        ("of another Secret", PodFacts { uses: vec![elsewhere], ..pod(WRITTEN - 1) }, false),
        ("of none", PodFacts { uses: Vec::new(), ..pod(WRITTEN - 1) }, false),
    ];
    for (what, pod, expected) in table {
        assert_eq!(holds(&pod, &retired()), expected, "{what}");
    }
}

#[test]
fn p7_a_marker_tells_only_where_it_is_of_what_came_after() {
    let table = [
        ("the replacement's own", marked(WRITTEN, 7), false),
        ("the newest", marked(WRITTEN, 8), false),
        ("of the last one with it", marked(WRITTEN, 6), true),
        ("of another sequence", marked(WRITTEN, 9), true),
        ("on clocks that are apart", marked(WRITTEN - 600, 7), false),
        ("copied to an old pod", marked(WRITTEN - 601, 7), true),
    ];
    for (what, pod, expected) in table {
        assert_eq!(holds(&pod, &retired()), expected, "{what}");
    }
    let unseen = Record { places: vec![left("db", WRITTEN, None)], ..retired() };
    assert!(holds(&marked(WRITTEN, 7), &unseen), "nobody knows what it is beyond");
    // Of a target that is another by now, nobody knows what is newest.
    assert!(may_hold(&marked(WRITTEN, 7), &retired(), Some(("renamed", 8))));
    assert!(may_hold(&marked(WRITTEN, 7), &retired(), None));
}

#[test]
fn p7_a_secret_that_was_left_as_it_was_hands_it_out_still() {
    let mut record = retired();
    record.places.push(Place::at("renamed"));
    let of_renamed = |pod: PodFacts| {
        let uses = vec![SecretUse { secret: "renamed".into(), ..pod.uses[0].clone() }];
        PodFacts { uses, ..pod }
    };
    assert!(holds(&of_renamed(pod(WRITTEN + 5000)), &record));
    assert!(holds(&PodFacts { scheduled: false, ..of_renamed(pod(WRITTEN + 5000)) }, &record));
    assert!(!holds(&PodFacts { finished: true, ..of_renamed(pod(WRITTEN)) }, &record));
    taken_out(&mut record.places, "renamed", at(WRITTEN + 100), Some(7));
    assert!(!holds(&of_renamed(pod(WRITTEN + 5000)), &record));
    assert!(holds(&of_renamed(pod(WRITTEN + 100)), &record));
    // Once it was taken out, a later write says nothing new.
    taken_out(&mut record.places, "renamed", at(WRITTEN + 9000), Some(9));
    assert!(!holds(&of_renamed(pod(WRITTEN + 5000)), &record));
    // A backup with it is put back.
    found(&mut record.places, "renamed");
    assert!(holds(&of_renamed(pod(WRITTEN + 5000)), &record));
}

#[test]
fn p7_where_not_every_place_is_known_only_the_grace_counts() {
    let none = Rollouts::default();
    let mut unknown = Record { places: Vec::new(), ..retired() };
    assert_eq!(Judge::of(&unknown, none), Judge::Grace);
    found(&mut unknown.places, "db");
    assert_eq!(Judge::of(&unknown, none), Judge::Grace, "there may be others");
    let mut many = retired();
    for number in 1..=MOST {
        assert_eq!(Judge::of(&many, none), Judge::Pods);
        found(&mut many.places, &format!("renamed-{number}"));
    }
    assert_eq!(Judge::of(&many, none), Judge::Grace);
}

#[test]
fn p7_of_named_workloads_a_complete_rollout_tells_and_no_change_of_the_choice_does() {
    let named = |complete| Rollouts { named: true, complete };
    let other = |complete| Rollouts { named: false, complete };
    let (seen, unseen) = (retired(), Record { unseen: true, ..retired() });
    let mut twice = unseen.clone();
    twice.places.push(Place::at("renamed"));
    let table = [
        (&seen, other(None), Judge::Pods),
        (&unseen, named(None), Judge::Rollout),
        // That of a key which changed while the credential lay there.
        (&unseen, named(Some(6)), Judge::Rollout),
        (&unseen, named(Some(7)), Judge::Pods),
        // They were named, and are no more: nothing rolls them.
        (&unseen, other(Some(7)), Judge::Grace),
        // Named only now: they may have used it before.
        (&seen, named(Some(6)), Judge::Rollout),
        (&seen, named(Some(7)), Judge::Pods),
        (&twice, named(Some(7)), Judge::Grace),
    ];
    for (record, rollouts, expected) in table {
        assert_eq!(Judge::of(record, rollouts), expected, "{rollouts:?} {:?}", record.places);
    }
}

#[test]
fn p7_the_grace_ends_a_day_after_it_was_replaced() {
    let day = SignedDuration::from_hours(24);
    let over = at(WRITTEN) + day;
    let record = retired();
    assert_eq!(record.over_at(), Some(over));
    assert!(!record.is_over(at(WRITTEN)) && !record.is_over(over - SignedDuration::from_secs(1)));
    assert!(record.is_over(over) && record.is_over(over + day));
    // However long ago it was issued.
    let old = Record { issued: at(0), ..record };
    assert!(!old.is_over(at(WRITTEN)));
}

proptest! {
    /// What may hold it goes on to do so whatever is edited and whoever else
    /// writes: only its end, or another write, changes that.
    #[test]
    fn p7_no_pod_that_began_before_it_was_taken_out_is_ever_overlooked(
        created in WRITTEN - 100_000..=WRITTEN,
        later in 0_i64..100_000,
        others in proptest::collection::vec("[a-z]{1,8}", 0..4),
        newest in proptest::option::of(("[a-z]{1,8}", 0_u64..20)),
        unseen: bool, terminating: bool,
    ) {
        let mut record = Record { unseen, ..retired() };
        for secret in &others {
            found(&mut record.places, &format!("x-{secret}"));
            taken_out(&mut record.places, &format!("x-{secret}"), at(WRITTEN + later), Some(9));
        }
        // Another key rotates, the target is written again.
        taken_out(&mut record.places, "db", at(WRITTEN + later), Some(9));
        let newest = newest.as_ref().map(|(secret, number)| (secret.as_str(), *number));
        let pod = PodFacts { terminating, ..pod(created) };
        prop_assert!(may_hold(&pod, &record, newest));
        let ended = PodFacts { finished: true, ..pod };
        prop_assert!(!may_hold(&ended, &record, newest));
    }

    #[test]
    fn p7_none_that_began_later_keeps_it(later in 1_i64..100_000, marker in proptest::option::of(0_u64..20)) {
        let pod = marker.map_or_else(|| pod(WRITTEN + later), |number| marked(WRITTEN + later, number));
        prop_assert!(!holds(&pod, &retired()));
    }
}

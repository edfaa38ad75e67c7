use k8s_openapi::jiff::Timestamp;

use super::{Shown, align};
use crate::{
    leases::{Fingerprint, Held, Place, Record, Stage, record::tests::record},
    secret::SecretText,
    stores::{Payload, RemoteSecret},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A credential of this entry, sealed as this text.
fn held(stage: Stage, entry: &str, sealed: &str) -> Held {
    let mut held = Held::recorded(Record { stage, entry: Fingerprint(entry.into()), ..record() });
    let payload = Payload::Json(SecretText::new("{}".into()));
    held.values = Some(std::sync::Arc::new(RemoteSecret::of(payload)));
    held.sealed = Some(sealed.into());
    held
}

fn shown<'a>(secret: &'a str, sealed: &'a str, revision: u64, asked: &'a [Fingerprint]) -> Shown<'a> {
    let written = at(1_000_000 + i64::try_from(revision).expect("small"));
    Shown {
        secret,
        sealed,
        revision,
        recorded: None,
        written,
        now: at(1_500_000),
        asked,
        in_sight: true,
        named: false,
        taken_back: false,
    }
}

fn asked(entries: &[&str]) -> Vec<Fingerprint> {
    entries.iter().map(|entry| Fingerprint((*entry).into())).collect()
}

fn stages(all: &[Held]) -> Vec<Stage> {
    all.iter().map(|held| held.record.stage).collect()
}

#[test]
fn p7_what_an_earlier_process_replaced_lay_there_until_a_revision_later_than_the_one_on_record() {
    let asked = asked(&["new"]);
    for (recorded, revision, after) in
        [(Some(6), 7, Some(6)), (Some(6), 9, Some(8)), (Some(7), 7, None), (Some(8), 7, None), (None, 7, None)]
    {
        let mut all = vec![held(Stage::Live, "old", "one"), held(Stage::Live, "new", "two")];
        (all[0].sealed, all[0].values) = (None, None);
        assert!(align(&mut all, &Shown { recorded, ..shown("db", "two", revision, &asked) }));
        assert_eq!(all[0].record.places[0].after, after, "{recorded:?} on record, {revision} shown");
    }
}

#[test]
fn p7_what_was_replaced_keeps_where_it_lay_and_the_time_and_revision_of_the_write() {
    let asked = asked(&["e"]);
    let mut all = vec![held(Stage::Live, "e", "one"), held(Stage::Issuing, "e", "two")];
    assert!(!align(&mut all, &shown("db", "one", 6, &asked)), "the new one is not written yet");
    assert_eq!(stages(&all), [Stage::Live, Stage::Issuing]);
    assert!(align(&mut all, &shown("db", "two", 7, &asked)));
    assert_eq!(stages(&all), [Stage::Retiring, Stage::Live]);
    let old = &all[0].record;
    assert_eq!((old.replaced_by, old.retired), (7, Some(at(1_000_007))));
    assert_eq!(old.places, [Place { secret: "db".into(), replaced: Some(at(1_000_007)), after: Some(6) }]);
    // Another key rotates: nothing is new about it.
    let before = old.clone();
    assert!(!align(&mut all, &shown("db", "two", 8, &asked)));
    assert_eq!(all[0].record, before);
}

#[test]
fn p7_after_a_rename_both_secrets_count_and_each_until_it_is_written_without() {
    let one = asked(&["e"]);
    let mut all = vec![held(Stage::Live, "e", "one")];
    align(&mut all, &shown("db", "one", 6, &one));
    align(&mut all, &shown("renamed", "one", 6, &one));
    assert_eq!(all[0].record.places, [Place::at("db"), Place::at("renamed")]);
    // Another path, and so another credential.
    all.push(held(Stage::Issuing, "f", "two"));
    let two = asked(&["f"]);
    assert!(!align(&mut all, &shown("renamed", "one", 6, &two)));
    assert!(align(&mut all, &shown("renamed", "two", 7, &two)));
    let places = |all: &[Held]| all[0].record.places.iter().map(|place| place.replaced).collect::<Vec<_>>();
    assert_eq!(places(&all), [None, Some(at(1_000_007))]);
    // Back to the first, which still holds the old one until it is written.
    align(&mut all, &shown("db", "one", 6, &two));
    assert_eq!(places(&all), [None, Some(at(1_000_007))]);
    align(&mut all, &shown("db", "two", 9, &two));
    assert_eq!(places(&all), [Some(at(1_000_009)), Some(at(1_000_007))]);
    assert_eq!(all[0].record.retired, Some(at(1_000_007)), "the grace does not begin anew");
}

#[test]
fn p7_nothing_is_given_up_while_a_store_is_out_of_sight() {
    let mut all = vec![held(Stage::Live, "e", "one"), held(Stage::Issuing, "f", "two")];
    let blind = Shown { in_sight: false, ..shown("db", "", 7, &[]) };
    assert!(!align(&mut all, &blind));
    assert_eq!(stages(&all), [Stage::Live, Stage::Issuing]);
}

#[test]
fn p7_what_was_issued_for_an_entry_that_was_edited_before_the_write_retires_with_the_time_of_now() {
    let mut all = vec![held(Stage::Issuing, "e", "one")];
    assert!(align(&mut all, &shown("db", "", 7, &asked(&["f"]))));
    assert_eq!(all[0].record.places[0].replaced, Some(at(1_500_000)), "its write may have been the last");
    assert!(all[0].values.is_none());
}

#[test]
fn p7_workloads_that_were_named_at_any_time_are_on_record() {
    let asked = asked(&["e"]);
    let mut all = vec![held(Stage::Live, "e", "one")];
    align(&mut all, &shown("db", "one", 6, &asked));
    assert!(!all[0].record.unseen);
    align(&mut all, &Shown { named: true, ..shown("db", "one", 6, &asked) });
    align(&mut all, &shown("db", "one", 6, &asked));
    assert!(all[0].record.unseen);
}

#[test]
fn p7_a_credential_that_comes_back_is_live_again_and_what_had_taken_its_place_retires() {
    let asked = asked(&["e"]);
    let mut all = vec![held(Stage::Live, "e", "one"), held(Stage::Issuing, "e", "two")];
    all[0].superseded = true;
    align(&mut all, &shown("db", "two", 7, &asked));
    assert_eq!(stages(&all), [Stage::Retiring, Stage::Live]);
    // An old copy that somebody put there is no reason.
    assert!(!align(&mut all, &Shown { asked: &[], in_sight: false, ..shown("db", "one", 8, &asked) }));
    assert_eq!(stages(&all), [Stage::Retiring, Stage::Live]);
    assert!(align(&mut all, &Shown { taken_back: true, ..shown("db", "one", 8, &asked) }));
    assert_eq!(stages(&all), [Stage::Live, Stage::Retiring]);
    let (old, new) = (&all[0].record, &all[1].record);
    assert_eq!((old.replaced_by, old.retired, all[0].superseded), (0, None, false));
    assert_eq!(old.places, [Place::at("db")]);
    assert_eq!((new.replaced_by, new.retired), (8, Some(at(1_000_008))));
}

//! What is too old or due at a moment, and what becomes of a value that was made,
//! case by case.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Asked, AtSource, Look, Pace, RotationNotes, ScheduleError, Step, Turn, look, next_step};
use crate::{
    api::{BotSecretSpec, KeyChange, Revision, Rotation, State, StoreRef},
    build::Source,
    plan::Retry,
    report::{Problem, Reason},
};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is called")]
/// A spec with two keys of `kv/bot`, one of `kv/other`, and one that is pinned.
fn spec(rotation: Value) -> BotSecretSpec {
    let entry = |key: &str, remote: &str| json!({ "secretKey": key, "remoteRef": { "key": remote, "property": key.to_lowercase() } });
    let mut pinned = entry("PINNED", "kv/pinned");
    pinned["remoteRef"]["version"] = json!("3");
    serde_json::from_value(json!({
        "serviceAccountName": "bot", "storeRef": { "name": "vault" },
        "data": [entry("A", "kv/bot"), entry("B", "kv/bot"), entry("C", "kv/other"), pinned],
        "rotation": rotation,
    }))
    .expect("a spec")
}

fn source(key: &str) -> Source {
    dated(Source::new(&StoreRef { name: "vault".to_owned(), kind: None }, key, None))
}

/// As a spec with rotation has it.
fn dated(mut source: Source) -> Source {
    source.key.dated = true;
    source
}

fn pinned() -> Source {
    dated(Source::new(&StoreRef { name: "vault".to_owned(), kind: None }, "kv/pinned", Some("3")))
}

const DAWN: &str = "2026-06-01T00:00:00Z";
const LATER: &str = "2026-06-02T00:00:00Z";

/// `kv/bot` since dawn, `kv/other` a day later.
fn seen() -> BTreeMap<Source, Option<Timestamp>> {
    BTreeMap::from([
        (source("kv/bot"), Some(time(DAWN))),
        (source("kv/other"), Some(time(LATER))),
        (pinned(), Some(time(LATER))),
    ])
}

fn notes() -> RotationNotes {
    RotationNotes { seen: seen(), ..RotationNotes::default() }
}

fn found(rotation: Value, now: &str) -> Look {
    look(&spec(rotation), &notes(), None, time(now)).expect("a schedule")
}

/// That a key got its value then, which was not its first.
fn change_at(at: Timestamp) -> KeyChange {
    KeyChange { revision: Revision::default(), at, initial: false, added: false, same_before: None }
}

#[test]
fn a_value_is_overdue_from_the_moment_on_at_which_it_is_as_old_as_it_may_be() {
    let at = |now| {
        let look = found(json!({ "maxAge": "48h" }), now);
        (look.overdue.into_iter().map(|(source, _)| source).collect::<Vec<_>>(), look.due, look.next)
    };
    assert_eq!(at("2026-06-02T23:59:59Z"), (vec![], vec![], Some(time("2026-06-03T00:00:00Z"))));
    assert_eq!(at("2026-06-03T00:00:00Z"), (vec![source("kv/bot")], vec![], Some(time("2026-06-04T00:00:00Z"))));
    // One that is pinned grows old as well.
    let all = [source("kv/bot"), source("kv/other"), pinned()];
    assert_eq!(at("2026-06-05T00:00:00Z").0.len(), all.len());
    assert_eq!(at("2026-06-05T00:00:00Z").2, None);
}

#[test]
fn what_is_generated_is_due_by_its_own_source_and_nothing_else_is() {
    let rotation = json!({ "every": "24h", "generate": [{ "secretKey": "B", "password": {} }] });
    assert_eq!(found(rotation.clone(), "2026-06-01T12:00:00Z").next, Some(time("2026-06-02T00:00:00Z")));
    let due = found(rotation, "2026-06-09T00:00:00Z");
    assert_eq!((due.due, due.overdue, due.next), (vec![source("kv/bot")], vec![], None));
}

#[test]
fn without_generate_every_remote_secret_is_due_but_for_pinned_ones() {
    let due = found(json!({ "every": "36h" }), "2026-06-02T12:00:00Z");
    assert_eq!((due.due, due.next), (vec![source("kv/bot")], Some(time("2026-06-03T12:00:00Z"))));
    assert_eq!(found(json!({ "every": "36h" }), "2026-06-09T00:00:00Z").due, [source("kv/bot"), source("kv/other")]);
    assert_eq!(found(json!({ "maxAge": "1h" }), "2026-06-09T00:00:00Z").due, [], "nobody asked for it");
}

#[test]
fn what_somebody_wants_anew_is_due_whatever_its_age_and_once_for_each_request() {
    let yearly = spec(json!({ "every": "8760h" }));
    let due = |notes: &RotationNotes| look(&yearly, notes, None, time(LATER)).expect("a schedule").due;
    let both = [source("kv/bot"), source("kv/other")];
    let mut notes = notes();
    notes.demand(&yearly, None, Some(time(DAWN)), false, time(LATER));
    assert_eq!(due(&notes), both, "whatever the clocks of their managers say");
    notes.note_renewed(&both[0], time(LATER));
    notes.demand(&yearly, None, Some(time(DAWN)), true, time(LATER));
    assert_eq!(due(&notes), both[1..], "once");
    notes.seen.insert(both[1].clone(), Some(time("2026-06-02T00:00:01Z")));
    assert_eq!(due(&notes), [], "somebody else was sooner");
    notes.demand(&yearly, None, Some(time(LATER)), false, time(LATER));
    assert_eq!(due(&notes), both, "once for each request");
    notes.demand(&yearly, None, None, false, time(LATER));
    assert_eq!(due(&notes), []);
    // One that another process began.
    notes.demand(&yearly, None, Some(time("2026-06-01T12:00:00Z")), true, time(LATER));
    assert_eq!(due(&notes), both[..1]);
}

#[test]
fn what_came_into_the_secret_after_somebody_wanted_it_is_wanted_no_more_by_the_next_process() {
    let yearly = spec(json!({ "every": "8760h" }));
    let changed = [("A".to_owned(), change_at(time(LATER))), ("C".to_owned(), change_at(time(DAWN)))];
    let state = State { changed: changed.into(), ..State::default() };
    let due = |bot: &str| {
        let mut notes = notes();
        notes.seen.insert(source("kv/bot"), Some(time(bot)));
        notes.demand(&yearly, Some(&state), Some(time("2026-06-01T12:00:00Z")), false, time(LATER));
        look(&yearly, &notes, Some(&state), time(LATER)).expect("a schedule").due
    };
    assert_eq!(due(LATER), [source("kv/other")]);
    assert_eq!(due(DAWN), [source("kv/bot"), source("kv/other")], "it was made before, and came only now");
}

#[test]
fn what_somebody_wants_is_had_by_what_was_made_since_and_not_by_what_was_there() {
    let (yearly, noon) = (spec(json!({ "every": "8760h" })), "2026-06-02T12:00:00Z");
    let (bot, other) = (source("kv/bot"), source("kv/other"));
    let mut notes = notes();
    let mut due = |change: &mut dyn FnMut(&mut RotationNotes)| {
        change(&mut notes);
        notes.demand(&yearly, None, Some(time(noon)), false, time(noon));
        (look(&yearly, &notes, None, time(noon)).expect("a schedule").due, notes.is_idle())
    };
    assert_eq!(due(&mut |_| ()).0, [bot.clone(), other.clone()]);
    // The source had a newer one all along, which is read only now.
    let older = due(&mut |notes| {
        notes.seen.insert(bot.clone(), Some(time(LATER)));
    });
    assert_eq!(older.0, [bot.clone(), other.clone()]);
    assert_eq!(due(&mut |notes| notes.note_arrived(&bot, time(LATER))).0, [bot.clone(), other.clone()], "kept before");
    assert_eq!(due(&mut |notes| notes.note_arrived(&bot, time(noon))).0, std::slice::from_ref(&other));
    // The manager was asked, and its clock is behind.
    let asked = Asked { at: Instant::now(), since: Some(time(LATER)), looks: 0 };
    let come = due(&mut |notes| {
        notes.asked.insert(other.clone(), asked);
        notes.seen.insert(other.clone(), Some(time("2026-06-02T11:59:59Z")));
    });
    assert_eq!(come, (vec![], true));
}

#[test]
fn what_was_refused_is_wanted_as_before_and_only_then() {
    let (yearly, bot) = (spec(json!({ "every": "8760h" })), source("kv/bot"));
    let problem = || Problem::new(Reason::RotationRefused, Retry::Slow, "no");
    for wanted in [true, false] {
        let mut notes = notes();
        notes.demand(&yearly, None, wanted.then(|| time(LATER)), false, time(LATER));
        let was = notes.note_renewed(&bot, time(LATER));
        notes.note_put_off(&bot, was, problem());
        let due = look(&yearly, &notes, None, time(LATER)).expect("a schedule").due;
        assert_eq!(due.contains(&bot), wanted);
    }
}

#[test]
fn a_manager_whose_clock_is_behind_is_not_asked_twice() {
    let monthly = spec(json!({ "schedule": { "cron": "0 3 1 * *" } }));
    let told = Some(time("2026-06-01T02:59:59Z"));
    let now = time("2026-06-01T03:00:05Z");
    let turn = |notes: &RotationNotes, state: Option<&State>| {
        super::turn(&monthly, notes, &source("kv/bot"), told, state, now).expect("a schedule")
    };
    assert_eq!(turn(&notes(), None), Turn::Now);
    let next = Turn::At(Some(time("2026-07-01T03:00:00Z")));
    let mut renewed = notes();
    renewed.note_renewed(&source("kv/bot"), now);
    assert_eq!(turn(&renewed, None), next);
    // After a restart the Secret tells.
    let state = |initial| State {
        changed: [("A".to_owned(), KeyChange { initial, ..change_at(now) })].into(),
        ..State::default()
    };
    assert_eq!(turn(&notes(), Some(&state(false))), next);
    assert_eq!(turn(&notes(), Some(&state(true))), Turn::Now, "the first sync says nothing of its age");
}

#[test]
fn a_schedule_is_due_at_its_first_moment_after_the_last_change() {
    let due = |rotation: Value, since: &str| {
        let rotation: Rotation = serde_json::from_value(rotation).expect("a rotation");
        Pace::of(&rotation).map(|pace| pace.due_at(time(since)).map(|at| at.to_string()))
    };
    let monthly = json!({ "schedule": { "cron": "0 3 1 * *" } });
    assert_eq!(due(monthly.clone(), "2026-06-01T02:00:00Z"), Ok(Some("2026-06-01T03:00:00Z".to_owned())));
    assert_eq!(due(monthly, "2026-06-01T03:00:00Z"), Ok(Some("2026-07-01T03:00:00Z".to_owned())));
    let berlin = json!({ "schedule": { "cron": "0 3 1 * *", "timeZone": "Europe/Berlin" } });
    assert_eq!(due(berlin, "2026-06-01T02:00:00Z"), Ok(Some("2026-07-01T01:00:00Z".to_owned())));
    let wrong = json!({ "schedule": { "cron": "61 * * * *" } });
    assert_eq!(due(wrong, DAWN), Err(ScheduleError::Cron("61 * * * *".to_owned())));
    let nowhere = json!({ "schedule": { "cron": "0 3 1 * *", "timeZone": "Europe/Nowhere" } });
    assert_eq!(due(nowhere, DAWN), Err(ScheduleError::TimeZone("Europe/Nowhere".to_owned())));
    let never = json!({ "schedule": { "cron": "0 3 31 4,6 *" } });
    assert_eq!(due(never, DAWN), Err(ScheduleError::Never("0 3 31 4,6 *".to_owned())));
    assert_eq!(due(json!({ "every": "999999h" }), "9999-01-01T00:00:00Z"), Ok(None), "out of reach");
}

#[test]
fn p6_a_schedule_that_never_comes_is_said_where_something_waits_for_it() {
    for cron in ["0 3 * * L", "0 3 * * +", "0 3 30 2 *", "0 3 31 4,6 *", "*\t* * * * *"] {
        let spec = spec(json!({ "maxAge": "24h", "schedule": { "cron": cron } }));
        let error = look(&spec, &notes(), None, time(LATER)).expect_err(cron).to_string();
        assert!(error.starts_with(&format!("rotation.schedule: \"{cron}\" ")), "{error}");
        let mut notes = notes();
        notes.demand(&spec, None, Some(time(LATER)), false, time(LATER));
        let due = look(&spec, &notes, None, time(LATER)).expect("nothing waits for the schedule").due;
        assert_eq!(due, [source("kv/bot"), source("kv/other")], "{cron}");
    }
}

#[test]
fn a_source_that_tells_no_age_is_as_old_as_the_secret_says_and_not_rotated() {
    let state = State {
        since: Some(time("2026-05-01T00:00:00Z")),
        changed: BTreeMap::from([("A".to_owned(), change_at(time(DAWN))), ("C".to_owned(), change_at(time(LATER)))]),
        ..State::default()
    };
    let seen = BTreeMap::from([(source("kv/bot"), None), (source("kv/found"), None)]);
    let notes = RotationNotes { seen, ..RotationNotes::default() };
    let rotation = json!({ "maxAge": "48h", "every": "24h" });
    let look = look(&spec(rotation), &notes, Some(&state), time("2026-06-03T00:00:00Z"));
    let look = look.expect("a period");
    assert_eq!(look.overdue, [(source("kv/bot"), time(DAWN))], "the other may have brought key C");
    assert_eq!((look.due, look.ageless), (vec![], Some(source("kv/bot"))));
    assert_eq!(look.next, Some(time("2026-06-04T00:00:00Z")));
}

#[test]
fn one_value_is_made_for_one_version_and_written_once() {
    let at = |version: u64, changed: &str| AtSource { version: Some(version), changed: Some(time(changed)) };
    let (three, four) = (at(3, DAWN), at(4, LATER));
    let of_time = |changed: &str| AtSource { version: None, changed: Some(time(changed)) };
    for (kept, is_there, source, is_due, wanted) in [
        // Nothing is kept.
        (None, false, three, false, Step::Rest),
        (None, false, three, true, Step::Make),
        // Killed before the write, or its reply said that it failed.
        (Some(three), false, three, true, Step::Write),
        // Killed after it, or its reply was lost.
        (Some(three), true, four, false, Step::Forget),
        // What is kept is written though the spec has changed its mind on the time.
        (Some(three), false, three, false, Step::Write),
        // Somebody else was sooner.
        (Some(three), false, four, false, Step::Forget),
        (Some(three), false, four, true, Step::Forget),
        // A replica that lags behind.
        (Some(four), false, three, true, Step::Wait),
        // Deleted with all its versions, and written anew.
        (Some(four), false, at(1, "2026-06-03T00:00:00Z"), false, Step::Forget),
        // Managers that do not count.
        (Some(of_time(DAWN)), false, of_time(DAWN), true, Step::Write),
        (Some(of_time(DAWN)), false, of_time(LATER), true, Step::Forget),
        (Some(of_time(LATER)), false, of_time(DAWN), true, Step::Wait),
    ] {
        assert_eq!(next_step(kept, is_there, source, is_due), wanted, "{kept:?} {is_there} {source:?} {is_due}");
    }
}

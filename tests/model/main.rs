//! The model check: a rotation in a small world, in every order in which
//! anything in it can happen.
//!
//! Two Deployments of one pod each use a Secret of one key. The source rotates,
//! to values that work or do not; Deployment controller and pods go on step by
//! step; somebody strips a marker; the operator crashes between any two of its
//! requests, loses an answer, is refused, begins with what the watch showed
//! before, or is deposed with a write on its way. The decisions are the shipped
//! ones: `src/runtime/rolling/` runs as it is, on answers from the model.
//!
//! `cargo test --test model` searches worlds that are small enough for every
//! day, `make faults` larger ones too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking and shows figures"
)]

mod actions;
mod canon;
mod check;
#[path = "../faults/figures.rs"]
mod figures;
mod judge;
mod operator;
mod record;
mod rollout;
mod world;

/// The shipped half of a pass that rolls. It finds its surroundings under the
/// names that they have in the library.
#[allow(dead_code, reason = "the library uses all of it")]
#[path = "../../src/runtime/rolling/mod.rs"]
mod rolling;

use botsecret::{api, deadline, plan, report, watch};
use check::{Found, search};
use operator::Context;
use world::{Setup, World};

/// A known defect, planted into the pass or the API: a check that does not find
/// it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The API takes writes that were decided on an older version.
    NoPrecondition,
    /// A patch is put on record before it is made, and the record believed.
    RecordFirst,
    /// Whoever waits goes.
    NoCanary,
    /// Nothing ever counts as failed.
    NoFailure,
}

const ONE: Setup =
    Setup { rotations: 1, strips: 0, faults: 0, recreates: [false; 2], always_due: false, all_good: false };

/// Each of these worlds is searched as a whole.
const WORLDS: [Setup; 4] = [
    ONE,
    Setup { recreates: [true, false], ..ONE },
    Setup { recreates: [false, true], ..ONE },
    Setup { faults: 1, always_due: true, all_good: true, ..ONE },
];
const GOOD: Setup = Setup { always_due: true, all_good: true, ..ONE };
const LARGE: [Setup; 6] = [
    Setup { strips: 1, always_due: true, ..ONE },
    // Values that fail, two replicas, up to three things that go wrong; and three
    // revisions without such things.
    Setup { faults: 1, ..ONE },
    Setup { faults: 2, ..ONE },
    Setup { faults: 3, ..ONE },
    Setup { faults: 3, ..GOOD },
    Setup { rotations: 2, ..GOOD },
];

fn check(setup: Setup, mutant: Option<Mutant>) -> Found {
    let found = search(World::new(setup), mutant);
    println!(
        "{setup:?}, {mutant:?}: {} states, {} steps, {} ends in {:.1?}",
        found.states, found.steps, found.ends, found.took
    );
    found
}

fn check_all<'a>(worlds: impl IntoIterator<Item = &'a Setup>) -> usize {
    let mut states = 0;
    for world in worlds {
        let found = check(*world, None);
        if let Some((what, way)) = &found.wrong {
            panic!("{what}:\n{}", way.join("\n"));
        }
        assert!(found.ends > 0, "nothing ever comes to rest");
        states += found.states;
    }
    states
}

#[test]
fn p1_p3_p11_no_order_of_events_does_harm_or_ends_short_of_the_goal() {
    check_all(&WORLDS);
}

#[test]
#[ignore = "larger worlds take minutes: make faults"]
fn p1_p3_p11_no_order_of_events_does_so_in_larger_worlds() {
    let states = check_all(WORLDS.iter().chain(&LARGE));
    figures::add(&serde_json::json!({ "model_states": states }));
}

#[test]
fn planted_defects_are_found() {
    for (mutant, world) in [
        (Mutant::NoPrecondition, Setup { faults: 1, ..ONE }),
        (Mutant::RecordFirst, Setup { faults: 1, ..ONE }),
        (Mutant::NoCanary, ONE),
        (Mutant::NoFailure, ONE),
    ] {
        let (what, way) = check(world, Some(mutant)).wrong.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?} after {} steps: {what}", way.len() - 1);
    }
}

//! The fault campaign: the whole operator, in virtual time, over a Kubernetes
//! API in memory, with something going wrong at every single write.
//!
//! `cargo test --test faults` runs a seeded sample, `make faults` all of it.
//! `FAULTS_SEED` chooses another sample, `FAULTS_SINGLES` and `FAULTS_PAIRS` its
//! size; `FAULTS_RUNS` says how many runs the whole campaign has, and
//! `FAULTS_MINUTES` how long those of one scenario may take; `FAULTS_SCENARIO` names
//! the only one, and `FAULTS_CASE` one case to repeat.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking and shows a table"
)]

mod campaign;
mod clock;
mod conformance;
mod dice;
mod faults;
mod figures;
mod judge;
mod mutants;
mod run;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::time::Duration;

use campaign::{Faultless, Report, name, run_all, violations};
use dice::Dice;
use faults::Planned;
use mutants::{MUTANTS, MUTANTS_OF_LEASES, caught_by};
use run::{Case, run};
use world::Scenario;

/// How many runs the sample has of each scenario, singles and pairs.
const SAMPLE: (u64, u64) = (60, 30);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How long one scenario's runs may take.
fn time() -> Duration {
    Duration::from_secs(60 * setting("FAULTS_MINUTES", 60))
}

fn assert_good(report: &Report) {
    assert!(report.failed.is_empty(), "{} of {} runs failed", report.failed.len(), report.runs);
}

#[test]
fn without_a_fault_the_scenario_comes_to_rest_with_one_rollout_a_rotation() {
    let run = run(&Case::default());
    for (number, met) in (1..).zip(&run.writes) {
        println!("{number:3} {:?} {}", met.at, met.label);
    }
    assert!(run.outcome.wrong.is_empty(), "{:#?}", run.outcome.wrong);
    assert!(run.outcome.settled.rollouts.values().all(|count| *count == 2), "{:?}", run.outcome.settled.rollouts);
    assert_eq!(run.lives, 1);
}

#[test]
fn the_same_case_makes_the_same_writes_at_the_same_times() {
    for text in ["", "5:crash-after", "13:watches-miss,4:503"] {
        let planned: Vec<Planned> =
            text.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().expect("a fault")).collect();
        let case = Case { planned, ..Case::default() };
        let trace = || {
            let run = run(&case);
            run.writes.into_iter().map(|met| (met.at.as_millis(), met.label)).collect::<Vec<_>>()
        };
        let first = trace();
        for _ in 0..3 {
            assert_eq!(first, trace(), "{text}");
        }
    }
}

#[test]
fn p1_p3_p11_a_sample_of_faults_ends_as_if_there_had_been_none() {
    let mut dice = Dice(setting("FAULTS_SEED", 1));
    let count = |name, default| usize::try_from(setting(name, default)).expect("a number");
    let (singles, pairs) = (count("FAULTS_SINGLES", SAMPLE.0), count("FAULTS_PAIRS", SAMPLE.1));
    let sample = |scenario| {
        let faultless = Faultless::find(scenario);
        let mut cases: Vec<_> =
            (0..singles).map(|_| vec![faultless.singles[dice.below(faultless.singles.len())]]).collect();
        cases.extend(faultless.pairs(&mut dice, pairs));
        run_all(&cases, &faultless, time())
    };
    let report = Scenario::ALL.map(sample).into_iter().fold(Report::default(), Report::and);
    report.print();
    assert_good(&report);
}

#[test]
fn planted_defects_are_found() {
    let (planted, caught) = hunt();
    assert_eq!(planted, caught);
}

/// How many defects there are, and how many were found.
fn hunt() -> (usize, usize) {
    let (mut planted, mut caught) = (0, 0);
    for (scenario, mutants) in [(Scenario::Rotations, &MUTANTS[..]), (Scenario::Leased, &MUTANTS_OF_LEASES)] {
        let faultless = Faultless::find(scenario);
        for mutant in mutants {
            let by = caught_by(mutant, &faultless);
            planted += 1;
            caught += usize::from(by.is_some());
            println!("{}: {}", mutant.name, by.unwrap_or_else(|| "NOT FOUND".to_owned()));
        }
    }
    (planted, caught)
}

#[test]
#[ignore = "the whole campaign takes many minutes: make faults"]
fn p1_p3_p11_the_whole_campaign() {
    let seed = setting("FAULTS_SEED", 1);
    let runs = usize::try_from(setting("FAULTS_RUNS", 12_000)).expect("a number") / Scenario::ALL.len();
    let campaign = |scenario| {
        let faultless = Faultless::find(scenario);
        let mut cases: Vec<_> = faultless.singles.iter().map(|one| vec![*one]).collect();
        cases.extend(faultless.pairs(&mut Dice(seed), runs.saturating_sub(cases.len())));
        println!("{scenario}: {} writes, {} single faults", faultless.labels.len(), faultless.singles.len());
        run_all(&cases, &faultless, time())
    };
    let only: Option<Scenario> =
        std::env::var("FAULTS_SCENARIO").ok().map(|text| text.parse().expect("FAULTS_SCENARIO names a scenario"));
    let wanted = |scenario: &Scenario| only.is_none_or(|only| only == *scenario);
    let reports = Scenario::ALL.into_iter().filter(wanted).map(campaign);
    let report = reports.fold(Report::default(), Report::and);
    report.print();
    let mutants = hunt();
    report.write(seed, mutants);
    assert_good(&report);
    assert!(report.runs >= runs * Scenario::ALL.len() && report.left_out == 0 || only.is_some(), "not all of it ran");
    assert_eq!(mutants.0, mutants.1, "a planted defect was not found");
}

#[test]
#[ignore = "repeats the case that FAULTS_CASE names"]
fn one_case() {
    let text = std::env::var("FAULTS_CASE").expect("FAULTS_CASE names a case, such as edits/7:crash-after,12:409");
    let (scenario, text) = text.split_once('/').unwrap_or(("rotations", &text));
    let scenario: Scenario = scenario.parse().expect("a scenario");
    let text = text.split(',').filter(|one| !one.is_empty());
    let planned: Vec<Planned> = text.map(|one| one.parse().expect("a fault")).collect();
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    }
    let faultless = Faultless::find(scenario);
    let case = Case { scenario, planned, ..Case::default() };
    let (run, wrong) = violations(&case, &faultless.settled);
    for (number, met) in (1..).zip(run.into_iter().flat_map(|run| run.writes)) {
        println!("{number:3} {:?} {}", met.at, met.label);
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", name(scenario, &case.planned));
}

//! The fault campaign's second level: the operator's own process behind a front
//! that makes its writes go wrong, against a real API server, with a real kill -9.
//! Each run has a namespace, a front and an operator of its own.
//!
//! `cargo test --test faults_real` runs a seeded sample, `make faults` each kind of
//! fault at every single write, and pairs. `FAULTS_SEED` chooses another sample and
//! other pairs; `FAULTS_REAL_RUNS` says how many runs the whole campaign has, and
//! `FAULTS_SIDE_BY_SIDE` how many at a time. `FAULTS_REAL_CASE` names one case to
//! repeat.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking and shows a table"
)]

mod campaign;
#[path = "../faults/dice.rs"]
mod dice;
mod fault;
#[path = "../faults/figures.rs"]
mod figures;
mod front;
mod judge;
mod mutants;
mod operators;
mod run;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use anyhow::ensure;
use campaign::{Faultless, Report, run_all, violations};
use dice::Dice;
use fault::{Planned, name};
use mutants::{MUTANTS, PATIENCE};
use run::Case;
use support::Result;

/// How many runs the sample has of each kind of fault, and pairs.
const SAMPLE: (usize, usize) = (2, 4);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn side_by_side() -> usize {
    usize::try_from(setting("FAULTS_SIDE_BY_SIDE", 8)).expect("a number")
}

fn planned(text: &str) -> Vec<Planned> {
    text.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().expect("a fault")).collect()
}

fn assert_good(report: &Report) -> Result {
    ensure!(report.failed.is_empty(), "{} of {} runs failed", report.failed.len(), report.runs);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p3_p11_a_sample_of_faults_on_a_real_api_server_ends_as_if_there_had_been_none() -> Result {
    let faultless = Faultless::find().await?;
    let mut dice = Dice(setting("FAULTS_SEED", 1));
    let mut cases = faultless.sample(&mut dice, SAMPLE.0);
    cases.extend(faultless.pairs(&mut dice, SAMPLE.1));
    let report = run_all(cases, &faultless, side_by_side()).await;
    report.print();
    assert_good(&report)
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_defects_are_found_on_a_real_api_server() -> Result {
    let faultless = Faultless::find().await?;
    ensure!(hunt(&faultless).await == (MUTANTS.len(), MUTANTS.len()), "a defect was not found");
    Ok(())
}

/// How many defects there are, and how many were found.
async fn hunt(faultless: &Faultless) -> (usize, usize) {
    let hunts = MUTANTS.iter().map(|mutant| async move {
        let case = Case { planned: planned(mutant.planned), mutant: Some((mutant.mutate, PATIENCE)) };
        let (_, wrong) = violations(&case, &faultless.settled).await;
        let found = wrong.iter().find(|one| one.contains(mutant.shows));
        println!("{}: {}", mutant.name, found.map_or("NOT FOUND", String::as_str));
        found.is_some()
    });
    let found = futures::future::join_all(hunts).await;
    (MUTANTS.len(), found.into_iter().filter(|found| *found).count())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the whole campaign takes many minutes: make faults"]
async fn p1_p3_p11_the_whole_campaign_on_a_real_api_server() -> Result {
    let seed = setting("FAULTS_SEED", 1);
    let faultless = Faultless::find().await?;
    let mut cases: Vec<_> = faultless.singles.iter().map(|one| vec![one.clone()]).collect();
    let runs = usize::try_from(setting("FAULTS_REAL_RUNS", 360))?;
    println!("{} writes, {} single faults", faultless.points.len(), cases.len());
    cases.extend(faultless.pairs(&mut Dice(seed), runs.saturating_sub(cases.len())));
    let report = run_all(cases, &faultless, side_by_side()).await;
    report.print();
    let mutants = hunt(&faultless).await;
    report.write(seed, mutants);
    assert_good(&report)?;
    ensure!(mutants == (MUTANTS.len(), MUTANTS.len()), "a defect was not found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "repeats the case that FAULTS_REAL_CASE names"]
async fn one_case() -> Result {
    let text =
        std::env::var("FAULTS_REAL_CASE").expect("FAULTS_REAL_CASE names a case, or none: a run without a fault");
    let faultless = Faultless::find().await?;
    let case = Case { planned: planned(&text), mutant: None };
    let (run, wrong) = violations(&case, &faultless.settled).await;
    println!("without a fault: {:#?}", faultless.settled);
    for write in run.iter().flat_map(|run| &run.writes) {
        println!("{} {:?}", write.point, write.code);
    }
    ensure!(wrong.is_empty(), "{}: {wrong:#?}", name(&case.planned));
    Ok(())
}

//! Which runs there are, and what they come to.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use serde_json::json;

use crate::{
    dice::Dice,
    fault::{Fault, Planned, Point, name},
    figures,
    judge::Settled,
    run::{Case, Run, run},
    scene::ground,
    support::Result,
};

/// The run without a fault: what there is to break, and what must come of it.
pub struct Faultless {
    pub settled: Settled,
    pub singles: Vec<Planned>,
    pub points: Vec<Point>,
}

impl Faultless {
    pub async fn find() -> Result<Self> {
        let run = attempt(&Case::default()).await?;
        anyhow::ensure!(run.outcome.wrong.is_empty(), "without a fault: {:#?}", run.outcome.wrong);
        let points: Vec<_> = run.writes.into_iter().map(|write| write.point).collect();
        let faults = |point: &Point| if point.is_event() { &Fault::OF_EVENTS[..] } else { &Fault::ALL[..] };
        let at = |point: &Point| {
            faults(point).iter().map(|fault| Planned { point: point.clone(), fault: *fault }).collect::<Vec<_>>()
        };
        Ok(Self { settled: run.outcome.settled, singles: points.iter().flat_map(at).collect(), points })
    }

    /// So many single faults, each kind as often as any other.
    pub fn sample(&self, dice: &mut Dice, of_each: usize) -> Vec<Vec<Planned>> {
        let mut sample = Vec::new();
        for fault in Fault::ALL {
            let of_kind: Vec<_> = self.singles.iter().filter(|one| one.fault == fault).collect();
            sample.extend((0..of_each).map(|_| vec![of_kind[dice.below(of_kind.len())].clone()]));
        }
        sample
    }

    /// Two different points with any faults, so many times.
    pub fn pairs(&self, dice: &mut Dice, count: usize) -> Vec<Vec<Planned>> {
        let mut pairs = Vec::new();
        while pairs.len() < count {
            let (one, other) =
                (&self.singles[dice.below(self.singles.len())], &self.singles[dice.below(self.singles.len())]);
            if one.point != other.point {
                pairs.push(vec![one.clone(), other.clone()]);
            }
        }
        pairs
    }
}

/// One run on the shared cluster.
pub async fn attempt(case: &Case) -> Result<Run> {
    let (cluster, sources) = ground().await?;
    Box::pin(run(cluster, sources, case)).await
}

/// What is wrong with this case. A fault in the campaign itself is wrong too.
pub async fn violations(case: &Case, faultless: &Settled) -> (Option<Run>, Vec<String>) {
    match attempt(case).await {
        Ok(run) => {
            let wrong = run.outcome.violations(faultless);
            (Some(run), wrong)
        }
        Err(error) => (None, vec![format!("the run itself failed: {error:#}")]),
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Report {
    pub runs: usize,
    /// Runs in which not every fault met its point.
    pub unreached: usize,
    pub failed: Vec<(String, Vec<String>)>,
    /// By fault: runs, and failed ones.
    pub by_fault: BTreeMap<String, (usize, usize)>,
    pub took: Duration,
}

/// Runs all of these, so many side by side.
pub async fn run_all(cases: Vec<Vec<Planned>>, faultless: &Faultless, side_by_side: usize) -> Report {
    let (begun, mut report, all) = (Instant::now(), Report::default(), cases.len());
    let runs = cases.into_iter().map(|planned| async move {
        let case = Case { planned, mutant: None };
        let (run, wrong) = violations(&case, &faultless.settled).await;
        (case.planned, run, wrong)
    });
    let mut runs = futures::stream::iter(runs).buffer_unordered(side_by_side);
    while let Some((planned, run, wrong)) = runs.next().await {
        report.runs += 1;
        report.unreached += usize::from(run.is_some_and(|run| run.fired < planned.len()));
        for one in &planned {
            let counts = report.by_fault.entry(one.fault.to_string()).or_default();
            *counts = (counts.0 + 1, counts.1 + usize::from(!wrong.is_empty()));
        }
        if !wrong.is_empty() {
            println!("{} failed", name(&planned));
            report.failed.push((name(&planned), wrong));
        }
        if report.runs.is_multiple_of(25) {
            println!("{} of {all} runs after {:.0?}", report.runs, begun.elapsed());
        }
    }
    report.took = begun.elapsed();
    report.failed.sort();
    report
}

impl Report {
    /// For people: what ran, and how to repeat what failed.
    pub fn print(&self) {
        println!("{:16} {:>6} {:>6}", "fault", "runs", "failed");
        for (fault, (runs, failed)) in &self.by_fault {
            println!("{fault:16} {runs:6} {failed:6}");
        }
        println!(
            "{} runs on a real API server in {:.0?}, {} of them with a fault that met nothing; {} failed",
            self.runs,
            self.took,
            self.unreached,
            self.failed.len()
        );
        for (name, wrong) in &self.failed {
            println!("FAULTS_REAL_CASE={name} cargo test --test faults_real one_case -- --ignored --nocapture");
            for one in wrong {
                println!("    {one}");
            }
        }
    }

    /// Adds to `target/faults.json`.
    pub fn write(&self, seed: u64, mutants: (usize, usize)) {
        let failed: Vec<_> = self.failed.iter().map(|(name, wrong)| json!({ "case": name, "wrong": wrong })).collect();
        figures::add(&json!({
            "runs_real": self.runs, "violations_real": self.failed.len(), "unreached_real": self.unreached,
            "seconds_real": self.took.as_secs(), "seed_real": seed,
            "mutants_real": mutants.0, "mutants_caught_real": mutants.1, "failed_real": failed,
        }));
    }
}

//! Which runs there are, and what they come to.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    dice::Dice,
    faults::{Fault, Planned, Point},
    figures,
    judge::Settled,
    run::{Case, Run, run},
    world::Scenario,
};

/// Reads of the manager count as near the start or an act for so long.
const NEAR: Duration = Duration::from_secs(25);

/// The run without a fault: what there is to break, and what must come of it.
pub struct Faultless {
    pub scenario: Scenario,
    pub settled: Settled,
    pub singles: Vec<Planned>,
    pub labels: Vec<String>,
}

impl Faultless {
    pub fn find(scenario: Scenario) -> Self {
        let run = run(&Case { scenario, ..Case::default() });
        assert!(run.outcome.wrong.is_empty(), "without a fault: {:#?}", run.outcome.wrong);
        let near =
            |at: Duration| at < NEAR || scenario.script().iter().any(|(act, _)| (*act..*act + NEAR).contains(&at));
        let writes = (1..=run.writes.len()).flat_map(|number| Fault::ALL.map(|fault| (Point::Write(number), fault)));
        let reads = (1..).zip(&run.reads).filter(|(_, met)| near(met.at));
        let reads = reads.flat_map(|(number, _)| Fault::OF_READS.map(|fault| (Point::Read(number), fault)));
        let singles = writes.chain(reads).map(|(point, fault)| Planned { point, fault }).collect();
        Self {
            scenario,
            settled: run.outcome.settled,
            singles,
            labels: run.writes.into_iter().map(|met| met.label).collect(),
        }
    }

    /// Two different points with any faults, so many times.
    pub fn pairs(&self, dice: &mut Dice, count: usize) -> Vec<Vec<Planned>> {
        let mut pairs = Vec::new();
        while pairs.len() < count {
            let (one, other) =
                (self.singles[dice.below(self.singles.len())], self.singles[dice.below(self.singles.len())]);
            if one.point != other.point {
                let mut pair = vec![one, other];
                pair.sort();
                pairs.push(pair);
            }
        }
        pairs
    }
}

/// As `FAULTS_CASE` takes it.
pub fn name(scenario: Scenario, planned: &[Planned]) -> String {
    format!("{scenario}/{}", planned.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// What is wrong with this case. A fault in the campaign itself is wrong too.
pub fn violations(case: &Case, faultless: &Settled) -> (Option<Run>, Vec<String>) {
    match catch_unwind(AssertUnwindSafe(|| run(case))) {
        Ok(run) => {
            let wrong = run.outcome.violations(faultless);
            (Some(run), wrong)
        }
        Err(_) => (None, vec!["the run itself failed: see above".to_owned()]),
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Report {
    pub runs: usize,
    /// Runs in which not every fault met its point.
    pub unreached: usize,
    /// Cases for which there was no time.
    pub left_out: usize,
    pub failed: Vec<(String, Vec<String>)>,
    /// By fault: runs, and failed ones.
    pub by_fault: BTreeMap<String, (usize, usize)>,
    pub took: Duration,
}

/// Runs all of these, on two threads, as long as there is time.
pub fn run_all(cases: &[Vec<Planned>], faultless: &Faultless, time: Duration) -> Report {
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    let begun = Instant::now();
    let work = || {
        while let Some(planned) = cases.get(next.fetch_add(1, Relaxed)).filter(|_| begun.elapsed() < time) {
            let case = Case { scenario: faultless.scenario, planned: planned.clone(), ..Case::default() };
            let (run, wrong) = violations(&case, &faultless.settled);
            let mut report = report.lock().expect("nobody panics with it");
            report.runs += 1;
            report.unreached += usize::from(run.is_some_and(|run| run.fired < planned.len()));
            for one in planned {
                let counts = report.by_fault.entry(one.fault.to_string()).or_default();
                counts.0 += 1;
                counts.1 += usize::from(!wrong.is_empty());
            }
            if !wrong.is_empty() {
                report.failed.push((name(faultless.scenario, planned), wrong));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let mut report = report.into_inner().expect("nobody panicked with it");
    report.took = begun.elapsed();
    report.left_out = cases.len() - report.runs;
    report.failed.sort();
    report
}

impl Report {
    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.runs += other.runs;
        self.unreached += other.unreached;
        self.left_out += other.left_out;
        self.failed.extend(other.failed);
        for (fault, (runs, failed)) in other.by_fault {
            let counts = self.by_fault.entry(fault).or_default();
            *counts = (counts.0 + runs, counts.1 + failed);
        }
        self.took += other.took;
        self
    }

    pub fn runs_a_minute(&self) -> u64 {
        let minutes = self.took.as_secs_f64() / 60.0;
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = (self.runs as f64 / minutes) as u64;
        rate
    }

    /// For people: what ran, and how to repeat what failed.
    pub fn print(&self) {
        println!("{:16} {:>6} {:>6}", "fault", "runs", "failed");
        for (fault, (runs, failed)) in &self.by_fault {
            println!("{fault:16} {runs:6} {failed:6}");
        }
        println!(
            "{} runs in {:.0?} ({} a minute), {} of them with a fault that met nothing, {} left out for time; {} failed",
            self.runs,
            self.took,
            self.runs_a_minute(),
            self.unreached,
            self.left_out,
            self.failed.len()
        );
        for (name, wrong) in self.failed.iter().take(40) {
            println!("FAULTS_CASE={name} cargo test --test faults one_case -- --ignored --nocapture");
            for one in wrong {
                println!("    {one}");
            }
        }
    }

    /// Writes `target/faults.json`.
    pub fn write(&self, seed: u64, mutants: (usize, usize)) {
        let failed: Vec<_> = self.failed.iter().map(|(name, wrong)| json!({ "case": name, "wrong": wrong })).collect();
        figures::add(&json!({
            "runs_memory": self.runs, "violations_memory": self.failed.len(), "runs_a_minute": self.runs_a_minute(),
            "unreached": self.unreached, "left_out": self.left_out, "seed": seed,
            "mutants_memory": mutants.0, "mutants_caught_memory": mutants.1, "failed": failed,
        }));
    }
}

//! The provider contract: one suite that every store passes unchanged.
//!
//! `cargo test --test contract` puts every subject through every case, prints
//! the table, and writes it to `target/contract-table.txt` and
//! `target/contract.json`. With words after `--` only subjects with such names
//! run, with words after `case=` only such cases, and then nothing is written:
//! `cargo test --test contract -- vault case=slow`. It has a `main` of its own,
//! since the table is to be seen when all is well, too.

#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking and shows a table"
)]

mod aws;
mod azure;
mod bench;
#[path = "../support/canary.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod canary;
mod cases;
mod gcp;
mod kubernetes;
#[path = "../stores/log.rs"]
mod log;
mod logs;
mod oauth2;
#[path = "../stores/session.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod session;
mod subject;
mod table;
mod vault;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use futures::{FutureExt, future::join_all};

use self::{
    bench::Bench,
    cases::CASES,
    subject::{Make, Subject, World},
    table::{Table, Verdict},
};

/// A new manager adds its line here.
const SUBJECTS: &[(&str, Make)] = &[
    ("aws-parameter-store", |world| Box::pin(aws::parameter_store(world))),
    ("aws-secrets-manager", |world| Box::pin(aws::secrets_manager(world))),
    ("azure-key-vault", |world| Box::pin(azure::subject(world))),
    ("gcp-secret-manager", |world| Box::pin(gcp::subject(world))),
    ("kubernetes", |world| Box::pin(kubernetes::subject(world))),
    ("oauth2", |world| Box::pin(oauth2::subject(world))),
    ("vault-kv1", |world| Box::pin(vault::version_1(world))),
    ("vault-kv2", |world| Box::pin(vault::version_2(world))),
];

/// No case takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let (case_words, subject_words): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("case="));
    let case_words: Vec<&str> = case_words.iter().filter_map(|word| word.strip_prefix("case=")).collect();
    let subjects: Vec<_> = SUBJECTS.iter().filter(|(name, _)| chosen(&subject_words, name)).collect();
    let cases: Vec<_> = CASES.iter().filter(|case| chosen(&case_words, case.name)).collect();
    let log = logs::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let table = runtime.block_on(async {
        let world = Arc::new(World::new().await.expect("a cluster"));
        let rows = join_all(subjects.iter().map(|(name, make)| {
            let (world, log, cases) = (Arc::clone(&world), log.clone(), cases.clone());
            // A task of its own, so that they use both cores.
            let task = tokio::spawn(async move { run(name, make(Arc::clone(&world)), &world, &cases, &log).await });
            async move { (*name, task.await.expect("a subject's task")) }
        }))
        .await;
        Table::of(rows)
    });
    println!("{table}");
    if words.is_empty() {
        table.write().expect("target/contract.json");
    }
    // Programs that are children end with their subjects; the cluster with us.
    if table.is_whole(&cases.iter().map(|case| case.name).collect::<Vec<_>>()) {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}

/// Whether one of the words is in the name, or there are none.
fn chosen(words: &[&str], name: &str) -> bool {
    words.is_empty() || words.iter().any(|word| name.contains(word))
}

async fn run(
    name: &'static str,
    make: impl Future<Output = Result<Box<dyn Subject>>>,
    world: &World,
    cases: &[&cases::Case],
    log: &logs::Log,
) -> Vec<(&'static str, Verdict)> {
    let subject = match make.await {
        Ok(subject) => subject,
        Err(error) => {
            let why = format!("it could not be set up: {error:#}");
            return cases.iter().map(|case| (case.name, Verdict::Fail(why.clone()))).collect();
        }
    };
    assert_eq!(subject.name(), name, "its line in SUBJECTS");
    let mut verdicts = Vec::new();
    for case in cases {
        let verdict = match subject.why_not(case.name) {
            Some(why) => Verdict::NotApplicable(why),
            None => try_out(subject.as_ref(), world, case, log).await,
        };
        eprintln!("{name}: {}: {verdict}", case.name);
        verdicts.push((case.name, verdict));
    }
    verdicts
}

async fn try_out(subject: &dyn Subject, world: &World, case: &cases::Case, log: &logs::Log) -> Verdict {
    let bench = Bench::new(subject, world, case.name, log);
    let ended = tokio::time::timeout(PATIENCE, std::panic::AssertUnwindSafe((case.run)(&bench)).catch_unwind()).await;
    subject.proxy().clear("*");
    let result = match ended {
        Err(_) => Err(anyhow::anyhow!("it did not end within {PATIENCE:?}")),
        Ok(Err(_)) => Err(anyhow::anyhow!("it panicked")),
        Ok(Ok(result)) => result,
    };
    match result.and_then(|()| bench.nothing_leaked()) {
        Ok(()) => Verdict::Pass,
        Err(error) => Verdict::Fail(format!("{error:#}")),
    }
}

//! What a sync costs, beside what it must cost at least. Run by `make bench`;
//! the figures are printed and written to `target/bench/sync.json`.
//!
//! Everything is real: control plane, OpenBao, and the release build of the
//! operator with the rights that the manifests grant it, in one run on one
//! machine. `BENCH_OBJECTS`, `BENCH_DEPLOYMENTS` and `BENCH_SECRETS` make it smaller.

mod deployments;
mod figures;
mod floor;
mod operator;
mod processes;
mod progress;
mod scene;
mod secrets;
mod sync;
mod watching;

// Its CRDs and its ClusterRole.
#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::{figures::Figures, progress::say, scene::Scene};

/// How often the floor and the sync are measured: the least of each counts.
const RUNS: usize = 3;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
struct Size {
    objects: usize,
    deployments: usize,
    secrets: usize,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: run `make bench`");
        return ExitCode::SUCCESS;
    }
    let result = size().and_then(|size| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            // Dropped at Ctrl-C, the scene takes every program along.
            tokio::select! {
                result = run(size) => result,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn size() -> Result<Size> {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} must be a whole number, not {text:?}")),
        Err(_) => Ok(default),
    };
    let size = Size {
        objects: number("BENCH_OBJECTS", 1000)?,
        deployments: number("BENCH_DEPLOYMENTS", 20_000)?,
        secrets: number("BENCH_SECRETS", 300)?,
    };
    ensure!(size.objects > 0, "BENCH_OBJECTS must be at least 1");
    Ok(size)
}

async fn run(size: Size) -> Result<()> {
    let Size { objects, deployments, secrets } = size;
    let load = processes::load()?;
    say(&format!("{objects} BotSecrets, {deployments} Deployments, {secrets} Secrets; load average {load}"));
    let scene = Scene::set(size).await?;
    let mut figures = Figures::default();
    let sample = sync::sample(&scene).await?;
    // By turns, so that what slows this machine down for a while slows down both.
    let mut stage = None;
    for run in 1..=RUNS {
        if let Some(before) = stage.take() {
            sync::Stage::leave(before).await?;
        }
        floor::measure(&scene, &sample, run, &mut figures).await?;
        stage.insert(sync::Stage::enter(&scene).await?).sync(run, &mut figures).await?;
    }
    let mut stage = stage.context("nothing was run")?;
    stage.idle(&mut figures).await?;
    stage.restart(&mut figures).await?;
    deployments::measure(&scene, stage, &mut figures).await?;
    // The next one has the machine to itself.
    drop(scene);
    secrets::measure(size, &mut figures).await?;
    figures.publish(size)
}

//! The main job as a person sees it: a narrated walk, every step of which is
//! checked against the cluster. Run by `make demo`.

mod arguments;
mod bot;
mod kubectl;
mod manifests;
mod operator;
mod place;
mod source;
mod tell;
mod walk;

use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use place::Place;
use tell::Teller;

fn main() -> ExitCode {
    let teller = Teller::new();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            teller.error(&error);
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            teller.error(&error.into());
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(show(&teller, &arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            teller.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The walk, and then, whatever became of it, the cleaning up.
async fn show(teller: &Teller, arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => anyhow!("stopped by Ctrl-C"),
            _ = terminate.recv() => anyhow!("stopped by SIGTERM"),
        }
    };
    let mut stop = pin!(stop.fuse());
    walk::announce_place(teller);
    // A task: a cluster that has begun to start is taken down when it is up.
    let mut finding = tokio::spawn(Place::find(teller.clone(), arguments.clone()));
    let (mut place, go_on) = tokio::select! {
        found = &mut finding => (found??, Ok(())),
        why = &mut stop => {
            teller.say("stopping as soon as what is starting has started");
            (finding.await??, Err(why))
        }
    };
    let walking = async {
        go_on?;
        walk::walk(teller, arguments, &mut place).await
    };
    let walked = tokio::select! {
        walked = walking => walked,
        why = &mut stop => Err(why),
    };
    let ended = Instant::now();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let again = async {
        // One Ctrl-C may arrive twice: from the terminal and from make.
        while interrupt.recv().await.is_some() && ended.elapsed() < Duration::from_secs(1) {}
    };
    let cleaned = tokio::select! {
        cleaned = place.leave(teller) => cleaned,
        () = again => bail!("stopped by Ctrl-C while cleaning up: see above for what may be left"),
    };
    walked.and(cleaned)?;
    teller.line("");
    teller.line(&format!("All of it really happened, in {:.0} s.", began.elapsed().as_secs_f64()));
    walk::what_next(teller, arguments);
    Ok(())
}

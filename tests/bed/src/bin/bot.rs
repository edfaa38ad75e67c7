//! A bot for containers: says which revision it holds, and ends on SIGTERM.
//!
//! It prints whole what it is pointed at, so it is pointed at a key that holds
//! a revision number, never at a value.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let (mut variables, mut files) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--revision-env", Some(name)) => variables.push(name),
            ("--watch-file", Some(path)) => files.push((path, None)),
            _ => {
                eprintln!("usage: testbed-bot [--revision-env NAME]… [--watch-file PATH]…");
                std::process::exit(2);
            }
        }
    }
    for name in variables {
        let revision = std::env::var(&name).ok();
        say(&format!("env:{name}"), revision.as_deref())?;
    }
    loop {
        for (path, held) in &mut files {
            let found = tokio::fs::read_to_string(&*path).await.ok();
            let found = found.map(|text| text.trim().to_owned());
            if held.as_ref() != Some(&found) {
                say(&format!("file:{path}"), found.as_deref())?;
                *held = Some(found);
            }
        }
        tokio::select! {
            _ = end.recv() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

fn say(source: &str, revision: Option<&str>) -> io::Result<()> {
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let line = json!({"pod": pod, "source": source, "revision": revision});
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

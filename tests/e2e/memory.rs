//! P4: what the operator held in memory.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::support::{Bench, Result, canary::Canary};

/// BotSecrets that hold values at once.
const OBJECTS: usize = 30;
/// Values that each of them has, one after the other.
const ROUNDS: usize = 3;

/// The one core that was dumped into this folder.
fn core(folder: &Path) -> Result<Vec<u8>> {
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let is_core =
        |path: &&std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"));
    let path = files.iter().find(is_core).context("this system writes no core where a process runs (core_pattern)")?;
    Ok(fs::read(path)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_the_operator_leaves_no_core_even_where_the_system_lets_it() -> Result {
    let mut bench = Bench::new("no-core").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_where_dumps_are_allowed(folder.path(), &[]).await?;
    ensure!(!bench.operator.crash().await?, "a core was dumped");
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "something was left behind");
    Ok(())
}

/// Not as it went over the wire, in base64: the buffers of a connection keep what they
/// carried until other traffic overwrites it (docs/security.md).
#[tokio::test(flavor = "multi_thread")]
async fn p4_a_core_holds_no_value_that_was_rotated_away_or_whose_botsecret_was_deleted() -> Result {
    let mut bench = Bench::new("core").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_where_dumps_are_allowed(folder.path(), &["--allow-core-dumps"]).await?;
    bench.kubernetes_store("source").await?;
    let name = |number: usize| format!("bot-{number}");
    let mut gone = Canary::default();
    for round in 0..ROUNDS {
        let mut written = Vec::new();
        for number in 0..OBJECTS {
            let value = Canary::random_text();
            gone.add_itself(value.as_bytes());
            bench.put_source(&name(number), &[("A", &value)]).await?;
            if round == 0 {
                bench.apply(bench.bot_secret(&name(number), &name(number))).await?;
            }
            written.push(value);
        }
        for (number, value) in written.iter().enumerate() {
            bench.until_value(&name(number), "A", value).await?;
        }
    }
    let shown = Canary::random_text();
    for number in 0..OBJECTS {
        bench.bot_secrets().delete(&name(number), &DeleteParams::default()).await?;
    }
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), &bench.source);
    for number in 0..OBJECTS {
        bench.until_no_secret(&name(number)).await?;
        secrets.delete(&name(number), &DeleteParams::default()).await?;
    }
    // What a spec says, it may remember.
    bench.put_source("last", &[("A", "of no interest")]).await?;
    let mut last = bench.bot_secret("last", "last");
    last["metadata"]["annotations"] = json!({ "example.com/control": shown });
    bench.apply(last).await?;
    bench.until_value("last", "A", "of no interest").await?;
    ensure!(bench.operator.crash().await?, "no core was dumped");
    let core = core(folder.path())?;
    let control = Canary::of([shown.as_bytes()]);
    ensure!(!control.found_in(&core).is_empty(), "the control is not in the core of {} bytes", core.len());
    gone.assert_absent("the core", &core);
    Ok(())
}

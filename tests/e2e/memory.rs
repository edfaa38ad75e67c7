//! P4: what the operator held in memory.

use std::{
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use botsecret_testbed::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::support::{Bench, Operator, Result, canary, canary::Canary};

/// BotSecrets that hold values at once.
const OBJECTS: usize = 30;
/// Values that each of them has, one after the other.
const ROUNDS: usize = 3;
/// How long the buffers of connections may hold what they carried: half a minute
/// (docs/security.md), on a machine that has other things to do.
const FORGOTTEN: Duration = Duration::from_secs(150);
/// Searching all of it takes a while, for which nobody else has the processor.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

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

/// Waits until the running operator holds none of these values, and still holds what it
/// is to hold.
async fn until_forgotten(operator: &Operator, gone: &Canary, control: &Canary) -> Result {
    let last = Mutex::new(None::<Instant>);
    wait_for("the values to be out of memory", FORGOTTEN, async || {
        let mut last = last.lock().unwrap();
        if last.is_some_and(|last| last.elapsed() < BETWEEN_LOOKS) {
            return Ok(None);
        }
        let memory = operator.memory()?;
        ensure!(memory.iter().any(|part| !control.found_in(part).is_empty()), "the control is not there");
        let found = memory.iter().any(|part| !gone.found_in(part).is_empty());
        *last = Some(Instant::now());
        Ok((!found).then_some(()))
    })
    .await
}

/// In no form in which the operator had them, nor as they went to the API server. The
/// source holds them in base64, so that what its manager's connection carried, which
/// stays open for longer, is encoded twice and not taken for what was written.
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
            let encoded = STANDARD.encode(&value);
            canary::watch(value.as_bytes());
            gone.add_itself(value.as_bytes());
            // Other traffic may have overwritten a part.
            let (start, end) = encoded.split_at(encoded.len() / 2);
            gone.add_itself(start.as_bytes());
            gone.add_itself(end.as_bytes());
            bench.put_source(&name(number), &[("A", &encoded)]).await?;
            if round == 0 {
                let mut object = bench.bot_secret(&name(number), &name(number));
                object["spec"]["dataFrom"][0]["extract"]["decodingStrategy"] = json!("Base64");
                bench.apply(object).await?;
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
    let control = Canary::of([shown.as_bytes()]);
    until_forgotten(&bench.operator, &gone, &control).await?;
    // It opens connections again when it has something to say.
    bench.put_source("last", &[("A", "of no interest either")]).await?;
    bench.until_value("last", "A", "of no interest either").await?;
    ensure!(bench.operator.crash().await?, "no core was dumped");
    let core = core(folder.path())?;
    ensure!(!control.found_in(&core).is_empty(), "the control is not in the core of {} bytes", core.len());
    gone.assert_absent("the core", &core);
    Ok(())
}

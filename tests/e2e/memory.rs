//! P4: what the operator held in memory.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use botsecret_testbed::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use rustix::process::geteuid;
use serde_json::json;

use crate::support::{Bench, Operator, Result, Vault, canary, canary::Canary, shared_bao};

/// BotSecrets whose values go.
const OBJECTS: usize = 24;
/// Values that each of them has, one after the other.
const ROUNDS: usize = 3;
/// Those that read and write all the time.
const BUSY: usize = 6;
/// How long it may take until what was carried is gone: some ten seconds
/// (docs/security.md), on a machine that has other things to do.
const FORGOTTEN: Duration = Duration::from_secs(90);
/// Searching all of it takes a while, for which nobody else has the processor.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// CAP_SYS_RESOURCE, capabilities(7): to raise a hard limit.
const SYS_RESOURCE: u32 = 24;

/// The one core that was dumped into this folder.
fn core(folder: &Path) -> Result<Vec<u8>> {
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let is_core =
        |path: &&std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"));
    let path = files.iter().find(is_core).context("this system writes no core where a process runs (core_pattern)")?;
    Ok(fs::read(path)?)
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_the_operator_leaves_no_core_even_where_the_system_lets_it() -> Result {
    let mut bench = Bench::new("no-core").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_where_dumps_are_allowed(folder.path(), &[]).await?;
    ensure!(!bench.operator.crash("ABRT").await?, "a core was dumped");
    ensure!(is_empty(folder.path())?, "something was left behind");
    Ok(())
}

/// Whether this process may raise a limit that another has set for itself.
fn may_raise_limits() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no capabilities")?;
    Ok((u64::from_str_radix(held.trim(), 16)? >> SYS_RESOURCE) & 1 == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_the_operator_leaves_no_core_even_where_root_lifts_its_limit_and_kills_it() -> Result {
    let mut bench = Bench::new("lifted").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_where_dumps_are_allowed(folder.path(), &[]).await?;
    // Not SEGV: the first of them that is sent from outside, the handler of Rust's runtime
    // for stacks that overflow takes, and goes on.
    for signal in ["ABRT", "ILL"] {
        let pid = bench.operator.pid()?.to_string();
        let lifted = Command::new("prlimit").args(["--pid", &pid, "--core=unlimited:unlimited"]).output()?;
        ensure!(lifted.status.success() == may_raise_limits()?, "{}", String::from_utf8_lossy(&lifted.stderr));
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).context("no limit")?;
        let is_unlimited = core.split_whitespace().take(2).eq(["unlimited", "unlimited"]);
        ensure!(is_unlimited == lifted.status.success(), "the limit is {core}");
        ensure!(!bench.operator.crash(signal).await?, "a core was dumped at SIG{signal}");
        ensure!(is_empty(folder.path())?, "something was left behind at SIG{signal}");
        bench.operator.start_again().await?;
    }
    Ok(())
}

/// Whether a process of the same user that has no capabilities may look into this one.
/// Both files are for those alone who may trace it, proc_pid_maps(5).
fn is_open_to_its_user(pid: u32) -> Result<bool> {
    let look = |file: &str| -> Result<bool> {
        let mut words = if geteuid().is_root() {
            vec!["setpriv", "--bounding-set=-all", "--inh-caps=-all", "cat"]
        } else {
            vec!["cat"]
        };
        let path = format!("/proc/{pid}/{file}");
        words.push(&path);
        Ok(Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    };
    let (maps, environment) = (look("maps")?, look("environ")?);
    ensure!(maps == environment, "maps: {maps}, environ: {environment}");
    Ok(maps)
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_no_process_of_the_operators_own_user_can_look_into_its_memory() -> Result {
    let mut bench = Bench::new("sealed").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_without_capabilities(folder.path(), &[]).await?;
    ensure!(!is_open_to_its_user(bench.operator.pid()?)?, "it can be looked into");
    bench.operator.restart_without_capabilities(folder.path(), &["--allow-core-dumps"]).await?;
    ensure!(is_open_to_its_user(bench.operator.pid()?)?, "nor could any other: this shows nothing");
    Ok(())
}

/// Looks at the memory of the running operator now and then until it is as wanted.
async fn until_memory(operator: &Operator, what: &str, is_as_wanted: impl Fn(&[Vec<u8>]) -> Result<bool>) -> Result {
    let last = Mutex::new(None::<Instant>);
    wait_for(what, FORGOTTEN, async || {
        let mut last = last.lock().unwrap();
        if last.is_some_and(|last| last.elapsed() < BETWEEN_LOOKS) {
            return Ok(None);
        }
        let as_wanted = is_as_wanted(&operator.memory()?)?;
        *last = Some(Instant::now());
        Ok(as_wanted.then_some(()))
    })
    .await
}

/// Remote secrets at two managers, by turns: OpenBao, and Secrets of another namespace.
struct Sources<'a> {
    bench: &'a Bench,
    vault: &'a Vault<'a>,
}

impl Sources<'_> {
    async fn put(&self, number: usize, name: &str, value: &str) -> Result {
        canary::watch(value.as_bytes());
        if number.is_multiple_of(2) {
            return self.vault.put(name, &json!({ "A": value })).await.map(drop);
        }
        self.bench.put_source(name, &[("A", value)]).await
    }

    async fn remove(&self, number: usize, name: &str) -> Result {
        if number.is_multiple_of(2) {
            return self.vault.remove(name).await;
        }
        let secrets: Api<Secret> = Api::namespaced(self.bench.client.clone(), &self.bench.source);
        secrets.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// A BotSecret for it, asked for anew each second.
    async fn apply(&self, number: usize, name: &str) -> Result {
        let mut object = self.bench.bot_secret(name, name);
        let store = if number.is_multiple_of(2) { "source" } else { "secrets" };
        object["spec"]["storeRef"]["name"] = json!(store);
        if is_templated(number) {
            let template = json!({ "mergePolicy": "Merge", "data": { "B": "so {{ A }}" } });
            object["spec"]["target"] = json!({ "template": template });
        }
        self.bench.apply(object).await.map(drop)
    }

    /// Gives others values one after the other, so that no connection has nothing to do.
    async fn stay_busy(&self) -> Result<Infallible> {
        let name = |number: usize| format!("busy-{number}");
        for number in 0..BUSY {
            self.put(number, &name(number), &Canary::random_text()).await?;
            self.apply(number, &name(number)).await?;
        }
        loop {
            let values: Vec<_> = (0..BUSY).map(|_| Canary::random_text()).collect();
            for (number, value) in values.iter().enumerate() {
                self.put(number, &name(number), value).await?;
            }
            for (number, value) in values.iter().enumerate() {
                self.bench.until_value(&name(number), "A", value).await?;
            }
        }
    }

    /// Has values, rotates them, deletes the BotSecrets and what they read: answers the
    /// values.
    async fn retire(&self) -> Result<Canary> {
        let name = |number: usize| format!("bot-{number}");
        let mut gone = Canary::default();
        for round in 0..ROUNDS {
            let mut written = Vec::new();
            for number in 0..OBJECTS {
                let mut value = Canary::random_text();
                if is_templated(number) {
                    // So short that the template engine has it in place.
                    value.truncate(20);
                }
                gone.add_written(value.as_bytes());
                self.put(number, &name(number), &value).await?;
                if round == 0 {
                    self.apply(number, &name(number)).await?;
                }
                written.push(value);
            }
            for (number, value) in written.iter().enumerate() {
                self.bench.until_value(&name(number), "A", value).await?;
            }
        }
        for number in 0..OBJECTS {
            self.bench.bot_secrets().delete(&name(number), &DeleteParams::default()).await?;
        }
        for number in 0..OBJECTS {
            self.bench.until_no_secret(&name(number)).await?;
            self.remove(number, &name(number)).await?;
        }
        Ok(gone)
    }
}

fn is_templated(number: usize) -> bool {
    number % 6 < 2
}

/// In no form in which it could be written, though the operator has something to do all
/// the time.
#[tokio::test(flavor = "multi_thread")]
async fn p4_a_core_holds_no_value_that_was_rotated_away_or_whose_botsecret_was_deleted() -> Result {
    let mut bench = Bench::new("core").await?;
    let folder = tempfile::tempdir()?;
    bench.operator.restart_where_dumps_are_allowed(folder.path(), &["--allow-core-dumps"]).await?;
    bench.kubernetes_store("secrets").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    let sources = Sources { bench: &bench, vault: &vault };
    // What a spec says, it may remember.
    let shown = Canary::random_text();
    let control = Canary::of([shown.as_bytes()]);
    sources.put(0, "current", "of no interest").await?;
    let mut current = bench.bot_secret("current", "current");
    current["metadata"]["annotations"] = json!({ "example.com/control": shown });
    bench.apply(current).await?;
    // Read each second, so a search that finds values at all finds this one.
    let (held, mut in_use) = (Canary::random_text(), Canary::default());
    in_use.add_written(held.as_bytes());
    sources.put(1, "in-use", &held).await?;
    sources.apply(1, "in-use").await?;
    let holds = |memory: &[Vec<u8>], canary: &Canary| memory.iter().any(|part| !canary.found_in(part).is_empty());
    let steps = async {
        bench.until_value("in-use", "A", &held).await?;
        until_memory(&bench.operator, "a value in use to be found", |memory| Ok(holds(memory, &in_use))).await?;
        let gone = sources.retire().await?;
        until_memory(&bench.operator, "the values to be out of memory", |memory| {
            ensure!(holds(memory, &control), "the control is not there");
            Ok(!holds(memory, &gone))
        })
        .await?;
        anyhow::Ok(gone)
    };
    let gone = tokio::select! {
        gone = steps => gone?,
        stopped = sources.stay_busy() => match stopped.context("while others were served")? {},
    };
    ensure!(bench.operator.crash("ABRT").await?, "no core was dumped");
    let core = core(folder.path())?;
    ensure!(!control.found_in(&core).is_empty(), "the control is not in the core of {} bytes", core.len());
    gone.assert_absent("the core", &core);
    Ok(())
}

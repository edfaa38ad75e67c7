//! Nothing that the bed starts outlives the process that started it.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use botsecret_testbed::{Cluster, ClusterOptions, OpenBao, OpenBaoOptions, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;

const VICTIM: &str = "TESTBED_VICTIM_FILE";
const SOON: Duration = Duration::from_mins(2);

/// Runs only as a child of the test below, which kills it.
#[tokio::test]
async fn victim() -> Result<()> {
    let Some(file) = std::env::var_os(VICTIM) else {
        return Ok(());
    };
    let cluster = Cluster::start(ClusterOptions { process_nodes: 1, kwok_nodes: 1 }).await?;
    let _bao = OpenBao::start(&cluster, OpenBaoOptions::default()).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client()?, "default");
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "bot"},
        "spec": {"containers": [{
            "name": "main", "image": "sh",
            // One that ignores SIGTERM, with a child of its own.
            "args": ["-c", "trap '' TERM; sleep 1000 & while :; do sleep 0.1; done"],
        }]},
    }))?;
    pods.create(&PostParams::default(), &pod).await?;
    let kubelet = cluster.kubelet()?;
    wait_for("the pod to run", SOON, || async { Ok((!kubelet.processes().is_empty()).then_some(())) }).await?;
    std::fs::write(file, cluster.folder().as_os_str().as_encoded_bytes())?;
    std::future::pending().await
}

#[tokio::test]
async fn nothing_survives_a_killed_test_process() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("folder");
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, &file)
        .stdout(Stdio::null())
        .spawn()?;
    let folder = wait_for("the victim to be up", SOON, || async {
        anyhow::ensure!(victim_lives(victim.id()), "it has ended");
        Ok(std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()))
    })
    .await?;
    let offspring = descendants(victim.id());
    // etcd, API server, controller-manager, scheduler, kwok, OpenBao, and
    // unshare, sh and two sleeps of the container.
    assert!(offspring.len() >= 9, "{offspring:?}");
    victim.kill()?;
    victim.wait()?;
    wait_for("all of them to be gone", SOON, || async {
        let left: Vec<_> = offspring.iter().filter(|(pid, began)| alive(**pid, **began)).collect();
        anyhow::ensure!(left.is_empty(), "{left:?} live on");
        Ok(Some(()))
    })
    .await?;
    // The folder goes when the next process makes one; another test's may have
    // done so by now.
    Cluster::start(ClusterOptions::default()).await?;
    assert!(!Path::new(&folder).exists());
    Ok(())
}

fn victim_lives(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

struct Stat {
    parent: u32,
    began: u64,
    state: char,
}

/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
    })
}

fn descendants(root: u32) -> HashMap<u32, u64> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: HashMap<u32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut found = HashMap::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            found.insert(*pid, stat.began);
            parents.push(*pid);
        }
    }
    found
}

/// A zombie is dead; a number that is used anew is somebody else.
fn alive(pid: u32, began: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.began == began && stat.state != 'Z')
}

/// The same when the bed is merely dropped.
#[tokio::test]
async fn nothing_survives_a_dropped_cluster() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { process_nodes: 1, kwok_nodes: 1 }).await?;
    let folder = cluster.folder().to_str().context("an odd folder")?.to_owned();
    let mine = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    };
    let before: Vec<u32> = descendants(std::process::id()).into_keys().filter(mine).collect();
    assert_eq!(before.len(), 5, "etcd, API server, controller-manager, scheduler, kwok");
    drop(cluster);
    let after: Vec<u32> = descendants(std::process::id()).into_keys().filter(mine).collect();
    assert!(after.is_empty(), "{after:?}");
    Ok(())
}

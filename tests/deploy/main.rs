//! What a user applies: `deploy/` and `examples/`; and how that is released.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod image;
#[path = "../support/kubectl.rs"]
mod kubectl;
mod policy;
mod release;
mod rights;
mod workloads;

use std::{fs, path::PathBuf, time::Duration};

use botsecret_testbed::{Cluster, free_port, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kubectl::Kubectl;
use serde::Deserialize as _;
use serde_yaml::Value;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn example(name: &str) -> String {
    read(&format!("examples/{name}"))
}

/// Every file there, in the order in which a reader would apply them.
fn examples() -> Vec<String> {
    let names = |folder: &str| -> Vec<String> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    };
    names("")
        .into_iter()
        .flat_map(|folder| names(&folder).into_iter().map(move |name| format!("{folder}/{name}")))
        .collect()
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

#[test]
fn p10_the_right_to_make_jobs_is_no_part_of_the_installation() {
    for document in documents(&read("deploy/install.yaml")) {
        let kind = document["kind"].as_str().unwrap_or_default();
        if !kind.ends_with("Role") {
            continue;
        }
        for rule in document["rules"].as_sequence().expect("rules") {
            let groups = rule["apiGroups"].as_sequence().expect("groups");
            assert!(!groups.iter().any(|group| group == "batch" || group == "*"), "{rule:?}");
        }
    }
}

#[test]
fn the_image_is_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("botsecret:{version}");
    assert!(read("deploy/kustomization.yaml").contains(&format!("newTag: {version}\n")));
    assert!(
        read("deploy/operator.yaml").contains(&format!("image: \"{image}\"\n")),
        "deploy/operator.yaml is not at {image}"
    );
}

/// install.yaml with the Deployment's image the binary of this build, on a
/// port that nothing else of this machine has.
fn install_of_this_build(port: u16) -> String {
    let mut documents = documents(&read("deploy/install.yaml"));
    let deployment = documents.iter_mut().find(|document| document["kind"] == "Deployment").expect("a Deployment");
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["image"] = env!("CARGO_BIN_EXE_botsecret").into();
    container["command"] = vec![env!("CARGO_BIN_EXE_botsecret")].into();
    container["ports"][0]["containerPort"] = port.into();
    let environment = container["env"].as_sequence_mut().expect("env");
    let listen = environment.iter_mut().find(|one| one["name"] == "BOTSECRET_LISTEN").expect("an address");
    listen["value"] = format!("0.0.0.0:{port}").into();
    let documents: Vec<String> =
        documents.iter().map(|document| serde_yaml::to_string(document).expect("YAML")).collect();
    documents.join("---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installation_serves_the_quickstart() {
    let cluster = Cluster::shared().await.expect("a cluster");
    let kubectl = Kubectl::of(cluster);
    cluster.start_argo_rollouts().await.expect("Argo Rollouts");
    let port = free_port().expect("a port");
    kubectl.run(&["apply", "--server-side", "-f", "-"], &install_of_this_build(port)).await;
    let (well, said) = kubectl
        .attempt(&["rollout", "status", "deployment/botsecret", "-n", "botsecret-system", "--timeout=90s"], "")
        .await;
    let pods = kubectl.run(&["describe", "pods", "-n", "botsecret-system"], "").await;
    assert!(well, "the operator is not ready: {said}\n{pods}");

    for file in ["1-source", "2-bot", "3-botsecret"] {
        kubectl.run(&["apply", "-f", "-"], &example(&format!("quickstart/{file}.yaml"))).await;
    }
    let trading = ["-n", "trading", "--timeout=60s"];
    let (well, said) =
        kubectl.attempt(&[&["wait", "--for=condition=Ready", "bsec/price-bot"], &trading[..]].concat(), "").await;
    let events = kubectl.run(&["get", "bsec,events", "-n", "trading", "-o", "yaml"], "").await;
    assert!(well, "{said}\n{events}");
    kubectl.run(&[&["rollout", "status", "deployment/price-bot"], &trading[..]].concat(), "").await;
    kubectl.run(&["apply", "-f", "-"], rights::WORKLOADS).await;
    for workload in ["statefulset/ledger", "daemonset/agent"] {
        kubectl.run(&[&["rollout", "status", workload], &trading[..]].concat(), "").await;
    }
    let healthy = ["wait", "--for=jsonpath={.status.phase}=Healthy", "rollouts.argoproj.io/gateway"];
    kubectl.run(&[&healthy[..], &trading[..]].concat(), "").await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client().expect("a client"), "trading");
    let data = secrets.get("price-bot").await.expect("the Secret").data.expect("data");
    assert_eq!(data["EXCHANGE_KEY"].0, b"change-me");
    let said = || cluster.kubelet().expect("a node").processes();
    let before: Vec<u32> =
        said().iter().filter(|process| process.pod.starts_with("price-bot-")).map(|process| process.host_pid).collect();
    assert_eq!(before.len(), 1);

    let rotation = r#"{"stringData": {"exchange-key": "changed", "revision": "2"}}"#;
    kubectl.run(&["patch", "secret", "price-bot", "-n", "vault-of-secrets", "-p", rotation], "").await;
    wait_for("a bot on the new value", Duration::from_mins(1), async || {
        let now: Vec<u32> = said()
            .iter()
            .filter(|process| process.pod.starts_with("price-bot-"))
            .map(|process| process.host_pid)
            .collect();
        Ok((now.len() == 1 && now != before).then_some(()))
    })
    .await
    .expect("rolled");
    let data = secrets.get("price-bot").await.expect("the Secret").data.expect("data");
    assert_eq!(data["REVISION"].0, b"2");

    rights::exercise(&kubectl).await;
    rights::exercise_leases(cluster, &kubectl).await;
    for workload in ["deployment/price-bot", "statefulset/ledger", "daemonset/agent"] {
        kubectl.run(&[&["rollout", "status", workload], &trading[..]].concat(), "").await;
    }
    kubectl.run(&[&["wait", "--for=condition=RolledOut", "bsec/price-bot"], &trading[..]].concat(), "").await;
    rights::are_what_was_used(cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_are_taken_as_they_are() {
    let cluster = Cluster::start(botsecret_testbed::ClusterOptions { process_nodes: 0, ..Default::default() })
        .await
        .expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    let base = format!("{}/deploy", env!("CARGO_MANIFEST_DIR"));
    let said = kubectl.run(&["apply", "--server-side", "-k", &base], "").await;
    // kubectl asks for an order of its own with every `-k`, and then warns that the file
    // has one: without that, the policies would come after the operator.
    let warns = |line: &&str| line.contains("Warning") && !line.contains("Sorting order is set both");
    assert_eq!(said.lines().find(warns), None);
    let examples = examples().into_iter().map(|file| format!("examples/{file}"));
    for file in examples.chain(["author-policies", "verify", "roll-back"].map(|name| format!("deploy/{name}.yaml"))) {
        let text = read(&file);
        let (well, said) = wait_for(&file, Duration::from_secs(30), async || {
            let (well, said) = kubectl.attempt(&["apply", "--validate=strict", "-f", "-"], &text).await;
            // Right after their definition was made, kinds are not yet served everywhere.
            let unknown = ["no matches for kind", "could not find the requested resource"];
            Ok((well || !unknown.iter().any(|words| said.contains(words))).then_some((well, said)))
        })
        .await
        .expect("an answer");
        assert!(well, "{file}: {said}");
        assert!(!said.contains("Warning"), "{said}");
    }
}

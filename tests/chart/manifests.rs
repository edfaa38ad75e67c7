//! `deploy/` is what the chart renders: `make manifests` makes it anew.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use botsecret_testbed::peers;
use serde::Deserialize as _;
use serde_yaml::Value;
use tempfile::TempDir;

/// What is asked for beside the installation, or is all of it in one file.
const BESIDE: [&str; 2] = ["author-policies.yaml", "install.yaml"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).expect("YAML"));
    documents.filter(|document| !document.is_null()).collect()
}

fn installation() -> Vec<Value> {
    documents(&read(&deploy().join("install.yaml")))
}

/// A folder of what the chart renders now.
fn rendered() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut render = Command::new(deploy().join("render"));
    let render = render.arg(folder.path()).env("HELM", peers::program("helm").expect("helm"));
    let output = render.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

#[test]
fn the_manifests_are_what_the_chart_renders_byte_for_byte() {
    let fresh = rendered();
    let names = names(fresh.path());
    assert!(names.len() >= 7, "{names:?}");
    for name in &names {
        let (found, wanted) = (read(&deploy().join(name)), read(&fresh.path().join(name)));
        assert!(found == wanted, "deploy/{name} is stale: run `make manifests`");
    }
    // None that is not rendered any more stays in use.
    let base: Value = serde_yaml::from_str(&read(&deploy().join("kustomization.yaml"))).expect("YAML");
    let resources = base["resources"].as_sequence().expect("resources").iter();
    let resources: BTreeSet<&str> = resources.map(|name| name.as_str().expect("a name")).collect();
    let parts = names.iter().map(String::as_str).filter(|name| !BESIDE.contains(name));
    let parts: BTreeSet<&str> = parts.chain(["namespace.yaml"]).collect();
    assert_eq!(resources, parts);
}

#[test]
fn the_base_of_kustomize_brings_the_same_as_the_one_file_in_the_same_order() {
    let output = Command::new(peers::program("kubectl").expect("kubectl"))
        .arg("kustomize")
        .arg(deploy())
        .output()
        .expect("kubectl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let base = documents(&String::from_utf8(output.stdout).expect("UTF-8"));
    let one = installation();
    let called = |all: &[Value]| -> Vec<(Value, Value)> {
        all.iter().map(|object| (object["kind"].clone(), object["metadata"]["name"].clone())).collect()
    };
    assert_eq!(called(&base), called(&one));
    for (base, one) in base.iter().zip(&one) {
        assert!(base == one, "{:?} differs", one["metadata"]["name"]);
    }
}

/// `kubectl` makes them in their order: no moment in which nothing but RBAC holds it.
#[test]
fn p10_the_policies_come_before_the_operator_that_they_hold() {
    let objects = installation();
    let place = |kind: &str| objects.iter().rposition(|object| object["kind"] == kind).expect(kind);
    let operator = place("Deployment");
    for before in ["Namespace", "CustomResourceDefinition", "ClusterRoleBinding", "ConfigMap"] {
        assert!(place(before) < operator, "{before}");
    }
    assert!(place("ValidatingAdmissionPolicyBinding") < operator, "the policies are not in force");
    assert_eq!(place("CustomResourceDefinition"), 3, "the definitions come right after the namespace");
}

#[test]
fn nothing_in_the_manifests_is_for_helm_alone() {
    for name in names(&deploy()) {
        if Path::new(&name).extension().is_some_and(|extension| extension == "yaml") {
            let text = read(&deploy().join(&name));
            for words in ["helm.sh/", "app.kubernetes.io/managed-by", "# Source:"] {
                assert!(!text.contains(words), "deploy/{name} has {words}");
            }
        }
    }
}

#[test]
fn p5_the_policy_for_authors_is_offered_and_not_installed() {
    let called = |all: &[Value]| -> Vec<String> {
        all.iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let offered = documents(&read(&deploy().join("author-policies.yaml")));
    assert_eq!(called(&offered), ["botsecret-authors", "botsecret-authors"]);
    let installed = called(&installation());
    assert!(!installed.contains(&"botsecret-authors".to_owned()));
    assert!(installed.contains(&"botsecret-store-secrets".to_owned()), "{installed:?}");
}

//! What a user copies: `gitops/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::argo::{ACTIONS, DISCOVERY, HEALTH};

const DOCS: &str = include_str!("../../docs/gitops.md");

const HEADER: &str = "\
# What Argo CD is told of BotSecrets: their health and their actions. Made of the Lua
# files beside it: UPDATE_GITOPS=1 cargo test --test gitops argo_cds_settings
#
#   kubectl patch configmap argocd-cm -n argocd --type merge --patch-file gitops/argocd/argocd-cm.yaml
#
# There are no ignoreDifferences: what the operator writes is no difference from Git.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd
data:
  resource.customizations.health.botsecret.dev_BotSecret: |
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gitops")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn manifests() -> Vec<(PathBuf, Vec<Value>)> {
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    let documents = |path: PathBuf| {
        let text = read(&path);
        let all = serde_yaml::Deserializer::from_str(&text)
            .map(|one| Value::deserialize(one).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        let all: Vec<Value> = all.collect();
        (path, all)
    };
    files(&folder()).into_iter().filter(is_yaml).map(documents).collect()
}

fn indented(text: &str, depth: usize) -> String {
    let mut all = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            all.push_str(&" ".repeat(depth));
        }
        all.push_str(line);
        all.push('\n');
    }
    all
}

#[test]
fn argo_cds_settings_are_made_of_the_lua_files() {
    let mut wanted = HEADER.to_owned() + &indented(HEALTH, 4);
    wanted += "  resource.customizations.actions.botsecret.dev_BotSecret: |\n    discovery.lua: |\n";
    wanted += &indented(DISCOVERY, 6);
    wanted += "    definitions:\n";
    for (name, script) in ACTIONS {
        wanted += &["      - name: ", name, "\n        action.lua: |\n", &indented(script, 10)].concat();
    }
    let path = folder().join("argocd/argocd-cm.yaml");
    if std::env::var_os("UPDATE_GITOPS").is_some() {
        fs::write(&path, &wanted).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    assert!(read(&path) == wanted, "{} is stale: set UPDATE_GITOPS=1", path.display());

    // As Argo CD reads it.
    let settings: Value = serde_yaml::from_str(&wanted).expect("YAML");
    let data = settings["data"].as_mapping().expect("data");
    assert_eq!(data.len(), 2);
    assert_eq!(settings["data"]["resource.customizations.health.botsecret.dev_BotSecret"], HEALTH);
    let actions = &settings["data"]["resource.customizations.actions.botsecret.dev_BotSecret"];
    let actions: Value = serde_yaml::from_str(actions.as_str().expect("text")).expect("YAML");
    assert_eq!(actions["discovery.lua"], DISCOVERY);
    let definitions = actions["definitions"].as_sequence().expect("definitions");
    assert_eq!(definitions.len(), ACTIONS.len());
    for (definition, (name, script)) in definitions.iter().zip(ACTIONS) {
        assert_eq!(definition["name"], name);
        assert_eq!(definition["action.lua"], script);
    }
    let is_lua = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lua");
    let scripts = files(&folder().join("argocd")).into_iter().filter(is_lua).count();
    assert_eq!(scripts, ACTIONS.len() + 2, "each is in it");
}

#[test]
fn every_manifest_names_what_it_is_and_the_version_that_this_is() {
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let mut versions = 0;
    for (path, documents) in manifests() {
        for document in documents {
            for field in ["apiVersion", "kind"] {
                assert!(document[field].is_string(), "{}: {field}", path.display());
            }
            assert!(document["metadata"]["name"].is_string(), "{}", path.display());
            let source = &document["spec"]["source"];
            let of_charts = source["path"].as_str().is_some_and(|path| path.starts_with("charts/"));
            let wanted = if of_charts { &source["targetRevision"] } else { &document["spec"]["ref"]["tag"] };
            if of_charts || wanted.is_string() {
                assert_eq!(wanted.as_str(), Some(version.as_str()), "{}", path.display());
                versions += 1;
            }
        }
    }
    assert_eq!(versions, 3);
}

#[test]
fn the_page_names_every_file_and_shows_nothing_that_is_in_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts: Vec<_> = files(&folder()).iter().map(|path| read(path)).collect();
    for path in files(&folder()) {
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        // By itself, or by the folder that it lies in.
        let above = name.rsplit_once('/').map_or("", |(above, _)| above);
        let is_named = [name.as_str(), above].iter().any(|one| DOCS.contains(&format!("(../{one})")));
        assert!(is_named, "docs/gitops.md does not name {name}");
    }
    for block in DOCS.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        assert!(texts.iter().any(|text| text.contains(block)), "in no file of gitops/:\n{block}");
    }
}

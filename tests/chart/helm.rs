//! `helm`, and what it renders.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use botsecret_testbed::peers;
use serde::Deserialize as _;
use serde_yaml::Value;

pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(name)
}

/// Whether it went well, and what it said.
pub fn helm(arguments: &[&str]) -> (bool, String) {
    let mut helm = Command::new(peers::program("helm").expect("helm"));
    // Nothing of the user's own.
    let output = helm.args(arguments).env("HELM_NO_PLUGINS", "1").output().expect("helm starts");
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What this chart is with these settings, or why it is refused.
pub fn try_render(name: &str, settings: &[&str]) -> Result<Vec<Value>, String> {
    try_render_as("botsecret", name, &[&["--skip-tests"], settings].concat())
}

/// The same of a release of this name, with the objects of `helm test`.
pub fn try_render_as(release: &str, name: &str, settings: &[&str]) -> Result<Vec<Value>, String> {
    let path = chart(name);
    let base = ["template", release, path.to_str().expect("UTF-8"), "--namespace", "botsecret-system"];
    let (well, said) = helm(&[&base[..], settings].concat());
    if !well {
        return Err(said);
    }
    let documents = serde_yaml::Deserializer::from_str(&said).map(|one| Value::deserialize(one).expect("YAML"));
    Ok(documents.filter(|document| !document.is_null()).collect())
}

pub fn render(settings: &[&str]) -> Vec<Value> {
    try_render("botsecret", settings).unwrap_or_else(|said| panic!("{settings:?}: {said}"))
}

/// The objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The only object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &'a str) -> &'a Value {
    let mut found = of_kind(objects, kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several {kind}s");
    first
}

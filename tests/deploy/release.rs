//! What a release does, as far as it can be tried without one: `.ci/release` and the
//! workflows that call it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_yaml::Value;
use tempfile::TempDir;

use crate::{documents, read};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `.ci/release` reads and writes.
const FILES: [&str; 11] = [
    ".ci/release",
    "CHANGELOG.md",
    "Cargo.toml",
    "LICENSE",
    "charts/botsecret-crds/Chart.yaml",
    "charts/botsecret/Chart.yaml",
    "charts/botsecret/README.md",
    "charts/botsecret/values.yaml",
    "deploy/install.yaml",
    "deploy/kustomization.yaml",
    "deploy/operator.yaml",
];

/// A copy that may be changed.
struct Checkout(TempDir);

impl Checkout {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for file in FILES {
            let to = folder.path().join(file);
            fs::create_dir_all(to.parent().expect("a folder above")).expect("a folder");
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &to).expect("a copy");
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file")
    }

    fn replace(&self, file: &str, old: &str, new: &str) {
        let text = self.read(file);
        assert!(text.contains(old), "{file} has no {old}");
        fs::write(self.path(file), text.replace(old, new)).expect("written");
    }

    /// What it printed, or what it said when it failed.
    fn release(&self, arguments: &[&str]) -> Result<String, String> {
        // Not by itself: what was written a moment ago may be busy still.
        let output = Command::new("bash").arg(self.path(".ci/release")).args(arguments).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

fn workflow(name: &str) -> Value {
    serde_yaml::from_str(&read(&format!(".github/workflows/{name}.yml"))).expect("YAML")
}

fn jobs(workflow: &Value) -> Vec<(String, Value)> {
    let jobs = workflow["jobs"].as_mapping().expect("jobs");
    jobs.iter().map(|(name, job)| (name.as_str().expect("a name").to_owned(), job.clone())).collect()
}

/// The jobs that one waits for.
fn needs(job: &Value) -> Vec<String> {
    let text = |one: &Value| one.as_str().expect("a name").to_owned();
    match &job["needs"] {
        Value::Null => Vec::new(),
        Value::Sequence(all) => all.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

#[test]
fn all_files_agree_on_the_version_and_the_tag_must_too() {
    let checkout = Checkout::new();
    assert_eq!(checkout.release(&["versions"]), Ok(format!("{VERSION}\n")));
    assert_eq!(checkout.release(&["versions", &format!("v{VERSION}")]), Ok(format!("{VERSION}\n")));
    let said = checkout.release(&["versions", "v99.0.0"]).expect_err("another tag");
    assert!(said.contains("v99.0.0"), "{said}");
    for file in ["charts/botsecret/Chart.yaml", "charts/botsecret-crds/Chart.yaml", "deploy/kustomization.yaml"] {
        let checkout = Checkout::new();
        checkout.replace(file, VERSION, "99.0.0");
        let said = checkout.release(&["versions"]).expect_err(file);
        assert!(said.contains("99.0.0"), "{said}");
    }
}

#[test]
fn the_notes_are_the_section_of_a_version_that_has_its_day() {
    let checkout = Checkout::new();
    let section = |day: &str| format!("## 99.0.0 ({day})\n\n### Added\n\n- A thing.\n\n## {VERSION} (");
    checkout.replace("CHANGELOG.md", &format!("## {VERSION} ("), &section("unreleased"));
    let said = checkout.release(&["notes", "99.0.0"]).expect_err("no day");
    assert!(said.contains("unreleased"), "{said}");
    checkout.replace("CHANGELOG.md", "## 99.0.0 (unreleased)", "## 99.0.0 (2030-01-31)");
    assert_eq!(checkout.release(&["notes", "99.0.0"]), Ok("### Added\n\n- A thing.\n".to_owned()));
    assert!(checkout.release(&["notes", "99.0"]).is_err());
}

#[test]
fn a_release_names_the_image_by_digest_and_changes_nothing_else() {
    let checkout = Checkout::new();
    let image = "ghcr.io/someone/botsecret";
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (image, digest) in [(image, "sha256:short"), (image, ""), ("ghcr.io/Someone/botsecret@x", digest.as_str())] {
        assert!(checkout.release(&["pin", image, digest]).is_err(), "{image} {digest}");
    }
    assert_eq!(checkout.release(&["pin", image, &digest]), Ok(String::new()));

    let values = |text: &str| serde_yaml::from_str::<Value>(text).expect("YAML");
    let mut wanted = values(&read("charts/botsecret/values.yaml"));
    wanted["image"]["repository"] = image.into();
    wanted["image"]["digest"] = digest.as_str().into();
    assert_eq!(values(&checkout.read("charts/botsecret/values.yaml")), wanted);

    let mut wanted = documents(&read("deploy/install.yaml"));
    let deployment = wanted.iter_mut().find(|document| document["kind"] == "Deployment").expect("a Deployment");
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = format!("{image}@{digest}").into();
    assert_eq!(documents(&checkout.read("deploy/install.yaml")), wanted);

    let table = checkout.read("charts/botsecret/README.md");
    assert!(table.contains(&format!("| `image.digest` | `\"{digest}\"` | ")), "{table}");
    assert!(table.contains(&format!("| `image.repository` | `\"{image}\"` | ")), "{table}");
}

#[test]
fn an_archive_is_the_same_bytes_every_time() {
    let checkout = Checkout::new();
    let archive = |name: &str| {
        fs::write(checkout.path("binary"), b"not quite a binary").expect("written");
        assert_eq!(checkout.release(&["archive", name, "binary"]), Ok(String::new()));
        fs::read(checkout.path(&format!("{name}.tar.gz"))).expect("an archive")
    };
    let first = archive("first");
    assert!(first.starts_with(&[0x1f, 0x8b]), "gzip");
    assert!(first == archive("second"));
}

/// What an expression stands for is put into a script before a shell reads it, so it
/// could be a command: scripts take such values from their environment.
#[test]
fn every_script_of_the_workflows_can_be_read_and_has_no_expression_in_it() {
    let mut count = 0;
    for name in ["ci", "release"] {
        for (job_name, job) in jobs(&workflow(name)) {
            for step in job["steps"].as_sequence().into_iter().flatten() {
                let Some(script) = step["run"].as_str() else { continue };
                assert!(!script.contains("${{"), "{name}, {job_name}: {script}");
                let mut bash = Command::new("bash");
                let mut bash = bash.arg("-n").stdin(Stdio::piped()).spawn().expect("bash starts");
                bash.stdin.take().expect("stdin").write_all(script.as_bytes()).expect("it reads");
                assert!(bash.wait().expect("it ends").success(), "{name}, {job_name}: {script}");
                count += 1;
            }
        }
    }
    assert!(count > 15, "only {count} scripts");
    for script in [".ci/release", ".ci/run"] {
        let about = fs::metadata(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).expect("a script");
        assert_eq!(about.permissions().mode() & 0o111, 0o111, "{script} cannot be run");
    }
}

#[test]
fn nothing_is_released_unless_it_is_switched_on_and_tested() {
    let release = workflow("release");
    let jobs = jobs(&release);
    for (name, job) in &jobs {
        let condition = job["if"].as_str().unwrap_or_default();
        if name == "check" {
            assert!(needs(job).is_empty() && condition.starts_with("vars.RELEASES == 'on' && "), "{condition}");
        } else {
            // Skipped with the first one: a condition of its own could change that.
            assert!(needs(job).iter().any(|one| one == "check") && condition.is_empty(), "{name}");
        }
    }
    let job = |name: &str| jobs.iter().find(|(one, _)| one == name).map(|(_, job)| job).expect("a job");
    assert_eq!(job("test")["uses"], "./.github/workflows/ci.yml");
    assert!(needs(job("image")).contains(&"test".to_owned()));
    assert!(needs(job("publish")).contains(&"try".to_owned()));
    assert!(needs(job("release")).contains(&"publish".to_owned()));
    let steps = workflow("ci")["jobs"]["run"]["steps"].clone();
    assert!(steps.as_sequence().expect("steps").iter().any(|step| step["run"] == ".ci/run"));
}

#[test]
fn each_job_has_the_rights_that_it_names_and_no_others() {
    let release = workflow("release");
    assert!(release["permissions"].as_mapping().is_some_and(serde_yaml::Mapping::is_empty));
    let may = |job: &Value, right: &str| job["permissions"][right] == "write";
    for (name, job) in jobs(&release) {
        assert!(job["permissions"].is_mapping(), "{name}");
        // Who may write to the repository cannot sign, and the other way round.
        assert!(!(may(&job, "contents") && (may(&job, "id-token") || may(&job, "packages"))), "{name}");
        assert_eq!(may(&job, "contents"), name == "release", "{name}");
    }
    let ci = workflow("ci");
    assert_eq!(ci["permissions"], serde_yaml::from_str::<Value>("{contents: read}").expect("YAML"));
    for (name, job) in jobs(&ci) {
        assert!(job["permissions"].is_null(), "{name}");
    }
}

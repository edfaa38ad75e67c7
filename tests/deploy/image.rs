//! `deploy/Containerfile`, as far as reading it can tell: a release builds the image,
//! no test does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_yaml::Value;

use crate::{documents, read};

/// Architectures as container tools and as Rust call them.
const TARGETS: [(&str, &str); 2] = [("amd64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")];

/// One instruction: its name, and all of its words in one line.
struct Instruction {
    name: String,
    words: String,
}

struct Stage {
    image: String,
    name: String,
    instructions: Vec<Instruction>,
}

impl Stage {
    fn of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.instructions.iter().filter(move |one| one.name == name).map(|one| one.words.as_str())
    }

    /// What the last instruction of a name says: it is the one that counts.
    fn last(&self, name: &str) -> &str {
        self.of(name).last().unwrap_or_else(|| panic!("no {name}"))
    }
}

fn instructions() -> Vec<Instruction> {
    let text = read("deploy/Containerfile");
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let goes_on = line.strip_suffix('\\');
        open.push_str(goes_on.unwrap_or(line).trim());
        open.push(' ');
        if goes_on.is_none() {
            let (name, words) = open.trim().split_once(' ').expect("an instruction has words");
            found.push(Instruction { name: name.to_owned(), words: words.trim().to_owned() });
            open.clear();
        }
    }
    assert!(open.is_empty(), "the last instruction does not end: {open}");
    found
}

fn stages() -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in instructions() {
        if instruction.name == "FROM" {
            let words: Vec<&str> = instruction.words.split(' ').filter(|word| !word.starts_with("--")).collect();
            let image = words[0].to_owned();
            let name = words.get(2).copied().unwrap_or_default().to_owned();
            stages.push(Stage { image, name, instructions: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.instructions.push(instruction);
        }
    }
    stages
}

fn stage(name: &str) -> Stage {
    stages().into_iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}"))
}

/// The one that the image is.
fn last_stage() -> Stage {
    stages().pop().expect("a stage")
}

/// An argument's value, unless who builds gives another.
fn argument(name: &str) -> String {
    let prefix = format!("{name}=");
    instructions()
        .into_iter()
        .filter(|one| one.name == "ARG")
        .find_map(|one| one.words.strip_prefix(&prefix).map(str::to_owned))
        .unwrap_or_else(|| panic!("no argument {name}"))
}

/// One COPY: the stage it takes from, if any, the sources and the destination.
struct Copied {
    from: Option<String>,
    sources: Vec<String>,
    to: String,
}

fn copies(stage: &Stage) -> Vec<Copied> {
    let parse = |words: &str| {
        let mut paths: Vec<String> = Vec::new();
        let mut from = None;
        for word in words.split(' ') {
            if let Some(name) = word.strip_prefix("--from=") {
                from = Some(name.to_owned());
            } else if !word.starts_with("--") {
                paths.push(word.to_owned());
            }
        }
        let to = paths.pop().expect("a destination");
        assert!(!paths.is_empty(), "COPY {words} copies nothing");
        Copied { from, sources: paths, to }
    };
    stage.of("COPY").map(parse).collect()
}

/// Whether `.dockerignore` keeps a path from the build. Of the rules that name it, or a
/// folder that it lies in, the last one says.
fn is_ignored(path: &Path) -> bool {
    let mut ignored = false;
    for rule in read(".dockerignore").lines().map(str::trim) {
        if rule.is_empty() || rule.starts_with('#') {
            continue;
        }
        let taken_in = rule.strip_prefix('!');
        let pattern = taken_in.unwrap_or(rule);
        assert!(pattern == "*" || !pattern.contains(['*', '?', '[']), "this test does not know patterns: {rule}");
        if pattern == "*" || path.starts_with(pattern) {
            ignored = taken_in.is_none();
        }
    }
    ignored
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The file, or every file below the folder, as seen from the root.
fn files(path: &Path) -> Vec<PathBuf> {
    let whole = root().join(path);
    if whole.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(&whole).unwrap_or_else(|error| panic!("{}: {error}", whole.display()));
    entries.flat_map(|entry| files(&path.join(entry.expect("an entry").file_name()))).collect()
}

/// Each command that a shell of the stage runs.
fn commands(stage: &Stage) -> Vec<String> {
    let script: Vec<&str> = stage.of("RUN").collect();
    let script = script.join(" && ").replace(';', " && ");
    script.split("&&").map(|command| command.trim().to_owned()).filter(|command| !command.is_empty()).collect()
}

/// The word behind an option.
fn option<'a>(command: &'a str, name: &str) -> &'a str {
    let mut words = command.split_whitespace().skip_while(|word| *word != name);
    words.nth(1).unwrap_or_else(|| panic!("no {name} in `{command}`"))
}

fn build_command() -> String {
    let commands = commands(&stage("build"));
    let mut builds = commands.into_iter().filter(|one| one.starts_with("cargo ") && one.contains(" build "));
    let command = builds.next().expect("cargo builds");
    assert!(builds.next().is_none(), "cargo builds once");
    command
}

fn operator_deployment() -> Value {
    let mut documents = documents(&read("deploy/operator.yaml")).into_iter();
    documents.find(|document| document["kind"] == "Deployment").expect("a Deployment")
}

#[test]
fn the_image_runs_as_the_number_that_the_manifests_say() {
    let stage = last_stage();
    let (user, group) = stage.last("USER").split_once(':').expect("a user and a group");
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("USER: {text} is no number"));
    let (user, group) = (number(user), number(group));
    assert!(user != 0 && group != 0, "root");

    let deployment = operator_deployment();
    let values: Value = serde_yaml::from_str(&read("charts/botsecret/values.yaml")).expect("YAML");
    for context in [&deployment["spec"]["template"]["spec"]["securityContext"], &values["pod"]["securityContext"]] {
        assert_eq!(context["runAsNonRoot"].as_bool(), Some(true));
        assert_eq!(context["runAsUser"].as_u64(), Some(user));
        assert_eq!(context["runAsGroup"].as_u64(), Some(group));
    }
}

#[test]
fn the_image_starts_the_binary_and_the_manifests_give_it_arguments_alone() {
    let stage = last_stage();
    let entry: Vec<String> = serde_json::from_str(stage.last("ENTRYPOINT")).expect("a list: there is no shell");
    assert_eq!(entry.len(), 1, "{entry:?}");
    let copied = copies(&stage).into_iter().find(|copy| copy.to == entry[0]).expect("it is copied there");
    assert_eq!(copied.from.as_deref(), Some("build"));
    let made = copied.sources.join(" ");
    let build = commands(&self::stage("build"));
    assert!(build.iter().any(|one| one.starts_with("install ") && one.ends_with(made.as_str())), "nobody makes {made}");
    let names: Vec<String> = stages().into_iter().map(|stage| stage.name).collect();
    for copy in stages().iter().flat_map(copies) {
        assert!(copy.from.is_none_or(|from| names.contains(&from)), "{} is of no stage", copy.to);
    }

    let deployment = operator_deployment();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(container["command"].is_null());
    assert_eq!(container["args"][0], "operator");
    for template in ["deployment.yaml", "tests/doctor.yaml"] {
        let text = read(&format!("charts/botsecret/templates/{template}"));
        assert!(text.contains("args:\n") && !text.contains("command:"), "{template}");
    }
}

#[test]
fn what_the_image_is_built_from_is_there_and_nothing_else_goes_along() {
    let mut count = 0;
    for copy in stages().iter().flat_map(copies).filter(|copy| copy.from.is_none()) {
        for source in &copy.sources {
            assert!(root().join(source).exists(), "{source} does not exist");
            for file in files(Path::new(source)) {
                assert!(!is_ignored(&file), ".dockerignore keeps {} from the build", file.display());
                count += 1;
            }
        }
    }
    assert!(count > 100, "only {count} files");
    for kept in ["target/release/botsecret", ".git/config", ".env", "kubeconfig", "tests/peers/install", "README.md"] {
        assert!(is_ignored(Path::new(kept)), "{kept} would go into the build");
    }
}

#[test]
fn cargo_builds_the_binary_of_this_package_from_the_lock_file() {
    for command in commands(&stage("build")).iter().filter(|one| one.starts_with("cargo ")) {
        assert!(command.split_whitespace().any(|word| word == "--locked"), "`{command}` takes what is newest");
    }
    let command = build_command();
    assert!(command.split_whitespace().any(|word| word == "--release"), "{command}");
    assert_eq!(option(&command, "--package"), env!("CARGO_PKG_NAME"));
    let binary = option(&command, "--bin");
    assert_eq!(Path::new(env!("CARGO_BIN_EXE_botsecret")).file_stem().expect("a name"), binary);
    // Stripped by the profile.
    assert!(read("Cargo.toml").contains("\n[profile.release]\nstrip = true\n"));
    // Where cargo puts it, for a target that is named.
    let build = commands(&stage("build"));
    let place = format!("/release/{binary}");
    let install = build.iter().find(|one| one.starts_with("install ") && one.contains(&place)).expect("it is kept");
    assert!(install.contains("target/$triple/"), "{install}");
}

#[test]
fn both_architectures_are_compiled_for_on_the_builders_own() {
    let from = instructions().into_iter().find(|one| one.name == "FROM").expect("a stage");
    assert!(from.words.starts_with("--platform=$BUILDPLATFORM "), "{}", from.words);
    let build = stage("build");
    let script = build.of("RUN").collect::<Vec<_>>().join("\n");
    let environment = build.last("ENV");
    for (architecture, triple) in TARGETS {
        assert!(script.contains(&format!("{architecture}) triple={triple};")), "{architecture}");
        let linker = format!("CARGO_TARGET_{}_LINKER=", triple.replace('-', "_").to_uppercase());
        let linker = environment.split_whitespace().find_map(|word| word.strip_prefix(linker.as_str()));
        let linker = linker.unwrap_or_else(|| panic!("no linker for {triple}"));
        // Of the package that is installed for it: gcc-x86-64-linux-gnu brings x86_64-linux-gnu-gcc.
        let package = format!("gcc-{}", linker.trim_end_matches("-gcc").replace('_', "-"));
        assert!(script.contains(&format!("gcc=\"{package}\"")), "{package}");
    }
    assert!(script.contains("*) echo ") && script.contains(">&2; exit 1 ;;"), "another one is refused");
    assert!(build_command().contains("--target \"$triple\""));
    let workflow = read(".github/workflows/release.yml");
    let platforms = TARGETS.map(|(architecture, _)| format!("linux/{architecture}")).join(",");
    assert!(workflow.contains(&format!("--platform \"{platforms}\"")), "a release is not of {platforms}");
}

#[test]
fn the_images_rust_is_one_that_is_supported_and_has_a_full_version() {
    let build = stage("build");
    assert_eq!(build.image, "${BUILDER_IMAGE}");
    let image = argument("BUILDER_IMAGE");
    let (_, tag) = image.rsplit_once("rust:").expect("Rust's image");
    let (version, _) = tag.split_once('-').expect("a version and a Debian");
    let numbers = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().expect("a number")).collect() };
    assert_eq!(numbers(version).len(), 3, "{version}: CI takes its Rust from here");
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    assert!(numbers(version) >= numbers(oldest), "{version} is older than {oldest}");
}

#[test]
fn the_base_has_no_shell_and_the_labels_are_those_of_the_package() {
    let stage = last_stage();
    assert_eq!(stage.image, "${BASE_IMAGE}");
    let base = argument("BASE_IMAGE");
    assert!(base.starts_with("gcr.io/distroless/cc-") && base.ends_with(":nonroot"), "{base}");
    assert_eq!(stage.of("RUN").count(), 0);
    let labels = stage.last("LABEL");
    for (label, wanted) in [
        ("title", env!("CARGO_PKG_NAME")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ] {
        let wanted = format!("org.opencontainers.image.{label}=\"{wanted}\"");
        assert!(labels.contains(&wanted), "no {wanted}");
    }
}

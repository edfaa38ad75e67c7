//! The command line, as a shell sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Output},
};

fn botsecret(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_botsecret"));
    // No cluster, whatever this machine has.
    command.args(arguments).env("KUBECONFIG", "/nonexistent").env("HOME", "/nonexistent").env_remove("POD_NAMESPACE");
    command.output().expect("it starts")
}

fn stdout(arguments: &[&str]) -> String {
    let output = botsecret(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let output = botsecret(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn exit_codes_tell_wrong_usage_from_failure() {
    for wrong in [
        &[][..],
        &["no-such-command"],
        &["version", "--output", "xml"],
        &["operator", "--namespaces", "Not_A_Namespace"],
        &["operator", "--namespaces", ","],
        &["operator", "--listen", "everywhere"],
        &["operator", "--log-level", "botsecret=loud"],
        &["operator", "--traces-endpoint", "collector:4317"],
        &["operator", "--otlp-endpoint", "collector"],
        &["operator", "--traces-endpoint", "http://collector", "--traces-sample-ratio", "1.5"],
        &["rotate"],
        &["doctor", "--skip", "nothing-of-that-name"],
        &["doctor", "--wait", "soon"],
        &["rotate", "bot", "--now", "--reason", "leaked", "--timeout", "1m"],
        &["rotate", "bot", "--now", "--reason", "leaked", "--wait", "--timeout", "soon"],
        &["rotate", "bot", "--now", "--reason", "leaked", "-o", "xml"],
    ] {
        let (code, said) = failure(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
    let (code, said) = failure(&["operator"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--kubeconfig"), "{said}");
    let (code, said) = failure(&["crds", "--dir", "/dev/null/folder"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn where_traces_go_is_wrong_usage_that_says_what_to_write_and_shows_no_password() {
    for (wrong, says) in [
        (&["operator", "--traces-endpoint", "collector:4317"][..], "http://collector:4318/v1/traces"),
        (&["operator", "--otlp-endpoint", "grpc://collector:4317"], "no URL of http or https"),
        (&["operator", "--traces-endpoint", "collector:4318/v1?api-key=canary"], "http://collector:4318/v1/traces"),
        (&["operator", "--otlp-endpoint", "grpc://collector:4317/?api-key=canary"], "no URL of http or https"),
        (&["operator", "--traces-sample-ratio", "10%"], "from 0 (none) to 1 (all)"),
        (&["operator", "--traces-endpoint", "https://sender:canary@collector"], "OTEL_EXPORTER_OTLP_HEADERS"),
        (&["operator", "--otlp-endpoint", "https://canary@collector"], "OTEL_EXPORTER_OTLP_HEADERS"),
        (&["operator", "--otlp-endpoint", "grpc://sender:canary@collector:4317"], "OTEL_EXPORTER_OTLP_HEADERS"),
    ] {
        let (code, said) = failure(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
        assert!(said.contains(says), "{wrong:?}: {said}");
        assert!(!said.contains("canary"), "p4: {said}");
    }
    // By OpenTelemetry's own variables as well.
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("BOTSECRET_TRACES_SAMPLE_RATIO", "-1"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_botsecret"));
        command.arg("operator").env("KUBECONFIG", "/nonexistent").env("HOME", "/nonexistent").env(variable, value);
        assert_eq!(command.output().expect("it starts").status.code(), Some(2), "{variable}");
    }
}

#[test]
fn where_traces_would_go_ends_no_start_while_they_are_off() {
    for (variable, off) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        for endpoint in ["collector:4317", "https://sender:canary@collector", "collector?api-key=canary"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_botsecret"));
            command.args(["operator", "--traces-endpoint", endpoint]).env(variable, off);
            let output =
                command.env("KUBECONFIG", "/nonexistent").env("HOME", "/nonexistent").output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            // It goes on until it finds no cluster.
            assert_eq!(output.status.code(), Some(1), "{variable}, {endpoint}: {said}");
            assert!(said.contains("--kubeconfig") && !said.contains("canary"), "{said}");
        }
    }
}

#[test]
fn help_names_every_command_and_flag() {
    let help = stdout(&["--help"]);
    for word in ["operator", "rotate", "doctor", "crds", "version", "completion", "Exit codes"] {
        assert!(help.contains(word), "{word} is missing: {help}");
    }
    let help = stdout(&["operator", "--help"]);
    for word in
        ["--namespaces", "--operator-namespace", "--listen", "--log-format", "--log-level", "--kubeconfig", "--context"]
    {
        assert!(help.contains(word), "{word} is missing: {help}");
    }
    assert!(!help.contains('\u{1b}'), "colours, though this is no terminal");
}

#[test]
fn a_rotation_is_asked_for_in_full_or_not_at_all() {
    let long = "x".repeat(257);
    for (wrong, says) in [
        (&["rotate", "bot"][..], "rotate bot --now --reason TEXT"),
        (&["rotate", "bot", "--reason", "leaked"], "the next refresh of bot"),
        (&["rotate", "bot", "--now"], "say why"),
        (&["rotate", "bot", "--now", "--reason", ""], "--reason is empty"),
        (&["rotate", "bot", "--now", "--reason", " \n "], "--reason is empty"),
        (&["rotate", "bot", "--now", "--reason", "a\u{1b}[2J"], "control characters"),
        (&["rotate", "bot", "--now", "--reason", &long], "longer than 256"),
        (&["rotate", "bot", "--now", "--reason", "leaked", "--timeout", "1m"], "--wait"),
    ] {
        let (code, said) = failure(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
        assert!(said.contains(says), "{wrong:?}: {said}");
    }
    let (code, said) = failure(&["rotate", "bot", "--now", "--reason", "leaked"]);
    assert_eq!(code, Some(1), "no cluster is no wrong usage: {said}");
    assert!(said.contains("--kubeconfig"), "{said}");
}

#[test]
fn version_is_data() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(stdout(&["version"]).starts_with(&format!("botsecret {version}\n")));
    let json: serde_json::Value = serde_json::from_str(&stdout(&["version", "--output", "json"])).expect("JSON");
    assert_eq!(json["version"], version);
    let yaml: serde_json::Value = serde_yaml::from_str(&stdout(&["version", "-o", "yaml"])).expect("YAML");
    assert_eq!(yaml, json);
}

/// The managers, as the schema of a store lists them.
fn managers() -> Vec<String> {
    let definitions = botsecret::api::definitions();
    let store = definitions.iter().find(|definition| definition.spec.names.kind == "BotSecretStore").expect("a store");
    let schema = serde_json::to_value(store).expect("JSON");
    let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let settings = ["allowRotation", "limits", "proxy"];
    spec.as_object().expect("fields").keys().filter(|name| !settings.contains(&name.as_str())).cloned().collect()
}

#[test]
fn version_lists_every_manager_that_a_store_can_name() {
    let json: serde_json::Value = serde_json::from_str(&stdout(&["version", "-o", "json"])).expect("JSON");
    let compiled = [
        ("aws", cfg!(feature = "aws")),
        ("azure", cfg!(feature = "azure")),
        ("gcp", cfg!(feature = "gcp")),
        ("kubernetes", cfg!(feature = "kubernetes")),
        ("oauth2", cfg!(feature = "oauth2")),
        ("vault", cfg!(feature = "vault")),
    ];
    assert_eq!(compiled.map(|(name, _)| name).to_vec(), managers());
    let wanted: Vec<_> = compiled.iter().filter(|(_, compiled)| *compiled).map(|(name, _)| *name).collect();
    assert_eq!(json["stores"], serde_json::json!(wanted));
    assert!(stdout(&["version"]).contains(&format!("stores: {}\n", wanted.join(", "))));
}

#[test]
fn definitions_are_printed_or_written() {
    let printed = stdout(&["crds"]);
    assert_eq!(printed.matches("\nkind: CustomResourceDefinition\n").count(), 3);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new");
    assert_eq!(stdout(&["crds", "--dir", path.to_str().expect("text")]), "");
    let mut names: Vec<String> = std::fs::read_dir(&path)
        .expect("made")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    let expected =
        ["botsecrets", "botsecretstores", "clusterbotsecretstores"].map(|name| format!("botsecret.dev_{name}.yaml"));
    assert_eq!(names, expected);
}

#[test]
fn completion_covers_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completion", shell]).contains("operator"), "{shell}");
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named_and_not_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, "users: [{name: a, user: {token: [canary]}}]\n").expect("written");
    let path = path.to_str().expect("text");
    let (code, said) = failure(&["operator", "--kubeconfig", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(path) && !said.contains("canary"), "p4: {said}");
}

/// Of the first connection that this gets, the first line; or nothing where somebody else
/// is asked.
fn first_lines(listener: TcpListener) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            // TLS has no lines. Whatever else comes, this end closes.
            if let Some(line) =
                stream.fill_buf().ok().and_then(|bytes| bytes.split_inclusive(|byte| *byte == b'\n').next())
            {
                let _ = sender.send(String::from_utf8_lossy(line).into_owned());
            }
        }
    });
    receiver
}

#[test]
fn a_proxy_of_the_environment_or_the_kubeconfig_is_used_unless_no_proxy_names_the_api_server() {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    for (variables, by_file, is_asked) in [
        (&[][..], true, true),
        (&["https_proxy"][..], false, true),
        (&["HTTPS_PROXY"], false, true),
        (&["HTTPS_PROXY", "NO_PROXY"], false, false),
    ] {
        let (proxy, server) = (listener(), listener());
        let (at, direct) = (format!("http://127.0.0.1:{}", port(&proxy)), port(&server));
        let of_file = if by_file { format!("proxy-url: {at}, ") } else { String::new() };
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{token: t}}}}], \
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{{of_file}server: 'https://127.0.0.1:{direct}'}}}}]}}"
        );
        std::fs::write(&path, kubeconfig).expect("written");
        let (asked, reached) = (first_lines(proxy), first_lines(server));
        let command = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_botsecret"));
            command.args(arguments).args(["--kubeconfig", path.to_str().expect("UTF-8")]);
            for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
                command.env_remove(name);
            }
            for name in variables {
                command.env(name, if *name == "NO_PROXY" { "example.com,127.0.0.1" } else { &at });
            }
            command.output().expect("it starts")
        };
        let output = command(&["rotate", "bot", "--now", "--reason", "leaked"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = asked.try_recv().ok();
        let wanted = is_asked.then(|| format!("CONNECT 127.0.0.1:{direct} HTTP/1.1\r\n"));
        assert_eq!(line, wanted, "{variables:?} {output:?}");
        assert_eq!(reached.try_recv().is_ok(), !is_asked, "{variables:?} {output:?}");
        if is_asked {
            // Not Secrets.
            let output = command(&["operator"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(1) && said.contains("by no proxy"), "{said}");
        }
    }
}

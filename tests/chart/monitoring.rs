//! Alerts and dashboard: what they ask of the operator's metrics is there, each alert
//! has a page, and promtool finds that it fires and is silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use botsecret::{
    api::Provider,
    audit::Kind,
    fetch::FetchCounters,
    report::{Metrics, Reason},
    stores::ErrorClass,
};
use botsecret_testbed::peers;
use regex::Regex;
use serde_yaml::Value;

use crate::helm::{chart, of_kind, only, render};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> PathBuf {
    chart("botsecret").join("monitoring").join(name)
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).expect("a file")).expect("YAML")
}

fn rules() -> Vec<Value> {
    yaml(&file("alerts.yaml"))["groups"][0]["rules"].as_sequence().expect("rules").clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn promtool(arguments: &[&str]) {
    let mut promtool = Command::new(peers::program("promtool").expect("promtool"));
    let output = promtool.args(arguments).current_dir(root()).output().expect("promtool starts");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_finds_each_alert_firing_when_it_should_and_silent_otherwise() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "charts/botsecret/monitoring/alerts.yaml"]);
    promtool(&["test", "rules", "tests/monitoring/alerts.test.yaml"]);
    let tests = yaml(&root().join("tests/monitoring/alerts.test.yaml"));
    let checks = tests["tests"].as_sequence().expect("tests").iter();
    let checks = checks.flat_map(|test| test["alert_rule_test"].as_sequence().into_iter().flatten());
    let mut seen: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for check in checks {
        let fires = check["exp_alerts"].as_sequence().is_some_and(|alerts| !alerts.is_empty());
        let of_it = seen.entry(text(check, "alertname")).or_default();
        (of_it.0, of_it.1) = (of_it.0 || fires, of_it.1 || !fires);
    }
    for rule in rules() {
        assert_eq!(
            seen.get(text(&rule, "alert")),
            Some(&(true, true)),
            "{}: not tested both ways",
            text(&rule, "alert")
        );
    }
}

#[test]
fn each_alert_has_a_page_and_each_page_an_alert() {
    let folder = root().join("docs/alerts");
    let index = fs::read_to_string(folder.join("README.md")).expect("an index");
    let mut alerts = BTreeSet::from(["README".to_owned()]);
    for rule in rules() {
        let name = text(&rule, "alert");
        assert_eq!(text(&rule["annotations"], "runbook_url"), format!("docs/alerts/{name}.md"));
        let page = fs::read_to_string(folder.join(format!("{name}.md"))).unwrap_or_default();
        assert_eq!(page.lines().next(), Some(format!("# {name}").as_str()), "{name}");
        assert!(index.contains(&format!("[{name}]({name}.md)")), "the index lacks {name}");
        alerts.insert(name.to_owned());
    }
    let pages = fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a file").file_name());
    let pages: BTreeSet<_> = pages.map(|page| page.to_string_lossy().trim_end_matches(".md").to_owned()).collect();
    assert_eq!(pages, alerts);
}

/// Each metric with what `/metrics` says of it, every family filled.
fn exported() -> String {
    let counters = FetchCounters::default();
    for (kind, provider) in Kind::ALL.iter().flat_map(|kind| Provider::COMPILED.iter().map(move |one| (*kind, *one))) {
        counters.called(kind, provider, Duration::from_millis(3));
    }
    let metrics = Metrics::new(counters.call_times());
    metrics.passed(0.1, Some(Reason::Synced));
    metrics.count_objects(1, 1);
    metrics.count_successes([("trading", "price-bot", 1.0)], 0);
    metrics.count_reasons(&[(("Ready", Reason::Synced), 1)].into());
    metrics.text(&counters)
}

fn metrics_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\bbotsecret_[a-z_]+").expect("a pattern");
    let suffix = Regex::new("_(bucket|count|sum)$").expect("a pattern");
    name.find_iter(text).map(|name| suffix.replace(name.as_str(), "").into_owned()).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are_and_the_page_tells_of_each() {
    let exported = exported();
    let described = Regex::new(r"(?m)^# TYPE (botsecret_[a-z_]+) (\w+)$").expect("a pattern");
    let known: BTreeSet<_> = described
        .captures_iter(&exported)
        .map(|found| match &found[2] {
            "counter" => format!("{}_total", &found[1]),
            "info" => format!("{}_info", &found[1]),
            _ => found[1].to_owned(),
        })
        .collect();
    assert!(known.len() > 30, "{exported}");
    let mut asked = BTreeSet::new();
    for rule in rules() {
        asked.extend(metrics_in(text(&rule, "expr")));
    }
    let dashboard = fs::read_to_string(file("dashboard.json")).expect("a file");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.extend(metrics_in(target["expr"].as_str().expect("an expression")));
        }
    }
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "not exported: {unknown:?}");
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("a page");
    // Histograms are a metric of their own there.
    let told: BTreeSet<_> = metrics_in(&page);
    let untold: Vec<_> = known.difference(&told).filter(|name| !name.ends_with("_seconds")).collect();
    assert!(untold.is_empty(), "docs/metrics.md does not tell of {untold:?}");
    let gone: Vec<_> = told.difference(&known).collect();
    assert!(gone.is_empty(), "docs/metrics.md tells of {gone:?}");
}

#[test]
fn the_page_tells_of_each_kind_of_call_each_manager_and_each_class_of_failure() {
    let (exported, page) = (exported(), fs::read_to_string(root().join("docs/metrics.md")).expect("a page"));
    let bounds =
        Regex::new(r#"store_call_seconds_bucket\{le="([0-9.]+)",call="login",provider="vault"\}"#).expect("a pattern");
    let bounds: Vec<f64> = bounds.captures_iter(&exported).map(|found| found[1].parse().expect("a number")).collect();
    let bounds: Vec<_> = bounds.iter().map(f64::to_string).collect();
    assert!(bounds.len() > 5, "{exported}");
    let row = format!("| `botsecret_store_call_seconds` | {} |", bounds.join(", "));
    assert!(page.contains(&row), "the page lacks {row}");
    for (label, kinds) in [
        ("call", Kind::ALL.map(Kind::name).to_vec()),
        ("provider", Provider::COMPILED.to_vec()),
        ("class", ErrorClass::ALL.map(ErrorClass::name).to_vec()),
    ] {
        let value = Regex::new(&format!("\\b{label}=\"(\\w+)\"")).expect("a pattern");
        let found: BTreeSet<_> = value.captures_iter(&exported).map(|found| found[1].to_owned()).collect();
        let wanted: BTreeSet<_> = kinds.into_iter().map(str::to_owned).collect();
        assert_eq!(found, wanted, "{label}");
        for kind in found {
            assert!(page.contains(&format!("`{kind}`")), "docs/metrics.md does not tell of {label} {kind}");
        }
    }
}

#[test]
fn reasons_in_alerts_are_reasons_of_conditions() {
    let matcher = Regex::new(r#"reason(?:=|=~|!=|!~)"([A-Za-z|]+)""#).expect("a pattern");
    let mut count = 0;
    for rule in rules() {
        for found in matcher.captures_iter(text(&rule, "expr")) {
            for name in found[1].split('|') {
                assert!(Reason::from_name(name).is_some(), "{}: {name}", text(&rule, "alert"));
                count += 1;
            }
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn the_chart_makes_a_rule_and_a_dashboard_of_the_same_files() {
    let on = ["--set", "metrics.rules.enabled=true,metrics.rules.crdMissing=always,metrics.dashboard.enabled=true"];
    let pages = ["--set", "metrics.rules.runbooks=https://example.com/alerts/"];
    let objects = render(&[&on[..], &pages].concat());
    let spec = &only(&objects, "PrometheusRule")["spec"];
    let wanted = fs::read_to_string(file("alerts.yaml")).expect("a file");
    let wanted = wanted.replace("docs/alerts/", "https://example.com/alerts/");
    let own = r#"absent(botsecret_build_info{namespace="botsecret-system"})"#;
    let wanted = wanted.replace("absent(botsecret_build_info)", own);
    let wanted: Value = serde_yaml::from_str(&wanted).expect("YAML");
    assert_eq!(spec, &wanted);
    let map =
        of_kind(&objects, "ConfigMap").find(|map| map["data"]["botsecret.json"].is_string()).expect("a dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let wanted = fs::read_to_string(file("dashboard.json")).expect("a file");
    assert_eq!(text(&map["data"], "botsecret.json").trim(), wanted.trim());
    assert_eq!(of_kind(&render(&[]), "PrometheusRule").count(), 0);
}

/// What is absent has no labels, so one installation that answers would hide all others.
#[test]
fn the_charts_rule_tells_that_its_own_operator_is_gone_though_another_installation_answers() {
    let objects = render(&["--set", "metrics.rules.enabled=true,metrics.rules.crdMissing=always"]);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, value: &Value| {
        fs::write(folder.path().join(name), serde_yaml::to_string(value).expect("YAML")).expect("a file");
    };
    write("rules.yaml", &only(&objects, "PrometheusRule")["spec"]);
    let tests = r#"
        rule_files: [rules.yaml]
        evaluation_interval: 1m
        tests:
        - interval: 1m
          input_series:
          - {series: 'botsecret_build_info{namespace="botsecret-system"}', values: 1x9 stale}
          - {series: 'botsecret_build_info{namespace="another"}', values: 1x60}
          promql_expr_test:
          - {expr: 'ALERTS{alertstate="firing"}', eval_time: 9m, exp_samples: []}
          - expr: ALERTS{alertstate="firing"}
            eval_time: 20m
            exp_samples:
            - labels: ALERTS{alertname="BotSecretOperatorDown",alertstate="firing",namespace="botsecret-system",severity="critical"}
              value: 1
    "#;
    write("tests.yaml", &serde_yaml::from_str(tests).expect("YAML"));
    promtool(&["test", "rules", folder.path().join("tests.yaml").to_str().expect("UTF-8")]);
}

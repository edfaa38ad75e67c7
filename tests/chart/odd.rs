//! Settings that nobody thinks of: names at their limits, values that look like numbers,
//! keys that are there already, and null.

use serde_yaml::Value;

use crate::helm::{chart, of_kind, only, render, try_render, try_render_as};

/// Quicker, and nothing here is about them.
const NO_DEFINITIONS: [&str; 2] = ["--set", "crds.install=false"];

const MONITORS: [&str; 10] = [
    "--set",
    "metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.crdMissing=always",
    "--set",
    "metrics.podMonitor.enabled=true,metrics.podMonitor.crdMissing=always",
    "--set",
    "metrics.rules.enabled=true,metrics.rules.crdMissing=always",
    "--set",
    "metrics.dashboard.enabled=true,podDisruptionBudget.enabled=true",
    "--set",
    "admission.authors=true",
];

/// Everything that the chart can make, with the objects of `helm test`.
fn everything(release: &str, settings: &[&str]) -> Vec<Value> {
    let all = [&NO_DEFINITIONS[..], &MONITORS, settings].concat();
    try_render_as(release, "botsecret", &all).unwrap_or_else(|said| panic!("{release} {settings:?}: {said}"))
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("{what} is no text: {value:?}"))
}

fn named(object: &Value) -> String {
    format!("{:?} {:?}", object["kind"], object["metadata"]["name"])
}

/// The labels or annotations of an object, and those of its pods.
fn notes<'a>(object: &'a Value, field: &str) -> Vec<(&'a str, &'a str)> {
    let pods = &object["spec"]["template"]["metadata"][field];
    let all = [&object["metadata"][field], pods].into_iter().filter_map(Value::as_mapping).flatten();
    all.map(|(key, value)| (text(key, "a key"), text(value, &named(object)))).collect()
}

#[test]
fn labels_and_annotations_are_text_whatever_they_look_like_and_are_on_everything() {
    let settings = [
        "--set",
        "commonLabels.cost=1024,commonLabels.critical=true,commonAnnotations.since=2024,pod.annotations.scrape=true",
        "--set",
        "pod.labels.wave=2,serviceAccount.annotations.number=1,metrics.service.annotations.scrape=true",
        "--set",
        "metrics.dashboard.labels.grafana=1,metrics.rules.labels.wave=1,pod.nodeSelector.ready=true",
        "--set",
        "operator.extraEnv[0].name=RETRIES,operator.extraEnv[0].value=3",
        "--set",
        "operator.namespaces={trading}",
    ];
    let objects = everything("botsecret", &settings);
    assert!(objects.len() > 35, "{}", objects.len());
    for object in &objects {
        let labels = notes(object, "labels");
        for wanted in [("cost", "1024"), ("critical", "true")] {
            assert!(labels.contains(&wanted), "{} has {labels:?}", named(object));
        }
        assert!(notes(object, "annotations").contains(&("since", "2024")), "{}", named(object));
    }
    let deployment = only(&objects, "Deployment");
    assert!(notes(deployment, "labels").contains(&("wave", "2")));
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["ready"], "true");
    let mut variables = pod["containers"][0]["env"].as_sequence().expect("variables").iter();
    let retries = variables.find(|variable| variable["name"] == "RETRIES").expect("the variable");
    assert_eq!(retries["value"], "3");
    let definitions = render(&["--set", "commonLabels.cost=1024,commonAnnotations.since=2024"]);
    let alone =
        try_render("botsecret-crds", &["--set", "commonLabels.cost=1024,commonAnnotations.since=2024"]).expect("them");
    for definition in of_kind(&definitions, "CustomResourceDefinition").chain(&alone) {
        assert!(notes(definition, "labels").contains(&("cost", "1024")), "{}", named(definition));
        assert!(notes(definition, "annotations").contains(&("since", "2024")), "{}", named(definition));
    }
}

/// A key that stands there twice makes no YAML, and a Deployment whose selector does not
/// fit its pods is refused, at an upgrade for ever.
#[test]
fn what_selects_the_pods_is_nobody_elses_to_say() {
    let settings = [
        "--set",
        r"commonLabels.app\.kubernetes\.io/name=other,pod.labels.app\.kubernetes\.io/instance=other",
        "--set",
        r"pod.labels.helm\.sh/chart=other,metrics.serviceMonitor.labels.app\.kubernetes\.io/name=other",
    ];
    let (plain, odd) = (everything("botsecret", &[]), everything("botsecret", &settings));
    for (plain, odd) in plain.iter().zip(&odd) {
        assert_eq!(plain["metadata"]["labels"], odd["metadata"]["labels"], "{}", named(plain));
    }
    let labels = |objects: &[Value]| only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(labels(&plain), labels(&odd));
}

/// What a workload is selected by cannot be changed once it is there.
#[test]
fn no_setting_but_a_name_changes_the_selector() {
    let selector = |settings: &[&str]| only(&render(settings), "Deployment")["spec"]["selector"].clone();
    let ha = chart("botsecret").join("values-ha.yaml");
    let plain = selector(&[]);
    let digest = format!("image.digest=sha256:{}", "a".repeat(64));
    let namespaces = "operator.namespaces={trading},commonLabels.team=platform,pod.labels.wave=2";
    for settings in [
        &["-f", ha.to_str().expect("UTF-8")][..],
        &["--set", namespaces],
        &["--set", &digest],
        &["--set", "fullnameOverride=second,serviceAccount.name=third"],
    ] {
        assert_eq!(selector(settings), plain, "{settings:?}");
    }
}

#[test]
fn a_release_of_any_name_makes_names_that_the_api_server_takes() {
    for release in ["r".repeat(53).as_str(), "123", "my.release", "a", "botsecret.v2"] {
        for object in everything(release, &["--set", "operator.namespaces={trading}"]) {
            let name = text(&object["metadata"]["name"], &named(&object));
            let limit = if object["kind"] == "Service" { 63 } else { 253 };
            assert!(!name.is_empty() && name.len() <= limit, "{name}");
            assert!(!name.contains('.') && !name.ends_with('-'), "{name}");
            assert!(name.starts_with(|first: char| first.is_ascii_lowercase()), "{name}");
            for (key, value) in notes(&object, "labels") {
                assert!(value.len() <= 63, "{key} of {name}: {value}");
            }
            let selected = &object["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"];
            assert!(selected.is_null() || selected.is_string(), "{release}: {selected:?}");
        }
    }
}

/// The path of each setting, tables included, as long as they are the chart's own.
fn paths(values: &Value, above: &str, found: &mut Vec<String>) {
    for (key, value) in values.as_mapping().into_iter().flatten() {
        let path = format!("{above}{}", text(key, "a key"));
        let is_free = path == "resources" || path.ends_with("ontext") || path.ends_with("abels");
        if !is_free {
            paths(value, &format!("{path}."), found);
        }
        found.push(path);
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Sequence(all) => all.iter().any(has_null),
        Value::Mapping(all) => all.values().any(has_null),
        _ => false,
    }
}

/// Helm takes a setting away that is set to null.
#[test]
fn what_is_set_to_null_is_refused_by_its_name_or_left_out() {
    let values = std::fs::read_to_string(chart("botsecret").join("values.yaml")).expect("the values");
    let mut settings = Vec::new();
    paths(&serde_yaml::from_str(&values).expect("YAML"), "", &mut settings);
    assert!(settings.len() > 90, "{settings:?}");
    let mut refused = 0;
    for path in settings.iter().filter(|path| !path.starts_with("crds")) {
        let taken_away = format!("{path}=null");
        match try_render_as("botsecret", "botsecret", &[&NO_DEFINITIONS[..], &["--set", &taken_away]].concat()) {
            Ok(objects) => {
                for object in &objects {
                    assert!(!has_null(object), "{path}: {}", named(object));
                }
            }
            Err(said) => {
                let name = path.rsplit('.').next().unwrap_or(path);
                let by_name = [format!("missing property '{name}'"), "networkPolicy.egress: without".to_owned()];
                assert!(by_name.iter().any(|words| said.contains(words)), "{path}: {said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 30 && refused < settings.len() - 30, "{refused} of {}", settings.len());
}

/// It is there for a minute, and must not be taken for a replica.
#[test]
fn the_pod_of_helm_test_is_counted_by_nothing_and_reaches_what_it_asks() {
    let objects = everything("botsecret", &["--set", "pod.tolerations[0].operator=Exists,pod.nodeSelector.disk=ssd"]);
    let pod = only(&objects, "Pod");
    let labels = pod["metadata"]["labels"].as_mapping().expect("labels");
    let selects = |selector: &Value| {
        let selector = selector.as_mapping().expect("a selector");
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    for kind in ["Deployment", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor"] {
        assert!(!selects(&only(&objects, kind)["spec"]["selector"]["matchLabels"]), "{kind}");
    }
    assert!(!selects(&only(&objects, "Service")["spec"]["selector"]));
    let policies: Vec<_> = of_kind(&objects, "NetworkPolicy").collect();
    let (its, others): (Vec<_>, Vec<_>) =
        policies.into_iter().partition(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"]));
    assert_eq!((its.len(), others.len()), (1, 1));
    assert_eq!(its[0]["spec"]["egress"], others[0]["spec"]["egress"]);
    assert!(its[0]["spec"]["ingress"].is_null(), "nobody asks it for anything");
    let hook = |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"] == "test";
    assert!(hook(its[0]) && hook(pod) && !hook(others[0]));
    // It runs where the operator runs.
    assert_eq!(pod["spec"]["tolerations"][0]["operator"], "Exists");
    assert_eq!(pod["spec"]["nodeSelector"]["disk"], "ssd");
    assert!(!pod["spec"]["containers"][0]["resources"]["requests"].is_null());
    let without = everything("botsecret", &["--set", "networkPolicy.enabled=false"]);
    assert_eq!(of_kind(&without, "NetworkPolicy").count(), 0);
}

/// Two installations share a cluster: each is there for its own namespaces.
#[test]
fn a_release_for_a_list_of_namespaces_says_nothing_about_others() {
    let objects = everything("billing", &["--set", "operator.namespaces={billing,ledger}"]);
    let mut found = 0;
    for policy in of_kind(&objects, "ValidatingAdmissionPolicy") {
        let name = text(&policy["metadata"]["name"], "a name");
        if !["-authors", "-store-secrets"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let constraints = &policy["spec"]["matchConstraints"];
        let said = serde_yaml::to_string(constraints).expect("YAML");
        assert!(!said.contains("clusterbotsecretstores"), "{name}: {said}");
        let namespaces = &constraints["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(namespaces["key"], "kubernetes.io/metadata.name");
        assert_eq!(namespaces["operator"], "In");
        assert_eq!(namespaces["values"].as_sequence().map(Vec::len), Some(2), "{said}");
        found += 1;
    }
    assert_eq!(found, 2);
    for policy in of_kind(&everything("botsecret", &[]), "ValidatingAdmissionPolicy") {
        assert!(policy["spec"]["matchConstraints"]["namespaceSelector"].is_null(), "{}", named(policy));
    }
}

/// Every name and namespace in an object: as text, whatever YAML takes it for.
fn names_are_text(value: &Value, of: &str) {
    match value {
        Value::Sequence(all) => all.iter().for_each(|one| names_are_text(one, of)),
        Value::Mapping(all) => {
            for (key, value) in all {
                if let Some(key @ ("name" | "namespace" | "serviceAccountName" | "policyName")) = key.as_str() {
                    assert!(value.is_string() || value.is_mapping(), "{key} in {of}: {value:?}");
                }
                if key.as_str() == Some("resourceNames") {
                    assert!(value.as_sequence().expect("a list").iter().all(Value::is_string), "{of}: {value:?}");
                }
                names_are_text(value, of);
            }
        }
        _ => {}
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_stay_names() {
    for word in ["123", "1e3", "true", "null"] {
        let name = format!("fullnameOverride={word}");
        let named_so: &[&str] = if word.starts_with('1') { &[] } else { &["--set-string", &name] };
        let settings = [named_so, &["--set-string", "operator.namespaces={trading,1e3,on}"]].concat();
        let all = [&NO_DEFINITIONS[..], &MONITORS, &settings].concat();
        let all = [&all[..], &["--namespace", word]].concat();
        let objects = try_render_as("botsecret", "botsecret", &all).unwrap_or_else(|said| panic!("{word}: {said}"));
        assert!(objects.len() > 35, "{}", objects.len());
        for object in &objects {
            names_are_text(object, &format!("{} of {word}", named(object)));
        }
    }
}

#[test]
fn names_that_are_cut_end_with_a_letter_and_the_pod_of_helm_test_keeps_a_label_of_its_own() {
    let fits =
        |text: &str, most: usize| text.len() <= most && text.ends_with(|last: char| last.is_ascii_alphanumeric());
    for length in [57, 58, 59, 61, 62, 63, 70] {
        let name = format!("nameOverride={}", "a".repeat(length));
        let dashes = format!("fullnameOverride={}--b,nameOverride={}--b", "a".repeat(48), "a".repeat(length - 1));
        for settings in [name, dashes] {
            let objects = everything("botsecret", &["--set", &settings]);
            let label = |kind: &str| only(&objects, kind)["metadata"]["labels"]["app.kubernetes.io/name"].clone();
            assert_ne!(label("Pod"), label("Deployment"), "{settings}");
            for object in &objects {
                let most = if object["kind"] == "Service" { 63 } else { 253 };
                assert!(fits(text(&object["metadata"]["name"], "a name"), most), "{settings}: {}", named(object));
                for (key, value) in notes(object, "labels") {
                    assert!(fits(value, 63), "{settings}: {key} of {} is {value}", named(object));
                }
            }
        }
    }
}

#[test]
fn settings_that_undo_each_other_are_refused_with_what_to_do() {
    for (settings, words) in [
        ("admission.enabled=false,admission.authors=true", "admission.authors: "),
        ("networkPolicy.egress.ports=null", "nothing reaches the API server"),
        ("networkPolicy.egress.cidrs=null", "nothing reaches the API server"),
        ("operator.extraEnv[0].name=POD_NAME,operator.extraEnv[0].value=a", "POD_NAME is set by the chart already"),
        ("operator.extraEnv[0].name=BOTSECRET_LISTEN,operator.extraEnv[0].value=a", "BOTSECRET_LISTEN is set"),
    ] {
        let said = try_render("botsecret", &["--set", settings]).expect_err(settings);
        assert!(said.contains(words), "{settings}: {said}");
    }
    let api_server = "networkPolicy.egress.ports=null,networkPolicy.egress.extra[0].ports[0].port=6443";
    let kept = render(&["--set", api_server]);
    assert_eq!(only(&kept, "NetworkPolicy")["spec"]["egress"].as_sequence().map(Vec::len), Some(2));
}

#[test]
fn an_extra_object_is_taken_as_it_stands_and_text_as_a_template() {
    let map = r#"extraObjects[0]={"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"{{ $labels.pod }} is down"}}"#;
    let text = "extraObjects[1]=\"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: {{ .Release.Name }}-b}\"";
    let objects = render(&["--set-json", map, "--set-json", text]);
    let extra = |name: &str| {
        of_kind(&objects, "ConfigMap").find(|object| object["metadata"]["name"] == name).expect("the object").clone()
    };
    assert_eq!(extra("a")["data"]["a"], "{{ $labels.pod }} is down");
    extra("botsecret-b");
}

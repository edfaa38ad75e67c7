//! What the chart renders, setting by setting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::helm::{chart, helm, of_kind, only, render, try_render};

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

#[test]
fn helm_finds_nothing_to_say() {
    for name in ["botsecret", "botsecret-crds"] {
        let (well, said) = helm(&["lint", "--strict", chart(name).to_str().expect("UTF-8")]);
        assert!(well, "{said}");
    }
}

/// What roles grant, right by right: group, resource, the one object of it if it is
/// limited to that, verb.
fn rights<'a>(roles: impl IntoIterator<Item = &'a Value>) -> BTreeSet<[String; 4]> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_sequence().into_iter().flatten();
        list.map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for rule in roles.into_iter().flat_map(|role| role["rules"].as_sequence().expect("rules")) {
        let mut objects = texts(&rule["resourceNames"]);
        if objects.is_empty() {
            objects.push(String::new());
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for object in &objects {
                    let right = |verb| [group.clone(), resource.clone(), object.clone(), verb];
                    found.extend(texts(&rule["verbs"]).into_iter().map(right));
                }
            }
        }
    }
    found
}

#[test]
fn p10_the_defaults_bind_one_role_for_the_cluster_and_one_for_the_lease() {
    let objects = render(&["--set", "rbac.aggregate=false"]);
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        assert_eq!(of_kind(&objects, kind).count(), 1, "{kind}");
    }
}

/// These two are written by hand: with the chart they are part of the one role.
#[test]
fn p10_a_setting_grants_what_the_manifest_beside_the_installation_grants() {
    let quiet = ["--set", "rbac.aggregate=false"];
    let granted = |settings: &[&str]| {
        let objects = render(&[&quiet[..], settings].concat());
        rights(of_kind(&objects, "ClusterRole"))
    };
    let plain = granted(&[]);
    for (setting, file) in [("rbac.verify=true", "verify"), ("rbac.rollBack=true", "roll-back")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/{file}.yaml"));
        let text = fs::read_to_string(path).expect("a file");
        let documents = serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect("YAML"));
        let offered: Vec<Value> = documents.collect();
        let with = granted(&["--set", setting]);
        let more: BTreeSet<_> = with.difference(&plain).cloned().collect();
        assert_eq!(more, rights(of_kind(&offered, "ClusterRole")), "{setting} and deploy/{file}.yaml");
    }
}

#[test]
fn p10_more_rights_come_only_when_they_are_asked_for() {
    let rules =
        |settings: &[&str]| serde_yaml::to_string(&only(&render(settings), "ClusterRole")["rules"]).expect("YAML");
    let quiet = ["--set", "rbac.aggregate=false"];
    let plain = rules(&quiet);
    assert!(!plain.contains("jobs") && !plain.contains("- list\n  - delete"), "{plain}");
    let with = |setting| rules(&[&quiet[..], &["--set", setting]].concat());
    assert!(with("rbac.verify=true").contains("- jobs\n"));
    assert!(with("rbac.rollBack=true").contains("- list\n  - delete"));
    assert_eq!(of_kind(&render(&["--set", "rbac.create=false"]), "ClusterRole").count(), 0);
}

#[test]
fn p10_for_a_list_of_namespaces_there_is_no_right_beyond_them() {
    let objects = render(&["--set", "operator.namespaces={trading,billing}", "--set", "rbac.aggregate=false"]);
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        assert_eq!(of_kind(&objects, kind).count(), 0, "{kind}");
    }
    let places: Vec<_> = of_kind(&objects, "Role").map(|role| role["metadata"]["namespace"].as_str()).collect();
    assert_eq!(places, [Some("trading"), Some("billing"), Some("botsecret-system")]);
    let text = serde_yaml::to_string(&of_kind(&objects, "Role").collect::<Vec<_>>()).expect("YAML");
    assert!(!text.contains("clusterbotsecretstores") && !text.contains("customresourcedefinitions"), "{text}");
    let environment = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
    let environment = serde_yaml::to_string(environment).expect("YAML");
    assert!(environment.contains("value: trading,billing"), "{environment}");
}

/// Each right of the first, withheld, breaks a test of `tests/rbac`.
#[test]
fn p10_in_a_listed_namespace_is_granted_what_is_in_the_cluster_less_what_is_of_no_namespace() {
    let quiet = ["--set", "rbac.aggregate=false"];
    let wide = render(&quiet);
    let listed = render(&[&quiet[..], &["--set", "operator.namespaces={trading,billing}"]].concat());
    let of_no_namespace = ["clusterbotsecretstores", "customresourcedefinitions"];
    let mut expected = rights([only(&wide, "ClusterRole")]);
    expected.retain(|[_, resource, ..]| !of_no_namespace.contains(&resource.as_str()));
    assert!(!expected.is_empty());
    for namespace in ["trading", "billing"] {
        let role = of_kind(&listed, "Role").find(|role| role["metadata"]["namespace"] == namespace);
        assert_eq!(rights(role), expected, "{namespace}");
    }
    // There the digest key is covered by no other right.
    let leader = |objects: &[Value]| rights(of_kind(objects, "Role").find(|role| name(role) == "botsecret-leader"));
    let digest_key = [["", "secrets", "", "create"], ["", "secrets", "botsecret-digest-key", "get"]]
        .map(|one| one.map(str::to_owned));
    assert_eq!(leader(&listed), &leader(&wide) | &BTreeSet::from(digest_key));
}

/// What the operator is told in this variable of its environment.
fn variable(name: &str, settings: &[&str]) -> Option<String> {
    let objects = render(settings);
    let variables = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
    let mut variables = variables.as_sequence().expect("variables").iter();
    let found = variables.find(|variable| variable["name"] == name);
    found.map(|variable| variable["value"].as_str().expect("text").to_owned())
}

#[test]
fn the_audit_log_is_off_until_it_is_given_a_place() {
    let place = |settings: &[&str]| variable("BOTSECRET_AUDIT_LOG", settings);
    assert_eq!(place(&[]), None);
    assert_eq!(place(&["--set", "operator.auditLog=-"]).as_deref(), Some("-"));
}

#[test]
fn series_of_single_botsecrets_can_be_limited_and_switched_off() {
    let most = |settings: &[&str]| variable("BOTSECRET_OBJECT_METRICS", settings);
    assert_eq!(most(&[]), None);
    assert_eq!(most(&["--set", "operator.objectMetrics=0"]).as_deref(), Some("0"));
    assert_eq!(most(&["--set", "operator.objectMetrics=2000000"]).as_deref(), Some("2000000"));
}

#[test]
fn traces_are_off_until_they_are_given_an_endpoint() {
    let variables = |settings: &[&str]| -> BTreeMap<String, Value> {
        let objects = render(settings);
        let all = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
        let all = all.as_sequence().expect("variables").iter();
        all.map(|one| (one["name"].as_str().expect("text").to_owned(), one.clone())).collect()
    };
    let of_traces = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "BOTSECRET_TRACES_SAMPLE_RATIO"];
    let off = variables(&[]);
    assert!(of_traces.iter().all(|name| !off.contains_key(*name)), "{off:?}");
    let endpoint = "http://collector.observability:4318/v1/traces";
    let on = variables(&["--set", &format!("tracing.endpoint={endpoint}"), "--set", "tracing.sampleRatio=0.25"]);
    assert_eq!(on["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]["value"], endpoint);
    assert_eq!(on["BOTSECRET_TRACES_SAMPLE_RATIO"]["value"], "0.25");
    assert_eq!(on["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    // None at all is a share as well.
    let none = variables(&["--set", &format!("tracing.endpoint={endpoint}"), "--set", "tracing.sampleRatio=0"]);
    assert_eq!(none["BOTSECRET_TRACES_SAMPLE_RATIO"]["value"], "0");
}

#[test]
fn what_is_not_known_or_makes_no_sense_is_refused() {
    for setting in [
        "unknown=1",
        "image.tags=x",
        "operator.namespace=trading",
        "operator.namespaces={Trading}",
        "operator.logFormat=xml",
        "operator.maxRollouts=0",
        "operator.objectMetrics=-1",
        "image.digest=sha256:abc",
        "networkPolicy.egress.port=443",
        "tracing.endpoint=collector:4317",
        "tracing.sampleRatio=1.5",
        "admission.apiAudiences[0]=",
        "metrics.serviceMonitor.crdMissing=maybe",
        "replicas=many",
    ] {
        let refused = try_render("botsecret", &["--set", setting]);
        assert!(refused.as_ref().is_err_and(|said| !said.contains("nil pointer")), "{setting}: {refused:?}");
    }
}

#[test]
fn the_pod_is_restricted_and_its_image_can_be_pinned() {
    let objects = render(&[]);
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], format!("botsecret:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = render(&[
        "--set",
        &format!("image.digest={digest}"),
        "--set",
        "global.imageRegistry=registry.example/team",
        "--set",
        "global.imagePullSecrets={one}",
        "--set",
        "imagePullSecrets={one,two}",
    ]);
    let pod = &only(&pinned, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("registry.example/team/botsecret@{digest}"));
    assert_eq!(pod["imagePullSecrets"].as_sequence().map(Vec::len), Some(2));
}

#[test]
fn two_replicas_have_a_budget_and_another_name_another_lease() {
    let values = chart("botsecret").join("values-ha.yaml");
    let objects = render(&["-f", values.to_str().expect("UTF-8")]);
    assert_eq!(only(&objects, "Deployment")["spec"]["replicas"], 2);
    assert_eq!(only(&objects, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    let objects = render(&["--set", "fullnameOverride=second"]);
    let deployment = only(&objects, "Deployment");
    let arguments = serde_yaml::to_string(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
    assert!(arguments.expect("YAML").contains("--lease-name=second"));
    let leader = of_kind(&objects, "Role").find(|role| name(role) == "second-leader").expect("a Role");
    assert_eq!(leader["rules"][1]["resourceNames"][0], "second");
    let policies = serde_yaml::to_string(&of_kind(&objects, "ValidatingAdmissionPolicy").collect::<Vec<_>>());
    assert!(policies.expect("YAML").contains("system:serviceaccount:botsecret-system:second"));
}

#[test]
fn definitions_stay_unless_asked_otherwise_and_can_be_left_out() {
    let keeps = |objects: &[Value]| {
        of_kind(objects, "CustomResourceDefinition")
            .filter(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            .count()
    };
    assert_eq!(keeps(&render(&[])), 3);
    assert_eq!(keeps(&render(&["--set", "crds.keep=false"])), 0);
    assert_eq!(of_kind(&render(&["--set", "crds.install=false"]), "CustomResourceDefinition").count(), 0);
    assert_eq!(keeps(&try_render("botsecret-crds", &[]).expect("the chart of the definitions")), 3);
}

#[test]
fn a_monitor_is_left_out_fails_or_is_made_where_its_definition_is_missing() {
    let on = ["--set", "metrics.serviceMonitor.enabled=true", "--set"];
    let with = |missing: &str| try_render("botsecret", &[&on[..], &[missing]].concat());
    let refused = with("metrics.serviceMonitor.crdMissing=fail").expect_err("it is missing");
    assert!(refused.contains("install the Prometheus Operator first"), "{refused}");
    let monitors = |objects: Vec<Value>| of_kind(&objects, "ServiceMonitor").count();
    assert_eq!(monitors(with("metrics.serviceMonitor.crdMissing=skip").expect("rendered")), 0);
    assert_eq!(monitors(with("metrics.serviceMonitor.crdMissing=always").expect("rendered")), 1);
    let there = ["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor", "--set"];
    assert_eq!(monitors(render(&[&there[..], &["metrics.serviceMonitor.enabled=true"]].concat())), 1);
}

#[test]
fn the_network_policy_leaves_out_metadata_services_and_can_be_narrowed() {
    let egress = |settings: &[&str]| {
        serde_yaml::to_string(&only(&render(settings), "NetworkPolicy")["spec"]["egress"]).expect("YAML")
    };
    let wide = egress(&[]);
    assert!(wide.contains("169.254.0.0/16") && wide.contains("fe80::/10") && wide.contains("port: 8200"), "{wide}");
    let narrow = egress(&["--set", "networkPolicy.egress.cidrs={10.0.0.0/8}"]);
    assert!(narrow.contains("10.0.0.0/8") && !narrow.contains("except"), "{narrow}");
    assert_eq!(of_kind(&render(&["--set", "networkPolicy.enabled=false"]), "NetworkPolicy").count(), 0);
}

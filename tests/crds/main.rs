//! The custom resource definitions: that `crds/` is what the types say, and
//! that the API server takes and refuses what it should.

#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;
#[path = "../support/kubectl.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod kubectl;

use std::{collections::BTreeSet, path::Path, time::Duration};

use botsecret::{api, cli};
use botsecret_testbed::{Cluster, wait_for};
use cases::{Case, Verdict};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use kubectl::Kubectl;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// The schema of a kind, as the API server gets it.
fn schema(kind: &str) -> Value {
    let definition = api::definitions().into_iter().find(|definition| definition.spec.names.kind == kind);
    let definition = serde_json::to_value(definition.expect(kind)).expect("JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Visits every schema below `schema` with its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{path}.{name}"), visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            walk(&schema[keyword], &format!("{path}{suffix}"), visit);
        }
    }
}

#[test]
fn the_folder_holds_what_the_types_say() {
    let documents = cli::crds::documents().expect("YAML");
    for document in &documents {
        let written = std::fs::read_to_string(Path::new(FOLDER).join(&document.file_name)).unwrap_or_default();
        assert!(written == document.yaml, "crds/{} is stale: run `make crds`", document.file_name);
        assert!(written.len() < 100_000, "{} is too large", document.file_name);
    }
    let files = std::fs::read_dir(FOLDER).expect("crds/").count();
    assert_eq!(files, documents.len(), "crds/ holds a file that nothing makes");
}

#[test]
fn every_field_is_explained_and_no_list_item_has_a_default() {
    for definition in api::definitions() {
        let kind = definition.spec.names.kind;
        walk(&schema(&kind), &kind, &mut |path, node| {
            let is_field = !path.ends_with("[]") && !path.ends_with("{}");
            let explained = node["description"].as_str().is_some_and(|text| text.len() > 3);
            assert!(
                explained || !is_field || path.ends_with(".status") && kind != "BotSecret",
                "{path} lacks a description"
            );
            assert!(node["default"].is_null() || !path.contains("[]"), "{path} has a default inside a list item");
            assert!(node["nullable"].is_null(), "{path}: null must count as absent");
        });
    }
}

#[test]
fn no_category_is_also_the_name_of_a_kind() {
    let (mut names, mut categories) = (BTreeSet::new(), BTreeSet::new());
    for definition in api::definitions() {
        let of = definition.spec.names;
        names.extend([of.kind.to_lowercase(), of.plural]);
        names.extend(of.singular);
        names.extend(of.short_names.into_iter().flatten());
        categories.extend(of.categories.into_iter().flatten());
    }
    assert!(!categories.is_empty());
    // kubectl would take in the other kinds: `delete botsecrets --all` the stores.
    assert!(names.is_disjoint(&categories), "{categories:?} of {names:?}");
}

fn rules() -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    for definition in api::definitions() {
        walk(&schema(&definition.spec.names.kind), "", &mut |_, node| {
            for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
                messages.insert(rule["message"].as_str().expect("a rule says what to write instead").to_owned());
            }
        });
    }
    messages
}

#[test]
fn each_rule_is_tried_both_ways() {
    let cases = cases::all();
    let fragments: Vec<&str> = cases
        .iter()
        .filter_map(|case| if let Verdict::Rule(text) = case.verdict { Some(text) } else { None })
        .collect();
    for message in rules() {
        assert!(fragments.iter().any(|fragment| message.contains(fragment)), "no case is refused with: {message}");
    }
    let validator = kube_cel::Validator::new();
    for case in &cases {
        let kind = case.object["kind"].as_str().expect("kind");
        let outcome = validator.validate(&schema(kind), &case.object, case.before.as_ref());
        let messages: Vec<String> = outcome
            .err()
            .map(kube_cel::ValidationErrors::into_vec)
            .into_iter()
            .flatten()
            .map(|error| error.message)
            .collect();
        match case.verdict {
            Verdict::Accepted => assert!(messages.is_empty(), "{}: {messages:?}", shown(case)),
            Verdict::Rule(fragment) => {
                assert!(messages.iter().any(|message| message.contains(fragment)), "{}: {messages:?}", shown(case));
            }
            // The evaluator knows the rules alone.
            Verdict::Schema(_) => {}
        }
    }
}

fn shown(case: &Case) -> String {
    format!("{}: {}", case.name, case.object["spec"])
}

/// How long the API server may take to do as it was told.
const SOON: Duration = Duration::from_mins(1);

async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in cli::crds::documents().expect("YAML") {
        let definition: CustomResourceDefinition = serde_yaml::from_str(&document.yaml).expect("a definition");
        let name = definition.name_any();
        definitions
            .patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&definition))
            .await
            .expect("the API server takes the definition");
        wait_for("the definition to be served", SOON, async || {
            let conditions = definitions.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let structural = conditions.iter().find(|condition| condition.type_ == "NonStructuralSchema");
            assert!(structural.is_none(), "{structural:?}");
            let established = |condition: &&_| -> bool {
                let condition: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition = condition;
                condition.type_ == "Established" && condition.status == "True"
            };
            if conditions.iter().find(established).is_none() {
                return Ok(None);
            }
            // Established is said a moment before its first request is taken.
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("botsecret.dev", "v1alpha1", &definition.spec.names.kind));
            Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await?;
            Ok(Some(()))
        })
        .await
        .expect("established");
    }
}

#[tokio::test]
async fn the_api_server_agrees() {
    let cluster = Cluster::shared().await.expect("a cluster");
    let client = cluster.client().expect("a client");
    install(&client).await;
    let namespace = cluster.namespace("crds").await.expect("a namespace");
    for case in cases::all() {
        let kind = case.object["kind"].as_str().expect("kind");
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("botsecret.dev", "v1alpha1", kind));
        let objects: Api<DynamicObject> = if kind == "ClusterBotSecretStore" {
            Api::all_with(client.clone(), &resource)
        } else {
            Api::namespaced_with(client.clone(), &namespace, &resource)
        };
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let mut object: DynamicObject = serde_json::from_value(case.object.clone()).expect("an object");
        let outcome = if let Some(before) = &case.before {
            let before = serde_json::from_value(before.clone()).expect("an object");
            let there: DynamicObject = objects.create(&PostParams::default(), &before).await.expect(case.name);
            object.metadata.resource_version = there.metadata.resource_version;
            let outcome = objects.replace(&there.metadata.name.expect("a name"), &dry_run, &object).await;
            objects.delete(&object.name_any(), &kube::api::DeleteParams::default()).await.expect("deleted");
            outcome
        } else {
            objects.create(&dry_run, &object).await
        };
        match (case.verdict, outcome) {
            (Verdict::Accepted, Ok(_)) => {}
            (Verdict::Rule(fragment) | Verdict::Schema(fragment), Err(kube::Error::Api(status))) => {
                assert_eq!(status.code, 422, "{}: {status:?}", shown(&case));
                assert!(status.message.contains(fragment), "{}: {}", shown(&case), status.message);
            }
            (verdict, outcome) => panic!("{}: {verdict:?}, but {outcome:?}", shown(&case)),
        }
    }
}

#[tokio::test]
async fn kubectl_explains_every_kind_and_refuses_unknown_fields() {
    let cluster = Cluster::shared().await.expect("a cluster");
    install(&cluster.client().expect("a client")).await;
    let namespace = cluster.namespace("crds").await.expect("a namespace");
    let kubectl = Kubectl::of(cluster);
    let kubectl = async |arguments: &[&str], input: &str| {
        kubectl.attempt(&[&["--namespace", namespace.as_str()], arguments].concat(), input).await
    };
    let (_, text) = wait_for("kubectl to know the kinds", SOON, async || {
        let all = kubectl(&["get", "bsec,bstore,cbstore"], "").await.0;
        let outcome = kubectl(&["explain", "botsecret.spec.rollout.workloads"], "").await;
        Ok((all && outcome.0).then_some(outcome))
    })
    .await
    .expect("explained");
    assert!(text.contains("Auto (the default)"), "{text}");
    let unknown = cases::all()[0].object.to_string().replace("\"storeRef\"", "\"storeReff\": {}, \"storeRef\"");
    let (accepted, text) = kubectl(&["apply", "-f", "-"], &unknown).await;
    assert!(!accepted && text.contains("unknown field \"spec.storeReff\""), "{text}");
    let (accepted, text) = kubectl(&["apply", "--validate=warn", "-f", "-"], &unknown).await;
    assert!(accepted && text.contains("unknown field \"spec.storeReff\""), "{text}");
    let (_, text) = kubectl(&["get", "bsec,bstore,cbstore"], "").await;
    assert!(text.contains("price-bot") && text.contains("ROLLED-OUT"), "{text}");
}

#[tokio::test]
async fn p9_kstatus_finds_a_botsecret_in_progress_that_no_operator_has_seen() {
    let cluster = Cluster::shared().await.expect("a cluster");
    let client = cluster.client().expect("a client");
    install(&client).await;
    let namespace = cluster.namespace("crds").await.expect("a namespace");
    let kubectl = Kubectl::of(cluster);
    let manifest = cases::all()[0].object.to_string();
    let apply = ["--namespace", &namespace, "apply", "-f", "-"];
    // A definition that was changed a moment ago may be served as it was.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("botsecret.dev", "v1alpha1", "BotSecret"));
    let objects: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    wait_for("kubectl to make one", SOON, async || Ok(kubectl.attempt(&apply, &manifest).await.0.then_some(())))
        .await
        .expect("made");
    let object = wait_for("its status to be shown", SOON, async || {
        let list = objects.list(&ListParams::default()).await?;
        Ok(list.items.into_iter().find(|object| !object.data["status"].is_null()))
    })
    .await
    .expect("a status");
    assert_eq!(object.data["status"], json!({ "observedGeneration": -1 }));
    assert_eq!(object.metadata.generation, Some(1));
    // It is no difference from the manifest.
    let (_, said) = kubectl.attempt(&apply, &manifest).await;
    assert!(said.contains("unchanged"), "{said}");
}

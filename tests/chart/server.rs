//! What the API server says of it.

use botsecret_testbed::Cluster;
use serde_yaml::Value;

use crate::{
    helm::{chart, of_kind, render, try_render},
    kubectl::Kubectl,
};

pub fn text(objects: &[&Value]) -> String {
    let documents: Vec<_> = objects.iter().map(|object| serde_yaml::to_string(object).expect("YAML")).collect();
    documents.join("---\n")
}

pub async fn ensure_namespaces(kubectl: &Kubectl, names: &[&str]) {
    for name in names {
        let object = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        kubectl.run(&["apply", "--server-side", "-f", "-"], &object).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_every_way_to_set_it_up_is_taken_by_the_api_server() {
    let cluster = Cluster::shared().await.expect("a cluster");
    let kubectl = Kubectl::of(cluster);
    ensure_namespaces(&kubectl, &["botsecret-system", "trading", "billing"]).await;
    let ha = chart("botsecret").join("values-ha.yaml");
    let everything = [
        "operator.namespaces={trading,billing}",
        "operator.maxRollouts=20",
        "operator.storeAddresses={vault.example,*.amazonaws.com,10.1.0.0/16}",
        "operator.maxRolloutsPerNamespace=5",
        "operator.objectMetrics=0",
        "rbac.verify=true",
        "rbac.rollBack=true",
        "podDisruptionBudget.enabled=true",
        "pod.priorityClassName=system-cluster-critical",
        "commonLabels.team=platform",
        "commonAnnotations.note=kept",
    ];
    let everything: Vec<_> = everything.iter().flat_map(|setting| ["--set", setting]).collect();
    let nothing = [
        "crds.install=false",
        "networkPolicy.enabled=false",
        "admission.enabled=false",
        "metrics.service.enabled=false",
        "rbac.aggregate=false",
    ];
    let nothing: Vec<_> = nothing.iter().flat_map(|setting| ["--set", setting]).collect();
    for settings in [&[][..], &["-f", ha.to_str().expect("UTF-8")], &everything, &nothing] {
        let objects = render(settings);
        // One request for all: what refers to another is not checked in a dry run.
        let all: Vec<_> = objects.iter().collect();
        let said = kubectl
            .run(&["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"], &text(&all))
            .await;
        assert_eq!(said.lines().filter(|line| line.contains("serverside-applied")).count(), objects.len(), "{said}");
    }
    let crds = try_render("botsecret-crds", &[]).expect("the definitions");
    let crds: Vec<_> = of_kind(&crds, "CustomResourceDefinition").collect();
    kubectl.run(&["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"], &text(&crds)).await;
}

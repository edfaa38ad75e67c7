//! Memory beside a large cluster's workloads.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::{
    figures::Figures,
    progress::say,
    scene::{Scene, in_flight},
    sync::Stage,
};

/// What is put into a template so that a Deployment weighs 3.5 kB as JSON.
const VARIABLES: usize = 8;
const PORTION: usize = 2500;

/// Makes Deployments that have nothing to do with any BotSecret, each with a
/// Secret of its own, and measures the operator after a restart beside them.
pub async fn measure(scene: &Scene, mut stage: Stage<'_>, figures: &mut Figures) -> Result<()> {
    let count = scene.size.deployments;
    let namespace = scene.cluster.namespace("others").await?;
    // It would write a status for each, at 300 a second.
    scene.cluster.stop_controller_manager().await?;
    let api: Api<Deployment> = Api::namespaced(scene.client.clone(), &namespace);
    let (mut made, mut weight) = (0, 0);
    while made < count {
        say(&format!("creating Deployments: {made} of {count}"));
        let upto = (made + PORTION).min(count);
        let portion = (made..upto).map(deployment).collect::<Result<Vec<_>>>()?;
        let objects = in_flight(portion, async |object| Ok(api.create(&PostParams::default(), &object).await?)).await?;
        weight = objects.first().map_or(Ok(0), |object| serde_json::to_string(object).map(|text| text.len()))?;
        made = upto;
    }
    say(&format!("restarting the operator beside {count} Deployments of {weight} bytes each"));
    stage.start_again().await?;
    stage.until_quiet().await?;
    figures.rss_mb_beside_deployments = stage.operator.memory()?;
    figures.peak_rss_mb_beside_deployments = stage.operator.peak_memory()?;
    Ok(())
}

fn deployment(number: usize) -> Result<Deployment> {
    let name = format!("web-{number:05}");
    let labels = json!({ "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop", "team": "storefront" });
    let plain = (0..VARIABLES)
        .map(|at| json!({ "name": format!("SETTING_NUMBER_{at}"), "value": format!("value of setting {at}") }));
    let secret = json!({ "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": name, "key": "password" } } });
    let env: Vec<Value> = plain.chain([secret]).collect();
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "web",
                    "image": "registry.example/shop/web:1.2.3",
                    "env": env,
                    "ports": [{ "name": "http", "containerPort": 8080 }],
                    "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                    "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 5 },
                }] },
            },
        },
    }))?)
}

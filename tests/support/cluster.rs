//! The cluster of this test binary, with the CRDs installed.

use botsecret::api::definitions;
use botsecret_testbed::{Cluster, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use tokio::sync::OnceCell;

use super::{DEADLINE, Result};

/// The shared cluster, ready for BotSecrets.
pub async fn cluster() -> Result<&'static Cluster> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster)).await?;
    Ok(cluster)
}

/// Installs the CRDs and waits until they are served.
pub async fn install(cluster: &Cluster) -> Result {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client()?);
    for definition in definitions() {
        let name = definition.name_any();
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&definition)).await?;
        wait_for("the CRD to be served", DEADLINE, async || {
            let conditions = api.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let served =
                conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
            if !served {
                return Ok(None);
            }
            // Established is said a moment before its first request is taken.
            let kind = GroupVersionKind::gvk("botsecret.dev", "v1alpha1", &definition.spec.names.kind);
            let objects = Api::<DynamicObject>::all_with(cluster.client()?, &ApiResource::from_gvk(&kind));
            objects.list(&ListParams::default()).await?;
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

//! Values that are made here, in every manager.

use anyhow::bail;
use botsecret::api::BotSecret;
use botsecret_testbed::wait_for;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    support::{DEADLINE, Result},
    world::{Desk, STORES},
};

/// What rotates the secret "key" of every manager.
fn rotating(desk: &Desk, every: &str) -> Value {
    let data = STORES.map(|manager| desk.entry(&manager.to_uppercase(), manager, "key"));
    let generate = STORES.map(|manager| json!({ "secretKey": manager.to_uppercase(), "password": { "length": 24 } }));
    json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "all" },
        "spec": {
            "serviceAccountName": "bot", "refreshInterval": "1s", "data": data,
            "rotation": { "every": every, "generate": generate },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_each_manager_is_given_one_new_value_by_a_rotation_at_once() -> Result {
    let desk = Desk::new("written").await?;
    for manager in STORES {
        desk.put(manager, "key", "the first value").await?;
    }
    desk.allow_writes("key").await?;
    desk.apply(rotating(&desk, "8760h")).await?;
    desk.until_ready("all", "True").await?;
    let api: Api<BotSecret> = Api::namespaced(desk.client.clone(), &desk.namespace);
    let request = json!({ "id": "1", "reason": "a test" }).to_string();
    let request = json!({ "metadata": { "annotations": { "botsecret.dev/rotate": request } } });
    api.patch("all", &PatchParams::default(), &Patch::Merge(&request)).await?;
    wait_for("the rotation to end", DEADLINE, async || {
        let status = api.get("all").await?.status.unwrap_or_default();
        match status.emergency {
            Some(record) if record.phase == "RolledOut" => Ok(Some(())),
            told => {
                let rotated = status.conditions.into_iter().find(|one| one.type_ == "Rotated");
                bail!("{told:?} {:?}", rotated.map(|one| one.message))
            }
        }
    })
    .await?;
    let (data, _) = desk.data("all").await?.expect("a Secret");
    let lengths: Vec<_> = data.iter().map(|(_, value)| value.len()).collect();
    assert_eq!(lengths, [24; 4], "each is new");
    for manager in STORES {
        assert_eq!(desk.versions(manager, "key").await?, 2, "{manager}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_manager_that_refuses_the_new_value_holds_up_no_other() -> Result {
    let desk = Desk::new("refused").await?;
    for manager in STORES {
        desk.put(manager, "key", "the first value").await?;
    }
    desk.allow_writes("key").await?;
    // The first of them may not be written.
    desk.forbid_writes_in_aws().await?;
    desk.apply(rotating(&desk, "10s")).await?;
    for manager in ["gcp", "azure", "vault"] {
        wait_for(&format!("a new value in {manager}"), DEADLINE, async || {
            Ok((desk.versions(manager, "key").await? > 1).then_some(()))
        })
        .await?;
    }
    let api: Api<BotSecret> = Api::namespaced(desk.client.clone(), &desk.namespace);
    wait_for("the refusal to be told", DEADLINE, async || {
        let status = api.get("all").await?.status.unwrap_or_default();
        let rotated = status.conditions.into_iter().find(|one| one.type_ == "Rotated");
        let told = rotated.filter(|one| one.reason == "RotationRefused" && one.message.contains("PutSecretValue"));
        Ok(told.map(drop))
    })
    .await?;
    assert_eq!(desk.versions("aws", "key").await?, 1);
    // Once it is mended, its turn comes.
    desk.allow_writes("key").await?;
    wait_for("a new value in aws", DEADLINE, async || Ok((desk.versions("aws", "key").await? > 1).then_some(()))).await
}

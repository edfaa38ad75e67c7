//! Values that are made here, in every manager.

use anyhow::bail;
use botsecret::api::BotSecret;
use botsecret_testbed::wait_for;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    support::{DEADLINE, Result},
    world::Desk,
};

/// Google Cloud tells no age with a value, so that nothing is due there.
const STORES: [&str; 3] = ["aws", "azure", "vault"];

#[tokio::test(flavor = "multi_thread")]
async fn p3_each_manager_is_given_one_new_value_by_a_rotation_at_once() -> Result {
    let desk = Desk::new("written").await?;
    for manager in STORES {
        desk.put(manager, "key", "the first value").await?;
    }
    desk.allow_writes("key").await?;
    let keys = STORES.map(str::to_uppercase);
    let data = STORES.map(|manager| desk.entry(&manager.to_uppercase(), manager, "key"));
    let generate = keys.each_ref().map(|key| json!({ "secretKey": key, "password": { "length": 24 } }));
    desk.apply(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "all" },
        "spec": {
            "serviceAccountName": "bot", "refreshInterval": "1s", "data": data,
            "rotation": { "every": "8760h", "generate": generate },
        },
    }))
    .await?;
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
                let (log, asked) = (0, 0);
                let _ = (log, asked);
                let rotated = status.conditions.into_iter().find(|one| one.type_ == "Rotated");
                bail!("{told:?} {:?}", rotated.map(|one| one.message))
            }
        }
    })
    .await?;
    let (data, _) = desk.data("all").await?.expect("a Secret");
    let lengths: Vec<_> = data.iter().map(|(_, value)| value.len()).collect();
    assert_eq!(lengths, [24; 3], "each is new");
    for manager in STORES {
        assert_eq!(desk.versions(manager, "key").await?, 2, "{manager}");
    }
    Ok(())
}

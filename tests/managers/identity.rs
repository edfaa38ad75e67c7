//! P5: each manager gives a bot what its own ServiceAccount may read.

use crate::{
    support::Result,
    world::{Desk, STORES},
};

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_bot_reads_what_its_account_may_and_nothing_of_another_namespace() -> Result {
    let (one, other) = (Desk::new("desk-a").await?, Desk::new("desk-b").await?);
    for manager in STORES {
        one.put(manager, "own", &format!("what {manager} holds for the first desk")).await?;
        other.put(manager, "own", &format!("what {manager} holds for the second desk")).await?;
    }
    for manager in STORES {
        one.bot_secret(&format!("own-{manager}"), vec![one.entry("KEY", manager, "own")]).await?;
        // The first desk's identity, the second desk's secret.
        let mut entry = one.entry("KEY", manager, "own");
        entry["remoteRef"]["key"] = serde_json::json!(other.named("own"));
        one.bot_secret(&format!("others-{manager}"), vec![entry]).await?;
        // The second desk's role, which trusts another account.
        let mut store = one.managers.cluster_store(manager, &other.namespace, &one.namespace);
        store["metadata"]["name"] = serde_json::json!(format!("{manager}-stolen-{}", one.namespace));
        one.apply(store.clone()).await?;
        let mut entry = other.entry("KEY", manager, "own");
        entry["storeRef"]["name"] = store["metadata"]["name"].clone();
        one.bot_secret(&format!("stolen-{manager}"), vec![entry]).await?;
    }
    for manager in STORES {
        one.until_ready(&format!("own-{manager}"), "True").await?;
        let (reason, message) = one.until_ready(&format!("others-{manager}"), "False").await?;
        assert_eq!(reason, "AccessDenied", "{manager}: {message}");
        // A pool of Google's knows no roles: the principal itself is refused.
        let (reason, message) = one.until_ready(&format!("stolen-{manager}"), "False").await?;
        let wanted = if manager == "gcp" { "AccessDenied" } else { "LoginDenied" };
        assert_eq!(reason, wanted, "{manager}: {message}");
        for refused in ["others", "stolen"] {
            assert_eq!(one.data(&format!("{refused}-{manager}")).await?, None);
        }
    }
    Ok(())
}

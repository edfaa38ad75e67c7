//! Store, ServiceAccount or entry go while a lease lives.

use botsecret::api::BotSecretStore;
use botsecret_testbed::wait_for;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Resource, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, credential, records, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

async fn remove<K>(bench: &Bench, name: &str) -> Result
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(bench.client.clone(), &bench.namespace);
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Takes something away and puts it back, with and without a restart between.
async fn away(
    name: &str,
    jwt: bool,
    remove: impl AsyncFn(&Bench) -> Result,
    back: impl AsyncFn(&Bench, &Bank) -> Result,
) -> Result {
    let mut bench = Bench::new(name).await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "30s", ..Terms::default() }).await?;
    if jwt {
        bank.log_in_by_jwt(&bench, "30s").await?;
    }
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    for restart in [false, true] {
        remove(&bench).await?;
        bench.until_condition("db", "Ready", "False").await?;
        if restart {
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
        }
        assert_eq!(records(&bench, "db").await?, live, "restarted: {restart}");
        let made = counter(&bench, "lease_renewals").await?;
        back(&bench, &bank).await?;
        bench.until_condition("db", "Ready", "True").await?;
        wait_for("it to be renewed", DEADLINE, async || {
            Ok((counter(&bench, "lease_renewals").await? > made).then_some(()))
        })
        .await?;
        assert_eq!(until_credential(&bench, "db").await?, first, "restarted: {restart}");
    }
    assert_eq!((bank.issued()?, bank.leases().await?.len()), (1, 1));
    assert_eq!(records(&bench, "db").await?, live);
    Ok(())
}

#[tokio::test]
async fn p7_a_store_that_is_deleted_for_a_moment_costs_no_credential() -> Result {
    away(
        "store-away",
        false,
        async |bench| remove::<BotSecretStore>(bench, "vault").await,
        async |bench, bank| {
            let bao = &bank.servers.bao;
            bench.apply(bank.store(bao.url(), bao.ca_pem().unwrap())).await?;
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn p7_a_service_account_that_is_deleted_for_a_moment_costs_no_credential() -> Result {
    away(
        "account-away",
        true,
        async |bench| remove::<ServiceAccount>(bench, "bot").await,
        async |bench, _| bench.account("bot").await,
    )
    .await
}

/// OpenBao asks the API server about a login's ServiceAccount again at each
/// renewal, so a login by `kubernetes` does not outlive it.
#[tokio::test]
async fn p7_where_the_manager_itself_ends_logins_with_their_service_account_one_replacement_comes_in_time() -> Result {
    let bench = Bench::new("account-ended").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "30s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, _) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    remove::<ServiceAccount>(&bench, "bot").await?;
    bench.account("bot").await?;
    let (second, _) = until_replaced(&bench, "db", &first).await?;
    until_states(&bench, "db", &["Live"]).await?;
    let made = counter(&bench, "lease_renewals").await?;
    wait_for("the new one to be renewed", DEADLINE, async || {
        Ok((counter(&bench, "lease_renewals").await? > made).then_some(()))
    })
    .await?;
    assert_eq!((bank.issued()?, bank.users().await?), (2, vec![second]));
    Ok(())
}

/// A bare pod that holds what lies in `db` until it is deleted.
fn holder(bench: &Bench) -> Value {
    let bot = bench.bot("holder", "db", 1);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "holder" },
        "spec": bot["spec"]["template"]["spec"],
    })
}

#[tokio::test]
async fn p7_an_entry_that_moves_to_another_store_leaves_its_old_credential_to_the_pods_that_hold_it() -> Result {
    let mut bench = Bench::new("store-moved").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "8s", ..Terms::default() }).await?;
    let mut other = bank.store(bank.servers.bao.url(), bank.servers.bao.ca_pem().unwrap());
    other["metadata"]["name"] = json!("other");
    bench.apply(other).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.apply(holder(&bench)).await?;
    wait_for("the pod to run", DEADLINE, async || {
        Ok((bench.kubelet()?.processes().iter().any(|process| process.namespace == bench.namespace)).then_some(()))
    })
    .await?;
    let mut moved = bank.bot_secret("db");
    moved["spec"]["storeRef"]["name"] = json!("other");
    bench.apply(moved).await?;
    until_replaced(&bench, "db", &first).await?;
    let states = until_states(&bench, "db", &["Retiring", "Live"]).await?;
    for restart in [false, true] {
        if restart {
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
        }
        // Each of the two is renewed, login and at times lease, every four seconds.
        let made = counter(&bench, "lease_renewals").await?;
        wait_for("both to have outlived their logins", DEADLINE, async || {
            Ok((counter(&bench, "lease_renewals").await? >= made + 8).then_some(()))
        })
        .await?;
        assert!(bank.servers.postgres.accepts(&first, &password).await, "restarted: {restart}");
    }
    assert_eq!(states.len(), records(&bench, "db").await?.len());
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(bench.client.clone(), &bench.namespace);
    pods.delete("holder", &DeleteParams::default()).await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert!(!bank.servers.postgres.accepts(&first, &password).await);
    assert!(credential(&bench, "db").await?.is_some());
    assert_eq!(bank.issued()?, 2);
    Ok(())
}

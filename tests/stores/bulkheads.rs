//! P6 on a real OpenBao: what goes wrong for one identity, namespace or path
//! stays with it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use botsecret::{
    fetch::{ResolvedStore, ServiceAccount},
    stores::{ErrorClass, RemoteSecret, StoreError},
};
use botsecret_testbed::{ALWAYS, BaoClient, FaultKind, FaultProxy, OpenBao, Role};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::world::{Bot, Outcome, from, key, shared_bao};

const HOST: &str = "vault.example";

/// OpenBao behind a proxy that answers for it, or not.
async fn before(bao: &OpenBao) -> Result<FaultProxy, Box<dyn std::error::Error>> {
    let proxy = FaultProxy::start().await?;
    let address: SocketAddr = bao.url().trim_start_matches("https://").parse()?;
    proxy.route_tls(HOST, address, bao.ca_pem().unwrap_or_default())?;
    Ok(proxy)
}

fn behind(proxy: &FaultProxy, bot: &Bot, bao: &OpenBao, uid: &str, more: Value) -> ResolvedStore {
    let mut store = bot.vault(bao, &more);
    if let botsecret::api::Provider::Vault(vault) = &mut store.provider {
        vault.address = format!("https://{HOST}");
        vault.ca_bundle = Some(proxy.ca_pem().to_owned());
    }
    ResolvedStore { uid: format!("{uid}-{}", store.uid), proxy: Some(proxy.url()), ..store }
}

/// Another ServiceAccount beside the bot, which may log in as it does.
async fn another(bot: &Bot, root: &BaoClient, name: &str) -> Result<ServiceAccount, Box<dyn std::error::Error>> {
    let accounts: Api<core::ServiceAccount> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    let made = accounts.create(&PostParams::default(), &from(json!({"metadata": {"name": name}}))).await?;
    let role = Role {
        name: &bot.namespace,
        namespaces: &[&bot.namespace],
        service_accounts: &["bot", name],
        policies: &[&bot.namespace],
        audience: "vault",
        ttl: "20m",
    };
    root.kubernetes_role(&role).await?;
    let uid = made.metadata.uid.unwrap_or_default();
    Ok(ServiceAccount { name: name.to_owned(), uid, ..bot.account.clone() })
}

async fn read_as(
    bot: &Bot,
    store: &ResolvedStore,
    account: &ServiceAccount,
    name: &str,
) -> Result<Arc<RemoteSecret>, StoreError> {
    bot.fetcher.read(store, account, &[key(name)], tokio::time::Instant::now()).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_paths_that_never_answer_one_identity_hold_up_nobody_else_of_that_openbao() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("bulkhead").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "good", &json!({"key": "value"})).await?;
    let other = another(&bot, &root, "other").await?;
    let proxy = before(bao).await?;
    proxy.fault_on(HOST, "/data/hung-", FaultKind::NoAnswer, ALWAYS);
    let settings = || json!({"path": mount, "version": "v2"});
    // One store for both identities, and a second that goes the same way.
    let mut stores = ["one", "two"].map(|uid| behind(&proxy, &bot, bao, uid, settings()));
    for store in &mut stores {
        store.limits = from(json!({"timeout": "1s"}));
    }
    for store in &stores {
        read_as(&bot, store, &other, "good").await?;
    }
    let began = Instant::now();
    let hung = async {
        let mut timeouts = 0;
        while began.elapsed() < Duration::from_secs(12) {
            let keys: Vec<_> = (0..8).map(|number| key(&format!("hung-{number}"))).collect();
            let now = tokio::time::Instant::now();
            for answer in bot.fetcher.read(&stores[0], &bot.account, &keys, now).await {
                let error = answer.err().ok_or("it was answered")?;
                assert_eq!(error.class, ErrorClass::Timeout, "{error}");
                timeouts += 1;
            }
            // Refusals come at once; nobody asks again in the same instant.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, Box<dyn std::error::Error>>(timeouts)
    };
    let others = async {
        let (mut reads, mut slowest) = (0, Duration::ZERO);
        while began.elapsed() < Duration::from_secs(12) {
            // Seldom enough that the manager is silent in between.
            for store in &stores {
                let asked = Instant::now();
                read_as(&bot, store, &other, "good").await?;
                slowest = slowest.max(asked.elapsed());
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(1_700)).await;
        }
        Ok::<_, Box<dyn std::error::Error>>((reads, slowest))
    };
    let (timeouts, others) = tokio::join!(hung, others);
    let (timeouts, (reads, slowest)) = (timeouts?, others?);
    let sent = proxy.requests().iter().filter(|request| request.path.contains("/data/hung-")).count();
    println!(
        "{timeouts} reads timed out, {sent} of them sent; {reads} others were answered, the slowest in {slowest:?}"
    );
    assert!(timeouts >= 40 && sent >= 8, "{timeouts}, {sent}");
    assert!(sent < timeouts / 2, "the identity itself is left alone after a while: {sent} of {timeouts} sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_an_openbao_that_is_silent_is_left_alone_by_all_once_several_have_found_out() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("silent").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "good", &json!({"key": "value"})).await?;
    let proxy = before(bao).await?;
    let stores: Vec<_> = (0..20)
        .map(|number| {
            let uid = format!("store-{number}");
            let mut store = behind(&proxy, &bot, bao, &uid, json!({"path": mount, "version": "v2"}));
            store.limits = from(json!({"timeout": "1s"}));
            store
        })
        .collect();
    for store in &stores {
        bot.read(store, "good").await?;
    }
    let mark = proxy.mark();
    proxy.fault(HOST, FaultKind::NoAnswer, ALWAYS);
    let began = Instant::now();
    let mut refused = 0;
    while began.elapsed() < Duration::from_secs(6) {
        for answer in futures::future::join_all(stores.iter().map(|store| bot.read(store, "good"))).await {
            let error = answer.err().ok_or("nothing is answered")?;
            assert_eq!(error.class, ErrorClass::Timeout, "{error}");
            refused += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sent = proxy.since(mark).len();
    println!("{sent} requests for {refused} reads by 20 stores in {:?}", began.elapsed());
    // Each finds out once; then there is one probe at a time.
    assert!((3..=26).contains(&sent) && refused > 60, "{sent} of {refused}");
    proxy.clear(HOST);
    botsecret_testbed::wait_for("every store to be read again", Duration::from_secs(60), async || {
        let answers = stores.iter().map(|store| bot.read(store, "good"));
        Ok(futures::future::join_all(answers).await.iter().all(Result::is_ok).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_quota_of_one_vault_namespace_silences_no_other() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("quotas").await?);
    let (root, desk) = (bao.root()?, &bot.namespace);
    let proxy = before(bao).await?;
    bot.with_role(bao, &format!(r#"path "{desk}/*" {{ capabilities = ["read"] }}"#)).await?;
    // Else Vault says 429, and not for how long.
    root.write("sys/quotas/config", &json!({"enable_rate_limit_response_headers": true})).await?;
    root.enable_kv(desk, 2).await?;
    root.put_kv2(desk, "good", &json!({"key": "value"})).await?;
    let free = behind(&proxy, &bot, bao, "free", json!({"path": desk, "version": "v2"}));
    bot.read(&free, "good").await?;
    // A namespace that is granted one request a minute.
    let poor_name = format!("{desk}-poor");
    root.write(&format!("sys/namespaces/{poor_name}"), &json!({})).await?;
    let quota = json!({"path": format!("{poor_name}/"), "rate": 1, "interval": "60s"});
    root.write(&format!("sys/quotas/rate-limit/{desk}"), &quota).await?;
    let poor = behind(&proxy, &bot, bao, "poor", json!({"path": desk, "version": "v2", "namespace": poor_name}));
    let mut refused = None;
    for number in 0..5 {
        let error = bot.read(&poor, &format!("any-{number}")).await.expect_err("no such secret");
        if error.class == ErrorClass::Throttled {
            refused = Some(error);
            break;
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let refused = refused.expect("a second request within the minute");
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(5)), "{:?}", refused.retry_after);
    let mark = proxy.mark();
    let again = bot.read(&poor, "any").await.expect_err("it was asked to wait");
    assert_eq!(again.class, ErrorClass::Throttled);
    assert!(proxy.since(mark).is_empty(), "and waits");
    bot.read(&free, "good").await?;
    let mut cousin = free.clone();
    cousin.uid = "cousin".to_owned();
    bot.read(&cousin, "good").await?;
    assert!(proxy.since(mark).iter().all(|request| request.status == Some(200)));
    Ok(())
}

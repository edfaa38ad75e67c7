//! P2: idle costs nothing.

use std::{collections::BTreeMap, time::Duration};

use botsecret_testbed::{OpenBao, OpenBaoOptions, wait_for};
use futures::future::try_join_all;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::support::{Bench, DEADLINE, Result, Vault};

const ACCOUNTS: usize = 4;
/// Remote secrets that each account's BotSecrets share.
const REMOTE: usize = 10;
const OBJECTS: usize = 200;
const REFRESHES: usize = 12;
const INTERVAL: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn p2_two_hundred_idle_bot_secrets_cost_one_read_for_each_identity_and_remote_secret_and_nothing_else() -> Result
{
    let bench = Bench::new("p2").await?;
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: true }).await?;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|number| format!("bot-{number}")).collect();
    let names: Vec<_> = accounts.iter().map(String::as_str).collect();
    let vault = Vault::new(&bench, &bao, &names).await?;
    for account in &accounts {
        bench.account(account).await?;
    }
    for number in 0..REMOTE {
        let value = |key: &str| format!("the value of {key} in secret {number}");
        vault.put(&format!("shared-{number}"), &json!({ "A": value("A"), "B": value("B"), "C": value("C") })).await?;
    }
    // Each remote secret is used by several BotSecrets of each account, and
    // each BotSecret takes several keys of two of them.
    let objects = (0..OBJECTS).map(|number| {
        let (one, two) = (number / ACCOUNTS % REMOTE, (number / ACCOUNTS + 1) % REMOTE);
        let entry = |key: &str, remote: usize, property: &str| {
            json!({ "secretKey": key, "remoteRef": { "key": format!("shared-{remote}"), "property": property } })
        };
        let mut object = bench.bot_secret(&format!("idle-{number}"), "unused");
        object["spec"]["serviceAccountName"] = json!(accounts[number % ACCOUNTS]);
        object["spec"]["refreshInterval"] = json!("5s");
        object["spec"]["dataFrom"] = json!([{ "extract": { "key": format!("shared-{one}") } }]);
        object["spec"]["data"] = json!([entry("ONE", two, "A"), entry("TWO", two, "B")]);
        object
    });
    try_join_all(objects.map(|object| bench.apply(object))).await?;
    wait_for("all to be Ready", DEADLINE * 2, async || {
        let metrics = bench.operator.metrics().await?;
        Ok(metrics.contains(&format!("botsecret_objects{{ready=\"true\"}} {OBJECTS}")).then_some(()))
    })
    .await?;

    let (asked, read) = (bench.cluster.audit().mark().await?, bao.mark()?);
    let began = Timestamp::now();
    let pairs = ACCOUNTS * REMOTE;
    wait_for("a minute of refreshes", DEADLINE * 2, async || {
        Ok((bao.requests_since(&read)?.len() >= pairs * REFRESHES).then_some(()))
    })
    .await?;
    let took = Timestamp::now().duration_since(began);
    let ticks = usize::try_from(Duration::try_from(took)?.as_secs() / INTERVAL.as_secs())?;

    let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), &asked).await?;
    let watches = requests.iter().filter(|request| request.verb == "watch").count();
    let tokens = requests.iter().filter(|request| request.subresource == "token").count();
    let others: Vec<_> = requests
        .iter()
        .filter(|request| request.verb != "watch" && request.subresource != "token")
        .map(|request| format!("{} {}", request.verb, request.uri))
        .collect();
    let mut reads: BTreeMap<(String, String), Vec<Timestamp>> = BTreeMap::new();
    let mut rest = Vec::new();
    for request in bao.requests_since(&read)? {
        match &request.accessor {
            Some(accessor) if request.path.starts_with(&vault.read_path("")) => {
                reads.entry((accessor.clone(), request.path.clone())).or_default().push(request.time);
            }
            _ => rest.push(format!("{} {}", request.operation, request.path)),
        }
    }
    let total: usize = reads.values().map(Vec::len).sum();
    let logins = bao.requests()?.iter().filter(|request| request.is_login()).count();
    println!(
        "{OBJECTS} BotSecrets, {pairs} pairs of identity and remote secret, {took:#} at an interval of 5 s: \
         {} API requests beside {watches} watches and {tokens} TokenRequests; {total} reads of OpenBao in {REFRESHES} \
         refreshes ({} others), {logins} logins since the start for {ACCOUNTS} ServiceAccounts",
        others.len(),
        rest.len()
    );
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(tokens, 0, "a token of 10 minutes is not due within the first");
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(logins, ACCOUNTS);
    assert_eq!(reads.len(), pairs);
    for (pair, times) in &reads {
        let mut times = times.clone();
        times.sort();
        // One for each of its ticks: one more may have been late, and the last
        // may be under way.
        assert!(times.len() <= ticks + 2, "{pair:?}: {} reads in {ticks} intervals", times.len());
        assert!(times.len() >= REFRESHES / 2, "{pair:?}: {}", times.len());
        // A late one is no reason to leave out the next.
        for three in times.windows(3) {
            let gap = Duration::try_from(three[2].duration_since(three[0]))?;
            assert!(gap > INTERVAL, "{pair:?} was read three times within {gap:?}");
        }
    }
    Ok(())
}

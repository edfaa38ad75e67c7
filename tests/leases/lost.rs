//! The operator, or the manager, is away for longer than the leases are good for.

use std::time::{Duration, Instant};

use anyhow::ensure;
use botsecret::api::RotationPhase;
use botsecret_testbed::{ALWAYS, FaultKind, wait_for};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, until_states},
    rotating::holder,
    support::{Bench, DEADLINE, Result},
};

/// The keys of `both`, and of `one`, under which their users lie.
const USERS: [(&str, &str); 3] = [("one", "username"), ("both", "a_username"), ("both", "b_username")];

/// At no time, and at most once a day.
fn closed() -> Value {
    json!({
        "healthyFor": "1s", "minInterval": "24h",
        "window": [{ "kind": "Deny", "schedule": "* * * * *", "duration": "1h" }],
    })
}

async fn users(bench: &Bench) -> Result<Vec<Option<String>>> {
    let mut users = Vec::new();
    for (secret, key) in USERS {
        users.push(bench.value(secret, key).await?);
    }
    Ok(users)
}

/// Waits until each of them is another than before, and PostgreSQL has them all.
async fn until_others(bench: &Bench, bank: &Bank, before: &[Option<String>]) -> Result<Vec<Option<String>>> {
    wait_for("three other users", DEADLINE, async || {
        let users = users(bench).await?;
        let made = bank.users().await?;
        let is_there = |user: &Option<String>| user.as_ref().is_some_and(|user| made.contains(user));
        let others = users.iter().zip(before).all(|(now, before)| now != before && is_there(now));
        Ok(others.then_some(users))
    })
    .await
}

/// How many events say that the leases of these entries were lost.
async fn told(bench: &Bench, name: &str, entries: &str) -> Result<usize> {
    let lost = format!("what was issued for dataFrom entry {entries} ended before it was replaced");
    let is_it = |(reason, note): &&(String, String)| reason == "LeaseLost" && note.starts_with(&lost);
    Ok(bench.events(name).await?.iter().filter(is_it).count())
}

/// What does not end waits for the window.
async fn waits(bench: &Bench, revision: &str) -> Result {
    bench.until_value("plain", "REVISION", revision).await?;
    wait_for("the rotation of what does not end to wait", DEADLINE, async || {
        let status = bench.bot_secrets().get("plain").await?.status.unwrap_or_default();
        let waits = |phase, message: &str| phase == RotationPhase::Written && message.contains("rollout.window");
        Ok(status.rotation.is_some_and(|rotation| waits(rotation.phase, &rotation.message)).then_some(()))
    })
    .await?;
    ensure!(bench.rollouts("plain").await? == 1, "it rolled outside the window");
    Ok(())
}

/// Three leases, of two BotSecrets whose workloads may not roll, beside one that
/// has nothing that ends.
struct Scene {
    bench: Bench,
    bank: Bank,
    /// Who lies in the Secrets.
    now: Vec<Option<String>>,
}

impl Scene {
    async fn new(bench: Bench, bank: Bank) -> Result<Self> {
        bench.kubernetes_store("source").await?;
        bench.put_source("plain", &[("REVISION", "1")]).await?;
        let mut plain = bench.bot_secret("plain", "plain");
        let (mut one, mut both) = (bank.bot_secret("one"), bank.bot_secret("both"));
        let entry = both["spec"]["dataFrom"][0].clone();
        let prefixed = |prefix: &str| json!({ "dynamic": entry["dynamic"], "rewrite": [{ "prefix": prefix }] });
        both["spec"]["dataFrom"] = json!([prefixed("a_"), prefixed("b_")]);
        for object in [&mut plain, &mut one, &mut both] {
            object["spec"]["rollout"] = closed();
            bench.apply(object.clone()).await?;
        }
        let now = until_others(&bench, &bank, &[None, None, None]).await?;
        bench.apply(holder(&bench, "plain", "plain", "REVISION", 1)).await?;
        bench.apply(holder(&bench, "one", "one", "username", 1)).await?;
        bench.apply(holder(&bench, "both", "both", "a_username", 1)).await?;
        bench.until_all_hold("plain", 1, "1").await?;
        let scene = Self { bench, bank, now };
        scene.settled().await?;
        Ok(scene)
    }

    /// Each bot holds what lies in its Secret, and nothing else is left.
    async fn settled(&self) -> Result {
        for (app, user) in [("one", &self.now[0]), ("both", &self.now[1])] {
            self.bench.until_all_hold(app, 1, user.as_deref().unwrap_or_default()).await?;
        }
        until_states(&self.bench, "one", &["Live"]).await?;
        until_states(&self.bench, "both", &["Live"; 2]).await?;
        Ok(())
    }

    /// Changes what does not end as well, and waits until the outage has cost
    /// every lease.
    async fn until_lost(&self, round: usize) -> Result {
        self.bench.put_source("plain", &[("REVISION", &(round + 1).to_string())]).await?;
        wait_for("every user to end", DEADLINE, async || Ok(self.bank.users().await?.is_empty().then_some(()))).await
    }

    /// The outage of this round is over since then: each lease is replaced within
    /// this time, and each workload rolls, once.
    async fn replaced(&mut self, round: usize, began: Instant, within: Duration) -> Result {
        self.now = until_others(&self.bench, &self.bank, &self.now).await?;
        let replaced = began.elapsed();
        self.settled().await?;
        eprintln!(
            "{}, outage {round}: 3 of 3 lost leases replaced {:.1} s after its end, in their pods after {:.1} s",
            self.bank.name,
            replaced.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        assert!(replaced < within, "replaced after {replaced:?}");
        let bench = &self.bench;
        waits(bench, &(round + 1).to_string()).await?;
        // Renewed at half their lives, as nothing else is due.
        let made = counter(bench, "lease_renewals").await?;
        wait_for("each to be renewed", DEADLINE, async || {
            Ok((counter(bench, "lease_renewals").await? >= made + 3).then_some(()))
        })
        .await?;
        assert_eq!((self.bank.issued()?, self.bank.users().await?.len()), (3 + 3 * round, 3));
        assert_eq!((told(bench, "one", "1").await?, told(bench, "both", "1, 2").await?), (round, round));
        assert_eq!(counter(bench, "leases_lost").await?, 3);
        let rollouts = i64::try_from(round)? + 1;
        assert_eq!((bench.rollouts("one").await?, bench.rollouts("both").await?), (rollouts, rollouts));
        assert_eq!(users(bench).await?, self.now, "replaced once more");
        Ok(())
    }
}

#[tokio::test]
async fn p7_leases_that_end_while_the_operator_is_away_are_each_replaced_once_and_at_once_whatever_the_windows_say()
-> Result {
    let bench = Bench::new("lease-lost").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "15s", ..Terms::default() }).await?;
    let mut scene = Scene::new(bench, bank).await?;
    // Twice: by the second time each has rolled a moment ago.
    for round in 1..=2 {
        scene.bench.operator.kill().await?;
        scene.until_lost(round).await?;
        let began = Instant::now();
        scene.bench.operator.start_again().await?;
        scene.replaced(round, began, Duration::from_secs(10)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn p7_leases_that_end_while_the_manager_is_away_are_each_replaced_once_when_it_is_back() -> Result {
    let bench = Bench::new("lease-lost-manager").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "15s", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    let mut scene = Scene::new(bench, bank).await?;
    proxy.fault(&front, FaultKind::Reset, ALWAYS);
    scene.until_lost(1).await?;
    proxy.clear(&front);
    // What keeps others from a manager that is dead is over by then.
    scene.replaced(1, Instant::now(), Duration::from_secs(40)).await
}

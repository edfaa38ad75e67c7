//! Upgraded, taken back and rolled back, each time in the middle of a rotation.
//!
//! There is one version yet. The chart before is this one, packed under an earlier
//! version and installed with other settings; its image is this build under another
//! tag. So this is about what helm and Kubernetes do to the operator, its rights and
//! policies meanwhile. What two versions write and read differently is in
//! tests/rollouts/versions.rs and tests/leases/versions.rs.

use std::fs::write;

use anyhow::{Context as _, ensure};
use botsecret_testbed::{BaoMark, Cluster, ClusterOptions, OpenBao, OpenBaoOptions, Postgres, database_role};
use serde_json::json;

use crate::{
    bots::{Bots, NAME, deployment, gated},
    helm::chart,
    install::Site,
    operators::{Operators, Result},
};

const PREVIOUS: &str = "0.0.9";
const PRESENT: &str = env!("CARGO_PKG_VERSION");
/// What the earlier version is installed with: one replica, and other settings.
const SETTINGS: [&str; 6] =
    ["--set", "operator.maxRollouts=5", "--set", "operator.logLevel=debug", "--set", "rbac.aggregate=false"];
/// In the order in which they roll.
const APPS: [&str; 3] = ["bot-a", "bot-b", "bot-c"];

/// A database that issues users for far longer than the test takes, if somebody
/// looks after them.
struct Bank {
    bao: OpenBao,
    postgres: Postgres,
    mark: BaoMark,
}

impl Bank {
    async fn open(cluster: &Cluster) -> Result<Self> {
        let bao = OpenBao::start(cluster, OpenBaoOptions { tls: true }).await?;
        let postgres = Postgres::start().await?;
        bao.database(&postgres, "bank").await?;
        let root = bao.root()?;
        root.write("bank/roles/bot", &database_role("30m", "1h")).await?;
        let policy = r#"
            path "bank/creds/bot" { capabilities = ["read"] }
            path "auth/token/renew-accessor" { capabilities = ["update"] }
            path "auth/token/revoke-accessor" { capabilities = ["update"] }
        "#;
        root.policy("bank", policy).await?;
        let role = json!({
            "bound_service_account_namespaces": ["trading"],
            "bound_service_account_names": ["bot"],
            "audience": "vault",
            "token_policies": ["bank"],
            // The login that holds it ends soon after whoever renews it.
            "token_ttl": "1m",
            "token_max_ttl": "1h",
        });
        root.write("auth/kubernetes/role/bank", &role).await?;
        let mark = bao.mark()?;
        Ok(Self { bao, postgres, mark })
    }

    /// The BotSecret `db` with a user of it, and the bot `ledger` that uses it.
    async fn serve(&self, bots: &Bots<'_>) {
        bots.apply(&json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "vault" },
            "spec": { "vault": {
                "address": self.bao.url(), "caBundle": self.bao.ca_pem(),
                "auth": { "kubernetes": { "role": "bank" } },
            } },
        }))
        .await;
        bots.apply(&json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "db" },
            "spec": {
                "serviceAccountName": "bot", "storeRef": { "name": "vault" }, "refreshInterval": "1s",
                "dataFrom": [{ "dynamic": { "path": "bank/creds/bot" } }],
            },
        }))
        .await;
        bots.until_ready("db").await;
        bots.apply(&deployment("ledger", "db")).await;
    }

    /// How often a user was asked for.
    fn issues(&self) -> Result<usize> {
        let requests = self.bao.requests_since(&self.mark)?;
        Ok(requests.iter().filter(|request| request.path == "bank/creds/bot").count())
    }
}

/// How often a container of the bot `ledger` was ever started.
fn starts(cluster: &Cluster) -> Result<usize> {
    Ok(cluster.kubelet()?.history().iter().filter(|one| one.pod.starts_with("ledger-")).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_p7_upgraded_taken_back_and_rolled_back_amid_rotations_each_bot_rolls_once_a_rotation_and_keeps_its_lease()
-> Result {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let site = Site::of(&cluster);
    let (previous, present) = (site.chart_of(PREVIOUS), chart("botsecret"));
    let values = present.join("values-ha.yaml");
    let values = values.to_str().context("UTF-8")?;
    site.deploy("install", &previous, &SETTINGS);
    let operators = Operators::of(&cluster, &site)?;
    operators.until_ready(1, &site.image_of(PREVIOUS)).await?;

    let gate = tempfile::tempdir()?;
    write(gate.path().join("1"), "")?;
    let workloads = [deployment("bot-a", NAME), gated("bot-b", NAME, gate.path()), deployment("bot-c", NAME)];
    let bots = Bots::new(&cluster, &operators, &workloads).await?;
    let bank = Bank::open(&cluster).await?;
    bank.serve(&bots).await;
    bots.delivered(&APPS, "1", 0).await?;
    bots.until_all_hold(&["ledger"], "").await?;
    let before = bots.kept(&[NAME, "db"]).await?;

    // One replica becomes two with a budget, one again, and two.
    let upgrade = || site.deploy("upgrade", &present, &["-f", values]);
    let take_back = || site.deploy("upgrade", &previous, &SETTINGS);
    let roll_back = || {
        let (well, said) = site.helm(&["rollback", "botsecret", "2", "--wait", "--timeout", "120s"]);
        assert!(well, "{said}");
    };
    let turns: [(&dyn Fn(), usize, &str); 3] =
        [(&upgrade, 2, PRESENT), (&take_back, 1, PREVIOUS), (&roll_back, 2, PRESENT)];
    for (turn, (replace, replicas, version)) in turns.into_iter().enumerate() {
        let (old, new) = ((turn + 1).to_string(), (turn + 2).to_string());
        bots.rotate(&new).await?;
        bots.until_midway("bot-b", &old, &new).await?;
        replace();
        operators.until_ready(replicas, &site.image_of(version)).await?;
        // All of them were replaced while the second bot was in the middle of its rollout.
        let held = [bots.held("bot-a")?, bots.held("bot-b")?, bots.held("bot-c")?];
        let midway = [vec![new.clone()], vec![old.clone(), new.clone()], vec![old]];
        ensure!(held == midway, "the rotation did not stand still meanwhile: {held:?}");
        write(gate.path().join(&new), "")?;
        bots.delivered(&APPS, &new, turn + 1).await?;
        bots.expect_rollouts(&["ledger"], 0).await?;
    }
    let (_, history) = site.helm(&["history", "botsecret"]);
    ensure!(history.contains("Rollback to 2"), "{history}");
    let (well, said) = site.test();
    ensure!(well, "{said}");

    let after = bots.kept(&[NAME, "db"]).await?;
    ensure!(after[1] == before[1] && after[0].uids == before[0].uids, "they were made anew");
    let (user, password) = (after[1].text("username")?, after[1].text("password")?);
    ensure!(bank.postgres.accepts(&user, &password).await, "the credential was not renewed");
    site.uninstall();
    operators.until_gone(&cluster).await?;
    ensure!(bots.kept(&[NAME, "db"]).await? == after, "what is the bots' went with the operator");
    bots.until_all_hold(&APPS, "4").await?;
    ensure!(starts(&cluster)? == 1, "a bot was restarted for nothing");
    ensure!(bank.issues()? == 1, "{} credentials were issued for one", bank.issues()?);
    Ok(())
}

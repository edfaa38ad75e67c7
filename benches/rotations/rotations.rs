//! The operator's way.

use std::time::Duration;

use botsecret_testbed::{database_role, wait_for};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, servers, until_credential, until_replaced},
    bots::{Bots, Requests, SECRET},
    progress::say,
    support::{Bench, DEADLINE, Result},
};

/// What came of it.
pub struct Outcome {
    pub requests: Requests,
    pub kills: u32,
    /// Database users that were left after deletion.
    pub users_left: usize,
}

/// A sequence that depends on its seed alone (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Rotates so often; kills the operator in every fifth rotation.
pub async fn run(count: u32) -> Result<Outcome> {
    let notes = tempfile::tempdir()?;
    let mut bench = Bench::new("rotations").await?;
    let terms =
        Terms { token_ttl: "1h", token_max_ttl: "24h", lease_ttl: "1h", lease_max_ttl: "24h", ..Terms::default() };
    let bank = Bank::new(&bench, terms).await?;
    // Another path is another credential: so a rotation can be asked for.
    let mut role = database_role("1h", "24h");
    if let Some(statements) = role["creation_statements"].as_array_mut() {
        statements.push(json!(format!("COMMENT ON ROLE \"{{{{name}}}}\" IS '{}';", bank.name)));
    }
    bank.root.write(&format!("{}/roles/other", bank.name), &role).await?;
    let bot_secret = |number: u32| {
        let mut object = bank.bot_secret(SECRET);
        let path = if number.is_multiple_of(2) { "bot" } else { "other" };
        // What is measured is requests, not how long workloads are watched.
        object["spec"]["rollout"] = json!({ "healthyFor": "1s" });
        object["spec"]["dataFrom"][0]["dynamic"]["path"] = format!("{}/creds/{path}", bank.name).into();
        object
    };
    bench.apply(bot_secret(0)).await?;
    let (mut user, _) = until_credential(&bench, SECRET).await?;
    let port = servers().await?.postgres.port();
    deploy(&bench, port, notes.path(), &user).await?;
    let (mut random, mut kills) = (Random(1), 0);
    for number in 1..=count {
        if number % 4 == 1 {
            (Bots { bench: &bench, port, notes: notes.path() }).start_job(number).await?;
        }
        bench.apply(bot_secret(number)).await?;
        if number.is_multiple_of(5) {
            tokio::time::sleep(Duration::from_millis(random.below(3000))).await;
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
            kills += 1;
        }
        user = until_replaced(&bench, SECRET, &user).await?.0;
        (Bots { bench: &bench, port, notes: notes.path() }).until_all_hold(&user).await?;
        if number.is_multiple_of(10) || number == count {
            let Requests { all, failed } = Requests::read(notes.path())?;
            let users = bank.users().await?.len();
            say(&format!(
                "{number} rotations, {kills} kills: {all} requests, {failed} failed, {users} users in PostgreSQL"
            ));
        }
    }
    let users_left = clean_up(&bench, &bank).await?;
    Ok(Outcome { requests: Requests::read(notes.path())?, kills, users_left })
}

async fn deploy(bench: &Bench, port: u16, notes: &std::path::Path, user: &str) -> Result {
    let bots = Bots { bench, port, notes };
    bots.deploy(1).await?;
    bots.until_all_hold(user).await?;
    say("every bot runs");
    Ok(())
}

/// Deletes the bots, then the BotSecret; answers how many users are left.
async fn clean_up(bench: &Bench, bank: &Bank) -> Result<usize> {
    let background = DeleteParams::background();
    bench.deployments().delete_collection(&background, &ListParams::default()).await?;
    let sets: kube::Api<k8s_openapi::api::apps::v1::StatefulSet> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    sets.delete("ledger", &background).await?;
    let jobs: kube::Api<k8s_openapi::api::batch::v1::Job> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    jobs.delete_collection(&background, &ListParams::default()).await?;
    wait_for("every bot to end", DEADLINE, async || {
        let processes = bench.kubelet()?.processes();
        Ok((!processes.iter().any(|process| process.namespace == bench.namespace)).then_some(()))
    })
    .await?;
    bench.bot_secrets().delete(SECRET, &DeleteParams::default()).await?;
    wait_for("the BotSecret to be gone", DEADLINE, async || {
        Ok(bench.bot_secrets().get_opt(SECRET).await?.is_none().then_some(()))
    })
    .await?;
    Ok(bank.users().await?.len())
}

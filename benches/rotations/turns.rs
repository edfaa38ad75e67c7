//! Two static users that take turns: the engine changes each one's password once
//! a period, and the old one is dead at once.

use std::time::Duration;

use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    bank::{Bank, Terms, servers, until_credential, until_replaced},
    bots::{Bots, Requests, SECRET},
    progress::say,
    rotations::Random,
    support::{Bench, DEADLINE, Result},
};

const PERIOD: u64 = 60;

/// What came of it.
pub struct Outcome {
    pub requests: Requests,
    pub kills: u32,
}

/// Waits for so many turns; kills the operator in every fifth.
pub async fn run(count: u32) -> Result<Outcome> {
    let notes = tempfile::tempdir()?;
    let mut bench = Bench::new("turns").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    static_role(&bank, "a").await?;
    wait_for("half a period", DEADLINE, async || {
        let (_, answer) = bank.root.request("GET", &format!("{}/static-creds/a", bank.name), None).await?;
        Ok(answer["data"]["ttl"].as_u64().is_some_and(|left| left <= PERIOD / 2).then_some(()))
    })
    .await?;
    static_role(&bank, "b").await?;
    let mut object = bank.bot_secret(SECRET);
    let path = |name| format!("{}/static-creds/{name}", bank.name);
    object["spec"]["rollout"] = json!({ "healthyFor": "1s" });
    object["spec"]["dataFrom"][0]["dynamic"] = json!({ "path": path("a"), "alternate": path("b") });
    bench.apply(object).await?;
    let (mut user, _) = until_credential(&bench, SECRET).await?;
    let port = servers().await?.postgres.port();
    // What keeps an old password for ever cannot work once that is changed.
    let bots = Bots { bench: &bench, port, notes: notes.path() };
    bots.deploy(0).await?;
    bots.until_all_hold(&user).await?;
    let (mut random, mut kills) = (Random(2), 0);
    for number in 1..=count {
        if number.is_multiple_of(5) {
            tokio::time::sleep(Duration::from_millis(random.below(20_000))).await;
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
            kills += 1;
        }
        user = until_replaced(&bench, SECRET, &user).await?.0;
        (Bots { bench: &bench, port, notes: notes.path() }).until_all_hold(&user).await?;
        if number.is_multiple_of(10) || number == count {
            let Requests { all, failed } = Requests::read(notes.path())?;
            say(&format!("{number} turns of static users, {kills} kills: {all} requests, {failed} failed"));
        }
    }
    Ok(Outcome { requests: Requests::read(notes.path())?, kills })
}

/// A user whose password the engine changes once a period, from now on.
async fn static_role(bank: &Bank, name: &str) -> Result {
    let user = format!("{name}-{}", bank.name);
    bank.servers.postgres.sql(&format!("CREATE ROLE \"{user}\" WITH LOGIN PASSWORD 'first'")).await?;
    let role = json!({
        "db_name": "postgres", "username": user, "rotation_period": format!("{PERIOD}s"),
        "rotation_statements": ["ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}';"],
    });
    bank.root.write(&format!("{}/static-roles/{name}", bank.name), &role).await.map(drop)
}

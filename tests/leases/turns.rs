//! Static users, whose old password dies at once, take turns.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use anyhow::ensure;
use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    bank::{Bank, Terms, credential},
    support::{Bench, DEADLINE, Result},
};

const PERIOD: Duration = Duration::from_secs(40);

/// A user whose password the engine changes once a period, from now on.
async fn static_role(bank: &Bank, name: &str) -> Result<String> {
    let user = format!("{name}-{}", bank.name);
    bank.servers.postgres.sql(&format!("CREATE ROLE \"{user}\" WITH LOGIN PASSWORD 'first'")).await?;
    let role = json!({
        "db_name": "postgres", "username": user, "rotation_period": format!("{}s", PERIOD.as_secs()),
        "rotation_statements": ["ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}';"],
    });
    bank.root.write(&format!("{}/static-roles/{name}", bank.name), &role).await?;
    Ok(user)
}

/// What the engine says of how long this one's password is good for.
async fn left(bank: &Bank, name: &str) -> Result<u64> {
    let (_, answer) = bank.root.request("GET", &format!("{}/static-creds/{name}", bank.name), None).await?;
    Ok(answer["data"]["ttl"].as_u64().unwrap_or_default())
}

#[tokio::test]
async fn p7_of_two_static_users_no_bot_holds_the_one_whose_password_is_being_changed() -> Result {
    let bench = Bench::new("turns").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    static_role(&bank, "a").await?;
    wait_for("half a period", DEADLINE, async || Ok((left(&bank, "a").await? <= PERIOD.as_secs() / 2).then_some(())))
        .await?;
    static_role(&bank, "b").await?;
    let mut object = bank.bot_secret("db");
    let path = |name| format!("{}/static-creds/{name}", bank.name);
    object["spec"]["refreshInterval"] = json!("0");
    object["spec"]["rollout"] = json!({ "healthyFor": "1s" });
    object["spec"]["dataFrom"][0]["dynamic"] = json!({ "path": path("a"), "alternate": path("b") });
    bench.apply(object).await?;
    bench.until_condition("db", "Ready", "True").await?;
    let mut bot = bench.bot("db", "db", 2);
    bot["spec"]["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", "trap 'exit 0' TERM; echo holds=$username; while :; do sleep 0.1; done"]);
    bench.apply(bot).await?;
    let (first, password) = credential(&bench, "db").await?.expect("a credential");
    bench.until_all_hold("db", 2, &first).await?;
    ensure!(first.starts_with("b-"), "b's is good for longer: {first}");
    // The password of each user, as the bots that hold it were given it.
    let passwords = RefCell::new(BTreeMap::from([(first.clone(), password)]));
    let (turns, current, refused) = (Cell::new(0), RefCell::new(first), RefCell::new(Vec::new()));
    wait_for("three turns", 4 * PERIOD, async || {
        let (user, password) = credential(&bench, "db").await?.expect("a credential");
        if *current.borrow() != user {
            turns.set(turns.get() + 1);
            current.replace(user.clone());
        }
        passwords.borrow_mut().insert(user, password);
        for user in bench.holdings("db")? {
            let password = passwords.borrow().get(&user).cloned().expect("a user that was in the Secret");
            let works = bank.servers.postgres.accepts(&user, &password).await;
            // It may have gone while it was asked.
            if !works && bench.holdings("db")?.contains(&user) {
                refused.borrow_mut().push(user);
            }
        }
        Ok((turns.get() >= 3).then_some(()))
    })
    .await?;
    ensure!(refused.borrow().is_empty(), "bots held users that PostgreSQL refused: {:?}", refused.borrow());
    let rollouts = bench.rollouts("db").await?;
    ensure!((3..=4).contains(&rollouts), "one rollout a turn: {rollouts}");
    Ok(())
}

#[tokio::test]
async fn p7_what_is_leased_takes_no_turns_and_leaves_nothing_behind() -> Result {
    let bench = Bench::new("turns-leased").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    static_role(&bank, "a").await?;
    let mut object = bank.bot_secret("db");
    let path = |name| format!("{}/{name}", bank.name);
    object["spec"]["dataFrom"][0]["dynamic"] =
        json!({ "path": path("static-creds/a"), "alternate": path("creds/bot") });
    bench.apply(object).await?;
    let (_, message) = bench.until_condition("db", "Ready", "False").await?;
    ensure!(message.contains("take alternate out"), "{message}");
    bank.until_leases(0).await?;
    ensure!(bank.users().await?.is_empty());
    Ok(())
}

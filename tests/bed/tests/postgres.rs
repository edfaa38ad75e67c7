//! PostgreSQL behind OpenBao's database engine: users come and go with leases.

use std::time::Duration;

use anyhow::{Context, Result};
use botsecret_testbed::{Cluster, OpenBao, OpenBaoOptions, Postgres, wait_for};
use serde_json::json;

#[tokio::test]
async fn a_database_engine_makes_users_that_can_log_in_and_revoking_drops_them() -> Result<()> {
    let postgres = Postgres::start().await?;
    let bao = OpenBao::start(Cluster::shared().await?, OpenBaoOptions::default()).await?;
    let root = bao.root()?;
    bao.database(&postgres, "database").await?;
    root.write("database/roles/bot", &botsecret_testbed::database_role("60s", "120s")).await?;
    let issued = root.read("database/creds/bot").await?["data"].take();
    let (user, password) =
        (issued["username"].as_str().context("a user")?, issued["password"].as_str().context("a password")?);
    assert_eq!(postgres.users().await?, [user]);
    assert!(postgres.accepts(user, password).await);
    assert!(!postgres.accepts(user, "another").await, "the password is not asked for");
    root.write("sys/leases/revoke-prefix/database/creds/bot", &json!({})).await?;
    wait_for("the user to be dropped", Duration::from_secs(20), async || {
        Ok(postgres.users().await?.is_empty().then_some(()))
    })
    .await?;
    assert!(!postgres.accepts(user, password).await);
    Ok(())
}

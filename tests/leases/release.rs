//! Revocations that the manager refuses are not taken for done.

use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, delete, until_credential, until_states},
    support::{Bench, DEADLINE, Result},
};

#[tokio::test]
async fn p7_a_policy_that_forbids_revoking_is_not_taken_for_a_credential_that_is_gone() -> Result {
    let bench = Bench::new("lease-forbidden").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bank.without_default_rights(&bench, &[]).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (user, password) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    delete(&bench, "db", DEADLINE).await?;
    assert_eq!(counter(&bench, "lease_revocations").await?, 0, "nothing was revoked");
    assert_eq!(counter(&bench, "leases_left_to_end").await?, 1);
    wait_for("it to end with its login", DEADLINE, async || {
        Ok((!bank.servers.postgres.accepts(&user, &password).await).then_some(()))
    })
    .await?;
    bank.until_leases(0).await
}

#[tokio::test]
async fn p7_a_login_that_may_not_end_itself_is_ended_by_another_that_may() -> Result {
    let bench = Bench::new("lease-by-other").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bank.without_default_rights(&bench, &["auth/token/revoke-accessor"]).await?;
    for name in ["held", "gone"] {
        bench.apply(bank.bot_secret(name)).await?;
        until_credential(&bench, name).await?;
    }
    until_states(&bench, "held", &["Live"]).await?;
    let gone = until_states(&bench, "gone", &["Live"]).await?;
    delete(&bench, "held", DEADLINE).await?;
    assert_eq!(counter(&bench, "lease_revocations").await?, 1);
    bank.until_leases(1).await?;
    // One that somebody ended: refused in the same words, and known to be gone.
    bank.root.write("auth/token/revoke-accessor", &json!({ "accessor": gone[0].accessor })).await?;
    delete(&bench, "gone", DEADLINE).await?;
    assert_eq!(counter(&bench, "leases_left_to_end").await?, 0);
    bank.until_leases(0).await
}

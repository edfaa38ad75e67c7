//! The operator is killed inside an issue: at each point the next one counts
//! what was begun, ends it, and issues once more; or goes on with it where the
//! Secret holds it already.

use crate::{
    bank::{Bank, Terms, counter, delete, until_credential, until_states},
    support::{Bench, DEADLINE, Fault, Proxy, Result},
};

/// Where the operator is killed, and what is left of the issue.
struct Kill {
    bench: &'static str,
    method: &'static str,
    path_end: &'static str,
    fault: Fault,
    /// Whether the credential was issued before the kill.
    begun: bool,
    /// Whether its values had reached the Secret.
    kept: bool,
}

async fn killed_at(kill: Kill) -> Result {
    let (mut bench, proxy): (Bench, Proxy) = Bench::behind_proxy(kill.bench).await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10m", ..Terms::default() }).await?;
    // The first that is written of it is then what an issue writes.
    let mut suspended = bank.bot_secret("db");
    suspended["spec"]["suspend"] = serde_json::json!(true);
    bench.apply(suspended).await?;
    bench.until_condition("db", "Ready", "False").await?;
    let path_end = kill.path_end.replace("NAMESPACE", &bench.namespace);
    let trap = proxy.next(kill.method, &path_end, kill.fault);
    bench.apply(bank.bot_secret("db")).await?;
    trap.caught().await?;
    bench.operator.kill().await?;
    let before = until_states(&bench, "db", &["Issuing"]).await?;
    assert_eq!(bank.issued()?, usize::from(kill.begun), "what was issued before the kill");
    bench.operator.start_again().await?;
    let (user, password) = until_credential(&bench, "db").await?;
    let after = until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(after[0].accessor == before[0].accessor, kill.kept);
    assert_eq!(bank.issued()?, if kill.begun && !kill.kept { 2 } else { 1 }, "one, and what was cut off");
    assert_eq!(counter(&bench, "lease_revocations").await?, u64::from(!kill.kept), "the one that was cut off");
    assert_eq!(bank.leases().await?, [after[0].lease.rsplit('/').next().unwrap_or_default()]);
    assert_eq!(bank.users().await?, [user.as_str()], "users of PostgreSQL");
    if !kill.kept {
        // Whoever revoked the login that was cut off is gone too.
        bank.until_logins(&[&after[0].accessor]).await?;
    }
    delete(&bench, "db", DEADLINE).await?;
    bank.until_logins(&[]).await?;
    assert!(!bank.servers.postgres.accepts(&user, &password).await);
    Ok(())
}

#[tokio::test]
async fn p7_killed_with_nothing_but_the_login_on_record_it_ends_that_and_issues_once() -> Result {
    killed_at(Kill {
        bench: "kill-login",
        method: "PATCH",
        path_end: "/botsecrets/db/status",
        fault: Fault::HoldReply,
        begun: false,
        kept: false,
    })
    .await
}

#[tokio::test]
async fn p7_killed_between_the_managers_answer_and_the_secret_it_revokes_and_issues_once_more() -> Result {
    killed_at(Kill {
        bench: "kill-answer",
        method: "POST",
        path_end: "/NAMESPACE/secrets",
        fault: Fault::HoldRequest,
        begun: true,
        kept: false,
    })
    .await
}

#[tokio::test]
async fn p7_killed_between_the_secret_and_the_record_it_goes_on_with_what_the_secret_holds() -> Result {
    killed_at(Kill {
        bench: "kill-secret",
        method: "POST",
        path_end: "/NAMESPACE/secrets",
        fault: Fault::HoldReply,
        begun: true,
        kept: true,
    })
    .await
}

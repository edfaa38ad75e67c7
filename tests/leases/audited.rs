//! The audit log of what was issued, and of what was needed to end it.

use std::time::Duration;

use serde_json::Value;

use crate::{
    bank::{Bank, Terms, delete, until_credential, until_states},
    support::{Bench, Result},
};

#[tokio::test]
async fn p4_each_login_for_a_lease_and_its_end_have_a_line_in_the_audit_log() -> Result {
    let mut bench = Bench::new("lease-audit").await?;
    let path = bench.folder().join("audit.jsonl");
    bench.operator.restart_with(&["--audit-log", &path.display().to_string()]).await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10m", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    // One that has nothing but the accessor needs another login to end it.
    assert_eq!(bench.operator.terminate().await?, Some(0));
    bench.operator.start_again().await?;
    delete(&bench, "db", Duration::from_secs(20)).await?;
    bank.until_logins(&[]).await?;
    assert_eq!(bench.operator.terminate().await?, Some(0));
    let text = std::fs::read_to_string(&path)?;
    let lines = text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    let told = |event: &str| {
        let is_told = |line: &&Value| line["event"] == event && line["request"] == "own" && line["outcome"] == "ok";
        lines.iter().filter(is_told).count()
    };
    assert_eq!((told("login"), told("issue"), told("revoke")), (2, 1, 2), "{lines:#?}");
    Ok(())
}

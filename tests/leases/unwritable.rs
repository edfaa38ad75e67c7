//! Credentials that could not come into the Secret: none is issued where that
//! shows beforehand, and otherwise none is left behind.

use botsecret_testbed::wait_for;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, records, until_credential, until_states},
    support::{Bench, DEADLINE, Result},
};

const RESTARTS: usize = 5;

async fn restart(bench: &mut Bench) -> Result {
    bench.operator.kill().await?;
    bench.operator.start_again().await
}

/// Waits until this operator has looked at it, and failed.
async fn until_refreshed(bench: &Bench, mark: &str) -> Result {
    let patch = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": mark } } });
    bench.bot_secrets().patch("db", &PatchParams::default(), &Patch::Merge(patch)).await?;
    wait_for("the refresh to be done", DEADLINE, async || {
        let status = bench.bot_secrets().get("db").await?.status.unwrap_or_default();
        Ok((status.last_handled_refresh.as_deref() == Some(mark)).then_some(()))
    })
    .await
}

fn with(bank: &Bank, change: Value) -> Value {
    let mut object = bank.bot_secret("db");
    for (name, value) in change.as_object().into_iter().flatten() {
        object["spec"][name] = value.clone();
    }
    object
}

#[tokio::test]
async fn p7_what_shows_before_the_issue_that_nothing_can_be_written_issues_nothing_through_restarts() -> Result {
    let mut bench = Bench::new("lease-foreseen").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    for (name, immutable) in [("foreign", false), ("immutable", true)] {
        bench
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
                "stringData": { "own": "kept" }, "immutable": immutable,
            }))
            .await?;
    }
    let issued = json!({ "dynamic": { "path": format!("{}/creds/bot", bank.name) } });
    let cases = [
        (json!({ "target": { "template": { "data": { "URL": "{{ username" } } } }), "InvalidData"),
        (json!({ "dataFrom": [issued, issued] }), "InvalidData"),
        (json!({ "target": { "name": "nosuch", "creationPolicy": "Merge" } }), "TargetMissing"),
        (json!({ "target": { "name": "foreign" } }), "TargetForeign"),
        (json!({ "target": { "name": "immutable", "creationPolicy": "Merge" } }), "TargetInvalid"),
    ];
    for (number, (change, reason)) in cases.into_iter().enumerate() {
        bench.apply(with(&bank, change)).await?;
        bench.until_failing("db", reason).await?;
        restart(&mut bench).await?;
        until_refreshed(&bench, &number.to_string()).await?;
        bench.until_failing("db", reason).await?;
        assert_eq!(bank.issued()?, 0, "{reason}");
        assert_eq!(records(&bench, "db").await?, [], "{reason}");
    }
    let object = bench.bot_secrets().get("db").await?;
    assert!(object.metadata.finalizers.unwrap_or_default().is_empty());
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(bank.issued()?, 1);
    Ok(())
}

/// What a template makes of a value shows only afterwards.
#[tokio::test]
async fn p7_records_of_credentials_that_could_not_be_written_do_not_pile_up_over_restarts() -> Result {
    let mut bench = Bench::new("lease-unwritten").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let template = json!({ "target": { "template": { "data": { "URL": "{{ nosuchkey }}" } } } });
    bench.apply(with(&bank, template)).await?;
    bench.until_failing("db", "InvalidData").await?;
    for number in 0..RESTARTS {
        restart(&mut bench).await?;
        until_refreshed(&bench, &number.to_string()).await?;
        let records = records(&bench, "db").await?;
        assert!(records.len() <= 1, "{records:?}");
        bank.until_leases(records.len()).await?;
    }
    assert_eq!(bank.issued()?, 1 + RESTARTS, "one a start");
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(bank.issued()?, 1 + RESTARTS, "the last one was still there to be written");
    bank.until_leases(1).await
}

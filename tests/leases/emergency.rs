//! A leased credential that is to be replaced now, and the old one to die.

use anyhow::ensure;
use botsecret_testbed::wait_for;
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, until_credential, until_replaced, until_states},
    rotating::holder,
    support::{
        Bench, DEADLINE, Fault, Result,
        rotate::{Person, emergency, told, until_emergency},
    },
};

const LONG: Terms = Terms {
    token_ttl: "10m",
    token_max_ttl: "1h",
    lease_ttl: "10m",
    lease_max_ttl: "1h",
    by_accessor: true,
    revokes: false,
};

/// A pod that nobody rolls: it holds what it began with.
fn bare(bench: &Bench) -> Value {
    let mut spec = holder(bench, "job", "db", "username", 1)["spec"]["template"]["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "job-1" }, "spec": spec })
}

async fn until_gone(bank: &Bank, (user, password): &(String, String)) -> Result {
    wait_for("the old user to be refused", DEADLINE, async || {
        Ok((!bank.servers.postgres.accepts(user, password).await).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_revoke_ends_the_old_user_under_its_pods_and_each_request_issues_exactly_one() -> Result {
    let mut bench = Bench::new("rotate-revoke").await?;
    let bank = Bank::new(&bench, LONG).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.apply(bare(&bench)).await?;
    bench.apply(holder(&bench, "bot", "db", "username", 1)).await?;
    for app in ["job", "bot"] {
        bench.until_all_hold(app, 1, &first.0).await?;
    }
    {
        let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
        let said = ann.rotated(&["db", "--now", "--reason", "it lay in a log", "--revoke", "--wait"]).await?;
        assert_eq!((&said["status"]["phase"], &said["status"]["revocation"]), (&json!("RolledOut"), &json!("Revoked")));
        assert_eq!(
            (&said["by"], &said["status"]["by"]),
            (&json!(ann.name), &json!(ann.name)),
            "as the API server knows her"
        );
    }
    let second = until_replaced(&bench, "db", &first.0).await?;
    ensure!(!bank.servers.postgres.accepts(&first.0, &first.1).await, "the old user lives");
    ensure!(bank.servers.postgres.accepts(&second.0, &second.1).await, "the new one does not work");
    assert_eq!(bench.holdings("job")?, [first.0.as_str()], "a pod runs on the old one still");
    bench.until_all_hold("bot", 1, &second.0).await?;
    assert_eq!((bank.issued()?, bank.users().await?), (2, vec![second.0.clone()]));
    until_states(&bench, "db", &["Live"]).await?;
    let note = told(&bench, "db", "RotationRequested").await?;
    ensure!(note.len() == 1 && note[0].contains("it lay in a log") && note[0].contains("ann:"), "{note:?}");
    assert_eq!(counter(&bench, "emergency_rotations").await?, 1);
    let record = emergency(&bench, "db").await?;

    // Another process finds it handled.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    wait_for("the credential to be taken over", DEADLINE, async || {
        Ok((counter(&bench, "lease_renewals").await? >= 1).then_some(()))
    })
    .await?;
    assert_eq!((bank.issued()?, counter(&bench, "emergency_rotations").await?), (2, 0));
    assert_eq!(emergency(&bench, "db").await?, record);

    // The next request is another, and lets pods keep the old one.
    {
        let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
        ann.rotated(&["db", "--now", "--reason", "once more", "--wait"]).await?;
    }
    let third = until_replaced(&bench, "db", &second.0).await?;
    assert_eq!(bank.issued()?, 3);
    ensure!(bank.servers.postgres.accepts(&third.0, &third.1).await, "the newest does not work");
    bench.until_all_hold("bot", 1, &third.0).await?;
    // Of the pod that nobody rolls it is only known that it began before.
    until_states(&bench, "db", &["Retiring", "Live"]).await?;
    ensure!(bank.servers.postgres.accepts(&second.0, &second.1).await, "it was taken from a pod that may hold it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_revoke_the_old_user_lives_as_long_as_its_pods() -> Result {
    let bench = Bench::new("rotate-keep").await?;
    let bank = Bank::new(&bench, LONG).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.apply(bare(&bench)).await?;
    bench.until_all_hold("job", 1, &first.0).await?;
    let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
    ann.rotated(&["db", "--now", "--reason", "somebody left", "--wait"]).await?;
    until_replaced(&bench, "db", &first.0).await?;
    until_states(&bench, "db", &["Retiring", "Live"]).await?;
    ensure!(bank.servers.postgres.accepts(&first.0, &first.1).await, "it was taken from a pod that holds it");
    // Asked for again with --revoke it goes, though it retired before.
    ann.rotated(&["db", "--now", "--reason", "it was used", "--revoke", "--wait"]).await?;
    ensure!(!bank.servers.postgres.accepts(&first.0, &first.1).await, "it lives");
    assert_eq!((bank.issued()?, bank.users().await?.len()), (3, 1));
    assert_eq!(bench.holdings("job")?, [first.0.as_str()]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_new_credential_can_be_had_revoke_ends_the_old_one_all_the_same_and_says_so() -> Result {
    let bench = Bench::new("rotate-vain").await?;
    let bank = Bank::new(&bench, LONG).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    let rights = format!(r#"path "{}/*" {{ capabilities = ["read", "update"] }}"#, bank.name);
    let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;

    // Without --revoke it stays, however long there is no other.
    bank.root.policy(&bank.name, r#"path "sys/health" { capabilities = ["read"] }"#).await?;
    ann.rotated(&["db", "--now", "--reason", "a test"]).await?;
    let message = wait_for("the refusal to be told", DEADLINE, async || {
        let record = emergency(&bench, "db").await?;
        Ok(record.map(|record| record.message).filter(|message| !message.is_empty()))
    })
    .await?;
    ensure!(message.starts_with("no new value could be had yet: ") && !message.contains("revoked"), "{message}");
    ensure!(bank.servers.postgres.accepts(&first.0, &first.1).await, "nobody asked to revoke it");

    let waited = ann.rotate(&["db", "--now", "--reason", "leaked", "--revoke", "--wait", "--timeout", "15s"]).await?;
    assert_eq!(waited.code, Some(1), "{waited:?}");
    ensure!(
        waited.stderr.contains("was not done in time") && waited.stderr.contains("revoked all the same"),
        "{waited:?}"
    );
    until_gone(&bank, &first).await?;
    let record = until_emergency(&bench, "db", "Requested").await?;
    assert_eq!(record.revocation, "Revoked");
    bank.until_leases(0).await?;

    bank.root.policy(&bank.name, &rights).await?;
    let second = until_credential(&bench, "db").await?;
    ensure!(second.0 != first.0);
    let record = until_emergency(&bench, "db", "RolledOut").await?;
    ensure!(record.message.ends_with("the old credentials are revoked"), "{record:?}");
    assert_eq!(bank.users().await?, [second.0.as_str()]);
    Ok(())
}

/// Where the operator is killed, and what is left of the issue.
struct Kill {
    bench: &'static str,
    method: &'static str,
    path_end: &'static str,
    fault: Fault,
    /// How many were issued in the end, the first included.
    issued: usize,
}

async fn killed_at(kill: Kill) -> Result {
    let (mut bench, proxy) = Bench::behind_proxy(kill.bench).await?;
    let bank = Bank::new(&bench, LONG).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    let before = until_states(&bench, "db", &["Live"]).await?;
    bench.until_condition("db", "Ready", "True").await?;
    let trap = proxy.next(kill.method, &kill.path_end.replace("NAMESPACE", &bench.namespace), kill.fault);
    let id = {
        let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
        ann.rotated(&["db", "--now", "--reason", "leaked", "--revoke"]).await?["id"].clone()
    };
    trap.caught().await?;
    bench.operator.kill().await?;
    ensure!(bank.servers.postgres.accepts(&first.0, &first.1).await, "nothing was to be revoked yet");
    bench.operator.start_again().await?;
    let record = until_emergency(&bench, "db", "RolledOut").await?;
    assert_eq!((json!(record.id), record.revocation.as_str()), (id, "Revoked"));
    let second = until_replaced(&bench, "db", &first.0).await?;
    ensure!(bank.servers.postgres.accepts(&second.0, &second.1).await, "the new one does not work");
    let after = until_states(&bench, "db", &["Live"]).await?;
    ensure!(after[0].accessor != before[0].accessor);
    assert_eq!(after[0].request, record.id);
    assert_eq!((bank.issued()?, bank.users().await?), (kill.issued, vec![second.0.clone()]));
    ensure!(!bank.servers.postgres.accepts(&first.0, &first.1).await, "the old one lives");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_killed_with_nothing_but_the_request_on_record_it_is_handled_once() -> Result {
    killed_at(Kill {
        bench: "rotate-kill-record",
        method: "PATCH",
        path_end: "/botsecrets/db/status",
        fault: Fault::HoldReply,
        issued: 2,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_killed_between_the_managers_answer_and_the_secret_it_replaces_once() -> Result {
    killed_at(Kill {
        bench: "rotate-kill-answer",
        method: "PUT",
        path_end: "/NAMESPACE/secrets/db",
        fault: Fault::HoldRequest,
        // That which was cut off is revoked.
        issued: 3,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_killed_between_the_secret_and_the_record_it_goes_on_with_what_the_secret_holds() -> Result {
    killed_at(Kill {
        bench: "rotate-kill-secret",
        method: "PUT",
        path_end: "/NAMESPACE/secrets/db",
        fault: Fault::HoldReply,
        issued: 2,
    })
    .await
}

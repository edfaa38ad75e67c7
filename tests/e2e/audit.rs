//! The audit log beside the manager's own.

use botsecret_testbed::{OpenBao, OpenBaoOptions, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Operator, OperatorOptions, Result, Vault, canary::Canary};

/// The lines with all of these fields.
fn having(lines: &[Value], wanted: Value) -> Vec<&Value> {
    let fields = wanted.as_object().expect("an object").clone();
    let has_all = |line: &&Value| fields.iter().all(|(name, value)| line[name] == *value);
    lines.iter().filter(has_all).collect()
}

/// The bench's operator, with an audit log in this file.
async fn audited(bench: &mut Bench, path: &std::path::Path) -> Result {
    bench.operator.terminate().await?;
    let options = OperatorOptions {
        user: format!("operator:{}", bench.namespace),
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.namespace.clone(),
        kubeconfig: None,
        folder: bench.folder().to_owned(),
    };
    let to = path.display().to_string();
    bench.operator = Operator::start_with(bench.cluster, &options, &["--audit-log", &to]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_the_audit_log_has_a_line_for_each_request_that_the_manager_had_and_never_a_value() -> Result {
    let mut bench = Bench::new("audit").await?;
    let path = bench.folder().join("audit.jsonl");
    audited(&mut bench, &path).await?;
    // Its own, so that every login is this operator's.
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: true }).await?;
    let vault = Vault::new(&bench, &bao, &["bot", "stranger"]).await?;
    vault.policy(&format!(r#"path "{}" {{ capabilities = ["read"] }}"#, vault.read_path("shared"))).await?;
    for account in ["stranger", "nobody"] {
        bench.account(account).await?;
    }
    let values: Vec<_> = (0..3).map(|_| Canary::random_text()).collect();
    let canary = Canary::of(values.iter().map(String::as_bytes));
    vault.put("shared", &json!({ "A": values[0] })).await?;
    vault.put("private", &json!({ "A": values[2] })).await?;
    let mark = bao.mark()?;
    for (name, account, source) in [
        ("one", "bot", "shared"),
        ("two", "bot", "shared"),
        ("forbidden", "stranger", "private"),
        ("unknown", "nobody", "shared"),
    ] {
        let mut object = bench.bot_secret(name, source);
        object["spec"]["serviceAccountName"] = json!(account);
        // At rest but for what this test asks for.
        object["spec"]["refreshInterval"] = json!("1h");
        bench.apply(object).await?;
    }
    for name in ["one", "two"] {
        bench.until_condition(name, "Ready", "True").await?;
    }
    bench.until_failing("forbidden", "AccessDenied").await?;
    bench.until_failing("unknown", "LoginDenied").await?;
    vault.put("shared", &json!({ "A": values[1] })).await?;
    let force = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } });
    bench.bot_secrets().patch("one", &PatchParams::default(), &Patch::Merge(&force)).await?;
    wait_for("the refresh to be handled", DEADLINE, async || {
        let status = bench.bot_secrets().get("one").await?.status.unwrap_or_default();
        Ok((status.last_handled_refresh.as_deref() == Some("1")).then_some(()))
    })
    .await?;
    bench.until_value("one", "A", &values[1]).await?;
    let metrics = bench.operator.metrics().await?;
    for line in
        ["botsecret_first_uses_total 3", "botsecret_unexplained_reads_total 0", "botsecret_audit_events_lost_total 0"]
    {
        assert!(metrics.lines().any(|found| found == line), "no {line}: {metrics}");
    }
    assert_eq!(bench.operator.terminate().await?, Some(0));

    let text = std::fs::read(&path)?;
    canary.assert_absent("the audit log", &text);
    let lines = String::from_utf8(text)?;
    let lines = lines.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    assert!(lines.iter().all(|line| line["log"] == "audit" && line["store"]["name"] == "source"), "{lines:#?}");
    // What the manager says of itself.
    let requests = bao.requests_since(&mark)?;
    for remote in ["shared", "private"] {
        let asked = vault.read_path(remote);
        let had = requests.iter().filter(|one| one.operation == "read" && one.path == asked).count();
        let told = having(&lines, json!({ "event": "read", "remote": remote, "request": "own" })).len();
        assert_eq!(told, had, "reads of {remote}: {lines:#?}");
        assert!(had > 0, "{remote} was not read");
    }
    let logins = requests.iter().filter(|request| request.is_login()).count();
    assert_eq!(having(&lines, json!({ "event": "login", "request": "own" })).len(), logins, "{lines:#?}");

    // Who read, and who could not.
    let of = |account: &str, name: &str| json!({ "event": "read", "namespace": bench.namespace, "serviceAccount": account, "botSecret": name });
    let with = |mut line: Value, more: Value| {
        let fields = more.as_object().expect("an object").clone();
        line.as_object_mut().expect("an object").extend(fields);
        line
    };
    for name in ["one", "two"] {
        let first = json!({ "remote": "shared", "version": "1", "outcome": "ok", "why": "spec" });
        assert_eq!(having(&lines, with(of("bot", name), first)).len(), 1, "{name}: {lines:#?}");
    }
    let forced = json!({ "version": "2", "outcome": "ok", "request": "own", "why": "forced" });
    assert_eq!(having(&lines, with(of("bot", "one"), forced)).len(), 1, "{lines:#?}");
    let denied = json!({ "remote": "private", "outcome": "denied", "request": "own" });
    assert!(!having(&lines, with(of("stranger", "forbidden"), denied)).is_empty(), "{lines:#?}");
    assert!(having(&lines, json!({ "serviceAccount": "stranger", "event": "read", "outcome": "ok" })).is_empty());
    let refused = json!({ "event": "login", "serviceAccount": "nobody", "outcome": "login_denied", "request": "own" });
    assert!(!having(&lines, refused).is_empty(), "{lines:#?}");
    let unread = json!({ "remote": "shared", "outcome": "login_denied", "request": "none" });
    assert!(!having(&lines, with(of("nobody", "unknown"), unread)).is_empty(), "{lines:#?}");
    assert!(having(&lines, json!({ "serviceAccount": "nobody", "outcome": "ok" })).is_empty(), "{lines:#?}");
    for account in ["bot", "stranger", "nobody"] {
        let first = json!({ "serviceAccount": account, "anomalies": ["first_use"] });
        assert_eq!(having(&lines, first).len(), 1, "{account}: {lines:#?}");
    }
    Ok(())
}

//! Leased credentials by stored logins, and by a role that gives batch tokens.

use botsecret_testbed::wait_for;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, delete, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

/// Issued once, renewed, adopted after a restart, renewed again, and revoked.
async fn lives_and_ends(bench: &mut Bench, bank: &Bank, auth: Value) -> Result {
    let bao = &bank.servers.bao;
    let mut store = bank.store(bao.url(), bao.ca_pem().unwrap());
    store["spec"]["vault"]["auth"] = auth;
    bench.apply(store).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(bench, "db").await?;
    for restart in [false, true] {
        if restart {
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
        }
        wait_for("three renewals", DEADLINE, async || Ok((counter(bench, "lease_renewals").await? >= 3).then_some(())))
            .await?;
    }
    assert_eq!(until_credential(bench, "db").await?, first);
    until_states(bench, "db", &["Live"]).await?;
    assert_eq!((bank.issued()?, bank.leases().await?.len()), (1, 1));
    delete(bench, "db", DEADLINE).await?;
    bank.until_leases(0).await?;
    bank.until_logins(&[]).await?;
    assert_eq!(counter(bench, "lease_revocations").await?, 1);
    Ok(())
}

async fn put_secret(bench: &Bench, name: &str, data: Value) -> Result {
    bench
        .apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data }))
        .await?;
    Ok(())
}

#[tokio::test]
async fn p7_an_approle_keeps_a_leased_credential() -> Result {
    let mut bench = Bench::new("lease-approle").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let mount = format!("{}-approle", bank.name);
    bank.root.write(&format!("sys/auth/{mount}"), &json!({ "type": "approle" })).await?;
    let role = json!({ "token_policies": [bank.name], "token_ttl": "9s" });
    bank.root.write(&format!("auth/{mount}/role/bot"), &role).await?;
    let role_id = bank.root.read(&format!("auth/{mount}/role/bot/role-id")).await?["data"]["role_id"].clone();
    let made = bank.root.write(&format!("auth/{mount}/role/bot/secret-id"), &json!({})).await?;
    put_secret(&bench, "approle", json!({ "id": made["data"]["secret_id"] })).await?;
    let auth = json!({ "appRole": {
        "path": mount, "roleId": role_id, "secretRef": { "name": "approle", "key": "id" },
    } });
    lives_and_ends(&mut bench, &bank, auth).await
}

/// An authority, and a certificate of it with its key.
fn client_certificate() -> Result<(String, String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "clients");
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "bot");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&own, &issuer)?.pem();
    Ok((authority, certificate, own.serialize_pem()))
}

#[tokio::test]
async fn p7_a_client_certificate_keeps_a_leased_credential() -> Result {
    let mut bench = Bench::new("lease-cert").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let mount = format!("{}-cert", bank.name);
    bank.root.write(&format!("sys/auth/{mount}"), &json!({ "type": "cert" })).await?;
    let (authority, certificate, key) = client_certificate()?;
    let role = json!({
        "certificate": authority, "allowed_common_names": "bot", "token_policies": [bank.name], "token_ttl": "9s",
    });
    bank.root.write(&format!("auth/{mount}/certs/bots"), &role).await?;
    put_secret(&bench, "tls", json!({ "tls.crt": certificate, "tls.key": key })).await?;
    let reference = |key: &str| json!({ "name": "tls", "key": key });
    let auth = json!({ "cert": {
        "path": mount, "role": "bots", "clientCert": reference("tls.crt"), "secretRef": reference("tls.key"),
    } });
    lives_and_ends(&mut bench, &bank, auth).await
}

async fn batch(bank: &Bank, kind: &str) -> Result {
    let path = format!("auth/kubernetes/role/{}", bank.name);
    let mut role = bank.root.read(&path).await?["data"].clone();
    role["token_type"] = json!(kind);
    bank.root.write(&path, &role).await?;
    Ok(())
}

#[tokio::test]
async fn p7_a_role_of_batch_tokens_is_named_as_the_reason_and_nothing_is_issued() -> Result {
    let bench = Bench::new("lease-batch").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    batch(&bank, "batch").await?;
    let mut object = bank.bot_secret("db");
    object["spec"]["refreshInterval"] = json!("1h");
    let mark = bank.servers.bao.mark()?;
    for try_number in 1..=3 {
        object["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": format!("{try_number}") });
        bench.apply(object.clone()).await?;
        wait_for("the try to be reported", DEADLINE, async || {
            let status = bench.bot_secrets().get("db").await?.status.unwrap_or_default();
            Ok((status.last_handled_refresh == Some(format!("{try_number}"))).then_some(()))
        })
        .await?;
        let message = bench.until_failing("db", "InvalidStore").await?;
        assert!(message.contains("batch") && message.contains("token_type"), "{message}");
    }
    assert_eq!(bank.issued()?, 0);
    // A login a try, and each of them was asked for.
    let logins = bank.servers.bao.requests_since(&mark)?;
    let ours = |path: &str| path == "auth/kubernetes/login";
    let logins = logins.iter().filter(|request| ours(&request.path)).count();
    assert!(logins >= 3, "{logins}");
    assert_eq!(bench.reads().await?, 0);
    let object = bench.bot_secrets().get("db").await?;
    assert!(object.metadata.finalizers.unwrap_or_default().is_empty(), "there is nothing to revoke");
    batch(&bank, "service").await?;
    object_with(&bench, &bank, "mended").await?;
    until_credential(&bench, "db").await?;
    assert_eq!(bank.issued()?, 1);
    Ok(())
}

async fn object_with(bench: &Bench, bank: &Bank, refresh: &str) -> Result {
    let mut object = bank.bot_secret("db");
    object["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": refresh });
    bench.apply(object).await?;
    Ok(())
}

#[tokio::test]
async fn p7_a_role_that_turns_to_batch_tokens_is_reported_and_costs_one_credential_once_it_is_mended() -> Result {
    let mut bench = Bench::new("lease-rebatch").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "15s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, _) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    batch(&bank, "batch").await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    // What was issued can no longer be renewed, nor another be issued.
    let (_, message) = bench.until_condition("db", "LeasesRenewable", "False").await?;
    assert!(message.contains("token_type"), "{message}");
    let message = bench.until_failing("db", "InvalidStore").await?;
    assert!(message.contains("token_type"), "{message}");
    assert_eq!(bank.issued()?, 1);
    batch(&bank, "service").await?;
    until_replaced(&bench, "db", &first).await?;
    until_credential(&bench, "db").await?;
    bench.until_condition("db", "Ready", "True").await?;
    assert_eq!(bank.issued()?, 2);
    bank.until_leases(1).await
}

/// Measured, for the docs: a login by `kubernetes` can be renewed no longer than
/// the token that it was made with is good; one by `jwt` can.
#[tokio::test]
async fn openbao_renews_a_kubernetes_login_while_its_token_is_good_and_a_jwt_login_for_longer() -> Result {
    let bench = Bench::new("lease-token-end").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "2m", ..Terms::default() }).await?;
    bank.log_in_by_jwt(&bench, "2m").await?;
    let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    let uid = accounts.get("bot").await?.metadata.uid;
    // The API server overlooks a minute.
    let mut claims = botsecret_testbed::tokens::claims(bench.cluster.url(), &bench.namespace, "bot", "vault", -30);
    claims["kubernetes.io"]["serviceaccount"]["uid"] = json!(uid);
    let token = bench.cluster.sign_token(&claims).await?;
    let nobody = bank.servers.bao.client("")?;
    let mut renewers = Vec::new();
    for method in ["kubernetes", "jwt"] {
        let asked = json!({ "role": bank.name, "jwt": token });
        let login = nobody.write(&format!("auth/{method}/login"), &asked).await?;
        let renewer = bank.servers.bao.client(login["auth"]["client_token"].as_str().unwrap_or_default())?;
        let (status, answer) = renewer.request("POST", "auth/token/renew-self", Some(&json!({}))).await?;
        assert_eq!(status, 200, "{method}: {answer}");
        renewers.push(renewer);
    }
    wait_for("the token to end", DEADLINE, async || {
        let (status, _) =
            nobody.request("POST", "auth/kubernetes/login", Some(&json!({ "role": bank.name, "jwt": token }))).await?;
        Ok((status != 200).then_some(()))
    })
    .await?;
    let mut statuses = Vec::new();
    for renewer in renewers {
        let (status, answer) = renewer.request("POST", "auth/token/renew-self", Some(&json!({}))).await?;
        eprintln!("renew-self after the token's end: {status} {answer}");
        statuses.push(status);
    }
    assert_eq!(statuses, [403, 200]);
    Ok(())
}

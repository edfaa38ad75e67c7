use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use reqwest::{StatusCode, Url, header::HeaderMap};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    KeyVault,
    errors::{Party, refusal},
    find::Wanted,
    identity::Named,
    names::{Object, object, version},
    read,
};
use crate::{
    api::{AzureStore, SecretKeyRef},
    secret::SecretBytes,
    stores::{
        Backend, Credentials, ErrorClass, FindQuery, HttpClients, Opening, Payload, Scope, ServiceAccount, StoreError,
        http::Answer,
    },
};

const TENANT: &str = "11111111-0000-0000-0000-000000000001";

fn opened(spec: Value, scope: Scope) -> Result<KeyVault, StoreError> {
    let spec: AzureStore = match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => panic!("{error}"),
    };
    let clients = HttpClients::new(crate::stores::ClusterEndpoint::default());
    let secrets = [("id", "client-of-secret\n"), ("secret", "hunter2")]
        .into_iter()
        .map(|(key, value)| (SecretKeyRef { name: "entra".into(), key: key.into() }, SecretBytes::new(value.into())));
    let credentials = Credentials::new(secrets.collect());
    KeyVault::new(&spec, &Opening { scope, credentials, clients: &clients, proxy: None, largest_answer: 1 << 20 })
}

fn store(more: &Value) -> Value {
    let mut spec = json!({
        "vaultUrl": "https://bots.vault.azure.net",
        "tenantId": TENANT,
        "auth": {"workloadIdentity": {"clientId": "client-a"}},
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

fn account(annotations: &[(&str, &str)]) -> ServiceAccount {
    let annotations =
        annotations.iter().map(|(name, value)| (format!("azure.workload.identity/{name}"), (*value).to_owned()));
    ServiceAccount {
        namespace: "trading".into(),
        name: "bot".into(),
        uid: "1".into(),
        annotations: annotations.collect(),
    }
}

fn refused<T>(result: Result<T, StoreError>, class: ErrorClass) -> String {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => {
            assert_eq!(error.class, class, "{error}");
            error.message
        }
    }
}

#[test]
fn names_and_versions_that_would_need_encoding_never_reach_a_path() {
    for (key, expected) in [
        ("price-bot", Object::Secret("price-bot")),
        ("secret/a", Object::Secret("a")),
        ("cert/a", Object::Certificate("a")),
        ("key/a", Object::Key("a")),
    ] {
        assert_eq!(object(key).ok(), Some(expected));
    }
    let long = "a".repeat(128);
    for key in ["", "secret/", "a/b", "secret/a/b", "a?b", "a b", "..", "secret/..", "%2e%2e", "ä", "a_b", &long] {
        refused(object(key), ErrorClass::Invalid);
    }
    assert!(version("0123456789abcdef0123456789ABCDEF").is_ok());
    for text in ["", "1", "0123456789abcdef0123456789abcdeg", "../0123456789abcdef0123456789abc"] {
        refused(version(text), ErrorClass::Invalid);
    }
}

#[test]
fn p5_a_namespaces_store_names_no_entra_id_and_no_machine_identity() {
    for more in [
        json!({"authority": {"url": "https://login.evil.test"}}),
        json!({"auth": {"ambient": {}}}),
        json!({"authority": {"url": "https://login.microsoftonline.com", "vaultResource": "https://evil.test"}}),
    ] {
        let message = refused(opened(store(&more), Scope::Namespace), ErrorClass::Invalid);
        assert!(message.contains("ClusterBotSecretStore"), "{message}");
        if more.get("authority").and_then(|authority| authority.get("vaultResource")).is_none() {
            assert!(opened(store(&more), Scope::Cluster).is_ok(), "{more}");
        }
    }
}

#[test]
fn p5_a_namespaces_store_chooses_no_certificates_for_the_vault() {
    for bundle in ["no certificate", ""] {
        let opened = |scope| opened(store(&json!({"caBundle": bundle})), scope);
        let message = refused(opened(Scope::Namespace), ErrorClass::Invalid);
        assert!(message.contains("caBundle is for a ClusterBotSecretStore"), "{message}");
        // An administrator's is looked at.
        let message = refused(opened(Scope::Cluster), ErrorClass::Invalid);
        assert!(message.contains("no usable certificate"), "{message}");
    }
}

#[test]
fn each_cloud_has_its_entra_id() {
    for (cloud, domain, entra) in [
        ("PublicCloud", "vault.azure.net", "https://login.microsoftonline.com/"),
        ("USGovernmentCloud", "vault.usgovcloudapi.net", "https://login.microsoftonline.us/"),
        ("ChinaCloud", "vault.azure.cn", "https://login.chinacloudapi.cn/"),
    ] {
        let spec = store(&json!({"environmentType": cloud, "vaultUrl": format!("https://bots.{domain}")}));
        let vault = opened(spec, Scope::Namespace).map_err(|error| error.message);
        assert_eq!(vault.map(|vault| vault.entra.authority.to_string()), Ok(entra.to_owned()));
    }
}

#[test]
fn p5_a_vault_outside_its_clouds_domain_is_refused() {
    let with =
        |url: &str, cloud: &str| opened(store(&json!({"vaultUrl": url, "environmentType": cloud})), Scope::Namespace);
    for (url, cloud) in [
        ("https://bots.vault.azure.net/", "PublicCloud"),
        ("https://bots.vault.azure.net:443", "PublicCloud"),
        ("https://bots.vault.usgovcloudapi.net", "USGovernmentCloud"),
        ("https://bots.vault.azure.cn", "ChinaCloud"),
    ] {
        assert!(with(url, cloud).is_ok(), "{url}");
    }
    for (url, cloud) in [
        ("https://bots.vault.azure.net.evil.test", "PublicCloud"),
        ("https://evilvault.azure.net", "PublicCloud"),
        ("https://vault.azure.net", "PublicCloud"),
        ("https://.vault.azure.net", "PublicCloud"),
        ("https://bots.vault.azure.cn", "PublicCloud"),
        ("https://bots.vault.azure.net", "ChinaCloud"),
        ("https://10.0.0.1", "PublicCloud"),
        ("http://bots.vault.azure.net", "PublicCloud"),
        ("https://bots.vault.azure.net@evil.test", "PublicCloud"),
        ("https://a:b@bots.vault.azure.net", "PublicCloud"),
        ("https://bots.vault.azure.net/secrets", "PublicCloud"),
    ] {
        refused(with(url, cloud), ErrorClass::Invalid);
    }
}

#[test]
fn each_cloud_has_the_audience_that_its_entra_id_expects() {
    for (more, audience) in [
        (json!({}), "api://AzureADTokenExchange"),
        (
            json!({"vaultUrl": "https://b.vault.usgovcloudapi.net", "environmentType": "USGovernmentCloud"}),
            "api://AzureADTokenExchangeUSGov",
        ),
        (
            json!({"vaultUrl": "https://b.vault.azure.cn", "environmentType": "ChinaCloud"}),
            "api://AzureADTokenExchangeChina",
        ),
        (json!({"auth": {"workloadIdentity": {"clientId": "a", "audience": "own"}}}), "own"),
    ] {
        let identity = opened(store(&more), Scope::Namespace).and_then(|vault| vault.identity(&account(&[])));
        let expected = crate::stores::Audience::Of(audience.to_owned());
        assert_eq!(identity.ok().and_then(|identity| identity.audience), Some(expected));
    }
}

#[test]
fn p5_annotations_choose_among_what_the_store_allows_and_no_more() {
    let role = |more: &Value, annotations: &[(&str, &str)]| {
        opened(store(more), Scope::Namespace)?.identity(&account(annotations)).map(|identity| identity.role)
    };
    let allowing = |ids: &[&str]| json!({"auth": {"workloadIdentity": {"serviceAccountClientIds": ids}}});
    let client_b = ("client-id", "CLIENT-B");
    assert_eq!(role(&allowing(&["client-b"]), &[client_b]), Ok(format!("{TENANT}/CLIENT-B")));
    assert_eq!(role(&allowing(&["*"]), &[client_b]), Ok(format!("{TENANT}/CLIENT-B")));
    // A fixed client: no annotation counts.
    let other_tenant = ("tenant-id", "other");
    assert_eq!(role(&json!({}), &[client_b, other_tenant]), Ok(format!("{TENANT}/client-a")));

    refused(role(&allowing(&["client-a"]), &[client_b]), ErrorClass::LoginDenied);
    refused(role(&allowing(&["client-b"]), &[client_b, other_tenant]), ErrorClass::LoginDenied);
    refused(role(&allowing(&["client-b"]), &[]), ErrorClass::Identity);
    refused(role(&allowing(&["*"]), &[("client-id", "*")]), ErrorClass::Identity);
    refused(role(&allowing(&["*"]), &[("client-id", "a/../b")]), ErrorClass::Identity);

    let mut anywhere = allowing(&["client-b"]);
    anywhere["tenantId"] = Value::Null;
    assert_eq!(role(&anywhere, &[client_b, other_tenant]), Ok("other/CLIENT-B".to_owned()));
    refused(role(&anywhere, &[client_b]), ErrorClass::Identity);
    refused(role(&anywhere, &[client_b, ("tenant-id", "..")]), ErrorClass::Identity);
    let fixed = json!({"tenantId": null});
    assert!(refused(role(&fixed, &[other_tenant]), ErrorClass::Invalid).contains("tenantId"));
}

#[test]
fn a_client_secret_serves_every_account_and_asks_for_no_token() {
    let auth = json!({"auth": {"secretRef": {
        "clientId": {"name": "entra", "key": "id"}, "clientSecret": {"name": "entra", "key": "secret"},
    }}});
    let identity = opened(store(&auth), Scope::Namespace).and_then(|vault| vault.identity(&account(&[])));
    let identity = identity.expect("an identity");
    assert_eq!((identity.audience, identity.role), (None, format!("{TENANT}/client-of-secret")));
    assert_eq!(identity.quota.name, "azure/bots.vault.azure.net");
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: HeaderMap::new(),
        retry_after: Some(Duration::from_secs(7)),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

const CANARY: &str = "canary-31c7";

#[test]
fn key_vaults_own_code_decides_what_a_refusal_means() {
    let party = Party::Vault { client: "client-a".into(), resource: "https://vault.azure.net".into() };
    let case = |status: u16, path: &str, code: &str, inner: &str| {
        let body = json!({"error": {"code": code, "message": CANARY, "innererror": {"code": inner, "x": CANARY}}});
        let url = Url::parse(&format!("https://b.vault.azure.net{path}")).expect("a URL");
        refusal(&answer(status, &body.to_string()), &party, &url, false)
    };
    for (status, path, code, inner, class, part) in [
        (403, "/secrets/a/", "Forbidden", "AccessDenied", ErrorClass::Denied, "\"get\" on secrets"),
        (403, "/secrets", "Forbidden", "AccessDenied", ErrorClass::Denied, "\"list\" on secrets"),
        (403, "/secrets/a/", "Forbidden", "ForbiddenByPolicy", ErrorClass::Denied, "access policy"),
        (403, "/secrets/a/", "Forbidden", "ForbiddenByRbac", ErrorClass::Denied, "Key Vault Secrets User"),
        (403, "/keys/a/", "Forbidden", "ForbiddenByRbac", ErrorClass::Denied, "Key Vault Crypto User"),
        (403, "/secrets/a/", "Forbidden", "ForbiddenByFirewall", ErrorClass::Denied, "firewall"),
        (403, "/secrets/a/", "Forbidden", "", ErrorClass::Denied, "may not get secrets"),
        (403, "/secrets/a/", "Forbidden", "SecretDisabled", ErrorClass::Missing, "disabled"),
        (403, "/keys/a/", "Forbidden", "KeyDisabled", ErrorClass::Missing, "this key"),
        (404, "/secrets/a/", "SecretNotFound", "", ErrorClass::Missing, "recover it"),
        (404, "/keys/a/", "KeyNotFound", "", ErrorClass::Missing, "recover it"),
        (409, "/secrets/a/", "Conflict", "ObjectIsDeletedButRecoverable", ErrorClass::Missing, "recover"),
        (404, "/secrets/a/", CANARY, "", ErrorClass::Invalid, "no Key Vault"),
        (400, "/secrets/a/", "BadParameter", "", ErrorClass::Invalid, "400"),
        (401, "/secrets/a/", "Unauthorized", "", ErrorClass::LoginDenied, "tenantId"),
        (429, "/secrets/a/", "Throttled", "", ErrorClass::Throttled, "patience"),
        (503, "/secrets/a/", "", "", ErrorClass::Unavailable, "503"),
        (302, "/secrets/a/", "", "", ErrorClass::Unavailable, "redirects"),
    ] {
        let error = case(status, path, code, inner);
        assert_eq!(error.class, class, "{status} {code} {inner}: {error}");
        assert!(error.message.contains(part), "{status} {code} {inner}: {error}");
        assert!(!error.message.contains(CANARY), "{error}");
        assert_eq!(error.session_dead, status == 401, "{error}");
    }
    assert_eq!(case(429, "/secrets/a/", "Throttled", "").retry_after, Some(Duration::from_secs(7)));
    assert!(case(500, "/secrets/a/", "", "").about_one && !case(502, "/secrets/a/", "", "").about_one);
}

#[test]
fn a_value_that_is_not_taken_says_what_a_write_needs() {
    let party = Party::Vault { client: "client-a".into(), resource: "https://vault.azure.net".into() };
    let url = Url::parse("https://b.vault.azure.net/secrets/a").expect("a URL");
    for (status, code, inner, class, part) in [
        (403, "Forbidden", "ForbiddenByPolicy", ErrorClass::Denied, "\"set\" on secrets"),
        (403, "Forbidden", "ForbiddenByRbac", ErrorClass::Denied, "Key Vault Secrets Officer"),
        (403, "Forbidden", "", ErrorClass::Denied, "may not set secrets"),
        (409, "Conflict", "ObjectIsDeletedButRecoverable", ErrorClass::Missing, "recover"),
        (400, "BadParameter", "", ErrorClass::Invalid, "refuses the new value"),
        (429, "Throttled", "", ErrorClass::Throttled, "patience"),
    ] {
        let body = json!({"error": {"code": code, "message": CANARY, "innererror": {"code": inner}}});
        let error = refusal(&answer(status, &body.to_string()), &party, &url, true);
        assert_eq!(error.class, class, "{code} {inner}: {error}");
        assert!(error.message.contains(part) && !error.message.contains(CANARY), "{error}");
    }
}

#[test]
fn entra_ids_own_code_decides_what_a_refused_login_means() {
    let party = Party::Entra {
        named: Named { tenant: TENANT.into(), client: "client-a".into() },
        subject: Some("system:serviceaccount:trading:bot".into()),
        audience: Some("api://AzureADTokenExchange".into()),
        resource: "https://vault.azure.net".into(),
    };
    let url = Url::parse("https://login.microsoftonline.com/t/oauth2/v2.0/token").expect("a URL");
    let case = |status: u16, code: u32| {
        let body = json!({"error": CANARY, "error_description": CANARY, "error_codes": [code]});
        refusal(&answer(status, &body.to_string()), &party, &url, false)
    };
    for (status, code, class, part) in [
        (400, 700_016, ErrorClass::LoginDenied, "no application client-a"),
        (401, 700_211, ErrorClass::LoginDenied, "issuer"),
        (401, 700_212, ErrorClass::LoginDenied, "audience api://AzureADTokenExchange"),
        (401, 700_213, ErrorClass::LoginDenied, "subject system:serviceaccount:trading:bot"),
        (401, 70_021, ErrorClass::LoginDenied, "system:serviceaccount:trading:bot"),
        (401, 700_024, ErrorClass::LoginDenied, "clocks"),
        (400, 90_002, ErrorClass::LoginDenied, "no tenant"),
        (401, 7_000_215, ErrorClass::LoginDenied, "client secret"),
        (401, 7_000_222, ErrorClass::LoginDenied, "expired"),
        (400, 50_034, ErrorClass::LoginDenied, "does not know the identity"),
        (400, 999_999, ErrorClass::LoginDenied, "AADSTS999999"),
        (400, 50_196, ErrorClass::Throttled, "loop"),
        (400, 90_033, ErrorClass::Unavailable, "not well"),
    ] {
        let error = case(status, code);
        assert_eq!(error.class, class, "{code}: {error}");
        assert!(error.message.contains(part), "{code}: {error}");
        assert!(!error.message.contains(CANARY), "{error}");
    }
    for (status, class) in [
        (429, ErrorClass::Throttled),
        (503, ErrorClass::Unavailable),
        (301, ErrorClass::Unavailable),
        (404, ErrorClass::Invalid),
        (400, ErrorClass::LoginDenied),
    ] {
        let error = refusal(&answer(status, CANARY), &party, &url, false);
        assert_eq!(error.class, class, "{error}");
        assert!(!error.message.contains(CANARY), "{error}");
    }
}

fn bytes(payload: Result<Payload, StoreError>) -> Vec<u8> {
    match payload {
        Ok(Payload::Bytes(bytes)) => bytes.into_exposed(),
        Ok(Payload::Json(text)) => text.expose().as_bytes().to_vec(),
        Ok(Payload::Fields(_)) => panic!("fields"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_versions_age_is_when_it_was_made_and_not_when_its_tags_were() {
    let of = |attributes: serde_json::Value| {
        let body = json!({"value": "a", "attributes": attributes, "tags": {}}).to_string();
        read::facts(body.as_bytes()).made.map(Timestamp::as_second)
    };
    assert_eq!(of(json!({"created": 1_700_000_000, "updated": 1_800_000_000, "enabled": true})), Some(1_700_000_000));
    for nothing in [json!({}), json!(null), json!({"created": "x"}), json!({"created": i64::MAX})] {
        assert_eq!(of(nothing), None);
    }
}

#[test]
fn a_version_is_named_by_the_end_of_its_id() {
    let of = |object: serde_json::Value| {
        let mut body = json!({"value": "a", "attributes": {"created": 1}});
        body.as_object_mut().expect("an object").extend(object.as_object().expect("an object").clone());
        read::facts(body.to_string().as_bytes()).version_id
    };
    let id = "https://bots.vault.azure.net/secrets/price-bot/4387e9f3d6e14c459867679a90fd0f79";
    let version = Some("4387e9f3d6e14c459867679a90fd0f79".to_owned());
    assert_eq!(of(json!({"id": id})), version);
    assert_eq!(of(json!({"id": "elsewhere", "key": {"kid": id.replace("secrets", "keys"), "n": "a"}})), version);
    let long = format!("https://bots.vault.azure.net/secrets/price-bot/{}", "a".repeat(129));
    for unfit in
        ["", "x", "https://bots.vault.azure.net/secrets/price-bot", &format!("{id}\n"), &format!("{id} "), &long]
    {
        assert_eq!(of(json!({"id": unfit})), None, "{unfit}");
    }
}

#[test]
fn values_arrive_byte_for_byte_and_certificates_as_they_are_used() {
    let body = |value: &str, kind: &str| json!({"value": value, "contentType": kind, "tags": {"a": "b"}}).to_string();
    let plain = body("a\r\nb\n\u{fc}", "text/plain");
    assert_eq!(bytes(read::secret(plain.as_bytes(), false)), "a\r\nb\n\u{fc}".as_bytes());
    assert_eq!(bytes(read::secret(plain.as_bytes(), true)), br#"{"a":"b"}"#);
    let pkcs12 = body("AAECAw==", "application/x-pkcs12");
    assert_eq!(bytes(read::certificate(pkcs12.as_bytes(), false)), [0, 1, 2, 3]);
    assert_eq!(bytes(read::secret(pkcs12.as_bytes(), false)), b"AAECAw==");
    let pem = body("-----BEGIN\n", "application/x-pem-file");
    assert_eq!(bytes(read::certificate(pem.as_bytes(), false)), b"-----BEGIN\n");
    refused(read::certificate(plain.as_bytes(), false), ErrorClass::Invalid);
    let key = r#"{"key":{"kty":"RSA","n":"0.10"},"attributes":{}}"#;
    assert_eq!(bytes(read::public_key(key.as_bytes(), false)), br#"{"kty":"RSA","n":"0.10"}"#);
    assert_eq!(bytes(read::public_key(key.as_bytes(), true)), b"{}");
    let broken = format!(r#"{{"value": {CANARY}"#);
    for result in [read::secret(broken.as_bytes(), false), read::public_key(broken.as_bytes(), false)] {
        assert!(!refused(result, ErrorClass::Unavailable).contains(CANARY));
    }
}

#[test]
fn a_list_is_narrowed_by_prefix_name_and_tags_without_what_is_disabled() {
    let page = json!({"value": [
        {"id": "https://b.vault.azure.net/secrets/bot-a", "attributes": {"enabled": true}, "tags": {"team": "x", "k": "v"}},
        {"id": "https://b.vault.azure.net/secrets/bot-b", "attributes": {"enabled": false}, "tags": {"team": "x"}},
        {"id": "https://b.vault.azure.net/secrets/bot-c", "attributes": {"enabled": true}, "tags": {"team": "y"}},
        {"id": "https://b.vault.azure.net/secrets/other"},
    ]})
    .to_string();
    let found = |path: Option<&str>, name: Option<&str>, tags: &[(&str, &str)]| {
        let query = FindQuery {
            path: path.map(str::to_owned),
            name: name.map(str::to_owned),
            tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        };
        Ok(Wanted::new(&query)?.of_page(page.as_bytes())?.0)
    };
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(found(None, None, &[]), names(&["bot-a", "bot-c", "other"]));
    assert_eq!(found(Some("bot-"), None, &[]), names(&["bot-a", "bot-c"]));
    assert_eq!(found(None, Some("^.*-c$"), &[]), names(&["bot-c"]));
    assert_eq!(found(None, None, &[("team", "x"), ("k", "v")]), names(&["bot-a"]));
    assert_eq!(found(None, None, &[("team", "z")]), names(&[]));
    refused(found(None, Some("("), &[]), ErrorClass::Invalid);
}

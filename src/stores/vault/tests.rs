//! What a real Vault does not do on demand. The rest is shown against OpenBao
//! in `tests/stores.rs`.

use std::sync::Arc;

use reqwest::{StatusCode, header::HeaderMap};
use tokio::time::Instant;

use super::{
    Vault,
    answers::{Doing, refusal},
};
use crate::{
    api::VaultStore,
    secret::{SecretBytes, SecretText},
    stores::{
        Backend, ClusterEndpoint, ErrorClass, HttpClients, Payload, RemoteSecret, Session, StoreError, WriteBack,
        canned::{Canned, answer},
        http::Answer,
        testing::{key, login, opening},
    },
};

const LOGIN: &str = r#"{"auth":{"client_token":"s.t0ken","lease_duration":3600}}"#;

fn spec(address: &str, more: &str) -> VaultStore {
    let text = format!(r#"{{"address":"{address}","auth":{{"kubernetes":{{"role":"bots"}}}}{more}}}"#);
    serde_json::from_str(&text).expect("a store")
}

fn open(spec: &VaultStore) -> Result<Vault, StoreError> {
    Vault::new(spec, &opening(&HttpClients::new(ClusterEndpoint::default())))
}

async fn session(canned: &Canned, more: &str) -> Result<Arc<dyn Session>, StoreError> {
    let vault = open(&spec(&format!("http://{}", canned.address), more)).expect("valid");
    vault.login(login(&SecretText::new("jwt".into()))).await
}

async fn read(canned: &Canned, more: &str, name: &str, version: Option<&str>) -> Result<RemoteSecret, StoreError> {
    session(canned, more).await.expect("logged in").read(&[key(name, version)]).await.remove(0)
}

async fn read_error(status: &str, headers: &str, body: &str) -> StoreError {
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN), answer(status, headers, body)]).await;
    read(&canned, V2, "bot", None).await.expect_err("an error")
}

async fn login_error(status: &str, body: &str) -> StoreError {
    let canned = Canned::answering(vec![answer(status, "", body)]).await;
    session(&canned, "").await.err().expect("an error")
}

const V1: &str = r#","path":"kv","version":"v1""#;
const V2: &str = r#","path":"kv","version":"v2""#;

#[tokio::test]
async fn p5_every_segment_of_a_key_arrives_as_it_is_written() {
    let body = r#"{"data":{"data":{"a":1.50},"metadata":{"version":7}}}"#;
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN), answer("200 OK", "", body)]).await;
    let more = r#","path":"team one/kv","version":"v2","namespace":"desk/a""#;
    let secret = read(&canned, more, "a b/c?d#e%2f..;ü\\", Some("7")).await.expect("read");
    assert_eq!(secret.version, Some(7));
    assert!(matches!(secret.payload, Payload::Json(text) if text.expose() == r#"{"a":1.50}"#));
    let requests = canned.requests();
    assert!(requests[0].starts_with("POST /v1/auth/kubernetes/login HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with(r#"{"role":"bots","jwt":"jwt"}"#), "{}", requests[0]);
    let path = "GET /v1/team%20one/kv/data/a%20b/c%3Fd%23e%252f..;%C3%BC%5C?version=7 HTTP/1.1\r\n";
    assert!(requests[1].starts_with(path), "{}", requests[1]);
    assert!(requests[1].contains("x-vault-token: s.t0ken\r\n"), "{}", requests[1]);
    assert!(requests.iter().all(|request| request.contains("x-vault-namespace: desk/a\r\n")));
}

#[tokio::test]
async fn p5_keys_that_lead_elsewhere_and_versions_that_are_none_are_refused_unasked() {
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN)]).await;
    let long = "a".repeat(1025);
    for key in ["../sys/raw", "a/../b", "a/./b", "/a", "a/", "a//b", "", "a\nb", ".", &long] {
        assert_eq!(read(&canned, V2, key, None).await.expect_err(key).class, ErrorClass::Invalid, "{key}");
    }
    for version in ["0", "-1", "latest", "1&x=y", ""] {
        assert_eq!(read(&canned, V2, "bot", Some(version)).await.expect_err(version).class, ErrorClass::Invalid);
    }
    assert_eq!(read(&canned, V1, "bot", Some("1")).await.expect_err("v1").class, ErrorClass::Invalid);
    assert!(canned.requests().iter().all(|request| request.starts_with("POST /v1/auth/")));
}

#[tokio::test]
async fn each_refusal_of_a_read_has_its_class() {
    let denied =
        read_error("403 Forbidden", "", r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#).await;
    assert_eq!((denied.class, denied.session_dead), (ErrorClass::Denied, true));
    assert!(denied.message.contains("\"kv/data/bot\"") && denied.message.contains("role bots"), "{denied}");
    let sealed = read_error("503 Unavailable", "", r#"{"errors":["Vault is sealed"]}"#).await;
    assert_eq!((sealed.class, sealed.message.as_str()), (ErrorClass::Unavailable, "Vault is sealed: unseal it"));
    let throttled = read_error("429 Slow", "retry-after: 99999\r\n", "").await;
    assert_eq!((throttled.class, throttled.retry_after.map(|wait| wait.as_secs())), (ErrorClass::Throttled, Some(600)));
    for (status, class) in [
        ("307 Elsewhere", ErrorClass::Unavailable),
        ("400 Bad", ErrorClass::Invalid),
        ("404 Not Found", ErrorClass::Missing),
        ("412 Behind", ErrorClass::Unavailable),
        ("500 Oops", ErrorClass::Unavailable),
        ("502 Bad Gateway", ErrorClass::Unavailable),
    ] {
        assert_eq!(read_error(status, "", "").await.class, class, "{status}");
    }
}

#[test]
fn a_refusal_to_issue_names_what_the_entry_under_dynamic_says_and_no_key_or_version() {
    let refused = |status| {
        let answer = Answer {
            status,
            headers: HeaderMap::new(),
            retry_after: None,
            body: br#"{"errors":["hunter2"]}"#.to_vec().into(),
        };
        refusal(&answer, &Doing::Lease)
    };
    for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED] {
        let error = refused(status);
        assert_eq!(error.class, ErrorClass::Invalid, "{status}");
        for words in ["dynamic.path", "parameters", "namespace"] {
            assert!(error.message.contains(words), "{status}: {error}");
        }
        assert!(!["key", "version", "hunter2"].iter().any(|word| error.message.contains(word)), "{status}: {error}");
    }
    assert_eq!(refused(StatusCode::INTERNAL_SERVER_ERROR).class, ErrorClass::Unavailable);
}

#[tokio::test]
async fn each_refusal_of_a_login_has_its_class_and_says_what_to_do() {
    let role = login_error("400 Bad", r#"{"errors":["invalid role name \"bots\""]}"#).await;
    assert_eq!(role.class, ErrorClass::LoginDenied);
    assert!(role.message.contains("no such role") && role.message.contains("audience vault"), "{role}");
    for (status, class) in [
        ("403 Forbidden", ErrorClass::LoginDenied),
        ("404 Not Found", ErrorClass::LoginDenied),
        ("429 Slow", ErrorClass::Throttled),
        ("500 Oops", ErrorClass::Unavailable),
        ("503 Sealed", ErrorClass::Unavailable),
    ] {
        assert_eq!(login_error(status, "").await.class, class, "{status}");
    }
    assert_eq!(login_error("200 OK", "<html>").await.class, ErrorClass::Unavailable);
}

#[tokio::test]
async fn p4_no_byte_of_an_answer_reaches_an_error() {
    let refusal = r#"{"errors":["hunter2"],"data":{"data":"hunter2"}}"#;
    for status in ["200 OK", "400 Bad", "403 Forbidden", "404 Not Found", "500 Oops", "503 Down"] {
        for body in ["hunter2", refusal, r#"{"data":{"data":{"hunter2":"#] {
            let errors = [read_error(status, "", body).await, login_error(status, body).await];
            for error in errors {
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_deleted_and_a_destroyed_version_are_missing_and_say_so() {
    let body = |destroyed: bool| {
        format!(r#"{{"data":{{"data":null,"metadata":{{"version":2,"deletion_time":"x","destroyed":{destroyed}}}}}}}"#)
    };
    let deleted = read_error("404 Not Found", "", &body(false)).await;
    assert_eq!(deleted.class, ErrorClass::Missing);
    assert_eq!(deleted.message, "version 2 is deleted: undelete it or write a new version");
    let destroyed = read_error("404 Not Found", "", &body(true)).await;
    assert_eq!(destroyed.message, "version 2 is destroyed: write a new version");
}

#[tokio::test]
async fn p7_a_path_that_issues_leases_is_no_key_value_engine() {
    let body = r#"{"lease_id":"database/creds/bot/x","data":{"password":"hunter2"}}"#;
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN), answer("200 OK", "", body)]).await;
    let error = read(&canned, V1, "bot", None).await.expect_err("leased");
    assert_eq!(error.class, ErrorClass::Invalid);
}

#[tokio::test]
async fn p7_below_a_database_engine_nothing_but_a_static_role_is_read() {
    let mount = r#"{"data":{"path":"database/","type":"database"}}"#;
    let role = r#"{"lease_id":"","data":{"password":"hunter2","last_vault_rotation":"2026-01-02T03:04:05.6Z"}}"#;
    let answers = [LOGIN, mount, role].map(|body| answer("200 OK", "", body));
    let canned = Canned::answering(answers.to_vec()).await;
    let session = session(&canned, "").await.expect("logged in");
    let keys = ["database/static-creds/bot", "database/creds/bot"].map(|name| key(name, None));
    let mut answers = session.read(&keys).await;
    let leased = answers.remove(1).expect_err("it would be issued");
    assert_eq!(leased.class, ErrorClass::Invalid);
    let changed = answers.remove(0).expect("read").changed;
    assert_eq!(changed.map(|time| time.to_string()).as_deref(), Some("2026-01-02T03:04:05.6Z"));
    assert_eq!(canned.requests().len(), 3, "login, lookup, read");
}

#[tokio::test]
async fn a_new_version_follows_the_one_that_was_read_and_no_other() {
    let there = r#"{"data":{"data":{"a":"1","b":2.0},"metadata":{"version":3,"created_time":"2026-01-02T03:04:05Z"}}}"#;
    let refused = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    let answers = vec![
        answer("200 OK", "", LOGIN),
        answer("200 OK", "", there),
        answer("200 OK", "", "{}"),
        answer("200 OK", "", there),
        answer("400 Bad", "", refused),
        answer("200 OK", "", there),
    ];
    let canned = Canned::answering(answers).await;
    let session = session(&canned, V2).await.expect("logged in");
    let (key, new) = (key("bot", None), [(Some("a".to_owned()), SecretBytes::new(b"new".to_vec()))]);
    let write = |base| WriteBack { key: &key, properties: &new, base, attempt: "once" };
    session.write(&write(Some(3))).await.expect("written");
    let requests = canned.requests();
    let sent = requests.last().expect("one");
    assert!(sent.starts_with("POST /v1/kv/data/bot HTTP/1.1\r\n"), "{sent}");
    assert!(sent.ends_with(r#"{"options":{"cas":3},"data":{"a":"new","b":2.0}}"#), "{sent}");
    let late = session.write(&write(Some(3))).await.expect_err("cas");
    let later = session.write(&write(Some(2))).await.expect_err("another version");
    assert_eq!((late.class, later.class), (ErrorClass::Conflict, ErrorClass::Conflict));
    assert_eq!(canned.requests().len(), 6, "nothing is sent after another version");
}

#[tokio::test]
async fn what_vault_cannot_write_or_rotate_is_refused_unasked() {
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN)]).await;
    let session = session(&canned, V1).await.expect("logged in");
    let (key, new) = (key("bot", None), [(Some("a".to_owned()), SecretBytes::new(b"new".to_vec()))]);
    let write = WriteBack { key: &key, properties: &new, base: None, attempt: "once" };
    let written = session.write(&write).await.expect_err("no versions");
    let rotated = session.rotate(&key, "once").await.expect_err("no role");
    assert_eq!((written.class, rotated.class), (ErrorClass::Invalid, ErrorClass::Invalid));
    assert!(written.message.contains("use version 2"), "{written}");
    assert!(rotated.message.contains("rotation.generate"), "{rotated}");
    assert_eq!(canned.requests().len(), 1);
}

#[tokio::test]
async fn the_logins_end_is_counted_from_before_it_was_asked_for() {
    let canned = Canned::answering(vec![answer("200 OK", "", LOGIN)]).await;
    let before = Instant::now();
    let expires = session(&canned, "").await.expect("logged in").expires().expect("ends");
    assert!(
        expires >= before + std::time::Duration::from_secs(3600)
            && expires <= Instant::now() + std::time::Duration::from_secs(3600)
    );
}

#[test]
fn p5_a_store_that_cannot_be_right_is_refused_before_anything_is_sent() {
    let wrong = [
        spec("ftp://vault.example", ""),
        spec("https://user:pw@vault.example", ""),
        spec("https://vault.example/v1", ""),
        spec("https://vault.example?x=y", ""),
        spec("vault.example", ""),
        spec("https://vault.example", r#","namespace":"a\nb""#),
        spec("https://vault.example", r#","path":"../sys""#),
        spec("https://vault.example", r#","path":"/""#),
        spec("https://vault.example", r#","caBundle":"nonsense""#),
    ];
    for wrong in wrong {
        assert_eq!(open(&wrong).err().map(|error| error.class), Some(ErrorClass::Invalid), "{wrong:?}");
    }
    assert!(open(&spec("https://vault.example:8200/", r#","path":"/team/kv/""#)).is_ok());
}

//! What no real issuer does on demand. The rest is shown against oidc-provider
//! in `tests/stores/oauth2.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::OAuth2;
use crate::{
    api::{OAuth2Store, SecretKeyRef},
    secret::{SecretBytes, SecretText},
    stores::{
        Audience, Backend, ClusterEndpoint, Credentials, ErrorClass, HttpClients, Login, Opening, Pace, Payload,
        RemoteKey, RemoteSecret, Session, StoreError,
        canned::{Canned, answer},
        testing::{account, key, login, opening},
    },
};

const ASSERTION: &str = r#"{"federatedAssertion":{"clientID":"bot","audience":"issuer"}}"#;
const EXCHANGE: &str = r#"{"tokenExchange":{"audience":"issuer","requestedTokenType":"urn:x"}}"#;
const SECRET: &str = r#"{"clientSecret":{"clientID":"bot:1","secretRef":{"name":"client","key":"secret"}}}"#;

fn spec(url: &str, auth: &str, more: &str) -> OAuth2Store {
    let text = format!(r#"{{"tokenURL":"{url}","scopes":["read","write"],"auth":{auth}{more}}}"#);
    serde_json::from_str(&text).expect("a store")
}

fn with_secret(clients: &HttpClients) -> Opening<'_> {
    let reference = SecretKeyRef { name: "client".into(), key: "secret".into() };
    let value = SecretBytes::new(b"p:w%d\n".to_vec());
    Opening { credentials: Credentials::new(BTreeMap::from([(reference, value)])), ..opening(clients) }
}

fn open(spec: &OAuth2Store) -> Result<OAuth2, StoreError> {
    OAuth2::new(spec, &with_secret(&HttpClients::new(ClusterEndpoint::default())))
}

fn backend(canned: &Canned, auth: &str, more: &str) -> OAuth2 {
    open(&spec(&format!("http://{}/token", canned.address), auth, more)).expect("valid")
}

async fn session(backend: &OAuth2) -> Arc<dyn Session> {
    backend.login(login(&SecretText::new("jwt".into()))).await.expect("no request is made")
}

async fn read(session: &Arc<dyn Session>, name: &str) -> Result<RemoteSecret, StoreError> {
    session.read(&[key(name, None)]).await.remove(0)
}

fn field(secret: &RemoteSecret, name: &str) -> Option<String> {
    let Payload::Fields(fields) = &secret.payload else { panic!("no fields") };
    fields.get(name).map(|bytes| String::from_utf8(bytes.expose().to_vec()).expect("text"))
}

fn granted(token: &str, more: &str) -> Vec<u8> {
    answer("200 OK", "", &format!(r#"{{"access_token":"{token}","token_type":"Bearer"{more}}}"#))
}

async fn error(auth: &str, status: &str, headers: &str, body: &str) -> StoreError {
    let canned = Canned::answering(vec![answer(status, headers, body)]).await;
    read(&session(&backend(&canned, auth, "")).await, "default").await.expect_err("refused")
}

#[tokio::test]
async fn each_proof_is_sent_as_its_rfc_says() {
    for (auth, body) in [
        (
            ASSERTION,
            "grant_type=client_credentials&client_id=bot&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A\
             client-assertion-type%3Ajwt-bearer&client_assertion=jwt&scope=read%20write&resource=r",
        ),
        (
            EXCHANGE,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token_type=urn%3Aietf%3A\
             params%3Aoauth%3Atoken-type%3Ajwt&subject_token=jwt&requested_token_type=urn%3Ax&scope=read%20write&\
             resource=r",
        ),
        (SECRET, "grant_type=client_credentials&scope=read%20write&resource=r"),
    ] {
        let canned = Canned::answering(vec![granted("t", "")]).await;
        let session = session(&backend(&canned, auth, r#","parameters":{"resource":"r"}"#)).await;
        read(&session, "default").await.expect("granted");
        let requests = canned.requests();
        assert!(requests[0].starts_with("POST /token HTTP/1.1\r\n") && requests[0].ends_with(body), "{}", requests[0]);
        // bot:1 and p:w%d, form-encoded, then base64.
        let basic = requests[0].contains("authorization: Basic Ym90JTNBMTpwJTNBdyUyNWQ=\r\n");
        assert_eq!(basic, auth == SECRET, "{}", requests[0]);
    }
}

#[tokio::test]
async fn a_client_secret_goes_into_the_body_where_the_store_says_so() {
    let canned = Canned::answering(vec![granted("t", "")]).await;
    let auth = SECRET.replace(r#""bot:1""#, r#""bot:1","inBody":true"#);
    read(&session(&backend(&canned, &auth, "")).await, "a b").await.expect("granted");
    let request = canned.requests().remove(0);
    assert!(request.ends_with("client_id=bot%3A1&client_secret=p%3Aw%25d&scope=a%20b"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn p2_a_token_is_kept_for_two_thirds_of_its_life_over_sessions_and_for_each_scope() {
    let lived = r#","expires_in":900"#;
    let answers = ["one", "two", "three"].map(|token| granted(token, lived)).to_vec();
    let canned = Canned::answering(answers).await;
    let backend = backend(&canned, ASSERTION, "");
    let before = Instant::now();
    let first = read(&session(&backend).await, "default").await.expect("granted");
    let renew = first.renew.expect("it ends");
    assert!(renew >= before + Duration::from_secs(600) && renew <= Instant::now() + Duration::from_secs(600));
    // The same scopes, spelt out, with a new login.
    let again = read(&session(&backend).await, "read  write").await.expect("kept");
    assert_eq!((field(&again, "access_token"), again.renew), (Some("one".into()), Some(renew)));
    assert_eq!(field(&again, "expires_at"), field(&first, "expires_at"));
    let other = read(&session(&backend).await, "read").await.expect("granted");
    assert_eq!(field(&other, "access_token").as_deref(), Some("two"));
    assert_eq!(canned.requests().len(), 2);
}

#[tokio::test]
async fn p5_one_accounts_token_is_not_anothers_and_a_store_clients_is_everyones() {
    let mut other = account().clone();
    other.uid = "uid-other".into();
    for (auth, requests) in [(ASSERTION, 2), (EXCHANGE, 2), (SECRET, 1)] {
        let canned = Canned::answering(vec![granted("t", r#","expires_in":900"#)]).await;
        let backend = backend(&canned, auth, "");
        read(&session(&backend).await, "default").await.expect("granted");
        let token = SecretText::new("jwt-of-another".into());
        let login = Login { account: &other, token: Some(&token), pace: Pace::default() };
        let session = backend.login(login).await.expect("no request is made");
        read(&session, "default").await.expect("granted");
        assert_eq!(canned.requests().len(), requests, "{auth}");
    }
}

#[tokio::test]
async fn a_tokens_life_is_what_the_issuer_says_or_its_own_claim_or_five_minutes() {
    let soon = jiff::Timestamp::now().as_second() + 1200;
    let jwt = |claims: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    };
    for (token, more, life) in [
        ("opaque".to_owned(), r#","expires_in":3600"#, 3600),
        ("opaque".to_owned(), r#","expires_in":"3600""#, 3600),
        ("opaque".to_owned(), r#","expires_in":1e300"#, 300),
        ("opaque".to_owned(), r#","expires_in":null"#, 300),
        ("opaque".to_owned(), "", 300),
        (jwt(&format!(r#"{{"exp":{soon}}}"#)), "", 1200),
        (jwt("no JSON"), "", 300),
        ("opaque".to_owned(), r#","expires_in":0"#, 8),
        ("opaque".to_owned(), r#","expires_in":-5"#, 300),
    ] {
        let canned = Canned::answering(vec![granted(&token, more)]).await;
        let before = Instant::now();
        let secret = read(&session(&backend(&canned, ASSERTION, "")).await, "default").await.expect("granted");
        let used = secret.renew.expect("it ends").duration_since(before).as_secs_f64();
        let wanted = f64::from(life) / 3.0 * 2.0;
        assert!((wanted - 2.0..wanted + 1.0).contains(&used), "{more}: {used}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_class_by_the_issuers_own_code() {
    let body = |code: &str| format!(r#"{{"error":"{code}","error_description":"hunter2"}}"#);
    for (status, code, class, dead) in [
        ("401 Unauthorized", "invalid_client", ErrorClass::LoginDenied, true),
        ("400 Bad", "invalid_client", ErrorClass::LoginDenied, true),
        ("400 Bad", "invalid_grant", ErrorClass::LoginDenied, true),
        ("400 Bad", "unauthorized_client", ErrorClass::LoginDenied, false),
        ("400 Bad", "invalid_scope", ErrorClass::Denied, false),
        ("400 Bad", "invalid_target", ErrorClass::Denied, false),
        ("403 Forbidden", "access_denied", ErrorClass::Denied, false),
        ("400 Bad", "invalid_request", ErrorClass::Invalid, false),
        ("400 Bad", "unsupported_grant_type", ErrorClass::Invalid, false),
        ("400 Bad", "temporarily_unavailable", ErrorClass::Unavailable, false),
        ("400 Bad", "server_error", ErrorClass::Unavailable, false),
        ("400 Bad", "slow_down", ErrorClass::Throttled, false),
        ("429 Slow", "hunter2", ErrorClass::Throttled, false),
        ("401 Unauthorized", "hunter2", ErrorClass::LoginDenied, true),
        ("302 Found", "hunter2", ErrorClass::Unavailable, false),
        ("404 Not Found", "hunter2", ErrorClass::Invalid, false),
        ("418 Teapot", "hunter2", ErrorClass::Invalid, false),
        ("500 Oops", "hunter2", ErrorClass::Unavailable, false),
        ("503 Down", "hunter2", ErrorClass::Unavailable, false),
    ] {
        let error = error(ASSERTION, status, "", &body(code)).await;
        assert_eq!((error.class, error.session_dead), (class, dead), "{status} {code}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let exchange = error(EXCHANGE, "400 Bad", "", &body("invalid_request")).await;
    assert_eq!((exchange.class, exchange.session_dead), (ErrorClass::LoginDenied, true));
    let secret = error(SECRET, "401 Unauthorized", "", &body("invalid_client")).await;
    assert_eq!((secret.class, secret.session_dead), (ErrorClass::LoginDenied, false));
    let throttled = error(ASSERTION, "429 Slow", "retry-after: 7\r\n", "").await;
    assert_eq!(throttled.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn p4_no_byte_of_an_answer_that_is_no_grant_reaches_an_error() {
    for body in [
        "hunter2",
        r#"{"access_token":"hunter2"#,
        r#"{"token":"hunter2"}"#,
        r#"{"access_token":"hunter2\n"}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":["hunter2"]}"#,
    ] {
        let error = error(ASSERTION, "200 OK", "", body).await;
        assert_eq!(error.class, ErrorClass::Unavailable, "{body}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_not_kept_and_neither_is_a_refresh_token() {
    let canned = Canned::answering(vec![
        answer("503 Down", "", ""),
        granted("t", r#","expires_in":900,"scope":"read","refresh_token":"hunter2","id_token":"hunter2""#),
    ])
    .await;
    let session = session(&backend(&canned, ASSERTION, "")).await;
    assert_eq!(read(&session, "default").await.expect_err("down").class, ErrorClass::Unavailable);
    let secret = read(&session, "default").await.expect("granted");
    let Payload::Fields(fields) = &secret.payload else { panic!("no fields") };
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["access_token", "expires_at", "scope", "token_type"]);
}

#[tokio::test]
async fn what_is_no_list_of_scopes_is_refused_unasked() {
    let canned = Canned::answering(vec![granted("t", "")]).await;
    let session = session(&backend(&canned, ASSERTION, "")).await;
    for name in ["", " ", "a\"b", "a\\b", "a\nb", "ä", "a\tb"] {
        assert_eq!(read(&session, name).await.expect_err(name).class, ErrorClass::Invalid);
    }
    let keys = [key("default", Some("1")), RemoteKey { metadata: true, ..key("default", None) }];
    for key in keys {
        assert_eq!(session.read(&[key]).await.remove(0).expect_err("refused").class, ErrorClass::Invalid);
    }
    assert!(canned.requests().is_empty());
}

#[test]
fn p5_a_store_that_cannot_be_right_is_refused_before_anything_is_sent() {
    for wrong in [
        spec("ftp://issuer.example", ASSERTION, ""),
        spec("https://a:b@issuer.example", ASSERTION, ""),
        spec("https://issuer.example?x=y", ASSERTION, ""),
        spec("https://issuer.example", ASSERTION, r#","parameters":{"client_assertion":"x"}"#),
        spec("https://issuer.example", ASSERTION, r#","caBundle":"nonsense""#),
        spec("https://issuer.example", "{}", ""),
        spec("https://issuer.example", &SECRET.replace("\"key\":\"secret\"", "\"key\":\"other\""), ""),
    ] {
        assert_eq!(open(&wrong).err().map(|error| error.class), Some(ErrorClass::Invalid), "{wrong:?}");
    }
}

#[test]
fn the_issuers_limits_are_shared_by_all_stores_that_name_it() {
    let identity =
        |url: &str, auth: &str| open(&spec(url, auth, "")).expect("valid").identity(account()).expect("known");
    let one = identity("https://issuer.example/a/token", ASSERTION);
    assert_eq!(one.quota.name, "oauth2/https://issuer.example");
    assert_eq!(one.audience, Some(Audience::Of("issuer".into())));
    assert_eq!(identity("https://issuer.example/token", SECRET).audience, None);
}

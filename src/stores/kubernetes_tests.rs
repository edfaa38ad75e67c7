use super::Kubernetes;
use crate::{
    api::{KubernetesServer, KubernetesStore},
    secret::SecretText,
    stores::{
        Audience, Backend, ClusterEndpoint, ErrorClass, HttpClients, Payload, RemoteSecret, StoreError,
        canned::{Canned, answer},
        testing::{account, key, login, opening},
    },
};

fn spec() -> KubernetesStore {
    KubernetesStore { remote_namespace: "vault".into(), server: None, audience: None }
}

fn abroad(url: &str) -> KubernetesStore {
    KubernetesStore {
        server: Some(KubernetesServer { url: url.into(), ca_bundle: None }),
        audience: Some("other".into()),
        ..spec()
    }
}

fn clients() -> HttpClients {
    HttpClients::new(ClusterEndpoint::default())
}

async fn read(canned: &Canned, name: &str, version: Option<&str>) -> Result<RemoteSecret, StoreError> {
    let url = format!("http://{}/prefix/", canned.address);
    let clients = HttpClients::new(ClusterEndpoint { url, ..ClusterEndpoint::default() });
    let backend = Kubernetes::new(&spec(), &opening(&clients)).expect("valid");
    let session = backend.login(login(&SecretText::new("t0ken".into()))).await.expect("logged in");
    assert_eq!(session.expires(), None);
    session.read(&[key(name, version)]).await.remove(0)
}

async fn error(status: &str, headers: &str, body: &str) -> StoreError {
    let canned = Canned::answering(vec![answer(status, headers, body)]).await;
    read(&canned, "feed", None).await.expect_err("an error")
}

#[tokio::test]
async fn a_secret_is_read_with_the_token_from_the_remote_namespace() {
    let body = r#"{"kind":"Secret","data":{"KEY":"dmFsdWU=","EMPTY":""},"type":"Opaque"}"#;
    let canned = Canned::answering(vec![answer("200 OK", "", body)]).await;
    let Payload::Fields(fields) = read(&canned, "feed", None).await.expect("read").payload else { panic!("fields") };
    assert_eq!((fields["KEY"].expose(), fields["EMPTY"].expose()), (&b"value"[..], &b""[..]));
    let request = &canned.requests()[0];
    assert!(request.starts_with("GET /prefix/api/v1/namespaces/vault/secrets/feed HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer t0ken\r\n"), "{request}");
}

#[tokio::test]
async fn a_secret_without_data_is_empty() {
    let canned = Canned::answering(vec![answer("200 OK", "", r#"{"kind":"Secret"}"#)]).await;
    let read = read(&canned, "feed", None).await.expect("read");
    assert!(matches!(read.payload, Payload::Fields(fields) if fields.is_empty()));
}

#[tokio::test]
async fn p5_no_key_leads_to_another_object_or_api() {
    let canned = Canned::answering(vec![answer("200 OK", "", "{}")]).await;
    for key in ["../configmaps/x", "..", "a/b", "", "x?watch=true", "x%2f..", "X"] {
        let error = read(&canned, key, None).await.expect_err(key);
        assert_eq!(error.class, ErrorClass::Invalid, "{key}");
    }
    assert_eq!(read(&canned, "feed", Some("3")).await.expect_err("pinned").class, ErrorClass::Invalid);
    assert!(canned.requests().is_empty());
}

#[tokio::test]
async fn each_refusal_has_its_class_and_says_what_to_do() {
    let denied = error("403 Forbidden", "", r#"{"message":"hunter2"}"#).await;
    assert_eq!((denied.class, denied.session_dead), (ErrorClass::Denied, false));
    assert!(denied.message.contains("in namespace vault") && denied.message.contains(r#"resourceNames ["feed"]"#));
    let unknown = error("401 Unauthorized", "", "").await;
    assert_eq!((unknown.class, unknown.session_dead), (ErrorClass::LoginDenied, true));
    assert_eq!(error("404 Not Found", "", "").await.class, ErrorClass::Missing);
    let throttled = error("429 Too Many Requests", "retry-after: 3\r\n", "").await;
    assert_eq!((throttled.class, throttled.retry_after.map(|wait| wait.as_secs())), (ErrorClass::Throttled, Some(3)));
    for status in ["500 Oops", "503 Down", "302 Found"] {
        assert_eq!(error(status, "", "").await.class, ErrorClass::Unavailable, "{status}");
    }
}

#[tokio::test]
async fn p4_an_answer_that_is_no_secret_is_an_error_without_any_byte_of_it() {
    for body in ["hunter2", r#"{"kind":"Secret","data":{"K":"hunter2!"}}"#, r#"{"kind":"hunter2","data":{}}"#, "{}"] {
        let error = error("200 OK", "", body).await;
        assert_eq!(error.class, ErrorClass::Unavailable, "{body}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

#[test]
fn p5_this_clusters_own_token_goes_to_no_other_address() {
    let here = Kubernetes::new(&spec(), &opening(&clients())).expect("valid");
    assert_eq!(here.identity(account()).expect("identity").audience, Some(Audience::ApiServer));
    let there = Kubernetes::new(&abroad("https://other.example:6443/k8s"), &opening(&clients())).expect("valid");
    assert_eq!(there.identity(account()).expect("identity").audience, Some(Audience::Of("other".into())));
    let mut without_audience = abroad("https://other.example");
    without_audience.audience = None;
    let without_server = KubernetesStore { audience: Some("other".into()), ..spec() };
    let elsewhere = KubernetesStore { remote_namespace: "../kube-system".into(), ..spec() };
    for wrong in [
        without_audience,
        without_server,
        elsewhere,
        abroad("http://other.example"),
        abroad("https://user:pw@other.example"),
        abroad("https://other.example/?a=b"),
        abroad("other.example"),
    ] {
        assert_eq!(
            Kubernetes::new(&wrong, &opening(&clients())).err().map(|error| error.class),
            Some(ErrorClass::Invalid),
            "{wrong:?}"
        );
    }
}

use super::{Dates, Gcp, Reader};
use crate::{
    api::{GcpStore, SecretKeyRef},
    secret::{SecretBytes, SecretText},
    stores::{Backend as _, ClusterEndpoint, Credentials, ErrorClass, HttpClients, Pace, Scope, StoreError, testing},
};
use serde_json::{Value, json};

const AUDIENCE: &str = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/p/providers/one";

fn store(more: &Value) -> GcpStore {
    let mut spec = json!({"projectID": "trading", "auth": {"workloadIdentityFederation": {"audience": AUDIENCE}}});
    spec.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    serde_json::from_value(spec).expect("a store")
}

fn open(scope: Scope, more: &Value, key: Option<&str>) -> Result<Gcp, StoreError> {
    let clients = HttpClients::new(ClusterEndpoint::default());
    let mut opening = testing::opening(&clients);
    opening.scope = scope;
    let values = key.map(|key| (reference(), SecretBytes::new(key.as_bytes().to_vec())));
    opening.credentials = Credentials::new(values.into_iter().collect());
    Gcp::new(&store(more), &opening)
}

fn reference() -> SecretKeyRef {
    SecretKeyRef { name: "key".into(), key: "key.json".into() }
}

#[test]
fn p5_a_namespaces_store_sets_no_token_endpoint_and_uses_no_identity_of_the_operators() {
    for more in [
        json!({"auth": {"ambient": true}}),
        json!({"tokenEndpoints": {"sts": {"url": "https://evil.example"}}}),
        json!({"tokenEndpoints": {}}),
    ] {
        let error = open(Scope::Namespace, &more, None).err().expect("refused");
        assert_eq!(error.class, ErrorClass::Invalid, "{more}");
        assert!(error.message.contains("ClusterBotSecretStore"), "{error}");
        assert!(open(Scope::Cluster, &more, None).is_ok(), "{more}");
    }
}

#[test]
fn p5_a_namespaces_store_sends_an_access_token_to_google_alone() {
    let google = "https://secretmanager.googleapis.com";
    for more in [
        json!({"endpoint": "https://evil.example"}),
        json!({"endpoint": "http://secretmanager.googleapis.com"}),
        json!({"endpoint": "https://secretmanager.googleapis.com:8443"}),
        json!({"endpoint": "https://secretmanager.googleapis.com.evil.example"}),
        json!({"endpoint": "https://evilgoogleapis.com"}),
        json!({"endpoint": "https://googleapis.com"}),
        json!({"endpoint": "https://10.0.0.1"}),
    ] {
        let error = open(Scope::Namespace, &more, None).err().expect("refused");
        assert_eq!(error.class, ErrorClass::Invalid, "{more}");
        assert!(error.message.contains("ClusterBotSecretStore"), "{error}");
        assert!(open(Scope::Cluster, &more, None).is_ok(), "{more}");
    }
    for more in [
        json!({"caBundle": "no certificate"}),
        json!({"caBundle": ""}),
        json!({"endpoint": google, "caBundle": "no certificate"}),
    ] {
        let refusal = |scope| open(scope, &more, None).err().expect("refused").message;
        assert!(refusal(Scope::Namespace).contains("ClusterBotSecretStore"), "{more}");
        // An administrator's is looked at.
        assert!(refusal(Scope::Cluster).contains("no usable certificate"), "{more}");
    }
    for endpoint in
        [google, "https://secretmanager.europe-west1.rep.googleapis.com/", "https://bots.p.googleapis.com:443"]
    {
        assert!(open(Scope::Namespace, &json!({"endpoint": endpoint}), None).is_ok(), "{endpoint}");
    }
}

#[test]
fn p6_stores_of_one_place_share_its_limits_but_not_those_that_go_another_way() -> Result<(), StoreError> {
    let name =
        |more: Value| Ok::<_, StoreError>(open(Scope::Cluster, &more, None)?.identity(testing::account())?.quota.name);
    assert_eq!(name(json!({}))?, "gcp/trading");
    assert_eq!(name(json!({"location": "europe-west1"}))?, "gcp/trading/europe-west1");
    assert_ne!(name(json!({"endpoint": "https://dead.example"}))?, "gcp/trading");
    Ok(())
}

#[test]
fn a_key_is_taken_from_the_stores_credentials() {
    let auth = json!({"auth": {"secretRef": {"secretAccessKeySecretRef": {"name": "key", "key": "key.json"}}}});
    let (file, _) = super::key::tests::file(&json!({}));
    let opened = open(Scope::Namespace, &auth, Some(&file.to_string()));
    let identity = opened.and_then(|gcp| gcp.identity(testing::account())).expect("a login without a token");
    assert_eq!(identity.audience, None);
    for key in [None, Some("{}")] {
        assert_eq!(open(Scope::Namespace, &auth, key).err().expect("refused").class, ErrorClass::Invalid);
    }
}

#[test]
fn a_store_that_cannot_be_right_says_so() {
    for more in [
        json!({"projectID": "a/b"}),
        json!({"location": "eu.evil.example"}),
        json!({"endpoint": "https://user@host"}),
        json!({"endpoint": "https://host/path"}),
        json!({"endpoint": "ftp://host"}),
        json!({"endpoint": "https://host", "caBundle": "no certificate"}),
        json!({"auth": {}}),
    ] {
        assert_eq!(open(Scope::Cluster, &more, None).err().expect("refused").class, ErrorClass::Invalid, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn p6_another_locations_outage_is_no_sign_that_the_stores_own_is_down() {
    // Takes connections, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = format!("http://{}", silent.local_addr().expect("bound"));
    for (own, key, elsewhere) in [
        (None, "a", false),
        (None, "projects/other/secrets/a", false),
        (None, "projects/trading/locations/europe-west1/secrets/a", true),
        (Some("europe-west1"), "a", false),
        (Some("europe-west1"), "projects/other/locations/europe-west1/secrets/a", false),
        (Some("europe-west1"), "projects/trading/secrets/a", true),
        (Some("europe-west1"), "projects/trading/locations/us-east1/secrets/a", true),
    ] {
        let clients = HttpClients::new(ClusterEndpoint::default());
        let mut opening = testing::opening(&clients);
        opening.proxy = Some(proxy.clone());
        let gcp = Gcp::new(&store(&json!({"location": own})), &opening).expect("a store");
        let reader = Reader {
            dates: Dates::default(),
            manager: gcp.manager,
            token: SecretText::new("token".to_owned()),
            expires: None,
            principal: String::new(),
            pace: Pace::default(),
        };
        let error = reader.read_one(&testing::key(key, None)).await.expect_err("no answer");
        assert_eq!((error.class, error.about_one), (ErrorClass::Timeout, elsewhere), "{own:?} {key}: {error}");
    }
}

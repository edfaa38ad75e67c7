//! Google Cloud stores.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    changed, for_everyone, store,
};

const PROVIDER: &str =
    "//iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools/clusters/providers/production";

/// What is not a namespace's to choose.
const OWN: &str =
    "gcp.caBundle, and a gcp.endpoint that is not https below googleapis.com, are for a ClusterBotSecretStore";

fn manager() -> Value {
    store(
        "google",
        json!({"gcp": {
            "projectID": "trading-prod",
            "auth": {"workloadIdentityFederation": {"audience": PROVIDER}},
        }}),
    )
}

#[allow(clippy::too_many_lines, reason = "a table")]
pub fn cases() -> Vec<Case> {
    let (gcp, shared) = (changed(manager()), changed(for_everyone(manager())));
    let (project, location, endpoint, auth) = ("gcp.projectID", "gcp.location", "gcp.endpoint", "gcp.auth");
    let federation = |field: &str| format!("gcp.auth.workloadIdentityFederation.{field}");
    let (audience, email) = (federation("audience"), federation("gcpServiceAccountEmail"));
    let gke = json!({"workloadIdentity": {"clusterLocation": "europe-west1", "clusterName": "bots"}});
    let key = json!({"secretRef": {"secretAccessKeySecretRef": {"name": "google", "key": "key.json"}}});
    let both = json!({"ambient": true, "workloadIdentityFederation": {"audience": PROVIDER}});
    let sts = json!({"sts": {"url": "https://sts.example"}});
    vec![
        gcp("a project", &[], Accepted),
        gcp("a project by number", &[(project, json!("123456789"))], Accepted),
        gcp("a project with its domain", &[(project, json!("example.com:trading"))], Accepted),
        gcp("a project that is a path", &[(project, json!("a/secrets/b"))], Rule("write a project's id or number")),
        gcp("a location", &[(location, json!("europe-west1"))], Accepted),
        gcp("a multi-region", &[(location, json!("eu"))], Accepted),
        gcp("a location that is a host", &[(location, json!("eu.evil.example"))], Rule("write a location")),
        gcp("an endpoint", &[(endpoint, json!("https://bots.p.googleapis.com/"))], Accepted),
        gcp("an endpoint with the usual port", &[(endpoint, json!("https://bots.p.googleapis.com:443"))], Accepted),
        gcp("p5: an endpoint of a namespace's own", &[(endpoint, json!("https://secretmanager.internal"))], Rule(OWN)),
        gcp(
            "p5: an endpoint that begins as Google's",
            &[(endpoint, json!("https://secretmanager.googleapis.com.evil.example"))],
            Rule(OWN),
        ),
        gcp("p5: an endpoint that ends as Google's", &[(endpoint, json!("https://evilgoogleapis.com"))], Rule(OWN)),
        gcp("p5: an endpoint in clear text", &[(endpoint, json!("http://secretmanager.googleapis.com"))], Rule(OWN)),
        gcp(
            "p5: another port of an endpoint",
            &[(endpoint, json!("https://secretmanager.googleapis.com:8443"))],
            Rule(OWN),
        ),
        gcp("p5: certificates of a namespace's own", &[("gcp.caBundle", json!("-----BEGIN"))], Rule(OWN)),
        shared(
            "an administrator's endpoint and certificates",
            &[(endpoint, json!("https://secretmanager.internal:8443/")), ("gcp.caBundle", json!("-----BEGIN"))],
            Accepted,
        ),
        shared(
            "an administrator's endpoint in clear text",
            &[(endpoint, json!("http://secretmanager.internal"))],
            Accepted,
        ),
        gcp("a proxy", &[("proxy", json!("http://proxy.example:3128"))], Accepted),
        gcp(
            "an endpoint with a path",
            &[(endpoint, json!("https://secretmanager.googleapis.com/v1"))],
            Rule("such as https://secretmanager.googleapis.com"),
        ),
        gcp(
            "an endpoint with credentials",
            &[(endpoint, json!("https://a@secretmanager.googleapis.com"))],
            Rule("such as https://secretmanager.googleapis.com"),
        ),
        gcp("a GKE cluster", &[(auth, gke)], Accepted),
        gcp(
            "a GKE cluster and who is impersonated",
            &[(
                auth,
                json!({"workloadIdentity": {
                    "clusterLocation": "europe-west1", "clusterName": "bots",
                    "gcpServiceAccountEmail": "bot@p.iam.gserviceaccount.com",
                }}),
            )],
            Accepted,
        ),
        gcp(
            "a GKE cluster and nobody who could be impersonated",
            &[(
                auth,
                json!({"workloadIdentity": {
                    "clusterLocation": "europe-west1", "clusterName": "bots", "gcpServiceAccountEmail": "a/b",
                }}),
            )],
            Rule("write a service account's e-mail address"),
        ),
        gcp(
            "a GKE cluster without a location",
            &[(auth, json!({"workloadIdentity": {"clusterName": "a"}}))],
            Schema("Required value"),
        ),
        gcp("a key", &[(auth, key)], Accepted),
        gcp("no way to log in", &[(auth, json!({}))], Rule("workloadIdentityFederation, workloadIdentity, secretRef")),
        shared("two ways to log in", &[(auth, both)], Rule("workloadIdentityFederation, workloadIdentity, secretRef")),
        gcp("who is impersonated", &[(&email, json!("bot@trading-prod.iam.gserviceaccount.com"))], Accepted),
        gcp("nobody who could be impersonated", &[(&email, json!("bot"))], Rule("write a service account's e-mail")),
        gcp(
            "whom annotations may name",
            &[(&federation("serviceAccountEmails"), json!(["bot-*@trading-prod.iam.gserviceaccount.com"]))],
            Accepted,
        ),
        gcp("a token's audience", &[(&federation("tokenAudience"), json!("gcp"))], Accepted),
        gcp(
            "a provider with https",
            &[(&audience, json!(format!("https:{PROVIDER}")))],
            Rule("write the provider's full name"),
        ),
        gcp(
            "a provider by the project's id",
            &[(&audience, json!(PROVIDER.replace("123456789", "trading-prod")))],
            Rule("write the provider's full name"),
        ),
        gcp(
            "token endpoints in a namespace",
            &[("gcp.tokenEndpoints", sts.clone())],
            Rule("gcp.tokenEndpoints and gcp.auth.ambient"),
        ),
        gcp(
            "the operator's identity in a namespace",
            &[(auth, json!({"ambient": true}))],
            Rule("gcp.tokenEndpoints and gcp.auth.ambient"),
        ),
        shared("token endpoints of an administrator", &[("gcp.tokenEndpoints", sts)], Accepted),
        shared(
            "a token endpoint with a path",
            &[("gcp.tokenEndpoints", json!({"sts": {"url": "https://sts.example/v1/token"}}))],
            Rule("write scheme, host and port only"),
        ),
        shared("the operator's identity of an administrator", &[(auth, json!({"ambient": true}))], Accepted),
        shared("no identity, said twice", &[(auth, json!({"ambient": false}))], Rule("write true, or leave it out")),
        gcp(
            "another manager besides",
            &[("vault", json!({"address": "https://v", "auth": {"kubernetes": {"role": "r"}}}))],
            Rule("exactly one manager"),
        ),
    ]
}

//! Azure stores.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    changed, for_everyone, store,
};

fn manager() -> Value {
    store(
        "key-vault",
        json!({"azure": {
            "vaultUrl": "https://bots.vault.azure.net",
            "tenantId": "7b795fb9-09d3-42f4-a494-38864f99ba3c",
            "auth": {"workloadIdentity": {"clientId": "11111111-09d3-42f4-a494-38864f99ba3c"}},
        }}),
    )
}

pub fn cases() -> Vec<Case> {
    let (azure, shared) = (changed(manager()), changed(for_everyone(manager())));
    let reference = |key: &str| json!({"name": "entra", "key": key});
    let secret = json!({"secretRef": {"clientId": reference("id"), "clientSecret": reference("secret")}});
    let authority = json!({"url": "https://login.example"});
    let annotated = json!({"workloadIdentity": {"serviceAccountClientIds": ["*"]}});
    let (url, tenant, auth) = ("azure.vaultUrl", "azure.tenantId", "azure.auth");
    vec![
        azure("a vault", &[], Accepted),
        azure("a vault that ends in a slash", &[(url, json!("https://bots.vault.azure.net/"))], Accepted),
        azure(
            "a vault in clear text",
            &[(url, json!("http://bots.vault.azure.net"))],
            Rule("such as https://bots.vault"),
        ),
        azure(
            "a vault with a path",
            &[(url, json!("https://bots.vault.azure.net/secrets"))],
            Rule("such as https://bots.vault"),
        ),
        azure(
            "a vault with credentials",
            &[(url, json!("https://a@bots.vault.azure.net"))],
            Rule("such as https://bots.vault"),
        ),
        azure("a tenant that is a path", &[(tenant, json!("../common"))], Rule("write a tenant's id")),
        azure("a tenant of dots", &[(tenant, json!(".."))], Rule("write a tenant's id")),
        azure("a tenant by name", &[(tenant, json!("example.onmicrosoft.com"))], Accepted),
        azure("a client without a tenant", &[(tenant, json!(null))], Rule("tenantId is missing")),
        azure(
            "a client secret without a tenant",
            &[(tenant, json!(null)), (auth, secret.clone())],
            Rule("tenantId is missing"),
        ),
        azure("a tenant that accounts name", &[(tenant, json!(null)), (auth, annotated.clone())], Accepted),
        azure("a client that accounts name", &[(auth, annotated)], Accepted),
        azure("a client secret", &[(auth, secret.clone())], Accepted),
        azure("no way to log in", &[(auth, json!({}))], Rule("exactly one way to log in")),
        azure(
            "two ways to log in",
            &[("azure.auth.secretRef", secret["secretRef"].clone())],
            Rule("exactly one way to log in"),
        ),
        azure(
            "a client and a list of them",
            &[("azure.auth.workloadIdentity.serviceAccountClientIds", json!(["a"]))],
            Rule("write one of clientId and serviceAccountClientIds"),
        ),
        azure(
            "neither a client nor a list",
            &[(auth, json!({"workloadIdentity": {}}))],
            Rule("write one of clientId and serviceAccountClientIds"),
        ),
        azure(
            "an empty list of clients",
            &[(auth, json!({"workloadIdentity": {"serviceAccountClientIds": []}}))],
            Schema("should have at least 1 items"),
        ),
        azure("a sovereign cloud", &[("azure.environmentType", json!("USGovernmentCloud"))], Accepted),
        azure("an unknown cloud", &[("azure.environmentType", json!("GermanCloud"))], Schema("Unsupported value")),
        azure(
            "p5: another Entra ID in a namespace's store",
            &[("azure.authority", authority.clone())],
            Rule("azure.authority and azure.auth.ambient are for a ClusterBotSecretStore"),
        ),
        azure(
            "p5: the operator's identity in a namespace's store",
            &[(auth, json!({"ambient": {}}))],
            Rule("azure.authority and azure.auth.ambient are for a ClusterBotSecretStore"),
        ),
        azure(
            "p5: certificates of a namespace's own",
            &[("azure.caBundle", json!("-----BEGIN"))],
            Rule("azure.caBundle is for a ClusterBotSecretStore"),
        ),
        azure("a proxy", &[("proxy", json!("http://proxy.example:3128"))], Accepted),
        shared("an administrator's certificates", &[("azure.caBundle", json!("-----BEGIN"))], Accepted),
        shared("another Entra ID", &[("azure.authority", authority)], Accepted),
        shared("the operator's identity", &[(auth, json!({"ambient": {}})), (tenant, json!(null))], Accepted),
        shared(
            "another Entra ID in clear text",
            &[("azure.authority", json!({"url": "http://login.example"}))],
            Rule("write scheme, host and port only"),
        ),
        shared(
            "another vault's domain",
            &[("azure.authority", json!({"url": "https://login.example", "vaultResource": "https://vault.example"}))],
            Accepted,
        ),
    ]
}

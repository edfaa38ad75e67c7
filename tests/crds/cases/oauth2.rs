//! OAuth 2 stores.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    changed, store,
};

fn manager() -> Value {
    store(
        "issuer",
        json!({"oauth2": {
            "tokenURL": "https://login.example/oauth2/token",
            "auth": {"federatedAssertion": {"clientID": "bot", "audience": "https://login.example"}},
        }}),
    )
}

pub fn cases() -> Vec<Case> {
    let case = changed(manager());
    let exchange = json!({"audience": "https://login.example"});
    let secret = json!({"clientID": "bot", "secretRef": {"name": "client", "key": "secret"}});
    let mut cases = vec![
        case("an issuer", &[], Accepted),
        case(
            "scopes and parameters",
            &[
                ("oauth2.scopes", json!(["read", "write"])),
                ("oauth2.parameters", json!({"audience": "https://api.example", "resource": "urn:x"})),
            ],
            Accepted,
        ),
        case("an exchange", &[("oauth2.auth", json!({"tokenExchange": exchange}))], Accepted),
        case("a client secret", &[("oauth2.auth", json!({"clientSecret": secret}))], Accepted),
        case("two ways", &[("oauth2.auth.tokenExchange", exchange)], Rule("exactly one way to log in: federated")),
        case("no way", &[("oauth2.auth", json!({}))], Rule("exactly one way to log in: federated")),
        case("no audience", &[("oauth2.auth.federatedAssertion.audience", json!(null))], Schema("Required value")),
        case("the same scope twice", &[("oauth2.scopes", json!(["a", "a"]))], Schema("Duplicate value")),
        case(
            "a client secret in a path",
            &[("oauth2.auth", json!({"clientSecret": with_name(secret, "../a")}))],
            Rule("write a Secret's name"),
        ),
    ];
    for (url, verdict) in [
        ("http://issuer:8080/token", Accepted),
        ("https://login.example", Accepted),
        ("https://a:b@login.example/token", Rule("write a URL without credentials")),
        ("https://login.example/token?x=y", Rule("write a URL without credentials")),
        ("https://login.example/token#x", Rule("write a URL without credentials")),
        ("file:///etc/passwd", Rule("write a URL without credentials")),
    ] {
        cases.push(case("a token endpoint", &[("oauth2.tokenURL", json!(url))], verdict));
    }
    for name in ["grant_type", "client_assertion", "scope", "subject_token", "requested_token_type"] {
        let parameters = json!({name: "x"});
        cases.push(case("a parameter", &[("oauth2.parameters", parameters)], Rule("the operator's to write")));
    }
    cases
}

fn with_name(mut secret: Value, name: &str) -> Value {
    secret["secretRef"]["name"] = json!(name);
    secret
}

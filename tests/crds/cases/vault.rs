//! Vault stores with stored credentials.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    changed, vault_store,
};

pub fn cases() -> Vec<Case> {
    let vault = changed(vault_store());
    let case = |name, auth: Value, verdict| vault(name, &[("vault.auth", auth)], verdict);
    let reference = json!({"name": "credentials", "key": "id"});
    let app_role = |role: &[(&str, Value)]| {
        let mut spec = json!({"secretRef": reference});
        for (name, value) in role {
            spec[*name] = value.clone();
        }
        json!({ "appRole": spec })
    };
    vec![
        case("an AppRole", app_role(&[("roleId", json!("a")), ("path", json!("team/approle"))]), Accepted),
        case("an AppRole whose role id is stored", app_role(&[("roleRef", reference.clone())]), Accepted),
        case(
            "an AppRole with two role ids",
            app_role(&[("roleId", json!("a")), ("roleRef", reference.clone())]),
            Rule("write one of roleId and roleRef"),
        ),
        case("an AppRole without role id", app_role(&[]), Rule("write one of roleId and roleRef")),
        case("an AppRole without secret id", json!({"appRole": {"roleId": "a"}}), Schema("Required value")),
        case("a certificate", json!({"cert": {"clientCert": reference, "secretRef": reference}}), Accepted),
        case("a certificate without key", json!({"cert": {"clientCert": reference}}), Schema("Required value")),
        case("a token", json!({"tokenSecretRef": reference}), Accepted),
        case(
            "a token of another namespace",
            json!({"tokenSecretRef": {"name": "a/b", "key": "token"}}),
            Rule("write a Secret's name"),
        ),
        case(
            "a token and a role",
            json!({"tokenSecretRef": reference, "kubernetes": {"role": "bots"}}),
            Rule("exactly one way to log in: kubernetes, jwt"),
        ),
    ]
}

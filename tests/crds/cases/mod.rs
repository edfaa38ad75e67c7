//! Manifests that the API server must take, and those that it must refuse and
//! with which words.

mod aws;
mod azure;
mod gcp;
mod oauth2;
mod rollout;
mod rotation;
mod shaping;
mod target;
mod vault;

use serde_json::{Value, json};

/// What is to become of a manifest.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    Accepted,
    /// Refused by a CEL rule whose message contains this.
    Rule(&'static str),
    /// Refused by the schema itself, in the API server's own words.
    Schema(&'static str),
}

pub struct Case {
    pub name: &'static str,
    /// What is there already, where the case is an update.
    pub before: Option<Value>,
    pub object: Value,
    pub verdict: Verdict,
}

use Verdict::{Accepted, Rule, Schema};

fn bot_secret() -> Value {
    json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": {"name": "price-bot"},
        "spec": {
            "serviceAccountName": "price-bot",
            "storeRef": {"name": "vault"},
            "data": [{"secretKey": "KEY", "remoteRef": {"key": "kv/price-bot", "property": "key"}}],
        },
    })
}

fn vault_store() -> Value {
    store(
        "vault",
        json!({"vault": {"address": "https://vault.example:8200", "auth": {"kubernetes": {"role": "bots"}}}}),
    )
}

fn kubernetes_store() -> Value {
    store("near", json!({"kubernetes": {"remoteNamespace": "vault-of-secrets"}}))
}

/// A namespace's own store.
fn store(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": {"name": name}, "spec": spec,
    })
}

/// The same as an administrator's, for every namespace.
fn for_everyone(mut store: Value) -> Value {
    store["kind"] = json!("ClusterBotSecretStore");
    store["spec"]["namespaces"] = json!(["*"]);
    store
}

/// A manifest of something that is not there yet.
fn case(name: &'static str, object: Value, verdict: Verdict) -> Case {
    Case { name, before: None, object, verdict }
}

/// Makes cases of one manifest, each with other fields changed ([`with`]).
fn changed(base: Value) -> impl Fn(&'static str, &[(&str, Value)], Verdict) -> Case {
    move |name, changes, verdict| case(name, with(base.clone(), changes), verdict)
}

/// `base` with the fields at these paths below `spec` set, or with null taken
/// away.
fn with(mut base: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let (parents, last) = path.rsplit_once('.').map_or((None, *path), |(parents, last)| (Some(parents), last));
        let mut at = &mut base["spec"];
        for name in parents.into_iter().flat_map(|parents| parents.split('.')) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        if value.is_null() {
            at.as_object_mut().expect("an object").remove(last);
        } else {
            at[last] = value.clone();
        }
    }
    base
}

#[allow(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    let (bot, vault) = (changed(bot_secret()), changed(vault_store()));
    let (near, shared) = (changed(kubernetes_store()), changed(for_everyone(kubernetes_store())));
    let mut cases = vec![
        bot("the least that works", &[], Accepted),
        bot(
            "data from a whole remote secret",
            &[("data", json!(null)), ("dataFrom", json!([{"extract": {"key": "a"}}]))],
            Accepted,
        ),
        bot("no data at all", &[("data", json!(null))], Rule("nothing to read")),
        bot("empty lists of data", &[("data", json!([])), ("dataFrom", json!([]))], Rule("nothing to read")),
        bot("no store", &[("storeRef", json!(null))], Rule("no store")),
        bot("a store on each entry", &[("storeRef", json!(null)), ("data.0.storeRef", json!({"name": "v"}))], Accepted),
        bot(
            "a store on only one of the lists",
            &[
                ("storeRef", json!(null)),
                ("data.0.storeRef", json!({"name": "v"})),
                ("dataFrom", json!([{"extract": {"key": "a"}}])),
            ],
            Rule("no store"),
        ),
        bot("a cluster store", &[("storeRef.kind", json!("ClusterBotSecretStore"))], Accepted),
        bot("an unknown kind of store", &[("storeRef.kind", json!("SecretStore"))], Schema("Unsupported value")),
        bot("no ServiceAccount", &[("serviceAccountName", json!(null))], Schema("Required value")),
        bot(
            "a ServiceAccount that cannot exist",
            &[("serviceAccountName", json!("../admin"))],
            Rule("write a ServiceAccount's name"),
        ),
        bot(
            "the same key twice",
            &[(
                "data",
                json!([
                    {"secretKey": "A", "remoteRef": {"key": "a"}}, {"secretKey": "A", "remoteRef": {"key": "b"}},
                ]),
            )],
            Schema("Duplicate value"),
        ),
        bot("an empty property", &[("data.0.remoteRef.property", json!(""))], Schema("should be at least 1 chars")),
    ];
    for (value, verdict) in [
        (json!(0), Accepted),
        (json!("0"), Accepted),
        (json!("0s"), Accepted),
        (json!("1s"), Accepted),
        (json!("1m30s"), Accepted),
        (json!("1.5h"), Accepted),
        (json!("2160h"), Accepted),
        (json!(30), Rule("write a duration")),
        (json!("30"), Rule("write a duration")),
        (json!("999ms"), Rule("write a duration")),
        (json!("-1m"), Rule("write a duration")),
        (json!("1d"), Rule("write a duration")),
        (json!(""), Rule("write a duration")),
        (json!("1 h"), Rule("write a duration")),
        (json!("9999999999999999999h"), Rule("write a duration")),
        (json!(1.5), Schema("must be of type")),
        (json!(true), Schema("must be of type")),
    ] {
        cases.push(bot("a refresh interval", &[("refreshInterval", value)], verdict));
    }
    for (key, verdict) in [
        (".dockerconfigjson", Accepted),
        ("tls.crt", Accepted),
        ("_A-b.9", Accepted),
        (".", Rule("a Secret's key")),
        ("..a", Rule("a Secret's key")),
        ("a/b", Rule("a Secret's key")),
        ("a b", Rule("a Secret's key")),
        ("ä", Rule("a Secret's key")),
    ] {
        cases.push(bot("a Secret's key", &[("data.0.secretKey", json!(key))], verdict));
    }
    cases.push(bot(
        "a key that is too long",
        &[("data.0.secretKey", json!("k".repeat(254)))],
        Schema("may not be more than 253"),
    ));
    for more in [
        target::cases,
        rollout::cases,
        rotation::cases,
        aws::cases,
        azure::cases,
        gcp::cases,
        oauth2::cases,
        shaping::cases,
        vault::cases,
    ] {
        cases.extend(more());
    }
    cases.extend([
        vault("a Vault", &[], Accepted),
        vault("a proxy", &[("proxy", json!("http://proxy.example:3128"))], Accepted),
        vault(
            "a proxy with a password",
            &[("proxy", json!("http://me:pw@proxy.example:3128"))],
            Rule("write an http URL without credentials"),
        ),
        near(
            "a proxy before this cluster's own API",
            &[("proxy", json!("http://proxy.example:3128"))],
            Rule("not asked through a proxy"),
        ),
        near("a namespace", &[], Accepted),
        vault("two managers", &[("kubernetes", json!({"remoteNamespace": "a"}))], Rule("exactly one manager")),
        vault("no manager", &[("vault", json!(null))], Rule("exactly one manager")),
        vault(
            "another scheme",
            &[("vault.address", json!("file:///etc/passwd"))],
            Rule("write scheme, host and port only"),
        ),
        vault(
            "an address with a path",
            &[("vault.address", json!("https://vault.example/v1/"))],
            Rule("write scheme, host and port only"),
        ),
        vault(
            "an address with credentials",
            &[("vault.address", json!("https://a:b@vault.example"))],
            Rule("write scheme, host and port only"),
        ),
        vault("an address that ends in a slash", &[("vault.address", json!("http://vault:8200/"))], Accepted),
        vault("a namespace of Vault's", &[("vault.namespace", json!("team/a"))], Accepted),
        vault(
            "a namespace that is no header",
            &[("vault.namespace", json!("team\r\nX-Vault-Token: a"))],
            Rule("printable ASCII"),
        ),
        vault("two ways to log in", &[("vault.auth.jwt", json!({"role": "bots"}))], Rule("exactly one way to log in")),
        vault("no way to log in", &[("vault.auth", json!({}))], Rule("exactly one way to log in")),
        vault("the jwt way", &[("vault.auth", json!({"jwt": {"role": "bots", "path": "jwt"}}))], Accepted),
        vault("no role", &[("vault.auth", json!({"jwt": {}}))], Schema("Required value")),
        vault("version three", &[("vault.version", json!("v3"))], Schema("Unsupported value")),
        near(
            "another cluster",
            &[("kubernetes.server", json!({"url": "https://far.example:6443"})), ("kubernetes.audience", json!("far"))],
            Accepted,
        ),
        near(
            "another cluster without its audience",
            &[("kubernetes.server", json!({"url": "https://far.example:6443"}))],
            Rule("both server and audience"),
        ),
        near(
            "an audience for this cluster",
            &[("kubernetes.audience", json!("far"))],
            Rule("both server and audience"),
        ),
        near(
            "another cluster in clear text",
            &[("kubernetes.server", json!({"url": "http://far.example"})), ("kubernetes.audience", json!("far"))],
            Rule("write an https URL"),
        ),
        near(
            "a namespace that is a path",
            &[("kubernetes.remoteNamespace", json!("../kube-system"))],
            Rule("write a namespace's name"),
        ),
        shared("a store for everyone", &[], Accepted),
        shared("a store for no one", &[("namespaces", json!([]))], Schema("should have at least 1 items")),
        shared("a store for nobody said", &[("namespaces", json!(null))], Schema("Required value")),
        shared("a store without a manager", &[("kubernetes", json!(null))], Rule("exactly one manager")),
    ]);
    for (timeout, verdict) in [
        ("10s", Accepted),
        ("100ms", Accepted),
        ("2m", Accepted),
        ("99ms", Rule("from 100ms to 2m")),
        ("121s", Rule("from 100ms to 2m")),
        ("1h", Rule("from 100ms to 2m")),
        ("10", Rule("from 100ms to 2m")),
    ] {
        cases.push(vault("a timeout", &[("limits", json!({"timeout": timeout}))], verdict));
    }
    cases.push(vault(
        "no requests at all",
        &[("limits", json!({"requestsPerSecond": 0}))],
        Schema("greater than or equal to 1"),
    ));
    cases
}

//! Who may read which parameter: the peer looks at no names where several are
//! asked for at once, so the front does. And who may read which secret of
//! another account: the peer knows of none.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cluster::lock;

/// Actions that the peer allows on everything or on nothing.
const ACTIONS: [&str; 2] = ["ssm:GetParameters", "ssm:GetParametersByPath"];

#[derive(Clone, Debug, Default)]
pub(super) struct Rights(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Statements by role or user.
    policies: HashMap<String, Value>,
    /// The role or user by access key.
    keys: HashMap<String, String>,
    /// Secrets by ARN, and roles of other accounts that their policies let in.
    shared: HashSet<(String, String)>,
}

/// What comes of a read in another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abroad<'a> {
    /// It may be made there.
    In(&'a str),
    /// AWS denies it, in these words.
    Denied(&'static str),
}

impl Rights {
    /// What a role or user may do; the answer is what the peer is to be told.
    pub(super) fn allow(&self, who: &str, statements: &Value) -> Value {
        lock(&self.0).policies.insert(who.to_owned(), statements.clone());
        let mut told = statements.as_array().cloned().unwrap_or_default();
        told.push(json!({"Effect": "Allow", "Action": ACTIONS, "Resource": "*"}));
        Value::Array(told)
    }

    pub(super) fn key_of(&self, key: &str, who: &str) {
        lock(&self.0).keys.insert(key.to_owned(), who.to_owned());
    }

    /// Remembers whose key STS has issued.
    pub(super) fn issued(&self, answer: &str) {
        let between = |from: &str| answer.split_once(from).and_then(|(_, rest)| rest.split(['/', '<']).next());
        if let (Some(key), Some(role)) = (between("<AccessKeyId>"), between(":assumed-role/")) {
            self.key_of(key, role);
        }
    }

    pub(super) fn share(&self, secret: &str, role: &str) {
        let name = role.rsplit('/').next().unwrap_or_default();
        lock(&self.0).shared.insert((secret.to_owned(), name.to_owned()));
    }

    /// What becomes of a read of one secret by this key; `None`: it is no read
    /// in another account. Both policies count there, the role's and the
    /// secret's.
    pub(super) fn abroad<'a>(&self, key: &str, action: &str, secret: &'a str) -> Option<Abroad<'a>> {
        let account = secret.strip_prefix("arn:")?.split(':').nth(3).filter(|account| *account != super::ACCOUNT)?;
        if !matches!(action, "GetSecretValue" | "DescribeSecret") {
            return None;
        }
        let known = lock(&self.0);
        let role = known.keys.get(key)?;
        let statements = known.policies.get(role).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if !allows(statements, &format!("secretsmanager:{action}"), secret) {
            return Some(Abroad::Denied("no identity-based policy allows it"));
        }
        if !known.shared.contains(&(secret.to_owned(), role.clone())) {
            return Some(Abroad::Denied("no resource-based policy allows it"));
        }
        Some(Abroad::In(account))
    }

    /// The first parameter that this key may not read in this way.
    pub(super) fn denied(&self, key: &str, region: &str, action: &str, input: &Value) -> Option<String> {
        let action = format!("ssm:{action}");
        if !ACTIONS.contains(&action.as_str()) {
            return None;
        }
        let known = lock(&self.0);
        let policy = known.keys.get(key).and_then(|who| known.policies.get(who));
        let statements = policy.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names = input["Names"].as_array().cloned().unwrap_or_else(|| vec![input["Path"].clone()]);
        let mut resources = names.iter().filter_map(Value::as_str).map(|name| resource(name, region));
        resources.find(|resource| !allows(statements, &action, resource))
    }
}

fn allows(statements: &[Value], action: &str, resource: &str) -> bool {
    statements.iter().any(|statement| {
        statement["Effect"] == "Allow" && has(&statement["Action"], action) && has(&statement["Resource"], resource)
    })
}

fn resource(name: &str, region: &str) -> String {
    if name.starts_with("arn:") {
        return name.splitn(7, ':').take(6).collect::<Vec<_>>().join(":");
    }
    let name = name.split(':').next().unwrap_or_default().trim_matches('/');
    format!("arn:aws:ssm:{region}:{}:parameter/{name}", super::ACCOUNT)
}

fn has(allowed: &Value, wanted: &str) -> bool {
    let fits = |pattern: &Value| pattern.as_str().is_some_and(|pattern| matches(pattern, wanted));
    allowed.as_array().map_or_else(|| fits(allowed), |patterns| patterns.iter().any(fits))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde_json::json;

use super::{AccountFacts, Change, Departed, Elsewhere, ObjectKey, Scoped, Wake, World};
use crate::{
    api::{BotSecret, BotSecretStore, CreationPolicy, LABEL_OWNER, WorkloadKind},
    fetch::SecretVersion,
    watch::{DeploymentView, RolloutView, SecretFacts, WorkloadFacts, WorkloadView},
};

fn bot_secret(name: &str, version: u64, target: &str) -> BotSecret {
    let value = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
            "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", version.min(59)) },
        "spec": { "serviceAccountName": "bot", "storeRef": { "name": "store" }, "target": { "name": target },
            "dataFrom": [{ "extract": { "key": "remote" } }] },
    });
    serde_json::from_value(value).expect("a BotSecret")
}

fn secret(name: &str, uid: &str, version: u64) -> SecretFacts {
    SecretFacts::of(ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(uid.to_owned()),
        resource_version: Some(version.to_string()),
        labels: Some(BTreeMap::from([(LABEL_OWNER.to_owned(), "one".to_owned())])),
        ..ObjectMeta::default()
    })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn world_of(objects: &[BotSecret]) -> World {
    let mut world = World::default();
    for object in objects {
        world.take("", Change::BotSecret(Scoped::Put(Box::new(object.clone()))));
    }
    world
}

#[test]
fn p6_a_change_wakes_exactly_those_that_it_concerns() {
    let mut other = bot_secret("other", 2, "b");
    other.spec.service_account_name = "somebody".to_owned();
    let mut world = world_of(&[bot_secret("one", 1, "a"), other]);
    let account = |name: &str, uid: &str| {
        Change::ServiceAccount(Scoped::Put((
            key(name),
            AccountFacts { uid: uid.to_owned(), ..AccountFacts::default() },
        )))
    };
    assert_eq!(world.take("", account("bot", "1")), [(key("one"), Wake::Read)]);
    assert_eq!(world.take("", account("bot", "1")), []);
    assert_eq!(world.take("", account("nobody", "2")), []);
    let store = json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore",
        "metadata": { "name": "store", "namespace": "ns", "uid": "s" }, "spec": { "kubernetes": { "remoteNamespace": "x" } } });
    let store: BotSecretStore = serde_json::from_value(store).expect("a store");
    let woken = world.take("", Change::Store(Scoped::Put(Box::new(store.clone()))));
    assert_eq!(woken, [(key("one"), Wake::Read), (key("other"), Wake::Read)]);
    assert_eq!(world.take("", Change::Store(Scoped::Put(Box::new(store)))), []);
}

#[test]
fn p2_news_that_are_none_wake_nobody() {
    let mut world = world_of(&[bot_secret("one", 5, "a")]);
    let put = |object: BotSecret| Change::BotSecret(Scoped::Put(Box::new(object)));
    assert_eq!(world.take("", put(bot_secret("one", 5, "a"))), [], "a relist sends what is known");
    assert_eq!(world.take("", put(bot_secret("one", 4, "old"))), [], "a watch that lags behind our own write");
    assert_eq!(world.observe(&key("one")).expect("there").bot_secret.target_name(), "a");
}

#[test]
fn p11_a_secret_that_was_deleted_while_it_was_written_stays_deleted() {
    let mut world = world_of(&[bot_secret("one", 1, "a")]);
    world.take("", Change::Secret(Scoped::Put(Box::new(secret("a", "u1", 10)))));
    assert_eq!(world.take("", Change::Secret(Scoped::Gone(key("a")))), [(key("one"), Wake::Read)]);
    world.wrote_secret(secret("a", "u1", 10), CreationPolicy::Owner);
    assert!(world.observe(&key("one")).expect("there").secret.is_none());
    world.wrote_secret(secret("a", "u2", 12), CreationPolicy::Owner);
    assert!(world.observe(&key("one")).expect("there").secret.is_some());
}

#[test]
fn p11_an_answer_to_a_write_does_not_cover_what_somebody_wrote_after_it() {
    let mut world = world_of(&[bot_secret("one", 1, "a")]);
    world.take("", Change::Secret(Scoped::Put(Box::new(secret("a", "u1", 11)))));
    world.wrote_secret(secret("a", "u1", 10), CreationPolicy::Owner);
    let seen = world.observe(&key("one")).expect("there").secret.expect("there");
    assert_eq!(seen.resource_version, "11");
}

#[test]
fn p5_of_two_with_one_target_the_older_wins_and_the_younger_knows() {
    let world = world_of(&[bot_secret("one", 1, "a"), bot_secret("two", 2, "a")]);
    let (older, younger) = (world.observe(&key("one")).expect("there"), world.observe(&key("two")).expect("there"));
    assert_eq!((older.older_rival, older.younger_rivals), (None, vec!["two".to_owned()]));
    assert_eq!((younger.older_rival, younger.younger_rivals), (Some("one".to_owned()), Vec::new()));
}

#[test]
fn workloads_are_kept_by_what_they_use_and_not_at_all_without() {
    let view = |secret: Option<&str>| {
        let env = secret.map(|name| json!([{ "secretRef": { "name": name } }]));
        let value = json!({ "metadata": { "name": "bot", "namespace": "ns", "uid": "d" },
            "spec": { "selector": {}, "template": { "spec": { "containers": [{ "name": "c", "envFrom": env }] } } } });
        let view: DeploymentView = serde_json::from_value(value).expect("a Deployment");
        Change::Workload(WorkloadKind::Deployment, Scoped::Put(Box::new(view.facts())))
    };
    let mut world = world_of(&[bot_secret("one", 1, "a")]);
    assert_eq!(world.take("", view(None)), []);
    assert_eq!(world.take("", view(Some("a"))), [(key("one"), Wake::Look)]);
    assert_eq!(world.take("", view(Some("a"))), []);
    assert_eq!(world.observe(&key("one")).expect("there").workloads.len(), 1);
    assert_eq!(world.take("", view(None)), [(key("one"), Wake::Look)], "the one that it used");
    assert!(world.observe(&key("one")).expect("there").workloads.is_empty());
}

#[test]
fn p3_a_failure_of_a_workload_is_shown_to_the_other_botsecrets_that_it_uses_and_wakes_them() {
    let mut world = world_of(&[bot_secret("one", 1, "a"), bot_secret("two", 2, "b"), bot_secret("three", 3, "c")]);
    let env = json!([{ "secretRef": { "name": "a" } }, { "secretRef": { "name": "b" } }]);
    let view = json!({ "metadata": { "name": "bot", "namespace": "ns", "uid": "d" },
        "spec": { "selector": {}, "template": { "spec": { "containers": [{ "name": "c", "envFrom": env }] } } } });
    let view: DeploymentView = serde_json::from_value(view).expect("a Deployment");
    world.take("", Change::Workload(WorkloadKind::Deployment, Scoped::Put(Box::new(view.facts()))));
    let told = |version, state: &str| {
        let mut object = bot_secret("one", version, "a");
        let workload = json!({ "kind": "Deployment", "name": "bot", "uid": "d", "revision": "2.k.f", "state": state,
            "patches": 1, "since": "2026-01-01T00:00:09Z", "rolledAt": "2026-01-01T00:00:05Z" });
        let target = json!({ "name": "a", "uid": "s", "resourceVersion": "1", "revision": "2.k.f" });
        let status =
            json!({ "target": target, "rollout": { "revision": "2.k.f", "complete": false, "workloads": [workload] } });
        object.status = serde_json::from_value(status).expect("a status");
        object
    };
    let shared = |world: &World, name| world.observe(&key(name)).expect("there").shared;
    let one = |second| Some(("one".to_owned(), format!("2026-01-01T00:00:0{second}Z").parse().expect("a time")));
    let failed = Elsewhere { failed: one(5), ..Elsewhere::default() };
    assert_eq!(shared(&world, "two")["d"], Elsewhere::default());
    assert_eq!(world.wrote_bot_secret(told(11, "Failed")), [(key("two"), Wake::Look)]);
    assert_eq!(shared(&world, "two")["d"], failed, "in the rollout that began then");
    assert_eq!(shared(&world, "one")["d"], Elsewhere::default(), "it knows that by itself");
    let by_watch = Change::BotSecret(Scoped::Put(Box::new(told(12, "Failed"))));
    assert_eq!(world.take("", by_watch), [(key("one"), Wake::Look)], "nothing new");
    let by_watch = Change::BotSecret(Scoped::Put(Box::new(told(13, "Rolling"))));
    assert_eq!(world.take("", by_watch), [(key("two"), Wake::Look), (key("one"), Wake::Look)]);
    assert_eq!(shared(&world, "two")["d"], Elsewhere { rolls: one(9), ..Elsewhere::default() });
    assert_eq!(world.wrote_bot_secret(told(14, "RolledOut")), [(key("two"), Wake::Look)], "it waits for that");
    world.wrote_bot_secret(told(15, "Failed"));
    let mut suspended = told(16, "Failed");
    suspended.spec.suspend = Some(true);
    assert_eq!(world.wrote_bot_secret(suspended), [(key("two"), Wake::Look)]);
    assert_eq!(shared(&world, "two")["d"], Elsewhere::default(), "nothing will come of it");
    world.wrote_bot_secret(told(17, "Failed"));
    let gone = Change::BotSecret(Scoped::Gone(key("one")));
    assert!(world.take("", gone).contains(&(key("two"), Wake::Look)));
}

fn account(annotations: &[(&str, &str)]) -> Change {
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let meta = ObjectMeta { uid: Some("1".to_owned()), annotations: Some(annotations), ..ObjectMeta::default() };
    Change::ServiceAccount(Scoped::Put((key("bot"), AccountFacts::of(meta))))
}

#[test]
fn p6_whoever_rotates_and_the_store_of_that_wake_those_that_they_rotate_for() {
    let mut rotated = bot_secret("one", 1, "a");
    rotated.spec.service_account_name = "somebody".to_owned();
    let rotation = json!({ "every": "1h", "serviceAccountName": "bot", "storeRef": { "name": "writer" } });
    rotated.spec.rotation = Some(serde_json::from_value(rotation).expect("a rotation"));
    let mut world = world_of(&[rotated, bot_secret("other", 2, "b")]);
    assert_eq!(world.take("", account(&[])), [(key("one"), Wake::Read), (key("other"), Wake::Read)]);
    let seen = world.observe(&key("one")).expect("there");
    assert_eq!((seen.account.is_none(), seen.rotator.map(|account| account.name)), (true, Some("bot".to_owned())));
    assert_eq!(world.observe(&key("other")).expect("there").rotator, None, "nothing is rotated");
    let store = json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore",
        "metadata": { "name": "writer", "namespace": "ns", "uid": "w" },
        "spec": { "allowRotation": true, "kubernetes": { "remoteNamespace": "x" } } });
    let store: BotSecretStore = serde_json::from_value(store).expect("a store");
    assert_eq!(world.take("", Change::Store(Scoped::Put(Box::new(store)))), [(key("one"), Wake::Read)]);
    let seen = world.observe(&key("one")).expect("there");
    assert!(seen.stores.values().flatten().any(|store| store.allows_rotation), "{:?}", seen.stores);
}

#[test]
fn p6_an_identity_annotation_wakes_its_users_and_any_other_nobody() {
    let mut other = bot_secret("other", 2, "b");
    other.spec.service_account_name = "somebody".to_owned();
    let mut world = world_of(&[bot_secret("one", 1, "a"), other]);
    let role = ("eks.amazonaws.com/role-arn", "arn:aws:iam::1:role/a");
    assert_eq!(world.take("", account(&[role])), [(key("one"), Wake::Read)]);
    assert_eq!(world.take("", account(&[role, ("kubectl.kubernetes.io/last-applied-configuration", "{}")])), []);
    let seen = world.observe(&key("one")).expect("there").account.expect("there");
    assert_eq!(seen.annotations, BTreeMap::from([(role.0.to_owned(), role.1.to_owned())]));
    assert_eq!(world.take("", account(&[(role.0, "arn:aws:iam::1:role/b")])), [(key("one"), Wake::Read)]);
    assert_eq!(world.take("", account(&[])), [(key("one"), Wake::Read)]);
}

#[test]
fn p5_an_account_that_was_deleted_or_made_anew_has_departed_and_one_that_changed_has_not() {
    let put = |name: &str, uid: &str| {
        Change::ServiceAccount(Scoped::Put((
            key(name),
            AccountFacts { uid: uid.to_owned(), ..AccountFacts::default() },
        )))
    };
    let departed = |uid: &str| Departed::Account(uid.to_owned());
    let mut world = World::default();
    world.take("", put("bot", "1"));
    world.take("", account(&[("eks.amazonaws.com/role-arn", "arn:aws:iam::1:role/a")]));
    world.take("", put("other", "2"));
    assert_eq!(world.take_departed(), [], "there they are");
    world.take("", put("bot", "3"));
    assert_eq!(world.take_departed(), [departed("1")], "another of the same name");
    world.take("", Change::ServiceAccount(Scoped::Gone(key("bot"))));
    world.take("", Change::ServiceAccount(Scoped::Gone(key("bot"))));
    assert_eq!(world.take_departed(), [departed("3")], "once");
    // A relist does not tell of what was deleted meanwhile.
    world.take("", Change::ServiceAccount(Scoped::Begin));
    world.take("", put("new", "4"));
    assert_eq!(world.take_departed(), []);
    world.take("", Change::ServiceAccount(Scoped::End));
    assert_eq!(world.take_departed(), [departed("2")]);
}

#[test]
fn a_store_that_was_deleted_or_made_anew_has_departed_and_one_that_was_edited_has_not() {
    fn put<T: serde::de::DeserializeOwned>(kind: &str, name: &str, uid: &str, remote: &str) -> Scoped<Box<T>> {
        let store = json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": kind,
            "metadata": { "name": name, "namespace": (kind == "BotSecretStore").then_some("ns"), "uid": uid },
            "spec": { "namespaces": ["*"], "kubernetes": { "remoteNamespace": remote } } });
        Scoped::Put(Box::new(serde_json::from_value(store).expect("a store")))
    }
    let local = |name: &str, uid: &str, remote: &str| Change::Store(put("BotSecretStore", name, uid, remote));
    let cluster = |uid: &str| Change::ClusterStore(put("ClusterBotSecretStore", "store", uid, "x"));
    let departed = |uids: &[&str]| uids.iter().map(|uid| Departed::Store((*uid).to_owned())).collect::<Vec<_>>();
    let mut world = world_of(&[bot_secret("one", 1, "a")]);
    for (change, woken, gone) in [
        (local("store", "1", "x"), true, &[] as &[&str]),
        (local("store", "1", "x"), false, &[]),
        (local("store", "1", "y"), true, &[]),
        (cluster("c"), false, &[]),
        // Another of the same name, though it says the same.
        (local("store", "2", "y"), true, &["1"]),
        (local("other", "3", "x"), false, &[]),
        (Change::ClusterStore(Scoped::Gone(ObjectKey::new("", "store"))), false, &["c"]),
        (Change::ClusterStore(Scoped::Gone(ObjectKey::new("", "store"))), false, &[]),
        // A relist does not tell of what was deleted meanwhile.
        (Change::Store(Scoped::Begin), false, &[]),
        (local("store", "4", "y"), true, &["2"]),
        (Change::Store(Scoped::End), false, &["3"]),
        (Change::Store(Scoped::Gone(key("store"))), true, &["4"]),
    ] {
        let said = format!("{change:?}");
        assert_eq!(!world.take("", change).is_empty(), woken, "{said}");
        assert_eq!(world.take_departed(), departed(gone), "{said}");
    }
}

fn store_of(kind: &str, name: &str, secret: &str) -> serde_json::Value {
    json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": (kind == "BotSecretStore").then_some("ns"), "uid": format!("uid-{name}") },
        "spec": { "namespaces": ["*"], "vault": { "address": "https://vault.example",
            "auth": { "tokenSecretRef": { "name": secret, "key": "token" } } } } })
}

/// BotSecrets `local` and `cluster`, each with a store that has a credential,
/// and `neither`, whose store has none.
fn world_with_credentials() -> World {
    let [mut cluster, mut neither] = [bot_secret("cluster", 2, "b"), bot_secret("neither", 3, "c")];
    cluster.spec.store_ref = serde_json::from_value(json!({"name": "shared", "kind": "ClusterBotSecretStore"})).ok();
    neither.spec.store_ref = serde_json::from_value(json!({"name": "plain"})).ok();
    let mut world = World::new("system");
    for object in [bot_secret("local", 1, "a"), cluster, neither] {
        world.take("", Change::BotSecret(Scoped::Put(Box::new(object))));
    }
    let local = serde_json::from_value(store_of("BotSecretStore", "store", "login")).expect("a store");
    world.take("", Change::Store(Scoped::Put(Box::new(local))));
    let shared = serde_json::from_value(store_of("ClusterBotSecretStore", "shared", "login")).expect("a store");
    world.take("", Change::ClusterStore(Scoped::Put(Box::new(shared))));
    world
}

#[allow(clippy::unnecessary_wraps, reason = "a Secret that is not there is None")]
fn version(number: u64) -> Option<SecretVersion> {
    Some(SecretVersion { uid: "u".to_owned(), resource_version: number.to_string() })
}

#[test]
fn p6_a_referred_secret_that_appears_changes_or_goes_wakes_exactly_its_dependants() {
    let mut world = world_with_credentials();
    let (here, there) = (ObjectKey::new("ns", "login"), ObjectKey::new("system", "login"));
    assert_eq!(world.referred_secrets().into_iter().collect::<Vec<_>>(), [here.clone(), there.clone()]);
    for seen in [None, version(1), version(2), None] {
        assert_eq!(world.take("", Change::Referred(here.clone(), seen.clone())), [(key("local"), Wake::Read)]);
        assert_eq!(world.take("", Change::Referred(here.clone(), seen)), [], "no news");
    }
    assert_eq!(world.take("", Change::Referred(there.clone(), version(7))), [(key("cluster"), Wake::Read)]);
    let elsewhere = [ObjectKey::new("other", "login"), ObjectKey::new("ns", "another")];
    for secret in elsewhere {
        assert_eq!(world.take("", Change::Referred(secret, version(1))), []);
    }
}

#[test]
fn p5_a_store_sees_the_secrets_of_its_own_namespace_and_a_clusters_store_those_of_the_operators() {
    let mut world = world_with_credentials();
    let credentials = |world: &World, name: &str| {
        let observed = world.observe(&key(name)).expect("there");
        observed.stores.into_values().next().expect("a store").map(|store| store.credentials.clone())
    };
    let unseen = credentials(&world, "local").expect("a store");
    assert_eq!((unseen.namespace.as_str(), unseen.seen.len()), ("ns", 0), "not looked for yet");
    world.take("", Change::Referred(ObjectKey::new("ns", "login"), version(1)));
    world.take("", Change::Referred(ObjectKey::new("system", "login"), None));
    let local = credentials(&world, "local").expect("a store");
    assert_eq!(local.seen, BTreeMap::from([("login".to_owned(), version(1))]));
    let cluster = credentials(&world, "cluster").expect("a store");
    assert_eq!((cluster.namespace.as_str(), cluster.seen), ("system", BTreeMap::from([("login".to_owned(), None)])));
}

#[test]
fn p10_a_secret_is_looked_for_only_as_long_as_a_store_refers_to_it() {
    let mut world = world_with_credentials();
    let login = ObjectKey::new("ns", "login");
    world.take("", Change::Referred(login.clone(), version(1)));
    let moved = serde_json::from_value(store_of("BotSecretStore", "store", "Not/A Name")).expect("a store");
    world.take("", Change::Store(Scoped::Put(Box::new(moved))));
    assert_eq!(world.referred_secrets().into_iter().collect::<Vec<_>>(), [ObjectKey::new("system", "login")]);
    assert!(world.has_looked_for(&login));
    world.forget_referred(&login);
    assert!(!world.has_looked_for(&login));
}

fn deployment(uses: Option<&str>) -> Change {
    let env = uses.map(|name| json!([{ "secretRef": { "name": name } }]));
    let value = json!({ "metadata": { "name": "bot", "namespace": "ns", "uid": "d" },
        "spec": { "selector": {}, "template": { "metadata": { "annotations": { "rollout.botsecret.dev/a": "1.k.f" } },
            "spec": { "containers": [{ "name": "c", "envFrom": env }] } } } });
    let view: DeploymentView = serde_json::from_value(value).expect("a Deployment");
    Change::Workload(WorkloadKind::Deployment, Scoped::Put(Box::new(view.facts())))
}

fn rollout(version: u64) -> Change {
    let value = json!({ "metadata": { "name": "canary", "namespace": "ns", "uid": "r", "resourceVersion": version.to_string() },
        "spec": { "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "bot" } } });
    let view: RolloutView = serde_json::from_value(value).expect("a Rollout");
    Change::Workload(WorkloadKind::Rollout, Scoped::Put(Box::new(view.facts())))
}

#[test]
fn a_rollout_uses_what_the_deployment_uses_whose_template_it_takes() {
    let seen = |world: &World| {
        let workloads = world.observe(&key("one")).expect("there").workloads;
        let told = |facts: &WorkloadFacts| (facts.id.name.clone(), facts.uid.clone(), facts.markers.len());
        workloads.iter().map(|facts| told(facts)).collect::<Vec<_>>()
    };
    let mut world = world_of(&[bot_secret("one", 1, "a"), bot_secret("two", 2, "b")]);
    assert_eq!(world.take("", rollout(1)), [], "nobody knows yet what it uses");
    assert_eq!(world.take("", deployment(Some("a"))), [(key("one"), Wake::Look)]);
    let both = [("bot".to_owned(), "d".to_owned(), 1), ("canary".to_owned(), "r".to_owned(), 1)];
    assert_eq!(seen(&world), both);
    assert_eq!(world.take("", rollout(2)), [(key("one"), Wake::Look)], "it may have paused");
    assert_eq!(world.take("", rollout(2)), []);
    assert_eq!(seen(&world), both);
    assert_eq!(world.take("", deployment(Some("b"))), [(key("one"), Wake::Look), (key("two"), Wake::Look)]);
    assert_eq!(seen(&world), []);
    world.take("", deployment(Some("a")));
    let gone = Change::Workload(WorkloadKind::Rollout, Scoped::Gone(ObjectKey::new("ns", "canary")));
    assert_eq!(world.take("", gone), [(key("one"), Wake::Look)]);
    assert_eq!(seen(&world).len(), 1);
}

#[test]
fn a_kind_that_is_not_there_any_more_takes_its_objects_along() {
    let mut world = world_of(&[bot_secret("one", 1, "a")]);
    let served = |world: &World| world.observe(&key("one")).expect("there").rollouts_served;
    assert_eq!(world.take("", Change::Absent(WorkloadKind::Rollout)), []);
    assert!(!served(&world));
    world.take("", Change::Workload(WorkloadKind::Rollout, Scoped::Begin));
    world.take("", deployment(Some("a")));
    world.take("", rollout(1));
    world.take("", Change::Workload(WorkloadKind::Rollout, Scoped::End));
    assert!(served(&world));
    assert_eq!(world.observe(&key("one")).expect("there").workloads.len(), 2);
    assert_eq!(world.take("", Change::Absent(WorkloadKind::Rollout)), [(key("one"), Wake::Look)]);
    assert!(!served(&world));
    assert_eq!(world.observe(&key("one")).expect("there").workloads.len(), 1, "the Deployment stays");
}

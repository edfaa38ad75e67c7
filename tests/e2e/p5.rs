//! P5: no confused deputy. The patterns behind other operators' advisories,
//! each tried here.

use botsecret_testbed::{OpenBao, OpenBaoOptions, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result, Vault, shared_bao};

fn from_store(bench: &Bench, name: &str, store: &str, key: &str) -> Value {
    let mut object = bench.bot_secret(name, key);
    object["spec"]["storeRef"] = json!({ "name": store });
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_bot_reads_nothing_that_only_another_namespaces_bot_may_read() -> Result {
    let (bench, victim) = (Bench::new("p5-mine").await?, Bench::new("p5-theirs").await?);
    let bao = shared_bao().await?;
    let (mine, theirs) = (Vault::new(&bench, bao, &["bot"]).await?, Vault::new(&victim, bao, &["bot"]).await?);
    theirs.put("treasure", &json!({ "A": "a value of the other namespace" })).await?;
    mine.put("own", &json!({ "A": "a value of this namespace" })).await?;
    victim.apply(victim.bot_secret("treasure", "treasure")).await?;
    victim.until_condition("treasure", "Ready", "True").await?;

    // Their role with our ServiceAccount of the same name; their mount with our role.
    let mut role = theirs.store("their-role");
    role["metadata"]["namespace"] = json!(bench.namespace);
    bench.apply(role).await?;
    let mut mount = mine.store("their-mount");
    mount["spec"]["vault"]["path"] = json!(victim.namespace);
    bench.apply(mount).await?;
    bench.apply(from_store(&bench, "their-role", "their-role", "treasure")).await?;
    bench.apply(from_store(&bench, "their-mount", "their-mount", "treasure")).await?;
    let message = bench.until_failing("their-role", "LoginDenied").await?;
    assert!(message.contains("store their-role") && message.contains("not bound to this"), "{message}");
    bench.until_failing("their-mount", "AccessDenied").await?;

    // A store of theirs cannot be named from here: there is no field for it.
    bench.apply(from_store(&bench, "their-store", "only-theirs", "treasure")).await?;
    victim.apply(theirs.store("only-theirs")).await?;
    let message = bench.until_failing("their-store", "StoreNotFound").await?;
    assert!(message.contains(&bench.namespace), "{message}");

    // The kubernetes store reads with the bot's RBAC, not with the operator's.
    victim.put_source("source-treasure", &[("A", "a source value of theirs")]).await?;
    for (name, namespace, key) in
        [("their-source", &victim.source, "source-treasure"), ("their-own", &victim.namespace, "treasure")]
    {
        bench
            .apply(json!({
                "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": name },
                "spec": { "kubernetes": { "remoteNamespace": namespace } },
            }))
            .await?;
        bench.apply(from_store(&bench, name, name, key)).await?;
        let message = bench.until_failing(name, "AccessDenied").await?;
        assert!(message.contains(namespace.as_str()) && message.contains("resourceNames"), "{message}");
    }
    for name in ["their-role", "their-mount", "their-store", "their-source", "their-own"] {
        assert!(bench.secrets().get_opt(name).await?.is_none(), "{name}");
    }
    // The digest key lies in the operator's namespace; here that is the bot's.
    bench
        .apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "digest-key" },
            "spec": { "kubernetes": { "remoteNamespace": bench.namespace } },
        }))
        .await?;
    bench.apply(from_store(&bench, "digest-key", "digest-key", "botsecret-digest-key")).await?;
    bench.until_failing("digest-key", "AccessDenied").await?;
    Ok(())
}

/// Every property of a schema, with its path.
fn properties(schema: &Value, path: &str, into: &mut Vec<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        into.push(path.clone());
        properties(inner, &path, into);
    }
    if schema["items"].is_object() {
        properties(&schema["items"], path, into);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_no_reference_has_a_namespace_and_reserved_types_are_refused() -> Result {
    let mut found = Vec::new();
    for definition in botsecret::api::definitions() {
        let value = serde_json::to_value(&definition)?;
        properties(&value["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &definition.name_any(), &mut found);
    }
    found.retain(|path| path.to_lowercase().contains("namespace"));
    found.sort();
    assert_eq!(
        found,
        [
            // Read with the bot's own token.
            "botsecretstores.botsecret.dev.spec.kubernetes.remoteNamespace",
            // Vault's own namespaces.
            "botsecretstores.botsecret.dev.spec.vault.namespace",
            "clusterbotsecretstores.botsecret.dev.spec.kubernetes.remoteNamespace",
            // Whom an administrator offers the store to.
            "clusterbotsecretstores.botsecret.dev.spec.namespaces",
            "clusterbotsecretstores.botsecret.dev.spec.vault.namespace",
        ]
    );
    let bench = Bench::new("p5-schema").await?;
    let types =
        ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1", "Opaque ", ""];
    for type_ in types {
        let mut object = bench.bot_secret("reserved", "exchange");
        object["spec"]["target"] = json!({ "type": type_ });
        let error = bench.apply(object).await.expect_err(type_).to_string();
        assert!(error.contains("write one of Opaque"), "{type_}: {error}");
    }
    let mut object = bench.bot_secret("with-a-namespace", "exchange");
    object["spec"]["storeRef"]["namespace"] = json!("kube-system");
    let strict = PatchParams::apply("person").validation_strict();
    let patched = bench.bot_secrets().patch("with-a-namespace", &strict, &Patch::Apply(&object)).await;
    let error = patched.expect_err("refused").to_string();
    assert!(error.contains("spec.storeRef.namespace"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_secret_that_is_not_ours_is_never_overwritten_whatever_it_claims() -> Result {
    let bench = Bench::new("p5-foreign").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("A", "1")]).await?;
    let configmap =
        bench.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "somebody" } })).await?;
    let owner = |controller: bool| json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "somebody", "uid": configmap.uid(), "controller": controller }]);
    let cases = [
        ("plain", json!({})),
        ("labelled-by-another", json!({ "labels": { "botsecret.dev/owner": "somebody-else" } })),
        ("controlled", json!({ "labels": { "botsecret.dev/owner": "controlled" }, "ownerReferences": owner(true) })),
        (
            "state-forged",
            json!({ "annotations": { "botsecret.dev/state": "{\"digest_key\":\"x\",\"revision\":\"1.x.y\",\"since\":null,\"digests\":{}}" } }),
        ),
    ];
    for (name, metadata) in &cases {
        let mut secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "A": "theirs" } });
        secret["metadata"]["name"] = json!(name);
        bench.apply(secret).await?;
        let before = bench.secrets().get(name).await?;
        bench.apply(bench.bot_secret(name, "exchange")).await?;
        let reason = if *name == "labelled-by-another" { "TargetConflict" } else { "TargetForeign" };
        let message = bench.until_failing(name, reason).await?;
        assert!(message.contains(&format!("Secret {name}")), "{message}");
        assert_eq!(bench.secrets().get(name).await?, before, "{name}");
    }
    // Types that no remote value may get into, by no policy.
    for (name, type_, policy) in [
        ("token-merge", "kubernetes.io/service-account-token", "Merge"),
        ("token-owner", "kubernetes.io/service-account-token", "Owner"),
        ("bootstrap-merge", "bootstrap.kubernetes.io/token", "Merge"),
    ] {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_,
            "metadata": { "name": name, "annotations": { "kubernetes.io/service-account.name": "bot" }, "labels": {} },
            "stringData": { "theirs": "theirs" },
        });
        if policy == "Owner" {
            secret["metadata"]["labels"] = json!({ "botsecret.dev/owner": name });
        }
        bench.apply(secret).await?;
        let mut object = bench.bot_secret(name, "exchange");
        object["spec"]["target"] = json!({ "creationPolicy": policy });
        bench.apply(object).await?;
        let message = bench.until_failing(name, "TargetInvalid").await?;
        assert!(message.contains(type_), "{message}");
        assert_eq!(bench.value(name, "A").await?, None);
        assert_eq!(bench.value(name, "theirs").await?.as_deref(), Some("theirs"));
    }
    // Nothing was taken over; once it makes room, the BotSecret gets its turn.
    bench.secrets().delete("plain", &DeleteParams::default()).await?;
    bench.until_value("plain", "A", "1").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_of_two_bot_secrets_with_one_target_the_older_wins_and_merging_into_anothers_is_refused() -> Result {
    let bench = Bench::new("p5-rivals").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("one", &[("A", "of the older")]).await?;
    bench.put_source("two", &[("A", "of the younger"), ("B", "of the younger")]).await?;
    let with_target = |name: &str, source: &str, policy: &str| {
        let mut object = bench.bot_secret(name, source);
        object["spec"]["target"] = json!({ "name": "shared", "creationPolicy": policy });
        object
    };
    // Names sort against the ages: it is the age that counts.
    bench.apply(with_target("z-older", "one", "Owner")).await?;
    bench.until_condition("z-older", "Ready", "True").await?;
    let created =
        |object: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| object.as_ref().map(|time| time.0);
    let first = created(&bench.bot_secrets().get("z-older").await?.metadata.creation_timestamp);
    // Ages are whole seconds: of two within one second either may count as the
    // older.
    let probes = kube::Api::<ConfigMap>::namespaced(bench.client.clone(), &bench.namespace);
    wait_for("the next second", DEADLINE, async || {
        let probe = ConfigMap {
            metadata: ObjectMeta { generate_name: Some("probe-".into()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let probe = probes.create(&PostParams::default(), &probe).await?;
        Ok((created(&probe.metadata.creation_timestamp) > first).then_some(()))
    })
    .await?;
    bench.apply(with_target("a-younger", "two", "Owner")).await?;
    bench.apply(with_target("merger", "two", "Merge")).await?;
    let message = bench.until_failing("a-younger", "TargetConflict").await?;
    assert!(message.contains("z-older") && message.contains("target.name"), "{message}");
    let message = bench.until_failing("merger", "TargetConflict").await?;
    assert!(message.contains("z-older"), "{message}");
    bench.until_more_reads(5).await?;
    assert_eq!(bench.value("shared", "A").await?.as_deref(), Some("of the older"));
    assert_eq!(bench.value("shared", "B").await?, None);
    // When the older one goes, the other takes its place at once.
    bench.bot_secrets().delete("merger", &DeleteParams::default()).await?;
    bench.bot_secrets().delete("z-older", &DeleteParams::default()).await?;
    bench.until_value("shared", "A", "of the younger").await?;
    bench.until_condition("a-younger", "Ready", "True").await?;
    Ok(())
}

/// Paths that try to lead elsewhere.
const TRICKS: &[&str] = &[
    "../SECRET/data/treasure",
    "x/../../SECRET/data/treasure",
    "..",
    ".",
    "./own",
    "%2e%2e/SECRET/data/treasure",
    "%2e%2e%2fSECRET%2fdata%2ftreasure",
    "..%2fSECRET",
    "own?version=1",
    "own?list=true",
    "own#fragment",
    "/own",
    "own/",
    "own//x",
    "own\\..\\..\\x",
    "own\u{0}",
    "own\n../x",
    "own;x=1",
    "http://127.0.0.1:1/x",
    "//127.0.0.1:1/x",
    "own%00",
    "ｏｗｎ",
];

#[tokio::test(flavor = "multi_thread")]
async fn p5_no_remote_key_leads_out_of_its_mount_or_namespace() -> Result {
    let bench = Bench::new("p5-paths").await?;
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: false }).await?;
    let vault = Vault::new(&bench, &bao, &["bot"]).await?;
    let mount = bench.namespace.clone();
    // The bot itself may read all of it: only the path must not lead there.
    vault.root.enable_kv("elsewhere", 2).await?;
    vault.policy(r#"path "*" { capabilities = ["read", "list"] }"#).await?;
    vault.root.put_kv2("elsewhere", "treasure", &json!({ "A": "a value from another mount" })).await?;
    vault.put("own", &json!({ "A": "the value of the mount" })).await?;
    bench.kubernetes_store("kubernetes").await?;
    bench.put_source("own", &[("A", "1")]).await?;
    let mark = bao.mark()?;
    let asked = bench.cluster.audit().mark().await?;
    let (mut names, mut refused) = (Vec::new(), 0);
    for (number, trick) in TRICKS.iter().enumerate() {
        let key = trick.replace("SECRET", "elsewhere");
        for store in ["source", "kubernetes"] {
            let name = format!("trick-{number}-{store}");
            let mut object = from_store(&bench, &name, store, &key);
            object["spec"]["refreshInterval"] = json!("1h");
            match bench.apply(object).await {
                Ok(_) => names.push(name),
                Err(_) => refused += 1,
            }
        }
    }
    for name in &names {
        bench.until_condition(name, "Ready", "False").await?;
        assert!(bench.secrets().get_opt(name).await?.is_none(), "{name}");
    }
    println!(
        "{} remote keys that try to lead elsewhere: {refused} refused by the API server, the others by the operator or not found",
        names.len() + refused
    );
    for request in bao.requests_since(&mark)?.into_iter().filter(|request| !request.is_login()) {
        assert!(request.path.starts_with(&format!("{mount}/data/")), "asked for {}", request.path);
        assert!(!request.path.contains("elsewhere/data") || request.path.contains('%'), "asked for {}", request.path);
    }
    let bot = format!("system:serviceaccount:{mount}:bot");
    for request in bench.cluster.audit().requests_by_since(&bot, &asked).await? {
        let allowed = format!("/api/v1/namespaces/{}/secrets/", bench.source);
        assert!(request.uri.starts_with(&allowed) && request.verb == "get", "asked for {}", request.uri);
    }
    // Addresses and mounts of stores are held to the same.
    for (field, value) in [
        ("address", "http://127.0.0.1:1/v1/../x"),
        ("address", "http://user:pass@127.0.0.1:1"),
        ("address", "file:///etc/passwd"),
        ("address", "http://127.0.0.1:1?x="),
        ("address", "unix:///run/x"),
    ] {
        let mut store = vault.store("odd");
        store["spec"]["vault"][field] = json!(value);
        assert!(bench.apply(store).await.is_err(), "{field} {value}");
    }
    for path in ["../elsewhere", "a/../../elsewhere", "."] {
        let mut store = vault.store("odd");
        store["spec"]["vault"]["path"] = json!(path);
        bench.apply(store).await?;
        let mut object = from_store(&bench, "odd", "odd", "treasure");
        object["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": path });
        bench.apply(object).await?;
        bench.until_failing("odd", "InvalidStore").await?;
    }
    Ok(())
}

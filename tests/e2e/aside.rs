//! The Secrets of the operator's own beside a target, against the API server.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use botsecret::{
    api::LABEL_NEXT,
    apply::{ApplyProblem, Aside, AsideError, Desired},
    secret::{SecretBytes, SecretData},
};
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::{Bench, Result};

const TYPES: [(&str, &[(&str, &str)]); 6] = [
    ("Opaque", &[("password", "canary")]),
    ("kubernetes.io/tls", &[("tls.crt", "canary"), ("tls.key", "canary")]),
    ("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", r#"{"auths":{"canary":{}}}"#)]),
    ("kubernetes.io/dockercfg", &[(".dockercfg", r#"{"canary":{}}"#)]),
    ("kubernetes.io/basic-auth", &[("username", "canary"), ("password", "canary")]),
    ("kubernetes.io/ssh-auth", &[("ssh-privatekey", "canary")]),
];

fn suspended(bench: &Bench, name: &str, type_: &str) -> Value {
    let mut object = bench.bot_secret(name, "price-bot");
    object["spec"]["suspend"] = json!(true);
    object["spec"]["target"] = json!({ "type": type_ });
    object
}

#[tokio::test]
async fn p1_what_is_kept_aside_is_created_empty_and_filled_only_in_the_version_that_was_seen() -> Result {
    let bench = Bench::new("aside").await?;
    for (number, (type_, held)) in TYPES.into_iter().enumerate() {
        let name = format!("bot-{number}");
        bench.apply(suspended(&bench, &name, type_)).await?;
        let object = bench.bot_secrets().get(&name).await?;
        let none = || SecretData::new();
        let desired = Desired::new(&object, none(), BTreeMap::new(), BTreeMap::new()).context("a name")?;
        let aside = Aside::new(&bench.client, &desired, format!("{name}-next"), LABEL_NEXT);
        let data: SecretData =
            held.iter().map(|(key, text)| ((*key).to_owned(), SecretBytes::new(text.as_bytes().to_vec()))).collect();
        let put = async |live| aside.put(live, &data, BTreeMap::new()).await;

        put(None).await.map_err(|error| anyhow::anyhow!("{type_}: {error:?}"))?;
        let full = aside.get().await?.context("it is there")?;
        ensure!(!aside.is_blank(&full), "{type_}: it holds nothing");
        let bytes = full.data.clone().unwrap_or_default();
        ensure!(bytes.values().any(|value| String::from_utf8_lossy(&value.0).contains("canary")), "{type_}");
        aside.empty().await?;
        let empty = aside.get().await?.context("it stays")?;
        ensure!(aside.is_blank(&empty), "{type_}: {:?}", empty.data);
        let is_late = |result: std::result::Result<(), AsideError>| matches!(result, Err(AsideError::Secret(error)) if error.problem == ApplyProblem::Conflict);
        ensure!(is_late(put(None).await), "{type_}: a create is refused where one is");
        let mut late = full.clone();
        late.data = empty.data.clone();
        ensure!(is_late(put(Some(&late)).await), "{type_}: a late write took effect");
        ensure!(aside.is_blank(&aside.get().await?.context("it stays")?), "{type_}: a late write left something");

        let at_rest = empty.metadata.resource_version.clone();
        aside.empty().await?;
        let again = aside.get().await?.context("it stays")?;
        ensure!(again.metadata.resource_version == at_rest, "{type_}: it is empty already");
        aside.delete().await?;
        ensure!(aside.get().await?.is_none(), "{type_}: it is there");
        // What arrives after that creates nothing.
        let replaced = bench.secrets().replace(&format!("{name}-next"), &PostParams::default(), &full).await;
        ensure!(
            matches!(&replaced, Err(kube::Error::Api(status)) if [404, 409].contains(&status.code)),
            "{type_}: {replaced:?}"
        );
    }
    Ok(())
}

//! Passwords that the operator makes and writes back to OpenBao: each once, whatever
//! happens in between.

use anyhow::{Context as _, ensure};
use botsecret_testbed::{BaoMark, BaoRequest, FaultKind, FaultProxy, OpenBao, Role, wait_for};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    Bench, DEADLINE, Fault, Proxy, Result, Vault, canary, canary::Canary, rotate::Person, shared_bao,
};

pub const NAME: &str = "price-bot";
pub const SOURCE: &str = "exchange";
const NEXT: &str = "price-bot-next";
/// Longer than a test takes: what is due now comes due once.
pub const RARELY: &str = "1h";

/// A secret that the account `bot` may read, and `rotator` write through the store
/// `writer`.
pub struct Desk {
    pub vault: Vault<'static>,
    mark: BaoMark,
    path: String,
}

impl Desk {
    pub async fn new(bench: &Bench) -> Result<Self> {
        let bao = shared_bao().await?;
        bench.account("rotator").await?;
        let vault = Vault::new(bench, bao, &["bot"]).await?;
        let (name, path) = (format!("{}-writes", bench.namespace), vault.read_path(SOURCE));
        vault.root.policy(&name, &format!(r#"path "{path}" {{ capabilities = ["read", "update"] }}"#)).await?;
        let role = Role {
            name: &name,
            namespaces: &[&bench.namespace],
            service_accounts: &["rotator"],
            policies: &[&name],
            audience: "vault",
            ttl: "20m",
        };
        vault.root.kubernetes_role(&role).await?;
        vault.put(SOURCE, &json!({ "REVISION": "first", "user": "price-bot", "port": 5432 })).await?;
        let desk = Self { vault, mark: bao.mark()?, path };
        bench.apply(desk.writer(bench)).await?;
        Ok(desk)
    }

    fn writer(&self, bench: &Bench) -> Value {
        let mut store = self.vault.store("writer");
        store["spec"]["vault"]["auth"]["kubernetes"]["role"] = json!(format!("{}-writes", bench.namespace));
        store["spec"]["allowRotation"] = json!(true);
        store
    }

    /// Puts a proxy before the store that is written through.
    async fn behind_proxy(&self, bench: &Bench) -> Result<(FaultProxy, String)> {
        let (proxy, bao): (_, &OpenBao) = (FaultProxy::start().await?, self.vault.bao);
        let peer = bao.url().trim_start_matches("https://").parse()?;
        let front = proxy.front_tls(peer, bao.ca_pem().context("TLS")?).await?.to_string();
        let mut store = self.writer(bench);
        store["spec"]["vault"]["address"] = json!(format!("https://{front}"));
        store["spec"]["vault"]["caBundle"] = json!(proxy.ca_pem());
        store["spec"]["limits"] = json!({ "timeout": "2m" });
        bench.apply(store).await?;
        Ok((proxy, front))
    }

    /// What the source holds, and its version.
    pub async fn source(&self) -> Result<(Value, u64)> {
        let answer = self.vault.root.read(&self.path).await?;
        let data = answer["data"]["data"].clone();
        canary::watch_values_of(&data);
        Ok((data, answer["data"]["metadata"]["version"].as_u64().context("no version")?))
    }

    /// Waits until the source has this version or a later one.
    pub async fn until_version(&self, wanted: u64) -> Result<(Value, u64)> {
        wait_for(&format!("version {wanted} at the source"), DEADLINE, async || {
            let (data, version) = self.source().await?;
            Ok((version >= wanted).then_some((data, version)))
        })
        .await
    }

    /// The writes of the secret since the desk was made, those of the test's own
    /// left out.
    fn writes(&self) -> Result<Vec<BaoRequest>> {
        let all = self.vault.bao.requests_since(&self.mark)?;
        let of_it = all.into_iter().filter(|one| one.path == self.path && one.operation != "read");
        Ok(of_it.filter(|one| one.accessor.is_some() && one.accessor != self.root_accessor()).collect())
    }

    /// The root token's: the first to ask for anything here.
    fn root_accessor(&self) -> Option<String> {
        let all = self.vault.bao.requests().unwrap_or_default();
        all.into_iter().find(|one| one.path.starts_with("sys/policies")).and_then(|one| one.accessor)
    }
}

/// A BotSecret whose key REVISION is made here.
pub fn bot_secret(bench: &Bench, every: &str) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"].as_object_mut().unwrap().remove("dataFrom");
    object["spec"]["data"] = json!([
        { "secretKey": "REVISION", "remoteRef": { "key": SOURCE, "property": "REVISION" } },
        { "secretKey": "USER", "remoteRef": { "key": SOURCE, "property": "user" } },
    ]);
    object["spec"]["rotation"] = json!({
        "every": every, "serviceAccountName": "rotator", "storeRef": { "name": "writer" },
        "generate": [{ "secretKey": "REVISION", "password": { "length": 40 } }],
    });
    object
}

/// Ready, with a value that is not due.
async fn at_rest(bench: &Bench) -> Result {
    bench.apply(bot_secret(bench, RARELY)).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_condition(NAME, "Rotated", "True").await?;
    Ok(())
}

/// Changes how old a value becomes.
pub async fn rotate_every(bench: &Bench, every: &str) -> Result {
    let patch = json!({ "spec": { "rotation": { "every": every } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Waits until nothing is kept any more.
async fn until_forgotten(bench: &Bench) -> Result {
    wait_for("nothing to be kept", DEADLINE, async || Ok((!bench.holds_anything(NEXT).await?).then_some(()))).await
}

/// The operator is killed when it has kept a value, and knows nothing of that.
async fn kill_once_it_keeps(bench: &mut Bench, proxy: &Proxy) -> Result {
    let trap = proxy.next("PUT", &format!("/secrets/{NEXT}"), Fault::HoldReply);
    rotate_every(bench, "10s").await?;
    trap.caught().await?;
    bench.operator.kill().await
}

/// It is started again, and comes to rest with this value.
async fn goes_on_to(bench: &mut Bench, value: &str) -> Result {
    rotate_every(bench, RARELY).await?;
    bench.operator.start_again().await?;
    bench.until_value(NAME, "REVISION", value).await?;
    until_forgotten(bench).await?;
    bench.until_more_reads(3).await
}

/// The value is in none of what people read.
async fn is_told_nowhere(bench: &Bench, value: &str) -> Result {
    let canary = Canary::of([value.as_bytes()]);
    let object = bench.bot_secrets().get(NAME).await?;
    canary.assert_absent("the BotSecret", serde_json::to_string(&object)?.as_bytes());
    canary.assert_absent("an event", format!("{:?}", bench.events(NAME).await?).as_bytes());
    canary.assert_absent("a metric", bench.operator.metrics().await?.as_bytes());
    canary.assert_absent("the log", bench.operator.log().as_bytes());
    for secret in bench.secrets().list(&ListParams::default()).await? {
        let annotations = serde_json::to_string(secret.annotations())?;
        canary.assert_absent("an annotation", annotations.as_bytes());
    }
    Ok(())
}

#[tokio::test]
async fn p3_each_password_that_is_made_is_written_once_and_rolls_the_bot_once() -> Result {
    let bench = Bench::new("generated").await?;
    let desk = Desk::new(&bench).await?;
    at_rest(&bench).await?;
    bench.apply(bench.bot("bot", NAME, 1)).await?;
    bench.until_all_hold("bot", 1, "first").await?;
    ensure!(desk.writes()?.is_empty(), "nothing is due");
    rotate_every(&bench, "10s").await?;
    let (first, _) = desk.until_version(2).await?;
    desk.until_version(3).await?;
    rotate_every(&bench, RARELY).await?;
    until_forgotten(&bench).await?;
    bench.until_more_reads(3).await?;
    let (data, version) = desk.source().await?;
    let password = data["REVISION"].as_str().context("text")?.to_owned();
    ensure!(password.len() == 40 && password.chars().all(|one| one.is_ascii_alphanumeric()));
    ensure!(data["REVISION"] != first["REVISION"], "each is another");
    ensure!(data["user"] == "price-bot" && data["port"] == 5432, "the others are as they were: {data}");
    bench.until_value(NAME, "REVISION", &password).await?;
    bench.until_all_hold("bot", 1, &password).await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    let writes = desk.writes()?;
    let made = usize::try_from(version)? - 1;
    ensure!(writes.len() == made && writes.iter().all(|one| one.error.is_none()), "{writes:?} of {made}");
    let metrics = bench.operator.metrics().await?;
    ensure!(metrics.contains(&format!("botsecret_rotations_triggered_total {made}\n")), "{metrics}");
    ensure!(bench.rollouts("bot").await? == i64::try_from(version)?, "one rollout for each");
    is_told_nowhere(&bench, &password).await?;
    // Nothing is made any more, so there is no room left for it either.
    let none = json!({ "spec": { "rotation": null } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(none)).await?;
    bench.until_no_secret(NEXT).await
}

#[tokio::test]
async fn p3_a_rotation_at_once_makes_one_new_value_and_ends_with_its_rollout() -> Result {
    let bench = Bench::new("generated-at-once").await?;
    let desk = Desk::new(&bench).await?;
    at_rest(&bench).await?;
    bench.apply(bench.bot("bot", NAME, 1)).await?;
    bench.until_all_hold("bot", 1, "first").await?;
    let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
    let said = ann.rotate(&[NAME, "--now", "--reason", "leaked", "--wait", "--timeout", "1m"]).await?;
    ensure!(said.code == Some(0) && said.stdout.contains("the Secret holds a new value"), "{said:?}");
    let (data, version) = desk.source().await?;
    let password = data["REVISION"].as_str().context("text")?;
    ensure!(version == 2 && bench.value(NAME, "REVISION").await?.as_deref() == Some(password), "{version}");
    bench.until_all_hold("bot", 1, password).await?;
    bench.until_more_reads(3).await?;
    ensure!(desk.source().await?.1 == 2 && bench.rollouts("bot").await? == 2, "once");
    Ok(())
}

#[tokio::test]
async fn p3_killed_after_a_value_was_kept_it_writes_that_very_value_once() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("generated-kept").await?;
    let desk = Desk::new(&bench).await?;
    at_rest(&bench).await?;
    kill_once_it_keeps(&mut bench, &proxy).await?;
    let kept = bench.value(NEXT, "0").await?.context("nothing is kept")?;
    ensure!(desk.source().await?.1 == 1, "written before it was kept");
    goes_on_to(&mut bench, &kept).await?;
    let (data, version) = desk.source().await?;
    ensure!((data["REVISION"].as_str(), version) == (Some(kept.as_str()), 2), "version {version}");
    ensure!(desk.writes()?.len() == 1, "{:?}", desk.writes()?);
    is_told_nowhere(&bench, &kept).await
}

#[tokio::test]
async fn p3_killed_after_a_write_took_effect_it_makes_no_second_version() -> Result {
    let mut bench = Bench::new("generated-sent").await?;
    let desk = Desk::new(&bench).await?;
    let (proxy, front) = desk.behind_proxy(&bench).await?;
    at_rest(&bench).await?;
    let hour = std::time::Duration::from_secs(3600);
    proxy.fault_on(&front, &format!("POST /v1/{}", desk.path), FaultKind::Slow(hour), 1);
    rotate_every(&bench, "10s").await?;
    let (made, _) = desk.until_version(2).await?;
    bench.operator.kill().await?;
    ensure!(bench.holds_anything(NEXT).await?, "it is kept until its source is known to hold it");
    proxy.clear(&front);
    let password = made["REVISION"].as_str().context("text")?;
    goes_on_to(&mut bench, password).await?;
    ensure!(desk.source().await? == (made.clone(), 2), "another version");
    ensure!(desk.writes()?.len() == 1, "{:?}", desk.writes()?);
    is_told_nowhere(&bench, password).await
}

#[tokio::test]
async fn p1_what_somebody_else_wrote_meanwhile_is_not_overwritten() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("generated-late").await?;
    let desk = Desk::new(&bench).await?;
    at_rest(&bench).await?;
    kill_once_it_keeps(&mut bench, &proxy).await?;
    let dropped = bench.value(NEXT, "0").await?.context("nothing is kept")?;
    desk.vault.put(SOURCE, &json!({ "REVISION": "somebody's own new value", "user": "price-bot" })).await?;
    goes_on_to(&mut bench, "somebody's own new value").await?;
    ensure!(desk.source().await?.1 == 2, "somebody's version is the newest");
    ensure!(desk.writes()?.is_empty(), "{:?}", desk.writes()?);
    is_told_nowhere(&bench, &dropped).await
}

#[tokio::test]
async fn p5_a_kept_value_that_somebody_changed_is_thrown_away_and_a_foreign_secret_left_alone() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("generated-forged").await?;
    let desk = Desk::new(&bench).await?;
    at_rest(&bench).await?;
    kill_once_it_keeps(&mut bench, &proxy).await?;
    let forged = json!({ "stringData": { "0": "a value that somebody put there" } });
    bench.secrets().patch(NEXT, &PatchParams::default(), &Patch::Merge(forged)).await?;
    bench.operator.start_again().await?;
    let (data, version) = desk.until_version(2).await?;
    ensure!(version == 2 && data["REVISION"] != "a value that somebody put there", "the forged one was written");
    rotate_every(&bench, RARELY).await?;
    until_forgotten(&bench).await?;
    bench.secrets().delete(NEXT, &DeleteParams::default()).await?;
    bench
        .apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": NEXT }, "stringData": { "0": "mine" } }))
        .await?;
    rotate_every(&bench, "10s").await?;
    let (reason, message) = bench.until_condition(NAME, "Rotated", "False").await?;
    ensure!(reason == "TargetForeign" && message.contains(NEXT), "{reason}: {message}");
    assert_eq!(bench.value(NEXT, "0").await?.as_deref(), Some("mine"));
    let ready = bench.condition(NAME, "Ready").await?.map(|(status, ..)| status);
    ensure!(ready.as_deref() == Some("True"), "what is there works as before");
    Ok(())
}

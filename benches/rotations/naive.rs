//! What scripts do: write the new user, restart everything, drop the old user.

use botsecret_testbed::wait_for;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, servers},
    bots::{Bots, Requests, SECRET, names},
    progress::say,
    support::{Bench, DEADLINE, Result, canary},
};

/// Rotates so often.
pub async fn run(count: u32) -> Result<Requests> {
    let notes = tempfile::tempdir()?;
    let mut bench = Bench::new("naive").await?;
    bench.operator.kill().await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let bots = Bots { bench: &bench, port: servers().await?.postgres.port(), notes: notes.path() };
    let (mut user, mut lease) = write(&bench, &bank).await?;
    bots.deploy(1).await?;
    bots.until_all_hold(&user).await?;
    for number in 1..=count {
        let old = std::mem::take(&mut lease);
        (user, lease) = write(&bench, &bank).await?;
        let restart = json!({ "spec": { "template": { "metadata": { "annotations": {
            "kubectl.kubernetes.io/restartedAt": number.to_string(),
        } } } } });
        for name in names() {
            bench.deployments().patch(&name, &PatchParams::default(), &Patch::Merge(&restart)).await?;
        }
        bank.root.write("sys/leases/revoke", &json!({ "lease_id": old })).await?;
        for name in names() {
            wait_for("a restarted bot", DEADLINE, async || {
                let held = bench.holdings(&name)?;
                Ok((!held.is_empty() && held.iter().all(|one| *one == user)).then_some(()))
            })
            .await?;
        }
    }
    let requests = Requests::read(notes.path())?;
    say(&format!("baseline, {count} rotations: {} requests, {} failed", requests.all, requests.failed));
    Ok(requests)
}

/// Issues a user and writes it into the Secret; answers user and lease.
async fn write(bench: &Bench, bank: &Bank) -> Result<(String, String)> {
    let (_, answer) = bank.root.request("GET", &format!("{}/creds/bot", bank.name), None).await?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (user, password) = (text(&answer["data"]["username"]), text(&answer["data"]["password"]));
    canary::watch(password.as_bytes());
    let data = [("username", &user), ("password", &password)];
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(
            data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes()))).collect(),
        ),
        ..Secret::default()
    };
    let api: Api<Secret> = bench.secrets();
    api.patch(SECRET, &PatchParams::apply("script").force(), &Patch::Apply(&secret)).await?;
    Ok((user, text(&answer["lease_id"])))
}

//! How old a value is, and new ones that are written back.

use anyhow::{Context, Result, ensure};
use botsecret::{fetch::Fetcher, stores::ErrorClass};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::bench::Bench;

const FIRST: &str = "3f0c8a52-53f5-4b0e-8f0e-1d2b6b0c0001";
const SECOND: &str = "3f0c8a52-53f5-4b0e-8f0e-1d2b6b0c0002";

async fn changed(bench: &Bench<'_>, fetcher: &Fetcher, name: &str) -> Result<Timestamp> {
    let (store, account) = (bench.subject.store(), bench.subject.account());
    let read = bench.fetch(fetcher, &store, &account, &[bench.key(name, None)]).await.remove(0)?;
    read.changed.context("the answer tells when the version was made")
}

pub async fn age(bench: &Bench<'_>) -> Result<()> {
    let (name, old, new) = (bench.name("a"), bench.secret(), bench.secret());
    let fetcher = bench.fetcher()?;
    // Some count whole seconds.
    let before = Timestamp::now().as_second() - 1;
    bench.put(&name, old.as_bytes()).await?;
    let first = changed(bench, &fetcher, &name).await?;
    let after = Timestamp::now().as_second() + 1;
    ensure!((before..=after).contains(&first.as_second()), "{first}");
    let mark = bench.subject.proxy().mark();
    bench.put(&name, new.as_bytes()).await?;
    let second = changed(bench, &fetcher, &name).await?;
    ensure!(second >= first, "{second} after {first}");
    let asked = bench.subject.proxy().since(mark).len();
    ensure!(asked <= bench.subject.requests_for(1), "{asked} requests for one read");
    Ok(())
}

pub async fn write_back(bench: &Bench<'_>) -> Result<()> {
    let (name, user, old, new) = (bench.name("a"), bench.secret(), bench.secret(), bench.secret());
    bench.put_json(&name, json!({"user": user, "password": old})).await?;
    let (opened, key) = (bench.session().await?, bench.key(&name, None));
    let base = opened.read(&key).await?.version;
    let mut numbers = Vec::new();
    // The second time as after a reply that was lost. A manager that compares
    // versions first may say that there is a newer one.
    for round in 0..2 {
        let written = bench.heard(opened.write(&key, Some("password"), new.as_bytes(), base, FIRST).await);
        match written {
            Err(error) if !opened.can.write_back => {
                ensure!(error.class == ErrorClass::Invalid, "{:?}: {error}", error.class);
                return Ok(());
            }
            Err(error) if round == 1 => ensure!(error.class == ErrorClass::Conflict, "{:?}: {error}", error.class),
            written => written?,
        }
        let fetcher = bench.fetcher()?;
        bench.agree(new.as_bytes(), bench.property(&fetcher, &name, Some("password")).await).await?;
        bench.agree(user.as_bytes(), bench.property(&fetcher, &name, Some("user")).await).await?;
        numbers.push(opened.read(&key).await?.version);
    }
    ensure!(numbers[0] == numbers[1], "a repetition made another version: {numbers:?}");
    ensure!(numbers[0] == base.map(|base| base + 1), "{base:?}, then {numbers:?}");
    let absent = bench.key(&bench.name("never-put"), None);
    let refused = bench.heard(opened.write(&absent, Some("password"), new.as_bytes(), None, SECOND).await);
    let class = refused.err().context("nothing is there to be written")?.class;
    ensure!(class == ErrorClass::Missing, "{class:?}");
    Ok(())
}

pub async fn overtaken(bench: &Bench<'_>) -> Result<()> {
    let (name, old, theirs, ours) = (bench.name("a"), bench.secret(), bench.secret(), bench.secret());
    bench.put_json(&name, json!({"password": old})).await?;
    let (opened, key) = (bench.session().await?, bench.key(&name, None));
    let base = opened.read(&key).await?.version.context("versions are numbered")?;
    bench.put_json(&name, json!({"password": theirs})).await?;
    let written = bench.heard(opened.write(&key, Some("password"), ours.as_bytes(), Some(base), FIRST).await);
    let class = written.err().context("somebody else's value was written over")?.class;
    if !opened.can.write_back {
        ensure!(class == ErrorClass::Invalid, "{class:?}");
        return Ok(());
    }
    ensure!(class == ErrorClass::Conflict, "{class:?}");
    bench.agree(theirs.as_bytes(), bench.property(&bench.fetcher()?, &name, Some("password")).await).await?;
    // With what is there now, it is written.
    bench.heard(opened.write(&key, Some("password"), ours.as_bytes(), Some(base + 1), SECOND).await)?;
    bench.agree(ours.as_bytes(), bench.property(&bench.fetcher()?, &name, Some("password")).await).await
}

//! What a secret was, is, and is no more.

use anyhow::{Context, Result, bail, ensure};
use botsecret::{fetch::Fetcher, stores::ErrorClass};
use botsecret_testbed::{ALWAYS, FaultKind};

use crate::bench::{Bench, refused};

/// Two versions of one secret, the second newer: their values and names.
async fn rotated(bench: &Bench<'_>, name: &str) -> Result<[(String, String); 2]> {
    let mut versions = Vec::new();
    for _ in 0..2 {
        let value = bench.secret();
        let version = bench.put(name, value.as_bytes()).await?;
        versions.push((value, version.context("put names the version that it makes")?));
    }
    versions.try_into().map_err(|_| anyhow::anyhow!("two versions"))
}

pub async fn pinned(bench: &Bench<'_>) -> Result<()> {
    let name = bench.name("a");
    let [(old, first), (new, second)] = rotated(bench, &name).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(old.as_bytes(), bench.pinned(&fetcher, &name, &first).await).await.context("the first")?;
    bench.agree(new.as_bytes(), bench.pinned(&fetcher, &name, &second).await).await.context("the second")?;
    bench.agree(new.as_bytes(), bench.plain(&fetcher, &name).await).await.context("the newest")?;
    refused(bench.pinned(&fetcher, &name, bench.subject.absent_version()).await, ErrorClass::Missing)?;
    Ok(())
}

pub async fn alias(bench: &Bench<'_>) -> Result<()> {
    let name = bench.name("a");
    let [(old, first), (new, _)] = rotated(bench, &name).await?;
    let alias = bench.subject.alias(&name, &first).await?;
    ensure!(alias != first, "an alias is another name");
    let fetcher = bench.fetcher()?;
    bench.agree(old.as_bytes(), bench.pinned(&fetcher, &name, &alias).await).await.context("by its alias")?;
    bench.agree(new.as_bytes(), bench.plain(&fetcher, &name).await).await.context("the newest")
}

/// Its number, where the manager has any.
async fn number(bench: &Bench<'_>, fetcher: &Fetcher, name: &str) -> Result<Option<u64>> {
    let (store, account) = (bench.subject.store(), bench.subject.account());
    match bench.fetch(fetcher, &store, &account, &[bench.key(name, None)]).await.remove(0) {
        Ok(secret) => Ok(secret.version),
        Err(error) => bail!("not read: {error}"),
    }
}

pub async fn rotation(bench: &Bench<'_>) -> Result<()> {
    let (name, old, new) = (bench.name("a"), bench.secret(), bench.secret());
    bench.put(&name, old.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(old.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    let before = number(bench, &fetcher, &name).await?;
    bench.put(&name, new.as_bytes()).await?;
    bench.agree(new.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    let after = number(bench, &fetcher, &name).await?;
    ensure!(before < after || !bench.subject.numbers_versions(), "versions: {before:?}, then {after:?}");
    ensure!(bench.subject.numbers_versions() == after.is_some(), "numbered as it says: {after:?}");
    Ok(())
}

pub async fn stale(bench: &Bench<'_>) -> Result<()> {
    let (name, old, new) = (bench.name("a"), bench.secret(), bench.secret());
    bench.put(&name, old.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(old.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    bench.put(&name, new.as_bytes()).await?;
    bench.agree(new.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    let newest = number(bench, &fetcher, &name).await?;
    // A replica that is behind.
    for host in bench.subject.read_hosts() {
        bench.subject.proxy().fault(&host, FaultKind::Stale, ALWAYS);
    }
    bench.agree(old.as_bytes(), bench.plain(&fetcher, &name).await).await.context("the stale read")?;
    let behind = number(bench, &fetcher, &name).await?;
    bench.subject.proxy().clear("*");
    if bench.subject.numbers_versions() {
        ensure!(behind < newest, "a stale read can be told: version {behind:?} after {newest:?}");
    }
    bench.agree(new.as_bytes(), bench.plain(&fetcher, &name).await).await
}

pub async fn missing(bench: &Bench<'_>) -> Result<()> {
    let fetcher = bench.fetcher()?;
    let error = refused(bench.plain(&fetcher, &bench.name("never-put")).await, ErrorClass::Missing)?;
    ensure!(!error.class.is_outage(), "nothing to wait for");
    Ok(())
}

#[derive(Clone, Copy)]
enum End {
    Deleted,
    SoftDeleted,
    Disabled,
}

/// A value that is read, then is no more.
async fn until(bench: &Bench<'_>, end: End) -> Result<()> {
    let (name, value) = (bench.name("a"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    match end {
        End::Deleted => bench.subject.delete(&name).await?,
        End::SoftDeleted => bench.subject.soft_delete(&name).await?,
        End::Disabled => bench.subject.disable(&name).await?,
    }
    refused(bench.plain(&fetcher, &name).await, ErrorClass::Missing)?;
    // Once more with another login.
    refused(bench.plain(&bench.fetcher()?, &name).await, ErrorClass::Missing)?;
    Ok(())
}

pub async fn vanished(bench: &Bench<'_>) -> Result<()> {
    until(bench, End::Deleted).await
}

pub async fn soft_deleted(bench: &Bench<'_>) -> Result<()> {
    until(bench, End::SoftDeleted).await
}

pub async fn disabled(bench: &Bench<'_>) -> Result<()> {
    until(bench, End::Disabled).await
}

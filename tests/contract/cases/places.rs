//! Who may read, and where.

use anyhow::{Context, Result, ensure};
use botsecret::stores::ErrorClass;
use botsecret_testbed::{Certificate, FaultKind};

use crate::{
    bench::{Bench, Failure, refused},
    subject::Content,
};

pub async fn denied(bench: &Bench<'_>) -> Result<()> {
    let (mine, value, theirs) = (bench.name("mine"), bench.secret(), bench.secret());
    bench.put(&mine, value.as_bytes()).await?;
    let content = Content::Plain(theirs.into_bytes());
    let (store, key) = bench.subject.put_denied(&bench.name("theirs"), &content).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &mine).await).await?;
    let account = bench.subject.account();
    for _ in 0..3 {
        let mut wanted = bench.key(&mine, None);
        wanted.key.clone_from(&key);
        let read = bench.value(&fetcher, &store, &account, wanted, bench.subject.plain_property()).await;
        refused(read, ErrorClass::Denied)?;
        bench.agree(value.as_bytes(), bench.plain(&fetcher, &mine).await).await.context("its own is still read")?;
    }
    ensure!(fetcher.counters().logins() <= 4, "{} logins", fetcher.counters().logins());
    Ok(())
}

pub async fn missing_place(bench: &Bench<'_>) -> Result<()> {
    let (store, key, class) = bench.subject.missing_place().await?;
    let mut wanted = bench.key("x", None);
    wanted.key = key;
    let read = bench.value(&bench.fetcher()?, &store, &bench.subject.account(), wanted, None).await;
    refused(read, class)?;
    Ok(())
}

pub async fn unauthenticated(bench: &Bench<'_>) -> Result<()> {
    let (name, value) = (bench.name("a"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let (store, account) = bench.subject.not_let_in().await?;
    let key = bench.key(&name, None);
    let read = bench.value(&bench.fetcher()?, &store, &account, key, bench.subject.plain_property()).await;
    refused(read, ErrorClass::LoginDenied)?;
    Ok(())
}

pub async fn login_ended(bench: &Bench<'_>) -> Result<()> {
    let (name, value) = (bench.name("a"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await?;
    let before = fetcher.counters().logins();
    bench.subject.end_logins().await?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await.context("nobody notices")?;
    let logins = fetcher.counters().logins() - before;
    let wanted = u64::from(bench.subject.asks_to_log_in());
    ensure!(logins == wanted, "{logins} new logins for a login that ended, not {wanted}");
    Ok(())
}

pub async fn wrong_tls(bench: &Bench<'_>) -> Result<()> {
    let (name, value) = (bench.name("a"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let proxy = bench.subject.proxy();
    for certificate in [Certificate::UnknownAuthority, Certificate::OtherName, Certificate::Expired] {
        proxy.show(certificate);
        let mark = proxy.mark();
        let read = bench.plain(&bench.fetcher()?, &name).await;
        proxy.show(Certificate::Right);
        let error = refused(read, ErrorClass::Unavailable).with_context(|| format!("{certificate:?}"))?;
        ensure!(proxy.since(mark).is_empty(), "{certificate:?}: asked all the same");
        if certificate == Certificate::UnknownAuthority {
            ensure!(error.message.contains("caBundle"), "it says what to do: {error}");
        }
    }
    bench.agree(value.as_bytes(), bench.plain(&bench.fetcher()?, &name).await).await
}

pub async fn wrong_endpoint(bench: &Bench<'_>) -> Result<()> {
    // Something answers that is no manager.
    bench.fails(&FaultKind::Garbage, ErrorClass::Unavailable).await?;
    // Nothing answers.
    let (name, value) = (bench.name("b"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let proxy = bench.subject.proxy();
    proxy.close(true);
    let read = bench.plain(&bench.fetcher()?, &name).await;
    proxy.close(false);
    match read {
        Err(Failure::Store(error)) => {
            ensure!(error.class == ErrorClass::Unavailable, "{:?}: {error}", error.class);
        }
        other => anyhow::bail!("{:?}", other.err()),
    }
    bench.agree(value.as_bytes(), bench.plain(&bench.fetcher()?, &name).await).await
}

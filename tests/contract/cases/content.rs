//! What a value may be.

use anyhow::{Context, Result, ensure};
use botsecret::{build::BuildErrorKind, stores::ErrorClass};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, Failure},
    canary::Canary,
};

pub async fn read(bench: &Bench<'_>) -> Result<()> {
    let (name, value) = (bench.name("a"), bench.secret());
    bench.put(&name, value.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await
}

pub async fn property(bench: &Bench<'_>) -> Result<()> {
    let (name, one, other) = (bench.name("a"), bench.secret(), bench.secret());
    let content = json!({"user": one, "PASS_word-1": other});
    bench.put_json(&name, content.clone()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(one.as_bytes(), bench.property(&fetcher, &name, Some("user")).await).await?;
    bench.agree(other.as_bytes(), bench.property(&fetcher, &name, Some("PASS_word-1")).await).await?;
    let Err(Failure::Build(error)) = bench.property(&fetcher, &name, Some("nobody")).await else {
        anyhow::bail!("a property that is not there was read")
    };
    ensure!(error.kind == BuildErrorKind::PropertyMissing, "{error}");
    ensure!(error.message.contains("nobody"), "it names the property: {error}");
    // And the whole, as one object.
    let whole = bench.property(&fetcher, &name, None).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    ensure!(serde_json::from_slice::<Value>(&whole)? == content, "the whole is another object");
    Ok(())
}

pub async fn nested(bench: &Bench<'_>) -> Result<()> {
    let (name, deep, item) = (bench.name("a"), bench.secret(), bench.secret());
    bench.put_json(&name, json!({"exchange": {"keys": {"live": deep}, "list": ["first", item]}})).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(deep.as_bytes(), bench.property(&fetcher, &name, Some("exchange.keys.live")).await).await?;
    bench.agree(item.as_bytes(), bench.property(&fetcher, &name, Some("exchange.list.1")).await).await?;
    // An object is JSON on one line, in the manager's own spelling of texts.
    let object = bench.property(&fetcher, &name, Some("exchange.keys")).await;
    let object = object.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    ensure!(serde_json::from_slice::<Value>(&object)? == json!({"live": deep}), "an object is another one");
    ensure!(!object.contains(&b'\n') && object.starts_with(b"{\"live\":\""), "an object is not compact");
    Ok(())
}

pub async fn literal_dotted_key(bench: &Bench<'_>) -> Result<()> {
    let (name, literal, nested) = (bench.name("a"), bench.secret(), bench.secret());
    bench.put_json(&name, json!({"tls.crt": literal, "tls": {"crt": nested, "key": nested}})).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(literal.as_bytes(), bench.property(&fetcher, &name, Some("tls.crt")).await).await?;
    bench.agree(nested.as_bytes(), bench.property(&fetcher, &name, Some("tls.key")).await).await
}

pub async fn number(bench: &Bench<'_>) -> Result<()> {
    let name = bench.name("a");
    let content = json!({"port": 8080, "offset": -7, "rate": 1.25, "zero": 0, "on": true, "off": false});
    bench.put_json(&name, content).await?;
    let fetcher = bench.fetcher()?;
    for (property, text) in
        [("port", "8080"), ("offset", "-7"), ("rate", "1.25"), ("zero", "0"), ("on", "true"), ("off", "false")]
    {
        let read = bench.property(&fetcher, &name, Some(property)).await;
        bench.agree(text.as_bytes(), read).await.with_context(|| property.to_owned())?;
    }
    Ok(())
}

pub async fn binary(bench: &Bench<'_>) -> Result<()> {
    let name = bench.name("a");
    let canary = Canary::random_bytes();
    bench.watch(&canary);
    let bytes = [&canary[..], &(0..=255).collect::<Vec<u8>>(), b"\r\n\n\0"].concat();
    bench.put(&name, &bytes).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(&bytes, bench.plain(&fetcher, &name).await).await
}

pub async fn empty_value(bench: &Bench<'_>) -> Result<()> {
    let name = bench.name("a");
    bench.put(&name, b"").await?;
    let fetcher = bench.fetcher()?;
    bench.agree(b"", bench.plain(&fetcher, &name).await).await
}

pub async fn largest_value(bench: &Bench<'_>) -> Result<()> {
    let (name, start, end) = (bench.name("a"), bench.secret(), bench.secret());
    let most = bench.subject.largest();
    // Characters that nobody escapes, so that only the length counts.
    let (start, end) = (start.replace(['"', '\\', '&', '<', '>'], "-"), end.replace(['"', '\\', '&', '<', '>'], "-"));
    bench.watch(start.as_bytes());
    bench.watch(end.as_bytes());
    let value = start.clone() + &"x".repeat(most - start.len() - end.len()) + &end;
    ensure!(value.len() == most, "of the largest size");
    bench.put(&name, value.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await
}

pub async fn unicode(bench: &Bench<'_>) -> Result<()> {
    let (name, secret) = (bench.name("a"), bench.secret());
    let value = format!("{secret}Größe \u{1f980} \u{202e}\u{feff}e\u{301} 日本\r\n\ttab\n");
    bench.put(&name, value.as_bytes()).await?;
    let fetcher = bench.fetcher()?;
    bench.agree(value.as_bytes(), bench.plain(&fetcher, &name).await).await
}

pub async fn odd_names(bench: &Bench<'_>) -> Result<()> {
    let names = bench.subject.odd_names();
    ensure!(!names.is_empty(), "the subject names none");
    let fetcher = bench.fetcher()?;
    for name in &names {
        let value = bench.secret();
        bench.put(name, value.as_bytes()).await?;
        bench.agree(value.as_bytes(), bench.plain(&fetcher, name).await).await.with_context(|| format!("{name:?}"))?;
    }
    // What would lead elsewhere reads nothing.
    let (neighbour, value) = (bench.name("a"), bench.secret());
    bench.put(&neighbour, value.as_bytes()).await?;
    let (store, account) = (bench.subject.store(), bench.subject.account());
    let real = bench.subject.key(&neighbour);
    for wrong in [
        String::new(),
        format!("x/../{real}"),
        format!("./{real}"),
        format!("{real}/."),
        format!("{real}?x=y"),
        format!("{real}#x"),
        format!("{real}\n"),
        format!("{real}%"),
        "../../../../../etc/passwd".to_owned(),
    ] {
        let mut key = bench.key(&neighbour, None);
        key.key.clone_from(&wrong);
        let read = bench.value(&fetcher, &store, &account, key, bench.subject.plain_property()).await;
        let Err(Failure::Store(error)) = read else { anyhow::bail!("{wrong:?} was read") };
        let class = error.class;
        ensure!(
            matches!(class, ErrorClass::Invalid | ErrorClass::Missing | ErrorClass::Denied),
            "{wrong:?}: {class:?}: {error}"
        );
    }
    Ok(())
}

pub async fn batch(bench: &Bench<'_>) -> Result<()> {
    const GONE: [usize; 3] = [0, 50, 99];
    let values: Vec<(String, String)> =
        (0..100).map(|number| (bench.name(&number.to_string()), bench.secret())).collect();
    let present: Vec<usize> = (0..values.len()).filter(|number| !GONE.contains(number)).collect();
    for some in present.chunks(8) {
        try_join_all(some.iter().map(|number: &usize| {
            let (name, value) = &values[*number];
            bench.put(name, value.as_bytes())
        }))
        .await?;
    }
    let fetcher = bench.fetcher()?;
    // Logs in, and looks up what is looked up once.
    bench.agree(values[1].1.as_bytes(), bench.plain(&fetcher, &values[1].0).await).await?;
    let keys: Vec<_> = values.iter().map(|(name, _)| bench.key(name, None)).collect();
    let mark = bench.subject.proxy().mark();
    let answers = bench.fetch(&fetcher, &bench.subject.store(), &bench.subject.account(), &keys).await;
    let asked = bench.subject.proxy().since(mark).len();
    ensure!(answers.len() == keys.len(), "{} answers", answers.len());
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Err(error) if GONE.contains(&number) => {
                ensure!(error.class == ErrorClass::Missing, "{number}: {:?}: {error}", error.class);
            }
            // Its own value, and not a neighbour's.
            Ok(secret) if !GONE.contains(&number) => {
                let value = bench.pick(secret, &keys[number], bench.subject.plain_property());
                bench.agree(values[number].1.as_bytes(), value).await.with_context(|| number.to_string())?;
            }
            other => anyhow::bail!("{number}: {other:?}"),
        }
    }
    ensure!(asked <= bench.subject.requests_for(100), "{asked} requests for 100 secrets");
    Ok(())
}

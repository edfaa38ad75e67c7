//! The fault proxy, judged by the HTTP client that the product uses.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::http::{HeaderMap, Uri};
use botsecret_testbed::{ALWAYS, Certificate, FaultKind, FaultProxy, wait_for};

const NAME: &str = "secrets.eu-west-1.cloud.test";

/// Says what it was asked, and of whom.
async fn peer() -> Result<SocketAddr> {
    let echo = |uri: Uri, headers: HeaderMap, body: String| async move {
        format!("{} {uri} {body}", headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("nobody"))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
    Ok(address)
}

fn client(proxy: &FaultProxy, through: bool) -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(proxy.ca_pem().as_bytes())?])
        .no_proxy();
    Ok(if through { builder.proxy(reqwest::Proxy::all(proxy.url())?) } else { builder }.build()?)
}

async fn world() -> Result<(FaultProxy, reqwest::Client)> {
    let proxy = FaultProxy::start().await?;
    proxy.route(NAME, peer().await?);
    let client = client(&proxy, true)?;
    Ok((proxy, client))
}

#[tokio::test]
async fn requests_reach_the_peer_of_their_name_as_they_were_sent_and_are_counted() -> Result<()> {
    let (proxy, client) = world().await?;
    let url = format!("https://{NAME}/a%2Fb/c%20;d?x=1&y=%20");
    let answer = client.post(&url).header("x-amz-target", "Get").body("question").send().await?.text().await?;
    assert_eq!(answer, format!("{NAME} /a%2Fb/c%20;d?x=1&y=%20 question"));
    let mark = proxy.mark();
    let plain = client.get(format!("http://{NAME}/plain")).send().await?.text().await?;
    assert_eq!(plain, format!("{NAME} /plain "));
    // An answer is on record when it is through, which its reader may know first.
    let all = wait_for("both answers to be on record", Duration::from_secs(30), async || {
        let all = proxy.requests();
        Ok(all.iter().all(|request| request.answered > 0).then_some(all))
    })
    .await?;
    assert_eq!(
        (all[0].host.as_str(), all[0].method.as_str(), all[0].sent, all[0].status),
        (NAME, "POST", 8, Some(200))
    );
    assert_eq!((all[0].path.as_str(), all[0].target.as_deref()), ("/a%2Fb/c%20;d?x=1&y=%20", Some("Get")));
    assert_eq!(all[0].answered, answer.len());
    assert_eq!(proxy.since(mark), all[1..]);
    client.get(format!("https://{NAME}/again")).send().await?;
    assert_eq!((proxy.requests().len(), proxy.connections()), (3, 2), "a connection is used again");
    assert!(client.get("https://unknown.test/").send().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_front_is_an_https_address_before_a_peer_and_a_wildcard_stands_for_a_domain() -> Result<()> {
    let proxy = FaultProxy::start().await?;
    let front = proxy.front(peer().await?).await?;
    let answer = client(&proxy, false)?.get(format!("https://{front}/x")).send().await?.text().await?;
    assert_eq!(answer, format!("{front} /x "));
    assert_eq!(proxy.requests()[0].host, front.to_string());
    proxy.route("*.vault.test", peer().await?);
    let client = client(&proxy, true)?;
    assert_eq!(client.get("https://a.vault.test/").send().await?.text().await?, "a.vault.test / ");
    // Before a peer that speaks TLS itself.
    let second = FaultProxy::start().await?;
    second.route_tls("tls.test", front, proxy.ca_pem())?;
    let through = self::client(&second, true)?;
    assert_eq!(through.get("https://tls.test/y").send().await?.text().await?, "tls.test /y ");
    Ok(())
}

#[tokio::test]
async fn a_fault_hits_the_requests_that_it_names_so_often_and_no_other() -> Result<()> {
    let (proxy, client) = world().await?;
    let url = format!("https://{NAME}/read");
    proxy.fault_on(NAME, "GET /read", FaultKind::answer(429, &[("retry-after", "7")], "slow down"), 2);
    proxy.fault("other.test", FaultKind::Reset, ALWAYS);
    for _ in 0..2 {
        let answer = client.get(&url).send().await?;
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str()?), (429, "7"));
        assert_eq!(answer.text().await?, "slow down");
        assert_eq!(client.get(format!("https://{NAME}/else")).send().await?.status().as_u16(), 200);
    }
    assert_eq!(client.get(&url).send().await?.status().as_u16(), 200);
    proxy.fault(NAME, FaultKind::Garbage, ALWAYS);
    assert!(client.get(&url).send().await?.text().await?.contains("<html>"));
    proxy.clear(NAME);
    assert!(!client.get(&url).send().await?.text().await?.contains("<html>"));
    Ok(())
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_truncated_body_ends_early() -> Result<()> {
    let (proxy, client) = world().await?;
    let url = format!("https://{NAME}/read");
    client.get(&url).send().await?;
    proxy.fault(NAME, FaultKind::Reset, 1);
    // A body: the client must not take it for a connection that was stale.
    let error = client.post(&url).body("once").send().await.expect_err("reset");
    assert!(format!("{error:?}").contains("reset"), "{error:?}");
    proxy.fault(NAME, FaultKind::Truncate(4), 1);
    let mut answer = client.get(&url).send().await?;
    assert_eq!(answer.chunk().await?.as_deref(), Some(&NAME.as_bytes()[..4]));
    assert!(answer.chunk().await.is_err());
    assert_eq!(client.get(&url).send().await?.status().as_u16(), 200);
    Ok(())
}

#[tokio::test]
async fn slow_silent_and_endless_answers_last_as_they_say() -> Result<()> {
    let (proxy, client) = world().await?;
    let url = format!("https://{NAME}/read");
    proxy.fault(NAME, FaultKind::Slow(Duration::from_millis(300)), 1);
    let began = Instant::now();
    client.get(&url).send().await?;
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.fault(NAME, FaultKind::NoAnswer, 1);
    assert!(tokio::time::timeout(Duration::from_millis(300), client.get(&url).send()).await.is_err());
    proxy.fault(NAME, FaultKind::Endless, 1);
    let mut answer = client.get(&url).send().await?;
    for _ in 0..5 {
        assert!(answer.chunk().await?.is_some_and(|chunk| chunk.len() < 100));
    }
    drop(answer);
    proxy.fault(NAME, FaultKind::Flood, 1);
    let (mut answer, mut read) = (client.get(&url).send().await?, 0);
    while read < 8 << 20 {
        read += answer.chunk().await?.expect("more").len();
    }
    Ok(())
}

#[tokio::test]
async fn certificates_that_are_wrong_are_refused_before_anything_is_asked() -> Result<()> {
    let (proxy, _) = world().await?;
    for (certificate, problem) in [
        (Certificate::UnknownAuthority, "UnknownIssuer"),
        (Certificate::OtherName, "NotValidForName"),
        (Certificate::Expired, "Expired"),
    ] {
        proxy.show(certificate);
        let error = client(&proxy, true)?.get(format!("https://{NAME}/")).send().await.expect_err("refused");
        assert!(format!("{error:?}").contains(problem), "{certificate:?}: {error:?}");
    }
    proxy.show(Certificate::Right);
    proxy.close(true);
    assert!(client(&proxy, true)?.get(format!("https://{NAME}/")).send().await.is_err());
    proxy.close(false);
    assert_eq!(proxy.requests(), []);
    client(&proxy, true)?.get(format!("https://{NAME}/")).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_stale_answer_is_the_first_that_the_same_question_got() -> Result<()> {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = move || async move { count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(counting)).await });
    let proxy = FaultProxy::start().await?;
    proxy.route(NAME, address);
    let client = client(&proxy, true)?;
    let ask = async |path: &str| anyhow::Ok(client.get(format!("https://{NAME}{path}")).send().await?.text().await?);
    assert_eq!((ask("/a").await?, ask("/a").await?), ("0".into(), "1".into()));
    proxy.fault(NAME, FaultKind::Stale, ALWAYS);
    assert_eq!((ask("/a").await?, ask("/b").await?, ask("/b").await?), ("0".into(), "2".into(), "2".into()));
    proxy.clear("*");
    assert_eq!(ask("/a").await?, "3");
    Ok(())
}

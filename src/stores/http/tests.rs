use std::{
    error::Error,
    fmt, io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::{Method, Request, Url};

use super::{
    Answer, ClusterEndpoint, HttpClients, LARGEST_ANSWER, LIFE, Pace, Pool, Reach, Trust, client, cluster::to_pem,
    failure::why, invalid, provide_cryptography,
};
use crate::stores::{
    ErrorClass, StoreError, Turn, Turns,
    canned::{Canned, answer},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{CertificateError, Error as Tls, InvalidMessage};

fn clients() -> HttpClients {
    HttpClients::new(ClusterEndpoint::default())
}

async fn get(address: &str) -> Result<Answer, StoreError> {
    let url = Url::parse(address).expect("URL");
    let pool = clients().pool(&url, None, None, LARGEST_ANSWER).expect("pool");
    pool.send(Request::new(Method::GET, url), &Pace::default()).await
}

async fn get_from(canned: &Canned) -> Result<Answer, StoreError> {
    get(&format!("http://{}/path?secret=query", canned.address)).await
}

async fn error_from(answer: Vec<u8>) -> StoreError {
    get_from(&Canned::answering(vec![answer]).await).await.err().expect("an error")
}

#[tokio::test]
async fn p6_an_answer_is_read_up_to_its_bound_whether_its_length_is_announced_or_not() {
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LARGEST_ANSWER + 1).into_bytes();
    assert_eq!(error_from(announced).await.class, ErrorClass::TooLarge);

    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..80 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&vec![b'x'; 0x10000]);
        endless.extend_from_slice(b"\r\n");
    }
    assert_eq!(error_from(endless).await.class, ErrorClass::TooLarge);

    let whole = "x".repeat(LARGEST_ANSWER);
    let read = get_from(&Canned::answering(vec![answer("200 OK", "", &whole)]).await).await.expect("read");
    assert_eq!(read.body.len(), LARGEST_ANSWER);
}

#[tokio::test(start_paused = true)]
async fn p9_connections_that_cannot_be_made_again_are_an_outage_and_no_fault_of_the_store() {
    provide_cryptography();
    let made = AtomicUsize::new(0);
    let make = move || match made.fetch_add(1, Ordering::Relaxed) {
        0 => client(&Trust::Nothing, None, None, false),
        _ => Err(invalid("no certificates")),
    };
    let pool = Pool::new(make, LARGEST_ANSWER, None).expect("the first");
    pool.clients.get().expect("the first");
    // Timers are as fine as a millisecond.
    tokio::time::sleep(LIFE + Duration::from_millis(2)).await;
    let request = Request::new(Method::GET, Url::parse("http://127.0.0.1/").expect("URL"));
    let error = pool.send(request, &Pace::default()).await.err().expect("an error");
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Unavailable, "no certificates"));
}

#[tokio::test]
async fn p5_who_is_confined_asks_no_machine_service_and_no_place_that_is_not_named_and_others_ask_any() {
    let canned = Canned::answering(vec![answer("200 OK", "", ""), answer("200 OK", "", "")]).await;
    let here = Url::parse(&format!("http://{}/", canned.address)).expect("URL");
    let machine = Url::parse("http://169.254.169.254/latest/meta-data").expect("URL");
    let places = |text: &str| Reach::to(vec![text.parse().expect("a place")]);
    let asked = async |clients: &HttpClients, url: &Url| {
        let pool = clients.pool_within_reach(url, None, None, LARGEST_ANSWER).expect("pool");
        pool.send(Request::new(Method::GET, url.clone()), &Pace::default()).await.map(|answer| answer.status.as_u16())
    };
    assert_eq!(asked(&clients(), &here).await.expect("within reach"), 200);
    for (clients, url) in [
        (clients(), &machine),
        (clients().within(places("vault.example")), &here),
        (clients().within(places("169.254.0.0/16")), &machine),
    ] {
        let error = asked(&clients, url).await.expect_err("out of reach");
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
    }
    assert_eq!(asked(&clients().within(places("127.0.0.0/8")), &here).await.expect("a named place"), 200);
    assert_eq!(canned.requests().len(), 2);
    // An administrator's store asks any, and nobody goes by the machine as a proxy.
    assert!(clients().within(places("vault.example")).pool(&machine, None, None, LARGEST_ANSWER).is_ok());
    for proxy in ["http://169.254.169.254:80", "169.254.169.254:80", "name:80", "socks5://vault.example"] {
        let error = clients().pool_within_reach(&here, None, Some(proxy), LARGEST_ANSWER).err().expect("refused");
        assert_eq!(error.class, ErrorClass::Invalid, "{proxy}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Canned::answering(vec![answer("200 OK", "", "")]).await;
    let location = format!("location: http://{}/\r\n", elsewhere.address);
    let canned = Canned::answering(vec![answer("307 Temporary Redirect", &location, "")]).await;
    assert_eq!(get_from(&canned).await.expect("answered").status, 307);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_capped_and_anything_but_seconds_is_ignored() {
    for (header, wait) in [("7", Some(7)), ("86400", Some(600)), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("-1", None)]
    {
        let header_line = format!("retry-after: {header}\r\n");
        let canned = Canned::answering(vec![answer("429 Too Many Requests", &header_line, "")]).await;
        let read = get_from(&canned).await.expect("answered");
        assert_eq!(read.retry_after, wait.map(Duration::from_secs), "{header}");
    }
}

#[tokio::test]
async fn p4_an_error_names_the_address_and_the_cause_and_no_byte_of_an_answer_or_query() {
    for broken in [
        &b"hunter2 is no HTTP\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhunter2",
        b"HTTP/1.1 200 OK\r\nhunter2\r\n\r\n",
    ] {
        let error = error_from(broken.to_vec()).await;
        assert_eq!(error.class, ErrorClass::Unavailable);
        assert!(error.message.starts_with("cannot talk to http://127.0.0.1:"), "{error}");
        assert!(!error.message.contains("hunter2") && !error.message.contains("query"), "{error}");
    }
    let refused = get("http://127.0.0.1:1/").await.err().expect("refused");
    assert_eq!(refused.class, ErrorClass::Unavailable);
    for words in ["http://127.0.0.1:1: connection refused", "check the address", "the operator's namespace"] {
        assert!(refused.message.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_an_outage_that_says_so() {
    let canned = Canned::answering(vec![b"HTTP/1.1 400 Bad Request\r\n\r\nhunter2".to_vec()]).await;
    let error = get(&format!("https://{}/", canned.address)).await.err().expect("no TLS");
    assert_eq!(error.class, ErrorClass::Unavailable);
    assert!(error.message.contains("http or https"), "{error}");
}

/// What a library says, which may be what the peer said.
#[derive(Debug)]
struct Quoting(Box<dyn Error + Send + Sync>);

impl fmt::Display for Quoting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("http2 error: hunter2")
    }
}

impl Error for Quoting {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn p4_the_cause_is_told_in_fixed_words_and_never_in_the_peers() {
    let unknown: fn(Tls) -> io::Error = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let wrong_name = CertificateError::NotValidForNameContext {
        expected: "vault.example".try_into().expect("name"),
        presented: vec!["hunter2.example".to_owned()],
    };
    for (cause, words) in [
        (io::Error::other("GOAWAY hunter2"), "the connection broke off"),
        (io::Error::new(io::ErrorKind::ConnectionReset, "hunter2"), "was reset"),
        (io::ErrorKind::ConnectionRefused.into(), "connection refused"),
        (io::ErrorKind::NetworkUnreachable.into(), "no route"),
        // The very words that a login replaces where its endpoint has a bundle
        // of its own.
        (unknown(CertificateError::UnknownIssuer.into()), "into caBundle"),
        (unknown(wrong_name.into()), "for another name"),
        (unknown(CertificateError::Expired.into()), "has expired"),
        (unknown(Tls::General("hunter2".into())), "the TLS handshake failed"),
        (unknown(InvalidMessage::InvalidContentType.into()), "http or https"),
        // Wrapped twice, as some connectors do.
        (io::Error::other(unknown(CertificateError::UnknownIssuer.into())), "into caBundle"),
    ] {
        let told = why(&Quoting(Box::new(cause)));
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_outage_that_says_so() {
    let error = get("http://vault.invalid/").await.err().expect("no such name");
    if error.class == ErrorClass::Timeout {
        // A machine whose resolver does not answer.
        return;
    }
    assert!(
        error.message.starts_with("cannot talk to http://vault.invalid: its name cannot be resolved: check"),
        "{error}"
    );
}

/// Lets one go, and the next not at all.
struct OneTurn(std::sync::atomic::AtomicBool);

#[async_trait::async_trait]
impl Turns for OneTurn {
    async fn next(&self) -> Turn {
        if self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return std::future::pending().await;
        }
        Turn::default()
    }
}

#[tokio::test]
async fn p6_a_request_that_hangs_ends_in_time_though_another_of_its_attempt_waits_for_its_turn() {
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = Url::parse(&format!("http://{}/", hole.local_addr().expect("bound"))).expect("URL");
    let pool = clients().pool(&url, None, None, LARGEST_ANSWER).expect("pool");
    let pace = Pace::of(std::sync::Arc::new(OneTurn(false.into())));
    let limit = Duration::from_millis(100);
    let sent = HttpClients::each_within(limit, pool.send(Request::new(Method::GET, url.clone()), &pace));
    let waits = HttpClients::each_within(limit, pool.send(Request::new(Method::GET, url), &pace));
    tokio::select! {
        biased;
        answer = sent => {
            let error = answer.err().expect("no answer");
            assert_eq!(error.class, ErrorClass::Timeout);
            assert!(error.message.starts_with("the manager did not answer within 100ms: check"), "{error}");
        }
        _ = waits => panic!("it has no turn"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it hangs"),
    }
}

#[test]
fn a_bundle_is_pem_or_base64_of_pem_and_anything_else_is_refused() {
    let url = Url::parse("https://vault.example").expect("URL");
    // Made with: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=test
    let pem = TEST_CERTIFICATE;
    let clients = clients();
    let one = clients.pool(&url, Some(pem), None, LARGEST_ANSWER).expect("PEM");
    let packed = clients.pool(&url, Some(&STANDARD.encode(pem)), None, LARGEST_ANSWER).expect("base64 of PEM");
    assert!(std::sync::Arc::ptr_eq(&one, &packed), "the same certificates, the same connections");
    for bundle in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "aGVsbG8="] {
        let error = clients.pool(&url, Some(bundle), None, LARGEST_ANSWER).err().expect(bundle);
        assert_eq!(error.class, ErrorClass::Invalid, "{bundle}");
    }
}

#[test]
fn certificates_come_as_der_or_pem_from_the_operators_own_configuration() {
    assert_eq!(to_pem(b"\x30\x01"), "-----BEGIN CERTIFICATE-----\nMAE=\n-----END CERTIFICATE-----\n");
    assert_eq!(to_pem(TEST_CERTIFICATE.as_bytes()), TEST_CERTIFICATE);
}

const TEST_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUayuosSGbjvrMH1+lHdHoQStOORIwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIxNjU0NTdaGA8yMTI2MTAyOTE2NTQ1
N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAfE
Ku9r1uxNnl7rkrXHjvF1GqzRqKLAhpLUaVkZPE4x/QUAHwg/Zjuro4heZqd8QwK5
FcyoYOuyrch6fEBSbpCjUzBRMB0GA1UdDgQWBBQyRCgc3tw9TxtbGlkgdH91lzt6
9TAfBgNVHSMEGDAWgBQyRCgc3tw9TxtbGlkgdH91lzt69TAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIFHRR/KKmGib2MnOOlCvvvj7SMV6SdLO+mNc
Y1u5sPwHAiEAnmlx9lna/98uUEHAlsxsBqT7spONulQQOgLXxs7FSBo=
-----END CERTIFICATE-----
";

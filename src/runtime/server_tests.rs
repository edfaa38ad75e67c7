//! Clients that take their time, and more of them than there is room for.

use std::{
    future::ready,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{ACCEPT_AGAIN, CONNECTIONS, LAST_ANSWER, TAKING, accept_from, converse, text};

const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: operator\r\n\r\n";
/// More than the buffers of a connection hold.
const LARGE: usize = 1 << 20;
/// Of a socket that holds as little as can be.
const BUFFER: u32 = 4096;
const DEADLINE: Duration = Duration::from_secs(10);

/// Metrics that are large, and a probe.
fn answers() -> impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static {
    let metrics = Bytes::from(vec![b'x'; LARGE]);
    move |request: &Request<Incoming>| match request.uri().path() {
        "/metrics" => Response::new(Full::new(metrics.clone())),
        _ => text(StatusCode::OK, "ok\n".to_owned()),
    }
}

/// A client that has asked for the metrics.
async fn asked() -> (DuplexStream, DuplexStream) {
    let (mut client, server) = duplex(1024);
    client.write_all(METRICS).await.expect("it is taken");
    (client, server)
}

#[tokio::test(start_paused = true)]
async fn p6_a_client_that_never_reads_its_answer_is_cut_off() {
    let (mut client, server) = asked().await;
    let began = Instant::now();
    let longest = TAKING + LAST_ANSWER;
    timeout(2 * longest, converse(server, answers())).await.expect("it is cut off");
    assert!((longest..longest + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("what was sent");
    assert!((1..LARGE).contains(&rest.len()), "{}", rest.len());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_late_is_given_whole_and_no_further_one() {
    let (mut client, server) = asked().await;
    let conversation = tokio::spawn(converse(server, answers()));
    // Virtual time.
    sleep(TAKING + LAST_ANSWER / 2).await;
    let mut answer = Vec::new();
    timeout(DEADLINE, client.read_to_end(&mut answer)).await.expect("an end").expect("an answer");
    assert!(answer.len() > LARGE, "{}", answer.len());
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    conversation.await.expect("it is over");
}

/// Sends this, and waits for the first byte of the answer.
async fn begun(server: SocketAddr, request: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(BUFFER).expect("a small one");
    let mut stream = socket.connect(server).await.expect("a connection");
    stream.write_all(request).await.expect("it is taken");
    stream.read_exact(&mut [0]).await.expect("an answer");
    stream
}

#[tokio::test]
async fn p6_a_probe_is_answered_while_every_seat_is_taken_by_clients_that_never_read() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(BUFFER).expect("a small one");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let listener = socket.listen(16).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move { accept_from(|| listener.accept(), answers()).await });
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(begun(address, METRICS).await);
    }
    let probe = begun(address, b"GET /healthz HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
    let mut probe = timeout(DEADLINE, probe).await.expect("nobody is kept out");
    let mut answer = String::new();
    timeout(DEADLINE, probe.read_to_string(&mut answer)).await.expect("an end").expect("an answer");
    assert!(answer.starts_with("TTP/1.1 200") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn p6_while_file_descriptors_are_used_up_accept_is_tried_ten_times_a_second() {
    const EMFILE: i32 = 24;
    let mut tried = 0;
    let accept = || {
        tried += 1;
        assert!(tried < 1000, "it spins");
        ready(Err::<(TcpStream, SocketAddr), _>(io::Error::from_raw_os_error(EMFILE)))
    };
    let second = 10 * ACCEPT_AGAIN;
    assert!(timeout(second, accept_from(accept, answers())).await.is_err(), "it goes on for ever");
    assert!((10..=11).contains(&tried), "{tried}");
}

//! `/metrics`, `/healthz` and `/readyz`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch::Receiver},
    time::timeout,
};

use super::Context;

/// Connections at once; a scraper and the kubelet need a handful.
const CONNECTIONS: usize = 64;
/// How long one of them lives. Who reads no answer holds no place for ever, where the
/// kubelet's probes would find none.
const LONGEST: Duration = Duration::from_secs(30);
/// Where none can be accepted (no file descriptors are left), the next try is not at once.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, context: Arc<Context>, ready: Receiver<bool>) {
    serve_with(listener, move |request| answer(request, &context, *ready.borrow())).await;
}

async fn serve_with<F>(listener: TcpListener, answer: F)
where
    F: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            // A client that went away, or does not read, is no news.
            let _ = timeout(LONGEST, connection).await;
            drop(seat);
        });
    }
}

fn answer(request: &Request<Incoming>, context: &Context, ready: bool) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if ready => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the first lists are not complete\n".to_owned()),
        "/metrics" => {
            let mut response = text(StatusCode::OK, context.metrics.text(context.fetcher.counters()));
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(format));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::{CONNECTIONS, serve_with, text};

    /// Time stands still but where everything waits for it.
    #[tokio::test(start_paused = true)]
    async fn clients_that_read_no_answer_do_not_keep_the_probes_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = tokio::spawn(serve_with(listener, |request| {
            // More than the sockets between them hold.
            let long = if request.uri().path() == "/metrics" { 32 * 1024 * 1024 } else { 2 };
            text(StatusCode::OK, "a".repeat(long))
        }));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = TcpStream::connect(address).await.expect("a connection");
            client.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("asked");
            // Its answer has begun, so the seat is taken.
            assert!(client.read(&mut [0; 1]).await.is_ok_and(|read| read == 1));
            silent.push(client);
        }
        let mut probe = TcpStream::connect(address).await.expect("a connection");
        probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("asked");
        let mut said = String::new();
        probe.read_to_string(&mut said).await.expect("an answer");
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        server.abort();
    }
}

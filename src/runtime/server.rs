//! `/metrics`, `/healthz` and `/readyz`.

use std::{collections::VecDeque, convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch::Receiver,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::Context;

/// Connections at once; a scraper and the kubelet need a handful. For one more the oldest
/// is cut off: those that do not end keep nobody else out.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and the pause before it.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests are taken from one connection …
const TAKING: Duration = Duration::from_secs(20);
/// … and how long the answer to the last of them may take from then on.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// How long nobody is accepted after that failed: where file descriptors are used up,
/// it fails at once, again and again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, context: Arc<Context>, ready: Receiver<bool>) {
    accept_from(|| listener.accept(), move |request: &Request<Incoming>| answer(request, &context, *ready.borrow()))
        .await;
}

/// Accepts connections for ever, and has each answered.
async fn accept_from<F, A>(mut accept: impl FnMut() -> F, answer: A)
where
    F: Future<Output = io::Result<(TcpStream, SocketAddr)>>,
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    // The oldest first.
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(tokio::spawn(converse(stream, answer.clone())).abort_handle());
    }
}

/// Answers what one client asks, however slowly it asks and reads.
async fn converse<I, A>(stream: I, answer: A)
where
    I: AsyncRead + AsyncWrite + Unpin,
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    for time in [TAKING, LAST_ANSWER] {
        // A client that went away is no news.
        if timeout(time, connection.as_mut()).await.is_ok() {
            return;
        }
        connection.as_mut().graceful_shutdown();
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
#[path = "server_tests.rs"]
mod tests;

//! `/metrics`, `/healthz` and `/readyz`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch::Receiver},
};

use super::Context;

/// Connections at once; a scraper and the kubelet need a handful.
const CONNECTIONS: usize = 64;

pub(super) async fn serve(listener: TcpListener, context: Arc<Context>, ready: Receiver<bool>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (context, ready) = (context.clone(), ready.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &context, *ready.borrow());
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            // A client that went away is no news.
            let _ = connection.await;
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

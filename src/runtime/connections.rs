//! Connections to the Kubernetes API that may carry Secrets.

use std::{convert::Infallible, sync::Arc};

use hyper::{Request, Response, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::client::{Body, ClientBuilder, ConfigExt};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxService};

use crate::{
    deadline::API_DEADLINE,
    short_lived::{LIFE, ShortLived},
};

/// What speaks to the API server.
pub(super) type ApiService = BoxService<Request<Body>, Response<Incoming>, BoxError>;

/// What `ClientBuilder::try_from` makes of this, but with a pool of connections that
/// is another every few seconds, as [`ShortLived`] has it. An answer that goes on for
/// longer, a watch, keeps its own connection.
pub(super) fn short_lived(config: &kube::Config) -> kube::Result<ClientBuilder<ApiService>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let patience = config.connect_timeout.unwrap_or(API_DEADLINE);
    // Shared by all pools, so that those that follow resume its TLS sessions.
    let connector = ServiceExt::<Uri>::map_future(
        config.rustls_https_connector_with_connector(tcp)?,
        // In a box, since pools want to move it.
        move |connecting| {
            Box::pin(async move {
                timeout(patience, connecting).await.unwrap_or_else(|elapsed| Err(BoxError::from(elapsed)))
            })
        },
    );
    let make = move || Ok::<_, Infallible>(Client::builder(TokioExecutor::new()).build::<_, Body>(connector.clone()));
    let Ok(clients) = ShortLived::new(LIFE, make);
    let clients = Arc::new(clients);
    let send = service_fn(move |request: Request<Body>| {
        let Ok(client) = clients.get();
        client.request(request)
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(send);
    Ok(ClientBuilder::new(BoxService::new(service), config.default_namespace.clone()))
}

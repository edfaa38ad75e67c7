//! Connections to the Kubernetes API that may carry Secrets.

use std::{convert::Infallible, sync::Arc};

use hyper::{Request, Response, body::Incoming};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::client::{Body, ClientBuilder, ConfigExt};
use tower::{BoxError, ServiceBuilder, service_fn, util::BoxService};

use crate::short_lived::{LIFE, ShortLived};

/// What speaks to the API server.
pub(super) type ApiService = BoxService<Request<Body>, Response<Incoming>, BoxError>;

/// What `ClientBuilder::try_from` makes of this, but with a pool of connections that
/// is another every few seconds, as [`ShortLived`] has it. An answer that goes on for
/// longer, a watch, keeps its own connection.
pub(super) fn short_lived(config: &kube::Config) -> kube::Result<ClientBuilder<ApiService>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Shared by all pools, so that those that follow resume its TLS sessions. Its limits
    // are those of kube: a connection that a network lost is silent for ever, and a watch
    // on it would be.
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
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

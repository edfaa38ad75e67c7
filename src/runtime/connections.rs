//! Connections to the Kubernetes API that may carry Secrets.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::client::{Body, ClientBuilder, ConfigExt};
use tower::{BoxError, ServiceBuilder, service_fn, util::BoxService};

use crate::short_lived::{LIFE, ShortLived};

/// How long a connection may say nothing: longer than any watch lasts, which the API server
/// ends. Of its own kube bounds the silence of watches that were answered, but neither that
/// of one that was not, nor of the list before it: on a connection that a network lost,
/// both would be waited for without an end.
const SILENCE: Duration = Duration::from_secs(300);

/// Puts an end to silence.
pub(super) fn bound_silence(config: &mut kube::Config) {
    config.read_timeout = Some(SILENCE);
    // Or else the time before a request would count for its answer.
    config.reset_reader_on_write = true;
}

/// What speaks to the API server.
pub(super) type ApiService = BoxService<Request<Body>, Response<Incoming>, BoxError>;

/// What `ClientBuilder::try_from` makes of this, but with a pool of connections that
/// is another every few seconds, as [`ShortLived`] has it. An answer that goes on for
/// longer, a watch, keeps its own connection.
pub(super) fn short_lived(config: &kube::Config) -> kube::Result<ClientBuilder<ApiService>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Shared by all pools, so that those that follow resume its TLS sessions.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use botsecret_testbed::BlackHole;
    use k8s_openapi::api::core::v1::Secret;
    use kube::api::{Api, ListParams};
    use tokio::time::timeout;

    use super::{bound_silence, short_lived};

    const DEADLINE: Duration = Duration::from_secs(20);
    /// What kube asks for where nobody says, and by how much more it is patient.
    const LONGEST_WATCH: Duration = Duration::from_secs(290 + 5);

    #[tokio::test]
    async fn a_list_that_is_never_answered_ends_after_a_silence_that_no_watch_keeps() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let silent = BlackHole::start().await.expect("a listener");
        let mut config = kube::Config::new(format!("http://{}", silent.address()).parse().expect("a URL"));
        // A machine may have none, and none is needed.
        config.root_cert = Some(Vec::new());
        bound_silence(&mut config);
        assert!(config.read_timeout.is_some_and(|limit| limit > LONGEST_WATCH), "{:?}", config.read_timeout);
        config.read_timeout = Some(Duration::from_millis(50));
        let client = short_lived(&config).expect("a client").build();
        let secrets: Api<Secret> = Api::namespaced(client, "trading");
        let listed = timeout(DEADLINE, secrets.list(&ListParams::default())).await.expect("it is still waited for");
        assert!(listed.is_err(), "{listed:?}");
        let asked = async {
            while silent.accepted() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, asked).await.expect("nobody was asked");
    }
}

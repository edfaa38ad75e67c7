use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame},
};
use kube::client::Body;
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::ReferredWatches;
use crate::{
    api::BotSecretStore,
    watch::{Change, ObjectKey, Scoped, World},
};

/// What an API server without Secrets was asked, and how many watches are open
/// there.
#[derive(Clone)]
struct Server {
    asked: Arc<Mutex<Vec<String>>>,
    open: watch::Sender<usize>,
}

struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Server {
    fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            server.asked.lock().expect("whole").push(uri.clone());
            let body = if uri.contains("watch=true") {
                server.open.send_modify(|open| *open += 1);
                let open = Open(server.open.clone());
                let silence = stream::pending::<Result<Frame<Bytes>, Infallible>>().map(move |frame| {
                    let _ = &open;
                    frame
                });
                Either::Right(StreamBody::new(silence))
            } else {
                let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": {"resourceVersion": "5"}, "items": []});
                Either::Left(Full::new(Bytes::from(list.to_string())))
            };
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        kube::Client::new(service, "default")
    }

    async fn until_watches(&self, wanted: usize) {
        let mut open = self.open.subscribe();
        let waiting = timeout(Duration::from_secs(10), open.wait_for(|open| *open == wanted));
        waiting.await.expect("so many watches").expect("it lives");
    }
}

fn take_store(world: &mut World, name: &str, secret: &str) {
    let store: BotSecretStore = serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore",
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"vault": {"address": "https://vault.example", "auth": {"tokenSecretRef": {"name": secret, "key": "k"}}}},
    }))
    .expect("a store");
    world.take("", Change::Store(Scoped::Put(Box::new(store))));
}

#[tokio::test]
async fn p10_each_secret_that_a_store_refers_to_has_one_watch_as_long_as_one_does() {
    let server = Server { asked: Arc::default(), open: watch::Sender::new(0) };
    let mut world = World::new("system");
    let (mut watches, mut changes) = ReferredWatches::new(server.client());
    watches.follow(&mut world);
    assert!(watches.has_answers(&world), "nothing to wait for");
    for (name, secret) in [("one", "login"), ("two", "login"), ("three", "key")] {
        take_store(&mut world, name, secret);
    }
    watches.follow(&mut world);
    watches.follow(&mut world);
    server.until_watches(2).await;
    assert!(!watches.has_answers(&world));
    for _ in 0..2 {
        let change = changes.recv().await.expect("news");
        assert!(watches.is_of_one(&change) && matches!(change, Change::Referred(_, None)), "{change:?}");
        world.take("", change);
    }
    assert!(watches.has_answers(&world));
    let asked = server.asked.lock().expect("whole").clone();
    assert_eq!(asked.len(), 4, "a list and a watch each: {asked:?}");
    for uri in &asked {
        assert!(uri.starts_with("/api/v1/namespaces/ns/secrets?"), "{uri}");
        assert!(
            ["login", "key"].iter().any(|name| uri.contains(&format!("fieldSelector=metadata.name%3D{name}"))),
            "{uri}"
        );
    }

    take_store(&mut world, "one", "key");
    take_store(&mut world, "two", "key");
    watches.follow(&mut world);
    server.until_watches(1).await;
    let gone = ObjectKey::new("ns", "login");
    assert!(!world.has_looked_for(&gone) && !watches.is_of_one(&Change::Referred(gone, None)));
    drop(watches);
    server.until_watches(0).await;
}

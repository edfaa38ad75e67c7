//! Connections that are used for a short time only. The buffers of an open one, those of
//! TLS as those of HTTP, hold what it carried until other traffic overwrites it. Memory
//! is wiped when it is given back, so what they hold goes with the connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a client is handed out from its first use on: what was carried is to be gone
/// soon after, and a TLS handshake now and then costs little.
pub(crate) const LIFE: Duration = Duration::from_secs(10);

/// One client after the other, each with a pool of connections. When its time is over it
/// is dropped, whether there is traffic or not: its idle connections are closed at once,
/// the others as soon as their answers are there.
pub(crate) struct ShortLived<C, E> {
    make: Box<dyn Fn() -> Result<C, E> + Send + Sync>,
    life: Duration,
    current: Arc<Mutex<Current<C>>>,
}

struct Current<C> {
    client: Option<C>,
    /// Whether its time runs.
    is_used: bool,
}

impl<C: Clone + Send + 'static, E> ShortLived<C, E> {
    /// Makes the first client at once, so that it is known whether one can be made.
    pub(crate) fn new(life: Duration, make: impl Fn() -> Result<C, E> + Send + Sync + 'static) -> Result<Self, E> {
        let current = Current { client: Some(make()?), is_used: false };
        Ok(Self { make: Box::new(make), life, current: Arc::new(Mutex::new(current)) })
    }

    /// The client for a request that is sent now. Only within a runtime.
    pub(crate) fn get(&self) -> Result<C, E> {
        let mut current = locked(&self.current);
        let client = match current.client.clone() {
            Some(client) => client,
            None => (self.make)()?,
        };
        current.client = Some(client.clone());
        if !current.is_used {
            current.is_used = true;
            let (current, end) = (Arc::downgrade(&self.current), tokio::time::sleep(self.life));
            tokio::spawn(async move {
                end.await;
                let Some(current) = current.upgrade() else { return };
                let mut current = locked(&current);
                current.is_used = false;
                current.client = None;
            });
        }
        Ok(client)
    }
}

/// Should making a client panic, what is there is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use http_body_util::{BodyExt, Empty};
    use hyper::{Uri, body::Bytes};
    use hyper_util::{
        client::legacy::{Client, connect::HttpConnector},
        rt::TokioExecutor,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::{advance, timeout},
    };

    use super::{LIFE, ShortLived};

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn a_client_is_let_go_some_time_after_its_first_use_however_often_it_is_used() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let clients = ShortLived::new(LIFE, move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Arc::new(()))
        });
        let Ok(clients) = clients;
        let get = || {
            let Ok(client) = clients.get();
            client
        };
        // Nobody has used it: it holds nothing.
        advance(LIFE * 3).await;
        let first = get();
        for _ in 0..9 {
            advance(LIFE / 10).await;
            assert!(Arc::ptr_eq(&first, &get()), "one pool for all who come in its time");
        }
        // Timers are as fine as a millisecond.
        tokio::time::sleep(LIFE / 10 + Duration::from_millis(2)).await;
        assert_eq!(Arc::strong_count(&first), 1, "it is kept though its time is over");
        assert!(!Arc::ptr_eq(&first, &get()));
        tokio::time::sleep(LIFE + Duration::from_millis(2)).await;
        assert_eq!(made.load(Ordering::SeqCst), 2, "none is made before it is asked for");
    }

    #[tokio::test]
    async fn one_that_cannot_be_made_is_an_error_at_once_and_one_that_cannot_be_made_again_later() {
        assert!(ShortLived::<(), _>::new(LIFE, || Err("no certificates")).is_err());
        let made = AtomicUsize::new(0);
        let life = Duration::from_millis(1);
        let clients = ShortLived::new(life, move || match made.fetch_add(1, Ordering::SeqCst) {
            0 | 2 => Ok(()),
            _ => Err("no certificates"),
        });
        let clients = clients.expect("the first");
        clients.get().expect("the first");
        let refused = async {
            while clients.get().is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, refused).await.expect("another is made");
        clients.get().expect("and it is tried again");
    }

    async fn accepted(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.expect("in time").expect("a connection");
        assert!(stream.read(&mut [0; 1024]).await.expect("a request") > 0);
        stream
    }

    #[tokio::test]
    async fn an_answer_that_is_under_way_is_read_to_its_end_and_then_its_connection_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let uri: Uri = format!("http://{address}/").parse().expect("a URI");
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let clients = ShortLived::new(Duration::from_millis(1), move || {
            count.fetch_add(1, Ordering::SeqCst);
            let client =
                Client::builder(TokioExecutor::new()).build::<HttpConnector, Empty<Bytes>>(HttpConnector::new());
            Ok::<_, Infallible>(client)
        });
        let Ok(clients) = clients;
        let Ok(client) = clients.get();
        let (answer, mut stream) = tokio::join!(
            async { timeout(DEADLINE, client.get(uri.clone())).await.expect("in time").expect("answered") },
            async {
                let mut stream = accepted(&listener).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await.expect("sent");
                stream
            }
        );
        drop(client);
        let replaced = async {
            while made.load(Ordering::SeqCst) < 2 {
                let Ok(_) = clients.get();
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, replaced).await.expect("another client");
        stream.write_all(b"def").await.expect("it is still open");
        let body = timeout(DEADLINE, answer.into_body().collect()).await.expect("in time").expect("whole");
        assert_eq!(body.to_bytes().as_ref(), b"abcdef");
        let ended = timeout(DEADLINE, stream.read(&mut [0; 16])).await.expect("it stays open");
        assert!(matches!(ended, Ok(0)), "{ended:?}");
    }
}

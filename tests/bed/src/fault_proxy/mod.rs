//! A proxy that stands before managers, shows TLS under their names, counts
//! what they are asked and makes answers go wrong on purpose.
//!
//! A store names it in `proxy`, a vendor's Python client in `HTTPS_PROXY`.
//! `CONNECT` is intercepted: the client sees a certificate of the proxy's own
//! authority for the name that it asked for, and the request goes, its `Host`
//! and target unchanged, to the peer that is routed for that name. Inside
//! there is HTTP/1.1 only, so that a fault hits one request and no other.

mod faults;
mod record;
mod serve;
mod upstream;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cluster::lock;
use crate::runtime;

pub use faults::{ALWAYS, Certificate, FaultKind};
pub use record::{ProxiedRequest, ProxyMark};

use faults::Faults;
use record::Record;
use serve::{Certificates, Entry};
use upstream::{Peer, Routes};

/// What every connection of one proxy knows.
pub(crate) struct Shared {
    certificates: Certificates,
    routes: Routes,
    faults: Faults,
    record: Record,
    closed: AtomicBool,
}

/// A running proxy; dropped, it is gone with its connections.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Listens on a free loopback port, with a certificate authority of its
    /// own.
    pub async fn start() -> Result<Self> {
        runtime::install_crypto();
        let shared = Arc::new(Shared {
            certificates: Certificates::new()?,
            routes: Routes::default(),
            faults: Faults::default(),
            record: Record::default(),
            closed: AtomicBool::default(),
        });
        let (address, task) = listen(&shared, Entry::Proxy).await?;
        Ok(Self { shared, address, tasks: Mutex::new(vec![task]) })
    }

    /// What a store names in `proxy`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a store names in `caBundle`.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.shared.certificates.ca_pem()
    }

    /// Requests for this name go to a peer that speaks plain HTTP.
    ///
    /// A name may have a port (`127.0.0.1:8200`), else any port will do, and
    /// may begin with `*.` for everything below a domain.
    pub fn route(&self, name: &str, peer: SocketAddr) {
        self.shared.routes.add(name, Peer::plain(peer));
    }

    /// Requests for this name go to a peer that speaks TLS, with a certificate
    /// of this authority for its address.
    pub fn route_tls(&self, name: &str, peer: SocketAddr, ca_pem: &str) -> Result<()> {
        self.shared.routes.add(name, Peer::tls(peer, ca_pem)?);
        Ok(())
    }

    /// An https address on 127.0.0.1 before a peer that speaks plain HTTP, for
    /// clients that use no proxy. Its requests are recorded, and faults are
    /// set, under `127.0.0.1:PORT` of the address that is returned.
    pub async fn front(&self, peer: SocketAddr) -> Result<SocketAddr> {
        self.front_of(Peer::plain(peer)).await
    }

    /// As [`FaultProxy::front`], before a peer that speaks TLS.
    pub async fn front_tls(&self, peer: SocketAddr, ca_pem: &str) -> Result<SocketAddr> {
        self.front_of(Peer::tls(peer, ca_pem)?).await
    }

    async fn front_of(&self, peer: Peer) -> Result<SocketAddr> {
        let (address, task) = listen(&self.shared, Entry::Front(peer)).await?;
        lock(&self.tasks).push(task);
        Ok(address)
    }

    /// The next so many requests for this name (`*`: any) go wrong like this;
    /// [`ALWAYS`]: until cleared. Of several faults for one name the first
    /// counts, until it is used up.
    pub fn fault(&self, name: &str, kind: FaultKind, times: usize) {
        self.shared.faults.add(name, "", kind, times);
    }

    /// As [`FaultProxy::fault`], of those requests alone that have this in
    /// `METHOD path?query x-amz-target`.
    pub fn fault_on(&self, name: &str, part: &str, kind: FaultKind, times: usize) {
        self.shared.faults.add(name, part, kind, times);
    }

    /// Nothing goes wrong for this name any more (`*`: for none).
    pub fn clear(&self, name: &str) {
        self.shared.faults.clear(name);
    }

    /// New connections see this certificate from now on.
    pub fn show(&self, certificate: Certificate) {
        self.shared.certificates.show(certificate);
    }

    /// Whether new connections end at once, as if nothing listened.
    pub fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::Relaxed);
    }

    /// Everything that was asked, in its order; a request is there from when
    /// it has arrived whole.
    #[must_use]
    pub fn requests(&self) -> Vec<ProxiedRequest> {
        self.shared.record.since(ProxyMark::default())
    }

    /// The point after all that was asked until now.
    #[must_use]
    pub fn mark(&self) -> ProxyMark {
        self.shared.record.mark()
    }

    /// What was asked since then.
    #[must_use]
    pub fn since(&self, mark: ProxyMark) -> Vec<ProxiedRequest> {
        self.shared.record.since(mark)
    }

    /// How many connections came so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.record.connections()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

async fn listen(shared: &Arc<Shared>, entry: Entry) -> Result<(SocketAddr, JoinHandle<()>)> {
    let shared = Arc::clone(shared);
    runtime::run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((address, tokio::spawn(serve::accept(listener, shared, entry))))
    })
    .await
}

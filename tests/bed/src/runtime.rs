//! The bed's own runtime: what runs in the background must not die with the
//! runtime of the one test that happened to start it.

use std::future::Future;
use std::sync::{Once, OnceLock};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// The handle of the runtime that lives as long as the process.
pub(crate) fn handle() -> Result<Handle> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).thread_name("testbed").enable_all().build().ok())
        .as_ref()
        .map(|runtime| runtime.handle().clone())
        .context("the bed's own runtime could not be started")
}

/// Runs a future on the bed's runtime and waits for it on the caller's.
///
/// Connections belong to the runtime that first polls them, so whatever the
/// bed keeps (its client, its watches) is used only in here.
pub(crate) async fn run<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    handle()?.spawn(future).await.context("a task of the bed ended early")?
}

/// rustls wants one provider named where several could be compiled in.
pub(crate) fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that one is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

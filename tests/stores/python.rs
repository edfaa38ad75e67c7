//! A vendor's own Python clients, asked to judge a stand-in.

use std::{process::Stdio, time::Duration};

use botsecret_testbed::{FaultProxy, peers};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::world::Outcome;

/// Two clients and a discovery document take a while to be loaded.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs a script of this folder with the interpreter of this name. It gets
/// `arguments` as JSON, with the proxy's authority as `ca`, reaches the vendor's
/// names through the proxy, and prints `accepted` where all is well.
pub async fn accepts(interpreter: &str, script: &str, proxy: &FaultProxy, mut arguments: Value) -> Outcome {
    let ca = tempfile::NamedTempFile::new()?;
    std::fs::write(ca.path(), proxy.ca_pem())?;
    arguments["ca"] = ca.path().to_string_lossy().into();
    let mut child = Command::new(peers::program(interpreter)?)
        .arg(format!("{}/tests/stores/{script}", env!("CARGO_MANIFEST_DIR")))
        .env("HTTPS_PROXY", proxy.url())
        .env("REQUESTS_CA_BUNDLE", ca.path())
        // No look for the machine's own certificate, nor for its cloud.
        .env("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false")
        .env("NO_GCE_CHECK", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().expect("stdin");
    input.write_all(arguments.to_string().as_bytes()).await?;
    drop(input);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(said.trim(), "accepted", "{errors}");
    Ok(())
}

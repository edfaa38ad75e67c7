//! Where the helper program for containers is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

const NAME: &str = "testbed-bot";

/// The path of `testbed-bot`, which is built when it is missing: cargo builds
/// a dependency's programs for nobody.
pub fn bot_binary() -> Result<PathBuf> {
    static BOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BOT.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path.clone()),
        Err(error) => bail!("{NAME}: {error}"),
    }
}

fn build() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/debug/deps/test-hash, or target/debug/program
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join(NAME));
    if let Some(path) = beside.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--bin", NAME, "--message-format=json"])
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .context("cargo could not be run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo named no executable")
}

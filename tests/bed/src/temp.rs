//! Temporary folders that go away with their owner.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "botsecret-bed-";

/// A new folder, removed when dropped.
///
/// A killed process drops nothing, so each start removes what dead ones left.
pub(crate) fn folder() -> Result<TempDir> {
    let base = std::env::temp_dir();
    sweep(&base);
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .tempdir_in(&base)
        .with_context(|| format!("no temporary folder in {}", base.display()))
}

fn sweep(base: &Path) {
    for entry in base.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else's folder, or one that another sweep is removing.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

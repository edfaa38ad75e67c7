//! Where the programs are that the bed runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The folder that `make peers` filled, or `BOTSECRET_PEERS_BIN`.
pub fn folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| find().map_err(|error| format!("{error:#}"))) {
        Ok(folder) => Ok(folder),
        Err(error) => bail!("{error}"),
    }
}

fn find() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BOTSECRET_PEERS_BIN") {
        return Ok(folder.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/install");
    let answer = Command::new(&script)
        .arg("--print-bin")
        .output()
        .with_context(|| format!("{} could not be run", script.display()))?;
    ensure!(answer.status.success(), "{} failed: {}", script.display(), String::from_utf8_lossy(&answer.stderr));
    Ok(PathBuf::from(String::from_utf8(answer.stdout)?.trim()))
}

/// The path of one program, by its usual name.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = folder()?.join(name);
    ensure!(path.exists(), "{name} is not installed: run `make peers` (looked at {})", path.display());
    Ok(path)
}

/// The folder of files that come with this tool.
pub fn share(tool: &str) -> Result<PathBuf> {
    let folder = folder()?.parent().context("the folder of programs has no parent")?.join("share").join(tool);
    ensure!(folder.exists(), "{tool} is not installed: run `make peers` (looked at {})", folder.display());
    Ok(folder)
}

/// A program of the machine itself, found in `PATH` or where it usually lies.
pub(crate) fn on_machine(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

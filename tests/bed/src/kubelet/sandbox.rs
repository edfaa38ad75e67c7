//! A container: namespaces, a root of its own, and one process in them.
//!
//! Its file system is an overlay of this machine's with all changes in memory,
//! so that any mount point can be made and nothing of the machine is changed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Container;
use rustix::process::{Signal, geteuid};

use super::environment::Environment;
use super::layout;
use super::volumes::Source;
use crate::peers::on_machine;
use crate::process::{Descendant, Process};

/// In every command line of the set-up and in none of a container.
const SETUP: &str = "testbed-setup";

/// A container that has been started.
pub(super) struct Sandbox {
    pub(super) process: Arc<Process>,
    /// Process 1 of the container's namespace.
    first: Descendant,
    pub(super) started_at: SystemTime,
}

/// What a container is made of.
pub(super) struct Recipe<'a> {
    /// The pod's folder, with its volumes in `volumes`.
    pub(super) folder: &'a Path,
    pub(super) container: &'a Container,
    pub(super) command: Vec<OsString>,
    pub(super) environment: &'a Environment,
    pub(super) sources: &'a HashMap<String, Source>,
    pub(super) log: &'a Path,
    pub(super) run: u32,
}

/// Says in one sentence what a machine lacks, before the first pod does.
pub(super) fn check() -> Result<()> {
    static OUTCOME: LazyLock<Result<(), String>> = LazyLock::new(|| {
        for tool in ["setpriv", "unshare", "nsenter", "mount", "umount", "chroot", "env", "sh"] {
            if on_machine(tool).is_none() {
                return Err(format!("{tool} is not installed: process nodes need it"));
            }
        }
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(unshare_flags()).arg("true");
        match unshare.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!(
                "this machine does not let this user make mount namespaces: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => Err(error.to_string()),
        }
    });
    match &*OUTCOME {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

pub(super) fn unshare_flags() -> Vec<&'static str> {
    // An ordinary user gets the right to mount by a user namespace.
    let user: &[_] = if geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    [user, &["--mount", "--pid", "--fork", "--kill-child"]].concat()
}

fn tool(name: &str) -> Result<PathBuf> {
    on_machine(name).with_context(|| format!("{name} is not installed"))
}

impl Sandbox {
    /// Starts a container and waits until its command runs.
    pub(super) async fn start(recipe: &Recipe<'_>) -> Result<Self> {
        let name = format!("{}-{}", recipe.container.name, recipe.run);
        let stage = recipe.folder.join(format!("stage-{name}"));
        std::fs::create_dir_all(&stage)?;
        std::fs::create_dir_all(recipe.folder.join("volumes"))?;
        super::make_parent(recipe.log)?;
        let outer = recipe.folder.join(format!("{SETUP}-{name}-outer"));
        let inner = format!("{SETUP}-{name}-inner");
        write_private(&outer, recipe.outer(&stage, &inner)?.as_bytes())?;
        write_private(&recipe.folder.join(&inner), &recipe.inner()?)?;
        let mut arguments: Vec<OsString> = unshare_flags().into_iter().map(Into::into).collect();
        arguments.extend([tool("sh")?.into(), outer.clone().into()]);
        let process = Process::start(&tool("unshare")?, &arguments, &[], recipe.log)?;
        let first = first_process(&process).await?;
        // It holds values, and has been read to its end.
        let _ = std::fs::remove_file(recipe.folder.join(&inner));
        let _ = std::fs::remove_file(&outer);
        Ok(Self { process: Arc::new(process), first, started_at: SystemTime::now() })
    }

    pub(super) fn host_pid(&self) -> u32 {
        self.first.pid()
    }

    /// SIGTERM to process 1 of the container, which ignores it unless it has
    /// a handler, as in any container.
    pub(super) fn terminate(&self) {
        self.first.signal(Signal::TERM);
    }

    /// Runs a command inside, as `kubectl exec` would; true when it exits 0.
    pub(super) async fn execute(
        &self,
        command: &[String],
        environment: &Environment,
        patience: Duration,
    ) -> Result<bool> {
        let mut arguments: Vec<OsString> = Vec::new();
        if !geteuid().is_root() {
            arguments.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        arguments.extend(["--mount", "--pid", "--root", "--wd", "--target"].map(Into::into));
        arguments.extend([self.host_pid().to_string().into(), tool("env")?.into(), "-i".into()]);
        for (name, value) in environment {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(OsStr::from_bytes(value));
            arguments.push(pair);
        }
        arguments.extend(command.iter().map(Into::into));
        let process = Process::start(&tool("nsenter")?, &arguments, &[], Path::new("/dev/null"))?;
        if let Ok(status) = tokio::time::timeout(patience, process.wait()).await {
            return Ok(status.success());
        }
        if let Some(child) = Descendant::only_child_of(process.pid()) {
            child.signal(Signal::KILL);
        }
        process.kill().await;
        Ok(false)
    }
}

/// Process 1 of the container, once it is the container's command.
///
/// Looked for often: nobody should see a container's log before the container.
async fn first_process(process: &Process) -> Result<Descendant> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        if process.exited().is_some() {
            // A command may be over before it is seen: that is no error.
            return Ok(Descendant::ended(process.pid()));
        }
        if let Some(first) = Descendant::only_child_of(process.pid())
            && !in_setup(first.pid())
        {
            return Ok(first);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the container's command did not start within 30 s")
}

/// Whether process 1 of a container is still a script of ours.
fn in_setup(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Empty for a moment while one program takes the other's place.
    if line.is_empty() {
        return true;
    }
    let mut words = line.split(|byte| *byte == 0);
    let env = words.next().is_some_and(|word| word.ends_with(b"/env"));
    (env && words.next() == Some(b"-i")) || line.windows(SETUP.len()).any(|part| part == SETUP.as_bytes())
}

fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    Ok(file.write_all(content)?)
}

/// One word for the shell.
fn quote(text: impl AsRef<OsStr>) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in text.as_ref().as_bytes() {
        match byte {
            b'\'' => out.extend_from_slice(br"'\''"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

pub(super) fn quoted(text: impl AsRef<OsStr>) -> String {
    String::from_utf8_lossy(&quote(text)).into_owned()
}

impl Recipe<'_> {
    /// In the new namespaces, still under the machine's root.
    fn outer(&self, stage: &Path, inner: &str) -> Result<String> {
        let mount = tool("mount")?.display().to_string();
        let mut script = format!(
            "set -e\nS={}\n{mount} -t tmpfs -o mode=0755 testbed \"$S\"\n{}",
            quoted(stage),
            layout::script(&mount),
        );
        for (name, source) in self.sources {
            if let Some(host) = &source.host {
                let place = self.folder.join("volumes").join(name);
                writeln!(script, "{mount} --rbind {} {}", quoted(host), quoted(place))?;
            }
        }
        writeln!(script, "mkdir \"$S/root/.pod\"")?;
        writeln!(script, "{mount} --rbind {} \"$S/root/.pod\"", quoted(self.folder))?;
        let (chroot, shell) = (tool("chroot")?, tool("sh")?);
        let (chroot, shell) = (chroot.display(), shell.display());
        writeln!(script, "exec {chroot} \"$S/root\" {shell} {}", quoted(Path::new("/.pod").join(inner)))?;
        Ok(script)
    }

    /// Under the container's own root: so `/var/run` is followed in there.
    fn inner(&self) -> Result<Vec<u8>> {
        let mount = tool("mount")?.display().to_string();
        let umount = tool("umount")?.display().to_string();
        // Where parts of /proc are hidden a new one is refused: the machine's
        // own, which is there already, then does.
        let mut script = format!("set -e\n{mount} -t proc proc /proc 2>/dev/null || :\n");
        for wanted in self.container.volume_mounts.iter().flatten() {
            let Some(source) = self.sources.get(&wanted.name) else {
                bail!("there is no volume {}", wanted.name);
            };
            let mut from = Path::new("/.pod/volumes").join(&wanted.name);
            if let Some(part) = wanted.sub_path.as_deref().filter(|part| !part.is_empty()) {
                ensure!(!part.split('/').any(|step| step == ".."), "subPath {part}");
                from.push(part);
            }
            let (from, to) = (quoted(from), quoted(&wanted.mount_path));
            writeln!(
                script,
                "[ -e {from} ] || mkdir -p {from}\n\
                 if [ -d {from} ]; then mkdir -p {to}; else\n\
                 mkdir -p \"$(dirname {to})\"; [ -e {to} ] || : > {to}; fi\n\
                 {mount} --rbind {from} {to}"
            )?;
            if source.read_only || wanted.read_only == Some(true) {
                writeln!(script, "{mount} -o remount,bind,ro {to}")?;
            }
        }
        let folder = quoted(self.container.working_dir.as_deref().unwrap_or("/"));
        writeln!(script, "{umount} -l /.pod; rmdir /.pod; mkdir -p {folder}; cd {folder}")?;
        let mut script = script.into_bytes();
        // Not the process's environment up to here: a shell drops names such
        // as `exchange.key`, which Kubernetes allows.
        script.extend_from_slice(format!("exec {} -i", tool("env")?.display()).as_bytes());
        let pairs = self
            .environment
            .iter()
            .map(|(name, value)| [quote(name), b"=".to_vec(), quote(OsStr::from_bytes(value))].concat());
        for word in pairs.chain(self.command.iter().map(quote)) {
            script.push(b' ');
            script.extend_from_slice(&word);
        }
        script.push(b'\n');
        Ok(script)
    }
}

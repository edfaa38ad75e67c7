//! Child processes that cannot outlive this one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::peers::on_machine;

/// Ends at once when its parent was gone before PR_SET_PDEATHSIG took effect.
const GUARD: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

struct Order {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// The one thread that starts every child.
///
/// PR_SET_PDEATHSIG fires when the *thread* that forked ends (prctl(2)), so
/// that must be a thread which lives as long as the process.
fn nursery() -> &'static Sender<Order> {
    static NURSERY: OnceLock<Sender<Order>> = OnceLock::new();
    NURSERY.get_or_init(|| {
        let (sender, orders): (_, Receiver<Order>) = channel();
        thread::spawn(move || {
            for mut order in orders {
                // The one who asked may have given up.
                let _ = order.reply.send(order.command.spawn());
            }
        });
        sender
    })
}

/// A running child; dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    handle: OwnedFd,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts a program with its output appended to `log` and only the given
    /// environment.
    pub fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        environment: &[(OsString, OsString)],
        log: &Path,
    ) -> Result<Self> {
        let output =
            File::options().create(true).append(true).open(log).with_context(|| format!("log {}", log.display()))?;
        let setpriv = on_machine("setpriv").context("setpriv (util-linux) is not installed")?;
        let shell = on_machine("sh").context("sh is not installed")?;
        let mut command = Command::new(setpriv);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(shell)
            .args(["-c", GUARD])
            .arg(std::process::id().to_string())
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let (reply, answer) = sync_channel(1);
        nursery().send(Order { command, reply }).ok().context("the thread that starts processes is gone")?;
        let child = answer.recv()?.with_context(|| program.display().to_string())?;
        Self::adopt(child)
    }

    fn adopt(mut child: Child) -> Result<Self> {
        let pid = child.id();
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Opened before anyone waits, so it cannot be another process's.
        let handle = pidfd_open(number.context("process id 0")?, PidfdFlags::empty())?;
        let (ended, exit) = watch::channel(None);
        thread::Builder::new().name(format!("wait-{pid}")).stack_size(128 * 1024).spawn(move || {
            let status = child.wait().unwrap_or_default();
            let _ = ended.send(Some(status));
        })?;
        Ok(Self { pid, handle, exit })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // The only error that can come is that it has ended.
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Waits for its end.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        // The sender sends before it goes away.
        let status = exit.wait_for(Option::is_some).await.map(|seen| *seen);
        status.ok().flatten().unwrap_or_default()
    }

    /// SIGTERM, and SIGKILL when that did not end it in time.
    pub async fn stop(&self, patience: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(patience, self.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// SIGKILL, waited for by the thread: where there is no runtime to wait on.
    pub(crate) fn kill_now(&self) {
        self.signal(Signal::KILL);
        let began = Instant::now();
        while self.exited().is_none() && began.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL, waited for.
    pub async fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// A signal to a process that is not our child, but a child of one.
#[derive(Debug)]
pub(crate) struct Descendant {
    pid: u32,
    /// None of one that ended before it was seen.
    handle: Option<OwnedFd>,
}

impl Descendant {
    /// The only child of `parent`, once there is one.
    pub(crate) fn only_child_of(parent: u32) -> Option<Self> {
        let pid = only_child(parent)?;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let handle = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Still the child after the handle was opened: so it is that one's.
        (only_child(parent) == Some(pid)).then_some(Self { pid, handle: Some(handle) })
    }

    /// In place of a child that ended before it was seen, its parent's number.
    pub(crate) fn ended(parent: u32) -> Self {
        Self { pid: parent, handle: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(handle) = &self.handle {
            let _ = pidfd_send_signal(handle, signal);
        }
    }
}

fn only_child(parent: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

/// The environment of a server: nothing but what it cannot do without.
pub(crate) fn server_environment(home: &Path) -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    vec![("PATH".into(), path), ("HOME".into(), home.into())]
}

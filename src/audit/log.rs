//! Where lines go. Whoever has one never waits: a thread of its own writes, and what
//! it cannot keep up with is lost and counted.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

/// Lines that may wait to be written: half a kilobyte each, so a few MiB at most.
const QUEUE: usize = 8192;
/// Lines that are written at once.
const AT_ONCE: usize = 256;
/// How long the end of the process waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the audit log is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    StandardOutput,
    /// The end of a file.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("name a file, or - for standard output".to_owned()),
            "-" => Ok(Self::StandardOutput),
            path => Ok(Self::File(path.into())),
        }
    }
}

enum Message {
    Line(Vec<u8>),
    /// To be answered once everything before it was written.
    Written(oneshot::Sender<()>),
}

/// An audit log that is open.
#[derive(Clone, Debug)]
pub struct AuditLog {
    sender: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl AuditLog {
    /// Opens it. A file is made where there is none, for its owner alone, and else
    /// goes on where it ends.
    ///
    /// # Errors
    /// Where the file or a thread cannot be had.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            Destination::StandardOutput => Self::to(io::stdout(), QUEUE),
            Destination::File(path) => {
                Self::to(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?, QUEUE)
            }
        }
    }

    fn to(output: impl Write + Send + 'static, queue: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(queue);
        let lost = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&lost);
        thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(receiver, output, &counter))?;
        Ok(Self { sender, lost })
    }

    /// Writes a line, its end included, as soon as possible.
    pub(super) fn write(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was noted so far is written, but not for ever.
    pub async fn finish(&self) {
        let (done, written) = oneshot::channel();
        let finish = async {
            if self.sender.send(Message::Written(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(PATIENCE, finish).await.is_err() {
            tracing::warn!("the end of the audit log is lost: what it is written to does not take it");
        }
    }
}

/// Writes what comes until nobody is left to send anything.
fn write_all(mut messages: mpsc::Receiver<Message>, mut output: impl Write, lost: &AtomicU64) {
    let (mut taken, mut fails) = (Vec::with_capacity(AT_ONCE), false);
    while messages.blocking_recv_many(&mut taken, AT_ONCE) > 0 {
        // What failed may have ended within a line.
        let mut text = if fails { vec![b'\n'] } else { Vec::new() };
        let (mut lines, mut waiting) = (0, Vec::new());
        for message in taken.drain(..) {
            match message {
                Message::Line(line) => {
                    text.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Written(done) => waiting.push(done),
            }
        }
        if lines > 0 {
            let written = output.write_all(&text).and_then(|()| output.flush());
            if let Err(error) = &written {
                lost.fetch_add(lines, Ordering::Relaxed);
                if !fails {
                    tracing::error!(
                        "the audit log cannot be written: what happens meanwhile is missing in it ({error})"
                    );
                }
            }
            fails = written.is_err();
        }
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

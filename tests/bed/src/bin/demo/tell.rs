//! What the person at the terminal reads. Colours and a moving line only on a
//! terminal; elsewhere plain lines, so that a log of it reads well.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

const FRAMES: [&str; 4] = ["-", "\\", "|", "/"];
const TURN: Duration = Duration::from_millis(150);
/// How often a wait is told of where nothing can move.
const REMIND: Duration = Duration::from_secs(5);

/// Of the narrowest terminal.
const WIDTH: usize = 79;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Writes to standard output.
#[derive(Clone, Debug)]
pub struct Teller {
    terminal: bool,
    colours: bool,
}

impl Teller {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self { terminal, colours: terminal && !refused }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        let wipe = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!("{wipe}{text}\n"));
    }

    /// A new step of the walk.
    pub fn step(&self, number: usize, of: usize, title: &str) {
        self.line(&format!("\n{}", self.paint(BOLD, &format!("{number}/{of}  {title}"))));
    }

    /// What goes on, in a sentence.
    pub fn say(&self, text: &str) {
        self.line(&format!("     {text}"));
    }

    /// Something that was checked and is so.
    pub fn done(&self, text: &str) {
        self.line(&format!("   {} {text}", self.paint(GREEN, "✓")));
    }

    /// A command as one would type it.
    pub fn command(&self, text: &str) {
        let mut lines = text.lines();
        self.line(&format!("     {} {}", self.paint(CYAN, "$"), self.paint(CYAN, lines.next().unwrap_or_default())));
        for line in lines {
            self.line(&format!("       {}", self.paint(CYAN, line)));
        }
    }

    /// What a command printed, or a file that is applied.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("       {}", self.paint(DIM, line)));
        }
    }

    /// Why it ended.
    pub fn error(&self, error: &anyhow::Error) {
        eprintln!("{} {error:#}", self.paint(RED, "error:"));
    }

    /// Says what is waited for while it is.
    pub async fn wait<T>(&self, what: &str, task: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        tokio::select! {
            result = task => {
                self.wipe();
                result
            }
            () = self.remind(what, began) => unreachable!("it reminds for ever"),
        }
    }

    async fn remind(&self, what: &str, began: Instant) {
        if !self.terminal {
            loop {
                tokio::time::sleep(REMIND).await;
                self.line(&format!("     … {what} ({} s)", began.elapsed().as_secs()));
            }
        }
        for frame in FRAMES.iter().cycle() {
            let seconds = format!(" ({} s)", began.elapsed().as_secs());
            // One that is broken in two by the terminal could not be wiped.
            let what: String = what.chars().take(WIDTH.saturating_sub(5 + seconds.len())).collect();
            let text = format!("   {frame} {what}{seconds}");
            self.write(&format!("\r\x1b[K{}", self.paint(DIM, &text)));
            tokio::time::sleep(TURN).await;
        }
    }

    /// Takes the moving line away.
    fn wipe(&self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
    }

    #[expect(clippy::unused_self, reason = "who writes must hold it")]
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody may be reading any more.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

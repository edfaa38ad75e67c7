//! The commands that the walk shows are the ones that it runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use botsecret_testbed::peers;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::tell::Teller;

/// kubectl, for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    /// The cluster of the demo's own has a kubeconfig of its own.
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    teller: Teller,
}

impl Kubectl {
    /// For the cluster that this file describes.
    pub fn of_file(kubeconfig: &Path, teller: Teller) -> Result<Self> {
        Ok(Self { program: program()?, kubeconfig: Some(kubeconfig.to_owned()), context: None, teller })
    }

    /// For a context of the user's kubeconfig.
    pub fn of_context(context: &str, teller: Teller) -> Result<Self> {
        Ok(Self { program: program()?, kubeconfig: None, context: Some(context.to_owned()), teller })
    }

    /// Runs it, and answers what it printed; an error says what it complained
    /// of.
    pub async fn run(&self, words: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(&self.program);
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        if let Some(file) = &self.kubeconfig {
            command.env("KUBECONFIG", file);
        }
        // Dropped at Ctrl-C, it goes.
        command.args(words).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} could not be run", self.program.display()))?;
        let mut pipe = child.stdin.take().context("no standard input")?;
        if let Some(input) = input {
            pipe.write_all(input.as_bytes()).await?;
        }
        drop(pipe);
        let output = child.wait_with_output().await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", words.join(" "), complaint.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Shows the command, runs it and shows what it printed.
    pub async fn show(&self, words: &[&str]) -> Result<String> {
        self.teller.command(&self.typed(words));
        let answer = self.run(words, None).await?;
        self.teller.quote(&answer);
        Ok(answer)
    }

    /// Shows a manifest and applies it. `file` is what one would name.
    pub async fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        self.teller.quote(&without_comments(manifest));
        self.teller.command(&format!("{} {file}", self.typed(&["apply", "-f"])));
        let answer = self.run(&["apply", "-f", "-"], Some(manifest)).await?;
        self.teller.quote(&answer);
        Ok(())
    }

    /// As one would type it, words with spaces in quotes.
    pub fn typed(&self, words: &[&str]) -> String {
        let mut typed = vec!["kubectl".to_owned()];
        if let Some(context) = &self.context {
            typed.extend(["--context".to_owned(), quoted(context)]);
        }
        typed.extend(words.iter().map(|word| quoted(word)));
        typed.join(" ")
    }
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The machine's own, or the one that `make peers` installed.
fn program() -> Result<PathBuf> {
    peers::program("kubectl")
}

/// Comments are for those who read the file.
fn without_comments(manifest: &str) -> String {
    let lines = manifest.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it_otherwise() {
        assert_eq!(super::quoted("botsecret/price-bot"), "botsecret/price-bot");
        assert_eq!(super::quoted(r#"{"a":"it's"}"#), r#"'{"a":"it'\''s"}'"#);
        assert_eq!(super::quoted(""), "''");
    }
}

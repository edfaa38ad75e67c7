//! What the demo is told.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// Where the values lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// In a Secret of another namespace.
    Kubernetes,
    /// In an OpenBao.
    Vault,
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub store: Store,
    /// A context of the user's kubeconfig; none: a cluster of the demo's own.
    pub context: Option<String>,
    /// The operator's program.
    pub operator: PathBuf,
}

impl Arguments {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut store, mut context, mut operator) = (Store::Kubernetes, None, None);
        let mut words = words;
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--store" => store = Store::parse(&value)?,
                "--context" => {
                    ensure!(
                        !value.is_empty(),
                        "DEMO_CONTEXT is empty: name a context of your kubeconfig, or leave it out"
                    );
                    context = Some(value);
                }
                "--operator" => operator = Some(PathBuf::from(value)),
                _ => bail!("{word} is not known: the demo takes --store, --context and --operator"),
            }
        }
        ensure!(
            context.is_none() || store == Store::Kubernetes,
            "STORE=vault starts an OpenBao that only the demo's own cluster can reach: leave out DEMO_CONTEXT"
        );
        let operator = match operator {
            Some(operator) => operator,
            None => std::env::current_exe()?.with_file_name("botsecret"),
        };
        ensure!(
            operator.is_file(),
            "there is no operator at {}: run `cargo build`, or `make demo`",
            operator.display()
        );
        Ok(Self { store, context, operator })
    }
}

impl Store {
    fn parse(name: &str) -> Result<Self> {
        match name {
            "kubernetes" => Ok(Self::Kubernetes),
            "vault" => Ok(Self::Vault),
            other => bail!("STORE={other} is not known: write STORE=kubernetes or STORE=vault"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    #[test]
    fn what_makes_no_sense_is_refused_in_one_sentence() {
        for (words, said) in [
            ("--store aws", "STORE=aws is not known"),
            ("--store", "--store needs a value"),
            ("--store vault --context kind", "leave out DEMO_CONTEXT"),
            ("--operator /nowhere", "there is no operator"),
            ("--fast yes", "--fast is not known"),
        ] {
            let error = Arguments::parse(words.split(' ').map(str::to_owned)).expect_err(words);
            assert!(error.to_string().contains(said), "{error}");
        }
        let empty = ["--context".to_owned(), String::new()];
        let error = Arguments::parse(empty.into_iter()).expect_err("an empty context");
        assert!(error.to_string().contains("DEMO_CONTEXT is empty"), "{error}");
    }
}

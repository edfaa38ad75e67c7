//! What went wrong in a template, without a byte of what it worked on.

use std::{error::Error, fmt};

use minijinja::ErrorKind;

/// A helper's own words. They are written here, never made of values.
#[derive(Debug)]
pub(super) struct Words(pub(super) &'static str);

impl fmt::Display for Words {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for Words {}

/// An error for the engine to carry: it says these words and nothing else.
pub(super) fn refuse(words: &'static str) -> minijinja::Error {
    minijinja::Error::from(ErrorKind::InvalidOperation).with_source(Words(words))
}

/// Why a template cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    what: &'static str,
    line: Option<usize>,
    /// Names in the template that nothing fills.
    unfilled: Vec<String>,
}

const TOO_LARGE: &str = "it makes more than a Secret can hold: make less of it";

impl Trouble {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, line: None, unfilled: Vec::new() }
    }

    pub(super) fn too_large() -> Self {
        Self::new(TOO_LARGE)
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.what == TOO_LARGE
    }

    /// The engine's error, less everything that may be a value.
    pub(super) fn of(error: &minijinja::Error, unfilled: Vec<String>) -> Self {
        let unfilled = if error.kind() == ErrorKind::UndefinedError { unfilled } else { Vec::new() };
        Self { what: own_words(error).unwrap_or_else(|| kind(error.kind())), line: error.line(), unfilled }
    }
}

fn own_words(error: &minijinja::Error) -> Option<&'static str> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = next {
        if let Some(words) = source.downcast_ref::<Words>() {
            return Some(words.0);
        }
        next = source.source();
    }
    None
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => {
            "it is no valid template: correct its syntax"
        }
        ErrorKind::UndefinedError => "it uses a value that is not there: correct the name, or add the key",
        ErrorKind::UnknownFilter => "it uses a filter that does not exist: correct its name",
        ErrorKind::UnknownFunction => "it uses a function that does not exist: correct its name",
        ErrorKind::UnknownTest => "it uses a test that does not exist: correct its name",
        ErrorKind::UnknownMethod => "it calls a method that does not exist: correct its name",
        ErrorKind::TooManyArguments | ErrorKind::MissingArgument => {
            "a filter or function is given too few or too many arguments, or one that it does not know"
        }
        ErrorKind::TemplateNotFound | ErrorKind::BadInclude | ErrorKind::UnknownBlock | ErrorKind::EvalBlock => {
            "it uses another template: templates stand alone here"
        }
        ErrorKind::OutOfFuel => "it takes too much work: make less of it, or split the BotSecret into two",
        ErrorKind::WriteFailure => TOO_LARGE,
        _ => "it does something with a value that this kind of value does not allow, or nests too deep",
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        formatter.write_str(self.what)?;
        if !self.unfilled.is_empty() {
            write!(formatter, " (nothing fills {})", self.unfilled.join(", "))?;
        }
        Ok(())
    }
}

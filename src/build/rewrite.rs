//! New names for keys, one step after the other.

use std::cell::{Cell, RefCell};

use regex::{Regex, RegexBuilder};

use super::{BuildError, BuildErrorKind, gather::shown, template::Renderer};
use crate::api::Rewrite;

/// A key has at most 253 bytes in the end. On the way there it may be longer,
/// but a short step must not make an endless name.
const LONGEST: usize = 1024;

/// Bounds what one expression may compile to, and with that what a byte costs. Four
/// groups of `\w+` are within it.
const LARGEST_PROGRAM: usize = 1 << 18;

/// So many bytes may the expressions of one entry look at. Each match looks at
/// all that is left of a name in the worst case.
const LONGEST_SEARCH: usize = 2 << 20;

/// The steps of one entry, ready to be taken.
pub(super) struct Rewriting<'a> {
    /// As people count the entries.
    entry: usize,
    steps: Vec<Step<'a>>,
    renderer: Option<RefCell<Renderer>>,
    /// What its expressions may still look at.
    left: Cell<usize>,
}

enum Step<'a> {
    Regexp(Regex, &'a str),
    Transform(&'a str),
    Prefix(&'a str),
}

impl<'a> Rewriting<'a> {
    pub(super) fn new(index: usize, steps: &'a [Rewrite]) -> Result<Self, BuildError> {
        let left = Cell::new(LONGEST_SEARCH);
        let mut rewriting = Self { entry: index + 1, steps: Vec::new(), renderer: None, left };
        for (place, step) in steps.iter().enumerate() {
            let ready = if let Some(regexp) = &step.regexp {
                let built = RegexBuilder::new(&regexp.source)
                    .size_limit(LARGEST_PROGRAM)
                    .dfa_size_limit(LARGEST_PROGRAM)
                    .nest_limit(50)
                    .build();
                let regexp_is_none = |_| {
                    rewriting.wrong(
                        place,
                        "regexp.source is no regular expression, or too large a one: correct it (Rust's syntax: no look-around, no back-references)",
                    )
                };
                Step::Regexp(built.map_err(regexp_is_none)?, &regexp.target)
            } else if let Some(transform) = &step.transform {
                rewriting.renderer.get_or_insert_with(|| RefCell::new(Renderer::new()));
                Step::Transform(&transform.template)
            } else if let Some(prefix) = &step.prefix {
                Step::Prefix(prefix)
            } else {
                return Err(rewriting.wrong(place, "write exactly one of regexp, transform and prefix"));
            };
            rewriting.steps.push(ready);
        }
        Ok(rewriting)
    }

    /// The key for a name.
    pub(super) fn key(&self, name: &str) -> Result<String, BuildError> {
        if self.steps.is_empty() {
            return Ok(name.to_owned());
        }
        if name.len() > LONGEST {
            let what = format!("it is given a name of more than {LONGEST} bytes: \"{}\"", shown(name));
            return Err(self.wrong(0, &what));
        }
        let mut key = name.to_owned();
        for (place, step) in self.steps.iter().enumerate() {
            key = match step {
                Step::Regexp(regexp, target) => self.replaced(place, regexp, target, &key)?,
                Step::Prefix(prefix) => Some(format!("{prefix}{key}")),
                Step::Transform(template) => Some(self.transformed(place, template, &key, name)?),
            }
            .filter(|key| key.len() <= LONGEST)
            .ok_or_else(|| {
                let what = format!("it makes a name of more than {LONGEST} bytes of \"{}\"", shown(name));
                self.wrong(place, &what)
            })?;
        }
        Ok(key)
    }

    /// Every match replaced; `None` where the name grows too long.
    fn replaced(&self, place: usize, regexp: &Regex, target: &str, name: &str) -> Result<Option<String>, BuildError> {
        let (mut key, mut end) = (String::new(), 0);
        let mut matches = regexp.captures_iter(name);
        loop {
            // Also for the look that finds nothing more.
            let left = self.left.get().checked_sub(name.len() - end + 1).ok_or_else(|| {
                self.wrong(place, "it has too much to search: let the entry give fewer names, or shorter ones")
            })?;
            self.left.set(left);
            let Some(captures) = matches.next() else { break };
            let Some(whole) = captures.get(0) else { break };
            key.push_str(name.get(end..whole.start()).unwrap_or_default());
            captures.expand(target, &mut key);
            end = whole.end();
            if key.len() > LONGEST {
                return Ok(None);
            }
        }
        key.push_str(name.get(end..).unwrap_or_default());
        Ok(Some(key))
    }

    fn transformed(&self, place: usize, template: &str, key: &str, name: &str) -> Result<String, BuildError> {
        let Some(renderer) = &self.renderer else { return Ok(key.to_owned()) };
        renderer.borrow_mut().name(template, key).map_err(|trouble| {
            let what = format!("transform.template fails for \"{}\": {trouble}", shown(name));
            self.wrong(place, &what)
        })
    }

    fn wrong(&self, place: usize, what: &str) -> BuildError {
        BuildError::new(
            BuildErrorKind::Rewrite,
            format!("dataFrom entry {}, rewrite step {}: {what}", self.entry, place + 1),
        )
    }
}

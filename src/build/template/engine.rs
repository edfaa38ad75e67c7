//! The engine, bounded.

use std::{collections::BTreeSet, io, mem};

use minijinja::{
    AutoEscape, Environment, Output, State, UndefinedBehavior, Value, escape_formatter, syntax::SyntaxConfig,
    value::ValueKind,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    helpers,
    screen::screen,
    trouble::{Trouble, refuse},
    values::{Binary, Marks, NOT_TEXT, STAND_IN, text_of},
};
use crate::secret::SecretBytes;

/// What all templates of one BotSecret may cost together: one fuel is about
/// one step, or 64 bytes of what is made. So at most some 30 MB and a fraction
/// of a second.
const FUEL: u64 = 500_000;

/// How deep blocks, loops and macros may nest.
const DEPTH: usize = 100;

/// A name is made of a name: no more than this.
const LONGEST_NAME: usize = 4096;

/// Renders templates, on one budget.
pub(crate) struct Renderer {
    environment: Environment<'static>,
    marks: Marks,
    fuel: u64,
}

/// What a template made, and the names that it uses.
pub(super) struct Rendered {
    pub(super) value: SecretBytes,
    pub(super) names: BTreeSet<String>,
}

impl Renderer {
    pub(crate) fn new() -> Self {
        let marks = Marks::default();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(DEPTH);
        // A value ends as its template ends.
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
        // They show what is held, can be a cycle, or put containers into one.
        for global in ["debug", "namespace", "dict"] {
            environment.remove_global(global);
        }
        environment.set_formatter(put_out);
        helpers::add(&mut environment, &marks);
        Self { environment, marks, fuel: FUEL }
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether this is a template at all, whatever it would make of values.
    pub(crate) fn check(&self, template: &str) -> Result<(), Trouble> {
        screen(template, self.environment.syntax().clone())?;
        self.environment.template_from_str(template).map(drop).map_err(|error| Trouble::of(&error, Vec::new()))
    }

    /// The new name that a template makes of `value`.
    pub(crate) fn name(&mut self, template: &str, value: &str) -> Result<String, Trouble> {
        let context = Value::from_pairs([("value", Value::from(value))]);
        let made = self.value(template, &context, &BTreeSet::from(["value"]), LONGEST_NAME)?.value;
        String::from_utf8(made.into_exposed()).map_err(|_| Trouble::new(NOT_TEXT))
    }

    /// The value that a template makes, of at most `room` bytes.
    pub(super) fn value(
        &mut self,
        template: &str,
        context: &Value,
        known: &BTreeSet<&str>,
        room: usize,
    ) -> Result<Rendered, Trouble> {
        self.environment.set_fuel(Some(self.fuel));
        let environment: &Environment<'_> = &self.environment;
        screen(template, environment.syntax().clone())?;
        let compiled = environment.template_from_str(template).map_err(|error| Trouble::of(&error, Vec::new()))?;
        let names: BTreeSet<String> = compiled.undeclared_variables(false).into_iter().collect();
        let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
        let unfilled = names.iter().filter(|name| !known.contains(name.as_str()) && !globals.contains(name.as_str()));
        let unfilled = unfilled.cloned().collect();
        let mut output = Bounded { bytes: Zeroizing::default(), room };
        let outcome = compiled.render_captured_to(context.clone(), &mut output);
        let noted = self.marks.take();
        let captured = outcome.map_err(|error| Trouble::of(&error, unfilled))?;
        self.fuel = captured.state().fuel_levels().map_or(0, |(_, left)| left);
        drop(captured);
        if noted.taken_for_text {
            return Err(Trouble::new(NOT_TEXT));
        }
        let value = match (noted.emitted, noted.last) {
            (0, _) => SecretBytes::new(mem::take(&mut *output.bytes)),
            (1, Some(bytes)) if *output.bytes == STAND_IN.as_bytes() => bytes,
            _ => return Err(Trouble::new(NOT_ALONE)),
        };
        if value.len() > room {
            return Err(Trouble::too_large());
        }
        Ok(Rendered { value, names })
    }
}

const NOT_ALONE: &str =
    "it puts bytes that are no UTF-8 text beside something else: encode them with b64encode, or let them stand alone";

/// Puts the value of one expression out.
fn put_out(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if let Some(binary) = value.downcast_object_ref::<Binary>() {
        binary.put_out();
        return out.write_str(STAND_IN).map_err(minijinja::Error::from);
    }
    match value.kind() {
        // As JSON and YAML have it; the engine says True.
        ValueKind::Bool => out.write_str(&text_of(value)?).map_err(minijinja::Error::from),
        ValueKind::None => Err(refuse("it puts out null: give it a value, or use default")),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            Err(refuse("it puts out a list or map as it is: use tojson, toyaml or join"))
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Takes no more than it has room for, and leaves no copies behind when it
/// grows.
struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + text.len();
        if length > self.room.max(STAND_IN.len()) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if length > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(length.max(self.bytes.capacity() * 2));
            larger.extend_from_slice(&self.bytes);
            mem::swap(&mut *self.bytes, &mut larger);
            larger.zeroize();
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Keys that are made of values by templates.
//!
//! Rendering is pure: no clock, no randomness, no files, no other templates.
//! One budget of work covers all templates of a BotSecret, and no output grows
//! beyond what a Secret can hold. Errors tell the kind and the line, in our
//! own words: the engine's may quote a value.

mod connections;
mod dotenv;
mod encodings;
mod engine;
mod helpers;
pub(super) mod pem;
mod pkcs12;
mod screen;
mod structured;
#[cfg(test)]
mod tests;
mod trouble;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;

use super::{BuildError, BuildErrorKind, Built, MAX_SIZE, gather::Gathered};
use crate::{
    api::{BotSecretSpec, Template, TemplateMergePolicy},
    secret::{SecretData, wipe_stack},
};

pub(super) use engine::Renderer;

/// What templates know all keys by.
const ALL: &str = "secrets";

/// The Secret's data after the target's template, if it has one.
pub(super) fn applied(spec: &BotSecretSpec, gathered: Gathered) -> Result<Built, BuildError> {
    let Gathered { data, quiet } = gathered;
    let Some(template) = spec.target.as_ref().and_then(|target| target.template.as_ref()) else {
        return Ok(Built { data, quiet });
    };
    if template.data.is_empty() {
        return Err(BuildError::new(
            BuildErrorKind::NoData,
            "target.template has no data: write a template for at least one key, or leave it out",
        ));
    }
    let result = rendered(template, &data, &quiet);
    // The engine's values hold up to 22 bytes of text in themselves.
    wipe_stack();
    let (made, made_quiet) = result?;
    let mut built = match template.merge_policy.unwrap_or_default() {
        TemplateMergePolicy::Replace => Built { data: SecretData::new(), quiet: BTreeSet::new() },
        TemplateMergePolicy::Merge => Built { data, quiet },
    };
    built.quiet.retain(|key| !made.contains_key(key));
    built.quiet.extend(made_quiet);
    built.data.extend(made);
    Ok(built)
}

/// What is wrong with templates whatever the values are: of the target's, and of
/// the names of what is issued.
pub(super) fn check(spec: &BotSecretSpec) -> Result<(), BuildError> {
    let renderer = Renderer::new();
    for (index, entry) in spec.data_from.iter().enumerate().filter(|(_, entry)| entry.dynamic.is_some()) {
        for (place, step) in entry.rewrite.iter().enumerate() {
            let Some(transform) = &step.transform else { continue };
            renderer.check(&transform.template).map_err(|trouble| {
                let lead = format!("dataFrom entry {}, rewrite step {}", index + 1, place + 1);
                BuildError::new(BuildErrorKind::Rewrite, format!("{lead}: transform.template fails: {trouble}"))
            })?;
        }
    }
    let template = spec.target.as_ref().and_then(|target| target.template.as_ref());
    for (key, source) in template.iter().flat_map(|template| &template.data) {
        renderer.check(source).map_err(|trouble| {
            BuildError::new(BuildErrorKind::Template, format!("template for key {key}: {trouble}")).key(key)
        })?;
    }
    Ok(())
}

/// The templates' keys, and which of them roll nobody. Never inlined: its stack is to be
/// below its caller's.
#[inline(never)]
pub(super) fn rendered(
    template: &Template,
    data: &SecretData,
    quiet: &BTreeSet<String>,
) -> Result<(SecretData, BTreeSet<String>), BuildError> {
    let merge = template.merge_policy == Some(TemplateMergePolicy::Merge);
    let kept = data.iter().filter(|(key, _)| merge && !template.data.contains_key(*key));
    let mut room = MAX_SIZE.saturating_sub(kept.map(|(key, value)| key.len() + value.len()).sum());
    let mut renderer = Renderer::new();
    let context = context(&renderer, data);
    let known: BTreeSet<&str> = data.keys().map(String::as_str).chain([ALL]).collect();
    let (mut made, mut made_quiet) = (SecretData::new(), BTreeSet::new());
    for (key, source) in &template.data {
        let wrong = |trouble: &trouble::Trouble| {
            let kind = if trouble.is_too_large() { BuildErrorKind::TooLarge } else { BuildErrorKind::Template };
            BuildError::new(kind, format!("template for key {key}: {trouble}")).key(key)
        };
        if !super::is_secret_key(key) {
            return Err(BuildError::new(
                BuildErrorKind::InvalidKey,
                "target.template has a key that a Secret cannot have: use letters, digits, '-', '_' and '.'",
            ));
        }
        room = room.checked_sub(key.len()).ok_or_else(|| wrong(&trouble::Trouble::too_large()))?;
        let output = renderer.value(source, &context, &known, room).map_err(|trouble| wrong(&trouble))?;
        room = room.saturating_sub(output.value.len());
        let names = output.names;
        let mut of: Box<dyn Iterator<Item = &String>> = if names.contains(ALL) {
            Box::new(data.keys())
        } else {
            Box::new(names.iter().filter(|name| data.contains_key(*name)))
        };
        // What is made of quiet keys alone is quiet.
        let first = of.next();
        if first.is_some_and(|first| quiet.contains(first)) && of.all(|name| quiet.contains(name)) {
            made_quiet.insert(key.clone());
        }
        made.insert(key.clone(), output.value);
    }
    Ok((made, made_quiet))
}

/// Each key by its name, and all of them as one map.
fn context(renderer: &Renderer, data: &SecretData) -> Value {
    let all: BTreeMap<String, Value> =
        data.iter().map(|(key, value)| (key.clone(), renderer.marks().value(value.expose()))).collect();
    let mut known = all.clone();
    known.insert(ALL.to_owned(), Value::from_pairs(all));
    Value::from_pairs(known)
}

//! Searches: names by path, regular expression and tags.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::{
    Client as SecretsManager,
    types::{Filter, FilterNameStringType},
};
use aws_sdk_ssm::{Client as ParameterStore, types::ParameterStringFilter};
use regex::Regex;

use super::{
    errors::{Doing, refusal},
    http::unheard,
    invalid, unavailable,
};
use crate::{
    secret::SecretText,
    stores::{FindQuery, Payload, RemoteSecret, StoreError, gathered::Gathered},
};

/// Pages that one search looks through.
const PAGES: usize = 100;
const LIST_SECRETS: Doing<'_> = Doing::Find { action: "secretsmanager:ListSecrets (on \"*\")" };
const BY_PATH: Doing<'_> = Doing::Find { action: "ssm:GetParametersByPath" };
const DESCRIBE: Doing<'_> = Doing::Find { action: "ssm:DescribeParameters (on \"*\")" };

/// Secrets Manager's names that match, in their order.
pub(super) async fn secrets(client: &SecretsManager, query: &FindQuery) -> Result<Vec<String>, StoreError> {
    let pattern = query.pattern()?;
    let filter = |key, value: &str| Filter::builder().key(key).values(value).build();
    let mut filters = Vec::new();
    if let Some(path) = &query.path {
        filters.push(filter(FilterNameStringType::Name, path));
    }
    // AWS matches beginnings, and keys and values apart: what it finds is
    // looked at again below.
    if let Some((key, value)) = query.tags.first_key_value() {
        filters.push(filter(FilterNameStringType::TagKey, key));
        if !value.is_empty() {
            filters.push(filter(FilterNameStringType::TagValue, value));
        }
    }
    let (mut found, mut next) = (Gathered::within(PAGES), None::<String>);
    loop {
        let call = client.list_secrets().max_results(100).set_next_token(next.clone());
        let call = call.set_filters(Some(filters.clone()).filter(|filters| !filters.is_empty()));
        let page = unheard(call.send()).await.map_err(|error| refusal(&error, LIST_SECRETS))?;
        for entry in page.secret_list.unwrap_or_default() {
            let Some(name) = entry.name else { continue };
            let tags: BTreeMap<String, String> =
                entry.tags.unwrap_or_default().into_iter().filter_map(|tag| Some((tag.key?, tag.value?))).collect();
            let tagged = query.tags.iter().all(|(key, value)| tags.get(key) == Some(value));
            if entry.deleted_date.is_none() && tagged && is_wanted(&name, query, pattern.as_ref()) {
                found.add(&name)?;
            }
        }
        next = found.turn(next.as_deref(), page.next_token)?;
        if next.is_none() {
            return Ok(found.into_names());
        }
    }
}

/// Parameter Store's names that match, in their order.
pub(super) async fn parameters(client: &ParameterStore, query: &FindQuery) -> Result<Vec<String>, StoreError> {
    if query.path.as_deref().is_some_and(|path| !path.starts_with('/')) {
        return Err(invalid("find.path must begin with a slash in Parameter Store"));
    }
    let pattern = query.pattern()?;
    // The one can be granted below a path, the other on everything only; but
    // the first knows of no tags.
    let wanted = |name: &str| is_wanted(name, query, pattern.as_ref());
    match &query.path {
        Some(path) if query.tags.is_empty() => by_path(client, path, wanted).await,
        _ => described(client, query, wanted).await,
    }
}

async fn by_path(
    client: &ParameterStore,
    path: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StoreError> {
    let (mut found, mut next) = (Gathered::within(PAGES), None::<String>);
    loop {
        // Not decrypted: names alone are wanted.
        let call = client.get_parameters_by_path().path(directory(path)).recursive(true).with_decryption(false);
        let page = unheard(call.max_results(10).set_next_token(next.clone()).send()).await;
        let page = page.map_err(|error| refusal(&error, BY_PATH))?;
        for parameter in page.parameters.unwrap_or_default() {
            // What is a plain string came along with its value.
            drop(parameter.value.map(SecretText::new));
            if let Some(name) = parameter.name.filter(|name| wanted(name)) {
                found.add(&name)?;
            }
        }
        next = found.turn(next.as_deref(), page.next_token)?;
        if next.is_none() {
            return Ok(found.into_names());
        }
    }
}

async fn described(
    client: &ParameterStore,
    query: &FindQuery,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StoreError> {
    let filter = |key: &str, option: &str, value: &str| {
        let filter = ParameterStringFilter::builder().key(key).option(option).values(value).build();
        filter.map_err(|_| invalid("find.path and find.tags cannot be empty"))
    };
    let mut filters = Vec::new();
    if let Some(path) = &query.path {
        filters.push(filter("Path", "Recursive", directory(path))?);
    }
    for (key, value) in &query.tags {
        filters.push(filter(&format!("tag:{key}"), "Equals", value)?);
    }
    let (mut found, mut next) = (Gathered::within(PAGES), None::<String>);
    loop {
        let call = client.describe_parameters().max_results(50).set_next_token(next.clone());
        let call = call.set_parameter_filters(Some(filters.clone()).filter(|filters| !filters.is_empty()));
        let page = unheard(call.send()).await.map_err(|error| refusal(&error, DESCRIBE))?;
        for name in page.parameters.unwrap_or_default().into_iter().filter_map(|parameter| parameter.name) {
            if wanted(&name) {
                found.add(&name)?;
            }
        }
        next = found.turn(next.as_deref(), page.next_token)?;
        if next.is_none() {
            return Ok(found.into_names());
        }
    }
}

/// Without its last slash, but for the root.
fn directory(path: &str) -> &str {
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path)
}

fn is_wanted(name: &str, query: &FindQuery, pattern: Option<&Regex>) -> bool {
    query.path.as_deref().is_none_or(|path| name.starts_with(path)) && pattern.is_none_or(|regex| regex.is_match(name))
}

/// Tags as one JSON object.
pub(super) fn tags_as_json(
    tags: impl Iterator<Item = (Option<String>, Option<String>)>,
) -> Result<RemoteSecret, StoreError> {
    let tags: BTreeMap<String, String> =
        tags.filter_map(|(key, value)| Some((key?, value.unwrap_or_default()))).collect();
    let text = serde_json::to_string(&tags).map_err(|_| unavailable("the tags cannot be read").about_one())?;
    Ok(RemoteSecret::of(Payload::Json(SecretText::new(text))))
}

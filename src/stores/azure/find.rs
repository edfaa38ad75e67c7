//! Finds secrets by name and tag. The vault only lists: the choice is ours.

use std::collections::BTreeMap;

use azure_core::http::Response;
use futures::StreamExt;
use regex::Regex;
use serde::Deserialize;

use super::{Reader, unavailable};
use crate::stores::{FindQuery, StoreError, gathered::Gathered};

/// 25 secrets a page: a vault with more than 10,000 is not listed at every
/// refresh.
const MOST_PAGES: usize = 400;

impl Reader {
    pub(super) async fn names(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        let wanted = Wanted::new(query)?;
        let mut pages = self.secrets.list_secret_properties(None).map_err(|error| self.not_read(&error))?.into_pages();
        let (mut found, mut link) = (Gathered::within(MOST_PAGES), None::<String>);
        while let Some(page) = pages.next().await {
            let body = page.map(Response::into_body).map_err(|error| self.not_read(&error))?;
            let (names, next) = wanted.of_page(body.as_ref())?;
            names.iter().try_for_each(|name| found.add(name))?;
            // The SDK would follow a link for ever.
            link = found.turn(link.as_deref(), next)?;
        }
        Ok(found.into_names())
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    value: Vec<Item>,
    #[serde(default, rename = "nextLink")]
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct Attributes {
    enabled: Option<bool>,
}

pub(super) struct Wanted<'a> {
    query: &'a FindQuery,
    name: Option<Regex>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(query: &'a FindQuery) -> Result<Self, StoreError> {
        Ok(Self { query, name: query.pattern()? })
    }

    /// The names on one page of the list that are looked for, and the link to
    /// the next page.
    pub(super) fn of_page(&self, body: &[u8]) -> Result<(Vec<String>, Option<String>), StoreError> {
        let page: Page = serde_json::from_slice(body)
            .map_err(|_| unavailable("the list of secrets is not one of Key Vault's: check vaultUrl and proxy"))?;
        let named = page.value.iter().filter_map(|item| Some((item.id.rsplit_once("/secrets/")?.1, item)));
        let names = named.filter(|(name, item)| self.is(name, item)).map(|(name, _)| name.to_owned()).collect();
        Ok((names, page.next_link))
    }

    fn is(&self, name: &str, item: &Item) -> bool {
        let FindQuery { path, name: _, tags } = self.query;
        // A disabled one cannot be read, and would stop all the others.
        item.attributes.enabled != Some(false)
            && path.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()))
            && self.name.as_ref().is_none_or(|regex| regex.is_match(name))
            && tags.iter().all(|(tag, value)| {
                item.tags.as_ref().and_then(|tags| tags.get(tag)).is_some_and(|found| found == value)
            })
    }
}

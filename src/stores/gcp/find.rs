//! Searches for secrets.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use super::{
    Reader,
    errors::{self, Asked},
    invalid, unavailable,
};
use crate::stores::{FindQuery, StoreError, gathered::Gathered};

/// Secrets a page, and pages a search.
const PAGE: usize = 1000;
const PAGES: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    secrets: Vec<Found>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
struct Found {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What is looked for. Google's filter only narrows what is listed; what fits
/// is decided here, in the same words for every manager.
struct Wanted<'a> {
    prefix: Option<&'a str>,
    name: Option<Regex>,
    labels: &'a BTreeMap<String, String>,
}

impl Reader {
    pub(super) async fn search(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        let wanted = Wanted::new(query)?;
        let filter = filter(&query.tags)?;
        let parent = &self.manager.parent;
        let (mut found, mut token) = (Gathered::within(PAGES), None::<String>);
        loop {
            let mut url = self.manager.url(parent.location.as_deref(), &format!("{parent}/secrets"))?;
            {
                let mut pairs = url.query_pairs_mut();
                pairs.append_pair("pageSize", &PAGE.to_string());
                // Annotations may weigh as much as a value, and are not asked for.
                pairs.append_pair("fields", "secrets(name,labels),nextPageToken");
                if !filter.is_empty() {
                    pairs.append_pair("filter", &filter);
                }
                if let Some(token) = &token {
                    pairs.append_pair("pageToken", token);
                }
            }
            let answer = self.get(url, None).await?;
            if !answer.status.is_success() {
                let permission = "secretmanager.secrets.list";
                let asked = Asked { permission, principal: &self.principal, version: None };
                return Err(errors::refused_read(&answer, &asked));
            }
            let page = page(&answer.body)?;
            page.secrets.iter().filter_map(|one| wanted.id_of(one)).try_for_each(|id| found.add(id))?;
            token = found.turn(token.as_deref(), Some(page.next_page_token))?;
            if token.is_none() {
                return Ok(found.into_names());
            }
        }
    }
}

pub(super) fn page(body: &[u8]) -> Result<Page, StoreError> {
    serde_json::from_slice(body)
        .map_err(|_| unavailable("the answer is not one of Secret Manager's: check endpoint and the proxy"))
}

impl<'a> Wanted<'a> {
    fn new(query: &'a FindQuery) -> Result<Self, StoreError> {
        Ok(Self { prefix: query.path.as_deref(), name: query.pattern()?, labels: &query.tags })
    }

    fn id_of<'f>(&self, found: &'f Found) -> Option<&'f str> {
        let (_, id) = found.name.rsplit_once("/secrets/")?;
        let fits = self.prefix.is_none_or(|prefix| id.starts_with(prefix))
            && self.name.as_ref().is_none_or(|name| name.is_match(id))
            && self.labels.iter().all(|(key, value)| found.labels.get(key) == Some(value));
        fits.then_some(id)
    }
}

/// Google's filter for labels.
fn filter(labels: &BTreeMap<String, String>) -> Result<String, StoreError> {
    let plain =
        |text: &str| text.chars().all(|one| (one.is_alphanumeric() && !one.is_uppercase()) || matches!(one, '-' | '_'));
    let mut terms = Vec::new();
    for (key, value) in labels {
        if key.is_empty() || !plain(key) || !plain(value) {
            return Err(invalid("find.tags: a label consists of small letters, digits, '-' and '_'"));
        }
        terms.push(if value.is_empty() { format!("labels.{key}:*") } else { format!("labels.{key}={value}") });
    }
    Ok(terms.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::{Found, Wanted, filter};
    use crate::stores::FindQuery;

    fn found(id: &str, labels: &[(&str, &str)]) -> Found {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Found { name: format!("projects/1/secrets/{id}"), labels }
    }

    #[test]
    fn what_fits_is_decided_by_every_part_of_the_query() -> Result<(), Box<dyn std::error::Error>> {
        let query = FindQuery {
            path: Some("price-".into()),
            name: Some("-bot$".into()),
            tags: [("env".to_owned(), "prod".to_owned())].into(),
        };
        let wanted = Wanted::new(&query)?;
        assert_eq!(wanted.id_of(&found("price-bot", &[("env", "prod"), ("x", "y")])), Some("price-bot"));
        for other in [
            found("price-bots", &[("env", "prod")]),
            found("a-price-bot", &[("env", "prod")]),
            found("price-bot", &[("env", "production")]),
            found("price-bot", &[]),
        ] {
            assert_eq!(wanted.id_of(&other), None, "{}", other.name);
        }
        Ok(())
    }

    #[test]
    fn a_filter_names_every_label_and_nothing_can_be_slipped_into_it() {
        let labels = |pairs: &[(&str, &str)]| {
            filter(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(labels(&[("a", "1"), ("b", "")]), Ok("labels.a=1 AND labels.b:*".into()));
        for pair in [("a b", "x"), ("a", "x OR labels.b=y"), ("", "x"), ("A", "x"), ("a", "\"")] {
            assert!(labels(&[pair]).is_err(), "{pair:?}");
        }
        let endless = FindQuery { name: Some("(a{1000}){1000}".into()), ..FindQuery::default() };
        assert!(Wanted::new(&endless).is_err());
    }
}

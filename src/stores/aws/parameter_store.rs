//! AWS Systems Manager Parameter Store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use async_trait::async_trait;
use aws_sdk_ssm::{
    Client,
    types::{Parameter, ResourceTypeForTagging},
};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Regions, Settings,
    arn::Arn,
    checked_key,
    errors::{Doing, missing, refusal},
    find::{self, tags_as_json},
    http::unheard,
    invalid, told, unavailable,
};
use crate::{
    secret::SecretBytes,
    stores::{ErrorClass, FindQuery, Payload, RemoteKey, RemoteSecret, Session, StoreError, WriteBack, locked},
};

/// What one GetParameters may name.
pub(super) const BATCH: usize = 10;
const READ: Doing<'_> = Doing::Read { action: "ssm:GetParameters" };
const TAGS: Doing<'_> = Doing::Read { action: "ssm:ListTagsForResource" };

type Answer = Result<RemoteSecret, StoreError>;
type Value = Result<Held, StoreError>;
pub(super) type Found = BTreeMap<String, Value>;

/// A parameter as it was read.
pub(super) struct Held {
    pub(super) bytes: SecretBytes,
    pub(super) version: i64,
    changed: Option<Timestamp>,
}

/// A login.
pub(super) struct ParameterStore {
    pub(super) regions: Regions<Client>,
    expires: Option<Instant>,
    /// One name that is denied spoils a whole GetParameters, so it is asked for
    /// alone from then on.
    spoilers: Mutex<BTreeSet<String>>,
}

/// Where a remote key leads.
pub(super) struct Place<'a> {
    pub(super) region: &'a str,
    /// The name or ARN, without a version.
    pub(super) name: &'a str,
    /// A version's number or a label.
    pub(super) selector: Option<&'a str>,
}

impl Place<'_> {
    /// As GetParameters is asked for it.
    fn asked(&self) -> String {
        match self.selector {
            Some(selector) => format!("{}:{selector}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The parameter's own name, whichever way it was named.
    fn own_name(&self) -> &str {
        own_name(self.name)
    }
}

/// The name in an ARN: `parameter/a/b` is `/a/b`, and `parameter/a` is `a` or
/// `/a`, so names are compared without their first slash.
fn own_name(name: &str) -> &str {
    let name = Arn::parse(name).and_then(|arn| arn.resource.strip_prefix("parameter")).unwrap_or(name);
    name.strip_prefix('/').unwrap_or(name)
}

impl ParameterStore {
    pub(super) fn new(settings: Settings, expires: Option<Instant>) -> Self {
        Self { regions: Regions::new(settings, Client::new), expires, spoilers: Mutex::default() }
    }

    pub(super) fn place<'a>(&'a self, key: &'a RemoteKey) -> Result<Place<'a>, StoreError> {
        let text = checked_key(&key.key)?;
        let (name, inline) = split(text);
        let selector = match (inline, key.version.as_deref()) {
            (Some(_), Some(_)) => return Err(invalid("the key and version both name a version: leave one out")),
            (inline, version) => inline.or(version),
        };
        let sound = |selector: &str| {
            !selector.is_empty()
                && selector.len() <= 100
                && selector.chars().all(|part| part.is_ascii_alphanumeric() || "-_.".contains(part))
        };
        if !selector.is_none_or(sound) {
            return Err(invalid("remoteRef.version must be a version's number or a label"));
        }
        Ok(Place { region: self.regions.region_of(name, "ssm")?, name, selector })
    }

    async fn tags(&self, key: &RemoteKey) -> Answer {
        let place = self.place(key)?;
        let failed = |error| self.regions.failed(place.region, refusal(&error, TAGS));
        let call = self.regions.of(place.region).list_tags_for_resource();
        let call = call.resource_type(ResourceTypeForTagging::Parameter).resource_id(place.name);
        let answer = unheard(call.send()).await.map_err(failed)?;
        let tags = answer.tag_list.unwrap_or_default();
        tags_as_json(tags.into_iter().map(|tag| (Some(tag.key), Some(tag.value))))
    }

    /// Some of one region, each parameter once.
    async fn read_together(&self, region: &str, places: &[&Place<'_>]) -> Found {
        match self.call(region, places).await {
            Ok(found) => found,
            Err(error) if places.len() > 1 && may_be_ones_alone(&error) => {
                let each = join_all(places.iter().map(|place| async move {
                    let answer = self.call(region, &[place]).await;
                    if let Err(error) = &answer {
                        self.note(place, error);
                    }
                    (place, answer)
                }));
                let mut found = Found::new();
                for (place, answer) in each.await {
                    match answer {
                        Ok(one) => found.extend(one),
                        Err(error) => drop(found.insert(place.asked(), Err(error))),
                    }
                }
                found
            }
            Err(error) => places.iter().map(|place| (place.asked(), Err(error.clone()))).collect(),
        }
    }

    pub(super) async fn call(&self, region: &str, places: &[&Place<'_>]) -> Result<Found, StoreError> {
        let names = places.iter().map(|place| place.asked()).collect();
        let call = self.regions.of(region).get_parameters().set_names(Some(names)).with_decryption(true);
        let failed = |error| self.regions.failed(region, refusal(&error, READ));
        let answer = unheard(call.send()).await.map_err(failed)?;
        let mut found = Found::new();
        for name in answer.invalid_parameters.unwrap_or_default() {
            found.insert(
                name,
                Err(missing(
                    "there is no such parameter or version in this account and region: create it, or correct the key",
                )),
            );
        }
        for parameter in answer.parameters.unwrap_or_default() {
            if let Some((asked, value)) = value_of(parameter, places) {
                found.insert(asked, value);
            }
        }
        Ok(found)
    }

    fn note(&self, place: &Place<'_>, error: &StoreError) {
        if error.class == ErrorClass::Denied {
            locked(&self.spoilers).insert(place.own_name().to_owned());
        }
    }

    fn is_spoiler(&self, place: &Place<'_>) -> bool {
        locked(&self.spoilers).contains(place.own_name())
    }

    /// Calls to make: at most ten of a region, no parameter twice in one call,
    /// and alone what would spoil it.
    fn calls<'a, 'b>(&self, places: &'b [Place<'a>]) -> Vec<(&'a str, Vec<&'b Place<'a>>)> {
        let mut calls: Vec<(&'a str, Vec<&'b Place<'a>>)> = Vec::new();
        let mut alone = Vec::new();
        for place in places {
            if self.is_spoiler(place) {
                alone.push((place.region, vec![place]));
                continue;
            }
            let fits = |(region, call): &&mut (&str, Vec<&Place<'_>>)| {
                *region == place.region
                    && call.len() < BATCH
                    && call.iter().all(|other| other.own_name() != place.own_name())
            };
            match calls.iter_mut().find(fits) {
                Some((_, call)) => call.push(place),
                None => calls.push((place.region, vec![place])),
            }
        }
        calls.extend(alone);
        calls
    }

    async fn values(&self, keys: &[&RemoteKey]) -> Vec<Answer> {
        let mut asked = Vec::new();
        let mut places = Vec::new();
        for place in keys.iter().map(|key| self.place(key)) {
            asked.push(place.as_ref().map(|place| (place.region.to_owned(), place.asked())).map_err(Clone::clone));
            places.extend(place);
        }
        places.sort_by_key(|place| (place.region, place.asked()));
        places.dedup_by_key(|place| (place.region, place.asked()));
        let calls = self.calls(&places);
        let answers = join_all(
            calls.iter().map(|(region, places)| async move { (*region, self.read_together(region, places).await) }),
        );
        let mut found: BTreeMap<&str, Found> = BTreeMap::new();
        for (region, answer) in answers.await {
            found.entry(region).or_default().extend(answer);
        }
        asked
            .into_iter()
            .map(|asked| {
                let (region, asked) = asked?;
                match found.get(region.as_str()).and_then(|found| found.get(&asked)) {
                    Some(Ok(held)) => Ok(remote(held)),
                    Some(Err(error)) => Err(error.clone()),
                    None => Err(left_out()),
                }
            })
            .collect()
    }
}

#[async_trait]
impl Session for ParameterStore {
    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Answer> {
        let (tagged, plain): (Vec<_>, Vec<_>) = (0..keys.len()).partition(|place| keys[*place].metadata);
        let asked: Vec<&RemoteKey> = plain.iter().map(|place| &keys[*place]).collect();
        let tags = join_all(tagged.iter().map(|place| self.tags(&keys[*place])));
        let (values, tags) = futures::join!(self.values(&asked), tags);
        let mut answers: Vec<(usize, Answer)> =
            plain.into_iter().zip(values).chain(tagged.into_iter().zip(tags)).collect();
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        find::parameters(&self.regions.of(self.regions.own()), query).await
    }

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        self.write_back(write).await
    }
}

/// Name and version of `name:version`. In an ARN the sixth colon is the one.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    let name_starts =
        if text.starts_with("arn:") { text.match_indices(':').nth(4).map_or(0, |(at, _)| at + 1) } else { 0 };
    match text[name_starts..].split_once(':') {
        Some((name, selector)) => (&text[..name_starts + name.len()], Some(selector)),
        None => (text, None),
    }
}

fn may_be_ones_alone(error: &StoreError) -> bool {
    matches!(error.class, ErrorClass::Denied | ErrorClass::Invalid | ErrorClass::TooLarge | ErrorClass::Missing)
        && !error.session_dead
}

/// The value, under the name that it was asked for by.
fn value_of(parameter: Parameter, places: &[&Place<'_>]) -> Option<(String, Value)> {
    let Parameter { name, value, version, selector, arn, last_modified_date, .. } = parameter;
    let (name, arn) = (name.unwrap_or_default(), arn.unwrap_or_default());
    let value = value.map(|value| SecretBytes::new(value.into_bytes()));
    let selector = selector.as_deref().map(|text| text.trim_start_matches(':')).filter(|text| !text.is_empty());
    let is_it = |place: &&&Place<'_>| {
        let named =
            if place.name.starts_with("arn:") { place.name == arn || place.name == name } else { place.name == name };
        // A call names each parameter once, so the selector need not be there.
        named && (selector.is_none() || selector == place.selector)
    };
    let place = places.iter().find(is_it)?;
    let value = value.ok_or_else(|| missing("the parameter has no value: write one"));
    let changed = last_modified_date.as_ref().and_then(told);
    Some((place.asked(), value.map(|bytes| Held { bytes, version, changed })))
}

pub(super) fn left_out() -> StoreError {
    unavailable("Parameter Store's answer left the parameter out").about_one()
}

fn remote(held: &Held) -> RemoteSecret {
    RemoteSecret {
        version: u64::try_from(held.version).ok(),
        changed: held.changed,
        ..RemoteSecret::of(Payload::Bytes(held.bytes.duplicate()))
    }
}

#[cfg(test)]
mod tests {
    use super::{own_name, split};

    #[test]
    fn a_version_may_stand_after_the_name() {
        assert_eq!(split("/desk/bot"), ("/desk/bot", None));
        assert_eq!(split("/desk/bot:3"), ("/desk/bot", Some("3")));
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/desk/bot";
        assert_eq!(split(arn), (arn, None));
        assert_eq!(split(&format!("{arn}:live")), (arn, Some("live")));
    }

    #[test]
    fn a_parameter_is_the_same_by_name_and_by_arn() {
        assert_eq!(own_name("/desk/bot"), own_name("arn:aws:ssm:eu-west-1:123456789012:parameter/desk/bot"));
        assert_eq!(own_name("bot"), own_name("arn:aws:ssm:eu-west-1:123456789012:parameter/bot"));
    }
}

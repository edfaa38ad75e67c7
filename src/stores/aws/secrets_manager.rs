//! AWS Secrets Manager.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use aws_sdk_secretsmanager::{
    Client,
    operation::batch_get_secret_value::BatchGetSecretValueOutput,
    types::{ApiErrorType, SecretValueEntry},
};
use aws_smithy_types::{Blob, DateTime};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Regions, Settings, checked_key,
    errors::{Doing, Said, by_code, missing, refusal},
    find::{self, tags_as_json},
    http::unheard,
    invalid, told,
};
use crate::{
    secret::SecretBytes,
    stores::{ErrorClass, FindQuery, Payload, RemoteKey, RemoteSecret, Session, StoreError, WriteBack, version_id},
};

/// What one BatchGetSecretValue may name.
pub(super) const BATCH: usize = 20;
/// Pages of one batch's answer.
const PAGES: usize = BATCH;
const READ: Doing<'_> = Doing::Read { action: "secretsmanager:GetSecretValue" };
const READ_BATCH: Doing<'_> = Doing::Read { action: "secretsmanager:BatchGetSecretValue" };
const DESCRIBE: Doing<'_> = Doing::Read { action: "secretsmanager:DescribeSecret" };

type Answer = Result<RemoteSecret, StoreError>;
type Value = Result<Held, StoreError>;

/// A value, and what AWS says of this version of it.
struct Held {
    bytes: SecretBytes,
    version_id: Option<String>,
    changed: Option<Timestamp>,
}

impl Held {
    fn duplicate(&self) -> Self {
        Self { bytes: self.bytes.duplicate(), version_id: self.version_id.clone(), changed: self.changed }
    }
}

/// A login.
pub(super) struct SecretsManager {
    pub(super) regions: Regions<Client>,
    expires: Option<Instant>,
    /// This role may read one by one only.
    one_by_one: AtomicBool,
}

impl SecretsManager {
    pub(super) fn new(settings: Settings, expires: Option<Instant>) -> Self {
        Self { regions: Regions::new(settings, Client::new), expires, one_by_one: AtomicBool::new(false) }
    }

    async fn read_one(&self, key: &RemoteKey) -> Answer {
        let region = self.region_of(&key.key)?;
        let client = self.regions.of(region);
        if key.metadata {
            let call = client.describe_secret().secret_id(&key.key);
            let failed = |error| self.regions.failed(region, refusal(&error, DESCRIBE));
            let answer = unheard(call.send()).await.map_err(failed)?;
            let tags = answer.tags.unwrap_or_default();
            return tags_as_json(tags.into_iter().map(|tag| (tag.key, tag.value)));
        }
        let mut call = client.get_secret_value().secret_id(&key.key);
        if let Some(version) = &key.version {
            call = match Version::of(version)? {
                Version::Id(id) => call.version_id(id),
                Version::Stage(stage) => call.version_stage(stage),
            };
        }
        let failed = |error| self.regions.failed(region, refusal(&error, READ));
        let answer = unheard(call.send()).await.map_err(failed)?;
        let (id, made) = (answer.version_id.as_deref(), answer.created_date.as_ref());
        content(answer.secret_string, answer.secret_binary).map(|bytes| remote(held(bytes, id, made)))
    }

    pub(super) fn region_of<'a>(&'a self, key: &'a str) -> Result<&'a str, StoreError> {
        self.regions.region_of(checked_key(key)?, "secretsmanager")
    }

    /// Newest values of one region, at most a batch of them, by their places
    /// in `keys`; all of them named, or all by ARN.
    async fn read_together(&self, region: &str, keys: &[RemoteKey], places: &[usize]) -> Vec<(usize, Answer)> {
        let mut ids: Vec<&str> = places.iter().map(|place| keys[*place].key.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = if ids.len() < 2 || self.one_by_one.load(Ordering::Relaxed) {
            BTreeMap::new()
        } else {
            match self.batch(region, &ids).await {
                Ok(found) => found,
                Err(error) if may_work_singly(&error) => {
                    if error.class == ErrorClass::Denied {
                        self.one_by_one.store(true, Ordering::Relaxed);
                    }
                    BTreeMap::new()
                }
                Err(error) => return places.iter().map(|place| (*place, Err(error.clone()))).collect(),
            }
        };
        let each = places.iter().map(|place| async {
            let key = &keys[*place];
            let answer = match found.get(key.key.as_str()) {
                Some(Ok(held)) => Ok(remote(held.duplicate())),
                // An ARN may lead to another account, of which AWS promises
                // nothing where several are read at once.
                Some(Err(error)) if !is_arn(&key.key) || !may_work_singly(error) => Err(error.clone()),
                _ => self.read_one(key).await,
            };
            (*place, answer)
        });
        join_all(each).await
    }

    /// What one call says of each id; it may leave some out.
    async fn batch<'a>(&self, region: &str, ids: &[&'a str]) -> Result<BTreeMap<&'a str, Value>, StoreError> {
        let client = self.regions.of(region);
        let (mut found, mut next) = (BTreeMap::new(), None);
        for _ in 0..PAGES {
            let wanted = ids.iter().map(|id| (*id).to_owned()).collect();
            let call = client.batch_get_secret_value().set_secret_id_list(Some(wanted)).set_next_token(next);
            let failed = |error| self.regions.failed(region, refusal(&error, READ_BATCH));
            let page = unheard(call.send()).await.map_err(failed)?;
            let BatchGetSecretValueOutput { secret_values, errors, next_token, .. } = page;
            for entry in secret_values.unwrap_or_default() {
                take_value(entry, ids, &mut found);
            }
            for error in errors.unwrap_or_default() {
                take_error(&error, ids, &mut found);
            }
            next = next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Session for SecretsManager {
    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Answer> {
        let mut alone = Vec::new();
        // Names apart from ARNs: where no ARN is asked for, what has a name is
        // of the role's own account, and no other one's of the same name.
        let mut together: BTreeMap<(&str, bool), Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            match self.region_of(&key.key) {
                Ok(region) if key.version.is_none() && !key.metadata => {
                    together.entry((region, is_arn(&key.key))).or_default().push(place);
                }
                // A key that cannot be right says so when it is read.
                _ => alone.push(place),
            }
        }
        let chunks =
            together.iter().flat_map(|((region, _), places)| places.chunks(BATCH).map(move |chunk| (*region, chunk)));
        let batches = join_all(chunks.map(|(region, places)| self.read_together(region, keys, places)));
        let singles =
            join_all(alone.into_iter().map(|place| async move { (place, self.read_one(&keys[place]).await) }));
        let (batches, singles) = futures::join!(batches, singles);
        let mut answers: Vec<(usize, Answer)> = batches.into_iter().flatten().chain(singles).collect();
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        find::secrets(&self.regions.of(self.regions.own()), query).await
    }

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        self.write_back(write).await
    }

    async fn rotate(&self, key: &RemoteKey, attempt: &str) -> Result<(), StoreError> {
        self.rotate_now(key, attempt).await
    }
}

/// Whether the secrets may be had although the batch was not: it needs a
/// permission of its own, one odd name spoils it, and its answer is larger.
fn may_work_singly(error: &StoreError) -> bool {
    matches!(error.class, ErrorClass::Denied | ErrorClass::Invalid | ErrorClass::TooLarge | ErrorClass::Missing)
        && !error.session_dead
}

fn take_value<'a>(entry: SecretValueEntry, ids: &[&'a str], found: &mut BTreeMap<&'a str, Value>) {
    let SecretValueEntry { arn, name, secret_string, secret_binary, version_id, created_date, .. } = entry;
    let (arn, name) = (arn.unwrap_or_default(), name.unwrap_or_default());
    let value =
        content(secret_string, secret_binary).map(|bytes| held(bytes, version_id.as_deref(), created_date.as_ref()));
    // One secret may have been asked for by its whole ARN and by a shorter one.
    for id in ids.iter().filter(|id| is_of(id, &arn, &name)) {
        found.insert(id, value.as_ref().map(Held::duplicate).map_err(StoreError::clone));
    }
}

fn take_error<'a>(error: &ApiErrorType, ids: &[&'a str], found: &mut BTreeMap<&'a str, Value>) {
    let named = error.secret_id.as_deref().unwrap_or_default();
    let (code, text) = (error.error_code.as_deref().unwrap_or_default(), error.message.as_deref().unwrap_or_default());
    // An error may name by its whole ARN what was asked for by a shorter one.
    for id in ids.iter().filter(|id| **id == named || is_of(id, named, "")) {
        found.entry(id).or_insert_with(|| Err(by_code(Said { code, text }, 400, READ)));
    }
}

/// Whether an id is this secret's: its name; or its ARN, or that without the
/// six characters that AWS adds.
fn is_of(id: &str, arn: &str, name: &str) -> bool {
    if !is_arn(id) {
        return !id.is_empty() && id == name;
    }
    let added = |rest: &str| rest.is_empty() || (rest.len() == 7 && rest.starts_with('-'));
    arn.strip_prefix(id).is_some_and(added)
}

/// No name has a colon.
fn is_arn(id: &str) -> bool {
    id.starts_with("arn:")
}

pub(super) fn content(text: Option<String>, binary: Option<Blob>) -> Result<SecretBytes, StoreError> {
    match (text, binary) {
        (Some(text), _) => Ok(SecretBytes::new(text.into_bytes())),
        (None, Some(binary)) => Ok(SecretBytes::new(binary.into_inner())),
        (None, None) => Err(missing("this version of the secret has no value: write one")),
    }
}

fn held(bytes: SecretBytes, id: Option<&str>, made: Option<&DateTime>) -> Held {
    Held { bytes, version_id: id.and_then(version_id), changed: made.and_then(told) }
}

/// Versions have no order: only stages say which one is newer.
fn remote(held: Held) -> RemoteSecret {
    let Held { bytes, version_id, changed } = held;
    RemoteSecret { version_id, changed, ..RemoteSecret::of(Payload::Bytes(bytes)) }
}

#[derive(Debug, PartialEq, Eq)]
enum Version<'a> {
    Id(&'a str),
    Stage(&'a str),
}

impl<'a> Version<'a> {
    /// Ids are UUIDs, or written as `uuid/<id>`, as External Secrets does.
    fn of(text: &'a str) -> Result<Self, StoreError> {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err(invalid("remoteRef.version must be a version id or a stage, such as AWSPREVIOUS"));
        }
        if let Some(id) = text.strip_prefix("uuid/") {
            return if (32..=64).contains(&id.len()) {
                Ok(Self::Id(id))
            } else {
                Err(invalid("a version id has 32 to 64 characters"))
            };
        }
        let is_id =
            (32..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        Ok(if is_id { Self::Id(text) } else { Self::Stage(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Version, is_of};

    #[test]
    fn a_version_is_an_id_where_it_looks_like_one_and_else_a_stage() {
        let id = "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111".to_lowercase().replace("example", "abcdef0");
        assert_eq!(Version::of(&id).expect("valid"), Version::Id(&id));
        assert_eq!(Version::of("AWSPREVIOUS").expect("valid"), Version::Stage("AWSPREVIOUS"));
        let named = format!("uuid/{}", "x".repeat(40));
        assert_eq!(Version::of(&named).expect("valid"), Version::Id(&"x".repeat(40)));
        for wrong in ["", "uuid/short", "a\nb", &"a".repeat(257)] {
            assert!(Version::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn p5_an_answer_is_that_of_the_secret_asked_for_only() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bot-AbCdEf";
        let partial = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bot";
        for id in ["bot", arn, partial] {
            assert!(is_of(id, arn, "bot"), "{id}");
        }
        for id in [
            "",
            "bo",
            "Bot",
            "bot-AbCdEf",
            &arn[..arn.len() - 1],
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bo",
        ] {
            assert!(!is_of(id, arn, "bot"), "{id}");
        }
        assert!(!is_of(partial, "", partial), "an ARN is no name");
    }
}

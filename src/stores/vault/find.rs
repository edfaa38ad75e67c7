//! Looks for secrets of the key/value engine: lists what lies below a path,
//! folder by folder, and keeps what name and custom metadata ask for.
//!
//! What may not be listed is an error and never left out: a key that is gone
//! from a Secret because a policy changed would look like a secret that
//! vanished.

use futures::{StreamExt, TryStreamExt, stream};
use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};
use serde::Deserialize;

use super::{
    Reader,
    answers::{self, Doing},
    invalid, metadata,
    mounts::{Engine, no_engine},
    paths::clean,
    unavailable,
};
use crate::stores::{ErrorClass, FindQuery, StoreError};

/// Folders inside one another.
const DEEPEST: usize = 16;
/// Folders that one search lists.
const MOST_FOLDERS: usize = 500;
/// Secrets that one search looks at.
const MOST_SECRETS: usize = 5000;
/// Bytes of all the names that one search comes to.
const MOST_BYTES: usize = 4 << 20;
/// Requests of one search at once; more wait for their turn.
const AT_ONCE: usize = 8;

/// One folder's listing. A GET with `list=true`: not every proxy lets Vault's
/// own method LIST through.
struct Listing {
    path: String,
}

impl Endpoint for Listing {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }

    fn query(&self) -> Result<Option<String>, ClientError> {
        Ok(Some("list=true".to_owned()))
    }
}

#[derive(Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// Where a search begins.
struct Start {
    mount: String,
    engine: Engine,
    /// Below the mount; empty for all of it.
    folder: String,
    /// What keys begin with, as `remoteRef.key` writes them.
    prefix: String,
}

impl Start {
    fn listing(&self, folder: &str) -> Listing {
        let mount = &self.mount;
        let root = match self.engine {
            Engine::One | Engine::Database => mount.clone(),
            Engine::Two => format!("{mount}/metadata"),
        };
        let path = if folder.is_empty() { format!("{root}/") } else { format!("{root}/{folder}/") };
        Listing { path }
    }
}

impl Reader {
    /// The keys, in their order.
    pub(super) async fn look_for(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        let name = query.pattern()?;
        let start = self.start(query.path.as_deref()).await?;
        if start.engine == Engine::Database {
            return Err(no_engine(&start.mount));
        }
        if !query.tags.is_empty() && start.engine == Engine::One {
            return Err(metadata::tags_need_second_engine());
        }
        let mut found = self.all_below(&start).await?;
        found.retain(|path| name.as_ref().is_none_or(|name| name.is_match(&format!("{}{path}", start.prefix))));
        if !query.tags.is_empty() {
            found = self.tagged(&start, found, query).await?;
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|path| format!("{}{path}", start.prefix)).collect())
    }

    async fn start(&self, path: Option<&str>) -> Result<Start, StoreError> {
        let path = path.map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
        let path = path.map(|path| clean(path, "find.path")).transpose()?;
        match (&self.engines.mount, path) {
            (Some(_), path) => {
                let folder = path.unwrap_or_default();
                let (mount, engine, _) = self.mount_for(&folder, &folder).await?;
                Ok(Start { mount, engine, folder, prefix: String::new() })
            }
            (None, None) => Err(invalid("the store names no mount, so find.path must begin with one")),
            (None, Some(path)) => {
                let (mount, engine, _) = self.mount_for(&path, &path).await?;
                let folder = path.strip_prefix(&mount).unwrap_or_default().trim_start_matches('/').to_owned();
                let prefix = format!("{mount}/");
                Ok(Start { mount, engine, folder, prefix })
            }
        }
    }

    /// Every secret below the start, as a path of the mount: level by level,
    /// so that the bounds hold for all of them together.
    async fn all_below(&self, start: &Start) -> Result<Vec<String>, StoreError> {
        let (mut secrets, mut level) = (Vec::new(), vec![start.folder.clone()]);
        let (mut folders, mut bytes) = (1, 0);
        for _ in 0..DEEPEST {
            let listings = stream::iter(level.into_iter().map(|folder| self.list(start, folder)));
            let mut listings = listings.buffer_unordered(AT_ONCE);
            level = Vec::new();
            // Counted as they arrive: a level may hold hundreds of them.
            while let Some(names) = listings.try_next().await? {
                for name in names {
                    bytes += name.len();
                    match name.strip_suffix('/') {
                        Some(folder) => level.push(folder.to_owned()),
                        None => secrets.push(name),
                    }
                }
                within_bounds(folders + level.len(), secrets.len(), bytes)?;
            }
            folders += level.len();
            if level.is_empty() {
                return Ok(secrets);
            }
        }
        Err(too_many(&format!("more than {DEEPEST} folders inside one another")))
    }

    /// What lies in a folder; folders end in a slash.
    async fn list(&self, start: &Start, folder: String) -> Result<Vec<String>, StoreError> {
        let listing = start.listing(&folder);
        let answer = self.wire.send(&listing, Some(&self.token), &self.pace).await?;
        let names = match answer.status.as_u16() {
            200 => parse(&answer.body)?,
            // There is nothing in it, or no such folder.
            404 => Vec::new(),
            _ => {
                let doing = Doing::List { policy_path: &listing.path, role: &self.role };
                return Err(answers::refusal(&answer, &doing));
            }
        };
        // Before each gets the folder's name in front.
        let deeper = names.iter().filter(|name| name.ends_with('/')).count();
        let bytes = names.iter().map(|name| folder.len() + name.len()).sum();
        within_bounds(deeper, names.len() - deeper, bytes)?;
        names.into_iter().map(|name| joined(&folder, &name)).collect()
    }

    async fn tagged(&self, start: &Start, found: Vec<String>, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        let looks = found.into_iter().map(async |path| {
            let tagged = self.has_tags(&start.mount, &path, &query.tags).await?;
            Ok(tagged.then_some(path))
        });
        let kept: Vec<Option<String>> = stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(kept.into_iter().flatten().collect())
    }
}

/// Parse errors are dropped: they may quote what was read.
pub(super) fn parse(body: &[u8]) -> Result<Vec<String>, StoreError> {
    let listed: Listed = serde_json::from_slice(body)
        .map_err(|_| unavailable("the list is not one of Vault's key/value engine: check address, path and version"))?;
    Ok(listed.data.keys)
}

/// A listed name as a path of the mount. A name that could not be read is an
/// error: what it stands for must not be left out.
pub(super) fn joined(folder: &str, name: &str) -> Result<String, StoreError> {
    const FIELD: &str = "the name of a secret that was found";
    let (stem, slash) = name.strip_suffix('/').map_or((name, ""), |stem| (stem, "/"));
    let stem = clean(stem, FIELD)?;
    let path = if folder.is_empty() { stem } else { clean(&format!("{folder}/{stem}"), FIELD)? };
    Ok(path + slash)
}

fn within_bounds(folders: usize, secrets: usize, bytes: usize) -> Result<(), StoreError> {
    if folders > MOST_FOLDERS {
        return Err(too_many(&format!("more than {MOST_FOLDERS} folders")));
    }
    if secrets > MOST_SECRETS {
        return Err(too_many(&format!("more than {MOST_SECRETS} secrets")));
    }
    if bytes > MOST_BYTES {
        return Err(too_many("names of more than 4 MiB together"));
    }
    Ok(())
}

fn too_many(what: &str) -> StoreError {
    StoreError::new(ErrorClass::TooLarge, format!("{what} lie below find.path: name a path with fewer"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{AT_ONCE, DEEPEST, MOST_BYTES, MOST_FOLDERS, MOST_SECRETS, joined};
    use crate::{
        secret::SecretText,
        stores::{
            Backend, ClusterEndpoint, ErrorClass, FindQuery, HttpClients, StoreError,
            canned::{Canned, answer},
            testing::{login, opening},
            vault::Vault,
        },
    };

    const LOGIN: &str = r#"{"auth":{"client_token":"s.t0ken","lease_duration":3600}}"#;

    /// What a search comes to where every listing is answered with the last of
    /// these, and how many requests it took.
    async fn found(lists: &[String], query: FindQuery) -> (Result<Vec<String>, StoreError>, usize) {
        let lists = lists.iter().map(|body| answer("200 OK", "", body));
        let canned = Canned::answering(std::iter::once(answer("200 OK", "", LOGIN)).chain(lists).collect()).await;
        let spec = format!(
            r#"{{"address":"http://{}","path":"kv","version":"v2","auth":{{"kubernetes":{{"role":"bots"}}}}}}"#,
            canned.address
        );
        let spec = serde_json::from_str(&spec).expect("a store");
        let vault = Vault::new(&spec, &opening(&HttpClients::new(ClusterEndpoint::default()))).expect("valid");
        let session = vault.login(login(&SecretText::new("jwt".into()))).await.expect("logged in");
        let found = session.find(&query).await;
        (found, canned.requests().len() - 1)
    }

    fn list(keys: &[String]) -> String {
        serde_json::json!({"data": {"keys": keys}}).to_string()
    }

    #[tokio::test]
    async fn p6_a_search_without_end_is_refused() {
        let (error, asked) = found(&[list(&["deeper/".into()])], FindQuery::default()).await;
        assert_eq!((error.expect_err("deep").class, asked), (ErrorClass::TooLarge, DEEPEST));
        let folders: Vec<String> = (0..MOST_FOLDERS).map(|number| format!("{number}/")).collect();
        let (error, asked) = found(&[list(&folders)], FindQuery::default()).await;
        assert_eq!((error.expect_err("wide").class, asked), (ErrorClass::TooLarge, 1));
        let secrets: Vec<String> = (0..=MOST_SECRETS).map(|number| number.to_string()).collect();
        let (error, asked) = found(&[list(&secrets)], FindQuery::default()).await;
        assert_eq!((error.expect_err("many").class, asked), (ErrorClass::TooLarge, 1));
        const { assert!(AT_ONCE < MOST_FOLDERS) };
    }

    #[tokio::test]
    async fn p6_a_search_ends_at_the_listing_that_is_too_much_and_not_after_its_level() {
        let folders: Vec<String> = (0..400).map(|number| format!("{number}/")).collect();
        let secrets: Vec<String> = (0..MOST_SECRETS / 10).map(|number| number.to_string()).collect();
        let (error, asked) = found(&[list(&folders), list(&secrets)], FindQuery::default()).await;
        assert_eq!(error.expect_err("many").class, ErrorClass::TooLarge);
        assert!((12..=12 + AT_ONCE).contains(&asked), "{asked}");

        let long: Vec<String> = (0..600).map(|number| format!("{number:01000}")).collect();
        let (error, asked) = found(&[list(&folders), list(&long)], FindQuery::default()).await;
        let error = error.expect_err("long names");
        assert_eq!((error.class, error.message.contains("4 MiB")), (ErrorClass::TooLarge, true), "{error}");
        let enough = 1 + MOST_BYTES / (600 * 1000);
        assert!((enough..=enough + 1 + AT_ONCE).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn p4_a_list_that_is_none_is_an_outage_without_any_bytes_of_it() {
        for body in ["{\"data\":{\"keys\":[hunter2", r#"{"data":{"keys":"hunter2"}}"#, "hunter2"] {
            let (error, _) = found(&[body.to_owned()], FindQuery::default()).await;
            let error = error.expect_err("no list");
            assert_eq!(error.class, ErrorClass::Unavailable);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_looked_for_is_refused_unasked() {
        let name = |regexp: &str| FindQuery { name: Some(regexp.into()), ..FindQuery::default() };
        let path = |path: &str| FindQuery { path: Some(path.into()), ..FindQuery::default() };
        for query in [name("("), name("(\\w{1000}){1000}"), path("a/../../sys"), path("a//b"), path("a\nb")] {
            let (error, asked) = found(&[list(&[])], query.clone()).await;
            assert_eq!((error.expect_err("refused").class, asked), (ErrorClass::Invalid, 0), "{query:?}");
        }
    }

    #[tokio::test]
    async fn p5_a_folder_and_a_tagged_secret_are_asked_for_as_they_are_written() {
        let lists = [list(&["b c?".into()]), r#"{"data":{"custom_metadata":{"team":"a","x":"y"}}}"#.to_owned()];
        let tags = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let query = FindQuery { path: Some("/one two/".into()), name: Some("^one two/b".into()), tags };
        let (keys, asked) = found(&lists, query).await;
        assert_eq!((keys, asked), (Ok(vec!["one two/b c?".to_owned()]), 2));
    }

    #[test]
    fn names_that_could_not_be_read_are_no_part_of_a_list() {
        assert_eq!(joined("a", "b"), Ok("a/b".to_owned()));
        assert_eq!(joined("", "b/"), Ok("b/".to_owned()));
        for name in ["..", "../", "/", "", ".", "a//b", "a\nb", "//"] {
            assert_eq!(joined("x", name).map_err(|error| error.class), Err(ErrorClass::Invalid), "{name:?}");
        }
    }
}

//! Asks Vault which mount a path lies below.

use std::collections::BTreeMap;

use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
};
use serde::Deserialize;

use super::{Engine, is_at_or_below};
use crate::stores::{
    ErrorClass, StoreError,
    vault::{
        Reader,
        answers::{self, Doing},
        invalid,
        paths::static_role,
        unavailable,
    },
};

/// `sys/internal/ui/mounts/<path>`: needs no right but one below the mount.
struct MountLookup<'a> {
    path: &'a str,
}

impl Endpoint for MountLookup<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.path)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

#[derive(Deserialize)]
struct Found {
    data: MountData,
}

#[derive(Deserialize)]
struct MountData {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

impl Reader {
    /// The mount at or above this path, and its version. `deepest` is as much
    /// of the path as can be the mount.
    pub(in crate::stores::vault) async fn mount_of(
        &self,
        path: &str,
        deepest: &str,
    ) -> Result<(String, Engine), StoreError> {
        let mounts = &self.engines.found;
        if let Some((mount, engine)) = mounts.find(path) {
            return if mounts.take_doubt(&mount) { self.check(path, mount, engine).await } else { Ok((mount, engine)) };
        }
        let asked = mounts.refused(&self.token, deepest);
        if let Some(error) = mounts.refusal(&asked) {
            return Err(error);
        }
        let mut scope = mounts.scope(deepest);
        loop {
            let turn = mounts.turn(scope);
            let _turn = turn.lock().await;
            if let Some(found) = mounts.find(path) {
                return Ok(found);
            }
            if let Some(error) = mounts.refusal(&asked) {
                return Err(error);
            }
            let narrower = mounts.scope(deepest);
            // Refused in the meantime: wait no longer with the others.
            if narrower.len() > scope.len() {
                scope = narrower;
                continue;
            }
            return self.look_up(path).await.inspect_err(|error| mounts.refuse(asked, error));
        }
    }

    /// Looks a mount up again, of which this is known.
    async fn check(&self, path: &str, mount: String, engine: Engine) -> Result<(String, Engine), StoreError> {
        match self.look_up(path).await {
            // What is there now must not be read as if it were the old one: a
            // read of another engine may issue something.
            Err(error) if error.class == ErrorClass::Invalid => {
                self.engines.found.forget(&mount);
                Err(error)
            }
            // This login may see less than others; the read says what is wrong.
            Err(_) => Ok((mount, engine)),
            found => found,
        }
    }

    async fn look_up(&self, path: &str) -> Result<(String, Engine), StoreError> {
        let mounts = &self.engines.found;
        let answer = self.wire.send(&MountLookup { path }, Some(&self.token), &self.pace).await?;
        if !answer.status.is_success() {
            return Err(answers::refusal(&answer, &Doing::FindMount { role: &self.role }));
        }
        let (mount, engine) = parse(&answer.body, path)?;
        mounts.learn(&mount, engine);
        Ok((mount, engine))
    }
}

/// The mount at or above this path, and its version.
pub(in crate::stores::vault) fn parse(body: &[u8], path: &str) -> Result<(String, Engine), StoreError> {
    let Found { data } = serde_json::from_slice(body)
        .map_err(|_| unavailable("the answer about the mount is not one of Vault's: check address"))?;
    let mount = data.path.trim_matches('/').to_owned();
    // Before it is named in an error: then it is a part of what the user wrote.
    if !is_at_or_below(path, &mount) {
        return Err(unavailable("Vault named a mount that was not asked for: check address and what is before it"));
    }
    let version = data.options.as_ref().and_then(|options| options.get("version")).map(String::as_str);
    match (data.kind.as_str(), version) {
        ("kv", Some("2")) => Ok((mount, Engine::Two)),
        ("kv" | "generic", None | Some("1")) => Ok((mount, Engine::One)),
        // Whatever else it answers with is issued by the read.
        ("database", _) if static_role(path, &mount).is_some() => Ok((mount, Engine::Database)),
        ("kv", _) => Err(invalid(format!(
            "the key/value engine at {mount} is of a version other than 1 and 2, which are the ones that can be read"
        ))),
        _ => Err(no_engine(&mount)),
    }
}

/// What is mounted there cannot be read as values.
pub(in crate::stores::vault) fn no_engine(mount: &str) -> StoreError {
    invalid(format!("what is mounted at {mount} is no key/value engine: correct remoteRef.key or path"))
}

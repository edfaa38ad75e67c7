//! What the API server would refuse, found before anything is written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    BuildError, BuildErrorKind,
    template::pem::{self, Wanted},
};
use crate::{
    api::{BotSecretSpec, CreationPolicy, SecretType},
    secret::{SecretBytes, SecretData},
};

/// What keys and values of one Secret may amount to.
pub const MAX_SIZE: usize = 1_048_576;

/// Whether the API server takes `key` as a key of a Secret.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..")
}

/// Whether `data` has what the target's type asks for.
pub(super) fn secret_type(spec: &BotSecretSpec, data: &SecretData) -> Result<(), BuildError> {
    let target = spec.target();
    let Some(name) = target.type_.as_deref() else { return Ok(()) };
    if target.creation_policy == Some(CreationPolicy::Merge) {
        // The other keys, and the type itself, are somebody else's.
        return Ok(());
    }
    let Some(secret_type) = SecretType::from_name(name) else {
        return Err(BuildError::new(
            BuildErrorKind::TypeMismatch,
            format!(
                "Secrets of type {name} are not made from remote values: set target.type to Opaque or leave it out"
            ),
        ));
    };
    let filled = |key: &str| data.contains_key(key);
    match secret_type {
        SecretType::Opaque => Ok(()),
        SecretType::Tls => {
            holds_pem(name, data, "tls.crt", Wanted::Certificates)?;
            holds_pem(name, data, "tls.key", Wanted::Keys)
        }
        SecretType::DockerConfigJson => {
            let members = json_object(name, data, ".dockerconfigjson", "a JSON object")?;
            let auths = members.get("auths").map(|auths| auths.get().as_bytes().first() == Some(&b'{'));
            if auths == Some(true) {
                return Ok(());
            }
            Err(unfit(name, ".dockerconfigjson", "a JSON object with the object auths in it"))
        }
        SecretType::DockerCfg => json_object(name, data, ".dockercfg", "a JSON object").map(drop),
        SecretType::BasicAuth if filled("username") || filled("password") => Ok(()),
        SecretType::BasicAuth => Err(lacks(name, "username", "username or password")),
        SecretType::SshAuth => match data.get("ssh-privatekey") {
            Some(value) if !value.is_empty() => Ok(()),
            _ => Err(lacks(name, "ssh-privatekey", "ssh-privatekey (not empty)")),
        },
    }
}

fn lacks(type_name: &str, key: &str, wanted: &str) -> BuildError {
    BuildError::new(
        BuildErrorKind::TypeMismatch,
        format!("a Secret of type {type_name} needs key {wanted}: add an entry under data that fills it"),
    )
    .key(key)
}

fn unfit(type_name: &str, key: &str, wanted: &str) -> BuildError {
    BuildError::new(
        BuildErrorKind::TypeMismatch,
        format!(
            "a Secret of type {type_name} needs {wanted} under key {key}: correct the remote value or change target.type"
        ),
    )
    .key(key)
}

fn holds_pem(type_name: &str, data: &SecretData, key: &str, wanted: Wanted) -> Result<(), BuildError> {
    let value = data.get(key).map(SecretBytes::expose).ok_or_else(|| lacks(type_name, key, key))?;
    let what = match wanted {
        Wanted::Certificates => "a certificate in PEM",
        Wanted::Keys => "a private key in PEM",
    };
    let holds = std::str::from_utf8(value).is_ok_and(|text| pem::holds(text, wanted));
    if holds { Ok(()) } else { Err(unfit(type_name, key, what)) }
}

fn json_object<'a>(
    type_name: &str,
    data: &'a SecretData,
    key: &str,
    wanted: &str,
) -> Result<BTreeMap<String, &'a RawValue>, BuildError> {
    let value = data.get(key).map(SecretBytes::expose).ok_or_else(|| lacks(type_name, key, key))?;
    // The parser's own error is dropped: it may quote the value.
    serde_json::from_slice(value).map_err(|_| unfit(type_name, key, wanted))
}

#[cfg(test)]
mod tests {
    use super::is_secret_key;

    #[test]
    fn the_keys_that_the_api_server_takes() {
        let longest = "k".repeat(253);
        for key in ["a", "TLS.crt", ".dockerconfigjson", "a-b_c.9", "_", "-", ".a", &longest] {
            assert!(is_secret_key(key), "{key}");
        }
        let too_long = "k".repeat(254);
        for key in ["", ".", "..", "..a", "...", "a/b", "a b", "zażółć", "a\n", &too_long] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}

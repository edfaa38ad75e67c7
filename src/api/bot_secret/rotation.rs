//! How old a value may become, and who makes the next one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BotSecretSpec, StoreRef};
use crate::api::Timeout;

/// How long a password is, where nothing else is said.
const PASSWORD_LENGTH: usize = 32;
/// Of which characters it is, where nothing else is said: none that a shell, a
/// URL or a connection string takes for more.
const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// How old a value may become at its source, and how the next one is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.maxAge) || has(self.every) || has(self.schedule)")
        .message("nothing to watch and nothing to rotate: write maxAge, every or schedule"),
    validation = Rule::new("!has(self.every) || !has(self.schedule)")
        .message("write every or schedule, not both"),
    validation = Rule::new("has(self.every) || has(self.schedule) || !has(self.generate)")
        .message("when is a new value to be made? Write every or schedule beside generate"),
    validation = Rule::new("has(self.every) || has(self.schedule) || !(has(self.serviceAccountName) || has(self.storeRef))")
        .message("nothing is rotated, so nobody is needed to do it: write every or schedule, or take serviceAccountName and storeRef out"),
    validation = Rule::new("!has(self.maxAge) || !has(self.every) || duration(self.maxAge) > duration(self.every)")
        .message("each value would be overdue before the next one is due: write a maxAge that is longer than every")
)]
pub struct Rotation {
    /// How old a value may be at its source, as a Go duration such as 2160h.
    /// An older one is reported (RotationOverdue), whoever is to rotate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('10s')")
        .message("write a duration of at least 10s, such as 2160h for 90 days (units: ms, s, m, h)"))]
    pub max_age: Option<Timeout>,
    /// How old a value becomes before the next one is made, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('10s')")
        .message("write a duration of at least 10s, such as 720h for 30 days (units: ms, s, m, h)"))]
    pub every: Option<Timeout>,
    /// When the next value is made, in place of every.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RotationSchedule>,
    /// The ServiceAccount of this namespace whose identity rotates. The
    /// BotSecret's own when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("write a ServiceAccount's name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"))]
    pub service_account_name: Option<String>,
    /// The store through which values are rotated: the same manager as the
    /// one that they are read from, with another role. The one that they are
    /// read from when not set. It must have allowRotation: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// Keys under data whose next value is made here and written back to where
    /// it is read from. Without any, the manager is asked to make new values
    /// of all that data and dataFrom.extract read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["secretKey"]))]
    pub generate: Vec<Generate>,
}

/// Moments at which values are rotated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationSchedule {
    /// A cron expression of five fields: minute, hour, day of the month, month,
    /// day of the week.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+( [!-~]+){4}$')")
        .message("write five fields, such as \"0 3 1 * *\": minute, hour, day of the month, month, day of the week"))]
    pub cron: String,
    /// The time zone of the schedule, as in the tz database. UTC when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// One key whose values are made here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.password) != has(self.keyPair)")
    .message("write exactly one of password and keyPair"))]
pub struct Generate {
    /// The key, as an entry under data has it. What that entry reads is where
    /// the value is written to.
    #[schemars(length(min = 1, max = 253))]
    pub secret_key: String,
    /// A random password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A private key (PKCS #8, PEM), and its public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair: Option<KeyPair>,
}

/// A random password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// How many characters. 32 when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 12, max = 1024))]
    pub length: Option<i32>,
    /// Of which characters. Letters and digits when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 95))]
    #[x_kube(validation = Rule::new("self.matches('^[ -~]+$')")
        .message("write characters that can be typed: ASCII letters, digits, punctuation"))]
    pub characters: Option<String>,
}

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyPair {
    /// Of which kind.
    pub algorithm: KeyAlgorithm,
    /// The property of the same remote secret that gets the public key (PEM),
    /// for whoever verifies. None when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub public_key_property: Option<String>,
}

/// Ed25519, ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve P-256.
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA on the curve P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    /// RSA of 2048 bits.
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

impl Password {
    /// How many characters.
    #[must_use]
    pub fn characters_in_all(&self) -> usize {
        self.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(PASSWORD_LENGTH)
    }

    /// Of which ones.
    #[must_use]
    pub fn alphabet(&self) -> &str {
        self.characters.as_deref().unwrap_or(CHARACTERS)
    }
}

impl Rotation {
    /// Whether new values are made at all.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.every.is_some() || self.schedule.is_some()
    }
}

impl BotSecretSpec {
    /// The ServiceAccount whose identity rotates values, if they are rotated.
    #[must_use]
    pub fn rotator(&self) -> Option<&str> {
        let rotation = self.rotation.as_ref().filter(|rotation| rotation.is_triggered())?;
        Some(rotation.service_account_name.as_deref().unwrap_or(&self.service_account_name))
    }
}

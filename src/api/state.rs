//! The facts that lie on a Secret, as one JSON annotation: digests by
//! key, the revision, and when each key last changed.
//!
//! They are written together with the data, in one request, so no crash can
//! separate them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with_text::text;

/// One version of a Secret's data. Counted up with each change of a value;
/// opaque to everybody else.
///
/// The fingerprint is a keyed digest of the whole data. It tells whether a
/// Secret that was lost is made again with the same data, which is no rotation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Revision {
    /// Position in the sequence. A sequence begins with the second in which it
    /// began, so that one which had to begin anew, every record of the last one
    /// lost, is ahead of the markers that pods still bear.
    pub number: u64,
    /// Which digest key made the fingerprint.
    pub key: String,
    /// Keyed digest of the data.
    pub fingerprint: String,
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.number, self.key, self.fingerprint)
    }
}

/// Not a revision.
#[derive(Debug, PartialEq, Eq)]
pub struct NotARevision;

impl fmt::Display for NotARevision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a revision")
    }
}

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        let mut parts = text.splitn(3, '.');
        let number = parts.next().and_then(|part| part.parse().ok()).ok_or(NotARevision)?;
        let (key, fingerprint) = parts.next().zip(parts.next()).ok_or(NotARevision)?;
        Ok(Self { number, key: key.to_owned(), fingerprint: fingerprint.to_owned() })
    }
}

/// The last change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The revision that brought it.
    #[serde(with = "text")]
    pub revision: Revision,
    /// When it was written, to the second.
    pub at: Timestamp,
    /// Whether the key came with the first sync: that rolls only pods which
    /// run without it, because their reference is optional.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    /// Whether the key is new: it rolls no pod that names and needs it, because
    /// none can have begun without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
    /// Where the change took an earlier value back: pods that began before this
    /// hold that value already, unless one of their containers was started later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_before: Option<Timestamp>,
}

/// The value that a key had before, beside it under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptValue {
    /// Keyed digest of the value, under that name.
    pub digest: String,
    /// It stays at least until then.
    pub until: Timestamp,
}

/// A value that was taken back because a workload failed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Its revision: data of that fingerprint is not written again.
    #[serde(with = "text")]
    pub revision: Revision,
}

/// When a value that ends, such as an access token, is to be had anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// From then on.
    pub due: Timestamp,
    /// Not later than this.
    pub ends: Timestamp,
}

/// What lies on the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The digest key that the digests were made with.
    pub digest_key: String,
    /// Revision of the data.
    #[serde(with = "text")]
    pub revision: Revision,
    /// When the Secret was made, if it was made here: every key that is not
    /// listed as changed dates from then.
    pub since: Option<Timestamp>,
    /// Keyed digest of each value.
    pub digests: BTreeMap<String, String>,
    /// Keys that changed since the Secret was made, also those that went.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<String, KeyChange>,
    /// Whether the last write left the data as it was, so that the times above
    /// are final and the API server's time of that write says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// The highest version applied of each remote secret that numbers them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, u64>,
    /// Keys whose new values roll nobody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub quiet: BTreeSet<String>,
    /// When a value ends that was written. Known only until a restart
    /// otherwise, and an interval of 0 brings no read before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// The value that this one took back, as long as the source gives no other.
    /// Written together with the data: nothing can separate the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
    /// Values that keys had before, by the key under which each lies. No workload
    /// rolls for them: they are not among the digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, KeptValue>,
}

impl State {
    /// The state that an annotation holds; `None` where it holds none.
    #[must_use]
    pub fn parse(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }

    /// Whether writing `other` over this would say anything new. Final times
    /// are not news: they would cost a write for each restart.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.digest_key == other.digest_key
            && self.revision == other.revision
            && self.digests == other.digests
            && self.versions == other.versions
            && self.quiet == other.quiet
            && self.taken_back == other.taken_back
            && self.kept == other.kept
            && self.changed.keys().eq(other.changed.keys())
    }

    /// The digests that tell apart what rolls workloads.
    #[must_use]
    pub fn rolling_digests(&self) -> BTreeMap<String, String> {
        rolling_digests(&self.digests, &self.quiet)
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        // Maps with text keys and plain fields always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Digests in which a key that rolls nobody counts with its name alone.
#[must_use]
pub fn rolling_digests(digests: &BTreeMap<String, String>, quiet: &BTreeSet<String>) -> BTreeMap<String, String> {
    let told = |(key, digest): (&String, &String)| {
        let digest = if quiet.contains(key) { String::new() } else { digest.clone() };
        (key.clone(), digest)
    };
    digests.iter().map(told).collect()
}

/// Serialises through `Display` and `FromStr`.
mod serde_with_text {
    pub(super) mod text {
        use std::{fmt::Display, str::FromStr};

        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(value)
        }

        pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
        where
            T: FromStr,
            T::Err: Display,
            D: Deserializer<'de>,
        {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Revision, State};

    #[test]
    fn the_state_survives_the_annotation_and_anything_else_is_no_state() {
        let revision: Revision = "3.5f2a.9c81".parse().expect("a revision");
        assert_eq!(revision.to_string(), "3.5f2a.9c81");
        let state = State { revision, ..State::default() };
        assert_eq!(State::parse(&state.to_annotation()), Some(state));
        for text in ["", "{}", "[]", "{\"revision\":\"x\"}", "null"] {
            assert_eq!(State::parse(text), None, "{text}");
        }
    }
}

//! What the status keeps of one credential.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Keys, Place};
use crate::api::{DynamicRef, LeaseStatus, StoreKind, StoreRef};

/// How far a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its login is on record, and no more is sure.
    Issuing,
    /// The Secret holds its values.
    Live,
    /// Another took its place; pods may hold it still.
    Retiring,
}

impl Stage {
    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuing => "Issuing",
            Self::Live => "Live",
            Self::Retiring => "Retiring",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Issuing, Self::Live, Self::Retiring].into_iter().find(|stage| stage.name() == name)
    }
}

/// Which entry of the spec a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// One credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place under dataFrom when it was issued.
    pub index: usize,
    /// Keyed digest of what it was asked with.
    pub entry: Fingerprint,
    /// The store that it is from.
    pub store: StoreRef,
    /// That store's UID when it was issued. Nothing goes by it: a store that is
    /// made again under its name is the same one. It stays because the proofs
    /// of records that are out there cover it.
    pub store_uid: String,
    /// Names the login that it hangs on.
    pub accessor: String,
    /// Its lease; empty where it has none.
    pub lease: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// How long its login was good for at first, in seconds.
    pub login_seconds: u64,
    /// The same of itself.
    pub seconds: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// How far it is.
    pub stage: Stage,
    /// Where it retires: the number of the revision that took its place.
    pub replaced_by: u64,
    /// Where it retires: since when, by the API server's clock.
    pub retired: Option<Timestamp>,
    /// Every Secret that its values lay in. None in a record of a version that
    /// kept no account of it: its proof speaks of these fields only where they
    /// say something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Whether the spec named workloads meanwhile, which may use it unseen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// When the ServiceAccount's token ends that its login was made with, where
    /// that is renewed no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<Timestamp>,
    /// The last request for a rotation at once that was known when it was issued.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
}

impl Record {
    /// Whether there is anything to revoke.
    #[must_use]
    pub fn is_revocable(&self) -> bool {
        self.stage == Stage::Issuing || !self.lease.is_empty() || self.is_doubtful()
    }

    /// Whether its issue was cut off, so that nobody knows its lease, and its
    /// Secret is another by now: only what was replaced has a revision there.
    fn is_doubtful(&self) -> bool {
        self.stage == Stage::Retiring && self.replaced_by == 0
    }

    /// Its end as far as the record goes. Later renewals are not in it.
    #[must_use]
    pub fn first_end(&self) -> Timestamp {
        let seconds = if self.is_revocable() { self.seconds.min(self.login_seconds) } else { self.seconds };
        let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 4));
        self.issued.checked_add(life).unwrap_or(Timestamp::MAX)
    }

    /// How much of that is left.
    #[must_use]
    pub fn first_left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.first_end().duration_since(now)).unwrap_or(Duration::ZERO)
    }

    /// How long the token was good for that its login was made with, and how
    /// long it still is.
    #[must_use]
    pub fn token_life_and_left(&self, now: Timestamp) -> Option<(Duration, Duration)> {
        let ends = self.token_ends.filter(|_| !self.lease.is_empty())?;
        let until = |from: Timestamp| Duration::try_from(ends.duration_since(from)).unwrap_or_default();
        Some((until(self.issued), until(now)))
    }

    /// As the status keeps it for the BotSecret of this UID.
    #[must_use]
    pub fn to_status(&self, keys: &Keys, uid: &str) -> LeaseStatus {
        LeaseStatus {
            accessor: self.accessor.clone(),
            index: i32::try_from(self.index).unwrap_or(i32::MAX),
            entry: self.entry.0.clone(),
            store: self.store.clone(),
            store_uid: self.store_uid.clone(),
            lease: self.lease.clone(),
            issued: self.issued.to_string(),
            login_seconds: i64::try_from(self.login_seconds).unwrap_or(i64::MAX),
            seconds: i64::try_from(self.seconds).unwrap_or(i64::MAX),
            renewable: self.renewable,
            state: self.stage.name().to_owned(),
            replaced_by: i64::try_from(self.replaced_by).unwrap_or(i64::MAX),
            retired: self.retired.map(|at| at.to_string()),
            secrets: self.places.iter().map(Place::to_status).collect(),
            unseen: self.unseen,
            token_ends: self.token_ends.map(|at| at.to_string()),
            request: self.request.clone(),
            mac: keys.mac(uid, self),
        }
    }

    /// The record of the BotSecret of this UID that a status holds. `None` for
    /// anything that this installation did not write there for this object.
    #[must_use]
    pub fn from_status(status: &LeaseStatus, keys: &Keys, uid: &str) -> Option<Self> {
        let time = |text: &Option<String>| match text {
            Some(text) => text.parse().ok().map(Some),
            None => Some(None),
        };
        let record = Self {
            index: usize::try_from(status.index).ok()?,
            entry: Fingerprint(status.entry.clone()),
            store: status.store.clone(),
            store_uid: status.store_uid.clone(),
            accessor: status.accessor.clone(),
            lease: status.lease.clone(),
            issued: status.issued.parse().ok()?,
            login_seconds: u64::try_from(status.login_seconds).ok()?,
            seconds: u64::try_from(status.seconds).ok()?,
            renewable: status.renewable,
            stage: Stage::from_name(&status.state)?,
            replaced_by: u64::try_from(status.replaced_by).ok()?,
            retired: time(&status.retired)?,
            places: status.secrets.iter().map(Place::from_status).collect::<Option<_>>()?,
            unseen: status.unseen,
            token_ends: time(&status.token_ends)?,
            request: status.request.clone(),
        };
        keys.proves(uid, &record, &status.mac).then_some(record)
    }
}

impl Fingerprint {
    /// Of what is asked of a store for one entry, as this ServiceAccount. A
    /// store or an account that is deleted and made again is the same one.
    #[must_use]
    pub fn of(keys: &Keys, store: &StoreRef, account: &str, asked: &DynamicRef) -> Self {
        let kind = match store.kind.unwrap_or_default() {
            StoreKind::BotSecretStore => "BotSecretStore",
            StoreKind::ClusterBotSecretStore => "ClusterBotSecretStore",
        };
        let method = asked.method.unwrap_or_default() as u8;
        let mut parts: Vec<&[u8]> = vec![b"entry", kind.as_bytes(), store.name.as_bytes(), account.as_bytes()];
        let method = [method];
        parts.extend([asked.path.as_bytes(), &method]);
        for (name, value) in &asked.parameters {
            parts.extend([name.as_bytes(), value.as_bytes()]);
        }
        // Said only where it is asked for: entries of earlier versions stay as they were.
        if let Some(alternate) = &asked.alternate {
            parts.extend([b"alternate".as_slice(), alternate.as_bytes()]);
        }
        Self(keys.tag(&parts))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;

    use super::{Fingerprint, Place, Record, Stage};
    use crate::{
        api::{DynamicMethod, DynamicRef, LeaseStatus, StoreKind, StoreRef},
        build::DigestKey,
        leases::Keys,
    };

    pub(in crate::leases) fn record() -> Record {
        Record {
            index: 2,
            entry: Fingerprint("entry".into()),
            store: StoreRef { name: "vault".into(), kind: None },
            store_uid: "store".into(),
            accessor: "accessor".into(),
            lease: "database/creds/bot/x".into(),
            issued: Timestamp::from_second(1_000_000).expect("a time"),
            login_seconds: 30,
            seconds: 3600,
            renewable: true,
            stage: Stage::Live,
            replaced_by: 0,
            retired: None,
            places: vec![Place::at("db")],
            unseen: false,
            token_ends: None,
            request: String::new(),
        }
    }

    pub(in crate::leases) fn keys(byte: u8) -> Keys {
        Keys::of(&DigestKey::from_bytes(&[byte; 32]).expect("a key"))
    }

    #[test]
    fn a_record_survives_the_status() {
        let keys = keys(1);
        for stage in [Stage::Issuing, Stage::Live, Stage::Retiring] {
            let retired = (stage == Stage::Retiring).then(Timestamp::now);
            let left = Place { secret: "old".into(), replaced: retired, after: Some(6) };
            let record = Record {
                stage,
                retired,
                replaced_by: 7,
                places: vec![Place::at("db"), left],
                unseen: true,
                token_ends: retired,
                request: "1".into(),
                ..record()
            };
            assert_eq!(Record::from_status(&record.to_status(&keys, "uid"), &keys, "uid"), Some(record));
        }
    }

    #[test]
    fn p5_a_record_of_another_object_or_installation_is_none() {
        let status = record().to_status(&keys(1), "uid");
        assert!(Record::from_status(&status, &keys(1), "uid").is_some());
        assert_eq!(Record::from_status(&status, &keys(1), "other"), None);
        assert_eq!(Record::from_status(&status, &keys(2), "uid"), None);
    }

    type Edit = fn(&mut LeaseStatus);

    #[test]
    fn p5_every_field_that_is_edited_makes_a_record_none() {
        let keys = keys(1);
        let edits: [Edit; 23] = [
            |status| status.accessor = "accessorx".into(),
            |status| status.index = 3,
            |status| status.entry = "other".into(),
            |status| status.store.name = "other".into(),
            |status| status.store_uid = "other".into(),
            |status| status.lease = "database/creds/other/y".into(),
            |status| status.issued = "2026-01-01T00:00:00Z".into(),
            |status| status.login_seconds = 31,
            |status| status.seconds = 1,
            |status| status.renewable = false,
            |status| status.state = "Retiring".into(),
            |status| status.replaced_by = 1,
            |status| status.retired = Some("2026-01-01T00:00:00Z".into()),
            |status| status.secrets.clear(),
            |status| status.secrets[0].name = "other".into(),
            |status| status.secrets[0].replaced = Some("2026-01-01T00:00:00Z".into()),
            |status| status.secrets[0].after = Some(1),
            |status| status.secrets[0].after = Some(-1),
            |status| status.secrets.push(status.secrets[0].clone()),
            |status| status.unseen = true,
            |status| status.token_ends = Some("2036-01-01T00:00:00Z".into()),
            |status| status.request = "1".into(),
            |status| status.mac = String::new(),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut status = record().to_status(&keys, "uid");
            edit(&mut status);
            assert_eq!(Record::from_status(&status, &keys, "uid"), None, "edit {number}");
        }
    }

    /// As the version before wrote it, with that version's proof.
    #[test]
    fn p7_a_record_of_a_version_without_places_is_proven_and_where_it_lay_is_not_known() {
        let keys = keys(1);
        let json = r#"{"index":2,"entry":"entry","store":{"name":"vault"},"store_uid":"store","accessor":"accessor","lease":"database/creds/bot/x","issued":"1970-01-12T13:46:40Z","login_seconds":30,"seconds":3600,"renewable":true,"stage":"Live","replaced_by":0,"retired":null}"#;
        let old = Record { places: Vec::new(), ..record() };
        assert_eq!(serde_json::to_string(&old).expect("JSON"), json);
        assert_eq!(serde_json::from_str::<Record>(json).expect("a record"), old);
        assert_eq!(Record::from_status(&old.to_status(&keys, "uid"), &keys, "uid"), Some(old));
    }

    #[test]
    fn p7_an_issue_that_was_cut_off_is_revoked_by_its_login_whatever_became_of_its_secret() {
        let of = |stage, lease: &str, replaced_by| Record { stage, lease: lease.into(), replaced_by, ..record() };
        assert!(of(Stage::Issuing, "", 0).is_revocable());
        assert!(of(Stage::Retiring, "", 0).is_revocable(), "its Secret was written meanwhile");
        assert!(of(Stage::Retiring, "database/creds/bot/x", 7).is_revocable());
        assert!(!of(Stage::Retiring, "", 7).is_revocable(), "a certificate has no lease");
        assert!(!of(Stage::Live, "", 0).is_revocable());
    }

    #[test]
    fn an_entry_is_known_by_everything_that_is_asked_and_by_who_asks() {
        let keys = keys(1);
        let store = StoreRef { name: "vault".into(), kind: None };
        let asked = DynamicRef { path: "database/creds/bot".into(), ..DynamicRef::default() };
        let base = Fingerprint::of(&keys, &store, "bot", &asked);
        let said = StoreRef { kind: Some(StoreKind::BotSecretStore), ..store.clone() };
        assert_eq!(base, Fingerprint::of(&keys, &said, "bot", &asked), "the kind is the default");
        let of_all = StoreRef { kind: Some(StoreKind::ClusterBotSecretStore), ..store.clone() };
        let posted = DynamicRef { method: Some(DynamicMethod::Post), ..asked.clone() };
        let mut parameters = posted.clone();
        parameters.parameters.insert("ttl".into(), "1h".into());
        let elsewhere = DynamicRef { path: "database/creds/bots".into(), ..asked.clone() };
        let in_turns = DynamicRef { alternate: Some("database/creds/bot2".into()), ..asked.clone() };
        let others = [
            Fingerprint::of(&keys, &StoreRef { name: "other".into(), kind: None }, "bot", &asked),
            Fingerprint::of(&keys, &of_all, "bot", &asked),
            Fingerprint::of(&keys, &store, "bot2", &asked),
            Fingerprint::of(&keys, &store, "bot", &posted),
            Fingerprint::of(&keys, &store, "bot", &parameters),
            Fingerprint::of(&keys, &store, "bot", &elsewhere),
            Fingerprint::of(&keys, &store, "bot", &in_turns),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    proptest! {
        /// Lengths lead the parts, so no two records have one MAC.
        #[test]
        fn p5_moving_a_boundary_between_two_fields_is_an_edit(accessor in "[a-z/]{1,12}", lease in "[a-z/]{1,12}") {
            let keys = keys(1);
            let one = Record { accessor: format!("{accessor}{lease}"), lease: String::new(), ..record() };
            let other = Record { accessor, lease, ..record() };
            prop_assert_ne!(keys.mac("uid", &one), keys.mac("uid", &other));
        }
    }
}

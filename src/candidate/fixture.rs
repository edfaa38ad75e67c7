//! A BotSecret and the data that its tests try.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Trial;
use crate::{
    api::BotSecret,
    apply::Desired,
    secret::{SecretBytes, SecretData},
};

pub(super) struct Fixture {
    object: BotSecret,
    desired: Desired,
}

impl Fixture {
    /// With this under `verify` and this data.
    pub(super) fn new(verify: &Value, data: &[(&str, &[u8])]) -> Self {
        let object: BotSecret = serde_json::from_value(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
            "metadata": { "name": "bot", "namespace": "trading", "uid": "b", "generation": 3 },
            "spec": { "serviceAccountName": "price-bot", "verify": verify },
        }))
        .expect("a BotSecret");
        let data: SecretData =
            data.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec()))).collect();
        let desired = Desired::new(&object, data, BTreeMap::new(), BTreeMap::new()).expect("it has a UID");
        Self { object, desired }
    }

    pub(super) fn trial(&self) -> Trial<'_> {
        let verify = self.object.spec.verify.as_ref().expect("it is asked for");
        Trial { object: &self.object, verify, desired: &self.desired, fingerprint: "new" }
    }
}

//! Which Secrets, and which of their keys, a pod uses.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

/// A set of keys of one Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySet {
    /// No key.
    #[default]
    Nothing,
    /// These keys.
    Some(BTreeSet<String>),
    /// Whatever keys there are.
    All,
}

impl KeySet {
    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(keys) => keys.contains(key),
            Self::All => true,
        }
    }

    fn add(&mut self, keys: KeySet) {
        *self = match (std::mem::take(self), keys) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Some(mut ours), Self::Some(mut theirs)) => {
                ours.append(&mut theirs);
                Self::Some(ours)
            }
        };
    }
}

/// How a pod uses one Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The Secret.
    pub secret: String,
    /// Keys without which the pod does not start.
    pub required: KeySet,
    /// Keys that it starts without.
    pub optional: KeySet,
}

impl SecretUse {
    /// Those of a Secret's digests whose keys the pod uses.
    #[must_use]
    pub fn used_of(&self, digests: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        digests.iter().filter(|(key, _)| self.uses(key)).map(|(key, digest)| (key.clone(), digest.clone())).collect()
    }

    /// Whether the pod uses `key` in either way.
    #[must_use]
    pub fn uses(&self, key: &str) -> bool {
        self.required.contains(key) || self.optional.contains(key)
    }
}

/// The part of a pod's spec that can refer to Secrets. Everything else of the
/// spec is dropped while it is decoded. `imagePullSecrets` is left out on
/// purpose: they are read at every pull and roll nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsesSecrets {
    #[serde(deserialize_with = "null_is_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<EnvVar>,
    #[serde(deserialize_with = "null_is_default")]
    env_from: Vec<EnvFrom>,
    #[serde(deserialize_with = "null_is_default")]
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeMount {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    sub_path: String,
    #[serde(deserialize_with = "null_is_default")]
    sub_path_expr: String,
}

impl VolumeMount {
    /// The file of a whole Secret that alone is mounted: a path's first part.
    /// `None` where that cannot be told. `..data` is how a volume keeps all of
    /// them.
    fn key(&self) -> Option<&str> {
        let mut parts = self.sub_path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.next().filter(|part| self.sub_path_expr.is_empty() && !part.starts_with(".."))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvVar {
    value_from: Option<ValueFrom>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<KeyRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KeyRef {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    key: String,
    #[serde(deserialize_with = "null_is_default")]
    optional: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    secret_ref: Option<SecretSource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    secret: Option<SecretSource>,
    projected: Option<Projected>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Projected {
    #[serde(deserialize_with = "null_is_default")]
    sources: Vec<Projection>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Projection {
    secret: Option<SecretSource>,
}

/// `envFrom`, volumes and projections name the Secret differently but mean the
/// same: all of it, or the items listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretSource {
    #[serde(alias = "secretName", deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    items: Vec<Item>,
    #[serde(deserialize_with = "null_is_default")]
    optional: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(deserialize_with = "null_is_default")]
    key: String,
}

impl SecretSource {
    fn keys(&self) -> KeySet {
        if self.items.is_empty() {
            KeySet::All
        } else {
            KeySet::Some(self.items.iter().map(|item| item.key.clone()).collect())
        }
    }
}

impl UsesSecrets {
    fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain(&self.init_containers).chain(&self.ephemeral_containers)
    }

    /// The keys of a whole Secret's volume that are mounted, where no container
    /// mounts more of it than single files.
    fn mounted_keys(&self, volume: &Volume) -> Option<BTreeSet<String>> {
        if volume.secret.as_ref().is_none_or(|source| !source.items.is_empty()) {
            return None;
        }
        let mounts = self.all_containers().flat_map(|container| &container.volume_mounts);
        let mounts = mounts.filter(|mount| mount.name == volume.name);
        let keys: BTreeSet<String> = mounts.map(|mount| mount.key().map(str::to_owned)).collect::<Option<_>>()?;
        Some(keys).filter(|keys| !keys.is_empty())
    }
}

/// Go clients write fields without `omitempty` as null: a projected volume
/// without sources comes as `"sources": null`. One that could not be decoded
/// would stop the watch for everybody.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One entry a Secret, by name.
#[must_use]
pub fn uses_of(pod: &UsesSecrets) -> Vec<SecretUse> {
    let mut found: BTreeMap<&str, (KeySet, KeySet)> = BTreeMap::new();
    let mut add = |secret, keys, optional| {
        let (needed, wanted) = found.entry(secret).or_default();
        if optional { wanted.add(keys) } else { needed.add(keys) }
    };
    for container in pod.all_containers() {
        for reference in container.env.iter().filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref()) {
            let keys = KeySet::Some(BTreeSet::from([reference.key.clone()]));
            add(&reference.name, keys, reference.optional);
        }
        for source in container.env_from.iter().filter_map(|from| from.secret_ref.as_ref()) {
            add(&source.name, source.keys(), source.optional);
        }
    }
    for volume in &pod.volumes {
        if let Some((source, keys)) = volume.secret.as_ref().zip(pod.mounted_keys(volume)) {
            // The pod begins also without a file that it mounts so, but not
            // without the Secret.
            add(&source.name, KeySet::Some(BTreeSet::new()), source.optional);
            add(&source.name, KeySet::Some(keys), true);
            continue;
        }
        let projections = volume.projected.iter().flat_map(|projected| &projected.sources);
        for source in volume.secret.iter().chain(projections.filter_map(|projection| projection.secret.as_ref())) {
            add(&source.name, source.keys(), source.optional);
        }
    }
    found
        .into_iter()
        .map(|(secret, (required, optional))| SecretUse { secret: secret.to_owned(), required, optional })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{KeySet, uses_of};

    #[test]
    fn p6_nulls_where_lists_belong_are_empty_lists() {
        let pod = serde_json::json!({
            "containers": [{"name": "c", "env": null, "envFrom": null}],
            "initContainers": null,
            "volumes": [{"name": "x", "projected": {"sources": null}}, {"name": "y", "projected": {}, "secret": null}],
        });
        assert!(uses_of(&serde_json::from_value(pod).expect("a pod")).is_empty());
        assert!(
            uses_of(&serde_json::from_value(serde_json::json!({"containers": null, "volumes": null})).expect("a pod"))
                .is_empty()
        );
    }

    #[test]
    fn every_way_to_use_a_secret_is_seen_and_image_pull_secrets_are_not() {
        let pod = serde_json::json!({
            "containers": [{"name": "c", "env": [
                {"name": "A", "value": "plain"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "by-env", "key": "b"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "by-env", "key": "c", "optional": true}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]}],
            "initContainers": [
                {"name": "i", "envFrom": [{"secretRef": {"name": "by-env-from"}}, {"configMapRef": {"name": "x"}}]},
                {"name": "sidecar", "restartPolicy": "Always", "envFrom": [{"secretRef": {"name": "by-sidecar", "optional": true}}]},
            ],
            "ephemeralContainers": [{
                "name": "debug",
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "debugged", "key": "x"}}}],
                "envFrom": [{"secretRef": {"name": "debugged-whole"}}],
            }],
            "volumes": [
                {"name": "v", "secret": {"secretName": "by-volume", "items": [{"key": "tls.crt", "path": "crt"}]}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "by-projection"}}, {"configMap": {"name": "y"}}]}},
                {"name": "e", "emptyDir": {}},
            ],
            "imagePullSecrets": [{"name": "pull"}],
        });
        let uses = uses_of(&serde_json::from_value(pod).expect("a pod"));
        let names: Vec<_> = uses.iter().map(|found| found.secret.as_str()).collect();
        assert_eq!(
            names,
            ["by-env", "by-env-from", "by-projection", "by-sidecar", "by-volume", "debugged", "debugged-whole"]
        );
        assert!(uses[0].required.contains("b") && !uses[0].required.contains("c"));
        assert!(uses[0].optional.contains("c") && !uses[0].uses("d"));
        assert_eq!(uses[1].required, KeySet::All);
        assert_eq!((&uses[3].required, &uses[3].optional), (&KeySet::Nothing, &KeySet::All));
        assert!(uses[4].uses("tls.crt") && !uses[4].uses("tls.key"));
        assert!(uses[5].uses("x") && !uses[5].uses("y"));
        assert_eq!(uses[6].required, KeySet::All);
    }

    /// What it is, containers, init containers, and the keys used; `None` for all.
    type Case<'a> = (&'a str, &'a [Value], &'a [Value], Option<&'a [&'a str]>);

    #[test]
    fn p3_a_whole_secrets_volume_is_used_in_part_where_each_mount_takes_a_file() {
        let one = |mount: Value| json!({"name": "c", "volumeMounts": [mount]});
        let by = |path: &str| one(json!({"name": "v", "subPath": path}));
        let by_expression = one(json!({"name": "v", "subPathExpr": "$(KEY)"}));
        let whole = one(json!({"name": "v"}));
        let cases: &[Case<'_>] = &[
            ("one file", &[by("a")], &[], Some(&["a"])),
            ("two files", &[by("a"), by("b")], &[], Some(&["a", "b"])),
            ("also in an init container", &[by("a")], &[by("b")], Some(&["a", "b"])),
            ("a path", &[by("a/deeper"), by("./b/")], &[], Some(&["a", "b"])),
            ("another volume beside it", &[by("a"), one(json!({"name": "w"}))], &[], Some(&["a"])),
            ("whole in one container", &[by("a"), whole.clone()], &[], None),
            ("whole in an init container", &[by("a")], std::slice::from_ref(&whole), None),
            ("by an expression", &[by("a"), by_expression], &[], None),
            ("an empty path", &[by("")], &[], None),
            ("the volume's own folder", &[by("a"), by(".")], &[], None),
            ("what the volume keeps its files in", &[by("..data/b")], &[], None),
            ("not mounted at all", &[one(json!({"name": "w"}))], &[], None),
        ];
        for (what, containers, init, wanted) in cases {
            for optional in [false, true] {
                let pod = json!({
                    "containers": containers, "initContainers": init,
                    "volumes": [
                        {"name": "v", "secret": {"secretName": "s", "optional": optional}},
                        {"name": "w", "emptyDir": {}},
                    ],
                });
                let uses = uses_of(&serde_json::from_value(pod).expect("a pod"));
                let [found] = uses.as_slice() else { panic!("{what}: {uses:?}") };
                let used: Vec<_> = ["a", "b", "c"].into_iter().filter(|key| found.uses(key)).collect();
                assert_eq!(used, wanted.unwrap_or(&["a", "b", "c"]), "{what}");
                assert_eq!(found.required == KeySet::Nothing, optional, "{what}: the Secret itself is needed");
                let waits = wanted.is_none() && !optional;
                assert_eq!(found.required.contains("a"), waits, "{what}: a pod begins without the file");
            }
        }
    }

    #[test]
    fn a_debug_container_that_mounts_the_whole_volume_uses_all_of_it() {
        let pod = json!({
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "subPath": "a"}]}],
            "ephemeralContainers": [{"name": "d", "volumeMounts": [{"name": "v"}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        });
        let uses = uses_of(&serde_json::from_value(pod).expect("a pod"));
        assert_eq!(uses[0].required, KeySet::All);
    }

    #[test]
    fn p3_items_and_projections_are_used_as_before_whatever_is_mounted_of_them() {
        let pod = json!({
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "subPath": "x"}, {"name": "p", "subPath": "x"}]}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "s", "items": [{"key": "a", "path": "x"}]}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "t"}}]}},
            ],
        });
        let uses = uses_of(&serde_json::from_value(pod).expect("a pod"));
        assert!(uses[0].required.contains("a") && !uses[0].uses("x"));
        assert_eq!(uses[1].required, KeySet::All);
    }
}

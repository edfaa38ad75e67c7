//! Who owns which field: `managedFields`, merge patches and server-side apply.
//! Lists count as one field, which is all that the operator's own writes need.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::clock;

/// Fields that are the API server's own.
const SYSTEM: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// A field's place: the names on the way to it.
type Path = Vec<String>;

/// Manager, operation, subresource.
type Owner = (String, &'static str, String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    fields: BTreeSet<Path>,
    time: String,
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(BTreeMap<Owner, Owned>);

impl Owners {
    /// As `managedFields` shows them.
    pub fn shown(&self, api_version: &str) -> Value {
        let entry = |((manager, operation, subresource), owned): (&Owner, &Owned)| {
            let mut entry = json!({
                "manager": manager, "operation": operation, "apiVersion": api_version,
                "time": owned.time, "fieldsType": "FieldsV1",
            });
            if !subresource.is_empty() {
                entry["subresource"] = json!(subresource);
            }
            entry
        };
        self.0.iter().map(entry).collect()
    }

    /// Notes a create, an update or a merge patch.
    pub fn updated(&mut self, manager: &str, subresource: &str, old: &Value, new: &Value) {
        let (old, new) = (leaves(old), leaves(new));
        let changed: BTreeSet<Path> =
            new.iter().filter(|(path, value)| old.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect();
        for owned in self.0.values_mut() {
            owned.fields.retain(|path| !changed.contains(path) && new.contains_key(path));
        }
        if !changed.is_empty() {
            let owner = (manager.to_owned(), "Update", subresource.to_owned());
            let owned =
                self.0.entry(owner).or_insert_with(|| Owned { fields: BTreeSet::new(), time: clock::wall_second() });
            owned.fields.extend(changed);
            owned.time = clock::wall_second();
        }
        self.0.retain(|_, owned| !owned.fields.is_empty());
    }

    /// Applies a configuration. Without `force`, fields that others own with
    /// another value are conflicts: how many.
    pub fn applied(&mut self, manager: &str, live: &Value, applied: &Value, force: bool) -> Result<Value, usize> {
        let owner = (manager.to_owned(), "Apply", String::new());
        let (has, wanted) = (leaves(live), leaves(applied));
        let differs = |path: &Path| has.contains_key(path) && has.get(path) != wanted.get(path);
        let others = |owners: &Self, path: &Path| {
            owners.0.iter().any(|(one, owned)| *one != owner && owned.fields.contains(path))
        };
        let conflicts: BTreeSet<&Path> = wanted.keys().filter(|path| differs(path) && others(self, path)).collect();
        if !force && !conflicts.is_empty() {
            return Err(conflicts.len());
        }
        let before = self.0.get(&owner).map(|owned| owned.fields.clone()).unwrap_or_default();
        for (one, owned) in &mut self.0 {
            if *one != owner {
                owned.fields.retain(|path| !conflicts.contains(path));
            }
        }
        let mut result = live.clone();
        for (path, value) in &wanted {
            set(&mut result, path, value.clone());
        }
        for path in before.iter().filter(|path| !wanted.contains_key(*path)) {
            if !others(self, path) {
                unset(&mut result, path);
            }
        }
        let fields: BTreeSet<Path> = wanted.keys().cloned().collect();
        if result != *live || fields != before {
            self.0.insert(owner, Owned { fields, time: clock::wall_second() });
        }
        self.0.retain(|_, owned| !owned.fields.is_empty());
        Ok(result)
    }
}

/// Every field with its value.
fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    collect(object, &mut Vec::new(), &mut found);
    found
}

fn collect(value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Object(fields) if path.is_empty() || !fields.is_empty() => {
            for (name, value) in fields {
                let top = path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind");
                if top || (path.len() == 1 && path[0] == "metadata" && SYSTEM.contains(&name.as_str())) {
                    continue;
                }
                path.push(name.clone());
                collect(value, path, found);
                path.pop();
            }
        }
        Value::Null => {}
        value => drop(found.insert(path.clone(), value.clone())),
    }
}

fn set(object: &mut Value, path: &[String], value: Value) {
    match path {
        [] => *object = value,
        [first, rest @ ..] => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            set(&mut object[first.as_str()], rest, value);
        }
    }
}

/// Takes the field away, and the maps that are empty without it.
fn unset(object: &mut Value, path: &[String]) {
    let Some(fields) = object.as_object_mut() else { return };
    match path {
        [] => {}
        [last] => drop(fields.remove(last)),
        [first, rest @ ..] => {
            if let Some(inner) = fields.get_mut(first) {
                unset(inner, rest);
                if inner.as_object().is_some_and(Map::is_empty) {
                    fields.remove(first);
                }
            }
        }
    }
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        if value.is_null() {
            if let Some(fields) = target.as_object_mut() {
                fields.remove(name);
            }
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

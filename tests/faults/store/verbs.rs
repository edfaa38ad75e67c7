//! What each verb does to an object.

use serde_json::{Value, json};

use super::{
    super::clock,
    Actor, Answer, Inner, Key, Refusal, Request, Store, Verb,
    fields::{Owners, merge},
    list::shown,
};

/// Of metadata, what no writer sets once an object is there.
const FIXED: [&str; 7] =
    ["uid", "name", "namespace", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"];

impl Store {
    pub fn respond(&self, request: &Request, by: Actor) -> Answer {
        let answer = self.lock().respond(request, by);
        if request.verb.writes() {
            self.wake();
        }
        answer.unwrap_or_else(Answer::from)
    }
}

impl Inner {
    fn respond(&mut self, request: &Request, by: Actor) -> Result<Answer, Refusal> {
        match request.verb {
            Verb::List => self.list(request),
            Verb::Watch => self.watch(request).map(|watch| Answer::Watch(Box::new(watch))),
            Verb::Get => {
                let found = self.objects.get(&request.key());
                let found = found.ok_or_else(|| Refusal::missing(request.kind, &request.name))?;
                Ok(Answer::Object(200, shown(&found.value, request.metadata_only)))
            }
            Verb::Create if request.subresource == "token" => self.token(request),
            Verb::Create => self.create(request, request.object()?, by),
            Verb::Update | Verb::MergePatch | Verb::Apply => self.change(request, by),
            Verb::Delete => self.delete(request, by),
        }
    }

    /// A ServiceAccount's token. Nothing is kept of it.
    fn token(&mut self, request: &Request) -> Result<Answer, Refusal> {
        if !self.objects.contains_key(&request.key()) {
            return Err(Refusal::missing(request.kind, &request.name));
        }
        let mut answer = request.object()?;
        let seconds = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        let ends = clock::wall() + std::time::Duration::from_secs(seconds.unsigned_abs());
        let token = format!("token-of-{}", request.name);
        answer["status"] = json!({ "token": token, "expirationTimestamp": ends.to_string() });
        Ok(Answer::Object(201, answer))
    }

    fn create(&mut self, request: &Request, mut object: Value, by: Actor) -> Result<Answer, Refusal> {
        let mut key = request.key();
        if let Some(name) = object["metadata"]["name"].as_str() {
            name.clone_into(&mut key.name);
        }
        if let Some(namespace) = object["metadata"]["namespace"].as_str()
            && namespace != key.namespace
        {
            return Err(Refusal::bad("the namespace of the object does not match the namespace of the request"));
        }
        if key.name.is_empty() {
            return Err(Refusal::invalid(&key, "metadata.name: Required value: name or generateName is required"));
        }
        if self.objects.contains_key(&key) {
            return Err(Refusal::exists(&key));
        }
        let kind = key.kind();
        if kind.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        object["metadata"]["name"] = json!(key.name);
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(key.namespace);
        }
        object["metadata"]["uid"] = json!(self.new_uid());
        object["metadata"]["creationTimestamp"] = json!(clock::wall_second());
        if kind.generation {
            object["metadata"]["generation"] = json!(1);
        }
        if kind.plural == "secrets" && object["type"].is_null() {
            object["type"] = json!("Opaque");
        }
        let mut owners = Owners::default();
        if request.verb == Verb::Apply {
            let applied = request.object()?;
            let _ = owners.applied(&request.manager(), &json!({}), &applied, true);
        } else {
            owners.updated(&request.manager(), "", &json!({}), &object);
        }
        if let Some(status) = kind.unobserved() {
            object["status"] = status;
        }
        let made = self.put(&key, object, owners, by);
        Ok(Answer::Object(201, shown(&made, request.metadata_only)))
    }

    /// PUT and both kinds of PATCH.
    fn change(&mut self, request: &Request, by: Actor) -> Result<Answer, Refusal> {
        let key = request.key();
        let body = request.object()?;
        if request.verb == Verb::Apply && request.asked("fieldManager").is_none() {
            return Err(Refusal::invalid(&key, "fieldManager: Required value: is required for apply patch"));
        }
        let Some(entry) = self.objects.get(&key) else {
            if request.verb == Verb::Apply && request.subresource.is_empty() {
                if body["metadata"]["uid"].is_string() {
                    return Err(Refusal::conflict(
                        &key,
                        "uid mismatch: the provided object specified a uid, and no existing object was found",
                    ));
                }
                return self.create(request, body, by);
            }
            return Err(Refusal::missing(request.kind, &key.name));
        };
        let (live, mut owners) = (entry.value.clone(), entry.owners.clone());
        preconditions(&key, &live, &body["metadata"], request)?;
        if request.verb == Verb::Update && !key.kind().unconditional && !body["metadata"]["resourceVersion"].is_string()
        {
            return Err(Refusal::invalid(
                &key,
                "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
            ));
        }
        let mut old = Value::clone(&live);
        if let Some(metadata) = old["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let mut new = match request.verb {
            Verb::Update => body.clone(),
            Verb::MergePatch => {
                let mut new = old.clone();
                merge(&mut new, &body);
                new
            }
            _ => owners.applied(&request.manager(), &old, &body, request.asked("force") == Some("true")).map_err(
                |conflicts| {
                    let noun = if conflicts == 1 { "conflict" } else { "conflicts" };
                    Refusal::new(409, "Conflict", format!("Apply failed with {conflicts} {noun}"))
                },
            )?,
        };
        self.keep_what_is_fixed(&key, &old, &mut new, &request.subresource)?;
        if request.verb != Verb::Apply {
            owners.updated(&request.manager(), &request.subresource, &old, &new);
        }
        let unchanged = new == old;
        if unchanged
            && (request.verb != Verb::Apply || self.objects.get(&key).is_some_and(|entry| entry.owners == owners))
        {
            return Ok(Answer::Object(200, shown(&live, request.metadata_only)));
        }
        if new["metadata"]["deletionTimestamp"].is_string() && has_no_finalizers(&new) {
            self.remove(&key, by);
            new["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
            return Ok(Answer::Object(200, shown(&new, request.metadata_only)));
        }
        let changed = self.put(&key, new, owners, by);
        Ok(Answer::Object(200, shown(&changed, request.metadata_only)))
    }

    /// Puts back what this request may not change, and counts what it did.
    #[allow(clippy::unused_self, reason = "reads as the others do")]
    fn keep_what_is_fixed(&self, key: &Key, old: &Value, new: &mut Value, subresource: &str) -> Result<(), Refusal> {
        let kind = key.kind();
        if subresource == "status" {
            let status = new["status"].take();
            *new = old.clone();
            new["status"] = status;
        } else if kind.status
            && let Some(fields) = new.as_object_mut()
        {
            fields.remove("status");
            if let Some(status) = old.get("status") {
                fields.insert("status".to_owned(), status.clone());
            }
        }
        new["apiVersion"] = json!(kind.api_version());
        new["kind"] = json!(kind.kind);
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if let Some(metadata) = new["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            for name in FIXED {
                match old["metadata"].get(name) {
                    Some(value) => drop(metadata.insert(name.to_owned(), value.clone())),
                    None => drop(metadata.remove(name)),
                }
            }
            for name in ["annotations", "labels", "ownerReferences", "finalizers"] {
                let empty = |value: &Value| {
                    value.is_null()
                        || value.as_object().is_some_and(serde_json::Map::is_empty)
                        || value.as_array().is_some_and(Vec::is_empty)
                };
                if metadata.get(name).is_some_and(empty) {
                    metadata.remove(name);
                }
            }
        }
        if kind.plural == "secrets" {
            if new["type"].is_null() {
                new["type"] = json!("Opaque");
            }
            if new["type"] != old["type"] {
                return Err(Refusal::invalid(key, "type: Invalid value: field is immutable"));
            }
        }
        if kind.generation && (new["spec"] != old["spec"]) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + 1);
        }
        Ok(())
    }

    fn delete(&mut self, request: &Request, by: Actor) -> Result<Answer, Refusal> {
        let key = request.key();
        let options = if request.body.is_empty() { json!({}) } else { request.object()? };
        let Some(entry) = self.objects.get(&key) else { return Err(Refusal::missing(request.kind, &key.name)) };
        let (live, owners) = (entry.value.clone(), entry.owners.clone());
        for (name, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            if let Some(wanted) = options["preconditions"][name].as_str()
                && live["metadata"][name] != wanted
            {
                let is = live["metadata"][name].as_str().unwrap_or_default();
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been deleted and then recreated"
                );
                return Err(Refusal::conflict(&key, &why));
            }
        }
        if !has_no_finalizers(&live) {
            if live["metadata"]["deletionTimestamp"].is_string() {
                return Ok(Answer::Object(200, shown(&live, request.metadata_only)));
            }
            let mut ending = Value::clone(&live);
            if let Some(metadata) = ending["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            ending["metadata"]["deletionTimestamp"] = json!(clock::wall_second());
            ending["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if let Some(generation) = ending["metadata"]["generation"].as_i64() {
                ending["metadata"]["generation"] = json!(generation + 1);
            }
            let ending = self.put(&key, ending, owners, by);
            return Ok(Answer::Object(200, shown(&ending, request.metadata_only)));
        }
        self.remove(&key, by);
        let mut details = json!({ "name": key.name, "kind": request.kind.plural, "uid": live["metadata"]["uid"] });
        if !request.kind.group.is_empty() {
            details["group"] = json!(request.kind.group);
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Ok(Answer::Object(200, status))
    }
}

fn has_no_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// What the body names of the object as it is to be found. A PATCH that names
/// another UID is taken for an attempt to change it, and a status has no UID of
/// its own to be wrong.
fn preconditions(key: &Key, live: &Value, named: &Value, request: &Request) -> Result<(), Refusal> {
    if let Some(version) = named["resourceVersion"].as_str().filter(|version| !version.is_empty())
        && live["metadata"]["resourceVersion"] != version
    {
        return Err(Refusal::modified(key));
    }
    let uid = named["uid"].as_str().filter(|uid| !uid.is_empty() && live["metadata"]["uid"] != *uid);
    match uid {
        None => Ok(()),
        Some(_) if request.subresource == "status" => Ok(()),
        Some(uid) if request.verb == Verb::Update => {
            let is = live["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}");
            Err(Refusal::conflict(key, &why))
        }
        Some(uid) => Err(Refusal::invalid(key, &format!("metadata.uid: Invalid value: {uid}: field is immutable"))),
    }
}

//! What Argo CD does with the Lua files: as its util/lua/lua.go runs them, and as its
//! server/application/application.go applies what an action returns.

use std::collections::BTreeMap;

use mlua::{Lua, LuaOptions, LuaSerdeExt as _, SerializeOptions, StdLib};
use serde::Deserialize;
use serde_json::Value;

pub const HEALTH: &str = include_str!("../../gitops/argocd/health.lua");
pub const DISCOVERY: &str = include_str!("../../gitops/argocd/actions/discovery.lua");
/// Each action, in the order in which argocd-cm.yaml has them.
pub const ACTIONS: [(&str, &str); 3] = [
    ("refresh", include_str!("../../gitops/argocd/actions/refresh.lua")),
    ("suspend", include_str!("../../gitops/argocd/actions/suspend.lua")),
    ("resume", include_str!("../../gitops/argocd/actions/resume.lua")),
];

/// What Argo CD shows of an object.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    pub status: String,
    pub message: String,
}

/// Runs a script with no library but the base one: of the others Argo CD gives it only
/// `table`, and of `os` the clock.
fn run(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).expect("Lua");
    // What is null is nil there.
    let options = SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    let object = lua.to_value_with(object, options).expect("a table");
    lua.globals().set("obj", object).expect("a global");
    let chunk = lua.load(script).into_function().unwrap_or_else(|error| panic!("{error}\n{script}"));
    let answer: mlua::Value = chunk.call(()).unwrap_or_else(|error| panic!("{error}\n{script}"));
    lua.from_value(answer).expect("JSON")
}

pub fn health(object: &Value) -> Health {
    serde_json::from_value(run(HEALTH, object)).expect("a health")
}

/// Which actions there are, and whether each is offered.
pub fn actions(object: &Value) -> BTreeMap<String, bool> {
    let found: BTreeMap<String, Value> = serde_json::from_value(run(DISCOVERY, object)).expect("actions by name");
    found.into_iter().map(|(name, action)| (name, action["disabled"] == Value::Bool(false))).collect()
}

/// What an action changes: the merge patch that Argo CD sends.
pub fn act(name: &str, object: &Value) -> Value {
    let (_, script) = ACTIONS.iter().find(|(known, _)| *known == name).expect("an action of this name");
    merge_patch(object, &run(script, object))
}

fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let gone = old.iter().filter(|(key, value)| !value.is_null() && !new.contains_key(*key));
    let gone = gone.map(|(key, _)| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, value)| {
        let change = old.get(key).map_or_else(|| value.clone(), |old| merge_patch(old, value));
        (key.clone(), change)
    });
    Value::Object(gone.chain(changed).collect())
}

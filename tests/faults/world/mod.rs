//! The world that the operator lives in: an API, controllers, a manager, and
//! people who act by a script.

pub mod controllers;
pub mod leases;
pub mod manager;
pub mod script;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

pub use self::{
    controllers::{Controllers, Start, data_of},
    leases::Leases,
    manager::Manager,
    script::{Act, Scenario},
};
use super::{
    clock,
    faults::Faults,
    store::{Store, Verb},
};

pub const NAMESPACE: &str = "trading";
pub const OPERATOR_NAMESPACE: &str = "botsecret-system";
pub const BOT_SECRET: &str = "price-bot";
pub const DEPLOYMENTS: [&str; 2] = ["web", "worker"];
const REPLICAS: u64 = 2;

/// From when on nothing may be written, and when the scenario ends: ten
/// refresh intervals later.
pub const IDLE_FROM: Duration = Duration::from_secs(500);
pub const END: Duration = Duration::from_secs(610);

/// Everything but the operator.
pub struct World {
    pub store: Store,
    pub controllers: Controllers,
    pub manager: Manager,
    pub scenario: Scenario,
    faults: Faults,
    acted: usize,
}

impl World {
    pub fn new(scenario: Scenario, faults: &Faults) -> Self {
        let store = Store::new();
        let make = |plural, namespace: &str, object: &Value| {
            drop(store.ask(Verb::Create, plural, (namespace, "", ""), object).granted());
        };
        make(
            "secrets",
            OPERATOR_NAMESPACE,
            &json!({
                "metadata": { "name": "botsecret-digest-key" }, "type": "botsecret.dev/digest-key",
                "data": { "key": STANDARD.encode([7; 32]) },
            }),
        );
        make("serviceaccounts", NAMESPACE, &json!({ "metadata": { "name": "bot" } }));
        make(
            "botsecretstores",
            NAMESPACE,
            // Opened by the test's own manager, whatever stands here.
            &json!({
                "metadata": { "name": "source" },
                "spec": { "kubernetes": { "remoteNamespace": "elsewhere" }, "allowRotation": true },
            }),
        );
        for name in DEPLOYMENTS {
            make("deployments", NAMESPACE, &deployment(name));
        }
        let bad = scenario.bad_version();
        let mut bot_secret = bot_secret();
        if bad.is_some() {
            bot_secret["spec"]["rollout"] = json!({ "onFailure": "RollBack" });
        }
        if scenario == Scenario::Made {
            let entry = |key: &str| json!({ "secretKey": key, "remoteRef": { "key": "price-bot", "property": key } });
            let spec = bot_secret["spec"].as_object_mut().expect("an object");
            spec.remove("dataFrom");
            spec.insert("data".to_owned(), json!([entry("KEY"), entry("TOKEN")]));
            let generate = json!([{ "secretKey": "TOKEN", "password": { "length": 16 } }]);
            spec.insert("rotation".to_owned(), json!({ "every": "8760h", "generate": generate }));
        }
        if scenario.is_leased() {
            bot_secret["spec"]["dataFrom"] = script::issued_by("first");
        }
        make("botsecrets", NAMESPACE, &bot_secret);
        let controllers = Controllers::new(bad.map(manager::fields));
        Self { store, controllers, manager: Manager::new(faults), scenario, faults: faults.clone(), acted: 0 }
    }

    /// Does what is due; answers when to be called again, if nothing changes.
    pub fn step(&mut self) -> Duration {
        let script = self.scenario.script();
        while let Some((_, act)) = script.get(self.acted).filter(|(at, _)| clock::elapsed() >= *at) {
            act.play(&self.store, &self.manager);
            self.acted += 1;
        }
        let script = script.get(self.acted).map_or(END, |(at, _)| *at);
        let controllers = self.controllers.step(&self.store);
        controllers.unwrap_or(END).min(script).min(END)
    }

    /// How many faults were met.
    pub fn fired(&self) -> usize {
        self.faults.fired()
    }

    /// What the target Secret holds.
    pub fn secret(&self) -> Option<BTreeMap<String, Vec<u8>>> {
        self.store.get("secrets", NAMESPACE, BOT_SECRET).map(|secret| data_of(&secret))
    }
}

/// What every scenario begins with.
fn bot_secret() -> Value {
    json!({
        "metadata": { "name": BOT_SECRET },
        "spec": {
            "serviceAccountName": "bot", "storeRef": { "name": "source" }, "refreshInterval": "10s",
            "dataFrom": [{ "extract": { "key": "price-bot" } }],
        },
    })
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{
                    "name": "bot", "image": "bot", "envFrom": [{ "secretRef": { "name": BOT_SECRET } }],
                }] },
            },
        },
    })
}

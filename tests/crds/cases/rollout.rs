//! Which workloads roll.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    bot_secret, case, with,
};

pub fn cases() -> Vec<Case> {
    let rollout = |name, rollout: Value, verdict| case(name, with(bot_secret(), &[("rollout", rollout)]), verdict);
    let selector =
        |name, selector: Value, verdict| rollout(name, json!({"workloads": "Selector", "selector": selector}), verdict);
    let list = json!([{"kind": "Deployment", "name": "a"}, {"kind": "StatefulSet", "name": "a"}]);
    vec![
        rollout("nothing said", json!({}), Accepted),
        rollout("nothing rolls", json!({"workloads": "None"}), Accepted),
        rollout("a list", json!({"workloads": "List", "list": list}), Accepted),
        rollout("List without a list", json!({"workloads": "List"}), Rule("workloads: List goes with list")),
        rollout("a list without List", json!({"list": list}), Rule("workloads: List goes with list")),
        rollout("an empty list", json!({"workloads": "List", "list": []}), Schema("should have at least 1 items")),
        rollout(
            "a Job",
            json!({"workloads": "List", "list": [{"kind": "Job", "name": "a"}]}),
            Schema("Unsupported value"),
        ),
        rollout(
            "Selector without a selector",
            json!({"workloads": "Selector"}),
            Rule("workloads: Selector goes with selector"),
        ),
        rollout(
            "a selector without Selector",
            json!({"workloads": "Auto", "selector": {"matchLabels": {"a": "b"}}}),
            Rule("workloads: Selector goes with selector"),
        ),
        selector("a selector of labels", json!({"matchLabels": {"a": "b"}}), Accepted),
        selector(
            "a selector of expressions",
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}),
            Accepted,
        ),
        selector("an empty selector", json!({}), Rule("would roll every workload")),
        selector(
            "a selector of nothing",
            json!({"matchLabels": {}, "matchExpressions": []}),
            Rule("would roll every workload"),
        ),
        selector(
            "In without values",
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            Rule("In and NotIn need values"),
        ),
        selector(
            "Exists with values",
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            Rule("In and NotIn need values"),
        ),
        selector(
            "an unknown operator",
            json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
            Schema("Unsupported value"),
        ),
    ]
}

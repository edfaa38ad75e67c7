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
        rollout(
            "Rollouts of Argo Rollouts",
            json!({"workloads": "List", "list": [{"kind": "Rollout", "name": "a"}],
                "canary": {"kind": "Rollout", "name": "a"}, "order": [{"kind": "Rollout", "name": "a",
                "after": [{"kind": "Deployment", "name": "a"}]}]}),
            Accepted,
        ),
        rollout(
            "a kind that Argo Rollouts has besides",
            json!({"canary": {"kind": "Experiment", "name": "a"}}),
            Schema("Unsupported value"),
        ),
        rollout("nothing rolls", json!({"workloads": "None"}), Accepted),
        rollout("what failed is taken back", json!({"onFailure": "RollBack"}), Accepted),
        rollout("another answer to a failure", json!({"onFailure": "Retry"}), Schema("Unsupported value")),
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
    .into_iter()
    .chain(strategy())
    .collect()
}

/// In which order, how many at a time, and when.
fn strategy() -> Vec<Case> {
    let rollout = |name, rollout: Value, verdict| case(name, with(bot_secret(), &[("rollout", rollout)]), verdict);
    let window = |name, window: Value, verdict| rollout(name, json!({"window": [window]}), verdict);
    let verify = |name, verify: Value, verdict| case(name, with(bot_secret(), &[("verify", verify)]), verdict);
    let order = |after: &str| json!({"order": [{"kind": "Deployment", "name": "a", "weight": 10, "after": [{"kind": "Deployment", "name": after}]}]});
    vec![
        rollout(
            "a whole strategy",
            json!({"maxConcurrent": 3, "canary": {"kind": "Deployment", "name": "a", "healthyFor": "2m"}, "healthyFor": "30s",
                "progressDeadline": "15m", "minInterval": "1h",
                "window": [{"schedule": "0 2 * * 1-5", "timeZone": "Europe/Berlin", "duration": "4h", "kind": "Allow"}]}),
            Accepted,
        ),
        rollout("nobody at once", json!({"maxConcurrent": 0}), Schema("should be greater than or equal to 1")),
        rollout("a watch of no time", json!({"healthyFor": "0s"}), Accepted),
        rollout("a watch in words", json!({"healthyFor": "a while"}), Rule("write a duration of at most 24h")),
        rollout(
            "a deadline that nobody can keep",
            json!({"progressDeadline": "1s"}),
            Rule("write a duration from 10s to 168h"),
        ),
        rollout("a pause without a unit", json!({"minInterval": "10"}), Rule("write a duration of at most 8760h")),
        rollout("after another", order("b"), Accepted),
        rollout("after itself", order("a"), Rule("cannot roll after itself")),
        rollout(
            "the same twice",
            json!({"order": [{"kind": "Deployment", "name": "a"}, {"kind": "Deployment", "name": "a"}]}),
            Schema("Duplicate value"),
        ),
        window("a night", json!({"schedule": "0 2 * * *", "duration": "4h"}), Accepted),
        window("seconds too", json!({"schedule": "0 0 2 * * *", "duration": "4h"}), Rule("write five fields")),
        window("seconds after a tab", json!({"schedule": "0\t0 2 * * *", "duration": "4h"}), Rule("write five fields")),
        window("no length", json!({"schedule": "0 2 * * *"}), Schema("Required value")),
        window(
            "shorter than a minute",
            json!({"schedule": "0 2 * * *", "duration": "10s"}),
            Rule("write a duration from 1m to 168h"),
        ),
        window(
            "another kind",
            json!({"kind": "Maybe", "schedule": "0 2 * * *", "duration": "4h"}),
            Schema("Unsupported value"),
        ),
        verify("a trial", json!({"cronJob": "try-it", "timeout": "2m"}), Accepted),
        verify("a trial of nothing", json!({"timeout": "2m"}), Schema("Required value")),
        verify(
            "a trial without an end",
            json!({"cronJob": "try-it", "timeout": "0s"}),
            Rule("write a duration from 1s to 24h"),
        ),
    ]
}

//! How old values may become, and who makes the next ones.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    bot_secret, case, kubernetes_store, vault_store, with,
};

pub fn cases() -> Vec<Case> {
    let rotation = |name, rotation: Value, verdict| case(name, with(bot_secret(), &[("rotation", rotation)]), verdict);
    vec![
        rotation("an age alone", json!({"maxAge": "2160h"}), Accepted),
        rotation("nothing said", json!({}), Rule("write maxAge, every or schedule")),
        rotation("by the manager", json!({"every": "720h", "maxAge": "800h"}), Accepted),
        rotation("often", json!({"every": "10s"}), Accepted),
        rotation("too often", json!({"every": "9s"}), Rule("write a duration of at least 10s, such as 720h")),
        rotation("an age in days", json!({"maxAge": "90d"}), Rule("such as 2160h for 90 days")),
        rotation(
            "overdue before it is due",
            json!({"every": "720h", "maxAge": "720h"}),
            Rule("write a maxAge that is longer than every"),
        ),
        rotation(
            "by a schedule",
            json!({"schedule": {"cron": "0 3 1 * *", "timeZone": "Europe/Berlin"}, "maxAge": "24h",
                "serviceAccountName": "rotator", "storeRef": {"name": "writer"}}),
            Accepted,
        ),
        rotation("seconds too", json!({"schedule": {"cron": "0 0 3 1 * *"}}), Rule("write five fields")),
        rotation("seconds after a tab", json!({"schedule": {"cron": "0\t0 3 1 * *"}}), Rule("write five fields")),
        rotation("a year on another line", json!({"schedule": {"cron": "0 3 1 * *\n2030"}}), Rule("write five fields")),
        rotation(
            "twice timed",
            json!({"every": "1h", "schedule": {"cron": "0 3 1 * *"}}),
            Rule("write every or schedule, not both"),
        ),
        rotation(
            "somebody to rotate what is not rotated",
            json!({"maxAge": "24h", "serviceAccountName": "rotator"}),
            Rule("nothing is rotated"),
        ),
        rotation(
            "no ServiceAccount's name",
            json!({"every": "24h", "serviceAccountName": "The Rotator"}),
            Rule("write a ServiceAccount's name"),
        ),
    ]
    .into_iter()
    .chain(generated())
    .chain(sources())
    .chain(stores())
    .collect()
}

/// What is made here.
fn generated() -> Vec<Case> {
    let generate = |name, rule: Value, verdict| {
        let rotation = json!({"every": "1h", "generate": [rule]});
        case(name, with(bot_secret(), &[("rotation", rotation)]), verdict)
    };
    let password =
        |name, password: Value, verdict| generate(name, json!({"secretKey": "KEY", "password": password}), verdict);
    let pair = |name, pair: Value, verdict| generate(name, json!({"secretKey": "KEY", "keyPair": pair}), verdict);
    vec![
        password("a password", json!({}), Accepted),
        password("a long one of digits", json!({"length": 64, "characters": "0123456789"}), Accepted),
        password("a short one", json!({"length": 8}), Schema("should be greater than or equal to 12")),
        password("of few characters", json!({"characters": "01"}), Schema("should be at least 10 chars long")),
        password("of what nobody can type", json!({"characters": "0123456789ü"}), Rule("characters that can be typed")),
        pair("a key pair", json!({"algorithm": "Ed25519", "publicKeyProperty": "public"}), Accepted),
        pair("a key without its public one", json!({"algorithm": "RSA-4096"}), Accepted),
        pair("a key that is too short", json!({"algorithm": "RSA-1024"}), Schema("Unsupported value")),
        pair(
            "a public key in the private one's place",
            json!({"algorithm": "Ed25519", "publicKeyProperty": "key"}),
            Rule("other than publicKeyProperty"),
        ),
        generate("nothing to make", json!({"secretKey": "KEY"}), Rule("write exactly one of password and keyPair")),
        generate(
            "two things to make",
            json!({"secretKey": "KEY", "password": {}, "keyPair": {"algorithm": "Ed25519"}}),
            Rule("write exactly one of password and keyPair"),
        ),
        generate(
            "a key that data lacks",
            json!({"secretKey": "OTHER", "password": {}}),
            Rule("rotation.generate names a key that data lacks"),
        ),
        case(
            "made at no time",
            with(
                bot_secret(),
                &[("rotation", json!({"maxAge": "1h", "generate": [{"secretKey": "KEY", "password": {}}]}))],
            ),
            Rule("Write every or schedule beside generate"),
        ),
        case(
            "the same key twice",
            with(
                bot_secret(),
                &[(
                    "rotation",
                    json!({"every": "1h", "generate": [{"secretKey": "KEY", "password": {}}, {"secretKey": "KEY", "password": {}}]}),
                )],
            ),
            Schema("Duplicate value"),
        ),
    ]
}

/// From where it is read.
fn sources() -> Vec<Case> {
    let made = json!({"every": "1h", "generate": [{"secretKey": "KEY", "password": {}}]});
    let reading = |name, changes: &[(&str, Value)], verdict| {
        let object = with(bot_secret(), &[("rotation", made.clone())]);
        case(name, with(object, changes), verdict)
    };
    let asked = |name, data_from: Value, verdict| {
        let changes = [("rotation", json!({"every": "1h"})), ("data", Value::Null), ("dataFrom", data_from)];
        case(name, with(bot_secret(), &changes), verdict)
    };
    let dynamic = json!([{"dynamic": {"path": "database/creds/bot"}}]);
    let read_as_written = "must be read as it was written";
    vec![
        reading("made, and pinned", &[("data.0.remoteRef.version", json!("3"))], Rule(read_as_written)),
        reading("made, and decoded", &[("data.0.remoteRef.decodingStrategy", json!("Base64"))], Rule(read_as_written)),
        reading("made, and not decoded", &[("data.0.remoteRef.decodingStrategy", json!("None"))], Accepted),
        reading("made, and metadata", &[("data.0.remoteRef.metadataPolicy", json!("Fetch"))], Rule(read_as_written)),
        reading("made beside a lease", &[("dataFrom", dynamic.clone())], Accepted),
        reading(
            "made without data",
            &[("data", Value::Null), ("dataFrom", dynamic.clone())],
            Rule("a key that data lacks"),
        ),
        asked("the manager rotates what is extracted", json!([{"extract": {"key": "kv/bot"}}]), Accepted),
        asked(
            "the manager rotates what is found",
            json!([{"find": {"path": "kv/bots"}}]),
            Rule("there is none of either"),
        ),
        asked(
            "the manager rotates a lease",
            json!([{"extract": {"key": "kv/bot"}}, {"dynamic": {"path": "database/creds/bot"}}]),
            Rule("a leased credential is replaced by its own clock"),
        ),
    ]
}

/// Through which stores.
fn stores() -> Vec<Case> {
    let allowed = [("allowRotation", json!(true))];
    vec![
        case("a store that allows it", with(vault_store(), &allowed), Accepted),
        case("a store that could not", with(kubernetes_store(), &allowed), Accepted),
        case(
            "a store that does not know",
            with(vault_store(), &[("allowRotation", json!("yes"))]),
            Schema("must be of type boolean"),
        ),
    ]
}

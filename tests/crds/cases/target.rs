//! The Secret that a BotSecret fills.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    bot_secret, case, with,
};

pub fn cases() -> Vec<Case> {
    let target = |name, target: Value, verdict| case(name, with(bot_secret(), &[("target", target)]), verdict);
    let change = |name, before: Value, after: Value, verdict| Case {
        before: Some(with(bot_secret(), &[("target", before)])),
        ..target(name, after, verdict)
    };
    vec![
        target("an empty target", json!({}), Accepted),
        target("a target's name", json!({"name": "price-bot.v2"}), Accepted),
        target("a name with capitals", json!({"name": "PriceBot"}), Rule("a Secret's name consists of")),
        target("a name that ends in a dot", json!({"name": "a."}), Rule("a Secret's name consists of")),
        target("a TLS Secret", json!({"type": "kubernetes.io/tls"}), Accepted),
        target(
            "p5: a ServiceAccount's token",
            json!({"type": "kubernetes.io/service-account-token"}),
            Rule("write one of Opaque"),
        ),
        target("p5: a bootstrap token", json!({"type": "bootstrap.kubernetes.io/token"}), Rule("write one of Opaque")),
        target("labels", json!({"labels": {"app.kubernetes.io/name": "price-bot", "empty": ""}}), Accepted),
        target(
            "p5: the operator's own label",
            json!({"labels": {"botsecret.dev/owner": "other"}}),
            Rule("labels under botsecret.dev/"),
        ),
        target("a label's name that is none", json!({"labels": {"a b": "c"}}), Rule("a label's name")),
        target("a label's value that is none", json!({"labels": {"a": "b c"}}), Rule("a label's value")),
        target(
            "a label's value that is too long",
            json!({"labels": {"a": "b".repeat(64)}}),
            Schema("may not be more than 63"),
        ),
        target("an annotation", json!({"annotations": {"example.com/note": "any text\n"}}), Accepted),
        target(
            "p5: the operator's own annotation",
            json!({"annotations": {"botsecret.dev/state": "{}"}}),
            Rule("annotations under botsecret.dev/"),
        ),
        target("an annotation's name that is none", json!({"annotations": {"/": "a"}}), Rule("an annotation's name")),
        target("both values", json!({"keepPrevious": {}}), Accepted),
        target(
            "both values of a key",
            json!({"keepPrevious": {"suffix": ".old", "for": "24h", "keys": ["KEY"]}}),
            Accepted,
        ),
        target("a suffix that is none", json!({"keepPrevious": {"suffix": "_é"}}), Rule("a Secret's key consists of")),
        target("both values for no time", json!({"keepPrevious": {"for": "10ms"}}), Rule("from 1s to 8760h")),
        case(
            "both values of a leased credential",
            with(
                bot_secret(),
                &[
                    ("target", json!({"keepPrevious": {}})),
                    ("dataFrom", json!([{"dynamic": {"path": "database/creds/bot"}}])),
                ],
            ),
            Rule("lives on by its lease"),
        ),
        target("merge", json!({"creationPolicy": "Merge", "deletionPolicy": "Retain"}), Accepted),
        target("delete what is ours", json!({"creationPolicy": "Orphan", "deletionPolicy": "Delete"}), Accepted),
        target(
            "delete what is not ours",
            json!({"creationPolicy": "Merge", "deletionPolicy": "Delete"}),
            Rule("not ours to delete"),
        ),
        target(
            "merge and a type",
            json!({"creationPolicy": "Merge", "type": "Opaque"}),
            Rule("keeps the type that it has"),
        ),
        target("an unknown policy", json!({"creationPolicy": "None"}), Schema("Unsupported value")),
        change(
            "another type for the same Secret",
            json!({}),
            json!({"type": "kubernetes.io/tls"}),
            Rule("type cannot be changed"),
        ),
        change(
            "the type taken away",
            json!({"type": "kubernetes.io/tls"}),
            json!(null),
            Rule("type cannot be changed"),
        ),
        change("the default type written out", json!(null), json!({"type": "Opaque"}), Accepted),
        change(
            "another type with another name",
            json!({}),
            json!({"type": "kubernetes.io/tls", "name": "new"}),
            Accepted,
        ),
        change("another name", json!({"name": "old"}), json!({"name": "new"}), Accepted),
    ]
}

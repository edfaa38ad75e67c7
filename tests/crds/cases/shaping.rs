//! What becomes of remote values: find, dynamic, rewrite, templates.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{self, Accepted, Rule, Schema},
    bot_secret, case, with,
};

fn of(name: &'static str, field: &str, value: Value, verdict: Verdict) -> Case {
    case(name, with(bot_secret(), &[(field, value)]), verdict)
}

fn entry(name: &'static str, entry: Value, verdict: Verdict) -> Case {
    of(name, "dataFrom", json!([entry]), verdict)
}

fn rewrite(name: &'static str, step: Value, verdict: Verdict) -> Case {
    entry(name, json!({"extract": {"key": "a"}, "rewrite": [step]}), verdict)
}

fn template(name: &'static str, data: Value, verdict: Verdict) -> Case {
    of(name, "target", json!({"template": {"data": data}}), verdict)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        entry("nothing to take keys from", json!({"rewrite": []}), Rule("exactly one of extract, find and dynamic")),
        entry(
            "two things to take keys from",
            json!({"extract": {"key": "a"}, "find": {"path": "a"}}),
            Rule("exactly one of extract, find and dynamic"),
        ),
        entry("extract", json!({"extract": {"key": "a", "property": "b", "version": "3"}, "rolls": false}), Accepted),
        entry("find by path", json!({"find": {"path": "bots"}}), Accepted),
        entry("find by name", json!({"find": {"name": {"regexp": "^bots/"}, "decodingStrategy": "Auto"}}), Accepted),
        entry("find by tags", json!({"find": {"tags": {"team": "trading"}}}), Accepted),
        entry("find everything", json!({"find": {}}), Rule("everything would be found")),
        entry("find by no tags", json!({"find": {"tags": {}}}), Rule("everything would be found")),
        entry("find by an empty name", json!({"find": {"name": {"regexp": ""}}}), Schema("should be at least 1 chars")),
        entry("dynamic", json!({"dynamic": {"path": "database/creds/bots"}}), Accepted),
        entry("two that take turns", json!({"dynamic": {"path": "a", "alternate": "b"}}), Accepted),
        entry(
            "one that takes turns with itself",
            json!({"dynamic": {"path": "a", "alternate": "a"}}),
            Rule("another path than path"),
        ),
        entry(
            "turns by POST",
            json!({"dynamic": {"path": "a", "alternate": "b", "method": "POST"}}),
            Rule("leave out method with alternate"),
        ),
        entry(
            "dynamic with parameters",
            json!({"dynamic": {"path": "pki/issue/bots", "method": "POST", "parameters": {"common_name": "a"}}}),
            Accepted,
        ),
        entry(
            "parameters that are not sent",
            json!({"dynamic": {"path": "pki/issue/bots", "parameters": {"common_name": "a"}}}),
            Rule("parameters are sent with method POST"),
        ),
        entry("another method", json!({"dynamic": {"path": "a", "method": "DELETE"}}), Schema("Unsupported value")),
        entry("a later entry that counts", json!({"extract": {"key": "a"}, "onCollision": "Replace"}), Accepted),
        entry("another way out", json!({"extract": {"key": "a"}, "onCollision": "Merge"}), Schema("Unsupported value")),
        rewrite("a regular expression", json!({"regexp": {"source": "-", "target": ""}}), Accepted),
        rewrite("a transform", json!({"transform": {"template": "{{ value | upper }}"}}), Accepted),
        rewrite("a prefix", json!({"prefix": "BOT_"}), Accepted),
        rewrite("no step", json!({}), Rule("exactly one of regexp, transform and prefix")),
        rewrite(
            "two steps in one",
            json!({"prefix": "a", "transform": {"template": "{{ value }}"}}),
            Rule("exactly one of regexp, transform and prefix"),
        ),
        rewrite("nothing to replace", json!({"regexp": {"source": "", "target": "a"}}), Schema("at least 1 chars")),
        of("a decoded value", "data.0.remoteRef.decodingStrategy", json!("Base64URL"), Accepted),
        of("an unknown encoding", "data.0.remoteRef.decodingStrategy", json!("Hex"), Schema("Unsupported value")),
        of("metadata", "data.0.remoteRef.metadataPolicy", json!("Fetch"), Accepted),
        template(
            "a template",
            json!({"URL": "postgres://{{ KEY | urlencode }}@db", ".env": "{{ secrets | dotenv }}"}),
            Accepted,
        ),
        template("a template for no key", json!({}), Schema("at least 1 properties")),
        template("no templates at all", json!(null), Schema("Required value")),
        template("a template of the largest size", json!({"A": "x".repeat(65_536)}), Accepted),
        template("a template that is too large", json!({"A": "x".repeat(65_537)}), Rule("at most 65536 characters")),
        of("a merge", "target", json!({"template": {"data": {"A": "b"}, "mergePolicy": "Merge"}}), Accepted),
        of(
            "another merge",
            "target",
            json!({"template": {"data": {"A": "b"}, "mergePolicy": "Append"}}),
            Schema("Unsupported value"),
        ),
    ];
    for (key, verdict) in [
        ("tls.crt", Accepted),
        ("a/b", Rule("a Secret's key consists of")),
        ("..a", Rule("a Secret's key consists of")),
        (".", Rule("a Secret's key consists of")),
    ] {
        cases.push(template("a template's key", json!({key: "b"}), verdict));
    }
    cases
}

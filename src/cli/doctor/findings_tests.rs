use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    asking::Unknown,
    facts::{Facts, Leader, Operator, Right, operator_of},
    findings::{CHECKS, Finding, Stage, State, TROUBLES, examine},
    schema::Age,
    show::shown,
};
use crate::{
    api::{self, BotSecret},
    cli::OutputFormat,
    report::Reason,
};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn bot_secret(name: &str, type_: &str, reason: &str) -> BotSecret {
    let status = if reason.is_empty() { "True" } else { "False" };
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": name, "namespace": "trading", "generation": 2, "creationTimestamp": "2026-01-01T09:00:00Z" },
        "spec": { "serviceAccountName": "bot", "dataFrom": [{ "extract": { "key": "x" } }] },
        "status": { "observedGeneration": 2, "conditions": [{
            "type": type_, "status": status, "reason": if reason.is_empty() { "Synced" } else { reason },
            "message": "", "lastTransitionTime": "2026-01-01T09:00:00Z",
        }] },
    }))
    .expect("a BotSecret")
}

fn healthy() -> Facts {
    let names = api::definitions().into_iter().filter_map(|one| one.metadata.name);
    let policies = ["tokens", "secret-types", "workloads", "rollouts", "finalizers"];
    Facts {
        place: ("botsecret-system".to_owned(), "botsecret".to_owned()),
        now: now(),
        server: Ok((Some(now()), "1.37".to_owned())),
        policies_served: Ok(true),
        definitions: Ok(names.map(|name| (name, Age::Same)).collect()),
        installer: Ok(vec![Right { what: "create clusterroles".to_owned(), allowed: true }]),
        namespace: Ok(Some("restricted".to_owned())),
        operator: Ok(Some(Operator { replicas: 1, ready: 1, image: "botsecret:1".to_owned(), ..Operator::default() })),
        leader: Ok(Some(Leader { holder: "pod_uid".to_owned(), renewed: Some(now()), lasts: Duration::from_secs(15) })),
        policies: Ok(policies.map(|name| format!("botsecret-{name}")).into()),
        audiences: Ok((Some(vec!["https://api".to_owned()]), vec!["https://api".to_owned()])),
        rights: Ok(vec![Right { what: "list pods".to_owned(), allowed: true }]),
        bot_secrets: Ok(vec![bot_secret("bot", "Ready", "")]),
    }
}

fn text(found: &[Finding]) -> String {
    shown(found, OutputFormat::Text, false).expect("text")
}

#[test]
fn a_healthy_installation_has_a_line_a_check_and_nothing_to_do() {
    assert_eq!(
        text(&examine(&healthy(), Stage::Live)),
        "\
✓ Kubernetes 1.37
✓ this clock and the API server's agree
✓ ValidatingAdmissionPolicy is served
✓ the definitions are of this version
✓ 1 of 1 replicas of botsecret:1 are ready
✓ pod leads
✓ the operator's account is held to what it is for
✓ ConfigMap botsecret-system/botsecret-api-audiences lists every audience of this API server
✓ the operator may do what it has to
✓ the operator has looked at each of 1 BotSecrets
✓ every store can be used
✓ every identity can log in and read
✓ no rotation is halted
✓ no credential is overdue, and each lease can be renewed
✓ every Secret could be written
"
    );
    assert!(examine(&healthy(), Stage::Before).iter().all(|one| one.state == State::Well));
}

#[test]
fn what_is_wrong_is_said_with_one_thing_to_do_and_where_to_read_on() {
    let mut facts = healthy();
    facts.leader = Ok(Some(Leader {
        holder: "pod_uid".to_owned(),
        renewed: Some(now() - SignedDuration::from_mins(5)),
        lasts: Duration::from_secs(15),
    }));
    facts.definitions = Err(Unknown::Forbidden("get customresourcedefinitions".to_owned()));
    let said = text(&examine(&facts, Stage::Live));
    assert!(
        said.contains(
            "\
– not looked at: you may not do this (get customresourcedefinitions)
✓ 1 of 1 replicas of botsecret:1 are ready
✗ the leader has not renewed its Lease for 300 s
    do: see what the replicas say: kubectl -n botsecret-system logs deployment/botsecret --all-pods
    see: docs/doctor.md#leader
"
        ),
        "{said}"
    );
}

/// What is wrong, by the check that finds it.
fn wrong(facts: &Facts, stage: Stage) -> Vec<(&'static str, String)> {
    let found = examine(facts, stage).into_iter().filter(|one| one.state == State::Wrong);
    found
        .map(|one| {
            assert!(!one.fix.is_empty(), "{one:?}");
            (one.check, one.message)
        })
        .collect()
}

#[test]
fn a_botsecret_is_looked_at_late_only_when_its_last_edit_is_long_ago() {
    let entry = |at: &str, fields: serde_json::Value, subresource: &str| {
        json!({
            "manager": "kubectl", "operation": "Update", "time": at, "fieldsV1": fields, "subresource": subresource,
        })
    };
    let spec = || json!({ "f:metadata": {}, "f:spec": { "f:data": {} } });
    let (just_now, long_ago) = ("2026-01-01T11:59:59Z", "2026-01-01T11:00:00Z");
    for (entries, is_stale) in [
        (vec![], true),
        (vec![entry(long_ago, spec(), "")], true),
        (vec![entry(just_now, spec(), "")], false),
        (vec![entry(just_now, spec(), ""), entry(long_ago, spec(), "")], false),
        // What is not of the spec is no edit.
        (vec![entry(just_now, json!({ "f:metadata": {} }), ""), entry(long_ago, spec(), "")], true),
        (vec![entry(just_now, json!({ "f:status": {} }), "status")], true),
    ] {
        let mut object = bot_secret("bot", "Ready", "");
        object.metadata.generation = Some(3);
        object.metadata.managed_fields = Some(serde_json::from_value(json!(entries)).expect("managers"));
        let mut facts = healthy();
        facts.bot_secrets = Ok(vec![object]);
        assert_eq!(wrong(&facts, Stage::Live).len(), usize::from(is_stale), "{entries:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_has_another_thing_to_do_than_none() {
    let mut facts = healthy();
    facts.bot_secrets = Err(Unknown::Unreadable("list botsecrets: something is not as it is known".to_owned()));
    let found = examine(&facts, Stage::Live);
    let told = found.iter().find(|one| one.state == State::Wrong).expect("it is wrong");
    assert!(told.check == "botsecrets" && told.fix.contains("the version that the definitions are of"), "{told:?}");
}

#[test]
fn the_operator_is_the_container_of_that_name_wherever_it_stands_and_else_the_first() {
    let container = |name: &str, namespaces: &str| {
        let env = json!([{ "name": "BOTSECRET_NAMESPACES", "value": namespaces }]);
        json!({ "name": name, "image": format!("{name}:1"), "env": env })
    };
    let of = |containers: serde_json::Value| {
        let spec = json!({ "selector": {}, "template": { "spec": { "containers": containers } } });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec });
        let operator = operator_of(serde_json::from_value(deployment).expect("a Deployment"));
        (operator.image, operator.namespaces)
    };
    let ours = ("botsecret:1".to_owned(), vec!["trading".to_owned()]);
    assert_eq!(of(json!([container("proxy", "x"), container("botsecret", "trading")])), ours);
    assert_eq!(of(json!([container("botsecret", "trading"), container("proxy", "x")])), ours);
    assert_eq!(of(json!([container("operator", "a"), container("proxy", "x")])).0, "operator:1");
    assert_eq!(of(json!([])).0, "");
}

#[test]
fn each_thing_that_breaks_is_found_by_one_check() {
    type Break = fn(&mut Facts);
    let cases: [(&str, &str, Break); 22] = [
        ("kubernetes", "1.29+", |facts| facts.server = Ok((None, "1.29+".to_owned()))),
        ("clock", "90 s apart", |facts| {
            facts.server = Ok((Some(now() - SignedDuration::from_secs(90)), "1.37".to_owned()));
            facts.leader = Ok(Some(Leader {
                holder: "a".to_owned(),
                renewed: Some(now() - SignedDuration::from_secs(91)),
                lasts: Duration::from_secs(15),
            }));
        }),
        ("admission", "has no", |facts| facts.policies_served = Ok(false)),
        ("definitions", "not installed", |facts| facts.definitions = Ok(Vec::new())),
        ("definitions", "older than this botsecret", |facts| {
            facts.definitions.as_mut().expect("known")[0].1 = Age::Older;
        }),
        ("definitions", "are newer", |facts| facts.definitions.as_mut().expect("known")[0].1 = Age::Newer),
        ("definitions", "no connection", |facts| facts.definitions = Err(Unknown::Failed("no connection".to_owned()))),
        ("operator", "no Deployment", |facts| facts.operator = Ok(None)),
        ("operator", "1 of 2 replicas", |facts| {
            facts.operator.as_mut().expect("known").as_mut().expect("one").replicas = 2;
        }),
        ("leader", "nobody ever took", |facts| facts.leader = Ok(None)),
        ("leader", "nobody leads", |facts| facts.leader.as_mut().expect("known").as_mut().expect("one").holder.clear()),
        ("policies", "botsecret-tokens", |facts| {
            assert!(facts.policies.as_mut().expect("known").remove("botsecret-tokens"));
        }),
        ("policies", "and 2 more", |facts| facts.policies = Ok(BTreeSet::new())),
        ("audiences", "names no audience", |facts| facts.audiences = Ok((Some(Vec::new()), Vec::new()))),
        ("audiences", "lacks https://other", |facts| {
            facts.audiences.as_mut().expect("known").1.push("https://other".to_owned());
        }),
        ("rights", "may not list pods", |facts| facts.rights.as_mut().expect("known")[0].allowed = false),
        ("botsecrets", "trading/bot", |facts| {
            facts.bot_secrets.as_mut().expect("known")[0].metadata.generation = Some(3);
        }),
        ("stores", "StoreUnavailable: trading/bot", |facts| {
            facts.bot_secrets = Ok(vec![bot_secret("bot", "Ready", "StoreUnavailable")]);
        }),
        ("identities", "LoginDenied: trading/bot", |facts| {
            facts.bot_secrets = Ok(vec![bot_secret("bot", "Ready", "LoginDenied")]);
        }),
        ("rollouts", "RolloutHalted: trading/bot", |facts| {
            facts.bot_secrets = Ok(vec![bot_secret("bot", "RolledOut", "RolloutHalted")]);
        }),
        ("rollouts", "Reverted: trading/bot", |facts| {
            facts.bot_secrets = Ok(vec![bot_secret("bot", "RolledOut", "Reverted")]);
        }),
        ("rollouts", "VerifyInvalid: trading/bot", |facts| {
            facts.bot_secrets = Ok(vec![bot_secret("bot", "Ready", "VerifyInvalid")]);
        }),
    ];
    for (check, words, break_it) in cases {
        let mut facts = healthy();
        break_it(&mut facts);
        let found = wrong(&facts, Stage::Live);
        assert!(found.len() == 1 && found[0].0 == check && found[0].1.contains(words), "{check}, {words}: {found:?}");
    }
    let mut facts = healthy();
    facts.installer = Ok(vec![Right { what: "create clusterroles".to_owned(), allowed: false }]);
    assert_eq!(wrong(&facts, Stage::Before), [("installer", "you may not: create clusterroles".to_owned())]);
}

#[test]
fn every_reason_that_tells_of_trouble_belongs_to_one_check() {
    // What is as it is to be, what somebody wants, what ends by itself, and an event.
    let fine = [
        Reason::Synced,
        Reason::Suspended,
        Reason::UpToDate,
        Reason::RolledOut,
        Reason::RollingOut,
        Reason::WaitingForWorkload,
        Reason::TargetTerminating,
        Reason::CandidatePending,
        Reason::LeaseLost,
    ];
    for reason in Reason::ALL {
        let checks = TROUBLES.iter().filter(|(_, reasons, ..)| reasons.contains(&reason)).count();
        assert_eq!(checks, usize::from(!fine.contains(&reason)), "{reason}");
    }
}

#[test]
fn many_of_a_kind_are_one_line() {
    let mut facts = healthy();
    let all = (0..10).map(|number| bot_secret(&format!("bot-{number}"), "Ready", "StoreTimeout"));
    facts.bot_secrets = Ok(all.collect());
    let found = wrong(&facts, Stage::Live);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "StoreTimeout: trading/bot-0, trading/bot-1, trading/bot-2 and 7 more");
}

#[test]
fn programs_get_the_same_as_data_and_terminals_get_colours() {
    let mut facts = healthy();
    facts.operator = Ok(None);
    let found = examine(&facts, Stage::Live);
    let data: serde_json::Value =
        serde_json::from_str(&shown(&found, OutputFormat::Json, true).expect("text")).expect("JSON");
    assert_eq!(data["healthy"], false);
    assert_eq!(data["findings"].as_array().map(Vec::len), Some(found.len()));
    let yaml: serde_json::Value =
        serde_yaml::from_str(&shown(&found, OutputFormat::Yaml, true).expect("text")).expect("YAML");
    assert_eq!(yaml, data);
    assert!(shown(&found, OutputFormat::Text, true).expect("text").contains("\u{1b}[31m✗"));
}

#[test]
fn each_check_has_its_place_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
    let text = std::fs::read_to_string(path).expect("docs/doctor.md");
    let both = [Stage::Before, Stage::Live].map(|stage| examine(&healthy(), stage));
    let checks: BTreeSet<_> = both.iter().flatten().map(|one| one.check).collect();
    assert_eq!(checks, CHECKS.into(), "each is known by its name");
    for check in checks {
        assert!(text.contains(&format!("\n## {check}\n")), "docs/doctor.md says nothing of {check}");
    }
}

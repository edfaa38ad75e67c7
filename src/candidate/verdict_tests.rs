//! What is said of data that did not work, and what is not.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::verdict;
use crate::candidate::{
    decide::{Failure, TOO_LONG},
    fixture::Fixture,
};

const VALUE: &str = "s3cr3t-v4lue with \"quotes\" & more";

fn fixture() -> Fixture {
    let data: &[(&str, &[u8])] = &[("KEY", VALUE.as_bytes()), ("PIN", b"4711"), ("ON", b"1")];
    Fixture::new(&json!({ "cronJob": "try", "timeout": "2m" }), data)
}

fn pod(name: &str, second: u32, ended: &Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z") },
        "status": { "phase": "Failed", "containerStatuses": [{
            "name": "try", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": { "terminated": ended },
        }] },
    }))
    .expect("a pod")
}

fn failure() -> Failure {
    Failure { reason: "BackoffLimitExceeded".to_owned(), message: "Job has reached the limit".to_owned() }
}

#[test]
fn the_newest_pod_that_failed_says_why() {
    let fixture = fixture();
    let trial = fixture.trial();
    let start = format!("CronJob try's Job {} failed:", trial.job());
    let said = |pods: &[Pod]| verdict(&trial, &failure(), pods);
    let old = pod("old", 1, &json!({ "exitCode": 1, "reason": "Error", "message": "old" }));
    let new = pod("new", 2, &json!({ "exitCode": 3, "reason": "Error", "message": "401 from\n\texchange\u{7}\n" }));
    let well = pod("well", 3, &json!({ "exitCode": 0, "reason": "Completed", "message": "fine" }));
    assert_eq!(said(&[old, new, well.clone()]), format!("{start} exit code 3 (Error): 401 from exchange"));
    let silent = pod("silent", 1, &json!({ "exitCode": 137, "reason": "OOMKilled" }));
    assert_eq!(said(&[silent]), format!("{start} exit code 137 (OOMKilled)"));
    let odd = pod("odd", 1, &json!({ "exitCode": 2, "reason": "not a word", "message": " " }));
    assert_eq!(said(&[odd]), format!("{start} exit code 2"));
    for pods in [vec![], vec![well]] {
        assert_eq!(said(&pods), format!("{start} BackoffLimitExceeded: Job has reached the limit"));
    }
    let late = verdict(&trial, &Failure { reason: TOO_LONG.to_owned(), message: String::new() }, &[]);
    assert!(late.ends_with("was not done in time (120 s)"), "{late}");
}

#[test]
fn a_long_message_is_cut() {
    let fixture = fixture();
    let long = pod("long", 1, &json!({ "exitCode": 1, "message": "é".repeat(300) }));
    let said = verdict(&fixture.trial(), &failure(), &[long]);
    assert!(said.ends_with(&format!("exit code 1: {}…", "é".repeat(200))), "{said}");
}

#[test]
fn p4_a_message_that_quotes_a_value_is_withheld_whole() {
    let fixture = fixture();
    for quoted in [
        format!("cannot log in with {VALUE}"),
        "starts with s3cr3t-v4".to_owned(),
        "s3cr3t-\u{7}v4lue".to_owned(),
        "with s3cr3t-v4lue\twith".to_owned(),
        "czNjcjN0LXY0bHVlIHdpdGggInF1b3RlcyIgJiBtb3Jl".to_owned(),
        "7333637233742d76346c7565".to_owned(),
        "https://exchange/?key=s3cr3t-v4lue%20with%20%22quotes%22".to_owned(),
        r#"{"key":"s3cr3t-v4lue with \"quotes\" & more"}"#.to_owned(),
        "PIN 4711 is wrong".to_owned(),
        format!("{}{VALUE}", "long before it ".repeat(40)),
    ] {
        let pod = pod("bot", 1, &json!({ "exitCode": 1, "reason": "Error", "message": quoted }));
        let said = verdict(&fixture.trial(), &failure(), &[pod]);
        assert!(
            said.ends_with("exit code 1 (Error) (what it said is withheld, since it seems to quote a value)"),
            "{said}"
        );
    }
}

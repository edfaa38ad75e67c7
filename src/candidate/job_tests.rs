//! What a CronJob must be, and the Job that is made from it.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{JobFacts, JobState, check, made_from};
use crate::candidate::{decide::Failure, fixture::Fixture};

fn fixture(verify: &Value) -> Fixture {
    Fixture::new(verify, &[("KEY", b"value of this test")])
}

fn cron_job(change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "try" },
        "spec": {
            "schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": {
                "metadata": { "labels": { "team": "trading" }, "annotations": { "note": "theirs" } },
                "spec": {
                    "template": {
                        "metadata": { "labels": { "app": "try" } },
                        "spec": {
                            "serviceAccountName": "price-bot", "restartPolicy": "Never",
                            "containers": [{ "name": "try", "image": "try" }],
                        },
                    },
                },
            },
        },
    });
    change(&mut object);
    serde_json::from_value(object).expect("a CronJob")
}

#[test]
fn a_cron_job_that_may_not_be_used_is_refused_with_what_to_do() {
    let fixture = fixture(&json!({ "cronJob": "try" }));
    let trial = fixture.trial();
    let pod = "/spec/jobTemplate/spec/template/spec";
    assert_eq!(check(Some(&cron_job(|_| {})), &trial), Ok(()));
    let cases: [(DynamicObject, &str); 5] = [
        (cron_job(|object| object["spec"]["suspend"] = false.into()), "set suspend: true"),
        (
            cron_job(|object| drop(object["spec"].as_object_mut().map(|spec| spec.remove("suspend")))),
            "set suspend: true",
        ),
        (
            cron_job(|object| *object.pointer_mut(pod).expect("a pod") = json!({ "serviceAccountName": "admin" })),
            "as ServiceAccount admin, and only the BotSecret's own may try its values: set serviceAccountName: price-bot",
        ),
        (cron_job(|object| *object.pointer_mut(pod).expect("a pod") = json!({})), "as ServiceAccount default"),
        (
            cron_job(|object| *object.pointer_mut(pod).expect("a pod") = json!({ "serviceAccountName": "price-bot" })),
            "no pod template",
        ),
    ];
    for (cron_job, wanted) in cases {
        let said = check(Some(&cron_job), &trial).expect_err(wanted);
        assert!(said.contains(wanted) && said.contains("CronJob try"), "{said}");
    }
    assert!(check(None, &trial).expect_err("none").contains("create it, suspended"));
}

#[test]
fn the_job_is_what_the_template_says_with_our_names_and_bounds() {
    let fixture = fixture(&json!({ "cronJob": "try", "timeout": "2m" }));
    let trial = fixture.trial();
    let made = made_from(&cron_job(|_| {}), &trial);
    assert_eq!(made["metadata"]["name"], trial.job());
    assert_eq!(made["metadata"]["labels"], json!({ "team": "trading", "botsecret.dev/candidate": "bot" }));
    assert_eq!(made["metadata"]["annotations"]["note"], "theirs");
    assert_eq!(made["metadata"]["annotations"]["botsecret.dev/candidate-fingerprint"], "new");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "b");
    assert_eq!(made["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(made["spec"]["template"]["spec"]["serviceAccountName"], "price-bot");
    let bounds = |made: &Value| {
        let of = |name: &str| made["spec"][name].as_u64();
        (of("activeDeadlineSeconds"), of("backoffLimit"), of("ttlSecondsAfterFinished"))
    };
    assert_eq!(bounds(&made), (Some(120), Some(0), None));
    for (theirs, wanted) in [
        (json!({ "activeDeadlineSeconds": 30, "backoffLimit": 2, "ttlSecondsAfterFinished": 3600 }), (30, 2, 3600)),
        (json!({ "activeDeadlineSeconds": 300, "backoffLimit": 0, "ttlSecondsAfterFinished": 0 }), (120, 0, 600)),
    ] {
        let cron_job = cron_job(|object| {
            let spec = object["spec"]["jobTemplate"]["spec"].as_object_mut().expect("a spec");
            spec.extend(theirs.as_object().expect("members").clone());
        });
        let wanted = (Some(wanted.0), Some(wanted.1), Some(wanted.2));
        assert_eq!(bounds(&made_from(&cron_job, &trial)), wanted, "{theirs}");
    }
}

#[test]
fn a_job_that_was_made_is_known_again_and_its_conditions_say_where_it_stands() {
    let fixture = fixture(&json!({ "cronJob": "try" }));
    let trial = fixture.trial();
    let mut object = made_from(&cron_job(|_| {}), &trial);
    object["metadata"]["uid"] = "j".into();
    let facts = |object: &Value| JobFacts::of(&serde_json::from_value(object.clone()).expect("a Job"), &trial);
    let known = facts(&object);
    assert!(known.has_our_label && known.is_owned && !known.deleting, "{known:?}");
    assert_eq!((known.fingerprint.as_str(), known.cron_job.as_str()), ("new", "try"));
    assert_eq!(known.attempt, trial.attempt());
    let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status, "reason": "BackoffLimitExceeded", "message": "m" });
    let failure = Failure { reason: "BackoffLimitExceeded".to_owned(), message: "m".to_owned() };
    for (conditions, wanted) in [
        (json!(null), JobState::Running),
        (json!([condition("Suspended", "True"), condition("Failed", "False")]), JobState::Running),
        (json!([condition("FailureTarget", "True")]), JobState::Running),
        (json!([condition("SuccessCriteriaMet", "True"), condition("Complete", "True")]), JobState::Complete),
        (json!([condition("Failed", "True")]), JobState::Failed(failure)),
    ] {
        object["status"] = json!({ "conditions": conditions });
        assert_eq!(facts(&object).state, wanted, "{conditions}");
    }
    object["metadata"]["labels"] = json!({ "botsecret.dev/candidate": "another" });
    assert!(!facts(&object).has_our_label);
}

//! A new value is tried before anybody reads it: by a Job that really runs, made
//! from a CronJob of the user's.

use anyhow::{bail, ensure};
use botsecret::api::RotationPhase;
use botsecret_testbed::{AuditMark, wait_for};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Secret,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Fault, Result, canary::Canary};

const NAME: &str = "price-bot";
const SOURCE: &str = "exchange";
const CANDIDATE: &str = "price-bot-candidate";
/// Refuses whatever begins with "bad".
const CHECK: &str = "case \"$REVISION\" in bad*) echo 'the exchange refuses the key'; exit 3;; esac";

/// A suspended CronJob of account `bot` that reads the candidate.
fn cron_job(name: &str, command: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": name },
        "spec": {
            "schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": { "spec": { "template": { "spec": {
                "serviceAccountName": "bot",
                "restartPolicy": "Never",
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "containers": [{
                    "name": "try", "image": "sh", "command": ["sh", "-c", command],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "envFrom": [{ "secretRef": { "name": CANDIDATE } }],
                }],
            } } } },
        },
    })
}

fn bot_secret(bench: &Bench, cron_job: &str) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["verify"] = json!({ "cronJob": cron_job, "timeout": "40s" });
    object
}

/// Lets the operator make Jobs, in this namespace alone.
async fn grant(bench: &Bench) -> Result {
    bench.grant_also(include_str!("../../deploy/verify.yaml")).await
}

async fn rotate(bench: &Bench, revision: &str) -> Result {
    bench.put_source(SOURCE, &[("REVISION", revision)]).await
}

/// Right, store, check, source and a bot of two pods, all at revision 1.
async fn scene(bench: &Bench, check: &str) -> Result {
    grant(bench).await?;
    bench.kubernetes_store("source").await?;
    rotate(bench, "1").await?;
    bench.apply(cron_job("try", check)).await?;
    bench.apply(bench.bot("bot", NAME, 2)).await?;
    bench.apply(bot_secret(bench, "try")).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_all_hold("bot", 2, "1").await?;
    until_clean(bench).await
}

fn jobs(bench: &Bench) -> Api<Job> {
    Api::namespaced(bench.client.clone(), &bench.namespace)
}

/// The Jobs that try something.
async fn trials(bench: &Bench) -> Result<Vec<String>> {
    let made = jobs(bench).list(&ListParams::default().labels("botsecret.dev/candidate")).await?;
    Ok(made.iter().map(kube::ResourceExt::name_any).collect())
}

/// Waits until nothing is left of any trial.
async fn until_clean(bench: &Bench) -> Result {
    wait_for("candidate and Job to be gone", DEADLINE, async || {
        let left = (bench.secrets().get_opt(CANDIDATE).await?.map(|_| CANDIDATE), trials(bench).await?);
        if left.0.is_none() && left.1.is_empty() { Ok(Some(())) } else { bail!("{left:?}") }
    })
    .await
}

/// What the operator made or changed since then: verb, resource and name.
async fn writes(bench: &Bench, mark: &AuditMark) -> Result<Vec<String>> {
    let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), mark).await?;
    let written = requests.iter().filter(|request| {
        matches!(request.verb.as_str(), "create" | "update" | "patch" | "delete")
            && (200..300).contains(&request.code)
            && request.namespace == bench.namespace
            && matches!(request.resource.as_str(), "secrets" | "jobs" | "deployments" | "statefulsets")
    });
    Ok(written.map(|request| format!("{} {} {}", request.verb, request.resource, request.name)).collect())
}

/// How many Jobs were made since then.
async fn made(bench: &Bench, mark: &AuditMark) -> Result<usize> {
    Ok(writes(bench, mark).await?.iter().filter(|write| write.starts_with("create jobs")).count())
}

async fn target(bench: &Bench) -> Result<Secret> {
    Ok(bench.secrets().get(NAME).await?)
}

async fn phases(bench: &Bench) -> Result<Vec<&'static str>> {
    let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
    Ok(rotation.iter().flat_map(|rotation| &rotation.times).map(|time| time.phase.name()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_works_is_tried_first_then_written_then_rolled() -> Result {
    let bench = Bench::new("verify-good").await?;
    scene(&bench, CHECK).await?;
    let mark = bench.cluster.audit().mark().await?;
    rotate(&bench, "2").await?;
    bench.until_all_hold("bot", 2, "2").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    until_clean(&bench).await?;
    bench.until_more_reads(3).await?;
    let writes = writes(&bench, &mark).await?;
    let job = writes.iter().find_map(|write| write.strip_prefix("delete jobs ")).unwrap_or_default().to_owned();
    ensure!(job.starts_with("price-bot-verify-"), "{writes:?}");
    let wanted = [
        // The names of what is made come with the body, which is not logged.
        "create secrets ".to_owned(),
        format!("update secrets {CANDIDATE}"),
        "create jobs ".to_owned(),
        format!("update secrets {NAME}"),
        format!("delete jobs {job}"),
        format!("delete secrets {CANDIDATE}"),
        "patch deployments bot".to_owned(),
    ];
    let same = writes.len() == wanted.len()
        && writes.iter().zip(&wanted).all(|(write, wanted)| write.starts_with(wanted.as_str()));
    ensure!(same, "{writes:?}");
    let phases = wait_for("the rotation to be verified", DEADLINE, async || {
        let phases = phases(&bench).await?;
        if phases.last() == Some(&"Verified") { Ok(Some(phases)) } else { bail!("{phases:?}") }
    })
    .await?;
    ensure!(phases.starts_with(&["Detected", "Candidate", "Written"]), "{phases:?}");
    // With no news there is nothing to ask, of Jobs and CronJobs neither.
    let mark = bench.cluster.audit().mark().await?;
    bench.until_more_reads(3).await?;
    let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
    let about: Vec<_> = requests.iter().filter(|request| request.api_group == "batch").collect();
    ensure!(about.is_empty(), "{about:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_work_is_rejected_once_and_the_next_one_goes_through() -> Result {
    let mut bench = Bench::new("verify-bad").await?;
    scene(&bench, CHECK).await?;
    let before = target(&bench).await?;
    let mark = bench.cluster.audit().mark().await?;
    rotate(&bench, "bad one of this very test").await?;
    let message = bench.until_failing(NAME, "CandidateRejected").await?;
    let wanted = [
        "CronJob try's Job price-bot-verify-",
        "exit code 3 (Error): the exchange refuses the key",
        "keeps the last value",
    ];
    for words in wanted {
        ensure!(message.contains(words), "{words:?} is not in {message:?}");
    }
    let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
    let rotation = rotation.map(|rotation| (rotation.phase.name(), rotation.message));
    ensure!(
        rotation.as_ref().is_some_and(|(phase, why)| *phase == "Rejected" && why.contains("exit code 3")),
        "{rotation:?}"
    );
    let (stalled, ..) = bench.condition(NAME, "Stalled").await?.unwrap_or_default();
    ensure!(stalled == "True", "somebody has to act");
    // Neither the next refreshes nor another process try it again.
    bench.until_more_reads(4).await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    bench.until_more_reads(3).await?;
    ensure!(made(&bench, &mark).await? == 1, "{:?}", writes(&bench, &mark).await?);
    ensure!(target(&bench).await? == before, "the Secret changed");
    ensure!(bench.secrets().get_opt(CANDIDATE).await?.is_none(), "the candidate is still there");
    ensure!(trials(&bench).await?.len() == 1, "its Job is kept for the log");
    let rejections = bench.events(NAME).await?;
    ensure!(rejections.iter().filter(|(reason, _)| reason == "CandidateRejected").count() == 1, "{rejections:?}");

    // Forced, it is tried once more, and no more often.
    let annotation = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "again" } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(annotation)).await?;
    wait_for("a second Job", DEADLINE, async || Ok((made(&bench, &mark).await? == 2).then_some(()))).await?;
    bench.until_failing(NAME, "CandidateRejected").await?;
    bench.until_more_reads(3).await?;
    ensure!(made(&bench, &mark).await? == 2, "{:?}", writes(&bench, &mark).await?);

    // Nothing was rolled by all that.
    ensure!(bench.rollouts("bot").await? == 1, "it was rolled");
    ensure!(!writes(&bench, &mark).await?.iter().any(|write| write.contains("deployments")), "it was patched");
    rotate(&bench, "2").await?;
    bench.until_all_hold("bot", 2, "2").await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    until_clean(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_work_never_reaches_the_secret_of_twenty_workloads() -> Result {
    let bench = Bench::new("verify-twenty").await?;
    scene(&bench, CHECK).await?;
    let others: Vec<_> = (0..18).map(|number| format!("other-{number:02}")).collect();
    for name in &others {
        bench.apply(bench.bot(name, NAME, 1)).await?;
    }
    let mut state = bench.bot("state", NAME, 1);
    (state["kind"], state["spec"]["serviceName"]) = (json!("StatefulSet"), json!("state"));
    bench.apply(state).await?;
    let many = json!({ "spec": { "rollout": { "maxConcurrent": 10 } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(many)).await?;
    let all: Vec<_> = others.iter().map(String::as_str).chain(["state"]).collect();
    for name in &all {
        bench.until_all_hold(name, 1, "1").await?;
    }
    bench.until_condition(NAME, "RolledOut", "True").await?;
    let (before, mark) = (target(&bench).await?, bench.cluster.audit().mark().await?);
    rotate(&bench, "bad").await?;
    bench.until_failing(NAME, "CandidateRejected").await?;
    bench.until_more_reads(4).await?;
    ensure!(target(&bench).await? == before, "the Secret changed");
    let writes = writes(&bench, &mark).await?;
    let touches = |write: &String| write.contains("deployments") || write.contains("statefulsets");
    ensure!(!writes.iter().any(touches), "{writes:?}");
    rotate(&bench, "2").await?;
    for name in &all {
        bench.until_all_hold(name, 1, "2").await?;
    }
    bench.until_all_hold("bot", 2, "2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_value_that_does_not_work_makes_no_secret() -> Result {
    let bench = Bench::new("verify-first").await?;
    grant(&bench).await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "bad from the start, in this test").await?;
    bench.apply(cron_job("try", CHECK)).await?;
    bench.apply(bot_secret(&bench, "try")).await?;
    let message = bench.until_failing(NAME, "CandidateRejected").await?;
    ensure!(message.contains("there is no Secret price-bot until one works"), "{message}");
    ensure!(bench.secrets().get_opt(NAME).await?.is_none(), "it was made");
    rotate(&bench, "1").await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    until_clean(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_while_a_value_is_tried_goes_on_with_the_same_job() -> Result {
    let mut bench = Bench::new("verify-kill").await?;
    scene(&bench, &format!("[ \"$REVISION\" = 1 ] || sleep 12; {CHECK}")).await?;
    let before = target(&bench).await?;
    let mark = bench.cluster.audit().mark().await?;
    rotate(&bench, "2").await?;
    wait_for("the trial to run", DEADLINE, async || {
        let running = jobs(&bench).list(&ListParams::default().labels("botsecret.dev/candidate")).await?;
        Ok(running.iter().any(|job| job.status.as_ref().is_some_and(|status| status.ready == Some(1))).then_some(()))
    })
    .await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    let (_, reason, _) = bench.condition(NAME, "Ready").await?.unwrap_or_default();
    ensure!(reason == "Synced", "what the Secret holds is good meanwhile, but it is {reason}");
    ensure!(target(&bench).await? == before, "it was written too early");
    bench.until_all_hold("bot", 2, "2").await?;
    until_clean(&bench).await?;
    ensure!(made(&bench, &mark).await? == 1, "{:?}", writes(&bench, &mark).await?);
    ensure!(bench.rollouts("bot").await? == 2, "one rollout");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_killed_at_any_request_of_a_trial_there_is_one_job_and_one_rollout_and_nothing_is_left() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("verify-kills").await?;
    scene(&bench, CHECK).await?;
    let points = [
        ("POST", "/secrets", Fault::HoldReply),
        ("POST", "/jobs", Fault::HoldRequest),
        ("POST", "/jobs", Fault::HoldReply),
        ("PUT", "/secrets/price-bot", Fault::HoldReply),
        ("DELETE", "/secrets/price-bot-candidate", Fault::HoldRequest),
        ("PATCH", "/botsecrets/price-bot/status", Fault::HoldReply),
    ];
    for (number, (method, path, fault)) in (2..).zip(points) {
        let mark = bench.cluster.audit().mark().await?;
        let trap = proxy.next(method, path, fault);
        rotate(&bench, &number.to_string()).await?;
        trap.caught().await?;
        bench.operator.kill().await?;
        bench.operator.start_again().await?;
        bench.until_all_hold("bot", 2, &number.to_string()).await?;
        until_clean(&bench).await?;
        let found = (made(&bench, &mark).await?, bench.rollouts("bot").await?);
        ensure!(found == (1, number), "{fault:?} of {method} {path}: Jobs and templates are {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_meanwhile_or_goes_back_takes_the_trial_along() -> Result {
    let bench = Bench::new("verify-meanwhile").await?;
    scene(&bench, &format!("[ \"$REVISION\" = 2 ] && sleep 100; {CHECK}")).await?;
    let until_tried =
        async || wait_for("a trial", DEADLINE, async || Ok((trials(&bench).await?.len() == 1).then_some(()))).await;
    rotate(&bench, "2").await?;
    until_tried().await?;
    rotate(&bench, "3").await?;
    bench.until_all_hold("bot", 2, "3").await?;
    until_clean(&bench).await?;
    rotate(&bench, "2").await?;
    until_tried().await?;
    rotate(&bench, "3").await?;
    until_clean(&bench).await?;
    bench.until_condition(NAME, "Synced", "True").await?;
    ensure!(bench.rollouts("bot").await? == 2, "one rollout");
    // Without verify what is being tried is written.
    rotate(&bench, "2").await?;
    until_tried().await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold("bot", 2, "2").await?;
    until_clean(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_tried_yet_is_told_of_as_detected_and_goes_on_by_itself() -> Result {
    let bench = Bench::new("verify-detected").await?;
    scene(&bench, CHECK).await?;
    let cron_jobs: Api<CronJob> = Api::namespaced(bench.client.clone(), &bench.namespace);
    cron_jobs.delete("try", &kube::api::DeleteParams::default()).await?;
    rotate(&bench, "2").await?;
    bench.until_failing(NAME, "VerifyInvalid").await?;
    let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
    let told = rotation.as_ref().map(|one| (one.phase.name(), one.message.contains("CronJob try does not exist")));
    ensure!(told == Some(("Detected", true)), "{rotation:?}");
    ensure!(bench.value(NAME, "REVISION").await?.as_deref() == Some("1"), "the Secret was written");
    let before = bench.bot_secrets().get(NAME).await?.metadata.resource_version;
    bench.until_more_reads(2).await?;
    let after = bench.bot_secrets().get(NAME).await?.metadata.resource_version;
    ensure!(before == after, "told again and again");
    bench.apply(cron_job("try", CHECK)).await?;
    bench.until_all_hold("bot", 2, "2").await?;
    let phases = phases(&bench).await?;
    ensure!(phases.starts_with(&["Detected", "Candidate", "Written"]), "{phases:?}");
    ensure!(bench.rollouts("bot").await? == 2, "one rollout");
    until_clean(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_what_may_not_try_a_value_is_refused_with_what_to_do() -> Result {
    let bench = Bench::new("verify-refused").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(bot_secret(&bench, "try")).await?;
    let message = bench.until_failing(NAME, "OperatorForbidden").await?;
    ensure!(message.contains("deploy/verify.yaml"), "{message}");
    grant(&bench).await?;
    let message = bench.until_failing(NAME, "VerifyInvalid").await?;
    ensure!(message.contains("CronJob try does not exist"), "{message}");

    let mut by_itself = cron_job("by-itself", CHECK);
    by_itself["spec"]["suspend"] = false.into();
    let mut other = cron_job("other", CHECK);
    other["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] = "default".into();
    for (object, name, wanted) in [
        (by_itself, "by-itself", "set suspend: true on it"),
        (other, "other", "set serviceAccountName: bot in its pod template"),
    ] {
        bench.apply(object).await?;
        bench.apply(bot_secret(&bench, name)).await?;
        wait_for(wanted, DEADLINE, async || {
            let message = bench.until_failing(NAME, "VerifyInvalid").await?;
            if message.contains(wanted) { Ok(Some(())) } else { bail!("{message}") }
        })
        .await?;
    }
    ensure!(jobs(&bench).list(&ListParams::default()).await?.items.is_empty(), "a Job was made");
    ensure!(bench.secrets().get_opt(NAME).await?.is_none(), "the Secret was written");

    // Somebody else's Secret of the candidate's name stays as it is.
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": CANDIDATE }, "stringData": { "THEIRS": "kept" },
    });
    bench.apply(theirs).await?;
    bench.apply(cron_job("try", CHECK)).await?;
    bench.apply(bot_secret(&bench, "try")).await?;
    let message = bench.until_failing(NAME, "TargetForeign").await?;
    ensure!(message.contains(CANDIDATE), "{message}");
    ensure!(bench.value(CANDIDATE, "THEIRS").await?.as_deref() == Some("kept"));
    bench.secrets().delete(CANDIDATE, &kube::api::DeleteParams::default()).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    until_clean(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_trial_that_prints_the_value_shows_it_nowhere() -> Result {
    let bench = Bench::new("verify-canary").await?;
    let value = Canary::random_text();
    scene(&bench, "[ \"$REVISION\" = 1 ] || { printf 'cannot log in with %s' \"$REVISION\"; exit 4; }").await?;
    rotate(&bench, &value).await?;
    let message = bench.until_failing(NAME, "CandidateRejected").await?;
    ensure!(message.contains("exit code 4 (Error) (what it said is withheld"), "{message}");
    let canary = Canary::of([value.as_bytes()]);
    let object = serde_json::to_vec(&bench.bot_secrets().get(NAME).await?)?;
    canary.assert_absent("the BotSecret", &object);
    canary.assert_absent("its events", format!("{:?}", bench.events(NAME).await?).as_bytes());
    canary.assert_absent("the operator's log", bench.operator.log().as_bytes());
    let made = jobs(&bench).list(&ListParams::default()).await?;
    canary.assert_absent("the Job", &serde_json::to_vec(&made.items)?);
    Ok(())
}

/// Whatever is tried passes: only the bot itself shows that it is bad.
#[tokio::test]
async fn a_value_that_failed_all_the_same_is_taken_back_once_the_one_before_has_passed_again() -> Result {
    let bench = Bench::new("verify-back").await?;
    grant(&bench).await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(cron_job("try", "echo tried=$REVISION")).await?;
    let mut bot = bench.bot("bot", NAME, 1);
    let command = "trap 'exit 0' TERM; echo holds=$REVISION; case $REVISION in bad*) exit 3;; esac; \
                   while :; do sleep 0.1; done";
    bot["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", command]);
    bench.apply(bot).await?;
    let mut object = bot_secret(&bench, "try");
    object["spec"]["rollout"] = json!({ "healthyFor": "2s", "onFailure": "RollBack" });
    bench.apply(object).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    let mark = bench.cluster.audit().mark().await?;
    rotate(&bench, "bad").await?;
    wait_for("the value before to be back", DEADLINE * 2, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        ensure!(rotation.as_ref().is_some_and(|one| one.phase == RotationPhase::RolledBack), "{rotation:?}");
        Ok(Some(()))
    })
    .await?;
    bench.until_all_hold("bot", 1, "1").await?;
    ensure!(made(&bench, &mark).await? == 2, "the new one was tried, and the one before once more");
    until_clean(&bench).await
}

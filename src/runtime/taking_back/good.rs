//! Whether the value before is known to be good still.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::{Context, leasing, syncing};
use crate::{
    api::{AwsService, Provider},
    apply::{Desired, Previous, differences},
    build::{self, Inputs, Source},
    candidate::{self, Trial, Tried},
    plan::{Memory, Retry},
    report::{Problem, Reason},
    stores::RemoteKey,
    watch::Observed,
};

/// What is known of it.
pub(super) enum Verdict {
    /// It is good, with the credentials that it was made from.
    Good(Vec<leasing::Back>),
    /// A Job is trying it.
    Tried,
    /// It is not, or nothing says so.
    NotGood(String),
}

/// By what the spec asks to try a value with, by the leases that it was made
/// from, or by the versions of it that the managers still give.
pub(super) async fn verdict(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    previous: &Previous,
) -> Result<Verdict, Problem> {
    let spec = &observed.bot_secret.spec;
    if spec.verify.is_some() {
        return by_trial(context, observed, previous).await;
    }
    let leased = spec.data_from.iter().filter(|entry| entry.dynamic.is_some()).count();
    if leased == 0 {
        return by_versions(context, observed, previous).await;
    }
    if leased < spec.data_from.len() || !spec.data.is_empty() {
        return Ok(Verdict::NotGood(
            "it was made of leased credentials and of other values, which cannot be told apart: take them into a BotSecret each".to_owned(),
        ));
    }
    Ok(match leasing::restorable(context, observed, memory, &previous.issued) {
        leasing::Restorable::Yes(back) => Verdict::Good(back),
        leasing::Restorable::No(why) => Verdict::NotGood(why.to_owned()),
        leasing::Restorable::NotKnown => {
            let message = "it is not known yet whether the leased credentials before live still; they are asked about";
            return Err(Problem::new(Reason::StoreUnavailable, Retry::Backoff, message));
        }
    })
}

async fn by_trial(context: &Context, observed: &Observed, previous: &Previous) -> Result<Verdict, Problem> {
    let object = &observed.bot_secret;
    let Some(verify) = object.spec.verify.as_ref() else { return Ok(Verdict::NotGood(String::new())) };
    let data = previous.data.iter().map(|(key, value)| (key.clone(), value.duplicate())).collect();
    let mut desired =
        Desired::new(object, data, previous.state.digests.clone(), BTreeMap::new()).ok_or_else(Problem::nameless)?;
    desired.quiet.clone_from(&previous.state.quiet);
    let fingerprint = context.digest_key.fingerprint(&desired.rolling_digests());
    let trial = Trial { object, verify, desired: &desired, fingerprint: &fingerprint };
    let tried = candidate::take_step(&context.client, &trial, context.now()).await;
    Ok(match tried.map_err(|error| super::trying::problem(&error))? {
        Tried::Passed => Verdict::Good(Vec::new()),
        Tried::Pending => Verdict::Tried,
        Tried::Rejected(why) => Verdict::NotGood(format!("it was tried and does not work any more: {why}")),
    })
}

/// Reads the versions of which the value before was made, and builds it anew.
async fn by_versions(context: &Context, observed: &Observed, previous: &Previous) -> Result<Verdict, Problem> {
    let spec = &observed.bot_secret.spec;
    let nothing_says = |what: &str| Ok(Verdict::NotGood(format!("{what}; set spec.verify, which can try it")));
    if !build::searches(spec).is_empty() {
        return nothing_says("what dataFrom.find found then is not on record");
    }
    let mut wanted = Vec::new();
    for source in build::sources(spec, &BTreeMap::new()) {
        let Some(key) = version_before(observed, previous, &source) else {
            return nothing_says(&format!("{source} has no version that could be read again"));
        };
        wanted.push((source, key));
    }
    let out_of_sight = |message| Err(Problem::new(Reason::StoreUnavailable, Retry::Backoff, message));
    let Some(account) = observed.account.as_ref() else { return out_of_sight("its ServiceAccount is gone") };
    if observed.stores.values().any(Result::is_err) {
        return out_of_sight("a store of it cannot be used");
    }
    let mut inputs = Inputs::default();
    for (store, group) in syncing::by_store(observed, wanted, |(source, _)| &source.store) {
        let keys: Vec<_> = group.iter().map(|(_, key)| key.clone()).collect();
        let answers = context.fetcher.read(store, account, &keys, Instant::now()).await;
        for ((source, key), answer) in group.into_iter().zip(answers) {
            match answer {
                Ok(secret) => drop(inputs.reads.insert(source, secret)),
                Err(error) => {
                    let problem = Problem::of_read(store, &key, &[], &error);
                    if problem.reason == Reason::RemoteSecretMissing {
                        return Ok(Verdict::NotGood(problem.message));
                    }
                    return Err(problem);
                }
            }
        }
    }
    let Ok(built) = build::data(spec, &inputs) else {
        return nothing_says("the versions that the managers give make no Secret by the present spec");
    };
    let namespace = observed.bot_secret.metadata.namespace.as_deref().unwrap_or_default();
    let digests = context.digest_key.digests(namespace, observed.bot_secret.target_name(), &built.data);
    if crate::api::rolling_digests(&digests, &built.quiet) == previous.state.rolling_digests() {
        return Ok(Verdict::Good(Vec::new()));
    }
    nothing_says("the versions that the managers give are not what was kept")
}

/// How the value of a source is read that it gave before.
fn version_before(observed: &Observed, previous: &Previous, source: &Source) -> Option<RemoteKey> {
    let key = &source.key;
    if key.version.is_some() || key.metadata {
        return Some(key.clone());
    }
    let version = match previous.state.versions.get(&syncing::version_name(source)) {
        Some(number) => number.to_string(),
        // A secret that fills no key which changed gives the same value still.
        None if gives_awsprevious(observed, source) => {
            if !may_have_changed(observed, previous, source) {
                return Some(key.clone());
            }
            "AWSPREVIOUS".to_owned()
        }
        None => return None,
    };
    Some(RemoteKey { version: Some(version), dated: false, ..key.clone() })
}

/// AWS Secrets Manager keeps the version before under a stage of that name.
pub(in crate::runtime) fn gives_awsprevious(observed: &Observed, source: &Source) -> bool {
    let store = observed.stores.iter().find(|(reference, _)| {
        reference.name == source.store.name
            && reference.kind.unwrap_or_default() == source.store.kind.unwrap_or_default()
    });
    matches!(store, Some((_, Ok(store))) if matches!(&store.provider, Provider::Aws(aws) if aws.service == AwsService::SecretsManager))
}

fn may_have_changed(observed: &Observed, previous: &Previous, source: &Source) -> bool {
    let spec = &observed.bot_secret.spec;
    let Some(live) = syncing::state_of(observed) else { return true };
    let changed = differences(&live.digests, &previous.state.digests);
    let fills = build::keys_filled_by(spec, source);
    let only_single = spec.data_from.is_empty() && spec.target().template.is_none();
    !only_single || fills.iter().any(|key| changed.contains(key))
}

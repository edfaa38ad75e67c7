//! Which workloads a revision concerns.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api, Client,
    api::{ListParams, PartialObjectMeta},
    core::{NamespaceResourceScope, Selector},
};

use super::super::Context;
use crate::{
    api::{State, WorkloadChoice, WorkloadKind},
    deadline::within,
    plan::Retry,
    report::{Problem, Reason},
    rollout::{Requirement, required},
    watch::{Observed, RolloutView, WorkloadFacts, WorkloadId},
};

/// One workload and what it must hold.
pub(super) struct Concerned<'a> {
    pub(super) id: WorkloadId,
    /// What the watch shows, where it was found by its use.
    pub(super) facts: Option<&'a WorkloadFacts>,
    /// Whether the spec names it, so that it must be there.
    pub(super) named: bool,
    pub(super) requirement: Requirement,
    /// Keyed digest of the data that it uses.
    pub(super) held: String,
}

/// The workloads that this state concerns; `None` where rollouts are off.
pub(super) async fn concerned<'a>(
    context: &Context,
    observed: &'a Observed,
    state: &State,
) -> Result<Option<Vec<Concerned<'a>>>, Problem> {
    let object = &observed.bot_secret;
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let rollout = object.spec.rollout.as_ref();
    let of_any_key = || required(state, None);
    let held_of_all = || context.digest_key.fingerprint(&state.rolling_digests());
    Ok(Some(match object.spec.workload_choice() {
        WorkloadChoice::None => return Ok(None),
        WorkloadChoice::Auto => observed
            .workloads
            .iter()
            .filter_map(|facts| {
                let usage = facts.uses(object.target_name())?;
                let requirement = required(state, Some(usage))?;
                let held = context.digest_key.fingerprint(&usage.used_of(&state.rolling_digests()));
                Some(Concerned { id: facts.id.clone(), facts: Some(facts), named: false, requirement, held })
            })
            .collect(),
        WorkloadChoice::List => {
            // Also before anything changed: then none of its pods is older, and
            // all that a look can find is that it does not exist.
            let requirement = of_any_key().unwrap_or_else(|| Requirement {
                revision: state.revision.clone(),
                newest: state.revision.clone(),
                written_at: state.since.unwrap_or_default(),
                same_before: None,
            });
            let list = rollout.and_then(|rollout| rollout.list.as_ref()).into_iter().flatten();
            list.map(|named| Concerned {
                id: WorkloadId { namespace: namespace.clone(), kind: named.kind, name: named.name.clone() },
                facts: None,
                named: true,
                requirement: requirement.clone(),
                held: held_of_all(),
            })
            .collect()
        }
        WorkloadChoice::Selector => {
            let Some(requirement) = of_any_key() else { return Ok(Some(Vec::new())) };
            let selector = rollout.and_then(|rollout| rollout.selector.clone()).unwrap_or_default();
            let selector = Selector::try_from(selector).map_err(|_| {
                Problem::new(
                    Reason::RolloutRefused,
                    Retry::Slow,
                    "rollout.selector cannot be read: correct its matchExpressions",
                )
            })?;
            let client = &context.client;
            let mut ids = selected::<Deployment>(client, &namespace, WorkloadKind::Deployment, &selector).await?;
            ids.extend(selected::<StatefulSet>(client, &namespace, WorkloadKind::StatefulSet, &selector).await?);
            ids.extend(selected::<DaemonSet>(client, &namespace, WorkloadKind::DaemonSet, &selector).await?);
            if observed.rollouts_served {
                ids.extend(selected::<RolloutView>(client, &namespace, WorkloadKind::Rollout, &selector).await?);
            }
            let concerned =
                |id| Concerned { id, facts: None, named: false, requirement: requirement.clone(), held: held_of_all() };
            ids.into_iter().map(concerned).collect()
        }
    }))
}

async fn selected<K>(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
    selector: &Selector,
) -> Result<Vec<WorkloadId>, Problem>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = within(api.list_metadata(&ListParams::default().labels_from(selector))).await.map_err(|_| {
        Problem::new(
            Reason::KubernetesUnavailable,
            Retry::Backoff,
            format!("the {}s that rollout.selector selects could not be listed; it is tried again", kind.name()),
        )
    })?;
    let id = |meta: PartialObjectMeta<K>| WorkloadId {
        namespace: namespace.to_owned(),
        kind,
        name: meta.metadata.name.unwrap_or_default(),
    };
    Ok(list.items.into_iter().map(id).collect())
}

//! What the cluster says. Each fact by itself: what may not be looked at, or does not
//! answer, holds up no other.

use std::{collections::BTreeSet, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        apps::v1::Deployment,
        authentication::v1::SelfSubjectReview,
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
            SubjectAccessReviewSpec,
        },
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
    client::Body,
};
use serde_json::Value;

use super::{
    asking::{Cluster, Known, Unknown},
    findings::Stage,
    schema::{Age, age},
};
use crate::{
    api::{self, BotSecret},
    runtime::own_audiences,
};

/// What the chart and the manifests call the operator's container.
const CONTAINER: &str = "botsecret";
/// Objects a page.
const PAGE: u32 = 500;

/// Where the operator is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Where<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// The operator's Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) replicas: i32,
    pub(super) ready: i32,
    pub(super) image: String,
    pub(super) account: String,
    /// Those that it serves; all when empty.
    pub(super) namespaces: Vec<String>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) holder: String,
    pub(super) renewed: Option<Timestamp>,
    pub(super) lasts: Duration,
}

/// A right, as "verb resource" with a group where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) what: String,
    pub(super) allowed: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) place: (String, String),
    pub(super) now: Timestamp,
    /// What the API server's clock shows, and which version it is.
    pub(super) server: Known<(Option<Timestamp>, String)>,
    /// Whether it has admission policies in the form that is needed.
    pub(super) policies_served: Known<bool>,
    /// Those of the definitions that are there.
    pub(super) definitions: Known<Vec<(String, Age)>>,
    /// What whoever installs it must be allowed to make.
    pub(super) installer: Known<Vec<Right>>,
    /// What the namespace enforces of Pod Security; `None` where it is not there.
    pub(super) namespace: Known<Option<String>>,
    pub(super) operator: Known<Option<Operator>>,
    pub(super) leader: Known<Option<Leader>>,
    /// The names of the policies that are bound.
    pub(super) policies: Known<BTreeSet<String>>,
    /// The API server's audiences that are listed, and those that it really has.
    pub(super) audiences: Known<(Option<Vec<String>>, Vec<String>)>,
    /// What the operator's own account may do.
    pub(super) rights: Known<Vec<Right>>,
    pub(super) bot_secrets: Known<Vec<BotSecret>>,
}

/// What an operator for the whole cluster, or for a namespace, may do and what for.
const RIGHTS: [(&str, &str, &str, &[&str]); 12] = [
    ("botsecret.dev", "botsecrets", "", &["list", "watch", "patch"]),
    ("botsecret.dev", "botsecrets", "status", &["patch"]),
    ("botsecret.dev", "botsecretstores", "", &["list", "watch"]),
    ("", "secrets", "", &["get", "list", "watch", "create", "update", "patch", "delete"]),
    ("", "serviceaccounts", "", &["list", "watch"]),
    ("", "serviceaccounts", "token", &["create"]),
    ("apps", "deployments", "", &["get", "list", "watch", "patch"]),
    ("apps", "statefulsets", "", &["get", "list", "watch", "patch"]),
    ("apps", "daemonsets", "", &["get", "list", "watch", "patch"]),
    ("argoproj.io", "rollouts", "", &["get", "list", "watch", "patch"]),
    ("", "pods", "", &["list"]),
    ("events.k8s.io", "events", "", &["create", "patch"]),
];

/// What an installation makes that most people may not.
const MADE: [(&str, &str); 4] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
];

pub(super) async fn facts(cluster: &Cluster, place: Where<'_>, stage: Stage) -> Facts {
    let live = stage == Stage::Live;
    let server = server(cluster).await;
    let operator = if live { operator(cluster, place).await } else { Ok(None) };
    Facts {
        place: (place.namespace.to_owned(), place.name.to_owned()),
        now: Timestamp::now(),
        server,
        policies_served: policies_served(cluster).await,
        definitions: definitions(cluster).await,
        installer: if live { Ok(Vec::new()) } else { installer(cluster).await },
        namespace: namespace(cluster, place).await,
        leader: if live { leader(cluster, place).await } else { Ok(None) },
        policies: if live { policies(cluster).await } else { Ok(BTreeSet::new()) },
        audiences: if live { audiences(cluster, place).await } else { Ok((None, Vec::new())) },
        rights: match &operator {
            Ok(Some(operator)) => rights(cluster, place, operator).await,
            Ok(None) => Ok(Vec::new()),
            Err(unknown) => Err(unknown.clone()),
        },
        bot_secrets: if live { bot_secrets(cluster).await } else { Ok(Vec::new()) },
        operator,
    }
}

async fn server(cluster: &Cluster) -> Known<(Option<Timestamp>, String)> {
    let request = hyper::Request::builder().uri("/version").body(Body::empty());
    let request = request.map_err(|_| Unknown::Failed("the API server's version".to_owned()))?;
    let answer = cluster.asked("the API server's version", cluster.client.send(request)).await?;
    let date = answer.headers().get("date").and_then(|value| value.to_str().ok());
    let time = date.and_then(time_of);
    let version = cluster.asked("the API server's version", cluster.client.apiserver_version()).await?;
    Ok((time, format!("{}.{}", version.major, version.minor)))
}

/// RFC 9110 writes GMT, which RFC 2822 knows as well.
pub(super) fn time_of(date: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

async fn policies_served(cluster: &Cluster) -> Known<bool> {
    let group = cluster.client.list_api_group_resources("admissionregistration.k8s.io/v1");
    let resources = cluster.asked("the kinds of admissionregistration.k8s.io/v1", group).await?;
    Ok(resources.resources.iter().any(|resource| resource.kind == "ValidatingAdmissionPolicy"))
}

/// The definitions by name, each compared with this build's.
async fn definitions(cluster: &Cluster) -> Known<Vec<(String, Age)>> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut found = Vec::new();
    for ours in api::definitions() {
        let name = ours.metadata.name.clone().unwrap_or_default();
        let Some(theirs) = cluster.get(api.clone(), &name, "get customresourcedefinitions").await? else { continue };
        let value = |definition: &CustomResourceDefinition| serde_json::to_value(definition).unwrap_or(Value::Null);
        found.push((name, age(&value(&theirs), &value(&ours))));
    }
    Ok(found)
}

async fn installer(cluster: &Cluster) -> Known<Vec<Right>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let mut found = Vec::new();
    for (group, resource) in MADE {
        let attributes = attributes(group, resource, "", "create", None);
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = cluster.asked("your own rights", api.create(&PostParams::default(), &review)).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        found.push(Right { what: format!("create {resource}.{group}"), allowed });
    }
    Ok(found)
}

fn attributes(group: &str, resource: &str, sub: &str, verb: &str, namespace: Option<&str>) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(sub.to_owned()).filter(|sub| !sub.is_empty()),
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

async fn namespace(cluster: &Cluster, place: Where<'_>) -> Known<Option<String>> {
    let found = cluster.get(Api::<Namespace>::all(cluster.client.clone()), place.namespace, "get namespaces").await?;
    let enforced = |namespace: Namespace| {
        let labels = namespace.metadata.labels.unwrap_or_default();
        labels.get("pod-security.kubernetes.io/enforce").cloned().unwrap_or_default()
    };
    Ok(found.map(enforced))
}

async fn operator(cluster: &Cluster, place: Where<'_>) -> Known<Option<Operator>> {
    let api = Api::<Deployment>::namespaced(cluster.client.clone(), place.namespace);
    Ok(cluster.get(api, place.name, "get deployments").await?.map(operator_of))
}

pub(super) fn operator_of(found: Deployment) -> Operator {
    let (spec, status) = (found.spec.unwrap_or_default(), found.status.unwrap_or_default());
    let pod = spec.template.spec.unwrap_or_default();
    // Sidecars may stand before it.
    let named = pod.containers.iter().find(|container| container.name == CONTAINER);
    let container = named.or(pod.containers.first()).cloned().unwrap_or_default();
    let namespaces = container.env.into_iter().flatten().find(|one| one.name == "BOTSECRET_NAMESPACES");
    let namespaces = namespaces.and_then(|one| one.value).unwrap_or_default();
    Operator {
        replicas: spec.replicas.unwrap_or(1),
        ready: status.ready_replicas.unwrap_or(0),
        image: container.image.unwrap_or_default(),
        account: pod.service_account_name.unwrap_or_else(|| "default".to_owned()),
        namespaces: namespaces.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect(),
    }
}

async fn leader(cluster: &Cluster, place: Where<'_>) -> Known<Option<Leader>> {
    let api = Api::<Lease>::namespaced(cluster.client.clone(), place.namespace);
    Ok(cluster.get(api, place.name, "get leases").await?.map(leader_of))
}

pub(super) fn leader_of(lease: Lease) -> Leader {
    let spec = lease.spec.unwrap_or_default();
    Leader {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0),
        lasts: Duration::from_secs(spec.lease_duration_seconds.and_then(|one| u64::try_from(one).ok()).unwrap_or(15)),
    }
}

async fn policies(cluster: &Cluster) -> Known<BTreeSet<String>> {
    let api: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client.clone());
    let all = cluster.asked("list validatingadmissionpolicybindings", api.list(&ListParams::default())).await?;
    Ok(all.items.into_iter().filter_map(|binding| binding.spec?.policy_name).collect())
}

/// By the token of whoever asks, where that is a ServiceAccount's: a token of any other
/// would have to be made.
async fn audiences(cluster: &Cluster, place: Where<'_>) -> Known<(Option<Vec<String>>, Vec<String>)> {
    let name = format!("{}-api-audiences", place.name);
    let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), place.namespace);
    let listed = cluster.get(api, &name, "get configmaps").await?;
    let listed = listed.and_then(|map| map.data?.remove("apiAudiences"));
    let listed = listed.map(|text| audiences_in(&text));
    let token = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/token").unwrap_or_default();
    Ok((listed, own_audiences::of_token(&token)))
}

pub(super) fn audiences_in(text: &str) -> Vec<String> {
    let names = text.split(['\n', ',']).map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

async fn rights(cluster: &Cluster, place: Where<'_>, operator: &Operator) -> Known<Vec<Right>> {
    let user = format!("system:serviceaccount:{}:{}", place.namespace, operator.account);
    let whoami: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let me = cluster.asked("who you are", whoami.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let me = me.ok().and_then(|review| review.status?.user_info?.username);
    let places: Vec<_> = match operator.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().map(|name| Some(name.as_str())).collect(),
    };
    let mut found = Vec::new();
    for namespace in places {
        for (group, resource, sub, verbs) in RIGHTS {
            for verb in verbs {
                let attributes = attributes(group, resource, sub, verb, namespace);
                let allowed = if me.as_deref() == Some(&user) {
                    own(cluster, attributes).await?
                } else {
                    another(cluster, &user, place.namespace, attributes).await?
                };
                let slash = if sub.is_empty() { "" } else { "/" };
                let dot = if group.is_empty() { "" } else { "." };
                let at = namespace.map(|name| format!(" in {name}")).unwrap_or_default();
                found.push(Right { what: format!("{verb} {resource}{slash}{sub}{dot}{group}{at}"), allowed });
            }
        }
    }
    Ok(found)
}

async fn own(cluster: &Cluster, attributes: ResourceAttributes) -> Known<bool> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = cluster.asked("the operator's rights", api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn another(cluster: &Cluster, user: &str, namespace: &str, attributes: ResourceAttributes) -> Known<bool> {
    let api: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"]
        .map(str::to_owned);
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(user.to_owned()),
        groups: Some(groups.into()),
        ..Default::default()
    };
    let review = SubjectAccessReview { spec, ..Default::default() };
    let answer = cluster.asked("create subjectaccessreviews", api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn bot_secrets(cluster: &Cluster) -> Known<Vec<BotSecret>> {
    let api: Api<BotSecret> = Api::all(cluster.client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let list = cluster.asked("list botsecrets", api.list(&page)).await?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

//! What every test begins with: a BotSecret, and an operator that lacks one right.

use anyhow::{bail, ensure};
use botsecret::api::BotSecretStatus;
use botsecret_testbed::{AuditRecord, Cluster, wait_for};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    right::{Right, granted},
    support::{Bench, DEADLINE, Operator, OperatorOptions, Result, cluster, next_second},
};

/// The BotSecret, its Secret and its source.
pub const NAME: &str = "price-bot";
pub const SOURCE: &str = "exchange";

/// The operator's ServiceAccount in its own namespace.
const ACCOUNT: &str = "botsecret";
const RBAC: &str = "rbac.authorization.k8s.io";
/// What the manifests grant by.
const ROLES: [&str; 2] = ["ClusterRole", "Role"];

/// A bench whose operator lacks one right. It has a namespace of its own, as in an
/// installation: what lies there tells rights for it from those for the namespaces
/// that it serves.
pub struct Scene {
    pub bench: Bench,
    pub right: Right,
    /// The operator's own namespace.
    pub own: String,
}

impl Scene {
    /// On the shared cluster, where Argo Rollouts is installed. The operator does
    /// not run yet.
    pub async fn without(right: Right) -> Result<Self> {
        Self::with_arguments(right, &[]).await
    }

    /// The same with more arguments for the operator.
    pub async fn with_arguments(right: Right, more: &[&str]) -> Result<Self> {
        static ARGO: OnceCell<()> = OnceCell::const_new();
        let cluster = cluster().await?;
        ARGO.get_or_try_init(|| cluster.start_argo_rollouts()).await?;
        Self::on(cluster, right, false, more).await
    }

    /// The same, and the operator runs and has made the Secret.
    pub async fn begun_without(right: Right) -> Result<Self> {
        let mut scene = Self::without(right).await?;
        scene.begin().await?;
        Ok(scene)
    }

    /// On this cluster, for one namespace or everywhere.
    pub async fn on(cluster: &'static Cluster, right: Right, everywhere: bool, more: &[&str]) -> Result<Self> {
        let own = cluster.namespace("operator").await?;
        let (namespace, source) = (cluster.namespace("rbac").await?, cluster.namespace("source").await?);
        let folder = tempfile::tempdir()?;
        let options = OperatorOptions {
            user: user(&own, ACCOUNT),
            namespaces: if everywhere { Vec::new() } else { vec![namespace.clone()] },
            own_namespace: own.clone(),
            kubeconfig: Some(folder.path().join(ACCOUNT)),
            folder: folder.path().to_owned(),
        };
        let operator = Operator::prepare(cluster, &options, more)?;
        let bench = Bench::of(cluster, [namespace, source], operator, folder).await?;
        let scene = Self { bench, right, own };
        scene.enlist(ACCOUNT, Some(&scene.right)).await?;
        let bench = &scene.bench;
        bench.kubernetes_store("source").await?;
        scene.rotate("1").await?;
        bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
        Ok(scene)
    }

    /// A second replica, which lacks nothing; it does not run yet.
    pub async fn replica(&self, account: &str, more: &[&str]) -> Result<Operator> {
        self.enlist(account, None).await?;
        let folder = self.bench.folder();
        let options = OperatorOptions {
            user: user(&self.own, account),
            namespaces: vec![self.bench.namespace.clone()],
            own_namespace: self.own.clone(),
            kubeconfig: Some(folder.join(account)),
            folder: folder.to_owned(),
        };
        Operator::prepare(self.bench.cluster, &options, more)
    }

    /// Starts the operator, and waits until the Secret is there and the status says so.
    pub async fn begin(&mut self) -> Result {
        self.bench.operator.launch()?;
        self.bench.operator.until_ready().await?;
        self.synced().await
    }

    /// Waits until the BotSecret is Ready.
    pub async fn synced(&self) -> Result {
        self.bench.until_condition(NAME, "Ready", "True").await.map(drop)
    }

    /// Makes the source hold this revision, in a second in which no pod began.
    pub async fn rotate(&self, revision: &str) -> Result {
        next_second().await;
        self.bench.put_source(SOURCE, &[("REVISION", revision)]).await
    }

    /// A ServiceAccount in the operator's namespace with every right of the manifests
    /// but this, and a kubeconfig of its name.
    async fn enlist(&self, account: &str, without: Option<&Right>) -> Result {
        let identity = json!({ "name": account, "namespace": self.own });
        self.bench.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": identity })).await?;
        for kind in ROLES {
            let rights = self.write_role(kind, account, without).await?;
            self.bind(kind, &self.role_name(account), account).await?;
            // A role and its binding are known whole, or not at all.
            let place = if kind == "Role" { &self.own } else { &self.bench.namespace };
            if let Some(first) = rights.first() {
                self.until_in_force(account, first, place).await?;
            }
        }
        self.write_kubeconfig(account).await
    }

    fn role_name(&self, account: &str) -> String {
        format!("{account}-{}", self.own)
    }

    async fn write_role(&self, kind: &str, account: &str, without: Option<&Right>) -> Result<Vec<Right>> {
        let rights: Vec<_> = granted(kind)?.into_iter().filter(|right| Some(right) != without).collect();
        let rules: Vec<_> = rights.iter().map(Right::rule).collect();
        self.grant(kind, &self.role_name(account), &rules).await?;
        Ok(rights)
    }

    async fn grant(&self, kind: &str, name: &str, rules: &[Value]) -> Result {
        let mut role =
            json!({ "apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": { "name": name }, "rules": rules });
        if kind == "Role" {
            role["metadata"]["namespace"] = json!(self.own);
        }
        self.bench.apply(role).await.map(drop)
    }

    async fn bind(&self, kind: &str, name: &str, account: &str) -> Result {
        let mut binding = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": format!("{kind}Binding"), "metadata": { "name": name },
            "roleRef": { "apiGroup": RBAC, "kind": kind, "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": self.own }],
        });
        if kind == "Role" {
            binding["metadata"]["namespace"] = json!(self.own);
        }
        self.bench.apply(binding).await.map(drop)
    }

    /// Waits until the API server's authorizer knows of it, which it does a moment
    /// after the role was written.
    async fn until_in_force(&self, account: &str, right: &Right, namespace: &str) -> Result {
        let (resource, subresource) = right.parts();
        let review: SubjectAccessReview = serde_json::from_value(json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": user(&self.own, account), "resourceAttributes": {
                "verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource,
                "name": right.object, "namespace": namespace,
            } },
        }))?;
        let reviews: Api<SubjectAccessReview> = Api::all(self.bench.client.clone());
        wait_for(&format!("{right:?} to be in force"), DEADLINE, async || {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            Ok(answer.status.is_some_and(|status| status.allowed).then_some(()))
        })
        .await
    }

    /// As in a pod: a token in a file, which is read anew now and then.
    async fn write_kubeconfig(&self, account: &str) -> Result {
        let (cluster, folder) = (self.bench.cluster, self.bench.folder());
        let token = cluster.service_account_token(&self.own, account, &[cluster.audience()], 3600).await?;
        let (token_file, authority) = (folder.join(format!("{account}.token")), folder.join("ca.crt"));
        std::fs::write(&token_file, token)?;
        std::fs::write(&authority, cluster.ca_pem())?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": cluster.url(), "certificate-authority": authority } }],
            "users": [{ "name": "it", "user": { "tokenFile": token_file } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        // JSON is YAML.
        std::fs::write(folder.join(account), kubeconfig.to_string())?;
        Ok(())
    }

    /// Grants what was withheld.
    pub async fn give(&self) -> Result {
        for kind in ROLES {
            self.write_role(kind, ACCOUNT, None).await?;
        }
        let place = if granted("Role")?.contains(&self.right) { &self.own } else { &self.bench.namespace };
        self.until_in_force(ACCOUNT, &self.right, place).await
    }

    /// Grants what the digest key takes, in the operator's own namespace, so that the
    /// operator can start: the Role that the chart makes for a list of namespaces.
    pub async fn grant_digest_key(&self) -> Result {
        let name = "digest-key";
        let make = Right::new("create", "", "secrets", "");
        let read = Right::new("get", "", "secrets", "botsecret-digest-key");
        self.grant("Role", name, &[make.rule(), read.rule()]).await?;
        self.bind("Role", name, ACCOUNT).await?;
        // The other one is granted already, for every namespace.
        let lacking = if self.right.verb == read.verb { read } else { make };
        self.until_in_force(ACCOUNT, &lacking, &self.own).await
    }

    /// Everything that the operator has asked the API server for.
    pub async fn requests(&self) -> Result<Vec<AuditRecord>> {
        self.bench.cluster.audit().requests_by(self.bench.operator.user()).await
    }

    /// How often it was refused what was withheld. Anything else that was refused is a
    /// failure: then it is not this right whose lack is seen.
    pub async fn refusals(&self) -> Result<usize> {
        let requests = self.requests().await?;
        let (of_it, others): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .filter(|request| matches!(request.code, 401 | 403))
            .partition(|request| self.right.is_needed_for(request));
        ensure!(others.is_empty(), "refused beside {:?}: {others:#?}", self.right);
        Ok(of_it.len())
    }

    /// Waits until it was refused so often.
    pub async fn until_refused(&self, times: usize) -> Result {
        wait_for(&format!("{:?} to be refused", self.right), DEADLINE, async || {
            let refused = self.refusals().await?;
            ensure!(refused >= times, "{refused} times so far");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the operator's log says what is missing.
    pub async fn until_logged(&self) -> Result {
        // As the words stand in a line of JSON.
        let words = Value::from(self.right.refusal()).to_string();
        let words = words.trim_matches('"');
        wait_for(&format!("the log to say {words}"), DEADLINE, async || {
            Ok(self.bench.operator.log().contains(words).then_some(()))
        })
        .await
    }

    /// The operator has been refused, and has read its source three times more since:
    /// had it known of anything to do, it would have done it by then.
    pub async fn goes_on_without(&self) -> Result {
        self.until_refused(1).await?;
        self.until_logged().await?;
        self.bench.until_more_reads(3).await
    }

    /// Waits until a condition is False for this reason, in the API server's words.
    pub async fn until_said(&self, name: &str, type_: &str, reason: &str) -> Result {
        let words = self.right.refusal();
        wait_for(&format!("{type_} to be False for {reason}: {words}"), DEADLINE, async || {
            match self.bench.condition(name, type_).await? {
                Some((status, why, message)) if status == "False" && why == reason && message.contains(&words) => {
                    Ok(Some(()))
                }
                other => bail!("{other:?}"),
            }
        })
        .await
    }

    /// The end: the right was refused, and nothing else ever.
    pub async fn end(&self) -> Result {
        let refused = self.refusals().await?;
        ensure!(refused > 0, "{:?} was never refused", self.right);
        Ok(())
    }
}

/// What a ServiceAccount is called as a user.
fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Whether no operator has written this status: the definition's default is shown then.
pub fn is_unwritten(status: Option<&BotSecretStatus>) -> bool {
    status == Some(&BotSecretStatus { observed_generation: Some(-1), ..BotSecretStatus::default() })
}

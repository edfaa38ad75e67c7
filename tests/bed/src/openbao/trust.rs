//! `auth/kubernetes` and `auth/jwt` that trust a cluster, and roles in them.

use anyhow::Result;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::BaoClient;
use crate::cluster::Cluster;
use crate::runtime;

/// Who may log in, and what it gets.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// The role's name, which a login names.
    pub name: &'a str,
    /// Namespaces of the ServiceAccounts; `*` is any.
    pub namespaces: &'a [&'a str],
    /// Names of the ServiceAccounts; `*` is any.
    pub service_accounts: &'a [&'a str],
    /// The policies of the tokens it gives.
    pub policies: &'a [&'a str],
    /// The audience that the ServiceAccount's token must have.
    pub audience: &'a str,
    /// How long its tokens live, as `20m`.
    pub ttl: &'a str,
}

impl BaoClient {
    /// A role of `auth/kubernetes`.
    pub async fn kubernetes_role(&self, role: &Role<'_>) -> Result<()> {
        let body = json!({
            "bound_service_account_namespaces": role.namespaces,
            "bound_service_account_names": role.service_accounts,
            "audience": role.audience,
            "token_policies": role.policies,
            "token_ttl": role.ttl,
        });
        let path = format!("auth/kubernetes/role/{}", role.name);
        self.write(&path, &body).await.map(drop)
    }

    /// A role of `auth/jwt`.
    pub async fn jwt_role(&self, role: &Role<'_>) -> Result<()> {
        let mut subjects = Vec::new();
        for namespace in role.namespaces {
            for name in role.service_accounts {
                subjects.push(format!("system:serviceaccount:{namespace}:{name}"));
            }
        }
        let body = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [role.audience],
            "bound_claims_type": "glob",
            "bound_claims": {"sub": subjects},
            "token_policies": role.policies,
            "token_ttl": role.ttl,
        });
        let path = format!("auth/jwt/role/{}", role.name);
        self.write(&path, &body).await.map(drop)
    }
}

const REVIEWER: &str = "testbed-token-reviewer";
const NAMESPACE: &str = "kube-system";

/// Mounts both methods. The reviewer's token outlives any test.
pub(super) async fn trust(root: &BaoClient, cluster: &Cluster) -> Result<()> {
    make_reviewer(cluster).await?;
    let audience = [cluster.audience()];
    let day = 24 * 60 * 60;
    let reviewer = cluster.service_account_token(NAMESPACE, REVIEWER, &audience, day).await?;
    root.write("sys/auth/kubernetes", &json!({"type": "kubernetes"})).await?;
    let config = json!({
        "kubernetes_host": cluster.url(),
        "kubernetes_ca_cert": cluster.ca_pem(),
        "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": true,
    });
    root.write("auth/kubernetes/config", &config).await?;
    root.write("sys/auth/jwt", &json!({"type": "jwt"})).await?;
    let config = json!({
        "jwks_url": format!("{}/openid/v1/jwks", cluster.url()),
        "jwks_ca_pem": cluster.ca_pem(),
        "bound_issuer": cluster.url(),
    });
    root.write("auth/jwt/config", &config).await?;
    Ok(())
}

/// A ServiceAccount that may ask the API server whose a token is.
async fn make_reviewer(cluster: &Cluster) -> Result<()> {
    let client = cluster.inner_client();
    runtime::run(async move {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        let account = serde_json::from_value(json!({"metadata": {"name": REVIEWER}}))?;
        accept_existing(accounts.create(&PostParams::default(), &account).await)?;
        let bindings: Api<ClusterRoleBinding> = Api::all(client);
        let binding = serde_json::from_value(json!({
            "metadata": {"name": REVIEWER},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": REVIEWER, "namespace": NAMESPACE}],
        }))?;
        accept_existing(bindings.create(&PostParams::default(), &binding).await)
    })
    .await
}

/// A second OpenBao on the same cluster finds what the first one made.
fn accept_existing<T>(made: kube::Result<T>) -> Result<()> {
    match made {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

//! How a store reaches its manager.

use crate::{
    api::{Provider, TokenEndpoint},
    stores::{Identity, QuotaDomain},
};

use super::ResolvedStore;

/// Addresses, certificates that are trusted and proxy, as the store names
/// them. What is learned about a manager on one way (it is dead, it wants
/// patience) says nothing about it on another: a store with a wrong caBundle
/// or a proxy of its own must not shut out the others of its quota domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way(Vec<Option<String>>);

/// The part of a domain whose requests its manager may count for themselves,
/// and so those who wait when it asks for patience.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Circle(Vec<Option<String>>);

/// Where requests of one kind go, and whose limits count there.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) quota: QuotaDomain,
    pub(super) way: Way,
    pub(super) circle: Circle,
}

/// The routes of one identity at one store.
pub(super) struct Routes {
    pub(super) reads: Route,
    pub(super) logins: Route,
}

/// Logins a second on one way, where another service grants them than the one
/// that is read: few of what each cloud allows, since other clusters ask too.
const LOGINS_PER_SECOND: u32 = 50;

impl Routes {
    /// Clouds grant logins elsewhere than where the secrets lie: the Security
    /// Token Service, Entra ID. What that says or fails to say is not about
    /// the secrets, nor the other way round. Vault has one door for both, but
    /// may count logins and reads apart.
    pub(super) fn of(store: &ResolvedStore, identity: &Identity) -> Self {
        let steps = |more: Vec<Option<&str>>| {
            let steps = [store.proxy.as_deref()].into_iter().chain(more);
            Way(steps.map(|step| step.map(str::to_owned)).collect())
        };
        let quota = identity.quota.clone();
        let reads = Route { quota, way: steps(to_read(&store.provider)), circle: read_circle(&store.provider) };
        let circle = login_circle(&store.provider, identity);
        let logins = match to_log_in(&store.provider) {
            None => Route { circle, ..reads.clone() },
            Some(way) => {
                let quota = QuotaDomain {
                    name: format!("{}/logins", reads.quota.name),
                    requests_per_second: Some(LOGINS_PER_SECOND),
                    in_flight: reads.quota.in_flight,
                };
                Route { quota, way: steps(way), circle }
            }
        };
        Self { reads, logins }
    }
}

fn to_read(provider: &Provider) -> Vec<Option<&str>> {
    match provider {
        Provider::Aws(aws) => vec![aws.endpoint.as_deref(), aws.ca_bundle.as_deref()],
        Provider::Azure(azure) => vec![Some(azure.vault_url.as_str()), azure.ca_bundle.as_deref()],
        Provider::Gcp(gcp) => vec![gcp.endpoint.as_deref(), gcp.ca_bundle.as_deref()],
        Provider::Kubernetes(kubernetes) => {
            let server = kubernetes.server.as_ref();
            vec![server.map(|server| server.url.as_str()), server.and_then(|server| server.ca_bundle.as_deref())]
        }
        Provider::OAuth2(oauth2) => vec![Some(oauth2.token_url.as_str()), oauth2.ca_bundle.as_deref()],
        Provider::Vault(vault) => vec![Some(vault.address.as_str()), vault.ca_bundle.as_deref()],
    }
}

/// `None`: to the same place as reads.
fn to_log_in(provider: &Provider) -> Option<Vec<Option<&str>>> {
    match provider {
        Provider::Aws(aws) => {
            let ambient = aws.auth.ambient.map(|_| "ambient");
            Some([ambient].into_iter().chain(endpoint(aws.sts_endpoint.as_ref())).collect())
        }
        Provider::Azure(azure) => {
            let authority = azure.authority.as_ref();
            Some(vec![
                azure.auth.ambient.as_ref().map(|_| "ambient"),
                authority.map(|authority| authority.url.as_str()),
                authority.and_then(|authority| authority.ca_bundle.as_deref()),
            ])
        }
        Provider::Gcp(gcp) => {
            let tokens = gcp.token_endpoints.as_ref();
            let key = gcp.auth.secret_ref.as_ref().map(|_| "key");
            let mut way = vec![key.or(gcp.auth.ambient.map(|_| "ambient"))];
            way.extend(endpoint(tokens.and_then(|tokens| tokens.sts.as_ref())));
            way.extend(endpoint(tokens.and_then(|tokens| tokens.iam_credentials.as_ref())));
            way.extend(endpoint(tokens.and_then(|tokens| tokens.oauth2.as_ref())));
            way.extend(endpoint(tokens.and_then(|tokens| tokens.metadata.as_ref())));
            Some(way)
        }
        Provider::Kubernetes(_) | Provider::OAuth2(_) | Provider::Vault(_) => None,
    }
}

/// Vault's quotas are for a namespace, for a mount or for a role, and rarely
/// for the whole. What is learned of one is believed of that one alone: should
/// it hold for more, each of them learns it with one request.
fn read_circle(provider: &Provider) -> Circle {
    Circle(match provider {
        Provider::Vault(vault) => vec![Some("read".to_owned()), vault.namespace.clone(), vault.path.clone()],
        _ => Vec::new(),
    })
}

fn login_circle(provider: &Provider, identity: &Identity) -> Circle {
    Circle(match provider {
        Provider::Vault(vault) => {
            let auth = &vault.auth;
            let mount = [
                auth.kubernetes.as_ref().and_then(|kubernetes| kubernetes.mount_path.clone()),
                auth.jwt.as_ref().and_then(|jwt| jwt.path.clone()),
                auth.app_role.as_ref().and_then(|role| role.path.clone()),
                auth.cert.as_ref().and_then(|cert| cert.path.clone()),
            ];
            let method = auth.jwt.as_ref().map(|_| "jwt".to_owned());
            let rest = [vault.namespace.clone(), method, Some(identity.role.clone())];
            [Some("login".to_owned())].into_iter().chain(rest).chain(mount).collect()
        }
        _ => Vec::new(),
    })
}

fn endpoint(endpoint: Option<&TokenEndpoint>) -> [Option<&str>; 2] {
    [endpoint.map(|endpoint| endpoint.url.as_str()), endpoint.and_then(|endpoint| endpoint.ca_bundle.as_deref())]
}

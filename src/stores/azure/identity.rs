//! As whom a ServiceAccount is known to Entra ID.

use super::{cloud::Places, invalid};
use crate::{
    api::{AzureAuth, AzureStore, AzureWorkloadIdentity},
    secret::SecretText,
    stores::{ErrorClass, Opening, ServiceAccount, StoreError},
};

const CLIENT_ANNOTATION: &str = "azure.workload.identity/client-id";
const TENANT_ANNOTATION: &str = "azure.workload.identity/tenant-id";
const LONGEST_ID: usize = 128;

/// How a store logs in.
pub(super) enum Method {
    /// With the ServiceAccount's token.
    Federated { audience: String, client: Client },
    /// With a client secret.
    Secret { client: String, secret: SecretText },
    /// As the machine that the operator runs on.
    Machine { client: Option<String> },
}

/// Which application or managed identity.
pub(super) enum Client {
    /// This one, for every ServiceAccount.
    Fixed(String),
    /// The one that the ServiceAccount's annotation names, if it is one of
    /// these; `None`: any.
    Annotated(Option<Vec<String>>),
}

/// A client of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Empty for the machine's own identity, which knows its tenant.
    pub(super) tenant: String,
    /// Empty for the machine's system-assigned identity.
    pub(super) client: String,
}

impl Method {
    pub(super) fn new(spec: &AzureStore, places: &Places, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let AzureAuth { workload_identity, secret_ref, ambient } = &spec.auth;
        let tenant_known = spec.tenant_id.as_deref().map(|tenant| identifier(tenant, "tenantId")).transpose()?;
        let method = match (workload_identity, secret_ref, ambient) {
            (Some(federated), None, None) => Self::federated(federated, places)?,
            (None, Some(auth), None) => Self::Secret {
                client: identifier(opening.credentials.text(&auth.client_id)?, "the client id in the Secret")?,
                secret: SecretText::new(opening.credentials.text(&auth.client_secret)?.to_owned()),
            },
            (None, None, Some(machine)) => {
                let client = machine.client_id.as_deref().map(|client| identifier(client, "auth.ambient.clientId"));
                Self::Machine { client: client.transpose()? }
            }
            _ => {
                return Err(invalid(
                    "auth must name exactly one way to log in: workloadIdentity, secretRef or ambient",
                ));
            }
        };
        let needs_tenant = match &method {
            Self::Federated { client, .. } => matches!(client, Client::Fixed(_)),
            Self::Secret { .. } => true,
            Self::Machine { .. } => false,
        };
        if needs_tenant && tenant_known.is_none() {
            return Err(invalid("tenantId is missing: write the tenant that the client belongs to"));
        }
        Ok(method)
    }

    fn federated(spec: &AzureWorkloadIdentity, places: &Places) -> Result<Self, StoreError> {
        let client = match (&spec.client_id, &spec.service_account_client_ids) {
            (Some(client), None) => Client::Fixed(identifier(client, "auth.workloadIdentity.clientId")?),
            (None, Some(allowed)) if allowed.iter().any(|entry| entry == "*") => Client::Annotated(None),
            (None, Some(allowed)) => Client::Annotated(Some(allowed.clone())),
            _ => {
                return Err(invalid("auth.workloadIdentity needs one of clientId and serviceAccountClientIds"));
            }
        };
        Ok(Self::Federated { audience: spec.audience.clone().unwrap_or_else(|| places.audience.to_owned()), client })
    }

    /// The audience of the ServiceAccount's token, where one is needed.
    pub(super) fn audience(&self) -> Option<&str> {
        match self {
            Self::Federated { audience, .. } => Some(audience),
            Self::Secret { .. } | Self::Machine { .. } => None,
        }
    }

    /// As whom this ServiceAccount logs in. `tenant` is the store's.
    pub(super) fn named(&self, tenant: Option<&str>, account: &ServiceAccount) -> Result<Named, StoreError> {
        let of_store = || tenant.unwrap_or_default().to_owned();
        match self {
            Self::Federated { client: Client::Fixed(client), .. } | Self::Secret { client, .. } => {
                Ok(Named { tenant: of_store(), client: client.clone() })
            }
            Self::Machine { client } => Ok(Named { tenant: of_store(), client: client.clone().unwrap_or_default() }),
            Self::Federated { client: Client::Annotated(allowed), .. } => Ok(Named {
                tenant: annotated_tenant(tenant, account)?,
                client: annotated_client(allowed.as_deref(), account)?,
            }),
        }
    }
}

fn annotated_client(allowed: Option<&[String]>, account: &ServiceAccount) -> Result<String, StoreError> {
    let Some(client) = account.annotations.get(CLIENT_ANNOTATION) else {
        return Err(of_account(format!(
            "ServiceAccount {} has no annotation {CLIENT_ANNOTATION}: write the client id to log in with",
            account.name
        )));
    };
    let client = identifier_of(account, CLIENT_ANNOTATION, client)?;
    if allowed.is_none_or(|allowed| allowed.iter().any(|entry| entry.eq_ignore_ascii_case(&client))) {
        return Ok(client);
    }
    Err(StoreError::new(
        ErrorClass::LoginDenied,
        format!(
            "ServiceAccount {} names a client id that the store does not allow: correct its annotation \
             {CLIENT_ANNOTATION}, or add the id to serviceAccountClientIds",
            account.name
        ),
    ))
}

fn annotated_tenant(of_store: Option<&str>, account: &ServiceAccount) -> Result<String, StoreError> {
    let annotated = account.annotations.get(TENANT_ANNOTATION);
    let annotated = annotated.map(|tenant| identifier_of(account, TENANT_ANNOTATION, tenant)).transpose()?;
    match (of_store, annotated) {
        (Some(tenant), Some(other)) if !tenant.eq_ignore_ascii_case(&other) => Err(StoreError::new(
            ErrorClass::LoginDenied,
            format!(
                "ServiceAccount {} names another tenant than the store: correct or remove its annotation \
                 {TENANT_ANNOTATION}",
                account.name
            ),
        )),
        (Some(tenant), _) => Ok(tenant.to_owned()),
        (None, Some(tenant)) => Ok(tenant),
        (None, None) => Err(of_account(format!(
            "no tenant is named: write tenantId in the store, or the annotation {TENANT_ANNOTATION} on \
             ServiceAccount {}",
            account.name
        ))),
    }
}

fn identifier_of(account: &ServiceAccount, annotation: &str, text: &str) -> Result<String, StoreError> {
    let text = text.trim();
    if is_identifier(text) {
        return Ok(text.to_owned());
    }
    Err(of_account(format!("annotation {annotation} of ServiceAccount {} holds no id", account.name)))
}

/// An id as it may stand in a URL's path: letters, digits, '-' and '.'.
fn identifier(text: &str, what: &str) -> Result<String, StoreError> {
    if is_identifier(text) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("{what} is no id: write one such as 7b795fb9-09d3-42f4-a494-38864f99ba3c")))
}

fn is_identifier(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    text.len() <= LONGEST_ID && text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(fits)
}

fn of_account(message: String) -> StoreError {
    StoreError::new(ErrorClass::Identity, message)
}

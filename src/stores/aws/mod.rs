//! AWS Secrets Manager and AWS Systems Manager Parameter Store.
//!
//! The SDK's clients over the one HTTP stack of all stores, with what the
//! store says and nothing from the environment (but for `auth.ambient`, which
//! is the environment, and an administrator's to allow).

mod ambient;
mod arn;
mod errors;
mod find;
#[cfg(any(test, fuzzing))]
pub(in crate::stores) mod fuzzing;
mod http;
mod identity;
mod login;
mod parameter_store;
mod parameter_writes;
mod secret_writes;
mod secrets_manager;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sts::config::{
    BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_types::DateTime;
use aws_types::{SdkConfig, sdk_config::SharedHttpClient};
use k8s_openapi::jiff::Timestamp;
use reqwest::Url;

use self::{
    http::Wire,
    identity::{Identities, Source},
    parameter_store::ParameterStore,
    secrets_manager::SecretsManager,
};
use super::{
    Audience, Backend, Capabilities, ErrorClass, Identity, Login, Opening, QuotaDomain, Scope, ServiceAccount, Session,
    StoreError, address,
    error::{invalid, unavailable},
    http::Pool,
    locked,
};
use crate::api::{AwsService, AwsStore};

const REQUESTS_IN_FLIGHT: u32 = 64;
/// A tenth of what Secrets Manager grants an account and region.
const SECRETS_MANAGER_RATE: u32 = 1000;
/// Half of what Parameter Store grants by default.
const PARAMETER_STORE_RATE: u32 = 20;

/// How long another region than the store's may take: less than what a store
/// gives a read by default, whose end would count against the store's region.
const ABROAD: Duration = Duration::from_secs(8);

/// One service in one region as a store describes it.
pub(super) struct Aws {
    service: AwsService,
    region: String,
    endpoint: Option<String>,
    sts_endpoint: Option<String>,
    identities: Identities,
    pools: Pools,
}

/// Which certificates count where: what a store trusts at its endpoint it does
/// not trust to be STS.
struct Pools {
    service: Arc<Pool>,
    sts: Arc<Pool>,
    /// Without the store's proxy.
    direct: Arc<Pool>,
}

impl Aws {
    pub(super) fn new(spec: &AwsStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        if !arn::is_region(&spec.region) {
            return Err(invalid("region must be a region such as eu-west-1"));
        }
        if spec.sts_endpoint.is_some() && opening.scope != Scope::Cluster {
            return Err(invalid(
                "stsEndpoint is sent the bots' tokens and only for a ClusterBotSecretStore: leave it out, the region's \
                 public endpoint is used",
            ));
        }
        let public = Url::parse("https://amazonaws.com").map_err(|_| invalid("no address"))?;
        let endpoint = spec.endpoint.as_deref().map(|url| bare_url(url, "endpoint")).transpose()?;
        let sts = spec.sts_endpoint.as_ref();
        let sts_endpoint = sts.map(|sts| bare_url(&sts.url, "stsEndpoint.url")).transpose()?;
        let sts_bundle = sts.and_then(|sts| sts.ca_bundle.as_deref());
        let pools = Pools {
            service: opening.pool(endpoint.as_ref().unwrap_or(&public), spec.ca_bundle.as_deref())?,
            sts: opening.pool(sts_endpoint.as_ref().unwrap_or(&public), sts_bundle)?,
            direct: opening.clients.pool(&public, None, None, opening.largest_answer)?,
        };
        Ok(Self {
            service: spec.service,
            region: spec.region.clone(),
            endpoint: endpoint.map(String::from),
            sts_endpoint: sts_endpoint.map(String::from),
            identities: Identities::new(spec, opening)?,
            pools,
        })
    }
}

fn bare_url(url: &str, field: &str) -> Result<Url, StoreError> {
    address::bare(url, field, "https://vpce-1.example")
}

#[async_trait]
impl Backend for Aws {
    fn capabilities(&self) -> Capabilities {
        let batch = match self.service {
            AwsService::SecretsManager => secrets_manager::BATCH,
            AwsService::ParameterStore => parameter_store::BATCH,
        };
        Capabilities { batch, leases: false, write_back: true, change_events: false, dates_apart: false }
    }

    fn identity(&self, account: &ServiceAccount) -> Result<Identity, StoreError> {
        let (service, rate) = match self.service {
            AwsService::SecretsManager => ("secretsmanager", SECRETS_MANAGER_RATE),
            AwsService::ParameterStore => ("ssm", PARAMETER_STORE_RATE),
        };
        let audience = match &self.identities.source {
            Source::WebIdentity { audience, .. } => Some(Audience::Of(audience.clone())),
            Source::Keys(_) | Source::Ambient => None,
        };
        let (number, region) = (self.identities.quota_account(account)?, &self.region);
        Ok(Identity {
            audience,
            role: self.identities.session_key(account)?,
            quota: QuotaDomain {
                name: format!("aws/{number}/{region}/{service}"),
                requests_per_second: Some(rate),
                in_flight: REQUESTS_IN_FLIGHT,
            },
        })
    }

    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        let wire = Wire::new(Arc::clone(&self.pools.service), login.pace.clone());
        let granted = self.log_in(&login).await?;
        let endpoint = self.endpoint.clone();
        let settings = Settings { region: self.region.clone(), endpoint, wire, credentials: Some(granted.credentials) };
        Ok(match self.service {
            AwsService::SecretsManager => Arc::new(SecretsManager::new(settings, granted.expires)),
            AwsService::ParameterStore => Arc::new(ParameterStore::new(settings, granted.expires)),
        })
    }
}

/// What an SDK client is made of; all of it said, nothing looked up.
struct Settings {
    region: String,
    endpoint: Option<String>,
    wire: Wire,
    credentials: Option<Credentials>,
}

impl Settings {
    fn config(&self, region: &str) -> SdkConfig {
        let wire = self.wire.clone();
        let wire = if region == self.region { wire } else { wire.within(ABROAD) };
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .http_client(SharedHttpClient::new(wire))
            // All of this is `fetch`'s, for every manager alike.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()));
        config.set_endpoint_url(self.endpoint.clone());
        config.set_credentials_provider(self.credentials.clone().map(SharedCredentialsProvider::new));
        config.build()
    }
}

/// The clients of one session: one a region, since an ARN may name another one
/// than the store's.
struct Regions<C> {
    settings: Settings,
    make: fn(&SdkConfig) -> C,
    known: Mutex<HashMap<String, C>>,
}

impl<C: Clone> Regions<C> {
    fn new(settings: Settings, make: fn(&SdkConfig) -> C) -> Self {
        Self { settings, make, known: Mutex::default() }
    }

    /// The client of the region where this key is.
    fn of(&self, region: &str) -> C {
        let mut known = locked(&self.known);
        let client = known.entry(region.to_owned()).or_insert_with(|| (self.make)(&self.settings.config(region)));
        client.clone()
    }

    fn own(&self) -> &str {
        &self.settings.region
    }

    /// What a failure in this region means. The region of a key is a tenant's to
    /// write: that another one than the store's is down, or is none at all, says
    /// nothing about the store's.
    fn failed(&self, region: &str, error: StoreError) -> StoreError {
        let outage = matches!(error.class, ErrorClass::Unavailable | ErrorClass::Timeout);
        if region != self.own() && outage { error.about_one() } else { error }
    }

    /// Where a key is read: in the region of its ARN, else in the store's.
    fn region_of<'a>(&'a self, key: &'a str, service: &str) -> Result<&'a str, StoreError> {
        if !key.starts_with("arn:") {
            return Ok(self.own());
        }
        let arn = arn::Arn::parse(key)
            .filter(|arn| arn.service == service && arn::is_region(arn.region))
            .ok_or_else(|| invalid(format!("the key is no ARN of {service}: write a name, or the whole ARN")))?;
        if arn.region != self.own() && self.settings.endpoint.is_some() {
            return Err(invalid(format!(
                "the store's endpoint serves {} alone: read what is in {} by a store of that region",
                self.own(),
                arn.region
            )));
        }
        Ok(arn.region)
    }
}

/// What both services take for a key. What is none would make AWS refuse all
/// that is asked for along with it.
fn checked_key(key: &str) -> Result<&str, StoreError> {
    if (1..=2048).contains(&key.len()) && key.chars().all(|part| part.is_ascii_graphic()) {
        Ok(key)
    } else {
        Err(invalid(
            "the key is no name and no ARN: it is empty, too long, or has white space or letters that AWS's names \
             do not have",
        ))
    }
}

/// When a version was made, as AWS tells it.
fn told(date: &DateTime) -> Option<Timestamp> {
    Timestamp::new(date.secs(), i32::try_from(date.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

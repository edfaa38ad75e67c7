//! The custom resources of group `botsecret.dev`: the types, their schema and
//! the CEL rules with which the API server refuses what cannot work.
//!
//! `crds/` is generated from here by `botsecret crds`.

mod bot_secret;
mod cron;
mod duration;
mod emergency;
mod names;
mod schema;
mod state;
mod status;
mod store;

pub use bot_secret::{
    BotSecret, BotSecretSpec, Canary, CreationPolicy, DataEntry, DataFromEntry, DecodingStrategy, DeletionPolicy,
    DynamicMethod, DynamicRef, ExtractRef, FindName, FindRef, Generate, KeepPreviousSpec, KeyAlgorithm, KeyPair,
    MetadataPolicy, OnCollision, OnFailure, OrderEntry, Password, RemoteRef, Rewrite, RewriteRegexp, RewriteTransform,
    Rollout, Rotation, RotationSchedule, SecretType, StoreKind, StoreRef, Target, Template, TemplateMergePolicy,
    Verify, Window, WindowKind, WorkloadChoice, WorkloadKind, WorkloadRef,
};
pub(crate) use cron::{Schedule, Unusable};
#[cfg(any(test, fuzzing))]
pub(crate) use duration::ADMITTED;
pub use duration::{Interval, Timeout};
pub use emergency::{EmergencyPhase, EmergencyStatus, LONGEST_REASON, RotateRequest, legible};
pub use names::{
    ANNOTATION_ATTEMPT, ANNOTATION_CANDIDATE, ANNOTATION_CRON_JOB, ANNOTATION_NEXT, ANNOTATION_REFRESH,
    ANNOTATION_ROTATE, ANNOTATION_STATE, LABEL_CANDIDATE, LABEL_MERGED, LABEL_NEXT, LABEL_OWNER, LABEL_PREVIOUS,
    STATE_PREFIX, candidate_attempt, candidate_job, candidate_secret, delivery_annotation, field_manager,
    issued_annotation, marker_annotation, next_secret, owner_label, previous_secret, state_annotation,
};
pub use state::{KeptValue, KeyChange, Renewal, Revision, State, TakenBack, rolling_digests};
pub use status::{
    BotSecretStatus, LeaseStatus, LeasedSecret, PhaseTime, RolloutState, RotationPhase, RotationStatus, TargetStatus,
    WorkloadStatus,
};
pub use store::{
    AwsAuth, AwsJwtAuth, AwsSecretAuth, AwsService, AwsSessionTag, AwsStore, AzureAuth, AzureAuthority,
    AzureEnvironment, AzureManagedIdentity, AzureSecretAuth, AzureStore, AzureWorkloadIdentity, BotSecretStore,
    BotSecretStoreSpec, ClusterBotSecretStore, ClusterBotSecretStoreSpec, GcpAuth, GcpFederation, GcpGkeIdentity,
    GcpImpersonation, GcpSecretAuth, GcpStore, GcpTokenEndpoints, KubernetesServer, KubernetesStore, Limits,
    OAuth2Assertion, OAuth2Auth, OAuth2ClientSecret, OAuth2Exchange, OAuth2Store, Provider, SecretKeyRef, StoreSpec,
    TokenEndpoint, VaultAppRoleAuth, VaultAuth, VaultCertAuth, VaultJwtAuth, VaultKubernetesAuth, VaultKvVersion,
    VaultStore,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of every kind here.
pub const GROUP: &str = "botsecret.dev";

/// The three definitions, in the order in which they are written to `crds/`.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    [BotSecret::crd(), BotSecretStore::crd(), ClusterBotSecretStore::crd()].map(schema::finished).into()
}

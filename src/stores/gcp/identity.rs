//! As whom Google knows a ServiceAccount.

use super::{
    invalid,
    names::{is_email, is_location, is_project},
};
use crate::{
    api::{GcpFederation, GcpGkeIdentity, GcpImpersonation, GcpStore},
    stores::{Audience, ErrorClass, ServiceAccount, StoreError, names::stars_match},
};

const ANNOTATION: &str = "iam.gke.io/gcp-service-account";

/// The way to log in that a store says.
pub(super) enum Identities {
    /// The ServiceAccount's token, exchanged.
    Exchange(Exchange),
    /// A key from a Secret.
    Key,
    /// The operator's own identity.
    Ambient,
}

/// What a token is exchanged with.
pub(super) struct Exchange {
    /// The audience of the ServiceAccount's token.
    token_audience: String,
    /// Whom STS is asked for.
    pub(super) sts_audience: String,
    /// The pool that its principals are named by.
    pool: Pool,
    impersonation: Impersonation,
}

enum Pool {
    Federation(String),
    Gke(String),
}

/// Which Google service account is impersonated.
struct Impersonation {
    /// This one, whatever the ServiceAccount says.
    fixed: Option<String>,
    /// Else the one that it names, if one of these patterns allows it.
    allowed: Vec<String>,
}

/// Who reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) token_audience: Option<Audience>,
    /// The Google service account to impersonate.
    pub(super) impersonated: Option<String>,
    /// Whom to grant something, for messages.
    pub(super) principal: String,
    /// Whom to grant the impersonation.
    pub(super) federated: String,
}

impl Identities {
    pub(super) fn new(spec: &GcpStore) -> Result<Self, StoreError> {
        let auth = &spec.auth;
        match (&auth.workload_identity_federation, &auth.workload_identity, &auth.secret_ref, auth.ambient) {
            (Some(federation), None, None, None) => Exchange::federation(federation).map(Self::Exchange),
            (None, Some(gke), None, None) => Exchange::gke(gke, &spec.project_id).map(Self::Exchange),
            (None, None, Some(_), None) => Ok(Self::Key),
            (None, None, None, Some(true)) => Ok(Self::Ambient),
            _ => Err(invalid(
                "auth must name exactly one way to log in: workloadIdentityFederation, workloadIdentity, secretRef or ambient",
            )),
        }
    }

    pub(super) fn of(&self, account: &ServiceAccount) -> Result<Who, StoreError> {
        let shared = |principal: &str| Who {
            token_audience: None,
            impersonated: None,
            principal: principal.to_owned(),
            federated: principal.to_owned(),
        };
        match self {
            Self::Exchange(exchange) => exchange.of(account),
            Self::Key => Ok(shared("the key's service account")),
            Self::Ambient => Ok(shared("the operator's own service account")),
        }
    }
}

impl Exchange {
    fn federation(spec: &GcpFederation) -> Result<Self, StoreError> {
        let wrong = || {
            invalid(
                "auth.workloadIdentityFederation.audience must be a provider's full name: \
                 //iam.googleapis.com/projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>",
            )
        };
        let name = spec.audience.strip_prefix("//iam.googleapis.com/").ok_or_else(wrong)?;
        let (pool, _) = name.split_once("/providers/").ok_or_else(wrong)?;
        Ok(Self {
            token_audience: spec.token_audience.clone().unwrap_or_else(|| format!("https:{}", spec.audience)),
            sts_audience: spec.audience.clone(),
            pool: Pool::Federation(pool.to_owned()),
            impersonation: Impersonation::new(&spec.impersonation)?,
        })
    }

    fn gke(spec: &GcpGkeIdentity, store_project: &str) -> Result<Self, StoreError> {
        let project = spec.cluster_project_id.as_deref().unwrap_or(store_project);
        let (location, cluster) = (&spec.cluster_location, &spec.cluster_name);
        if !is_project(project) || !is_location(location) || !is_location(cluster) {
            return Err(invalid(
                "auth.workloadIdentity must name a project, a location and a cluster as GKE does: small letters, digits and '-'",
            ));
        }
        // GKE's pool carries the project's id; a number gives a pool that does
        // not exist.
        if project.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid("auth.workloadIdentity.clusterProjectID must be the project's id, not its number"));
        }
        let pool = format!("{project}.svc.id.goog");
        let issuer =
            format!("https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{cluster}");
        Ok(Self {
            sts_audience: format!("identitynamespace:{pool}:{issuer}"),
            token_audience: pool.clone(),
            pool: Pool::Gke(pool),
            impersonation: Impersonation::new(&spec.impersonation)?,
        })
    }

    fn of(&self, account: &ServiceAccount) -> Result<Who, StoreError> {
        let impersonated = self.impersonation.of(account)?;
        let ServiceAccount { namespace, name, .. } = account;
        let federated = match &self.pool {
            Pool::Federation(pool) => {
                format!("principal://iam.googleapis.com/{pool}/subject/system:serviceaccount:{namespace}:{name}")
            }
            Pool::Gke(pool) => format!("serviceAccount:{pool}[{namespace}/{name}]"),
        };
        Ok(Who {
            token_audience: Some(Audience::Of(self.token_audience.clone())),
            principal: impersonated
                .as_ref()
                .map_or_else(|| federated.clone(), |email| format!("serviceAccount:{email}")),
            impersonated,
            federated,
        })
    }
}

impl Impersonation {
    fn new(spec: &GcpImpersonation) -> Result<Self, StoreError> {
        let fixed = email(spec.gcp_service_account_email.as_deref())?;
        Ok(Self { fixed, allowed: patterns(spec.service_account_emails.as_deref())? })
    }

    fn of(&self, account: &ServiceAccount) -> Result<Option<String>, StoreError> {
        match &self.fixed {
            Some(email) => Ok(Some(email.clone())),
            None => self.annotated(account),
        }
    }

    /// What the ServiceAccount asks for in its annotation, where the store
    /// lets it ask.
    fn annotated(&self, account: &ServiceAccount) -> Result<Option<String>, StoreError> {
        let Some(asked) = account.annotations.get(ANNOTATION).filter(|_| !self.allowed.is_empty()) else {
            return Ok(None);
        };
        if is_email(asked) && self.allowed.iter().any(|pattern| matches(pattern, asked)) {
            return Ok(Some(asked.clone()));
        }
        let message = format!(
            "the ServiceAccount's annotation {ANNOTATION} names a Google service account that the store's \
             serviceAccountEmails do not allow: correct the annotation, or ask the store's owner"
        );
        Err(StoreError::new(ErrorClass::LoginDenied, message))
    }
}

fn email(text: Option<&str>) -> Result<Option<String>, StoreError> {
    match text {
        Some(text) if !is_email(text) => {
            Err(invalid("gcpServiceAccountEmail must be a service account's e-mail address"))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn patterns(written: Option<&[String]>) -> Result<Vec<String>, StoreError> {
    let written = written.unwrap_or_default();
    // A pattern without an @ allows nothing, which is not what was meant.
    if written.iter().any(|pattern| pattern.matches('@').count() != 1) {
        return Err(invalid(
            "each of serviceAccountEmails is an e-mail address, in which * stands for any characters but @",
        ));
    }
    Ok(written.to_vec())
}

/// Whether a text fits a pattern, in which `*` stands for any characters but
/// `@`.
fn matches(pattern: &str, text: &str) -> bool {
    let (Some((pattern_name, pattern_domain)), Some((name, domain))) = (pattern.split_once('@'), text.split_once('@'))
    else {
        return false;
    };
    stars_match(pattern_name, name) && stars_match(pattern_domain, domain)
}

#[cfg(test)]
mod tests {
    use super::{Identities, matches};
    use crate::{
        api::GcpStore,
        stores::{Audience, ErrorClass, ServiceAccount},
    };
    use serde_json::{Value, json};

    const POOL: &str = "projects/42/locations/global/workloadIdentityPools/clusters";

    fn identities(auth: &Value) -> Identities {
        let spec: GcpStore = serde_json::from_value(json!({"projectID": "trading", "auth": auth})).expect("a store");
        Identities::new(&spec).unwrap_or_else(|error| panic!("{error}"))
    }

    fn federation(more: &Value) -> Identities {
        let mut spec = json!({"audience": format!("//iam.googleapis.com/{POOL}/providers/one")});
        spec.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        identities(&json!({"workloadIdentityFederation": spec}))
    }

    fn account(annotation: Option<&str>) -> ServiceAccount {
        let annotations = annotation.map(|email| (super::ANNOTATION.to_owned(), email.to_owned()));
        ServiceAccount {
            namespace: "ns".into(),
            name: "bot".into(),
            annotations: annotations.into_iter().collect(),
            ..ServiceAccount::default()
        }
    }

    #[test]
    fn a_token_is_for_the_provider_alone_and_the_principal_is_named_as_iam_names_it() {
        let who = federation(&json!({})).of(&account(None)).expect("known");
        let provider = format!("https://iam.googleapis.com/{POOL}/providers/one");
        assert_eq!(who.token_audience, Some(Audience::Of(provider)));
        assert_eq!(
            who.principal,
            format!("principal://iam.googleapis.com/{POOL}/subject/system:serviceaccount:ns:bot")
        );
        let who = federation(&json!({"tokenAudience": "gcp"})).of(&account(None)).expect("known");
        assert_eq!(who.token_audience, Some(Audience::Of("gcp".into())));
    }

    #[test]
    fn a_gke_cluster_is_named_by_its_projects_pool() {
        let gke = |more: Value| {
            let mut spec = json!({"clusterLocation": "europe-west1-b", "clusterName": "bots"});
            spec.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            identities(&json!({"workloadIdentity": spec}))
        };
        for (more, project) in [(json!({}), "trading"), (json!({"clusterProjectID": "clusters"}), "clusters")] {
            let identities = gke(more);
            let who = identities.of(&account(None)).expect("known");
            assert_eq!(who.token_audience, Some(Audience::Of(format!("{project}.svc.id.goog"))));
            assert_eq!(who.principal, format!("serviceAccount:{project}.svc.id.goog[ns/bot]"));
            let Identities::Exchange(exchange) = identities else { panic!("an exchange") };
            assert_eq!(
                exchange.sts_audience,
                format!(
                    "identitynamespace:{project}.svc.id.goog:https://container.googleapis.com/v1/projects/{project}/locations/europe-west1-b/clusters/bots"
                )
            );
        }
    }

    #[test]
    fn p5_an_annotation_is_looked_at_only_where_the_store_lists_what_it_may_name() {
        let asks = account(Some("admin@p.iam.gserviceaccount.com"));
        assert_eq!(federation(&json!({})).of(&asks).expect("ignored").impersonated, None);
        let fixed = federation(&json!({
            "gcpServiceAccountEmail": "bot@p.iam.gserviceaccount.com", "serviceAccountEmails": ["*@p.iam.gserviceaccount.com"],
        }));
        let who = fixed.of(&asks).expect("the store's own wins");
        assert_eq!(who.impersonated.as_deref(), Some("bot@p.iam.gserviceaccount.com"));
        let listed = federation(&json!({"serviceAccountEmails": ["bot-*@p.iam.gserviceaccount.com"]}));
        let who = listed.of(&account(Some("bot-a@p.iam.gserviceaccount.com"))).expect("allowed");
        assert_eq!(who.impersonated.as_deref(), Some("bot-a@p.iam.gserviceaccount.com"));
        assert_eq!(listed.of(&account(None)).expect("the pool's principal").impersonated, None);
        for asked in [
            "admin@p.iam.gserviceaccount.com",
            "bot-a@q.iam.gserviceaccount.com",
            "bot-a@p.iam.gserviceaccount.com.evil",
            "bot-a/../admin@p.iam.gserviceaccount.com",
            "bot-@evil@p.iam.gserviceaccount.com",
            "bot-a",
            "",
        ] {
            let error = listed.of(&account(Some(asked))).expect_err(asked);
            assert_eq!(error.class, ErrorClass::LoginDenied, "{asked}");
            assert!(asked.is_empty() || !error.message.contains(asked), "{error}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters_but_never_crosses_the_at() {
        for (pattern, text, fits) in [
            ("a@b", "a@b", true),
            ("*@b", "x@b", true),
            ("*@b", "x@bb", false),
            ("a-*-z@*.com", "a-m-z@p.com", true),
            ("a-*-z@*.com", "a-z@p.com", false),
            ("ab*ba@x", "aba@x", false),
            ("*@*", "a@b", true),
            ("*@b", "a@c@b", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_store_that_cannot_be_right_says_so() {
        let audience = format!("//iam.googleapis.com/{POOL}/providers/one");
        for auth in [
            json!({}),
            json!({"ambient": true, "secretRef": {"secretAccessKeySecretRef": {"name": "a", "key": "b"}}}),
            json!({"workloadIdentityFederation": {"audience": "elsewhere"}}),
            json!({"workloadIdentityFederation": {"audience": audience, "gcpServiceAccountEmail": "a/b@c"}}),
            json!({"workloadIdentityFederation": {"audience": audience, "serviceAccountEmails": ["*"]}}),
            json!({"workloadIdentity": {"clusterProjectID": "123", "clusterLocation": "eu", "clusterName": "a"}}),
            json!({"workloadIdentity": {"clusterLocation": "eu/x", "clusterName": "a"}}),
        ] {
            let spec: GcpStore =
                serde_json::from_value(json!({"projectID": "trading", "auth": auth})).expect("a store");
            let error = Identities::new(&spec).err().unwrap_or_else(|| panic!("{auth}"));
            assert_eq!(error.class, ErrorClass::Invalid, "{auth}");
        }
    }
}

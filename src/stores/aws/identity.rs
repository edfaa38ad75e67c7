//! As whom AWS knows a bot: which role, by which name, with which tags.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    arn::{self, Arn, matches},
    invalid,
};
use crate::{
    api::{AwsAuth, AwsJwtAuth, AwsSecretAuth, AwsStore},
    secret::SecretText,
    stores::{ErrorClass, Opening, Scope, ServiceAccount, StoreError},
};

const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
pub(super) const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";
/// AWS takes no longer session name.
const LONGEST_SESSION_NAME: usize = 64;
const OWN_TAGS: &str = "botsecret:";

/// Where the first credentials come from.
pub(super) enum Source {
    /// The ServiceAccount's token, for a role.
    WebIdentity { roles: Roles, audience: String },
    /// Keys from a Secret.
    Keys(Keys),
    /// The operator's own identity.
    Ambient,
}

/// Which roles a ServiceAccount may have.
pub(super) enum Roles {
    /// This one, whatever the ServiceAccount says.
    One(String),
    /// The one that it names, if one of these patterns allows it.
    Allowed(Vec<String>),
}

/// Static keys.
pub(super) struct Keys {
    pub(super) id: SecretText,
    pub(super) secret: SecretText,
    pub(super) token: Option<SecretText>,
    /// Where they stand, for messages.
    pub(super) place: String,
}

/// The role of the second hop.
pub(super) struct Hop {
    pub(super) role: String,
    pub(super) external_id: Option<String>,
    /// `None`: the session has no tags at all.
    pub(super) tags: Option<Vec<(String, String)>>,
}

/// How a store logs in.
pub(super) struct Identities {
    pub(super) source: Source,
    pub(super) hop: Option<Hop>,
}

impl Identities {
    pub(super) fn new(spec: &AwsStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        Ok(Self { source: source(&spec.auth, opening)?, hop: hop(spec)? })
    }

    /// The role that this account's token is exchanged for; `None` where no
    /// token is sent.
    pub(super) fn first_role(&self, account: &ServiceAccount) -> Result<Option<String>, StoreError> {
        match &self.source {
            Source::WebIdentity { roles, .. } => roles.of(account).map(Some),
            Source::Keys(_) | Source::Ambient => Ok(None),
        }
    }

    /// What tells sessions apart: AWS logs and tags a session of a second hop
    /// with one account, so accounts never share it.
    pub(super) fn session_key(&self, account: &ServiceAccount) -> Result<String, StoreError> {
        let mut key = self.first_role(account)?.unwrap_or_default();
        if let Some(hop) = &self.hop {
            let ServiceAccount { namespace, name, .. } = account;
            let _ = write!(key, "|{}|{namespace}/{name}", hop.role);
        }
        Ok(key)
    }

    /// The account whose limits count, or what stands for it.
    pub(super) fn quota_account(&self, account: &ServiceAccount) -> Result<String, StoreError> {
        let first = self.first_role(account)?;
        let role = self.hop.as_ref().map(|hop| hop.role.as_str()).or(first.as_deref());
        if let Some(arn) = role.and_then(Arn::of_role) {
            return Ok(arn.account.to_owned());
        }
        Ok(match &self.source {
            Source::Keys(keys) => {
                // Keyed by this process: no hash of it is worth anything.
                static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
                format!("keys-{:016x}", HASH.hash_one(keys.id.expose()))
            }
            _ => "ambient".to_owned(),
        })
    }
}

fn source(auth: &AwsAuth, opening: &Opening<'_>) -> Result<Source, StoreError> {
    match (&auth.jwt, &auth.secret_ref, auth.ambient) {
        (Some(jwt), None, None | Some(false)) => {
            let audience = jwt.audience.clone().unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned());
            Ok(Source::WebIdentity { roles: roles(jwt)?, audience })
        }
        (None, Some(keys), None | Some(false)) => Ok(Source::Keys(static_keys(keys, opening)?)),
        (None, None, Some(true)) if opening.scope == Scope::Cluster => Ok(Source::Ambient),
        (None, None, Some(true)) => Err(invalid(
            "auth.ambient is the operator's own identity and only for a ClusterBotSecretStore: use auth.jwt, with a \
             role that trusts the bot's ServiceAccount",
        )),
        _ => Err(invalid("auth must name exactly one way to log in: jwt, secretRef or ambient")),
    }
}

fn roles(jwt: &AwsJwtAuth) -> Result<Roles, StoreError> {
    match (&jwt.role, &jwt.service_account_roles) {
        (Some(role), None) => Ok(Roles::One(checked_role(role, "auth.jwt.role")?)),
        (None, Some(patterns)) => {
            for pattern in patterns {
                checked_role(pattern, "auth.jwt.serviceAccountRoles")?;
            }
            Ok(Roles::Allowed(patterns.clone()))
        }
        _ => Err(invalid("auth.jwt must have one of role and serviceAccountRoles")),
    }
}

fn checked_role(role: &str, field: &str) -> Result<String, StoreError> {
    match Arn::of_role(role) {
        Some(_) => Ok(role.to_owned()),
        None => Err(invalid(format!("{field} must name a role with its account: arn:aws:iam::<account>:role/<name>"))),
    }
}

fn static_keys(auth: &AwsSecretAuth, opening: &Opening<'_>) -> Result<Keys, StoreError> {
    let text = |reference| opening.credentials.text(reference).map(|text| SecretText::new(text.to_owned()));
    Ok(Keys {
        id: text(&auth.access_key_id_secret_ref)?,
        secret: text(&auth.secret_access_key_secret_ref)?,
        token: auth.session_token_secret_ref.as_ref().map(text).transpose()?,
        place: auth.access_key_id_secret_ref.name.clone(),
    })
}

fn hop(spec: &AwsStore) -> Result<Option<Hop>, StoreError> {
    let Some(role) = &spec.role else {
        if spec.external_id.is_some() || spec.session_tags.is_some() {
            return Err(invalid("externalID and sessionTags belong to the second hop: write role"));
        }
        return Ok(None);
    };
    let own = |key: &str| key.to_ascii_lowercase().starts_with(OWN_TAGS);
    if spec.session_tags.iter().flatten().any(|tag| own(&tag.key)) {
        return Err(invalid("tags that begin with botsecret: say who reads and are set by the operator alone"));
    }
    let tags =
        spec.session_tags.as_ref().map(|tags| tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect());
    Ok(Some(Hop { role: checked_role(role, "role")?, external_id: spec.external_id.clone(), tags }))
}

impl Hop {
    /// The tags of this account's session; none where the store wants none.
    pub(super) fn tags_for(&self, account: &ServiceAccount) -> Vec<(String, String)> {
        let Some(tags) = &self.tags else { return Vec::new() };
        let own = [("namespace", &account.namespace), ("serviceAccount", &account.name)];
        let own = own.map(|(name, value)| (format!("{OWN_TAGS}{name}"), value.clone()));
        tags.iter().cloned().chain(own).collect()
    }
}

impl Roles {
    fn of(&self, account: &ServiceAccount) -> Result<String, StoreError> {
        let patterns = match self {
            Self::One(role) => return Ok(role.clone()),
            Self::Allowed(patterns) => patterns,
        };
        let ServiceAccount { name, annotations, .. } = account;
        let Some(role) = annotations.get(ANNOTATION) else {
            return Err(StoreError::new(
                ErrorClass::Identity,
                format!("the store takes the role from ServiceAccount {name}: give it the annotation {ANNOTATION}"),
            ));
        };
        let sound = role.len() <= arn::LONGEST && Arn::of_role(role).is_some();
        let allowed = sound && patterns.iter().any(|pattern| matches(pattern, role));
        if !allowed {
            return Err(StoreError::new(
                ErrorClass::LoginDenied,
                format!(
                    "the store does not allow the role in annotation {ANNOTATION} of ServiceAccount {name}: name one \
                     that auth.jwt.serviceAccountRoles allows, or have it added there"
                ),
            ));
        }
        Ok(role.clone())
    }
}

/// The session's name in AWS's logs: namespace and name, cut to what AWS takes
/// and then told apart by a hash. A namespace has no dot.
pub(super) fn session_name(account: &ServiceAccount) -> String {
    let whole = format!("{}.{}", account.namespace, account.name);
    let fits = |character: char| character.is_ascii_alphanumeric() || "_=,.@-".contains(character);
    if whole.len() <= LONGEST_SESSION_NAME && whole.chars().all(fits) {
        return whole;
    }
    let mut hash = String::new();
    for byte in &digest(&SHA256, whole.as_bytes()).as_ref()[..6] {
        let _ = write!(hash, "{byte:02x}");
    }
    let kept = whole.chars().map(|character| if fits(character) { character } else { '-' });
    let kept: String = kept.take(LONGEST_SESSION_NAME - hash.len() - 1).collect();
    format!("{kept}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::{Hop, Roles, session_name};
    use crate::stores::{ErrorClass, ServiceAccount};

    fn account(namespace: &str, name: &str) -> ServiceAccount {
        ServiceAccount { namespace: namespace.into(), name: name.into(), ..ServiceAccount::default() }
    }

    #[test]
    fn a_session_name_tells_accounts_apart_and_is_as_short_as_aws_wants_it() {
        assert_eq!(session_name(&account("trading", "price-bot")), "trading.price-bot");
        let (one, other) = (account("trading", &"a".repeat(200)), account("trading", &"a".repeat(201)));
        assert_eq!(session_name(&one).len(), 64);
        assert_ne!(session_name(&one), session_name(&other));
        assert!(session_name(&one).starts_with("trading.aaaa"));
    }

    #[test]
    fn p5_an_annotation_names_a_role_only_within_what_the_store_allows() {
        let roles = Roles::Allowed(vec!["arn:aws:iam::123456789012:role/bots-*".into()]);
        let with = |role: &str| {
            let mut account = account("trading", "bot");
            account.annotations.insert(super::ANNOTATION.into(), role.into());
            roles.of(&account)
        };
        assert!(with("arn:aws:iam::123456789012:role/bots-price").is_ok());
        let bots = "arn:aws:iam::123456789012:role/bots-";
        let long = |length: usize| format!("{bots}{}", "a".repeat(length - bots.len()));
        assert!(with(&long(2048)).is_ok());
        for role in ["arn:aws:iam::123456789012:role/admin", "arn:aws:iam::1:role/bots-x", "", "*", &long(2049)] {
            let error = with(role).expect_err(role);
            assert_eq!(error.class, ErrorClass::LoginDenied);
            assert!(error.message.contains("serviceAccountRoles"), "{error}");
        }
        let error = roles.of(&account("trading", "bot")).expect_err("no annotation");
        assert_eq!(error.class, ErrorClass::Identity);
        let one = Roles::One("arn:aws:iam::123456789012:role/fixed".into());
        let mut eager = account("trading", "bot");
        eager.annotations.insert(super::ANNOTATION.into(), "arn:aws:iam::123456789012:role/admin".into());
        assert_eq!(one.of(&eager).expect("fixed"), "arn:aws:iam::123456789012:role/fixed");
    }

    #[test]
    fn p5_the_operator_says_who_reads_in_the_tags() {
        let hop = |tags| Hop { role: String::new(), external_id: None, tags };
        let account = account("trading", "bot");
        assert!(hop(None).tags_for(&account).is_empty());
        let tags = hop(Some(vec![("desk".into(), "a".into())])).tags_for(&account);
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let who = [("botsecret:namespace", "trading"), ("botsecret:serviceAccount", "bot")];
        assert_eq!(tags, [("desk", "a"), who[0], who[1]]);
    }
}

//! Which audiences a store may ask for. A token for a cloud is accepted by
//! that cloud from whoever has it: sent to an address that a store's author
//! chose, it would be the bot's identity in somebody else's hands.

use reqwest::Url;

use crate::{
    api::{AzureEnvironment, Provider},
    stores::{Audience, ErrorClass, StoreError},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Aws,
    Azure,
    Gcp,
}

impl Cloud {
    /// Whose tokens carry this audience.
    fn of(audience: &str) -> Option<Self> {
        let audience = audience.trim().to_ascii_lowercase();
        let name = audience.strip_prefix("https:").or(audience.strip_prefix("http:")).unwrap_or(&audience);
        let name = name.trim_start_matches('/');
        if name.starts_with("sts.amazonaws.com") || (name.starts_with("sts.") && name.contains(".amazonaws.com")) {
            Some(Self::Aws)
        } else if audience.starts_with("api://azureadtokenexchange") {
            Some(Self::Azure)
        } else if name.starts_with("iam.googleapis.com/")
            || audience.starts_with("identitynamespace:")
            || audience.ends_with(".svc.id.goog")
        {
            Some(Self::Gcp)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::Azure => "Azure",
            Self::Gcp => "Google Cloud",
        }
    }

    fn store(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
        }
    }
}

/// Refuses a store that asks for another manager's audience.
pub(super) fn check(provider: &Provider, audience: Option<&Audience>) -> Result<(), StoreError> {
    let Some(Audience::Of(audience)) = audience else { return Ok(()) };
    let Some(cloud) = Cloud::of(audience) else { return Ok(()) };
    let (own, store) = match provider {
        Provider::Aws(_) => (Some(Cloud::Aws), "an aws"),
        Provider::Azure(_) => (Some(Cloud::Azure), "an azure"),
        Provider::Gcp(_) => (Some(Cloud::Gcp), "a gcp"),
        Provider::OAuth2(spec) => {
            (is_entra(&spec.token_url, spec.ca_bundle.as_deref()).then_some(Cloud::Azure), "an oauth2")
        }
        Provider::Kubernetes(_) => (None, "a kubernetes"),
        Provider::Vault(_) => (None, "a vault"),
    };
    if own == Some(cloud) {
        return Ok(());
    }
    let (name, theirs) = (cloud.name(), cloud.store());
    Err(StoreError::new(
        ErrorClass::Invalid,
        format!(
            "{store} store may not ask for a token that {name} accepts: set another audience in the store and at its \
             manager, or read from {name} with a store of {theirs}"
        ),
    ))
}

/// Over a connection that nobody but Entra ID can answer. It takes a
/// ServiceAccount's token only with Azure's audience.
fn is_entra(token_url: &str, ca_bundle: Option<&str>) -> bool {
    let Ok(url) = Url::parse(token_url) else { return false };
    let official = url.port().is_none()
        && url
            .host_str()
            .is_some_and(|host| AzureEnvironment::ALL.iter().any(|cloud| cloud.entra_hosts().contains(&host)));
    ca_bundle.is_none() && url.scheme() == "https" && official
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::{
        api::Provider,
        stores::{Audience, ErrorClass},
    };
    use serde_json::{Value, json};

    fn allows(provider: &Provider, audience: &str) -> bool {
        match check(provider, Some(&Audience::Of(audience.to_owned()))) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.class, ErrorClass::Invalid);
                assert!(error.message.contains("set another audience"), "{error}");
                false
            }
        }
    }

    fn oauth2(url: &str, ca_bundle: Option<&str>) -> Provider {
        let spec = json!({"tokenURL": url, "auth": {}, "caBundle": ca_bundle});
        Provider::OAuth2(serde_json::from_value(spec).expect("a store"))
    }

    fn of<T: serde::de::DeserializeOwned>(spec: Value) -> T {
        serde_json::from_value(spec).expect("a store")
    }

    const AWS: [&str; 5] = [
        "sts.amazonaws.com",
        "sts.amazonaws.com.cn",
        "https://sts.amazonaws.com/",
        "sts.eu-west-1.amazonaws.com",
        " STS.AMAZONAWS.COM",
    ];
    const AZURE: [&str; 3] =
        ["api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov", "API://azureadtokenexchangechina"];
    const GCP: [&str; 5] = [
        "bots-prod.svc.id.goog",
        "identitynamespace:bots-prod.svc.id.goog:https://container.googleapis.com/v1/projects/p",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b",
        "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b",
        "iam.googleapis.com/projects/1",
    ];

    #[test]
    fn p5_a_clouds_audience_goes_to_that_cloud_alone() {
        let providers = [
            (Provider::Vault(of(json!({"address": "https://v", "auth": {}}))), [false, false, false]),
            (oauth2("https://login.example/token", None), [false, false, false]),
            (
                Provider::Kubernetes(of(
                    json!({"remoteNamespace": "x", "audience": "a", "server": {"url": "https://k"}}),
                )),
                [false, false, false],
            ),
            (Provider::Aws(of(json!({"service": "SecretsManager", "region": "r", "auth": {}}))), [true, false, false]),
            (Provider::Azure(of(json!({"vaultUrl": "https://v", "auth": {}}))), [false, true, false]),
            (Provider::Gcp(of(json!({"projectID": "p", "auth": {}}))), [false, false, true]),
        ];
        for (provider, allowed) in &providers {
            for (audiences, allowed) in [&AWS[..], &AZURE[..], &GCP[..]].iter().zip(allowed) {
                for audience in *audiences {
                    assert_eq!(allows(provider, audience), *allowed, "{provider:?} {audience}");
                }
            }
            for audience in ["vault", "https://login.example", "sts.example", "api://bots", "a.svc.id.goog.example"] {
                assert!(allows(provider, audience), "{provider:?} {audience}");
            }
            assert_eq!(check(provider, None), Ok(()));
        }
    }

    #[test]
    fn p5_entra_itself_may_be_sent_what_it_accepts_where_nobody_else_can_answer_for_it() {
        let entra = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token";
        assert!(allows(&oauth2(entra, None), AZURE[0]));
        assert!(!allows(&oauth2(entra, Some("-----BEGIN")), AZURE[0]));
        assert!(!allows(&oauth2(entra, None), AWS[0]));
        for host in ["login.microsoftonline.us", "login.chinacloudapi.cn", "login.partner.microsoftonline.cn"] {
            assert!(allows(&oauth2(&format!("https://{host}/t"), None), AZURE[2]), "{host}");
        }
        for url in [
            "http://login.microsoftonline.com/t",
            "https://login.microsoftonline.com:8443/t",
            "https://login.microsoftonline.com.example/t",
            "https://login.chinacloudapi.cn.example/t",
        ] {
            assert!(!allows(&oauth2(url, None), AZURE[0]), "{url}");
        }
    }
}

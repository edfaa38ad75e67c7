//! The SDK's own decoders, and what is made of what they find. What is read is what
//! another parser reads in the same answer, and any value comes back as it was.

use std::{sync::LazyLock, time::Duration};

use aws_sdk_secretsmanager::Client as SecretsClient;
use aws_sdk_ssm::Client as ParametersClient;
use aws_sdk_sts::{Client as StsClient, types::Credentials};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::memory::{ATTEMPT, answered, asked, bytes, config, key, settings, succeeded, writing};
use crate::stores::{
    FindQuery, Session as _, StoreError,
    aws::{
        errors::{Doing, refusal},
        http::unheard,
        login::granted,
        parameter_store::ParameterStore,
        secrets_manager::SecretsManager,
    },
    fuzzing::told,
    http::Answer,
};

const ROLE: &str = "arn:aws:iam::123456789012:role/bot";
const NAME: &str = "/desk/bot";
const OTHER: &str = "/desk/other";
/// As long as what STS is asked for.
const LONGEST_LOGIN: Duration = Duration::from_secs(3600);

static SECRETS: LazyLock<SecretsClient> = LazyLock::new(|| SecretsClient::new(&config()));
static PARAMETERS: LazyLock<ParametersClient> = LazyLock::new(|| ParametersClient::new(&config()));
static STS: LazyLock<StsClient> = LazyLock::new(|| StsClient::new(&config()));

/// An answer in as much of its form as tells values. A field that stands twice is none.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// Looks for what begins with the desk's name, with and without tags.
fn queries() -> [FindQuery; 2] {
    let query = || FindQuery { path: Some("/desk".to_owned()), name: Some("bot$".to_owned()), ..FindQuery::default() };
    [query(), FindQuery { tags: [("team".to_owned(), "a".to_owned())].into(), ..query() }]
}

fn are_found(names: &[String]) {
    assert!(names.iter().all(|name| name.starts_with("/desk") && name.ends_with("bot")), "{names:?}");
}

/// A secret in an answer of Secrets Manager.
#[allow(clippy::struct_field_names, reason = "as AWS calls them")]
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Secret {
    name: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Secrets {
    secret_values: Vec<Secret>,
}

impl Secret {
    fn value(&self) -> Option<Vec<u8>> {
        match (&self.secret_string, &self.secret_binary) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, binary) => STANDARD.decode(binary.as_ref()?).ok(),
        }
    }
}

/// An operation, and what Secrets Manager answers to it.
pub(crate) fn secrets_manager(input: &[u8]) {
    let Some((operation, answer)) = asked(input) else { return };
    let body = answer.body.to_vec();
    let mut session = SecretsManager::new(settings(), None);
    session.regions.make = |_| SECRETS.clone();
    let read = |answer, metadata| answered(vec![answer], session.read(&[key(NAME, metadata)])).remove(0);
    match operation {
        "read" => {
            let Some(read) = told(read(answer, false)) else { return };
            if let Some(value) = parsed::<Secret>(&body).and_then(|secret| secret.value()) {
                assert_eq!(bytes(&read), value);
            }
        }
        "text" => {
            let Ok(text) = std::str::from_utf8(&body) else { return };
            let read = read(succeeded(json!({ "SecretString": text }).to_string().as_bytes()), false);
            assert_eq!(bytes(&read.expect("a value")), body);
        }
        "binary" => {
            let read = read(succeeded(json!({ "SecretBinary": STANDARD.encode(&body) }).to_string().as_bytes()), false);
            assert_eq!(bytes(&read.expect("a value")), body);
        }
        "tags" => {
            if let Some(tags) = told(read(answer, true)) {
                assert!(parsed::<Value>(bytes(&tags)).is_some_and(|tags| tags.is_object()));
            }
        }
        "batch" => batch(&session, answer, &body),
        "find" => {
            for (query, answer) in queries().iter().zip([answer, succeeded(&body)]) {
                if let Some(names) = told(answered(vec![answer], session.find(query))) {
                    are_found(&names);
                }
            }
        }
        "put" => {
            let current = succeeded(br#"{"SecretString":"old","VersionId":"v"}"#);
            told(writing(NAME, |write| answered(vec![current, answer], session.write(write))));
        }
        "rotate" => {
            told(answered(vec![answer], session.rotate(&key(NAME, false), ATTEMPT)));
        }
        _ => {}
    }
}

/// What is read of several at once is what the answer says of each.
fn batch(session: &SecretsManager, answer: Answer, body: &[u8]) {
    let names = [NAME, OTHER];
    let read = answered(vec![answer], session.read(&names.map(|name| key(name, false))));
    let secrets = parsed::<Secrets>(body);
    for (name, read) in names.into_iter().zip(read) {
        let Some((read, secrets)) = told(read).zip(secrets.as_ref()) else { continue };
        let secret = secrets.secret_values.iter().rfind(|secret| secret.name.as_deref() == Some(name));
        if let Some(value) = secret.expect("it is of one that is there").value() {
            assert_eq!(bytes(&read), value, "{name}");
        }
    }
}

/// A parameter in an answer of Parameter Store.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Parameter {
    name: Option<String>,
    selector: Option<String>,
    value: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Parameters {
    parameters: Vec<Parameter>,
}

impl Parameter {
    fn is_newest_of(&self, name: &str) -> bool {
        let selector = self.selector.as_deref().unwrap_or_default();
        self.name.as_deref() == Some(name) && selector.trim_start_matches(':').is_empty()
    }
}

/// An operation, and what Parameter Store answers to it.
pub(crate) fn parameter_store(input: &[u8]) {
    let Some((operation, answer)) = asked(input) else { return };
    let body = answer.body.to_vec();
    let mut session = ParameterStore::new(settings(), None);
    session.regions.make = |_| PARAMETERS.clone();
    let read = |answer, metadata| answered(vec![answer], session.read(&[key(NAME, metadata)])).remove(0);
    let of_value = |value: &str| {
        let parameter = json!({ "Name": NAME, "Type": "SecureString", "Value": value, "Version": 3 });
        succeeded(json!({ "Parameters": [parameter] }).to_string().as_bytes())
    };
    let about = || succeeded(json!({ "Parameters": [{ "Name": NAME }] }).to_string().as_bytes());
    match operation {
        "read" => {
            let Some((read, all)) = told(read(answer, false)).zip(parsed::<Parameters>(&body)) else { return };
            let parameter = all.parameters.iter().rfind(|parameter| parameter.is_newest_of(NAME));
            let value = parameter.expect("it is of one that is there").value.as_deref();
            assert_eq!(Some(bytes(&read)), value.map(str::as_bytes));
        }
        "text" => {
            let Ok(text) = std::str::from_utf8(&body) else { return };
            let read = read(of_value(text), false).expect("a value");
            assert_eq!((bytes(&read), read.version), (body.as_slice(), Some(3)));
        }
        "tags" => {
            if let Some(tags) = told(read(answer, true)) {
                assert!(parsed::<Value>(bytes(&tags)).is_some_and(|tags| tags.is_object()));
            }
        }
        "find" => {
            for (query, answer) in queries().iter().zip([answer, succeeded(&body)]) {
                if let Some(names) = told(answered(vec![answer], session.find(query))) {
                    are_found(&names);
                }
            }
        }
        "again" => {
            let put = succeeded(br#"{"Version":4}"#);
            told(writing(NAME, |write| answered(vec![answer, about(), put], session.write(write))));
        }
        "about" => {
            told(writing(NAME, |write| answered(vec![of_value("old"), answer], session.write(write))));
        }
        "put" => {
            told(writing(NAME, |write| answered(vec![of_value("old"), about(), answer], session.write(write))));
        }
        _ => {}
    }
}

/// What STS is asked, and what it answers: a login is whole, and no longer than wanted.
pub(crate) fn sts(input: &[u8]) {
    let Some((operation, answer)) = asked(input) else { return };
    match operation {
        "web" => {
            told(log_in(answer));
        }
        "hop" => {
            told(take_role(answer));
        }
        "token" => {
            let Ok(token) = std::str::from_utf8(&answer.body) else { return };
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return;
            }
            let escaped = token.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let answer = format!(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>{escaped}</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                 </AssumeRoleWithWebIdentityResponse>"
            );
            assert_eq!(log_in(succeeded(answer.as_bytes())), Ok(token.to_owned()));
        }
        _ => {}
    }
}

fn log_in(answer: Answer) -> Result<String, StoreError> {
    let call = STS.assume_role_with_web_identity().role_arn(ROLE).role_session_name("bot").web_identity_token("token");
    let doing = Doing::WebIdentity { role: ROLE, subject: "system:serviceaccount:ns:bot", audience: "sts" };
    let answer = answered(vec![answer], unheard(call.send()));
    session_token(answer.map_err(|error| refusal(&error, doing))?.credentials)
}

fn take_role(answer: Answer) -> Result<String, StoreError> {
    let call = STS.assume_role().role_arn(ROLE).role_session_name("bot");
    let doing = Doing::Hop { role: ROLE, from: "arn:aws:iam::123456789012:role/hub" };
    let answer = answered(vec![answer], unheard(call.send()));
    session_token(answer.map_err(|error| refusal(&error, doing))?.credentials)
}

fn session_token(issued: Option<Credentials>) -> Result<String, StoreError> {
    let asked = Instant::now();
    let login = granted(issued, asked)?;
    assert!(login.expires.is_some_and(|expires| expires <= asked + LONGEST_LOGIN));
    let token = login.credentials.session_token().unwrap_or_default();
    for part in [login.credentials.access_key_id(), login.credentials.secret_access_key(), token] {
        assert!(!part.is_empty(), "a login lacks a part");
    }
    Ok(token.to_owned())
}

//! What no server at hand does on demand. The rest is shown against real
//! peers in `tests/stores`.

use std::sync::Arc;

use super::Aws;
use crate::{
    api::{AwsStore, SecretKeyRef},
    secret::{SecretBytes, SecretText},
    stores::{
        Backend as _, ClusterEndpoint, Credentials, ErrorClass, HttpClients, Opening, Payload, RemoteKey, RemoteSecret,
        Scope, Session, StoreError,
        canned::{Canned, answer},
        testing::{account, key, login, opening},
    },
};

const KEYS: &str = r#"{"secretRef":{"accessKeyIDSecretRef":{"name":"aws","key":"id"},"secretAccessKeySecretRef":{"name":"aws","key":"secret"}}}"#;
const JWT: &str = r#"{"jwt":{"role":"arn:aws:iam::123456789012:role/bot"}}"#;
const AMBIENT: &str = r#"{"ambient":true}"#;

fn spec(service: &str, auth: &str, more: &str) -> AwsStore {
    let text = format!(r#"{{"service":"{service}","region":"eu-west-1","auth":{auth}{more}}}"#);
    serde_json::from_str(&text).expect("a store")
}

fn credentials() -> Credentials {
    let of = |key: &str| SecretKeyRef { name: "aws".into(), key: key.into() };
    let value = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
    Credentials::new([(of("id"), value("AKIAEXAMPLE\n")), (of("secret"), value("s3cr3t"))].into())
}

fn open(spec: &AwsStore, scope: Scope) -> Result<Aws, StoreError> {
    let clients = HttpClients::new(ClusterEndpoint::default());
    Aws::new(spec, &Opening { scope, credentials: credentials(), ..opening(&clients) })
}

pub(super) async fn session(canned: &Canned, service: &str) -> Arc<dyn Session> {
    let endpoint = format!(r#","endpoint":"http://{}""#, canned.address);
    let aws = open(&spec(service, KEYS, &endpoint), Scope::Namespace).expect("valid");
    aws.login(login(&SecretText::new("unused".into()))).await.expect("static keys need no request")
}

async fn read(canned: &Canned, service: &str, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
    session(canned, service).await.read(keys).await
}

pub(super) fn refused(code: &str, message: &str) -> Vec<u8> {
    let body = format!(r#"{{"__type":"{code}","message":"{message}"}}"#);
    answer("400 Bad Request", "content-type: application/x-amz-json-1.1\r\n", &body)
}

async fn error_of(service: &str, answer: Vec<u8>) -> StoreError {
    let canned = Canned::answering(vec![answer]).await;
    read(&canned, service, &[key("/desk/bot", None)]).await.remove(0).expect_err("an error")
}

#[tokio::test]
async fn each_code_has_its_class_whatever_the_http_status() {
    use ErrorClass::{Denied, Invalid, LoginDenied, Missing, Throttled, Unavailable};
    for (code, message, class, session_dead) in [
        ("AccessDeniedException", "User: x is not authorized", Denied, false),
        ("AccessDeniedException", "... with an explicit deny in an identity-based policy", Denied, true),
        ("AccessDeniedException", "Access to KMS is not allowed", Denied, false),
        ("DecryptionFailure", "", Denied, false),
        ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.", Missing, false),
        ("com.amazonaws.x#ResourceNotFoundException", "", Missing, false),
        ("InvalidRequestException", "it was marked for deletion", Missing, false),
        ("InvalidRequestException", "", Invalid, false),
        ("InvalidParameterException", "", Invalid, false),
        ("ThrottlingException", "Rate exceeded", Throttled, false),
        ("TooManyRequestsException", "", Throttled, false),
        ("InternalServiceError", "", Unavailable, false),
        ("ExpiredTokenException", "", LoginDenied, true),
        ("UnrecognizedClientException", "", LoginDenied, true),
        ("InvalidSignatureException", "", LoginDenied, true),
        ("IncompleteSignature", "", LoginDenied, true),
    ] {
        for service in ["SecretsManager", "ParameterStore"] {
            let error = error_of(service, refused(code, message)).await;
            assert_eq!((error.class, error.session_dead), (class, session_dead), "{service} {code} {message}: {error}");
        }
    }
    let kms = error_of("SecretsManager", refused("AccessDeniedException", "Access to KMS is not allowed")).await;
    assert!(kms.message.contains("kms:Decrypt"), "{kms}");
    let internal = error_of("SecretsManager", refused("InternalServiceError", "")).await;
    assert!(internal.about_one, "one secret's trouble is not the region's");
}

#[tokio::test]
async fn answers_that_are_none_of_awss_have_their_class_too() {
    use ErrorClass::{Throttled, Unavailable};
    for (status, headers, class, seconds) in [
        ("200 OK", "", Unavailable, None),
        ("302 Found", "location: http://169.254.169.254/\r\n", Unavailable, None),
        ("403 Forbidden", "", Unavailable, None),
        ("429 Slow", "retry-after: 99999\r\n", Throttled, Some(600)),
        ("500 Oops", "", Unavailable, None),
        ("503 Down", "retry-after: 7\r\n", Unavailable, Some(7)),
    ] {
        let error = error_of("SecretsManager", answer(status, headers, "<html>hunter2</html>")).await;
        assert_eq!(error.class, class, "{status}: {error}");
        let wait = error.retry_after.map(|wait| wait.as_secs());
        assert_eq!(wait, seconds, "{status}");
    }
}

#[tokio::test]
async fn p4_no_byte_of_an_answer_reaches_an_error() {
    let bodies = [
        "hunter2".to_owned(),
        r#"{"__type":"hunter2","message":"hunter2"}"#.to_owned(),
        r#"{"__type":"AccessDeniedException","message":"hunter2"}"#.to_owned(),
        r#"{"Name":"bot","SecretString":"hunter2""#.to_owned(),
        r#"{"Parameters":"hunter2"}"#.to_owned(),
    ];
    for body in bodies {
        for status in ["200 OK", "400 Bad", "500 Oops"] {
            for service in ["SecretsManager", "ParameterStore"] {
                let error = error_of(service, answer(status, "", &body)).await;
                assert!(!format!("{error:?}").contains("hunter2"), "{service} {status} {body}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_once_and_signed_for_the_stores_own_keys() {
    let canned = Canned::answering(vec![answer("500 Oops", "", "")]).await;
    assert!(read(&canned, "SecretsManager", &[key("bot", None)]).await[0].is_err());
    let requests = canned.requests();
    assert_eq!(requests.len(), 1, "retries are not the SDK's");
    assert!(requests[0].contains("Credential=AKIAEXAMPLE/"), "{}", requests[0]);
    assert!(requests[0].contains("/eu-west-1/secretsmanager/aws4_request"), "{}", requests[0]);
}

#[tokio::test]
async fn a_batchs_answers_find_the_keys_that_asked_and_what_it_leaves_out_is_asked_for_singly() {
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bot-AbCdEf";
    let batch = format!(
        r#"{{"SecretValues":[{{"ARN":"{arn}","Name":"bot","SecretString":"one"}}],
            "Errors":[{{"SecretId":"gone","ErrorCode":"ResourceNotFoundException","Message":"x"}},
                      {{"SecretId":"denied","ErrorCode":"AccessDeniedException","Message":"x"}}]}}"#
    );
    let single = r#"{"Name":"forgotten","SecretBinary":"AAH/"}"#;
    let canned = Canned::answering(vec![answer("200 OK", "", &batch), answer("200 OK", "", single)]).await;
    let names = ["denied", "gone", "bot", "forgotten"];
    let keys: Vec<RemoteKey> = names.iter().map(|name| key(name, None)).collect();
    let answers = read(&canned, "SecretsManager", &keys).await;
    let shown: Vec<Result<Vec<u8>, ErrorClass>> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(RemoteSecret { payload: Payload::Bytes(bytes), .. }) => Ok(bytes.into_exposed()),
            Ok(_) => panic!("not bytes"),
            Err(error) => Err(error.class),
        })
        .collect();
    let (one, binary) = (b"one".to_vec(), vec![0, 1, 255]);
    assert_eq!(shown, [Err(ErrorClass::Denied), Err(ErrorClass::Missing), Ok(one), Ok(binary)]);
    assert_eq!(canned.requests().len(), 2);
}

#[tokio::test]
async fn p5_a_name_is_never_answered_by_another_accounts_secret_of_that_name() {
    let arns = ["bot-AbCdEf", "desk-AbCdEf"]
        .map(|name| format!("arn:aws:secretsmanager:eu-west-1:999999999999:secret:{name}"));
    // Whatever is asked: what a batch answers, and what a single read does.
    let both = format!(
        r#"{{"SecretValues":[{{"ARN":"{}","Name":"bot","SecretString":"foreign"}},
                             {{"ARN":"{}","Name":"desk","SecretString":"foreign"}}],
            "Name":"bot","SecretString":"own"}}"#,
        arns[0], arns[1]
    );
    let canned = Canned::answering(vec![answer("200 OK", "", &both)]).await;
    for names in [["bot", &arns[0], &arns[1]], [&arns[0], &arns[1], "bot"]] {
        let keys = names.map(|name| key(name, None));
        let answers = read(&canned, "SecretsManager", &keys).await;
        for (name, answer) in names.into_iter().zip(answers) {
            let Ok(RemoteSecret { payload: Payload::Bytes(bytes), .. }) = answer else { panic!("{answer:?}") };
            let value = if name == "bot" { "own" } else { "foreign" };
            assert_eq!(bytes.expose(), value.as_bytes(), "{name}");
        }
    }
    // Also where there are enough of both for a batch.
    let keys = ["bot", &arns[0], "other", &arns[1]].map(|name| key(name, None));
    read(&canned, "SecretsManager", &keys).await;
    let requests = canned.requests();
    let batches = requests.iter().filter(|request| request.contains("BatchGetSecretValue"));
    assert_eq!(batches.clone().count(), 4);
    assert!(batches.clone().all(|request| request.contains("\"bot\"") != request.contains("\"arn:")), "{requests:?}");
}

/// A session whose requests all go to this proxy.
async fn session_through(proxy: String, service: &str) -> Arc<dyn Session> {
    let clients = HttpClients::new(ClusterEndpoint::default());
    let opening = Opening { credentials: credentials(), proxy: Some(proxy), ..opening(&clients) };
    let aws = Aws::new(&spec(service, KEYS, ""), &opening).expect("valid");
    aws.login(login(&SecretText::new("unused".into()))).await.expect("static keys need no request")
}

/// How reads fail in a region that is none, and in the store's own.
async fn failures(session: &dyn Session, service: &str) -> [StoreError; 4] {
    let (names, arn) = match service {
        "SecretsManager" => (["a", "b"], "arn:aws:secretsmanager:xx-bogus-1:123456789012:secret:"),
        _ => (["/a", "/b"], "arn:aws:ssm:xx-bogus-1:123456789012:parameter"),
    };
    let [one, two] = names.map(|name| key(&format!("{arn}{name}"), None));
    let tags = RemoteKey { metadata: true, ..one.clone() };
    let together = session.read(&[one.clone(), two]).await.remove(0);
    let alone = session.read(&[one]).await.remove(0);
    let described = session.read(&[tags]).await.remove(0);
    let own = session.read(&[key(names[0], None)]).await.remove(0);
    [together, alone, described, own].map(|answer| answer.expect_err("nobody answers"))
}

#[tokio::test]
async fn p6_a_region_that_is_none_counts_not_against_the_stores_own() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    for service in ["SecretsManager", "ParameterStore"] {
        let session = session_through(format!("http://{closed}"), service).await;
        let [foreign @ .., own] = failures(&*session, service).await;
        for error in foreign {
            assert_eq!((error.class, error.about_one), (ErrorClass::Unavailable, true), "{service}: {error}");
        }
        assert_eq!((own.class, own.about_one), (ErrorClass::Unavailable, false), "{service}: {own}");
    }
}

#[tokio::test(start_paused = true)]
async fn p6_nor_does_one_that_is_silent() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = format!("http://{}", silent.local_addr().expect("bound"));
    for service in ["SecretsManager", "ParameterStore"] {
        let session = session_through(proxy.clone(), service).await;
        let [foreign @ .., own] = failures(&*session, service).await;
        for error in foreign {
            assert_eq!((error.class, error.about_one), (ErrorClass::Timeout, true), "{service}: {error}");
        }
        assert_eq!((own.class, own.about_one), (ErrorClass::Timeout, false), "{service}: {own}");
    }
}

#[tokio::test]
async fn a_batch_that_is_denied_is_tried_once_a_session() {
    let single = answer("200 OK", "", r#"{"Name":"x","SecretString":"one"}"#);
    let canned = Canned::answering(vec![refused("AccessDeniedException", "BatchGetSecretValue"), single]).await;
    let session = session(&canned, "SecretsManager").await;
    for _ in 0..2 {
        let answers = session.read(&[key("a", None), key("b", None)]).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    let batches = canned.requests().iter().filter(|request| request.contains("BatchGetSecretValue")).count();
    assert_eq!((batches, canned.requests().len()), (1, 5));
}

#[tokio::test]
async fn one_parameter_that_is_denied_hides_no_other_and_is_then_asked_for_alone() {
    let value = |name: &str| {
        answer("200 OK", "", &format!(r#"{{"Parameters":[{{"Name":"{name}","Value":"one","Version":3}}]}}"#))
    };
    let denied = || refused("AccessDeniedException", "no");
    // Both, each singly; then each by its own call from the start.
    let canned = Canned::answering(vec![denied(), value("/a"), denied(), value("/a"), denied()]).await;
    let session = session(&canned, "ParameterStore").await;
    for round in 0..2 {
        let answers = session.read(&[key("/a", None), key("/b", None)]).await;
        assert!(matches!(&answers[0], Ok(secret) if secret.version == Some(3)), "round {round}: {answers:?}");
        assert!(matches!(&answers[1], Err(error) if error.class == ErrorClass::Denied), "round {round}");
    }
    assert_eq!(canned.requests().len(), 5);
}

#[tokio::test]
async fn keys_and_versions_that_cannot_be_right_are_refused_unasked() {
    let canned = Canned::answering(vec![answer("200 OK", "", "{}")]).await;
    for (service, name, version) in [
        ("SecretsManager", "", None),
        ("SecretsManager", "a b", None),
        ("SecretsManager", "bot", Some("")),
        ("SecretsManager", "arn:aws:ssm:eu-west-1:123456789012:parameter/bot", None),
        ("SecretsManager", "arn:aws:secretsmanager:evil.example:123456789012:secret:bot", None),
        // The store's endpoint is one region's.
        ("SecretsManager", "arn:aws:secretsmanager:us-east-1:123456789012:secret:bot", None),
        ("ParameterStore", "/bot:3", Some("4")),
        ("ParameterStore", "/bot:", None),
        ("ParameterStore", "/bot", Some("a:b")),
    ] {
        let error = read(&canned, service, &[key(name, version)]).await.remove(0).expect_err(name);
        assert_eq!(error.class, ErrorClass::Invalid, "{name}: {error}");
    }
    assert!(canned.requests().is_empty());
}

#[test]
fn p5_what_would_use_the_operators_identity_is_for_an_administrator() {
    let sts = r#","stsEndpoint":{"url":"https://sts.evil.example"}"#;
    for (auth, more, names) in [(AMBIENT, "", "auth.jwt"), (JWT, sts, "ClusterBotSecretStore")] {
        let spec = spec("SecretsManager", auth, more);
        let error = open(&spec, Scope::Namespace).err().expect("refused");
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.message.contains(names), "{error}");
        assert!(open(&spec, Scope::Cluster).is_ok());
    }
}

#[test]
fn p5_a_store_that_cannot_be_right_is_refused_before_anything_is_sent() {
    let hop = r#","role":"arn:aws:iam::123456789012:role/second""#;
    let wrong = [
        spec("SecretsManager", "{}", ""),
        spec("SecretsManager", r#"{"jwt":{}}"#, ""),
        spec("SecretsManager", r#"{"jwt":{"role":"bot"}}"#, ""),
        spec("SecretsManager", r#"{"jwt":{"serviceAccountRoles":["*"]}}"#, ""),
        spec("SecretsManager", r#"{"jwt":{"serviceAccountRoles":["arn:aws:iam::*:role/x"]}}"#, ""),
        spec("SecretsManager", JWT, r#","externalID":"xyz""#),
        spec("SecretsManager", JWT, r#","endpoint":"https://user:pw@host""#),
        spec("SecretsManager", JWT, r#","endpoint":"https://host/path""#),
        spec("SecretsManager", JWT, r#","caBundle":"nonsense""#),
        spec("SecretsManager", JWT, &format!(r#"{hop},"sessionTags":[{{"key":"botsecret:namespace","value":"b"}}]"#)),
        AwsStore { region: "eu-west-1.evil.example".into(), ..spec("SecretsManager", JWT, "") },
    ];
    for wrong in wrong {
        let error = open(&wrong, Scope::Cluster).err();
        assert_eq!(error.map(|error| error.class), Some(ErrorClass::Invalid), "{wrong:?}");
    }
}

#[test]
fn a_token_is_asked_for_only_where_it_is_exchanged_and_limits_go_by_account() {
    let hop = r#","role":"arn:aws:iam::999999999999:role/second""#;
    let identity = |auth: &str, more: &str| {
        open(&spec("ParameterStore", auth, more), Scope::Cluster).expect("valid").identity(account()).expect("known")
    };
    let direct = identity(JWT, "");
    assert!(direct.audience.is_some());
    assert_eq!(direct.quota.name, "aws/123456789012/eu-west-1/ssm");
    assert_eq!(identity(JWT, hop).quota.name, "aws/999999999999/eu-west-1/ssm");
    let keys = identity(KEYS, "");
    assert!(keys.audience.is_none() && keys.role.is_empty(), "one session for all");
    assert!(!keys.quota.name.contains("AKIA"), "{}", keys.quota.name);
    // AWS logs a second hop under the account's name.
    assert!(identity(KEYS, hop).role.ends_with("trading/bot"));
}

#[tokio::test]
async fn a_kms_key_and_a_clock_are_blamed_for_what_is_theirs_and_for_nothing_else() {
    use ErrorClass::{Denied, LoginDenied};
    let cmk = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or \
               you are not allowed to access.";
    for (code, text, class, part) in [
        ("AccessDeniedException", cmk, Denied, "kms:Decrypt"),
        ("AccessDeniedException", "not authorized to perform: kms:Decrypt on arn:aws:kms:x", Denied, "kms:Decrypt"),
        ("AccessDeniedException", "not authorized on resource: team/kms-keys", Denied, "in a policy of the role"),
        ("InvalidSignatureException", "Signature expired: 1 is now earlier than 2", LoginDenied, "clock of the"),
        ("InvalidSignatureException", "Signature not yet current: 2 is later than 1", LoginDenied, "clock of the"),
        ("RequestExpired", "", LoginDenied, "clock of the"),
        ("InvalidSignatureException", "does not match the signature you provided", LoginDenied, "check the keys"),
    ] {
        for service in ["SecretsManager", "ParameterStore"] {
            let error = error_of(service, refused(code, text)).await;
            assert_eq!(error.class, class, "{service} {code} {text}: {error}");
            assert!(error.message.contains(part), "{service} {code} {text}: {error}");
            assert!(class == LoginDenied || !error.session_dead);
        }
    }
}

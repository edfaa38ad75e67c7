//! Writes and rotations that no server at hand refuses as AWS does. The rest is
//! shown against real peers in `tests/stores`.

use super::tests::{refused, session};
use crate::{
    secret::SecretBytes,
    stores::{
        ErrorClass, StoreError, WriteBack,
        canned::{Canned, answer},
        testing::key,
    },
};

const ATTEMPT: &str = "8c5f2c0e-6f3d-4f7a-9f55-0d6f5b1c0001";

async fn written(canned: &Canned, service: &str, property: Option<&str>, value: &str) -> Result<(), StoreError> {
    let key = key("/desk/bot", None);
    let properties = [(property.map(str::to_owned), SecretBytes::new(value.as_bytes().to_vec()))];
    let write = WriteBack { key: &key, properties: &properties, base: None, attempt: ATTEMPT };
    session(canned, service).await.write(&write).await
}

const HELD: &str = r#"{"Name":"/desk/bot","VersionId":"v-one","SecretString":"{\"a\":\"old\"}"}"#;
const MADE: &str = r#"{"Name":"/desk/bot","VersionId":"v-two","VersionStages":["botsecret-written"]}"#;

#[tokio::test]
async fn a_write_that_was_overtaken_or_cannot_be_is_sorted_by_awss_own_code() {
    use ErrorClass::{Conflict, Denied, Invalid, Missing, Throttled, Unavailable};
    for (code, message, class, part) in [
        ("ResourceExistsException", "the version already exists", Conflict, "begun anew"),
        ("AccessDeniedException", "User: x is not authorized", Denied, "secretsmanager:PutSecretValue"),
        ("AccessDeniedException", "Access to KMS is not allowed", Denied, "kms:GenerateDataKey"),
        ("EncryptionFailure", "", Denied, "kms:GenerateDataKey"),
        ("LimitExceededException", "", Throttled, "versions"),
        ("InvalidRequestException", "it was marked for deletion", Missing, "marked for deletion"),
        ("InvalidRequestException", "because it's managed by another service", Invalid, "managed by"),
        ("InvalidRequestException", "Operation not permitted on a replica secret", Invalid, "primary region"),
        ("InvalidParameterException", "", Invalid, "check the key"),
        ("InternalServiceError", "", Unavailable, "AWS answered"),
    ] {
        let canned = Canned::answering(vec![answer("200 OK", "", HELD), refused(code, message)]).await;
        let error = written(&canned, "SecretsManager", Some("a"), "new").await.expect_err(code);
        assert_eq!(error.class, class, "{code} {message}: {error}");
        assert!(error.message.contains(part), "{code} {message}: {error}");
        assert_eq!(canned.requests().len(), 2);
    }
    let moved = refused("InvalidParameterException", "Staging label AWSCURRENT is currently attached to version x");
    let canned = Canned::answering(vec![answer("200 OK", "", HELD), answer("200 OK", "", MADE), moved]).await;
    let error = written(&canned, "SecretsManager", Some("a"), "new").await.expect_err("overtaken");
    assert_eq!(error.class, Conflict, "{error}");
}

#[tokio::test]
async fn a_write_carries_its_attempt_and_moves_the_stage_from_the_version_that_was_read() {
    let canned = Canned::answering(vec![answer("200 OK", "", HELD), answer("200 OK", "", MADE)]).await;
    written(&canned, "SecretsManager", Some("a"), "new").await.expect("written");
    let requests = canned.requests();
    let parts = [
        &[r#""VersionStage":"AWSCURRENT""#][..],
        &[
            &format!(r#""ClientRequestToken":"{ATTEMPT}""#),
            r#""SecretString":"{\"a\":\"new\"}""#,
            r#""VersionStages":["botsecret-written"]"#,
        ],
        &[r#""MoveToVersionId":"v-two""#, r#""RemoveFromVersionId":"v-one""#, r#""VersionStage":"AWSCURRENT""#],
    ];
    assert_eq!(requests.len(), parts.len());
    for (request, parts) in requests.iter().zip(parts) {
        assert!(parts.iter().all(|part| request.contains(part)), "{request}");
        assert!(request.contains("Credential=AKIAEXAMPLE/"), "{request}");
    }
}

#[tokio::test]
async fn a_rotation_that_is_under_way_is_as_good_as_one_that_begins() {
    use ErrorClass::{Denied, Invalid, Missing};
    let rotate = async |code: &str, message: &str| {
        let canned = Canned::answering(vec![refused(code, message)]).await;
        session(&canned, "SecretsManager").await.rotate(&key("bot", None), ATTEMPT).await
    };
    let pending = "A previous rotation isn't complete. That rotation will be reattempted.";
    assert_eq!(rotate("InvalidRequestException", pending).await, Ok(()));
    for (code, message, class, part) in [
        ("InvalidRequestException", "No Lambda rotation function ARN is associated", Invalid, "rotation.generate"),
        ("InvalidRequestException", "it was marked for deletion", Missing, "marked for deletion"),
        ("InvalidRequestException", "not permitted on a replica secret", Invalid, "primary region"),
        ("ResourceNotFoundException", "", Missing, "no such secret"),
        ("AccessDeniedException", "not authorized", Denied, "secretsmanager:RotateSecret"),
        ("AccessDeniedException", "cannot invoke the specified Lambda function", Denied, "lambda:InvokeFunction"),
        ("InvalidParameterException", "", Invalid, "refuses to rotate"),
    ] {
        let error = rotate(code, message).await.expect_err(message);
        assert_eq!(error.class, class, "{code} {message}: {error}");
        assert!(error.message.contains(part), "{code} {message}: {error}");
    }
    // Parameters are rotated by nobody there.
    let canned = Canned::answering(vec![answer("200 OK", "", "{}")]).await;
    let error = session(&canned, "ParameterStore").await.rotate(&key("/bot", None), ATTEMPT).await.expect_err("no");
    assert_eq!(error.class, Invalid);
    assert!(canned.requests().is_empty());
}

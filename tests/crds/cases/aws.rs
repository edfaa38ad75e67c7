//! AWS stores.

use serde_json::{Value, json};

use super::{
    Case,
    Verdict::{Accepted, Rule, Schema},
    changed, for_everyone, store,
};

const ROLE: &str = "arn:aws:iam::123456789012:role/price-bot";

fn manager() -> Value {
    store("aws", json!({"aws": {"service": "SecretsManager", "region": "eu-west-1", "auth": {"jwt": {"role": ROLE}}}}))
}

pub fn cases() -> Vec<Case> {
    let (aws, shared) = (changed(manager()), changed(for_everyone(manager())));
    let reference = |key: &str| json!({"name": "aws", "key": key});
    let keys =
        json!({"secretRef": {"accessKeyIDSecretRef": reference("id"), "secretAccessKeySecretRef": reference("key")}});
    let sts = json!({"url": "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com"});
    let roles = |pattern: &str| json!({"jwt": {"serviceAccountRoles": [pattern]}});
    let tag = |key: &str| json!([{"key": key, "value": "rates"}]);
    let (region, auth, role) = ("aws.region", "aws.auth", "aws.role");
    vec![
        aws("AWS Secrets Manager", &[], Accepted),
        aws("AWS Parameter Store", &[("aws.service", json!("ParameterStore"))], Accepted),
        aws("an unknown AWS service", &[("aws.service", json!("S3"))], Schema("Unsupported value")),
        aws("a region of AWS GovCloud", &[(region, json!("us-gov-east-1"))], Accepted),
        aws("a region that leads elsewhere", &[(region, json!("eu-west-1.evil.example"))], Rule("write a region")),
        aws("no AWS login", &[(auth, json!({}))], Rule("write exactly one way to log in: jwt, secretRef or ambient")),
        aws(
            "two AWS logins",
            &[("aws.auth.secretRef", keys["secretRef"].clone())],
            Rule("write exactly one way to log in: jwt, secretRef or ambient"),
        ),
        aws("static AWS keys", &[(auth, keys)], Accepted),
        aws("a role that is none", &[("aws.auth.jwt.role", json!("price-bot-of-trading"))], Rule("write a role's ARN")),
        aws("roles by annotation", &[(auth, roles("arn:aws:iam::123456789012:role/bots-*"))], Accepted),
        aws("roles of any account", &[(auth, roles("arn:aws:iam::*:role/bots-*"))], Rule("each with its account")),
        aws(
            "a role and roles",
            &[("aws.auth.jwt.serviceAccountRoles", json!([ROLE]))],
            Rule("write one of role and serviceAccountRoles"),
        ),
        aws(
            "neither a role nor roles",
            &[(auth, json!({"jwt": {}}))],
            Rule("write one of role and serviceAccountRoles"),
        ),
        aws(
            "a second hop",
            &[(role, json!(ROLE)), ("aws.externalID", json!("desk-7")), ("aws.sessionTags", tag("team"))],
            Accepted,
        ),
        aws("a second hop without tags of its own", &[(role, json!(ROLE)), ("aws.sessionTags", json!([]))], Accepted),
        aws("a second hop to no role", &[(role, json!("price-bot-of-trading"))], Rule("write a role's ARN")),
        aws("an external id for no hop", &[("aws.externalID", json!("desk-7"))], Rule("belong to the second hop")),
        aws(
            "a tag that says who reads",
            &[(role, json!(ROLE)), ("aws.sessionTags", tag("BotSecret:namespace"))],
            Rule("set by the operator alone"),
        ),
        aws("an AWS endpoint", &[("aws.endpoint", json!("https://vpce-1.ssm.eu-west-1.vpce.amazonaws.com"))], Accepted),
        aws("an AWS endpoint with a path", &[("aws.endpoint", json!("https://x/y"))], Rule("such as https://vpce-1")),
        aws(
            "STS of a namespace's own",
            &[("aws.stsEndpoint", sts.clone())],
            Rule("aws.stsEndpoint and aws.auth.ambient"),
        ),
        shared("STS of the cluster's own", &[("aws.stsEndpoint", sts)], Accepted),
        shared(
            "STS with a path",
            &[("aws.stsEndpoint", json!({"url": "https://x/y"}))],
            Rule("write scheme, host and port only"),
        ),
        aws(
            "the operator's identity in a namespace",
            &[(auth, json!({"ambient": true}))],
            Rule("aws.stsEndpoint and aws.auth.ambient"),
        ),
        shared("the operator's identity", &[(auth, json!({"ambient": true}))], Accepted),
        shared("no ambient identity", &[(auth, json!({"ambient": false}))], Rule("write true, or leave it out")),
    ]
}

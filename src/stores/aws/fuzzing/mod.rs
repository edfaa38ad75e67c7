//! What AWS's services say, and names in it.
#![allow(clippy::expect_used, reason = "a finding is a panic")]

mod memory;
mod sdk;

pub(crate) use sdk::{parameter_store as parameters, secrets_manager as secrets, sts};

use super::{
    arn::{Arn, is_region, matches},
    checked_key,
    errors::{Doing, Said, by_code},
    parameter_store,
};
use crate::stores::{
    fuzzing::{answer, silent},
    names::stars_match,
};

/// A status; then a code in the first line of the body, and what is said in the rest.
pub(crate) fn answers(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let Ok(body) = std::str::from_utf8(&answer.body) else { return };
    let (code, text) = body.split_once('\n').unwrap_or((body, ""));
    let role = "arn:aws:iam::123456789012:role/bot";
    for doing in [
        Doing::WebIdentity { role, subject: "system:serviceaccount:ns:bot", audience: "sts.amazonaws.com" },
        Doing::Hop { role, from: "arn:aws:iam::123456789012:role/hub" },
        Doing::Read { action: "secretsmanager:GetSecretValue" },
        Doing::Find { action: "secretsmanager:ListSecrets" },
        Doing::Write { action: "secretsmanager:PutSecretValue" },
        Doing::Rotate,
    ] {
        silent(&by_code(Said { code, text }, answer.status.as_u16(), doing));
    }
}

/// Names that pass lead to one object of one account in one region.
pub(in crate::stores) fn names(pattern: &str, text: &str) {
    if let Some(arn) = Arn::parse(text) {
        assert!(text.ends_with(&format!(":{}:{}:{}:{}", arn.service, arn.region, arn.account, arn.resource)), "{text}");
        assert!(Arn::of_role(text).is_none_or(|role| role == arn && role.account.len() == 12));
    }
    assert!(!is_region(text) || !text.contains(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-'));
    assert!(checked_key(text).is_err() || text.bytes().all(|byte| byte.is_ascii_graphic()));
    // A star that ends at a slash matches no more than one that does not.
    assert!(!matches(pattern, text) || stars_match(pattern, text), "{pattern} {text}");
    let (name, selector) = parameter_store::split(text);
    assert_eq!(selector.map_or(name.to_owned(), |selector| format!("{name}:{selector}")), text);
}

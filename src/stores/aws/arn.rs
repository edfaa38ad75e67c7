//! Amazon resource names, as far as stores look at them.

use crate::stores::names::stars_match;

/// In bytes; AWS has none that is longer.
pub(super) const LONGEST: usize = 2048;

/// `arn:partition:service:region:account:resource`, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// What has the shape of one; `None` for a plain name.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("arn:")?.splitn(5, ':');
        let mut part = || parts.next().filter(|part| !part.contains(char::is_whitespace));
        let (_partition, service, region, account, resource) = (part()?, part()?, part()?, part()?, part()?);
        Some(Self { service, region, account, resource }).filter(|arn| !arn.resource.is_empty())
    }

    /// One of a role, whole and with its account.
    pub(super) fn of_role(text: &'a str) -> Option<Self> {
        let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        Self::parse(text).filter(|arn| {
            arn.service == "iam"
                && arn.region.is_empty()
                && is_account(arn.account)
                && arn.resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
        })
    }
}

/// Whether this is the name of a region: it becomes part of a host name.
pub(super) fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let number = |part: &str| !part.is_empty() && part.len() < 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let last = parts.next_back().is_some_and(number);
    let parts: Vec<&str> = parts.collect();
    last && text.len() <= 64 && parts.len() >= 2 && parts.into_iter().all(letters)
}

/// Whether `*`, which stands for any characters but a slash and a colon, lets
/// this text match. In linear time: tenants write both.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let ends = ['/', ':'];
    pattern.matches(ends).eq(text.matches(ends))
        && pattern.split(ends).zip(text.split(ends)).all(|(pattern, part)| stars_match(pattern, part))
}

#[cfg(test)]
mod tests {
    use super::{Arn, LONGEST, is_region, matches};

    #[test]
    fn an_arn_has_its_parts_and_a_name_is_none() {
        let arn = Arn::parse("arn:aws:secretsmanager:eu-west-1:123456789012:secret:desk/bot-AbCdEf").expect("an ARN");
        assert_eq!((arn.service, arn.region, arn.account), ("secretsmanager", "eu-west-1", "123456789012"));
        assert_eq!(arn.resource, "secret:desk/bot-AbCdEf");
        for text in ["desk/bot", "arn", "arn:aws:iam::1", "arn:aws:iam::1:", "arn:aws:a b:c:d:e"] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_roles_arn_names_account_and_role() {
        assert!(Arn::of_role("arn:aws-cn:iam::123456789012:role/team/bot").is_some());
        for text in [
            "arn:aws:iam::12345678901:role/bot",
            "arn:aws:iam::123456789012:user/bot",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:sts::123456789012:role/bot",
            "bot",
        ] {
            assert_eq!(Arn::of_role(text), None, "{text}");
        }
    }

    #[test]
    fn p5_a_region_is_no_way_to_another_host() {
        for text in ["eu-west-1", "us-gov-east-1", "ap-southeast-12"] {
            assert!(is_region(text), "{text}");
        }
        for text in ["", "eu", "eu-1", "eu-west-1.evil.example", "eu-west-1/", "EU-west-1", "eu-west-", "x@y-z-1"] {
            assert!(!is_region(text), "{text}");
        }
    }

    #[test]
    fn p5_a_star_ends_at_a_slash_and_a_colon() {
        let pattern = "arn:aws:iam::123456789012:role/bots-*";
        assert!(matches(pattern, "arn:aws:iam::123456789012:role/bots-price"));
        assert!(matches(pattern, "arn:aws:iam::123456789012:role/bots-"));
        assert!(matches("a/*/c*", "a/b/cd") && matches("*", "") && matches("a*a", "aaa"));
        for text in [
            "arn:aws:iam::123456789012:role/bots-a/admin",
            "arn:aws:iam::999999999999:role/bots-price",
            "arn:aws:iam::123456789012:role/admin",
            "x-arn:aws:iam::123456789012:role/bots-price",
        ] {
            assert!(!matches(pattern, text), "{text}");
        }
        assert!(!matches("a*c", "ab:c") && !matches("a*", "ab/") && !matches("", "a"));
    }

    #[test]
    fn stars_match_what_trying_all_of_their_lengths_would() {
        fn by_trying(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, _) => text.is_empty(),
                (Some((b'*', rest)), Some((one, _))) if !b"/:".contains(one) => {
                    by_trying(rest, text) || by_trying(pattern, &text[1..])
                }
                (Some((b'*', rest)), _) => by_trying(rest, text),
                (Some((wanted, rest)), Some((one, left))) => wanted == one && by_trying(rest, left),
                (Some(_), None) => false,
            }
        }
        let words = |letters: &str| {
            let mut words = vec![String::new()];
            for length in 0..5 {
                let longer: Vec<String> = words.iter().filter(|word| word.len() == length).cloned().collect();
                words.extend(longer.iter().flat_map(|word| letters.chars().map(move |one| format!("{word}{one}"))));
            }
            words
        };
        let texts = words("ab/");
        for pattern in words("ab/*") {
            for text in &texts {
                assert_eq!(matches(&pattern, text), by_trying(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
        assert!(!matches("a/b", "a:b") && !matches("*/*", "a:b"));
    }

    #[test]
    fn p6_many_stars_keep_no_thread_busy() {
        let role = format!("arn:aws:iam::123456789012:role/{}", "a".repeat(LONGEST - 31));
        assert_eq!(role.len(), LONGEST);
        for stars in [20, 200] {
            let pattern = format!("arn:aws:iam::123456789012:role/{}", "*a".repeat(stars));
            assert!(matches(&pattern, &role));
            assert!(!matches(&format!("{pattern}*b"), &role) && !matches(&format!("{pattern}*b*"), &role));
        }
    }
}

//! Names, and patterns of names. What goes into a URL's path is checked first:
//! no name may lead to another object or another API.

/// Whether this is an RFC 1123 label, as namespaces are named.
pub(crate) fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 63
        && name.bytes().all(|byte| inner(byte) || byte == b'-')
        && name.bytes().next().is_some_and(inner)
        && name.bytes().last().is_some_and(inner)
}

/// Whether this is an RFC 1123 subdomain, as Secrets and ServiceAccounts are
/// named.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        // Longer than a label may be: the API server bounds only the whole.
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// Whether `*`, which stands for any characters, lets this text match. What
/// stands between stars is taken where it is first found, which leaves the most
/// to the rest: in linear time, since tenants write both.
#[allow(dead_code, reason = "each store uses its part")]
pub(super) fn stars_match(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut left) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else { return false };
    between.split('*').all(|literal| {
        let found = left.find(literal);
        left = found.map_or("", |at| &left[at + literal.len()..]);
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::{is_dns_label, is_dns_subdomain, stars_match};

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "a", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*ba", "aba", false),
            ("*a*", "bab", true),
            ("a", "ab", false),
        ] {
            assert_eq!(stars_match(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn p5_only_names_that_kubernetes_itself_allows_pass() {
        for name in ["a", "price-bot", "a.b-c.d1", &"a".repeat(253)] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for name in
            ["", ".", "..", "a..b", "-a", "a-", "A", "a/b", "../x", "a%2fb", "a?b", "a b", "ä", &"a".repeat(254)]
        {
            assert!(!is_dns_subdomain(name), "{name}");
            assert!(!is_dns_label(name), "{name}");
        }
        assert!(is_dns_label("team-1") && !is_dns_label("a.b") && !is_dns_label(&"a".repeat(64)));
    }
}

//! What the secrets that a search found are called in the Secret.

/// The key for a found secret: its name less the path that was searched, where
/// each character that a key cannot have is `_`.
pub(super) fn key_of_path(name: &str, path: Option<&str>) -> String {
    let bare = |text: &str| text.trim_start_matches('/').to_owned();
    let (whole, path) = (bare(name), bare(path.unwrap_or_default()));
    let below = bare(whole.strip_prefix(&path).unwrap_or(&whole));
    // The path may be the secret's own name.
    let last = whole.rsplit('/').find(|part| !part.is_empty()).unwrap_or(&whole);
    let rest = if below.is_empty() { last } else { &below };
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    rest.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::key_of_path;

    #[test]
    fn the_key_of_a_found_secret_is_its_name_below_the_path() {
        for (name, path, key) in [
            ("prod/bots/price", Some("prod/bots"), "price"),
            ("prod/bots/price", Some("prod/bots/"), "price"),
            ("/prod/bots/price", Some("/prod"), "bots_price"),
            ("/prod/bots/price", Some("prod"), "bots_price"),
            ("prod/bots-2/price", Some("prod/bots"), "-2_price"),
            ("prod/bots", Some("prod/bots"), "bots"),
            ("price", None, "price"),
            ("other/price", Some("prod"), "other_price"),
            ("a b/ż:c", None, "a_b___c"),
            ("tls.crt", None, "tls.crt"),
        ] {
            assert_eq!(key_of_path(name, path), key, "{name} {path:?}");
        }
    }
}

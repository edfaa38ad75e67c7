//! The documentation is true.

use std::collections::BTreeMap;

use super::{bytes, pair, text};

/// The examples of the documentation, as they stand there.
#[test]
fn every_example_of_the_documentation_renders() {
    const PAGE: &str = include_str!("../../../../docs/shaping.md");
    let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let bundle = certificate.repeat(2);
    let data = [
        ("USER", "bot"),
        ("PASSWORD", "p@ss/word"),
        ("JSON", r#"{"port": 5432}"#),
        ("BUNDLE", &bundle),
        ("DB_USER", "bot"),
        ("DB_PASSWORD", "p@ss/word"),
        ("EXCHANGE_KEY", "a \"key\""),
    ];
    let rows = PAGE.lines().filter(|line| line.starts_with("| `") && line.contains("{{"));
    let mut helpers = 0;
    for row in rows {
        let cells: Vec<_> =
            row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).replace("\\|", "|")).collect();
        let [_, _, example, result] = cells.as_slice() else { panic!("four cells: {row}") };
        assert_eq!(text(example, &data).unwrap().trim_end(), result, "{example}");
        helpers += 1;
    }
    assert!(helpers >= 12, "the table is there");
    let blocks = |language: &str| {
        let fence = format!("```{language}\n");
        PAGE.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect::<Vec<_>>()
    };
    for line in blocks("jinja").iter().flat_map(|block| block.lines()) {
        text(line, &data).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let mut made = BTreeMap::new();
    for block in blocks("yaml") {
        // Each is a part of a spec that the API's own types take.
        let mut whole: serde_json::Value = serde_yaml::from_str(block).unwrap();
        whole["serviceAccountName"] = "bot".into();
        let spec: crate::api::BotSecretSpec = serde_json::from_value(whole).unwrap();
        for steps in spec.data_from.iter().filter(|entry| !entry.rewrite.is_empty()) {
            let rewriting = crate::build::rewrite::Rewriting::new(0, &steps.rewrite).unwrap();
            assert_eq!(rewriting.key("price-key").unwrap(), "BOT_PRICE_KEY");
        }
        for (key, template) in spec.target.into_iter().filter_map(|target| target.template).flat_map(|made| made.data) {
            if key == "keystore.p12" {
                let (private, certificate) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
                let data =
                    [("tls.key", private.as_bytes()), ("tls.crt", certificate.as_bytes()), ("PASSWORD", b"changeit")];
                assert!(bytes(&template, &data).unwrap().starts_with(&[0x30, 0x82]));
            } else {
                made.insert(key, text(&template, &data[4..]).unwrap());
            }
        }
    }
    assert_eq!(made["DATABASE_URL"], "postgresql://bot:p%40ss%2Fword@db.trading/prices");
    assert_eq!(made["config.yaml"], "exchange:\n  key: \"a \\\"key\\\"\"\n");
    assert_eq!(made[".env"], "DB_PASSWORD=p@ss/word\nDB_USER=bot\nEXCHANGE_KEY='a \"key\"'\n");
    let offered = super::super::screen::FILTERS.iter().filter(|name| **name != "d");
    for name in offered.copied().chain(super::super::connections::SCHEMES.iter().map(|scheme| scheme.function)) {
        assert!(PAGE.contains(&format!("`{name}`")), "{name} is not in the table");
    }
}

//! Blocks of a PEM text, found line by line in one pass.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Which blocks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::build) enum Wanted {
    Certificates,
    Keys,
}

impl Wanted {
    fn is(self, label: &str) -> bool {
        match self {
            Self::Certificates => matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"),
            Self::Keys => label.strip_suffix("PRIVATE KEY").is_some_and(|kind| kind.is_empty() || kind.ends_with(' ')),
        }
    }
}

/// The blocks of that kind as they stand in the text, in their order, each with
/// a newline at its end.
pub(in crate::build) fn blocks(text: &str, wanted: Wanted) -> impl Iterator<Item = String> {
    let (mut label, mut block) = (None, Vec::new());
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(begun) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            (label, block) = (Some(begun), vec![line]);
            return None;
        }
        let begun = label?;
        block.push(line);
        if line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) != Some(begun) {
            return None;
        }
        label = None;
        wanted.is(begun).then(|| block.join("\n") + "\n")
    })
}

/// Whether the text has such a block that holds DER, or what an encrypted or
/// OpenSSH key holds.
pub(in crate::build) fn holds(text: &str, wanted: Wanted) -> bool {
    blocks(text, wanted).any(|block| {
        let body: String = block.lines().filter(|line| !line.starts_with("-----") && !line.contains(':')).collect();
        STANDARD.decode(body).is_ok_and(|body| !body.is_empty())
    })
}

//! Every decoder of what comes from outside, each as one function of bytes that
//! panics where something does not hold. libFuzzer runs them (`make fuzz`), and
//! ordinary tests on the corpus (`corpus`). None of it is in the product.
//!
//! Beyond not panicking they check what is promised: what was written is read
//! again, sizes are bounded, and no error quotes what was read.
#![allow(clippy::missing_panics_doc, clippy::expect_used, reason = "a finding is a panic")]

#[cfg(test)]
mod corpus;
mod kubernetes;
mod records;
mod words;
mod workloads;

use crate::{build, cli, stores};

/// Stands for a secret: where it is among what is read, no error may show it.
pub(crate) const CANARY: &str = "canary-0c9f";

/// One decoder, or several of the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As its folder of the corpus is called.
    pub name: &'static str,
    /// The longest input that is tried.
    pub longest: usize,
    /// Tries one input.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, longest: usize, run: fn(&[u8])) -> Target {
    Target { name, longest, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("addresses", 512, stores::fuzzing::addresses),
    #[cfg(feature = "aws")]
    target("aws", 4096, stores::fuzzing::aws),
    #[cfg(feature = "azure")]
    target("azure", 8192, stores::fuzzing::azure),
    target("bundles", 8192, stores::fuzzing::bundles),
    #[cfg(feature = "azure")]
    target("challenges", 1024, stores::fuzzing::challenges),
    target("crds", 8192, kubernetes::resources),
    target("decoding", 4096, build::fuzzing::decoding),
    target("doctor", 8192, cli::fuzzing::doctor),
    target("durations", 128, words::durations),
    target("flags", 512, cli::fuzzing::flags),
    #[cfg(feature = "gcp")]
    target("gcp", 8192, stores::fuzzing::gcp),
    target("json", 4096, build::fuzzing::json),
    target("kubernetes", 8192, kubernetes::answers),
    target("names", 512, stores::fuzzing::names),
    #[cfg(feature = "oauth2")]
    target("oauth2", 4096, stores::fuzzing::oauth2),
    #[cfg(feature = "aws")]
    target("parameters", 4096, stores::fuzzing::parameters),
    target("pem", 8192, build::fuzzing::pem),
    target("pkcs12", 4096, build::fuzzing::pkcs12),
    target("pkcs12_made", 4096, build::fuzzing::pkcs12_made),
    target("properties", 4096, build::fuzzing::properties),
    target("records", 4096, records::records),
    target("redaction", 1024, words::redaction),
    target("rewrites", 2048, build::fuzzing::rewrites),
    target("schedules", 256, words::schedules),
    #[cfg(feature = "aws")]
    target("secrets", 4096, stores::fuzzing::secrets),
    #[cfg(feature = "aws")]
    target("sts", 4096, stores::fuzzing::sts),
    target("templates", 2048, build::fuzzing::templates),
    target("tokens", 1024, records::tokens),
    #[cfg(feature = "vault")]
    target("vault", 8192, stores::fuzzing::vault),
    target("windows", 1024, words::windows),
    target("workloads", 8192, workloads::workloads),
    target("write_back", 4096, stores::fuzzing::write_back),
    target("yaml", 4096, build::fuzzing::yaml),
];

/// The target of this name. One more is there for the fuzzer's own trial: it has a
/// defect that only who follows the branches finds.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    if name == "planted" {
        return Some(target("planted", 16, words::planted));
    }
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// The first line, and what follows it: inputs that consist of a small part and a
/// large one are files that people can read.
pub(crate) fn split(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let (head, rest) = input.split_at(end);
    Some((std::str::from_utf8(head).ok()?, rest.get(1..).unwrap_or_default()))
}

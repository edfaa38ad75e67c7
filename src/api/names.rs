//! Labels, annotations and field managers that BotSecret writes.

use name_hash::short_hash;

/// On an owned Secret: the BotSecret that owns it. Also the watch's selector.
pub const LABEL_OWNER: &str = "botsecret.dev/owner";
/// On a Secret that a BotSecret merges into: makes the watch see it.
pub const LABEL_MERGED: &str = "botsecret.dev/merged";
/// On an owned Secret: digests by key, revision and source versions (JSON).
pub const ANNOTATION_STATE: &str = "botsecret.dev/state";
/// On a BotSecret: any new value forces a refresh.
pub const ANNOTATION_REFRESH: &str = "botsecret.dev/refresh";
/// On a BotSecret: a rotation that somebody wants now (JSON).
pub const ANNOTATION_ROTATE: &str = "botsecret.dev/rotate";

/// On a candidate Secret and on the Job that tries it: the BotSecret whose they
/// are. Not the owner's label: the watch must not take one for the target.
pub const LABEL_CANDIDATE: &str = "botsecret.dev/candidate";
/// On both: keyed fingerprint of the data that is tried.
pub const ANNOTATION_CANDIDATE: &str = "botsecret.dev/candidate-fingerprint";
/// On the Job: the CronJob that it was made from.
pub const ANNOTATION_CRON_JOB: &str = "botsecret.dev/candidate-cronjob";
/// On the Job: for which generation and which forced refresh it was made.
pub const ANNOTATION_ATTEMPT: &str = "botsecret.dev/candidate-attempt";

/// On the Secret that keeps the value before: the BotSecret whose it is. Not the
/// owner's label, as for a candidate.
pub const LABEL_PREVIOUS: &str = "botsecret.dev/previous";

/// On the Secret that keeps a new value until it is at its source: the BotSecret
/// whose it is. Not the owner's label, as for a candidate.
pub const LABEL_NEXT: &str = "botsecret.dev/next";
/// On the same: where the value goes, and proof that the operator said so (JSON).
pub const ANNOTATION_NEXT: &str = "botsecret.dev/next-value";

/// Annotation in a workload's pod template that carries the revision of
/// `secret`. Changing it is what makes the workload's controller roll.
#[must_use]
pub fn marker_annotation(secret: &str) -> String {
    format!("rollout.botsecret.dev/{}", bounded(secret, 63))
}

/// Annotation on the workload itself that records which revision of `secret`
/// was handed to it, and how often. Template markers can be stripped by other
/// controllers without notice, so the record lies beside, not in, the template.
#[must_use]
pub fn delivery_annotation(secret: &str) -> String {
    format!("delivery.botsecret.dev/{}", bounded(secret, 63))
}

/// Field manager for server-side apply: one per BotSecret, because a second
/// apply by the same manager deletes the fields that it does not repeat.
/// The API server takes at most 128 bytes.
#[must_use]
pub fn field_manager(bot_secret: &str) -> String {
    format!("botsecret/{}", bounded(bot_secret, 118))
}

/// Value of [`LABEL_OWNER`]: the BotSecret's name, or its start and a hash where
/// it is longer than the 63 bytes of a label's value.
#[must_use]
pub fn owner_label(bot_secret: &str) -> String {
    bounded(bot_secret, 63)
}

/// Annotation for the state of a BotSecret that merges into a shared Secret.
#[must_use]
pub fn state_annotation(bot_secret: &str) -> String {
    format!("{STATE_PREFIX}{}", bounded(bot_secret, 63))
}

/// Annotation of a Secret for what a manager issued for its keys, sealed. A
/// Secret that BotSecrets merge into has one of each.
#[must_use]
pub fn issued_annotation(bot_secret: &str, merges: bool) -> String {
    if merges { format!("issued.botsecret.dev/{}", bounded(bot_secret, 63)) } else { "botsecret.dev/issued".to_owned() }
}

/// Name of the Secret in which new data is tried before `target` is written.
#[must_use]
pub fn candidate_secret(target: &str) -> String {
    format!("{target}-candidate")
}

/// Name of the Secret that keeps the value of `target` before the last one.
#[must_use]
pub fn previous_secret(target: &str) -> String {
    format!("{target}-previous")
}

/// Name of the Secret that keeps a new value of `target` until it is at its source.
#[must_use]
pub fn next_secret(target: &str) -> String {
    format!("{target}-next")
}

/// Name of the Job that tries the data of this fingerprint.
#[must_use]
pub fn candidate_job(target: &str, fingerprint: &str) -> String {
    // It names pods, too, whose host names take no dots.
    format!("{}-verify-{}", bounded(target, 45).replace('.', "-"), short_hash(fingerprint))
}

/// Names the generation and the forced refresh for which something is tried.
#[must_use]
pub fn candidate_attempt(generation: Option<i64>, refresh: Option<&str>) -> String {
    format!("{}-{}", generation.unwrap_or(0), short_hash(refresh.unwrap_or_default()))
}

/// Start of the names that [`state_annotation`] makes.
pub const STATE_PREFIX: &str = "state.botsecret.dev/";

/// `name` where it fits `max` bytes, else its start and a hash of the whole.
fn bounded(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let hash = short_hash(name);
    // Object names are ASCII (RFC 1123), so any byte is a character boundary.
    let start: String = name.chars().take(max - hash.len() - 1).collect();
    format!("{}-{hash}", start.trim_end_matches(['.', '-']))
}

mod name_hash {
    use aws_lc_rs::digest::{SHA256, digest};
    use std::fmt::Write;

    /// Ten hexadecimal digits of the name's SHA-256: names are no secrets.
    pub(super) fn short_hash(name: &str) -> String {
        digest(&SHA256, name.as_bytes()).as_ref().iter().take(5).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{candidate_attempt, candidate_job, delivery_annotation, field_manager, marker_annotation};

    #[test]
    fn names_of_any_length_fit_what_the_api_server_takes_and_stay_distinct() {
        let long = "a".repeat(252);
        let (one, two) = (format!("{long}1"), format!("{long}2"));
        for name in [marker_annotation(&one), delivery_annotation(&one)] {
            let (_, local) = name.split_once('/').expect("prefixed");
            assert!(local.len() <= 63, "{name}");
        }
        assert!(field_manager(&one).len() <= 128);
        assert_ne!(marker_annotation(&one), marker_annotation(&two));
        assert_ne!(field_manager(&one), field_manager(&two));
        assert_eq!(marker_annotation("price-bot"), "rollout.botsecret.dev/price-bot");
    }

    #[test]
    fn a_candidates_job_is_named_after_target_and_data_and_fits_a_label() {
        let long = format!("{}.example", "a".repeat(240));
        for target in ["price-bot", "price.bot", &long] {
            let (one, two) = (candidate_job(target, "one"), candidate_job(target, "two"));
            assert!(one.len() <= 63 && !one.contains('.'), "{one}");
            assert_ne!(one, two);
            assert_eq!(one, candidate_job(target, "one"));
        }
        assert_ne!(candidate_attempt(Some(1), None), candidate_attempt(Some(2), None));
        assert_ne!(candidate_attempt(Some(1), None), candidate_attempt(Some(1), Some("again")));
    }
}

//! Why a Secret could not be written.

use crate::{redact::quotes, secret::SecretData};

/// Kinds of failure, as far as they are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplyProblem {
    /// A Secret of this name belongs to somebody else.
    Foreign,
    /// Another BotSecret owns it.
    OwnedByOther,
    /// `Merge` needs a Secret that is not there.
    NothingToMergeInto,
    /// The namespace or the Secret is being deleted.
    Terminating,
    /// A quota or an admission policy refused it.
    Refused,
    /// The API server calls it invalid.
    Invalid,
    /// The operator lacks the right.
    Forbidden,
    /// Somebody else wrote it in between: try again at once.
    Conflict,
    /// The API server failed or did not answer.
    Unavailable,
}

/// A Secret that could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApplyError {
    /// What kind of failure.
    pub problem: ApplyProblem,
    /// What happened and what to do.
    pub message: String,
}

impl ApplyError {
    pub(super) fn new(problem: ApplyProblem, message: impl Into<String>) -> Self {
        Self { problem, message: message.into() }
    }

    /// Sorts an answer of the API server to a write of this data.
    pub(crate) fn from_api(error: &kube::Error, secret: &str, data: &SecretData) -> Self {
        Self::sorted(error, ["write", "written"], &format!("Secret {secret}"), data)
    }

    /// Sorts an answer of the API server to a read of this object.
    pub(crate) fn from_read(error: &kube::Error, object: &str) -> Self {
        // No data went along that the answer could quote.
        Self::sorted(error, ["read", "read"], object, &SecretData::new())
    }

    fn sorted(error: &kube::Error, [verb, participle]: [&str; 2], object: &str, data: &SecretData) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::new(
                ApplyProblem::Unavailable,
                format!("the Kubernetes API did not answer while {object} was {participle}; it is tried again"),
            );
        };
        let said = status.message.as_str();
        let terminating = said.contains("because it is being terminated");
        let (problem, advice) = match status.code {
            409 => (ApplyProblem::Conflict, "it is tried again"),
            403 if terminating => (ApplyProblem::Terminating, "nothing to do: it ends with its namespace"),
            403 if said.contains("exceeded quota") => {
                (ApplyProblem::Refused, "raise the ResourceQuota or remove Secrets")
            }
            // A policy's denial is 422 unless it says otherwise.
            400..=499 if said.contains("ValidatingAdmissionPolicy") || said.contains("admission webhook") => {
                (ApplyProblem::Refused, "adapt the admission policy or the target")
            }
            422 if said.contains("`immutable` is set") => (
                ApplyProblem::Invalid,
                "somebody made it immutable, which nobody can take back: delete the Secret, so that it is made anew without",
            ),
            403 => (ApplyProblem::Forbidden, "grant the operator's ServiceAccount the right"),
            400 | 413 | 422 => (ApplyProblem::Invalid, "correct the target or the data"),
            _ => (ApplyProblem::Unavailable, "it is tried again"),
        };
        let said = quotable(said, data);
        Self::new(problem, format!("the Kubernetes API refused to {verb} {object} ({}): {said}; {advice}", status.code))
    }
}

const REDACTED: &str = "<secret contents redacted>";

/// What the API server said, as far as it can be repeated. It does not print a
/// Secret's data, but its JSON parser's own words may follow where it redacts
/// some; and an admission policy or webhook may say anything.
pub(crate) fn quotable<'a>(said: &'a str, data: &SecretData) -> &'a str {
    let said = said.find(REDACTED).map_or(said, |at| said.get(..at + REDACTED.len()).unwrap_or_default());
    if quotes(said, data) {
        return "(its explanation is withheld, since it seems to quote a value)";
    }
    said
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{ApplyError, ApplyProblem, quotable};
    use crate::secret::{SecretBytes, SecretData};

    #[test]
    fn a_secret_that_somebody_made_immutable_is_reported_with_the_only_way_out() {
        let said = "Secret \"bot\" is invalid: data: Forbidden: field is immutable when `immutable` is set";
        let status = Status { code: 422, message: said.to_owned(), ..Status::default() };
        let error = ApplyError::from_api(&kube::Error::Api(Box::new(status)), "bot", &SecretData::new());
        assert_eq!(error.problem, ApplyProblem::Invalid);
        assert!(error.message.contains("delete the Secret, so that it is made anew"), "{error}");
    }

    #[test]
    fn a_refused_read_does_not_speak_of_a_write() {
        let refused = Status { code: 403, message: "no".to_owned(), ..Status::default() };
        let error = ApplyError::from_read(&kube::Error::Api(Box::new(refused)), "Secret bot");
        assert!(error.message.starts_with("the Kubernetes API refused to read Secret bot (403): no"), "{error}");
        let silent = ApplyError::from_read(&kube::Error::LinesCodecMaxLineLengthExceeded, "BotSecret bot");
        assert!(
            silent.message.starts_with("the Kubernetes API did not answer while BotSecret bot was read"),
            "{silent}"
        );
    }

    #[test]
    fn p4_the_api_servers_words_are_repeated_unless_they_quote_a_value() {
        let value = "hunter2-is-a-long-value";
        let data = SecretData::from([
            ("A".to_owned(), SecretBytes::new(value.into())),
            ("PORT".to_owned(), SecretBytes::new(b"5432".to_vec())),
            ("ON".to_owned(), SecretBytes::new(b"1".to_vec())),
        ]);
        let quoted = |said: &'static str| -> &'static str { quotable(said, &data) };
        let quota = "secrets \"bot\" is forbidden: exceeded quota: few, requested: count/secrets=1";
        assert_eq!(quoted(quota), quota);
        for said in [
            "denied request: do not write hunter2-is-a-long-value",
            "denied request: it begins with hunter2-",
            "denied request: aHVudGVyMi1pcy1hLWxvbmctdmFsdWU=",
            "denied request: port 5432 is not allowed",
        ] {
            assert!(quoted(said).contains("withheld"), "{said}");
        }
        let parser =
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": cannot unmarshal number 1e999";
        assert_eq!(quoted(parser), "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>");
    }
}

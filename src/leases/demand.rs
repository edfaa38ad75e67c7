//! A rotation that somebody wants now, as far as it is about leased credentials.
//! Pure.

use super::{Record, Stage};

/// What is asked for, and what was done about it.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The request. What was issued since bears its id, so nothing is replaced
    /// twice for it, whatever the operator went through in between.
    pub id: String,
    /// Whether the old ones are to go.
    pub revoke: bool,
    /// Whether the new ones are still to be had.
    pub open: bool,
    /// Whether it was tried and failed to have them.
    pub in_vain: bool,
    /// Whether an old one was revoked for it.
    pub revoked: bool,
    /// Whether one could not be, and ends with its login.
    pub left: bool,
}

impl Demand {
    fn is_old(&self, record: &Record) -> bool {
        record.request != self.id
    }

    /// Whether another is to be issued in its place. What was issued and did not
    /// come into the Secret yet is new enough.
    #[must_use]
    pub fn replaces(&self, record: &Record) -> bool {
        self.open && record.stage == Stage::Live && self.is_old(record)
    }

    /// Whether it is to end: as soon as another took its place, or where none can
    /// be had. A leaked credential must not live on because its manager, or the
    /// template around it, is at fault.
    #[must_use]
    pub fn ends(&self, record: &Record) -> bool {
        let is_turn = match record.stage {
            Stage::Retiring => true,
            Stage::Live => self.open && self.in_vain,
            Stage::Issuing => false,
        };
        self.revoke && is_turn && self.is_old(record) && record.is_revocable()
    }

    /// Notes that a credential is off our hands: revoked, or left to its end.
    pub fn note_end(&mut self, record: &Record, revoked: bool) {
        if self.revoke && self.is_old(record) {
            self.revoked |= revoked;
            self.left |= !revoked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::tests::record, Demand, Record, Stage};

    fn demand() -> Demand {
        Demand { id: "2".into(), revoke: true, open: true, ..Demand::default() }
    }

    #[test]
    fn a_request_replaces_what_is_in_use_once() {
        let of = |stage, request: &str| Record { stage, request: request.into(), ..record() };
        for (record, open, wanted) in [
            (of(Stage::Live, ""), true, true),
            (of(Stage::Live, "1"), true, true),
            (of(Stage::Live, "2"), true, false),
            (of(Stage::Live, ""), false, false),
            (of(Stage::Issuing, ""), true, false),
            (of(Stage::Retiring, ""), true, false),
        ] {
            assert_eq!(Demand { open, ..demand() }.replaces(&record), wanted, "{record:?}");
        }
    }

    #[test]
    fn p7_only_a_request_to_revoke_ends_what_pods_hold_and_never_what_it_brought() {
        let of = |stage, request: &str| Record { stage, request: request.into(), ..record() };
        let in_vain = Demand { in_vain: true, ..demand() };
        for (demand, record, wanted) in [
            (demand(), of(Stage::Retiring, ""), true),
            (demand(), of(Stage::Retiring, "1"), true),
            (demand(), of(Stage::Retiring, "2"), false),
            (Demand { open: false, ..demand() }, of(Stage::Retiring, "1"), true),
            (Demand { revoke: false, ..demand() }, of(Stage::Retiring, "1"), false),
            // In use still: not before another was tried for.
            (demand(), of(Stage::Live, ""), false),
            (in_vain.clone(), of(Stage::Live, ""), true),
            (in_vain.clone(), of(Stage::Live, "2"), false),
            (Demand { revoke: false, ..in_vain.clone() }, of(Stage::Live, ""), false),
            (Demand { open: false, ..in_vain.clone() }, of(Stage::Live, ""), false),
            (in_vain.clone(), of(Stage::Issuing, ""), false),
            // A certificate cannot be revoked here.
            (in_vain, Record { lease: String::new(), ..of(Stage::Live, "") }, false),
        ] {
            assert_eq!(demand.ends(&record), wanted, "{demand:?} {record:?}");
        }
    }
}

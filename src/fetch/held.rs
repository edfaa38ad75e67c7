//! How many bytes of large values are in memory, for all stores together.
//! Small ones do not count: nobody's ordinary secrets wait for, or fail by,
//! what others read.

use std::sync::{Arc, Mutex, Weak};

use super::locked;
use crate::{
    secret::SecretBytes,
    stores::{ErrorClass, Payload, RemoteSecret, StoreError},
};

/// What large values may weigh together, whoever reads them …
const MOST: usize = 64 << 20;
/// … and those of one store, so that none uses up what others have.
const MOST_OF_ONE: usize = MOST / 2;
/// Up to here a value is small: 64 of them under way for each of 16 managers
/// are as much as one budget more.
const SMALL: usize = 64 << 10;

/// The large values that somebody holds.
#[derive(Default)]
pub(super) struct Held(Mutex<Vec<Value>>);

struct Value {
    secret: Weak<RemoteSecret>,
    store: String,
    weight: usize,
}

impl Held {
    /// The value to be shared, or that there is no room for it now.
    pub(super) fn keep(&self, store: &str, secret: RemoteSecret) -> Result<Arc<RemoteSecret>, StoreError> {
        let weight = weight_of(&secret.payload);
        if weight <= SMALL {
            return Ok(Arc::new(secret));
        }
        let mut values = locked(&self.0);
        values.retain(|value| value.secret.strong_count() > 0);
        let sum = |of: &dyn Fn(&Value) -> bool| -> usize {
            values.iter().filter(|value| of(value)).map(|value| value.weight).sum()
        };
        let (all, own) = (sum(&|_| true), sum(&|value| value.store == store));
        if !fits(all, own, weight) {
            return Err(no_room());
        }
        let secret = Arc::new(secret);
        values.push(Value { secret: Arc::downgrade(&secret), store: store.to_owned(), weight });
        Ok(secret)
    }
}

fn fits(all: usize, own: usize, weight: usize) -> bool {
    all.saturating_add(weight) <= MOST && own.saturating_add(weight) <= MOST_OF_ONE
}

/// Passes by itself, and says nothing about the manager.
fn no_room() -> StoreError {
    let message = format!(
        "too many large values are read at once ({} MiB of one store, {} MiB in all, are held at a time): it is read again",
        MOST_OF_ONE >> 20,
        MOST >> 20
    );
    StoreError::new(ErrorClass::Unavailable, message).after(Some(super::seat::RESULT_KEPT)).about_one()
}

/// How many bytes of values this holds.
pub(super) fn weight_of(payload: &Payload) -> usize {
    match payload {
        Payload::Json(text) => text.expose().len(),
        Payload::Fields(fields) => fields.values().map(SecretBytes::len).sum(),
        Payload::Bytes(bytes) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, MOST, MOST_OF_ONE, SMALL, fits};
    use crate::{
        secret::SecretBytes,
        stores::{ErrorClass, Payload, RemoteSecret},
    };

    fn value(weight: usize) -> RemoteSecret {
        RemoteSecret::of(Payload::Bytes(SecretBytes::new(vec![b'.'; weight])))
    }

    #[test]
    fn what_has_room() {
        let (most, one) = (MOST, MOST_OF_ONE);
        for ((all, own, weight), wanted) in [
            ((0, 0, one), true),
            ((0, 0, one + 1), false),
            ((one, 0, one), true),
            ((one + 1, 0, one), false),
            ((one, one - 1, 1), true),
            ((one, one, 1), false),
            ((most, 0, 1), false),
            ((0, 0, usize::MAX), false),
        ] {
            assert_eq!(fits(all, own, weight), wanted, "{weight} beside {own} of {all}");
        }
    }

    #[test]
    fn p6_one_store_uses_up_its_own_room_and_small_values_always_have_some() {
        let (held, large) = (Held::default(), 4 << 20);
        let mut kept: Vec<_> =
            (0..MOST_OF_ONE / large).map(|_| held.keep("one", value(large)).expect("room")).collect();
        let refused = held.keep("one", value(large)).err().map(|error| (error.class, error.about_one));
        assert_eq!(refused, Some((ErrorClass::Unavailable, true)));
        kept.push(held.keep("one", value(SMALL)).expect("it is small"));
        kept.extend((0..MOST_OF_ONE / large).map(|_| held.keep("two", value(large)).expect("another's room")));
        assert!(held.keep("three", value(large)).is_err(), "in all");
        kept.clear();
        held.keep("three", value(large)).expect("what nobody holds any more takes none");
    }
}

//! Which BotSecret to look at next: by time, first come first served within
//! the same moment, and never two passes over one object at once.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::watch::ObjectKey;

/// Keys by the time at which they are to be looked at.
#[derive(Debug, Default)]
pub struct Queue {
    by_time: BTreeMap<(Instant, u64), ObjectKey>,
    places: HashMap<ObjectKey, (Instant, u64)>,
    /// Keys with a pass running, and when each is to be looked at after it.
    /// They have no place in the line, or every look at its head would pass
    /// over them.
    running: HashMap<ObjectKey, Option<Instant>>,
    sequence: u64,
}

impl Queue {
    /// Looks at `key` at this time, or earlier if it is queued for earlier.
    pub fn wake(&mut self, key: ObjectKey, at: Instant) {
        if let Some(wanted) = self.running.get_mut(&key) {
            *wanted = Some(wanted.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        if let Some(place) = self.places.get(&key) {
            if place.0 <= at {
                return;
            }
            self.by_time.remove(place);
        }
        self.sequence += 1;
        let place = (at, self.sequence);
        self.by_time.insert(place, key.clone());
        self.places.insert(key, place);
    }

    /// When the next key is due that has no pass running.
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first key that is due, and holds back further passes over it
    /// until [`Queue::finished`].
    pub fn take_due(&mut self, now: Instant) -> Option<ObjectKey> {
        let first = self.by_time.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = first.remove();
        self.places.remove(&key);
        self.running.insert(key.clone(), None);
        Some(key)
    }

    /// The pass over `key` is over.
    pub fn finished(&mut self, key: &ObjectKey) {
        if let Some(Some(at)) = self.running.remove(key) {
            self.wake(key.clone(), at);
        }
    }

    /// How many passes are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::watch::ObjectKey;
    use std::time::Duration;
    use tokio::time::Instant;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    #[test]
    fn p6_keys_come_in_the_order_of_their_times_and_then_of_their_arrival() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.wake(key("later"), later);
        for name in ["c", "a", "b"] {
            queue.wake(key(name), now);
        }
        queue.wake(key("later"), now + Duration::from_secs(9));
        let order: Vec<_> = std::iter::from_fn(|| queue.take_due(now)).map(|key| key.name).collect();
        assert_eq!(order, ["c", "a", "b"]);
        assert_eq!(queue.next_time(), Some(later));
    }

    #[test]
    fn an_object_that_is_woken_during_its_pass_gets_another_one_afterwards() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        assert_eq!(queue.take_due(now), Some(key("a")));
        queue.wake(key("a"), now);
        assert_eq!((queue.take_due(now), queue.next_time()), (None, None));
        queue.finished(&key("a"));
        assert_eq!(queue.take_due(now), Some(key("a")));
    }
}

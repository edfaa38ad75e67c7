//! How many workloads roll at once over a namespace and over the cluster,
//! whichever BotSecrets they roll for.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// A BotSecret's namespace and name.
pub(in super::super) type Key = (String, String);

/// The places, and who holds how many.
#[derive(Debug, Default)]
pub(in super::super) struct Places {
    per_namespace: Option<usize>,
    in_all: Option<usize>,
    held: Mutex<HashMap<Key, usize>>,
}

impl Places {
    pub(in super::super) fn new(per_namespace: Option<usize>, in_all: Option<usize>) -> Self {
        Self { per_namespace, in_all, held: Mutex::default() }
    }

    /// Notes how many workloads roll for this BotSecret.
    pub(in super::super) fn hold(&self, key: Key, running: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if running == 0 {
            held.remove(&key);
        } else {
            held.insert(key, running);
        }
    }

    /// Reserves places for so many more beside those that run, and says how many
    /// there are.
    pub(in super::super) fn reserve(&self, key: Key, running: usize, wanted: usize) -> usize {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(key.clone(), running);
        let of_namespace: usize =
            held.iter().filter(|((namespace, _), _)| *namespace == key.0).map(|(_, count)| count).sum();
        let of_all: usize = held.values().sum();
        let left = |most: Option<usize>, taken: usize| most.map_or(usize::MAX, |most| most.saturating_sub(taken));
        let granted = wanted.min(left(self.per_namespace, of_namespace)).min(left(self.in_all, of_all));
        held.insert(key, running + granted);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn places_are_counted_over_the_namespace_and_over_the_cluster() {
        let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let places = Places::new(Some(3), Some(4));
        assert_eq!(places.reserve(key("a", "one"), 0, 2), 2);
        assert_eq!(places.reserve(key("a", "two"), 0, 2), 1, "one is left in the namespace");
        assert_eq!(places.reserve(key("b", "three"), 0, 5), 1, "one is left in the cluster");
        assert_eq!(places.reserve(key("b", "four"), 0, 1), 0);
        places.hold(key("a", "one"), 0);
        assert_eq!(places.reserve(key("b", "four"), 0, 1), 1);
        assert_eq!(Places::default().reserve(key("a", "one"), 7, 100), 100);
    }
}

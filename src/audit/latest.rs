//! What was used of late: a map with a bound, which forgets what was not used for longest.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

/// Values by name, of which there are never more than so many.
#[derive(Debug)]
pub(super) struct Latest<V> {
    /// Each with the number of its last use …
    known: HashMap<Arc<str>, (u64, V)>,
    /// … and which use was whose, the oldest first.
    order: BTreeMap<u64, Arc<str>>,
    uses: u64,
    most: usize,
}

impl<V: Default> Latest<V> {
    pub(super) fn new(most: usize) -> Self {
        Self { known: HashMap::new(), order: BTreeMap::new(), uses: 0, most }
    }

    /// The value of this name, and whether the name is new.
    pub(super) fn used(&mut self, name: &str) -> (&mut V, bool) {
        let before = self.known.get(name).and_then(|(last, _)| self.order.remove(last));
        if before.is_none() && self.known.len() >= self.most {
            self.forget_oldest();
        }
        let name = before.unwrap_or_else(|| name.into());
        self.uses += 1;
        self.order.insert(self.uses, Arc::clone(&name));
        match self.known.entry(name) {
            Entry::Occupied(known) => {
                let (last, value) = known.into_mut();
                *last = self.uses;
                (value, false)
            }
            Entry::Vacant(place) => (&mut place.insert((self.uses, V::default())).1, true),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.order.pop_first() {
            self.known.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Latest;

    #[test]
    fn what_is_used_again_and_again_is_known_however_much_comes_once() {
        let mut latest = Latest::<u32>::new(3);
        assert!(latest.used("always").1);
        for number in 0..100 {
            assert!(latest.used(&format!("once-{number}")).1);
            let (times, is_new) = latest.used("always");
            *times += 1;
            assert_eq!((*times, is_new), (number + 1, false));
        }
        assert_eq!((latest.known.len(), latest.order.len()), (3, 3));
        assert_eq!(latest.used("once-0"), (&mut 0, true), "it was forgotten, and its value with it");
    }
}

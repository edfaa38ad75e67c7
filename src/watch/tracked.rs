//! A map fed by a watch, whose relists also delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
};

/// Objects by key. A relist sends no deletes: what it did not send is gone.
#[derive(Debug)]
pub struct Tracked<K, V> {
    objects: BTreeMap<K, V>,
    /// By scope (a namespace, or "" for the cluster): what a running relist has
    /// not sent yet.
    unseen: BTreeMap<String, BTreeSet<K>>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unseen: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V> Tracked<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.objects.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.objects.iter()
    }

    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.objects.range(range)
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        for unseen in self.unseen.values_mut() {
            unseen.remove(&key);
        }
        self.objects.insert(key, value)
    }

    /// Says that a running relist has sent this object, without replacing it.
    pub fn keep(&mut self, key: &K) {
        for unseen in self.unseen.values_mut() {
            unseen.remove(key);
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.objects.remove(key)
    }

    /// A relist of `scope` begins.
    pub fn begin(&mut self, scope: &str, in_scope: impl Fn(&K) -> bool) {
        let unseen = self.objects.keys().filter(|key| in_scope(key)).cloned().collect();
        self.unseen.insert(scope.to_owned(), unseen);
    }

    /// The relist of `scope` is complete: removes what it did not send.
    pub fn finish(&mut self, scope: &str) -> Vec<(K, V)> {
        let unseen = self.unseen.remove(scope).unwrap_or_default();
        unseen.into_iter().filter_map(|key| self.objects.remove(&key).map(|value| (key, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Tracked;

    #[test]
    fn p11_what_a_relist_does_not_send_is_deleted_within_its_scope_only() {
        let mut tracked = Tracked::default();
        for key in ["a/1", "a/2", "b/1"] {
            tracked.put(key.to_owned(), ());
        }
        tracked.begin("a", |key| key.starts_with("a/"));
        tracked.put("a/2".to_owned(), ());
        tracked.put("a/3".to_owned(), ());
        let gone = tracked.finish("a");
        assert_eq!(gone, [("a/1".to_owned(), ())]);
        assert_eq!(tracked.len(), 3);
    }
}

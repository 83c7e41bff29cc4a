//! What a node remembers of the database, dropped as soon as it changes.
//!
//! Keys are hashed by ahash, as in every table that each call looks into: the standard library's hash costs several times as much. Its
//! seeds are random as well, because callers choose some of the keys.

use std::{
    future::Future,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ahash::RandomState;

/// A bounded cache that is emptied by invalidation; an hour bounds what a lost notification could do.
pub struct Cache<K, V> {
    entries: moka::sync::Cache<K, V, RandomState>,
    generation: AtomicU64,
}

impl<K: Hash + Eq + Send + Sync + Clone + 'static, V: Clone + Send + Sync + 'static> Cache<K, V> {
    pub fn new(capacity: u64) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(capacity).time_to_live(Duration::from_hours(1));
        let entries = builder.build_with_hasher(RandomState::new());
        Self { entries, generation: AtomicU64::new(0) }
    }

    /// One whose entries take room by their weight.
    pub fn weighted(capacity: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(capacity).weigher(weigh).support_invalidation_closures();
        let entries = builder.time_to_live(Duration::from_hours(1)).build_with_hasher(RandomState::new());
        Self { entries, generation: AtomicU64::new(0) }
    }

    /// The remembered value, or the one that `load` brings. A value that was loaded while the cache was being emptied is
    /// returned but not kept. Loading needs much more memory than remembering, so that is made only when it is needed.
    pub async fn get_or_load<E, F>(&self, key: &K, load: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        if let Some(value) = self.entries.get(key) {
            return Ok(value);
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let value = Box::pin(load()).await?;
        self.entries.insert(key.clone(), value.clone());
        if self.generation.load(Ordering::SeqCst) != generation {
            self.entries.invalidate(key);
        }
        Ok(value)
    }

    /// A value, if it is remembered.
    pub fn peek(&self, key: &K) -> Option<V> {
        self.entries.get(key)
    }

    /// Forgets one value.
    pub fn remove(&self, key: &K) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key);
    }

    /// Forgets the values whose keys meet a condition. Only for a cache of weighted entries.
    pub fn remove_where(&self, condition: impl Fn(&K) -> bool + Send + Sync + 'static) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.entries.invalidate_entries_if(move |key, _| condition(key)) {
            tracing::error!(%error, "a cache forgets everything in the place of a part");
            self.entries.invalidate_all();
        }
    }

    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_loaded_across_an_invalidation_is_not_kept() {
        let cache: Cache<u8, u8> = Cache::new(10);
        let stale = cache
            .get_or_load(&1, || async {
                cache.clear();
                Ok::<_, ()>(1)
            })
            .await;
        assert_eq!(stale, Ok(1));
        assert_eq!(cache.get_or_load(&1, || async { Ok::<_, ()>(2) }).await, Ok(2));
        assert_eq!(cache.get_or_load(&1, || async { Ok::<_, ()>(3) }).await, Ok(2));
    }
}

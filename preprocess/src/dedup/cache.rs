//! A cache of the shingles of recently compared documents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::shingles::Shingles;

/// Keeps shingles by document, up to a number of bytes.
///
/// There are two generations. A used entry goes into the young one; when that has half the bytes, it becomes the old
/// one, and the previous old one is dropped. So recently used entries stay, as with an LRU cache, at the price of two
/// look-ups.
pub(super) struct Cache {
    generations: Mutex<Generations>,
    young_bytes_max: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<u32, Arc<Shingles>>,
    old: HashMap<u32, Arc<Shingles>>,
    young_bytes: usize,
}

/// Bytes of an entry besides its hashes: two words each for table, reference count and slice. Heuristic, not measured.
const ENTRY_BYTES: usize = 64;

impl Cache {
    /// Returns an empty cache of at most `bytes`.
    pub fn new(bytes: u64) -> Self {
        let young_bytes_max = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        Self { generations: Mutex::default(), young_bytes_max }
    }

    /// Returns the shingles of `document`, which `make` computes if they are not cached. Two threads may make the
    /// same at once; nothing waits for a document to be read.
    pub fn get<E>(&self, document: u32, make: impl FnOnce() -> Result<Shingles, E>) -> Result<Arc<Shingles>, E> {
        let found = self.lock(|generations| {
            let old = || generations.old.get(&document);
            generations.young.get(&document).or_else(old).cloned()
        });
        let shingles = match found {
            Some(shingles) => shingles,
            None => Arc::new(make()?),
        };
        self.lock(|generations| generations.put(document, &shingles, self.young_bytes_max));
        Ok(shingles)
    }

    fn lock<R>(&self, act: impl FnOnce(&mut Generations) -> R) -> R {
        act(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generations {
    fn put(&mut self, document: u32, shingles: &Arc<Shingles>, young_bytes_max: usize) {
        let bytes = shingles.len() * size_of::<u64>() + ENTRY_BYTES;
        if bytes > young_bytes_max || self.young.contains_key(&document) {
            return;
        }
        if self.young_bytes + bytes > young_bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young.insert(document, Arc::clone(shingles));
        self.young_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::shingles::Scratch;

    fn one_shingle() -> Shingles {
        Shingles::new("word", 1, &mut Scratch::default())
    }

    /// Returns which documents were computed when these were requested in order.
    fn made(bytes: u64, documents: &[u32]) -> Vec<u32> {
        let cache = Cache::new(bytes);
        let mut made = Vec::new();
        for document in documents {
            let shingles = cache.get::<()>(*document, || {
                made.push(*document);
                Ok(one_shingle())
            });
            assert_eq!(shingles.as_deref(), Ok(&one_shingle()));
            let generations = cache.generations.lock().unwrap();
            assert!((generations.young.len() + generations.old.len()) * (ENTRY_BYTES + 8) <= bytes as usize);
        }
        made
    }

    #[test]
    fn what_was_used_lately_is_kept() {
        let check = |entries: u64, documents: &[u32], expected: &[u32]| {
            assert_eq!(made(entries * (ENTRY_BYTES as u64 + 8), documents), expected, "{documents:?}");
        };
        check(0, &[1, 1], &[1, 1]);
        check(1, &[1, 1], &[1, 1]);
        check(2, &[1, 1, 2, 1, 2], &[1, 2]);
        check(4, &[1, 2, 3, 1, 4, 1, 2], &[1, 2, 3, 4, 2]);
        check(8, &[1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 1, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 2]);
    }

    #[test]
    fn a_failure_is_passed_on_and_not_kept() {
        let cache = Cache::new(1 << 20);
        assert_eq!(cache.get(1, || Err("gone")), Err("gone"));
        assert!(cache.get::<&str>(1, || Ok(one_shingle())).is_ok());
    }
}

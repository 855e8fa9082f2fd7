//! Disjoint sets of documents.

/// Disjoint sets of the documents 0 to n (Tarjan, "Efficiency of a good but not linear set union algorithm", 1975),
/// with path halving. The root of a set is its first member by a given order, so the sets are the same, root included,
/// in whatever order they were united.
#[derive(Debug)]
pub(super) struct UnionFind {
    parents: Vec<u32>,
}

impl UnionFind {
    /// Returns `documents` sets of one document each.
    pub fn new(documents: u32) -> Self {
        Self { parents: (0..documents).collect() }
    }

    /// Returns the root of the set of `document`.
    pub fn root(&mut self, mut document: u32) -> u32 {
        loop {
            let parent = self.parents[document as usize];
            if parent == document {
                return document;
            }
            let above = self.parents[parent as usize];
            self.parents[document as usize] = above;
            document = above;
        }
    }

    /// Unites the sets of `a` and `b`; the root whose `key` is smaller becomes that of both.
    pub fn unite<K: Ord>(&mut self, a: u32, b: u32, key: impl Fn(u32) -> K) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (root, child) = if key(a) < key(b) { (a, b) } else { (b, a) };
            self.parents[child as usize] = root;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sets by painting: every union repaints all members.
    fn painted(documents: u32, pairs: &[(u32, u32)], ranks: &[u32]) -> Vec<u32> {
        let mut sets: Vec<u32> = (0..documents).collect();
        for (a, b) in pairs {
            let (from, to) = (sets[*a as usize], sets[*b as usize]);
            sets.iter_mut().filter(|set| **set == from).for_each(|set| *set = to);
        }
        let first = |set| {
            let members = (0..documents).filter(|document| sets[*document as usize] == set);
            members.min_by_key(|document| (ranks[*document as usize], *document)).unwrap_or(set)
        };
        sets.iter().map(|set| first(*set)).collect()
    }

    proptest! {
        #[test]
        fn sets_are_those_of_painting(
            pairs in prop::collection::vec((0_u32..30, 0_u32..30), 0..40),
            ranks in prop::collection::vec(0_u32..20, 30),
        ) {
            let key = |document: u32| (ranks[document as usize], document);
            let expected = painted(30, &pairs, &ranks);
            let mut forwards = UnionFind::new(30);
            for (a, b) in &pairs {
                forwards.unite(*a, *b, key);
            }
            prop_assert_eq!((0..30).map(|document| forwards.root(document)).collect::<Vec<_>>(), &expected[..]);
            let mut backwards = UnionFind::new(30);
            pairs.iter().rev().for_each(|(a, b)| backwards.unite(*b, *a, key));
            prop_assert_eq!((0..30).map(|document| backwards.root(document)).collect::<Vec<_>>(), &expected[..]);
        }
    }
}

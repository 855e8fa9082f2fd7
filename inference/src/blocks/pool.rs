//! Allocation, sharing and eviction of blocks.

use std::collections::{BTreeMap, HashMap};

use super::hash::{Owner, PrefixHash};

/// All blocks of a cache.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: usize,
    reuses_prefixes: bool,
    blocks: Vec<Block>,
    /// Blocks that no table uses and that are not registered.
    free: Vec<u32>,
    /// Registered blocks that no table uses, by the time of their last use.
    unused: BTreeMap<u64, u32>,
    registered: HashMap<PrefixHash, u32>,
    /// Counts releases: the clock of [`Block::last_use`].
    clock: u64,
}

#[derive(Debug, Default)]
struct Block {
    /// How many tables hold it.
    references: usize,
    /// When the last table released it; only meaningful while no table uses it.
    last_use: u64,
    /// What is in it, if it is registered.
    content: Option<Content>,
}

#[derive(Debug)]
struct Content {
    /// The hash of everything before the block.
    before: PrefixHash,
    /// The hash under which it is registered.
    hash: PrefixHash,
    tokens: Box<[u32]>,
}

/// The blocks of a sequence, in order.
///
/// A table must be given back with [`BlockPool::release`]; dropping it loses its blocks.
#[derive(Debug)]
pub struct BlockTable {
    blocks: Vec<u32>,
    /// The hash of no tokens, then that of every full block known to [`BlockPool::register`].
    hashes: Vec<PrefixHash>,
}

/// A block whose keys and values must be copied before the sequence is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// The shared block.
    pub from: u32,
    /// The sequence's own block.
    pub to: u32,
}

/// The pool has too few blocks that no table uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBlocks {
    /// How many are needed.
    pub needed: usize,
    /// How many are available.
    pub available: usize,
}

impl BlockTable {
    /// Returns the blocks.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }
}

impl BlockPool {
    /// Returns a pool of unused blocks. Without `reuses_prefixes` no block is registered, and only forks share blocks.
    ///
    /// # Panics
    /// Panics if a block has no tokens.
    pub fn new(block_count: usize, block_tokens: usize, reuses_prefixes: bool) -> Self {
        assert!(block_tokens > 0, "a block has at least one token");
        Self {
            block_tokens,
            reuses_prefixes,
            blocks: (0..block_count).map(|_| Block::default()).collect(),
            free: (0..block_count as u32).rev().collect(),
            unused: BTreeMap::new(),
            registered: HashMap::new(),
            clock: 0,
        }
    }

    /// Returns the number of tokens of a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Returns the number of blocks that sequences use.
    pub fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Returns the number of blocks that no table uses, registered ones included.
    pub fn available(&self) -> usize {
        self.free.len() + self.unused.len()
    }

    /// Returns the number of registered blocks, used or not.
    pub fn cached(&self) -> usize {
        self.registered.len()
    }

    /// Returns a table with the registered blocks that hold the beginning of `tokens`.
    pub fn open<'o>(&mut self, owner: impl Into<Owner<'o>>, tokens: &[u32]) -> BlockTable {
        let mut hash = PrefixHash::root(owner.into());
        let mut table = BlockTable { blocks: Vec::new(), hashes: vec![hash] };
        if !self.reuses_prefixes {
            return table;
        }
        for tokens in tokens.chunks_exact(self.block_tokens) {
            let before = hash;
            hash = before.then(tokens);
            let Some(&block) = self.registered.get(&hash) else { break };
            // The tokens are compared, so that a collision of hashes cannot show a sequence another one's blocks.
            if !self.blocks[block as usize].content.as_ref().is_some_and(|content| content.is(before, tokens)) {
                break;
            }
            self.take(block);
            table.blocks.push(block);
            table.hashes.push(hash);
        }
        table
    }

    /// Makes room for `tokens` tokens of a sequence, of which those from position `written` on will be written. Returns
    /// the copy to make first, if the block of that position was shared.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if there are too few blocks.
    pub fn reserve(
        &mut self,
        table: &mut BlockTable,
        written: usize,
        tokens: usize,
    ) -> Result<Option<BlockCopy>, OutOfBlocks> {
        let first = written / self.block_tokens;
        let is_shared = |block: &u32| self.blocks[*block as usize].references > 1;
        let shared = table.blocks.get(first).copied().filter(is_shared);
        debug_assert!(
            table.blocks.iter().skip(first).all(|block| self.blocks[*block as usize].content.is_none()),
            "a registered block is never written"
        );
        let new = tokens.div_ceil(self.block_tokens).saturating_sub(table.blocks.len());
        let needed = new + usize::from(shared.is_some());
        let available = self.available();
        if needed > available {
            return Err(OutOfBlocks { needed, available });
        }
        table.blocks.extend(std::iter::repeat_with(|| self.allocate()).take(new));
        Ok(shared.map(|from| {
            let to = self.allocate();
            self.give_up(from);
            table.blocks[first] = to;
            BlockCopy { from, to }
        }))
    }

    /// Returns a second table with the same blocks.
    pub fn fork(&mut self, table: &BlockTable) -> BlockTable {
        for &block in &table.blocks {
            self.take(block);
        }
        BlockTable { blocks: table.blocks.clone(), hashes: table.hashes.clone() }
    }

    /// Registers the full blocks of a sequence; `tokens` are all whose keys and values are written.
    pub fn register(&mut self, table: &mut BlockTable, tokens: &[u32]) {
        if !self.reuses_prefixes {
            return;
        }
        let known = table.hashes.len() - 1;
        for (i, tokens) in tokens.chunks_exact(self.block_tokens).enumerate().skip(known) {
            let before = table.hashes[i];
            let hash = before.then(tokens);
            table.hashes.push(hash);
            let block = table.blocks[i];
            let content = &mut self.blocks[block as usize].content;
            // Of equal blocks of two sequences, the first is registered.
            if content.is_none() && !self.registered.contains_key(&hash) {
                *content = Some(Content { before, hash, tokens: tokens.into() });
                self.registered.insert(hash, block);
            }
        }
    }

    /// Gives up a sequence's blocks. Registered ones stay available to new sequences until they are evicted.
    pub fn release(&mut self, table: BlockTable) {
        // From the last to the first: a block is worth nothing without those before it, so they are evicted later.
        for block in table.blocks.into_iter().rev() {
            self.give_up(block);
        }
    }

    /// Adds a reference.
    fn take(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        if entry.references == 0 {
            self.unused.remove(&entry.last_use);
        }
        entry.references += 1;
    }

    /// Removes a reference.
    fn give_up(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        entry.references -= 1;
        if entry.references > 0 {
            return;
        }
        if entry.content.is_none() {
            self.free.push(block);
            return;
        }
        entry.last_use = self.clock;
        self.unused.insert(self.clock, block);
        self.clock += 1;
    }

    /// Returns a block with one reference and no content, evicting one if none is free.
    fn allocate(&mut self) -> u32 {
        let evicted = || {
            let (_, block) = self.unused.pop_first()?;
            let content = self.blocks[block as usize].content.take();
            self.registered.remove(&content?.hash);
            Some(block)
        };
        let block = self.free.pop().or_else(evicted).expect("the caller has checked that a block is available");
        self.blocks[block as usize].references = 1;
        block
    }
}

impl Content {
    fn is(&self, before: PrefixHash, tokens: &[u32]) -> bool {
        self.before == before && *self.tokens == *tokens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(block_count: usize) -> BlockPool {
        BlockPool::new(block_count, 2, true)
    }

    /// Opens a table and makes room for all tokens, as if they were computed.
    fn fill(pool: &mut BlockPool, tenant: &str, tokens: &[u32]) -> BlockTable {
        let mut table = pool.open(tenant, tokens);
        let reused = table.blocks().len() * pool.block_tokens();
        assert_eq!(pool.reserve(&mut table, reused, tokens.len()), Ok(None));
        pool.register(&mut table, tokens);
        table
    }

    #[test]
    fn prefix_is_reused_within_a_tenant() {
        let mut pool = pool(8);
        let first = fill(&mut pool, "a", &[1, 2, 3, 4, 5]);
        let second = pool.open("a", &[1, 2, 3, 4, 5, 6]);
        assert_eq!(second.blocks(), &first.blocks()[..2], "the third block was not full");
        assert_eq!(pool.open("a", &[1, 2, 9, 4]).blocks(), &first.blocks()[..1]);
        assert!(pool.open("b", &[1, 2, 3, 4]).blocks().is_empty(), "another tenant");
        assert!(pool.open("a", &[3, 4]).blocks().is_empty(), "the same block after other tokens");
        let mut without = BlockPool::new(8, 2, false);
        drop(fill(&mut without, "a", &[1, 2, 3, 4]));
        assert!(without.open("a", &[1, 2, 3, 4]).blocks().is_empty());
    }

    #[test]
    fn colliding_hash_is_not_reused() {
        let mut pool = pool(2);
        let table = fill(&mut pool, "", &[1, 2]);
        let block = table.blocks()[0];
        pool.registered.insert(PrefixHash::root("".into()).then(&[3, 4]), block);
        assert!(pool.open("", &[3, 4]).blocks().is_empty());
    }

    #[test]
    fn first_writer_of_a_shared_block_gets_a_copy() {
        let mut pool = pool(4);
        let mut first = fill(&mut pool, "", &[1, 2, 3]);
        let mut second = pool.fork(&first);
        assert_eq!(pool.used(), 2);
        let copy = pool.reserve(&mut second, 3, 4).unwrap().unwrap();
        assert_eq!((copy.from, copy.to), (first.blocks()[1], second.blocks()[1]));
        assert_eq!(first.blocks()[0], second.blocks()[0]);
        assert_eq!(pool.reserve(&mut first, 3, 4), Ok(None), "the other one has the block for itself now");
        let third = pool.fork(&first);
        assert_eq!(pool.reserve(&mut first, 4, 5), Ok(None), "a new block is no one else's");
        pool.release(first);
        pool.release(second);
        pool.release(third);
        assert_eq!((pool.used(), pool.available(), pool.cached()), (0, 4, 1));
    }

    #[test]
    fn least_recently_used_block_is_evicted_and_the_last_of_a_sequence_first() {
        let mut pool = pool(4);
        let old = fill(&mut pool, "", &[1, 2, 3, 4]);
        let new = fill(&mut pool, "", &[5, 6, 7, 8]);
        pool.release(old);
        pool.release(new);
        let again = pool.open("", &[1, 2]);
        pool.release(again);
        let mut table = pool.open("", &[]);
        let cached = |pool: &mut BlockPool, tokens: &[u32]| {
            let table = pool.open("", tokens);
            let n = table.blocks().len();
            // Not released, since that would be a use.
            for block in table.blocks {
                let entry = &mut pool.blocks[block as usize];
                entry.references -= 1;
                if entry.references == 0 {
                    pool.unused.insert(entry.last_use, block);
                }
            }
            n
        };
        for (tokens, expected) in [(2, [1, 2]), (4, [1, 1]), (6, [1, 0]), (8, [0, 0])] {
            pool.reserve(&mut table, tokens - 2, tokens).unwrap();
            assert_eq!([cached(&mut pool, &[1, 2, 3, 4]), cached(&mut pool, &[5, 6, 7, 8])], expected, "{tokens}");
        }
        assert_eq!(pool.reserve(&mut table, 8, 11), Err(OutOfBlocks { needed: 2, available: 0 }));
        assert_eq!(table.blocks().len(), 4, "nothing has changed");
    }

    proptest! {
        #[test]
        fn references_equal_the_tables_that_hold_a_block(
            operations in prop::collection::vec((0_u8..4, 0_usize..6, 0_u32..3), 0..80),
        ) {
            let mut pool = pool(7);
            // Tables with their tokens.
            let mut open: Vec<(BlockTable, Vec<u32>)> = Vec::new();
            for (operation, which, token) in operations {
                let which = which % open.len().max(1);
                match operation {
                    0 => open.push((pool.open("", &[token, token]), Vec::new())),
                    1 if !open.is_empty() => {
                        let copy = (pool.fork(&open[which].0), open[which].1.clone());
                        open.push(copy);
                    }
                    2 if !open.is_empty() => {
                        let (table, tokens) = &mut open[which];
                        let written = tokens.len().max((table.hashes.len() - 1) * 2);
                        tokens.resize(written, token);
                        if pool.reserve(table, written, written + 1).is_ok() {
                            tokens.push(token);
                            pool.register(table, tokens);
                        }
                    }
                    3 if !open.is_empty() => pool.release(open.swap_remove(which).0),
                    _ => {}
                }
                let mut held = vec![0; 7];
                for block in open.iter().flat_map(|(table, _)| &table.blocks) {
                    held[*block as usize] += 1;
                }
                let references: Vec<usize> = pool.blocks.iter().map(|block| block.references).collect();
                prop_assert_eq!(&references, &held);
                prop_assert_eq!(pool.used(), held.iter().filter(|count| **count > 0).count());
                for (hash, block) in &pool.registered {
                    let content = pool.blocks[*block as usize].content.as_ref();
                    prop_assert_eq!(content.map(|content| content.hash), Some(*hash));
                }
            }
        }
    }
}

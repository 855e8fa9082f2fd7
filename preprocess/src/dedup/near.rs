//! Near duplicates, by the bands that a map wrote ([`minhash`]).
//!
//! Documents with a common key form a *bucket*, and each of them is a candidate with each of the first 16 by rank.
//! Sufficiently similar candidates are united; a set of united documents keeps its first by rank. Sets grow by chains,
//! as always when pairs are united: some members may be less similar to the kept one than the configured similarity.
//!
//! In a bucket of at most 17 every pair is a candidate. In a larger one (a licence, a page that a site repeats) the
//! pairs would be half the square of its size; here they are at most 16 times its size. A pair of later members is then
//! found if both are similar to one of the first 16, or if they share a smaller bucket of another band: very similar
//! documents agree in most bands, and the rest of a large bucket does not.
//!
//! Which pairs are candidates depends only on keys and ranks; a candidate that is already united is skipped, which
//! changes no set. So the result does not depend on the order of work, memory or threads.

use rayon::prelude::*;

use super::cache::Cache;
use super::minhash::{self, Config};
use super::records::{Reader, Record};
use super::shingles::{self, Shingles, jaccard};
use super::union_find::UnionFind;
use super::{Duplicate, Shard};
use crate::Error;

/// Members of a bucket with which all others are compared. Heuristic, not measured: all pairs of nearly every bucket,
/// and a bounded cost for the rest.
const REPRESENTATIVES: usize = 16;

/// Candidates whose texts are compared between two checks of the united sets.
const BATCH_PAIRS: usize = 1 << 13;

/// Returns the documents to drop, in ascending order, each with the one that is kept instead.
///
/// `shards` are all there are; `rank` gives a document's rank, or none if it is ignored; `text` reads a document, from
/// several threads at once. Of `memory_bytes` half is used for records, a quarter for candidates and a quarter for
/// shingles of texts just read; 4 bytes per document are added.
///
/// # Errors
/// Returns an error if a file of records is damaged or `text` fails, and on I/O errors.
pub fn duplicates<E>(
    config: &Config,
    shards: &[Shard],
    rank: &(impl Fn(u32) -> Option<u32> + Sync),
    memory_bytes: u64,
    text: &(impl Fn(u32) -> Result<String, E> + Sync),
) -> Result<Vec<Duplicate>, E>
where
    E: From<Error> + Send,
{
    let documents = shards.iter().map(|shard| shard.first.saturating_add(shard.documents)).max().unwrap_or(0);
    let mut sets = UnionFind::new(documents);
    let cache = Cache::new(memory_bytes / 4);
    let shingles = |document| {
        let make = |text: String| Shingles::new(&text, config.words_per_shingle, &mut shingles::Scratch::default());
        cache.get(document, || text(document).map(make))
    };
    let is_similar = |(a, b): &(u32, u32)| -> Result<bool, E> {
        Ok(config.similarity <= 0.0 || jaccard(&*shingles(*a)?, &*shingles(*b)?) >= config.similarity)
    };
    let key = |document: u32| (rank(document), document);
    let reader = Reader::open(shards, minhash::file)?;
    for range in reader.ranges(memory_bytes / 2) {
        let buckets = Buckets::new(reader.read(&range)?, rank);
        for representative in 0..REPRESENTATIVES.min(buckets.longest.saturating_sub(1)) {
            let candidates = buckets.candidates(representative, &mut sets);
            for batch in candidates.chunks(BATCH_PAIRS) {
                let similar: Vec<bool> = batch.par_iter().map(is_similar).collect::<Result<_, E>>()?;
                for ((a, b), _) in batch.iter().zip(similar).filter(|(_, similar)| *similar) {
                    sets.unite(*a, *b, key);
                }
            }
        }
    }
    let pairs = (0..documents).map(|document| Duplicate { document, of: sets.root(document) });
    Ok(pairs.filter(|pair| pair.document != pair.of).collect())
}

/// The buckets of a range of keys that have two members or more.
struct Buckets {
    /// Sorted by key, then by rank.
    records: Vec<Record>,
    /// The size of the largest.
    longest: usize,
}

impl Buckets {
    /// Collects them from `records` sorted by key.
    fn new(mut records: Vec<Record>, rank: impl Fn(u32) -> Option<u32>) -> Self {
        records.retain(|record| rank(record.document).is_some());
        let (mut longest, mut kept, mut start) = (0, 0, 0);
        while start < records.len() {
            let length = bucket_length(&records[start..]);
            if length > 1 {
                records[start..start + length].sort_unstable_by_key(|record| (rank(record.document), record.document));
                records.copy_within(start..start + length, kept);
                kept += length;
            }
            longest = longest.max(length);
            start += length;
        }
        records.truncate(kept);
        Self { records, longest }
    }

    /// Returns the pairs of the representative with this number and later members that are not united yet, in the
    /// order of documents.
    fn candidates(&self, representative: usize, sets: &mut UnionFind) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        let mut rest = &*self.records;
        while !rest.is_empty() {
            let (bucket, after) = rest.split_at(bucket_length(rest));
            rest = after;
            let Some((first, later)) = bucket.get(representative..).and_then(<[Record]>::split_first) else { continue };
            let root = sets.root(first.document);
            let apart = later.iter().filter(|record| sets.root(record.document) != root);
            pairs.extend(apart.map(|record| (first.document, record.document)));
        }
        pairs.sort_unstable();
        pairs
    }
}

fn bucket_length(records: &[Record]) -> usize {
    records.iter().take_while(|record| record.key == records[0].key).count()
}

//! Equal documents, by the digests of their contents.

use rayon::prelude::*;

use super::Duplicate;

/// The first 16 bytes of a digest, and its document.
///
/// That two different contents among n agree in 16 bytes has a probability of about n²/2¹²⁹: 10⁻²⁵ for ten million
/// documents.
type Entry = ([u64; 2], u32);

/// Returns the documents that are equal to one of smaller rank, in ascending order, each with the one of lowest rank.
///
/// `scan` calls its argument with the number and the SHA-256 digest of each document, in any order; `rank` gives a
/// document's rank, or none if it is ignored. If the entries of all documents, 24 bytes each, do not fit into
/// `memory_bytes`, `scan` is called several times, and each time the entries of one range of digests are kept.
/// Documents equal to one another are never divided: the memory can be exceeded by 24 bytes for each.
///
/// # Errors
/// Returns the error of `scan`.
pub fn duplicates<E>(
    documents: u32,
    mut scan: impl FnMut(&mut dyn FnMut(u32, &[u8; 32])) -> Result<(), E>,
    rank: &(impl Fn(u32) -> Option<u32> + Sync),
    memory_bytes: u64,
) -> Result<Vec<Duplicate>, E> {
    let bytes = u64::from(documents) * size_of::<Entry>() as u64;
    let parts = bytes.div_ceil(memory_bytes.max(1)).clamp(1, u64::from(documents.max(1)));
    let mut duplicates = Vec::new();
    for part in 0..parts {
        let mut entries: Vec<Entry> = Vec::with_capacity((u64::from(documents) / parts) as usize);
        scan(&mut |document, digest| {
            let prefix = prefix(digest);
            // The digest's first word scaled to the number of parts.
            let of = (u128::from(prefix[0]) * u128::from(parts)) >> 64;
            if of == u128::from(part) && rank(document).is_some() {
                entries.push((prefix, document));
            }
        })?;
        entries.par_sort_unstable_by_key(|(prefix, document)| (*prefix, rank(*document), *document));
        for equal in entries.chunk_by(|(a, _), (b, _)| a == b) {
            let (_, of) = equal[0];
            duplicates.extend(equal[1..].iter().map(|(_, document)| Duplicate { document: *document, of }));
        }
    }
    duplicates.par_sort_unstable();
    Ok(duplicates)
}

fn prefix(digest: &[u8; 32]) -> [u64; 2] {
    let word = |at: usize| digest[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    type Ranks<'a> = &'a [Option<u32>];

    fn found(digests: &[[u8; 32]], ranks: Ranks<'_>, memory_bytes: u64) -> Vec<(u32, u32)> {
        let scan = |push: &mut dyn FnMut(u32, &[u8; 32])| {
            (0..).zip(digests).for_each(|(document, digest)| push(document, digest));
            Ok::<_, Infallible>(())
        };
        let rank = |document: u32| ranks[document as usize];
        let Ok(duplicates) = duplicates(digests.len() as u32, scan, &rank, memory_bytes);
        duplicates.into_iter().map(|duplicate| (duplicate.document, duplicate.of)).collect()
    }

    #[test]
    fn the_smallest_rank_is_kept() {
        let check = |first_bytes: &[u8], ranks: Ranks<'_>, expected: &[(u32, u32)]| {
            let digests: Vec<[u8; 32]> = first_bytes.iter().map(|byte| [*byte; 32]).collect();
            assert_eq!(found(&digests, ranks, u64::MAX), expected, "{first_bytes:?} {ranks:?}");
        };
        check(&[], &[], &[]);
        check(&[7], &[Some(0)], &[]);
        check(&[7, 7, 8], &[Some(0), Some(1), Some(2)], &[(1, 0)]);
        check(&[7, 7, 7], &[Some(2), Some(0), Some(1)], &[(0, 1), (2, 1)]);
        check(&[7, 7, 7], &[Some(5), Some(5), Some(5)], &[(1, 0), (2, 0)]);
        check(&[7, 7, 7], &[None, Some(9), Some(8)], &[(1, 2)]);
        check(&[7, 7], &[None, Some(9)], &[]);
    }

    #[test]
    fn digests_that_differ_late_are_different() {
        let mut digests = [[3; 32]; 2];
        digests[1][15] = 4;
        assert_eq!(found(&digests, &[Some(0), Some(1)], u64::MAX), []);
    }

    proptest! {
        #[test]
        fn parts_change_nothing(
            documents in prop::collection::vec((0_u8..20, prop::option::of(0_u32..10)), 0..60),
            memory_bytes in 1_u64..2000,
        ) {
            // Spread over the range of digests, so that parts have something to divide.
            let digests: Vec<[u8; 32]> = documents.iter().map(|(content, _)| [content.wrapping_mul(13); 32]).collect();
            let ranks: Vec<Option<u32>> = documents.iter().map(|(_, rank)| *rank).collect();
            let mut kept: HashMap<[u8; 32], (u32, u32)> = HashMap::new();
            for (document, digest) in (0..).zip(&digests) {
                if let Some(rank) = ranks[document as usize] {
                    let entry = kept.entry(*digest).or_insert((rank, document));
                    *entry = (*entry).min((rank, document));
                }
            }
            let expected: Vec<(u32, u32)> = (0..)
                .zip(&digests)
                .filter(|(document, _)| ranks[*document as usize].is_some())
                .map(|(document, digest)| (document, kept[digest].1))
                .filter(|(document, of)| document != of)
                .collect();
            prop_assert_eq!(found(&digests, &ranks, memory_bytes), &expected[..]);
            prop_assert_eq!(found(&digests, &ranks, u64::MAX), &expected[..]);
        }
    }
}

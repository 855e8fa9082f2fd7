//! Whole documents packed into the rows of batches.
//!
//! Documents are cut into pieces of at most T tokens, which go into rows of T by best fit, longest first (Fewer
//! Truncations Improve Language Modeling, 2024). The rows are the same for every seed; each epoch visits them in an
//! order of its own. As with windows, all of it is a function of seed and row number, so that no half-filled buffer has
//! to be saved.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokenizer::shard::Split;

/// A piece of a document: consecutive inputs, each with the next token as target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The first input, counted over the whole split.
    pub start: usize,
    /// The number of inputs.
    pub len: usize,
}

/// The documents of a split, packed into rows.
#[derive(Debug)]
pub struct PackedDocuments {
    seed: u64,
    rows: Vec<Vec<Piece>>,
    epoch: Option<(u64, Vec<u32>)>,
}

impl PackedDocuments {
    /// Packs the documents of a split into rows of `context_length` inputs, without pieces that have no target to
    /// learn; None if no piece is left.
    pub fn new(seed: u64, split: &Split, context_length: usize) -> Option<Self> {
        let masked = split.has_loss_mask();
        let mut pieces = Vec::new();
        let mut mask = vec![true; context_length];
        for document in 0..split.n_documents() {
            let range = split.document_range(document);
            let inputs = range.len().saturating_sub(1);
            for start in (0..inputs).step_by(context_length) {
                let piece = Piece { start: range.start + start, len: context_length.min(inputs - start) };
                if masked {
                    split.copy_mask(piece.start + 1, &mut mask[..piece.len]);
                }
                if mask[..piece.len].contains(&true) {
                    pieces.push(piece);
                }
            }
        }
        let rows = best_fit(pieces, context_length);
        (!rows.is_empty()).then_some(Self { seed, rows, epoch: None })
    }

    /// Returns the pieces of a row, counted from 0 over the whole training.
    pub fn row(&mut self, index: u64) -> &[Piece] {
        let number = index / self.rows.len() as u64;
        let within = (index % self.rows.len() as u64) as usize;
        let order = match self.epoch.take() {
            Some((epoch, order)) if epoch == number => order,
            _ => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(number + 1);
                let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
                order.shuffle(&mut rng);
                order
            }
        };
        let row = order[within] as usize;
        self.epoch = Some((number, order));
        &self.rows[row]
    }
}

/// Puts each piece, longest first, into the row with the least sufficient space.
fn best_fit(mut pieces: Vec<Piece>, context_length: usize) -> Vec<Vec<Piece>> {
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.len), piece.start));
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    let mut rows_by_space: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for piece in pieces {
        let fitting = rows_by_space.range(piece.len..).next().map(|(space, _)| *space);
        let fitting = fitting.and_then(|space| Some((space, rows_by_space.get_mut(&space)?.pop()?)));
        let (space, row) = fitting.unwrap_or_else(|| {
            rows.push(Vec::new());
            (context_length, rows.len() - 1)
        });
        if rows_by_space.get(&space).is_some_and(Vec::is_empty) {
            rows_by_space.remove(&space);
        }
        rows[row].push(piece);
        if space > piece.len {
            rows_by_space.entry(space - piece.len).or_default().push(row);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_piece_is_in_exactly_one_row(lens in prop::collection::vec(1..9usize, 0..60)) {
            let piece = |(i, len): (usize, &usize)| Piece { start: i * 10, len: *len };
            let pieces: Vec<Piece> = lens.iter().enumerate().map(piece).collect();
            let rows = best_fit(pieces.clone(), 8);
            prop_assert!(rows.iter().all(|row| row.iter().map(|piece| piece.len).sum::<usize>() <= 8));
            // No two rows could be merged.
            let mut filled: Vec<usize> = rows.iter().map(|row| row.iter().map(|piece| piece.len).sum()).collect();
            filled.sort_unstable();
            prop_assert!(filled.len() < 2 || filled[0] + filled[1] > 8);
            let mut packed = rows.concat();
            packed.sort_by_key(|piece| piece.start);
            prop_assert_eq!(packed, pieces);
        }
    }

    #[test]
    fn epochs_visit_every_row_once_in_different_orders() {
        let pieces = (0..40).map(|i| Piece { start: i * 10, len: 8 }).collect();
        let mut packing = PackedDocuments { seed: 7, rows: best_fit(pieces, 8), epoch: None };
        let mut epoch =
            |number: u64| -> Vec<usize> { (number * 40..(number + 1) * 40).map(|i| packing.row(i)[0].start).collect() };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        assert_eq!(epoch(0), first);
        for mut starts in [first, second] {
            starts.sort_unstable();
            assert_eq!(starts, (0..40).map(|i| i * 10).collect::<Vec<_>>());
        }
    }
}

//! Documents side by side in rows, each seen by itself.
//!
//! Pieces of at most T tokens go into rows of T by best fit, the longest first (Fewer Truncations Improve Language
//! Modeling, 2024): the same rows for every seed. An epoch takes the rows in an order of its own. As with windows, all of
//! it is a function of seed and row number, so that no half-filled buffer has to be saved for a resumed run.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokenizer::shard::Split;

/// A part of a document in a row: this many inputs from that token of the split on, each with the next token as target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The first input, counted over the whole split.
    pub start: usize,
    /// How many inputs.
    pub len: usize,
}

/// The rows of a split.
#[derive(Debug)]
pub struct Packing {
    seed: u64,
    rows: Vec<Vec<Piece>>,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Packing {
    /// Packs the documents of a split into rows of `context` inputs. Pieces in which nothing is to be learned are left
    /// out; none where that leaves nothing.
    pub fn new(seed: u64, split: &Split, context: usize) -> Option<Self> {
        let masked = split.has_loss_mask();
        let mut pieces = Vec::new();
        let mut mask = vec![true; context];
        for document in 0..split.n_documents() {
            let range = split.document_range(document);
            let inputs = range.len().saturating_sub(1);
            for start in (0..inputs).step_by(context) {
                let piece = Piece { start: range.start + start, len: context.min(inputs - start) };
                if masked {
                    split.copy_mask(piece.start + 1, &mut mask[..piece.len]);
                }
                if mask[..piece.len].contains(&true) {
                    pieces.push(piece);
                }
            }
        }
        let rows = best_fit(pieces, context);
        (!rows.is_empty()).then_some(Self { seed, rows, epoch: None })
    }

    /// Returns the pieces of the `index`-th row of the whole training.
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

/// Puts each piece, the longest first, into the row with the least room that takes it.
fn best_fit(mut pieces: Vec<Piece>, context: usize) -> Vec<Vec<Piece>> {
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.len), piece.start));
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    // Rows by the room they have left.
    let mut with_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for piece in pieces {
        let fitting = with_room.range(piece.len..).next().map(|(room, _)| *room);
        let fitting = fitting.and_then(|room| Some((room, with_room.get_mut(&room)?.pop()?)));
        let (room, row) = fitting.unwrap_or_else(|| {
            rows.push(Vec::new());
            (context, rows.len() - 1)
        });
        if with_room.get(&room).is_some_and(Vec::is_empty) {
            with_room.remove(&room);
        }
        rows[row].push(piece);
        if room > piece.len {
            with_room.entry(room - piece.len).or_default().push(row);
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
        fn every_piece_is_in_one_row_that_holds_it(lens in prop::collection::vec(1..9usize, 0..60)) {
            let pieces: Vec<Piece> = lens.iter().enumerate().map(|(i, len)| Piece { start: i * 10, len: *len }).collect();
            let rows = best_fit(pieces.clone(), 8);
            prop_assert!(rows.iter().all(|row| row.iter().map(|piece| piece.len).sum::<usize>() <= 8));
            // No two rows could be one.
            let mut rooms: Vec<usize> = rows.iter().map(|row| row.iter().map(|piece| piece.len).sum()).collect();
            rooms.sort_unstable();
            prop_assert!(rooms.len() < 2 || rooms[0] + rooms[1] > 8);
            let mut packed = rows.concat();
            packed.sort_by_key(|piece| piece.start);
            prop_assert_eq!(packed, pieces);
        }
    }

    #[test]
    fn an_epoch_has_every_row_once_in_an_order_of_its_own() {
        let pieces = (0..40).map(|i| Piece { start: i * 10, len: 8 }).collect();
        let mut packing = Packing { seed: 7, rows: best_fit(pieces, 8), epoch: None };
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

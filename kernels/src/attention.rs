//! Causal attention, block by block: the scores of a block of queries stay in the cache, and the backward pass computes
//! them again (FlashAttention, 2022).
//!
//! Dimensions: B rows of the batch, T tokens, H query heads, K key/value heads, C width of a head.

use rayon::prelude::*;

use crate::dropout::Mask;
use crate::instructions::vectorized;
use crate::lanes::{LANES, exp, max, sum, sum_of_two};
use crate::products::{Matrix, product_into};

/// The most queries of a block.
const BLOCK: usize = 64;

/// The shape of queries `[B, T, H C]`, and of keys and values `[B, T, K C]`.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub tokens: usize,
    pub queries: usize,
    pub keys: usize,
    pub width: usize,
    pub scale: f32,
    pub mask: Option<Mask>,
}

impl Heads {
    /// Returns how many queries a block has: more make larger products, fewer compute less of what the mask hides. Halves were
    /// a tenth faster on 64 tokens, and 5 % slower on 256.
    fn block(&self) -> usize {
        if self.tokens <= BLOCK { BLOCK / 2 } else { BLOCK }
    }

    fn query_step(&self) -> usize {
        self.queries * self.width
    }

    fn key_step(&self) -> usize {
        self.keys * self.width
    }

    /// Returns the index of a query's first score among all `[B, H, T, T]` scores, for dropout.
    fn score_at(&self, row: usize, block: &Block, query: usize) -> u32 {
        (((row * self.queries + block.head) * self.tokens + block.first + query) * self.tokens + block.lowest) as u32
    }

    /// Returns the heads and blocks of a row of the batch: query head, key/value head, first query, one past the last, and
    /// the first key that any of them sees.
    fn blocks(self, starts: &[i64]) -> impl Iterator<Item = Block<'_>> {
        let group = self.queries / self.keys;
        (0..self.queries).flat_map(move |head| {
            (0..self.tokens).step_by(self.block()).map(move |first| {
                let end = (first + self.block()).min(self.tokens);
                let starts = starts.get(first..end).unwrap_or_default();
                let lowest = starts.iter().min().map_or(0, |start| *start as usize);
                Block {
                    query_at: head * self.width,
                    key_at: head / group * self.width,
                    head,
                    first,
                    end,
                    lowest,
                    starts,
                }
            })
        })
    }
}

struct Block<'a> {
    query_at: usize,
    key_at: usize,
    head: usize,
    first: usize,
    end: usize,
    lowest: usize,
    starts: &'a [i64],
}

impl Block<'_> {
    /// Returns the part of a row of scores that the query sees.
    fn seen(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.starts.get(row).map_or(0, |start| *start as usize);
        start - self.lowest..self.first + row + 1 - self.lowest
    }

    fn keys(&self) -> usize {
        self.end - self.lowest
    }

    fn queries<'a>(&self, x: &'a [f32], heads: &Heads) -> Matrix<'a> {
        let step = heads.query_step();
        Matrix::new(&x[self.first * step + self.query_at..], self.end - self.first, heads.width, step)
    }

    fn seen_keys<'a>(&self, x: &'a [f32], heads: &Heads) -> Matrix<'a> {
        let step = heads.key_step();
        Matrix::new(&x[self.lowest * step + self.key_at..], self.keys(), heads.width, step)
    }

    fn scores<'a>(&self, scores: &'a [f32]) -> Matrix<'a> {
        Matrix::new(scores, self.end - self.first, self.keys(), self.keys())
    }
}

/// Makes the scores of keys that a query does not see −∞, whose exponential is 0, and returns the row up to the last one that
/// it sees and a little more, so that whole vectors are computed; what is behind becomes 0.
#[allow(clippy::inline_always, reason = "as in `lanes`")]
#[inline(always)]
fn hide(row: &mut [f32], seen: std::ops::Range<usize>) -> &mut [f32] {
    let end = seen.end.next_multiple_of(LANES).min(row.len());
    row[..seen.start].fill(f32::NEG_INFINITY);
    row[seen.end..end].fill(f32::NEG_INFINITY);
    let (row, hidden) = row.split_at_mut(end);
    hidden.fill(0.0);
    row
}

/// Returns the attention `[B, T, H C]`, and the logarithm of the softmax's denominator `[B, H, T]`. `starts` is `[B, T]`, or
/// empty where every row begins at 0.
pub fn forward(queries: &[f32], keys: &[f32], values: &[f32], starts: &[i64], heads: Heads) -> (Vec<f32>, Vec<f32>) {
    let (q_row, k_row) = (heads.tokens * heads.query_step(), heads.tokens * heads.key_step());
    let mut y = vec![0.0; queries.len()];
    let mut lse = vec![0.0; queries.len() / heads.width];
    let rows = y.par_chunks_mut(q_row).zip(lse.par_chunks_mut(heads.queries * heads.tokens)).enumerate();
    rows.for_each(|(at_row, (y, lse))| {
        let (queries, at) = (&queries[at_row * q_row..][..q_row], at_row * k_row..(at_row + 1) * k_row);
        let (keys, values) = (&keys[at.clone()], &values[at]);
        let starts = starts.get(at_row * heads.tokens..(at_row + 1) * heads.tokens).unwrap_or_default();
        let mut scores = vec![0.0; heads.block() * heads.tokens];
        for block in heads.blocks(starts) {
            let n = block.keys();
            let (query, key) = (block.queries(queries, &heads), block.seen_keys(keys, &heads));
            product_into(&mut scores, n, query, key.transposed(), false);
            let mut totals = [0.0; BLOCK];
            let lse = &mut lse[block.head * heads.tokens + block.first..];
            vectorized(|| {
                for (i, row) in scores[..(block.end - block.first) * n].chunks_exact_mut(n).enumerate() {
                    let row = hide(row, block.seen(i));
                    let largest = max(row);
                    for x in &mut *row {
                        *x = exp((*x - largest) * heads.scale);
                    }
                    totals[i] = sum(row, |x| x);
                    lse[i] = largest * heads.scale + totals[i].ln();
                    if let Some(mask) = heads.mask {
                        mask.apply(row, heads.score_at(at_row, &block, i));
                    }
                }
            });
            let out = &mut y[block.first * heads.query_step() + block.query_at..];
            product_into(out, heads.query_step(), block.scores(&scores), block.seen_keys(values, &heads), false);
            for (row, total) in out.chunks_mut(heads.query_step()).zip(&totals[..block.end - block.first]) {
                let factor = 1.0 / total;
                row[..heads.width].iter_mut().for_each(|x| *x *= factor);
            }
        }
    });
    (y, lse)
}

/// What the backward pass needs of the forward pass.
pub struct Forward<'a> {
    pub queries: &'a [f32],
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub starts: &'a [i64],
    pub y: &'a [f32],
    pub lse: &'a [f32],
}

/// Returns the gradients of queries, keys and values.
pub fn backward(forward: &Forward, gradient: &[f32], heads: Heads) -> [Vec<f32>; 3] {
    let (q_row, k_row) = (heads.tokens * heads.query_step(), heads.tokens * heads.key_step());
    let mut of_queries = vec![0.0; forward.queries.len()];
    let mut of_keys = vec![0.0; forward.keys.len()];
    let mut of_values = vec![0.0; forward.values.len()];
    let rows = of_queries
        .par_chunks_mut(q_row)
        .zip(of_keys.par_chunks_mut(k_row))
        .zip(of_values.par_chunks_mut(k_row))
        .enumerate();
    rows.for_each(|(row, ((of_queries, of_keys), of_values))| {
        let (q_at, k_at) = (row * q_row..(row + 1) * q_row, row * k_row..(row + 1) * k_row);
        let (queries, y, gradient) = (&forward.queries[q_at.clone()], &forward.y[q_at.clone()], &gradient[q_at]);
        let (keys, values) = (&forward.keys[k_at.clone()], &forward.values[k_at]);
        let lse = &forward.lse[row * heads.queries * heads.tokens..];
        let starts = forward.starts.get(row * heads.tokens..(row + 1) * heads.tokens).unwrap_or_default();
        let (mut shares, mut of_shares) =
            (vec![0.0; heads.block() * heads.tokens], vec![0.0; heads.block() * heads.tokens]);
        for block in heads.blocks(starts) {
            let n = block.keys();
            let (query, key) = (block.queries(queries, &heads), block.seen_keys(keys, &heads));
            let of_y = block.queries(gradient, &heads);
            product_into(&mut shares, n, query, key.transposed(), false);
            product_into(&mut of_shares, n, of_y, block.seen_keys(values, &heads).transposed(), false);
            let at = block.first * heads.query_step() + block.query_at;
            let lse = &lse[block.head * heads.tokens + block.first..];
            let rows = shares.chunks_exact_mut(n).zip(of_shares.chunks_exact_mut(n)).take(block.end - block.first);
            vectorized(|| {
                for (i, (shares, of_scores)) in rows.enumerate() {
                    let at = at + i * heads.query_step();
                    let (y, of_y) = (&y[at..at + heads.width], &gradient[at..at + heads.width]);
                    let mean = sum_of_two(y, of_y, |y, g| y * g);
                    let shares = hide(shares, block.seen(i));
                    let (of_scores, hidden) = of_scores.split_at_mut(shares.len());
                    hidden.fill(0.0);
                    let Some(mask) = heads.mask else {
                        for (p, g) in shares.iter_mut().zip(of_scores) {
                            *p = exp(*p * heads.scale - lse[i]);
                            *g = heads.scale * *p * (*g - mean);
                        }
                        continue;
                    };
                    let first = heads.score_at(row, &block, i);
                    for (j, (p, g)) in shares.iter_mut().zip(of_scores).enumerate() {
                        let (share, factor) =
                            (exp(*p * heads.scale - lse[i]), mask.factor(first.wrapping_add(j as u32)));
                        *p = share * factor;
                        *g = heads.scale * share * (*g * factor - mean);
                    }
                }
            });
            let (shares, of_scores) = (block.scores(&shares), block.scores(&of_shares));
            product_into(&mut of_queries[at..], heads.query_step(), of_scores, key, false);
            let at = block.lowest * heads.key_step() + block.key_at;
            product_into(&mut of_keys[at..], heads.key_step(), of_scores.transposed(), query, true);
            product_into(&mut of_values[at..], heads.key_step(), shares.transposed(), of_y, true);
        }
    });
    [of_queries, of_keys, of_values]
}

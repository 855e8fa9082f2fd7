//! Attention over keys and values in blocks of a paged cache (`PagedAttention`, 2023).
//!
//! Softmax is computed while the blocks are read, with a running maximum (Online normalizer calculation for softmax,
//! 2018), so there is no row of scores to store. Keys stand in the cache column by column: the scores of neighbouring
//! tokens are computed side by side, without a sum across a register.
//!
//! Each number is computed in the same order for a row alone and among others, so that its bits are the same.
//!
//! Dimensions: M rows, H query heads, K key/value heads, C width of a head, S tokens of a block.

mod weights;

use std::ops::Range;

pub use weights::attention_weights;

use super::kv_pages::{KvElement, KvPages, Numbers, TILE, TILE_LEN};
use crate::Pool;
use crate::dispatch::vectorized;
use crate::simd::{LANES, exp, larger, max, sum, tanh};

/// The multiply-adds from which rows are divided among threads; see `packed`.
const MIN_PARALLEL_PRODUCTS: usize = 1 << 17;

/// The rows from which a task is some rows with all heads, and the rows of a task. Heuristic: fewer are divided by
/// heads, so that all threads have work.
const MIN_ROWS_TO_DIVIDE: usize = 32;
const ROWS_PER_TASK: usize = 8;

/// The most query heads that read a tile one after the other.
const MAX_QUERIES: usize = 32;

/// The query heads whose sums are in registers at a time.
const QUERIES: usize = 4;

/// The columns of values that a query alone sums at a time, as it does the scores of a whole tile: so many that memory
/// is read in its order, and that one sum does not wait for another.
const WIDE: usize = 4 * LANES;

/// The dimensions and options of attention over a paged cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionHeads {
    /// H, a multiple of K.
    pub n_head: usize,
    /// K: each key/value head serves H / K query heads (GQA, 2023).
    pub n_kv_head: usize,
    /// C.
    pub head_dim: usize,
    /// S.
    pub block_tokens: usize,
    /// The factor of query · key, usually 1 / √C.
    pub scale: f32,
    /// Scores become cap × tanh(score / cap) (Gemma 2, 2024).
    pub soft_cap: Option<f32>,
    /// The number of latest tokens that a query attends to, its own included; None for all.
    pub window: Option<usize>,
}

/// A query: a token of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    /// The position of the token: it attends to the positions from 0 to its own.
    pub position: usize,
    /// The blocks of its sequence: position p stands in block `blocks[p / S]`.
    pub blocks: &'a [u32],
}

/// Computes attention: for each query head of each row the mean of the values, weighted by
/// softmax(scale × query · key). The keys and values of a block are read once for neighbouring rows of a sequence.
///
/// # Shapes
/// - queries, y: `[M, H C]`
/// - rows: `[M]`
///
/// # Panics
/// Panics if the shapes do not match, or a row's blocks do not reach its position.
pub fn attention(
    pool: &Pool,
    heads: &AttentionHeads,
    queries: &[f32],
    rows: &[AttentionRow],
    cache: &KvPages,
    y: &mut [f32],
) {
    let shape = [heads.n_kv_head, heads.head_dim, heads.block_tokens];
    assert_eq!(cache.shape(), shape, "key/value heads, their width and the tokens of a block are the cache's");
    match cache.numbers() {
        Numbers::F32(numbers) => attention_over(pool, heads, queries, rows, numbers, y),
        Numbers::F16(numbers) => attention_over(pool, heads, queries, rows, numbers, y),
        Numbers::Int8(numbers) => attention_over(pool, heads, queries, rows, numbers, y),
    }
}

fn attention_over<T: KvElement>(
    pool: &Pool,
    heads: &AttentionHeads,
    queries: &[f32],
    rows: &[AttentionRow],
    cache: &[T],
    y: &mut [f32],
) {
    let group_len = heads.n_head / heads.n_kv_head * heads.head_dim;
    let row_len = group_len * heads.n_kv_head;
    assert_eq!(heads.n_head % heads.n_kv_head, 0, "whole groups of query heads");
    assert_eq!((queries.len(), y.len()), (rows.len() * row_len, rows.len() * row_len), "a query and a result a row");
    let products: usize = rows.iter().map(|row| 2 * row_len * (row.position + 1)).sum();
    // Few rows are divided by heads, many by rows.
    let rows_per_task = if rows.len() < MIN_ROWS_TO_DIVIDE { 1 } else { ROWS_PER_TASK };
    let heads_of_task = if rows_per_task == 1 { 1 } else { heads.n_kv_head };
    let task_len = rows_per_task * heads_of_task * group_len;
    let work = |task: usize, y: &mut [f32]| {
        let (first_row, first_head) = (task * task_len / row_len, task * task_len % row_len / group_len);
        let rows = &rows[first_row..(first_row + rows_per_task).min(rows.len())];
        let queries = &queries[task * task_len..][..y.len()];
        let mut at = 0;
        for run in rows.chunk_by(|a, b| is_same_sequence(a, b)) {
            for kv_head in first_head..first_head + heads_of_task {
                let first = at + (kv_head - first_head) * group_len;
                let tokens = Tokens { rows: run, stride: heads_of_task * group_len };
                vectorized!(attend(heads, &queries[first..], tokens, kv_head, cache, &mut y[first..]));
            }
            at += run.len() * heads_of_task * group_len;
        }
    };
    if products < MIN_PARALLEL_PRODUCTS {
        y.chunks_mut(task_len).enumerate().for_each(|(i, y)| work(i, y));
    } else {
        pool.for_each_chunk(y, task_len, work);
    }
}

fn is_same_sequence(a: &AttentionRow, b: &AttentionRow) -> bool {
    std::ptr::eq(a.blocks, b.blocks)
}

/// Rows of a sequence, whose queries and results begin `stride` after each other.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    rows: &'a [AttentionRow<'a>],
    stride: usize,
}

/// A query head of a row.
#[derive(Clone, Copy, Default)]
struct Query {
    /// Where it is in the queries and its result in the results.
    at: usize,
    /// The positions that it attends to.
    first: usize,
    end: usize,
    /// The largest score so far, and the sum of e^(score − largest).
    largest: f32,
    total: f32,
}

/// Computes the query heads of `tokens` that share a key/value head.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn attend<T: KvElement>(
    heads: &AttentionHeads,
    queries: &[f32],
    tokens: Tokens,
    kv_head: usize,
    cache: &[T],
    y: &mut [f32],
) {
    let (c, s, group) = (heads.head_dim, heads.block_tokens, heads.n_head / heads.n_kv_head);
    assert!(c <= TILE_LEN, "heads of {c} elements");
    let tile_tokens = (TILE_LEN / c).min(TILE);
    let (mut key_buffer, mut value_buffer) = ([0.0; TILE_LEN], [0.0; TILE_LEN]);
    let mut all = (0..tokens.rows.len() * group).map(|i| {
        let position = tokens.rows[i / group].position;
        Query {
            at: i / group * tokens.stride + i % group * c,
            first: heads.window.map_or(0, |window| (position + 1).saturating_sub(window)),
            end: position + 1,
            largest: f32::NEG_INFINITY,
            total: 0.0,
        }
    });
    let blocks = tokens.rows[0].blocks;
    loop {
        let (mut state, mut count) = ([Query::default(); MAX_QUERIES], 0);
        for (state, query) in state.iter_mut().zip(&mut all) {
            y[query.at..query.at + c].fill(0.0);
            *state = query;
            count += 1;
        }
        let state = &mut state[..count];
        let Some(first) = state.iter().map(|query| query.first).min() else { return };
        let end = state.iter().fold(0, |end, query| end.max(query.end));
        // Tiles begin at the same positions whatever the queries.
        let mut position = first - first % s % tile_tokens;
        while position < end {
            let (block, token) = (blocks[position / s] as usize, position % s);
            let width = (s - token).min(tile_tokens);
            let head_len = T::head_len(s, c);
            let at = (block * 2 * heads.n_kv_head + kv_head) * head_len;
            let (keys, stride) = T::keys(&cache[at..at + head_len], s, token..token + width, &mut key_buffer);
            let at = at + heads.n_kv_head * head_len;
            let values = T::values(&cache[at..at + head_len], s, token..token + width, &mut value_buffer);
            let tile = Tile { keys, stride, values, position, width };
            for state in state.chunks_mut(QUERIES) {
                if state.iter().any(|query| !tile.visible(query).is_empty()) {
                    tile.add(heads, state, queries, y);
                }
            }
            position += width;
        }
        for query in state {
            let factor = 1.0 / query.total;
            for y in &mut y[query.at..query.at + c] {
                *y *= factor;
            }
        }
    }
}

/// The keys and values of neighbouring tokens, at most [`TILE`].
struct Tile<'a> {
    keys: &'a [f32], // [C, width], rows `stride` apart
    stride: usize,
    values: &'a [f32], // [width, C]
    position: usize,
    width: usize,
}

#[allow(clippy::inline_always, reason = "as in `simd`")]
#[allow(clippy::needless_range_loop, reason = "loops over indices keep the sums in registers")]
impl Tile<'_> {
    /// Returns the tokens that a query attends to.
    #[inline(always)]
    fn visible(&self, query: &Query) -> Range<usize> {
        query.first.saturating_sub(self.position)..query.end.saturating_sub(self.position).min(self.width)
    }

    /// Adds the tokens to the results of at most [`QUERIES`] queries.
    #[inline(always)]
    fn add(&self, heads: &AttentionHeads, state: &mut [Query], queries: &[f32], y: &mut [f32]) {
        let c = heads.head_dim;
        let mut scores = [[0.0; TILE]; QUERIES];
        if let Ok(state) = <&[Query; QUERIES]>::try_from(&*state) {
            self.scores(state.map(|query| &queries[query.at..query.at + c]), &mut scores);
        } else {
            for (query, scores) in state.iter().zip(&mut scores) {
                self.scores([&queries[query.at..query.at + c]], std::array::from_mut(scores));
            }
        }
        let mut decay = [1.0; QUERIES];
        for ((query, scores), decay) in state.iter_mut().zip(&mut scores).zip(&mut decay) {
            let visible = self.visible(query);
            if visible.is_empty() {
                continue;
            }
            scale(heads, &mut scores[visible.clone()]);
            scores[..visible.start].fill(f32::NEG_INFINITY);
            scores[visible.end..].fill(f32::NEG_INFINITY);
            let largest = larger(query.largest, max(scores));
            *decay = exp(query.largest - largest);
            for score in &mut *scores {
                *score = exp(*score - largest);
            }
            query.total = query.total * *decay + sum(scores, |x| x);
            query.largest = largest;
        }
        let visible = self.visible(&state[0]);
        match <&[Query; QUERIES]>::try_from(&*state) {
            Ok(state) if state.iter().all(|query| self.visible(query) == visible) => {
                self.add_values(c, &scores, decay, state.map(|query| query.at), visible, y);
            }
            _ => {
                for ((query, scores), decay) in state.iter().zip(&scores).zip(decay) {
                    let visible = self.visible(query);
                    if !visible.is_empty() {
                        self.add_values(c, std::array::from_ref(scores), [decay], [query.at], visible, y);
                    }
                }
            }
        }
    }

    /// Computes the products of queries and keys.
    #[inline(always)]
    fn scores<const R: usize>(&self, queries: [&[f32]; R], scores: &mut [[f32; TILE]; R]) {
        let mut token = 0;
        while R == 1 && self.width - token >= TILE {
            self.scores_from::<R, TILE>(token, queries, scores);
            token += TILE;
        }
        while self.width - token >= LANES {
            self.scores_from::<R, LANES>(token, queries, scores);
            token += LANES;
        }
        while token < self.width {
            self.scores_from::<R, 1>(token, queries, scores);
            token += 1;
        }
    }

    #[inline(always)]
    fn scores_from<const R: usize, const W: usize>(
        &self,
        token: usize,
        queries: [&[f32]; R],
        scores: &mut [[f32; TILE]; R],
    ) {
        let mut sums = [[0.0; W]; R];
        for i in 0..queries[0].len() {
            let keys = window::<W>(self.keys, i * self.stride + token);
            for r in 0..R {
                let query = queries[r][i];
                for w in 0..W {
                    sums[r][w] += query * keys[w];
                }
            }
        }
        for (scores, sums) in scores.iter_mut().zip(sums) {
            scores[token..token + W].copy_from_slice(&sums);
        }
    }

    /// Turns the results that begin at `at` into decay × result + Σ probability × value, over the tokens of a range.
    #[inline(always)]
    fn add_values<const R: usize>(
        &self,
        c: usize,
        probs: &[[f32; TILE]; R],
        decay: [f32; R],
        at: [usize; R],
        tokens: Range<usize>,
        y: &mut [f32],
    ) {
        let mut column = 0;
        while R == 1 && c - column >= WIDE {
            self.add_columns::<R, WIDE>(column, c, probs, decay, at, tokens.clone(), y);
            column += WIDE;
        }
        while c - column >= LANES {
            self.add_columns::<R, LANES>(column, c, probs, decay, at, tokens.clone(), y);
            column += LANES;
        }
        while column < c {
            self.add_columns::<R, 1>(column, c, probs, decay, at, tokens.clone(), y);
            column += 1;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a part of `add_values`")]
    #[inline(always)]
    fn add_columns<const R: usize, const W: usize>(
        &self,
        column: usize,
        c: usize,
        probs: &[[f32; TILE]; R],
        decay: [f32; R],
        at: [usize; R],
        tokens: Range<usize>,
        y: &mut [f32],
    ) {
        let mut sums = [[0.0; W]; R];
        for ((sums, at), decay) in sums.iter_mut().zip(at).zip(decay) {
            for (sum, y) in sums.iter_mut().zip(&y[at + column..at + column + W]) {
                *sum = y * decay;
            }
        }
        for token in tokens {
            let values = window::<W>(self.values, token * c + column);
            for r in 0..R {
                let prob = probs[r][token];
                for w in 0..W {
                    sums[r][w] += prob * values[w];
                }
            }
        }
        for (sums, at) in sums.iter().zip(at) {
            y[at + column..at + column + W].copy_from_slice(sums);
        }
    }
}

/// Turns products of a query and keys into scores.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn scale(heads: &AttentionHeads, products: &mut [f32]) {
    for product in &mut *products {
        *product *= heads.scale;
    }
    if let Some(cap) = heads.soft_cap {
        for score in products {
            *score = cap * tanh(*score / cap);
        }
    }
}

/// Returns the `W` numbers from `start`.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn window<const W: usize>(x: &[f32], start: usize) -> &[f32; W] {
    match x[start..].first_chunk() {
        Some(window) => window,
        None => panic!("{W} numbers from {start} of {}", x.len()),
    }
}

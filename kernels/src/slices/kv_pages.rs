//! The keys and values of a layer, in blocks of tokens, in f32, f16 or int8.
//!
//! A block has for each key/value head its keys and then, after those of all heads, its values. Keys are `[C, S]`,
//! values `[S, C]`. In int8, each token of a head has a scale, its largest magnitude / 127, rounded to f16; S scales
//! follow the numbers of the S tokens.
//!
//! Relative error of attention with uniformly distributed queries, keys and values of 64 elements (the root of the mean
//! squared difference over that of the mean square; `tests/slices.rs` checks it): f16 2 × 10⁻⁴, int8 5 × 10⁻³.
//!
//! Dimensions: K key/value heads, C width of a head, S tokens of a block.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dispatch::vectorized;

/// The most tokens whose keys, or values, are read at once.
pub const TILE: usize = 32;

/// The numbers of keys, or of values, that are read at once: together they fill the first cache in f32.
pub const TILE_LEN: usize = 4096;

/// The largest integer of int8.
const MAX_INTEGER: f32 = 127.0;

/// The bytes of a scale.
const SCALE_BYTES: usize = 2;

/// The number type of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit floating point (IEEE 754).
    F16,
    /// 8-bit integers, with a scale for each token and head.
    Int8,
}

/// Keys and values in blocks. A block takes memory once one with its number or a higher one is written to.
#[derive(Debug)]
pub struct KvPages {
    numbers: Numbers,
    n_kv_head: usize,
    head_dim: usize,
    block_tokens: usize,
}

/// `[blocks, 2, K, head_len]`.
#[derive(Debug)]
pub enum Numbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Int8(Vec<i8>),
}

impl KvPages {
    /// Returns pages without blocks, of K heads of C elements and blocks of S tokens.
    ///
    /// # Panics
    /// Panics if one of them is zero.
    pub fn new(kv_type: KvType, n_kv_head: usize, head_dim: usize, block_tokens: usize) -> Self {
        assert!(n_kv_head * head_dim * block_tokens > 0, "a block has keys");
        let numbers = match kv_type {
            KvType::F32 => Numbers::F32(Vec::new()),
            KvType::F16 => Numbers::F16(Vec::new()),
            KvType::Int8 => Numbers::Int8(Vec::new()),
        };
        Self { numbers, n_kv_head, head_dim, block_tokens }
    }

    /// Returns K, C and S.
    pub fn shape(&self) -> [usize; 3] {
        [self.n_kv_head, self.head_dim, self.block_tokens]
    }

    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Returns the number of bytes of a block.
    pub fn block_bytes(&self) -> usize {
        let (s, c) = (self.block_tokens, self.head_dim);
        let head_bytes = match self.numbers {
            Numbers::F32(_) => 4 * f32::head_len(s, c),
            Numbers::F16(_) => 2 * f16::head_len(s, c),
            Numbers::Int8(_) => i8::head_len(s, c),
        };
        2 * self.n_kv_head * head_bytes
    }

    /// Writes the key and the value of a token of a block, rounded to the nearest.
    ///
    /// # Shapes
    /// - keys, values: `[K C]`
    ///
    /// # Panics
    /// Panics if there is no such token in a block, or the shapes do not match.
    pub fn write(&mut self, block: u32, token: usize, keys: &[f32], values: &[f32]) {
        let [k, c, s] = self.shape();
        assert!(token < s, "token {token} of {s}");
        assert_eq!((keys.len(), values.len()), (k * c, k * c), "a key and a value for each head");
        match &mut self.numbers {
            Numbers::F32(numbers) => write(numbers, [k, c, s], block, token, keys, values),
            Numbers::F16(numbers) => write(numbers, [k, c, s], block, token, keys, values),
            Numbers::Int8(numbers) => write(numbers, [k, c, s], block, token, keys, values),
        }
    }

    /// Copies a block to another.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let [k, c, s] = self.shape();
        match &mut self.numbers {
            Numbers::F32(numbers) => copy_block(numbers, [k, c, s], from, to),
            Numbers::F16(numbers) => copy_block(numbers, [k, c, s], from, to),
            Numbers::Int8(numbers) => copy_block(numbers, [k, c, s], from, to),
        }
    }
}

fn write<T: KvElement>(
    numbers: &mut Vec<T>,
    [k, c, s]: [usize; 3],
    block: u32,
    token: usize,
    keys: &[f32],
    values: &[f32],
) {
    let head_len = T::head_len(s, c);
    let block = block_mut(numbers, 2 * k * head_len, block);
    let (all_keys, all_values) = block.split_at_mut(k * head_len);
    vectorized!({
        for (head, key) in all_keys.chunks_exact_mut(head_len).zip(keys.chunks_exact(c)) {
            T::write_key(head, s, token, key);
        }
        for (head, value) in all_values.chunks_exact_mut(head_len).zip(values.chunks_exact(c)) {
            T::write_value(head, s, token, value);
        }
    });
}

fn copy_block<T: KvElement>(numbers: &mut Vec<T>, [k, c, s]: [usize; 3], from: u32, to: u32) {
    let length = 2 * k * T::head_len(s, c);
    block_mut(numbers, length, from.max(to));
    let from = from as usize * length;
    numbers.copy_within(from..from + length, to as usize * length);
}

/// Returns a block of `length` numbers, for which it makes room.
fn block_mut<T: KvElement>(numbers: &mut Vec<T>, length: usize, block: u32) -> &mut [T] {
    let start = block as usize * length;
    if numbers.len() < start + length {
        numbers.resize(start + length, T::default());
    }
    &mut numbers[start..start + length]
}

/// A number of the cache. A head of a block is `[head_len]`; the tokens of a range are at most [`TILE`], and
/// [`TILE_LEN`] / C.
pub trait KvElement: Copy + Default + Send + Sync {
    /// Returns the numbers of the keys, or of the values, of a head of a block.
    fn head_len(s: usize, c: usize) -> usize;
    /// Writes the key `[C]` of a token.
    fn write_key(head: &mut [Self], s: usize, token: usize, key: &[f32]);
    /// Writes the value `[C]` of a token.
    fn write_value(head: &mut [Self], s: usize, token: usize, value: &[f32]);
    /// Returns the keys of tokens in f32, `[C, tokens]`, and from where to where the rows are apart; converted in
    /// `buffer` unless they are in f32.
    fn keys<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> (&'a [f32], usize);
    /// Returns the values of tokens in f32, `[tokens, C]`.
    fn values<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> &'a [f32];
}

/// The memory of a tile in f32.
pub type Buffer = [f32; TILE_LEN];

impl KvElement for f32 {
    fn head_len(s: usize, c: usize) -> usize {
        s * c
    }

    #[inline]
    fn write_key(head: &mut [Self], s: usize, token: usize, key: &[f32]) {
        head[token..].iter_mut().step_by(s).zip(key).for_each(|(to, x)| *to = *x);
    }

    #[inline]
    fn write_value(head: &mut [Self], _: usize, token: usize, value: &[f32]) {
        head[token * value.len()..][..value.len()].copy_from_slice(value);
    }

    #[inline]
    fn keys<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, _: &'a mut Buffer) -> (&'a [f32], usize) {
        (&head[tokens.start..], s)
    }

    #[inline]
    fn values<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, _: &'a mut Buffer) -> &'a [f32] {
        let c = head.len() / s;
        &head[tokens.start * c..tokens.end * c]
    }
}

impl KvElement for f16 {
    fn head_len(s: usize, c: usize) -> usize {
        s * c
    }

    #[inline]
    fn write_key(head: &mut [Self], s: usize, token: usize, key: &[f32]) {
        head[token..].iter_mut().step_by(s).zip(key).for_each(|(to, x)| *to = Self::from_f32(*x));
    }

    #[inline]
    fn write_value(head: &mut [Self], _: usize, token: usize, value: &[f32]) {
        head[token * value.len()..][..value.len()].convert_from_f32_slice(value);
    }

    #[inline]
    fn keys<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> (&'a [f32], usize) {
        let width = tokens.len();
        if width == s {
            head.convert_to_f32_slice(&mut buffer[..head.len()]);
        } else {
            for (x, converted) in head.chunks_exact(s).zip(buffer.chunks_exact_mut(width)) {
                x[tokens.clone()].convert_to_f32_slice(converted);
            }
        }
        (buffer, width)
    }

    #[inline]
    fn values<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> &'a [f32] {
        let c = head.len() / s;
        let values = &mut buffer[..tokens.len() * c];
        head[tokens.start * c..tokens.end * c].convert_to_f32_slice(values);
        values
    }
}

#[allow(clippy::inline_always, reason = "as in `simd`")]
impl KvElement for i8 {
    fn head_len(s: usize, c: usize) -> usize {
        s * (c + SCALE_BYTES)
    }

    #[inline]
    fn write_key(head: &mut [Self], s: usize, token: usize, key: &[f32]) {
        let inverse = write_scale(head, s, token, key);
        for (to, x) in head[token..].iter_mut().step_by(s).zip(key) {
            *to = integer(*x, inverse);
        }
    }

    #[inline]
    fn write_value(head: &mut [Self], s: usize, token: usize, value: &[f32]) {
        let inverse = write_scale(head, s, token, value);
        for (to, x) in head[token * value.len()..].iter_mut().zip(value) {
            *to = integer(*x, inverse);
        }
    }

    #[inline(always)]
    fn keys<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> (&'a [f32], usize) {
        let width = tokens.len();
        let (numbers, scales) = head.split_at(head.len() - SCALE_BYTES * s);
        let mut scales_of_tile = [0.0; TILE];
        for (to, scale) in scales_of_tile.iter_mut().zip(scales[SCALE_BYTES * tokens.start..].as_chunks().0) {
            *to = scale_of(*scale);
        }
        for (x, converted) in numbers.chunks_exact(s).zip(buffer.chunks_exact_mut(width)) {
            for ((to, x), scale) in converted.iter_mut().zip(&x[tokens.clone()]).zip(&scales_of_tile) {
                *to = f32::from(*x) * scale;
            }
        }
        (buffer, width)
    }

    #[inline(always)]
    fn values<'a>(head: &'a [Self], s: usize, tokens: Range<usize>, buffer: &'a mut Buffer) -> &'a [f32] {
        let (numbers, scales) = head.split_at(head.len() - SCALE_BYTES * s);
        let c = numbers.len() / s;
        let values = &mut buffer[..tokens.len() * c];
        let rows = numbers[tokens.start * c..].chunks_exact(c).zip(scales[SCALE_BYTES * tokens.start..].as_chunks().0);
        for (converted, (x, scale)) in values.chunks_exact_mut(c).zip(rows) {
            let scale = scale_of(*scale);
            for (to, x) in converted.iter_mut().zip(x) {
                *to = f32::from(*x) * scale;
            }
        }
        values
    }
}

/// Writes the scale of a token, and returns its inverse; 0 if all numbers are so small that the scale is.
#[inline]
fn write_scale(head: &mut [i8], s: usize, token: usize, numbers: &[f32]) -> f32 {
    let largest = numbers.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let scale = f16::from_f32((largest / MAX_INTEGER).min(f16::MAX.to_f32()));
    let at = head.len() - SCALE_BYTES * (s - token);
    head[at..at + SCALE_BYTES].copy_from_slice(&scale.to_le_bytes().map(u8::cast_signed));
    let scale = scale.to_f32();
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

#[inline]
fn integer(x: f32, inverse: f32) -> i8 {
    (x * inverse).round_ties_even().clamp(-MAX_INTEGER, MAX_INTEGER) as i8
}

#[inline]
fn scale_of(bytes: [i8; SCALE_BYTES]) -> f32 {
    f16::from_le_bytes(bytes.map(i8::cast_unsigned)).to_f32()
}

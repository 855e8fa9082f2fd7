//! Blocks of quantised weights as files store them, in the layouts of GGUF: the reference of every quantised kernel.
//!
//! A row of weights is divided into blocks of 32 or 256, each with its own scale. All numbers are little-endian; a
//! nibble is half a byte, the lower half of byte `i` of 16 is weight `i` and the upper half weight `i + 16`. The
//! layouts and the rounding are those of ggml's reference functions.

mod k_blocks;
mod k_scales;
mod scale_search;

use half::f16;

pub use k_scales::{KScales, quantize_k};

/// The weights of a block, except in the `K` types.
pub const BLOCK: usize = 32;

/// The weights of a block of the `K` types.
pub const K_BLOCK: usize = 256;

/// The bytes of a block of [`BlockType::Q8_0`].
pub const Q8_0_BYTES: usize = 2 + BLOCK;

/// The bytes of a block of [`BlockType::Q4_0`].
pub const Q4_0_BYTES: usize = 2 + BLOCK / 2;

/// A layout of blocks. `d` is the block's scale and `m` its offset, in f16; `q` are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the names of the formats")]
pub enum BlockType {
    /// `d` and 16 bytes of nibbles: a weight is d (q − 8).
    Q4_0,
    /// `d`, `m` and 16 bytes of nibbles: d q + m.
    Q4_1,
    /// `d`, 4 bytes with the fifth bits and 16 bytes of nibbles: d (q − 16).
    Q5_0,
    /// `d`, `m`, 4 bytes with the fifth bits and 16 bytes of nibbles: d q + m.
    Q5_1,
    /// `d` and 32 bytes: d q.
    Q8_0,
    /// 256 weights in 8 groups with scales and offsets of 6 bits, 4 bits a weight.
    Q4_K,
    /// As [`BlockType::Q4_K`], 5 bits a weight.
    Q5_K,
    /// 256 weights in 16 groups with scales of 8 bits, 6 bits a weight.
    Q6_K,
}

impl BlockType {
    /// Every layout.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4_K, Self::Q5_K, Self::Q6_K];

    /// Returns the number of weights of a block.
    pub const fn weights(self) -> usize {
        match self {
            Self::Q4_K | Self::Q5_K | Self::Q6_K => K_BLOCK,
            _ => BLOCK,
        }
    }

    /// Returns the number of bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => Q4_0_BYTES,
            Self::Q4_1 => Q4_0_BYTES + 2,
            Self::Q5_0 => Q4_0_BYTES + 4,
            Self::Q5_1 => Q4_0_BYTES + 6,
            Self::Q8_0 => Q8_0_BYTES,
            Self::Q4_K => 4 + 12 + K_BLOCK / 2,
            Self::Q5_K => 4 + 12 + K_BLOCK / 8 + K_BLOCK / 2,
            Self::Q6_K => K_BLOCK / 2 + K_BLOCK / 4 + K_BLOCK / 16 + 2,
        }
    }

    /// Returns the weights of whole blocks.
    ///
    /// # Panics
    /// Panics if `bytes` are not whole blocks.
    pub fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / self.bytes() * self.weights()];
        self.dequantize_to(bytes, &mut values);
        values
    }

    /// As [`dequantize`](Self::dequantize), writes the weights to `values`.
    ///
    /// # Panics
    /// Panics if `bytes` are not whole blocks, or have another number of weights.
    pub fn dequantize_to(self, bytes: &[u8], values: &mut [f32]) {
        assert!(bytes.len().is_multiple_of(self.bytes()), "whole blocks of {self:?}");
        assert_eq!(bytes.len() / self.bytes() * self.weights(), values.len(), "a value for each weight");
        let blocks = bytes.chunks_exact(self.bytes()).zip(values.chunks_exact_mut(self.weights()));
        for (block, out) in blocks {
            let d = half_at(block, 0);
            match self {
                Self::Q4_0 => nibbles(&block[2..], [0; 4], out, |q| d * (q - 8.0)),
                Self::Q4_1 => {
                    let m = half_at(block, 2);
                    nibbles(&block[4..], [0; 4], out, |q| d * q + m);
                }
                Self::Q5_0 => nibbles(&block[6..], fifth_bits(block, 2), out, |q| d * (q - 16.0)),
                Self::Q5_1 => {
                    let m = half_at(block, 2);
                    nibbles(&block[8..], fifth_bits(block, 4), out, |q| d * q + m);
                }
                Self::Q8_0 => {
                    for (out, q) in out.iter_mut().zip(&block[2..]) {
                        *out = d * f32::from(*q as i8);
                    }
                }
                Self::Q4_K => k_blocks::dequantize_q4_k(block, out),
                Self::Q5_K => k_blocks::dequantize_q5_k(block, out),
                Self::Q6_K => k_blocks::dequantize_q6_k(block, out),
            }
        }
    }
}

/// Quantises a block to [`BlockType::Q8_0`]: the scale is the largest magnitude / 127. It divides in f32, before it is
/// rounded to f16; halves are rounded away from zero.
#[inline]
pub fn quantize_q8_0(values: &[f32; BLOCK]) -> [u8; Q8_0_BYTES] {
    let d = values.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
    let inverse = inverse_or_zero(d);
    let mut block = [0; Q8_0_BYTES];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, x) in block[2..].iter_mut().zip(values) {
        // The largest number below a half and truncation: as `f32::round`, which is a call for each number.
        let x = x * inverse;
        *q = (x + 0.499_999_97f32.copysign(x)) as i8 as u8;
    }
    block
}

/// Quantises a block to [`BlockType::Q4_0`]: the scale is the number of the largest magnitude / −8, so that this number
/// becomes −8 exactly.
pub fn quantize_q4_0(values: &[f32; BLOCK]) -> [u8; Q4_0_BYTES] {
    let largest = values.iter().fold(0.0f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    let d = largest / -8.0;
    let inverse = inverse_or_zero(d);
    let mut block = [0; Q4_0_BYTES];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let nibble = |x: f32| ((x * inverse + 8.5) as i8).min(15) as u8;
    let (low, high) = values.split_at(BLOCK / 2);
    for ((q, low), high) in block[2..].iter_mut().zip(low).zip(high) {
        *q = nibble(*low) | nibble(*high) << 4;
    }
    block
}

fn inverse_or_zero(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Writes the weights of the nibbles of a block, with fifth bits above them.
fn nibbles(packed: &[u8], fifth: [u8; 4], out: &mut [f32], weight: impl Fn(f32) -> f32) {
    let fifth = u32::from_le_bytes(fifth);
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for (i, ((byte, low), high)) in packed.iter().zip(low).zip(high).enumerate() {
        let quant = |nibble: u8, bit: usize| f32::from(nibble | ((fifth >> bit & 1) as u8) << 4);
        *low = weight(quant(byte & 15, i));
        *high = weight(quant(byte >> 4, i + BLOCK / 2));
    }
}

fn fifth_bits(block: &[u8], at: usize) -> [u8; 4] {
    [block[at], block[at + 1], block[at + 2], block[at + 3]]
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

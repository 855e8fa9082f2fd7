//! Rows of activations in the form that a kernel reads.

use super::BLOCK;
use super::panels::GROUP;
use crate::Pool;
use crate::dispatch::vectorized;
use crate::simd::round;

/// The form in which a kernel reads activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    F32,
    /// Blocks of int8, for weights to which `offset` was added.
    Int8 {
        offset: i32,
    },
    /// The same in 16 bits, of each four the first and third, then the second and fourth: the even and the odd bytes of
    /// a 32-bit lane.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "read by the kernels of AVX2 only"))]
    Int16 {
        offset: i32,
    },
}

/// A block of quantised activations.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct QuantizedBlock<T> {
    /// What an integer is multiplied by: the largest magnitude / 127.
    pub scale: f32,
    /// What the sum of products starts from, to make up for the offset of the weights: −offset × the sum of `values`.
    pub correction: i32,
    pub values: [T; BLOCK],
}

/// Memory of multiplications, reused from one to the next: it grows to the largest and stays.
#[derive(Debug, Default)]
pub struct Scratch {
    int8: Vec<QuantizedBlock<i8>>,
    int16: Vec<QuantizedBlock<i16>>,
}

/// Rows of activations, `[M, K]` or blocks `[M, K / 32]`.
#[derive(Debug, Clone, Copy)]
pub enum Activations<'a> {
    F32(&'a [f32]),
    Int8(&'a [QuantizedBlock<i8>]),
    Int16(&'a [QuantizedBlock<i16>]),
}

impl Scratch {
    /// Returns the activations in a form, converted by the threads of a pool, if given.
    pub(super) fn prepare<'a>(&'a mut self, x: &'a [f32], form: Form, pool: Option<&Pool>) -> Activations<'a> {
        match form {
            Form::F32 => Activations::F32(x),
            Form::Int8 { offset } => {
                let in_order = |integers: &[i32; BLOCK]| integers.map(|x| x as i8);
                Activations::Int8(quantize(&mut self.int8, x, pool, |x| quantize_block(x, offset, in_order)))
            }
            Form::Int16 { offset } => {
                let even_then_odd = |integers: &[i32; BLOCK]| {
                    let mut values = [0; BLOCK];
                    for (values, x) in values.as_chunks_mut().0.iter_mut().zip(integers.as_chunks::<GROUP>().0) {
                        *values = [x[0], x[2], x[1], x[3]].map(|x| x as i16);
                    }
                    values
                };
                Activations::Int16(quantize(&mut self.int16, x, pool, |x| quantize_block(x, offset, even_then_odd)))
            }
        }
    }
}

/// The blocks that a thread quantises at a time: some ten microseconds.
const BLOCKS_PER_TASK: usize = 512;

fn quantize<'a, T: Copy + Default + Send>(
    blocks: &'a mut Vec<QuantizedBlock<T>>,
    x: &[f32],
    pool: Option<&Pool>,
    quantize: impl Fn(&[f32; BLOCK]) -> QuantizedBlock<T> + Sync,
) -> &'a [QuantizedBlock<T>] {
    let x = x.as_chunks::<BLOCK>().0;
    if blocks.len() < x.len() {
        blocks.resize(x.len(), QuantizedBlock { scale: 0.0, correction: 0, values: [T::default(); BLOCK] });
    }
    let blocks = &mut blocks[..x.len()];
    let fill = |first: usize, blocks: &mut [QuantizedBlock<T>]| {
        vectorized!(blocks.iter_mut().zip(&x[first..]).for_each(|(block, x)| *block = quantize(x)));
    };
    match pool {
        Some(pool) if blocks.len() > BLOCKS_PER_TASK => {
            pool.for_each_chunk(blocks, BLOCKS_PER_TASK, |task, blocks| fill(task * BLOCKS_PER_TASK, blocks));
        }
        _ => fill(0, blocks),
    }
    blocks
}

/// Quantises to the nearest; a block with a number that is not finite gets a scale that is not finite.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn quantize_block<T>(
    x: &[f32; BLOCK],
    offset: i32,
    arrange: impl Fn(&[i32; BLOCK]) -> [T; BLOCK],
) -> QuantizedBlock<T> {
    // As integers, magnitudes have the same order, and NaN is above infinity.
    let largest = f32::from_bits(x.iter().fold(0, |max, x| max.max(x.abs().to_bits())));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let integers = x.map(|x| round(x * inverse));
    QuantizedBlock {
        scale: largest / 127.0,
        correction: -offset * integers.iter().sum::<i32>(),
        values: arrange(&integers),
    }
}

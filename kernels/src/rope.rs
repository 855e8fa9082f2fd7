//! Rotary position embeddings.
//!
//! Dimensions: B sequences, T tokens, H heads, C width of a head.

use rayon::prelude::*;

use crate::dispatch::{ROWS_PER_TASK, vectorized};

/// Rotates the pairs of x `[B, T, H, C]` by their angles, `half` being C / 2; by the opposite angles if `inverse`.
pub fn rope(x: &mut [f32], heads: usize, cos: &[f32], sin: &[f32], half: usize, inverse: bool) {
    let positions = cos.len() / half;
    let sign = if inverse { -1.0 } else { 1.0 };
    x.par_chunks_mut(heads * 2 * half).enumerate().with_min_len(ROWS_PER_TASK).for_each(|(row, token)| {
        let at = row % positions * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        vectorized!({
            for head in token.chunks_exact_mut(2 * half) {
                rotate(head, cos, sin, sign);
            }
        });
    });
}

/// Rotates the pairs of one head by their angles times `sign`.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    let (a, b) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y, sin) = (*a, *b, sin * sign);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}

//! Quantising to blocks of 256 weights: the scale, and offset, of each group with the least weighted squared error,
//! found among a few near the one that spans the group, as ggml's reference functions search. Bytes are not always
//! those of its library; the error is within 3 % of it.

use half::f16;

use super::K_BLOCK;

/// Groups whose weights are all smaller are zeros.
const MIN_MAGNITUDE: f32 = 1e-15;

/// The bytes of a block of `Q4_K`.
const Q4_K_BYTES: usize = 144;

/// The bytes of a block of `Q6_K`.
const Q6_K_BYTES: usize = 210;

/// Quantises a block to `Q4_K`. Errors weigh more for larger weights.
pub fn quantize_q4_k(values: &[f32; K_BLOCK]) -> [u8; Q4_K_BYTES] {
    const GROUP: usize = 32;
    let groups = values.as_chunks::<GROUP>().0;
    let mut fits = [(0.0f32, 0.0f32); K_BLOCK / GROUP];
    for (fit, group) in fits.iter_mut().zip(groups) {
        *fit = scale_and_offset(group);
    }
    let largest = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let (max_scale, max_offset) = (largest(|fit| fit.0), largest(|fit| fit.1));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let mut block = [0; Q4_K_BYTES];
    let (d, m) = (f16::from_f32(max_scale / 63.0), f16::from_f32(max_offset / 63.0));
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..4].copy_from_slice(&m.to_le_bytes());
    let mut quants = [0u8; K_BLOCK];
    for (j, (fit, group)) in fits.iter().zip(groups).enumerate() {
        let scale = nearest(inverse(max_scale) * fit.0).clamp(0, 63) as u8;
        let offset = nearest(inverse(max_offset) * fit.1).clamp(0, 63) as u8;
        let packed = &mut block[4..16];
        if j < 4 {
            packed[j] |= scale;
            packed[j + 4] |= offset;
        } else {
            packed[j + 4] |= (scale & 15) | (offset & 15) << 4;
            packed[j - 4] |= (scale >> 4) << 6;
            packed[j] |= (offset >> 4) << 6;
        }
        let (scale, offset) = (d.to_f32() * f32::from(scale), m.to_f32() * f32::from(offset));
        if scale != 0.0 {
            for (q, x) in quants[j * GROUP..].iter_mut().zip(group) {
                *q = nearest((x + offset) / scale).clamp(0, 15) as u8;
            }
        }
    }
    let pairs = quants.as_chunks::<{ 2 * GROUP }>().0;
    for (packed, quants) in block[16..].chunks_exact_mut(GROUP).zip(pairs) {
        let (low, high) = quants.split_at(GROUP);
        for ((byte, low), high) in packed.iter_mut().zip(low).zip(high) {
            *byte = low | high << 4;
        }
    }
    block
}

/// Quantises a block to `Q6_K`. Errors weigh by the square of the weight.
pub fn quantize_q6_k(values: &[f32; K_BLOCK]) -> [u8; Q6_K_BYTES] {
    const GROUP: usize = 16;
    let groups = values.as_chunks::<GROUP>().0;
    let mut scales = [0.0f32; K_BLOCK / GROUP];
    for (scale, group) in scales.iter_mut().zip(groups) {
        *scale = symmetric_scale(group);
    }
    let largest = scales.iter().fold(0.0f32, |max, scale| if scale.abs() > max.abs() { *scale } else { max });
    let mut block = [0; Q6_K_BYTES];
    if largest.abs() < MIN_MAGNITUDE {
        return block;
    }
    let inverse = -128.0 / largest;
    let d = f16::from_f32(1.0 / inverse);
    block[208..].copy_from_slice(&d.to_le_bytes());
    for (j, (scale, group)) in scales.iter().zip(groups).enumerate() {
        let scale = nearest(inverse * scale).clamp(-128, 127) as i8;
        block[192 + j] = scale as u8;
        let scale = d.to_f32() * f32::from(scale);
        for (i, x) in group.iter().enumerate() {
            let q = if scale == 0.0 { 32 } else { (nearest(x / scale).clamp(-32, 31) + 32) as u8 };
            let at = j * GROUP + i;
            let (part, run, column) = (at / 128, at % 128 / 32, at % 32);
            block[part * 64 + run % 2 * 32 + column] |= (q & 15) << (4 * (run / 2));
            block[128 + part * 32 + column] |= (q >> 4) << (2 * run);
        }
    }
    block
}

/// Returns the scale s and the offset m of 4 bits with the least weighted error of s q − m, where m ≥ 0.
fn scale_and_offset(group: &[f32; 32]) -> (f32, f32) {
    const MAX: f32 = 15.0;
    const STEPS: i16 = 20;
    let mean_square = group.iter().map(|x| x * x).sum::<f32>() / 32.0;
    let weights = group.map(|x| mean_square.sqrt() + x.abs());
    let min = group.iter().copied().fold(group[0], f32::min).min(0.0);
    let max = group.iter().copied().fold(group[0], f32::max);
    if max <= min {
        return (0.0, -min);
    }
    let (mut sum_w, mut sum_x) = (0.0, 0.0);
    for (w, x) in weights.iter().zip(group) {
        sum_w += w;
        sum_x += w * x;
    }
    let quants = |inverse: f32| group.map(|x| nearest(inverse * (x - min)).clamp(0, 15) as f32);
    let error = |quants: &[f32; 32], scale: f32, low: f32| {
        let squares = quants.iter().zip(group).zip(&weights).map(|((q, x), w)| w * (scale * q + low - x).powi(2));
        squares.sum::<f32>()
    };
    let span = max - min;
    let mut best = (1.0 / (MAX / span), min);
    let mut best_error = error(&quants(MAX / span), best.0, best.1);
    for step in 0..=STEPS {
        let quants = quants((-1.0 + 0.1 * f32::from(step) + MAX) / span);
        let (mut sum_q, mut sum_q2, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((q, x), w) in quants.iter().zip(group).zip(&weights) {
            sum_q += w * q;
            sum_q2 += w * q * q;
            sum_xq += w * q * x;
        }
        let determinant = sum_w * sum_q2 - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut fit = ((sum_w * sum_xq - sum_x * sum_q) / determinant, (sum_q2 * sum_x - sum_q * sum_xq) / determinant);
        if fit.1 > 0.0 {
            fit = (sum_xq / sum_q2, 0.0);
        }
        let error = error(&quants, fit.0, fit.1);
        if error < best_error {
            (best, best_error) = (fit, error);
        }
    }
    (best.0, -best.1)
}

/// Returns the scale of 6 bits with the least weighted error.
fn symmetric_scale(group: &[f32; 16]) -> f32 {
    const MAX: f32 = 32.0;
    let largest = group.iter().fold(0.0f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    if largest.abs() < MIN_MAGNITUDE {
        return 0.0;
    }
    let sums = |inverse: f32| {
        group.iter().fold((0.0f32, 0.0f32), |(xq, q2), x| {
            let (w, q) = (x * x, nearest(inverse * x).clamp(-32, 31) as f32);
            (xq + w * x * q, q2 + w * q * q)
        })
    };
    let (sum_xq, sum_q2) = sums(-MAX / largest);
    let mut scale = if sum_q2 > 0.0 { sum_xq / sum_q2 } else { 0.0 };
    let mut best = scale * sum_xq;
    for step in (-9i16..=9).filter(|step| *step != 0) {
        let (sum_xq, sum_q2) = sums(-(MAX + 0.1 * f32::from(step)) / largest);
        if sum_q2 > 0.0 && sum_xq * sum_xq > best * sum_q2 {
            scale = sum_xq / sum_q2;
            best = scale * sum_xq;
        }
    }
    scale
}

fn nearest(x: f32) -> i32 {
    x.round_ties_even() as i32
}

//! Blocks of 256 weights: groups of 16 or 32 with quantised scales.

use super::half_at;

/// The weights of a group of `Q4_K` and `Q5_K`.
const GROUP: usize = 32;

/// Returns the scale and the offset of group `j` of 8, 6 bits each, from 12 bytes: the lower four groups have theirs in
/// the lower bits of bytes `j` and `j + 4`; of the upper four, the lower 4 bits are in byte `j + 4` and the upper 2
/// above those of the lower groups.
fn scale_and_offset(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, offset) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4, (scales[j + 4] >> 4) | (scales[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(offset))
}

/// Layout: scale, scale of the offsets, 12 bytes of scales and offsets, 4 bytes × 32 of nibbles: groups `2 i` in the
/// lower and `2 i + 1` in the upper halves.
pub(super) fn dequantize_q4_k(block: &[u8], out: &mut [f32]) {
    let (d, m, scales, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16], &block[16..]);
    for (j, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let (scale, offset) = scale_and_offset(scales, j);
        let (scale, offset, packed) = (d * scale, m * offset, &packed[j / 2 * GROUP..]);
        for (out, byte) in out.iter_mut().zip(packed) {
            *out = scale * f32::from(byte >> (4 * (j % 2)) & 15) - offset;
        }
    }
}

/// Layout: as `Q4_K` with 32 bytes before the nibbles, whose bit `j` is the fifth bit of group `j`.
pub(super) fn dequantize_q5_k(block: &[u8], out: &mut [f32]) {
    let (d, m, scales) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    let (fifth, packed) = block[16..].split_at(GROUP);
    for (j, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let (scale, offset) = scale_and_offset(scales, j);
        let (scale, offset, packed) = (d * scale, m * offset, &packed[j / 2 * GROUP..]);
        for ((out, byte), fifth) in out.iter_mut().zip(packed).zip(fifth) {
            let q = byte >> (4 * (j % 2)) & 15 | (fifth >> j & 1) << 4;
            *out = scale * f32::from(q) - offset;
        }
    }
}

/// Layout: 128 bytes of the lower 4 bits, 64 of the upper 2, 16 scales, the scale of the scales. Each half of the block
/// has 64 bytes and 32 bytes: weights 0 to 63 in the lower and 64 to 127 in the upper halves of the first, and runs of
/// 32 in two bits each of the second.
pub(super) fn dequantize_q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = (&rest[..16], half_at(rest, 16));
    for (run, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let (part, run_of_part) = (run / 4, run % 4);
        let low = &low[part * 64 + run_of_part % 2 * 32..][..32];
        let high = &high[part * 32..][..32];
        for (i, ((out, low), high)) in out.iter_mut().zip(low).zip(high).enumerate() {
            let q = (low >> (4 * (run_of_part / 2)) & 15) | (high >> (2 * run_of_part) & 3) << 4;
            let scale = d * f32::from(scales[run * 2 + i / 16] as i8);
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}

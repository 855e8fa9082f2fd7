//! Rows of weights as they are stored in files.

use half::{bf16, f16};

use super::WeightType;
use crate::blocks::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, quantize_q4_0, quantize_q8_0};
use crate::dispatch::vectorized;

/// Returns the bytes of a stored row of `k` weights; None if `k` is not a multiple of the type's block.
pub fn row_bytes(weight_type: WeightType, k: usize) -> Option<usize> {
    let blocks = k.is_multiple_of(BLOCK).then_some(k / BLOCK);
    match weight_type {
        WeightType::F32 => Some(4 * k),
        WeightType::Bf16 | WeightType::F16 => Some(2 * k),
        WeightType::Int8 => blocks.map(|blocks| blocks * Q8_0_BYTES),
        WeightType::Int4 => blocks.map(|blocks| blocks * Q4_0_BYTES),
    }
}

/// Writes a row in its stored layout, rounded: bf16 and f16 to the nearest, int8 and int4 as GGUF's reference
/// implementation does.
pub fn encode_row(values: &[f32], weight_type: WeightType, stored: &mut [u8]) {
    match weight_type {
        WeightType::F32 => {
            for (stored, x) in stored.as_chunks_mut().0.iter_mut().zip(values) {
                *stored = x.to_le_bytes();
            }
        }
        WeightType::Bf16 => {
            for (stored, x) in stored.as_chunks_mut().0.iter_mut().zip(values) {
                *stored = bf16::from_f32(*x).to_le_bytes();
            }
        }
        WeightType::F16 => {
            for (stored, x) in stored.as_chunks_mut().0.iter_mut().zip(values) {
                *stored = f16::from_f32(*x).to_le_bytes();
            }
        }
        WeightType::Int8 => {
            let blocks = stored.as_chunks_mut::<Q8_0_BYTES>().0;
            vectorized!({
                for (stored, values) in blocks.iter_mut().zip(values.as_chunks().0) {
                    *stored = quantize_q8_0(values);
                }
            });
        }
        WeightType::Int4 => {
            let blocks = stored.as_chunks_mut::<Q4_0_BYTES>().0;
            for (stored, values) in blocks.iter_mut().zip(values.as_chunks().0) {
                *stored = quantize_q4_0(values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // gguf-py 0.19: `gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0)` and `Q4_0`, with
    // `x = numpy.array([(i * 37 % 64 - 31) / 8 for i in range(32)], dtype=numpy.float32)`.
    const INT8_BLOCK: [u8; Q8_0_BYTES] = [
        8, 40, 133, 24, 173, 64, 212, 103, 252, 145, 36, 185, 75, 224, 115, 8, 157, 48, 196, 87, 236, 127, 20, 169, 60,
        208, 99, 248, 141, 32, 181, 71, 220, 111,
    ];
    const INT4_BLOCK: [u8; Q4_0_BYTES] =
        [0, 184, 207, 55, 157, 4, 123, 226, 72, 191, 38, 157, 243, 106, 209, 72, 174, 21];

    #[test]
    fn rows_of_incomplete_blocks_have_no_size() {
        for weight_type in [WeightType::Int8, WeightType::Int4] {
            assert_eq!(row_bytes(weight_type, 33), None);
        }
        assert_eq!(row_bytes(WeightType::Int8, 64), Some(68));
        assert_eq!(row_bytes(WeightType::Int4, 64), Some(36));
        assert_eq!(row_bytes(WeightType::F32, 33), Some(132));
        assert_eq!(row_bytes(WeightType::Bf16, 33), Some(66));
    }

    #[test]
    fn blocks_are_those_of_ggml() {
        let values: Vec<f32> = (0..BLOCK as i32).map(|i| (i * 37 % 64 - 31) as f32 / 8.0).collect();
        let mut stored = [0; Q8_0_BYTES];
        encode_row(&values, WeightType::Int8, &mut stored);
        assert_eq!(stored, INT8_BLOCK);
        let mut stored = [0; Q4_0_BYTES];
        encode_row(&values, WeightType::Int4, &mut stored);
        assert_eq!(stored, INT4_BLOCK);
    }
}

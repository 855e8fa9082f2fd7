//! The layout of a panel: 32 rows of a weight, column by column.
//!
//! | type | unit | bytes |
//! |---|---|---|
//! | f32, f16 | column | `[32 rows]` |
//! | bf16 | pair of columns | `[32 rows][2]` |
//! | int8 | block of 32 columns | `[8 groups][32 rows][4 columns]`, each plus 128; `[32 rows]` scales in f16 |
//! | int4 | block of 32 columns | `[4 groups][32 rows][4 bytes]`; scales |
//!
//! Byte j of group g of int4 holds columns 4 g + j and 16 + 4 g + j, as stored.
//! Four columns of a row are what one lane of a dot-product instruction reads (VNNI, ARM dotprod), two what one lane of
//! a bf16 or of a 16-bit integer one does.

use half::{bf16, f16};

use super::{BLOCK, WeightType};
use crate::blocks::{Q4_0_BYTES, Q8_0_BYTES};

/// The rows of a panel.
pub const PANEL: usize = 32;

/// The columns, of one row, that stand side by side in int8 and int4.
pub const GROUP: usize = 4;

/// The bytes of a block of all rows, before the scales and with them.
pub const INT8_WEIGHTS: usize = BLOCK * PANEL;
pub const INT8_UNIT: usize = INT8_WEIGHTS + 2 * PANEL;
pub const INT4_WEIGHTS: usize = BLOCK / 2 * PANEL;
pub const INT4_UNIT: usize = INT4_WEIGHTS + 2 * PANEL;

/// What is added to an int8 weight, which makes it unsigned.
pub const INT8_OFFSET: i32 = 128;
/// What is added to an int4 weight.
pub const INT4_OFFSET: i32 = 8;

/// Panels of a weight with `k` columns, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    pub bytes: &'a [u8],
    pub weight_type: WeightType,
    pub k: usize,
}

impl<'a> Panels<'a> {
    /// Returns each panel.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(panel_bytes(self.weight_type, self.k))
    }

    /// Returns the panels before `panel`, and the rest.
    pub fn split_at(self, panel: usize) -> (Self, Self) {
        let (left, right) = self.bytes.split_at(panel * panel_bytes(self.weight_type, self.k));
        (Self { bytes: left, ..self }, Self { bytes: right, ..self })
    }
}

/// Returns the bytes of a panel, a multiple of 64.
pub fn panel_bytes(weight_type: WeightType, k: usize) -> usize {
    match weight_type {
        WeightType::F32 => k * PANEL * 4,
        WeightType::F16 => k * PANEL * 2,
        WeightType::Bf16 => k.div_ceil(2) * PANEL * 4,
        WeightType::Int8 => k / BLOCK * INT8_UNIT,
        WeightType::Int4 => k / BLOCK * INT4_UNIT,
    }
}

/// Writes a stored row to its place in a panel.
pub fn insert_row(panel: &mut [u8], weight_type: WeightType, row: usize, stored: &[u8]) {
    match weight_type {
        WeightType::F32 => insert_groups::<4, { 4 * PANEL }>(panel, row, stored),
        WeightType::F16 => insert_groups::<2, { 2 * PANEL }>(panel, row, stored),
        WeightType::Bf16 => {
            insert_groups::<4, { 4 * PANEL }>(panel, row, stored);
            let last = stored.as_chunks::<4>().1;
            if !last.is_empty() {
                let at = panel.len() - 4 * PANEL + 4 * row;
                panel[at..at + last.len()].copy_from_slice(last);
            }
        }
        WeightType::Int8 => {
            let units = panel.as_chunks_mut::<INT8_UNIT>().0;
            for (unit, block) in units.iter_mut().zip(stored.as_chunks::<Q8_0_BYTES>().0) {
                let (weights, scales) = unit.split_at_mut(INT8_WEIGHTS);
                let (scale, block) = block.split_at(2);
                scales[2 * row..][..2].copy_from_slice(scale);
                for (weights, group) in weights.chunks_exact_mut(GROUP * PANEL).zip(block.as_chunks().0) {
                    let group: [u8; GROUP] = *group;
                    weights[GROUP * row..][..GROUP].copy_from_slice(&group.map(|weight| weight ^ 0x80));
                }
            }
        }
        WeightType::Int4 => {
            let units = panel.as_chunks_mut::<INT4_UNIT>().0;
            for (unit, block) in units.iter_mut().zip(stored.as_chunks::<Q4_0_BYTES>().0) {
                let (weights, scales) = unit.split_at_mut(INT4_WEIGHTS);
                let (scale, block) = block.split_at(2);
                scales[2 * row..][..2].copy_from_slice(scale);
                insert_groups::<GROUP, { GROUP * PANEL }>(weights, row, block);
            }
        }
    }
}

/// Writes each whole group of `G` bytes to the row's place in the next `STRIDE` bytes of the panel.
fn insert_groups<const G: usize, const STRIDE: usize>(panel: &mut [u8], row: usize, stored: &[u8]) {
    for (unit, group) in panel.as_chunks_mut::<STRIDE>().0.iter_mut().zip(stored.as_chunks::<G>().0) {
        unit[G * row..][..G].copy_from_slice(group);
    }
}

/// Writes a row of a panel in f32.
pub fn extract_row(panel: &[u8], weight_type: WeightType, row: usize, out: &mut [f32]) {
    match weight_type {
        WeightType::F32 => {
            for (x, unit) in out.iter_mut().zip(panel.as_chunks::<{ 4 * PANEL }>().0) {
                *x = f32::from_le_bytes(unit.as_chunks().0[row]);
            }
        }
        WeightType::F16 => {
            for (x, unit) in out.iter_mut().zip(panel.as_chunks::<{ 2 * PANEL }>().0) {
                *x = f16::from_le_bytes(unit.as_chunks().0[row]).to_f32();
            }
        }
        WeightType::Bf16 => {
            for (pair, unit) in out.chunks_mut(2).zip(panel.as_chunks::<{ 4 * PANEL }>().0) {
                let weights = unit.as_chunks::<2>().0;
                for (x, weight) in pair.iter_mut().zip(&weights[2 * row..]) {
                    *x = bf16::from_le_bytes(*weight).to_f32();
                }
            }
        }
        WeightType::Int8 => {
            let units = panel.as_chunks::<INT8_UNIT>().0;
            for (out, unit) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(units) {
                let (weights, scales) = unit.split_at(INT8_WEIGHTS);
                let scale = f16::from_le_bytes(scales.as_chunks().0[row]).to_f32();
                for (j, x) in out.iter_mut().enumerate() {
                    let weight = weights[(j / GROUP * PANEL + row) * GROUP + j % GROUP];
                    *x = (i32::from(weight) - INT8_OFFSET) as f32 * scale;
                }
            }
        }
        WeightType::Int4 => {
            let units = panel.as_chunks::<INT4_UNIT>().0;
            for (out, unit) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(units) {
                let (weights, scales) = unit.split_at(INT4_WEIGHTS);
                let scale = f16::from_le_bytes(scales.as_chunks().0[row]).to_f32();
                let (low, high) = out.split_at_mut(BLOCK / 2);
                for (j, (low, high)) in low.iter_mut().zip(high).enumerate() {
                    let byte = weights[(j / GROUP * PANEL + row) * GROUP + j % GROUP];
                    *low = (i32::from(byte & 15) - INT4_OFFSET) as f32 * scale;
                    *high = (i32::from(byte >> 4) - INT4_OFFSET) as f32 * scale;
                }
            }
        }
    }
}

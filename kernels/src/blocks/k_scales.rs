//! The scales of a block of 256 weights, and rounding with them.

use half::f16;

use super::scale_search::{scale_and_offset, symmetric_scale};
use super::{BlockType, K_BLOCK};

/// Groups whose weights are all smaller are zeros.
const MIN_MAGNITUDE: f32 = 1e-15;

/// The largest quantised scale and offset of a group of `Q4_K`.
const MAX_Q4_K_SCALE: f32 = 63.0;

/// The scales of a block of [`BlockType::Q4_K`] or [`BlockType::Q6_K`], whose integers are not chosen yet.
///
/// To round one column after the other, and change those that follow, fit the block first and each group again before
/// its first column.
#[derive(Debug, Clone)]
pub struct KScales {
    kind: Kind,
    /// The scale of the groups' scales.
    d: f16,
    /// The scale of the groups' offsets; only of `Q4_K`.
    m: f16,
    /// Of `Q4_K`, eight from 0 to 63.
    scales: [i8; 16],
    offsets: [u8; 8],
    /// The inverses of `d` and `m` before they were rounded.
    inverses: (f32, f32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Q4,
    Q6,
}

impl KScales {
    /// Chooses the scales of a block: those with the least squared error, in which weights count by `importance`, or
    /// larger weights more without one.
    ///
    /// # Panics
    /// Panics if the layout is another than `Q4_K` and `Q6_K`.
    pub fn fit(block_type: BlockType, values: &[f32; K_BLOCK], importance: Option<&[f32; K_BLOCK]>) -> Self {
        let kind = match block_type {
            BlockType::Q4_K => Kind::Q4,
            BlockType::Q6_K => Kind::Q6,
            other => panic!("{other:?} has no scales of groups that are fitted"),
        };
        let mut fitted =
            Self { kind, d: f16::ZERO, m: f16::ZERO, scales: [0; 16], offsets: [0; 8], inverses: (0.0, 0.0) };
        let len = fitted.group_len();
        let mut fits = [(0.0, 0.0); 16];
        for (j, (fit, group)) in fits.iter_mut().zip(values.chunks_exact(len)).enumerate() {
            *fit = fitted.search(group, importance.map(|importance| &importance[j * len..][..len]));
        }
        match kind {
            Kind::Q4 => {
                let largest = |of: fn(&(f32, f32)) -> f32| fits.iter().map(of).fold(0.0, f32::max);
                let (max_scale, max_offset) = (largest(|fit| fit.0), largest(|fit| fit.1));
                fitted.d = f16::from_f32(max_scale / MAX_Q4_K_SCALE);
                fitted.m = f16::from_f32(max_offset / MAX_Q4_K_SCALE);
                let inverse = |max: f32| if max > 0.0 { MAX_Q4_K_SCALE / max } else { 0.0 };
                fitted.inverses = (inverse(max_scale), inverse(max_offset));
            }
            Kind::Q6 => {
                let largest = |max: f32, (scale, _): &(f32, f32)| if scale.abs() > max.abs() { *scale } else { max };
                let largest = fits.iter().fold(0.0, largest);
                if largest.abs() >= MIN_MAGNITUDE {
                    fitted.inverses.0 = -128.0 / largest;
                    fitted.d = f16::from_f32(1.0 / fitted.inverses.0);
                }
            }
        }
        for (j, fit) in fits.into_iter().take(K_BLOCK / len).enumerate() {
            fitted.set(j, fit);
        }
        fitted
    }

    /// Returns the number of weights with the same scale.
    pub fn group_len(&self) -> usize {
        match self.kind {
            Kind::Q4 => 32,
            Kind::Q6 => 16,
        }
    }

    /// Chooses the scale of one group again, for other values, in steps of the block's.
    ///
    /// # Panics
    /// Panics if `values` or `importance` have not the length of a group.
    pub fn fit_group(&mut self, group: usize, values: &[f32], importance: Option<&[f32]>) {
        self.set(group, self.search(values, importance));
    }

    /// Returns the integer of the weight `x` in a column of the block, as it is stored.
    pub fn round(&self, column: usize, x: f32) -> u8 {
        let (scale, offset) = self.group(column / self.group_len());
        match self.kind {
            Kind::Q4 if scale == 0.0 => 0,
            Kind::Q4 => nearest((x + offset) / scale).clamp(0, 15) as u8,
            Kind::Q6 if scale == 0.0 => 32,
            Kind::Q6 => (nearest(x / scale).clamp(-32, 31) + 32) as u8,
        }
    }

    /// Returns the weight of a stored integer in a column.
    pub fn weight(&self, column: usize, q: u8) -> f32 {
        let (scale, offset) = self.group(column / self.group_len());
        match self.kind {
            Kind::Q4 => scale * f32::from(q) - offset,
            Kind::Q6 => scale * (f32::from(q) - 32.0),
        }
    }

    /// Appends the block with these integers, one a column, to `bytes`.
    pub fn store(&self, quants: &[u8; K_BLOCK], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        match self.kind {
            Kind::Q4 => {
                bytes.extend(self.d.to_le_bytes());
                bytes.extend(self.m.to_le_bytes());
                bytes.extend(self.packed_scales());
                for pair in quants.as_chunks::<64>().0 {
                    let (low, high) = pair.split_at(32);
                    bytes.extend(low.iter().zip(high).map(|(low, high)| low | high << 4));
                }
            }
            Kind::Q6 => {
                bytes.resize(start + BlockType::Q6_K.bytes(), 0);
                let block = &mut bytes[start..];
                // A block of zeros is all zeros.
                if self.d == f16::ZERO {
                    return;
                }
                for (at, q) in quants.iter().enumerate() {
                    let (part, run, column) = (at / 128, at % 128 / 32, at % 32);
                    block[part * 64 + run % 2 * 32 + column] |= (q & 15) << (4 * (run / 2));
                    block[128 + part * 32 + column] |= (q >> 4) << (2 * run);
                }
                for (byte, scale) in block[192..].iter_mut().zip(self.scales) {
                    *byte = scale as u8;
                }
                block[208..].copy_from_slice(&self.d.to_le_bytes());
            }
        }
    }

    /// Returns the scale and the offset of a group.
    fn group(&self, group: usize) -> (f32, f32) {
        let scale = self.d.to_f32() * f32::from(self.scales[group]);
        match self.kind {
            Kind::Q4 => (scale, self.m.to_f32() * f32::from(self.offsets[group])),
            Kind::Q6 => (scale, 0.0),
        }
    }

    fn search(&self, group: &[f32], importance: Option<&[f32]>) -> (f32, f32) {
        const LENGTH: &str = "the length of a group";
        match self.kind {
            Kind::Q4 => {
                let importance = importance.map(|importance| importance.try_into().expect(LENGTH));
                scale_and_offset(group.try_into().expect(LENGTH), importance)
            }
            Kind::Q6 => {
                let group: &[f32; 16] = group.try_into().expect(LENGTH);
                if group.iter().all(|x| x.abs() < MIN_MAGNITUDE) {
                    return (0.0, 0.0);
                }
                let importance = importance.map(|importance| importance.try_into().expect(LENGTH));
                (symmetric_scale(group, importance), 0.0)
            }
        }
    }

    /// Rounds the scale and the offset of a group to multiples of the block's.
    fn set(&mut self, group: usize, (scale, offset): (f32, f32)) {
        match self.kind {
            Kind::Q4 => {
                self.scales[group] = nearest(self.inverses.0 * scale).clamp(0, 63) as i8;
                self.offsets[group] = nearest(self.inverses.1 * offset).clamp(0, 63) as u8;
            }
            Kind::Q6 => self.scales[group] = nearest(self.inverses.0 * scale).clamp(-128, 127) as i8,
        }
    }

    /// Returns the scales and offsets of `Q4_K`, 6 bits each.
    fn packed_scales(&self) -> [u8; 12] {
        let mut packed = [0; 12];
        for (j, (scale, offset)) in self.scales.iter().zip(self.offsets).enumerate() {
            let scale = *scale as u8;
            if j < 4 {
                packed[j] |= scale;
                packed[j + 4] |= offset;
            } else {
                packed[j + 4] |= (scale & 15) | (offset & 15) << 4;
                packed[j - 4] |= (scale >> 4) << 6;
                packed[j] |= (offset >> 4) << 6;
            }
        }
        packed
    }
}

/// Appends a block of [`BlockType::Q4_K`] or [`BlockType::Q6_K`] with these weights to `bytes`.
///
/// # Panics
/// Panics if the layout is another.
pub fn quantize_k(block_type: BlockType, values: &[f32; K_BLOCK], bytes: &mut Vec<u8>) {
    let scales = KScales::fit(block_type, values, None);
    let quants = std::array::from_fn(|column| scales.round(column, values[column]));
    scales.store(&quants, bytes);
}

fn nearest(x: f32) -> i32 {
    x.round_ties_even() as i32
}

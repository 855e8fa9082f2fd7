//! Quantised weights in safetensors: the format `pack-quantized` of the library compressed-tensors, which transformers
//! and vLLM read.
//!
//! The weight of a linear projection `X`, `[O, I]`, is three tensors:
//!
//! | tensor | type | dimensions |
//! |---|---|---|
//! | `X.weight_packed` | I32 | `[O, I B / 32]`: integers of B bits plus 2^(B - 1), the first in the lowest bits |
//! | `X.weight_scale` | F16, BF16 or F32 | `[O, I / G]`: a factor for G integers of a row |
//! | `X.weight_shape` | I64 | `[2]`: O and I |
//!
//! With G = 32 and scales in f16, a row has the same content as one in blocks of [`kernels::blocks`], which the
//! processor computes with; [`pack`] and `Rows::write_blocks` convert without loss.

use half::f16;
use kernels::blocks::{BLOCK, BlockType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Dtype;
use crate::safetensors::TensorSpec;

/// The ends of the names of the tensors, in place of `weight`.
pub const ENDS: [&str; 3] = ["weight_packed", "weight_scale", "weight_shape"];

/// Integers that weights are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Integers {
    /// -128 to 127.
    Int8,
    /// -8 to 7.
    Int4,
}

impl Integers {
    /// Returns the number of bits of an integer.
    pub fn bits(self) -> usize {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    /// Returns the type of the blocks with the same content.
    pub fn block_type(self) -> BlockType {
        match self {
            Self::Int8 => BlockType::Q8_0,
            Self::Int4 => BlockType::Q4_0,
        }
    }
}

/// Returns the `quantization_config` of `config.json` for blocks of 32; modules in `ignored` are not quantised.
pub fn config(integers: Integers, ignored: &[String]) -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ignored,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": integers.bits(),
                    "type": "int",
                    "symmetric": true,
                    "strategy": "group",
                    "group_size": BLOCK,
                    "dynamic": false,
                },
                "input_activations": null,
                "output_activations": null,
            },
        },
    })
}

/// Checks that weights of a `quantization_config` can be read.
pub(crate) fn check_config(config: &Value) -> Result<(), String> {
    let method = config["quant_method"].as_str().unwrap_or_default();
    if method != "compressed-tensors" {
        return Err(format!("weights quantised by `{method}` are not supported; use the original model"));
    }
    let must_be = |key: &str, found: &Value, expected: &Value| {
        if found == expected { Ok(()) } else { Err(format!("{key} {found} is not supported, only {expected}")) }
    };
    must_be("format", &config["format"], &json!("pack-quantized"))?;
    let null_or = |value: &Value| if value.is_null() { json!({}) } else { value.clone() };
    must_be("sparsity_config", &null_or(&config["sparsity_config"]), &json!({}))?;
    must_be("transform_config", &null_or(&config["transform_config"]), &json!({}))?;
    for (name, group) in config["config_groups"].as_object().into_iter().flatten() {
        let weights = &group["weights"];
        must_be(&format!("{name}.weights.type"), &weights["type"], &json!("int"))?;
        must_be(&format!("{name}.weights.symmetric"), &weights["symmetric"], &json!(true))?;
        must_be(&format!("{name}.input_activations"), &group["input_activations"], &Value::Null)?;
        must_be(&format!("{name}.output_activations"), &group["output_activations"], &Value::Null)?;
    }
    Ok(())
}

/// Returns the bytes of the packed integers and of the scales, in f16, of rows in blocks.
///
/// # Panics
/// Panics if `blocks` is not a whole number of blocks.
pub fn pack(integers: Integers, blocks: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let block_bytes = integers.block_type().bytes();
    assert!(blocks.len().is_multiple_of(block_bytes), "whole blocks");
    let count = blocks.len() / block_bytes;
    let (mut packed, mut scales) = (Vec::with_capacity(count * BLOCK), Vec::with_capacity(2 * count));
    for block in blocks.chunks_exact(block_bytes) {
        let (scale, stored) = block.split_at(2);
        scales.extend_from_slice(scale);
        match integers {
            Integers::Int8 => packed.extend(stored.iter().map(|byte| byte.wrapping_add(128))),
            Integers::Int4 => {
                // A byte of a block has weights i and i + 16, a packed byte weights 2 i and 2 i + 1.
                let pairs = |shift: u32| {
                    stored.as_chunks::<2>().0.iter().map(move |[a, b]| (a >> shift) & 15 | ((b >> shift) & 15) << 4)
                };
                packed.extend(pairs(0).chain(pairs(4)));
            }
        }
    }
    (packed, scales)
}

/// Returns the tensors of the weight of a module, `[O, I]`, in the order of [`ENDS`]; scales in f16.
pub fn specs(module: &str, [rows, columns]: [usize; 2], integers: Integers) -> [TensorSpec; 3] {
    use ::safetensors::Dtype::{F16, I32, I64};
    let tensors =
        [(I32, vec![rows, columns * integers.bits() / 32]), (F16, vec![rows, columns / BLOCK]), (I64, vec![2])];
    std::array::from_fn(|i| {
        let (dtype, shape) = tensors[i].clone();
        TensorSpec { name: format!("{module}.{}", ENDS[i]), dtype, shape }
    })
}

/// A tensor in a file, as far as it concerns this format.
pub(crate) struct Part<'a, 's> {
    pub(crate) dtype: ::safetensors::Dtype,
    pub(crate) shape: &'s [usize],
    pub(crate) data: &'a [u8],
}

/// Rows of a quantised weight.
#[derive(Debug, Clone)]
pub(crate) struct Rows<'a> {
    integers: Integers,
    packed: &'a [u8],
    scales: &'a [u8],
    scale_dtype: Dtype,
    columns: usize,
    /// The integers of a row that have the same scale.
    group: usize,
}

impl<'a> Rows<'a> {
    /// Returns the weight of `shape`, `[O, I]`, whose packed integers and scales are these; else what is wrong with
    /// them.
    pub(crate) fn new(shape: [usize; 2], packed: &Part<'a, '_>, scales: &Part<'a, '_>) -> Result<Self, String> {
        let [rows, columns] = shape;
        let packed_shape = |bits: usize| vec![rows, (columns * bits).div_ceil(32)];
        let all = [Integers::Int8, Integers::Int4];
        let integers = all.into_iter().find(|integers| packed.shape == packed_shape(integers.bits()));
        let integers = integers.filter(|integers| (columns * integers.bits()).is_multiple_of(32)).ok_or_else(|| {
            let [eight, four] = [8, 4].map(packed_shape);
            format!("has packed shape {:?}; integers of 8 or 4 bits need {eight:?} or {four:?}", packed.shape)
        })?;
        if packed.dtype != ::safetensors::Dtype::I32 {
            return Err(format!("has packed type {}, not I32", packed.dtype));
        }
        let scale_dtype = Dtype::from_safetensors(scales.dtype)
            .ok_or_else(|| format!("has scales of type {}, not F32, F16 or BF16", scales.dtype))?;
        let groups = match scales.shape {
            [found, groups] if *found == rows && *groups > 0 && columns.is_multiple_of(*groups) => *groups,
            found => return Err(format!("has scales of shape {found:?}, which do not divide {shape:?} into groups")),
        };
        Ok(Self { integers, packed: packed.data, scales: scales.data, scale_dtype, columns, group: columns / groups })
    }

    /// Returns some of the rows.
    pub(crate) fn part(&self, first: usize, rows: usize) -> Self {
        let of = |data: &'a [u8], row_bytes: usize| &data[first * row_bytes..][..rows * row_bytes];
        let scale_bytes = self.columns / self.group * self.scale_dtype.bytes() as usize;
        Self {
            packed: of(self.packed, self.columns * self.integers.bits() / 8),
            scales: of(self.scales, scale_bytes),
            ..self.clone()
        }
    }

    /// Returns the type of the blocks with the same content; `None` if blocks cannot hold it.
    pub(crate) fn block_type(&self) -> Option<BlockType> {
        let is_exact = |scale: f32| f16::from_f32(scale).to_f32().to_bits() == scale.to_bits();
        let fits = self.group == BLOCK
            && (self.scale_dtype == Dtype::F16 || self.scale_dtype.decode(self.scales).into_iter().all(is_exact));
        fits.then(|| self.integers.block_type())
    }

    /// Returns the bytes of the packed integers and of the scales.
    pub(crate) fn bytes(&self) -> (&'a [u8], &'a [u8]) {
        (self.packed, self.scales)
    }

    /// Writes the values, row by row.
    pub(crate) fn write_values(&self, values: &mut [f32]) {
        match self.integers {
            Integers::Int8 => {
                for (x, byte) in values.iter_mut().zip(self.packed) {
                    *x = f32::from(*byte) - 128.0;
                }
            }
            Integers::Int4 => {
                for (pair, byte) in values.as_chunks_mut().0.iter_mut().zip(self.packed) {
                    *pair = [byte & 15, byte >> 4].map(|x| f32::from(x) - 8.0);
                }
            }
        }
        for (values, scale) in values.chunks_exact_mut(self.group).zip(self.scales()) {
            for value in values {
                *value *= scale;
            }
        }
    }

    /// Writes the rows in blocks of [`block_type`](Self::block_type).
    pub(crate) fn write_blocks(&self, blocks: &mut [u8]) {
        let packed = self.packed.chunks_exact(BLOCK * self.integers.bits() / 8).zip(self.scales());
        for (block, (packed, scale)) in blocks.chunks_exact_mut(self.integers.block_type().bytes()).zip(packed) {
            let (stored, integers) = block.split_at_mut(2);
            stored.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            match self.integers {
                Integers::Int8 => {
                    for (stored, byte) in integers.iter_mut().zip(packed) {
                        *stored = byte ^ 128;
                    }
                }
                Integers::Int4 => {
                    // A packed byte has weights 2 i and 2 i + 1, a byte of a block weights i and i + 16.
                    let (low, high) = packed.split_at(BLOCK / 4);
                    for (pair, (low, high)) in integers.as_chunks_mut().0.iter_mut().zip(low.iter().zip(high)) {
                        *pair = [low & 15 | high << 4, low >> 4 | high & 0xf0];
                    }
                }
            }
        }
    }

    fn scales(&self) -> impl Iterator<Item = f32> {
        let bytes = self.scale_dtype.bytes() as usize;
        self.scales.chunks_exact(bytes).map(|scale| {
            let mut value = [0.0];
            self.scale_dtype.decode_to(scale, &mut value);
            value[0]
        })
    }
}

/// Returns the name of a tensor of the weight `name`, `X.weight`.
pub(crate) fn tensor_name(name: &str, end: &str) -> Option<String> {
    Some(format!("{}{end}", name.strip_suffix("weight")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(integers: Integers, shape: [usize; 2], packed: &'a [u8], scales: &'a [u8]) -> Rows<'a> {
        let [rows, columns] = shape;
        let packed_shape = [rows, columns * integers.bits() / 32];
        let scale_shape = [rows, columns / BLOCK];
        let packed = Part { dtype: ::safetensors::Dtype::I32, shape: &packed_shape, data: packed };
        Rows::new(shape, &packed, &Part { dtype: ::safetensors::Dtype::F16, shape: &scale_shape, data: scales })
            .unwrap()
    }

    #[test]
    fn blocks_are_packed_and_back_without_loss() {
        for integers in [Integers::Int8, Integers::Int4] {
            let block_type = integers.block_type();
            let (rows, columns) = (3, 2 * BLOCK);
            let mut blocks: Vec<u8> =
                (0..rows * columns / BLOCK * block_type.bytes()).map(|i| (i * 37 + 11) as u8).collect();
            for (i, block) in blocks.chunks_exact_mut(block_type.bytes()).enumerate() {
                block[..2].copy_from_slice(&f16::from_f32(0.01 * (i as f32 + 1.0)).to_le_bytes());
            }
            let (packed, scales) = pack(integers, &blocks);
            let all = parts(integers, [rows, columns], &packed, &scales);
            assert_eq!(all.block_type(), Some(block_type));
            let mut found = vec![0; blocks.len()];
            all.write_blocks(&mut found);
            assert_eq!(found, blocks, "{integers:?}");
            let (mut values, mut row) = (vec![0.0; rows * columns], vec![0.0; columns]);
            all.write_values(&mut values);
            assert_eq!(values, block_type.dequantize(&blocks));
            all.part(1, 1).write_values(&mut row);
            assert_eq!(row, values[columns..2 * columns]);
        }
    }

    /// `compressed_tensors.compressors.pack_quantized.helpers.pack_to_int32(torch.tensor([[-8, -7, 0, 1, 2, 3, 4, 7]],
    /// dtype=torch.int8), 4)` and `([[-128, -1, 0, 127]], 8)`.
    #[test]
    fn integers_are_packed_as_in_the_library() {
        let mut values = vec![-8_i32, -7, 0, 1, 2, 3, 4, 7];
        values.resize(BLOCK, 0);
        let nibble = |i: usize| (values[i] + 8) as u8;
        let mut block = f16::ONE.to_le_bytes().to_vec();
        block.extend((0..BLOCK / 2).map(|i| nibble(i) | nibble(i + BLOCK / 2) << 4));
        assert_eq!(pack(Integers::Int4, &block).0[..4], (-54_880_240_i32).to_le_bytes());

        let mut block = f16::ONE.to_le_bytes().to_vec();
        block.extend([128, 255, 0, 127]);
        block.resize(2 + BLOCK, 0);
        assert_eq!(pack(Integers::Int8, &block).0[..4], (-8_356_096_i32).to_le_bytes());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |change: &dyn Fn(&mut Value), expected: &str| {
            let mut config = config(Integers::Int4, &["lm_head".to_owned()]);
            assert_eq!(check_config(&config), Ok(()));
            change(&mut config);
            assert_eq!(check_config(&config).unwrap_err(), expected);
        };
        check(
            &|config| config["quant_method"] = json!("gptq"),
            "weights quantised by `gptq` are not supported; use the original model",
        );
        check(
            &|config| config["format"] = json!("marlin-24"),
            "format \"marlin-24\" is not supported, only \"pack-quantized\"",
        );
        check(
            &|config| config["config_groups"]["group_0"]["weights"]["symmetric"] = json!(false),
            "group_0.weights.symmetric false is not supported, only true",
        );
        check(
            &|config| config["config_groups"]["group_0"]["input_activations"] = json!({"num_bits": 8}),
            "group_0.input_activations {\"num_bits\":8} is not supported, only null",
        );

        let wrong = |packed: [usize; 2], scales: [usize; 2], expected: &str| {
            let packed = Part { dtype: ::safetensors::Dtype::I32, shape: &packed, data: &[] };
            let scales = Part { dtype: ::safetensors::Dtype::F16, shape: &scales, data: &[] };
            assert_eq!(Rows::new([4, 64], &packed, &scales).err().unwrap(), expected);
        };
        wrong([4, 9], [4, 2], "has packed shape [4, 9]; integers of 8 or 4 bits need [4, 16] or [4, 8]");
        wrong([4, 8], [4, 3], "has scales of shape [4, 3], which do not divide [4, 64] into groups");
        wrong([4, 8], [3, 2], "has scales of shape [3, 2], which do not divide [4, 64] into groups");
    }
}

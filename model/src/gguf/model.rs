//! Writing and reading a model.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use kernels::blocks::BlockType;

use super::config::{self, context_length};
use super::layout::{self, FileTensor, OUTPUT, POSITIONS};
use super::rope_factors::{self, ROPE_FACTORS};
use super::write::{TensorSpec, write};
use super::{File, Metadata, TensorType};
use crate::checkpoint;
use crate::{Dtype, Error, Family, ModelConfig, RopeScaling, Transformer};

/// The version of ggml's blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// The number type of the matrices of a file; vectors are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the names of the formats")]
pub enum Quantization {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// 8 bits and a scale for each 32 weights: 8.5 bits a weight.
    Q8_0,
    /// 4 bits and a scale for each 32 weights: 4.5 bits a weight. The output projection has 8.5, as the matrix that
    /// loses most.
    Q4_0,
    /// 4 bits, with scales and offsets in groups of 256 weights: 4.5 bits a weight; the output projection, and values
    /// and down projections of half the layers, have 6.6.
    Q4_K_M,
    /// 6 bits, with scales in groups of 256 weights: 6.6 bits a weight.
    Q6_K,
}

impl Quantization {
    /// Every type.
    pub const ALL: [Self; 7] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4_K_M, Self::Q6_K];

    /// Returns the name in commands and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_K_M => "q4_k_m",
            Self::Q6_K => "q6_k",
        }
    }

    /// Returns llama.cpp's number of a file of this type.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4_K_M => 15,
            Self::Q6_K => 18,
            Self::Bf16 => 32,
        }
    }

    /// Returns the type of a matrix whose rows may have any length.
    fn preferred(self, name: &str, is_output: bool, n_layer: usize) -> TensorType {
        TensorType::Blocks(match self {
            Self::F32 => return TensorType::Float(Dtype::F32),
            Self::F16 => return TensorType::Float(Dtype::F16),
            Self::Bf16 => return TensorType::Float(Dtype::Bf16),
            Self::Q8_0 => BlockType::Q8_0,
            Self::Q4_0 => {
                if is_output {
                    BlockType::Q8_0
                } else {
                    BlockType::Q4_0
                }
            }
            Self::Q4_K_M => {
                if is_output || has_more_bits(name, n_layer) {
                    BlockType::Q6_K
                } else {
                    BlockType::Q4_K
                }
            }
            Self::Q6_K => BlockType::Q6_K,
        })
    }

    /// Returns the type of a tensor, and whether it is another than its size allows.
    fn tensor_type(self, tensor: &FileTensor, is_output: bool, n_layer: usize) -> (TensorType, bool) {
        // As llama.cpp has them: norms, biases and learned positions.
        if tensor.shape.len() < 2 || tensor.name == POSITIONS {
            return (TensorType::Float(Dtype::F32), false);
        }
        let row = tensor.shape[tensor.shape.len() - 1];
        let preferred = self.preferred(&tensor.name, is_output, n_layer);
        let types = [preferred, TensorType::Blocks(BlockType::Q8_0), TensorType::Float(Dtype::F16)];
        let fits = |tensor_type: &TensorType| row.is_multiple_of(tensor_type.block_len());
        let found = types.into_iter().find(fits).unwrap_or(preferred);
        (found, found != preferred)
    }
}

/// Returns true for the matrices to which llama.cpp gives more bits in `Q4_K_M`: of the values and down projections,
/// those of the first and last eighth of the layers and of every third between; and fused ones, of which values are a
/// part.
fn has_more_bits(name: &str, n_layer: usize) -> bool {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((layer, module)) = layer.and_then(|(layer, module)| Some((layer.parse::<usize>().ok()?, module))) else {
        return false;
    };
    let eighth = n_layer / 8;
    let is_chosen = layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2;
    module == "attn_qkv.weight" || (is_chosen && ["attn_v.weight", "ffn_down.weight"].contains(&module))
}

impl From<Dtype> for Quantization {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|quantization| quantization.name() == text);
        named.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Writes a model to the file `path`, which is whole or absent, with further metadata. Returns what differs from the
/// model, in words.
///
/// # Errors
/// Names what llama.cpp does not compute or the type cannot store, and on I/O errors.
pub fn save(
    model: &Transformer,
    path: &Path,
    quantization: Quantization,
    further: &Metadata,
) -> Result<Vec<String>, Error> {
    let config = model.config();
    let mut metadata = Metadata::new(path);
    config::write(config, &mut metadata)?;
    metadata.set("general.type", "model");
    metadata.set("general.file_type", quantization.file_type());
    metadata.set("general.quantization_version", QUANTIZATION_VERSION);
    for (key, value) in further.entries() {
        metadata.set(key.clone(), value.clone());
    }
    let mut notes: Vec<String> = context_length(config).1.into_iter().collect();

    let parameters = checkpoint::parameters(model);
    let shapes = parameters.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect();
    let mut tensors = layout::tensors(config, &shapes);
    // The only family whose output projection llama.cpp requires.
    if config.family == Family::Olmo2 && config.tied_embeddings {
        tensors.extend(tensors.first().map(|embedding| FileTensor { name: OUTPUT.to_owned(), ..embedding.clone() }));
    }
    let mut unfit = 0;
    let specs = tensors.iter().map(|tensor| {
        let is_output =
            tensor.parts[0].0 == "lm_head" || (config.tied_embeddings && tensor.parts[0].0 == "embed_tokens");
        let (tensor_type, is_other) = quantization.tensor_type(tensor, is_output, config.n_layer);
        unfit += usize::from(is_other);
        TensorSpec { name: tensor.name.clone(), shape: tensor.shape.clone(), tensor_type }
    });
    let mut specs: Vec<_> = specs.collect();
    if unfit > 0 {
        notes.push(format!(
            "{unfit} matrices have more bits, in Q8_0 or F16: their rows are not whole blocks of their type"
        ));
    }
    let factors = match config.rope_scaling {
        Some(RopeScaling::Llama3 { .. }) => Some(rope_factors::factors(config)),
        _ => None,
    };
    if let Some(factors) = &factors {
        let tensor_type = TensorType::Float(Dtype::F32);
        specs.push(TensorSpec { name: ROPE_FACTORS.to_owned(), shape: vec![factors.len()], tensor_type });
    }
    write(path, &metadata, &specs, |i| match tensors.get(i) {
        Some(tensor) => {
            let columns = tensor.shape[1..].iter().product();
            let mut values = Vec::with_capacity(tensor.shape.iter().product());
            for (parameter, _) in &tensor.parts {
                values.extend(tensor.change.apply(&checkpoint::values(&parameters[parameter].1)?, columns));
            }
            Ok(Cow::Owned(values))
        }
        None => Ok(Cow::Borrowed(factors.as_deref().unwrap_or_default())),
    })?;
    Ok(notes)
}

impl File {
    /// Returns the configuration of the model.
    ///
    /// # Errors
    /// Names the key that is missing, wrong or not supported.
    pub fn config(&self) -> Result<ModelConfig, Error> {
        config::read(self)
    }
}

/// Returns the smallest type that stores the numbers of every tensor without a change: f16 or bf16 if all are of that
/// type or f32 numbers that it has too, else f32.
pub fn stored_dtype(file: &File) -> Dtype {
    let is_kept = |dtype: Dtype| {
        file.tensors().iter().all(|(name, info)| match info.tensor_type {
            TensorType::Float(stored) if stored == dtype => true,
            TensorType::Float(Dtype::F32) => {
                let values = file.tensor(name).map(|(info, bytes)| info.tensor_type.decode(bytes)).unwrap_or_default();
                let mut rounded = Vec::new();
                dtype.encode(&values, &mut rounded);
                dtype.decode(&rounded).iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            _ => false,
        })
    };
    let has = |dtype| file.tensors().values().any(|info| info.tensor_type == TensorType::Float(dtype));
    let candidates = [Dtype::F16, Dtype::Bf16].into_iter();
    candidates.into_iter().find(|dtype| has(*dtype) && is_kept(*dtype)).unwrap_or(Dtype::F32)
}

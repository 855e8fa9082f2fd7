//! The weights of a model, packed for the processor.
//!
//! Dimensions: V vocabulary, D model width, H query heads, K key/value heads, C width of a head, F width of the
//! feed-forward layer, I inputs and O outputs of a projection.

use std::ops::Range;

use kernels::blocks::BlockType;
use kernels::packed::{PackedMatrix, WeightType};
use model::checkpoint::{StoredModel, StoredParameter};
use model::config::NormKind;
use model::gguf::TensorType;
use model::{Dtype, ModelConfig, Transformer, checkpoint};

use crate::Error;

/// All weights.
pub(super) struct Weights {
    pub embedding: PackedMatrix,     // [V, D]
    pub positions: Option<Vec<f32>>, // [context_length, D]
    pub layers: Vec<LayerWeights>,
    pub norm: Norm,                   // [D]
    pub output: Option<PackedMatrix>, // [V, D]; None if tied
}

/// The weights of a layer; projections of the same input are one matrix.
pub(super) struct LayerWeights {
    pub input_norm: Option<Norm>,            // [D]
    pub qkv: Projection,                     // [(H + 2 K) C, D]
    pub q_norm: Option<Norm>,                // [C] or [H C]
    pub k_norm: Option<Norm>,                // [C] or [K C]
    pub attention_output: Projection,        // [D, H C]
    pub attention_output_norm: Option<Norm>, // [D]
    pub mlp_norm: Option<Norm>,              // [D]
    pub gate_up: Projection,                 // [2 F, D], or [F, D] if not gated
    pub down: Projection,                    // [D, F]
    pub mlp_output_norm: Option<Norm>,       // [D]
}

/// A matrix and its bias.
pub(super) struct Projection {
    pub weight: PackedMatrix,   // [O, I]
    pub bias: Option<Vec<f32>>, // [O]
}

/// LayerNorm if there is a bias, else RMSNorm.
pub(super) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

impl Weights {
    /// Packs the weights of a mapped model in the given type, or in the type that each matrix is stored in. One piece
    /// of a matrix after the other is packed and its memory released, so that the model is in memory once.
    pub fn of_stored(stored: &StoredModel, weight_type: Option<WeightType>) -> Result<Self, Error> {
        let weights = stored.weights()?;
        Packer { config: stored.config(), weight_type, find: &|name| weights.get(name).cloned() }.pack()
    }

    /// Packs the weights of a model in memory, its adapters merged.
    pub fn of_model(model: &Transformer, weight_type: Option<WeightType>) -> Result<Self, Error> {
        let merged = model::lora::is_attached(model).then(|| model::lora::merged(model.clone()));
        let weights = checkpoint::weights(merged.as_ref().unwrap_or(model))?;
        let find = |name: &str| {
            let weight = weights.get(name)?;
            Some(StoredParameter::of_values(&weight.values, weight.shape[1..].iter().product()))
        };
        Packer { config: model.config(), weight_type, find: &find }.pack()
    }

    /// Returns the bytes of the matrices.
    pub fn bytes(&self) -> usize {
        let layer = |layer: &LayerWeights| {
            let projections = [&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down];
            projections.iter().map(|projection| projection.weight.bytes()).sum::<usize>()
        };
        let output = self.output.as_ref().map_or(0, PackedMatrix::bytes);
        self.embedding.bytes() + output + self.layers.iter().map(layer).sum::<usize>()
    }
}

/// Finds parameters by name and packs them.
struct Packer<'a> {
    config: &'a ModelConfig,
    weight_type: Option<WeightType>,
    find: &'a dyn Fn(&str) -> Option<StoredParameter<'a>>,
}

impl<'a> Packer<'a> {
    fn pack(&self) -> Result<Weights, Error> {
        let config = self.config;
        let architecture = config.family.architecture();
        let (d, vocab_size) = (config.d_model, config.vocab_size);
        let embedding = self.matrix(&["embed_tokens"], [vocab_size, d])?;
        let positions = architecture.learned_positions.then(|| self.parameter("embed_positions").values());
        let layers = (0..config.n_layer).map(|i| self.layer(&format!("layers.{i}"))).collect::<Result<_, _>>()?;
        let norm = self.norm("norm").unwrap_or_else(|| missing("norm.weight"));
        let output = if config.tied_embeddings { None } else { Some(self.matrix(&["lm_head"], [vocab_size, d])?) };
        Ok(Weights { embedding, positions, layers, norm, output })
    }

    fn layer(&self, path: &str) -> Result<LayerWeights, Error> {
        let ModelConfig { d_model: d, d_ff: f, n_head, n_kv_head, head_dim, .. } = *self.config;
        let (q, kv) = (n_head * head_dim, n_kv_head * head_dim);
        let mlp: &[&str] = if self.config.activation.is_gated() { &["gate_proj", "up_proj"] } else { &["up_proj"] };
        let attention = format!("{path}.self_attn");
        Ok(LayerWeights {
            input_norm: self.norm(&format!("{path}.input_layernorm")),
            qkv: self.projection(&attention, &["q_proj", "k_proj", "v_proj"], [q + 2 * kv, d])?,
            q_norm: self.norm(&format!("{attention}.q_norm")),
            k_norm: self.norm(&format!("{attention}.k_norm")),
            attention_output: self.projection(&attention, &["o_proj"], [d, q])?,
            attention_output_norm: self.norm(&format!("{path}.attention_output_norm")),
            mlp_norm: self.norm(&format!("{path}.post_attention_layernorm")),
            gate_up: self.projection(&format!("{path}.mlp"), mlp, [mlp.len() * f, d])?,
            down: self.projection(&format!("{path}.mlp"), &["down_proj"], [d, f])?,
            mlp_output_norm: self.norm(&format!("{path}.mlp_output_norm")),
        })
    }

    /// Reads projections of the same input as one.
    fn projection(&self, path: &str, names: &[&str], shape: [usize; 2]) -> Result<Projection, Error> {
        let weights: Vec<String> = names.iter().map(|name| format!("{path}.{name}.weight")).collect();
        let weight = self.matrix(&weights.iter().map(String::as_str).collect::<Vec<_>>(), shape)?;
        let mut bias = Vec::new();
        for name in names {
            if let Some(part) = (self.find)(&format!("{path}.{name}.bias")) {
                bias.extend(part.values());
            }
        }
        assert!(bias.is_empty() || bias.len() == shape[0], "projections of one input all have a bias, or none has");
        Ok(Projection { weight, bias: (!bias.is_empty()).then_some(bias) })
    }

    /// Reads matrices of the same width, one below the other.
    fn matrix(&self, names: &[&str], shape: [usize; 2]) -> Result<PackedMatrix, Error> {
        let mut parts = Vec::new();
        let mut first_row = 0;
        for name in names {
            let parameter = self.parameter(name);
            let (rows, weight_type) = (parameter.shape()[0], weight_type(parameter.tensor_type()));
            parts.push(Part { rows: first_row..first_row + rows, weight_type, parameter });
            first_row += rows;
        }
        assert_eq!(first_row, shape[0], "{names:?}: shapes are checked when a model is read");
        let weight_type = self.weight_type.unwrap_or_else(|| common_type(&parts));
        if kernels::packed::row_bytes(weight_type, shape[1]).is_none() {
            return Err(Error::WeightType { name: names[0].to_owned(), weight_type, columns: shape[1] });
        }
        let read = |row: usize, stored: &mut [u8]| {
            let part = &parts[parts.partition_point(|part| part.rows.end <= row)];
            part.read(row - part.rows.start, weight_type, stored);
        };
        let release = |rows: Range<usize>| parts.iter().for_each(|part| part.release(&rows));
        Ok(PackedMatrix::from_rows(shape, weight_type, read, release))
    }

    fn norm(&self, path: &str) -> Option<Norm> {
        let mut weight = (self.find)(&format!("{path}.weight"))?.values();
        if self.config.family.architecture().norm == NormKind::RmsFromOne {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        let bias = (self.find)(&format!("{path}.bias")).map(|bias| bias.values());
        Some(Norm { weight, bias })
    }

    fn parameter(&self, name: &str) -> StoredParameter<'a> {
        (self.find)(name).unwrap_or_else(|| missing(name))
    }
}

/// A parameter that is a part of a matrix.
struct Part<'a> {
    /// Its rows in the matrix.
    rows: Range<usize>,
    /// The type that it is packed in unless another is needed.
    weight_type: WeightType,
    parameter: StoredParameter<'a>,
}

impl Part<'_> {
    /// Writes a row in the layout of `packed_as`.
    fn read(&self, row: usize, packed_as: WeightType, stored: &mut [u8]) {
        if is_stored_as(self.parameter.tensor_type(), packed_as) {
            return self.parameter.read_stored_row(row, stored);
        }
        let mut values = vec![0.0; self.parameter.shape()[1]];
        self.parameter.read_row(row, &mut values);
        kernels::packed::encode_row(&values, packed_as, stored);
    }

    /// Releases the memory of those of the matrix's rows that are its own.
    fn release(&self, rows: &Range<usize>) {
        let (start, end) = (rows.start.max(self.rows.start), rows.end.min(self.rows.end));
        if start < end {
            self.parameter.release(start - self.rows.start..end - self.rows.start);
        }
    }
}

/// Returns the type that values of a type in a file are packed in: their own, or int8 for blocks that have none.
fn weight_type(tensor_type: TensorType) -> WeightType {
    match tensor_type {
        TensorType::Float(Dtype::F32) => WeightType::F32,
        TensorType::Float(Dtype::F16) => WeightType::F16,
        TensorType::Float(Dtype::Bf16) => WeightType::Bf16,
        TensorType::Blocks(BlockType::Q4_0) => WeightType::Int4,
        TensorType::Blocks(_) => WeightType::Int8,
    }
}

/// Returns true if rows of a type in a file are those of a packed type, byte by byte.
fn is_stored_as(tensor_type: TensorType, packed_as: WeightType) -> bool {
    let has_own = matches!(tensor_type, TensorType::Float(_) | TensorType::Blocks(BlockType::Q4_0 | BlockType::Q8_0));
    has_own && weight_type(tensor_type) == packed_as
}

/// Returns the type that a matrix of several parts is packed in: theirs if it is the same; int8 for blocks of several
/// types, f32 for everything else.
fn common_type(parts: &[Part]) -> WeightType {
    let has_only = |types: &[WeightType]| parts.iter().all(|part| types.contains(&part.weight_type));
    let first = parts[0].weight_type;
    if has_only(&[first]) {
        first
    } else if has_only(&[WeightType::Int4, WeightType::Int8]) {
        WeightType::Int8
    } else {
        WeightType::F32
    }
}

fn missing<T>(name: &str) -> T {
    panic!("no parameter {name}: a model is complete once it is read")
}

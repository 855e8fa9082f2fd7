//! The weights of a model, packed for the processor.
//!
//! Dimensions: V vocabulary, D model width, H query heads, K key/value heads, C width of a head, F width of the
//! feed-forward layer, I inputs and O outputs of a projection.

use std::path::Path;

use kernels::blocks::BlockType;
use kernels::packed::{PackedMatrix, WeightType};
use model::checkpoint::StoredValues;
use model::config::NormKind;
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
    /// Packs the weights in a folder, as `weight_type` or as they are stored.
    pub fn load(folder: &Path, config: &ModelConfig, weight_type: Option<WeightType>) -> Result<Self, Error> {
        let packed = checkpoint::with_stored_weights(folder, config, |stored| {
            Packer { config, weight_type, read: &mut |name| stored.read(name) }.pack()
        });
        packed?
    }

    /// Packs the weights of a model in memory, its adapters merged.
    pub fn of_model(model: &Transformer, weight_type: Option<WeightType>) -> Result<Self, Error> {
        let merged = model::lora::is_attached(model).then(|| model::lora::merged(model.clone()));
        let mut weights = checkpoint::weights(merged.as_ref().unwrap_or(model))?;
        let mut read = |name: &str| weights.remove(name).map(|weight| StoredValues::Floats(Dtype::F32, weight.values));
        Packer { config: model.config(), weight_type, read: &mut read }.pack()
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

/// Reads parameters by name and packs them.
struct Packer<'a> {
    config: &'a ModelConfig,
    weight_type: Option<WeightType>,
    read: &'a mut Read<'a>,
}

/// Returns the values of the parameter of a name.
type Read<'a> = dyn FnMut(&str) -> Option<StoredValues> + 'a;

impl Packer<'_> {
    fn pack(mut self) -> Result<Weights, Error> {
        let config = self.config;
        let architecture = config.family.architecture();
        let (d, vocab_size) = (config.d_model, config.vocab_size);
        let embedding = self.matrix(&["embed_tokens"], [vocab_size, d])?;
        let positions = architecture.learned_positions.then(|| self.values("embed_positions").into_floats());
        let layers = (0..config.n_layer).map(|i| self.layer(&format!("layers.{i}"))).collect::<Result<_, _>>()?;
        let norm = self.norm("norm").unwrap_or_else(|| missing("norm.weight"));
        let output = if config.tied_embeddings { None } else { Some(self.matrix(&["lm_head"], [vocab_size, d])?) };
        Ok(Weights { embedding, positions, layers, norm, output })
    }

    fn layer(&mut self, path: &str) -> Result<LayerWeights, Error> {
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
    fn projection(&mut self, path: &str, names: &[&str], shape: [usize; 2]) -> Result<Projection, Error> {
        let weights: Vec<String> = names.iter().map(|name| format!("{path}.{name}.weight")).collect();
        let weight = self.matrix(&weights.iter().map(String::as_str).collect::<Vec<_>>(), shape)?;
        let mut bias = Vec::new();
        for name in names {
            if let Some(values) = (self.read)(&format!("{path}.{name}.bias")) {
                bias.extend(values.into_floats());
            }
        }
        assert!(bias.is_empty() || bias.len() == shape[0], "projections of one input all have a bias, or none has");
        Ok(Projection { weight, bias: (!bias.is_empty()).then_some(bias) })
    }

    /// Reads matrices of the same width, one below the other.
    fn matrix(&mut self, names: &[&str], shape: [usize; 2]) -> Result<PackedMatrix, Error> {
        let parts: Vec<StoredValues> = names.iter().map(|name| self.values(name)).collect();
        let types: Vec<WeightType> = parts.iter().map(weight_type).collect();
        // Parts of different types are packed in the one that holds all of them.
        let stored_as = if types.iter().all(|part| *part == types[0]) { types[0] } else { WeightType::F32 };
        let weight_type = self.weight_type.unwrap_or(stored_as);
        if kernels::packed::row_bytes(weight_type, shape[1]).is_none() {
            return Err(Error::WeightType { name: names[0].to_owned(), weight_type, columns: shape[1] });
        }
        let mut blocks = Vec::new();
        let mut values = Vec::new();
        for part in parts {
            match part {
                StoredValues::Blocks(_, part) if weight_type == stored_as => blocks.extend(part),
                part if values.is_empty() => values = part.into_floats(),
                part => values.extend(part.into_floats()),
            }
        }
        if !blocks.is_empty() {
            return Ok(PackedMatrix::from_stored(&blocks, shape, weight_type));
        }
        assert_eq!(values.len(), shape[0] * shape[1], "{names:?}: shapes are checked when a model is read");
        Ok(PackedMatrix::quantize(&values, shape, weight_type))
    }

    fn norm(&mut self, path: &str) -> Option<Norm> {
        let mut weight = (self.read)(&format!("{path}.weight"))?.into_floats();
        if self.config.family.architecture().norm == NormKind::RmsFromOne {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        let bias = (self.read)(&format!("{path}.bias")).map(StoredValues::into_floats);
        Some(Norm { weight, bias })
    }

    fn values(&mut self, name: &str) -> StoredValues {
        (self.read)(name).unwrap_or_else(|| missing(name))
    }
}

/// Returns the type that holds values as they are stored.
fn weight_type(values: &StoredValues) -> WeightType {
    match values {
        StoredValues::Floats(Dtype::F16, _) => WeightType::F16,
        StoredValues::Floats(Dtype::Bf16, _) => WeightType::Bf16,
        StoredValues::Blocks(BlockType::Q8_0, _) => WeightType::Int8,
        StoredValues::Blocks(BlockType::Q4_0, _) => WeightType::Int4,
        StoredValues::Floats(Dtype::F32, _) | StoredValues::Blocks(..) => WeightType::F32,
    }
}

fn missing<T>(name: &str) -> T {
    panic!("no parameter {name}: a model is complete once it is read")
}

//! `AdamW` and Muon over the model's parameters, with a state that opens as safetensors.
//!
//! The arithmetic is burn-optim's. Matrices decay; norms and biases do not. What is frozen has no gradient, so that it
//! neither moves nor decays nor has a state.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use artifact::file::write_atomically;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, AdjustLrFn, GradientsParams, Muon, MuonConfig, MuonState, Optimizer as _,
    RecordState, StateSink, StateSource, decay::WeightDecayConfig,
};
use burn::tensor::{DType, Device, Tensor, TensorData};
use model::Transformer;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{Config, Error, OptimizerKind};

/// The name of the state's file.
pub const FILE: &str = "optimizer.safetensors";

/// The key of the metadata that holds the numbers of the state that are no tensors, as JSON.
const SCALARS: &str = "scalars";

/// The optimizer and its state.
pub struct Optimizer {
    decaying: AdamW,
    plain: AdamW,
    muon: Option<Muon>,
    /// `AdamWState<D>` or `MuonState<D>`, D being the parameter's rank.
    states: HashMap<ParamId, Box<dyn Any + Send + Sync>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Decaying,
    Plain,
    Muon,
}

impl Optimizer {
    /// Returns an optimizer that has seen nothing yet.
    pub fn new(config: &Config) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta_1)
            .with_beta_2(config.beta_2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(0.0);
        let decay = config.weight_decay as f32;
        let muon = MuonConfig::new()
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
            .with_weight_decay(Some(WeightDecayConfig { penalty: decay }));
        Self {
            decaying: adamw.clone().with_weight_decay(decay).build(),
            plain: adamw.build(),
            muon: (config.optimizer == OptimizerKind::Muon).then(|| muon.build()),
            states: HashMap::new(),
        }
    }

    /// Takes one step and returns the changed model.
    pub fn step(&mut self, learning_rate: f64, model: Transformer, gradients: GradientsParams) -> Transformer {
        model.map(&mut Step { path: Vec::new(), learning_rate, gradients, optimizer: self })
    }

    /// Writes the state, each tensor named after its parameter.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, model: &Transformer, path: &Path) -> Result<(), Error> {
        let mut flat = Flatten { path: Vec::new(), sink: StateSink::default(), optimizer: self };
        model.visit(&mut flat);
        // One entry, since the format's library writes several in the order of a hash map, which differs between runs.
        let scalars: BTreeMap<String, u64> = flat
            .sink
            .scalars
            .into_iter()
            .filter_map(|(name, value)| Some((name, u64::try_from(value).ok()?)))
            .collect();
        let metadata = [(SCALARS.to_owned(), serde_json::json!(scalars).to_string())].into();
        let mut tensors = Vec::new();
        for (name, data) in flat.sink.tensors {
            let shape = data.shape().to_vec();
            let values: Vec<f32> = data.convert_dtype(DType::F32).try_into_vec().map_err(Error::compute)?;
            tensors.push((name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        }
        let unwritable = |source| Error::OptimizerState { path: path.to_owned(), source: Box::new(source) };
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(unwritable)?;
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(unwritable)?;
        Ok(write_atomically(path, &bytes)?)
    }

    /// Reads a state written by [`Optimizer::save`] for the same model and configuration.
    ///
    /// # Errors
    /// When the file is damaged, or lacks the state of a parameter.
    pub fn load(config: &Config, model: &Transformer, path: &Path) -> Result<Self, Error> {
        let wrong =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::OptimizerState { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(|e| wrong(Box::new(e)))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(Box::new(e)))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(Box::new(e)))?;
        let scalars =
            metadata.metadata().as_ref().and_then(|entries| entries.get(SCALARS)).map_or("{}", String::as_str);
        let scalars: BTreeMap<String, u64> = serde_json::from_str(scalars).map_err(|e| wrong(Box::new(e)))?;
        let mut source = StateSource::new(scalars.into_iter().map(|(name, value)| (name, value.into())).collect());
        for (name, tensor) in file.iter() {
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            source.insert_tensor(name.to_owned(), TensorData::new(values, tensor.shape().to_vec()));
        }
        let mut optimizer = Self::new(config);
        let mut restore = Restore {
            path: Vec::new(),
            source,
            device: model.device().inner(),
            optimizer: &mut optimizer,
            missing: None,
        };
        model.visit(&mut restore);
        match restore.missing {
            None => Ok(optimizer),
            Some(name) => Err(wrong(format!("it has no state for {name}").into())),
        }
    }

    fn rule(&self, path: &str, rank: usize) -> Rule {
        match rank {
            // LoRA's matrices take `AdamW`, as in its paper.
            2 if self.muon.is_some() && path.starts_with("layers.") && !path.contains(".lora.") => Rule::Muon,
            2 => Rule::Decaying,
            _ => Rule::Plain,
        }
    }
}

struct Step<'a> {
    path: Vec<String>,
    learning_rate: f64,
    gradients: GradientsParams,
    optimizer: &'a mut Optimizer,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        let state = self.optimizer.states.remove(&id);
        let rule = self.optimizer.rule(&self.path.join("."), D);
        let rate = self.learning_rate;
        let tensor = tensor.inner();
        let (tensor, state) = match (rule, &self.optimizer.muon) {
            (Rule::Muon, Some(muon)) => {
                let (tensor, state) = muon.step(rate, tensor, gradient, unbox::<MuonState<D>>(state));
                (tensor, reboxed(state))
            }
            (Rule::Plain, _) => {
                let (tensor, state) = self.optimizer.plain.step(rate, tensor, gradient, unbox::<AdamWState<D>>(state));
                (tensor, reboxed(state))
            }
            _ => {
                let (tensor, state) =
                    self.optimizer.decaying.step(rate, tensor, gradient, unbox::<AdamWState<D>>(state));
                (tensor, reboxed(state))
            }
        };
        if let Some(state) = state {
            self.optimizer.states.insert(id, state);
        }
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}

fn unbox<S: 'static>(state: Option<Box<dyn Any + Send + Sync>>) -> Option<S> {
    state?.downcast().ok().map(|state| *state)
}

fn reboxed<S: Any + Send + Sync>(state: Option<S>) -> Option<Box<dyn Any + Send + Sync>> {
    state.map(|state| Box::new(state) as _)
}

struct Flatten<'a> {
    path: Vec<String>,
    sink: StateSink,
    optimizer: &'a Optimizer,
}

impl ModuleVisitor for Flatten<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(state) = self.optimizer.states.get(&param.id) else { return };
        let name = self.path.join(".");
        if let Some(state) = state.downcast_ref::<AdamWState<D>>() {
            state.state_flatten(&name, &mut self.sink);
        } else if let Some(state) = state.downcast_ref::<MuonState<D>>() {
            state.state_flatten(&name, &mut self.sink);
        }
    }
}

struct Restore<'a> {
    path: Vec<String>,
    source: StateSource,
    device: Device,
    optimizer: &'a mut Optimizer,
    missing: Option<String>,
}

impl ModuleVisitor for Restore<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let name = self.path.join(".");
        let state = if self.optimizer.rule(&name, D) == Rule::Muon {
            reboxed(MuonState::<D>::state_unflatten(&name, &mut self.source, &self.device))
        } else {
            reboxed(AdamWState::<D>::state_unflatten(&name, &mut self.source, &self.device))
        };
        match state {
            Some(state) => {
                self.optimizer.states.insert(param.id, state);
            }
            None => self.missing = Some(name),
        }
    }
}

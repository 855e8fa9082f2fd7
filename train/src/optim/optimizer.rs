//! `AdamW` and Muon over the named parameters of a module, with a state that is saved as safetensors.
//!
//! The arithmetic is that of `kernels`; on the CPU, parameters are updated in parallel. Matrices decay; norms and
//! biases do not. Frozen parameters have no gradient, so they are not updated, do not decay and have no state.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use kernels::{AdamW, Muon};
use model::safetensors::{F32Tensor, write_f32};
use model::{Backend, Dtype, named_parameters};
use rayon::prelude::*;
use safetensors::SafeTensors;

use crate::config::OptimizerKind;
use crate::{Config, Error};

/// The name of the state's file.
pub const FILE: &str = "optimizer.safetensors";

/// The key of the metadata that holds the state's scalars, as JSON.
const SCALARS: &str = "scalars";

/// The names of a parameter's state, after its own name.
const TIME: &str = "momentum.time";
const MOMENTS: [&str; 2] = ["momentum.moment_1", "momentum.moment_2"];
const VELOCITY: &str = "momentum.velocity";

/// The optimizer and its state.
pub struct Optimizer {
    config: Config,
    /// `State<D>` of each parameter, with D its rank.
    states: HashMap<ParamId, Erased>,
}

type Erased = Box<dyn Any + Send + Sync>;

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    AdamW,
    AdamWWithoutDecay,
    Muon,
}

/// The state of a parameter.
#[allow(clippy::large_enum_variant, reason = "a state is boxed")]
enum State<const D: usize> {
    AdamW { time: usize, moments: [Tensor<D>; 2] },
    Muon { velocity: Tensor<D> },
}

impl Optimizer {
    /// Returns an optimizer without state.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone(), states: HashMap::new() }
    }

    /// Returns the model after one step with the gradients multiplied by `gradient_scale`.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: f64,
        model: M,
        gradients: GradientsParams,
        gradient_scale: f64,
    ) -> M {
        let on_cpu = model.devices().iter().all(Backend::is_cpu_device);
        let mut take = Take { learning_rate, gradient_scale, gradients, optimizer: self, jobs: Vec::new() };
        let model = named_parameters::map(model, &mut take);
        let jobs = take.jobs;
        let done: Vec<_> = if on_cpu {
            jobs.into_par_iter().map(|(id, job)| (id, job())).collect()
        } else {
            jobs.into_iter().map(|(id, job)| (id, job())).collect()
        };
        let mut values = HashMap::new();
        for (id, (value, state)) in done {
            values.insert(id, value);
            self.states.insert(id, state);
        }
        model.map(&mut Put { values })
    }

    /// Writes the state, with each tensor named after its parameter.
    ///
    /// # Errors
    /// Returns an error if the device fails, and on I/O errors.
    pub fn save(&self, model: &impl Module, path: &Path) -> Result<(), Error> {
        let mut flat = Flatten { tensors: Vec::new(), scalars: BTreeMap::new(), optimizer: self };
        named_parameters::visit(model, &mut flat);
        let mut tensors = Vec::new();
        for (name, data) in flat.tensors {
            let shape = data.shape().to_vec();
            let values: Vec<f32> = data.convert_dtype(DType::F32).try_into_vec().map_err(Error::compute)?;
            tensors.push(F32Tensor { name, shape, values });
        }
        let scalars = serde_json::json!(flat.scalars).to_string();
        Ok(write_f32(path, tensors, (SCALARS, &scalars))?)
    }

    /// Reads a state written by [`Optimizer::save`] for the same model and configuration.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or lacks the state of a parameter.
    pub fn load(config: &Config, model: &impl Module, path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|e| unusable(path, e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| unusable(path, e))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| unusable(path, e))?;
        let scalars =
            metadata.metadata().as_ref().and_then(|entries| entries.get(SCALARS)).map_or("{}", String::as_str);
        let scalars: BTreeMap<String, u64> = serde_json::from_str(scalars).map_err(|e| unusable(path, e))?;
        let mut tensors = HashMap::new();
        for (name, tensor) in file.iter() {
            let values = Dtype::F32.decode(tensor.data());
            tensors.insert(name.to_owned(), TensorData::new(values, tensor.shape().to_vec()));
        }
        let mut optimizer = Self::new(config);
        let mut restore = Restore { scalars, tensors, optimizer: &mut optimizer, missing: None };
        named_parameters::visit(model, &mut restore);
        match restore.missing {
            None => Ok(optimizer),
            Some(name) => Err(unusable(path, format!("it has no state for {name}"))),
        }
    }

    fn rule(&self, name: &str, rank: usize) -> Rule {
        match rank {
            // LoRA's matrices take `AdamW`, as in its paper.
            2 if self.config.optimizer == OptimizerKind::Muon
                && name.starts_with("layers.")
                && !name.contains(".lora.") =>
            {
                Rule::Muon
            }
            2 => Rule::AdamW,
            _ => Rule::AdamWWithoutDecay,
        }
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::OptimizerState { path: path.to_owned(), source: source.into() }
}

/// Computes a parameter and its state after a step: `Tensor<D>` and `State<D>`.
type Job = Box<dyn FnOnce() -> (Erased, Erased) + Send>;

/// Takes the parameters out of the model, so that they can be updated in place.
struct Take<'a> {
    learning_rate: f64,
    gradient_scale: f64,
    gradients: GradientsParams,
    optimizer: &'a mut Optimizer,
    jobs: Vec<(ParamId, Job)>,
}

impl named_parameters::Mapper for Take<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        let x = tensor.inner();
        let placeholder = Tensor::from_inner(Tensor::empty([0; D], &x.device()));
        let state = self.optimizer.states.remove(&id).and_then(|state| state.downcast::<State<D>>().ok());
        let config = &self.optimizer.config;
        let rule = self.optimizer.rule(name, D);
        let (learning_rate, gradient_scale) = (self.learning_rate, self.gradient_scale);
        let excluded = config.no_decay.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let decays = rule != Rule::AdamWWithoutDecay && !excluded;
        let weight_decay = if decays { f64::from(config.weight_decay as f32) } else { 0.0 };
        let job: Job = if rule == Rule::Muon {
            let step = Muon { learning_rate, weight_decay, gradient_scale };
            let velocity = state.and_then(|state| match *state {
                State::Muon { velocity } => Some(velocity),
                State::AdamW { .. } => None,
            });
            Box::new(move || {
                let shape = x.dims();
                let matrix = |x: Tensor<D>| x.reshape([shape[0], shape[D - 1]]);
                let (x, velocity) = kernels::muon(matrix(x), matrix(gradient), velocity.map(matrix), &step);
                let state = State::Muon { velocity: velocity.reshape(shape) };
                (Box::new(x.reshape(shape)), Box::new(state))
            })
        } else {
            let (time, moments) = match state.map(|state| *state) {
                Some(State::AdamW { time, moments }) => (time + 1, Some(moments)),
                _ => (1, None),
            };
            let (beta_1, beta_2, epsilon) = (config.beta_1, config.beta_2, config.epsilon);
            let step = AdamW { learning_rate, weight_decay, beta_1, beta_2, epsilon, gradient_scale, time };
            Box::new(move || {
                let (x, moments) = kernels::adamw(x, gradient, moments, &step);
                (Box::new(x), Box::new(State::AdamW { time, moments }))
            })
        };
        self.jobs.push((id, job));
        Param::from_mapped_value(id, placeholder, mapper)
    }
}

/// Puts the updated parameters back.
struct Put {
    values: HashMap<ParamId, Erased>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.values.remove(&param.id).and_then(|value| value.downcast::<Tensor<D>>().ok()) else {
            return param;
        };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, Tensor::from_inner(*value).require_grad(), mapper)
    }
}

struct Flatten<'a> {
    tensors: Vec<(String, TensorData)>,
    scalars: BTreeMap<String, u64>,
    optimizer: &'a Optimizer,
}

impl named_parameters::Visitor for Flatten<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let state = self.optimizer.states.get(&param.id).and_then(|state| state.downcast_ref::<State<D>>());
        match state {
            Some(State::AdamW { time, moments }) => {
                self.scalars.insert(format!("{name}.{TIME}"), *time as u64);
                for (leaf, moment) in MOMENTS.into_iter().zip(moments) {
                    self.tensors.push((format!("{name}.{leaf}"), moment.to_data()));
                }
            }
            Some(State::Muon { velocity }) => self.tensors.push((format!("{name}.{VELOCITY}"), velocity.to_data())),
            None => {}
        }
    }
}

struct Restore<'a> {
    scalars: BTreeMap<String, u64>,
    tensors: HashMap<String, TensorData>,
    optimizer: &'a mut Optimizer,
    missing: Option<String>,
}

impl Restore<'_> {
    fn state<const D: usize>(&mut self, name: &str, shape: [usize; D], device: &Device) -> Option<State<D>> {
        let mut tensor = |leaf: &str| {
            let data = self.tensors.remove(&format!("{name}.{leaf}")).filter(|data| *data.shape().to_vec() == shape)?;
            Some(Tensor::from_data(data, device))
        };
        Some(if self.optimizer.rule(name, D) == Rule::Muon {
            State::Muon { velocity: tensor(VELOCITY)? }
        } else {
            let moments = [tensor(MOMENTS[0])?, tensor(MOMENTS[1])?];
            State::AdamW { time: *self.scalars.get(&format!("{name}.{TIME}"))? as usize, moments }
        })
    }
}

impl named_parameters::Visitor for Restore<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val();
        match self.state(name, value.dims(), &value.device().inner()) {
            Some(state) => {
                self.optimizer.states.insert(param.id, Box::new(state));
            }
            None => self.missing = Some(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ModuleVisitor;
    use burn::tensor::Int;
    use model::{Batch, LossOptions, Transformer};
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::optim::gradients;

    /// Returns the weights after two steps, and the gradient norms of both.
    fn steps(optimizer: OptimizerKind) -> (Vec<Vec<f32>>, Vec<f64>) {
        let config = Config { optimizer, ..Config::default() };
        let device = Device::flex().autodiff();
        let mut model = Transformer::init(&config.model_config(200, None).unwrap(), 1, &device);
        let mut optimizer = Optimizer::new(&config);
        let ids = |add: i64| {
            let ids: Vec<i64> = (0..192).map(|i| (i * i + add * i) % 200).collect();
            Tensor::<2, Int>::from_data(TensorData::new(ids, vec![2, 96]), &device)
        };
        let mut norms = Vec::new();
        for step in 0..2 {
            let batch = Batch { tokens: ids(step), targets: ids(step + 7), segment_starts: None };
            let loss = model.loss(batch, &LossOptions { loss_scale: 1.0 / 192.0, z_loss: 0.0, dropout: None });
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            norms.push(gradients::norm(&model, &gradients).unwrap());
            model = optimizer.step(0.01, model, gradients, 0.5);
        }
        let mut read = Read { values: Vec::new() };
        model.visit(&mut read);
        (read.values, norms)
    }

    struct Read {
        values: Vec<Vec<f32>>,
    }

    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.values.push(param.val().inner().try_into_vec_as().unwrap());
        }
    }

    #[test]
    fn step_has_the_same_bits_on_any_number_of_threads() {
        for optimizer in [OptimizerKind::Adamw, OptimizerKind::Muon] {
            let on =
                |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| steps(optimizer));
            let expected = on(1);
            for threads in [2, 3, 8] {
                assert!(expected == on(threads), "{optimizer:?} on {threads} threads");
            }
        }
    }
}

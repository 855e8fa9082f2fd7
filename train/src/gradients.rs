//! The gradients of a step: micro-batches side by side, added up in a fixed order.
//!
//! Most of a small model's operations keep one core busy, so on the CPU each micro-batch has a core of its own: a copy of
//! the model that shares the weights, and a thread pool of one thread. What a micro-batch computes then does not depend
//! on how many cores there are, nor does the sum, which is taken in the order of the micro-batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use model::{ActivationCheckpointing, Batch, Dropout, LossOptions, Transformer, lora};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;
use crate::batches::MicroBatch;

/// What the loss of a step is made of, beside the tokens.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "z-loss is its name")]
pub struct Loss {
    /// The weight of the z-loss.
    pub z_loss: f64,
    /// The share of values that dropout sets to zero.
    pub dropout: f64,
    /// The seed of the training.
    pub seed: u64,
    /// The step, counted from 0.
    pub step: u64,
    /// What the backward pass finds of the forward pass.
    pub activations: ActivationCheckpointing,
}

impl Loss {
    /// Returns the options of the `part`-th of `parts` micro-batches; `learned` targets of the whole step are learned.
    fn options(&self, part: usize, parts: usize, learned: usize) -> LossOptions {
        LossOptions {
            loss_scale: 1.0 / learned.max(1) as f64,
            z_loss: self.z_loss,
            dropout: (self.dropout > 0.0)
                .then_some(Dropout { rate: self.dropout, seed: self.dropout_seed(part, parts) }),
        }
    }

    /// Returns what decides the dropout of a micro-batch: it differs from step to step and part to part, and not between a
    /// resumed run and the first one.
    pub fn dropout_seed(&self, part: usize, parts: usize) -> u64 {
        let number = self.step * parts as u64 + part as u64 + 1;
        self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What micro-batches gave, and the sum of their gradients: each is added as soon as those before it are.
struct Sum<T> {
    next: usize,
    waiting: BTreeMap<usize, Result<(T, GradientsParams), Error>>,
    each: Vec<T>,
    gradients: GradientsParams,
    error: Option<Error>,
}

impl<T> Sum<T> {
    fn new() -> Self {
        let (waiting, each, gradients) = (BTreeMap::new(), Vec::new(), GradientsParams::new());
        Self { next: 0, waiting, each, gradients, error: None }
    }

    fn add(&mut self, model: &Transformer, index: usize, result: Result<(T, GradientsParams), Error>) {
        self.waiting.insert(index, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            match result {
                Ok((one, gradients)) => {
                    self.each.push(one);
                    model::add_gradients(model, &mut self.gradients, gradients);
                }
                Err(error) => self.error = self.error.take().or(Some(error)),
            }
        }
    }
}

/// The threads that compute micro-batches.
pub struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// Returns workers for steps of `micro_batches`; on a GPU, or where threads are refused, the calling thread does it
    /// all, one micro-batch after the other.
    pub fn new(on_cpu: bool, micro_batches: usize) -> Self {
        let wanted = if on_cpu { at_once(true, micro_batches) } else { 0 };
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        Self { pools: (0..wanted).map_while(|_| pool().ok()).collect() }
    }

    /// Returns the mean loss in nats of all learned targets of the micro-batches, and its gradients: those of one large
    /// batch, whichever micro-batch has how many of the targets.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradients(
        &self,
        model: &Transformer,
        batches: &[MicroBatch],
        loss: &Loss,
    ) -> Result<(f64, GradientsParams), Error> {
        let learned = batches.iter().map(MicroBatch::learned).sum();
        let (losses, gradients) = self.each(model, batches.len(), |model, i| {
            let model = lora::with_dropout(model.clone(), loss.dropout_seed(i, batches.len()));
            backward(&model, &batches[i], &loss.options(i, batches.len(), learned), loss.activations)
        })?;
        Ok((losses.iter().sum(), gradients))
    }

    /// Does `work` for each of `count` micro-batches and returns what it returned, and the sum of the gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn each<T: Send>(
        &self,
        model: &Transformer,
        count: usize,
        work: impl Fn(&Transformer, usize) -> Result<(T, GradientsParams), Error> + Sync,
    ) -> Result<(Vec<T>, GradientsParams), Error> {
        let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::new()));
        let work = |of_thread: Transformer| {
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < count) {
                let result = work(&of_thread, i);
                if let Ok(mut sum) = sum.lock() {
                    sum.add(model, i, result);
                }
            }
        };
        if self.pools.is_empty() {
            work(own_leaves(model));
        }
        side_by_side(&self.pools, &|| work(own_leaves(model)));
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        match sum.error {
            Some(error) => Err(error),
            None => Ok((sum.each, sum.gradients)),
        }
    }
}

/// Returns how many micro-batches of a step are computed side by side.
pub fn at_once(on_cpu: bool, micro_batches: usize) -> usize {
    if on_cpu { micro_batches.min(cores()) } else { 1 }
}

/// Returns how many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` once on each of the pools.
fn side_by_side(pools: &[ThreadPool], work: &(impl Fn() + Sync)) {
    if let Some((pool, others)) = pools.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| work());
            side_by_side(others, work);
        });
    }
}

/// Returns the Euclidean norm of all gradients together.
///
/// # Errors
/// When the device fails.
pub fn norm(model: &Transformer, gradients: &GradientsParams) -> Result<f64, Error> {
    let mut squares = Squares { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    let sums: Vec<f32> = Tensor::cat(squares.sums, 0).try_into_vec_as().map_err(Error::compute)?;
    Ok(sums.into_iter().map(f64::from).sum::<f64>().sqrt())
}

fn backward(
    model: &Transformer,
    batch: &MicroBatch,
    options: &LossOptions,
    activations: ActivationCheckpointing,
) -> Result<(f64, GradientsParams), Error> {
    let shape = vec![batch.tokens.len() / batch.width, batch.width];
    let device = model.device();
    let ids = |ids: &Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids.clone(), shape.clone()), &device);
    let batch = Batch {
        tokens: ids(&batch.tokens),
        targets: ids(&batch.targets),
        segment_starts: batch.starts.as_ref().map(ids),
    };
    let (loss, gradients) = model.gradients(&batch, options.dropout, activations, |hidden| {
        let loss = model.loss_from_hidden(hidden, batch.targets.clone(), options);
        (loss.clone(), loss.inner())
    });
    let values: Vec<f32> = loss.try_into_vec_as().map_err(Error::compute)?;
    Ok((values.first().map_or(f64::NAN, |loss| f64::from(*loss)), gradients))
}

/// Returns a model with the same weights whose gradients are its own: a graph of operations that two threads build must
/// not share a leaf, or one waits for the other. What is frozen stays so.
fn own_leaves(model: &Transformer) -> Transformer {
    struct Leaves;
    impl ModuleMapper for Leaves {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let trained = param.is_require_grad();
            param.map(|tensor| Tensor::from_inner(tensor.inner()).set_require_grad(trained))
        }
    }
    model.clone().map(&mut Leaves)
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(kernels::square_sum(gradient));
        }
    }
}

//! The gradients of a step: micro-batches in parallel, accumulated in a fixed order.
//!
//! Most operations of a small model keep only one core busy, so on the CPU each micro-batch gets a core of its own: a
//! copy of the model that shares the weights, and a thread pool of one thread. The result of a micro-batch then does
//! not depend on the number of cores, nor does the sum, which is taken in the order of the micro-batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Error;

/// The threads that compute micro-batches.
pub struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// Returns workers for steps of `micro_batches`. On a GPU, or if no thread can be started, the calling thread
    /// computes the micro-batches one after the other.
    pub fn new(on_cpu: bool, micro_batches: usize) -> Self {
        let threads = if on_cpu { parallel_micro_batches(true, micro_batches) } else { 0 };
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        Self { pools: (0..threads).map_while(|_| pool().ok()).collect() }
    }

    /// Calls `work` for each of `count` micro-batches, and returns its results and the sum of the gradients.
    ///
    /// # Errors
    /// Returns the first error of `work`.
    pub fn each<M: Module + Sync, T: Send>(
        &self,
        model: &M,
        count: usize,
        work: impl Fn(&M, usize) -> Result<(T, GradientsParams), Error> + Sync,
    ) -> Result<(Vec<T>, GradientsParams), Error> {
        let (next, sum) = (AtomicUsize::new(0), Mutex::new(OrderedSum::new()));
        let work = |copy: M| {
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < count) {
                let result = work(&copy, i);
                if let Ok(mut sum) = sum.lock() {
                    sum.add(model, i, result);
                }
            }
        };
        if self.pools.is_empty() {
            work(with_own_leaves(model));
        }
        in_parallel(&self.pools, &|| work(with_own_leaves(model)));
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        match sum.error {
            Some(error) => Err(error),
            None => Ok((sum.results, sum.gradients)),
        }
    }
}

/// Returns the number of micro-batches of a step that are computed at the same time.
pub fn parallel_micro_batches(on_cpu: bool, micro_batches: usize) -> usize {
    if on_cpu { micro_batches.min(cores()) } else { 1 }
}

/// Returns the number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the Euclidean norm of all gradients together.
///
/// # Errors
/// Returns an error if the device fails.
pub fn norm(model: &impl Module, gradients: &GradientsParams) -> Result<f64, Error> {
    let mut squares = SquareSums { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    let sums: Vec<f32> = Tensor::cat(squares.sums, 0).try_into_vec_as().map_err(Error::compute)?;
    Ok(sums.into_iter().map(f64::from).sum::<f64>().sqrt())
}

/// The results of the micro-batches, and the sum of their gradients, each added as soon as those before it are.
struct OrderedSum<T> {
    next: usize,
    waiting: BTreeMap<usize, Result<(T, GradientsParams), Error>>,
    results: Vec<T>,
    gradients: GradientsParams,
    error: Option<Error>,
}

impl<T> OrderedSum<T> {
    fn new() -> Self {
        let (waiting, results, gradients) = (BTreeMap::new(), Vec::new(), GradientsParams::new());
        Self { next: 0, waiting, results, gradients, error: None }
    }

    fn add(&mut self, model: &impl Module, index: usize, result: Result<(T, GradientsParams), Error>) {
        self.waiting.insert(index, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            match result {
                Ok((result, gradients)) => {
                    self.results.push(result);
                    model::add_gradients(model, &mut self.gradients, gradients);
                }
                Err(error) => self.error = self.error.take().or(Some(error)),
            }
        }
    }
}

/// Calls `work` once on each of the pools, at the same time.
fn in_parallel(pools: &[ThreadPool], work: &(impl Fn() + Sync)) {
    if let Some((pool, others)) = pools.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| work());
            in_parallel(others, work);
        });
    }
}

/// Returns a copy of a model that shares its weights but not its leaves in the autodiff graph: of two threads whose
/// graphs share a leaf, one waits for the other. Frozen parameters stay frozen.
fn with_own_leaves<M: Module>(model: &M) -> M {
    struct Leaves;
    impl ModuleMapper for Leaves {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let trainable = param.is_require_grad();
            param.map(|tensor| Tensor::from_inner(tensor.inner()).set_require_grad(trainable))
        }
    }
    model.clone().map(&mut Leaves)
}

struct SquareSums<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SquareSums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(kernels::square_sum(gradient));
        }
    }
}

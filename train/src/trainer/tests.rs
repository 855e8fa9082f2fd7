//! The trainer with a model that is not a Transformer: a linear regression.

use std::path::Path;

use artifact::{Context, Event, Progress};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::OptimizerKind;
use crate::checkpoint::state;
use crate::logging::metrics;
use crate::objective::ValidationLoss;

const INPUTS: usize = 3;
const ROWS: usize = 8;

#[derive(Module, Debug)]
struct Regression {
    weight: Param<Tensor<2>>, // [I, 1]
    bias: Param<Tensor<1>>,   // [1]
}

impl Regression {
    fn zeros(device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([INPUTS, 1], device).require_grad()),
            bias: Param::from_tensor(Tensor::zeros([1], device).require_grad()),
        }
    }

    /// Returns the mean squared error over the rows of a step.
    fn loss(&self, step: u64) -> Tensor<1> {
        let device = self.weight.val().device();
        let row = |i: u64| -> [f32; INPUTS] { std::array::from_fn(|j| ((i * 7 + j as u64 * 3) % 11) as f32 / 11.0) };
        let rows: Vec<[f32; INPUTS]> = (0..ROWS as u64).map(|i| row(step * ROWS as u64 + i)).collect();
        let targets: Vec<f32> = rows.iter().map(|[a, b, c]| 2.0 * a - b + 0.5 * c + 1.0).collect();
        let x = Tensor::<2>::from_data(TensorData::new(rows.concat(), [ROWS, INPUTS]), &device); // [B, I]
        let y = Tensor::<2>::from_data(TensorData::new(targets, [ROWS, 1]), &device); // [B, 1]
        (x.matmul(self.weight.val()) + self.bias.val().reshape([1, 1]) - y).square().mean()
    }
}

struct SquaredError;

fn value(loss: Tensor<1>) -> Result<f64, Error> {
    loss.try_into_scalar::<f32>().map(f64::from).map_err(Error::compute)
}

impl Objective<Regression> for SquaredError {
    fn step(&mut self, model: &Regression, step: u64) -> Result<Step, Error> {
        let loss = model.loss(step);
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        Ok(Step { loss: value(loss.inner())?, parts: None, gradients, n_tokens: ROWS as u64 })
    }

    fn validate(&self, model: &Regression) -> Result<ValidationLoss, Error> {
        Ok(ValidationLoss { loss: value(model.valid().loss(1000))?, ..ValidationLoss::default() })
    }
}

/// Saves a module in burn's own format.
struct RecordFile;

impl ModelFiles<Regression> for RecordFile {
    fn save(&self, model: &Regression, folder: &Path) -> Result<(), Error> {
        model.clone().save_file(folder.join("model")).map_err(Error::compute)
    }

    fn load(&self, model: &Regression, folder: &Path) -> Result<Regression, Error> {
        model.clone().try_load_file(folder.join("model")).map_err(Error::compute)
    }
}

fn train(folder: &Path, context: &Context) -> Result<Trained<Regression>, Error> {
    let config = Config {
        optimizer: OptimizerKind::Adamw,
        steps: 60,
        learning_rate: 0.1,
        warmup_steps: 5,
        weight_decay: 0.0,
        validation_every: 20,
        save_every: 10,
        log_every: 1,
        ..Config::default()
    };
    Trainer::new(Setup {
        config: &config,
        context,
        folder,
        model: Regression::zeros(&Device::flex().autodiff()),
        objective: Box::new(SquaredError),
        files: &RecordFile,
        sample: Box::new(|_| Ok(None)),
        flops_per_token: 6.0 * INPUTS as f64,
        peak_flops_per_second: 1e9,
    })?
    .fit()
}

fn bits(model: &Regression) -> Vec<u32> {
    let weight: Vec<f32> = model.weight.val().inner().try_into_vec_as().unwrap();
    let bias: Vec<f32> = model.bias.val().inner().try_into_vec_as().unwrap();
    weight.into_iter().chain(bias).map(f32::to_bits).collect()
}

#[test]
fn any_module_can_be_trained_and_resumed_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = train(folder.path(), &Context::quiet(1)).unwrap();
    let best = uninterrupted.state.best.unwrap();
    assert!(best.validation_loss < 0.1, "{best:?}");
    let log = std::fs::read_to_string(folder.path().join(metrics::FILE)).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("gradient_norm")).count(), 60);

    for stop_at in [1, 10, 37] {
        let folder = tempfile::tempdir().unwrap();
        let mut context = Context::quiet(1);
        let cancel = context.cancel.clone();
        context.progress = Progress::new(move |event| {
            if event == Event::Position(stop_at) {
                cancel.request();
            }
        });
        let error = train(folder.path(), &context).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::InterruptedAt { step, steps: 60 } if step == stop_at), "{error}");
        assert!(folder.path().join(format!(".resume/step-{stop_at:09}/{}", state::FILE)).exists());
        let resumed = train(folder.path(), &Context::quiet(1)).unwrap();
        assert_eq!(bits(&resumed.model), bits(&uninterrupted.model), "stopped at {stop_at}");
        assert_eq!(resumed.state.best, uninterrupted.state.best);
    }
}

//! The stage: from tokens and a configuration to a checkpoint.

use artifact::{Context, Outcome, Sealed, Unsealed};
use burn::tensor::Device;
use model::{ModelConfig, Transformer, device, rounding};
use serde_json::json;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::budget::{self, BudgetPlan, Data};
use crate::checkpoint::state::{self, Snapshot, States, TrainerState, Validation};
use crate::checkpoint::trainable::{self, TransformerFiles};
use crate::checkpoint::{init, output, pruned};
use crate::config::Weights;
use crate::logging::{metrics, sample, tensorboard};
use crate::objective::Objective;
use crate::objective::cross_entropy::CrossEntropy;
use crate::objective::dpo::Dpo;
use crate::objective::rounded::Rounded;
use crate::objective::teacher::Teacher;
use crate::optim::gradients::Workers;
use crate::trainer::{Setup, Trainer};
use crate::{Config, Error, memory};

/// What stage train reads.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The tokens.
    pub tokens: &'a Sealed,
    /// The model of `train.init`.
    pub init: Option<&'a Sealed>,
    /// The model of `train.distill.teacher`.
    pub teacher: Option<&'a Sealed>,
}

impl<'a> Inputs<'a> {
    /// Returns tokens to train a model on from random weights.
    pub fn of(tokens: &'a Sealed) -> Self {
        Self { tokens, init: None, teacher: None }
    }
}

/// Trains a model on the tokens, from random weights or from those of `train.init`, or resumes an earlier attempt in
/// the same folder.
///
/// # Errors
/// See [`Error`]; the latest saved state stays in the folder.
pub fn run(config: &Config, inputs: &Inputs<'_>, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    let Inputs { tokens, init, teacher } = *inputs;
    let tokenizer = Tokenizer::from_file(&tokens.verified(model::hub_layout::TOKENIZER)?)?;
    let (train, validation) = (Split::open(tokens, "train")?, Split::open(tokens, "validation")?);
    let backend = device::backend(&context.device)?;
    let plain_device = device::resolve(&context.device)?;
    config.precision.check(&plain_device, backend.name())?;
    let device = plain_device.clone().autodiff();

    let data = Data { tokens: train.len() as u64, vocab_size: tokenizer.vocab_size() };
    let plan = budget::plan_or_resume(config, &data, init, &device, out, context)?;
    let resolved = resolve_config(config, plan.as_ref());
    let model_config = match init {
        Some(init) => init::model_config(&resolved, init, &tokenizer)?,
        None => resolved.model_config(tokenizer.vocab_size(), tokenizer.end_of_text())?,
    };
    let model_config = resolved.pruned_shape(&model_config)?;
    let workers = Workers::new(backend.is_cpu(), resolved.micro_batches);
    let teacher = match (&resolved.distill, teacher) {
        (Some(settings), Some(sealed)) => Some(Teacher::load(&resolved, settings, sealed, &tokenizer, &plain_device)?),
        (Some(_), None) => {
            let reason = "the model was not given to the stage".to_owned();
            return Err(Error::Config { key: "train.distill.teacher".to_owned(), reason });
        }
        (None, _) => None,
    };
    let teacher_shape = teacher.as_ref().map(|teacher| teacher.shape().clone());
    let objective = objective(&resolved, workers, teacher, [&train, &validation], out, context)?;
    // The model of `init` may have a longer context than it is trained with here.
    let context_length = resolved.model.context_length;
    let trained_shape = ModelConfig { context_length, ..model_config.clone() };
    memory::check(&resolved, &trained_shape, teacher_shape.as_ref(), backend)?;
    let files = TransformerFiles { config: &resolved, tokenizer: &tokenizer };
    let model = initial_model(&resolved, init, &model_config, &validation, &device, context)?;
    let model_config = model.config().clone();
    prepare_folder(plan.as_ref(), out)?;

    let setup = Setup {
        config: &resolved,
        context,
        folder: out.folder(),
        model,
        objective,
        files: &files,
        sample: Box::new(|model| {
            let rounded = resolved.quantization.map(|integers| rounding::rounded(model, integers)).transpose()?;
            let model = rounded.as_ref().unwrap_or(model);
            sample::sample(model, &tokenizer, &resolved.sample_prompt, context.seed)
        }),
        flops_per_token: model_config.training_flops_per_token(context_length),
        peak_flops_per_second: device::matmul_flops_per_second(&plain_device, resolved.precision)?,
    };
    let trained = Trainer::new(setup)?.fit()?;

    let snapshot = Snapshot { model: &trained.model, optimizer: &trained.optimizer, state: &trained.state };
    output::write(&files, &snapshot, out)?;
    Ok(Outcome {
        earlier_seconds: trained.earlier_seconds,
        device: device::describe(&context.device)?,
        ..outcome(&resolved, &model_config, &trained.state)
    })
}

/// Returns the configuration with the values that the budget decides.
fn resolve_config(config: &Config, plan: Option<&BudgetPlan>) -> Config {
    plan.map_or_else(|| config.clone(), |plan| plan.applied(config))
}

fn objective<'a>(
    config: &'a Config,
    workers: Workers,
    teacher: Option<Teacher>,
    [train, validation]: [&'a Split; 2],
    out: &'a Unsealed,
    context: &'a Context,
) -> Result<Box<dyn Objective<Transformer> + 'a>, Error> {
    let objective: Box<dyn Objective<Transformer> + 'a> = match config.dpo {
        Some(dpo) => Box::new(Dpo::new(config, dpo, workers, [train, validation], out.folder(), context)?),
        None => Box::new(CrossEntropy::new(config, context.seed, workers, teacher, train, validation)?),
    };
    Ok(match config.quantization {
        Some(integers) => Box::new(Rounded { objective, integers }),
        None => objective,
    })
}

/// Returns the model that training starts from, pruned, with its frozen parameters and new adapters.
fn initial_model(
    config: &Config,
    init: Option<&Sealed>,
    model_config: &ModelConfig,
    validation: &Split,
    device: &Device,
    context: &Context,
) -> Result<Transformer, Error> {
    let seed = context.seed;
    let model = match init {
        Some(init) => init::load(init, model_config.vocab_size, seed, device)?,
        None => Transformer::init(model_config, seed, device),
    };
    let model = match &config.prune {
        Some(prune) => pruned::pruned(&model, prune, config, validation, context)?,
        None => model,
    };
    let adapters = init::adapters(config, init, model_config)?;
    let model = trainable::attach(model, &config.freeze, adapters.as_ref(), seed)?;
    Ok(model.with_precision(config.precision))
}

/// Empties the folder unless it has a state to resume from, and writes the budget plan.
fn prepare_folder(plan: Option<&BudgetPlan>, out: &Unsealed) -> Result<(), Error> {
    if States::new(out.folder()).latest()?.is_some() {
        return Ok(());
    }
    out.clear()?;
    plan.map_or(Ok(()), |plan| plan.write(out))
}

fn outcome(config: &Config, model: &ModelConfig, state: &TrainerState) -> Outcome {
    let selected = if config.weights == Weights::Best { state.best } else { state.latest };
    let selected = selected.unwrap_or(Validation { step: state.step, validation_loss: f64::NAN });
    let flops_per_token = model.training_flops_per_token(config.model.context_length);
    let mut counts = serde_json::Map::new();
    for (name, value) in [
        ("parameters", json!(model.parameters())),
        ("steps", json!(state.step)),
        ("tokens", json!(state.tokens)),
        ("training_flops", json!(flops_per_token * state.tokens as f64)),
        ("best_step", json!(selected.step)),
        ("validation_loss", json!(selected.validation_loss)),
    ] {
        counts.insert(name.to_owned(), value);
    }
    let millions = model.parameters() as f64 / 1e6;
    let is_older = config.weights == Weights::Best && selected.step < state.step;
    let step = if is_older { format!(" (best, at step {})", selected.step) } else { String::new() };
    Outcome {
        counts,
        headline: format!("{millions:.2} M parameters, validation loss {:.3}{step}", selected.validation_loss),
        volatile: [metrics::FILE, tensorboard::FILE, state::FILE].map(str::to_owned).to_vec(),
        ..Outcome::default()
    }
}

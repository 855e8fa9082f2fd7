//! The stage: from tokens and a configuration to a checkpoint.

use artifact::{Context, Outcome, Sealed, Unsealed};
use burn::tensor::Device;
use model::{ModelConfig, Transformer, device};
use serde_json::json;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::budget::{self, BudgetPlan, Data};
use crate::checkpoint::state::{self, Snapshot, States, TrainerState, Validation};
use crate::checkpoint::trainable::{self, TransformerFiles};
use crate::checkpoint::{init, output};
use crate::config::Weights;
use crate::logging::{metrics, sample, tensorboard};
use crate::objective::Objective;
use crate::objective::cross_entropy::CrossEntropy;
use crate::objective::dpo::Dpo;
use crate::optim::gradients::Workers;
use crate::trainer::{Setup, Trainer};
use crate::{Config, Error, memory};

/// Trains a model on the tokens, from random weights or from those of the checkpoint `init`, or resumes an earlier
/// attempt in the same folder.
///
/// # Errors
/// See [`Error`]; the latest saved state stays in the folder.
pub fn run(
    config: &Config,
    init: Option<&Sealed>,
    tokens: &Sealed,
    out: &Unsealed,
    context: &Context,
) -> Result<Outcome, Error> {
    config.validate()?;
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
    let workers = Workers::new(backend.is_cpu(), resolved.micro_batches);
    let objective = objective(&resolved, workers, [&train, &validation], out, context)?;
    // The model of `init` may have a longer context than it is trained with here.
    let context_length = resolved.model.context_length;
    memory::check(&resolved, &ModelConfig { context_length, ..model_config.clone() }, backend)?;
    let files = TransformerFiles { config: &resolved, tokenizer: &tokenizer };
    let model = initial_model(&resolved, init, &model_config, context.seed, &device)?;
    prepare_folder(plan.as_ref(), out)?;

    let setup = Setup {
        config: &resolved,
        context,
        folder: out.folder(),
        model,
        objective,
        files: &files,
        sample: Box::new(|model| sample::sample(model, &tokenizer, &resolved.sample_prompt, context.seed)),
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
    [train, validation]: [&'a Split; 2],
    out: &'a Unsealed,
    context: &'a Context,
) -> Result<Box<dyn Objective<Transformer> + 'a>, Error> {
    Ok(match config.dpo {
        Some(dpo) => Box::new(Dpo::new(config, dpo, workers, [train, validation], out.folder(), context)?),
        None => Box::new(CrossEntropy::new(config, context.seed, workers, train, validation)?),
    })
}

/// Returns the model that training starts from, with its frozen parameters and new adapters.
fn initial_model(
    config: &Config,
    init: Option<&Sealed>,
    model_config: &ModelConfig,
    seed: u64,
    device: &Device,
) -> Result<Transformer, Error> {
    let model = match init {
        Some(init) => init::load(init, model_config, seed, device)?,
        None => Transformer::init(model_config, seed, device),
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

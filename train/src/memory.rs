//! Whether a training fits into the memory of its device, asked before the first step.

use model::{ActivationCheckpointing, Backend, ModelConfig, device};

use crate::{Config, Error, gradients};

/// Returns an estimate of the bytes that a training needs at its peak: weights, and of what is trained the gradients of the
/// micro-batches at work and their sum, and two moments (Muon has one); and the activations of the sequences that are
/// computed at a time. Frozen parts count as trained.
pub fn estimate_bytes(config: &Config, model: &ModelConfig, on_cpu: bool) -> u64 {
    let trained = match &config.lora {
        // Not more than adapters of all projections.
        Some(lora) => {
            let heads = (model.n_head + model.n_kv_head) * model.head_dim;
            let sides = 7 * model.d_model + 2 * heads + 3 * model.d_ff;
            (model.n_layer * lora.rank * sides) as u64
        }
        None => model.parameters(),
    };
    // The two answers of a pair may each take a row of their own.
    let rows = config.batch_size / config.micro_batches * if config.dpo.is_some() { 2 } else { 1 };
    let at_once = gradients::at_once(on_cpu, config.micro_batches);
    let rows = rows * at_once;
    let context = config.model.context_length;
    let (kept, dropout) = (config.activations(), config.dropout > 0.0);
    let activations = model.activation_bytes(rows, context, on_cpu, config.precision, kept, dropout);
    let gradients = if config.micro_batches == 1 { 1 } else { at_once as u64 + 1 };
    4 * (model.parameters() + (gradients + 2) * trained) + activations
}

/// Checks the estimate of a training against the memory that its device has free, where that can be told.
///
/// # Errors
/// When it does not fit; says which `train.micro_batches` would, and whether with `train.activation_checkpointing`.
pub fn check(config: &Config, model: &ModelConfig, backend: Backend) -> Result<(), Error> {
    match device::free_memory_bytes(backend) {
        Some(free) => fits(config, model, backend.is_cpu(), free),
        None => Ok(()),
    }
}

fn fits(config: &Config, model: &ModelConfig, on_cpu: bool, free: u64) -> Result<(), Error> {
    let needed = estimate_bytes(config, model, on_cpu);
    if needed <= free {
        return Ok(());
    }
    let parts = (config.micro_batches..=config.batch_size).filter(|n| config.batch_size.is_multiple_of(*n));
    let trials = parts.flat_map(|micro_batches| {
        [config.activation_checkpointing, true].map(|activation_checkpointing| Config {
            micro_batches,
            activation_checkpointing,
            ..config.clone()
        })
    });
    let advice = match trials.into_iter().find(|trial| estimate_bytes(trial, model, on_cpu) <= free) {
        Some(trial) => {
            let again = match (trial.activations(), config.activations()) {
                (ActivationCheckpointing::On, ActivationCheckpointing::Off) => {
                    "train.activation_checkpointing = true with "
                }
                _ => "",
            };
            format!(
                "{again}train.micro_batches = {} fits, {} sequences at a time with the same result",
                trial.micro_batches,
                config.batch_size / trial.micro_batches
            )
        }
        None => "not even one sequence at a time fits: lower train.model.context_length, d_model or n_layer".to_owned(),
    };
    Err(Error::Memory { needed_bytes: needed, free_bytes: free, advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_what_would() {
        let config = Config { batch_size: 12, micro_batches: 2, ..Config::default() };
        let model = config.model_config(4096, None).unwrap();
        let check = |free: u64, expected: &str| {
            let found = fits(&config, &model, false, free).map_or_else(|e| e.to_string(), |()| "fits".to_owned());
            assert!(found.ends_with(expected), "{free}: {found}");
        };
        let bytes = |micro_batches, activation_checkpointing| {
            let trial = Config { micro_batches, activation_checkpointing, ..config.clone() };
            estimate_bytes(&trial, &model, false)
        };
        check(bytes(2, false), "fits");
        let same = "sequences at a time with the same result";
        let again = "GB are free: train.activation_checkpointing = true with";
        check(bytes(2, false) - 1, &format!("{again} train.micro_batches = 2 fits, 6 {same}"));
        check(bytes(2, true) - 1, &format!("{again} train.micro_batches = 3 fits, 4 {same}"));
        check(bytes(12, true), &format!("{again} train.micro_batches = 12 fits, 1 {same}"));
        check(bytes(12, true) - 1, "lower train.model.context_length, d_model or n_layer");
    }

    #[test]
    fn what_is_not_trained_takes_no_moments() {
        let all = Config::default();
        let adapters = Config { lora: Some(model::lora::LoraConfig::default()), ..all.clone() };
        let model = all.model_config(4096, None).unwrap();
        assert!(estimate_bytes(&adapters, &model, true) + 8 * model.parameters() < estimate_bytes(&all, &model, true));
    }
}

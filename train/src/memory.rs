//! Estimates whether a training fits into the memory of its device, before the first step.

use model::{ActivationCheckpointing, Backend, ModelConfig, device};

use crate::optim::gradients::parallel_micro_batches;
use crate::{Config, Error};

/// Returns an estimate of the peak memory of a training in bytes: the weights; for the trainable parameters, the
/// gradients of the micro-batches in progress and their sum, and two moments (Muon has one); the activations of the
/// sequences that are computed at a time; and the weights and logits of a teacher. Frozen parameters count as
/// trainable.
pub fn estimate_bytes(config: &Config, model: &ModelConfig, teacher: Option<&ModelConfig>, on_cpu: bool) -> u64 {
    let trainable = match &config.lora {
        // At most the adapters of all projections.
        Some(lora) => {
            let heads = (model.n_head + model.n_kv_head) * model.head_dim;
            let sides = 7 * model.d_model + 2 * heads + 3 * model.d_ff;
            (model.n_layer * lora.rank * sides) as u64
        }
        None => model.parameters(),
    };
    // The two answers of a pair may each take a row of their own.
    let rows = config.batch_size / config.micro_batches * if config.dpo.is_some() { 2 } else { 1 };
    let parallel = parallel_micro_batches(on_cpu, config.micro_batches);
    let (precision, checkpointing) = (config.precision, config.activations());
    let has_dropout = config.dropout > 0.0;
    let context_length = config.model.context_length;
    let activations =
        model.activation_bytes(rows * parallel, context_length, on_cpu, precision, checkpointing, has_dropout);
    let gradients = if config.micro_batches == 1 { 1 } else { parallel as u64 + 1 };
    let teacher = teacher.map_or(0, |teacher| {
        teacher.parameters() + (rows * parallel * context_length) as u64 * teacher.vocab_size as u64
    });
    4 * (model.parameters() + (gradients + 2) * trainable + teacher) + activations
}

/// Compares the estimate for a training with the free memory of its device, if that is known.
///
/// # Errors
/// Returns an error if the training does not fit; it names the `train.micro_batches` that would, and whether that needs
/// `train.activation_checkpointing`.
pub fn check(
    config: &Config,
    model: &ModelConfig,
    teacher: Option<&ModelConfig>,
    backend: Backend,
) -> Result<(), Error> {
    match device::free_memory_bytes(backend) {
        Some(free) => fits(config, model, teacher, backend.is_cpu(), free),
        None => Ok(()),
    }
}

fn fits(
    config: &Config,
    model: &ModelConfig,
    teacher: Option<&ModelConfig>,
    on_cpu: bool,
    free: u64,
) -> Result<(), Error> {
    let needed = estimate_bytes(config, model, teacher, on_cpu);
    if needed <= free {
        return Ok(());
    }
    let divisors = (config.micro_batches..=config.batch_size).filter(|n| config.batch_size.is_multiple_of(*n));
    let trials = divisors.flat_map(|micro_batches| {
        [config.activation_checkpointing, true].map(|activation_checkpointing| Config {
            micro_batches,
            activation_checkpointing,
            ..config.clone()
        })
    });
    let advice = match trials.into_iter().find(|trial| estimate_bytes(trial, model, teacher, on_cpu) <= free) {
        Some(trial) => {
            let checkpointing = match (trial.activations(), config.activations()) {
                (ActivationCheckpointing::On, ActivationCheckpointing::Off) => {
                    "train.activation_checkpointing = true with "
                }
                _ => "",
            };
            format!(
                "{checkpointing}train.micro_batches = {} fits, {} sequences at a time with the same result",
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
    fn error_names_settings_that_fit() {
        let config = Config { batch_size: 12, micro_batches: 2, ..Config::default() };
        let model = config.model_config(4096, None).unwrap();
        let check = |free: u64, expected: &str| {
            let found = fits(&config, &model, None, false, free).map_or_else(|e| e.to_string(), |()| "fits".to_owned());
            assert!(found.ends_with(expected), "{free}: {found}");
        };
        let bytes = |micro_batches, activation_checkpointing| {
            let trial = Config { micro_batches, activation_checkpointing, ..config.clone() };
            estimate_bytes(&trial, &model, None, false)
        };
        check(bytes(2, false), "fits");
        let same = "sequences at a time with the same result";
        let checkpointing = "GB are free: train.activation_checkpointing = true with";
        check(bytes(2, false) - 1, &format!("{checkpointing} train.micro_batches = 2 fits, 6 {same}"));
        check(bytes(2, true) - 1, &format!("{checkpointing} train.micro_batches = 3 fits, 4 {same}"));
        check(bytes(12, true), &format!("{checkpointing} train.micro_batches = 12 fits, 1 {same}"));
        check(bytes(12, true) - 1, "lower train.model.context_length, d_model or n_layer");
    }

    #[test]
    fn frozen_weights_have_no_moments() {
        let all = Config::default();
        let adapters = Config { lora: Some(model::lora::LoraConfig::default()), ..all.clone() };
        let model = all.model_config(4096, None).unwrap();
        let bytes = |config: &Config| estimate_bytes(config, &model, None, true);
        assert!(bytes(&adapters) + 8 * model.parameters() < bytes(&all));
    }

    #[test]
    fn a_teacher_has_weights_and_logits() {
        let config = Config { micro_batches: 1, ..Config::default() };
        let model = config.model_config(4096, None).unwrap();
        let bytes = |teacher| estimate_bytes(&config, &model, teacher, true);
        let logits = (config.tokens_per_step() * 4096) * 4;
        assert_eq!(bytes(Some(&model)) - bytes(None), 4 * model.parameters() + logits);
    }
}

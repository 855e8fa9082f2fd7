//! Whether a training fits into the memory of its device, asked before the first step.

use model::{ModelConfig, device};

use crate::{Config, Error};

/// Checks the estimate of a training against the memory that its device has free, where that can be told.
///
/// # Errors
/// When it does not fit; says which `train.micro_batches` would.
pub fn check(config: &Config, model: &ModelConfig, class: &str, at_once: usize) -> Result<(), Error> {
    match device::free_memory_bytes(class) {
        Some(free) => fits(config, model, at_once, class == "cpu", free),
        None => Ok(()),
    }
}

fn fits(config: &Config, model: &ModelConfig, at_once: usize, on_cpu: bool, free: u64) -> Result<(), Error> {
    let bytes = |parts: usize| {
        // The two answers of a pair may each take a row of their own.
        let rows = config.batch_size / parts * if config.dpo.is_some() { 2 } else { 1 };
        model.training_memory_bytes(rows * at_once.clamp(1, parts), model.context_length, on_cpu)
    };
    let needed = bytes(config.micro_batches);
    if needed <= free {
        return Ok(());
    }
    let divisors = (config.micro_batches + 1..=config.batch_size).filter(|n| config.batch_size.is_multiple_of(*n));
    let advice = match divisors.into_iter().find(|parts| bytes(*parts) <= free) {
        Some(parts) => format!(
            "train.micro_batches = {parts} fits, {} sequences at a time with the same result",
            config.batch_size / parts
        ),
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
            let found = fits(&config, &model, 2, true, free).map_or_else(|e| e.to_string(), |()| "fits".to_owned());
            assert!(found.ends_with(expected), "{free}: {found}");
        };
        let bytes = |sequences| model.training_memory_bytes(sequences, model.context_length, true);
        check(bytes(12), "fits");
        check(bytes(12) - 1, "train.micro_batches = 3 fits, 4 sequences at a time with the same result");
        check(bytes(4), "train.micro_batches = 6 fits, 2 sequences at a time with the same result");
        check(bytes(2), "train.micro_batches = 12 fits, 1 sequences at a time with the same result");
        check(bytes(2) - 1, "lower train.model.context_length, d_model or n_layer");
    }
}

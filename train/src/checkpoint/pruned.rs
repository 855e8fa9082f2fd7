//! The model of `train.init`, made smaller.

use artifact::Context;
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use model::scoring::{self, SlidingWindow};
use model::{Transformer, checkpoint, pruning};
use tokenizer::shard::Split;

use crate::config::PruneConfig;
use crate::{Config, Error};

/// Tokens that the activations of neurons are averaged over, at most: heuristic, not measured; a statistic of single
/// neurons needs far fewer than a loss.
const CALIBRATION_TOKENS: usize = 1 << 14;

/// Returns the model as `settings` make it, ranked on the validation split, and reports which layers went.
///
/// # Errors
/// Returns an error if the split cannot be scored, the device fails, or the run was asked to stop.
pub fn pruned(
    model: &Transformer,
    settings: &PruneConfig,
    config: &Config,
    validation: &Split,
    context: &Context,
) -> Result<Transformer, Error> {
    settings.shape(model.config())?;
    let (device, mut smaller) = (model.device(), model.valid());
    if settings.layers > 0 {
        let n_layer = smaller.config().n_layer;
        let trials = (n_layer - settings.layers + 1..=n_layer).sum::<usize>() as u64;
        context.progress.begin("ranking layers", trials, "trials");
        let mut done = 0;
        let (without, removed) = pruning::without_layers(&smaller, settings.layers, |trial| -> Result<f64, Error> {
            let windows = SlidingWindow::disjoint(trial.config(), &trial.device(), Some(config.validation_tokens));
            let scores = scoring::score(trial, validation, &windows, |_| !context.cancel.is_requested())?;
            done += 1;
            context.progress.position(done);
            Ok(scores.loss_nats)
        })?;
        let removed = removed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        context.progress.line(&format!("pruning: removed layers {removed} of {n_layer}, counted from 0"));
        smaller = without;
    }
    if let Some(d_ff) = settings.d_ff {
        let old = smaller.config().d_ff;
        let batches = calibration(validation, config.model.context_length);
        let batches = batches.map(|ids| Tensor::<2, Int>::from_data(ids, &smaller.device()));
        smaller = pruning::with_d_ff(&smaller, d_ff, batches)?;
        context.progress.line(&format!("pruning: kept {d_ff} of {old} neurons of each feed-forward layer"));
    }
    Ok(checkpoint::with_weights(smaller.config(), checkpoint::weights(&smaller)?, &device))
}

/// Returns rows of the split, `[1, T]`.
fn calibration(split: &Split, width: usize) -> impl Iterator<Item = TensorData> + '_ {
    let total = split.len().min(CALIBRATION_TOKENS);
    (0..total).step_by(width).map(move |start| {
        let mut ids = vec![0; width.min(total - start)];
        split.copy(start, &mut ids);
        let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
        let shape = vec![1, ids.len()];
        TensorData::new(ids, shape)
    })
}

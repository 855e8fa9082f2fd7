//! Quantisation-aware training: an objective at the rounded weights of a model.

use model::compressed_tensors::Integers;
use model::{Transformer, rounding};

use super::{Objective, Step, ValidationLoss};
use crate::Error;

/// An objective whose losses and gradients are those of the rounded weights.
pub struct Rounded<'a> {
    /// The objective.
    pub objective: Box<dyn Objective<Transformer> + 'a>,
    /// What weights are rounded to.
    pub integers: Integers,
}

impl Objective<Transformer> for Rounded<'_> {
    fn prepare(&mut self, initial: &Transformer) -> Result<(), Error> {
        self.objective.prepare(initial)
    }

    fn step(&mut self, model: &Transformer, step: u64) -> Result<Step, Error> {
        self.objective.step(&rounding::rounded(model, self.integers)?, step)
    }

    fn validate(&self, model: &Transformer) -> Result<ValidationLoss, Error> {
        self.objective.validate(&rounding::rounded(model, self.integers)?)
    }
}

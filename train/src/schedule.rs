//! The learning rate of each step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Config;

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to the final ratio (SGDR: Stochastic Gradient Descent with Warm Restarts, 2017).
    Cosine,
    /// A straight line down to the final ratio.
    Linear,
    /// No change.
    Constant,
    /// Warm-up, stable, decay: no change until the last `decay_ratio` of the steps, then a straight line down to the final
    /// ratio (`MiniCPM`: Unveiling the Potential of Small Language Models with Scalable Training Strategies, 2024).
    Wsd,
}

impl Config {
    /// Returns the learning rate of a step, counted from 0: linear warm-up, then as the schedule says.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let end = self.steps.max(self.warmup_steps + 1) as f64;
        let share = |begin: f64| ((step as f64 - begin) / (end - begin).max(1.0)).clamp(0.0, 1.0);
        let warm = self.warmup_steps as f64;
        // How much of the way from the final ratio up to the whole rate is left.
        let left = match self.schedule {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share(warm)).cos()),
            Schedule::Linear => 1.0 - share(warm),
            Schedule::Constant => 1.0,
            Schedule::Wsd => 1.0 - share((end * (1.0 - self.decay_ratio)).max(warm)),
        };
        self.learning_rate * (self.final_learning_rate_ratio + (1.0 - self.final_learning_rate_ratio) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_goes_as_the_schedule_says() {
        let check = |schedule, expected: [f64; 6]| {
            let config = Config {
                schedule,
                steps: 110,
                warmup_steps: 10,
                decay_ratio: 0.5,
                learning_rate: 1.1,
                final_learning_rate_ratio: 0.1,
                ..Config::default()
            };
            for (step, expected) in [0, 9, 10, 60, 110, 500].into_iter().zip(expected) {
                let rate = config.learning_rate_at(step);
                assert!((rate - expected).abs() < 1e-12, "{schedule:?}, step {step}: {rate}, expected {expected}");
            }
        };
        check(Schedule::Cosine, [0.1, 1.0, 1.1, 1.1 * 0.55, 0.11, 0.11]);
        check(Schedule::Linear, [0.1, 1.0, 1.1, 1.1 * 0.55, 0.11, 0.11]);
        check(Schedule::Constant, [0.1, 1.0, 1.1, 1.1, 1.1, 1.1]);
        // The last half of 110 steps begins at 55.
        check(Schedule::Wsd, [0.1, 1.0, 1.1, 1.1 * (0.1 + 0.9 * (1.0 - 5.0 / 55.0)), 0.11, 0.11]);
    }
}

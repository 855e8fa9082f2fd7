//! The learning rate of each step.

use crate::Config;
use crate::config::Schedule;

/// Returns the learning rate of a step, counted from 0: linear warm-up, then the configured schedule.
pub fn learning_rate(config: &Config, step: u64) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / (config.warmup_steps + 1) as f64;
    }
    let end = config.steps.max(config.warmup_steps + 1) as f64;
    let progress = |begin: f64| ((step as f64 - begin) / (end - begin).max(1.0)).clamp(0.0, 1.0);
    let warm = config.warmup_steps as f64;
    // 1 at the peak, 0 at the final ratio.
    let height = match config.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress(warm)).cos()),
        Schedule::Linear => 1.0 - progress(warm),
        Schedule::Constant => 1.0,
        Schedule::Wsd => 1.0 - progress((end * (1.0 - config.decay_ratio)).max(warm)),
    };
    config.learning_rate * (config.final_learning_rate_ratio + (1.0 - config.final_learning_rate_ratio) * height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rate_warms_up_then_follows_the_schedule() {
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
                let rate = learning_rate(&config, step);
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

//! The optimizers' steps against burn-optim's, fused and plain.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, AdjustLrFn, MuonConfig, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use kernels::{AdamW, Muon, reference};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STEPS: usize = 6;

fn matrix(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|_| rng.random::<f32>() - 0.5).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

fn assert_close(what: &str, found: Tensor<2>, expected: Tensor<2>, tolerance: f32) {
    let (found, expected): (Vec<f32>, Vec<f32>) =
        (found.try_into_vec_as().unwrap(), expected.try_into_vec_as().unwrap());
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() <= tolerance, "{what}: {a} instead of {b}");
    }
}

#[test]
fn adamw_takes_the_steps_of_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let config = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(0.1);
    let (burn, start) = (config.build(), matrix(&mut rng, 130, 140));
    let (mut of_burn, mut fused, mut of_plain) = ((start.clone(), None), (start.clone(), None), (start, None));
    for time in 1..=STEPS {
        let gradient = matrix(&mut rng, 130, 140);
        let step = AdamW {
            learning_rate: 0.01,
            weight_decay: 0.1,
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            gradient_scale: 0.5,
            time,
        };
        of_burn = burn.step(0.01, of_burn.0, gradient.clone().mul_scalar(0.5), of_burn.1);
        let (x, moments) = kernels::adamw(fused.0, gradient.clone(), fused.1, &step);
        fused = (x, Some(moments));
        let (x, moments) = reference::adamw(of_plain.0, gradient, of_plain.1, &step);
        of_plain = (x, Some(moments));
    }
    assert_close("fused", fused.0, of_burn.0.clone(), 1e-6);
    assert_close("plain", of_plain.0, of_burn.0, 1e-6);
}

#[test]
fn muon_takes_the_steps_of_burn() {
    for (rows, columns) in [(24, 24), (16, 40), (40, 16)] {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let decay = Some(WeightDecayConfig { penalty: 0.1 });
        let config = MuonConfig::new().with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW).with_weight_decay(decay);
        let (burn, start) = (config.build(), matrix(&mut rng, rows, columns));
        let (mut of_burn, mut fused, mut of_plain) = ((start.clone(), None), (start.clone(), None), (start, None));
        for _ in 0..STEPS {
            let gradient = matrix(&mut rng, rows, columns);
            let step = Muon { learning_rate: 0.01, weight_decay: 0.1, gradient_scale: 0.5 };
            of_burn = burn.step(0.01, of_burn.0, gradient.clone().mul_scalar(0.5), of_burn.1);
            let (x, velocity) = kernels::muon(fused.0, gradient.clone(), fused.1, &step);
            fused = (x, Some(velocity));
            let (x, velocity) = reference::muon(of_plain.0, gradient, of_plain.1, &step);
            of_plain = (x, Some(velocity));
        }
        // The iteration magnifies the last bits of the gradient.
        assert_close("fused", fused.0, of_burn.0.clone(), 1e-5);
        assert_close("plain", of_plain.0, of_burn.0, 1e-5);
    }
}

#[test]
fn the_sum_of_squares_covers_every_element() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (rows, columns) in [(1, 1), (7, 33), (130, 140)] {
        let x = matrix(&mut rng, rows, columns);
        let read = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap()[0];
        let (fused, plain) = (read(kernels::square_sum(x.clone())), read(reference::square_sum(x)));
        assert!((fused - plain).abs() <= 1e-5 * plain, "{fused} instead of {plain}");
    }
}

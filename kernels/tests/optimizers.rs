//! The steps of the optimizers, fused and reference, against burn-optim's.

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
fn adamw_matches_burn() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let config = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(0.1);
    let (burn, start) = (config.build(), matrix(&mut rng, 130, 140));
    let (mut expected, mut fused, mut ours) = ((start.clone(), None), (start.clone(), None), (start, None));
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
        expected = burn.step(0.01, expected.0, gradient.clone().mul_scalar(0.5), expected.1);
        let (x, moments) = kernels::adamw(fused.0, gradient.clone(), fused.1, &step);
        fused = (x, Some(moments));
        let (x, moments) = reference::adamw(ours.0, gradient, ours.1, &step);
        ours = (x, Some(moments));
    }
    assert_close("fused", fused.0, expected.0.clone(), 1e-6);
    assert_close("reference", ours.0, expected.0, 1e-6);
}

#[test]
fn muon_matches_burn() {
    for (rows, columns) in [(24, 24), (16, 40), (40, 16)] {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let decay = Some(WeightDecayConfig { penalty: 0.1 });
        let config = MuonConfig::new().with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW).with_weight_decay(decay);
        let (burn, start) = (config.build(), matrix(&mut rng, rows, columns));
        let (mut expected, mut fused, mut ours) = ((start.clone(), None), (start.clone(), None), (start, None));
        for _ in 0..STEPS {
            let gradient = matrix(&mut rng, rows, columns);
            let step = Muon { learning_rate: 0.01, weight_decay: 0.1, gradient_scale: 0.5 };
            expected = burn.step(0.01, expected.0, gradient.clone().mul_scalar(0.5), expected.1);
            let (x, velocity) = kernels::muon(fused.0, gradient.clone(), fused.1, &step);
            fused = (x, Some(velocity));
            let (x, velocity) = reference::muon(ours.0, gradient, ours.1, &step);
            ours = (x, Some(velocity));
        }
        // The iteration amplifies the last bits of the gradient.
        assert_close("fused", fused.0, expected.0.clone(), 1e-5);
        assert_close("reference", ours.0, expected.0, 1e-5);
    }
}

#[test]
fn square_sum_covers_every_element() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (rows, columns) in [(1, 1), (7, 33), (130, 140)] {
        let x = matrix(&mut rng, rows, columns);
        let read = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap()[0];
        let (fused, expected) = (read(kernels::square_sum(x.clone())), read(reference::square_sum(x)));
        assert!((fused - expected).abs() <= 1e-5 * expected, "{fused} instead of {expected}");
    }
}

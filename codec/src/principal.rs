//! The principal components of patches, by power iteration with deflation.

use burn::tensor::{Device, Tensor, TensorData};

use crate::Error;

/// Multiplications by the covariance for each component. Heuristic, not measured: because the first components of
/// natural patches differ by factors, a hundred leave no error that training would notice.
const ITERATIONS: usize = 100;

/// The mean, and the directions of largest variance.
#[derive(Debug)]
pub(crate) struct Principal {
    /// `[I]`.
    pub(crate) mean: Vec<f32>,
    /// Unit vectors of `[I]`, the largest variance first.
    pub(crate) components: Vec<Vec<f32>>,
    /// The standard deviation along each component.
    pub(crate) deviations: Vec<f32>,
}

impl Principal {
    /// Returns the first `count` components of patches.
    ///
    /// # Shapes
    /// - patches: `[.., I]`, `patch_dim` being I
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub(crate) fn of(patches: &[f32], patch_dim: usize, count: usize, device: &Device) -> Result<Self, Error> {
        let rows = (patches.len() / patch_dim).max(1);
        let mut mean = vec![0.0_f64; patch_dim];
        for patch in patches.chunks_exact(patch_dim) {
            mean.iter_mut().zip(patch).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        for sum in &mut mean {
            *sum /= rows as f64;
        }
        let centred: Vec<f32> = patches
            .chunks_exact(patch_dim)
            .flat_map(|patch| patch.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean) as f32))
            .collect();
        let shape = [centred.len() / patch_dim, patch_dim];
        let centred = Tensor::<2>::from_data(TensorData::new(centred, shape), device);
        let covariance = centred.clone().transpose().matmul(centred).div_scalar(rows as f64);
        let covariance: Vec<f32> = covariance.try_into_vec_as().map_err(Error::compute("the covariance of patches"))?;

        let (mut components, mut deviations) = (Vec::<Vec<f64>>::new(), Vec::new());
        for number in 0..count {
            let (component, variance) = largest(&covariance, &components, number);
            deviations.push(variance.max(0.0).sqrt() as f32);
            components.push(component);
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        Ok(Self { mean: narrow(mean), components: components.into_iter().map(narrow).collect(), deviations })
    }
}

/// Returns the direction of the largest variance that is orthogonal to the components before it, and the variance;
/// zeros if no variance is left.
fn largest(covariance: &[f32], before: &[Vec<f64>], number: usize) -> (Vec<f64>, f64) {
    let n = covariance.len().isqrt();
    // Numbers without a symmetry, which the data could share.
    let mut vector: Vec<f64> = (0..n).map(|i| ((i * (number + 2) + 1) as f64 * 0.7).sin() + 0.01).collect();
    let mut variance = 0.0;
    for _ in 0..ITERATIONS {
        if !orthonormalize(&mut vector, before) {
            return (vec![0.0; n], 0.0);
        }
        let rows = covariance.chunks_exact(n);
        let product: Vec<f64> = rows.map(|row| row.iter().zip(&vector).map(|(c, x)| f64::from(*c) * x).sum()).collect();
        variance = dot(&vector, &product);
        vector = product;
    }
    if orthonormalize(&mut vector, before) { (vector, variance) } else { (vec![0.0; n], 0.0) }
}

/// Makes a vector orthogonal to unit vectors, and one itself; returns false if nothing is left of it.
fn orthonormalize(vector: &mut [f64], before: &[Vec<f64>]) -> bool {
    // Twice, because rounding errors of the first time may be as large as what is left.
    for other in before.iter().chain(before) {
        let along = dot(vector, other);
        vector.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
    }
    let norm = dot(vector, vector).sqrt();
    if norm < 1e-20 {
        return false;
    }
    for x in vector {
        *x /= norm;
    }
    true
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn components_are_the_axes_of_a_known_distribution() {
        // Coordinates along rotated axes with deviations 3, 1 and 0.1 around (1, 2, 3).
        let axes = [[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0_f64]];
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        // Of uniform numbers, √3 is the bound with deviation 1.
        let mut uniform = || rng.random_range(-3.0_f64.sqrt()..3.0_f64.sqrt());
        let patches: Vec<f32> = (0..20_000)
            .flat_map(|_| {
                let along = [3.0 * uniform(), uniform(), 0.1 * uniform()];
                [0, 1, 2].map(|i| {
                    let sum: f64 = (0..3).map(|axis| along[axis] * axes[axis][i]).sum();
                    (sum + (i + 1) as f64) as f32
                })
            })
            .collect();
        let found = Principal::of(&patches, 3, 3, &Device::flex()).unwrap();
        for (i, (deviation, axis)) in [3.0, 1.0, 0.1_f32].into_iter().zip(axes).enumerate() {
            assert!((found.deviations[i] / deviation - 1.0).abs() < 0.03, "{:?}", found.deviations);
            let cosine: f64 = found.components[i].iter().zip(axis).map(|(a, b)| f64::from(*a) * b).sum();
            assert!(cosine.abs() > 0.999, "component {i}: {:?}", found.components[i]);
            assert!((found.mean[i] - (i + 1) as f32).abs() < 0.05);
        }
    }

    #[test]
    fn constant_patches_have_no_variance() {
        let found = Principal::of(&[2.0; 40], 4, 2, &Device::flex()).unwrap();
        assert_eq!(found.deviations, [0.0, 0.0]);
        assert!(found.components.iter().flatten().all(|x| x.is_finite()));
    }
}

//! Products of packed matrices against sums in f64, and what must not change their bits.

use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::packed::{BLOCK, Scratch, encode_row, row_bytes};
use kernels::{PackedMatrix, Pool, WeightType};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WEIGHT_TYPES: [WeightType; 5] =
    [WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Int8, WeightType::Int4];

/// Normally distributed numbers (Box and Muller, 1958).
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || 1.0 - rng.random::<f32>();
    (0..len).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos()).collect()
}

/// Shapes [M, N, K], those of a block type and those of the others.
fn shapes(weight_type: WeightType) -> Vec<[usize; 3]> {
    let mut shapes = vec![[1, 1, 32], [1, 31, 64], [2, 33, 96], [3, 32, 32], [5, 100, 160], [1, 300, 1024]];
    shapes.extend((1..=14).chain([31, 64, 70]).map(|m| [m, 70, 96]));
    // Large enough for several threads.
    shapes.extend([[1, 517, 768], [2, 2048, 256], [9, 1000, 320], [70, 257, 128], [600, 40, 64]]);
    if !matches!(weight_type, WeightType::Int8 | WeightType::Int4) {
        shapes.extend([[1, 40, 1], [3, 5, 7], [7, 33, 33], [12, 64, 127], [13, 47, 250], [1, 700, 333]]);
    }
    shapes
}

fn multiply(matrix: &PackedMatrix, pool: &Pool, x: &[f32]) -> Vec<f32> {
    let [n, k] = matrix.shape();
    let mut y = vec![f32::NAN; x.len() / k * n];
    matrix.multiply(pool, x, &mut Scratch::default(), &mut y);
    y
}

/// Activations as a kernel of the weight type reads them: for int8 and int4, in blocks of 32, rounded to 1 / 127 of the
/// largest.
fn as_read(x: &[f32], weight_type: WeightType) -> Vec<f32> {
    if !matches!(weight_type, WeightType::Int8 | WeightType::Int4) {
        return x.to_vec();
    }
    let block = |block: &[f32]| {
        let largest = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        block.iter().map(|x| (x * (127.0 / largest.max(1e-30))).round_ties_even() * scale).collect::<Vec<_>>()
    };
    x.chunks(BLOCK).flat_map(block).collect()
}

fn rows(matrix: &PackedMatrix) -> Vec<f32> {
    let [n, k] = matrix.shape();
    let mut rows = vec![f32::NAN; n * k];
    rows.chunks_mut(k).enumerate().for_each(|(i, row)| matrix.row(i, row));
    rows
}

/// Returns x Wᵀ in f64.
fn product(x: &[f32], weights: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(k).flat_map(|x| weights.chunks(k).map(move |w| dot(x, w))).collect()
}

/// Returns the root of the mean squared difference over that of the mean square.
fn relative_error(y: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(y.len(), expected.len());
    let square = |x: f64| x * x;
    let differences: f64 = y.iter().zip(expected).map(|(y, e)| square(f64::from(*y) - e)).sum();
    (differences / expected.iter().map(|e| square(*e)).sum::<f64>()).sqrt()
}

#[test]
fn products_are_those_of_the_rows() {
    let pool = Pool::new(2);
    for weight_type in WEIGHT_TYPES {
        for [m, n, k] in shapes(weight_type) {
            let matrix = PackedMatrix::quantize(&normal(n * k, 1), [n, k], weight_type);
            let x = normal(m * k, 2);
            let expected = product(&as_read(&x, weight_type), &rows(&matrix), k);
            let error = relative_error(&multiply(&matrix, &pool, &x), &expected);
            assert!(error < 1e-6, "{weight_type:?}, M {m}, N {n}, K {k}: {error}");
        }
    }
}

#[test]
fn a_product_does_not_depend_on_other_rows_and_threads() {
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for weight_type in WEIGHT_TYPES {
        for [m, n, k] in shapes(weight_type) {
            let matrix = PackedMatrix::quantize(&normal(n * k, 3), [n, k], weight_type);
            let x = normal(m * k, 4);
            let alone: Vec<f32> = x.chunks(k).flat_map(|x| multiply(&matrix, &pools[0], x)).collect();
            for pool in &pools {
                let y = multiply(&matrix, pool, &x);
                let equal = y.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(equal, "{weight_type:?}, M {m}, N {n}, K {k}, {} threads", pool.threads());
            }
        }
    }
}

/// The errors that the documentation states.
#[test]
fn rounding_costs_this_much() {
    let (n, k) = (512, 768);
    let (weights, x) = (normal(n * k, 5), normal(8 * k, 6));
    let exact = product(&x, &weights, k);
    for (weight_type, bound) in WEIGHT_TYPES.into_iter().zip([1e-6, 2e-3, 3e-4, 1e-2, 0.1]) {
        let matrix = PackedMatrix::quantize(&weights, [n, k], weight_type);
        let error = relative_error(&multiply(&matrix, &Pool::new(1), &x), &exact);
        println!("{weight_type:?}: {error:.2e}");
        assert!(error < bound, "{weight_type:?}: {error}");
    }
}

#[test]
fn stored_weights_keep_their_values() {
    let [n, k] = [37, 96];
    let stored: Vec<u8> = {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        (0..n * k * 4).map(|_| rng.random()).collect()
    };
    let half = |bytes: &[u8]| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    for weight_type in WEIGHT_TYPES {
        let stored = &stored[..n * row_bytes(weight_type, k).unwrap()];
        let matrix = PackedMatrix::from_stored(stored, [n, k], weight_type);
        assert_eq!((matrix.shape(), matrix.weight_type()), ([n, k], weight_type));
        assert!(matrix.bytes() >= stored.len());
        let expected: Vec<f32> = match weight_type {
            WeightType::F32 => stored.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            WeightType::Bf16 => stored.chunks(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect(),
            WeightType::F16 => stored.chunks(2).map(half).collect(),
            WeightType::Int8 => {
                stored.chunks(34).flat_map(|b| b[2..].iter().map(|w| f32::from(*w as i8) * half(b))).collect()
            }
            WeightType::Int4 => stored
                .chunks(18)
                .flat_map(|b| {
                    let low = b[2..].iter().map(|w| w & 15);
                    low.chain(b[2..].iter().map(|w| w >> 4)).map(|w| (f32::from(w) - 8.0) * half(b))
                })
                .collect(),
        };
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(rows(&matrix).iter().zip(&expected).all(|(a, b)| same(a, b)), "{weight_type:?}");
    }
}

/// A product with the 16 or 256 values of an integer weight and the largest activations, where a sum in too few bits
/// would overflow.
#[test]
fn sums_of_extreme_integers_do_not_overflow() {
    let k = 64;
    for (weight_type, bytes) in [(WeightType::Int8, [0x80, 0x7f]), (WeightType::Int4, [0x00, 0xff])] {
        for byte in bytes {
            let block_bytes = row_bytes(weight_type, BLOCK).unwrap();
            let block =
                |i: usize| if i % block_bytes < 2 { half::f16::ONE.to_le_bytes()[i % block_bytes] } else { byte };
            let stored: Vec<u8> = (0..40 * row_bytes(weight_type, k).unwrap()).map(block).collect();
            let matrix = PackedMatrix::from_stored(&stored, [40, k], weight_type);
            for x in [127.0, -127.0] {
                let x = vec![x; 5 * k];
                let y = multiply(&matrix, &Pool::new(1), &x);
                let expected = product(&x, &rows(&matrix), k);
                assert!(
                    y.iter().zip(&expected).all(|(y, e)| y.to_bits() == (*e as f32).to_bits()),
                    "{weight_type:?}, {byte:#x}"
                );
            }
        }
    }
}

#[test]
fn not_finite_activations_show_in_the_product() {
    for weight_type in WEIGHT_TYPES {
        let matrix = PackedMatrix::quantize(&normal(40 * 64, 8), [40, 64], weight_type);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = normal(2 * 64, 9);
            x[64 + 5] = bad;
            let y = multiply(&matrix, &Pool::new(1), &x);
            assert!(y[..40].iter().all(|y| y.is_finite()), "{weight_type:?}: the other row");
            assert!(y[40..].iter().all(|y| !y.is_finite()), "{weight_type:?}: {bad}");
        }
    }
}

#[test]
fn rows_of_zeros_are_products_of_zeros() {
    for weight_type in WEIGHT_TYPES {
        let matrix = PackedMatrix::quantize(&[0.0; 33 * 64], [33, 64], weight_type);
        assert!(multiply(&matrix, &Pool::new(1), &normal(64, 10)).iter().all(|y| *y == 0.0));
        let matrix = PackedMatrix::quantize(&normal(33 * 64, 10), [33, 64], weight_type);
        assert!(multiply(&matrix, &Pool::new(1), &[0.0; 64]).iter().all(|y| *y == 0.0));
    }
}

#[test]
fn rows_are_announced_once_they_are_read() {
    // More than is packed at once.
    let [n, k] = [5000, 1024];
    let weights = normal(n * k, 9);
    for weight_type in [WeightType::F32, WeightType::Int8] {
        let (mut announced, is_done) = (0, AtomicUsize::new(0));
        let matrix = PackedMatrix::from_rows(
            [n, k],
            weight_type,
            |row, stored| {
                assert!(row >= is_done.load(Ordering::SeqCst), "row {row} is read again");
                encode_row(&weights[row * k..][..k], weight_type, stored);
            },
            |rows| {
                assert_eq!(rows.start, announced);
                announced = rows.end;
                is_done.store(rows.end, Ordering::SeqCst);
            },
        );
        assert_eq!(announced, n);
        assert!(rows(&matrix) == rows(&PackedMatrix::quantize(&weights, [n, k], weight_type)), "{weight_type:?}");
    }
}

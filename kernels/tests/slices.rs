//! The operations on slices against f64.

use half::f16;
use kernels::Pool;
use kernels::slices::{self, AttentionHeads, AttentionRow, KvPages, KvType};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const LENGTHS: [usize; 7] = [1, 7, 16, 33, 64, 160, 768];

fn uniform(len: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| (rng.random::<f32>() - 0.5) * 2.0 * spread).collect()
}

fn check(name: &str, actual: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!((f64::from(*a) - e).abs() <= tolerance * (1.0 + e.abs()), "{name}, element {i}: {a} instead of {e}");
    }
}

fn f64s(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

#[test]
fn norms() {
    for d in LENGTHS {
        let (x, residual) = (uniform(d, 3.0, 1), uniform(d, 3.0, 2));
        let (weight, bias) = (uniform(d, 2.0, 3), uniform(d, 2.0, 4));
        let sum: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| x + r).collect();
        let rms = |x: &[f32]| {
            let inverse = 1.0 / (mean(&f64s(x).iter().map(|x| x * x).collect::<Vec<_>>()) + 1e-5).sqrt();
            x.iter().zip(&weight).map(|(x, w)| f64::from(*x) * inverse * f64::from(*w)).collect::<Vec<_>>()
        };
        let layer = |x: &[f32]| {
            let x = f64s(x);
            let center = mean(&x);
            let variance = mean(&x.iter().map(|x| (x - center) * (x - center)).collect::<Vec<_>>());
            let normal = x.iter().map(|x| (x - center) / (variance + 1e-5).sqrt());
            normal.zip(f64s(&weight)).zip(f64s(&bias)).map(|((x, w), b)| x * w + b).collect::<Vec<_>>()
        };
        let mut y = vec![0.0; d];
        slices::rms_norm(&x, &weight, 1e-5, &mut y);
        check("RMSNorm", &y, rms(&x), 1e-5);
        slices::layer_norm(&x, &weight, &bias, 1e-5, &mut y);
        check("LayerNorm", &y, layer(&x), 1e-5);
        let mut stream = x.clone();
        slices::add_rms_norm(&mut stream, &residual, &weight, 1e-5, &mut y);
        assert_eq!(stream, sum);
        check("RMSNorm of a sum", &y, rms(&sum), 1e-5);
        let mut stream = x.clone();
        slices::add_layer_norm(&mut stream, &residual, &weight, &bias, 1e-5, &mut y);
        assert_eq!(stream, sum);
        check("LayerNorm of a sum", &y, layer(&sum), 1e-5);
    }
}

/// erf by its Taylor series, in which 60 terms are enough up to 4, and 1 beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn activations() {
    let gelu_tanh = |x: f64| x / 2.0 * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh());
    for len in LENGTHS {
        let (x, up) = (uniform(len, 12.0, 5), uniform(len, 2.0, 6));
        let in_place = |operation: &dyn Fn(&mut [f32])| {
            let mut y = x.clone();
            operation(&mut y);
            y
        };
        let of_both =
            |f: &dyn Fn(f64) -> f64| f64s(&x).into_iter().zip(f64s(&up)).map(|(x, up)| f(x) * up).collect::<Vec<_>>();
        let y = in_place(&|x| slices::swiglu(x, &up));
        check("SwiGLU", &y, of_both(&|x| x / (1.0 + (-x).exp())), 1e-6);
        let y = in_place(&|x| slices::geglu(x, &up));
        check("GEGLU", &y, of_both(&gelu_tanh), 1e-6);
        check("GELU, tanh", &in_place(&slices::gelu), f64s(&x).into_iter().map(gelu_tanh), 1e-6);
        let gelu = |x: f64| x / 2.0 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
        check("GELU, erf", &in_place(&slices::gelu_erf), f64s(&x).into_iter().map(gelu), 2e-6);
        let y = in_place(&|x| slices::soft_cap(x, 5.0));
        check("soft cap", &y, f64s(&x).into_iter().map(|x| 5.0 * (x / 5.0).tanh()), 1e-6);
        let total: f64 = f64s(&x).iter().map(|x| x.exp()).sum();
        check("softmax", &in_place(&slices::softmax), f64s(&x).iter().map(|x| x.exp() / total), 1e-6);
    }
}

#[test]
fn rotation() {
    for c in [2, 16, 64, 96] {
        let (heads, angles) = (uniform(3 * c, 2.0, 7), uniform(c / 2, 3.0, 8));
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let mut y = heads.clone();
        slices::rope(&mut y, &cos, &sin);
        let expected = heads.chunks(c).flat_map(|head| {
            let (a, b) = head.split_at(c / 2);
            let pairs = || f64s(a).into_iter().zip(f64s(b)).zip(f64s(&cos).into_iter().zip(f64s(&sin)));
            let first = pairs().map(|((a, b), (cos, sin))| a * cos - b * sin);
            first.chain(pairs().map(|((a, b), (cos, sin))| b * cos + a * sin)).collect::<Vec<_>>()
        });
        check("rope", &y, expected, 1e-6);
    }
}

/// A cache of which the sequences use every block but one, in an order that is not theirs, and the keys and values that
/// were written to it.
struct Cache {
    heads: AttentionHeads,
    pages: KvPages,
    tables: Vec<Vec<u32>>,
    /// By sequence and position.
    written: Vec<Vec<[Vec<f32>; 2]>>,
}

impl Cache {
    fn new(kv_type: KvType, heads: AttentionHeads, lengths: &[usize]) -> Self {
        let counts = lengths.iter().map(|length| length.div_ceil(heads.block_tokens));
        let mut free: Vec<u32> = (0..=counts.clone().sum::<usize>() as u32).rev().collect();
        free.swap(0, 1);
        let tables: Vec<Vec<u32>> = counts.map(|count| (0..count).map(|_| free.pop().unwrap()).collect()).collect();
        let mut pages = KvPages::new(kv_type, heads.n_kv_head, heads.head_dim, heads.block_tokens);
        let mut written = Vec::new();
        for (sequence, length) in lengths.iter().enumerate() {
            let position = |position: usize| {
                let seed = 1000 * sequence as u64 + position as u64;
                let numbers = [0, 1].map(|part| uniform(heads.n_kv_head * heads.head_dim, 1.0, 2 * seed + part));
                let block = tables[sequence][position / heads.block_tokens];
                pages.write(block, position % heads.block_tokens, &numbers[0], &numbers[1]);
                numbers
            };
            written.push((0..*length).map(position).collect());
        }
        Self { heads, pages, tables, written }
    }

    /// Returns the key (0) or value (1) of a position, rounded as a type of the cache does.
    fn get(&self, kv_type: KvType, part: usize, sequence: usize, position: usize, kv_head: usize) -> Vec<f64> {
        let c = self.heads.head_dim;
        let numbers = &self.written[sequence][position][part][kv_head * c..][..c];
        let largest = numbers.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let scale = f16::from_f32(largest / 127.0).to_f32();
        let rounded = numbers.iter().map(|x| match kv_type {
            KvType::F32 => *x,
            KvType::F16 => f16::from_f32(*x).to_f32(),
            KvType::Int8 => (x * (1.0 / scale)).round_ties_even().clamp(-127.0, 127.0) * scale,
        });
        rounded.map(f64::from).collect()
    }

    /// Returns the weights of all positions up to a row's.
    fn weights(&self, kv_type: KvType, query: &[f32], sequence: usize, position: usize, kv_head: usize) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let first = self.heads.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut weights = vec![0.0; first];
        weights.extend((first..=position).map(|p| {
            let score = f64::from(self.heads.scale) * dot(&f64s(query), &self.get(kv_type, 0, sequence, p, kv_head));
            self.heads.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()).exp()
        }));
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    fn expected(&self, kv_type: KvType, query: &[f32], sequence: usize, position: usize, kv_head: usize) -> Vec<f64> {
        let mut y = vec![0.0; query.len()];
        for (p, weight) in self.weights(kv_type, query, sequence, position, kv_head).into_iter().enumerate() {
            y.iter_mut().zip(self.get(kv_type, 1, sequence, p, kv_head)).for_each(|(y, v)| *y += weight * v);
        }
        y
    }
}

/// Checks attention and its weights against their definition, and each row against the same row alone; returns the
/// error of rounding.
fn check_attention(kv_type: KvType, heads: AttentionHeads, lengths: &[usize]) -> f64 {
    let cache = Cache::new(kv_type, heads, lengths);
    // Every sequence's last row, and the rows before the last of the longest: a prefill beside a decode.
    let mut at: Vec<(usize, usize)> = lengths.iter().enumerate().map(|(i, length)| (i, length - 1)).collect();
    at.extend((0..lengths[0] - 1).take(35).map(|position| (0, position)));
    let rows: Vec<AttentionRow> = at
        .iter()
        .map(|(sequence, position)| AttentionRow { position: *position, blocks: &cache.tables[*sequence] })
        .collect();
    let row_len = heads.n_head * heads.head_dim;
    let queries = uniform(rows.len() * row_len, 3.0, 10);
    let group = heads.n_head / heads.n_kv_head;
    let mut y = vec![f32::NAN; queries.len()];
    slices::attention(&Pool::new(2), &heads, &queries, &rows, &cache.pages, &mut y);
    let (mut differences, mut squares) = (0.0, 0.0);
    for (i, (sequence, position)) in at.iter().enumerate() {
        for head in 0..heads.n_head {
            let range = i * row_len + head * heads.head_dim..i * row_len + (head + 1) * heads.head_dim;
            let query = &queries[range.clone()];
            let expected = cache.expected(kv_type, query, *sequence, *position, head / group);
            check(&format!("{kv_type:?}, {heads:?}, position {position}"), &y[range.clone()], expected, 1e-5);
            let exact = cache.expected(KvType::F32, query, *sequence, *position, head / group);
            differences += y[range].iter().zip(&exact).map(|(y, e)| (f64::from(*y) - e).powi(2)).sum::<f64>();
            squares += exact.iter().map(|e| e.powi(2)).sum::<f64>();
        }
    }
    for ((row, (sequence, position)), query) in rows.iter().zip(&at).zip(queries.chunks_exact(row_len)) {
        let found = slices::attention_weights(&heads, query, *row, &cache.pages);
        let expected = query.chunks_exact(heads.head_dim).enumerate();
        let expected =
            expected.flat_map(|(head, query)| cache.weights(kv_type, query, *sequence, *position, head / group));
        check(&format!("weights in {kv_type:?}, {heads:?}, position {position}"), &found, expected, 1e-5);
    }
    for (i, row) in rows.iter().enumerate() {
        let mut alone = vec![f32::NAN; row_len];
        let query = &queries[i * row_len..][..row_len];
        slices::attention(&Pool::new(1), &heads, query, &[*row], &cache.pages, &mut alone);
        let together = &y[i * row_len..][..row_len];
        let equal = alone.iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(equal, "{kv_type:?}, {heads:?}: row {i} alone");
    }
    (differences / squares).sqrt()
}

#[test]
fn attention_over_pages() {
    let heads = AttentionHeads {
        n_head: 4,
        n_kv_head: 4,
        head_dim: 64,
        block_tokens: 16,
        scale: 0.125,
        soft_cap: None,
        window: None,
    };
    let cases = [
        heads,
        AttentionHeads { n_kv_head: 1, ..heads },
        AttentionHeads { n_head: 10, n_kv_head: 1, head_dim: 40, ..heads },
        AttentionHeads { n_head: 6, n_kv_head: 2, head_dim: 20, block_tokens: 8, ..heads },
        AttentionHeads { block_tokens: 32, head_dim: 128, soft_cap: Some(2.0), ..heads },
        AttentionHeads { block_tokens: 64, n_kv_head: 2, window: Some(13), ..heads },
        AttentionHeads { window: Some(1), ..heads },
        AttentionHeads { window: Some(1000), soft_cap: Some(30.0), ..heads },
        AttentionHeads { n_head: 1, n_kv_head: 1, head_dim: 1, block_tokens: 1, ..heads },
    ];
    for heads in cases {
        check_attention(KvType::F32, heads, &[40, 1, 17, 33]);
        check_attention(KvType::F16, heads, &[130, 16, 64]);
        check_attention(KvType::Int8, heads, &[130, 16, 64]);
    }
    for (kv_type, bound) in [(KvType::F32, 1e-6), (KvType::F16, 3e-4), (KvType::Int8, 1e-2)] {
        let error = check_attention(kv_type, heads, &[130, 16, 64]);
        println!("{kv_type:?}: {error:.2e}");
        assert!(error < bound, "{kv_type:?}: {error}");
    }
}

#[test]
fn copied_blocks_are_the_same() {
    for kv_type in [KvType::F32, KvType::F16, KvType::Int8] {
        let heads = AttentionHeads {
            n_head: 2,
            n_kv_head: 2,
            head_dim: 8,
            block_tokens: 4,
            scale: 0.3,
            soft_cap: None,
            window: None,
        };
        let mut cache = Cache::new(kv_type, heads, &[4]);
        let query = uniform(16, 3.0, 4);
        let attend = |pages: &KvPages, block: u32| {
            let mut y = vec![f32::NAN; 16];
            let row = AttentionRow { position: 3, blocks: &[block] };
            slices::attention(&Pool::new(1), &heads, &query, &[row], pages, &mut y);
            y
        };
        let block = cache.tables[0][0];
        let expected = attend(&cache.pages, block);
        cache.pages.copy_block(block, 9);
        // A token of the original is another from now on.
        cache.pages.write(block, 2, &[5.0; 16], &[5.0; 16]);
        assert!(attend(&cache.pages, 9) == expected && attend(&cache.pages, block) != expected, "{kv_type:?}");
    }
}

//! Products of packed matrices: bytes of weights a second for one row, multiply-adds a second (items) for many, and the
//! memory's bandwidth to compare with.
//!
//! `cargo bench -p kernels`

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kernels::packed::Scratch;
use kernels::{PackedMatrix, Pool, WeightType};
use memmap2::MmapMut;

const WEIGHT_TYPES: [WeightType; 5] =
    [WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Int8, WeightType::Int4];

/// The width of a Llama of 110 million parameters, and of its feed-forward layers.
const WIDTH: usize = 768;
const FEED_FORWARD: usize = 2048;

/// Rows of a weight with about as many elements as that model, which is larger than the caches in every type.
const LARGE: usize = 1 << 17;

fn main() {
    divan::main();
}

fn pool() -> Pool {
    Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
}

fn values(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn multiply(bencher: Bencher, pool: &Pool, [m, n, k]: [usize; 3], weight_type: WeightType) {
    let matrix = PackedMatrix::quantize(&values(n * k), [n, k], weight_type);
    let (x, mut y, mut scratch) = (values(m * k), vec![0.0; m * n], Scratch::default());
    let bencher = bencher.counter(ItemsCount::new(m * n * k)).counter(BytesCount::new(matrix.bytes()));
    bencher.bench_local(|| matrix.multiply(pool, black_box(&x), &mut scratch, &mut y));
}

/// The limit of the benchmarks of one row: reading as many bytes as the f32 weights have, from huge pages as they are.
#[divan::bench]
fn read_memory(bencher: Bencher) {
    let pool = pool();
    let mut map = MmapMut::map_anon(4 * LARGE * WIDTH).expect("memory");
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::HugePage).expect("huge pages");
    map.fill(1);
    let bencher = bencher.counter(BytesCount::new(map.len()));
    bencher.bench_local(|| {
        pool.for_each_chunk(&mut map, 1 << 17, |_, chunk| {
            black_box(sum(chunk));
        });
    });
}

/// Returns the sum of the bytes, as many at a time as keep the memory busy.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 16];
    for chunk in bytes.as_chunks::<128>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    lanes.into_iter().fold(0, u64::wrapping_add)
}

/// A decoding step: one row times the weights of a whole model.
#[divan::bench(args = WEIGHT_TYPES)]
fn one_row(bencher: Bencher, weight_type: WeightType) {
    multiply(bencher, &pool(), [1, LARGE, WIDTH], weight_type);
}

/// A decoding step of 16 sequences.
#[divan::bench(args = WEIGHT_TYPES)]
fn rows_16(bencher: Bencher, weight_type: WeightType) {
    multiply(bencher, &pool(), [16, LARGE, WIDTH], weight_type);
}

/// A chunk of a prompt.
#[divan::bench(args = WEIGHT_TYPES)]
fn rows_512(bencher: Bencher, weight_type: WeightType) {
    multiply(bencher, &pool(), [512, FEED_FORWARD, WIDTH], weight_type);
}

/// One row of a small model, in the caches and on one thread.
#[divan::bench(args = WEIGHT_TYPES)]
fn small(bencher: Bencher, weight_type: WeightType) {
    multiply(bencher, &Pool::new(1), [1, 256, 256], weight_type);
}

/// One row of a small model with a pool, which must not cost more.
#[divan::bench(args = WEIGHT_TYPES)]
fn small_with_a_pool(bencher: Bencher, weight_type: WeightType) {
    multiply(bencher, &pool(), [1, 256, 256], weight_type);
}

/// What starting and ending a parallel section costs.
#[divan::bench]
fn empty_section(bencher: Bencher) {
    let pool = pool();
    bencher.bench_local(|| pool.run(&|_| {}));
}

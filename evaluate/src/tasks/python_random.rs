//! Python's `random.Random`, as far as lm-evaluation-harness draws examples with it.
//!
//! The generator is MT19937 (Matsumoto and Nishimura, Mersenne Twister: A 623-dimensionally equidistributed uniform
//! pseudorandom number generator, 1998), initialized by an array as in its reference code.

use std::collections::BTreeSet;

const N: usize = 624;
const M: usize = 397;

/// A generator with the numbers of `random.Random(seed)`.
#[derive(Debug, Clone)]
pub(super) struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    /// Returns the generator of a seed below 2^32.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [0_u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        let mut i = 1;
        // The key has one word, the seed.
        for _ in 0..N {
            let before = state[i - 1];
            state[i] = (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_664_525)).wrapping_add(seed);
            i = Self::advance(&mut state, i);
        }
        for _ in 0..N - 1 {
            let before = state[i - 1];
            state[i] = (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = Self::advance(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn advance(state: &mut [u32; N], i: usize) -> usize {
        if i + 1 < N {
            return i + 1;
        }
        state[0] = state[N - 1];
        1
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (mixed >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Returns a number below `limit`, which is at least 1.
    fn below(&mut self, limit: u32) -> u32 {
        let bits = u32::BITS - limit.leading_zeros();
        loop {
            let number = self.word() >> (u32::BITS - bits);
            if number < limit {
                return number;
            }
        }
    }

    /// Returns `count` different indices below `population`, in the order of `random.sample`.
    ///
    /// # Panics
    /// Panics if there are fewer.
    pub(super) fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        assert!(count <= population, "{count} of {population}");
        let n = population as u32;
        // As in Python: a list where it is smaller than the set of what has been drawn.
        let mut set_size = 21;
        if count > 5 {
            set_size += 4_usize.pow(((count * 3) as f64).log(4.0).ceil() as u32);
        }
        if population <= set_size {
            let mut pool: Vec<usize> = (0..population).collect();
            return (0..count)
                .map(|i| {
                    let drawn = self.below(n - i as u32) as usize;
                    let last = population - i - 1;
                    let index = pool[drawn];
                    pool[drawn] = pool[last];
                    index
                })
                .collect();
        }
        let (mut selected, mut order) = (BTreeSet::new(), Vec::with_capacity(count));
        while order.len() < count {
            let drawn = self.below(n) as usize;
            if selected.insert(drawn) {
                order.push(drawn);
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `CPython` 3.11: `r = random.Random(1234)`, then `r.sample(range(n), k)` for each line in turn.
    #[test]
    fn samples_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        let mut check = |population, count, expected: &[usize]| {
            assert_eq!(random.sample(population, count), expected, "{count} of {population}");
        };
        check(10, 3, &[7, 1, 0]);
        check(10, 10, &[1, 0, 9, 8, 2, 7, 6, 3, 5, 4]);
        check(100, 5, &[82, 79, 61, 78, 59]);
        check(1000, 8, &[152, 93, 187, 730, 117, 865, 14, 515]);
        check(50, 6, &[31, 15, 4, 42, 34, 29]);
        check(21, 5, &[2, 19, 20, 16, 1]);
        check(22, 5, &[8, 17, 2, 20, 9]);
        check(86, 6, &[61, 45, 34, 31, 83, 25]);
        check(3, 1, &[1]);
    }

    /// `[r.getrandbits(32) for _ in range(3)]` of `random.Random(seed)`, and the thousandth.
    #[test]
    fn words_are_those_of_python() {
        let words = |seed| {
            let mut random = PythonRandom::new(seed);
            let words: Vec<u32> = (0..1000).map(|_| random.word()).collect();
            [words[0], words[1], words[2], words[999]]
        };
        assert_eq!(words(0), [3_626_764_237, 1_654_615_998, 3_255_389_356, 2_971_151_651]);
        assert_eq!(words(1234), [4_150_886_329, 3_342_196_574, 1_892_932_127, 3_677_914_080]);
        assert_eq!(words(4_294_967_295), [2_728_839_433, 2_661_025_012, 872_737_089, 3_614_058_829]);
    }
}

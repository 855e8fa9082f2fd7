//! Reproducible random numbers, and random damage.

/// Random numbers from a seed: splitmix64 ("Fast Splittable Pseudorandom Number Generators", 2014).
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    /// Returns true once in `times` on average.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns one of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Damages bytes in one to eight places, few more likely than many; inserts `words`, tokens that the parser knows.
    pub fn damage(&mut self, bytes: &mut Vec<u8>, words: &[&str]) {
        let places = 1 + self.below(8).min(self.below(8));
        for _ in 0..places {
            if bytes.is_empty() {
                bytes.push(0);
            }
            let at = self.below(bytes.len());
            let length = self.below(40).min(bytes.len() - at);
            let few = at..(at + 4).min(bytes.len());
            match self.below(10) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.number() as u8,
                2 => drop(bytes.drain(at..at + length)),
                3 => {
                    let copy = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                4 => bytes.truncate(at),
                5 => bytes[few].fill(0xff),
                6 => bytes[few].fill(0),
                7 => {
                    let copies = self.below(60);
                    bytes.splice(at..at, self.pick(words).repeat(copies).into_bytes());
                }
                _ => drop(bytes.splice(at..at, self.pick(words).bytes())),
            }
        }
    }
}

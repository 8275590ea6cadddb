//! Python's `random.Random`, bit for bit: the generator, and the draws that few-shot samplers and
//! shuffles make with it. Source: `random.py` and `_randommodule.c` of CPython 3.

use crate::{Error, Result};
use rand_mt::Mt;
use std::collections::HashSet;

/// A `random.Random`.
#[derive(Clone, Debug)]
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// `random.Random(seed)`, of a seed that is not negative.
    pub fn new(seed: u64) -> Self {
        // The 32-bit words of the seed, the least first, without zeros at the end.
        let words = [seed as u32, (seed >> 32) as u32];
        let count = if words[1] == 0 { 1 } else { 2 };
        Self(Mt::new_with_key(words[..count].iter().copied()))
    }

    /// `getrandbits(bits)`, of at most 32 bits.
    pub fn bits(&mut self, bits: u32) -> u32 {
        debug_assert!((1..=32).contains(&bits));
        self.0.next_u32() >> (32 - bits)
    }

    /// `random()`: a number in [0, 1) with 53 random bits.
    pub fn random(&mut self) -> f64 {
        let [high, low] = [self.0.next_u32() >> 5, self.0.next_u32() >> 6].map(f64::from);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)`: a whole number below `n`, which is above 0 and fits 32 bits.
    pub fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0 && u32::try_from(n).is_ok());
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `sample(range(population), count)`: different places of a list, in the order drawn.
    ///
    /// # Errors
    /// A `count` above `population`, which Python refuses too.
    pub fn sample(&mut self, population: usize, count: usize) -> Result<Vec<usize>> {
        if count > population {
            return Err(Error::data(format!(
                "{count} examples are to be drawn from {population}"
            ))
            .hint("ask for fewer shots, or give the whole split that examples are drawn from"));
        }
        if population <= small_population(count) {
            let mut pool: Vec<usize> = (0..population).collect();
            let draw = |left: usize| {
                let place = self.below(population - left);
                let drawn = pool[place];
                pool[place] = pool[population - left - 1];
                drawn
            };
            return Ok((0..count).map(draw).collect());
        }
        let mut used = HashSet::with_capacity(count);
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let place = self.below(population);
            if used.insert(place) {
                drawn.push(place);
            }
        }
        Ok(drawn)
    }
}

/// The largest population of which `sample` copies the whole list: the size of a set that holds
/// `count` values, 21 + 4^⌈log₄ 3·count⌉, or 21 for up to 5 values.
fn small_population(count: usize) -> usize {
    let mut table = 1;
    while table < 3 * count {
        table *= 4;
    }
    21 + if count > 5 { table } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values by CPython 3.11.

    #[test]
    fn numbers_are_those_of_python() {
        let mut rng = PythonRandom::new(1234);
        let bits: Vec<u32> = (0..3).map(|_| rng.bits(32)).collect();
        assert_eq!(bits, [4_150_886_329, 3_342_196_574, 1_892_932_127]);
        let mut rng = PythonRandom::new(1234);
        assert_eq!(rng.random(), 0.966_453_535_692_138_8);
        // A seed of two words.
        let mut rng = PythonRandom::new((1 << 40) + 7);
        assert_eq!(rng.bits(32), 2_635_837_658);
    }

    #[test]
    fn samples_are_those_of_python() {
        let mut rng = PythonRandom::new(1234);
        assert_eq!(rng.sample(7473, 5).unwrap(), [6374, 3610, 957, 61, 742]);
        assert_eq!(rng.sample(7473, 5).unwrap(), [7462, 6610, 4769, 286, 5501]);
        let mut rng = PythonRandom::new(1234);
        assert_eq!(rng.sample(9, 5).unwrap(), [7, 1, 0, 6, 4]);
        assert_eq!(rng.sample(9, 0).unwrap(), [0; 0]);
        assert_eq!(rng.sample(1, 1).unwrap(), [0]);
        let message = rng.sample(2, 3).unwrap_err().to_string();
        assert_eq!(message, "3 examples are to be drawn from 2");
    }

    #[test]
    fn shuffles_are_those_of_python() {
        let mut rng = PythonRandom::new(42);
        let mut items: Vec<usize> = (0..10).collect();
        rng.shuffle(&mut items);
        assert_eq!(items, [7, 3, 2, 8, 5, 6, 9, 4, 0, 1]);
        assert_eq!(rng.sample(7473, 5).unwrap(), [4837, 3456, 260, 244, 767]);
    }

    #[test]
    fn small_populations_are_copied() {
        let limits = [0, 5, 6, 10, 11, 21, 22, 25].map(small_population);
        assert_eq!(limits, [21, 21, 85, 85, 85, 85, 277, 277]);
    }
}

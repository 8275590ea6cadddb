//! Counter-based random streams. There is no global generator: every stream is named by a seed and
//! a purpose, so that a draw depends only on that name, never on batch size, order or neighbours.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The stream of `purpose` (for example `"sft/order"`) and `indices` (epoch, item, …) under `seed`.
pub fn stream(seed: u64, purpose: &str, indices: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for index in indices {
        hasher.update(&index.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// The seed of round `round` of a repeated computation (an iteration of Algorithm 1) under `seed`.
pub fn round(seed: u64, round: usize) -> u64 {
    rand::Rng::random(&mut stream(seed, "round", &[round as u64]))
}

/// The numbers `0..n` in an order that is a pure function of its arguments.
pub fn permutation(n: usize, seed: u64, purpose: &str, epoch: u64) -> Vec<usize> {
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut stream(seed, purpose, &[epoch]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// The order of the data is a function of (seed, epoch): the next row of a resumed run does not
    /// depend on the rows that it has read.
    #[test]
    fn an_order_is_a_function_of_seed_purpose_and_epoch() {
        let order = permutation(50, 1, "a", 2);
        assert_eq!(order, permutation(50, 1, "a", 2));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        for other in [
            permutation(50, 2, "a", 2),
            permutation(50, 1, "b", 2),
            permutation(50, 1, "a", 3),
        ] {
            assert_ne!(order, other);
        }
    }

    #[test]
    fn streams_are_named_by_every_part_of_their_name() {
        let draw = |seed, purpose, indices: &[u64]| stream(seed, purpose, indices).random::<u64>();
        let first = draw(1, "a", &[2, 3]);
        assert_eq!(first, draw(1, "a", &[2, 3]));
        for other in [
            draw(2, "a", &[2, 3]),
            draw(1, "b", &[2, 3]),
            draw(1, "a", &[3, 2]),
            draw(1, "a", &[2]),
        ] {
            assert_ne!(first, other);
        }
    }
}

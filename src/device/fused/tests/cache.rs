//! Generation from the cache against attention over the whole sequence.

use super::*;
use crate::device::fused::{KvCache, attention, prefill, select_rows, step};
use burn::tensor::Int;

struct Sequence {
    qkv: Tensor<3>,
    rotary: Rotary,
    mask: Tensor<2, Bool>,
}

impl Sequence {
    /// Rows padded on the left of `prompt` slots, followed by `new` real tokens.
    fn random(batch: usize, prompt: usize, new: usize, width: usize, half: usize) -> Self {
        let device = Device::flex();
        let mut dice = Dice::new((batch * prompt + new) as u64);
        let time = prompt + new;
        let real = (0..batch * time).map(|index| index % time >= prompt.min(index / time)).collect::<Vec<bool>>();
        Self {
            qkv: dice.tensor([batch, time, 3 * width], 1.0, &device),
            rotary: dice.rotary([batch, time, half], &device),
            mask: Tensor::from_data(TensorData::new(real, [batch, time]), &device),
        }
    }

    fn angles(&self, start: usize, count: usize) -> Rotary {
        Rotary {
            cos: self.rotary.cos.clone().narrow(1, start, count),
            sin: self.rotary.sin.clone().narrow(1, start, count),
        }
    }

    fn prefill(&self, heads: usize, prompt: usize, capacity: usize) -> (Tensor<3>, KvCache) {
        let qkv = self.qkv.clone().narrow(1, 0, prompt);
        prefill(qkv, heads, &self.angles(0, prompt), self.mask.clone().narrow(1, 0, prompt), capacity)
    }

    fn step(&self, heads: usize, cache: KvCache) -> (Tensor<3>, KvCache) {
        let slot = cache.len();
        let qkv = self.qkv.clone().narrow(1, slot, 1);
        step(qkv, heads, &self.angles(slot, 1), self.mask.clone().narrow(1, 0, slot + 1), cache)
    }
}

#[test]
fn steps_equal_attention_over_the_whole_sequence() {
    for (batch, prompt, new, heads, size, half, capacity) in
        [(4, 6, 7, 2, 16, 2, 13), (1, 1, 3, 1, 5, 0, 1), (3, 20, 12, 4, 16, 8, 24), (5, 17, 2, 3, 24, 3, 64)]
    {
        let sequence = Sequence::random(batch, prompt, new, heads * size, half);
        let whole = attention(sequence.qkv.clone(), heads, &sequence.rotary, sequence.mask.clone());
        let (out, mut cache) = sequence.prefill(heads, prompt, capacity);
        assert_close(&floats(out), &floats(whole.clone().narrow(1, 0, prompt)), 1e-6);
        assert_eq!((cache.len(), cache.rows(), cache.is_empty()), (prompt, batch, false));
        for slot in prompt..prompt + new {
            let (out, next) = sequence.step(heads, cache);
            assert_close(&floats(out), &floats(whole.clone().narrow(1, slot, 1)), 1e-5);
            cache = next;
        }
        assert!(cache.capacity() >= prompt + new);
    }
}

#[test]
fn an_older_copy_of_the_cache_is_not_changed_by_a_step() {
    let sequence = Sequence::random(2, 4, 3, 32, 2);
    let (_, cache) = sequence.prefill(2, 4, 8);
    let kept = cache.clone();
    let (first, cache) = sequence.step(2, cache);
    let _ = sequence.step(2, cache);
    let (again, _) = sequence.step(2, kept);
    assert_eq!(floats(first), floats(again));
}

#[test]
fn remaining_rows_go_on_exactly_as_before() {
    let sequence = Sequence::random(5, 9, 4, 48, 4);
    let (_, cache) = sequence.prefill(3, 9, 16);
    let (_, cache) = sequence.step(3, cache);
    let rows = Tensor::<1, Int>::from_data([3, 1], &Device::flex());
    let fewer = Sequence {
        qkv: sequence.qkv.clone().select(0, rows.clone()),
        rotary: Rotary {
            cos: sequence.rotary.cos.clone().select(0, rows.clone()),
            sin: sequence.rotary.sin.clone().select(0, rows.clone()),
        },
        mask: sequence.mask.clone().select(0, rows.clone()),
    };
    let mut selected = select_rows(cache.clone(), rows.clone());
    let mut all = cache;
    assert_eq!(selected.rows(), 2);
    for _ in 0..3 {
        let (expected, next_all) = sequence.step(3, all);
        let (actual, next) = fewer.step(3, selected);
        assert_eq!(floats(actual), floats(expected.select(0, rows.clone())));
        (all, selected) = (next_all, next);
    }
}

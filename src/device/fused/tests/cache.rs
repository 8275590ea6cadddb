//! Generation from the cache against attention over the whole sequence.

use super::*;
use crate::device::fused::{
    AttentionShape, KvCache, Projections, attention, prefill, select_rows, step,
};
use burn::tensor::Int;

struct Sequence {
    projections: Projections,
    shape: AttentionShape,
    rotary: Rotary,
    mask: Tensor<2, Bool>,
}

/// `projections` with `change` applied to every tensor.
fn map(projections: &Projections, change: impl Fn(Tensor<3>) -> Tensor<3>) -> Projections {
    match projections.clone() {
        Projections::Interleaved(all) => Projections::Interleaved(change(all)),
        Projections::Separate {
            queries,
            keys,
            values,
        } => {
            let [queries, keys, values] = [queries, keys, values].map(change);
            Projections::Separate {
                queries,
                keys,
                values,
            }
        }
    }
}

impl Sequence {
    /// Interleaved rows padded on the left of `prompt` slots, followed by `new` real tokens.
    fn random(
        batch: usize,
        prompt: usize,
        new: usize,
        width: usize,
        heads: usize,
        half: usize,
    ) -> Self {
        let mut dice = Dice::new((batch * prompt + new) as u64);
        let all = dice.tensor([batch, prompt + new, 3 * width], 1.0, &Device::flex());
        let shape = AttentionShape::multi_head(heads, width / heads);
        Self::with(
            dice,
            Projections::Interleaved(all),
            shape,
            [batch, prompt, new],
            half,
        )
    }

    /// The same with separate queries, keys and values; several heads of queries share one head of
    /// keys.
    fn grouped([batch, prompt, new]: [usize; 3], shape: AttentionShape) -> Self {
        let mut dice = Dice::new((batch * prompt + new) as u64);
        let AttentionShape {
            heads,
            key_heads,
            head_size,
            ..
        } = shape;
        let [queries, keys, values] = [heads, key_heads, key_heads].map(|count| {
            dice.tensor(
                [batch, prompt + new, count * head_size],
                1.0,
                &Device::flex(),
            )
        });
        let half = head_size / 2;
        Self::with(
            dice,
            Projections::Separate {
                queries,
                keys,
                values,
            },
            shape,
            [batch, prompt, new],
            half,
        )
    }

    fn with(
        mut dice: Dice,
        projections: Projections,
        shape: AttentionShape,
        [batch, prompt, new]: [usize; 3],
        half: usize,
    ) -> Self {
        let (device, time) = (Device::flex(), prompt + new);
        let real = (0..batch * time)
            .map(|index| index % time >= prompt.min(index / time))
            .collect::<Vec<bool>>();
        let mask = Tensor::from_data(TensorData::new(real, [batch, time]), &device);
        Self {
            projections,
            shape,
            rotary: dice.rotary([batch, time, half], &device),
            mask,
        }
    }

    fn angles(&self, start: usize, count: usize) -> Rotary {
        Rotary {
            cos: self.rotary.cos.clone().narrow(1, start, count),
            sin: self.rotary.sin.clone().narrow(1, start, count),
        }
    }

    fn whole(&self) -> Tensor<3> {
        attention(
            self.projections.clone(),
            &self.shape,
            &self.rotary,
            self.mask.clone(),
        )
    }

    fn prefill(&self, prompt: usize, capacity: usize) -> (Tensor<3>, KvCache) {
        let first = map(&self.projections, |all| all.narrow(1, 0, prompt));
        prefill(
            first,
            &self.shape,
            &self.angles(0, prompt),
            self.mask.clone().narrow(1, 0, prompt),
            capacity,
        )
    }

    fn step(&self, cache: KvCache) -> (Tensor<3>, KvCache) {
        let slot = cache.len();
        let one = map(&self.projections, |all| all.narrow(1, slot, 1));
        step(
            one,
            &self.shape,
            &self.angles(slot, 1),
            self.mask.clone().narrow(1, 0, slot + 1),
            cache,
        )
    }
}

#[track_caller]
fn assert_steps_equal_the_whole(
    sequence: &Sequence,
    [batch, prompt, new]: [usize; 3],
    capacity: usize,
) {
    let whole = sequence.whole();
    let (out, mut cache) = sequence.prefill(prompt, capacity);
    // Left padding of a row, which nothing reads, may see other slots here than in attention over
    // the whole sequence.
    let last = |x: Tensor<3>, slot: usize| floats(x.narrow(1, slot, 1));
    assert_close(
        &last(out, prompt - 1),
        &last(whole.clone(), prompt - 1),
        1e-6,
    );
    assert_eq!(
        (cache.len(), cache.rows(), cache.is_empty()),
        (prompt, batch, false)
    );
    for slot in prompt..prompt + new {
        let (out, next) = sequence.step(cache);
        assert_close(&floats(out), &last(whole.clone(), slot), 1e-5);
        cache = next;
    }
    assert!(cache.capacity() >= prompt + new);
}

#[test]
fn steps_equal_attention_over_the_whole_sequence() {
    for (batch, prompt, new, heads, size, half, capacity) in [
        (4, 6, 7, 2, 16, 2, 13),
        (1, 1, 3, 1, 5, 0, 1),
        (3, 20, 12, 4, 16, 8, 24),
        (5, 17, 2, 3, 24, 3, 64),
    ] {
        let sequence = Sequence::random(batch, prompt, new, heads * size, heads, half);
        assert_steps_equal_the_whole(&sequence, [batch, prompt, new], capacity);
    }
}

#[test]
fn steps_of_grouped_heads_in_a_window_equal_attention_over_the_whole_sequence() {
    for (sizes, heads, key_heads, head_size, window) in [
        ([3, 6, 7], 4, 2, 8, None),
        ([3, 6, 7], 4, 2, 8, Some(4)),
        ([2, 3, 9], 6, 1, 4, Some(1)),
        ([4, 20, 12], 4, 4, 16, Some(9)),
    ] {
        let sequence = Sequence::grouped(
            sizes,
            AttentionShape {
                heads,
                key_heads,
                head_size,
                window,
            },
        );
        assert_steps_equal_the_whole(&sequence, sizes, sizes[1] + 2);
    }
}

#[test]
fn an_older_copy_of_the_cache_is_not_changed_by_a_step() {
    let sequence = Sequence::random(2, 4, 3, 32, 2, 2);
    let (_, cache) = sequence.prefill(4, 8);
    let kept = cache.clone();
    let (first, cache) = sequence.step(cache);
    let _ = sequence.step(cache);
    let (again, _) = sequence.step(kept);
    assert_eq!(floats(first), floats(again));
}

#[test]
fn remaining_rows_go_on_exactly_as_before() {
    let sequence = Sequence::random(5, 9, 4, 48, 3, 4);
    let (_, cache) = sequence.prefill(9, 16);
    let (_, cache) = sequence.step(cache);
    let rows = Tensor::<1, Int>::from_data([3, 1], &Device::flex());
    let fewer = Sequence {
        projections: map(&sequence.projections, |all| all.select(0, rows.clone())),
        shape: sequence.shape,
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
        let (expected, next_all) = sequence.step(all);
        let (actual, next) = fewer.step(selected);
        assert_eq!(floats(actual), floats(expected.select(0, rows.clone())));
        (all, selected) = (next_all, next);
    }
}

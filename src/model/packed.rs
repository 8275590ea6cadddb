//! Texts packed without padding, side by side in one row; texts with the same prompt share its
//! tokens:
//!
//! ```text
//! | prompt of texts 1 and 2 | response 1 | response 2 | prompt of text 3 | response 3 | …
//! ```
//!
//! A token sees the tokens before it in its own text, at the positions that they have there. Models
//! that read texts at their ends compute from it what they compute from a
//! [`Batch`](super::Batch), with fewer tokens.

use crate::device::fused::spans::{Query, Span, Spans};
use crate::model::arch::Texts;
use crate::model::batch::Sequence;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::HashMap;
use std::ops::Range;

/// Texts side by side.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Token ids, `[1, n]`.
    pub ids: Tensor<2, Int>,
    /// Position of every token in its text, n values.
    pub positions: Vec<u32>,
    /// Tokens that each token sees, and the tokens that are read: those where texts end.
    pub(super) texts: Texts,
}

impl Packed {
    /// Packs texts of at least one token.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a Sequence>, device: &Device) -> Self {
        let mut layout = Layout::default();
        let mut prompts: HashMap<&[u32], Range<usize>> = HashMap::new();
        for text in texts {
            let prompt = prompts
                .entry(&text.prompt)
                .or_insert_with(|| layout.add(0..0, &text.prompt))
                .clone();
            let response = layout.add(prompt.clone(), &text.response);
            layout.end(prompt, response);
        }
        layout.finish(device)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.ends.is_empty()
    }
}

/// A pack in the making.
#[derive(Default)]
struct Layout {
    ids: Vec<i32>,
    positions: Vec<u32>,
    all: Vec<Span>,
    ends: Vec<Span>,
}

impl Layout {
    /// Adds tokens that stand after those of `before`; returns their slots.
    fn add(&mut self, before: Range<usize>, tokens: &[u32]) -> Range<usize> {
        let first = self.ids.len();
        self.ids.extend(tokens.iter().map(|&token| token as i32));
        let slots = first..self.ids.len();
        self.positions
            .extend((before.len()..before.len() + tokens.len()).map(|position| position as u32));
        let query = |(place, slot)| Query {
            row: slot,
            slot,
            visible: before.len() + place + 1,
        };
        let queries: Vec<Query> = slots.clone().enumerate().map(query).collect();
        if !queries.is_empty() {
            let keys = before.chain(slots.clone()).collect();
            self.all.push(Span { keys, queries });
        }
        slots
    }

    /// Ends a text that consists of these tokens.
    fn end(&mut self, prompt: Range<usize>, response: Range<usize>) {
        let keys: Vec<usize> = prompt.chain(response).collect();
        let query = Query {
            row: self.ends.len(),
            slot: *keys.last().expect("a text has a token"),
            visible: keys.len(),
        };
        self.ends.push(Span {
            keys,
            queries: vec![query],
        });
    }

    fn finish(self, device: &Device) -> Packed {
        let n = self.ids.len();
        let ends: Vec<i32> = self
            .ends
            .iter()
            .map(|span| span.queries[0].slot as i32)
            .collect();
        let count = ends.len();
        Packed {
            ids: Tensor::from_data(TensorData::new(self.ids, [1, n]), device),
            positions: self.positions,
            texts: Texts {
                all: Spans::new(self.all),
                ends: Spans::new(self.ends),
                end_slots: Tensor::from_data(TensorData::new(ends, [count]), device),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::recorder::Recorder;
    use crate::methods::optimise::{OptimiserSettings, Schedule, Trainer};
    use crate::methods::training::Training;
    use crate::model::weights::host;
    use crate::model::{Batch, DecoderConfig, LanguageModel, RewardModel};
    use crate::rng::stream;
    use serde_json::json;

    fn device() -> Device {
        crate::device::select(crate::device::DEFAULT).expect("it is always built")
    }

    /// A reward model of three layers with random weights.
    fn reward(model_type: &str) -> RewardModel {
        let config = json!({
            "model_type": model_type, "vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": if model_type == "gpt_neox" { 4 } else { 2 }, "intermediate_size": 40, "head_dim": 6,
            "max_position_embeddings": 64, "sliding_window": if model_type == "mistral" { Some(4) } else { None },
        });
        let keys = config.as_object().unwrap().clone();
        let config = DecoderConfig::from_keys(keys, "the test").unwrap();
        let policy = LanguageModel::random(&config, 0.4, &mut stream(1, "test", &[]), &device());
        RewardModel::on(&policy.unwrap(), 2.0, &mut stream(2, "test", &[]))
    }

    fn texts() -> Vec<Sequence> {
        [
            (vec![3, 4, 5], vec![6, 7]),
            (vec![8], vec![9, 10, 11, 12, 13, 4, 5, 6, 7, 7, 6]),
            (vec![3, 4, 5], vec![15, 16, 1, 9]),
            (vec![], vec![6, 7]),
            (vec![2, 14, 2, 9, 9, 1, 13], vec![]),
            (vec![3, 4, 5], vec![6, 7]),
            (vec![3, 4, 5, 6], vec![7]),
        ]
        .map(|(prompt, response)| Sequence::new(prompt, response))
        .to_vec()
    }

    #[test]
    fn texts_stand_side_by_side_and_share_their_prompts() {
        let texts = [
            (vec![3, 4], vec![5]),
            (vec![6], vec![]),
            (vec![3, 4], vec![7, 8]),
        ]
        .map(|(prompt, response)| Sequence::new(prompt, response));
        let packed = Packed::new(&texts, &device());
        assert_eq!(packed.len(), 3);
        let ids: Vec<i64> = packed.ids.into_data().iter().collect();
        assert_eq!(ids, [3, 4, 5, 6, 7, 8]);
        assert_eq!(packed.positions, [0, 1, 2, 0, 2, 3]);
        let keys = |spans: &Spans| -> Vec<Vec<usize>> {
            spans.iter().map(|span| span.keys.clone()).collect()
        };
        assert_eq!(
            keys(&packed.texts.all),
            [vec![0, 1], vec![0, 1, 2], vec![3], vec![0, 1, 4, 5]]
        );
        assert_eq!(
            keys(&packed.texts.ends),
            [vec![0, 1, 2], vec![3], vec![0, 1, 4, 5]]
        );
        let ends: Vec<i64> = packed.texts.end_slots.into_data().iter().collect();
        assert_eq!(ends, [2, 3, 5]);
    }

    /// Equality to the last bit on the default device, whatever the padding and the texts beside a
    /// text.
    #[test]
    fn rewards_are_those_of_whole_rows_with_padding() {
        for model_type in DecoderConfig::model_types() {
            let (reward, texts) = (reward(model_type), texts());
            let packed = host(reward.rewards(&Packed::new(&texts, &device()))).unwrap();
            let rows: Vec<&Sequence> = texts.iter().collect();
            for (left, right) in [(7, 11), (12, 11), (7, 20)] {
                let batch = Batch::with_widths(&rows, left, right, &device());
                assert_eq!(host(reward.scores(&batch)).unwrap(), packed, "{model_type}");
            }
            for (text, together) in texts.iter().zip(&packed) {
                let alone = host(reward.rewards(&Packed::new([text], &device()))).unwrap();
                assert_eq!(alone, [*together], "{model_type}");
            }
        }
    }

    /// All gradients of a weighted sum of the rewards that `read` computes, by name.
    fn gradients(
        model_type: &str,
        training: &Training,
        read: impl Fn(&RewardModel) -> Tensor<1>,
    ) -> Vec<(String, Vec<f32>)> {
        let settings = OptimiserSettings {
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 0.0,
        };
        let mut trainer = Trainer::new(reward(model_type), &settings, training, 3, 1);
        let recorder = Recorder::default();
        let step = trainer.step("the sum", 1, &recorder, |model, _| {
            let scores = read(model);
            let [n] = scores.dims();
            let weights = (0..n).map(|index| index as f32 - 2.5).collect();
            let weights = Tensor::<1>::from_data(TensorData::new(weights, [n]), &model.device());
            (scores * weights).sum()
        });
        step.unwrap();
        let named = recorder.gradients.take().remove(0);
        let values = |name: String| {
            let values = named.values(&name).unwrap().into_owned();
            (name, values)
        };
        let names = named.list().map(|listed| listed.name.to_owned());
        names.map(values).collect()
    }

    #[test]
    fn gradients_are_those_of_whole_rows_with_padding() {
        let plain = Training::default();
        let checkpointing = Training {
            gradient_checkpointing: true,
            ..plain.clone()
        };
        let adapters = Training {
            lora_rank: 2,
            ..plain.clone()
        };
        let texts = texts();
        for model_type in DecoderConfig::model_types() {
            for training in [&plain, &checkpointing, &adapters] {
                let whole = gradients(model_type, training, |model| {
                    model.scores(&Batch::new(&texts, &model.device()))
                });
                let packed = gradients(model_type, training, |model| {
                    model.rewards(&Packed::new(&texts, &model.device()))
                });
                let moving = |(_, values): &(String, Vec<f32>)| values.iter().any(|v| *v != 0.0);
                assert!(whole.iter().any(moving));
                assert_eq!(whole.len(), packed.len());
                for ((name, whole), (same, packed)) in whole.iter().zip(&packed) {
                    assert_eq!((name, whole.len()), (same, packed.len()));
                    let scale = whole.iter().fold(1.0_f32, |most, v| most.max(v.abs()));
                    for (whole, packed) in whole.iter().zip(packed) {
                        assert!(
                            (whole - packed).abs() <= 1e-5 * scale,
                            "{model_type}, {name}: {packed}, not {whole}"
                        );
                    }
                }
            }
        }
    }
}

//! Heads on the decoder: next-token logits and a scalar reward. Log-probabilities and rewards are
//! f32 whatever the weights.

use crate::Result;
use crate::device::fused;
use crate::model::arch::{DecoderConfig, Sizes};
use crate::model::batch::Batch;
use crate::model::decoder::{Computation, Decoder, normal, random_backbone};
use crate::model::names;
use crate::model::nn::like;
use crate::model::packed::Packed;
use crate::model::weights::{Values, Weights, parameter};
use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use rand::Rng;

/// A decoder with next-token logits, as Hugging Face's `…ForCausalLM`.
#[derive(Module, Debug)]
pub struct LanguageModel {
    pub decoder: Decoder,
    /// `[hidden_size, vocab_size]`; `None` if tied to the embedding.
    lm_head: Option<Param<Tensor<2>>>,
}

/// A decoder with a scalar reward, as Hugging Face's `…ForSequenceClassification` with one label: a
/// linear read-out at the last token of the response.
#[derive(Module, Debug)]
pub struct RewardModel {
    pub decoder: Decoder,
    /// `[hidden_size, 1]`
    score: Param<Tensor<2>>,
    /// The output h becomes `bound · tanh(h / bound)`; 0 leaves it unbounded.
    #[module(skip)]
    pub bound: f32,
}

impl LanguageModel {
    pub fn from_weights(weights: Weights, config: &DecoderConfig, device: &Device) -> Result<Self> {
        Self::frozen(weights, config, FloatDType::F32, device)
    }

    /// Builds the model that [`in_dtype`](Self::in_dtype) returns, without holding all of it in f32
    /// meanwhile.
    pub fn frozen(
        mut weights: Weights,
        config: &DecoderConfig,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<Self> {
        let decoder = Decoder::load(&mut weights, config, dtype, device)?;
        let Sizes {
            vocab_size: v,
            hidden_size: d,
            tied,
            ..
        } = config.sizes();
        let load_head = || {
            let name = config.naming().lm_head();
            let matrix = weights.take_transposed(&name, [v, d])?;
            Ok(parameter(&name, matrix, [d, v], device).map(|head| head.cast(dtype)))
        };
        let lm_head = (!tied).then(load_head).transpose()?;
        weights.finish()?;
        Ok(Self { decoder, lm_head })
    }

    /// The weights, named as in a checkpoint; adapters are merged.
    pub fn weights(&self) -> Weights {
        names::weights(&self.valid().restored(), self.config().naming())
    }

    /// The model in the form that is trained with options `how`; `rng` draws the adapters, with
    /// which the output head is frozen too.
    pub fn prepared(self, how: &Computation, rng: &mut impl Rng) -> Self {
        let frozen = |head: Param<Tensor<2>>| {
            head.map(|head| head.cast(how.dtype))
                .set_require_grad(false)
        };
        let lm_head = if how.lora.is_some() {
            self.lm_head.map(frozen)
        } else {
            self.lm_head
        };
        Self {
            decoder: self.decoder.prepared(how, rng),
            lm_head,
        }
    }

    /// The inverse of [`prepared`](Self::prepared): adapters are merged into the weights, and
    /// everything is f32.
    pub fn restored(self) -> Self {
        let whole = |head: Param<Tensor<2>>| {
            head.map(|head| head.cast(FloatDType::F32))
                .set_require_grad(true)
        };
        Self {
            decoder: self.decoder.restored(),
            lm_head: self.lm_head.map(whole),
        }
    }

    /// The model with weights held in another type, when it is not trained: see
    /// [`Decoder::in_dtype`].
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        let lm_head = self.lm_head.map(|head| head.map(|head| head.cast(dtype)));
        Self {
            decoder: self.decoder.in_dtype(dtype),
            lm_head,
        }
    }

    /// A model with random weights; the head starts equal to the embedding, from which copying is
    /// easy to learn.
    pub fn random(
        config: &DecoderConfig,
        deviation: f64,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Result<Self> {
        let mut draw = |count, deviation| normal(rng, count, deviation);
        Self::drawn(config, deviation, &mut draw, device)
    }

    /// A model whose weights `draw` draws, as [`random_backbone`] asks for them.
    pub fn drawn<V: Into<Values>>(
        config: &DecoderConfig,
        deviation: f64,
        draw: &mut impl FnMut(usize, f64) -> V,
        device: &Device,
    ) -> Result<Self> {
        let mut weights = Weights::new("random initialisation");
        random_backbone(config, deviation, draw, &mut weights);
        let (naming, shape) = (config.naming(), [config.vocab_size(), config.hidden_size()]);
        if !config.sizes().tied {
            let embedding = weights.values(&naming.embedding())?.into_owned();
            weights.insert(naming.lm_head(), &shape, embedding);
        }
        Self::from_weights(weights, config, device)
    }

    pub fn config(&self) -> &DecoderConfig {
        &self.decoder.config
    }

    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// Next-token logits of normalised states `[n, d]`, in f32 → `[n, vocab_size]`.
    pub fn logits(&self, states: Tensor<2>) -> Tensor<2> {
        let head = self.head(&states);
        fused::linear(states, head, None).cast(FloatDType::F32)
    }

    /// The head `[d, vocab_size]` in the type of `states`.
    fn head(&self, states: &Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => like(head, states),
            None => like::<2, 2>(&self.decoder.embedding, states).transpose(),
        }
    }

    /// Normalised states that predict each response token, `[b·response_width, d]`.
    pub fn response_states(&self, batch: &Batch) -> Tensor<2> {
        let (b, t, r) = (batch.rows(), batch.width(), batch.response_width);
        let states = self.decoder.forward(batch);
        let [_, d] = states.dims();
        let first = batch.prompt_width - 1;
        let predicting = states
            .reshape([b, t, d])
            .slice([0..b, first..first + r, 0..d])
            .reshape([b * r, d]);
        self.decoder.normalise(predicting)
    }

    /// `log π(y_k | x, y_<k)` of every response token at `temperature`, `[b, response_width]`; 0 at
    /// padding.
    pub fn response_log_probs(&self, batch: &Batch, temperature: f32) -> Tensor<2> {
        self.log_probs_of(self.response_states(batch), batch, temperature)
    }

    /// Does the same as [`response_log_probs`](Self::response_log_probs), from states already
    /// computed.
    pub fn log_probs_of(&self, states: Tensor<2>, batch: &Batch, temperature: f32) -> Tensor<2> {
        let (b, r) = (batch.rows(), batch.response_width);
        let (head, targets) = (self.head(&states), batch.targets.clone().reshape([b * r]));
        let log_probs = fused::head_log_probs(states, head, targets, temperature);
        log_probs.reshape([b, r]) * batch.response_mask.clone()
    }
}

impl RewardModel {
    pub fn from_weights(
        weights: Weights,
        config: &DecoderConfig,
        bound: f32,
        device: &Device,
    ) -> Result<Self> {
        Self::frozen(weights, config, bound, FloatDType::F32, device)
    }

    /// Builds the model that [`in_dtype`](Self::in_dtype) returns, without holding all of it in f32
    /// meanwhile.
    pub fn frozen(
        mut weights: Weights,
        config: &DecoderConfig,
        bound: f32,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<Self> {
        let decoder = Decoder::load(&mut weights, config, dtype, device)?;
        let d = config.hidden_size();
        let score = weights.take("score.weight", &[1, d])?;
        weights.finish()?;
        Ok(Self {
            decoder,
            score: parameter("score.weight", score, [d, 1], device),
            bound,
        })
    }

    /// The weights, named as in a checkpoint; adapters are merged.
    pub fn weights(&self) -> Weights {
        names::weights(&self.valid().restored(), self.config().naming())
    }

    /// A reward model with a new head, N(0, 1/(d+1)), on the decoder of `policy` (Huang et al.
    /// 2024).
    pub fn on(policy: &LanguageModel, bound: f32, rng: &mut impl Rng) -> Self {
        let d = policy.config().hidden_size();
        let score = normal(rng, d, (1.0 / (d as f64 + 1.0)).sqrt());
        let score = parameter("score.weight", score, [d, 1], &policy.device());
        Self {
            decoder: policy.decoder.clone(),
            score,
            bound,
        }
    }

    /// The model in the form that is trained with options `how`; `rng` draws the adapters, beside
    /// which the score is fully trained.
    pub fn prepared(self, how: &Computation, rng: &mut impl Rng) -> Self {
        Self {
            decoder: self.decoder.prepared(how, rng),
            ..self
        }
    }

    /// The inverse of [`prepared`](Self::prepared): adapters are merged into the weights, and
    /// everything is f32.
    pub fn restored(self) -> Self {
        Self {
            decoder: self.decoder.restored(),
            ..self
        }
    }

    /// The model with weights held in another type, when it is not trained: see
    /// [`Decoder::in_dtype`]. The score stays f32.
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        Self {
            decoder: self.decoder.in_dtype(dtype),
            ..self
        }
    }

    pub fn config(&self) -> &DecoderConfig {
        &self.decoder.config
    }

    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// r(x, y) of every text, read at its last token, `[texts]`.
    pub fn rewards(&self, packed: &Packed) -> Tensor<1> {
        self.bounded_read(self.decoder.forward_ends(packed))
    }

    /// r(x, y), read at the last real token of every row, `[b]`: as [`rewards`](Self::rewards), from
    /// rows with padding.
    pub fn scores(&self, batch: &Batch) -> Tensor<1> {
        self.scores_at(&last_tokens(batch), batch)
    }

    /// The scores read at the last slot of every row, where most rows hold padding; otherwise as
    /// [`scores`](Self::scores). As a key that slot stays masked. As a query it holds token 0 and
    /// attends to the real tokens of its row, at the distance at which it lies behind them.
    pub fn scores_at_last_slot(&self, batch: &Batch) -> Tensor<1> {
        let slots: Vec<usize> = (1..=batch.rows())
            .map(|row| row * batch.width() - 1)
            .collect();
        let mut batch = batch.clone();
        for (&slot, token) in slots.iter().zip(last_tokens(&batch)) {
            batch.positions[slot] = batch.positions[token] + (slot - token) as u32;
        }
        self.scores_at(&slots, &batch)
    }

    /// The scores read at one slot per row, with slots counted over the whole batch, `[b]`.
    fn scores_at(&self, slots: &[usize], batch: &Batch) -> Tensor<1> {
        let slots: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
        let slots: Tensor<1, Int> =
            Tensor::from_data(TensorData::new(slots, [batch.rows()]), &self.device());
        self.bounded_read(self.decoder.forward(batch).select(0, slots))
    }

    /// The rewards that are read from states before the final norm, `[n, d]` → `[n]`.
    fn bounded_read(&self, states: Tensor<2>) -> Tensor<1> {
        let [n, _] = states.dims();
        let scores = self.read(self.decoder.normalise(states)).reshape([n]);
        if self.bound == 0.0 {
            scores
        } else {
            (scores / self.bound).tanh() * self.bound
        }
    }

    /// Values of the states that predict each response token, `[b, response_width]`: this network
    /// as a critic.
    pub fn values(&self, batch: &Batch) -> Tensor<2> {
        let (b, t, r) = (batch.rows(), batch.width(), batch.response_width);
        let states = self.decoder.forward(batch);
        let [_, d] = states.dims();
        let first = batch.prompt_width - 1;
        let states = states
            .reshape([b, t, d])
            .slice([0..b, first..first + r, 0..d])
            .reshape([b * r, d]);
        self.read(self.decoder.normalise(states)).reshape([b, r])
    }

    /// The linear read-out of normalised states `[n, d]`, in f32 → `[n, 1]`.
    fn read(&self, states: Tensor<2>) -> Tensor<2> {
        fused::linear(states.cast(FloatDType::F32), self.score.val(), None)
    }
}

/// The slot of the last real token of every row, counted over the whole batch.
fn last_tokens(batch: &Batch) -> Vec<usize> {
    let last =
        |(row, length): (usize, &usize)| row * batch.width() + batch.prompt_width + length - 1;
    batch
        .response_lengths
        .iter()
        .enumerate()
        .map(last)
        .collect()
}

#[cfg(test)]
impl LanguageModel {
    /// A model with random weights, two small layers and a vocabulary of 20.
    pub(crate) fn tiny(seed: u64) -> Self {
        let config = serde_json::json!({
            "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 64,
        });
        let config = serde_json::from_value(config).expect("the keys are those of the type");
        let device = crate::device::select(crate::device::DEFAULT).expect("it is always built");
        Self::random(
            &config,
            0.4,
            &mut crate::rng::stream(seed, "test/model", &[]),
            &device,
        )
        .expect("shapes agree")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sequence;
    use crate::model::weights;

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        weights::host(tensor).unwrap()
    }

    fn reward() -> RewardModel {
        RewardModel::on(
            &LanguageModel::tiny(1),
            0.0,
            &mut crate::rng::stream(1, "test/head", &[]),
        )
    }

    fn rows() -> [Sequence; 3] {
        [
            (vec![3, 4, 5], vec![6, 7]),
            (vec![8], vec![9, 10, 11, 12, 13]),
            (vec![2, 14], vec![15, 16, 1]),
        ]
        .map(|(prompt, response)| Sequence::new(prompt, response))
    }

    /// The score at a slot after the response, computed in another way: as a step of generation
    /// whose own column is masked.
    fn slot_by_step(reward: &RewardModel, row: &Sequence, slots: usize) -> f32 {
        let (device, n) = (reward.device(), row.len());
        let (_, mut kept) = reward.decoder.prefill(&Batch::new([row], &device), n + 1);
        let mask = [vec![true; n], vec![false]].concat();
        let mask = Tensor::from_data(TensorData::new(mask, [1, n + 1]), &device);
        let position = row.prompt.len() + slots - 1;
        let state = reward.decoder.step(
            Tensor::zeros([1, 1], &device),
            &[position as u32],
            mask,
            &mut kept,
        );
        host(reward.read(reward.decoder.normalise(state)))[0]
    }

    #[test]
    fn the_last_slot_sees_the_row_from_behind_its_padding() {
        let (reward, rows) = (reward(), rows());
        let read = |rows: &[&Sequence], prompt_width: usize, slots: usize| {
            host(reward.scores_at_last_slot(&Batch::with_widths(
                rows,
                prompt_width,
                slots,
                &reward.device(),
            )))
        };
        for slots in [6, 9] {
            let together = read(&rows.iter().collect::<Vec<_>>(), 7, slots);
            for (row, score) in rows.iter().zip(together) {
                assert!(
                    (score - read(&[row], row.prompt.len(), slots)[0]).abs() < 1e-5,
                    "a row among others"
                );
                assert!((score - slot_by_step(&reward, row, slots)).abs() < 1e-5);
            }
        }
        let [near, far] = [6, 9].map(|slots| read(&[&rows[0]], 3, slots)[0]);
        assert!(
            (near - far).abs() > 1e-3,
            "the distance is seen: {near} and {far}"
        );
    }

    #[test]
    fn a_row_that_fills_its_slots_is_read_at_its_last_token() {
        let (reward, rows) = (reward(), rows());
        let batch = Batch::new([&rows[1]], &reward.device());
        assert_eq!(
            host(reward.scores_at_last_slot(&batch)),
            host(reward.scores(&batch))
        );
    }
}

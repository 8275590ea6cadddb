//! The problems: models with random weights, rows of unequal lengths, settings. All are pure
//! functions of constants, without a device, so that every device and tests/parity/conformance.py
//! compute the same.

use crate::Result;
use crate::methods::optimise::{OptimiserSettings, Schedule};
use crate::methods::ppo::{Critic, MissingEos, PpoSettings, Rollout};
use crate::methods::reward::{Normalise, ReadOut, RewardLoss, RewardSettings};
use crate::methods::sft::SftSettings;
use crate::model::arch::{Family, GptNeoXConfig, LayerType, LlamaConfig};
use crate::model::checkpoint::Normalisation;
use crate::model::decoder::{normal, random_backbone};
use crate::model::weights::Weights;
use crate::model::{DecoderConfig, LanguageModel, Pair, RewardModel, Sampling, Sequence};
use crate::rng::stream;
use burn::tensor::Device;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The token that ends a response.
pub const EOS: u32 = 1;
/// Temperature and nucleus of the sampled batches.
pub const SAMPLINGS: [(f32, f32); 3] = [(1.0, 1.0), (0.8, 0.9), (0.0, 1.0)];
/// Normalisation of PPO's scores.
pub const NORMALISATION: Normalisation = Normalisation {
    mean: 0.25,
    std: 1.75,
    low: -1.5,
    bound: 0.0,
};

/// A model, and the sizes of its inputs.
#[derive(Clone, Debug)]
pub struct Problem {
    pub name: &'static str,
    pub config: DecoderConfig,
    /// Seed of the random streams. It is chosen so that some sampled responses end and others do
    /// not, and so that no uniform is within 1e-4 of drawing another token (1e-5 in the wide model,
    /// whose probabilities are smaller): tens of times more than rounding moves.
    pub seed: u64,
    /// Number of SFT's rows, of the reward's pairs and of prompts. PPO has twice as many rollouts.
    count: usize,
    /// Largest numbers of tokens of a prompt and of a response.
    lengths: [usize; 2],
    pub critic: Critic,
}

/// Four problems: Pythia's architecture with a value head; one branch after the other, a tied head,
/// odd sizes and a value network; Mistral's architecture with a value network; and a model whose
/// products need more than one tile of any kernel, for which no reference is stored.
pub fn all() -> Vec<Problem> {
    let config = |[vocabulary, hidden, layers, heads, inner]: [usize; 5],
                  rotary_pct,
                  epsilon,
                  parallel: bool| {
        DecoderConfig::from(GptNeoXConfig {
            vocab_size: vocabulary,
            hidden_size: hidden,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            intermediate_size: inner,
            hidden_act: "gelu".into(),
            rotary_pct,
            rotary_emb_base: 10_000.0,
            max_position_embeddings: 128,
            layer_norm_eps: epsilon,
            use_parallel_residual: parallel,
            tie_word_embeddings: !parallel,
            bos_token_id: None,
            eos_token_id: Some(EOS.into()),
        })
    };
    vec![
        Problem {
            name: "parallel",
            config: config([32, 16, 2, 2, 24], 0.25, 1e-5, true),
            seed: 65,
            count: 6,
            lengths: [12, 8],
            critic: Critic::ZeroHead,
        },
        Problem {
            name: "sequential",
            config: config([29, 12, 2, 3, 20], 0.5, 1e-3, false),
            seed: 17,
            count: 5,
            lengths: [9, 7],
            critic: Critic::RewardCopy,
        },
        Problem {
            name: "grouped",
            config: grouped(),
            seed: 25,
            count: 6,
            lengths: [10, 8],
            critic: Critic::RewardCopy,
        },
        Problem {
            name: "wide",
            config: config([260, 136, 2, 4, 520], 0.25, 1e-5, true),
            seed: 10,
            count: 8,
            lengths: [40, 10],
            critic: Critic::ZeroHead,
        },
    ]
}

/// Six heads that share two key heads and are together wider than the residual, and a window that
/// is shorter than most rows.
fn grouped() -> DecoderConfig {
    DecoderConfig::from(LlamaConfig {
        model_type: Family::Mistral,
        vocab_size: 31,
        hidden_size: 16,
        intermediate_size: 28,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 4,
        hidden_act: "silu".into(),
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        sliding_window: Some(4),
        layer_types: vec![LayerType::SlidingAttention; 2],
        attention_bias: false,
        mlp_bias: false,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Some(EOS.into()),
    })
}

impl Problem {
    /// No bias is zero and no norm is one, so that each affects the result.
    pub fn weights(&self) -> Weights {
        let mut rng = self.stream("conformance/weights", 0);
        let deviation = 1.0 / (self.config.hidden_size() as f64).sqrt();
        let mut plain = Weights::new("conformance");
        let mut draw = |count, deviation| normal(&mut rng, count, deviation);
        random_backbone(&self.config, deviation, &mut draw, &mut plain);
        let (vocabulary, d) = (self.config.vocab_size(), self.config.hidden_size());
        if !self.config.sizes().tied {
            plain.insert(
                self.config.naming().lm_head(),
                &[vocabulary, d],
                vec![0.0; vocabulary * d],
            );
        }
        let mut weights = Weights::new("conformance");
        let shapes: Vec<_> = plain
            .list()
            .map(|listed| (listed.name.to_owned(), listed.shape.to_vec()))
            .collect();
        for (name, shape) in shapes {
            let noise = normal(&mut rng, shape.iter().product(), deviation);
            let values = plain.take(&name, &shape).unwrap_or_default();
            weights.insert(
                name,
                &shape,
                values
                    .iter()
                    .zip(noise)
                    .map(|(value, noise)| value + noise)
                    .collect::<Vec<_>>(),
            );
        }
        weights
    }

    pub fn policy(&self, device: &Device) -> Result<LanguageModel> {
        LanguageModel::from_weights(self.weights(), &self.config, device)
    }

    /// The model from which reward learning starts, including its new head.
    pub fn reward(&self, policy: &LanguageModel) -> RewardModel {
        RewardModel::on(
            policy,
            self.reward_settings().bound,
            &mut stream(self.seed, "reward/head", &[]),
        )
    }

    /// Demonstrations, half of which end; the others are cut.
    pub fn rows(&self) -> Vec<Sequence> {
        (0..self.count)
            .map(|row| Sequence::new(self.prompt(row), self.response("conformance/chosen", row)))
            .collect()
    }

    pub fn pairs(&self) -> Vec<Pair> {
        let pair = |(row, chosen): (usize, Sequence)| {
            let rejected = Sequence::new(
                chosen.prompt.clone(),
                self.response("conformance/rejected", row),
            );
            Pair { chosen, rejected }
        };
        self.rows().into_iter().enumerate().map(pair).collect()
    }

    pub fn prompts(&self) -> Vec<Vec<u32>> {
        (0..self.count).map(|row| self.prompt(row)).collect()
    }

    fn prompt(&self, row: usize) -> Vec<u32> {
        let mut rng = self.stream("conformance/prompt", row);
        let length = rng.random_range(1..=self.lengths[0]);
        (0..length).map(|_| self.token(&mut rng)).collect()
    }

    fn response(&self, purpose: &str, row: usize) -> Vec<u32> {
        let mut rng = self.stream(purpose, row);
        let length = rng.random_range(1..=self.lengths[1]);
        let mut response: Vec<u32> = (0..length).map(|_| self.token(&mut rng)).collect();
        if row.is_multiple_of(2) {
            response[length - 1] = EOS;
        }
        response
    }

    fn token(&self, rng: &mut ChaCha8Rng) -> u32 {
        rng.random_range(0..self.config.vocab_size() as u32)
    }

    /// The random stream for the response to prompt `item`, with one uniform per token.
    pub fn sample_stream(&self, item: usize) -> ChaCha8Rng {
        self.stream("conformance/sample", item)
    }

    fn stream(&self, purpose: &str, index: usize) -> ChaCha8Rng {
        stream(self.seed, purpose, &[index as u64])
    }

    pub fn sampling(&self, temperature: f32, top_p: f32) -> Sampling {
        Sampling {
            temperature,
            top_p,
            top_k: None,
            max_new_tokens: self.lengths[1],
            ends: EOS.into(),
            batch_size: self.count,
        }
    }

    /// SFT settings with all rows in one step.
    pub fn sft_settings(&self) -> SftSettings {
        SftSettings {
            epochs: 1,
            batch_size: self.count,
            prompt_weight: 0.0,
            optimiser: optimiser(),
        }
    }

    /// Reward settings with all pairs in one step, on eq. 11.
    pub fn reward_settings(&self) -> RewardSettings {
        let optimiser = optimiser();
        RewardSettings {
            loss: RewardLoss::Eq11,
            margin: 0.0,
            bound: 0.0,
            l2: 0.0,
            read_out: ReadOut::LastToken,
            normalise: Normalise::AfterTraining,
            epochs: 1,
            batch_size: self.count,
            optimiser,
        }
    }

    /// PPO settings of one update: two passes in two minibatches.
    pub fn ppo_settings(&self) -> PpoSettings {
        PpoSettings {
            updates: 1,
            rollouts: 2 * self.count,
            epochs: 2,
            minibatches: 2,
            temperature: 0.9,
            kl_coefficient: 0.05,
            gamma: 1.0,
            lambda: 0.95,
            clip: 0.2,
            clip_value: 0.2,
            value_coefficient: 0.1,
            whiten_advantages: true,
            critic: self.critic,
            missing_eos: MissingEos::BelowScores,
            optimiser: optimiser(),
        }
    }
}

/// A score that is defined for any response, with a mean of about 0 and a deviation of about 1.
pub fn taste(rollout: &Rollout) -> f32 {
    let sum: u32 = rollout.sequence.response.iter().sum();
    (sum % 13) as f32 / 4.0 - 1.5
}

/// AdamW settings with a large epsilon. With a small one the first step is the sign of the
/// gradient, so that rounding alone decides it, and the rest of the run, wherever a gradient nearly
/// vanishes.
fn optimiser() -> OptimiserSettings {
    OptimiserSettings {
        learning_rate: 1e-2,
        schedule: Schedule::Linear,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-2,
        weight_decay: 0.1,
        clip_norm: 0.5,
    }
}

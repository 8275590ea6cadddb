//! Measurements of how fast a device trains and samples: the library's public path, on random
//! weights and full rows. The time does not depend on the values of weights and tokens.

use crate::Result;
use crate::methods::optimise::{Trainer, Unwatched};
use crate::methods::ppo::{Critic, PpoSettings, RewardFunction, Rollout, Task, ppo};
use crate::methods::reward::{RewardSettings, pair_step, score};
use crate::methods::sft::{SftSettings, token_step};
use crate::methods::training::Training;
use crate::model::checkpoint::Normalisation;
use crate::model::decoder::normal;
use crate::model::generate::generate;
use crate::model::weights::Make;
use crate::model::{DecoderConfig, Ends, LanguageModel, Pair, RewardModel, Sampling, Sequence};
use crate::rng::stream;
use burn::tensor::Device;
use rand::Rng;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// A repeatable piece of work, and the number of tokens that it processes.
pub struct Work {
    once: Box<dyn FnMut() -> Result<()>>,
    pub tokens: usize,
}

/// The length of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Unmeasured rounds before the first measured one: they compile kernels, choose among them,
    /// and fill caches.
    pub warm_up: usize,
    /// The least number of measured rounds.
    pub rounds: usize,
    /// The least total time of all measured rounds.
    pub seconds: f64,
}

/// Seconds of every measured round, sorted.
#[derive(Clone, Debug)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn fastest(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        let n = self.0.len();
        if n == 0 {
            f64::NAN
        } else {
            (self.0[(n - 1) / 2] + self.0[n / 2]) / 2.0
        }
    }
}

impl Work {
    /// Does the work once.
    pub fn once(&mut self) -> Result<()> {
        (self.once)()
    }

    /// Repeats the work until `effort` is reached, and times every round after the warm-up.
    pub fn measure(&mut self, effort: Effort) -> Result<Rounds> {
        for _ in 0..effort.warm_up {
            self.once()?;
        }
        let mut rounds = Vec::new();
        while rounds.len() < effort.rounds.max(1) || rounds.iter().sum::<f64>() < effort.seconds {
            let started = Instant::now();
            self.once()?;
            rounds.push(started.elapsed().as_secs_f64());
        }
        rounds.sort_by(f64::total_cmp);
        Ok(Rounds(rounds))
    }
}

/// A model shape with random weights, and full rows for it.
#[derive(Clone, Debug)]
pub struct Bench {
    pub config: DecoderConfig,
    pub device: Device,
    pub training: Training,
    /// Tokens of every prompt and of every response.
    pub prompt: usize,
    pub response: usize,
}

impl Bench {
    /// One optimiser step of SFT on a batch of the settings; all tokens of a row are counted.
    pub fn sft(&self, settings: &SftSettings) -> Result<Work> {
        let (rows, prompt_weight) = (self.rows(settings.batch_size), settings.prompt_weight);
        let mut trainer = Trainer::new(
            self.policy()?,
            &settings.optimiser,
            &self.training,
            0,
            usize::MAX,
        );
        let once = move || {
            let rows: Vec<&Sequence> = rows.iter().collect();
            token_step(&mut trainer, &rows, prompt_weight, &Unwatched).map(|_| ())
        };
        Ok(Work {
            once: Box::new(once),
            tokens: settings.batch_size * (self.prompt + self.response),
        })
    }

    /// A response to each of `count` prompts; only sampled tokens are counted, but the time
    /// includes the prompts.
    pub fn generate(&self, count: usize) -> Result<Work> {
        let model = self.policy()?.in_dtype(self.training.dtype.float());
        let (prompts, sampling) = (self.prompts(count), self.sampling(count));
        let once = move || {
            black_box(generate(
                &model,
                &prompts,
                &sampling,
                |row| stream(0, "bench", &[row as u64]),
                |_| {},
            )?);
            Ok(())
        };
        Ok(Work {
            once: Box::new(once),
            tokens: count * self.response,
        })
    }

    /// The rewards of `count` texts; all tokens are counted.
    pub fn reward(&self, count: usize) -> Result<Work> {
        let (model, texts) = (
            self.scorer(&self.policy()?)
                .in_dtype(self.training.dtype.float()),
            self.rows(count),
        );
        let once = move || {
            black_box(score(&model, &texts.iter().collect::<Vec<_>>())?);
            Ok(())
        };
        Ok(Work {
            once: Box::new(once),
            tokens: count * (self.prompt + self.response),
        })
    }

    /// One optimiser step of reward learning on a batch of pairs, each of two responses to one
    /// prompt; all tokens of both texts are counted.
    pub fn reward_step(&self, settings: &RewardSettings) -> Result<Work> {
        let (pairs, model) = (
            self.pairs(settings.batch_size),
            self.scorer(&self.policy()?),
        );
        let mut trainer = Trainer::new(model, &settings.optimiser, &self.training, 0, usize::MAX);
        let settings = settings.clone();
        let tokens = 2 * settings.batch_size * (self.prompt + self.response);
        let once = move || {
            let pairs: Vec<&Pair> = pairs.iter().collect();
            pair_step(&mut trainer, &pairs, &settings, None, None, &Unwatched).map(|_| ())
        };
        Ok(Work {
            once: Box::new(once),
            tokens,
        })
    }

    /// One update of PPO on a learned reward, including rollouts, `batch` of which are sampled at
    /// once; sampled tokens are counted.
    pub fn ppo(&self, settings: &PpoSettings, batch: usize) -> Result<Work> {
        let dtype = self.training.dtype.float();
        let policy = self.policy()?;
        let scorer = self.scorer(&policy);
        let critic = (settings.critic == Critic::RewardCopy)
            .then(|| (scorer.clone(), Normalisation::none(0.0)));
        let (reference, scorer) = (policy.clone().in_dtype(dtype), scorer.in_dtype(dtype));
        let settings = PpoSettings {
            updates: 1,
            ..settings.clone()
        };
        let (prompts, sampling) = (self.prompts(settings.rollouts), self.sampling(batch));
        let (training, tokens) = (self.training.clone(), settings.rollouts * self.response);
        let once = move || {
            let scores = |rollouts: &[Rollout]| {
                score(
                    &scorer,
                    &rollouts
                        .iter()
                        .map(|rollout| &rollout.sequence)
                        .collect::<Vec<_>>(),
                )
            };
            let reward = RewardFunction {
                score: Box::new(scores),
                low: -1.0,
            };
            let (reference, critic) = (&reference, critic.clone());
            let task = Task {
                reference,
                reward,
                critic,
                prompts: &prompts,
                sampling: &sampling,
            };
            ppo(policy.clone(), task, &settings, &training, 0, &Unwatched)
                .map(|learnt| drop(black_box(learnt)))
        };
        Ok(Work {
            once: Box::new(once),
            tokens,
        })
    }

    /// A model with random weights, the same numbers over and over: speed does not depend on them.
    fn policy(&self) -> Result<LanguageModel> {
        const DEVIATION: f64 = 0.02;
        /// A prime number, so that no two rows of a matrix are the same.
        const DRAWN: usize = 1_048_583;
        let drawn: Arc<[f32]> = normal(&mut stream(0, "bench/model", &[]), DRAWN, 1.0).into();
        let mut start = 0;
        let mut draw = |count: usize, deviation: f64| {
            let (drawn, first) = (Arc::clone(&drawn), start);
            start = (start + count) % DRAWN;
            let make: Make = Box::new(move |hear| {
                let (mut at, mut left) = (first, count);
                while left > 0 {
                    let part = &drawn[at..DRAWN.min(at + left)];
                    let scaled = part.iter().map(|value| value * deviation as f32);
                    hear(&scaled.collect::<Vec<_>>());
                    left -= part.len();
                    at = (at + part.len()) % DRAWN;
                }
            });
            make
        };
        LanguageModel::drawn(&self.config, DEVIATION, &mut draw, &self.device)
    }

    fn scorer(&self, policy: &LanguageModel) -> RewardModel {
        RewardModel::on(policy, 0.0, &mut stream(0, "bench/head", &[]))
    }

    /// Sampling settings whose end has an id that no token has, so that every response has the full
    /// length.
    fn sampling(&self, batch_size: usize) -> Sampling {
        let (max_new_tokens, ends) = (self.response, Ends::from(self.config.vocab_size() as u32));
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            max_new_tokens,
            ends,
            batch_size,
        }
    }

    fn prompts(&self, count: usize) -> Vec<Vec<u32>> {
        (0..count)
            .map(|row| self.tokens(row, self.prompt))
            .collect()
    }

    fn rows(&self, count: usize) -> Vec<Sequence> {
        let split = |mut ids: Vec<u32>| {
            let response = ids.split_off(self.prompt);
            Sequence::new(ids, response)
        };
        (0..count)
            .map(|row| split(self.tokens(row, self.prompt + self.response)))
            .collect()
    }

    /// Pairs of responses to one prompt each.
    fn pairs(&self, count: usize) -> Vec<Pair> {
        let rows = self.rows(2 * count);
        let pair = |rows: &[Sequence]| Pair {
            chosen: rows[0].clone(),
            rejected: Sequence::new(rows[0].prompt.clone(), rows[1].response.clone()),
        };
        rows.chunks_exact(2).map(pair).collect()
    }

    fn tokens(&self, row: usize, length: usize) -> Vec<u32> {
        let mut stream = stream(0, "bench/tokens", &[row as u64]);
        (0..length)
            .map(|_| stream.random_range(0..self.config.vocab_size() as u32))
            .collect()
    }
}

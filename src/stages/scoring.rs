//! The judge of a stage: the inputs from which it is opened, its scores of a policy's own samples,
//! and the reward function that it is in a policy step.

use super::common::{count, encoder, frozen, frozen_reward, needed, sample, sampling};
use crate::data::TextEncoder;
use crate::data::rows::{Demonstration, Response};
use crate::experiment::GenerationSettings;
use crate::judges::{Judge, JudgeId, Prompt, Row, Sources};
use crate::methods::optimise::all_finite;
use crate::methods::rollout::{RewardFunction, Rollout};
use crate::methods::training::Dtype;
use crate::model::checkpoint::Normalisation;
use crate::model::{Generated, LanguageModel, RewardModel};
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{round, stream};
use crate::{Error, Result};

/// The inputs of a stage from which its judge is opened.
pub struct JudgeInputs<'a> {
    pub context: &'a StageContext,
    /// The number type that models are held in.
    pub dtype: Dtype,
    pub reward: Option<StageKey>,
    pub policy: Option<StageKey>,
    pub reference: Option<StageKey>,
}

impl Sources for JudgeInputs<'_> {
    fn reward_model(&self) -> Result<(RewardModel, Normalisation)> {
        let input = needed(&self.reward, "reward", self.context)?;
        frozen_reward(self.context, input, self.dtype)
    }

    fn policy(&self) -> Result<LanguageModel> {
        let input = needed(&self.policy, "policy", self.context)?;
        frozen(self.context, input, self.dtype)
    }

    fn reference(&self) -> Result<LanguageModel> {
        let input = needed(&self.reference, "reference", self.context)?;
        frozen(self.context, input, self.dtype)
    }

    fn seed(&self) -> Result<u64> {
        self.context.seed()
    }
}

/// Scores of `rows` by `judge`, whose work counts as the stage's cost.
pub fn counted(context: &StageContext, judge: &dyn Judge, rows: &[Row]) -> Result<Vec<f64>> {
    count(context, judge.passes(rows)?);
    judge.scores(rows)
}

/// A judge of responses to the prompts of a stage's demonstrations.
pub struct SampleJudge<'a> {
    judge: Box<dyn Judge>,
    prompts: Vec<Prompt<'a>>,
    encoder: &'a TextEncoder,
    context: &'a StageContext,
}

impl<'a> SampleJudge<'a> {
    /// Opens the judge `id` for `demonstrations`, whose prompts have the tokens `prompts`.
    pub fn open(
        id: &JudgeId,
        inputs: &JudgeInputs<'a>,
        encoder: &'a TextEncoder,
        demonstrations: &'a [Demonstration],
        prompts: &[Vec<u32>],
    ) -> Result<Self> {
        let prompts = demonstrations.iter().zip(prompts).enumerate();
        let prompts = prompts.map(|(index, (row, tokens))| {
            Prompt::new(&row.prompt)
                .of_post(index)
                .with_tokens(tokens.clone())
        });
        Ok(Self {
            judge: id.open(inputs)?,
            prompts: prompts.collect(),
            encoder,
            context: inputs.context,
        })
    }

    /// The scores of rollouts, as a policy step needs them.
    ///
    /// # Errors
    /// A judge that knows no low mark of its scores.
    pub fn reward_function(&'a self) -> Result<RewardFunction<'a>> {
        let low = self.low()?;
        let score = |rollouts: &[Rollout]| {
            let responses = rollouts
                .iter()
                .map(|rollout| {
                    let ids = rollout.sequence.response.clone();
                    self.encoder.decoded(ids, rollout.ended)
                })
                .collect::<Result<Vec<_>>>()?;
            self.scored(rollouts.iter().map(|rollout| rollout.prompt), &responses)
        };
        Ok(RewardFunction {
            score: Box::new(score),
            low,
        })
    }

    /// Scores of `samples`, which are grouped by prompt with equally many for each. If the judge
    /// does not count ends, a response without one gets one less than the low mark, as in a policy
    /// step.
    ///
    /// # Errors
    /// A score that is not finite, or a judge that knows no low mark where one is needed.
    pub fn scores(&self, samples: &[Generated]) -> Result<Vec<f32>> {
        let each = samples.len() / self.prompts.len().max(1);
        let responses = samples
            .iter()
            .map(|sample| self.encoder.decoded(sample.ids.clone(), sample.ended))
            .collect::<Result<Vec<_>>>()?;
        let mut scores = self.scored((0..samples.len()).map(|index| index / each), &responses)?;
        all_finite(&scores, "the score")?;
        if !self.judge.counts_ends() {
            let low = self.low()?;
            let unfinished = scores
                .iter_mut()
                .zip(samples)
                .filter(|(_, sample)| !sample.ended);
            unfinished.for_each(|(score, _)| *score = low - 1.0);
        }
        Ok(scores)
    }

    /// Scores of responses to the prompts with the indices `prompts`.
    fn scored(
        &self,
        prompts: impl Iterator<Item = usize>,
        responses: &[Response],
    ) -> Result<Vec<f32>> {
        let rows: Vec<Row> = prompts
            .map(|index| &self.prompts[index])
            .zip(responses)
            .collect();
        let scores = counted(self.context, &*self.judge, &rows)?;
        Ok(scores.into_iter().map(|score| score as f32).collect())
    }

    fn low(&self) -> Result<f32> {
        self.judge.low().ok_or_else(|| {
            Error::configuration(
                "the judge does not know the scale of its scores, so a response without an end has no score",
            )
            .hint("train on a learned reward, or on gold")
        })
    }
}

/// Settings for sampling `n` responses per prompt; those of one prompt are adjacent.
pub struct Samples {
    pub n: usize,
    pub temperature: f32,
    /// Name of the random streams, together with `round`.
    pub purpose: &'static str,
    pub round: usize,
}

impl Samples {
    pub fn draw(
        &self,
        context: &StageContext,
        policy: &StageKey,
        generation: &GenerationSettings,
        dtype: Dtype,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Generated>> {
        let seed = round(context.seed()?, self.round);
        let sampling = sampling(
            &encoder(context, policy, generation)?,
            generation,
            self.temperature,
        );
        let policy = frozen(context, policy, dtype)?;
        let repeated: Vec<_> = prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt.clone(), self.n))
            .collect();
        sample(context, &policy, &repeated, &sampling, |item| {
            stream(seed, self.purpose, &[item as u64])
        })
    }
}

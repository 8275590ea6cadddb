//! Stage `likelihood`: the bounds of Lemma 4.1 beside the observed deviation, on fresh
//! demonstrations by the same author.

use super::Stage;
use super::common::{
    count, demonstrations, encoder, frozen, frozen_reward, sample, sampling, write_json,
};
use super::evaluate::METRICS;
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::TextEncoder;
use crate::data::rows::Demonstration;
use crate::data::world::{Place, Split, WorldAt};
use crate::eval::Items;
use crate::eval::evaluation_set::EVALUATION_SEED;
use crate::eval::likelihood::{Term, deviations};
use crate::experiment::{GenerationSettings, Metric};
use crate::methods::reward::score;
use crate::methods::spin::sequence_log_probs;
use crate::methods::training::Dtype;
use crate::model::checkpoint::Normalisation;
use crate::model::{LanguageModel, Passes, RewardModel, Sequence};
use crate::pipeline::{StageContext, StageKey};
use crate::rng::stream;
use serde::{Deserialize, Serialize};

/// The file with bounds and deviations, one row per N.
pub const DEVIATIONS: &str = "deviations.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likelihood {
    pub world: WorldAt,
    /// Quality of the author of the demonstrations.
    pub quality: f64,
    /// Number of fresh demonstrations.
    pub posts: usize,
    pub delta: f64,
    /// β of eq. 9.
    pub beta: f32,
    /// Sampling temperature of the policy.
    pub temperature: f32,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LikelihoodInputs {
    pub reward: StageKey,
    /// The policy that was trained on the reward.
    pub policy: StageKey,
    /// The reference policy π_ref.
    pub sft: StageKey,
    /// The demonstrations from which the reward was learned.
    pub demonstrations: StageKey,
}

impl Stage for Likelihood {
    const KIND: &'static str = "likelihood";
    const VERSION: u32 = 1;
    type Inputs = LikelihoodInputs;
    /// Sizes whose rows are the demonstrations of the input, not the fresh ones.
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (sizes.shapes(&self.generation), Precision::from(self.dtype));
        let rows = self.posts + sizes.rows;
        let models = [(shapes, false), (shapes, false), (shapes, true)];
        work::sampling(shapes, rows, precision) + work::reading(&models, 2, rows, precision)
    }

    fn run(self, inputs: LikelihoodInputs, context: &StageContext) -> Result<()> {
        let (world, beta) = (self.world.open()?, f64::from(self.beta));
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let (reward, normalisation) = frozen_reward(context, &inputs.reward, self.dtype)?;
        let models = Models {
            policy: frozen(context, &inputs.policy, self.dtype)?,
            sft: frozen(context, &inputs.sft, self.dtype)?,
            reward,
            normalisation,
        };
        let fresh: Vec<Demonstration> = (0..self.posts as u64)
            .map(|index| {
                let place = Place::new(Split::Demonstrations, EVALUATION_SEED, index);
                let mut author = stream(EVALUATION_SEED, "likelihood/author", &[index]);
                Demonstration {
                    id: place.id(),
                    prompt: world.prompt(place).into(),
                    response: world.answer(place, self.quality, &mut author).into(),
                }
            })
            .collect();
        let trained = demonstrations(context, &inputs.demonstrations)?;
        let rows: Vec<&Demonstration> = fresh.iter().chain(&trained).collect();
        let mut pool = models.terms(context, &self, &encoder, &rows)?;
        let seen = pool.split_off(fresh.len());
        let whole = |terms: &[Term]| {
            terms.iter().map(|term| term.whole(beta)).sum::<f64>() / terms.len() as f64
        };
        let mut measured = Items::default();
        measured.insert(Metric::SurrogateGap, vec![whole(&seen) - whole(&pool)]);
        write_json(&context.out().join(METRICS), &measured.means())?;
        write_json(
            &context.out().join(DEVIATIONS),
            &deviations(&pool, beta, self.delta, context.seed()?),
        )
    }
}

struct Models {
    policy: LanguageModel,
    sft: LanguageModel,
    reward: RewardModel,
    normalisation: Normalisation,
}

impl Models {
    /// One term per row; each row has its own sample.
    fn terms(
        &self,
        context: &StageContext,
        stage: &Likelihood,
        encoder: &TextEncoder,
        rows: &[&Demonstration],
    ) -> Result<Vec<Term>> {
        let demonstrated = rows
            .iter()
            .map(|row| encoder.demonstration(row))
            .collect::<Result<Vec<_>>>()?;
        let prompts: Vec<Vec<u32>> = demonstrated.iter().map(|row| row.prompt.clone()).collect();
        let seed = context.seed()?;
        let draw = |item: usize| stream(seed, "likelihood/samples", &[item as u64]);
        let how = sampling(encoder, &stage.generation, stage.temperature);
        let samples = sample(context, &self.policy, &prompts, &how, draw)?;
        let sampled: Vec<Sequence> = prompts
            .into_iter()
            .zip(samples)
            .map(|(prompt, sample)| Sequence::new(prompt, sample.ids))
            .collect();
        let demonstrated: Vec<&Sequence> = demonstrated.iter().collect();
        let sampled: Vec<&Sequence> = sampled.iter().collect();
        let (config, all) = (
            self.policy.config(),
            demonstrated.iter().chain(&sampled).copied(),
        );
        count(
            context,
            Passes::score(self.reward.config(), all.clone()) + Passes::likelihood(config, all),
        );
        count(context, Passes::likelihood(config, sampled.iter().copied()));
        let rewards = |rows: &[&Sequence]| -> Result<Vec<f64>> {
            Ok(self
                .normalisation
                .rewards(&score(&self.reward, rows)?)?
                .into_iter()
                .map(f64::from)
                .collect())
        };
        let (own, reference) = (
            sequence_log_probs(&self.policy, &sampled)?,
            sequence_log_probs(&self.sft, &sampled)?,
        );
        let ratios = own.iter().zip(reference).map(|(p, q)| f64::from(p - q));
        let references = sequence_log_probs(&self.sft, &demonstrated)?;
        let terms = rewards(&demonstrated)?
            .into_iter()
            .zip(references)
            .zip(rewards(&sampled)?)
            .zip(ratios);
        Ok(terms
            .map(
                |(((reward, reference), sample_reward), sample_ratio)| Term {
                    reward,
                    reference: reference.into(),
                    sample_reward,
                    sample_ratio,
                },
            )
            .collect())
    }
}

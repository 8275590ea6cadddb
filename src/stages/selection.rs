//! Stages that choose among responses or policies by a score: the winners of Best-of-N, two samples judged into a pair, the
//! demonstrations that behaviour cloning keeps, and the iteration that the authors would have published.

use super::common::{
    checkpoint, codec, demonstrations, frozen, language_model, prompts, sample, sampling, save_policy, write_json,
};
use super::objective::{RewardSource, scores};
use super::pairs::open_exam;
use crate::data::rows::{self, Demonstration, ResponsePair};
use crate::eval::exam::WorldExam;
use crate::eval::policy::respond;
use crate::experiment::GenerationSettings;
use crate::methods::best_of_n::{BestOfNSettings, best};
use crate::methods::filtered_bc::{FilteredBcSettings, keep_best};
use crate::methods::training::Dtype;
use crate::model::Generated;
use crate::pipeline::StageContext;
use crate::rng::{round, stream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

pub const WINNERS: &str = "best_of_n";
pub const JUDGED: &str = "judged_pairs";
pub const FILTER: &str = "filter";
pub const SELECT: &str = "select";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WinnersStage {
    pub generation: GenerationSettings,
    pub best_of_n: BestOfNSettings,
    pub dtype: Dtype,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

/// `demonstrations.jsonl`: for every prompt the best by the input `reward` of n samples of the input `policy`. A prompt whose
/// samples all fail to end has no winner.
pub fn winners(context: &StageContext) -> Result<()> {
    let stage: WinnersStage = context.settings()?;
    let codec = codec(context, "policy", &stage.generation)?;
    let (prompts, n) = (prompts(context, &codec)?, stage.best_of_n.n);
    let settings = Sampled { n, temperature: stage.best_of_n.temperature, purpose: "best_of_n", round: stage.round };
    let samples = settings.draw(context, &stage.generation, stage.dtype, &prompts)?;
    let source = RewardSource::Learned;
    let objective = source.objective(context, &codec, prompts.len(), stage.dtype)?;
    let scores = scores(&objective, &source, &prompts, &samples)?;
    let mut winners = Vec::with_capacity(prompts.len());
    for (row, place) in demonstrations(context)?.into_iter().zip(best(&scores, n)) {
        if samples[place].ended {
            let response = codec.decoded(samples[place].ids.clone(), true)?.text;
            winners.push(Demonstration { response, ..row });
        }
    }
    if winners.is_empty() {
        return Err(Error::data("no sample of the policy ends, so Best-of-N has no winners")
            .hint("lower best_of_n.temperature, or raise generation.max_response_tokens"));
    }
    rows::write(&context.out().join("demonstrations.jsonl"), winners)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedStage {
    pub generation: GenerationSettings,
    pub temperature: f32,
    pub reward: RewardSource,
    pub dtype: Dtype,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

/// `pairs.jsonl`: for every prompt two samples of the input `policy`, the one with the higher score preferred; equal ones are
/// left out.
pub fn judged(context: &StageContext) -> Result<()> {
    let stage: JudgedStage = context.settings()?;
    let codec = codec(context, "policy", &stage.generation)?;
    let prompts = prompts(context, &codec)?;
    let settings = Sampled { n: 2, temperature: stage.temperature, purpose: "judged_pairs", round: stage.round };
    let samples = settings.draw(context, &stage.generation, stage.dtype, &prompts)?;
    let objective = stage.reward.objective(context, &codec, prompts.len(), stage.dtype)?;
    let scores = scores(&objective, &stage.reward, &prompts, &samples)?;
    let mut pairs = Vec::with_capacity(prompts.len());
    for (index, row) in demonstrations(context)?.into_iter().enumerate() {
        let (first, second) = (2 * index, 2 * index + 1);
        let (chosen, rejected) = if scores[first] >= scores[second] { (first, second) } else { (second, first) };
        if scores[chosen] > scores[rejected] {
            let response = |place: usize| codec.decoded(samples[place].ids.clone(), samples[place].ended);
            let (chosen, rejected) = (response(chosen)?, response(rejected)?);
            pairs.push(ResponsePair { id: row.id, prompt: row.prompt, chosen, rejected });
        }
    }
    rows::write(&context.out().join("pairs.jsonl"), pairs)
}

/// n samples of the input `policy` for every prompt, one after the other.
struct Sampled {
    n: usize,
    temperature: f32,
    purpose: &'static str,
    round: usize,
}

impl Sampled {
    fn draw(
        &self,
        context: &StageContext,
        generation: &GenerationSettings,
        dtype: Dtype,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Generated>> {
        let seed = round(context.seed()?, self.round);
        let policy = frozen(context, "policy", dtype)?;
        let sampling = sampling(&codec(context, "policy", generation)?, generation, self.temperature);
        let repeated: Vec<_> = prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), self.n)).collect();
        let stream = |item: usize| stream(seed, self.purpose, &[item as u64]);
        let samples = sample(context, &policy, &repeated, &sampling, stream)?;
        Ok(samples)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterStage {
    pub generation: GenerationSettings,
    pub filtered_bc: FilteredBcSettings,
    pub dtype: Dtype,
}

/// `demonstrations.jsonl`: the demonstrations that the input `reward` scores highest.
pub fn filter(context: &StageContext) -> Result<()> {
    let stage: FilterStage = context.settings()?;
    let codec = codec(context, "reward", &stage.generation)?;
    let (prompts, all) = (prompts(context, &codec)?, demonstrations(context)?);
    let responses = all.iter().map(|row| codec.response(&row.response)).collect::<Result<Vec<_>>>()?;
    let responses: Vec<_> = responses.into_iter().map(|row| Generated { ids: row.ids, ended: row.ended }).collect();
    let source = RewardSource::Learned;
    let objective = source.objective(context, &codec, prompts.len(), stage.dtype)?;
    let scores = scores(&objective, &source, &prompts, &responses)?;
    let kept = keep_best(&scores, stage.filtered_bc.keep);
    rows::write(&context.out().join("demonstrations.jsonl"), kept.into_iter().map(|place| &all[place]))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectStage {
    pub exam: WorldExam,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
}

/// The model among the inputs `policy/…` whose responses to validation posts have the most gold, which no method that does
/// without preferences could know. The authors chose what they reported so.
pub fn select(context: &StageContext) -> Result<()> {
    let stage: SelectStage = context.settings()?;
    let exam = open_exam(context, Some(&stage.exam), &stage.generation, stage.dtype)?;
    let roles: Vec<String> = context.spec.inputs.keys().filter(|role| role.starts_with("policy/")).cloned().collect();
    let mut means = Vec::new();
    for role in &roles {
        let policy = frozen(context, role, stage.dtype)?;
        let codec = codec(context, role, &stage.generation)?;
        let sampling = sampling(&codec, &stage.generation, stage.temperature);
        let progress = |done| context.progress(done as u64, exam.posts.len() as u64, role);
        let responses = respond(&policy, &exam, &codec, &sampling, context.seed()?, "select", progress)?;
        let golds: Vec<f64> = exam.golds(&responses)?.into_iter().flatten().collect();
        means.push(golds.iter().sum::<f64>() / golds.len().max(1) as f64);
    }
    let chosen = (0..means.len()).max_by(|a, b| means[*a].total_cmp(&means[*b]).then(b.cmp(a)));
    let Some(role) = chosen.map(|place| &roles[place]) else {
        return Err(Error::data("there is no policy to select from"));
    };
    write_json(&context.out().join("selection.json"), &serde_json::json!({ "chosen": role, "gold": means }))?;
    save_policy(context, &language_model(context, role)?, &checkpoint(context, role)?)
}

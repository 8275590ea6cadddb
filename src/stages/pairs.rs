//! Pairs of responses: the training pairs (demonstration, own sample) of IRL and SPIN, and the held-out pairs on which
//! rewards are measured.

use super::common::{codec, demonstrations, frozen, frozen_reward, sample, sampling};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::eval::exam::{Exam, Judge, WorldExam};
use crate::eval::policy::respond;
use crate::experiment::GenerationSettings;
use crate::methods::training::Dtype;
use crate::pipeline::StageContext;
use crate::rng::{round, stream};
use serde::{Deserialize, Serialize};

pub const KIND: &str = "pairs";
pub const EXAM: &str = "exam_pairs";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub temperature: f32,
    pub dtype: Dtype,
    /// Samples per demonstration.
    pub negatives: usize,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

/// P_t: every demonstration against samples ỹ ~ π_t for the same prompt.
pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let seed = round(context.seed()?, stage.round);
    let policy = frozen(context, "policy", stage.dtype)?;
    let codec = codec(context, "policy", &stage.generation)?;
    let demonstrations = demonstrations(context)?;
    let prompts = demonstrations
        .iter()
        .flat_map(|row| std::iter::repeat_n(&row.prompt, stage.negatives))
        .map(|prompt| codec.prompt(prompt))
        .collect::<Result<Vec<_>>>()?;
    let sampling = sampling(&codec, &stage.generation, stage.temperature);
    let samples = sample(context, &policy, &prompts, &sampling, |item| stream(seed, "pairs", &[item as u64]))?;
    let mut pairs = Vec::with_capacity(samples.len());
    for (index, sample) in samples.into_iter().enumerate() {
        let row = &demonstrations[index / stage.negatives];
        pairs.push(ResponsePair {
            id: row.id.clone(),
            prompt: row.prompt.clone(),
            chosen: codec.response(&row.response)?,
            rejected: codec.decoded(sample.ids, sample.ended)?,
        });
    }
    rows::write(&context.out().join("pairs.jsonl"), pairs)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamStage {
    /// None for real posts, which come as the input `demonstrations`.
    pub exam: Option<WorldExam>,
    /// The first so many of the exam's posts.
    pub posts: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
}

/// Held-out pairs from the SFT policy: `on_policy.jsonl`, two samples for one post, the one with more gold preferred
/// (ties left out; absent without gold), and `demonstrated.jsonl`, the demonstrator's response over a sample.
pub fn exam(context: &StageContext) -> Result<()> {
    let stage: ExamStage = context.settings()?;
    let exam = open_exam(context, stage.exam.as_ref(), &stage.generation, stage.dtype)?.first(stage.posts);
    let policy = frozen(context, "policy", stage.dtype)?;
    let codec = codec(context, "policy", &stage.generation)?;
    let sampling = sampling(&codec, &stage.generation, stage.temperature);
    let draw = |purpose: &str| {
        let progress = |done| context.progress(done as u64, exam.posts.len() as u64, "sampling");
        respond(&policy, &exam, &codec, &sampling, context.seed()?, purpose, progress)
    };
    let (first, second) = (draw("exam/first")?, draw("exam/second")?);
    let (mut on_policy, mut demonstrated) = (Vec::new(), Vec::new());
    let golds: Vec<_> = exam.golds(&first)?.into_iter().zip(exam.golds(&second)?).collect();
    for (index, post) in exam.posts.iter().enumerate() {
        let pair =
            |chosen, rejected| ResponsePair { id: post.id.clone(), prompt: post.prompt.clone(), chosen, rejected };
        let (a, b) = (&first[index], &second[index]);
        match golds[index] {
            (Some(gold_a), Some(gold_b)) if gold_a > gold_b => on_policy.push(pair(a.clone(), b.clone())),
            (Some(gold_a), Some(gold_b)) if gold_a < gold_b => on_policy.push(pair(b.clone(), a.clone())),
            _ => {}
        }
        demonstrated.push(pair(codec.response(&post.reference)?, a.clone()));
    }
    demonstrated.retain(|pair| !pair.is_identical());
    rows::write(&context.out().join("on_policy.jsonl"), on_policy)?;
    rows::write(&context.out().join("demonstrated.jsonl"), demonstrated)
}

/// The exam of the embedded world, or the held-out real posts, with the model in the input `judge` for gold if there is one.
pub fn open_exam(
    context: &StageContext,
    exam: Option<&WorldExam>,
    generation: &GenerationSettings,
    dtype: Dtype,
) -> Result<Exam> {
    if let Some(exam) = exam {
        return Exam::of_world(exam);
    }
    let judged = context.spec.inputs.contains_key("judge");
    let judge = judged.then(|| judge(context, generation, dtype)).transpose()?;
    Ok(Exam::of_corpus(rows::read(&context.input("demonstrations")?.join("held_out.jsonl"))?, judge))
}

/// The reward model in the input `judge`, in the place of gold.
pub fn judge(context: &StageContext, generation: &GenerationSettings, dtype: Dtype) -> Result<Judge> {
    let (model, normalisation) = frozen_reward(context, "judge", dtype)?;
    Ok(Judge { model, normalisation, codec: codec(context, "judge", generation)? })
}

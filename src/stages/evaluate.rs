//! Stages `evaluate` (a policy on the exam) and `evaluate_reward` (a reward, or a heuristic, on held-out pairs).

use super::common::{codec, count, frozen, frozen_reward, sampling, write_json};
use super::pairs::open_exam;
use crate::data::Codec;
use crate::data::rows::{self, Response, ResponsePair};
use crate::eval::accuracy::{Judge, rank};
use crate::eval::decoding::{Decoding, Decodings, candidates, pick, respond_at, spread};
use crate::eval::exam::{Exam, WorldExam};
use crate::eval::policy::{
    Answer, Best, answers, log_probabilities, measure_answers, measure_likelihoods, respond, sequences,
};
use crate::eval::{Items, check_finite};
use crate::experiment::{GenerationSettings, Heuristic, Metric};
use crate::methods::reward::score;
use crate::methods::training::Dtype;
use crate::model::Passes;
use crate::pipeline::StageContext;
use crate::rng::stream;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

pub const POLICY: &str = "evaluate";
pub const REWARD: &str = "evaluate_reward";

/// The means, which `collect` reads.
pub const METRICS: &str = "metrics.json";
/// What they are means of, where items are the same for every method and seed.
pub const ITEMS: &str = "items.json";
/// A policy at several temperatures, as [`Decodings`].
pub const DECODINGS: &str = "decoding.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStage {
    /// None for real posts, which come as the input `demonstrations`.
    pub exam: Option<WorldExam>,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
    pub responder: Responder,
    /// Further decodings of the policy; none where only the two above are measured.
    pub decoding: Option<DecodingStage>,
}

/// Decodings beside greedy and the evaluation's temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodingStage {
    pub temperatures: Vec<f32>,
    /// The posts by which one of all is picked.
    pub validation: WorldExam,
}

/// Who answers the exam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Responder {
    /// The model in the input `policy`.
    Policy,
    /// The author of the demonstrations.
    Demonstrator,
    /// The best by gold of n samples of `policy`: a privileged control.
    BestByGold { n: usize },
    /// The best of n samples of `policy` by the reward model in the input `reward`.
    BestByReward { n: usize },
    /// The most likely of n samples of `policy`, by its own log π(y|x) of the whole response.
    BestByLogProbability { n: usize },
}

/// Answers every post of the exam, sampled and greedily, and measures the answers.
pub fn policy(context: &StageContext) -> Result<()> {
    let stage: PolicyStage = context.settings()?;
    let exam = open_exam(context, stage.exam.as_ref(), &stage.generation, stage.dtype)?;
    let codec = codec(context, "sft", &stage.generation)?;
    let sampled = respond_as(context, &stage, &exam, &codec)?;
    let greedy = match stage.responder {
        Responder::Policy => draw(context, &stage, &exam, &codec, 0.0, &purpose(0))?,
        // Authors and selections have no greedy answer of their own.
        _ => sampled.clone(),
    };
    let answers = answers(&exam, &codec, sampled, greedy)?;
    let mut measured = measure_answers(&exam, &answers);
    if stage.responder == Responder::Policy {
        let (model, sft) = (frozen(context, "policy", stage.dtype)?, frozen(context, "sft", stage.dtype)?);
        let (likelihoods, passes) = measure_likelihoods(&model, &sft, &exam, &codec, &answers, stage.temperature)?;
        measured.extend(likelihoods);
        count(context, passes);
        if let Some(further) = &stage.decoding {
            measured.extend(decode(context, &stage, further, &exam, &codec, &answers)?);
        }
    } else {
        measured.0.retain(|metric, _| *metric != Metric::GoldGreedy && *metric != Metric::CopyAccuracy);
    }
    if context.spec.inputs.contains_key("reward") {
        let sampled: Vec<Response> = answers.iter().map(|answer| answer.sampled.clone()).collect();
        measured.insert(Metric::LearnedReward, reward_scores(context, stage.dtype, &exam, &codec, &sampled)?);
    }
    rows::write(&context.out().join("answers.jsonl"), &answers)?;
    write_json(&context.out().join(METRICS), &measured.means())?;
    measured.0.retain(|_, values| values.len() == exam.posts.len());
    rows::write(&context.out().join(ITEMS), [measured])
}

fn draw(
    context: &StageContext,
    stage: &PolicyStage,
    exam: &Exam,
    codec: &Codec,
    temperature: f32,
    purpose: &str,
) -> Result<Vec<Response>> {
    let model = frozen(context, "policy", stage.dtype)?;
    let sampling = sampling(codec, &stage.generation, temperature);
    let progress = |done| context.progress(done as u64, exam.posts.len() as u64, "answering");
    let responses = respond(&model, exam, codec, &sampling, context.seed()?, purpose, progress)?;
    count(context, Passes::likelihood(model.config(), &sequences(exam, codec, &responses)?));
    Ok(responses)
}

/// The streams of a policy's candidate for every post.
fn purpose(candidate: u64) -> String {
    format!("evaluate/{candidate}")
}

/// The policy at greedy, the further temperatures and the evaluation's own: gold at the one that validation posts pick, and all
/// of them in `decoding.json`.
fn decode(
    context: &StageContext,
    stage: &PolicyStage,
    further: &DecodingStage,
    exam: &Exam,
    codec: &Codec,
    answers: &[Answer],
) -> Result<Items> {
    let temperatures = candidates(&further.temperatures, stage.temperature);
    let (model, sft) = (frozen(context, "policy", stage.dtype)?, frozen(context, "sft", stage.dtype)?);
    let sampling = sampling(codec, &stage.generation, stage.temperature);
    let validation = Exam::of_world(&further.validation)?;
    let progress = |done| context.progress(done as u64, validation.posts.len() as u64, "validation posts");
    let streams = (context.seed()?, "evaluate/validation");
    let validated = respond_at(&model, &validation, codec, (&sampling, &temperatures), streams, progress)?;
    let mut golds = Vec::with_capacity(temperatures.len());
    let (mut decodings, mut validation_golds) = (Vec::new(), Vec::new());
    for (&temperature, validated) in temperatures.iter().zip(&validated) {
        let responses = if temperature == 0.0 {
            answers.iter().map(|answer| answer.greedy.clone()).collect()
        } else if temperature == stage.temperature {
            answers.iter().map(|answer| answer.sampled.clone()).collect()
        } else {
            draw(context, stage, exam, codec, temperature, &purpose(0))?
        };
        count(context, Passes::likelihood(model.config(), &sequences(&validation, codec, validated)?));
        let ([entropy, kl], passes) = spread(&model, &sft, exam, codec, &responses, temperature)?;
        count(context, passes);
        let own: Vec<f64> = exam.golds(&responses)?.into_iter().flatten().collect();
        let validation_gold = mean(validation.golds(validated)?.into_iter().flatten());
        validation_golds.push(validation_gold);
        decodings.push(Decoding { temperature, entropy, gold: mean(own.iter().copied()), kl, validation_gold });
        golds.push(own);
    }
    let mut measured = Items::default();
    if let Some(place) = pick(&validation_golds) {
        let picked = temperatures[place];
        write_json(&context.out().join(DECODINGS), &Decodings { picked, decodings })?;
        measured.insert(Metric::GoldTuned, golds.swap_remove(place));
        // As it is written, and not the nearest double of the nearest float.
        measured.insert(Metric::TunedTemperature, vec![(f64::from(picked) * 1e6).round() / 1e6]);
    }
    Ok(measured)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn respond_as(context: &StageContext, stage: &PolicyStage, exam: &Exam, codec: &Codec) -> Result<Vec<Response>> {
    let n = match stage.responder {
        Responder::Policy => return draw(context, stage, exam, codec, stage.temperature, &purpose(0)),
        Responder::Demonstrator => {
            // Another summary by the same author than the exam's reference.
            return demonstrator(context, stage, exam, codec);
        }
        Responder::BestByGold { n } | Responder::BestByReward { n } | Responder::BestByLogProbability { n } => n,
    };
    let mut best = Best::default();
    for candidate in 0..n as u64 {
        let responses = draw(context, stage, exam, codec, stage.temperature, &purpose(candidate))?;
        let scores = match stage.responder {
            Responder::BestByReward { .. } => reward_scores(context, stage.dtype, exam, codec, &responses)?,
            Responder::BestByLogProbability { .. } => {
                let policy = frozen(context, "policy", stage.dtype)?;
                let (log_probs, passes) = log_probabilities(&policy, exam, codec, &responses)?;
                count(context, passes);
                log_probs
            }
            _ => exam.golds(&responses)?.into_iter().flatten().collect(),
        };
        best.offer(responses, scores);
    }
    Ok(best.responses())
}

fn demonstrator(context: &StageContext, stage: &PolicyStage, exam: &Exam, codec: &Codec) -> Result<Vec<Response>> {
    let Some(settings) = &stage.exam else {
        return Err(Error::data("real posts have no demonstrator to ask"));
    };
    let seed = context.seed()?;
    (0..exam.posts.len())
        .map(|index| {
            let summary =
                exam.another_reference(index, settings.quality, &mut stream(seed, "evaluate/author", &[index as u64]));
            codec.response(&summary.ok_or_else(|| Error::data("the exam has no author"))?)
        })
        .collect()
}

fn reward_scores(
    context: &StageContext,
    dtype: Dtype,
    exam: &Exam,
    codec: &Codec,
    responses: &[Response],
) -> Result<Vec<f64>> {
    let (model, normalisation) = frozen_reward(context, "reward", dtype)?;
    let sequences = sequences(exam, codec, responses)?;
    count(context, Passes::score(model.config(), &sequences));
    let scores = score(&model, &sequences.iter().collect::<Vec<_>>())?;
    let rewards: Vec<f64> = normalisation.rewards(&scores)?.into_iter().map(f64::from).collect();
    check_finite(&rewards, |at| format!("the response to post {} (`{}`)", at + 1, exam.posts[at].id))?;
    Ok(rewards)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardStage {
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub judge: JudgeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeKind {
    /// The reward model in the input `reward`.
    Explicit,
    /// log π − log π_sft of the inputs `policy` and `sft`.
    Implicit,
    /// log π of the input `policy`, which ranks as the reward that IQ-Learn recovers.
    Likelihood,
    Heuristic(Heuristic),
}

/// Accuracies of one judge on the held-out preferences (input `preferences`; absent for real posts) and on the SFT
/// policy's pairs (input `exam_pairs`).
pub fn reward(context: &StageContext) -> Result<()> {
    let stage: RewardStage = context.settings()?;
    let codec = codec(context, "sft", &stage.generation)?;
    let model = |role: &str| frozen(context, role, stage.dtype);
    let (explicit, policy, sft);
    let judge = match stage.judge {
        JudgeKind::Explicit => {
            explicit = frozen_reward(context, "reward", stage.dtype)?.0;
            Judge::Explicit(&explicit)
        }
        JudgeKind::Implicit => {
            (policy, sft) = (model("policy")?, model("sft")?);
            Judge::Implicit { policy: &policy, reference: &sft }
        }
        JudgeKind::Likelihood => {
            policy = model("policy")?;
            Judge::LogProbability(&policy)
        }
        JudgeKind::Heuristic(Heuristic::LogProbability) => {
            sft = model("sft")?;
            Judge::LogProbability(&sft)
        }
        JudgeKind::Heuristic(heuristic) => Judge::Heuristic { heuristic, seed: context.seed()? },
    };
    let exam_pairs = context.input("exam_pairs")?;
    let mut sources = vec![
        (exam_pairs.join("on_policy.jsonl"), Metric::OnPolicyAccuracy),
        (exam_pairs.join("demonstrated.jsonl"), Metric::DemonstrationAccuracy),
    ];
    if context.spec.inputs.contains_key("preferences") {
        sources.push((context.input("preferences")?.join("pairs.jsonl"), Metric::PreferenceAccuracy));
    }
    let (mut measured, mut items) = (Items::default(), Items::default());
    for (path, metric) in sources {
        let pairs: Vec<ResponsePair> = rows::read(&path)?;
        let ranked = rank(&judge, &pairs, &codec)?;
        // The preferences are the same for every method and seed, the pairs of the exam are those of a seed's own policy.
        if metric == Metric::PreferenceAccuracy {
            // Per token a length is the same for all, and a coin or an overlap is no sum over tokens.
            if !matches!(judge, Judge::Heuristic { .. }) {
                measured.insert_ranked(Metric::PreferenceAccuracyPerToken, ranked.per_token);
            }
            items.insert_ranked(metric, ranked.by_score.clone());
        }
        measured.insert_ranked(metric, ranked.by_score);
    }
    write_json(&context.out().join(METRICS), &measured.means())?;
    rows::write(&context.out().join(ITEMS), [items])
}

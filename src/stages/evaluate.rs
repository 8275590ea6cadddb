//! Stage `evaluate`: measures a policy on the evaluation posts. Every post is answered with
//! sampling and greedily.

use super::Stage;
use super::common::{count, encoder, frozen, sampling, write_json};
use super::evaluation_set::EvaluationSetInputs;
use super::scoring::{JudgeInputs, counted};
use super::work::{self, Precision, Shapes, Work};
use crate::data::TextEncoder;
use crate::data::rows::{self, Response};
use crate::eval::accuracy::win;
use crate::eval::decoding::{Decoding, Decodings, candidates, pick, respond_at, spread};
use crate::eval::evaluation_set::{EvaluationSet, WorldEvaluationSet};
use crate::eval::policy::{
    Answer, Best, answers, measure_answers, measure_likelihoods, respond, sequences,
};
use crate::eval::{Items, check_finite};
use crate::experiment::{Against, GenerationSettings, Heuristic, Metric};
use crate::judges::{JudgeId, Prompt, Row};
use crate::methods::training::Dtype;
use crate::model::{DecoderConfig, LanguageModel, Passes};
use crate::pipeline::{StageContext, StageKey};
use crate::rng::stream;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The file with the means, which `collect` reads.
pub const METRICS: &str = "metrics.json";
/// The file with the values behind the means, for metrics whose items are the same for every method
/// and seed.
pub const ITEMS: &str = "items.json";
/// The file with a policy's results at several temperatures, as [`Decodings`].
pub const DECODINGS: &str = "decoding.json";

/// The file with the grades of a judge that compares responses.
pub const JUDGED: &str = "judged.jsonl";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The posts of the embedded world; `None` for real posts, which come as inputs.
    pub evaluation_set: Option<WorldEvaluationSet>,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
    pub responder: Responder,
    /// Further decodings of the policy; `None` if only sampling at `temperature` and greedy
    /// decoding are measured.
    pub decoding: Option<FurtherDecodings>,
    /// A judge that compares the sampled responses with others; no part of the key if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// A comparison of the sampled responses with others by a judge's grades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    pub judge: JudgeId,
    pub against: Against,
}

/// A row of [`JUDGED`]: the grades of a sampled response and of the one that it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Judged<'a> {
    id: &'a str,
    sampled: Option<f64>,
    other: Option<f64>,
    /// The reason for a grade that is missing, that of the sampled response first.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

/// Decodings in addition to greedy and the evaluation's temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherDecodings {
    pub temperatures: Vec<f32>,
    /// The posts on which one of all decodings is picked.
    pub validation: WorldEvaluationSet,
}

/// The author of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Responder {
    /// The model in the input `policy`.
    Policy,
    /// The author of the demonstrations.
    Demonstrator,
    /// The sample with the most gold among n samples of `policy`: a privileged control.
    BestByGold { n: usize },
    /// The best of n samples of `policy` by the reward model in the input `reward`.
    BestByReward { n: usize },
    /// The most likely of n samples of `policy`, by its own log π(y|x) of the whole response.
    BestByLogProbability { n: usize },
    /// The longest of n samples of `policy`: a control.
    BestByLength { n: usize },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EvaluateInputs {
    pub policy: StageKey,
    pub sft: StageKey,
    /// The explicit reward on which the policy was trained, if there is one.
    pub reward: Option<StageKey>,
    #[serde(flatten)]
    pub evaluation_set: EvaluationSetInputs,
}

/// Sizes of an evaluation.
pub struct EvaluateSizes<'a> {
    /// Shape of the policy and of its reward.
    pub model: &'a DecoderConfig,
    pub posts: usize,
    /// True if an explicit reward scores the answers.
    pub scored: bool,
    /// Shape of the judge of real posts.
    pub judge: Option<&'a DecoderConfig>,
}

impl Stage for Evaluate {
    const KIND: &'static str = "evaluate";
    const VERSION: u32 = 4;
    type Inputs = EvaluateInputs;
    type Sizes<'a> = EvaluateSizes<'a>;

    fn work(
        &self,
        EvaluateSizes {
            model,
            posts,
            scored,
            judge,
        }: EvaluateSizes,
    ) -> Work {
        let (shapes, precision) = (
            Shapes {
                config: model,
                generation: &self.generation,
            },
            Precision::from(self.dtype),
        );
        let drawn = match self.responder {
            Responder::Policy => 2,
            Responder::Demonstrator => 0,
            Responder::BestByGold { n }
            | Responder::BestByReward { n }
            | Responder::BestByLogProbability { n }
            | Responder::BestByLength { n } => n,
        };
        // Two of the decodings are sampled in any case, and the greedy answers are read only by the
        // SFT policy.
        let (further, validation) = match &self.decoding {
            Some(FurtherDecodings {
                temperatures,
                validation,
            }) => {
                let decodings = candidates(temperatures, self.temperature).len();
                (decodings, decodings * validation.posts)
            }
            None => (0, 0),
        };
        let sampled = (drawn + further.saturating_sub(2)) * posts + validation;
        let mut work = work::sampling(shapes, sampled, precision);
        let read = match self.responder {
            Responder::Policy => 3 + (2 * further).saturating_sub(1),
            Responder::BestByLogProbability { n } => n,
            _ => 0,
        };
        if read > 0 {
            work = work + work::reading(&[(shapes, false)], read, posts, precision);
        }
        if scored {
            work = work.then(work::reading(&[(shapes, true)], 1, posts, precision));
        }
        work + work::judging(judge, &self.generation, 3 * posts, precision)
    }

    fn run(self, inputs: EvaluateInputs, context: &StageContext) -> Result<()> {
        let evaluation_set = inputs.evaluation_set.open(
            context,
            self.evaluation_set.as_ref(),
            &self.generation,
            self.dtype,
        )?;
        let encoder = encoder(context, &inputs.sft, &self.generation)?;
        let evaluation = Evaluation {
            stage: &self,
            inputs: &inputs,
            context,
            evaluation_set: &evaluation_set,
            encoder: &encoder,
        };
        let sampled = evaluation.respond()?;
        let greedy = match self.responder {
            Responder::Policy => evaluation.draw(0.0, 0)?,
            // Authors and selections have no separate greedy answer.
            _ => sampled.clone(),
        };
        let answers = answers(&evaluation_set, &encoder, sampled, greedy)?;
        let mut measured = measure_answers(&evaluation_set, &answers);
        if self.responder == Responder::Policy {
            let (model, sft) = evaluation.models()?;
            let (likelihoods, passes) = measure_likelihoods(
                &model,
                &sft,
                &evaluation_set,
                &encoder,
                &answers,
                self.temperature,
            )?;
            measured.extend(likelihoods);
            count(context, passes);
            if let Some(further) = &self.decoding {
                measured.extend(evaluation.decode(further, &answers)?);
            }
        } else {
            measured.0.retain(|metric, _| {
                *metric != Metric::GoldGreedy && *metric != Metric::CopyAccuracy
            });
        }
        if inputs.reward.is_some() {
            let sampled: Vec<Response> = answers
                .iter()
                .map(|answer| answer.sampled.clone())
                .collect();
            measured.insert(
                Metric::LearnedReward,
                evaluation.scores(&JudgeId::Learned, &sampled)?,
            );
        }
        if let Some(comparison) = &self.comparison {
            measured.extend(evaluation.compare(comparison, &answers)?);
        }
        rows::write(&context.out().join("answers.jsonl"), &answers)?;
        write_json(&context.out().join(METRICS), &measured.means())?;
        measured
            .0
            .retain(|_, values| values.len() == evaluation_set.posts.len());
        rows::write(&context.out().join(ITEMS), [measured])
    }
}

/// An evaluation with its posts loaded.
struct Evaluation<'a> {
    stage: &'a Evaluate,
    inputs: &'a EvaluateInputs,
    context: &'a StageContext,
    evaluation_set: &'a EvaluationSet,
    encoder: &'a TextEncoder,
}

impl Evaluation<'_> {
    /// The policy, and the SFT policy that it is compared with.
    fn models(&self) -> Result<(LanguageModel, LanguageModel)> {
        let model = |input| frozen(self.context, input, self.stage.dtype);
        Ok((model(&self.inputs.policy)?, model(&self.inputs.sft)?))
    }

    /// The answers to measure.
    fn respond(&self) -> Result<Vec<Response>> {
        let (n, judge) = match self.stage.responder {
            Responder::Policy => return self.draw(self.stage.temperature, 0),
            // Another summary by the author of the reference.
            Responder::Demonstrator => return self.demonstrator(),
            // Gold is the evaluation set's own judge.
            Responder::BestByGold { n } => (n, None),
            Responder::BestByReward { n } => (n, Some(JudgeId::Learned)),
            Responder::BestByLogProbability { n } => (n, Some(JudgeId::Likelihood)),
            Responder::BestByLength { n } => (n, Some(JudgeId::Heuristic(Heuristic::Longer))),
        };
        let mut best = Best::default();
        for candidate in 0..n as u64 {
            let responses = self.draw(self.stage.temperature, candidate)?;
            let scores = match &judge {
                Some(judge) => self.scores(judge, &responses)?,
                None => self
                    .evaluation_set
                    .golds(&responses)?
                    .into_iter()
                    .flatten()
                    .collect(),
            };
            best.offer(responses, scores);
        }
        Ok(best.responses())
    }

    /// The policy's candidate number `candidate` for every post.
    fn draw(&self, temperature: f32, candidate: u64) -> Result<Vec<Response>> {
        let (context, evaluation_set, encoder) = (self.context, self.evaluation_set, self.encoder);
        let model = frozen(context, &self.inputs.policy, self.stage.dtype)?;
        let sampling = sampling(encoder, &self.stage.generation, temperature);
        let progress =
            |done| context.progress(done as u64, evaluation_set.posts.len() as u64, "answering");
        let purpose = format!("evaluate/{candidate}");
        let responses = respond(
            &model,
            evaluation_set,
            encoder,
            &sampling,
            context.seed()?,
            &purpose,
            progress,
        )?;
        count(
            context,
            Passes::likelihood(
                model.config(),
                &sequences(evaluation_set, encoder, &responses)?,
            ),
        );
        Ok(responses)
    }

    fn demonstrator(&self) -> Result<Vec<Response>> {
        let Some(settings) = &self.stage.evaluation_set else {
            return Err(Error::data("real posts have no demonstrator to ask"));
        };
        let seed = self.context.seed()?;
        let summary = |index: usize| {
            let author = &mut stream(seed, "evaluate/author", &[index as u64]);
            let summary = self
                .evaluation_set
                .another_reference(index, settings.quality, author);
            self.encoder
                .response(&summary.ok_or_else(|| Error::data("the evaluation set has no author"))?)
        };
        (0..self.evaluation_set.posts.len()).map(summary).collect()
    }

    /// Measures the policy greedily, at the further temperatures and at the evaluation's own;
    /// returns the temperature that the validation posts pick and gold at it, and writes all
    /// results to `decoding.json`.
    fn decode(&self, further: &FurtherDecodings, answers: &[Answer]) -> Result<Items> {
        let (context, evaluation_set, encoder) = (self.context, self.evaluation_set, self.encoder);
        let temperatures = candidates(&further.temperatures, self.stage.temperature);
        let (model, sft) = self.models()?;
        let sampling = sampling(encoder, &self.stage.generation, self.stage.temperature);
        let validation = EvaluationSet::of_world(&further.validation)?;
        let progress = |done| {
            context.progress(
                done as u64,
                validation.posts.len() as u64,
                "validation posts",
            )
        };
        let streams = (context.seed()?, "evaluate/validation");
        let validated = respond_at(
            &model,
            &validation,
            encoder,
            (&sampling, &temperatures),
            streams,
            progress,
        )?;
        let mut golds = Vec::with_capacity(temperatures.len());
        let (mut decodings, mut validation_golds) = (Vec::new(), Vec::new());
        for (&temperature, validated) in temperatures.iter().zip(&validated) {
            let responses = if temperature == 0.0 {
                answers.iter().map(|answer| answer.greedy.clone()).collect()
            } else if temperature == self.stage.temperature {
                answers
                    .iter()
                    .map(|answer| answer.sampled.clone())
                    .collect()
            } else {
                self.draw(temperature, 0)?
            };
            count(
                context,
                Passes::likelihood(model.config(), &sequences(&validation, encoder, validated)?),
            );
            let ([entropy, kl], passes) = spread(
                &model,
                &sft,
                evaluation_set,
                encoder,
                &responses,
                temperature,
            )?;
            count(context, passes);
            let own: Vec<f64> = evaluation_set
                .golds(&responses)?
                .into_iter()
                .flatten()
                .collect();
            let validation_gold = mean(validation.golds(validated)?.into_iter().flatten());
            validation_golds.push(validation_gold);
            decodings.push(Decoding {
                temperature,
                entropy,
                gold: mean(own.iter().copied()),
                kl,
                validation_gold,
            });
            golds.push(own);
        }
        let mut measured = Items::default();
        if let Some(place) = pick(&validation_golds) {
            let picked = temperatures[place];
            write_json(
                &context.out().join(DECODINGS),
                &Decodings { picked, decodings },
            )?;
            measured.insert(Metric::GoldTuned, golds.swap_remove(place));
            // The value as written in the file, not the nearest double of the nearest float.
            measured.insert(
                Metric::TunedTemperature,
                vec![(f64::from(picked) * 1e6).round() / 1e6],
            );
        }
        Ok(measured)
    }

    /// The win rate of the sampled responses over others by a judge's grades, and the share of posts
    /// that it does not grade; writes all grades to `judged.jsonl`.
    fn compare(&self, comparison: &Comparison, answers: &[Answer]) -> Result<Items> {
        let judge = comparison.judge.open(&self.sources())?;
        let posts = &self.evaluation_set.posts;
        let others = match comparison.against {
            Against::Demonstration => posts
                .iter()
                .map(|post| self.encoder.response(&post.reference))
                .collect::<Result<Vec<_>>>()?,
            Against::Greedy => answers.iter().map(|answer| answer.greedy.clone()).collect(),
        };
        let prompts: Vec<Prompt> = posts.iter().map(|post| Prompt::new(&post.prompt)).collect();
        let rows: Vec<Row> = prompts
            .iter()
            .zip(answers.iter().zip(&others))
            .flat_map(|(prompt, (answer, other))| [(prompt, &answer.sampled), (prompt, other)])
            .collect();
        let grades = judge.grades(&rows)?;
        let (mut judged, mut wins) = (Vec::new(), Vec::new());
        for (post, pair) in posts.iter().zip(grades.chunks(2)) {
            let [sampled, other] = [0, 1].map(|side| pair[side].as_ref().ok().copied());
            wins.extend(
                sampled
                    .zip(other)
                    .map(|(sampled, other)| win(sampled, other)),
            );
            judged.push(Judged {
                id: &post.id,
                sampled,
                other,
                missing: pair.iter().find_map(|grade| grade.as_ref().err()).cloned(),
            });
        }
        let missing = judged.iter().map(|it| f64::from(it.missing.is_some()));
        let mut measured = Items::default();
        measured.insert(Metric::JudgedMissing, missing.collect());
        measured.insert_ranked(Metric::JudgedWinRate, wins);
        rows::write(&self.context.out().join(JUDGED), &judged)?;
        Ok(measured)
    }

    /// The inputs from which a judge is opened.
    fn sources(&self) -> JudgeInputs<'_> {
        JudgeInputs {
            context: self.context,
            dtype: self.stage.dtype,
            reward: self.inputs.reward,
            policy: Some(self.inputs.policy),
            reference: Some(self.inputs.sft),
        }
    }

    /// The scores that `judge` gives to a response to every post.
    fn scores(&self, judge: &JudgeId, responses: &[Response]) -> Result<Vec<f64>> {
        let judge = judge.open(&self.sources())?;
        let posts = &self.evaluation_set.posts;
        let prompts = posts
            .iter()
            .map(|post| {
                Ok(Prompt::new(&post.prompt).with_tokens(self.encoder.prompt(&post.prompt)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let rows: Vec<Row> = prompts.iter().zip(responses).collect();
        let scores = counted(self.context, &*judge, &rows)?;
        check_finite(&scores, |at| {
            format!("the response to post {} (`{}`)", at + 1, posts[at].id)
        })?;
        Ok(scores)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

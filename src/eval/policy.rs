//! Measurement of a policy on an evaluation set: gold reward of sampled and greedy responses, win
//! rate against the demonstrator, distance from the SFT policy, lengths and ends, and the
//! likelihood of held-out demonstrations (the paper's objective 5a).

use super::Items;
use super::accuracy::win;
use super::evaluation_set::EvaluationSet;
use crate::Result;
use crate::data::TextEncoder;
use crate::data::rows::Response;
use crate::experiment::Metric;
use crate::methods::spin::sequence_log_probs;
use crate::model::generate::generate;
use crate::model::{LanguageModel, Passes, Sampling, Sequence};
use crate::rng::stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The responses to one post, with their gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub id: String,
    pub sampled: Response,
    pub greedy: Response,
    pub gold_sampled: Option<f64>,
    pub gold_greedy: Option<f64>,
    /// Gold of the demonstrator's summary.
    pub gold_reference: Option<f64>,
}

/// Responses to every post of `evaluation_set`, one per random stream `(seed, purpose, index)`.
pub fn respond(
    model: &LanguageModel,
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    sampling: &Sampling,
    seed: u64,
    purpose: &str,
    done: impl FnMut(usize),
) -> Result<Vec<Response>> {
    let prompts = evaluation_set
        .posts
        .iter()
        .map(|post| encoder.prompt(&post.prompt))
        .collect::<Result<Vec<_>>>()?;
    generate(
        model,
        &prompts,
        sampling,
        |item| stream(seed, purpose, &[item as u64]),
        done,
    )?
    .into_iter()
    .map(|response| encoder.decoded(response.ids, response.ended))
    .collect()
}

/// Sequences of the prompt of every post and a response to it.
pub fn sequences<'a>(
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    responses: impl IntoIterator<Item = &'a Response>,
) -> Result<Vec<Sequence>> {
    let rows = evaluation_set.posts.iter().zip(responses);
    rows.map(|(post, response)| {
        Ok(Sequence::new(
            encoder.prompt(&post.prompt)?,
            response.ids.clone(),
        ))
    })
    .collect()
}

/// One answer per post.
pub fn answers(
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    sampled: Vec<Response>,
    greedy: Vec<Response>,
) -> Result<Vec<Answer>> {
    let references = evaluation_set
        .posts
        .iter()
        .map(|post| encoder.response(&post.reference))
        .collect::<Result<Vec<_>>>()?;
    let (of_sampled, of_greedy) = (
        evaluation_set.golds(&sampled)?,
        evaluation_set.golds(&greedy)?,
    );
    let golds = of_sampled
        .into_iter()
        .zip(of_greedy)
        .zip(evaluation_set.golds(&references)?);
    let rows = evaluation_set
        .posts
        .iter()
        .zip(sampled)
        .zip(greedy)
        .zip(golds);
    Ok(rows
        .map(
            |(((post, sampled), greedy), ((gold_sampled, gold_greedy), gold_reference))| Answer {
                id: post.id.clone(),
                sampled,
                greedy,
                gold_sampled,
                gold_greedy,
                gold_reference,
            },
        )
        .collect())
}

/// All metrics that can be computed from the answers alone.
pub fn measure_answers(evaluation_set: &EvaluationSet, answers: &[Answer]) -> Items {
    let all = |value: &dyn Fn(&Answer) -> Option<f64>| {
        answers.iter().filter_map(value).collect::<Vec<f64>>()
    };
    let wins = |answer: &Answer| Some(win(answer.gold_sampled?, answer.gold_reference?));
    let copied: Vec<f64> = answers
        .iter()
        .enumerate()
        .filter_map(|(i, a)| evaluation_set.copied(i, &a.greedy))
        .collect();
    let mut items = Items(BTreeMap::from([
        (Metric::Gold, all(&|answer| answer.gold_sampled)),
        (Metric::GoldGreedy, all(&|answer| answer.gold_greedy)),
        (
            Metric::Length,
            all(&|answer| Some(answer.sampled.ids.len() as f64)),
        ),
        (
            Metric::EosRate,
            all(&|answer| Some(f64::from(u8::from(answer.sampled.ended)))),
        ),
        (Metric::CopyAccuracy, copied),
    ]));
    items.insert_ranked(Metric::WinRate, all(&wins));
    items
}

/// KL to the SFT policy, estimated on the sampled responses; the log-likelihood of the held-out
/// demonstrations; and the entropy at temperature 1 if that is the `temperature` of the sampled
/// responses.
pub fn measure_likelihoods(
    model: &LanguageModel,
    sft: &LanguageModel,
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    answers: &[Answer],
    temperature: f32,
) -> Result<(Items, Passes)> {
    let sampled = sequences(
        evaluation_set,
        encoder,
        answers.iter().map(|answer| &answer.sampled),
    )?;
    let references = evaluation_set
        .posts
        .iter()
        .map(|post| encoder.response(&post.reference))
        .collect::<Result<Vec<_>>>()?;
    let references = sequences(evaluation_set, encoder, &references)?;
    let own = sequence_log_probs(model, &sampled.iter().collect::<Vec<_>>())?;
    let theirs = sequence_log_probs(sft, &sampled.iter().collect::<Vec<_>>())?;
    let kl: Vec<f64> = own
        .iter()
        .zip(theirs)
        .map(|(p, q)| f64::from(p - q))
        .collect();
    let demonstrations = sequence_log_probs(model, &references.iter().collect::<Vec<_>>())?;
    let demonstrations: Vec<f64> = demonstrations.into_iter().map(f64::from).collect();
    let passes = Passes::likelihood(model.config(), &sampled).times(2)
        + Passes::likelihood(model.config(), &references);
    let mut items = Items(BTreeMap::from([
        (Metric::Kl, kl),
        (Metric::DemoLogLikelihood, demonstrations),
    ]));
    if temperature == 1.0 {
        items.insert(
            Metric::Entropy,
            own.into_iter()
                .map(|log_prob| -f64::from(log_prob))
                .collect(),
        );
    }
    Ok((items, passes))
}

/// The best of several answers to every post.
#[derive(Clone, Debug, Default)]
pub struct Best(Vec<(f64, Response)>);

impl Best {
    /// Replaces the answer to each post whose new response has a higher score; of equal ones the
    /// earlier stays.
    pub fn offer(&mut self, responses: Vec<Response>, scores: Vec<f64>) {
        let offered = scores.into_iter().zip(responses);
        if self.0.is_empty() {
            self.0 = offered.collect();
            return;
        }
        for (held, offered) in self.0.iter_mut().zip(offered) {
            if offered.0 > held.0 {
                *held = offered;
            }
        }
    }

    pub fn responses(self) -> Vec<Response> {
        self.0.into_iter().map(|(_, response)| response).collect()
    }
}

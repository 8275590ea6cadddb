//! Decodings of one policy: gold, entropy and distance from the SFT policy at each temperature, and
//! the temperature that validation posts pick. All temperatures draw from the same uniforms, so
//! that they differ in nothing else.

use super::check_finite;
use super::evaluation_set::EvaluationSet;
use super::policy::{respond, sequences};
use crate::Result;
use crate::data::TextEncoder;
use crate::data::rows::Response;
use crate::methods::spin::sequence_log_probs;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Passes, Sampling, Sequence, read_together};
use serde::{Deserialize, Serialize};

/// A policy at one temperature, as means over the posts of an evaluation set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// The temperature; 0 is greedy.
    pub temperature: f32,
    /// Entropy of the responses in nats: the mean of −log π_T(y|x) over responses sampled at the
    /// temperature T; 0 for greedy.
    pub entropy: f64,
    /// Gold on the evaluation set.
    pub gold: f64,
    /// Distance from the SFT policy at temperature 1 in nats: the mean of log π_T(y|x) − log
    /// π_sft(y|x) over the same responses.
    pub kl: f64,
    /// Gold on validation posts.
    pub validation_gold: f64,
}

/// Every decoding of one policy, from greedy to the highest temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decodings {
    /// The temperature with the most gold on validation posts.
    pub picked: f32,
    pub decodings: Vec<Decoding>,
}

/// Greedy, `temperatures` and the evaluation's own `temperature`, each once and in ascending order.
pub fn candidates(temperatures: &[f32], temperature: f32) -> Vec<f32> {
    let mut all: Vec<f32> = temperatures
        .iter()
        .copied()
        .chain([0.0, temperature])
        .collect();
    all.sort_by(f32::total_cmp);
    all.dedup();
    all
}

/// The index of the highest of `golds`, which are in ascending order of temperature; of equal ones,
/// the first. `None` if `golds` is empty.
pub fn pick(golds: &[f64]) -> Option<usize> {
    (0..golds.len()).reduce(|best, place| {
        if golds[place] > golds[best] {
            place
        } else {
            best
        }
    })
}

/// Responses to `evaluation_set` at each of `temperatures`, all from the streams `(seed, purpose,
/// index of the post)`.
///
/// # Errors
/// Those of [`respond`].
pub fn respond_at(
    model: &LanguageModel,
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    (sampling, temperatures): (&Sampling, &[f32]),
    (seed, purpose): (u64, &str),
    mut done: impl FnMut(usize),
) -> Result<Vec<Vec<Response>>> {
    let at = |&temperature: &f32| {
        let sampling = Sampling {
            temperature,
            ..sampling.clone()
        };
        respond(
            model,
            evaluation_set,
            encoder,
            &sampling,
            seed,
            purpose,
            &mut done,
        )
    };
    temperatures.iter().map(at).collect()
}

/// Entropy at `temperature` and KL to `sft` of `responses` sampled there, and the cost of the
/// forward passes.
///
/// # Errors
/// A log-probability that is not finite, or a device failure.
pub fn spread(
    model: &LanguageModel,
    sft: &LanguageModel,
    evaluation_set: &EvaluationSet,
    encoder: &TextEncoder,
    responses: &[Response],
    temperature: f32,
) -> Result<([f64; 2], Passes)> {
    let rows = sequences(evaluation_set, encoder, responses)?;
    let read: Vec<&Sequence> = rows.iter().collect();
    // A greedy response has probability 1.
    let own = if temperature > 0.0 {
        log_probs_at(model, &read, temperature)?
    } else {
        vec![0.0; rows.len()]
    };
    let theirs = sequence_log_probs(sft, &read)?;
    check_finite(&own, |at| format!("response {} by its policy", at + 1))?;
    let n = rows.len() as f64;
    let entropy = own.iter().map(|log_prob| 0.0 - log_prob).sum::<f64>() / n;
    let kl = own
        .iter()
        .zip(theirs)
        .map(|(p, q)| p - f64::from(q))
        .sum::<f64>()
        / n;
    let times = if temperature > 0.0 { 2 } else { 1 };
    Ok((
        [entropy, kl],
        Passes::likelihood(model.config(), &rows).times(times),
    ))
}

/// log π_T(y|x), summed over the response, where π_T divides logits by `temperature`.
fn log_probs_at(
    model: &LanguageModel,
    sequences: &[&Sequence],
    temperature: f32,
) -> Result<Vec<f64>> {
    let mut log_probs = Vec::with_capacity(sequences.len());
    for rows in read_together(sequences) {
        let batch = Batch::new(rows.iter().copied(), &model.device());
        log_probs.extend(
            host(model.response_log_probs(&batch, temperature).sum_dim(1))?
                .into_iter()
                .map(f64::from),
        );
    }
    Ok(log_probs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::world::posts::MAX_PROMPT_WORDS;
    use crate::data::world::{Split, WorldSettings};
    use crate::device::{DEFAULT, select};
    use crate::eval::evaluation_set::WorldEvaluationSet;
    use crate::eval::policy::Best;
    use crate::judges::log_probability::LogProbability;
    use crate::judges::{Judge, Prompt, Row};
    use crate::model::DecoderConfig;
    use crate::rng::stream;
    use proptest::prelude::*;
    use serde_json::json;

    /// A small evaluation set, and a model whose weights have the given deviation.
    fn bench(posts: usize, deviation: f64) -> (EvaluationSet, TextEncoder, LanguageModel) {
        let world = WorldSettings::default();
        let evaluation_set = EvaluationSet::of_world(&WorldEvaluationSet::new(
            &world,
            Split::Validation,
            posts,
            0.9,
        ))
        .unwrap();
        let encoder = TextEncoder::new(
            world.open().unwrap().tokenizer().unwrap(),
            MAX_PROMPT_WORDS,
            12,
        )
        .unwrap();
        let config: DecoderConfig = serde_json::from_value(json!({
            "vocab_size": encoder.vocabulary_size(), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 64,
        }))
        .unwrap();
        let mut rng = stream(1, "test/model", &[]);
        let model =
            LanguageModel::random(&config, deviation, &mut rng, &select(DEFAULT).unwrap()).unwrap();
        (evaluation_set, encoder, model)
    }

    fn sampling(encoder: &TextEncoder) -> Sampling {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            max_new_tokens: 12,
            ends: encoder.ends().clone(),
            batch_size: 4,
        }
    }

    /// A uniform distribution is the same at every temperature, so that only different uniforms
    /// could draw different words from it.
    #[test]
    fn every_temperature_draws_from_the_same_uniforms() {
        let (evaluation_set, encoder, model) = bench(6, 0.0);
        let at = |purpose: &str| {
            let how = (&sampling(&encoder), &[0.25, 0.5, 1.0, 2.0][..]);
            respond_at(&model, &evaluation_set, &encoder, how, (3, purpose), |_| {}).unwrap()
        };
        let (drawn, others) = (at("test/a"), at("test/b"));
        assert!(drawn.windows(2).all(|pair| pair[0] == pair[1]));
        assert_ne!(drawn[0], others[0]);
        assert!(
            drawn[0].windows(2).any(|pair| pair[0] != pair[1]),
            "posts have streams of their own"
        );
    }

    #[test]
    fn a_uniform_policy_has_the_entropy_of_its_tokens_at_every_temperature() {
        let (evaluation_set, encoder, model) = bench(5, 0.0);
        let how = (&sampling(&encoder), &[0.5, 1.0][..]);
        for (responses, temperature) in
            respond_at(&model, &evaluation_set, &encoder, how, (3, "test"), |_| {})
                .unwrap()
                .iter()
                .zip([0.5, 1.0])
        {
            let ([entropy, kl], _) = spread(
                &model,
                &model,
                &evaluation_set,
                &encoder,
                responses,
                temperature,
            )
            .unwrap();
            let tokens: usize = responses.iter().map(|response| response.ids.len()).sum();
            let expected = tokens as f64 / 5.0 * (encoder.vocabulary_size() as f64).ln();
            assert!(
                (entropy - expected).abs() < 1e-4 * expected,
                "{entropy} instead of {expected}"
            );
            assert!(kl.abs() < 1e-4, "{kl}");
        }
    }

    #[test]
    fn a_sharper_policy_has_less_entropy_and_is_farther_from_its_reference() {
        let (evaluation_set, encoder, model) = bench(40, 0.6);
        let temperatures = [0.0, 0.4, 1.0];
        let how = (&sampling(&encoder), &temperatures[..]);
        let drawn =
            respond_at(&model, &evaluation_set, &encoder, how, (3, "test"), |_| {}).unwrap();
        let spreads: Vec<[f64; 2]> = drawn
            .iter()
            .zip(temperatures)
            .map(|(responses, at)| {
                spread(&model, &model, &evaluation_set, &encoder, responses, at)
                    .unwrap()
                    .0
            })
            .collect();
        let [greedy, low, whole] = spreads[..] else {
            panic!()
        };
        assert!(
            greedy[0] == 0.0 && 0.0 < low[0] && low[0] < whole[0],
            "{spreads:?}"
        );
        assert!(
            greedy[1] > low[1] && low[1] > whole[1] && whole[1].abs() < 1e-4,
            "{spreads:?}"
        );
    }

    #[test]
    fn the_temperature_with_the_most_gold_is_picked_and_the_lower_of_equals() {
        assert_eq!(pick(&[0.25, 0.5, 0.5, 0.25]), Some(1));
        assert_eq!(pick(&[0.75, 0.5, 0.75]), Some(0));
        assert_eq!(pick(&[0.5]), Some(0));
        assert_eq!(pick(&[]), None);
    }

    proptest! {
        #[test]
        fn candidates_rise_and_hold_every_decoding_once(
            further in prop::collection::vec(0.05_f32..1.5, 0..5),
            own in prop::sample::select(vec![0.0_f32, 0.01, 0.7, 1.0]),
        ) {
            let all = candidates(&further, own);
            prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
            prop_assert!(further.iter().chain([&own, &0.0]).all(|temperature| all.contains(temperature)));
            prop_assert!(all.iter().all(|it| further.contains(it) || [own, 0.0].contains(it)));
        }
    }

    /// The sum of log-softmax of the logits at every response token, one sequence at a time, in
    /// double precision.
    fn by_hand(model: &LanguageModel, sequence: &Sequence) -> f64 {
        let batch = Batch::new([sequence], &model.device());
        let vocabulary = model.config().vocab_size();
        let logits = host(model.logits(model.response_states(&batch))).unwrap();
        let tokens = sequence.response.iter().zip(logits.chunks(vocabulary));
        tokens
            .map(|(&token, logits)| {
                let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
                f64::from(logits[token as usize]) - total.ln()
            })
            .sum()
    }

    #[test]
    fn the_most_likely_of_n_samples_is_that_of_a_choice_by_hand() {
        let (evaluation_set, encoder, model) = bench(7, 0.5);
        let judge = LogProbability {
            policy: model.clone(),
        };
        let prompts: Vec<Prompt> = evaluation_set
            .posts
            .iter()
            .map(|post| {
                Prompt::new(&post.prompt).with_tokens(encoder.prompt(&post.prompt).unwrap())
            })
            .collect();
        let mut best = Best::default();
        let mut chosen: Vec<Option<(f64, Response)>> = vec![None; evaluation_set.posts.len()];
        for candidate in 0..4 {
            let purpose = format!("test/{candidate}");
            let responses = respond(
                &model,
                &evaluation_set,
                &encoder,
                &sampling(&encoder),
                5,
                &purpose,
                |_| {},
            )
            .unwrap();
            for ((held, response), row) in chosen
                .iter_mut()
                .zip(&responses)
                .zip(sequences(&evaluation_set, &encoder, &responses).unwrap())
            {
                let score = by_hand(&model, &row);
                if held.as_ref().is_none_or(|(highest, _)| score > *highest) {
                    *held = Some((score, response.clone()));
                }
            }
            let rows: Vec<Row> = prompts.iter().zip(&responses).collect();
            let scores = judge.scores(&rows).unwrap();
            best.offer(responses, scores);
        }
        let chosen: Vec<Response> = chosen
            .into_iter()
            .flatten()
            .map(|(_, response)| response)
            .collect();
        assert_eq!(best.responses(), chosen);
        let first = respond(
            &model,
            &evaluation_set,
            &encoder,
            &sampling(&encoder),
            5,
            "test/0",
            |_| {},
        )
        .unwrap();
        assert_ne!(first, chosen, "some later sample is more likely");
    }

    #[test]
    fn no_post_of_the_controls_is_one_of_the_test() {
        let world = WorldSettings::default();
        let prompts = |split| -> std::collections::BTreeSet<String> {
            let evaluation_set =
                EvaluationSet::of_world(&WorldEvaluationSet::new(&world, split, 300, 0.9)).unwrap();
            evaluation_set
                .posts
                .into_iter()
                .flat_map(|post| [post.id, post.prompt.as_str().to_owned()])
                .collect()
        };
        let (test, controls) = (prompts(Split::Test), prompts(Split::Controls));
        assert!(controls.len() > 500 && test.is_disjoint(&controls));
    }
}

//! Tests of what judges share: identities as keys have them, prompts, and scores of each kind.

use super::gold::{Gold, ScaledGold};
use super::log_probability::LogProbability;
use super::reward_model::Reward;
use super::*;
use crate::data::TextEncoder;
use crate::data::world::posts::{PostWorld, PostWorldSettings};
use crate::data::world::{Place, Split, World, WorldAt, WorldSettings};
use crate::rng::stream;
use serde_json::{json, to_value};

/// Sources with a seed and tiny models.
struct Tiny;

impl Tiny {
    const NORMALISATION: Normalisation = Normalisation {
        mean: 0.25,
        std: 2.0,
        low: -3.0,
        bound: 0.0,
    };
}

impl Sources for Tiny {
    fn reward_model(&self) -> Result<(RewardModel, Normalisation)> {
        let mut rng = stream(1, "test/head", &[]);
        let model = RewardModel::on(&LanguageModel::tiny(1), 0.0, &mut rng);
        Ok((model, Self::NORMALISATION))
    }

    fn policy(&self) -> Result<LanguageModel> {
        Ok(LanguageModel::tiny(2))
    }

    fn reference(&self) -> Result<LanguageModel> {
        Ok(LanguageModel::tiny(3))
    }

    fn seed(&self) -> Result<u64> {
        Ok(7)
    }
}

fn gold_id() -> JudgeId {
    JudgeId::Gold(ScaledGold {
        world: Box::new(WorldAt::new(&WorldSettings::default())),
        mean: 0.5,
        std: 0.25,
    })
}

fn response(text: &str, ids: &[u32]) -> Response {
    Response {
        text: text.into(),
        ids: ids.to_vec(),
        ended: true,
    }
}

fn scores(id: &JudgeId, responses: &[Response]) -> Vec<f64> {
    let prompt = Prompt::new("my boss fired me").with_tokens(vec![3, 4]);
    let rows: Vec<Row> = responses.iter().map(|it| (&prompt, it)).collect();
    id.open(&Tiny).unwrap().scores(&rows).unwrap()
}

#[test]
fn identities_are_written_as_in_the_keys_of_stored_stages() {
    let world = to_value(WorldAt::new(&WorldSettings::default())).unwrap();
    let written = [
        (
            gold_id(),
            json!({"gold": {"world": world, "mean": 0.5, "std": 0.25}}),
        ),
        (JudgeId::Learned, json!("learned")),
        (JudgeId::Explicit, json!("explicit")),
        (JudgeId::Implicit, json!("implicit")),
        (JudgeId::Likelihood, json!("likelihood")),
        (
            JudgeId::Heuristic(Heuristic::CopyOverlap),
            json!({"heuristic": "copy_overlap"}),
        ),
    ];
    for (id, expected) in written {
        assert_eq!(to_value(&id).unwrap(), expected);
        assert_eq!(serde_json::from_value::<JudgeId>(expected).unwrap(), id);
    }
    assert!(serde_json::from_value::<JudgeId>(json!("oracle")).is_err());
}

#[test]
fn a_judge_has_as_many_models_as_it_says() {
    let responses = [response("", &[5, 1])];
    let passes = |id: &JudgeId| {
        let prompt = Prompt::new("").with_tokens(vec![3, 4]);
        let rows: Vec<Row> = responses.iter().map(|it| (&prompt, it)).collect();
        id.open(&Tiny).unwrap().passes(&rows).unwrap().tokens
    };
    for id in [
        JudgeId::Learned,
        JudgeId::Explicit,
        JudgeId::Implicit,
        JudgeId::Likelihood,
        JudgeId::Heuristic(Heuristic::LogProbability),
        JudgeId::Heuristic(Heuristic::Longer),
    ] {
        assert_eq!(passes(&id), 4 * id.reads().len(), "{id:?}");
    }
}

#[test]
fn a_learned_reward_is_the_explicit_one_on_the_scale_of_its_training() {
    let responses = [response("", &[5, 1]), response("", &[9, 8, 1])];
    let raw = scores(&JudgeId::Explicit, &responses);
    let normalised = scores(&JudgeId::Learned, &responses);
    assert_ne!(raw[0], raw[1]);
    for (raw, normalised) in raw.iter().zip(normalised) {
        let expected = Tiny::NORMALISATION.apply(*raw as f32);
        assert_eq!(normalised, f64::from(expected));
    }
    let low = |id: JudgeId| id.open(&Tiny).unwrap().low();
    assert_eq!(low(JudgeId::Learned), Some(-3.0));
    assert_eq!(low(JudgeId::Explicit), None);
}

#[test]
fn the_implicit_reward_is_the_difference_of_two_log_probabilities() {
    let responses = [response("", &[5, 1]), response("", &[9, 8, 1])];
    let own = scores(&JudgeId::Likelihood, &responses);
    let base = scores(&JudgeId::Heuristic(Heuristic::LogProbability), &responses);
    let implicit = scores(&JudgeId::Implicit, &responses);
    for ((own, base), implicit) in own.iter().zip(base).zip(implicit) {
        assert!((own - base - implicit).abs() < 1e-5);
    }
}

#[test]
fn heuristics_rank_by_length_and_by_words_of_the_prompt() {
    let responses = [
        response("my boss", &[5, 1]),
        response("a dog left", &[5, 6, 1]),
    ];
    let of = |heuristic| scores(&JudgeId::Heuristic(heuristic), &responses);
    assert_eq!(of(Heuristic::Longer), [2.0, 3.0]);
    assert_eq!(of(Heuristic::Shorter), [-2.0, -3.0]);
    assert_eq!(of(Heuristic::CopyOverlap), [1.0, 0.0]);
    let coins = of(Heuristic::Chance);
    assert!(coins[0] != coins[1] && coins == of(Heuristic::Chance));
}

#[test]
fn gold_is_of_the_post_that_a_prompt_names() {
    let world = WorldSettings::default().open().unwrap();
    let place = Place::new(Split::Demonstrations, 7, 3);
    let best = response(&world.canonical(place), &[]);
    let text = world.prompt(place);
    let prompt = Prompt::new(&text).of_post(3);
    let scaled = gold_id().open(&Tiny).unwrap();
    assert_eq!(scaled.scores(&[(&prompt, &best)]).unwrap(), [2.0]);
    assert_eq!(scaled.low(), Some(-1.0));
    let raw = Gold {
        world,
        split: Split::Demonstrations,
        seed: 7,
        scale: None,
    };
    assert_eq!(raw.scores(&[(&prompt, &best)]).unwrap(), [1.0]);
    let other = Prompt::new(&text).of_post(4);
    assert!(raw.scores(&[(&other, &best)]).unwrap()[0] < 1.0);
    let unknown = Prompt::new(&text);
    assert!(raw.scores(&[(&unknown, &best)]).is_err());
}

#[test]
fn a_judge_of_tokens_refuses_a_prompt_that_is_only_text() {
    let judge = LogProbability {
        policy: LanguageModel::tiny(1),
    };
    let (prompt, answer) = (Prompt::new("my boss fired me"), response("", &[5, 1]));
    let error = judge.scores(&[(&prompt, &answer)]).unwrap_err();
    assert!(error.to_string().contains("text alone"), "{error}");
}

/// The words of the world's tokenizer, which is not that of the tokens in the response.
#[test]
fn a_reward_model_with_a_tokenizer_of_its_own_reads_text() {
    let world = PostWorld::new(&PostWorldSettings::default()).unwrap();
    let encoder = TextEncoder::new(world.tokenizer().unwrap(), 48, 30).unwrap();
    let mut post = world.post(Split::Controls, 7, 0);
    let summary = world.canonical(&post);
    post.prompt.truncate(post.prompt.find(' ').unwrap());
    let config = serde_json::from_value(json!({
        "vocab_size": encoder.vocabulary_size(), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }))
    .unwrap();
    let device = crate::device::select(crate::device::DEFAULT).unwrap();
    let mut rng = stream(1, "test/model", &[]);
    let policy = LanguageModel::random(&config, 0.4, &mut rng, &device).unwrap();
    let judge = Reward {
        model: RewardModel::on(&policy, 0.0, &mut rng),
        normalisation: None,
        encoder: Some(encoder),
    };
    let prompt = Prompt::new(&post.prompt);
    let score = |ids: &[u32], ended: bool| {
        let response = Response {
            ended,
            ..response(&summary, ids)
        };
        judge.scores(&[(&prompt, &response)]).unwrap()[0]
    };
    assert_eq!(score(&[1], true), score(&[2, 3], true));
    assert_ne!(score(&[1], true), score(&[1], false), "without its end");
}

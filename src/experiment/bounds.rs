//! Bounds that types cannot express: counts that must not be zero, probabilities, divisors. Each
//! error points at its key.

use super::hyper::{Hyper, ModelSettings};
use super::tree::Node;
use crate::data::world::WorldSettings;
use crate::error::{Error, Result};
use crate::methods::irl::Select;
use crate::methods::optimise::OptimiserSettings;
use crate::methods::reward::RewardLoss;
use crate::methods::tune::TuningSettings;
use crate::model::arch::LlamaSettings;
use std::fmt::Display;

/// Checks the sections of one method; `node` is the merged tree that they were read from.
pub(super) fn check_hyper(hyper: &Hyper, node: &Node) -> Result<()> {
    let mut bounds = Bounds {
        node,
        violation: None,
    };
    data(&mut bounds, hyper);
    supervised(&mut bounds, hyper);
    policy_steps(&mut bounds, hyper);
    adversarial(&mut bounds, hyper);
    let choices = &hyper.choices;
    let tunings = [
        ("sft", &choices.sft.tuning),
        ("iq_learn", &choices.iq_learn.tuning),
        ("dpo", &choices.dpo.tuning),
    ];
    for (section, tuning) in tunings {
        if let Some(settings) = tuning {
            tuned(&mut bounds, section, settings);
        }
    }
    bounds.finish()
}

/// Checks the shape of a model; `node` is its table.
pub(super) fn check_model(model: &ModelSettings, node: &Node) -> Result<()> {
    let mut bounds = Bounds {
        node,
        violation: None,
    };
    bounds.counts(&[
        ("hidden_size", model.hidden_size),
        ("num_hidden_layers", model.num_hidden_layers),
        ("num_attention_heads", model.num_attention_heads),
        ("intermediate_size", model.intermediate_size),
        ("max_position_embeddings", model.max_position_embeddings),
    ]);
    match &model.architecture {
        None => gpt_neox(&mut bounds, model),
        Some(settings) => llama(&mut bounds, model, settings),
    }
    let published = model.checkpoint.is_some();
    bounds.that(
        "bases",
        !published || model.bases == 1,
        "1 for a published checkpoint",
        model.bases,
    );
    bounds.counts(&[("bases", model.bases)]);
    if let Some(pretrain) = &model.pretrain {
        bounds.counts(&[("pretrain.steps", pretrain.steps)]);
    }
    bounds.positive("initializer_range", model.initializer_range);
    bounds.finish()
}

fn gpt_neox(bounds: &mut Bounds, model: &ModelSettings) {
    let heads = model.num_attention_heads.max(1);
    let divides = format!("a divisor of hidden_size = {}", model.hidden_size);
    bounds.that(
        "num_attention_heads",
        model.hidden_size.is_multiple_of(heads),
        &divides,
        heads,
    );
    let mut given = |key: &str, found: bool| {
        bounds.that(
            key,
            found,
            "given for GPT-NeoX (`architecture` names another family)",
            "absent",
        );
    };
    given("rotary_pct", model.rotary_pct.is_some());
    given("rotary_emb_base", model.rotary_emb_base.is_some());
    given("layer_norm_eps", model.layer_norm_eps.is_some());
    given(
        "use_parallel_residual",
        model.use_parallel_residual.is_some(),
    );
    if let Some(share) = model.rotary_pct {
        bounds.share("rotary_pct", share);
        let head = model.hidden_size / heads;
        let rotating = (head as f64 * share) as usize;
        let even = format!("such that an even number of a head's {head} dimensions rotate");
        bounds.that(
            "rotary_pct",
            rotating >= 2 && rotating.is_multiple_of(2),
            &even,
            share,
        );
    }
    if let Some(base) = model.rotary_emb_base {
        bounds.that("rotary_emb_base", base > 1.0, "above 1", base);
    }
    if let Some(epsilon) = model.layer_norm_eps {
        bounds.positive("layer_norm_eps", epsilon);
    }
}

/// Checks a model of the Llama family.
fn llama(bounds: &mut Bounds, model: &ModelSettings, settings: &LlamaSettings) {
    let of_gpt_neox = [
        ("rotary_pct", model.rotary_pct.is_some()),
        ("rotary_emb_base", model.rotary_emb_base.is_some()),
        ("layer_norm_eps", model.layer_norm_eps.is_some()),
        (
            "use_parallel_residual",
            model.use_parallel_residual.is_some(),
        ),
    ];
    for (key, given) in of_gpt_neox {
        let family = settings.model_type.model_type();
        bounds.that(
            key,
            !given,
            &format!("absent from a model of `{family}`"),
            "given",
        );
    }
    let config = model.config(model.vocab_size.unwrap_or(1));
    if let Err(message) = config.check() {
        bounds.violated("architecture", message);
    }
}

fn data(bounds: &mut Bounds, hyper: &Hyper) {
    let evaluation = &hyper.evaluation;
    bounds.counts(&[
        ("demonstrations.count", hyper.demonstrations.count),
        ("preferences.pairs", hyper.preferences.pairs),
        (
            "generation.max_prompt_tokens",
            hyper.generation.max_prompt_tokens,
        ),
        (
            "generation.max_response_tokens",
            hyper.generation.max_response_tokens,
        ),
        ("generation.batch_size", hyper.generation.batch_size),
        ("evaluation.posts", evaluation.posts),
        ("evaluation.preference_pairs", evaluation.preference_pairs),
        ("evaluation.on_policy_pairs", evaluation.on_policy_pairs),
        ("evaluation.best_of", evaluation.best_of),
    ]);
    bounds.share("demonstrations.quality", hyper.demonstrations.quality);
    if let Some(authors) = &hyper.demonstrations.authors {
        let world = WorldSettings {
            authors: authors.clone(),
            ..WorldSettings::default()
        };
        if let Err(error) = world.validate() {
            bounds.violated("demonstrations.authors", error.to_string());
        }
    }
    bounds.share(
        "demonstrations.corrupted_fraction",
        hyper.demonstrations.corrupted_fraction,
    );
    let delta = evaluation.likelihood_delta;
    bounds.that(
        "evaluation.likelihood_delta",
        delta > 0.0 && delta < 1.0,
        "above 0 and below 1",
        delta,
    );
    if hyper.irl.select == Select::ValidationGold {
        bounds.counts(&[("evaluation.selection_posts", evaluation.selection_posts)]);
    }
    bounds.positive("training.lora_alpha", hyper.training.lora_alpha);
    let agreement = hyper.preferences.agreement;
    bounds.that(
        "preferences.agreement",
        agreement > 0.5 && agreement < 1.0,
        "above 0.5 and below 1",
        agreement,
    );
    bounds.at_least_zero("evaluation.temperature", evaluation.temperature);
    for (index, &temperature) in evaluation.temperatures.iter().enumerate() {
        bounds.positive("evaluation.temperatures", temperature);
        let once = !evaluation.temperatures[..index].contains(&temperature);
        bounds.that(
            "evaluation.temperatures",
            once,
            "a list of different temperatures",
            temperature,
        );
    }
}

fn supervised(bounds: &mut Bounds, hyper: &Hyper) {
    let (pretrain, sft, reward) = (&hyper.pretrain, &hyper.sft, &hyper.reward);
    bounds.counts(&[
        ("pretrain.steps", pretrain.steps),
        ("pretrain.batch_size", pretrain.batch_size),
        ("sft.epochs", sft.epochs),
        ("sft.batch_size", sft.batch_size),
        ("reward.epochs", reward.epochs),
        ("reward.batch_size", reward.batch_size),
    ]);
    bounds.share("pretrain.prompt_weight", pretrain.prompt_weight.into());
    bounds.share("pretrain.curriculum", pretrain.curriculum);
    bounds.share("pretrain.copy_gate", pretrain.copy_gate);
    bounds.share("sft.prompt_weight", sft.prompt_weight.into());
    bounds.at_least_zero("reward.bound", reward.bound);
    bounds.at_least_zero("reward.l2", reward.l2);
    if matches!(reward.loss, RewardLoss::Hinge | RewardLoss::Eq11Margin) {
        bounds.positive("reward.margin", reward.margin);
    }
    bounds.counts(&[
        ("iq_learn.epochs", hyper.iq_learn.epochs),
        ("iq_learn.batch_size", hyper.iq_learn.batch_size),
    ]);
    bounds.at_least_zero("iq_learn.lambda", hyper.iq_learn.lambda);
    let keep = hyper.filtered_bc.keep;
    bounds.that(
        "filtered_bc.keep",
        keep > 0.0 && keep <= 1.0,
        "above 0 and at most 1",
        keep,
    );
    optimiser(bounds, "iq_learn", &hyper.iq_learn.optimiser);
    optimiser(bounds, "pretrain", &pretrain.optimiser);
    optimiser(bounds, "sft", &sft.optimiser);
    optimiser(bounds, "reward", &reward.optimiser);
}

/// Checks the settings of policy steps other than PPO.
fn policy_steps(bounds: &mut Bounds, hyper: &Hyper) {
    let (rloo, grpo, best_of_n, dpo) = (&hyper.rloo, &hyper.grpo, &hyper.best_of_n, &hyper.dpo);
    bounds.counts(&[
        ("rloo.updates", rloo.updates),
        ("rloo.rollouts", rloo.rollouts),
        ("rloo.epochs", rloo.epochs),
        ("grpo.updates", grpo.updates),
        ("grpo.rollouts", grpo.rollouts),
        ("grpo.epochs", grpo.epochs),
        ("best_of_n.n", best_of_n.n),
        ("dpo.iterations", dpo.iterations),
        ("dpo.epochs", dpo.epochs),
        ("dpo.batch_size", dpo.batch_size),
    ]);
    let divides = rloo.samples >= 2 && rloo.rollouts.is_multiple_of(rloo.samples);
    let divisor = format!(
        "at least 2 and a divisor of rloo.rollouts = {}",
        rloo.rollouts
    );
    bounds.that("rloo.samples", divides, &divisor, rloo.samples);
    bounds.positive("rloo.temperature", rloo.temperature);
    bounds.at_least_zero("rloo.kl_coefficient", rloo.kl_coefficient);
    bounds.positive("rloo.clip", rloo.clip);
    let divides = grpo.samples >= 2 && grpo.rollouts.is_multiple_of(grpo.samples);
    let divisor = format!(
        "at least 2 and a divisor of grpo.rollouts = {}",
        grpo.rollouts
    );
    bounds.that("grpo.samples", divides, &divisor, grpo.samples);
    bounds.positive("grpo.temperature", grpo.temperature);
    bounds.at_least_zero("grpo.kl_coefficient", grpo.kl_coefficient);
    bounds.positive("grpo.clip", grpo.clip);
    bounds.at_least_zero("best_of_n.temperature", best_of_n.temperature);
    bounds.at_least_zero("dpo.temperature", dpo.temperature);
    bounds.positive("dpo.beta", dpo.beta);
    optimiser(bounds, "rloo", &rloo.optimiser);
    optimiser(bounds, "grpo", &grpo.optimiser);
    optimiser(bounds, "dpo", &dpo.optimiser);
}

fn adversarial(bounds: &mut Bounds, hyper: &Hyper) {
    let (ppo, spin, irl) = (&hyper.ppo, &hyper.spin, &hyper.irl);
    bounds.counts(&[
        ("ppo.updates", ppo.updates),
        ("ppo.rollouts", ppo.rollouts),
        ("ppo.epochs", ppo.epochs),
        ("ppo.minibatches", ppo.minibatches),
        ("spin.iterations", spin.iterations),
        ("spin.epochs", spin.epochs),
        ("spin.batch_size", spin.batch_size),
        ("irl.iterations", irl.iterations),
        ("irl.negatives", irl.negatives),
        ("irl.policy_rounds", irl.policy_rounds),
        ("rlhf.rounds", hyper.rlhf.rounds),
    ]);
    let divides = ppo.rollouts.is_multiple_of(ppo.minibatches.max(1));
    let divisor = format!("a divisor of ppo.rollouts = {}", ppo.rollouts);
    bounds.that("ppo.minibatches", divides, &divisor, ppo.minibatches);
    bounds.positive("ppo.temperature", ppo.temperature);
    bounds.at_least_zero("ppo.kl_coefficient", ppo.kl_coefficient);
    bounds.share("ppo.gamma", ppo.gamma.into());
    bounds.share("ppo.lambda", ppo.lambda.into());
    bounds.positive("ppo.clip", ppo.clip);
    bounds.positive("ppo.clip_value", ppo.clip_value);
    bounds.at_least_zero("ppo.value_coefficient", ppo.value_coefficient);
    bounds.positive("spin.beta", spin.beta);
    bounds.at_least_zero("irl.negatives_temperature", irl.negatives_temperature);
    bounds.at_least_zero("spin.negatives_temperature", spin.negatives_temperature);
    optimiser(bounds, "ppo", &ppo.optimiser);
    optimiser(bounds, "spin", &spin.optimiser);
}

fn tuned(bounds: &mut Bounds, section: &str, tuning: &TuningSettings) {
    let key = |name: &str| format!("{section}.tuning.{name}");
    let TuningSettings {
        epochs,
        learning_rates,
        lambdas,
        held_out,
    } = tuning;
    let counts =
        epochs.first().is_some_and(|first| *first > 0) && epochs.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("epochs"),
        counts,
        "ascending whole numbers, each at least 1",
        Listed(epochs),
    );
    let rates =
        learning_rates.iter().all(|rate| *rate > 0.0) && learning_rates.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("learning_rates"),
        rates,
        "ascending numbers above 0",
        Listed(learning_rates),
    );
    let weights = lambdas.iter().all(|lambda| *lambda >= 0.0) && lambdas.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("lambdas"),
        weights,
        "ascending numbers, each 0 or more",
        Listed(lambdas),
    );
    let has_lambda = section == "iq_learn" || lambdas.is_empty();
    bounds.that(
        &key("lambdas"),
        has_lambda,
        "left out: only IQ-Learn has a λ",
        Listed(lambdas),
    );
    bounds.that(
        &key("held_out"),
        *held_out > 0.0 && *held_out < 1.0,
        "above 0 and below 1",
        held_out,
    );
}

/// A list, displayed as in a file.
struct Listed<'a, T>(&'a [T]);

impl<T: Display> Display for Listed<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let items: Vec<String> = self.0.iter().map(T::to_string).collect();
        write!(out, "[{}]", items.join(", "))
    }
}

fn optimiser(bounds: &mut Bounds, section: &str, optimiser: &OptimiserSettings) {
    let key = |name: &str| format!("{section}.optimiser.{name}");
    bounds.positive(&key("learning_rate"), optimiser.learning_rate);
    for (name, beta) in [("beta_1", optimiser.beta_1), ("beta_2", optimiser.beta_2)] {
        bounds.that(
            &key(name),
            (0.0..1.0).contains(&beta),
            "at least 0 and below 1",
            beta,
        );
    }
    bounds.positive(&key("epsilon"), optimiser.epsilon);
    bounds.at_least_zero(&key("weight_decay"), optimiser.weight_decay);
    bounds.at_least_zero(&key("clip_norm"), optimiser.clip_norm);
}

/// A check that keeps the first violation.
struct Bounds<'a> {
    node: &'a Node,
    violation: Option<Error>,
}

impl Bounds<'_> {
    /// Checks that `holds`; otherwise records that `path` must be `expected` but is `found`.
    fn that(&mut self, path: &str, holds: bool, expected: &str, found: impl Display) {
        if !holds {
            self.violated(path, format!("`{path}` must be {expected}, but is {found}"));
        }
    }

    /// Records the error `message` at `path`, unless one was recorded before.
    fn violated(&mut self, path: &str, message: String) {
        let place = &self.node.at(path).unwrap_or(self.node).place;
        self.violation.get_or_insert_with(|| place.error(message));
    }

    fn counts(&mut self, counts: &[(&str, usize)]) {
        for (path, count) in counts {
            self.that(path, *count > 0, "at least 1", count);
        }
    }

    fn share(&mut self, path: &str, value: f64) {
        self.that(path, (0.0..=1.0).contains(&value), "between 0 and 1", value);
    }

    fn positive(&mut self, path: &str, value: impl Into<f64> + Copy + Display) {
        self.that(path, value.into() > 0.0, "above 0", value);
    }

    fn at_least_zero(&mut self, path: &str, value: impl Into<f64> + Copy + Display) {
        self.that(path, value.into() >= 0.0, "0 or more", value);
    }

    fn finish(self) -> Result<()> {
        self.violation.map_or(Ok(()), Err)
    }
}

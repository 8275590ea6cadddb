//! Tests of the errors for faulty files: each names the line and the remedy.

use super::super::*;
use super::{rendered, tldr_with_claims};

/// The error for the shipped experiment after replacing `from`, which it must contain, by `to`.
pub(super) fn complaint(from: &str, to: &str) -> String {
    let text = tldr_with_claims();
    assert!(text.contains(from), "{from:?} is in the experiment");
    let text = text.replacen(from, to, 1);
    match Experiment::parse("t.toml", &text) {
        Ok(_) => panic!("{to:?} instead of {from:?} passed"),
        Err(error) => rendered(&error),
    }
}

/// The errors after each of the replacements (name, from, to).
pub(super) fn complaints(replacements: &[(&str, &str, &str)]) -> String {
    replacements
        .iter()
        .map(|(name, from, to)| format!("[{name}]\n{}\n", complaint(from, to)))
        .collect()
}

#[test]
fn unknown_keys_are_errors_wherever_they_stand() {
    let snapshots = [
        ("top_level", "question = ", "qestion = "),
        (
            "shared_section",
            "kl_coefficient = 0.05",
            "kl_coeficient = 0.05",
        ),
        ("optimiser", "warmup_steps = 50", "warm_up_steps = 50"),
        ("section", "[evaluation]", "[evalaution]"),
        ("method", "note = \"imitation", "notes = \"imitation"),
        ("method_section", "reward = { loss", "rewards = { loss"),
        (
            "method_override",
            "loss = \"eq10\", bound",
            "loss = \"eq10\", bounds",
        ),
        ("profile", "sizes = [\"mini-1b\"]", "size = [\"mini-1b\"]"),
        (
            "profile_override",
            "spin.iterations = 1",
            "spin.iteration = 1",
        ),
        ("model", "num_hidden_layers = 2", "hidden_layers = 2"),
        (
            "scale",
            "description = \"the embedded",
            "descripton = \"the embedded",
        ),
        ("seeds", "default = [2", "defaults = [2"),
        ("claim", "role = \"primary\"", "rolle = \"primary\""),
        ("report", "baseline = ", "base_line = "),
        ("report_column", "decimals = 3", "digits = 3"),
        ("choice", "loss = \"eq11\"", "loss = \"eq12\""),
        ("metric", "primary = \"gold\"", "primary = \"golden\""),
        ("recipe", "recipe = \"spin\"", "recipe = \"spinn\""),
    ];
    insta::assert_snapshot!("unknown_keys", complaints(&snapshots));
}

#[test]
fn wrong_types_and_missing_keys_say_what_is_expected() {
    let snapshots = [
        ("word_for_count", "updates = 30", "updates = \"many\""),
        ("negative_count", "updates = 30", "updates = -1"),
        ("fraction_for_count", "updates = 30", "updates = 0.5"),
        (
            "number_for_flag",
            "whiten_advantages = true",
            "whiten_advantages = 1",
        ),
        ("value_for_section", "spin.iterations = 1", "spin = 1"),
        ("seeds", "seeds = 5", "seeds = 0.5"),
        ("missing_key", "clip_value = 0.2\n", ""),
        (
            "missing_section",
            "[spin]\niterations = 3\naccumulate = \"last_two\"\nnegatives_temperature = 1.0\nbeta = 0.1\nepochs = 2\nbatch_size = 32\n",
            "[spin]\n",
        ),
        ("syntax", "updates = 30", "updates = = 30"),
    ];
    insta::assert_snapshot!("wrong_types", complaints(&snapshots));
}

#[test]
fn values_out_of_bounds_point_at_their_line() {
    let snapshots = [
        ("count", "updates = 30", "updates = 0"),
        ("probability", "quality = 0.9", "quality = 1.5"),
        (
            "strength",
            "quality = 0.9",
            "quality = 0.9\nauthors.slip = -1.0",
        ),
        ("agreement", "agreement = 0.75", "agreement = 0.5"),
        (
            "temperature",
            "negatives_temperature = 1.0",
            "negatives_temperature = -0.1",
        ),
        ("minibatches", "minibatches = 1", "minibatches = 3"),
        (
            "heads",
            "num_attention_heads = 4",
            "num_attention_heads = 5",
        ),
        ("rotary", "rotary_pct = 0.25", "rotary_pct = 0.05"),
        (
            "no_margin",
            "loss = \"eq10\", bound = 3.0",
            "loss = \"hinge\", margin = 0.0",
        ),
        ("rloo_samples", "samples = 4", "samples = 3"),
        ("filtered_bc_keep", "keep = 0.5", "keep = 0.0"),
        (
            "learning_rate",
            "learning_rate = 3e-4",
            "learning_rate = 0.0",
        ),
        (
            "profile",
            "updates = 4, rollouts = 32",
            "updates = 4, rollouts = 0",
        ),
        (
            "positions",
            "max_position_embeddings = 2048",
            "max_position_embeddings = 100",
        ),
        (
            "margin",
            "direction = \"not_worse\"\nmargin = 0.023",
            "direction = \"not_worse\"\nmargin = 0.0",
        ),
        ("range", "range = [0.0, 1.0]", "range = [1.0, 1.0]"),
        ("size_name", "[models.\"mini-1b\"]", "[models.\"Mini 1B\"]"),
        (
            "seed_twice",
            "default = [21, 22, 23",
            "default = [21, 22, 22",
        ),
        ("no_seeds", "seeds = 5", "seeds = 0"),
    ];
    insta::assert_snapshot!("bounds", complaints(&snapshots));
}

#[test]
fn references_must_be_declared() {
    let snapshots = [
        (
            "claim_method",
            "method = \"rlhf\"\nversus",
            "method = \"rhlf\"\nversus",
        ),
        ("claim_versus", "versus = \"shorter\"", "versus = \"short\""),
        (
            "claim_metric",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"gold_gready\"]\nmethod",
        ),
        (
            "claim_size",
            "sizes = [\"mini-1b\"]\ndirection",
            "sizes = [\"mini-6.9b\"]\ndirection",
        ),
        ("claim_itself", "versus = \"spin\"", "versus = \"irl\""),
        (
            "claim_without_reward",
            "method = \"irl-first\"\nversus = \"log_probability\"",
            "method = \"sft\"\nversus = \"log_probability\"",
        ),
        (
            "claim_heuristic_for_policy",
            "metrics = [\"demo_log_likelihood\"]\nmethod = \"irl\"\nversus = \"sft\"",
            "metrics = [\"gold\"]\nmethod = \"irl\"\nversus = \"chance\"",
        ),
        (
            "claim_not_worse_of_what_is_not_better",
            "metrics = [\"demo_log_likelihood\"]\nmethod = \"irl\"\nversus = \"sft\"\nsizes = [\"mini-1b\"]\ndirection = \"greater\"",
            "metrics = [\"kl\"]\nmethod = \"irl\"\nversus = \"sft\"\nsizes = [\"mini-1b\"]\ndirection = \"not_worse\"",
        ),
        (
            "claim_metric_twice",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"gold\", \"gold\"]\nmethod",
        ),
        (
            "claim_without_metric",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = []\nmethod",
        ),
        (
            "claim_metric_undeclared",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"surrogate_gap\"]\nmethod",
        ),
        (
            "claim_twice",
            "id = \"irl-beats-spin\"",
            "id = \"irl-beats-sft\"",
        ),
        ("method_twice", "id = \"spin\"", "id = \"irl\""),
        (
            "method_identifier",
            "id = \"irl-eq10\"",
            "id = \"irl eq10\"",
        ),
        (
            "method_named_like_heuristic",
            "id = \"spin\"",
            "id = \"chance\"",
        ),
        (
            "profile_size",
            "sizes = [\"mini-1b\"]",
            "sizes = [\"mini-1\"]",
        ),
        ("profile_preset", "seeds = 5", "seeds = \"papers\""),
        (
            "report_baseline",
            "baseline = \"sft\"",
            "baseline = \"stf\"",
        ),
        (
            "report_metric",
            "\"eos_rate\", \"learned_reward\"]",
            "\"eos_rate\", \"copy_accuracy\"]",
        ),
        (
            "model_revision",
            "hf:EleutherAI/pythia-1b-deduped@main",
            "hf:EleutherAI/pythia-1b-deduped",
        ),
        ("data_revision", "tldr_3_filtered@main", "tldr_3_filtered"),
    ];
    insta::assert_snapshot!("references", complaints(&snapshots));
}

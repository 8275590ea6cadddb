//! Tests of the switches of training: the results that they must not change, and those that they
//! must change.

mod common;

use burn::module::Module;
use common::methods::{METHODS, Run, Trained, assert_close, parameters, ppo_settings, run_ppo};
use common::{
    VOCABULARY, cpu, host, micro_batches, on_every_architecture, optimiser, rows, small_config,
    small_model,
};
use proptest::prelude::*;
use rand::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use touchstone::methods::optimise::{Monitor, OptimiserSettings, Trainer, Unwatched};
use touchstone::methods::ppo::{Critic, PpoSettings};
use touchstone::methods::sft::{SftSettings, sft, token_step};
use touchstone::methods::training::{Dtype, Training};
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::model::{Batch, DecoderConfig, LanguageModel, Sequence};
use touchstone::rng::stream;

/// Gradients of one step, by tensor name.
type Gradients = BTreeMap<String, Vec<f32>>;

/// A monitor that keeps every step's gradients.
#[derive(Default)]
struct Recorder {
    steps: RefCell<Vec<Gradients>>,
}

impl Monitor for Recorder {
    fn gradients(&self, step: usize, read: &dyn Fn() -> Weights) {
        let mut steps = self.steps.borrow_mut();
        assert_eq!(step, steps.len());
        steps.push(tensors(&read()));
    }
}

fn tensors(weights: &Weights) -> Gradients {
    weights
        .list()
        .map(|tensor| {
            (
                tensor.name.into(),
                weights.values(tensor.name).unwrap().into_owned(),
            )
        })
        .collect()
}

fn record(run: Run, training: &Training) -> (Trained, Vec<Gradients>) {
    let recorder = Recorder::default();
    (run(training, &recorder), recorder.steps.into_inner())
}

fn lora(rank: usize) -> Training {
    Training {
        lora_rank: rank,
        lora_alpha: 8.0,
        ..Training::default()
    }
}

fn bf16() -> Training {
    Training {
        dtype: Dtype::Bf16,
        ..Training::default()
    }
}

fn checkpointing() -> Training {
    Training {
        gradient_checkpointing: true,
        ..Training::default()
    }
}

/// Largest difference between two tensors, divided by the largest magnitude in either.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = a
        .iter()
        .chain(b)
        .fold(f32::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
    a.iter()
        .zip(b)
        .fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs() / scale))
}

#[track_caller]
fn assert_same_gradients(found: &[Gradients], expected: &[Gradients], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.keys().eq(expected.keys()),
            "{what}, step {step}: {:?}",
            found.keys()
        );
        for (name, values) in found {
            let difference = relative(values, &expected[name]);
            assert!(
                difference <= tolerance,
                "{what}, step {step}, {name}: differs by {difference:e}"
            );
        }
    }
}

// --- Gradients ---

#[test]
fn gradients_are_named_and_laid_out_as_weights_are() {
    let optimiser = OptimiserSettings {
        weight_decay: 0.0,
        ..optimiser()
    };
    let settings = SftSettings {
        epochs: 1,
        batch_size: 4,
        prompt_weight: 0.0,
        optimiser,
    };
    let (recorder, model) = (Recorder::default(), small_model(1));
    let (trained, _) = sft(
        model.clone(),
        &rows(4, 2),
        &settings,
        &micro_batches(3),
        7,
        &recorder,
    )
    .unwrap();
    let (before, after, gradients) = (
        tensors(&model.weights()),
        tensors(&trained.weights()),
        &recorder.steps.borrow()[0],
    );
    assert!(gradients.keys().eq(before.keys()), "{:?}", gradients.keys());
    // The first step of AdamW goes against the sign of every gradient that is not negligible.
    for (name, gradient) in gradients {
        for ((before, after), gradient) in before[name].iter().zip(&after[name]).zip(gradient) {
            let against = (after - before) * gradient < 0.0;
            assert!(
                against || gradient.abs() < 1e-4,
                "{name}: {gradient} moved {before} to {after}"
            );
        }
    }
}

#[test]
fn every_network_in_ppo_has_gradients_of_its_own() {
    on_every_architecture(|_| {
        let steps = |value_coefficient: f32| {
            let settings = PpoSettings {
                value_coefficient,
                critic: Critic::RewardCopy,
                updates: 1,
                ..ppo_settings()
            };
            let recorder = Recorder::default();
            run_ppo(&settings, &Training::default(), &recorder);
            recorder.steps.into_inner().swap_remove(0)
        };
        let (once, twice) = (steps(1.0), steps(2.0));
        let (mut policy, mut critic) = (0, 0);
        for (name, values) in &once {
            if name.starts_with("policy.") {
                policy += 1;
                assert_eq!(values, &twice[name], "{name} depends on the critic's loss");
            } else {
                critic += 1;
                assert!(name.starts_with("value_network."), "{name}");
                let doubled: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
                assert!(
                    relative(&twice[name], &doubled) < 1e-5,
                    "{name} is not linear in the weight of its loss"
                );
            }
        }
        assert_eq!(
            (policy, critic),
            (
                small_model(20).weights().list().count(),
                small_model(20).weights().list().count()
            )
        );
        assert!(
            once.values()
                .all(|values| values.iter().any(|value| *value != 0.0)),
            "a parameter that nothing trains"
        );
    });
}

/// True if a method trains on its own samples.
fn samples(name: &str) -> bool {
    name.starts_with("ppo") || name == "rloo" || name == "grpo"
}

// --- Gradient checkpointing ---

#[test]
fn layers_computed_again_give_the_same_gradients() {
    on_every_architecture(|_| {
        for (name, run) in METHODS {
            for micro_batch in [None, NonZeroUsize::new(3)] {
                let (kept, kept_gradients) = record(
                    run,
                    &Training {
                        micro_batch,
                        ..Training::default()
                    },
                );
                let (again, again_gradients) = record(
                    run,
                    &Training {
                        micro_batch,
                        ..checkpointing()
                    },
                );
                assert_same_gradients(&again_gradients, &kept_gradients, 0.0, name);
                assert_eq!(
                    (parameters(&again.0), again.1),
                    (parameters(&kept.0), kept.1),
                    "{name}"
                );
            }
        }
    });
}

#[test]
fn a_head_tied_to_the_embedding_is_no_exception() {
    let mut config = serde_json::to_value(small_config()).unwrap();
    (
        config["tie_word_embeddings"],
        config["use_parallel_residual"],
    ) = (true.into(), false.into());
    let config: DecoderConfig = serde_json::from_value(config).unwrap();
    let model =
        LanguageModel::random(&config, 0.4, &mut stream(3, "test/model", &[]), &cpu()).unwrap();
    let settings = SftSettings {
        epochs: 2,
        batch_size: 4,
        prompt_weight: 0.5,
        optimiser: optimiser(),
    };
    let steps = |training: &Training| {
        let recorder = Recorder::default();
        sft(
            model.clone(),
            &rows(9, 2),
            &settings,
            training,
            7,
            &recorder,
        )
        .unwrap();
        recorder.steps.into_inner()
    };
    assert_same_gradients(
        &steps(&checkpointing()),
        &steps(&Training::default()),
        1e-6,
        "tied",
    );
}

// --- LoRA ---

#[test]
fn an_adapted_model_starts_equal_to_its_base() {
    on_every_architecture(|architecture| {
        let (model, rows) = (small_model(4), rows(6, 4));
        let batch = Batch::new(&rows, &cpu());
        let logits = |model: &LanguageModel| host(model.logits(model.response_states(&batch)));
        let adapted = model
            .clone()
            .prepared(&lora(3).computation(), &mut stream(4, "test/adapters", &[]));
        assert_eq!(logits(&adapted), logits(&model));
        assert_eq!(tensors(&adapted.weights()), tensors(&model.weights()));
        // Each linear map in each of two layers has two matrices.
        let (d, inner, r, queries, keys) = (16, 32, 3, 4 * 6, 2 * 6);
        let widths = match architecture {
            "gpt_neox" => (d + 3 * d) + (d + d) + (d + inner) + (inner + d),
            _ => (d + queries) + 2 * (d + keys) + (queries + d) + 3 * (d + inner),
        };
        assert_eq!(adapted.num_params() - model.num_params(), 2 * r * widths);
        assert_eq!(model.config().lora_parameters(r), 2 * r * widths);
    });
}

#[test]
fn adapters_and_heads_are_all_that_lora_trains() {
    for (name, run) in METHODS {
        let (dense, _) = run(&Training::default(), &Unwatched);
        let ((trained, _), steps) = record(run, &lora(2));
        let (dense, trained) = (tensors(&dense), tensors(&trained));
        assert!(
            trained.keys().eq(dense.keys()),
            "{name}: what is saved has the plain names: {:?}",
            trained.keys()
        );
        let heads = |gradient: &str| {
            ["score.", "value_head.", "value_network.score."]
                .iter()
                .any(|h| gradient.starts_with(h))
        };
        for gradient in steps[0].keys() {
            assert!(
                gradient.contains(".lora.") || heads(gradient),
                "{name} trains {gradient}"
            );
        }
        assert_eq!(
            steps[0]
                .keys()
                .filter(|gradient| gradient.contains(".lora."))
                .count()
                % 16,
            0,
            "{name}"
        );
        // These methods start from another model than the rest.
        let base = tensors(&small_model(if samples(name) { 20 } else { 1 }).weights());
        for (tensor, values) in base
            .iter()
            .filter(|(tensor, _)| trained.contains_key(*tensor))
        {
            let linear = [".attention.", ".mlp."]
                .iter()
                .any(|part| tensor.contains(part))
                && tensor.ends_with("weight");
            assert_eq!(*values != trained[tensor], linear, "{name}, {tensor}");
        }
    }
}

#[test]
fn merged_adapters_compute_what_the_adapters_did() {
    on_every_architecture(|architecture| {
        let (base, rows) = (small_model(5), rows(8, 5));
        let rows: Vec<&Sequence> = rows.iter().collect();
        let settings = OptimiserSettings {
            learning_rate: 0.02,
            warmup_steps: 0,
            ..optimiser()
        };
        let mut trainer = Trainer::new(base.clone(), &settings, &lora(1), 5, 20);
        for _ in 0..10 {
            token_step(&mut trainer, &rows, 1.0, &Unwatched).unwrap();
        }
        let batch = Batch::new(rows.iter().copied(), &cpu());
        let logits = |model: &LanguageModel| host(model.logits(model.response_states(&batch)));
        let (adapted, merged) = (logits(&trainer.model().valid()), trainer.finish());
        assert!(
            relative(&adapted, &logits(&base)) > 0.05,
            "training moved it"
        );
        assert!(relative(&logits(&merged), &adapted) < 5e-6, "merged");

        // The model passes through a file, which contains no trace of adapters.
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer.json");
        std::fs::write(&tokenizer, "{}").unwrap();
        Checkpoint::save_language_model(folder.path(), &merged, &tokenizer, StoredAs::F32).unwrap();
        let opened = Checkpoint::open(folder.path())
            .unwrap()
            .language_model(&cpu())
            .unwrap();
        assert_eq!(logits(&opened), logits(&merged));

        // The change of a weight is a matrix of rank 1: every minor of two rows and two columns
        // vanishes.
        let name = match architecture {
            "gpt_neox" => "gpt_neox.layers.1.mlp.dense_h_to_4h.weight",
            _ => "model.layers.1.mlp.up_proj.weight",
        };
        let (before, after) = (
            &tensors(&base.weights())[name],
            &tensors(&merged.weights())[name],
        );
        let added: Vec<f64> = after
            .iter()
            .zip(before)
            .map(|(after, before)| f64::from(after - before))
            .collect();
        let largest = added
            .iter()
            .fold(0.0, |most: f64, value| most.max(value.abs()));
        let (rows, columns) = (32, 16);
        for (i, j) in (1..rows).flat_map(|i| (1..columns).map(move |j| (i, j))) {
            let minor = added[0] * added[i * columns + j] - added[j] * added[i * columns];
            assert!(
                minor.abs() < 1e-5 * largest * largest.max(1e-2),
                "{minor:e} at {i}, {j} of {largest:e}"
            );
        }
    });
}

// --- Micro-batches ---

/// Rows of 2, 3, 12 and 4 response tokens.
fn unequal() -> Vec<Sequence> {
    let row = |index: usize, length: usize| {
        let mut rng = stream(9, "test/unequal", &[index as u64]);
        let tokens = (0..length)
            .map(|_| rng.random_range(2..VOCABULARY))
            .collect();
        Sequence::new(vec![4, 5, 6], tokens)
    };
    [2, 3, 12, 4]
        .into_iter()
        .enumerate()
        .map(|(index, length)| row(index, length))
        .collect()
}

/// Tokens must be counted over the whole step: the mean of the micro-batches' means is a different,
/// wrong number.
#[test]
fn a_step_s_loss_is_the_mean_over_its_tokens_however_it_is_split() {
    let (model, rows) = (small_model(9), unequal());
    let means: Vec<f32> = rows
        .iter()
        .map(|row| {
            let log_probs = host(model.response_log_probs(&Batch::new([row], &cpu()), 1.0));
            -log_probs.iter().sum::<f32>() / row.response.len() as f32
        })
        .collect();
    let lengths = || rows.iter().map(|row| row.response.len() as f32);
    let per_token = means
        .iter()
        .zip(lengths())
        .map(|(mean, length)| mean * length)
        .sum::<f32>()
        / lengths().sum::<f32>();
    let per_row = means.iter().sum::<f32>() / rows.len() as f32;
    assert!(
        (per_token - per_row).abs() > 0.01,
        "these rows could not tell: {per_token} and {per_row}"
    );

    let settings = SftSettings {
        epochs: 1,
        batch_size: 4,
        prompt_weight: 0.0,
        optimiser: optimiser(),
    };
    let step = |micro_batch: usize| {
        let recorder = Recorder::default();
        let (_, losses) = sft(
            model.clone(),
            &rows,
            &settings,
            &micro_batches(micro_batch),
            7,
            &recorder,
        )
        .unwrap();
        (losses, recorder.steps.into_inner())
    };
    let (whole, gradients) = step(4);
    assert_close(&whole, &[per_token], 1e-5, "the loss");
    for micro_batch in [1, 2, 3] {
        let (losses, parts) = step(micro_batch);
        assert_close(&losses, &whole, 1e-6, "the loss in parts");
        assert_same_gradients(
            &parts,
            &gradients,
            1e-5,
            &format!("{micro_batch} rows at once"),
        );
    }
}

/// Rounding has no direction: over a whole training the differences of losses cancel, whereas an
/// error of scale accumulates.
#[test]
fn trajectories_in_micro_batches_differ_by_rounding_alone() {
    let settings = SftSettings {
        epochs: 10,
        batch_size: 4,
        prompt_weight: 0.1,
        optimiser: optimiser(),
    };
    let losses = |micro_batch: usize| {
        sft(
            small_model(1),
            &rows(16, 2),
            &settings,
            &micro_batches(micro_batch),
            7,
            &Unwatched,
        )
        .unwrap()
        .1
    };
    let (whole, parts) = (losses(0), losses(1));
    assert_eq!(whole.len(), 40);
    assert_close(&parts, &whole, 1e-4, "a loss of the trajectory");
    let mean = parts
        .iter()
        .zip(&whole)
        .map(|(part, whole)| part - whole)
        .sum::<f32>()
        / 40.0;
    assert!(
        mean.abs() < 1e-5,
        "the residuals have a direction: {mean:e}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_size_of_micro_batches_does_not_matter(
        method in 0..METHODS.len(), rows in 1..13_usize, again in any::<bool>(), rank in prop::sample::select(vec![0, 2]),
    ) {
        let (name, run) = METHODS[method];
        let whole = Training { lora_rank: rank, gradient_checkpointing: again, ..Training::default() };
        let parts = Training { micro_batch: NonZeroUsize::new(rows), ..whole.clone() };
        let (whole, parts) = (parameters(&run(&whole, &Unwatched).0), parameters(&run(&parts, &Unwatched).0));
        assert_close(&parts, &whole, 1e-5, &format!("{name}, {rows} rows at once"));
    }
}

// --- bf16 ---

#[test]
fn bf16_gradients_are_near_those_of_f32() {
    // Policy-gradient methods have gradients of samples, which differ; they are tested below.
    for (name, run) in METHODS.iter().filter(|(name, _)| !samples(name)) {
        let (exact, near) = (
            record(*run, &Training::default()).1,
            record(*run, &bf16()).1,
        );
        let norm = |values: &[f32]| values.iter().map(|value| value.powi(2)).sum::<f32>().sqrt();
        let largest = exact[0]
            .values()
            .map(|values| norm(values))
            .fold(0.0, f32::max);
        for (tensor, exact) in &exact[0] {
            let error: Vec<f32> = near[0][tensor]
                .iter()
                .zip(exact)
                .map(|(near, exact)| near - exact)
                .collect();
            let share = norm(&error) / norm(exact).max(1e-3 * largest);
            assert!(share > 0.0, "{name}, {tensor}: nothing is computed in bf16");
            assert!(
                share < 0.05,
                "{name}, {tensor}: off by {share} of its length"
            );
        }
    }
}

#[test]
fn weights_move_by_less_than_bf16_can_tell() {
    let optimiser = OptimiserSettings {
        learning_rate: 1e-6,
        weight_decay: 0.0,
        warmup_steps: 0,
        ..optimiser()
    };
    let settings = SftSettings {
        epochs: 2,
        batch_size: 4,
        prompt_weight: 1.0,
        optimiser,
    };
    let model = small_model(1);
    let (trained, _) = sft(
        model.clone(),
        &rows(12, 2),
        &settings,
        &bf16(),
        7,
        &Unwatched,
    )
    .unwrap();
    let (before, after) = (parameters(&model.weights()), parameters(&trained.weights()));
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .count();
    assert!(
        moved * 100 > 95 * before.len(),
        "{moved} of {} weights moved",
        before.len()
    );
    let rounded = |value: &f32| half::bf16::from_f32(*value);
    let seen = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| rounded(before) != rounded(after))
        .count();
    assert!(
        seen * 10 < before.len(),
        "{seen} of {} weights moved to another bf16 number",
        before.len()
    );
}

#[test]
fn a_frozen_model_in_bf16_computes_what_training_in_bf16_does() {
    let (model, rows) = (small_model(6), rows(9, 6));
    let batch = Batch::new(&rows, &cpu());
    let log_probs = |model: &LanguageModel| host(model.response_log_probs(&batch, 0.8));
    let trained = Trainer::new(model.clone(), &optimiser(), &bf16(), 0, 1);
    let frozen = log_probs(&model.clone().in_dtype(Dtype::Bf16.float()));
    assert_eq!(
        log_probs(trained.model()),
        frozen,
        "a policy starts where its reference is"
    );
    let difference = relative(&frozen, &log_probs(&model));
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
}

#[test]
fn ppo_in_bf16_starts_where_it_samples() {
    for critic in [Critic::ZeroHead, Critic::RewardCopy] {
        for micro_batch in [None, NonZeroUsize::new(5)] {
            let settings = PpoSettings {
                critic,
                ..ppo_settings()
            };
            let (_, records) = run_ppo(
                &settings,
                &Training {
                    micro_batch,
                    ..bf16()
                },
                &Unwatched,
            );
            assert!(
                records.iter().all(|record| record.first_ratio_error == 0.0),
                "{records:?}"
            );
            assert!(
                records[0].kl == 0.0,
                "the policy is its own reference: {}",
                records[0].kl
            );
            assert!(
                records[4].kl.abs() > 1e-3,
                "and then it moves: {}",
                records[4].kl
            );
        }
    }
}

//! Tests that irrelevant circumstances have no effect: padding, batch size, row order,
//! micro-batches, and a kill in the middle of training.

mod common;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use common::methods::{
    METHODS, Run, Trained, assert_close, bytes, grpo_settings, parameters, ppo_settings,
    rloo_settings, run_grpo, run_ppo, run_rloo, sampling, small_reward,
};
use common::{
    EOS, VOCABULARY, cpu, host, micro_batches, on_every_architecture, optimiser, rows, small_model,
};
use proptest::prelude::*;
use rand::Rng;
use std::cell::Cell;
use std::fs;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use touchstone::device::fused;
use touchstone::methods::grpo::GrpoSettings;
use touchstone::methods::optimise::{Monitor, OptimiserSettings, Schedule, Unwatched};
use touchstone::methods::ppo::{Critic, PpoSettings, UpdateRecord};
use touchstone::methods::reward::score;
use touchstone::methods::rloo::RlooSettings;
use touchstone::methods::sft::{SftSettings, sft};
use touchstone::methods::spin::sequence_log_probs;
use touchstone::methods::training::{Dtype, Training};
use touchstone::model::generate::generate;
use touchstone::model::weights::Weights;
use touchstone::model::{Batch, Generated, LanguageModel, Passes, RewardModel, Sampling, Sequence};
use touchstone::rng::{permutation, stream};

/// Largest rounding error of 32-bit arithmetic on values of order 1 whose terms are added in
/// another order.
const ROUNDING: f32 = 2e-5;

// --- Padding, batch size, order ---

/// All outputs of the models for the rows of a batch, row after row, without padding.
fn read(model: &LanguageModel, reward: &RewardModel, batch: &Batch) -> Vec<Vec<f32>> {
    let logits = host(model.logits(model.response_states(batch)));
    let (log_probs, values) = (
        host(model.response_log_probs(batch, 0.7)),
        host(reward.values(batch)),
    );
    let scores = host(reward.scores(batch));
    let row = |(row, &length): (usize, &usize)| {
        let (start, v) = (row * batch.response_width, VOCABULARY as usize);
        let mut all = logits[start * v..(start + length) * v].to_vec();
        all.extend_from_slice(&log_probs[start..start + length]);
        all.extend_from_slice(&values[start..start + length]);
        all.push(scores[row]);
        all
    };
    batch.response_lengths.iter().enumerate().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_a_model_says_of_a_row_depends_on_the_row_alone(
        seed in 0..1000_u64, count in 1..7_usize, left in 0..12_usize, right in 0..12_usize,
    ) {
        let (model, reward, rows) = (small_model(seed), small_reward(seed), rows(count, seed));
        let alone: Vec<Vec<f32>> =
            rows.iter().flat_map(|row| read(&model, &reward, &Batch::new([row], &cpu()))).collect();

        let order = permutation(count, seed, "test/order", 0);
        let shuffled: Vec<&Sequence> = order.iter().map(|&index| &rows[index]).collect();
        let widest = |side: fn(&Sequence) -> usize| rows.iter().map(side).max().unwrap();
        let (prompt, response) = (widest(|row| row.prompt.len()), widest(|row| row.response.len()));
        let padded = Batch::with_widths(&shuffled, prompt + left, response + right, &cpu());
        for (found, index) in read(&model, &reward, &padded).iter().zip(order) {
            assert_close(found, &alone[index], ROUNDING, "a row among others");
        }
    }

    #[test]
    fn a_sample_is_a_function_of_model_prompt_and_stream(
        seed in 0..1000_u64, count in 2..9_usize, batch_size in 1..9_usize, hot in any::<bool>(), nucleus in any::<bool>(),
    ) {
        let model = small_model(seed);
        let prompts: Vec<Vec<u32>> = rows(count, seed).into_iter().map(|row| row.prompt).collect();
        let sampling = sampling(if hot { 1.3 } else { 0.0 }, if nucleus { 0.8 } else { 1.0 });
        let draw = |order: &[usize], batch_size| -> Vec<Generated> {
            let prompts: Vec<Vec<u32>> = order.iter().map(|&index| prompts[index].clone()).collect();
            let stream = |item: usize| stream(seed, "test/sample", &[order[item] as u64]);
            generate(&model, &prompts, &Sampling { batch_size, ..sampling.clone() }, stream, |_| {}).unwrap()
        };
        let together = draw(&(0..count).collect::<Vec<_>>(), count);
        let order = permutation(count, seed, "test/order", 0);
        for (found, &index) in draw(&order, batch_size).iter().zip(&order) {
            prop_assert_eq!(found, &together[index]);
        }
    }
}

#[test]
fn batches_of_any_size_score_alike() {
    on_every_architecture(|_| {
        let (model, reward, rows) = (small_model(1), small_reward(1), rows(150, 1));
        let all: Vec<&Sequence> = rows.iter().collect();
        let (scores, sums) = (
            score(&reward, &all).unwrap(),
            sequence_log_probs(&model, &all).unwrap(),
        );
        for (index, row) in all.iter().enumerate() {
            assert_close(
                &score(&reward, &[row]).unwrap(),
                &scores[index..=index],
                ROUNDING,
                "a score",
            );
            assert_close(
                &sequence_log_probs(&model, &[row]).unwrap(),
                &sums[index..=index],
                10.0 * ROUNDING,
                "a sum",
            );
        }
    });
}

// --- Ends and padding ---

#[test]
fn the_end_counts_as_a_token_and_padding_never_does() {
    let model = small_model(2);
    let ended = Sequence::new(vec![4, 0, 5], vec![6, 0, 7, EOS]);
    let cut = Sequence::new(ended.prompt.clone(), vec![6, 0, 7]);
    let longer = rows(3, 2);
    let batch = Batch::new([&ended, &cut].into_iter().chain(&longer), &cpu());
    assert_eq!(batch.response_lengths[..2], [4, 3]);
    let (all, w) = (
        host(model.response_log_probs(&batch, 1.0)),
        batch.response_width,
    );
    assert_close(&all[w..w + 3], &all[..3], ROUNDING, "tokens before the end");
    assert!(
        all[..4].iter().all(|p| *p < 0.0),
        "token 0 and the end are tokens: {:?}",
        &all[..4]
    );
    assert!(
        all[4..w]
            .iter()
            .chain(&all[w + 3..2 * w])
            .all(|p| *p == 0.0),
        "padding has no probability"
    );
    // The id used for padding may also be a token of the row; the score is read after it.
    let reward = small_reward(2);
    let zero_last = Sequence::new(vec![4, 5], vec![6, 0]);
    let scores = score(&reward, &[&zero_last, &Sequence::new(vec![4, 5], vec![6])]).unwrap();
    assert!((scores[0] - scores[1]).abs() > 1e-4, "{scores:?}");
}

/// `model` with the ids of two tokens exchanged.
fn exchanged(model: &LanguageModel, a: u32, b: u32) -> LanguageModel {
    let (weights, mut renamed) = (model.weights(), Weights::new("exchanged"));
    for tensor in weights.list() {
        let mut values = weights.values(tensor.name).unwrap().into_owned();
        if tensor.shape[0] == VOCABULARY as usize {
            let width = tensor.shape[1];
            (0..width).for_each(|column| {
                values.swap(a as usize * width + column, b as usize * width + column)
            });
        }
        renamed.insert(tensor.name, tensor.shape, values);
    }
    LanguageModel::from_weights(renamed, model.config(), &cpu()).unwrap()
}

/// Padding has id 0, which ends a text in the tokenizers of GPT-NeoX. The ids of tokens must not
/// matter.
#[test]
fn padding_is_no_end_even_where_it_has_the_end_s_id() {
    let renamed = |tokens: &[u32]| -> Vec<u32> {
        let exchange = |token: &u32| match *token {
            0 => EOS,
            EOS => 0,
            other => other,
        };
        tokens.iter().map(exchange).collect()
    };
    let rows = rows(9, 3);
    let renamed_rows: Vec<_> = rows
        .iter()
        .map(|row| Sequence::new(renamed(&row.prompt), renamed(&row.response)))
        .collect();
    let (model, settings) = (
        small_model(3),
        SftSettings {
            epochs: 2,
            batch_size: 4,
            prompt_weight: 0.3,
            optimiser: optimiser(),
        },
    );
    let other = exchanged(&model, 0, EOS);

    let log_probs = |model: &LanguageModel, rows: &[Sequence]| {
        host(model.response_log_probs(&Batch::new(rows, &cpu()), 0.7))
    };
    assert_close(
        &log_probs(&other, &renamed_rows),
        &log_probs(&model, &rows),
        ROUNDING,
        "log-probabilities",
    );
    let losses = |model: LanguageModel, rows: &[Sequence]| {
        sft(model, rows, &settings, &micro_batches(3), 7, &Unwatched)
            .unwrap()
            .1
    };
    assert_close(
        &losses(other.clone(), &renamed_rows),
        &losses(model.clone(), &rows),
        ROUNDING,
        "losses of training",
    );

    let drawn = |model: &LanguageModel, rows: &[Sequence], eos: u32| {
        let prompts: Vec<Vec<u32>> = rows.iter().map(|row| row.prompt.clone()).collect();
        let greedy = Sampling {
            ends: eos.into(),
            ..sampling(0.0, 1.0)
        };
        generate(
            model,
            &prompts,
            &greedy,
            |item| stream(3, "x", &[item as u64]),
            |_| {},
        )
        .unwrap()
    };
    for (found, expected) in drawn(&other, &renamed_rows, 0)
        .iter()
        .zip(drawn(&model, &rows, EOS))
    {
        assert_eq!(
            (&found.ids, found.ended),
            (&renamed(&expected.ids), expected.ended)
        );
    }
}

/// The loss includes every token of a response, above all its end: otherwise a policy would never
/// learn to stop.
#[test]
fn the_end_is_a_label_like_any_other() {
    let (model, row) = (
        small_model(2),
        Sequence::new(vec![4, 5], vec![6, 7, 8, EOS]),
    );
    let log_probs =
        |model: &LanguageModel| host(model.response_log_probs(&Batch::new([&row], &cpu()), 1.0));
    let optimiser = OptimiserSettings {
        learning_rate: 1e-2,
        warmup_steps: 0,
        ..optimiser()
    };
    let settings = SftSettings {
        epochs: 20,
        batch_size: 1,
        prompt_weight: 0.0,
        optimiser,
    };
    let (trained, losses) = sft(
        model.clone(),
        std::slice::from_ref(&row),
        &settings,
        &Training::default(),
        7,
        &Unwatched,
    )
    .unwrap();
    let (before, after) = (log_probs(&model), log_probs(&trained));
    assert_close(
        &losses[..1],
        &[-before.iter().sum::<f32>() / 4.0],
        ROUNDING,
        "the mean over all four tokens",
    );
    assert!(
        after[3] > before[3] + 0.5,
        "the end went from {} to {}",
        before[3],
        after[3]
    );
}

#[test]
fn sampling_stops_at_the_end_and_only_there() {
    let prompts: Vec<Vec<u32>> = rows(60, 5).into_iter().map(|row| row.prompt).collect();
    let stream = |item: usize| stream(5, "x", &[item as u64]);
    let drawn = generate(
        &small_model(5),
        &prompts,
        &sampling(1.0, 1.0),
        stream,
        |_| {},
    )
    .unwrap();
    for response in &drawn {
        let end = response.ids.iter().position(|&id| id == EOS);
        assert_eq!(response.ended, end.is_some());
        assert_eq!(response.ids.len(), end.map_or(14, |end| end + 1));
    }
    assert!(
        drawn.iter().any(|response| response.ended) && drawn.iter().any(|response| !response.ended)
    );
    assert!(
        drawn.iter().any(|response| response.ids.contains(&0)),
        "the id that pads can be sampled"
    );
}

// --- Generation against the forward pass ---

/// Each token of a sample must follow from the forward pass's distribution and the item's next
/// uniform.
#[test]
fn samples_are_draws_from_the_forward_pass() {
    on_every_architecture(|_| {
        let model = small_model(7);
        let prompts: Vec<Vec<u32>> = rows(40, 7).into_iter().map(|row| row.prompt).collect();
        let stream = |item: usize| stream(7, "test/sample", &[item as u64]);
        for (temperature, top_p) in [(0.0, 1.0), (1.0, 1.0), (0.6, 1.0), (1.2, 0.7)] {
            let drawn = generate(
                &model,
                &prompts,
                &sampling(temperature, top_p),
                stream,
                |_| {},
            )
            .unwrap();
            for (item, response) in drawn.into_iter().enumerate() {
                let batch = Batch::new(
                    &[Sequence::new(prompts[item].clone(), response.ids.clone())],
                    &cpu(),
                );
                let mut stream = stream(item);
                let uniforms: Vec<f32> = response.ids.iter().map(|_| stream.random()).collect();
                let uniforms =
                    Tensor::from_data(TensorData::new(uniforms, [response.ids.len()]), &cpu());
                let again = fused::sample(
                    model.logits(model.response_states(&batch)),
                    temperature,
                    top_p,
                    uniforms,
                );
                let again: Vec<u32> = again
                    .into_data()
                    .iter::<i64>()
                    .map(|id| id as u32)
                    .collect();
                assert_eq!(
                    again, response.ids,
                    "temperature {temperature}, top-p {top_p}, item {item}"
                );
            }
        }
    });
}

/// Generation, which caches keys and values, must draw from the probabilities that training
/// computes.
#[test]
fn kept_keys_and_values_give_the_log_probabilities_of_a_forward_pass() {
    on_every_architecture(|_| {
        let (model, mut rows) = (small_model(8), rows(6, 8));
        rows.iter_mut().for_each(|row| row.response.resize(7, 3));
        let whole = Batch::new(&rows, &cpu());
        let expected = host(model.response_log_probs(&whole, 0.8));

        let prompts: Vec<Sequence> = rows
            .iter()
            .map(|row| Sequence::new(row.prompt.clone(), vec![]))
            .collect();
        let batch = Batch::new(&prompts, &cpu());
        let (b, width, d) = (rows.len(), batch.prompt_width, 16);
        let (states, mut kept) = model.decoder.prefill(&batch, width + 7);
        let mut states = states
            .reshape([b, width, d])
            .slice([0..b, width - 1..width, 0..d])
            .reshape([b, d]);
        for step in 0..7 {
            let tokens: Vec<i32> = rows.iter().map(|row| row.response[step] as i32).collect();
            let tokens: Tensor<1, Int> = Tensor::from_data(TensorData::new(tokens, [b]), &cpu());
            let logits = model.logits(model.decoder.normalise(states)) / 0.8;
            let found = host(fused::token_log_probs(logits, tokens.clone()));
            let expected: Vec<f32> = (0..b).map(|row| expected[row * 7 + step]).collect();
            assert_close(&found, &expected, ROUNDING, &format!("step {step}"));
            let positions: Vec<u32> = rows
                .iter()
                .map(|row| (row.prompt.len() + step) as u32)
                .collect();
            let mask: Vec<bool> = rows
                .iter()
                .flat_map(|row| (0..=width + step).map(|column| column >= width - row.prompt.len()))
                .collect();
            let mask = Tensor::from_data(TensorData::new(mask, [b, width + step + 1]), &cpu());
            states = model
                .decoder
                .step(tokens.reshape([b, 1]), &positions, mask, &mut kept);
        }
    });
}

// --- Training ---

#[test]
fn micro_batches_do_not_change_what_is_learned() {
    on_every_architecture(|_| {
        for (name, run) in METHODS {
            let whole = parameters(&run(&Training::default(), &Unwatched).0);
            for micro in [1, 3] {
                let parts = parameters(&run(&micro_batches(micro), &Unwatched).0);
                assert_close(
                    &parts,
                    &whole,
                    1e-5,
                    &format!("{name} in micro-batches of {micro}"),
                );
            }
        }
    });
}

#[test]
fn a_leave_one_out_baseline_needs_another_sample_of_every_prompt() {
    for (rollouts, samples) in [(12, 1), (12, 5), (12, 0), (3, 4)] {
        let settings = RlooSettings {
            rollouts,
            samples,
            ..rloo_settings()
        };
        let error = run_rloo(&settings, &Training::default(), &Unwatched)
            .expect_err("no such batch")
            .to_string();
        assert!(
            error.contains(&format!("{rollouts} rollouts are not {samples} samples")),
            "{error}"
        );
    }
}

/// The values must be equal, not just close: the same numbers are computed twice, among different
/// rows and at another width.
#[test]
fn before_its_first_update_a_policy_is_exactly_where_it_started() {
    on_every_architecture(|_| {
        let plain = Training::default();
        let regimes = [
            plain.clone(),
            Training {
                gradient_checkpointing: true,
                ..plain.clone()
            },
            Training {
                lora_rank: 2,
                ..plain.clone()
            },
            Training {
                dtype: Dtype::Bf16,
                ..plain
            },
        ];
        let ppo = |critic, temperature| {
            let settings = PpoSettings {
                critic,
                temperature,
                updates: 3,
                ..ppo_settings()
            };
            move |training: &Training| run_ppo(&settings, training, &Unwatched).1
        };
        let rloo = |training: &Training| {
            run_rloo(
                &RlooSettings {
                    updates: 3,
                    ..rloo_settings()
                },
                training,
                &Unwatched,
            )
            .unwrap()
            .1
        };
        let grpo = |training: &Training| {
            run_grpo(
                &GrpoSettings {
                    updates: 3,
                    ..grpo_settings()
                },
                training,
                &Unwatched,
            )
            .unwrap()
            .1
        };
        type Records<'a> = &'a dyn Fn(&Training) -> Vec<UpdateRecord>;
        let methods: [(&str, Records); 5] = [
            ("PPO", &ppo(Critic::ZeroHead, 0.7)),
            (
                "PPO with a critic of its own",
                &ppo(Critic::RewardCopy, 0.7),
            ),
            ("PPO at temperature 1", &ppo(Critic::ZeroHead, 1.0)),
            ("RLOO", &rloo),
            ("GRPO", &grpo),
        ];
        for (name, run) in methods {
            for (regime, micro) in regimes
                .iter()
                .flat_map(|regime| [0, 1, 5].map(|micro| (regime, micro)))
            {
                let training = Training {
                    micro_batch: NonZeroUsize::new(micro),
                    ..regime.clone()
                };
                let (records, what) = (run(&training), format!("{name} with {training:?}"));
                // A row with different padding adds its softmax in another order; in bf16 this may
                // round a logit below 4 to its neighbour, which is 1/64 away.
                let allowed = if training.dtype == Dtype::Bf16 && micro > 0 {
                    1.0 / 64.0
                } else {
                    0.0
                };
                assert!(
                    records
                        .iter()
                        .all(|record| record.first_ratio_error <= allowed),
                    "{what}: {records:?}"
                );
                assert!(
                    records[0].kl == 0.0,
                    "{what}: the policy is its own reference: {}",
                    records[0].kl
                );
                assert!(
                    records[2].kl.abs() > 1e-4,
                    "{what}: and then it moves: {}",
                    records[2].kl
                );
            }
        }
    });
}

#[test]
fn the_value_function_does_not_move_the_policy_s_features() {
    // Clipping would couple the two through their common norm.
    let optimiser = OptimiserSettings {
        clip_norm: 0.0,
        ..optimiser()
    };
    let one_update = |critic: Critic, value_coefficient: f32| {
        let base = PpoSettings {
            critic,
            value_coefficient,
            optimiser: optimiser.clone(),
            ..ppo_settings()
        };
        let settings = PpoSettings {
            updates: 1,
            epochs: 1,
            minibatches: 1,
            ..base
        };
        bytes(
            &run_ppo(&settings, &Training::default(), &Unwatched)
                .0
                .weights(),
        )
    };
    for critic in [Critic::ZeroHead, Critic::RewardCopy] {
        assert!(
            one_update(critic, 0.0) == one_update(critic, 10.0),
            "the critic's loss reached the policy"
        );
    }
}

// --- Kills ---

/// A monitor that keeps a checkpoint of every step and panics at step `dies_at`, before that step's
/// checkpoint is written.
struct Mortal<'a> {
    folder: &'a Path,
    dies_at: usize,
    heard: Cell<usize>,
    tokens: Cell<usize>,
}

impl Monitor for Mortal<'_> {
    fn progress(&self, done: usize, _total: usize, _note: &str) {
        self.heard.set(self.heard.get() + 1);
        if done == self.dies_at {
            // A `panic!` would print its message into the test's output.
            resume_unwind(Box::new("killed"));
        }
    }

    fn passes(&self, passes: Passes) {
        self.tokens.set(self.tokens.get() + passes.tokens);
    }

    fn cost(&self) -> serde_json::Value {
        self.tokens.get().into()
    }

    fn resumed(&self, cost: serde_json::Value) {
        self.tokens.set(serde_json::from_value(cost).unwrap());
    }

    fn checkpoint_folder(&self) -> Option<PathBuf> {
        Some(self.folder.to_path_buf())
    }

    fn checkpoint_interval(&self) -> Duration {
        Duration::ZERO
    }
}

impl<'a> Mortal<'a> {
    fn new(folder: &'a Path, dies_at: usize) -> Self {
        Self {
            folder,
            dies_at,
            heard: Cell::new(0),
            tokens: Cell::new(0),
        }
    }

    /// The result of training; `None` if the run was killed first.
    fn live(&self, run: Run, training: &Training) -> Option<Trained> {
        catch_unwind(AssertUnwindSafe(|| run(training, self))).ok()
    }
}

const NEVER: usize = usize::MAX;

#[test]
fn a_killed_run_ends_as_if_nothing_had_happened() {
    let plain = micro_batches(3);
    let again = Training {
        gradient_checkpointing: true,
        ..plain.clone()
    };
    let adapted = Training {
        lora_rank: 2,
        ..plain.clone()
    };
    let everything = Training {
        dtype: Dtype::Bf16,
        ..adapted.clone()
    };
    let runs = METHODS
        .iter()
        .flat_map(|method| [(method, &plain), (method, &everything)]);
    for ((name, run), training) in runs.chain([(&METHODS[1], &again), (&METHODS[1], &adapted)]) {
        let name = format!("{name} with {training:?}");
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let undisturbed = Mortal::new(elsewhere.path(), NEVER);
        let (weights, curve) = undisturbed.live(*run, training).unwrap();
        assert!(
            bytes(&weights) == bytes(&run(training, &Unwatched).0),
            "{name}: checkpoints change what is learned"
        );
        let steps = undisturbed.heard.get();
        // The first run is killed before any checkpoint, the third one immediately after it
        // resumes.
        let lives = [(1, 1), (3, 3), (3, 1), (5, 3), (NEVER, steps - 4)];
        for (dies_at, expected) in lives {
            let monitor = Mortal::new(folder.path(), dies_at);
            let trained = monitor.live(*run, training);
            assert_eq!(
                monitor.heard.get(),
                expected,
                "{name}: steps of the life that ends at {dies_at}"
            );
            assert_eq!(trained.is_some(), dies_at == NEVER, "{name}");
            if let Some((resumed, resumed_curve)) = trained {
                assert_eq!(resumed_curve, curve, "{name}");
                assert!(
                    bytes(&resumed) == bytes(&weights),
                    "{name}: other weights after kills"
                );
                assert_eq!(
                    monitor.tokens, undisturbed.tokens,
                    "{name}: the cost of an undisturbed run"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Weights, moments, learning rate, random streams and the position in the data are all
    /// resumed, wherever the kills fall.
    #[test]
    fn kills_at_any_steps_change_nothing(
        method in 0..METHODS.len(),
        kills in prop::collection::vec(1..12_usize, 1..5),
        rank in prop::sample::select(vec![0, 2]),
        bf16 in any::<bool>(),
    ) {
        let (name, run) = METHODS[method];
        let dtype = if bf16 { Dtype::Bf16 } else { Dtype::F32 };
        assert_resumes(name, &run, &Training { lora_rank: rank, dtype, ..micro_batches(3) }, &kills);
    }

    /// Resumption also holds for every schedule of the learning rate, and for kills during warm-up.
    #[test]
    fn the_learning_rate_goes_on_where_it_was(
        schedule in prop::sample::select(vec![Schedule::Constant, Schedule::Linear, Schedule::Cosine]),
        warmup_steps in 0..5_usize, epochs in 1..4_usize, batch_size in 1..7_usize,
        kills in prop::collection::vec(1..12_usize, 1..5),
    ) {
        let optimiser = OptimiserSettings { schedule, warmup_steps, ..optimiser() };
        let settings = SftSettings { epochs, batch_size, prompt_weight: 0.2, optimiser };
        let run = |training: &Training, monitor: &dyn Monitor| {
            let (model, losses) = sft(small_model(1), &rows(7, 2), &settings, training, 7, monitor).unwrap();
            (model.weights(), format!("{losses:?}"))
        };
        assert_resumes("sft", &run, &Training::default(), &kills);
    }
}

/// Asserts that runs killed at the steps `kills`, one after the other, and a last run that may
/// finish, end like a run that nothing disturbed.
fn assert_resumes(
    name: &str,
    run: &dyn Fn(&Training, &dyn Monitor) -> Trained,
    training: &Training,
    kills: &[usize],
) {
    let folder = tempfile::tempdir().unwrap();
    let live = |dies_at: usize| {
        let monitor = Mortal::new(folder.path(), dies_at);
        catch_unwind(AssertUnwindSafe(|| run(training, &monitor))).ok()
    };
    let (weights, curve) = run(training, &Unwatched);
    let ended = kills.iter().copied().chain([NEVER]).find_map(live);
    let (resumed, resumed_curve) = ended.expect("the last life is not cut short");
    assert_eq!(
        resumed_curve, curve,
        "{name}, killed at {kills:?}, with {training:?}"
    );
    assert!(
        bytes(&resumed) == bytes(&weights),
        "{name}, killed at {kills:?}: other weights, with {training:?}"
    );
}

#[test]
fn a_kill_while_a_checkpoint_is_written_costs_at_most_time() {
    let (_, run) = METHODS[1];
    let (weights, _) = run(&micro_batches(3), &Unwatched);
    // Four disturbances: half a new checkpoint beside the last one; a whole one before its rename;
    // a newest one with a truncated file; all checkpoints damaged.
    let newest = |folder: &Path| checkpoints(folder).pop().unwrap();
    let half_written = |folder: &Path| {
        fs::create_dir(folder.join("unfinished-checkpoint")).unwrap();
        fs::write(folder.join("unfinished-checkpoint/model.bpk"), "half").unwrap();
    };
    let before_the_rename =
        |folder: &Path| fs::rename(newest(folder), folder.join("unfinished-checkpoint")).unwrap();
    let torn = |folder: &Path| {
        let path = newest(folder).join("optimiser.bpk");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let all_torn = |folder: &Path| {
        for checkpoint in checkpoints(folder) {
            fs::write(checkpoint.join("state.json"), "").unwrap();
        }
    };
    let disturbances: [&dyn Fn(&Path); 4] = [&half_written, &before_the_rename, &torn, &all_torn];
    for disturb in disturbances {
        let folder = tempfile::tempdir().unwrap();
        Mortal::new(folder.path(), 4).live(run, &micro_batches(3));
        disturb(folder.path());
        let trained = Mortal::new(folder.path(), NEVER).live(run, &micro_batches(3));
        assert!(trained.is_some_and(|(resumed, _)| bytes(&resumed) == bytes(&weights)));
    }
}

#[test]
fn a_checkpoint_holds_what_is_trained_and_nothing_else() {
    let size = |training: &Training| {
        let folder = tempfile::tempdir().unwrap();
        Mortal::new(folder.path(), NEVER).live(METHODS[1].1, training);
        ["model.bpk", "optimiser.bpk"].map(|file| {
            fs::metadata(checkpoints(folder.path()).pop().unwrap().join(file))
                .unwrap()
                .len()
        })
    };
    let (dense, adapters) = (
        size(&micro_batches(3)),
        size(&Training {
            lora_rank: 1,
            ..micro_batches(3)
        }),
    );
    for (dense, adapters) in dense.into_iter().zip(adapters) {
        assert!(
            3 * adapters < dense,
            "{adapters} bytes of adapters, {dense} of the whole model"
        );
    }
}

/// A flipped byte in any file of the newest checkpoint costs only the steps since the one before
/// it, and changes no number.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let (_, run) = METHODS[1];
    let (weights, curve) = run(&micro_batches(3), &Unwatched);
    for file in ["state.json", "model.bpk", "optimiser.bpk", "sums.json"] {
        let folder = tempfile::tempdir().unwrap();
        Mortal::new(folder.path(), 4).live(run, &micro_batches(3));
        let path = checkpoints(folder.path()).pop().unwrap().join(file);
        let mut damaged = fs::read(&path).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (resumed, resumed_curve) = Mortal::new(folder.path(), NEVER)
            .live(run, &micro_batches(3))
            .unwrap();
        assert!(
            bytes(&resumed) == bytes(&weights) && resumed_curve == curve,
            "{file}"
        );
    }
}

/// Folders of checkpoints, oldest first.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("checkpoint-")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn training_moves_every_parameter() {
    on_every_architecture(|_| {
        let before = parameters(&small_model(1).weights());
        let after = parameters(&METHODS[0].1(&Training::default(), &Unwatched).0);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .count();
        assert!(
            moved * 100 >= before.len() * 95,
            "{moved} of {} parameters moved",
            before.len()
        );
        assert!(small_model(1).num_params() == before.len());
    });
}

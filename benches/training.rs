//! Tokens per second of the library's own path, model and methods, at the sizes of the embedded world on one thread.
//! The cases and shapes are those of `peer/peer.py`, which does the same work in PyTorch.
//!
//! ```text
//! cargo bench --bench training                                  # divan's statistics
//! cargo bench --bench training -- --json [--case train] [--size mini-1b] [--seconds 5]
//! ```
//!
//! With `--json` the options and the lines of output are `peer.py`'s, so that `peer/compare.py` can pair the two.
//!
//! The policy step is timed as a whole (`ppo`): rollout, scores, log-probabilities, values, advantages and update are one
//! public function, and its parts stay private to it.

use burn::tensor::Device;
use clap::Parser;
use divan::Bencher;
use divan::counter::ItemsCount;
use rand::Rng;
use std::hint::black_box;
use std::time::{Duration, Instant};
use touchstone::methods::optimise::{OptimiserSettings, Schedule, Trainer, Unwatched};
use touchstone::methods::ppo::{Critic, MissingEos, Objective, PpoSettings, Rollout, Task, ppo as run_ppo};
use touchstone::methods::reward::score;
use touchstone::methods::sft::token_step;
use touchstone::methods::training::Training;
use touchstone::model::generate::generate as run_generation;
use touchstone::model::{GptNeoXConfig, LanguageModel, RewardModel, Sampling, Sequence};
use touchstone::rng::stream;

const VOCABULARY: usize = 256;
/// No token has this id, so every response is as long as it may be.
const NEVER: u32 = VOCABULARY as u32;

#[derive(Clone, Copy, Debug)]
struct Size {
    name: &'static str,
    width: usize,
    layers: usize,
    heads: usize,
    train_length: usize,
}

const SIZES: [Size; 2] = [
    Size { name: "mini-1b", width: 64, layers: 2, heads: 4, train_length: 52 },
    Size { name: "mini-2.8b", width: 96, layers: 3, heads: 6, train_length: 60 },
];

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Something to be done again and again, and the tokens that count as its work.
struct Work {
    once: Box<dyn FnMut()>,
    tokens: usize,
}

type Case = (&'static str, fn(Size) -> Work);

const CASES: [Case; 4] =
    [("train", train_work), ("generate", generate_work), ("reward", reward_work), ("ppo", ppo_work)];

/// One optimiser step of next-token prediction on 48 full rows.
fn train_work(size: Size) -> Work {
    let rows = sequences(48, 1, size.train_length);
    let mut trainer = Trainer::new(language_model(size), &optimiser(), &Training::default(), 0, usize::MAX);
    let once = move || {
        let rows: Vec<&Sequence> = rows.iter().collect();
        black_box(token_step(&mut trainer, &rows, 1.0, &Unwatched).expect("the loss is finite"));
    };
    Work { once: Box::new(once), tokens: 48 * size.train_length }
}

/// 48 sampled tokens behind each of 64 prompts of 48; the prefill is in the time, not in the tokens.
fn generate_work(size: Size) -> Work {
    let (rows, prompt, new) = (64, 48, 48);
    let (model, prompts, sampling) = (language_model(size), prompts(rows, prompt), sampling(new));
    let once = move || {
        let responses = run_generation(&model, &prompts, &sampling, |row| stream(0, "bench", &[row as u64]), |_| {});
        assert!(responses.iter().all(|response| response.ids.len() == new));
        black_box(responses);
    };
    Work { once: Box::new(once), tokens: rows * new }
}

/// Scores of 64 texts of 68 tokens.
fn reward_work(size: Size) -> Work {
    let (model, texts) = (reward_model(size), sequences(64, 44, 24));
    let once = move || {
        let texts: Vec<&Sequence> = texts.iter().collect();
        black_box(score(&model, &texts));
    };
    Work { once: Box::new(once), tokens: 64 * 68 }
}

/// A whole PPO iteration: 64 rollouts of 24 tokens behind prompts of 44, then 2 epochs of 4 minibatches.
fn ppo_work(size: Size) -> Work {
    let (rollouts, prompt, new) = (64, 44, 24);
    let (policy, reference, reward) = (language_model(size), language_model(size), reward_model(size));
    let (prompts, sampling, settings) = (prompts(rollouts, prompt), sampling(new), ppo_settings(rollouts));
    let once = move || {
        let scores = |rollouts: &[Rollout]| {
            let sequences: Vec<&Sequence> = rollouts.iter().map(|rollout| &rollout.sequence).collect();
            Ok(score(&reward, &sequences))
        };
        let objective = Objective { score: Box::new(scores), low: -1.0 };
        let task = Task { reference: &reference, objective, critic: None, prompts: &prompts, sampling: &sampling };
        let learnt = run_ppo(policy.clone(), task, &settings, &Training::default(), 0, &Unwatched);
        black_box(learnt.expect("the loss is finite"));
    };
    Work { once: Box::new(once), tokens: rollouts * new }
}

fn ppo_settings(rollouts: usize) -> PpoSettings {
    PpoSettings {
        updates: 1,
        rollouts,
        epochs: 2,
        minibatches: 4,
        temperature: 1.0,
        kl_coefficient: 0.05,
        gamma: 1.0,
        lambda: 0.95,
        clip: 0.2,
        clip_value: 0.2,
        value_coefficient: 0.1,
        whiten_advantages: true,
        critic: Critic::ZeroHead,
        missing_eos: MissingEos::BelowScores,
        optimiser: optimiser(),
    }
}

fn optimiser() -> OptimiserSettings {
    OptimiserSettings {
        learning_rate: 1e-4,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        beta_1: 0.9,
        beta_2: 0.98,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
    }
}

fn sampling(max_new_tokens: usize) -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, max_new_tokens, eos: NEVER, batch_size: 64 }
}

/// The device as a stage of the program selects it.
fn flex() -> Device {
    touchstone::device::select("flex").expect("flex is always built")
}

fn config(size: Size) -> GptNeoXConfig {
    let config = serde_json::json!({
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.width,
        "rotary_pct": 0.25,
    });
    serde_json::from_value(config).expect("the keys are those of the type")
}

fn language_model(size: Size) -> LanguageModel {
    LanguageModel::random(&config(size), 0.02, &mut stream(0, "bench/model", &[]), &flex())
        .expect("a random model loads")
}

fn reward_model(size: Size) -> RewardModel {
    RewardModel::on(&language_model(size), 0.0, &mut stream(0, "bench/head", &[]))
}

fn tokens(row: usize, length: usize) -> Vec<u32> {
    let mut stream = stream(0, "bench/tokens", &[row as u64]);
    (0..length).map(|_| stream.random_range(0..VOCABULARY as u32)).collect()
}

fn prompts(rows: usize, length: usize) -> Vec<Vec<u32>> {
    (0..rows).map(|row| tokens(row, length)).collect()
}

fn sequences(rows: usize, prompt: usize, response: usize) -> Vec<Sequence> {
    let split = |ids: Vec<u32>| Sequence::new(ids[..prompt].to_vec(), ids[prompt..].to_vec());
    (0..rows).map(|row| split(tokens(row, prompt + response))).collect()
}

fn bench(bencher: Bencher, mut work: Work) {
    bencher.counter(ItemsCount::new(work.tokens)).bench_local(|| (work.once)());
}

#[divan::bench(args = SIZES)]
fn train(bencher: Bencher, size: Size) {
    bench(bencher, train_work(size));
}

#[divan::bench(args = SIZES)]
fn generate(bencher: Bencher, size: Size) {
    bench(bencher, generate_work(size));
}

#[divan::bench(args = SIZES)]
fn reward(bencher: Bencher, size: Size) {
    bench(bencher, reward_work(size));
}

#[divan::bench(args = SIZES)]
fn ppo(bencher: Bencher, size: Size) {
    bench(bencher, ppo_work(size));
}

/// The options of `--json`, the same as `peer.py`'s.
#[derive(Debug, Parser)]
struct Options {
    /// One line of JSON per case and size.
    #[arg(long, required = true)]
    json: bool,
    /// Only this case (may be given again).
    #[arg(long, value_parser = CASES.map(|(name, _)| name))]
    case: Vec<String>,
    /// Only this size.
    #[arg(long, value_parser = SIZES.map(|size| size.name))]
    size: Option<String>,
    /// Least time per case and size.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Seconds of each round after three to warm up, for at least `seconds` and seven rounds; sorted.
fn measure(work: &mut Work, seconds: f64) -> Vec<f64> {
    (0..3).for_each(|_| (work.once)());
    let mut rounds = Vec::new();
    let mut spent = Duration::ZERO;
    while spent.as_secs_f64() < seconds || rounds.len() < 7 {
        let started = Instant::now();
        (work.once)();
        let round = started.elapsed();
        spent += round;
        rounds.push(round.as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    rounds
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn print_json(options: &Options) {
    for (case, work) in
        CASES.iter().filter(|(name, _)| options.case.is_empty() || options.case.iter().any(|c| c == name))
    {
        for size in SIZES.into_iter().filter(|size| options.size.as_ref().is_none_or(|name| name == size.name)) {
            let mut work = work(size);
            let rounds = measure(&mut work, options.seconds);
            let median = median(&rounds);
            let line = serde_json::json!({
                "case": case,
                "size": size.name,
                "tokens_per_second": (work.tokens as f64 / median).round(),
                "median_s": median,
                "rounds": rounds.len(),
                "tokens": work.tokens,
                "fastest_s": rounds[0],
            });
            println!("{line}");
        }
    }
}

fn main() {
    // As in a stage of the pipeline: one kernel thread, whatever the environment says.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("nothing has computed yet");
    if std::env::args().any(|argument| argument == "--json") {
        print_json(&Options::parse());
    } else {
        divan::main();
    }
}

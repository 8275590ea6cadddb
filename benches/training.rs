//! Benchmarks in tokens per second of the library's own path, model and methods, at the sizes of
//! the embedded world on one thread. The cases and shapes are those of `peer/peer.py`, which does
//! the same work in PyTorch.
//!
//! ```text
//! cargo bench --bench training                                  # divan's statistics
//! cargo bench --bench training -- --json [--case train] [--size mini-1b] [--seconds 5]
//! ```
//!
//! With `--json` the options and the output lines match those of `peer.py`, so that
//! `peer/compare.py` can pair the two.
//!
//! The policy step is timed as a whole (`ppo`): rollout, scores, log-probabilities, values,
//! advantages and update are one public function whose parts are private.

#![allow(clippy::print_stdout, reason = "its results go to standard output")]

use clap::Parser;
use divan::Bencher;
use divan::counter::ItemsCount;
use touchstone::bench::{Bench, Effort, Work};
use touchstone::methods::optimise::{OptimiserSettings, Schedule};
use touchstone::methods::ppo::{Critic, MissingEos, PpoSettings};
use touchstone::methods::reward::{Normalise, ReadOut, RewardLoss, RewardSettings};
use touchstone::methods::sft::SftSettings;
use touchstone::methods::training::Training;
use touchstone::model::DecoderConfig;

const VOCABULARY: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Size {
    name: &'static str,
    width: usize,
    layers: usize,
    heads: usize,
    /// Heads of keys and values of a Mistral; `None` for a GPT-NeoX.
    key_heads: Option<usize>,
    train_length: usize,
}

/// Both sizes of the embedded world as GPT-NeoX and as Mistral. The Mistrals have 4 heads that share
/// 2 key heads, and as many weights per layer as the GPT-NeoX of the same width.
const SIZES: [Size; 4] = [
    Size {
        name: "mini-1b",
        width: 64,
        layers: 2,
        heads: 4,
        key_heads: None,
        train_length: 52,
    },
    Size {
        name: "mini-2.8b",
        width: 96,
        layers: 3,
        heads: 6,
        key_heads: None,
        train_length: 60,
    },
    Size {
        name: "mistral-mini-1b",
        width: 64,
        layers: 2,
        heads: 4,
        key_heads: Some(2),
        train_length: 52,
    },
    Size {
        name: "mistral-mini-2.8b",
        width: 96,
        layers: 3,
        heads: 4,
        key_heads: Some(2),
        train_length: 60,
    },
];

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

type Case = (&'static str, fn(Size) -> Work);

const CASES: [Case; 5] = [
    ("train", train_work),
    ("generate", generate_work),
    ("reward", reward_work),
    ("reward_train", reward_train_work),
    ("ppo", ppo_work),
];

/// One optimiser step of next-token prediction on 48 full rows; each row is a one-token prompt and
/// its continuation.
fn train_work(size: Size) -> Work {
    let settings = SftSettings {
        epochs: 1,
        batch_size: 48,
        prompt_weight: 1.0,
        optimiser: optimiser(),
    };
    let mut work = bench_of(size, 1, size.train_length)
        .sft(&settings)
        .expect("a random model loads");
    // The first token of a row is not predicted.
    work.tokens = 48 * size.train_length;
    work
}

/// 48 sampled tokens after each of 64 prompts of 48 tokens; the time includes the prefill, the
/// token count does not.
fn generate_work(size: Size) -> Work {
    bench_of(size, 48, 48)
        .generate(64)
        .expect("a random model loads")
}

/// Scores of 64 texts of 68 tokens.
fn reward_work(size: Size) -> Work {
    bench_of(size, 44, 24)
        .reward(64)
        .expect("a random model loads")
}

/// One optimiser step of reward learning on 32 pairs of responses of 24 tokens to prompts of 44
/// tokens; tokens of both texts of a pair are counted.
fn reward_train_work(size: Size) -> Work {
    bench_of(size, 44, 24)
        .reward_step(&reward_settings())
        .expect("a random model loads")
}

/// A whole PPO iteration: 64 rollouts of 24 tokens after prompts of 44 tokens, then 2 epochs of 4
/// minibatches.
fn ppo_work(size: Size) -> Work {
    bench_of(size, 44, 24)
        .ppo(&ppo_settings(64), 64)
        .expect("a random model loads")
}

/// A benchmark on the device that a stage of the program would select.
fn bench_of(size: Size, prompt: usize, response: usize) -> Bench {
    let device =
        touchstone::device::select(touchstone::device::DEFAULT).expect("it is always built");
    Bench {
        config: config(size),
        device,
        training: Training::default(),
        prompt,
        response,
    }
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

fn reward_settings() -> RewardSettings {
    RewardSettings {
        loss: RewardLoss::Eq11,
        margin: 0.0,
        bound: 0.0,
        l2: 0.0,
        read_out: ReadOut::LastToken,
        normalise: Normalise::AfterTraining,
        epochs: 1,
        batch_size: 32,
        optimiser: optimiser(),
    }
}

fn optimiser() -> OptimiserSettings {
    OptimiserSettings {
        learning_rate: 1e-4,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        beta_1: 0.9,
        beta_2: 0.98,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
    }
}

fn config(size: Size) -> DecoderConfig {
    let inner = if size.key_heads.is_some() { 3 } else { 4 };
    let mut config = serde_json::json!({
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": inner * size.width,
    });
    let more = match size.key_heads {
        None => serde_json::json!({"model_type": "gpt_neox", "rotary_pct": 0.25}),
        Some(key_heads) => serde_json::json!({
            "model_type": "mistral", "num_key_value_heads": key_heads, "sliding_window": null,
        }),
    };
    let keys = config.as_object_mut().expect("it is an object");
    keys.extend(more.as_object().expect("it is an object").clone());
    DecoderConfig::from_keys(std::mem::take(keys), "the bench").expect("the keys are complete")
}

fn bench(bencher: Bencher, mut work: Work) {
    bencher
        .counter(ItemsCount::new(work.tokens))
        .bench_local(|| work.once().expect("the loss is finite"));
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
fn reward_train(bencher: Bencher, size: Size) {
    bench(bencher, reward_train_work(size));
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

fn print_json(options: &Options) {
    for (case, work) in CASES
        .iter()
        .filter(|(name, _)| options.case.is_empty() || options.case.iter().any(|c| c == name))
    {
        for size in SIZES
            .into_iter()
            .filter(|size| options.size.as_ref().is_none_or(|name| name == size.name))
        {
            let mut work = work(size);
            let effort = Effort {
                warm_up: 3,
                rounds: 7,
                seconds: options.seconds,
            };
            let rounds = work.measure(effort).expect("the loss is finite");
            let median = rounds.median();
            let line = serde_json::json!({
                "case": case,
                "size": size.name,
                "tokens_per_second": (work.tokens as f64 / median).round(),
                "median_s": median,
                "rounds": rounds.count(),
                "tokens": work.tokens,
                "fastest_s": rounds.fastest(),
            });
            println!("{line}");
        }
    }
}

fn main() {
    // One kernel thread, as in a stage of the pipeline, whatever the environment says.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("nothing has computed yet");
    if std::env::args().any(|argument| argument == "--json") {
        print_json(&Options::parse());
    } else {
        divan::main();
    }
}

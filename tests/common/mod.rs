//! Helpers shared by several test files: a folder to run the program in, and models small enough to
//! train in a moment.
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod conversations;
pub mod goldens;
pub mod methods;
#[cfg(feature = "hub")]
pub mod published;

use burn::tensor::{Device, Tensor};
use rand::Rng;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use touchstone::methods::optimise::{OptimiserSettings, Schedule};
use touchstone::methods::training::Training;
use touchstone::model::{DecoderConfig, LanguageModel, Sequence};
use touchstone::rng::stream;

/// The path of a fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

// --- The program ---

/// A temporary folder that the program runs in, so that it prints short relative paths.
pub struct Bench {
    dir: TempDir,
}

/// Output of one run of the program.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    pub fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Copies the files of a fixture's folder to the folder `name`.
    pub fn copy(&self, from: &Path, name: impl AsRef<Path>) -> PathBuf {
        for (file, bytes) in files(from) {
            self.write(name.as_ref().join(file), bytes);
        }
        self.path(name)
    }

    /// The program with `words` as arguments, isolated from the environment of the tests.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_touchstone"));
        self.prepare(&mut command);
        command.args(words.split_whitespace());
        command
    }

    /// Prepares `command` to run in this folder.
    pub fn prepare(&self, command: &mut Command) {
        let outer = [
            "TOUCHSTONE_STORE",
            "TOUCHSTONE_REPORTS",
            "TOUCHSTONE_DEVICE",
            "TOUCHSTONE_JOBS",
        ];
        for variable in
            outer
                .into_iter()
                .chain(["CLICOLOR_FORCE", "FORCE_COLOR", "COLUMNS", "NO_GRAPHICS"])
        {
            command.env_remove(variable);
        }
        command
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
    }

    pub fn run(&self, words: &str) -> Said {
        Said::from(self.command(words).output().unwrap())
    }

    /// Runs the program as [`run`](Self::run) does, and panics unless it succeeds.
    pub fn succeed(&self, words: &str) -> Said {
        let said = self.run(words);
        assert_eq!(
            said.code,
            Some(0),
            "touchstone {words}\n{}\n{}",
            said.out,
            said.err
        );
        said
    }
}

impl Said {
    /// The message of a failure, without the terminal's line breaks.
    pub fn told(&self) -> String {
        let text = self.err.replace('│', " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// A stage as printed by `plan --stages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The first 12 digits of the key.
    pub key: String,
    pub kind: String,
    pub done: bool,
}

/// The stages in the output of `plan --stages`.
pub fn planned_stages(printed: &str) -> Vec<Planned> {
    let stage = |line: &str| {
        // A label may contain spaces.
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_key =
            |word: &&str| word.len() == 12 && word.bytes().all(|digit| digit.is_ascii_hexdigit());
        let place = words.iter().position(is_key)?;
        let (key, kind) = (words[place].to_owned(), (*words.get(place + 1)?).to_owned());
        Some(Planned {
            key,
            kind,
            done: words.get(place + 2) == Some(&"done"),
        })
    };
    let stages: Vec<_> = printed.lines().filter_map(stage).collect();
    assert!(!stages.is_empty(), "no stage in:\n{printed}");
    stages
}

/// All files below `folder`, by relative path.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display()))
        {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(
                    path.strip_prefix(folder).unwrap().to_path_buf(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

// --- Small models ---

/// The values of a tensor.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    touchstone::model::weights::host(tensor).unwrap()
}

pub const VOCABULARY: u32 = 40;
/// The token that ends a response; padding has the id 0, which is also an ordinary token.
pub const EOS: u32 = 1;

/// The device of the models in tests: the default one, unless `TOUCHSTONE_TEST_DEVICE` names
/// another.
pub fn cpu() -> Device {
    let named = std::env::var("TOUCHSTONE_TEST_DEVICE");
    touchstone::device::select(
        named.map_or(touchstone::device::DEFAULT, |name| name.parse().unwrap()),
    )
    .unwrap()
}

thread_local! {
    static ARCHITECTURE: Cell<&'static str> = const { Cell::new("gpt_neox") };
}

/// Runs `test` once for GPT-NeoX and for members of the Llama family that together cover all
/// differences within it; [`small_model`] then has that architecture.
pub fn on_every_architecture(test: impl Fn(&str)) {
    for architecture in ["gpt_neox", "mistral", "qwen2", "qwen3", "olmo2"] {
        ARCHITECTURE.set(architecture);
        let passed = catch_unwind(AssertUnwindSafe(|| test(architecture)));
        ARCHITECTURE.set("gpt_neox");
        assert!(passed.is_ok(), "failed on the architecture {architecture}");
    }
}

pub fn small_config() -> DecoderConfig {
    let architecture = ARCHITECTURE.get();
    let mut keys = serde_json::json!({
        "model_type": architecture, "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64, "eos_token_id": EOS,
    });
    if architecture != "gpt_neox" {
        let grouped = serde_json::json!({
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 5,
            "use_sliding_window": true, "max_window_layers": 1, "rms_norm_eps": 1e-5,
        });
        keys.as_object_mut()
            .unwrap()
            .extend(grouped.as_object().unwrap().clone());
    }
    DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "test").unwrap()
}

/// A model with random weights, large enough for a sharp distribution.
pub fn small_model(seed: u64) -> LanguageModel {
    LanguageModel::random(
        &small_config(),
        0.4,
        &mut stream(seed, "test/model", &[]),
        &cpu(),
    )
    .unwrap()
}

/// Rows of different lengths; token 0 and the end of sequence also occur in the middle of them.
pub fn rows(count: usize, seed: u64) -> Vec<Sequence> {
    let row = |index: u64| {
        let mut rng = stream(seed, "test/rows", &[index]);
        let mut tokens = |most: usize| {
            let length = rng.random_range(1..=most);
            (0..length)
                .map(|_| rng.random_range(0..VOCABULARY))
                .collect::<Vec<u32>>()
        };
        Sequence::new(tokens(12), tokens(9))
    };
    (0..count as u64).map(row).collect()
}

pub fn optimiser() -> OptimiserSettings {
    OptimiserSettings {
        learning_rate: 3e-3,
        schedule: Schedule::Linear,
        warmup_steps: 2,
        warmup_ratio: 0.0,
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-5,
        weight_decay: 0.01,
        clip_norm: 1.0,
    }
}

/// The default training in micro-batches of `rows`; 0 stands for whole batches.
pub fn micro_batches(rows: usize) -> Training {
    Training {
        micro_batch: NonZeroUsize::new(rows),
        ..Training::default()
    }
}

//! Models saved by transformers, and the numbers that it computed with them:
//! `fixtures/gpt_neox/make.py` and `fixtures/llama/make.py` wrote both.

use super::{cpu, fixture, host};
use serde::Deserialize;
use std::fs;
use std::path::Path;
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::{Batch, LanguageModel, Sequence};

/// The language models of GPT-NeoX; the fixture `reward` is a reward model and is not listed.
pub const MODELS: [&str; 7] = [
    "pythia",
    "sequential",
    "full_rotary",
    "sharded",
    "small_heads",
    "tied_bf16",
    "decoder",
];
/// The language models of the Llama family.
pub const LLAMAS: [&str; 9] = [
    "mistral",
    "mistral_heads",
    "llama2",
    "llama3",
    "llama_biases",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "olmo2",
];

/// Every language model, as a folder of the fixtures.
pub fn every_model() -> Vec<String> {
    let neox = MODELS.iter().map(|name| format!("gpt_neox/{name}"));
    neox.chain(LLAMAS.iter().map(|name| format!("llama/{name}")))
        .collect()
}
pub const TOLERANCE: f32 = 1e-4;

#[derive(Clone, Deserialize)]
pub struct Golden {
    pub rows: Vec<Row>,
    /// The most likely continuation, generated without stopping at an end of sequence.
    pub greedy: Row,
}

#[derive(Clone, Deserialize)]
pub struct Row {
    pub prompt_ids: Vec<u32>,
    pub response_ids: Vec<u32>,
    pub logprobs: Vec<f32>,
    /// Logits of the last token; empty for the greedy row.
    #[serde(default)]
    pub logits: Vec<f32>,
}

impl Golden {
    /// The golden numbers in a folder of the fixtures.
    pub fn of(model: &str) -> Self {
        let path = fixture(model).join("golden.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    pub fn all(self) -> Vec<Row> {
        self.rows.into_iter().chain([self.greedy]).collect()
    }
}

pub fn open(folder: &Path) -> LanguageModel {
    Checkpoint::open(folder)
        .unwrap()
        .language_model(&cpu())
        .unwrap()
}

/// Log-probabilities of every response token, row after row.
pub fn log_probs(model: &LanguageModel, rows: &[Row]) -> Vec<Vec<f32>> {
    let sequences: Vec<Sequence> = rows
        .iter()
        .map(|row| Sequence::new(row.prompt_ids.clone(), row.response_ids.clone()))
        .collect();
    let batch = Batch::new(&sequences, &cpu());
    let all = host(model.response_log_probs(&batch, 1.0));
    let rows = all
        .chunks(batch.response_width)
        .zip(&batch.response_lengths);
    rows.map(|(row, &length)| row[..length].to_vec()).collect()
}

pub fn edit_config(
    folder: &Path,
    edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>),
) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    edit(config.as_object_mut().unwrap());
    fs::write(&path, config.to_string()).unwrap();
}

pub fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() < TOLERANCE,
            "{what}, place {place}: {found} instead of {expected}"
        );
    }
}

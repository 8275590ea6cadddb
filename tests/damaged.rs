//! Checkpoints that are damaged, incomplete or of something else are refused by name: the file, the tensor or the key, and
//! what to do about it.

mod common;

use common::goldens::edit_config;
use common::{Bench, cpu, fixture, small_model};
use miette::Diagnostic;
use serde_json::{Map, Value, json};
use std::error::Error as _;
use std::fs;
use std::path::Path;
use touchstone::Result;
use touchstone::model::RewardModel;
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::rng::stream;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const EMBEDDING: &str = "gpt_neox.embed_in.weight";
const DENSE: &str = "gpt_neox.layers.1.attention.dense.weight";

fn edit_weights(path: &Path, edit: impl FnOnce(&mut Weights)) {
    let mut weights = Weights::read(path).unwrap();
    edit(&mut weights);
    weights.write(path, StoredAs::F32).unwrap();
}

/// Edits the text of a file's header.
fn edit_header(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let values = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..values]).unwrap();
    let edited = header.replacen(from, to, 1);
    assert_ne!(edited, header, "{from} is not in the header");
    let length = (edited.len() as u64).to_le_bytes();
    fs::write(path, [&length, edited.as_bytes(), &bytes[values..]].concat()).unwrap();
}

fn edit_bytes(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn edit_index(folder: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(folder.join(INDEX)).unwrap();
    let edited = text.replace(from, to);
    assert_ne!(edited, text);
    fs::write(folder.join(INDEX), edited).unwrap();
}

/// Damages a copy of the fixture `from` and says what opening it says.
fn refusal(from: &str, damage: impl FnOnce(&Path)) -> String {
    refused(from, damage, |checkpoint| checkpoint.language_model(&cpu()).map(|_| ()))
}

fn refused(from: &str, damage: impl FnOnce(&Path), load: impl FnOnce(Checkpoint) -> Result<()>) -> String {
    let bench = Bench::new();
    let folder = bench.copy(&fixture("gpt_neox").join(from), "model");
    damage(&folder);
    let error = Checkpoint::open(&folder).and_then(load).expect_err("a damaged checkpoint was loaded");
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!("\n  because {inner}"));
        cause = inner.source();
    }
    if let Some(hint) = error.help() {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text.replace(&folder.display().to_string(), "model")
}

fn listed(told: &[(&str, String)]) -> String {
    told.iter().map(|(what, text)| format!("{what}:\n{text}\n")).collect::<Vec<_>>().join("\n")
}

#[test]
fn other_tensors_than_the_model_has() {
    let weights = |edit: fn(&mut Weights)| refusal("full_rotary", |folder| edit_weights(&folder.join(SINGLE), edit));
    let told = [
        ("a missing tensor", weights(|w| w.ignore(DENSE))),
        ("a tensor too many", weights(|w| w.insert("adapter.weight", &[2], vec![0.0; 2]))),
        ("a tensor of another shape", weights(|w| w.insert(DENSE, &[16, 8], vec![0.0; 128]))),
        (
            "names with and without prefix",
            weights(|w| w.rename(|name| name.replace("gpt_neox.layers.1", "layers.1")).unwrap()),
        ),
        (
            "a buffer of a layer that is not there",
            weights(|w| w.insert("gpt_neox.layers.2.attention.bias", &[1], vec![0.0])),
        ),
        (
            "a tied head that is not the embedding",
            refusal("full_rotary", |folder| {
                edit_config(folder, |c| drop(c.insert("tie_word_embeddings".into(), json!(true))));
            }),
        ),
        ("no weights", refusal("full_rotary", |folder| fs::remove_file(folder.join(SINGLE)).unwrap())),
        (
            "weights that are called pickled and are not",
            refusal("full_rotary", |folder| {
                fs::rename(folder.join(SINGLE), folder.join("pytorch_model.bin")).unwrap();
            }),
        ),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn damaged_pickles() {
    let bytes = |edit: fn(&mut Vec<u8>)| {
        let damage = |folder: &Path| edit_bytes(&folder.join("pytorch_model.bin"), edit);
        refused("scalar", damage, |checkpoint| checkpoint.reward_model(&cpu()).map(|_| ()))
    };
    for (what, told) in [
        ("cut short", bytes(|b| b.truncate(b.len() / 2))),
        ("empty", bytes(|b| b.clear())),
        ("no pickle", bytes(|b| b.fill(b'x'))),
        (
            "bytes of a tensor turned",
            bytes(|b| {
                let middle = b.len() / 2;
                b[middle] ^= 0xff;
            }),
        ),
    ] {
        assert!(told.contains("pytorch_model.bin"), "{what}: {told}");
    }
}

#[test]
fn damaged_files() {
    let bytes = |edit: fn(&mut Vec<u8>)| refusal("full_rotary", |folder| edit_bytes(&folder.join(SINGLE), edit));
    let header = |from, to| refusal("full_rotary", |folder| edit_header(&folder.join(SINGLE), from, to));
    let told = [
        ("cut short in the values", bytes(|b| b.truncate(b.len() - 100))),
        ("cut short in the header", bytes(|b| b.truncate(1000))),
        ("cut short in the length", bytes(|b| b.truncate(5))),
        ("empty", bytes(|b| b.clear())),
        ("longer than it should be", bytes(|b| b.extend([0; 4]))),
        ("a bit of the length turned, high", bytes(|b| b[6] ^= 1)),
        ("a bit of the length turned, low", bytes(|b| b[0] ^= 8)),
        ("a bit of the header's frame turned", bytes(|b| b[8] ^= 1)),
        ("a header that is no text", bytes(|b| b[100] |= 0x80)),
        ("a tensor renamed", header("embed_in", "embed_im")),
        ("two tensors of one name", header("layers.0.attention.dense.bias", "layers.1.attention.dense.bias")),
        ("tensors that overlap", header("[2560,5120]", "[2556,5120]")),
        ("a gap between tensors", header("[2560,5120]", "[2564,5120]")),
        ("an end before the beginning", header("[2560,5120]", "[5120,2560]")),
        ("a shape that does not fill its bytes", header("[40,16]", "[41,16]")),
        ("a shape beyond any memory", header("[40,16]", "[4611686018427387904,16]")),
        ("a place beyond any file", header("[0,2560]", "[0,18446744073709551615]")),
        ("a shape turned around", header("[40,16]", "[16,40]")),
        ("another type of the same size", header("F32", "I32")),
        ("another type of another size", header("F32", "F64")),
        ("a type that there is not", header("F32", "F33")),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn shards_that_do_not_fit_together() {
    let told = [
        ("a missing shard", refusal("sharded", |folder| fs::remove_file(folder.join(SECOND)).unwrap())),
        (
            "a renamed shard",
            refusal("sharded", |folder| fs::rename(folder.join(FIRST), folder.join("first.safetensors")).unwrap()),
        ),
        (
            "shards that changed places",
            refusal("sharded", |folder| {
                let [first, second] = [FIRST, SECOND].map(|name| fs::read(folder.join(name)).unwrap());
                fs::write(folder.join(FIRST), second).unwrap();
                fs::write(folder.join(SECOND), first).unwrap();
            }),
        ),
        (
            "a shard cut short",
            refusal("sharded", |folder| edit_bytes(&folder.join(SECOND), |bytes| bytes.truncate(bytes.len() - 1))),
        ),
        (
            "a tensor of another shape",
            refusal("sharded", |folder| edit_header(&folder.join(FIRST), "[48,16]", "[16,48]")),
        ),
        (
            "a tensor that is not where the index says",
            refusal("sharded", |folder| {
                let place = format!(r#""{EMBEDDING}": "model-00001"#);
                edit_index(folder, &place, &place.replace("00001", "00002"));
            }),
        ),
        (
            "a tensor in two shards",
            refusal("sharded", |folder| {
                edit_weights(&folder.join(SECOND), |weights| weights.insert(EMBEDDING, &[1], vec![0.0]));
            }),
        ),
        (
            "a tensor that the index does not name",
            refusal("sharded", |folder| {
                edit_weights(&folder.join(SECOND), |weights| weights.insert("adapter.weight", &[1], vec![0.0]));
            }),
        ),
        (
            "an index with another total",
            refusal("sharded", |folder| edit_index(folder, r#""total_size": "#, r#""total_size": 1"#)),
        ),
        (
            "an index that points elsewhere",
            refusal("sharded", |folder| edit_index(folder, "model-00002", "../model-00002")),
        ),
        ("an index that is none", refusal("sharded", |folder| fs::write(folder.join(INDEX), "{}").unwrap())),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn the_other_head() {
    let as_reward = |from| refused(from, |_| (), |checkpoint| checkpoint.reward_model(&cpu()).map(|_| ()));
    let reward = RewardModel::on(&small_model(3), 2.5, &mut stream(3, "test/head", &[]));
    let untied = |folder: &Path| edit_config(folder, |c| drop(c.insert("tie_word_embeddings".into(), json!(false))));
    insta::assert_snapshot!(listed(&[
        ("a language model as reward", as_reward("full_rotary")),
        ("a tied language model as reward", as_reward("tied_bf16")),
        ("a reward model as language model", refusal("reward", |_| ())),
        (
            "a reward model that was saved here",
            refusal("full_rotary", |folder| {
                let tokenizer = fixture("tldr/tokenizer.json");
                Checkpoint::save_reward_model(folder, &reward, &Normalisation::none(0.0), &tokenizer).unwrap();
            })
        ),
        ("a decoder alone as language model", refusal("decoder", untied)),
        (
            "two heads",
            refusal("full_rotary", |folder| {
                edit_weights(&folder.join(SINGLE), |w| w.insert("score.weight", &[1, 16], vec![0.0; 16]));
            })
        ),
    ]));
}

#[test]
fn configurations_that_would_be_computed_wrongly() {
    let config = |edit: fn(&mut Map<String, Value>)| refusal("full_rotary", |folder| edit_config(folder, edit));
    let with = |key: &str, value: Value| {
        refusal("full_rotary", |folder| edit_config(folder, |c| drop(c.insert(key.into(), value))))
    };
    let told = [
        ("another architecture", with("model_type", json!("llama"))),
        ("no architecture", config(|c| drop(c.remove("model_type")))),
        ("another activation", with("hidden_act", json!("gelu_new"))),
        ("no biases in attention", with("attention_bias", json!(false))),
        ("scaled rotary angles", with("rope_scaling", json!({"type": "linear", "factor": 2.0}))),
        ("scaled rotary angles, newer", with("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 100}))),
        ("scaled rotary angles of no type", with("rope_scaling", json!({"factor": 2.0}))),
        ("two rotary bases", with("rope_theta", json!(10_000))),
        ("two rotary shares", with("rope_parameters", json!({"partial_rotary_factor": 0.5}))),
        (
            "a rotary share above one",
            config(|c| {
                c.remove("partial_rotary_factor");
                c.insert("rotary_pct".into(), json!(1.5));
            }),
        ),
        ("heads that do not divide", with("num_attention_heads", json!(3))),
        ("no heads", with("num_attention_heads", json!(0))),
        ("a missing key", config(|c| drop(c.remove("vocab_size")))),
        ("a key of another kind", with("hidden_size", json!("16"))),
        ("another size than the weights", with("vocab_size", json!(41))),
        ("more layers than the weights", with("num_hidden_layers", json!(3))),
        ("fewer layers than the weights", with("num_hidden_layers", json!(1))),
        ("no keys", refusal("full_rotary", |folder| fs::write(folder.join("config.json"), "[]").unwrap())),
        ("no JSON", refusal("full_rotary", |folder| fs::write(folder.join("config.json"), "{").unwrap())),
        ("no configuration", refusal("full_rotary", |folder| fs::remove_file(folder.join("config.json")).unwrap())),
    ];
    insta::assert_snapshot!(listed(&told));
}

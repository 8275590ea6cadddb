//! Checkpoints of transformers are read, computed and written as transformers does; what is damaged is refused by name.
//! `fixtures/gpt_neox/make.py` wrote the models and, with transformers, the numbers that they must give.

mod common;

use common::{Bench, cpu, files, fixture, small_model};
use miette::Diagnostic;
use serde::Deserialize;
use serde_json::{Value, json};
use std::error::Error as _;
use std::fs;
use std::path::Path;
use touchstone::Result;
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::{StoredAs, Weights, host};
use touchstone::model::{Batch, LanguageModel, RewardModel, Sequence};
use touchstone::rng::stream;

const MODELS: [&str; 5] = ["pythia", "sequential", "full_rotary", "sharded", "small_heads"];
const TOLERANCE: f32 = 1e-4;

#[derive(Clone, Deserialize)]
struct Golden {
    rows: Vec<Row>,
    /// The most likely continuation, written without regard to an end of sequence.
    greedy: Row,
}

#[derive(Clone, Deserialize)]
struct Row {
    prompt_ids: Vec<u32>,
    response_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

impl Golden {
    fn of(model: &str) -> Self {
        let path = fixture("gpt_neox").join(model).join("golden.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    fn all(self) -> Vec<Row> {
        self.rows.into_iter().chain([self.greedy]).collect()
    }
}

fn open(folder: &Path) -> LanguageModel {
    Checkpoint::open(folder).unwrap().language_model(&cpu()).unwrap()
}

/// Log-probabilities of every response token, row after row.
fn log_probs(model: &LanguageModel, rows: &[Row]) -> Vec<Vec<f32>> {
    let sequences: Vec<Sequence> =
        rows.iter().map(|row| Sequence::new(row.prompt_ids.clone(), row.response_ids.clone())).collect();
    let batch = Batch::new(&sequences, &cpu());
    let all = host(model.response_log_probs(&batch, 1.0));
    let rows = all.chunks(batch.response_width).zip(&batch.response_lengths);
    rows.map(|(row, &length)| row[..length].to_vec()).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < TOLERANCE, "{what}, token {place}: {found} instead of {expected}");
    }
}

#[test]
fn the_library_computes_what_transformers_computes() {
    for name in MODELS {
        let (model, rows) = (open(&fixture("gpt_neox").join(name)), Golden::of(name).all());
        for (row, found) in rows.iter().zip(log_probs(&model, &rows)) {
            assert_close(&found, &row.logprobs, name);
        }
    }
}

#[test]
fn score_gives_the_same_at_any_batch_size() {
    let bench = Bench::new();
    for name in MODELS {
        let rows = Golden::of(name).all();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                json!({"prompt_ids": row.prompt_ids, "response_ids": row.response_ids, "note": name}).to_string()
            })
            .collect();
        bench.write("rows.jsonl", lines.join("\n"));
        let model = fixture("gpt_neox").join(name);
        for batch in [1, 4, 32] {
            let words =
                format!("score --input rows.jsonl --output out.jsonl --batch {batch} --model {}", model.display());
            bench.succeed(&words);
            let scored: Vec<Value> =
                bench.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(scored.len(), rows.len());
            for (scored, row) in scored.iter().zip(&rows) {
                let found: Vec<f32> = serde_json::from_value(scored["token_logprobs"].clone()).unwrap();
                assert_close(&found, &row.logprobs, &format!("{name}, batch {batch}"));
                let sum: f32 = row.logprobs.iter().sum();
                assert!((scored["logprob"].as_f64().unwrap() as f32 - sum).abs() < TOLERANCE * 24.0);
                assert_eq!(scored["note"], name, "other keys of a row are kept");
            }
        }
    }
}

#[test]
fn generate_continues_as_transformers_does() {
    let bench = Bench::new();
    for name in MODELS {
        let greedy = Golden::of(name).greedy;
        // A second, longer row makes the first one padded.
        let longer = Golden::of(name).rows.pop().unwrap();
        let row = |ids: &[u32]| json!({"prompt_ids": ids}).to_string();
        bench.write("rows.jsonl", [row(&greedy.prompt_ids), row(&longer.prompt_ids)].join("\n"));
        let (model, count) = (fixture("gpt_neox").join(name), greedy.response_ids.len());
        bench.succeed(&format!(
            "generate --temperature 0 --max-new-tokens {count} --input rows.jsonl --output out.jsonl --model {}",
            model.display()
        ));
        let first: Value = serde_json::from_str(bench.read("out.jsonl").lines().next().unwrap()).unwrap();
        let found: Vec<u32> = serde_json::from_value(first["response_ids"].clone()).unwrap();
        // config.json names token 0 as the end; we stop there, the fixture did not.
        let end = greedy.response_ids.iter().position(|&id| id == 0).map_or(count, |end| end + 1);
        assert_eq!(found, greedy.response_ids[..end], "{name}");
        assert_eq!(first["ended"], end < count, "{name}");
    }
}

#[test]
fn rotary_keys_are_read_where_any_version_of_transformers_writes_them() {
    let bench = Bench::new();
    let golden = Golden::of("full_rotary").all();
    let moved = json!({"rope_type": "default", "partial_rotary_factor": 1.0, "rope_theta": 100.0});
    let spellings = [
        json!({"rotary_pct": 1.0, "rotary_emb_base": 100}),
        json!({"partial_rotary_factor": 1.0, "rope_theta": 100}),
        json!({"rotary_pct": 1.0, "rotary_emb_base": 100, "partial_rotary_factor": 1.0, "rope_theta": 100}),
        json!({"rope_parameters": moved}),
    ];
    for (index, spelling) in spellings.iter().enumerate() {
        let folder = bench.copy(&fixture("gpt_neox/full_rotary"), format!("model-{index}"));
        edit_config(&folder, |config| {
            for key in ["rotary_pct", "rotary_emb_base", "partial_rotary_factor", "rope_theta", "rope_scaling"] {
                config.remove(key);
            }
            config.extend(spelling.as_object().unwrap().clone());
        });
        for (row, found) in golden.iter().zip(log_probs(&open(&folder), &golden)) {
            assert_close(&found, &row.logprobs, &spelling.to_string());
        }
    }
}

// --- Saving ---

/// Saves where a tokenizer lies, since a model folder without one cannot be used on text.
fn save(folder: &Path, model: &LanguageModel, stored_as: StoredAs) {
    let tokenizer = folder.with_extension("tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    Checkpoint::save_language_model(folder, model, &tokenizer, stored_as).unwrap();
}

#[test]
fn what_is_saved_loads_with_identical_results() {
    let bench = Bench::new();
    for name in MODELS {
        let rows = Golden::of(name).all();
        let model = open(&fixture("gpt_neox").join(name));
        let expected = log_probs(&model, &rows);
        save(&bench.path(name), &model, StoredAs::F32);
        assert_eq!(log_probs(&open(&bench.path(name)), &rows), expected, "{name}");
        // Saved over itself, nothing moves either.
        let files_before = files(&bench.path(name));
        save(&bench.path(name), &open(&bench.path(name)), StoredAs::F32);
        assert_eq!(files(&bench.path(name)), files_before, "{name}");
    }
    // These weights come from f16, which therefore holds them exactly.
    let model = open(&fixture("gpt_neox/pythia"));
    save(&bench.path("half"), &model, StoredAs::F16);
    let rows = Golden::of("pythia").all();
    assert_eq!(log_probs(&open(&bench.path("half")), &rows), log_probs(&model, &rows));
    let size = |folder: &str| fs::metadata(bench.path(folder).join("model.safetensors")).unwrap().len();
    assert!(size("half") < size("pythia") * 6 / 10, "f16 takes half the room");
}

fn reward_model() -> RewardModel {
    RewardModel::on(&small_model(3), 2.5, &mut stream(3, "test/head", &[]))
}

#[test]
fn a_reward_model_keeps_its_head_its_bound_and_its_normalisation() {
    let bench = Bench::new();
    let model = reward_model();
    let normalisation = Normalisation { mean: 0.25, std: 1.5, low: -2.0, bound: 2.5 };
    let tokenizer = bench.write("tokenizer.json", "{}");
    Checkpoint::save_reward_model(&bench.path("reward"), &model, &normalisation, &tokenizer).unwrap();
    let (loaded, found) = Checkpoint::open(bench.path("reward")).unwrap().reward_model(&cpu()).unwrap();
    assert_eq!(found, normalisation);
    let batch = Batch::new(&common::rows(9, 1), &cpu());
    assert_eq!(host(loaded.scores(&batch)), host(model.scores(&batch)));

    bench.write("rows.jsonl", json!({"prompt_ids": [5, 6, 7], "response_ids": [8, 1]}).to_string());
    bench.succeed("score --kind reward --model reward --input rows.jsonl --output out.jsonl");
    let scored: Value = serde_json::from_str(&bench.read("out.jsonl")).unwrap();
    let row = Batch::new(&[Sequence::new(vec![5, 6, 7], vec![8, 1])], &cpu());
    let raw = host(model.scores(&row))[0];
    assert!((scored["raw_reward"].as_f64().unwrap() as f32 - raw).abs() < 1e-6);
    assert!((scored["reward"].as_f64().unwrap() as f32 - (raw - 0.25) / 1.5).abs() < 1e-6);
}

// --- What is refused ---

fn edit_config(folder: &Path, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    edit(config.as_object_mut().unwrap());
    fs::write(&path, config.to_string()).unwrap();
}

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut Weights)) {
    let path = folder.join("model.safetensors");
    let mut weights = Weights::read(&path).unwrap();
    edit(&mut weights);
    weights.write(&path, StoredAs::F32).unwrap();
}

fn edit_index(folder: &Path, edit: impl FnOnce(String) -> String) {
    let path = folder.join("model.safetensors.index.json");
    let text = fs::read_to_string(&path).unwrap();
    let edited = edit(text.clone());
    assert_ne!(edited, text);
    fs::write(&path, edited).unwrap();
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

#[test]
fn damaged_weights_are_refused_by_name() {
    let dense = "gpt_neox.layers.1.attention.dense.weight";
    let told = [
        ("a missing tensor", refusal("full_rotary", |f| edit_weights(f, |weights| weights.ignore(dense)))),
        (
            "a tensor too many",
            refusal("full_rotary", |f| edit_weights(f, |w| w.insert("adapter.weight", &[2], vec![0.0; 2]))),
        ),
        (
            "a tensor of another shape",
            refusal("full_rotary", |f| edit_weights(f, |w| w.insert(dense, &[16, 8], vec![0.0; 128]))),
        ),
        (
            "a file cut short",
            refusal("full_rotary", |folder| {
                let path = folder.join("model.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
            }),
        ),
        ("an empty file", refusal("full_rotary", |folder| fs::write(folder.join("model.safetensors"), "").unwrap())),
        ("no weights", refusal("full_rotary", |folder| fs::remove_file(folder.join("model.safetensors")).unwrap())),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn the_other_head_is_refused() {
    let as_reward = refused("full_rotary", |_| (), |checkpoint| checkpoint.reward_model(&cpu()).map(|_| ()));
    let as_lm = refusal("full_rotary", |folder| {
        fs::write(folder.join("tokenizer.json"), "{}").unwrap();
        let tokenizer = folder.join("tokenizer.json");
        Checkpoint::save_reward_model(folder, &reward_model(), &Normalisation::none(0.0), &tokenizer).unwrap();
    });
    insta::assert_snapshot!(listed(&[
        ("a language model as reward", as_reward),
        ("a reward model as language model", as_lm)
    ]));
}

#[test]
fn shards_that_do_not_fit_together_are_refused() {
    let second = "model-00002-of-00002.safetensors";
    let told = [
        ("a missing shard", refusal("sharded", |folder| fs::remove_file(folder.join(second)).unwrap())),
        (
            "a tensor that is not where the index says",
            refusal("sharded", |folder| {
                let tensor = r#""gpt_neox.embed_in.weight": "model-00001"#;
                edit_index(folder, |text| text.replace(tensor, &tensor.replace("00001", "00002")));
            }),
        ),
        (
            "a tensor in two shards",
            refusal("sharded", |folder| {
                let mut weights = Weights::read(&folder.join(second)).unwrap();
                weights.insert("gpt_neox.embed_in.weight", &[1], vec![0.0]);
                weights.write(&folder.join(second), StoredAs::F32).unwrap();
            }),
        ),
        (
            "an index that points elsewhere",
            refusal("sharded", |folder| {
                edit_index(folder, |text| text.replace("model-00002", "../model-00002"));
            }),
        ),
        ("an index that is none", refusal("sharded", |folder| edit_index(folder, |_| "{}".into()))),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn configurations_that_would_be_computed_wrongly_are_refused() {
    let config =
        |edit: fn(&mut serde_json::Map<String, Value>)| refusal("full_rotary", |folder| edit_config(folder, edit));
    let told = [
        (
            "another architecture",
            config(|c| {
                c.insert("model_type".into(), json!("llama"));
            }),
        ),
        (
            "no architecture",
            config(|c| {
                c.remove("model_type");
            }),
        ),
        (
            "another activation",
            config(|c| {
                c.insert("hidden_act".into(), json!("gelu_new"));
            }),
        ),
        (
            "scaled rotary angles",
            config(|c| {
                c.insert("rope_scaling".into(), json!({"type": "linear", "factor": 2.0}));
            }),
        ),
        (
            "heads that do not divide",
            config(|c| {
                c.insert("num_attention_heads".into(), json!(3));
            }),
        ),
        (
            "a missing key",
            config(|c| {
                c.remove("vocab_size");
            }),
        ),
        (
            "another size than the weights",
            config(|c| {
                c.insert("vocab_size".into(), json!(41));
            }),
        ),
        ("no configuration", refusal("full_rotary", |folder| fs::remove_file(folder.join("config.json")).unwrap())),
    ];
    insta::assert_snapshot!(listed(&told));
}

fn listed(told: &[(&str, String)]) -> String {
    told.iter().map(|(what, text)| format!("{what}:\n{text}\n")).collect::<Vec<_>>().join("\n")
}

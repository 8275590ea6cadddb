//! Tests that checkpoints of transformers are read, computed and written as transformers does.
//! `fixtures/gpt_neox/make.py` and `fixtures/llama/make.py` wrote the models and, with
//! transformers, the expected numbers. Damaged checkpoints are tested in `damaged.rs`.

mod common;

use common::goldens::{
    Golden, LLAMAS, Row, TOLERANCE, assert_close, edit_config, every_model, log_probs, open,
};
use common::{Bench, cpu, files, fixture, host, small_model};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use touchstone::ErrorKind;
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::model::{Batch, LanguageModel, Packed, RewardModel, Sequence};
use touchstone::rng::stream;

#[test]
fn the_library_computes_what_transformers_computes() {
    for name in every_model() {
        let (model, rows) = (open(&fixture(&name)), Golden::of(&name).all());
        for (row, found) in rows.iter().zip(log_probs(&model, &rows)) {
            assert_close(&found, &row.logprobs, &name);
        }
    }
}

/// The batch is padded on the left; transformers padded on the right.
#[test]
fn every_logit_is_that_of_transformers_in_a_padded_batch() {
    for name in every_model() {
        let (model, rows) = (open(&fixture(&name)), Golden::of(&name).rows);
        let whole = |row: &Row| [row.prompt_ids.as_slice(), &row.response_ids].concat();
        // The logits after a row depend only on the row, so any response token will do.
        let sequences: Vec<_> = rows
            .iter()
            .map(|row| Sequence::new(whole(row), vec![0]))
            .collect();
        let states = model.response_states(&Batch::new(&sequences, &cpu()));
        let logits = host(model.logits(states));
        for (found, row) in logits.chunks(model.config().vocab_size()).zip(&rows) {
            assert_close(found, &row.logits, &name);
        }
    }
}

#[test]
fn reward_models_of_others_give_the_same_scores() {
    #[derive(Deserialize)]
    struct Scored {
        prompt_ids: Vec<u32>,
        response_ids: Vec<u32>,
        score: f32,
    }
    #[derive(Deserialize)]
    struct Golden {
        rows: Vec<Scored>,
    }
    // The scalar model's normalisation includes the bias of its head (0.75) and the offset in its
    // config.json (-1.5).
    let models = [
        ("gpt_neox/reward", 0.0),
        ("gpt_neox/scalar", -2.25),
        ("llama/llama_reward", 0.0),
        ("llama/qwen3_reward", 0.0),
    ];
    for (name, mean) in models {
        let folder = fixture(name);
        let Golden { rows } =
            serde_json::from_str(&fs::read_to_string(folder.join("golden.json")).unwrap()).unwrap();
        let (model, normalisation) = Checkpoint::open(folder)
            .unwrap()
            .reward_model(&cpu())
            .unwrap();
        assert_eq!(
            normalisation,
            Normalisation {
                mean,
                ..Normalisation::none(0.0)
            }
        );
        let sequence =
            |row: &Scored| Sequence::new(row.prompt_ids.clone(), row.response_ids.clone());
        let sequences: Vec<Sequence> = rows.iter().map(sequence).collect();
        let padded = model.scores(&Batch::new(&sequences, &cpu()));
        let packed = model.rewards(&Packed::new(&sequences, &cpu()));
        let expected: Vec<f32> = rows.iter().map(|row| row.score).collect();
        for scores in [padded, packed].map(host) {
            let scores: Vec<f32> = scores
                .into_iter()
                .map(|score| normalisation.apply(score))
                .collect();
            assert_close(&scores, &expected, name);
        }
    }
}

#[test]
fn a_pickled_reward_model_becomes_one_of_transformers() {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox/scalar"), "scalar");
    bench.succeed("model convert scalar plain --dtype f16");
    let (was, now) = (
        Checkpoint::open(bench.path("scalar")).unwrap(),
        Checkpoint::open(bench.path("plain")).unwrap(),
    );
    let (config, description) = (
        bench.read("plain/config.json"),
        bench.read("plain/reward.json"),
    );
    assert!(
        config.contains("GPTNeoXForSequenceClassification") && !config.contains("ScalarModel"),
        "{config}"
    );
    assert!(description.contains("-2.25"), "{description}");
    let ((was, before), (now, after)) = (
        was.reward_model(&cpu()).unwrap(),
        now.reward_model(&cpu()).unwrap(),
    );
    assert_eq!(before, after);
    let rows = [
        Sequence::new(vec![3, 1, 4], vec![1, 5]),
        Sequence::new(vec![9], vec![2, 6, 5, 3]),
    ];
    let scores = |model: &RewardModel| host(model.scores(&Batch::new(&rows, &cpu())));
    for (was, now) in scores(&was).iter().zip(scores(&now)) {
        // f16 has eleven significant bits.
        assert!((was - now).abs() < 2e-2, "{was} became {now}");
    }
}

#[test]
fn score_gives_the_same_at_any_batch_size() {
    let bench = Bench::new();
    for name in every_model() {
        let rows = Golden::of(&name).all();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                json!({"prompt_ids": row.prompt_ids, "response_ids": row.response_ids, "note": name}).to_string()
            })
            .collect();
        bench.write("rows.jsonl", lines.join("\n"));
        let model = fixture(&name);
        for batch in [1, 4, 32] {
            let words = format!(
                "score --input rows.jsonl --output out.jsonl --batch {batch} --model {}",
                model.display()
            );
            bench.succeed(&words);
            let scored: Vec<Value> = bench
                .read("out.jsonl")
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(scored.len(), rows.len());
            for (scored, row) in scored.iter().zip(&rows) {
                let found: Vec<f32> =
                    serde_json::from_value(scored["token_logprobs"].clone()).unwrap();
                assert_close(&found, &row.logprobs, &format!("{name}, batch {batch}"));
                let sum: f32 = row.logprobs.iter().sum();
                assert!(
                    (scored["logprob"].as_f64().unwrap() as f32 - sum).abs() < TOLERANCE * 24.0
                );
                assert_eq!(scored["note"], name, "other keys of a row are kept");
            }
        }
    }
}

#[test]
fn generate_continues_as_transformers_does() {
    let bench = Bench::new();
    for name in every_model() {
        let greedy = Golden::of(&name).greedy;
        // The second, longer row forces padding onto the first.
        let longer = Golden::of(&name).rows.pop().unwrap();
        let row = |ids: &[u32]| json!({"prompt_ids": ids}).to_string();
        bench.write(
            "rows.jsonl",
            [row(&greedy.prompt_ids), row(&longer.prompt_ids)].join("\n"),
        );
        let (model, count) = (fixture(&name), greedy.response_ids.len());
        bench.succeed(&format!(
            "generate --temperature 0 --max-new-tokens {count} --input rows.jsonl --output out.jsonl --model {}",
            model.display()
        ));
        let first: Value =
            serde_json::from_str(bench.read("out.jsonl").lines().next().unwrap()).unwrap();
        let found: Vec<u32> = serde_json::from_value(first["response_ids"].clone()).unwrap();
        // config.json names token 0 as the end, where generation stops; the fixture was made
        // without stopping.
        let end = greedy
            .response_ids
            .iter()
            .position(|&id| id == 0)
            .map_or(count, |end| end + 1);
        assert_eq!(found, greedy.response_ids[..end], "{name}");
        assert_eq!(first["ended"], end < count, "{name}");
    }
}

#[test]
fn rotary_keys_are_read_where_any_version_of_transformers_writes_them() {
    let bench = Bench::new();
    let golden = Golden::of("gpt_neox/full_rotary").all();
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
            for key in [
                "rotary_pct",
                "rotary_emb_base",
                "partial_rotary_factor",
                "rope_theta",
                "rope_scaling",
            ] {
                config.remove(key);
            }
            config.extend(spelling.as_object().unwrap().clone());
        });
        for (row, found) in golden.iter().zip(log_probs(&open(&folder), &golden)) {
            assert_close(&found, &row.logprobs, &spelling.to_string());
        }
    }
}

#[test]
fn transformers_5_writes_other_keys_for_the_same_model() {
    let bench = Bench::new();
    for name in LLAMAS {
        let (folder, golden) = (
            bench.copy(&fixture("llama").join(name), name),
            Golden::of(&format!("llama/{name}")).all(),
        );
        fs::rename(folder.join("config_v5.json"), folder.join("config.json")).unwrap();
        for (row, found) in golden.iter().zip(log_probs(&open(&folder), &golden)) {
            assert_close(&found, &row.logprobs, name);
        }
    }
}

// --- Saving ---

/// Saves to a folder with a tokenizer, since a model folder without one cannot be used on text.
fn save(folder: &Path, model: &LanguageModel, stored_as: StoredAs) {
    let tokenizer = folder.with_extension("tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    Checkpoint::save_language_model(folder, model, &tokenizer, stored_as).unwrap();
}

#[test]
fn what_is_saved_loads_with_identical_results() {
    let bench = Bench::new();
    for path in every_model() {
        let (rows, model) = (Golden::of(&path).all(), open(&fixture(&path)));
        let (_, name) = path.split_once('/').unwrap();
        let expected = log_probs(&model, &rows);
        save(&bench.path(name), &model, StoredAs::F32);
        assert_eq!(
            log_probs(&open(&bench.path(name)), &rows),
            expected,
            "{name}"
        );
        // Saving a model over itself also leaves all files unchanged.
        let files_before = files(&bench.path(name));
        save(&bench.path(name), &open(&bench.path(name)), StoredAs::F32);
        assert_eq!(files(&bench.path(name)), files_before, "{name}");
    }
    // The original weights have two bytes each, so these types hold them exactly.
    for (name, stored_as) in [("pythia", StoredAs::F16), ("tied_bf16", StoredAs::Bf16)] {
        let (model, half) = (
            open(&fixture("gpt_neox").join(name)),
            format!("{name}-half"),
        );
        save(&bench.path(&half), &model, stored_as);
        let rows = Golden::of(&format!("gpt_neox/{name}")).all();
        assert_eq!(
            log_probs(&open(&bench.path(&half)), &rows),
            log_probs(&model, &rows)
        );
        let size = |folder: &str| {
            fs::metadata(bench.path(folder).join("model.safetensors"))
                .unwrap()
                .len()
        };
        assert!(
            size(&half) < size(name) * 6 / 10,
            "two bytes take half the room"
        );
    }
}

#[test]
fn weights_are_spread_over_files_by_size_and_those_before_are_gone() {
    let bench = Bench::new();
    let (model, folder) = (small_model(1), bench.path("model"));
    let weights = model.weights();
    let values = |weights: &Weights| -> Vec<_> {
        let name = |name: &str| (name.to_owned(), weights.values(name).unwrap().into_owned());
        weights.list().map(|tensor| name(tensor.name)).collect()
    };
    let names = || {
        files(&folder)
            .into_keys()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
    };
    fs::create_dir(&folder).unwrap();
    for most in [3000, 8000, u64::MAX, 100, 1] {
        weights.save(&folder, StoredAs::F32, most).unwrap();
        let found = names();
        if most == u64::MAX {
            assert_eq!(found, ["model.safetensors"]);
        } else {
            let count = found.len() - 1;
            assert!(
                count > 1 && (most > 1 || count == weights.list().count()),
                "{most}: {found:?}"
            );
            assert_eq!(found[0], format!("model-00001-of-{count:05}.safetensors"));
            assert_eq!(found[count], "model.safetensors.index.json");
            let sizes = |name: &String| -> Vec<u64> {
                let shard = Weights::read(&folder.join(name)).unwrap();
                shard
                    .list()
                    .map(|tensor| 4 * tensor.shape.iter().product::<usize>() as u64)
                    .collect()
            };
            let sizes: Vec<_> = found[..count].iter().map(sizes).collect();
            assert!(
                sizes
                    .iter()
                    .all(|file| file.len() == 1 || file.iter().sum::<u64>() <= most),
                "{sizes:?}"
            );
            assert!(
                sizes
                    .windows(2)
                    .all(|two| two[0].iter().sum::<u64>() + two[1][0] > most),
                "{sizes:?}"
            );
        }
        assert_eq!(values(&Weights::open(&folder).unwrap()), values(&weights));
    }
    // Saves in place, over the files being read.
    Weights::open(&folder)
        .unwrap()
        .save(&folder, StoredAs::F32, 5_000_000)
        .unwrap();
    assert_eq!(names(), ["model.safetensors"]);
    assert_eq!(values(&Weights::open(&folder).unwrap()), values(&weights));
}

#[test]
fn a_file_is_what_the_reference_writer_makes() {
    let bench = Bench::new();
    let path = bench.path("ours.safetensors");
    let weights = small_model(1).weights();
    weights.write(&path, StoredAs::F32).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = weights
        .list()
        .map(|t| {
            let values = weights.values(t.name).unwrap();
            (
                t.name.to_owned(),
                t.shape.to_vec(),
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let view = |shape: &[usize], bytes| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes)
            .unwrap()
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, view(shape, bytes)));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    assert!(fs::read(path).unwrap() == safetensors::serialize(views, Some(metadata)).unwrap());
}

#[test]
fn a_number_that_a_type_cannot_hold_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let mut weights = Weights::new("test");
    weights.insert("a", &[2], vec![1.0, 65_504.0]);
    weights.write(&bench.path("fits"), StoredAs::F16).unwrap();
    weights.insert("b", &[2], vec![1.0, -70_000.0]);
    let error = weights
        .write(&bench.path("large"), StoredAs::F16)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "test: tensor `b` holds -70000, which f16 cannot");
    weights.write(&bench.path("wide"), StoredAs::Bf16).unwrap();
    assert_eq!(files(&bench.path("")).len(), 2);
    weights.insert("b", &[2, 1], vec![1.0, f32::NAN]);
    for stored_as in [StoredAs::F32, StoredAs::F16, StoredAs::Bf16] {
        let error = weights
            .write(&bench.path("endless"), stored_as)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "test: tensor `b` would be saved with NaN at [1, 0]"
        );
        assert_eq!(error.kind(), ErrorKind::Divergence);
    }
    assert_eq!(files(&bench.path("")).len(), 2);
}

/// A tokenizer whose tokens are words.
fn words(vocabulary: Value) -> String {
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}});
    tokenizer.to_string()
}

fn reward_model() -> RewardModel {
    RewardModel::on(&small_model(3), 2.5, &mut stream(3, "test/head", &[]))
}

#[test]
fn a_reward_model_keeps_its_head_its_bound_and_its_normalisation() {
    let bench = Bench::new();
    let model = reward_model();
    let normalisation = Normalisation {
        mean: 0.25,
        std: 1.5,
        low: -2.0,
        bound: 2.5,
    };
    let tokenizer = bench.write("tokenizer.json", words(json!({"a": 0, "<|endoftext|>": 1})));
    Checkpoint::save_reward_model(&bench.path("reward"), &model, &normalisation, &tokenizer)
        .unwrap();
    let (loaded, found) = Checkpoint::open(bench.path("reward"))
        .unwrap()
        .reward_model(&cpu())
        .unwrap();
    assert_eq!(found, normalisation);
    let batch = Batch::new(&common::rows(9, 1), &cpu());
    assert_eq!(host(loaded.scores(&batch)), host(model.scores(&batch)));

    bench.write(
        "rows.jsonl",
        json!({"prompt_ids": [5, 6, 7], "response_ids": [8, 1]}).to_string(),
    );
    bench.succeed("score --kind reward --model reward --input rows.jsonl --output out.jsonl");
    let scored: Value = serde_json::from_str(&bench.read("out.jsonl")).unwrap();
    let row = Batch::new(&[Sequence::new(vec![5, 6, 7], vec![8, 1])], &cpu());
    let raw = host(model.scores(&row))[0];
    assert!((scored["raw_reward"].as_f64().unwrap() as f32 - raw).abs() < 1e-6);
    assert!((scored["reward"].as_f64().unwrap() as f32 - (raw - 0.25) / 1.5).abs() < 1e-6);
}

/// transformers reads a score at the last token that is not padding, so the padding token must not
/// be one that ends a row.
#[test]
fn a_reward_model_says_what_rows_may_be_padded_with() {
    let bench = Bench::new();
    // The end of a sequence is token 1, and the embedding has 40 rows.
    let padding = |vocab: Value| {
        let tokenizer = bench.write("tokenizer.json", words(vocab));
        let (folder, normalisation) = (bench.path("reward"), Normalisation::none(0.0));
        Checkpoint::save_reward_model(&folder, &reward_model(), &normalisation, &tokenizer)
            .unwrap();
        let config: Value = serde_json::from_str(&bench.read("reward/config.json")).unwrap();
        config["pad_token_id"].clone()
    };
    assert_eq!(
        padding(json!({"a": 0, "<|endoftext|>": 1, "<|padding|>": 2})),
        2,
        "the tokenizer's own"
    );
    assert_eq!(
        padding(json!({"a": 0, "<|endoftext|>": 1, "b": 7})),
        8,
        "a row that no token uses"
    );
    assert_eq!(
        padding(json!({"a": 0, "<|padding|>": 1, "b": 5})),
        6,
        "never the end of a sequence"
    );
    assert_eq!(
        padding(json!({"a": 0, "<|padding|>": 40, "b": 39})),
        Value::Null,
        "no token beyond the embedding"
    );
}

//! Tests that a damaged, incomplete or unrelated checkpoint is refused, and that the error names
//! the file, the tensor or the key and a remedy.

mod common;

use common::goldens::edit_config;
use common::{Bench, cpu, fixture, small_model};
use miette::Diagnostic;
use proptest::prelude::*;
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

/// Replaces `from` in the text of a file's header.
fn edit_header(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let values = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..values]).unwrap();
    let edited = header.replacen(from, to, 1);
    assert_ne!(edited, header, "{from} is not in the header");
    let length = (edited.len() as u64).to_le_bytes();
    fs::write(
        path,
        [&length, edited.as_bytes(), &bytes[values..]].concat(),
    )
    .unwrap();
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

/// Damages a copy of the fixture `from` and returns the error of opening it.
fn refusal(from: &str, damage: impl FnOnce(&Path)) -> String {
    refused(from, damage, |checkpoint| {
        checkpoint.language_model(&cpu()).map(|_| ())
    })
}

fn refused(
    from: &str,
    damage: impl FnOnce(&Path),
    load: impl FnOnce(Checkpoint) -> Result<()>,
) -> String {
    let bench = Bench::new();
    let folder = bench.copy(&fixture("gpt_neox").join(from), "model");
    damage(&folder);
    let error = Checkpoint::open(&folder)
        .and_then(load)
        .expect_err("a damaged checkpoint was loaded");
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
    told.iter()
        .map(|(what, text)| format!("{what}:\n{text}\n"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn other_tensors_than_the_model_has() {
    let weights = |edit: fn(&mut Weights)| {
        refusal("full_rotary", |folder| {
            edit_weights(&folder.join(SINGLE), edit)
        })
    };
    let told = [
        ("a missing tensor", weights(|w| w.ignore(DENSE))),
        (
            "a tensor too many",
            weights(|w| w.insert("adapter.weight", &[2], vec![0.0; 2])),
        ),
        (
            "a tensor of another shape",
            weights(|w| w.insert(DENSE, &[16, 8], vec![0.0; 128])),
        ),
        (
            "names with and without prefix",
            weights(|w| {
                w.rename(|name| name.replace("gpt_neox.layers.1", "layers.1"))
                    .unwrap()
            }),
        ),
        (
            "a buffer of a layer that is not there",
            weights(|w| w.insert("gpt_neox.layers.2.attention.bias", &[1], vec![0.0])),
        ),
        (
            "a tied head that is not the embedding",
            refusal("full_rotary", |folder| {
                edit_config(folder, |c| {
                    drop(c.insert("tie_word_embeddings".into(), json!(true)))
                });
            }),
        ),
        (
            "no weights",
            refusal("full_rotary", |folder| {
                fs::remove_file(folder.join(SINGLE)).unwrap()
            }),
        ),
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
        refused("scalar", damage, |checkpoint| {
            checkpoint.reward_model(&cpu()).map(|_| ())
        })
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
    let bytes = |edit: fn(&mut Vec<u8>)| {
        refusal("full_rotary", |folder| {
            edit_bytes(&folder.join(SINGLE), edit)
        })
    };
    let header = |from, to| {
        refusal("full_rotary", |folder| {
            edit_header(&folder.join(SINGLE), from, to)
        })
    };
    let told = [
        (
            "cut short in the values",
            bytes(|b| b.truncate(b.len() - 100)),
        ),
        ("cut short in the header", bytes(|b| b.truncate(1000))),
        ("cut short in the length", bytes(|b| b.truncate(5))),
        ("empty", bytes(|b| b.clear())),
        ("longer than it should be", bytes(|b| b.extend([0; 4]))),
        ("a bit of the length turned, high", bytes(|b| b[6] ^= 1)),
        ("a bit of the length turned, low", bytes(|b| b[0] ^= 8)),
        ("a bit of the header's frame turned", bytes(|b| b[8] ^= 1)),
        ("a header that is no text", bytes(|b| b[100] |= 0x80)),
        ("a tensor renamed", header("embed_in", "embed_im")),
        (
            "two tensors of one name",
            header(
                "layers.0.attention.dense.bias",
                "layers.1.attention.dense.bias",
            ),
        ),
        ("tensors that overlap", header("[2560,5120]", "[2556,5120]")),
        (
            "a gap between tensors",
            header("[2560,5120]", "[2564,5120]"),
        ),
        (
            "an end before the beginning",
            header("[2560,5120]", "[5120,2560]"),
        ),
        (
            "a shape that does not fill its bytes",
            header("[40,16]", "[41,16]"),
        ),
        (
            "a shape beyond any memory",
            header("[40,16]", "[4611686018427387904,16]"),
        ),
        (
            "a place beyond any file",
            header("[0,2560]", "[0,18446744073709551615]"),
        ),
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
        (
            "a missing shard",
            refusal("sharded", |folder| {
                fs::remove_file(folder.join(SECOND)).unwrap()
            }),
        ),
        (
            "a renamed shard",
            refusal("sharded", |folder| {
                fs::rename(folder.join(FIRST), folder.join("first.safetensors")).unwrap()
            }),
        ),
        (
            "shards that changed places",
            refusal("sharded", |folder| {
                let [first, second] =
                    [FIRST, SECOND].map(|name| fs::read(folder.join(name)).unwrap());
                fs::write(folder.join(FIRST), second).unwrap();
                fs::write(folder.join(SECOND), first).unwrap();
            }),
        ),
        (
            "a shard cut short",
            refusal("sharded", |folder| {
                edit_bytes(&folder.join(SECOND), |bytes| {
                    bytes.truncate(bytes.len() - 1)
                })
            }),
        ),
        (
            "a tensor of another shape",
            refusal("sharded", |folder| {
                edit_header(&folder.join(FIRST), "[48,16]", "[16,48]")
            }),
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
                edit_weights(&folder.join(SECOND), |weights| {
                    weights.insert(EMBEDDING, &[1], vec![0.0])
                });
            }),
        ),
        (
            "a tensor that the index does not name",
            refusal("sharded", |folder| {
                edit_weights(&folder.join(SECOND), |weights| {
                    weights.insert("adapter.weight", &[1], vec![0.0])
                });
            }),
        ),
        (
            "an index with another total",
            refusal("sharded", |folder| {
                edit_index(folder, r#""total_size": "#, r#""total_size": 1"#)
            }),
        ),
        (
            "an index that points elsewhere",
            refusal("sharded", |folder| {
                edit_index(folder, "model-00002", "../model-00002")
            }),
        ),
        (
            "an index that is none",
            refusal("sharded", |folder| {
                fs::write(folder.join(INDEX), "{}").unwrap()
            }),
        ),
    ];
    insta::assert_snapshot!(listed(&told));
}

#[test]
fn the_other_head() {
    let as_reward = |from| {
        refused(
            from,
            |_| (),
            |checkpoint| checkpoint.reward_model(&cpu()).map(|_| ()),
        )
    };
    let reward = RewardModel::on(&small_model(3), 2.5, &mut stream(3, "test/head", &[]));
    let untied = |folder: &Path| {
        edit_config(folder, |c| {
            drop(c.insert("tie_word_embeddings".into(), json!(false)))
        })
    };
    insta::assert_snapshot!(listed(&[
        ("a language model as reward", as_reward("full_rotary")),
        ("a tied language model as reward", as_reward("tied_bf16")),
        (
            "a reward model as language model",
            refusal("reward", |_| ())
        ),
        (
            "a reward model that was saved here",
            refusal("full_rotary", |folder| {
                let tokenizer = fixture("tldr/tokenizer.json");
                Checkpoint::save_reward_model(
                    folder,
                    &reward,
                    &Normalisation::none(0.0),
                    &tokenizer,
                )
                .unwrap();
            })
        ),
        (
            "a decoder alone as language model",
            refusal("decoder", untied)
        ),
        (
            "two heads",
            refusal("full_rotary", |folder| {
                edit_weights(&folder.join(SINGLE), |w| {
                    w.insert("score.weight", &[1, 16], vec![0.0; 16])
                });
            })
        ),
    ]));
}

#[test]
fn configurations_that_would_be_computed_wrongly() {
    let config = |edit: fn(&mut Map<String, Value>)| {
        refusal("full_rotary", |folder| edit_config(folder, edit))
    };
    let with = |key: &str, value: Value| {
        refusal("full_rotary", |folder| {
            edit_config(folder, |c| drop(c.insert(key.into(), value)))
        })
    };
    let told = [
        ("another architecture", with("model_type", json!("gpt2"))),
        ("no architecture", config(|c| drop(c.remove("model_type")))),
        ("another activation", with("hidden_act", json!("gelu_new"))),
        (
            "no biases in attention",
            with("attention_bias", json!(false)),
        ),
        (
            "scaled rotary angles",
            with("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ),
        (
            "scaled rotary angles, newer",
            with(
                "rope_parameters",
                json!({"rope_type": "yarn", "rope_theta": 100}),
            ),
        ),
        (
            "scaled rotary angles of no type",
            with("rope_scaling", json!({"factor": 2.0})),
        ),
        ("two rotary bases", with("rope_theta", json!(10_000))),
        (
            "two rotary shares",
            with("rope_parameters", json!({"partial_rotary_factor": 0.5})),
        ),
        (
            "a rotary share above one",
            config(|c| {
                c.remove("partial_rotary_factor");
                c.insert("rotary_pct".into(), json!(1.5));
            }),
        ),
        (
            "heads that do not divide",
            with("num_attention_heads", json!(3)),
        ),
        ("no heads", with("num_attention_heads", json!(0))),
        ("a missing key", config(|c| drop(c.remove("vocab_size")))),
        ("a key of another kind", with("hidden_size", json!("16"))),
        (
            "another size than the weights",
            with("vocab_size", json!(41)),
        ),
        (
            "more layers than the weights",
            with("num_hidden_layers", json!(3)),
        ),
        (
            "fewer layers than the weights",
            with("num_hidden_layers", json!(1)),
        ),
        (
            "no keys",
            refusal("full_rotary", |folder| {
                fs::write(folder.join("config.json"), "[]").unwrap()
            }),
        ),
        (
            "no JSON",
            refusal("full_rotary", |folder| {
                fs::write(folder.join("config.json"), "{").unwrap()
            }),
        ),
        (
            "no configuration",
            refusal("full_rotary", |folder| {
                fs::remove_file(folder.join("config.json")).unwrap()
            }),
        ),
    ];
    insta::assert_snapshot!(listed(&told));
}

// --- Files that are something else ---

/// Contents that no model file has, with a part of the expected error.
const FOREIGN: [(&[u8], &str); 7] = [
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 2113710\n",
        "git-lfs pointer",
    ),
    (
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "HTML page",
    ),
    (b"", "is empty"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xc8", "gzip file"),
    (b"7z\xbc\xaf\x27\x1c\0\x04", "7z archive"),
    (&[0; 64], "zeros"),
    (b"Entry not found, or so the server says", "Entry not found"),
];
/// Contents that no JSON file has, with a part of the expected error.
const FOREIGN_TEXT: [(&[u8], &str); 6] = [
    (b"\xef\xbb\xbf{}", "byte-order mark"),
    (b"\xff\xfe{\0}\0", "UTF-16"),
    (b"{\0\"\0a\0\"\0", "UTF-16"),
    (b"PK\x03\x04\x14\0\0\0\x08\0", "zip archive"),
    (b"{\"eos_token_id\": NaN}", "NaN"),
    (b"{\"eos_token_id\": 1,", "cut short"),
];

/// Every command that uses a model folder, as a reward model if `reward` is true.
fn commands(reward: bool) -> Vec<&'static str> {
    let mut all = vec!["model info model", "model convert model new"];
    all.push(match reward {
        true => "score --kind reward --model model --input rows.jsonl --output out.jsonl",
        false => "score --model model --input rows.jsonl --output out.jsonl",
    });
    if !reward {
        all.push("generate --model model --input rows.jsonl --output out.jsonl");
    }
    all
}

/// A bench with a copy of the fixture `from` as `model`, a tokenizer of words in it, and rows of
/// text.
fn usable(from: &str) -> Bench {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox").join(from), "model");
    let vocabulary = json!({"<|endoftext|>": 0, "<|padding|>": 1, "a": 2, "b": 3});
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null, "truncation": null,
        "padding": null, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}});
    bench.write("model/tokenizer.json", tokenizer.to_string());
    bench.write(
        "rows.jsonl",
        "{\"prompt\": \"a b\", \"response\": \"b a\"}\n",
    );
    bench
}

/// The errors of `commands`, on one line each.
fn told_by(bench: &Bench, commands: &[&str]) -> Vec<(String, Option<i32>, String)> {
    let run = |words: &&str| {
        let said = bench.run(words);
        let err = said.err.replace("\n  │ ", " ").replace("\n        ", " ");
        ((*words).to_owned(), said.code, format!("{}{err}", said.out))
    };
    commands.iter().map(run).collect()
}

#[test]
fn a_file_that_is_something_else_is_named_by_every_command() {
    let texts = [
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "tokenizer_config.json",
    ];
    let cases = texts
        .map(|name| ("full_rotary", name, true))
        .into_iter()
        .chain([
            ("full_rotary", SINGLE, false),
            ("sharded", INDEX, true),
            ("sharded", SECOND, false),
            ("scalar", "pytorch_model.bin", false),
            ("reward", "reward.json", true),
            ("reward", "special_tokens_map.json", true),
        ]);
    for (from, file, text) in cases {
        let (bench, reward) = (usable(from), matches!(from, "reward" | "scalar"));
        let more: &[_] = if text { &FOREIGN_TEXT } else { &[] };
        for (index, (bytes, part)) in FOREIGN.iter().chain(more).enumerate() {
            bench.write(format!("model/{file}"), bytes);
            // The most common contents are tried with every command, all others with one command
            // each in turn.
            let all = commands(reward);
            let some = if index == 0 {
                all
            } else {
                vec![all[index % all.len()]]
            };
            for (words, code, told) in told_by(&bench, &some) {
                // The files with ends and names of control tokens are not needed without text, and
                // `convert` copies them.
                let copied = words.contains("convert")
                    && (file == "generation_config.json" || file.contains("token"));
                if copied && code == Some(0) {
                    fs::remove_dir_all(bench.path("new")).unwrap();
                    continue;
                }
                let scalar = if words.contains("--kind reward") {
                    5
                } else {
                    code.unwrap_or(-1)
                };
                assert!(
                    matches!(code, Some(1 | 5)) && scalar != 0,
                    "{words} with {file}: {code:?} {told}"
                );
                let named = told.replace(' ', "").contains(file) && told.contains(part);
                assert!(named, "{words} with {file} does not say {part:?}: {told}");
            }
        }
    }
}

#[test]
fn a_table_or_another_archive_in_the_place_of_weights_is_named() {
    let damaged = |name: &'static str, bytes: &'static [u8]| {
        refusal("full_rotary", move |folder| {
            fs::remove_file(folder.join(SINGLE)).unwrap();
            fs::write(folder.join(name), bytes).unwrap();
        })
    };
    let told = [
        (
            "a zip archive",
            damaged(SINGLE, b"PK\x03\x04\x14\0\0\0\x08\0\0\0"),
        ),
        ("GGUF", damaged(SINGLE, b"GGUF\x03\0\0\0\0\0\0\0")),
        ("HDF5", damaged(SINGLE, b"\x89HDF\r\n\x1a\n\0\0\0\0")),
        (
            "a pickle",
            damaged(SINGLE, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j"),
        ),
        (
            "weights of TensorFlow",
            damaged("tf_model.h5", b"\x89HDF\r\n\x1a\n"),
        ),
        ("a shard without its index", damaged(FIRST, b"")),
    ];
    insta::assert_snapshot!(listed(&told));
}

// --- Numbers that are none ---

/// Overwrites one element of a tensor in a safetensors file.
fn poison(path: &Path, tensor: &str, place: usize, number: f32) {
    let bytes = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let (first, dtype) = (
        header[tensor]["data_offsets"][0].as_u64().unwrap() as usize,
        &header[tensor]["dtype"],
    );
    let number = match dtype.as_str().unwrap() {
        "F32" => number.to_le_bytes().to_vec(),
        "F16" => half::f16::from_f32(number).to_le_bytes().to_vec(),
        _ => half::bf16::from_f32(number).to_le_bytes().to_vec(),
    };
    edit_bytes(path, |bytes| {
        let place = start + first + place * number.len();
        bytes[place..place + number.len()].copy_from_slice(&number);
    });
}

#[test]
fn weights_that_are_not_finite_are_refused_by_every_command_and_listed_by_info() {
    for from in ["full_rotary", "pythia", "tied_bf16", "reward"] {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bench = usable(from);
            let path = bench.path("model").join(SINGLE);
            poison(&path, "gpt_neox.final_layer_norm.bias", 3, number);
            poison(
                &path,
                "gpt_neox.layers.0.mlp.dense_h_to_4h.weight",
                20,
                number,
            );
            for (words, code, told) in told_by(&bench, &commands(from == "reward")) {
                let (expected, names) = match words.starts_with("model info") {
                    true => (
                        1,
                        [
                            "dense_h_to_4h.weight` holds 1 numbers",
                            "final_layer_norm.bias` holds 1 numbers",
                        ],
                    ),
                    false => (5, [SINGLE, "that are not finite"]),
                };
                assert_eq!(code, Some(expected), "{words}: {told}");
                assert!(
                    names.iter().all(|name| told.contains(name)),
                    "{from}, {words}: {told}"
                );
                assert!(told.contains(" at ["), "the index: {told}");
            }
            assert!(!bench.path("out.jsonl").exists() && !bench.path("new").exists());
        }
    }
}

#[test]
fn weights_too_large_for_the_type_that_a_model_is_held_in_are_refused() {
    let bench = usable("full_rotary");
    poison(
        &bench.path("model").join(SINGLE),
        "gpt_neox.embed_in.weight",
        17,
        f32::MAX,
    );
    let checkpoint = Checkpoint::open(bench.path("model")).unwrap();
    let error = checkpoint
        .frozen_language_model(burn::tensor::FloatDType::BF16, &cpu())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("gpt_neox.embed_in.weight")
            && error.contains("bf16")
            && error.contains("[1, 1]"),
        "{error}"
    );
    for (dtype, part) in [("f16", "f16 cannot"), ("bf16", "bf16 cannot")] {
        let told = told_by(
            &bench,
            &[&format!("model convert model new --dtype {dtype}")],
        );
        assert!(told[0].1 == Some(5) && told[0].2.contains(part), "{told:?}");
    }
}

#[test]
fn computed_numbers_that_are_not_finite_are_refused_by_row_and_token() {
    // These weights are finite, but their products are not.
    let bench = usable("full_rotary");
    edit_weights(&bench.path("model").join(SINGLE), |weights| {
        for name in ["gpt_neox.final_layer_norm.weight", "embed_out.weight"] {
            let shape = weights
                .list()
                .find(|listed| listed.name == name)
                .unwrap()
                .shape
                .to_vec();
            weights.insert(name, &shape, vec![3e30; shape.iter().product()]);
        }
    });
    bench.write(
        "rows.jsonl",
        "{\"prompt\": \"a b\", \"response\": \"b a\"}\n".repeat(3),
    );
    for (words, code, told) in told_by(&bench, &commands(false)[2..]) {
        assert_eq!(code, Some(7), "{words}: {told}");
        assert!(
            ["line 1", "row 1"].iter().any(|place| told.contains(place))
                && told.contains("response token 1"),
            "{told}"
        );
    }
    assert!(!bench.path("out.jsonl").exists());
    let bench = usable("reward");
    edit_weights(&bench.path("model").join(SINGLE), |weights| {
        let width = weights
            .list()
            .find(|listed| listed.name == "score.weight")
            .unwrap()
            .shape[1];
        weights.insert("score.weight", &[1, width], vec![3e38; width]);
    });
    let told = told_by(&bench, &commands(true)[2..]);
    assert!(
        told[0].1 == Some(7) && told[0].2.contains("line 1: the score is"),
        "{told:?}"
    );
    assert!(!bench.path("out.jsonl").exists());
}

#[test]
fn constants_of_a_reward_that_are_no_numbers_are_refused() {
    for (key, value) in [
        ("mean", "null"),
        ("mean", "NaN"),
        ("std", "0"),
        ("std", "-1.5"),
        ("std", "1e39"),
        ("std", "1e999"),
        ("low", "\"-1\""),
        ("bound", "-2"),
    ] {
        let bench = usable("reward");
        let whole = r#"{"mean": 0.5, "std": 2.0, "low": -1.0, "bound": 2.5}"#;
        let mut parts: Map<String, Value> = serde_json::from_str(whole).unwrap();
        parts.insert(key.into(), json!("HERE"));
        bench.write(
            "model/reward.json",
            Value::Object(parts).to_string().replace("\"HERE\"", value),
        );
        let told = told_by(&bench, &commands(true));
        for (words, code, told) in told {
            assert!(
                code == Some(5) && told.contains("reward.json"),
                "{key} {value}, {words}: {told}"
            );
        }
    }
    let bench = usable("reward");
    bench.write(
        "model/reward.json",
        r#"{"mean": 0.5, "std": 2.0, "low": -1.0}"#,
    );
    assert!(
        told_by(&bench, &commands(true))[2]
            .2
            .contains("`bound` is missing")
    );
}

// --- Names with what models were wrapped in ---

#[test]
fn prefixes_of_wrappers_are_taken_off() {
    use common::goldens::{Golden, assert_close, log_probs, open};
    let rows = Golden::of("gpt_neox/full_rotary").all();
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "base_model.model.",
        "_fsdp_wrapped_module.",
    ] {
        let bench = usable("full_rotary");
        let folder = bench.path("model");
        edit_weights(&folder.join(SINGLE), |weights| {
            weights.rename(|name| format!("{prefix}{name}")).unwrap()
        });
        for (row, found) in rows.iter().zip(log_probs(&open(&folder), &rows)) {
            assert_close(&found, &row.logprobs, prefix);
        }
        let told = told_by(&bench, &["model info model", "model convert model new"]);
        assert!(told.iter().all(|(_, code, _)| *code == Some(0)), "{told:?}");
    }
    // Here only the decoder, or each layer, was wrapped.
    for wrapped in [
        "gpt_neox._orig_mod.",
        "gpt_neox.layers.1._checkpoint_wrapped_module.",
    ] {
        let bench = usable("full_rotary");
        let folder = bench.path("model");
        let bare = wrapped
            .replace("_orig_mod.", "")
            .replace("_checkpoint_wrapped_module.", "");
        edit_weights(&folder.join(SINGLE), |weights| {
            weights.rename(|name| name.replace(&bare, wrapped)).unwrap()
        });
        assert_close(
            &log_probs(&open(&folder), &rows)[0],
            &rows[0].logprobs,
            wrapped,
        );
    }
}

#[test]
fn names_and_folders_of_something_else_are_named() {
    let weights = |edit: fn(&mut Weights)| {
        refusal("full_rotary", |folder| {
            edit_weights(&folder.join(SINGLE), edit)
        })
    };
    let config = |key: &str, value: Value| {
        refusal("full_rotary", |folder| {
            edit_config(folder, |c| drop(c.insert(key.into(), value)))
        })
    };
    let adapter = |folder: &Path, more: bool| {
        let description =
            json!({"base_model_name_or_path": "EleutherAI/pythia-70m", "peft_type": "LORA"});
        fs::write(folder.join("adapter_config.json"), description.to_string()).unwrap();
        fs::rename(
            folder.join(SINGLE),
            folder.join("adapter_model.safetensors"),
        )
        .unwrap();
        if !more {
            fs::remove_file(folder.join("config.json")).unwrap();
        }
    };
    let of_type = |dtype: &'static str| {
        refusal("full_rotary", move |folder| {
            let mut header = format!(
                r#"{{"{EMBEDDING}":{{"dtype":"{dtype}","shape":[40,16],"data_offsets":[0,640]}}}}"#
            );
            header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
            let bytes = [
                (header.len() as u64).to_le_bytes().as_slice(),
                header.as_bytes(),
                &[1; 640],
            ]
            .concat();
            fs::write(folder.join(SINGLE), bytes).unwrap();
        })
    };
    let told = [
        (
            "a prefix that half of the names have",
            weights(|w| {
                let rename = |name: &str| {
                    if name.contains("layers.0") {
                        format!("module.{name}")
                    } else {
                        name.to_owned()
                    }
                };
                w.rename(rename).unwrap();
            }),
        ),
        (
            "two names of one tensor",
            weights(|w| {
                w.insert(
                    "gpt_neox.layers.1._orig_mod.attention.dense.weight",
                    &[16, 16],
                    vec![0.0; 256],
                )
            }),
        ),
        (
            "a value head of TRL",
            weights(|w| w.insert("v_head.summary.weight", &[1, 16], vec![0.0; 16])),
        ),
        (
            "another value head",
            weights(|w| w.insert("value_head.weight", &[1, 16], vec![0.0; 16])),
        ),
        (
            "an adapter that was not merged",
            weights(|w| {
                w.insert(
                    "base_model.model.gpt_neox.layers.0.attention.dense.lora_A.weight",
                    &[2, 16],
                    vec![0.0; 32],
                );
            }),
        ),
        (
            "a folder with an adapter",
            refusal("full_rotary", |folder| adapter(folder, false)),
        ),
        (
            "an adapter beside a configuration",
            refusal("full_rotary", |folder| adapter(folder, true)),
        ),
        (
            "quantised weights",
            config(
                "quantization_config",
                json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
            ),
        ),
        ("another architecture", {
            refusal("full_rotary", |folder| {
                edit_config(folder, |c| {
                    c.insert("model_type".into(), json!("mamba"));
                    c.insert("architectures".into(), json!(["MambaForCausalLM"]));
                });
            })
        }),
        ("weights of eight bits", of_type("I8")),
        ("weights in fp8", of_type("F8_E4M3")),
    ];
    insta::assert_snapshot!(listed(&told));
}

// --- Any bytes ---

#[test]
fn sizes_beyond_any_memory_are_refused_before_anything_is_made() {
    let keys = [
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "layer_norm_eps",
        "rotary_emb_base",
        "rotary_pct",
    ];
    let values = [
        json!(0),
        json!(-1),
        json!(1_000_000_000_000_000_000_u64),
        json!(u64::MAX),
        json!(1e300),
        json!(2_000_000_000),
    ];
    for key in keys {
        for value in &values {
            let bench = usable("full_rotary");
            edit_config(&bench.path("model"), |c| {
                for name in [
                    "partial_rotary_factor",
                    "rope_theta",
                    "rope_parameters",
                    "rope_scaling",
                ] {
                    c.remove(name);
                }
                c.extend([
                    ("rotary_pct".into(), json!(1.0)),
                    ("rotary_emb_base".into(), json!(100)),
                ]);
                c.insert(key.into(), value.clone());
            });
            let checkpoint = Checkpoint::open(bench.path("model")).unwrap();
            let loaded = checkpoint.language_model(&cpu()).map(|_| ());
            let harmless = match key {
                "max_position_embeddings" => value == 2_000_000_000,
                "rotary_emb_base" => value.as_f64().is_some_and(|base| base > 0.0 && base < 1e38),
                "rotary_pct" => value == 0,
                _ => false,
            };
            assert_eq!(loaded.is_ok(), harmless, "{key} = {value}: {loaded:?}");
            if let Err(error) = loaded {
                assert_eq!(
                    error.kind(),
                    touchstone::ErrorKind::Model,
                    "{key} = {value}"
                );
            }
            let _ = checkpoint.inspect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// A file with some bytes replaced, cut or doubled is either read as it now is or refused,
    /// without a panic.
    #[test]
    fn damaged_bytes_never_panic(
        choice in 0..6_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (from, file) = [
            ("full_rotary", "config.json"),
            ("full_rotary", "tokenizer.json"),
            ("full_rotary", SINGLE),
            ("sharded", INDEX),
            ("scalar", "pytorch_model.bin"),
            ("scalar", "config.json"),
        ][choice];
        let bench = usable(from);
        edit_bytes(&bench.path("model").join(file), |bytes| {
            for (place, byte) in &edits {
                let most = if file == SINGLE { bytes.len().min(2500) } else { bytes.len() };
                let place = place.index(most);
                bytes[place] = *byte;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        });
        if let Ok(checkpoint) = Checkpoint::open(bench.path("model")) {
            let _ = checkpoint.inspect();
            let _ = checkpoint.optional_tokenizer().map(|tokenizer| tokenizer.map(|it| it.encode("a b")));
            let _ = checkpoint.ends(None);
            match from {
                "scalar" => drop(checkpoint.reward_model(&cpu())),
                _ => drop(checkpoint.language_model(&cpu())),
            }
        }
    }
}

//! Tests of `touchstone model info` and `touchstone model convert`: the contents of a folder, and
//! the same model written anew.

mod common;

use common::goldens::{Golden, LLAMAS, MODELS, assert_close, edit_config, log_probs, open};
use common::{Bench, Said, cpu, files, fixture};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::model::{Batch, Sequence};

/// A bench with a copy of every fixture.
fn bench() -> Bench {
    let bench = Bench::new();
    for name in MODELS.iter().chain(&["reward"]) {
        bench.copy(&fixture("gpt_neox").join(name), name);
    }
    bench
}

/// The output of one run of the program, without the frame around errors.
fn told(bench: &Bench, words: &str) -> String {
    let Said { code, out, err } = bench.run(words);
    let err = err.replace("\n  │ ", " ").replace("\n        ", " ");
    format!(
        "$ touchstone {words}\n{out}{}\nexit code {}\n",
        err.trim(),
        code.unwrap()
    )
}

/// A tokenizer of 512 tokens.
fn tokenizer() -> Vec<u8> {
    fs::read(fixture("tldr/tokenizer.json")).unwrap()
}

// --- info ---

#[test]
fn info_says_what_a_folder_holds() {
    let bench = bench();
    let vocabulary = json!({"<|endoftext|>": 0, "<|padding|>": 1, "a": 49});
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}});
    bench.write("pythia/tokenizer.json", tokenizer.to_string());
    bench.write(
        "reward/reward.json",
        json!({"mean": 0.5, "std": 2.0, "low": -1.0, "bound": 2.5}).to_string(),
    );
    let models = MODELS
        .iter()
        .chain(&["reward"])
        .map(|name| told(&bench, &format!("model info {name}")));
    insta::assert_snapshot!(models.collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("json", told(&bench, "model info pythia --json"));
}

#[test]
fn info_says_why_a_model_cannot_be_loaded() {
    let bench = bench();
    edit_config(&bench.path("full_rotary"), |config| {
        drop(config.insert("num_hidden_layers".into(), json!(1)))
    });
    edit_config(&bench.path("small_heads"), |config| {
        drop(config.insert("intermediate_size".into(), json!(31)))
    });
    edit_config(&bench.path("decoder"), |config| {
        drop(config.insert("tie_word_embeddings".into(), json!(false)))
    });
    bench.write("sharded/tokenizer.json", tokenizer());
    fs::write(bench.path("pythia/model.safetensors"), "cut").unwrap();
    let names = [
        "full_rotary",
        "small_heads",
        "sharded",
        "pythia",
        "decoder",
        "absent",
    ];
    let models = names.map(|name| told(&bench, &format!("model info {name}")));
    insta::assert_snapshot!(models.join("\n"));
}

// --- convert ---

/// Shape and bytes of every tensor of a folder, as stored, regardless of the division into files.
fn stored(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for (path, bytes) in files(folder) {
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            for (name, tensor) in safetensors::SafeTensors::deserialize(&bytes)
                .unwrap()
                .tensors()
            {
                all.insert(name, (tensor.shape().to_vec(), tensor.data().to_vec()));
            }
        }
    }
    all
}

fn config(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

fn assert_golden(fixture: &str, folder: &Path) {
    let rows = Golden::of(fixture).all();
    for (row, found) in rows.iter().zip(log_probs(&open(folder), &rows)) {
        assert_close(
            &found,
            &row.logprobs,
            &format!("{fixture} as {}", folder.display()),
        );
    }
}

#[test]
fn info_says_what_a_model_of_the_llama_family_is() {
    let bench = Bench::new();
    let said = LLAMAS
        .iter()
        .chain(&["llama_reward", "qwen3_reward"])
        .map(|name| {
            bench.copy(&fixture("llama").join(name), name);
            told(&bench, &format!("model info {name}"))
        });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"));
}

#[test]
fn info_names_what_a_model_of_the_llama_family_would_need() {
    let changes = [
        ("another-architecture", json!({"model_type": "gemma2"})),
        ("another-activation", json!({"hidden_act": "gelu"})),
        (
            "another-scaling",
            json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
        ),
        (
            "newer-scaling",
            json!({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        ),
        (
            "another-layer",
            json!({"layer_types": ["full_attention", "chunked_attention"]}),
        ),
        ("key-heads", json!({"num_key_value_heads": 3})),
        ("head-size", json!({"head_dim": 5})),
        ("window", json!({"sliding_window": 0})),
        ("shares", json!({"partial_rotary_factor": 0.5})),
    ];
    let bench = Bench::new();
    let said = changes.map(|(name, change)| {
        bench.copy(&fixture("llama/qwen2_window"), name);
        edit_config(&bench.path(name), |config| {
            config.extend(change.as_object().unwrap().clone())
        });
        let told = told(&bench, &format!("model info {name}"));
        assert!(told.ends_with("exit code 5\n"), "{told}");
        told
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_llama_family_is_written_as_the_hub_has_it_and_computes_the_same() {
    let bench = Bench::new();
    for name in LLAMAS {
        let old = bench.copy(&fixture("llama").join(name), name);
        bench.succeed(&format!("model convert {name} {name}-new --dtype f32"));
        let new = bench.path(format!("{name}-new"));
        assert_golden(&format!("llama/{name}"), &new);
        // Old versions of transformers saved the rotary frequencies too, which follow from
        // config.json.
        let mut weights = stored(&old);
        weights.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));
        assert!(weights.keys().eq(stored(&new).keys()), "{name}");
        assert_eq!(config(&old)["architectures"], config(&new)["architectures"]);
    }
}

#[test]
fn every_layout_is_written_as_the_hub_has_it_and_computes_the_same() {
    let bench = bench();
    for name in MODELS {
        bench.succeed(&format!("model convert {name} {name}-new --dtype f32"));
        assert_golden(
            &format!("gpt_neox/{name}"),
            &bench.path(format!("{name}-new")),
        );
        let folder = bench.path(format!("{name}-new"));
        assert_eq!(
            config(&folder)["architectures"],
            json!(["GPTNeoXForCausalLM"])
        );
        assert_eq!(config(&folder)["torch_dtype"], "float32");
        let tensors = stored(&folder);
        assert!(
            tensors
                .keys()
                .all(|name| name.starts_with("gpt_neox.") || name == "embed_out.weight"),
            "{name}"
        );
        assert!(
            !tensors.keys().any(|name| name.ends_with("attention.bias")),
            "{name}"
        );
        // A second conversion changes nothing.
        bench.succeed(&format!("model convert {name}-new {name}-again"));
        assert_eq!(
            files(&bench.path(format!("{name}-again"))),
            files(&folder),
            "{name}"
        );
    }
}

#[test]
fn f32_comes_back_bit_by_bit_through_shards() {
    let bench = bench();
    for name in ["full_rotary", "sharded"] {
        bench.succeed(&format!(
            "model convert {name} {name}-parts --max-shard-size 5KB"
        ));
        assert!(
            bench
                .path(format!("{name}-parts/model.safetensors.index.json"))
                .is_file()
        );
        assert!(
            !bench
                .path(format!("{name}-parts/model.safetensors"))
                .exists()
        );
        assert_golden(
            &format!("gpt_neox/{name}"),
            &bench.path(format!("{name}-parts")),
        );
        bench.succeed(&format!("model convert {name}-parts {name}-whole"));
        assert_eq!(
            stored(&bench.path(format!("{name}-whole"))),
            stored(&bench.path(name)),
            "{name}"
        );
    }
}

#[test]
fn types_of_two_bytes_come_back_bit_by_bit_through_f32() {
    let bench = bench();
    for (name, dtype, torch) in [
        ("pythia", "f16", "float16"),
        ("tied_bf16", "bf16", "bfloat16"),
    ] {
        bench.succeed(&format!("model convert {name} {name}-kept"));
        bench.succeed(&format!("model convert {name} {name}-wide --dtype f32"));
        bench.succeed(&format!(
            "model convert {name}-wide {name}-back --dtype {dtype}"
        ));
        let mut expected = stored(&bench.path(name));
        expected.retain(|name, _| {
            !name.contains("attention.bias") && !name.contains("masked") && !name.contains("inv_")
        });
        for folder in [format!("{name}-kept"), format!("{name}-back")] {
            assert_eq!(stored(&bench.path(&folder)), expected, "{folder}");
            assert_eq!(config(&bench.path(&folder))["torch_dtype"], torch);
            assert_golden(&format!("gpt_neox/{name}"), &bench.path(&folder));
        }
    }
}

#[test]
fn f32_is_rounded_to_the_nearest() {
    let bench = bench();
    bench.succeed("model convert full_rotary half --dtype f16");
    bench.succeed("model convert full_rotary brain --dtype bf16");
    let [whole, half, brain] =
        ["full_rotary", "half", "brain"].map(|name| Weights::open(&bench.path(name)).unwrap());
    for tensor in whole.list() {
        let [whole, half, brain] =
            [&whole, &half, &brain].map(|weights| weights.values(tensor.name).unwrap());
        for ((w, h), b) in whole.iter().zip(half.iter()).zip(brain.iter()) {
            // The bound is half a unit in the last of 11 and of 8 binary digits.
            assert!(
                (w - h).abs() <= w.abs() / 2048.0 + 3e-8 && (w - b).abs() <= w.abs() / 256.0,
                "{w}: {h}, {b}"
            );
        }
    }
}

#[test]
fn what_lies_beside_the_weights_goes_along() {
    let bench = bench();
    let beside = [
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
    ];
    for name in ["README.md", "pytorch_model.bin", "merges.txt"] {
        bench.write(format!("reward/{name}"), format!("{name} as it was"));
    }
    for name in beside {
        bench.write(format!("reward/{name}"), json!({"key": name}).to_string());
    }
    edit_config(&bench.path("reward"), |config| {
        drop(config.insert("eos_token_id".into(), json!([0, 2])))
    });
    let vocabulary = json!({"<|endoftext|>": 0, "<|padding|>": 1, "a": 2});
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}});
    bench.write("reward/tokenizer.json", tokenizer.to_string());
    bench.write(
        "reward/reward.json",
        json!({"mean": 0.5, "std": 2.0, "low": -1.0, "bound": 2.5}).to_string(),
    );
    edit_config(&bench.path("reward"), |config| {
        config.remove("pad_token_id");
        config.insert("initializer_range".into(), json!(0.125));
        config.insert("vocab_size_was".into(), json!(7));
    });
    bench.succeed("model convert reward new --dtype f32");
    let found: Vec<_> = files(&bench.path("new"))
        .into_keys()
        .map(|path| path.display().to_string())
        .collect();
    let expected = [
        "config.json",
        beside[2],
        "model.safetensors",
        "reward.json",
        beside[1],
        "tokenizer.json",
        beside[0],
    ];
    assert_eq!(found, expected);
    for name in beside {
        assert_eq!(
            bench.read(format!("new/{name}")),
            json!({"key": name}).to_string()
        );
    }
    let config = config(&bench.path("new"));
    assert_eq!(
        config["architectures"],
        json!(["GPTNeoXForSequenceClassification"])
    );
    assert_eq!(
        (&config["initializer_range"], &config["vocab_size_was"]),
        (&json!(0.125), &json!(7))
    );
    assert_eq!(
        config["eos_token_id"],
        json!([0, 2]),
        "several ends stay several"
    );
    assert_eq!(
        config["pad_token_id"], 1,
        "the tokenizer's padding, which rows of a batch need"
    );
    let scores = |folder: PathBuf| {
        let (model, normalisation) = Checkpoint::open(folder)
            .unwrap()
            .reward_model(&cpu())
            .unwrap();
        assert_eq!(normalisation.mean, 0.5);
        common::host(model.scores(&Batch::new(&[Sequence::new(vec![3, 4], vec![5])], &cpu())))
    };
    assert_eq!(scores(bench.path("new")), scores(bench.path("reward")));
}

#[test]
fn a_decoder_alone_stays_one() {
    let bench = bench();
    edit_config(&bench.path("decoder"), |config| {
        drop(config.insert("tie_word_embeddings".into(), json!(false)))
    });
    bench.succeed("model convert decoder new");
    assert_eq!(
        config(&bench.path("new"))["architectures"],
        json!(["GPTNeoXModel"])
    );
    assert_eq!(
        stored(&bench.path("new")).len(),
        stored(&bench.path("decoder")).len()
    );
}

// --- Where it is written, and when not ---

/// Everything in the bench's folder, including hidden files, by path.
fn entries(bench: &Bench) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(bench.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_replaced_only_if_it_is_told_and_holds_nothing_else() {
    let bench = bench();
    let before = files(&bench.path("small_heads"));
    fs::create_dir(bench.path("empty")).unwrap();
    bench.write("full/config.json", "{}");
    bench.write("full/thesis.tex", "years of work");
    bench.write("nested/model.safetensors/x", "");
    bench.write("file", "");
    let old = bench.copy(&fixture("gpt_neox/sharded"), "old");
    fs::remove_file(old.join("golden.json")).unwrap();
    let start = entries(&bench);
    let mut said = Vec::new();
    for words in [
        "full",
        "full --force",
        "nested --force",
        "file",
        "file --force",
        "old",
        ". --force",
        "/",
    ] {
        said.push(told(&bench, &format!("model convert small_heads {words}")));
    }
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(entries(&bench), start, "nothing was left behind");
    assert_eq!(bench.read("full/thesis.tex"), "years of work");

    bench.succeed("model convert small_heads empty");
    bench.succeed("model convert small_heads old --force");
    bench.succeed("model convert small_heads deep/er/new");
    for folder in ["empty", "old", "deep/er/new"] {
        let names: Vec<_> = files(&bench.path(folder)).into_keys().collect();
        assert_eq!(
            names,
            [
                PathBuf::from("config.json"),
                PathBuf::from("model.safetensors")
            ],
            "{folder}"
        );
        assert_golden("gpt_neox/small_heads", &bench.path(folder));
    }
    // Conversion in place: the output must not overwrite the files being read.
    bench.succeed("model convert old old --force --max-shard-size 5KB");
    assert_eq!(
        stored(&bench.path("old")),
        stored(&bench.path("small_heads"))
    );
    assert!(!bench.path("old/model.safetensors").exists());
    assert_eq!(
        files(&bench.path("small_heads")),
        before,
        "the source stays as it was"
    );
}

#[test]
fn what_cannot_be_converted_leaves_nothing_behind() {
    let bench = bench();
    edit_config(&bench.path("full_rotary"), |config| {
        drop(config.insert("num_hidden_layers".into(), json!(1)))
    });
    let path = bench.path("small_heads/model.safetensors");
    let mut weights = Weights::read(&path).unwrap();
    weights.insert(
        "gpt_neox.layers.1.mlp.dense_4h_to_h.bias",
        &[16],
        vec![70_000.0; 16],
    );
    weights.write(&path, StoredAs::F32).unwrap();
    // Layer norms are f32 beside f16 weights, as in some published models.
    let [first, second] =
        ["00001", "00002"].map(|n| bench.path(format!("sharded/model-{n}-of-00002.safetensors")));
    Weights::read(&second)
        .unwrap()
        .write(&second, StoredAs::F16)
        .unwrap();
    let size = |path: &PathBuf| {
        let shape = |tensor: safetensors::tensor::TensorView| tensor.data().len();
        let bytes = fs::read(path).unwrap();
        safetensors::SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensors()
            .into_iter()
            .map(|(_, t)| shape(t))
            .sum::<usize>()
    };
    let mut index: Value =
        serde_json::from_str(&bench.read("sharded/model.safetensors.index.json")).unwrap();
    index["metadata"]["total_size"] = (size(&first) + size(&second)).into();
    bench.write("sharded/model.safetensors.index.json", index.to_string());
    let start = entries(&bench);
    let lines = [
        "full_rotary new",
        "small_heads new --dtype f16",
        "sharded new",
        "absent new",
        "pythia new --dtype f64",
        "pythia new --max-shard-size five",
    ];
    let lines = lines.map(|words| told(&bench, &format!("model convert {words}")));
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(entries(&bench), start);
    bench.succeed("model convert sharded new --dtype bf16");
}

/// A file system without room, in a form that any account can set up: files may grow only to a
/// limit. The signal that comes with it is ignored, so that the program meets a failing write.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let bench = bench();
    bench.succeed("model convert small_heads old");
    fs::remove_file(bench.path("old/config.json")).unwrap();
    let (start, old) = (entries(&bench), files(&bench.path("old")));
    for words in [
        "model convert pythia new --dtype f32",
        "model convert pythia old --dtype f32 --force",
    ] {
        let mut shell = std::process::Command::new("sh");
        bench.prepare(&mut shell);
        // 64 blocks of 512 bytes hold half the weights file and all other files.
        let script = format!(
            "trap '' XFSZ; ulimit -f 64; exec '{}' {words}",
            env!("CARGO_BIN_EXE_touchstone")
        );
        let said = Said::from(shell.args(["-c", &script]).output().unwrap());
        assert_eq!(said.code, Some(11), "{}", said.err);
        let err = said.err.replace("\n  │ ", "").replace("\n  │", "");
        assert!(
            err.contains("model.safetensors") && err.contains("cannot write"),
            "{}",
            said.err
        );
        assert_eq!(entries(&bench), start);
        assert_eq!(files(&bench.path("old")), old);
    }
}

//! A test of the second half of the paper at its own scale, in small: the checkpoint and the data sets
//! stand on a hub's server on this machine, in the layout, the columns and the splits of the
//! published ones, the weights in shards.
#![cfg(feature = "hub")]

mod common;
mod hub_server;
#[path = "common/parquet.rs"]
mod parquet;

use common::{Bench, Said, conversations, fixture};
use hub_server::{COMMIT, Server, nobody};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use touchstone::benchmarks::leaderboard::tasks::mmlu::SUBJECTS;
use touchstone::device;
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::model::{DecoderConfig, LanguageModel};
use touchstone::pipeline::{Manifest, Store};
use touchstone::rng::stream;

const MODEL: &str = "HuggingFaceH4/mistral-7b-sft-beta";
const CONVERSATIONS: &str = "datasets/HuggingFaceH4/ultrachat_200k";
const PREFERENCES: &str = "datasets/HuggingFaceH4/ultrafeedback_binarized";
const REWARDBENCH: &str = "datasets/allenai/reward-bench";

/// The tokens that begin and end a text.
const CONTROL: [&str; 2] = ["<s>", "</s>"];

/// The leaderboard's data sets in a folder, since the hub's have 57 subjects of MMLU, and FastChat's
/// questions, which are not on a hub.
const RUN: &str = "reproduce tiny-ultrachat.toml --scale paper --seeds 1, --jobs 2 --mt-bench question.jsonl \
                   --leaderboard exams --leaderboard-limit 2 --leaderboard-shots 1";

/// The shipped experiment with a model of another shape and small counts.
const EXPERIMENT: &str = r#"
extends = "ultrachat"
name = "tiny-ultrachat"

[models."mistral-7b"]
vocab_size = VOCABULARY
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 32
max_position_embeddings = 512

[models."mistral-7b".architecture]
num_key_value_heads = 2
sliding_window = 64

[scale.paper]
generation = { max_prompt_tokens = 128, max_response_tokens = 48, batch_size = 8 }
demonstrations.count = 14
preferences.pairs = 9
sft = { epochs = 1, batch_size = 4 }
reward = { batch_size = 4, optimiser.learning_rate = 1e-3 }
best_of_n.n = 2
spin = { iterations = 2, epochs = 1, batch_size = 4 }
evaluation = { posts = 4, preference_pairs = 3, on_policy_pairs = 4 }
"#;

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// A row of UltraChat with two exchanges about `subject`.
fn conversation(subject: &str) -> Value {
    let ask = format!("Where is {subject} from?");
    let messages = [
        turn("user", &ask),
        turn("assistant", &format!("{subject} is from the hills.")),
        turn("user", "Is it old, secondly?"),
        turn("assistant", "It is."),
    ];
    json!({"prompt": ask, "prompt_id": subject, "messages": messages})
}

/// A row of UltraFeedback about `subject`.
fn preference(subject: &str) -> Value {
    let ask = format!("What is {subject} for?");
    let answered = |text: &str| json!([turn("user", &ask), turn("assistant", text)]);
    let chosen = answered(&format!("{subject} is for the house."));
    json!({
        "prompt": ask, "prompt_id": subject, "chosen": chosen, "rejected": answered("No."),
        "messages": chosen, "score_chosen": 8.5, "score_rejected": 4.0,
    })
}

/// Writes the rows of a split in the hub's layout, in `files` files.
fn publish(bench: &Bench, repository: &str, split: &str, rows: &[Value], files: usize) {
    for (index, part) in rows.chunks(rows.len().div_ceil(files)).enumerate() {
        let name = format!("{repository}/data/{split}-{index:05}-of-{files:05}.parquet");
        parquet::write(&bench.write(name, ""), part, 4);
    }
}

/// Moves a model's weights into two shards with an index.
fn shard(bench: &Bench, folder: &str) {
    let single = bench.path(format!("{folder}/model.safetensors"));
    let weights = Weights::read(&single).unwrap();
    let listed: Vec<(String, Vec<usize>)> = weights
        .list()
        .map(|tensor| (tensor.name.to_owned(), tensor.shape.to_vec()))
        .collect();
    let (mut map, mut total) = (serde_json::Map::new(), 0);
    for (number, part) in listed.chunks(listed.len().div_ceil(2)).enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", number + 1);
        let mut shard = Weights::new(&name[..]);
        for (tensor, shape) in part {
            let values = weights.values(tensor).unwrap().into_owned();
            total += 2 * values.len();
            shard.insert(tensor.clone(), shape, values);
            map.insert(tensor.clone(), name.clone().into());
        }
        shard
            .write(&bench.path(format!("{folder}/{name}")), StoredAs::Bf16)
            .unwrap();
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    bench.write(
        format!("{folder}/model.safetensors.index.json"),
        index.to_string(),
    );
    fs::remove_file(single).unwrap();
}

/// A folder with the experiment and with the repositories of a hub.
fn bench() -> Bench {
    let bench = Bench::new();
    let tokenizer = fixture("chat/byte/tokenizer.json");
    let opened = tokenizers::Tokenizer::from_file(&tokenizer).unwrap();
    let vocabulary = opened.get_vocab_size(true);
    let [begin, end] = CONTROL.map(|token| opened.token_to_id(token).unwrap());
    let keys = json!({
        "model_type": "mistral", "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": 64, "max_position_embeddings": 512,
        "tie_word_embeddings": false, "bos_token_id": begin, "eos_token_id": end
    });
    let config =
        DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "config.json").unwrap();
    let device = device::select(device::DEFAULT).unwrap();
    let rng = &mut stream(1, "test/ultrachat", &[]);
    let model = LanguageModel::random(&config, 0.3, rng, &device).unwrap();
    bench.write("model/README.md", "a card");
    Checkpoint::save_language_model(&bench.path("model"), &model, &tokenizer, StoredAs::Bf16)
        .unwrap();
    shard(&bench, "model");
    bench.write(
        "model/tokenizer_config.json",
        json!({"bos_token": CONTROL[0], "eos_token": CONTROL[1], "pad_token": CONTROL[1]})
            .to_string(),
    );

    let subjects = |first: usize, count: usize| -> Vec<String> {
        (first..first + count)
            .map(|number| format!("moss{number}"))
            .collect()
    };
    let mut train: Vec<Value> = subjects(0, 12).iter().map(|it| conversation(it)).collect();
    // A prompt of the test split, and an answer without words.
    train.push(conversation("moss20"));
    let mut silent = conversation("moss12");
    silent["messages"][1] = turn("assistant", " ");
    train.push(silent);
    publish(&bench, "chats", "train_sft", &train, 2);
    let test: Vec<Value> = subjects(20, 5).iter().map(|it| conversation(it)).collect();
    publish(&bench, "chats", "test_sft", &test, 1);
    // Further splits of the same repository, which are not read.
    publish(&bench, "chats", "train_gen", &test, 1);
    let pairs: Vec<Value> = subjects(0, 9).iter().map(|it| preference(it)).collect();
    publish(&bench, "feedback", "train_prefs", &pairs, 1);
    let pairs: Vec<Value> = subjects(30, 3).iter().map(|it| preference(it)).collect();
    publish(&bench, "feedback", "test_prefs", &pairs, 1);
    conversations::write_benchmarks(&bench);
    bench.copy(&fixture("rewardbench/hub"), "reward-bench");
    bench.write(
        "tiny-ultrachat.toml",
        EXPERIMENT.replace("VOCABULARY", &vocabulary.to_string()),
    );
    bench
}

fn serve(bench: &Bench) -> Server {
    let folders = [
        (MODEL, "model"),
        (CONVERSATIONS, "chats"),
        (PREFERENCES, "feedback"),
        (REWARDBENCH, "reward-bench"),
    ];
    Server::of(folders.map(|(id, folder)| (id.to_owned(), bench.path(folder))))
}

/// The same hub with the leaderboard's data sets, of which MMLU has all subjects.
fn serve_with_exams(bench: &Bench) -> Server {
    let mut repositories = vec![
        (MODEL.to_owned(), bench.path("model")),
        (CONVERSATIONS.to_owned(), bench.path("chats")),
        (PREFERENCES.to_owned(), bench.path("feedback")),
        (REWARDBENCH.to_owned(), bench.path("reward-bench")),
    ];
    for subject in SUBJECTS.iter().map(|subject| subject.name) {
        bench.copy(
            &fixture("leaderboard/hub/cais/mmlu/anatomy"),
            format!("exams/mmlu/{subject}"),
        );
    }
    for [repository, task] in conversations::EXAMS {
        let folder = bench.path(format!("exams/{task}"));
        repositories.push((format!("datasets/{repository}"), folder));
    }
    Server::of(repositories)
}

fn run(bench: &Bench, endpoint: &str, words: &str) -> Said {
    let mut command = bench.command(words);
    command
        .env("HF_HOME", bench.path("hf"))
        .env("HF_ENDPOINT", endpoint)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE");
    Said::from(command.output().unwrap())
}

fn rows(store: &Store, manifest: &Manifest, name: &str) -> Vec<Value> {
    let path = store.artifact(&manifest.key).unwrap().join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_second_half_runs_from_a_hub_to_its_report() {
    let bench = bench();
    let server = serve(&bench);
    let said = run(&bench, &server.endpoint(), RUN);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let requests = server.requests().concat();
    for file in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "train_sft-00001-of-00002.parquet",
    ] {
        assert!(requests.contains(file), "{file}: {requests}");
    }
    assert!(!requests.contains("train_gen"), "{requests}");

    // Every method is measured; nothing takes the place of gold.
    let metrics = bench.read("reports/tiny-ultrachat/metrics.csv");
    let has = |method: &str, metric: &str| {
        metrics.lines().any(|line| {
            let cells: BTreeSet<&str> = line.split(',').collect();
            cells.contains(method) && cells.contains(metric)
        })
    };
    for method in [
        "sft",
        "irl",
        "irl-continued",
        "irl-eq10",
        "spin",
        "rlhf",
        "irl-rlhf",
    ] {
        assert!(has(method, "demo_log_likelihood"), "{method}: {metrics}");
    }
    for method in ["irl", "spin", "rlhf", "irl-rlhf"] {
        assert!(has(method, "preference_accuracy"), "{method}: {metrics}");
    }
    assert!(!has("irl", "gold"), "{metrics}");
    // Whole benchmarks, by the rows of the hub, of a folder and of a file.
    for (method, metric) in [
        ("irl", "rewardbench"),
        ("spin", "rewardbench_reference_free"),
        ("sft", "leaderboard"),
        ("irl", "leaderboard_mmlu"),
        ("irl", "mt_bench_length"),
        ("sft", "mt_bench_ended"),
    ] {
        assert!(has(method, metric), "{method}, {metric}: {metrics}");
    }
    assert!(!has("irl", "mt_bench"), "no judge grades them: {metrics}");

    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let labelled = |label: &str| {
        let found = manifests.iter().find(|manifest| manifest.label == label);
        found.unwrap_or_else(|| panic!("no {label}"))
    };
    let tokenizer = tokenizers::Tokenizer::from_file(bench.path("model/tokenizer.json")).unwrap();
    let [begin, end] = CONTROL.map(|token| tokenizer.token_to_id(token).unwrap());
    // First exchanges alone, in the checkpoint's own tokens; the held-out prompt and the empty
    // answer are left out.
    let made = labelled("demonstrations/seed 1");
    let trained = rows(&store, made, "demonstrations.jsonl");
    let held_out = rows(&store, labelled("evaluation set"), "held_out.jsonl");
    assert_eq!((trained.len(), held_out.len()), (12, 4));
    for row in trained.iter().chain(&held_out) {
        let [prompt, response] = [&row["prompt"], &row["response"]];
        let text = prompt["text"].as_str().unwrap();
        assert!(
            text.contains("Where is moss") && !text.contains("secondly"),
            "{row}"
        );
        assert!(
            response["text"]
                .as_str()
                .unwrap()
                .ends_with(" is from the hills."),
            "{row}"
        );
        assert_eq!(prompt["ids"][0], begin, "{row}");
        assert_eq!(
            response["ids"].as_array().unwrap().last(),
            Some(&json!(end)),
            "{row}"
        );
    }
    assert!(trained.iter().all(|row| {
        held_out
            .iter()
            .all(|other| other["prompt"] != row["prompt"])
    }));
    assert_eq!(
        rows(&store, labelled("preferences/seed 1"), "pairs.jsonl").len(),
        9
    );
    // The start is the published SFT policy: no other SFT precedes the methods.
    assert!(
        manifests
            .iter()
            .filter(|manifest| manifest.spec.kind == "sft")
            .all(|manifest| manifest.label.contains("/iteration "))
    );
    // Answers stand in FastChat's format, for its judge.
    let answers = rows(
        &store,
        labelled("sft/mistral-7b/seed 1/mt-bench"),
        "answers.jsonl",
    );
    assert_eq!(answers.len(), 4);
    assert_eq!(
        answers[0]["choices"][0]["turns"].as_array().unwrap().len(),
        2
    );
    // Model and data are recorded at the commit that `main` was at.
    for label in [
        "base/mistral-7b",
        "conversations/train_sft",
        "preferences/test_prefs",
        "rewardbench/pairs",
    ] {
        let sources = json!(labelled(label).sources).to_string();
        assert!(sources.contains(COMMIT), "{label}: {sources}");
    }

    // Nothing is computed or fetched twice.
    server.forget();
    let again = run(&bench, &server.endpoint(), RUN);
    assert!(again.err.contains("0 finished"), "{}", again.err);
    assert_eq!(server.bytes_sent(), 0);
}

/// The study reads nothing from outside but the files that `fetch` brings.
#[test]
fn what_was_fetched_is_enough_without_a_network() {
    let bench = bench();
    let server = serve_with_exams(&bench);
    let run_all = RUN.replace("--leaderboard exams", "--methods sft,irl");
    let fetch = run_all.replacen("reproduce", "fetch", 1);
    let said = run(&bench, &server.endpoint(), &fetch);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    for part in [
        &format!("hf:{MODEL}@{COMMIT}"),
        &format!("hf:{CONVERSATIONS}@{COMMIT} train_sft  2 files"),
        &format!("hf:{PREFERENCES}@{COMMIT} test_prefs  1 file,"),
        &format!("hf:{REWARDBENCH}@{COMMIT} filtered  1 file,"),
        &format!("hf:datasets/openai/gsm8k@{COMMIT} train  1 file,"),
        "the cache is ",
        "HF_HUB_OFFLINE=1",
    ] {
        assert!(said.out.contains(part), "{part} is not in:\n{}", said.out);
    }
    assert!(server.bytes_sent() > 0);

    server.forget();
    let again = run(&bench, &server.endpoint(), &fetch);
    assert_eq!(again.code, Some(0), "{}", again.err);
    assert!(again.out.contains(" in all, 0 B new"), "{}", again.out);
    assert_eq!(server.bytes_sent(), 0);
    drop(server);

    // The store has the commits, and the cache the files.
    let said = run(&bench, &nobody(), &run_all);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    // Another store on the same cache, which is told that there is no network.
    let offline = |words: &str| {
        let mut command = bench.command(words);
        command
            .env("HF_HOME", bench.path("hf"))
            .env("HF_ENDPOINT", nobody())
            .env("HF_HUB_OFFLINE", "1");
        Said::from(command.output().unwrap())
    };
    let said = offline(&format!("{fetch} --store other"));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    // A file that is gone is missed before anything runs.
    fs::remove_dir_all(bench.path("hf")).unwrap();
    let said = offline(&fetch);
    assert_eq!(said.code, Some(9), "{}{}", said.out, said.err);
}

#[test]
fn a_study_of_the_embedded_world_needs_nothing_from_outside() {
    let bench = Bench::new();
    let said = run(&bench, &nobody(), "fetch tldr");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("runs without a network"), "{}", said.out);
    assert!(!bench.path("runs").exists());
}

/// The message of a run that fails, in one line.
#[track_caller]
fn told(bench: &Bench, words: &str) -> String {
    let said = run(bench, &serve(bench).endpoint(), words);
    assert!(
        said.code.is_some_and(|code| code != 0),
        "{}{}",
        said.out,
        said.err
    );
    said.told()
}

#[test]
fn more_rows_than_a_split_has_and_a_missing_split_are_named() {
    let sft = format!("{RUN} --methods sft,irl");
    let many = told(&bench(), &format!("{sft} --set demonstrations.count=15"));
    assert!(
        many.contains("has 14 conversations in `train_sft`, not 15"),
        "{many}"
    );
    let bench = bench();
    fs::remove_dir_all(bench.path("feedback/data")).unwrap();
    publish(&bench, "feedback", "train_prefs", &[preference("moss1")], 1);
    let missing = told(&bench, &sft);
    assert!(
        missing.contains("test_prefs") && missing.contains("train_prefs"),
        "{missing}"
    );
}

/// A scale that names what the task does not read is refused before anything runs.
#[test]
fn sources_of_another_task_are_refused() {
    let bench = bench();
    let text = bench.read("tiny-ultrachat.toml");
    bench.write(
        "tiny-ultrachat.toml",
        format!("{text}\n[scale.paper.data]\nposts = \"posts\"\n"),
    );
    let posts = told(&bench, RUN);
    assert!(
        posts.contains("names `posts`, which the task of this experiment does not read")
            && posts.contains("posts = \"none\""),
        "{posts}"
    );
    assert!(!bench.path("runs").exists(), "nothing was begun");
}

#[test]
fn a_benchmark_that_is_not_there_is_refused_before_the_first_stage() {
    let bench = bench();
    for (words, expected) in [
        ("--mt-bench absent.jsonl", "absent.jsonl"),
        ("--leaderboard absent", "there is no folder absent"),
        ("--rewardbench question.jsonl", "benchmark rewardbench"),
        (
            "--mt-bench question.jsonl --leaderboard chats",
            "no rows of a task of the Open LLM Leaderboard",
        ),
    ] {
        let words = format!("reproduce tiny-ultrachat.toml --scale paper --seeds 1, {words}");
        let told = told(&bench, &words);
        assert!(told.contains(expected), "{words}: {told}");
        assert!(
            !bench.path("runs/artifacts").exists()
                || Store::open_existing(bench.path("runs"))
                    .unwrap()
                    .list()
                    .unwrap()
                    .is_empty()
        );
    }
}

//! Real posts from a file: the study runs without network and without gold, and says what it therefore cannot measure.

mod common;

use common::{Bench, fixture};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};
use touchstone::data::{Codec, corpus, tldr};
use touchstone::pipeline::{Manifest, Store};

const RUN: &str = "reproduce tiny.toml --profile smoke --methods sft,irl,spin --seeds 1,2 --jobs 2 \
                   --data posts.jsonl --tokenizer tok --set sft.epochs=12 --set sft.batch_size=2 \
                   --set sft.optimiser.learning_rate=0.005 --set reward.epochs=6";

/// Twelve invented posts and a tokenizer that was trained on them.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("tiny.toml", fs::read(fixture("experiments/tiny.toml")).unwrap());
    bench.write("posts.jsonl", fs::read(fixture("tldr/posts.jsonl")).unwrap());
    bench.write("tok/tokenizer.json", fs::read(fixture("tldr/tokenizer.json")).unwrap());
    bench
}

/// Writes the tokenizer of the fixture: byte-level, as that of Pythia is.
#[test]
#[ignore = "writes a fixture; run it when posts.jsonl changes"]
fn train_the_fixture_s_tokenizer() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    let texts = rows.iter().flat_map(|row| [tldr::prompt(&row.post), tldr::response(&row.summary)]);
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(512)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from("<|endoftext|>", true), AddedToken::from("<|padding|>", true)])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts).unwrap();
    tokenizer.save(fixture("tldr/tokenizer.json"), false).unwrap();
}

fn codec(max_prompt_tokens: usize) -> Codec {
    Codec::new(Tokenizer::from_file(fixture("tldr/tokenizer.json")).unwrap(), max_prompt_tokens, 24).unwrap()
}

// --- Text to tokens ---

#[test]
fn prompts_are_those_of_the_task_and_long_posts_lose_their_end() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    assert_eq!(rows.len(), 12);
    let mut text = format!("whole:\n{}{}\n", tldr::prompt(&rows[1].post), tldr::response(&rows[1].summary));
    for limit in [150, 96, 48] {
        let codec = codec(limit);
        let prompt = tldr::fitted(&rows[1].post, &codec).unwrap();
        text.push_str(&format!("\nat most {limit} tokens, {}:\n{prompt}\n", codec.prompt_length(&prompt).unwrap()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_prompt_fits_and_keeps_its_frame() {
    for row in corpus::read(&fixture("tldr/posts.jsonl")).unwrap() {
        for limit in [64, 96, 150, 1000] {
            let codec = codec(limit);
            let prompt = tldr::fitted(&row.post, &codec).unwrap();
            let head = format!("SUBREDDIT: r/{}\n\nTITLE: {}\n\nPOST: ", row.post.subreddit, row.post.title);
            let body = prompt.strip_prefix(&head).and_then(|rest| rest.strip_suffix("\n\nTL;DR:")).expect(&prompt);
            assert!(row.post.post.starts_with(body) && codec.prompt(&prompt).unwrap().len() <= limit);
        }
    }
}

#[test]
fn responses_survive_the_way_to_tokens_and_back() {
    let codec = codec(96);
    for row in corpus::read(&fixture("tldr/posts.jsonl")).unwrap() {
        let response = codec.response(&tldr::response(&row.summary)).unwrap();
        assert!(response.ids.len() <= 24);
        assert_eq!(response.ended, response.ids.last() == Some(&codec.eos));
        let back = codec.decoded(response.ids.clone(), response.ended).unwrap();
        assert!(response.text.starts_with(back.text.trim_end_matches('\u{fffd}')), "{back:?}");
        assert_eq!(response.ended, back.text == response.text);
    }
}

#[test]
fn a_csv_file_holds_the_same_rows() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |row: &corpus::Row| {
        [&row.summary, &row.id, &row.post.subreddit, &row.post.title, &row.post.post].map(|field| quoted(field)).join(",")
    };
    let csv = rows.iter().fold("summary,id,subreddit,title,post\n".to_owned(), |text, row| text + &line(row) + "\n");
    let bench = Bench::new();
    assert_eq!(corpus::read(&bench.write("posts.csv", csv)).unwrap(), rows);
}

// --- The study ---

fn curve(store: &Store, manifest: &Manifest, key: &str) -> Vec<f64> {
    let path = store.artifact(&manifest.key).unwrap().join("curve.json");
    let curve: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    curve[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn real_posts_run_to_a_report_that_says_what_is_missing() {
    let bench = bench();
    let said = bench.succeed(RUN);
    assert!(!said.err.contains("failed"), "{}", said.err);

    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let of_kind = |kind: &'static str| manifests.iter().filter(move |manifest| manifest.spec.kind == kind);
    assert_eq!(of_kind("sft").count(), 2);
    for manifest in of_kind("sft") {
        let loss = curve(&store, manifest, "loss");
        let quarter = loss.len() / 4;
        let (early, late) = (mean(&loss[..quarter]), mean(&loss[loss.len() - quarter..]));
        assert!(late < 0.8 * early, "{}: the loss went from {early} to {late}", manifest.label);
    }
    // A random model's samples are told from human summaries by anything that learns at all.
    for manifest in of_kind("reward") {
        let loss = curve(&store, manifest, "loss");
        assert!(loss.last() < loss.first(), "{}: {loss:?}", manifest.label);
    }
    no_post_is_both_trained_on_and_held_out(&store, &manifests);

    let report = bench.read("reports/tiny/report.md");
    let unwrapped = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in ["Real posts from posts.jsonl", "no known gold reward", "no preferences were given", "randomly initialised"] {
        assert!(unwrapped.contains(expected), "`{expected}` is not in:\n{report}");
    }
    let metrics = bench.read("reports/tiny/metrics.csv");
    let has = |metric: &str| metrics.lines().any(|line| line.split(',').any(|field| field == metric));
    for measured in ["demo_log_likelihood", "demonstration_accuracy", "kl", "length", "eos_rate", "learned_reward"] {
        assert!(has(measured), "{measured} is missing");
    }
    for unknown in ["gold", "gold_greedy", "win_rate", "tie_rate", "copy_accuracy", "preference_accuracy", "on_policy_accuracy"] {
        assert!(!has(unknown), "{unknown} cannot be known of real text");
    }
}

fn no_post_is_both_trained_on_and_held_out(store: &Store, manifests: &[Manifest]) {
    let corpus = manifests.iter().find(|manifest| manifest.spec.kind == "corpus").unwrap();
    let folder = store.artifact(&corpus.key).unwrap();
    let ids = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()).collect()
    };
    let (trained, held_out) = (ids("demonstrations.jsonl"), ids("held_out.jsonl"));
    assert_eq!((trained.len(), held_out.len()), (10, 2));
    assert!(held_out.iter().all(|id| !trained.contains(id)));
}

#[test]
fn a_changed_file_is_another_study() {
    let bench = bench();
    let done = |bench: &Bench| {
        let plan = RUN.replace("reproduce", "plan").replace("--jobs 2", "") + " --stages";
        bench.succeed(&plan).out.lines().filter(|line| line.trim_end().ends_with(" to do")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = done(&bench);
    assert_eq!(before, done(&bench));
    let changed = bench.read("posts.jsonl").replace("plastic", "paper");
    bench.write("posts.jsonl", changed);
    let after = done(&bench);
    assert_eq!(before.len(), after.len());
    let key = |line: &String| line.split_whitespace().next().unwrap().to_owned();
    let same: Vec<_> = before.iter().zip(&after).filter(|(before, after)| key(before) == key(after)).collect();
    assert!(same.iter().all(|(line, _)| line.contains(" random ")), "made from other posts, yet the same: {same:?}");
}

#[test]
fn methods_that_need_the_embedded_world_are_refused_before_anything_runs() {
    let bench = bench();
    let said = bench.run(&RUN.replace("--methods sft,irl,spin", ""));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("method `rlhf` needs labelled preferences"), "{}", said.err);
    assert!(said.err.contains("--methods sft,irl,irl-eq10,spin"), "{}", said.err);
    assert!(!bench.path("runs").exists());
    assert!(Path::new(&bench.path("posts.jsonl")).exists());
}

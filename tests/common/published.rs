//! A tiny study of published models and data sets, all of them already in the hub's cache.

use super::{Bench, Said, fixture};
use serde_json::{Value, json};
use std::fs;
use touchstone::device;
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::StoredAs;
use touchstone::model::{DecoderConfig, LanguageModel, RewardModel};
use touchstone::rng::stream;

pub const COMMIT: &str = "8fb2f5c0a1d34e6798bb0a5c7d9e1f2031425364";

pub const RUN: &str = "reproduce tiny.toml --scale published --profile smoke --methods sft,irl,spin,rlhf --seeds 1, --jobs 2 \
                   --set demonstrations.count=6 --set preferences.pairs=4 --set evaluation.posts=3 \
                   --set evaluation.preference_pairs=3 --set evaluation.on_policy_pairs=3 --set rlhf.rounds=1";

/// A folder with the experiment, its data sets, and a hub's cache with its three models.
pub fn published() -> Bench {
    let bench = Bench::new();
    let tokenizer = fixture("tldr/tokenizer.json");
    let vocabulary = tokenizers::Tokenizer::from_file(&tokenizer)
        .unwrap()
        .get_vocab_size(true);
    let device = device::select(device::DEFAULT).unwrap();
    let config: DecoderConfig = serde_json::from_value(json!({
        "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 0
    }))
    .unwrap();
    let model = |seed| {
        LanguageModel::random(
            &config,
            0.3,
            &mut stream(seed, "test/published", &[]),
            &device,
        )
        .unwrap()
    };
    let snapshot = |name: &str| bench.path(format!("hf/hub/models--o--{name}/snapshots/{COMMIT}"));
    for (name, seed) in [("base", 1), ("demonstrator", 2)] {
        Checkpoint::save_language_model(&snapshot(name), &model(seed), &tokenizer, StoredAs::F16)
            .unwrap();
    }
    let judge = RewardModel::on(&model(3), 0.0, &mut stream(3, "test/judge", &[]));
    Checkpoint::save_reward_model(
        &snapshot("judge"),
        &judge,
        &Normalisation::none(0.0),
        &tokenizer,
    )
    .unwrap();

    let posts: Vec<Value> = fs::read_to_string(fixture("tldr/posts.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines = |rows: &[Value]| {
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>()
    };
    bench.write("posts/train.jsonl", lines(&posts[..8]));
    bench.write("posts/test.jsonl", lines(&posts[8..]));
    let comparison = |(index, post): (usize, &Value)| {
        let summary =
            |text: &Value, policy: &str| json!({"text": text, "policy": policy, "note": null});
        let info = json!({"id": post["id"], "post": post["post"], "title": post["title"],
            "subreddit": post["subreddit"], "site": null, "article": null});
        json!({"info": info, "summaries": [summary(&post["summary"], "ref"), summary(&post["title"], "title")],
            "choice": index % 2, "worker": "w", "batch": "b", "split": "s", "extra": {"confidence": 5}})
    };
    let comparisons: Vec<Value> = posts.iter().enumerate().map(comparison).collect();
    bench.write("comparisons/train.jsonl", lines(&comparisons[..6]));
    bench.write("comparisons/validation.jsonl", lines(&comparisons[6..]));

    let shape = |id: &str, vocabulary: usize| {
        format!(
            "[models.{id}]\nlabel = \"{id}\"\nstands_for = \"nothing\"\ncheckpoint = \"hf:o/{id}@{COMMIT}\"\n\
             vocab_size = {vocabulary}\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
             intermediate_size = 32\nmax_position_embeddings = 128\nrotary_pct = 0.25\nrotary_emb_base = 10000.0\n\
             layer_norm_eps = 1e-5\ninitializer_range = 0.02\nuse_parallel_residual = true\n\
             tie_word_embeddings = false\n\n"
        )
    };
    let mut text = fs::read_to_string(fixture("experiments/tiny.toml")).unwrap();
    text += "\n[scale.published]\ndescription = \"published models on published posts\"\nsizes = [\"base\"]\n\
             generation = { max_prompt_tokens = 96, max_response_tokens = 24, batch_size = 4 }\n\
             training.dtype = \"bf16\"\n\n[scale.published.data]\nposts = \"posts\"\ncomparisons = \"comparisons\"\n\
             demonstrator = \"demonstrator\"\ndemonstrator_temperature = 1.0\njudge = \"judge\"\n\n";
    text += &["base", "demonstrator", "judge"]
        .map(|id| shape(id, vocabulary))
        .concat();
    bench.write("tiny.toml", text);
    bench
}

pub fn run(bench: &Bench, words: &str) -> Said {
    let mut command = bench.command(words);
    command
        .env("HF_HOME", bench.path("hf"))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HUB_CACHE");
    Said::from(command.output().unwrap())
}

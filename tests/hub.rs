//! Models and tokenizers from a hub, through the binary: a server on this machine answers as a hub does.
#![cfg(feature = "hub")]

mod hub_server;

use assert_cmd::Command;
use hub_server::{Answer, COMMIT, Server};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use touchstone::data::hub::Hub;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt_neox").join(name)
}

/// A folder to work in, with the rows of the golden file of `pythia` as input.
struct Desk {
    folder: TempDir,
    golden: Value,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(fixture("pythia/golden.json")).unwrap()).unwrap();
        let row =
            |row: &Value| json!({"prompt_ids": row["prompt_ids"], "response_ids": row["response_ids"]}).to_string();
        let rows: Vec<String> = golden["rows"].as_array().unwrap().iter().map(row).collect();
        std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n") + "\n").unwrap();
        Self { folder, golden }
    }

    /// `touchstone <words>`, with its cache in this folder and nothing of the tester's own hub settings.
    fn touchstone(&self, endpoint: &str, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("touchstone").unwrap();
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            .env("HF_HOME", "hf")
            .env("HF_ENDPOINT", endpoint)
            .env("NO_PROXY", "127.0.0.1");
        command.args(words);
        command
    }

    fn score(&self, endpoint: &str, model: &str) -> Command {
        self.touchstone(endpoint, &["score", "--model", model, "--input", "rows.jsonl", "--output", "scored.jsonl"])
    }

    /// Asserts that the last `score` wrote the golden log-probabilities, and takes them away.
    #[track_caller]
    fn assert_golden(&self) {
        let path = self.folder.path().join("scored.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let scored: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let golden = self.golden["rows"].as_array().unwrap();
        assert_eq!(scored.len(), golden.len());
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
        for (scored, golden) in scored.iter().zip(golden) {
            let (scored, golden) = (numbers(&scored["token_logprobs"]), numbers(&golden["logprobs"]));
            assert_eq!(scored.len(), golden.len());
            assert!(scored.iter().zip(&golden).all(|(a, b)| (a - b).abs() < 1e-4), "{scored:?} is not {golden:?}");
        }
    }
}

/// What a command that must fail says, without the terminal's line breaks and with the server's port named.
#[track_caller]
fn failure(command: &mut Command) -> String {
    let output = command.assert().code(1).get_output().stderr.clone();
    let text = String::from_utf8(output).unwrap().replace(['│', '×'], " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The terminal may break a line after a slash.
    text.replace("/ ", "/").replace("╰─▶", "\n╰─▶").replace("help:", "\nhelp:")
}

macro_rules! assert_failure {
    ($name:expr, $command:expr) => {
        insta::with_settings!(
            {filters => vec![(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r" \(os error \d+\)", "")]},
            { insta::assert_snapshot!($name, failure($command)) }
        )
    };
}

fn pinned() -> String {
    format!("hf:o/n@{COMMIT}")
}

#[test]
fn a_model_on_a_hub_gives_the_golden_log_probabilities_and_then_needs_no_hub() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();

    // A commit that is cached is read without a question, also about the tokenizer that the repository does not have.
    server.forget();
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();
    assert_eq!(server.requests(), [""; 0]);

    let endpoint = server.endpoint();
    drop(server);
    desk.score(&endpoint, &pinned()).assert().success();
    desk.assert_golden();
    desk.score(&endpoint, &pinned()).env("HF_HUB_OFFLINE", "1").assert().success();
    desk.assert_golden();
}

#[test]
fn a_branch_is_read_at_the_commit_it_is_at_and_the_reader_is_told() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let output = desk.score(&server.endpoint(), "hf:o/n@main").assert().success().get_output().stderr.clone();
    desk.assert_golden();
    let said = String::from_utf8(output).unwrap();
    assert!(said.contains(&format!("hf:o/n@main is now hf:o/n@{COMMIT}")), "{said}");
    let files: Vec<String> = server.requests().into_iter().filter(|line| line.contains("/resolve/")).collect();
    assert!(!files.is_empty() && files.iter().all(|line| line.contains(COMMIT)), "{files:?}");
}

#[test]
fn the_token_opens_a_gated_model() {
    let desk = Desk::new();
    let server = Server::start("o/n", &fixture("pythia")).answering(Answer::Gated { token: "hf_secret" });
    let mut command = desk.score(&server.endpoint(), &pinned());
    assert_failure!("gated_without_a_token", &mut command);
    assert_failure!("gated_with_another_token", command.env("HF_TOKEN", "hf_other"));
    command.env("HF_TOKEN", "hf_secret").assert().success();
    desk.assert_golden();
}

#[test]
fn a_tokenizer_on_a_hub_serves_a_study_of_local_posts() {
    let (desk, repository) = (Desk::new(), TempDir::new().unwrap());
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": {"<|endoftext|>": 0}, "unk_token": "<|endoftext|>"}});
    std::fs::write(repository.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(desk.folder.path().join("posts.csv"), "id,subreddit,title,post,summary\n1,a,b,c,d\n").unwrap();
    let server = Server::start("o/n", repository.path());
    let words = ["plan", "tldr", "--data", "posts.csv", "--tokenizer", &pinned()];
    desk.touchstone(&server.endpoint(), &words).assert().success();
    desk.touchstone("http://127.0.0.1:1", &words).env("HF_HUB_OFFLINE", "1").assert().success();
}

#[test]
fn sharded_weights_come_with_their_index_and_every_shard() {
    let (cache, server) = (TempDir::new().unwrap(), Server::start("o/n", &fixture("sharded")));
    let fetch = |offline| {
        Hub::at(&server.endpoint(), cache.path(), offline)?.fetch(
            "o/n",
            COMMIT,
            &["config.json", "model.safetensors"],
            &[],
        )
    };
    let folder = fetch(false).unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for name in ["config.json", "model.safetensors.index.json"].iter().chain(&shards) {
        let (fetched, original) = (std::fs::read(folder.join(name)), std::fs::read(fixture("sharded").join(name)));
        assert!(fetched.unwrap() == original.unwrap(), "{name}");
    }
    assert_eq!(fetch(true).unwrap(), folder);
    std::fs::remove_file(folder.join(shards[1])).unwrap();
    assert!(fetch(true).unwrap_err().to_string().starts_with(shards[1]));
}

#[test]
fn what_the_hub_does_not_have_is_said_with_a_remedy() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let endpoint = server.endpoint();
    assert_failure!("no_such_repository", &mut desk.score(&endpoint, &format!("hf:o/m@{COMMIT}")));
    assert_failure!("no_such_commit", &mut desk.score(&endpoint, &format!("hf:o/n@{}", "0".repeat(40))));
    assert_failure!("no_such_branch", &mut desk.score(&endpoint, "hf:o/n@mian"));
    let words = ["plan", "tldr", "--data", "rows.jsonl", "--tokenizer", &pinned()];
    assert_failure!("no_such_file", &mut desk.touchstone(&endpoint, &words));
    assert!(!desk.folder.path().join("scored.jsonl").exists());
}

#[test]
fn a_hub_that_cannot_be_reached_or_must_not_be_asked_is_said_with_a_remedy() {
    let desk = Desk::new();
    assert_failure!("refused", &mut desk.score(&hub_server::nobody(), &pinned()));
    assert_failure!("offline", desk.score(&hub_server::nobody(), &pinned()).env("HF_HUB_OFFLINE", "1"));
    let mut branch = desk.score(&hub_server::nobody(), "hf:o/n@main");
    assert_failure!("offline_branch", branch.env("HF_HUB_OFFLINE", "1"));
    assert_failure!("unpinned", &mut desk.score(&hub_server::nobody(), "hf:o/n"));
}

/// The client keeps whatever answers a download; what is not the file must not be found in the cache the next time.
#[test]
fn an_error_page_or_half_a_file_is_not_kept() {
    let desk = Desk::new();
    let mut server = Server::start("o/n", &fixture("pythia"));
    for (answer, name) in [(Answer::Unreadable, "error_page"), (Answer::Half, "half_a_file")] {
        server = server.answering(answer);
        assert_failure!(name, &mut desk.score(&server.endpoint(), &pinned()));
    }
    let server = server.answering(Answer::Files);
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();
}

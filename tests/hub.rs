//! Tests of models and tokenizers from a hub, through the binary: a server on this machine imitates
//! a hub.
#![cfg(feature = "hub")]

mod hub_server;

use assert_cmd::Command;
use hub_server::{COMMIT, Fault, Server, etag};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use touchstone::data::hub::{Hub, Repository, RepositoryKind};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/gpt_neox")
        .join(name)
}

/// A working folder with the rows of the golden file of `pythia` as input.
struct Desk {
    folder: TempDir,
    golden: Value,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let golden: Value =
            serde_json::from_str(&std::fs::read_to_string(fixture("pythia/golden.json")).unwrap())
                .unwrap();
        let row = |row: &Value| {
            json!({"prompt_ids": row["prompt_ids"], "response_ids": row["response_ids"]})
                .to_string()
        };
        let rows: Vec<String> = golden["rows"].as_array().unwrap().iter().map(row).collect();
        std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n") + "\n").unwrap();
        Self { folder, golden }
    }

    /// The command `touchstone <words>`, with its cache in this folder and without the tester's own
    /// hub settings.
    fn touchstone(&self, endpoint: &str, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("touchstone").unwrap();
        let outer = [
            "HF_",
            "HUGGING",
            "TRANSFORMERS_",
            "XDG_CACHE",
            "REQUESTS_CA",
            "CURL_CA",
            "SSL_CERT",
            "TOUCHSTONE_",
        ];
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in variables.filter(|name| outer.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            .env("HF_HOME", "hf")
            .env("HF_ENDPOINT", endpoint)
            .env("NO_PROXY", "127.0.0.1,localhost");
        command.args(words);
        command
    }

    fn score(&self, endpoint: &str, model: &str) -> Command {
        self.touchstone(
            endpoint,
            &[
                "score",
                "--model",
                model,
                "--input",
                "rows.jsonl",
                "--output",
                "scored.jsonl",
            ],
        )
    }

    /// Asserts that the last `score` wrote the golden log-probabilities, and deletes its output.
    #[track_caller]
    fn assert_golden(&self) {
        let path = self.folder.path().join("scored.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let scored: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let golden = self.golden["rows"].as_array().unwrap();
        assert_eq!(scored.len(), golden.len());
        let numbers = |value: &Value| {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap())
                .collect::<Vec<_>>()
        };
        for (scored, golden) in scored.iter().zip(golden) {
            let (scored, golden) = (
                numbers(&scored["token_logprobs"]),
                numbers(&golden["logprobs"]),
            );
            assert_eq!(scored.len(), golden.len());
            assert!(
                scored
                    .iter()
                    .zip(&golden)
                    .all(|(a, b)| (a - b).abs() < 1e-4),
                "{scored:?} is not {golden:?}"
            );
        }
    }
}

/// Exit codes of the kinds of failure (docs/errors.md).
const CONFIGURATION: i32 = 3;
const MODEL: i32 = 5;
const HUB: i32 = 9;

/// The message of a command that must end with `code`, without the terminal's line breaks.
#[track_caller]
fn failure(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().stderr.clone();
    let text = String::from_utf8(output).unwrap().replace(['│', '×'], " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The terminal may break a line after a slash.
    text.replace("/ ", "/")
        .replace("╰─▶", "\n╰─▶")
        .replace("help:", "\nhelp:")
}

macro_rules! assert_failure {
    ($name:expr, $command:expr) => {
        assert_failure!($name, $command, HUB)
    };
    ($name:expr, $command:expr, $code:expr) => {
        insta::with_settings!(
            {filters => vec![(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r" \(os error \d+\)", "")]},
            { insta::assert_snapshot!($name, failure($command, $code)) }
        )
    };
}

fn pinned() -> String {
    format!("hf:o/n@{COMMIT}")
}

fn model() -> Repository {
    Repository {
        kind: RepositoryKind::Model,
        id: "o/n".into(),
        revision: COMMIT.into(),
    }
}

#[test]
fn a_model_on_a_hub_gives_the_golden_log_probabilities_and_then_needs_no_hub() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();

    // A cached commit is read without any request, even for the tokenizer that the repository
    // lacks.
    server.forget();
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();
    assert_eq!(server.requests(), [""; 0]);

    let endpoint = server.endpoint();
    drop(server);
    desk.score(&endpoint, &pinned()).assert().success();
    desk.assert_golden();
    desk.score(&endpoint, &pinned())
        .env("HF_HUB_OFFLINE", "1")
        .assert()
        .success();
    desk.assert_golden();
}

#[test]
fn a_branch_is_read_at_the_commit_it_is_at_and_the_reader_is_told() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let output = desk
        .score(&server.endpoint(), "hf:o/n@main")
        .assert()
        .success()
        .get_output()
        .stderr
        .clone();
    desk.assert_golden();
    let said = String::from_utf8(output).unwrap();
    assert!(
        said.contains(&format!("hf:o/n@main is now hf:o/n@{COMMIT}")),
        "{said}"
    );
    let files: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|line| line.contains("/resolve/"))
        .collect();
    assert!(
        !files.is_empty() && files.iter().all(|line| line.contains(COMMIT)),
        "{files:?}"
    );
}

#[test]
fn the_token_opens_a_gated_model() {
    let desk = Desk::new();
    let server = Server::start("o/n", &fixture("pythia"));
    server.fault(Fault::Gated { token: "hf_secret" });
    let mut command = desk.score(&server.endpoint(), &pinned());
    assert_failure!("gated_without_a_token", &mut command);
    assert_failure!(
        "gated_with_another_token",
        command.env("HF_TOKEN", "hf_other")
    );
    command.env("HF_TOKEN", "hf_secret").assert().success();
    desk.assert_golden();
}

#[test]
fn a_tokenizer_on_a_hub_serves_a_study_of_local_posts() {
    let (desk, repository) = (Desk::new(), TempDir::new().unwrap());
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": {"<|endoftext|>": 0}, "unk_token": "<|endoftext|>"}});
    std::fs::write(
        repository.path().join("tokenizer.json"),
        tokenizer.to_string(),
    )
    .unwrap();
    let rows: String = (0..10)
        .map(|row| format!("{row},a,b,post {row},d\n"))
        .collect();
    let posts = format!("id,subreddit,title,post,summary\n{rows}");
    std::fs::write(desk.folder.path().join("posts.csv"), posts).unwrap();
    let server = Server::start("o/n", repository.path());
    let words = [
        "plan",
        "tldr",
        "--data",
        "posts.csv",
        "--tokenizer",
        &pinned(),
    ];
    desk.touchstone(&server.endpoint(), &words)
        .assert()
        .success();
    desk.touchstone("http://127.0.0.1:1", &words)
        .env("HF_HUB_OFFLINE", "1")
        .assert()
        .success();
}

#[test]
fn sharded_weights_come_with_their_index_and_every_shard() {
    let (cache, server) = (
        TempDir::new().unwrap(),
        Server::start("o/n", &fixture("sharded")),
    );
    let fetch = |offline| {
        Hub::at(&server.endpoint(), cache.path(), offline)?.fetch(
            &model(),
            &["config.json", "model.safetensors"],
            &[],
        )
    };
    let folder = fetch(false).unwrap();
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for name in ["config.json", "model.safetensors.index.json"]
        .iter()
        .chain(&shards)
    {
        let (fetched, original) = (
            std::fs::read(folder.join(name)),
            std::fs::read(fixture("sharded").join(name)),
        );
        assert!(fetched.unwrap() == original.unwrap(), "{name}");
    }
    assert_eq!(fetch(true).unwrap(), folder);
    std::fs::remove_file(folder.join(shards[1])).unwrap();
    assert!(fetch(true).unwrap_err().to_string().starts_with(shards[1]));
}

#[test]
fn where_there_is_no_safetensors_pickled_weights_come() {
    let (cache, server) = (
        TempDir::new().unwrap(),
        Server::start("o/n", &fixture("scalar")),
    );
    let hub = Hub::at(&server.endpoint(), cache.path(), false).unwrap();
    let folder = hub
        .fetch(&model(), &["config.json", "model.safetensors"], &[])
        .unwrap();
    let read = |folder: &Path| std::fs::read(folder.join("pytorch_model.bin")).unwrap();
    assert!(read(&folder) == read(&fixture("scalar")));
}

#[test]
fn what_the_hub_does_not_have_is_said_with_a_remedy() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let endpoint = server.endpoint();
    assert_failure!(
        "no_such_repository",
        &mut desk.score(&endpoint, &format!("hf:o/m@{COMMIT}"))
    );
    assert_failure!(
        "no_such_commit",
        &mut desk.score(&endpoint, &format!("hf:o/n@{}", "0".repeat(40)))
    );
    assert_failure!("no_such_branch", &mut desk.score(&endpoint, "hf:o/n@mian"));
    let words = [
        "plan",
        "tldr",
        "--data",
        "rows.jsonl",
        "--tokenizer",
        &pinned(),
    ];
    assert_failure!("no_such_file", &mut desk.touchstone(&endpoint, &words));
    assert!(!desk.folder.path().join("scored.jsonl").exists());
}

#[test]
fn a_hub_that_cannot_be_reached_or_must_not_be_asked_is_said_with_a_remedy() {
    let desk = Desk::new();
    assert_failure!("refused", &mut desk.score(&hub_server::nobody(), &pinned()));
    assert_failure!(
        "offline",
        desk.score(&hub_server::nobody(), &pinned())
            .env("HF_HUB_OFFLINE", "1")
    );
    let mut branch = desk.score(&hub_server::nobody(), "hf:o/n@main");
    assert_failure!("offline_branch", branch.env("HF_HUB_OFFLINE", "1"));
    assert_failure!(
        "unpinned",
        &mut desk.score(&hub_server::nobody(), "hf:o/n"),
        CONFIGURATION
    );
}

/// A repository with one large file, in which no two places have the same bytes.
struct Large {
    folder: TempDir,
    bytes: Vec<u8>,
}

const LARGE: &str = "model.safetensors";

impl Large {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..75_000_u32).flat_map(u32::to_le_bytes).collect();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(LARGE), &bytes).unwrap();
        Self { folder, bytes }
    }

    fn serve(&self) -> Server {
        Server::start("o/n", self.folder.path())
    }

    fn fetch(&self, server: &Server, cache: &TempDir) -> touchstone::Result<()> {
        let folder =
            Hub::at(&server.endpoint(), cache.path(), false)?.fetch(&model(), &[LARGE], &[])?;
        assert!(std::fs::read(folder.join(LARGE)).unwrap() == self.bytes);
        Ok(())
    }

    fn part(&self, cache: &TempDir) -> PathBuf {
        cache
            .path()
            .join("models--o--n/blobs")
            .join(etag(LARGE, &self.bytes) + ".incomplete")
    }
}

/// The requests for bytes at the large file's location, without the prefix of that location.
fn downloads(server: &Server) -> Vec<String> {
    let lies_there = |line: &String| line.starts_with("GET /cdn/o/n/");
    server
        .requests()
        .into_iter()
        .filter(lies_there)
        .map(|line| line["GET /cdn/o/n/".len()..].to_owned())
        .collect()
}

#[test]
fn a_mirror_that_drops_the_connection_is_asked_for_what_is_missing_and_no_more() {
    let (large, cache) = (Large::new(), TempDir::new().unwrap());
    let server = large.serve();
    server.fault(Fault::Drop {
        after: 80_000,
        times: 3,
    });
    large.fetch(&server, &cache).unwrap();
    let expected =
        ["", " from 80000", " from 160000", " from 240000"].map(|from| format!("{LARGE}{from}"));
    assert_eq!(downloads(&server), expected);
    assert_eq!(server.bytes_sent(), large.bytes.len());
}

#[test]
fn a_mirror_that_sends_only_whole_files_serves_too() {
    let (large, cache) = (Large::new(), TempDir::new().unwrap());
    let server = large.serve();
    server.fault(Fault::NoRanges);
    server.fault(Fault::Drop {
        after: 80_000,
        times: 1,
    });
    large.fetch(&server, &cache).unwrap();
    assert_eq!(server.bytes_sent(), 80_000 + large.bytes.len());
}

#[test]
fn a_connection_over_which_nothing_comes_is_given_up_and_the_next_goes_on() {
    let (desk, large) = (Desk::new(), Large::new());
    let server = large.serve();
    server.fault(Fault::Stall { after: 200_000 });
    // The file is not a model, so the command fails, but only after the download.
    let mut command = desk.score(&server.endpoint(), &pinned());
    std::fs::copy(
        fixture("pythia/config.json"),
        large.folder.path().join("config.json"),
    )
    .unwrap();
    let said = failure(command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1"), MODEL);
    assert!(said.contains("stopped at 200.00 kB of 300.00 kB"), "{said}");
    assert_eq!(
        downloads(&server),
        [LARGE.to_owned(), format!("{LARGE} from 200000")]
    );
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let weights = std::fs::read(fixture("pythia").join(LARGE)).unwrap();
    let half = weights.len() / 2;
    server.fault(Fault::Stall { after: half });
    let mut command = desk.score(&server.endpoint(), &pinned());
    let mut child = std::process::Command::new(command.get_program());
    child
        .args(command.get_args())
        .current_dir(&desk.folder)
        .stderr(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    let mut child = child.spawn().unwrap();
    let part = desk
        .folder
        .path()
        .join("hf/hub/models--o--n/blobs")
        .join(etag(LARGE, &weights) + ".incomplete");
    let length = || std::fs::metadata(&part).map_or(0, |metadata| metadata.len() as usize);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while length() < half {
        assert!(
            std::time::Instant::now() < deadline,
            "{} bytes came",
            length()
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    server.cure();
    server.forget();
    command.assert().success();
    desk.assert_golden();
    assert_eq!(downloads(&server), [format!("{LARGE} from {half}")]);
    assert_eq!(server.bytes_sent(), weights.len() - half);
}

#[test]
fn half_a_file_an_error_page_or_a_damaged_file_never_gets_its_name() {
    let faults = [
        (Fault::Unreadable, "error_page"),
        (Fault::CutAt { byte: 5000 }, "half_a_file"),
        (Fault::Corrupt, "damaged_file"),
    ];
    std::thread::scope(|scope| {
        for (fault, name) in faults {
            scope.spawn(move || {
                let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
                server.fault(fault);
                assert_failure!(name, &mut desk.score(&server.endpoint(), &pinned()));
                let weights = format!("hf/hub/models--o--n/snapshots/{COMMIT}/{LARGE}");
                assert!(!desk.folder.path().join(weights).exists());
                server.cure();
                desk.score(&server.endpoint(), &pinned()).assert().success();
                desk.assert_golden();
            });
        }
    });
}

#[test]
fn what_an_earlier_run_left_damaged_is_fetched_anew() {
    let (large, cache) = (Large::new(), TempDir::new().unwrap());
    let server = large.serve();
    let part = large.part(&cache);
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    for (left, requests) in [
        (vec![7; 1000], vec![" from 1000", ""]),
        (vec![7; 300_000], vec![""]),
        (vec![7; 300_001], vec![""]),
    ] {
        std::fs::write(&part, left).unwrap();
        server.forget();
        large.fetch(&server, &cache).unwrap();
        assert_eq!(
            downloads(&server),
            requests
                .iter()
                .map(|from| format!("{LARGE}{from}"))
                .collect::<Vec<_>>()
        );
        std::fs::remove_dir_all(cache.path().join("models--o--n/snapshots")).unwrap();
        std::fs::remove_file(part.with_extension("")).unwrap();
    }
}

#[test]
fn a_hub_that_is_busy_or_down_for_a_moment_is_waited_for() {
    for (code, retry_after) in [(429, Some(0)), (503, None), (502, None)] {
        let (large, cache) = (Large::new(), TempDir::new().unwrap());
        let server = large.serve();
        server.fault(Fault::Status {
            code,
            retry_after,
            times: 2,
        });
        large.fetch(&server, &cache).unwrap();
    }
}

#[test]
fn a_hub_that_stays_busy_or_down_is_said_with_a_remedy() {
    let busy = Fault::Status {
        code: 429,
        retry_after: Some(3600),
        times: usize::MAX,
    };
    let down = Fault::Status {
        code: 503,
        retry_after: None,
        times: usize::MAX,
    };
    std::thread::scope(|scope| {
        for (fault, name) in [(busy, "busy"), (down, "down")] {
            scope.spawn(move || {
                let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
                server.fault(fault);
                assert_failure!(name, &mut desk.score(&server.endpoint(), &pinned()));
            });
        }
    });
}

#[test]
fn a_mirror_that_says_little_is_enough() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    server.fault(Fault::Taciturn);
    desk.score(&server.endpoint(), &pinned()).assert().success();
    desk.assert_golden();
    assert_failure!(
        "taciturn_no_such_repository",
        &mut desk.score(&server.endpoint(), &format!("hf:o/m@{COMMIT}"))
    );
}

#[test]
fn two_processes_fetch_a_file_once() {
    let (large, cache) = (Large::new(), TempDir::new().unwrap());
    let server = large.serve();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| large.fetch(&server, &cache)))
            .collect();
        fetches
            .into_iter()
            .for_each(|fetch| fetch.join().unwrap().unwrap());
    });
    assert_eq!(server.bytes_sent(), large.bytes.len());
}

/// The cache has the layout of `huggingface_hub` in Python.
#[cfg(unix)]
#[test]
fn the_cache_is_pythons() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    desk.score(&server.endpoint(), "hf:o/n@main")
        .assert()
        .success();
    let cache = desk.folder.path().join("hf/hub/models--o--n");
    assert_eq!(
        std::fs::read_to_string(cache.join("refs/main")).unwrap(),
        COMMIT
    );
    for name in ["config.json", LARGE] {
        let bytes = std::fs::read(fixture("pythia").join(name)).unwrap();
        let link = std::fs::read_link(cache.join("snapshots").join(COMMIT).join(name)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(etag(name, &bytes)));
    }
    assert!(
        cache
            .join(".no_exist")
            .join(COMMIT)
            .join("tokenizer.json")
            .is_file()
    );
    // A revision that was resolved once is known without a request.
    desk.score("http://127.0.0.1:1", "hf:o/n@main")
        .env("HF_HUB_OFFLINE", "1")
        .assert()
        .success();
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_said_and_what_has_come_is_kept() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let mut command = desk.score(&server.endpoint(), &pinned());
    let mut limited = std::process::Command::new("sh");
    // Files may have at most 16 blocks of 512 bytes; a write beyond that fails as on a full disk.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(command.get_program());
    limited.args(command.get_args()).current_dir(&desk.folder);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    assert_failure!("no_room", &mut Command::from_std(limited));
    server.forget();
    command.assert().success();
    desk.assert_golden();
    assert_eq!(downloads(&server), [format!("{LARGE} from 8192")]);
}

// --- The environment and caches of others ---

/// A cache in the state in which Python's `hf download` leaves it: blobs, links, a ref, and no list
/// of files that the repository lacks.
#[cfg(unix)]
fn pythons_cache(hub: &Path, from: &Path, files: &[&str]) -> PathBuf {
    let cache = hub.join("models--o--n");
    let snapshot = cache.join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs/refs/pr"]
        .map(|name| cache.join(name))
        .iter()
        .chain([&snapshot])
    {
        std::fs::create_dir_all(folder).unwrap();
    }
    for branch in ["main", "refs/pr/1"] {
        std::fs::write(cache.join("refs").join(branch), COMMIT).unwrap();
    }
    for name in files {
        let bytes = std::fs::read(from.join(name)).unwrap();
        let blob = etag(name, &bytes);
        std::fs::write(cache.join("blobs").join(&blob), bytes).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), snapshot.join(name))
            .unwrap();
    }
    snapshot
}

#[cfg(unix)]
#[test]
fn offline_a_cache_of_pythons_serves_and_what_it_does_not_have_is_absent() {
    let desk = Desk::new();
    let here = |name: &str| desk.folder.path().join(name);
    let snapshot = pythons_cache(&here("hf/hub"), &fixture("pythia"), &["config.json", LARGE]);
    let offline = |model: &str| {
        let mut command = desk.score("http://127.0.0.1:1", model);
        command.env("HF_HUB_OFFLINE", "1");
        command
    };
    for model in [pinned(), "hf:o/n@main".into(), "hf:o/n@refs/pr/1".into()] {
        offline(&model).assert().success();
        desk.assert_golden();
    }
    // Copies replace links if the user may not create links.
    let link = snapshot.join("config.json");
    let bytes = std::fs::read(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, &bytes).unwrap();
    offline(&pinned()).assert().success();
    desk.assert_golden();

    // The list of the commit's files distinguishes files that were not downloaded from files that
    // do not exist.
    let tree = here("hf/hub/models--o--n/trees").join(format!("{COMMIT}.json"));
    std::fs::create_dir_all(tree.parent().unwrap()).unwrap();
    let files = r#"{"config.json": {}, "model.safetensors": {}, "tokenizer.json": {}}"#;
    std::fs::write(
        &tree,
        format!(r#"{{"format_version": 1, "files": {files}}}"#),
    )
    .unwrap();
    let said = failure(&mut offline(&pinned()), HUB);
    assert!(
        said.contains("tokenizer.json of hf:o/n") && said.contains("is not in the cache"),
        "{said}"
    );
    std::fs::remove_file(&tree).unwrap();

    // A required file that is missing, and a link whose blob is missing, are errors.
    let weights = snapshot.join(LARGE);
    std::fs::remove_file(weights.canonicalize().unwrap()).unwrap();
    let said = failure(&mut offline(&pinned()), HUB);
    assert!(
        said.contains("a link in the cache that leads nowhere"),
        "{said}"
    );
    std::fs::remove_file(weights).unwrap();
    let said = failure(&mut offline(&pinned()), HUB);
    assert!(
        said.contains("model.safetensors of hf:o/n") && said.contains("is not in the cache"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn shards_in_a_cache_of_pythons_are_found_offline() {
    let cache = TempDir::new().unwrap();
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let files = [
        &["config.json", "model.safetensors.index.json"],
        &shards[..],
    ]
    .concat();
    let snapshot = pythons_cache(cache.path(), &fixture("sharded"), &files);
    let fetch = || {
        Hub::at("http://127.0.0.1:1", cache.path(), true)?.fetch(
            &model(),
            &["config.json", LARGE],
            &["tokenizer.json"],
        )
    };
    assert_eq!(fetch().unwrap(), snapshot);
    std::fs::remove_file(snapshot.join(shards[1])).unwrap();
    assert!(fetch().unwrap_err().to_string().starts_with(shards[1]));
}

#[test]
fn a_hub_that_does_not_answer_leaves_a_branch_where_it_was() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    desk.score(&server.endpoint(), "hf:o/n@main")
        .assert()
        .success();
    desk.assert_golden();
    let said = desk
        .score(&hub_server::nobody(), "hf:o/n@main")
        .assert()
        .success()
        .get_output()
        .stderr
        .clone();
    desk.assert_golden();
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains(&format!("is read from the cache as hf:o/n@{COMMIT}")),
        "{said}"
    );
}

#[test]
fn the_cache_is_where_the_variables_say() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let at = |set: &[(&str, &str)], place: &str| {
        let mut command = desk.score(&server.endpoint(), &pinned());
        command
            .env_remove("HF_HOME")
            .env("HOME", desk.folder.path().join("home"))
            .envs(set.iter().copied());
        command.assert().success();
        desk.assert_golden();
        let found = desk
            .folder
            .path()
            .join(place)
            .join("models--o--n/snapshots")
            .join(COMMIT)
            .join("config.json");
        assert!(found.is_file(), "{set:?}: nothing at {place}");
        assert!(
            !desk.folder.path().join("~").exists(),
            "a folder is called `~`"
        );
    };
    at(&[], "home/.cache/huggingface/hub");
    at(&[("HF_HOME", "~/x")], "home/x/hub");
    at(&[("HF_HOME", "$WHERE/${WHERE}"), ("WHERE", "w")], "w/w/hub");
    at(
        &[("HF_HUB_CACHE", "~/cache"), ("HF_HOME", "elsewhere")],
        "home/cache",
    );
    at(&[("HUGGINGFACE_HUB_CACHE", "old")], "old");
    at(&[("XDG_CACHE_HOME", "xdg")], "xdg/huggingface/hub");
    // Copies replace links if the settings disable links.
    at(
        &[("HF_HOME", "copies"), ("HF_HUB_DISABLE_SYMLINKS", "1")],
        "copies/hub",
    );
    let copied = desk
        .folder
        .path()
        .join("copies/hub/models--o--n/snapshots")
        .join(COMMIT)
        .join(LARGE);
    assert!(!copied.is_symlink() && copied.is_file());
}

#[test]
fn tokens_are_found_as_python_finds_them() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    server.fault(Fault::Gated { token: "hf_secret" });
    std::fs::create_dir_all(desk.folder.path().join("hf")).unwrap();
    for (place, set) in [
        ("hf/token", vec![]),
        ("mine", vec![("HF_TOKEN_PATH", "mine")]),
        ("none", vec![("HUGGING_FACE_HUB_TOKEN", " hf_secret\n")]),
        ("none", vec![("HF_TOKEN", "hf_secret")]),
    ] {
        let file = desk.folder.path().join(place);
        std::fs::write(&file, "\n hf_secret \r\n").unwrap();
        let mut command = desk.score(&server.endpoint(), &pinned());
        command.envs(set.iter().copied());
        if place == "none" {
            std::fs::remove_file(&file).unwrap();
        }
        command.assert().success();
        desk.assert_golden();
        failure(
            command
                .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")
                .env("HF_HUB_CACHE", "empty"),
            HUB,
        );
        let _ = std::fs::remove_file(file);
        std::fs::remove_dir_all(desk.folder.path().join("hf/hub")).unwrap();
    }
}

#[test]
fn variables_that_cannot_be_meant_are_refused_by_name() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    for (name, value, code) in [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", CONFIGURATION),
        ("HF_HUB_ETAG_TIMEOUT", "-1", CONFIGURATION),
        ("HF_ENDPOINT", "huggingface.co", HUB),
        ("REQUESTS_CA_BUNDLE", "nowhere.pem", HUB),
    ] {
        let said = failure(
            desk.score(&server.endpoint(), &pinned()).env(name, value),
            code,
        );
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn a_proxy_is_used_except_where_it_is_told_not_to_be() {
    let (desk, server) = (Desk::new(), Server::start("o/n", &fixture("pythia")));
    let proxied = |no_proxy: &str| {
        let mut command = desk.score(&server.endpoint(), &pinned());
        command
            .env("NO_PROXY", no_proxy)
            .env("HTTP_PROXY", hub_server::nobody())
            .env_remove("http_proxy");
        command
    };
    assert!(failure(&mut proxied(""), HUB).contains("cannot reach"));
    proxied("127.0.0.1,localhost").assert().success();
    desk.assert_golden();
}

#[test]
fn a_folder_of_hf_download_is_a_model() {
    let desk = Desk::new();
    let folder = desk.folder.path().join("local");
    let hidden = folder.join(".cache/huggingface/download");
    std::fs::create_dir_all(&hidden).unwrap();
    std::fs::write(
        hidden.join("config.json.metadata"),
        format!("{COMMIT}\nabc\n1.0\n"),
    )
    .unwrap();
    std::fs::write(folder.join(".cache/huggingface/.gitignore"), "*").unwrap();
    for name in ["config.json", LARGE] {
        std::fs::copy(fixture("pythia").join(name), folder.join(name)).unwrap();
    }
    desk.score("http://127.0.0.1:1", "local").assert().success();
    desk.assert_golden();
    desk.touchstone("http://127.0.0.1:1", &["model", "info", "local"])
        .assert()
        .success();
}

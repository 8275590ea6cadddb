//! The published data sets through a server that imitates the hub, in miniatures with the hub's own
//! columns and files (`fixtures/leaderboard/make.py`), and samples as the harness logs them.

use crate::command::{TASKS, bench, samples};
use crate::common::{Bench, Said, fixture};
use crate::hub_server::{COMMIT, Server};
use serde_json::Value;
use std::fs;

const REPOSITORIES: [&str; 6] = [
    "allenai/ai2_arc",
    "Rowan/hellaswag",
    "cais/mmlu",
    "truthfulqa/truthful_qa",
    "allenai/winogrande",
    "openai/gsm8k",
];

/// A hub of the six repositories, with other configs and other files beside the ones that are read.
fn hub(bench: &Bench) -> Server {
    let folder = bench.copy(&fixture("leaderboard/hub"), "repositories");
    let other = |from: &str, to: &str| {
        let bytes = fs::read(folder.join(from)).unwrap();
        bench.write(format!("repositories/{to}"), bytes);
    };
    let shard = "00000-of-00001.parquet";
    for (repository, config, beside) in [
        ("allenai/ai2_arc", "ARC-Challenge", "ARC-Easy"),
        ("openai/gsm8k", "main", "socratic"),
    ] {
        let from = format!("{repository}/{config}/train-{shard}");
        for split in ["train", "test"] {
            other(&from, &format!("{repository}/{beside}/{split}-{shard}"));
        }
    }
    let validation = format!("cais/mmlu/anatomy/validation-{shard}");
    for beside in ["all", "astronomy"] {
        for split in ["dev", "test", "validation"] {
            other(&validation, &format!("cais/mmlu/{beside}/{split}-{shard}"));
        }
    }
    for repository in REPOSITORIES {
        bench.write(format!("repositories/{repository}/README.md"), "---\n");
        bench.write(format!("repositories/{repository}/.gitattributes"), "");
    }
    Server::of(REPOSITORIES.map(|id| (format!("datasets/{id}"), folder.join(id))))
}

fn run(bench: &Bench, endpoint: &str, words: &str) -> Said {
    let mut command = bench.command(words);
    command
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_HOME", "hf")
        .env("HF_ENDPOINT", endpoint)
        .env("NO_PROXY", "127.0.0.1,localhost");
    Said::from(command.output().unwrap())
}

#[test]
fn data_of_the_hub_are_read_and_logged_as_the_harness_logs_them() {
    let bench = bench(2048);
    let server = hub(&bench);
    let words = format!(
        "eval leaderboard --model model --data hub --convention h5 --tasks {TASKS} --shots 2 --log-samples --out out"
    );
    let said = run(&bench, &server.endpoint(), &words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let golden = fs::read_to_string(fixture("leaderboard/samples.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let key = |sample: &Value| (sample["doc_id"].as_u64(), sample["filter"].to_string());
    for (task, expected) in golden.as_object().unwrap() {
        let mut logged = samples(&bench, &format!("out/samples_{task}.jsonl"));
        let mut expected = expected.as_array().unwrap().clone();
        logged.sort_by_key(key);
        expected.sort_by_key(key);
        assert_eq!(logged.len(), expected.len(), "{task}");
        for (logged, expected) in logged.iter().zip(&expected) {
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(logged[name], *value, "{task}, {name} of {expected}");
            }
        }
    }
    let evaluation: Value = serde_json::from_str(&bench.read("out/evaluation.json")).unwrap();
    let data = &evaluation["identity"]["tasks"]["mmlu_anatomy"]["data"];
    assert_eq!(data[0]["data"]["commit"], COMMIT);
    assert_eq!(data[0]["data"]["config"], "anatomy");
    assert_eq!([&data[0]["split"], &data[1]["split"]], ["test", "dev"]);
    // A second run takes everything from the cache, and starts anew with the same numbers.
    let items = bench.read("out/items.jsonl");
    server.forget();
    let said = run(&bench, &server.endpoint(), &words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(server.bytes_sent(), 0);
    assert_eq!(bench.read("out/items.jsonl"), items);
}

#[test]
fn a_repository_that_lacks_a_split_is_named() {
    let bench = bench(2048);
    let server = hub(&bench);
    let dev = "repositories/cais/mmlu/anatomy/dev-00000-of-00001.parquet";
    fs::remove_file(bench.path(dev)).unwrap();
    let words =
        "eval leaderboard --model model --data hub --convention h5 --tasks mmlu_anatomy --out out";
    let said = run(&bench, &server.endpoint(), words);
    assert_eq!(said.code, Some(4), "{}", said.err);
    let told = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("hf:datasets/cais/mmlu@main") && told.contains("dev"),
        "{told}"
    );
}

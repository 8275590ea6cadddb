//! Tests of a study on conversations from a file: tokens as the chat template makes them, from the
//! first stage to the report.

mod common;

use common::Bench;
use common::conversations::{self, conversations, lines};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use touchstone::data::dataset::Dataset;
use touchstone::experiment::{Experiment, Selection};
use touchstone::pipeline::{Manifest, Store};
use touchstone::tasks::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, Loss, SystemRule, TooLong,
};

const RUN: &str = "reproduce tiny-chat.toml --data chats.jsonl --tokenizer tok --jobs 2";
const PREFERENCES: &str = "--preferences pairs.jsonl";

fn bench() -> Bench {
    let bench = Bench::new();
    conversations::write(&bench);
    bench
}

fn rows(store: &Store, manifest: &Manifest, name: &str) -> Vec<Value> {
    let path = store.artifact(&manifest.key).unwrap().join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The value of `metric` in the report's long table for `method`.
fn metric(bench: &Bench, method: &str, metric: &str) -> f64 {
    let text = bench.read("reports/tiny-chat-local/metrics.csv");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let (of_method, of_metric, value) = (column("method"), column("metric"), column("value"));
    let mut records = table.records().map(Result::unwrap);
    let record = records
        .find(|record| &record[of_method] == method && &record[of_metric] == metric)
        .unwrap_or_else(|| panic!("{method} has no {metric}:\n{text}"));
    record[value].parse().unwrap()
}

#[test]
fn conversations_run_to_a_report() {
    let bench = bench();
    let said = bench.succeed(&format!("{RUN} {PREFERENCES}"));
    assert!(!said.err.contains("failed"), "{}", said.err);
    let [base, sft] = ["base", "sft"].map(|method| metric(&bench, method, "demo_log_likelihood"));
    assert!(
        sft > base + 1.0,
        "held-out log-likelihood: {base}, then {sft}"
    );
    // Held-out pairs are told apart by a word, so that no rounding decides.
    assert_eq!(metric(&bench, "rlhf", "preference_accuracy"), 1.0);
    metric(&bench, "irl", "demonstration_accuracy");

    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let of_kind = |kind: &str| -> Vec<&Manifest> {
        let of_kind = manifests
            .iter()
            .filter(|manifest| manifest.spec.kind == kind);
        of_kind.collect()
    };
    let corpus = of_kind("corpus")[0];
    let trained = rows(&store, corpus, "demonstrations.jsonl");
    let held_out = rows(&store, corpus, "held_out.jsonl");
    assert_eq!((trained.len(), held_out.len()), (12, 3));
    tokens_are_those_of_the_template(&bench, &[trained, held_out].concat());
    // Winners of best-of-n keep the tokens that were sampled.
    for manifest in of_kind("best_of_n") {
        for row in rows(&store, manifest, "demonstrations.jsonl") {
            assert!(row["prompt"]["ids"].is_array() && row["response"]["ids"].is_array());
        }
    }
    let counts: BTreeSet<usize> = of_kind("local_comparisons")
        .into_iter()
        .map(|manifest| rows(&store, manifest, "pairs.jsonl").len())
        .collect();
    assert_eq!(counts, BTreeSet::from([3, 12]));
}

/// Compares stored rows with the chat encoder's tokens of the conversations that they came from.
fn tokens_are_those_of_the_template(bench: &Bench, rows: &[Value]) {
    let selection = Selection {
        scale: "local".into(),
        profile: "local".into(),
        ..Selection::default()
    };
    let path = bench.path("tiny-chat.toml");
    let study = Experiment::load(path.to_str().unwrap())
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap();
    study
        .task
        .tokenizer()
        .write_into(&bench.path("tok"))
        .unwrap();
    let whole = encoder(&bench.path("tok"), usize::MAX, TooLong::Refuse);
    let fitting = encoder(&bench.path("tok"), 160, TooLong::DropTurnsThenCut);
    let conversations: Vec<Conversation> = Dataset::file(&bench.path("chats.jsonl"))
        .and_then(|set| set.rows()?.collect())
        .unwrap();
    let ids = |text: &Value| -> Vec<u32> { serde_json::from_value(text["ids"].clone()).unwrap() };
    assert_eq!(rows.len(), conversations.len());
    for row in rows {
        let index: usize = row["id"].as_str().unwrap().parse().unwrap();
        let sequence = whole.sequence(&conversations[index]).unwrap();
        assert_eq!(ids(&row["response"]), sequence.response);
        let prompt = ids(&row["prompt"]);
        assert_eq!(prompt, fitting.prompt(&conversations[index]).unwrap());
        if sequence.prompt.len() <= 160 {
            assert_eq!(prompt, sequence.prompt);
        }
        assert_eq!(
            prompt.iter().filter(|id| **id == prompt[0]).count(),
            1,
            "one beginning"
        );
    }
    assert!(
        rows.iter().any(|row| ids(&row["prompt"]).len() == 160),
        "one was cut"
    );
}

fn encoder(folder: &Path, max_tokens: usize, too_long: TooLong) -> ChatEncoder {
    let rules = ChatRules {
        system: SystemRule::AsGiven,
        loss: Loss::LastTurn,
        control_names: ControlNames::Text,
        max_tokens,
        too_long,
    };
    ChatEncoder::open(folder, rules).unwrap()
}

#[test]
fn an_experiment_without_a_world_asks_for_data() {
    let said = bench().run("plan chat");
    assert_eq!(said.code, Some(3), "{}", said.err);
    let told = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("experiment `chat` has no [world] to draw data from"),
        "{told}"
    );
    assert!(told.contains("--data FILE --tokenizer DIR"), "{told}");
}

#[test]
fn faults_of_conversations_are_told_before_anything_runs() {
    let bench = bench();
    let mut rows = conversations();
    let cases = [
        (
            json!({"messages": [{"role": "user", "content": "Hi"}]}),
            "no message is the assistant's",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "Hi"}]}),
            "`messages[0].role` is \"tool\"",
        ),
        (json!({"text": "Hi"}), "messages"),
    ];
    for (row, fault) in cases {
        rows[4] = row;
        bench.write("chats.jsonl", lines(&rows));
        let said = bench.run(RUN);
        let told = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.code.is_some_and(|code| code != 0), "{told}");
        assert!(
            told.contains(fault) && told.contains("chats.jsonl, line 5"),
            "{told}"
        );
        assert!(!bench.path("runs").exists());
    }
}

#[test]
fn rlhf_needs_labelled_pairs() {
    let said = bench().run(RUN);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(
        said.err
            .contains("method `rlhf` needs labelled preferences"),
        "{}",
        said.err
    );
}

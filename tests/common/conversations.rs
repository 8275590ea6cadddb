//! Invented conversations and labelled pairs, and the smallest study of them.

use super::{Bench, fixture};
use serde_json::{Value, json};
use std::fs;

const SUBJECTS: [&str; 15] = [
    "rain", "bread", "moss", "clay", "salt", "wool", "tin", "oak", "chalk", "ice", "rye", "flax",
    "mint", "sand", "cork",
];

/// A conversation about each subject; every third has two exchanges, and the last is too long.
pub fn conversations() -> Vec<Value> {
    let turn = |role: &str, content: String| json!({"role": role, "content": content});
    let conversation = |(index, subject): (usize, &&str)| {
        let mut messages = vec![];
        if index % 3 == 0 {
            messages.push(turn("user", format!("Hello, is {subject} old?")));
            messages.push(turn("assistant", "It is.".into()));
        }
        let padding = if index + 1 == SUBJECTS.len() {
            " please".repeat(40)
        } else {
            String::new()
        };
        messages.push(turn("user", format!("Where is {subject} from?{padding}")));
        messages.push(turn("assistant", format!("{subject} is from the hills.")));
        json!({"id": index, "messages": messages})
    };
    SUBJECTS.iter().enumerate().map(conversation).collect()
}

fn pairs() -> Vec<Value> {
    let pair = |subject: &&str| {
        let ask = json!({"role": "user", "content": format!("What is {subject} for?")});
        let answer = |text: String| json!([ask, {"role": "assistant", "content": text}]);
        json!({
            "chosen": answer(format!("{subject} is for the house.")),
            "rejected": answer("No.".into()),
        })
    };
    SUBJECTS.iter().map(pair).collect()
}

/// The data sets of the Open LLM Leaderboard by their folders on the hub and by their tasks.
pub const EXAMS: [[&str; 2]; 6] = [
    ["allenai/ai2_arc", "arc_challenge"],
    ["Rowan/hellaswag", "hellaswag"],
    ["cais/mmlu", "mmlu"],
    ["truthfulqa/truthful_qa", "truthfulqa"],
    ["allenai/winogrande", "winogrande"],
    ["openai/gsm8k", "gsm8k"],
];

/// Arguments for the benchmarks that [`write_benchmarks`] writes, those of the leaderboard few and
/// short.
pub const BENCHMARKS: &str = "--rewardbench rewardbench.jsonl --mt-bench question.jsonl --leaderboard exams \
                              --leaderboard-limit 2 --leaderboard-shots 1";

/// Writes published benchmarks in miniature: RewardBench's columns, FastChat's questions, and the
/// leaderboard's data sets in the folder exams.
pub fn write_benchmarks(bench: &Bench) {
    let pairs = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/datasets/rewardbench-mini.jsonl"
    );
    bench.write("rewardbench.jsonl", fs::read(pairs).unwrap());
    let questions = fs::read(fixture("mt_bench/question.jsonl")).unwrap();
    bench.write("question.jsonl", questions);
    for [repository, task] in EXAMS {
        let from = fixture(&format!("leaderboard/hub/{repository}"));
        bench.copy(&from, format!("exams/{task}"));
    }
}

pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Writes the conversations and pairs into `bench` as chats.jsonl and pairs.jsonl, with a tokenizer
/// in the folder tok and the study tiny-conversations.toml.
pub fn write(bench: &Bench) {
    for (name, from) in [
        (
            "tiny-conversations.toml",
            "experiments/tiny-conversations.toml",
        ),
        ("tok/tokenizer.json", "chat/byte/tokenizer.json"),
    ] {
        bench.write(name, fs::read(fixture(from)).unwrap());
    }
    bench.write("chats.jsonl", lines(&conversations()));
    bench.write("pairs.jsonl", lines(&pairs()));
}

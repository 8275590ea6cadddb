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

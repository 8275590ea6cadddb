//! Tests of `touchstone eval show`, `compare` and `contamination` through the binary, on results
//! that are written here.

mod common;

use common::Bench;
use serde_json::{Value, json};
use touchstone::benchmarks::{Aggregate, Evaluation, ItemScore, MODEL, Part, Summary};

/// Writes an evaluation of 12 pairs in two subsets, the second of twice the weight. The model is
/// right where a bit of `right` is set, the rival `length` where the pair's number is even.
fn write(bench: &Bench, name: &str, right: u32, items: usize) {
    let score = |at: usize, scorer: &str, value: Option<f64>| ItemScore {
        scorer: scorer.to_owned(),
        task: if at < 6 { "chat" } else { "code" }.to_owned(),
        metric: "accuracy".to_owned(),
        item: format!("{:02}", at + 1),
        cluster: format!("prompt {}", at / 2),
        value,
        missing: value.is_none().then(|| "the reply was empty".to_owned()),
    };
    let bit = |at: usize| f64::from(right >> at & 1);
    let scores = (0..items).flat_map(|at| {
        let own = (at < 12).then(|| bit(at));
        let even = f64::from(u8::from(at % 2 == 0));
        [score(at, MODEL, own), score(at, "length", Some(even))]
    });
    let part = |task: &str, weight| Part {
        task: task.to_owned(),
        metric: "accuracy".to_owned(),
        weight,
    };
    let evaluation = Evaluation {
        summary: Summary {
            benchmark: "pairs".to_owned(),
            convention: "plain".to_owned(),
            model: name.to_owned(),
            identity: json!({ "model": name }),
            aggregates: vec![
                Aggregate::of_task("chat", "chat", "accuracy"),
                Aggregate {
                    name: "average".to_owned(),
                    parts: vec![part("chat", 1.0), part("code", 2.0)],
                },
            ],
        },
        items: scores.collect(),
    };
    std::fs::create_dir_all(bench.path(name)).unwrap();
    evaluation.write(&bench.path(name)).unwrap();
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap()
}

#[test]
fn an_evaluation_is_shown_with_its_rivals_and_what_is_missing() {
    let bench = Bench::new();
    write(&bench, "a", 0b1111_0110_1011, 13);
    insta::assert_snapshot!(bench.succeed("eval show a").out);
}

#[test]
fn evaluations_are_compared_item_by_item() {
    let bench = Bench::new();
    write(&bench, "a", 0b1111_0110_1011, 12);
    write(&bench, "b", 0b0101_0110_0011, 12);
    insta::assert_snapshot!(bench.succeed("eval compare a b").out);
    let found = json(
        &bench
            .succeed("eval compare a b --json --numbers average")
            .out,
    );
    // Of the second subset 5 and 3 are right, of the first 4 and 3.
    let difference = found["differences"][0]["difference"].as_f64().unwrap();
    assert!((difference - (-1.0 / 6.0 - 2.0 * 2.0 / 6.0) / 3.0).abs() < 1e-12);
    let rivals = bench.succeed("eval compare a --baseline length --json").out;
    assert_eq!(json(&rivals)["differences"][1]["baseline"], "length");
}

#[test]
fn seeds_of_a_method_are_one_side() {
    let bench = Bench::new();
    for (name, right) in [
        ("a", 0b1111_0110_1011),
        ("b", 0b1111_1110_0011),
        ("c", 0b0101_0110_0011),
    ] {
        write(&bench, name, right, 12);
    }
    let found = bench.succeed("eval compare base=c irl=a,b --json --numbers average");
    let found = json(&found.out);
    let [base, irl, ..] = &found["estimates"].as_array().unwrap()[..] else {
        panic!("{found}");
    };
    assert_eq!(
        (&base["evaluation"], &irl["evaluation"]),
        (&json!("base"), &json!("irl"))
    );
    let difference = &found["differences"][0];
    let expected = irl["value"].as_f64().unwrap() - base["value"].as_f64().unwrap();
    assert!((difference["difference"].as_f64().unwrap() - expected).abs() < 1e-12);
    assert!(difference["ci_low"].as_f64().unwrap() < expected);
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_remedy() {
    let bench = Bench::new();
    write(&bench, "a", 0b1111_0110_1011, 12);
    write(&bench, "short", 0b1111_0110_1011, 11);
    for (words, told) in [
        ("eval compare a short", "--common"),
        ("eval compare a absent", "touchstone eval"),
        ("eval compare a a", "the same name"),
        (
            "eval compare a short --baseline none",
            "there are a, short, length",
        ),
        ("eval compare a --numbers chess", "it has chat, average"),
        ("eval compare a --level 1", "0.95"),
        ("eval compare x=a,short", "the same items"),
    ] {
        let said = bench.run(words);
        assert_ne!(said.code, Some(0), "{words}");
        assert!(said.err.contains(told), "{words}: {}", said.err);
    }
    let common = bench.succeed("eval compare a short --common").out;
    assert!(common.contains("1 for want of a counterpart"), "{common}");
}

#[test]
fn prompts_are_looked_for_in_training_rows() {
    let bench = Bench::new();
    let seven = "one two three four five six seven";
    bench.write(
        "bench.jsonl",
        format!(
            "{}\n{}\n{}\n",
            json!({ "question": format!("{seven} eight nine ten"), "answer": "x" }),
            json!({ "question": "Name a fruit!" }),
            json!({ "question": "name a FRUIT" }),
        ),
    );
    bench.write(
        "train.jsonl",
        format!(
            "{}\n{}\n",
            json!({ "messages": [{ "role": "user", "content": format!("{seven} and") }] }),
            json!({ "prompt": "please name a fruit now", "response": "fig" }),
        ),
    );
    let words = "eval contamination --prompts bench.jsonl --against train.jsonl --ngram 7 --output out.jsonl";
    insta::assert_snapshot!(bench.succeed(words).out);
    let lines: Vec<Value> = bench.read("out.jsonl").lines().map(json).collect();
    assert_eq!(lines[0]["overlap"], json!(0.25));
    assert_eq!(lines[2]["repeats"], json!("bench.jsonl, line 2"));
    let said =
        bench.run("eval contamination --prompts bench.jsonl --columns title --against train.jsonl");
    assert!(
        said.err.contains("the row has answer, question"),
        "{}",
        said.err
    );
}

//! A model's answers: those of transformers, whatever the batch and however often interrupted.

use crate::common::Bench;
use crate::files::{expected, text, timeless, touchstone};
use serde_json::{Value, json};
use touchstone::benchmarks::mt_bench::questions::AnswerRow;
use touchstone::data::rows;

fn answer_words<'a>(model: &'a str, questions: &'a str, template: &'a str) -> Vec<&'a str> {
    vec![
        "eval",
        "mt-bench",
        "answers",
        "--model",
        model,
        "--questions",
        questions,
        "--template",
        template,
        "--output",
        "tiny.jsonl",
    ]
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let (bench, model, questions) = (Bench::new(), text("model"), text("question.jsonl"));
    for template in ["zephyr", "mistral"] {
        let mut words = answer_words(&model, &questions, template);
        words.extend(["--max-new-tokens", "24"]);
        let said = touchstone(&bench, &words);
        assert_eq!(said.out, "8 answers to 4 questions\n", "{said:?}");
        let answers: Vec<Value> = rows::read(&bench.path("tiny.jsonl")).unwrap();
        let greedy = expected()["greedy"][template].clone();
        for expected in greedy.as_array().unwrap() {
            let row = answers
                .iter()
                .find(|row| row["question_id"] == expected["question_id"])
                .unwrap();
            assert_eq!(row["choices"][0]["turns"], expected["turns"], "{template}");
            assert_eq!(row["model_id"], json!("tiny"));
        }
        std::fs::remove_file(bench.path("tiny.jsonl")).unwrap();
    }
}

#[test]
fn answers_do_not_depend_on_the_batch_and_go_on_after_an_interruption() {
    let (bench, model, questions) = (Bench::new(), text("model"), text("question.jsonl"));
    let words = answer_words(&model, &questions, "mistral");
    let run = |more: &[&str]| {
        touchstone(
            &bench,
            &[&words[..], &["--max-new-tokens", "24"], more].concat(),
        )
    };
    let answers = || timeless(&bench.path("tiny.jsonl"));
    assert_eq!(run(&["--batch", "1"]).code, Some(0));
    let whole = answers();
    run(&["--batch", "4"]);
    assert_eq!(answers(), whole);
    run(&["--seed", "1"]);
    assert_ne!(answers()[0], whole[0], "the category writing is sampled");
    assert_eq!(answers()[1..], whole[1..], "the others are not");
    interrupted(&bench, &words);
    // Answers of the interrupted run are kept, with their times.
    let part = bench.path("tiny.jsonl.part");
    let kept: Vec<AnswerRow> = rows::read::<Value>(&part).unwrap()[1..]
        .iter()
        .filter_map(|line| serde_json::from_value(line["row"].clone()).ok())
        .collect();
    assert!(!kept.is_empty());
    let longer = [&words[..], &["--max-new-tokens", "400", "--batch", "1"]].concat();
    let other = [&longer[..], &["--seed", "9"]].concat();
    let said = touchstone(&bench, &other);
    assert!(
        said.err
            .contains("was begun with another model or other settings"),
        "{said:?}"
    );
    assert_eq!(touchstone(&bench, &longer).code, Some(0));
    let finished: Vec<AnswerRow> = rows::read(&bench.path("tiny.jsonl")).unwrap();
    assert!(kept.iter().all(|row| finished.contains(row)));
    assert!(finished.len() == 4 && !part.exists());
    let said = run(&["--top-p", "0"]);
    assert!(said.err.contains("give a number above 0"), "{said:?}");
    let said = touchstone(&bench, &answer_words(&model, &questions, "llama"));
    assert!(
        said.err.contains("there is no template `llama`") && said.err.contains("zephyr, mistral"),
        "{said:?}"
    );
}

/// Starts to answer at length, and kills the program after its first answer.
fn interrupted(bench: &Bench, words: &[&str]) {
    let part = bench.path("tiny.jsonl.part");
    let words = [words, &["--max-new-tokens", "400", "--batch", "1"]]
        .concat()
        .join(" ");
    let mut child = bench.command(&words).spawn().unwrap();
    let lines = || {
        std::fs::read_to_string(&part)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while lines() < 2 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be interrupted"
        );
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(part.exists(), "it was interrupted before its end");
}

#[test]
fn a_prompt_without_room_has_the_answer_error() {
    let (bench, model) = (Bench::new(), text("model"));
    let long = "word ".repeat(300);
    bench.write(
        "q.jsonl",
        json!({"question_id": 1, "category": "math", "turns": [long, "more"]}).to_string(),
    );
    let said = touchstone(&bench, &answer_words(&model, "q.jsonl", "mistral"));
    assert_eq!(
        said.out, "2 answers to 1 questions; 2 without room in the model's positions (ERROR)\n",
        "{said:?}"
    );
}

//! Scores of judgments in FastChat's format: its means, and what it passes over.

use crate::common::{Bench, Said};
use crate::files::{check_values, expected, file, score_words, text, touchstone, value};
use serde_json::{Value, json};
use touchstone::benchmarks::Evaluation;

#[test]
fn means_are_those_of_fastchat_and_what_it_passes_over_is_counted() {
    let bench = Bench::new();
    let (judgments, questions, answers) = (
        text("single.jsonl"),
        text("question.jsonl"),
        text("one.jsonl"),
    );
    let mut words = score_words(&judgments, &questions);
    words.extend(["--answers", &answers]);
    let said = touchstone(&bench, &words);
    assert_eq!(said.code, Some(0), "{said:?}");
    let evaluation = Evaluation::read(&bench.path("out")).unwrap();
    check_values(&evaluation, &expected()["single"]);
    assert!(
        said.out
            .contains("n = 5 judgments of 8 rows; 1 failed calls; 2 judgments without a result\n"),
        "{said:?}"
    );
    assert!(
        said.out
            .contains("rank correlation of score and words of the answer: "),
        "{said:?}"
    );
    let missing: Vec<_> = evaluation
        .items
        .iter()
        .filter_map(|item| {
            Some((
                item.item.as_str(),
                item.cluster.as_str(),
                item.missing.as_deref()?,
            ))
        })
        .collect();
    assert_eq!(
        missing,
        [
            ("81/2", "81", "an empty judgment"),
            ("111/2", "111", "a judgment without a score"),
            ("121/1", "121", "the call failed"),
        ]
    );
    assert_eq!(evaluation.summary.model, "one");
}

#[test]
fn duplicates_missing_rows_and_foreign_rows_are_never_passed_over() {
    let bench = Bench::new();
    let lines: Vec<String> = std::fs::read_to_string(file("single.jsonl"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let questions = text("question.jsonl");
    let run = |lines: &[String], more: &[&str]| -> Said {
        bench.write("judgments.jsonl", lines.join("\n"));
        let mut words = score_words("judgments.jsonl", &questions);
        words.extend(more);
        touchstone(&bench, &words)
    };
    // The first of two rows counts, whatever the second says.
    let changed = |line: &str, key: &str, value: Value| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row[key] = value;
        row.to_string()
    };
    let mut twice = lines.clone();
    twice.push(lines[0].clone());
    twice.push(changed(&lines[0], "score", json!(1)));
    let said = run(&twice, &[]);
    assert!(
        said.out.contains(
            "n = 5 judgments of 10 rows; 2 duplicates left out; 1 of them with another result;"
        ),
        "{said:?}"
    );
    check_values(
        &Evaluation::read(&bench.path("out")).unwrap(),
        &expected()["single"],
    );
    // A score that is not the one in the judgment is named.
    let mut wrong = lines.clone();
    wrong[0] = changed(&lines[0], "score", json!(8));
    assert!(
        run(&wrong, &[])
            .out
            .contains("1 rows whose result is not the one that their judgment states")
    );

    let said = run(&lines[1..], &[]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(
        said.err
            .contains("1 of 8 judgments are missing, the first for question 81, turn 1"),
        "{said:?}"
    );
    let said = run(&lines[1..], &["--allow-missing"]);
    assert!(
        said.out.contains("n = 4 judgments of 7 rows;") && said.out.contains("; 1 missing"),
        "{said:?}"
    );

    let mut foreign = lines.clone();
    foreign.push(changed(&lines[0], "question_id", json!(7)));
    assert!(
        run(&foreign, &[])
            .err
            .contains("a judgment of question 7, turn 1, which the questions lack")
    );
    let mut models = lines.clone();
    models.push(changed(&lines[0], "model", json!("other")));
    let said = run(&models, &[]);
    assert!(
        said.err.contains("judgments of several models") && said.err.contains("one, other"),
        "{said:?}"
    );
    assert_eq!(run(&models, &["--model", "one"]).code, Some(0));
    assert!(
        run(&models, &["--model", "none"])
            .err
            .contains("no judgment of the model `none`")
    );
    let mut judges = lines.clone();
    judges.push(changed(&lines[0], "judge", json!(["other", "single-v1"])));
    assert!(
        run(&judges, &[])
            .err
            .contains("judgments of several judges")
    );
    assert_eq!(run(&judges, &["--judge", "judge"]).code, Some(0));
    assert!(run(&[], &[]).err.contains("has no judgments"));
    let mut mixed = lines.clone();
    mixed.push(
        std::fs::read_to_string(file("pair.jsonl"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_owned(),
    );
    assert!(
        run(&mixed, &[])
            .err
            .contains("row 9: not a judgment of the kind of the first row")
    );
    bench.write("out/notes.txt", "mine");
    assert!(
        run(&lines, &[])
            .err
            .contains("holds notes.txt, which this command does not write")
    );
}

#[test]
fn comparisons_are_counted_as_fastchat_counts_them() {
    let bench = Bench::new();
    let (judgments, questions) = (text("pair.jsonl"), text("question.jsonl"));
    let (one, two) = (text("one.jsonl"), text("two.jsonl"));
    let mut words = score_words(&judgments, &questions);
    words.extend(["--answers", &one, "--baseline", &two]);
    let said = touchstone(&bench, &words);
    assert_eq!(said.code, Some(0), "{said:?}");
    let evaluation = Evaluation::read(&bench.path("out")).unwrap();
    check_values(&evaluation, &expected()["pair"]);
    assert!(
        said.out.contains(
            "one against two: 3 wins, 1 losses, 3 ties, of which 2 by verdicts that change with the order (1 for the answer \
             shown first)\nn = 7 judgments of 8 rows; 1 judgments without a result\n"
        ),
        "{said:?}"
    );
    // The first model's second answers have a word more; first answers are equally long. Of those
    // that are compared, three of seven are second ones.
    assert!(
        (value(&evaluation, "win_rate_adjusted", "length") - (3.0 + 4.0 / 2.0) / 7.0).abs() < 1e-12
    );
}

//! Tests of MT-Bench: FastChat's prompts, scores and means on small files of our own
//! (`fixtures/mt_bench/make.py`), and on FastChat's files and real judgments where they are at hand.

mod common;
#[cfg(feature = "http")]
mod judge_server;

use common::{Bench, Said, fixture};
#[cfg(feature = "http")]
use judge_server::{Server, Turn};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use touchstone::benchmarks::Evaluation;
use touchstone::benchmarks::mt_bench::judge::{Contest, SingleRow};
use touchstone::benchmarks::mt_bench::parse::score;
use touchstone::benchmarks::mt_bench::questions::{self, AnswerRow, Answers};
use touchstone::benchmarks::mt_bench::summary::{Judged, evaluate};
use touchstone::benchmarks::mt_bench::templates::JudgePrompts;
use touchstone::data::rows;

fn file(name: &str) -> PathBuf {
    fixture("mt_bench").join(name)
}

fn text(name: &str) -> String {
    file(name).to_str().unwrap().to_owned()
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("expected.json")).unwrap()).unwrap()
}

/// Runs the program; white space and rulers in its errors are one space each, wherever lines are
/// broken.
fn touchstone(bench: &Bench, words: &[&str]) -> Said {
    let mut said = bench.run(&words.join(" "));
    said.err = said
        .err
        .replace('│', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    said
}

/// The folder of real data, if there is one.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("TOUCHSTONE_SHARED_DATA").map_or(beside, PathBuf::from);
    let found = folder.join("mt_bench").is_dir().then_some(folder);
    if found.is_none() {
        eprintln!("skipped: no real data (TOUCHSTONE_SHARED_DATA names its folder)");
    }
    found
}

/// Σ w·mean / Σ w over the parts of an aggregate of one scorer.
fn value(evaluation: &Evaluation, name: &str, scorer: &str) -> f64 {
    let aggregate = evaluation
        .summary
        .aggregates
        .iter()
        .find(|it| it.name == name);
    let (mut sum, mut weights) = (0.0, 0.0);
    for part in &aggregate.unwrap_or_else(|| panic!("no {name}")).parts {
        let scores: Vec<f64> = evaluation
            .scores(scorer, &part.task, &part.metric)
            .filter_map(|score| score.value)
            .collect();
        sum += part.weight * scores.iter().sum::<f64>() / scores.len() as f64;
        weights += part.weight;
    }
    sum / weights
}

fn check_values(evaluation: &Evaluation, expected: &Value) {
    for (name, expected) in expected.as_object().unwrap() {
        let found = value(evaluation, name, "model");
        assert!(
            (found - expected.as_f64().unwrap()).abs() < 1e-12,
            "{name}: {found}"
        );
    }
}

fn score_words<'a>(judgments: &'a str, questions: &'a str) -> Vec<&'a str> {
    vec![
        "eval",
        "mt-bench",
        "score",
        "--judgments",
        judgments,
        "--questions",
        questions,
        "--out",
        "out",
    ]
}

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

fn judge_words<'a>(base_url: &'a str, paths: &'a [String; 4]) -> Vec<&'a str> {
    let [questions, references, prompts, answers] = paths;
    vec![
        "eval",
        "mt-bench",
        "judge",
        "--questions",
        questions,
        "--references",
        references,
        "--judge-prompts",
        prompts,
        "--answers",
        answers,
        "--base-url",
        base_url,
        "--judge-model",
        "judge",
        "--out",
        "judged",
    ]
}

fn paths() -> [String; 4] {
    [
        "question.jsonl",
        "reference.jsonl",
        "judge_prompts.jsonl",
        "one.jsonl",
    ]
    .map(text)
}

/// The rows without their times.
fn timeless(path: &Path) -> Vec<Value> {
    let mut read: Vec<Value> = rows::read(path).unwrap();
    for row in &mut read {
        row["tstamp"] = json!(0);
    }
    read
}

/// A judge that says about each prompt what the golden rows say about it.
#[cfg(feature = "http")]
fn golden_judge(name: &str, games: &[(&str, &str)]) -> Server {
    let golden: Vec<Value> = rows::read(&file(name)).unwrap();
    let known: Vec<(Value, Value)> = golden
        .iter()
        .flat_map(|row| {
            games
                .iter()
                .map(|(prompt, judgment)| (row[*prompt].clone(), row[*judgment].clone()))
        })
        .collect();
    Server::start([], move |body| {
        let messages = body["messages"].as_array().unwrap();
        let asked = &messages.last().unwrap()["content"];
        let (_, judgment) = known.iter().find(|(prompt, _)| prompt == asked).unwrap();
        match judgment.as_str().unwrap() {
            "$ERROR$" => Turn::Status(400, vec![], String::new()),
            text => Turn::Say(text.to_owned()),
        }
    })
}

#[test]
#[cfg(feature = "http")]
fn single_judgments_are_fastchats_rows() {
    let (bench, paths) = (Bench::new(), paths());
    let server = golden_judge("single.jsonl", &[("user_prompt", "judgment")]);
    let base_url = server.base_url();
    let mut words = judge_words(&base_url, &paths);
    let said = touchstone(&bench, &words);
    assert_eq!(
        said.code,
        Some(14),
        "a failed call is an error unless it is allowed: {said:?}"
    );
    words.extend([
        "--max-missing",
        "0.2",
        "--price-prompt",
        "1000",
        "--price-completion",
        "0",
    ]);
    let said = touchstone(&bench, &words);
    assert_eq!(said.code, Some(0), "{said:?}");
    let judged = bench.path("judged/judgments.jsonl");
    assert_eq!(timeless(&judged), timeless(&file("single.jsonl")));
    for told in ["1 missing", "cost 0.0700", "answers without a result: 2"] {
        assert!(said.out.contains(told), "{said:?}");
    }
    // The system prompt is the template's, and an empty one is not sent.
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert!(
        bodies
            .iter()
            .any(|body| body["messages"].as_array().unwrap().len() == 1)
    );
    assert!(
        bodies
            .iter()
            .any(|body| body["messages"][0] == json!({"role": "system", "content": "Be fair."}))
    );
    assert!(
        bodies
            .iter()
            .all(|body| body["temperature"] == json!(0.0) && body["max_tokens"] == json!(2048))
    );
    // A second run asks for nothing but the failed call, and writes the same file.
    let (before, text) = (bodies.len(), std::fs::read(&judged).unwrap());
    let said = touchstone(&bench, &words);
    assert!(
        said.out
            .contains("0 answered now, 7 from the cache, 1 missing"),
        "{said:?}"
    );
    assert_eq!(
        (server.seen().len(), std::fs::read(&judged).unwrap()),
        (before + 1, text)
    );
    words.push("--dry-run");
    assert_eq!(
        touchstone(&bench, &words).out,
        "8 judgments, 7 of them in judge-cache\n"
    );
    let run: Value =
        serde_json::from_slice(&std::fs::read(bench.path("judged/run.json")).unwrap()).unwrap();
    assert_eq!(
        run["missing"],
        json!([{"item": "question 121, turn 1", "reason": "the request was refused (400)"}])
    );
    // The folder can be scored as it is.
    let questions = &paths[0];
    assert_eq!(
        touchstone(&bench, &score_words("judged", questions)).code,
        Some(0)
    );
    check_values(
        &Evaluation::read(&bench.path("out")).unwrap(),
        &expected()["single"],
    );
}

#[test]
#[cfg(feature = "http")]
fn comparisons_are_judged_in_both_orders() {
    let (bench, paths, two) = (Bench::new(), paths(), text("two.jsonl"));
    let games = [
        ("g1_user_prompt", "g1_judgment"),
        ("g2_user_prompt", "g2_judgment"),
    ];
    let server = golden_judge("pair.jsonl", &games);
    let base_url = server.base_url();
    let mut words = judge_words(&base_url, &paths);
    words.extend(["--baseline", &two]);
    let said = touchstone(&bench, &words);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        timeless(&bench.path("judged/judgments.jsonl")),
        timeless(&file("pair.jsonl"))
    );
    assert_eq!(server.seen().len(), 16);
    words.extend(["--repeats", "2"]);
    assert!(
        touchstone(&bench, &words)
            .err
            .contains("--repeats is for single scores")
    );
    let itself = [&words[..words.len() - 4], &["--baseline", &paths[3]]].concat();
    assert!(
        touchstone(&bench, &itself)
            .err
            .contains("both models have the name `one`")
    );
}

#[test]
#[cfg(feature = "http")]
fn repetitions_state_the_judges_own_variation() {
    let (bench, paths) = (Bench::new(), paths());
    // The seed tells repetitions apart: 4, 6 and 8 for first turns, always 5 for others.
    let server = Server::start([], |body| {
        let seed = body["seed"].as_u64().unwrap();
        let second = body["messages"].to_string().contains("two");
        Turn::Say(format!("[[{}]]", if second { 5 } else { 4 + 2 * seed }))
    });
    let base_url = server.base_url();
    let mut words = judge_words(&base_url, &paths);
    words.extend(["--repeats", "3"]);
    let said = touchstone(&bench, &words);
    assert!(
        said.out.contains(
            "over 3 repetitions of 8 items (0 left out): mean deviation 1.000, largest 2.000, share of items that vary \
             0.500, deviation of the mean 1.000"
        ),
        "{said:?}"
    );
    let repeats: Vec<Value> = rows::read(&bench.path("judged/repeats.jsonl")).unwrap();
    assert_eq!(repeats.len(), 24);
    assert_eq!(repeats[8]["repetition"], json!(1));
    assert_eq!(
        rows::read::<Value>(&bench.path("judged/judgments.jsonl"))
            .unwrap()
            .len(),
        8
    );
}

#[test]
fn files_that_are_missing_or_wrong_are_named_with_their_source() {
    let (bench, paths) = (Bench::new(), paths());
    let refused = |index: usize, contents: Option<&str>| {
        let mut paths = paths.clone();
        paths[index] = "here.jsonl".to_owned();
        let path = bench.path("here.jsonl");
        match contents {
            Some(contents) => drop(bench.write("here.jsonl", contents)),
            None => drop(std::fs::remove_file(path)),
        }
        let said = touchstone(&bench, &judge_words("http://127.0.0.1:9/v1", &paths));
        assert!(said.code.is_some_and(|code| code > 2), "{said:?}");
        said.err
    };
    assert!(refused(0, None).contains("https://github.com/lm-sys/FastChat"));
    assert!(refused(2, Some(r#"{"name": "x", "type": "single", "system_prompt": "", "prompt_template": "", "output_format": "[[rating]]"}"#)).contains("has no judge prompt `single-v1`"));
    assert!(refused(3, Some("{}")).contains("line 1"));
    let one = std::fs::read_to_string(file("one.jsonl")).unwrap();
    assert!(refused(3, Some(one.lines().next().unwrap())).contains("no answer to question 131"));
    let prompts = std::fs::read_to_string(file("judge_prompts.jsonl")).unwrap();
    let other = prompts.replace("{answer}", "{reply}");
    assert!(
        refused(2, Some(&other))
            .contains("the placeholder {reply} has no value here; there are question, answer")
    );
    let said = touchstone(&bench, &judge_words("http://user:pass@h/v1", &paths));
    assert!(
        said.err.contains("has a user, a query or a fragment") && !said.err.contains("pass@"),
        "{said:?}"
    );
}

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

#[test]
fn real_judgments_rebuild_byte_for_byte_and_have_their_means() {
    let Some(shared) = shared() else { return };
    let (data, golden) = (shared.join("mt_bench"), shared.join("evals/mt_bench"));
    let questions = questions::read(&data.join("question.jsonl")).unwrap();
    let references = Answers::read(&data.join("reference_answer_gpt-4.jsonl")).unwrap();
    let prompts = JudgePrompts::read(&data.join("judge_prompts.jsonl")).unwrap();
    let answers =
        Answers::read(&golden.join("answers_Meta-Llama-3-8B-Instruct-Griffin.jsonl")).unwrap();
    let contest = Contest {
        questions: &questions,
        prompts: &prompts,
        references: &references,
        answers: &answers,
        baseline: None,
    };
    let place = golden.join("judgments_gpt-4_single.jsonl");
    let judged: Vec<SingleRow> = rows::read(&place).unwrap();
    let matches = contest.matches().unwrap();
    assert_eq!((matches.len(), judged.len()), (160, 160));
    for made in &matches {
        let is_same = |row: &&SingleRow| row.question_id == made.question && row.turn == made.turn;
        let row = judged.iter().find(is_same).unwrap();
        assert_eq!(made.games, std::slice::from_ref(&row.user_prompt));
        assert_eq!(made.prompt.name, row.judge.1);
        assert_eq!(
            score(&row.judgment).unwrap().as_ref(),
            Some(&row.score),
            "{}",
            row.judgment
        );
    }
    let of = Judged {
        questions: &questions,
        rows: &judged,
        place: "golden",
        allow_missing: false,
    };
    let (evaluation, findings) = evaluate(&of, "Griffin", Value::Null).unwrap();
    assert_eq!(
        (findings.rows, findings.duplicates, findings.disagreeing),
        (160, 0, 0)
    );
    for (name, expected) in [("average", 2.7), ("turn_1", 3.1375), ("turn_2", 2.2625)] {
        assert!(
            (value(&evaluation, name, "model") - expected).abs() < 1e-12,
            "{name}"
        );
    }
    // Pairwise prompts have every placeholder too.
    let pairwise = Contest {
        baseline: Some(&answers),
        ..contest
    };
    assert_eq!(
        pairwise
            .matches()
            .unwrap()
            .iter()
            .map(|it| it.games.len())
            .sum::<usize>(),
        320
    );
}

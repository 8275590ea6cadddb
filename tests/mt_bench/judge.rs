//! Judgments by a server: prompts, rows, orders, repetitions, and files that cannot be used.

use crate::common::Bench;
use crate::files::{file, text, touchstone};
#[cfg(feature = "http")]
use crate::{
    files::{check_values, expected, score_words, timeless},
    judge_server::{Server, Turn},
};
#[cfg(feature = "http")]
use serde_json::{Value, json};
#[cfg(feature = "http")]
use touchstone::{benchmarks::Evaluation, data::rows};

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
    assert!(
        said.err.contains("going on with 7 of 8 judgments"),
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
    // With every answer in the cache there is nothing to go on with.
    let said = touchstone(&bench, &words);
    assert!(
        said.out.contains("0 answered now, 16 from the cache"),
        "{said:?}"
    );
    assert!(!said.err.contains("going on"), "{said:?}");
    let itself = [&words[..words.len() - 2], &["--baseline", &paths[3]]].concat();
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

/// The seed tells repetitions apart: the first answer shown wins in one, the first model in another.
#[test]
#[cfg(feature = "http")]
fn repeated_comparisons_state_the_judges_own_variation() {
    let (bench, paths, two) = (Bench::new(), paths(), text("two.jsonl"));
    let first: Vec<Value> = rows::read(&file("pair.jsonl")).unwrap();
    let shown_first: Vec<Value> = first
        .iter()
        .map(|row| row["g1_user_prompt"].clone())
        .collect();
    let server = Server::start([], move |body| {
        let messages = body["messages"].as_array().unwrap();
        let is_first = shown_first.contains(&messages.last().unwrap()["content"]);
        let winner = match (body["seed"].as_u64().unwrap(), is_first) {
            (0, _) | (_, true) => "[[A]]",
            (_, false) => "[[B]]",
        };
        Turn::Say(winner.to_owned())
    });
    let base_url = server.base_url();
    let mut words = judge_words(&base_url, &paths);
    words.extend(["--baseline", &two, "--repeats", "2"]);
    let said = touchstone(&bench, &words);
    // A tie and a win of each item: 1/2 and 1.
    assert!(
        said.out.contains(
            "over 2 repetitions of 8 items (0 left out): mean deviation 0.354, largest 0.354, share of items that vary \
             1.000, deviation of the mean 0.354"
        ),
        "{said:?}"
    );
    let repeats: Vec<Value> = rows::read(&bench.path("judged/repeats.jsonl")).unwrap();
    let judgments: Vec<Value> = rows::read(&bench.path("judged/judgments.jsonl")).unwrap();
    assert_eq!((repeats.len(), judgments.len()), (16, 8));
    assert_eq!(judgments[0]["g1_winner"], "model_1");
    assert_eq!(judgments[0]["g2_winner"], "model_2");
    assert_eq!(repeats[8]["g2_winner"], "model_1");
    assert_eq!(repeats[8]["repetition"], json!(1));
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

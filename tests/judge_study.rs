//! A hosted judge in a study: win rates by its grades in stage `evaluate`, missing grades, and the
//! keys of stages that do not ask it.
#![cfg(feature = "http")]

mod common;
mod judge_server;

use common::{Bench, Said, fixture};
use judge_server::{Server, Turn};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use touchstone::experiment::{Experiment, Selection};
use touchstone::pipeline::StageKey;
use touchstone::plan::Plan;

/// The grade that the judge gives a text: a number, an answer without one, or no answer.
enum Grade {
    Number(u8),
    Unreadable,
    Refused,
}

fn grade(text: &str) -> Grade {
    match text.bytes().map(u32::from).sum::<u32>() % 9 {
        0 => Grade::Unreadable,
        1 => Grade::Refused,
        other => Grade::Number(other as u8),
    }
}

/// A judge that grades by [`grade`].
fn server() -> Server {
    Server::start([], |body| {
        let asked = body["messages"][1]["content"].as_str().unwrap();
        let (_, rest) = asked.split_once("<response>\n").unwrap();
        match grade(rest.strip_suffix("\n</response>").unwrap()) {
            Grade::Number(grade) => Turn::Say(format!("Fair.\nScore: {grade}")),
            Grade::Unreadable => Turn::Say("I cannot say.".to_owned()),
            Grade::Refused => Turn::Status(400, vec![], String::new()),
        }
    })
}

/// The tiny study, with these settings of a judge.
fn study(bench: &Bench, judge: Option<&str>) -> PathBuf {
    let text = fs::read_to_string(fixture("experiments/tiny.toml")).unwrap();
    let judge = judge.map_or(String::new(), |judge| format!(" judge = {{ {judge} }},"));
    let with = text.replace("evaluation = {", &format!("evaluation = {{{judge}"));
    assert!(judge.is_empty() || with != text);
    bench.write("tiny.toml", with)
}

fn reproduce(bench: &Bench) -> Said {
    let words = "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 2 --store runs --out reports \
                 --set pretrain.steps=2 --set irl.iterations=1";
    let mut command = bench.command(words);
    command
        .env_remove("TOUCHSTONE_JUDGE_API_KEY")
        .env("TOUCHSTONE_JUDGE_CACHE", "answers")
        .env("NO_PROXY", "127.0.0.1");
    Said::from(command.output().unwrap())
}

/// The folders of the stages that have judged, those of both methods.
fn judged(folder: &Path) -> Vec<PathBuf> {
    let all = common::files(folder);
    let judged = all.keys().filter(|it| it.ends_with("judged.jsonl"));
    let found: Vec<PathBuf> = judged
        .map(|it| folder.join(it).parent().unwrap().to_owned())
        .collect();
    assert_eq!(found.len(), 2);
    found
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

/// Checks the files of one stage, and returns the number of posts without both grades.
fn check(folder: &Path) -> u32 {
    let answers = lines(&folder.join("answers.jsonl"));
    let rows = lines(&folder.join("judged.jsonl"));
    assert_eq!((rows.len(), answers.len()), (16, 16));
    let (mut wins, mut missing) = (Vec::new(), 0);
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(row["id"], answer["id"]);
        match grade(answer["sampled"]["text"].as_str().unwrap()) {
            Grade::Number(grade) => assert_eq!(row["sampled"].as_f64(), Some(f64::from(grade))),
            Grade::Unreadable => {
                assert_eq!(row["sampled"], Value::Null);
                let why = row["missing"].as_str().unwrap();
                assert!(
                    why.starts_with("its answer has no line `Score: N`"),
                    "{why}"
                );
            }
            Grade::Refused => {
                assert_eq!(row["sampled"], Value::Null);
                assert_eq!(row["missing"], "the request was refused (400)");
            }
        }
        match (row["sampled"].as_f64(), row["other"].as_f64()) {
            (Some(sampled), Some(other)) if sampled == other => wins.push(0.5),
            (Some(sampled), Some(other)) => wins.push(f64::from(u8::from(sampled > other))),
            _ => missing += 1,
        }
    }
    let metrics: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("metrics.json")).unwrap()).unwrap();
    let metric = |name: &str| {
        let all = metrics.as_array().unwrap();
        let found = all.iter().find(|it| it["metric"] == name).unwrap();
        (
            found["value"].as_f64().unwrap(),
            found["n"].as_u64().unwrap(),
        )
    };
    let share =
        |of: &dyn Fn(f64) -> f64| wins.iter().map(|win| of(*win)).sum::<f64>() / wins.len() as f64;
    let count = wins.len() as u64;
    assert_eq!(metric("judged_win_rate"), (share(&|win| win), count));
    let ties = share(&|win| f64::from(u8::from(win == 0.5)));
    assert_eq!(metric("judged_tie_rate"), (ties, count));
    let strict = share(&|win| f64::from(u8::from(win == 1.0)));
    assert_eq!(metric("judged_win_rate_strict"), (strict, count));
    assert_eq!(metric("judged_missing"), (f64::from(missing) / 16.0, 16));
    missing
}

#[test]
fn win_rates_are_those_of_the_grades_and_missing_ones_are_counted() {
    let (bench, server) = (Bench::new(), server());
    let judge = |more: &str| format!("base_url = \"{}\", model = \"j\"{more}", server.base_url());
    study(&bench, Some(&judge(", max_missing = 1.0")));
    let said = reproduce(&bench);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let missing: u32 = judged(&bench.path("runs")).iter().map(|it| check(it)).sum();
    assert!((1..32).contains(&missing), "{missing}");
    let table = bench.read("reports/tiny-smoke/metrics.csv");
    assert!(table.contains("judged_win_rate") && table.contains("judged_missing"));
    // Without a declared share a call that stays without an answer ends the stage. Grades are kept,
    // so that only refused calls are sent again.
    let asked = server.seen().len();
    study(&bench, Some(&judge("")));
    let said = reproduce(&bench);
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("has not answered"), "{}", said.err);
    for seen in &server.seen()[asked..] {
        let text = seen.body["messages"][1]["content"].as_str().unwrap();
        let (_, rest) = text.split_once("<response>\n").unwrap();
        let response = rest.strip_suffix("\n</response>").unwrap();
        assert!(matches!(grade(response), Grade::Refused), "{response}");
    }
}

#[test]
fn a_policy_is_compared_with_its_own_greedy_response() {
    let (bench, server) = (Bench::new(), server());
    let judge = format!(
        "base_url = \"{}\", model = \"j\", against = \"greedy\", max_missing = 1.0",
        server.base_url()
    );
    study(&bench, Some(&judge));
    let said = reproduce(&bench);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for folder in judged(&bench.path("runs")) {
        let answers = lines(&folder.join("answers.jsonl"));
        for (row, answer) in lines(&folder.join("judged.jsonl")).iter().zip(&answers) {
            let expected = match grade(answer["greedy"]["text"].as_str().unwrap()) {
                Grade::Number(grade) => Some(f64::from(grade)),
                _ => None,
            };
            assert_eq!(row["other"].as_f64(), expected);
        }
    }
}

/// Keys by the labels of stages.
fn keys(path: &Path) -> BTreeMap<String, (String, StageKey)> {
    let selection = Selection {
        profile: "smoke".into(),
        ..Selection::default()
    };
    let study = Experiment::load(path.to_str().unwrap()).unwrap();
    let plan = Plan::new(&study.resolve(&selection).unwrap(), None).unwrap();
    let stages = plan.graph.iter();
    stages
        .map(|stage| (stage.label.clone(), (stage.spec.kind.clone(), stage.key)))
        .collect()
}

#[test]
fn only_evaluations_of_last_policies_have_the_judge_in_their_keys() {
    let bench = Bench::new();
    let without = keys(&study(&bench, None));
    let url = "base_url = \"http://localhost:1/v1\", model = \"j\"";
    let with = keys(&study(&bench, Some(url)));
    let changed: Vec<&String> = without
        .iter()
        .filter(|(label, key)| with[*label] != **key)
        .map(|(label, _)| label)
        .collect();
    assert!(!changed.is_empty() && with.len() == without.len());
    for label in changed {
        let (kind, _) = &without[label];
        assert_eq!(kind, "evaluate", "{label}");
        let is_earlier = label.starts_with("irl/") && !label.contains("iteration 2");
        assert!(!is_earlier, "{label}");
    }
    let message = |judge: &str| {
        let path = study(&bench, Some(judge));
        let experiment = Experiment::load(path.to_str().unwrap());
        let selection = Selection {
            profile: "smoke".into(),
            ..Selection::default()
        };
        let planned = experiment
            .and_then(|it| it.resolve(&selection))
            .and_then(|study| Plan::new(&study, None).map(drop));
        planned.unwrap_err().to_string()
    };
    let secret = "base_url = \"http://user:pass@h/v1\", model = \"j\"";
    let told = message(secret);
    assert!(
        told.starts_with("evaluation.judge: the judge's base URL") && !told.contains("pass@"),
        "{told}"
    );
    let told = message("base_url = \"http://h/v1\", model = \"j\", max_missing = 2.0");
    assert!(told.contains("evaluation.judge.max_missing"), "{told}");
}

#[test]
fn a_judge_grades_answers_to_published_questions() {
    let (bench, server) = (Bench::new(), server());
    common::conversations::write(&bench);
    common::conversations::write_benchmarks(&bench);
    let study = fs::read_to_string(bench.path("tiny-conversations.toml")).unwrap();
    let judge = format!(
        "evaluation.judge = {{ base_url = \"{}\", model = \"m\", max_missing = 1.0 }}",
        server.base_url()
    );
    bench.write(
        "tiny-conversations.toml",
        study.replace("[scale.local]", &format!("[scale.local]\n{judge}")),
    );
    let mut command = bench.command(
        "reproduce tiny-conversations.toml --data chats.jsonl --tokenizer tok --methods sft,irl --set sft.epochs=1 \
         --mt-bench question.jsonl --store runs --out reports --jobs 1",
    );
    command
        .env_remove("TOUCHSTONE_JUDGE_API_KEY")
        .env("TOUCHSTONE_JUDGE_CACHE", "answers")
        .env("NO_PROXY", "127.0.0.1");
    let said = Said::from(command.output().unwrap());
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let runs = bench.path("runs");
    let all = common::files(&runs);
    let graded = all.keys().find(|it| it.ends_with("grades.jsonl")).unwrap();
    let folder = runs.join(graded.parent().unwrap());
    let (answers, grades) = (
        lines(&folder.join("answers.jsonl")),
        lines(&folder.join("grades.jsonl")),
    );
    assert_eq!((answers.len(), grades.len()), (4, 4));
    let mut sum = Vec::new();
    for (answer, row) in answers.iter().zip(&grades) {
        assert_eq!(answer["question_id"], row["question_id"]);
        let of_turns = row["grades"].as_array().unwrap();
        assert_eq!(of_turns.len(), 2);
        sum.extend(of_turns.iter().filter_map(|grade| grade["Ok"].as_f64()));
    }
    let text = fs::read_to_string(folder.join("metrics.json")).unwrap();
    let metrics: Value = serde_json::from_str(&text).unwrap();
    let mean = metrics
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["metric"] == "mt_bench");
    match mean {
        Some(mean) => {
            let expected = sum.iter().sum::<f64>() / sum.len() as f64;
            assert!((mean["value"].as_f64().unwrap() - expected).abs() < 1e-12);
            assert_eq!(mean["n"].as_u64(), Some(sum.len() as u64));
        }
        None => assert!(sum.is_empty(), "{metrics}"),
    }
}

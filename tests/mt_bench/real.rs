//! Real judgments on FastChat's own files, where they are at hand.

use crate::files::value;
use serde_json::Value;
use std::path::{Path, PathBuf};
use touchstone::benchmarks::mt_bench::judge::{Contest, SingleRow};
use touchstone::benchmarks::mt_bench::parse::score;
use touchstone::benchmarks::mt_bench::questions::{self, Answers};
use touchstone::benchmarks::mt_bench::summary::{Judged, evaluate};
use touchstone::benchmarks::mt_bench::templates::JudgePrompts;
use touchstone::data::rows;

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

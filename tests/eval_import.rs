//! Evaluations from files of other programs: what is read, what is counted, and what is refused.

mod common;

use common::Bench;
use serde_json::json;
use std::collections::BTreeMap;
use touchstone::benchmarks::{Evaluation, MODEL};

/// The scores of the model by task, metric and item.
fn scores(bench: &Bench, folder: &str) -> BTreeMap<String, Option<f64>> {
    let evaluation = Evaluation::read(&bench.path(folder)).unwrap();
    let of_model = evaluation.items.into_iter().filter(|it| it.scorer == MODEL);
    of_model
        .map(|it| (format!("{}/{}/{}", it.task, it.metric, it.item), it.value))
        .collect()
}

fn expected<const N: usize>(scores: [(&str, Option<f64>); N]) -> BTreeMap<String, Option<f64>> {
    scores.map(|(name, value)| (name.to_owned(), value)).into()
}

fn names(bench: &Bench, folder: &str) -> Vec<String> {
    let aggregates = Evaluation::read(&bench.path(folder))
        .unwrap()
        .summary
        .aggregates;
    aggregates.into_iter().map(|it| it.name).collect()
}

#[test]
fn samples_of_two_versions_of_lm_eval_are_read() {
    let bench = Bench::new();
    bench.write(
        "org__one/samples_arc_challenge_2025-01-02T03-04-05.6.jsonl",
        r#"{"doc_id": 0, "doc": {"q": 1}, "target": 1, "resps": [[["-1.5", "False"]]], "filtered_resps": [["-1.5", "False"]], "filter": "none", "metrics": ["acc", "acc_norm"], "doc_hash": "aa", "acc": 1.0, "acc_norm": 0.0}
{"doc_id": 1, "doc": {"q": 2}, "target": 1, "filter": "none", "metrics": ["acc", "acc_norm"], "doc_hash": "bb", "acc": NaN}
"#,
    );
    bench.write(
        "org__one/samples_gsm8k_2025-01-02T03-04-05.6.jsonl",
        r#"{"doc_id": 7, "filter": "strict-match", "metrics": ["exact_match"], "exact_match": 1.0}
{"doc_id": 7, "filter": "flexible-extract", "metrics": ["exact_match"], "exact_match": 0.0}
"#,
    );
    // Version 0.4.0 writes a list into a file called .jsonl, after the arguments of the model.
    bench.write(
        "old/pretrained=two_mmlu_anatomy.jsonl",
        r#"[
  {"doc_id": 0, "doc": {}, "target": "A", "arguments": [], "resps": [], "filtered_resps": [], "acc": true, "words": ["x", 3]},
  {"doc_id": 1, "doc": {}, "target": "A", "arguments": [], "resps": [], "filtered_resps": [], "acc": 0.0, "words": ["x", 3]}
]"#,
    );
    bench.write(
        "old/pretrained=two_mmlu_virology.jsonl",
        r#"[{"doc_id": 0, "doc": {}, "target": "A", "acc": 1.0}]"#,
    );
    let said = bench.succeed(
        "eval import --format lm-eval org__one/samples_arc_challenge_2025-01-02T03-04-05.6.jsonl \
         org__one/samples_gsm8k_2025-01-02T03-04-05.6.jsonl old/pretrained=two_mmlu_anatomy.jsonl \
         old/pretrained=two_mmlu_virology.jsonl --out out",
    );
    assert_eq!(
        scores(&bench, "out/org__one"),
        expected([
            ("arc_challenge/acc/0", Some(1.0)),
            ("arc_challenge/acc/1", None),
            ("arc_challenge/acc_norm/0", Some(0.0)),
            ("arc_challenge/acc_norm/1", None),
            ("gsm8k/exact_match,strict-match/7", Some(1.0)),
            ("gsm8k/exact_match,flexible-extract/7", Some(0.0)),
        ])
    );
    assert_eq!(
        scores(&bench, "out/old"),
        expected([
            ("mmlu_anatomy/acc/0", Some(1.0)),
            ("mmlu_anatomy/acc/1", Some(0.0)),
            ("mmlu_virology/acc/0", Some(1.0)),
        ])
    );
    assert_eq!(
        names(&bench, "out/old"),
        [
            "mmlu_anatomy/acc",
            "mmlu_virology/acc",
            "mmlu/acc",
            "mmlu/acc, mean of subjects"
        ]
    );
    for told in [
        "out/org__one: org/one",
        "note: 2 scores are missing: org__one/samples_arc_challenge",
        "note: 1 keys hold no number and were left out: words of mmlu_anatomy",
    ] {
        assert!(said.out.contains(told), "{told}\n{}", said.out);
    }
}

#[test]
fn a_whole_result_of_lm_eval_is_read_again_over_its_own_evaluation() {
    let bench = Bench::new();
    let sample = json!({"doc_id": 3, "acc": 1.0});
    let result = json!({"results": {}, "samples": {"winogrande": [sample], "hellaswag": [{"doc_id": 0, "acc_norm": 0}]}});
    bench.write("r.json", result.to_string());
    for _ in 0..2 {
        bench.succeed("eval import --format lm-eval r.json --model mine --out out");
    }
    assert_eq!(
        names(&bench, "out"),
        ["hellaswag/acc_norm", "winogrande/acc"]
    );
    let evaluation = Evaluation::read(&bench.path("out")).unwrap();
    assert_eq!(evaluation.summary.model, "mine");
    assert!(evaluation.summary.identity["imported_from"]["r.json"].is_string());
}

/// A file of scores as scripts/run_rm.py writes it.
fn pairs(model: &str) -> serde_json::Value {
    json!({
        "model": model, "model_type": "Seq. Classifier", "chat_template": "tulu",
        "id": [5, 5, 6], "subset": ["hep-go", "hep-go", "shp"], "results": [1, 0, 0],
        "scores_chosen": [[1.5], [0.5], [0.0]], "scores_rejected": [[0.5], [0.5], [f64::from(1)]],
        "text_chosen": ["abc", "a", "ab"], "text_rejected": ["ab", "a", "abc"],
    })
}

#[test]
fn scores_and_accuracies_of_rewardbench_are_read() {
    let bench = Bench::new();
    bench.write(
        "one.json",
        serde_json::to_vec_pretty(&pairs("a/one")).unwrap(),
    );
    let accuracies = json!({"model": "a/two", "model_type": "DPO", "mt-bench-easy": 27.0 / 28.0, "llmbar-natural": 0.715});
    bench.write("two.json", accuracies.to_string());
    let rows = [
        r#"{"prompt": "p", "results": 1, "scores_chosen": 2.0, "scores_rejected": 1.0, "subset": "hep-go", "id": 4}"#,
        r#"{"prompt": "p", "results": 0, "scores_chosen": NaN, "scores_rejected": 1.0, "subset": "hep-go", "id": 9}"#,
    ];
    bench.write("results/a/three_outputs.jsonl", rows.join("\n"));
    let kept = json!({"model": "a/four", "accuracy": 0.5, "extra_results": {"mt-bench-easy": 0.5}});
    bench.write("four.json", kept.to_string());
    let said = bench.succeed(
        "eval import --format rewardbench one.json two.json four.json results/a/three_outputs.jsonl --out out",
    );
    assert_eq!(
        scores(&bench, "out/a__three"),
        expected([
            ("hep-go/accuracy/4", Some(1.0)),
            ("hep-go/accuracy/9", None)
        ])
    );
    assert_eq!(names(&bench, "out/a__four"), ["mt-bench-easy", "Chat"]);
    assert_eq!(
        scores(&bench, "out/a__one"),
        expected([
            ("hep-go/accuracy/5", Some(1.0)),
            ("hep-go/accuracy/5#2", Some(0.0)),
            ("shp/accuracy/6", Some(0.0)),
        ])
    );
    assert_eq!(
        names(&bench, "out/a__one"),
        ["hep-go", "shp", "Reasoning", "Prior Sets"]
    );
    let one = Evaluation::read(&bench.path("out/a__one")).unwrap();
    let length: Vec<_> = one
        .scores("length", "hep-go", "accuracy")
        .map(|it| it.value)
        .collect();
    assert_eq!(length, [Some(1.0), Some(0.0)]);
    let two = Evaluation::read(&bench.path("out/a__two")).unwrap();
    let sum = |task: &str| -> (usize, f64) {
        let values: Vec<f64> = two
            .scores(MODEL, task, "accuracy")
            .filter_map(|it| it.value)
            .collect();
        (values.len(), values.iter().sum())
    };
    assert_eq!(
        (sum("mt-bench-easy"), sum("llmbar-natural")),
        ((28, 27.0), (100, 71.5))
    );
    assert!(
        said.out.contains("two.json has accuracies alone"),
        "{}",
        said.out
    );
}

/// A row of annotations.json.
fn annotation(model: &str, instruction: &str, preference: &str) -> String {
    format!(
        r#"{{"instruction": "{instruction}", "output_1": "four", "generator_1": "base", "output_2": "seven77", "generator_2": "{model}",
            "dataset": "koala", "annotator": "gpt4", "preference": {preference}, "price": 0.1}}"#
    )
}

#[test]
fn annotations_of_alpaca_eval_are_read_for_each_model() {
    let bench = Bench::new();
    let rows = [
        annotation("x", "q", "1.25"),
        annotation("x", "r", "0"),
        annotation("x", "s", "NaN"),
        annotation("x", "q", "1.25"),
        annotation("y", "q", "2"),
    ];
    bench.write("annotations.json", format!("[{}]", rows.join(",\n")));
    let said = bench.succeed("eval import --format alpacaeval annotations.json --out out");
    let values = |folder: &str| -> Vec<Option<f64>> {
        let evaluation = Evaluation::read(&bench.path(folder)).unwrap();
        evaluation
            .scores(MODEL, "koala", "preference")
            .map(|it| it.value)
            .collect()
    };
    assert_eq!(values("out/x"), [Some(0.25), Some(0.5), None]);
    assert_eq!(values("out/y"), [Some(1.0)]);
    let x = Evaluation::read(&bench.path("out/x")).unwrap();
    assert_eq!(x.summary.convention, "gpt4 against base");
    assert_eq!(names(&bench, "out/x"), ["win_rate"]);
    let length: Vec<_> = x
        .scores("length", "koala", "preference")
        .map(|it| it.value)
        .collect();
    assert_eq!(length, [Some(1.0); 3]);
    assert!(
        said.out.contains("1 rows repeat another one"),
        "{}",
        said.out
    );
}

#[test]
fn what_is_not_of_the_format_or_contradicts_itself_is_refused_by_its_place() {
    let bench = Bench::new();
    let good = r#"{"doc_id": 0, "acc": 1.0}"#;
    bench.write(
        "twice.jsonl",
        format!("{good}\n{}\n", good.replace("1.0", "0.0")),
    );
    bench.write("torn.jsonl", format!("{good}\n{{\"doc_id\": 1, \"ac"));
    bench.write("other.jsonl", r#"{"question": "q"}"#);
    bench.write("none.jsonl", r#"{"doc_id": 0, "doc": {}}"#);
    bench.write("empty.jsonl", "");
    let mut wrong = pairs("m");
    wrong["results"][1] = json!(1);
    bench.write("wrong.json", wrong.to_string());
    wrong["results"] = json!([1]);
    bench.write("short.json", wrong.to_string());
    bench.write(
        "subset.json",
        pairs("m").to_string().replace("shp", "ships"),
    );
    bench.write("share.json", r#"{"model": "m", "hep-go": 0.7}"#);
    bench.write("range.json", format!("[{}]", annotation("x", "q", "3")));
    let told = [
        "lm-eval twice.jsonl",
        "lm-eval torn.jsonl",
        "lm-eval other.jsonl",
        "lm-eval none.jsonl",
        "lm-eval empty.jsonl",
        "rewardbench wrong.json",
        "rewardbench short.json",
        "rewardbench subset.json",
        "rewardbench share.json",
        "rewardbench other.jsonl",
        "alpacaeval range.json",
        "alpacaeval other.jsonl",
    ]
    .map(|words| {
        let said = bench.run(&format!("eval import --out out --format {words}"));
        assert_ne!(said.code, Some(0), "{words}: {}", said.out);
        assert!(!bench.path("out").exists());
        said.err
    });
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(
        bench.run("eval import --format xls a --out out").code,
        Some(2)
    );
}

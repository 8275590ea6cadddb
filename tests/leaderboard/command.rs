//! `touchstone eval leaderboard` on a small model and miniature data of every task.

use crate::common::{Bench, cpu, fixture};
use serde_json::{Value, json};
use std::fs;
use touchstone::benchmarks::Evaluation;
use touchstone::benchmarks::leaderboard::Convention;
use touchstone::benchmarks::leaderboard::encode::Encoder;
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::{StoredAs, host};
use touchstone::model::{Batch, DecoderConfig, LanguageModel, Sequence};
use touchstone::rng::stream;

pub const TASKS: &str = "arc_challenge,hellaswag,mmlu_anatomy,truthfulqa_mc2,winogrande,gsm8k";

fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// A bench with the folders `model`, of `positions` positions, and `data`.
pub fn bench(positions: usize) -> Bench {
    let bench = Bench::new();
    let keys = json!({
        "model_type": "gpt_neox", "vocab_size": 261, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": positions,
    });
    let config = DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "test").unwrap();
    let model =
        LanguageModel::random(&config, 0.3, &mut stream(1, "test/model", &[]), &cpu()).unwrap();
    let tokenizer = bench.copy(&fixture("chat/byte"), "tokenizer");
    bench.write(
        "tokenizer/tokenizer_config.json",
        json!({"bos_token": "<s>", "eos_token": "</s>"}).to_string(),
    );
    let tokenizer = tokenizer.join("tokenizer.json");
    Checkpoint::save_language_model(&bench.path("model"), &model, &tokenizer, StoredAs::F32)
        .unwrap();
    write_data(&bench);
    bench
}

fn write_data(bench: &Bench) {
    let arc = |index: usize| {
        let labels = if index.is_multiple_of(2) {
            ["A", "B", "C"]
        } else {
            ["1", "2", "3"]
        };
        json!({
            "id": index.to_string(), "question": format!("What is {index}?"),
            "choices": {"text": ["it", "a number", "this one"], "label": labels}, "answerKey": labels[index % 3],
        })
    };
    bench.write("data/arc_challenge/train.jsonl", lines((0..6).map(arc)));
    bench.write("data/arc_challenge/test.jsonl", lines((6..11).map(arc)));
    let hellaswag = |index: usize| {
        json!({
            "ind": index, "activity_label": "Cooking", "ctx_a": format!("Cook {index} stirs."), "ctx_b": "then SHE",
            "endings": ["eats [x] it.", "goes.", "sings  loudly.", "stops."], "label": (index % 4).to_string(),
        })
    };
    bench.write("data/hellaswag/train.jsonl", lines((0..5).map(hellaswag)));
    bench.write(
        "data/hellaswag/validation.jsonl",
        lines((5..9).map(hellaswag)),
    );
    let mmlu = |count: usize| -> String {
        let row = |index: usize| {
            let letter = ["A", "B", "C", "D"][index % 4];
            format!("\"Which, of {index}?\",arm,leg,ear,eye,{letter}\n")
        };
        (0..count).map(row).collect()
    };
    bench.write("data/mmlu/dev/anatomy_dev.csv", mmlu(5));
    bench.write("data/mmlu/test/anatomy_test.csv", mmlu(7));
    let truth = |index: usize| {
        json!({
            "question": format!("Is {index} true?"), "mc1_targets": {"choices": ["Yes.", "No."], "labels": [1, 0]},
            "mc2_targets": {"choices": ["Yes.", "Surely yes.", "No."], "labels": [1, 1, 0]},
        })
    };
    bench.write("data/truthfulqa/validation.jsonl", lines((0..3).map(truth)));
    let winogrande = |index: usize| {
        json!({
            "sentence": format!("Ann {index} met Bo before _ ran."), "option1": "Ann", "option2": "Bo",
            "answer": (index % 2 + 1).to_string(),
        })
    };
    bench.write("data/winogrande/train.jsonl", lines((0..7).map(winogrande)));
    bench.write(
        "data/winogrande/validation.jsonl",
        lines((7..12).map(winogrande)),
    );
    let gsm8k = |index: usize| {
        let sum = index + 2;
        json!({"question": format!("What is {index} + 2?"), "answer": format!("It is {sum}.\n#### {sum}")})
    };
    bench.write("data/gsm8k/train.jsonl", lines((0..4).map(gsm8k)));
    bench.write("data/gsm8k/test.jsonl", lines((4..6).map(gsm8k)));
}

fn words(convention: &str, tasks: &str, more: &str) -> String {
    format!(
        "eval leaderboard --model model --data data --convention {convention} --tasks {tasks} --out out {more}"
    )
}

pub fn samples(bench: &Bench, file: &str) -> Vec<Value> {
    let text = bench.read(file);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every likelihood, computed for each request alone: `(context, continuation) → (sum, greedy)`.
fn alone(bench: &Bench, convention: Convention, request: &Value) -> (f64, bool) {
    let checkpoint = Checkpoint::open(bench.path("model")).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let model = checkpoint.language_model(&cpu()).unwrap();
    let end = tokenizer.token_to_id("</s>").unwrap();
    let encoder = Encoder::new(&tokenizer, end, convention).unwrap();
    let text = |place: usize| request[place].as_str().unwrap();
    let pair = encoder.pairs([(text(0), text(1))]).unwrap().remove(0);
    let most = model.config().sizes().positions + 1;
    let cut = (pair.context.len() + pair.continuation.len()).saturating_sub(most);
    let row = Sequence::new(pair.context[cut..].to_vec(), pair.continuation.clone());
    let batch = Batch::new([&row], &cpu());
    let sum = host(model.response_log_probs(&batch, 1.0)).unwrap();
    let logits = host(model.logits(model.response_states(&batch))).unwrap();
    let greedy = pair
        .continuation
        .iter()
        .zip(logits.chunks(261))
        .all(|(token, logits)| {
            let best = logits.iter().cloned().fold(f32::MIN, f32::max);
            logits[*token as usize] == best
        });
    (sum.into_iter().map(f64::from).sum(), greedy)
}

#[test]
fn likelihoods_are_those_of_each_request_alone() {
    let bench = bench(2048);
    for convention in Convention::ALL {
        bench.succeed(&words(
            convention.name(),
            TASKS,
            "--shots 2 --log-samples --limit 3",
        ));
        let truth = if convention.is_before_yaml() {
            "truthfulqa_mc"
        } else {
            "truthfulqa_mc2"
        };
        let mmlu = if convention.is_before_yaml() {
            "hendrycksTest-anatomy"
        } else {
            "mmlu_anatomy"
        };
        for task in ["arc_challenge", "hellaswag", mmlu, truth, "winogrande"] {
            for sample in samples(&bench, &format!("out/samples_{task}.jsonl")) {
                let requests = sample["arguments"].as_array().unwrap();
                for (request, response) in requests.iter().zip(sample["resps"].as_array().unwrap())
                {
                    let (sum, greedy) = alone(&bench, convention, request);
                    let found = response[0][0].as_f64().unwrap();
                    assert!(
                        (found - sum).abs() < 1e-4,
                        "{convention}, {task}: {found}, not {sum}"
                    );
                    assert_eq!(response[0][1], greedy);
                }
            }
        }
    }
}

#[test]
fn an_evaluation_has_the_numbers_of_the_harness_and_every_item() {
    let bench = bench(2048);
    let said = bench.succeed(&words("h4", TASKS, "--shots 2 --log-samples"));
    assert!(
        said.err
            .contains("winogrande: split train has 7 rows, and the published one 40398")
    );
    let results: Value = serde_json::from_str(&bench.read("out/results.json")).unwrap();
    let evaluation = Evaluation::read(&bench.path("out")).unwrap();
    let names: Vec<&str> = evaluation
        .summary
        .aggregates
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    insta::assert_json_snapshot!(names, @r#"
    [
      "arc_challenge",
      "arc_challenge/acc",
      "hellaswag",
      "hellaswag/acc",
      "truthfulqa_mc2",
      "winogrande",
      "gsm8k",
      "mmlu_anatomy"
    ]
    "#);
    for (task, metric, key) in [
        ("arc_challenge", "acc_norm", "acc_norm,none"),
        ("hellaswag", "acc", "acc,none"),
        ("mmlu_anatomy", "acc", "acc,none"),
        ("truthfulqa_mc2", "mc2", "acc,none"),
        ("winogrande", "acc", "acc,none"),
        ("gsm8k", "exact_match", "exact_match,get-answer"),
    ] {
        let values: Vec<f64> = evaluation
            .scores("model", task, metric)
            .map(|score| score.value.unwrap())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let found = results["results"][task][key].as_f64().unwrap();
        assert!((mean - found).abs() < 1e-12, "{task}: {found}, not {mean}");
        assert_eq!(results["n-samples"][task]["effective"], values.len());
    }
    assert_eq!(
        evaluation.scorers(),
        ["model", "longest", "random", "shortest"]
    );
    let random: Vec<_> = evaluation
        .scores("random", "arc_challenge", "acc")
        .collect();
    assert!(random.iter().all(|score| score.value == Some(1.0 / 3.0)));
    let mmlu = evaluation.scores("model", "mmlu_anatomy", "acc");
    assert!(mmlu.into_iter().all(|score| score.cluster == "anatomy"));
    // The same command again replaces the folder.
    bench.succeed(&words("h4", "winogrande", ""));
    assert_eq!(
        Evaluation::read(&bench.path("out"))
            .unwrap()
            .summary
            .aggregates
            .len(),
        1
    );
}

#[test]
fn batches_do_not_change_results() {
    let bench = bench(2048);
    let answers = |batch: &str| -> Vec<Value> {
        bench.succeed(&words(
            "h4",
            TASKS,
            &format!("--shots 2 --log-samples --batch {batch}"),
        ));
        let files = [
            "arc_challenge",
            "mmlu_anatomy",
            "truthfulqa_mc2",
            "winogrande",
            "gsm8k",
        ];
        let all = files.map(|task| samples(&bench, &format!("out/samples_{task}.jsonl")));
        all.into_iter()
            .flatten()
            .map(|sample| sample["resps"].clone())
            .collect()
    };
    let flat = |value: &Value| -> Vec<Value> {
        let all = value.as_array().unwrap().iter();
        all.flat_map(|response| {
            response[0]
                .as_array()
                .cloned()
                .unwrap_or(vec![response[0].clone()])
        })
        .collect()
    };
    for (one, many) in answers("1").iter().zip(answers("9")) {
        for (one, many) in flat(one).iter().zip(flat(&many)) {
            match (one.as_f64(), many.as_f64()) {
                (Some(one), Some(many)) => assert!((one - many).abs() < 1e-4),
                _ => assert_eq!(*one, many),
            }
        }
    }
}

#[test]
fn weights_of_half_the_bits_are_computed_in_single_precision() {
    let bench = bench(2048);
    let model = |name: &str| {
        Checkpoint::open(bench.path(name))
            .unwrap()
            .language_model(&cpu())
    };
    let tokenizer = bench.path("tokenizer/tokenizer.json");
    let scores = |folder: &str| {
        let words = words("h4", "arc_challenge,gsm8k", "--shots 1");
        bench.succeed(&words.replace("--model model", &format!("--model {folder}")));
        bench.read("out/items.jsonl")
    };
    for (name, stored) in [("f16", StoredAs::F16), ("bf16", StoredAs::Bf16)] {
        let half = bench.path(name);
        Checkpoint::save_language_model(&half, &model("model").unwrap(), &tokenizer, stored)
            .unwrap();
        // The same numbers in single precision.
        let whole = format!("{name}-as-f32");
        Checkpoint::save_language_model(
            &bench.path(&whole),
            &model(name).unwrap(),
            &tokenizer,
            StoredAs::F32,
        )
        .unwrap();
        assert_eq!(scores(name), scores(&whole), "{name}");
    }
}

#[test]
fn prompts_longer_than_the_model_are_cut_and_counted() {
    let bench = bench(64);
    let said = bench.succeed(&words(
        "h4",
        "arc_challenge,truthfulqa_mc2",
        "--shots 3 --log-samples",
    ));
    assert!(
        said.err
            .contains("arc_challenge: 5 of 5 prompts are longer than the model"),
        "{}",
        said.err
    );
    for sample in samples(&bench, "out/samples_arc_challenge.jsonl") {
        let (sum, _) = alone(&bench, Convention::H4, &sample["arguments"][0]);
        assert!((sample["resps"][0][0][0].as_f64().unwrap() - sum).abs() < 1e-4);
    }
    let results: Value = serde_json::from_str(&bench.read("out/results.json")).unwrap();
    assert_eq!(
        results["touchstone"]["tasks"]["truthfulqa_mc2"]["items_cut_from_the_left"],
        3
    );
}

#[test]
fn an_interrupted_evaluation_goes_on() {
    // Completions do not fit this model, so that the last task fails after the first is done.
    let bench = bench(200);
    let failing = words("h4", "winogrande,gsm8k", "--shots 0");
    let said = bench.run(&failing);
    assert_eq!(said.code, Some(5), "{}", said.err);
    assert!(
        said.err
            .contains("the model has 200 positions, and 256 are for the completion")
    );
    let kept = bench.read("out.unfinished/winogrande.jsonl");
    assert_eq!(kept.lines().count(), 5);
    let said = bench.run(&failing);
    assert!(
        said.err.contains("going on with 5 of 7 documents"),
        "{}",
        said.err
    );
    assert_eq!(bench.read("out.unfinished/winogrande.jsonl"), kept);
    // Another evaluation starts anew, and cleans up behind itself.
    bench.succeed(&words("h4", "winogrande", "--shots 0 --limit 2"));
    assert!(!bench.path("out.unfinished").exists());
}

#[test]
fn what_cannot_be_evaluated_is_refused_by_name() {
    let bench = bench(2048);
    let told = |words: &str| {
        let said = bench.run(words);
        assert_ne!(said.code, Some(0), "{words}");
        let text = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
        text.trim_start_matches("× ").to_owned()
    };
    let broken = |file: &str, row: &str, words: &str| {
        let old = bench.read(file);
        bench.write(file, format!("{old}{row}\n"));
        let text = told(words);
        bench.write(file, old);
        text
    };
    let arc = words("h4", "arc_challenge", "--shots 1");
    let key = r#"{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "E"}"#;
    let column = r#"{"question": "q", "options": ["a"], "answerKey": "A"}"#;
    let mut all = vec![
        told(&words("h9", "arc_challenge", "")),
        told(&words("h4", "arc", "")),
        told(&words("h4", "mmlu", "")),
        told(&words("h4", "arc_challenge", "--shots 7")),
        broken("data/arc_challenge/test.jsonl", key, &arc),
        broken("data/arc_challenge/test.jsonl", column, &arc),
        broken(
            "data/mmlu/test/anatomy_test.csv",
            "q,a,b,c,A",
            &words("h4", "mmlu_anatomy", ""),
        ),
        broken(
            "data/mmlu/test/anatomy_test.csv",
            "q,a,b,c,d,E",
            &words("h4", "mmlu_anatomy", ""),
        ),
    ];
    fs::remove_file(bench.path("data/gsm8k/train.jsonl")).unwrap();
    all.push(told(&words("h4", "gsm8k", "")));
    bench.write("data/winogrande/train_xs.jsonl", "");
    fs::rename(
        bench.path("data/winogrande/train.jsonl"),
        bench.path("data/winogrande/train_xl.jsonl"),
    )
    .unwrap();
    all.push(told(&words("h4", "winogrande", "")));
    bench.write("out/thesis.tex", "");
    all.push(told(&words("h4", "truthfulqa_mc2", "")));
    insta::assert_snapshot!(all.join("\n"));
}

//! Tests of a study on conversations from a file: tokens as the chat template makes them, from the
//! first stage to the report.

mod common;

use common::Bench;
use common::conversations::{self, BENCHMARKS, conversations, lines};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use touchstone::data::dataset::Dataset;
use touchstone::experiment::{Experiment, Selection};
use touchstone::pipeline::{Manifest, Store};
use touchstone::tasks::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, Loss, SystemRule, TooLong,
};

const RUN: &str = "reproduce tiny-conversations.toml --data chats.jsonl --tokenizer tok --jobs 2";
const PREFERENCES: &str = "--preferences pairs.jsonl";

fn bench() -> Bench {
    let bench = Bench::new();
    conversations::write(&bench);
    bench
}

fn rows(store: &Store, manifest: &Manifest, name: &str) -> Vec<Value> {
    let path = store.artifact(&manifest.key).unwrap().join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The value of `metric` in the report's long table for `method`.
fn metric(bench: &Bench, method: &str, metric: &str) -> f64 {
    let text = bench.read("reports/tiny-conversations-local/metrics.csv");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let (of_method, of_metric, value) = (column("method"), column("metric"), column("value"));
    let mut records = table.records().map(Result::unwrap);
    let record = records
        .find(|record| &record[of_method] == method && &record[of_metric] == metric)
        .unwrap_or_else(|| panic!("{method} has no {metric}:\n{text}"));
    record[value].parse().unwrap()
}

#[test]
fn conversations_run_to_a_report() {
    let bench = bench();
    let said = bench.succeed(&format!("{RUN} {PREFERENCES}"));
    assert!(!said.err.contains("failed"), "{}", said.err);
    let [base, sft] = ["base", "sft"].map(|method| metric(&bench, method, "demo_log_likelihood"));
    assert!(
        sft > base + 1.0,
        "held-out log-likelihood: {base}, then {sft}"
    );
    // Held-out pairs are told apart by a word, so that no rounding decides.
    assert_eq!(metric(&bench, "rlhf", "preference_accuracy"), 1.0);
    metric(&bench, "irl", "demonstration_accuracy");

    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let of_kind = |kind: &str| -> Vec<&Manifest> {
        let of_kind = manifests
            .iter()
            .filter(|manifest| manifest.spec.kind == kind);
        of_kind.collect()
    };
    let corpus = of_kind("corpus")[0];
    let trained = rows(&store, corpus, "demonstrations.jsonl");
    let held_out = rows(&store, corpus, "held_out.jsonl");
    assert_eq!((trained.len(), held_out.len()), (12, 3));
    tokens_are_those_of_the_template(&bench, &[trained, held_out].concat());
    // Winners of best-of-n keep the tokens that were sampled.
    for manifest in of_kind("best_of_n") {
        for row in rows(&store, manifest, "demonstrations.jsonl") {
            assert!(row["prompt"]["ids"].is_array() && row["response"]["ids"].is_array());
        }
    }
    let counts: BTreeSet<usize> = of_kind("local_comparisons")
        .into_iter()
        .map(|manifest| rows(&store, manifest, "pairs.jsonl").len())
        .collect();
    assert_eq!(counts, BTreeSet::from([3, 12]));
}

/// Compares stored rows with the chat encoder's tokens of the conversations that they came from.
fn tokens_are_those_of_the_template(bench: &Bench, rows: &[Value]) {
    let selection = Selection {
        scale: "local".into(),
        profile: "local".into(),
        ..Selection::default()
    };
    let path = bench.path("tiny-conversations.toml");
    let study = Experiment::load(path.to_str().unwrap())
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap();
    study
        .task
        .tokenizer()
        .write_into(&bench.path("tok"))
        .unwrap();
    let whole = encoder(&bench.path("tok"), usize::MAX, TooLong::Refuse);
    let fitting = encoder(&bench.path("tok"), 160, TooLong::DropTurnsThenCut);
    let conversations: Vec<Conversation> = Dataset::file(&bench.path("chats.jsonl"))
        .and_then(|set| set.rows()?.collect())
        .unwrap();
    let ids = |text: &Value| -> Vec<u32> { serde_json::from_value(text["ids"].clone()).unwrap() };
    assert_eq!(rows.len(), conversations.len());
    for row in rows {
        let index: usize = row["id"].as_str().unwrap().parse().unwrap();
        let sequence = whole.sequence(&conversations[index]).unwrap();
        assert_eq!(ids(&row["response"]), sequence.response);
        let prompt = ids(&row["prompt"]);
        assert_eq!(prompt, fitting.prompt(&conversations[index]).unwrap());
        if sequence.prompt.len() <= 160 {
            assert_eq!(prompt, sequence.prompt);
        }
        assert_eq!(
            prompt.iter().filter(|id| **id == prompt[0]).count(),
            1,
            "one beginning"
        );
    }
    assert!(
        rows.iter().any(|row| ids(&row["prompt"]).len() == 160),
        "one was cut"
    );
}

fn encoder(folder: &Path, max_tokens: usize, too_long: TooLong) -> ChatEncoder {
    let rules = ChatRules {
        system: SystemRule::AsGiven,
        loss: Loss::LastTurn,
        control_names: ControlNames::Text,
        max_tokens,
        too_long,
    };
    ChatEncoder::open(folder, rules).unwrap()
}

/// The model's mean score in a task of an evaluation that `eval` wrote into `folder`.
fn mean_of(bench: &Bench, folder: &str, task: &str, metric: &str) -> f64 {
    let text = bench.read(format!("{folder}/items.jsonl"));
    let items = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let of_task = items.filter(|it: &Value| {
        it["scorer"] == "model" && it["task"] == task && it["metric"] == metric
    });
    let values: Vec<f64> = of_task.map(|it| it["value"].as_f64().unwrap()).collect();
    assert_eq!(values.len(), 2, "{task}: {text}");
    values.iter().sum::<f64>() / 2.0
}

#[test]
fn published_benchmarks_are_measured_as_by_the_commands_that_measure_a_folder() {
    let bench = bench();
    conversations::write_benchmarks(&bench);
    let run = format!("{RUN} --methods sft,irl --set sft.epochs=2 {BENCHMARKS}");
    bench.succeed(&run);
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let labelled = |label: &str| {
        let found = manifests.iter().find(|manifest| manifest.label == label);
        found.unwrap_or_else(|| panic!("no {label}"))
    };
    let folder = |label: &str| store.artifact(&labelled(label).key).unwrap();
    let sft = folder("sft/tiny/seed 1");
    let sft = sft.display();

    bench.succeed(&format!(
        "eval leaderboard --model {sft} --data exams --convention h3 --limit 2 --shots 1 --out by-eval \
         --tasks arc_challenge,hellaswag,mmlu_anatomy,truthfulqa_mc2,winogrande,gsm8k"
    ));
    for (of_study, task, of_eval) in [
        ("leaderboard_arc", "arc_challenge", "acc_norm"),
        ("leaderboard_hellaswag", "hellaswag", "acc_norm"),
        ("leaderboard_mmlu", "mmlu_anatomy", "acc"),
        ("leaderboard_truthfulqa", "truthfulqa_mc2", "mc2"),
        ("leaderboard_winogrande", "winogrande", "acc"),
        ("leaderboard_gsm8k", "gsm8k", "exact_match"),
    ] {
        let study = metric(&bench, "sft", of_study);
        let eval = mean_of(&bench, "by-eval", task, of_eval);
        assert!(
            (study - eval).abs() < 1e-6,
            "{of_study}: {study} and {eval}"
        );
    }

    // Prompts of pairs and questions are the template's own, as in training.
    let answers = rows(
        &store,
        labelled("sft/tiny/seed 1/mt-bench"),
        "answers.jsonl",
    );
    let turns = |row: &Value| row["choices"][0]["turns"].as_array().unwrap().len();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|row| turns(row) == 2));
    let ended = metric(&bench, "irl", "mt_bench_ended");
    assert!((0.0..=1.0).contains(&ended), "{ended}");
    for name in ["rewardbench", "rewardbench_chat_hard", "rewardbench_bf16"] {
        let share = metric(&bench, "irl", name);
        assert!((0.0..=1.0).contains(&share), "{name}: {share}");
    }

    // Other rows are another study, of which only the stages that read them run.
    let mut pairs = bench.read("rewardbench.jsonl");
    pairs.truncate(pairs.trim_end().rfind('\n').unwrap() + 1);
    bench.write("rewardbench.jsonl", pairs);
    bench.succeed(&run);
    let kinds = |store: &Store, kind: &str| {
        let all = store.list().unwrap();
        all.iter().filter(|it| it.spec.kind == kind).count()
    };
    assert_eq!(kinds(&store, "leaderboard_rows"), 1);
    assert_eq!(kinds(&store, "sft"), labels(&manifests, "sft"));
    assert_eq!(
        kinds(&store, "rewardbench"),
        2 * labels(&manifests, "rewardbench")
    );
}

/// The number of stages of a kind.
fn labels(manifests: &[Manifest], kind: &str) -> usize {
    manifests.iter().filter(|it| it.spec.kind == kind).count()
}

#[test]
fn benchmarks_belong_to_studies_of_real_conversations() {
    let bench = bench();
    conversations::write_benchmarks(&bench);
    let study = bench.read("tiny-conversations.toml");
    let narrow = study.replace("_embeddings = 512", "_embeddings = 256");
    bench.write("narrow.toml", narrow);
    for (words, expected) in [
        (
            "ultrachat --profile smoke --rewardbench rewardbench.jsonl",
            "a study in the embedded world, which has its own",
        ),
        ("--leaderboard-limit 2", "there is no leaderboard"),
        (
            "--leaderboard exams --leaderboard-shots 90",
            "benchmark leaderboard",
        ),
        ("--mt-bench chats.jsonl", "chats.jsonl, line 1"),
        (
            "narrow.toml --leaderboard exams --leaderboard-shots 1",
            "completions of gsm8k take 256",
        ),
    ] {
        let words = match words.split_once(' ') {
            Some(("ultrachat", _)) => format!("reproduce {words}"),
            Some(("narrow.toml", rest)) => {
                RUN.replace("tiny-conversations.toml", "narrow.toml") + " --methods sft,irl " + rest
            }
            _ => format!("{RUN} --methods sft,irl {words}"),
        };
        let told = refused(&bench, &words);
        assert!(told.contains(expected), "{words}: {told}");
        assert!(!bench.path("runs/artifacts").exists(), "{words}");
    }
}

#[test]
fn an_experiment_without_a_world_asks_for_data() {
    let said = bench().run("plan tiny-conversations.toml");
    assert_eq!(said.code, Some(3), "{}", said.err);
    let told = said.told();
    assert!(
        told.contains("experiment `tiny-conversations` has no [world] to draw data from"),
        "{told}"
    );
    assert!(told.contains("--data FILE --tokenizer DIR"), "{told}");
}

/// The message of a run that is refused before its first stage.
#[track_caller]
fn refused(bench: &Bench, words: &str) -> String {
    let said = bench.run(words);
    let told = said.told();
    assert!(said.code.is_some_and(|code| code != 0), "{told}");
    assert!(!bench.path("runs").exists(), "{told}");
    told
}

#[test]
fn faults_of_conversations_are_told_before_anything_runs() {
    let bench = bench();
    let mut rows = conversations();
    let [ask, answer] =
        ["user", "assistant"].map(|role| move |text: &str| json!({"role": role, "content": text}));
    let cases = [
        (
            json!({"messages": [ask("Hi")]}),
            "no message is the assistant's",
            "add it as a message of the role `assistant`",
        ),
        (
            json!({"messages": [answer("Hi")]}),
            "message 1 is the first turn and the assistant's",
            "a conversation begins with the user",
        ),
        (
            json!({"messages": [ask("Hi"), ask("Hello?"), answer("Hi")]}),
            "messages 1 and 2 are both the user's",
            "join the two, or drop the row",
        ),
        (
            json!({"messages": [ask("Hi"), answer("Hi"), {"role": "system", "content": "s"}]}),
            "message 3 is a system message",
            "only the first message may be one",
        ),
        (
            json!({"messages": [ask("Hi"), answer(" \n")]}),
            "message 2, the assistant's, is empty",
            "fill it in, or drop the row",
        ),
        (
            json!({"messages": [ask(""), answer("Hi")]}),
            "message 1, the user's, is empty",
            "fill it in, or drop the row",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "Hi"}]}),
            "`messages[0].role` is \"tool\"",
            "the roles are system, user and assistant",
        ),
        (json!({"text": "Hi"}), "messages", "messages"),
    ];
    for (row, fault, remedy) in cases {
        rows[4] = row;
        bench.write("chats.jsonl", lines(&rows));
        let told = refused(&bench, RUN);
        assert!(
            told.contains(fault) && told.contains(remedy) && told.contains("chats.jsonl, line 5"),
            "{told}"
        );
    }
}

#[test]
fn faults_of_labelled_pairs_are_told_before_anything_runs() {
    let bench = bench();
    let ask = |text: &str| json!({"role": "user", "content": text});
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let good = json!([ask("Hi"), answer("Hello.")]);
    let cases = [
        (
            json!({"chosen": good, "rejected": null}),
            "rejected",
            "line 2",
        ),
        (
            json!({"chosen": good, "rejected": [ask("Hi")]}),
            "no message is the assistant's",
            "line 2, `rejected`",
        ),
        (
            json!({"chosen": good, "rejected": [ask("Bye"), answer("Bye.")]}),
            "`chosen` and `rejected` differ before their last turn",
            "line 2",
        ),
        (
            json!({"chosen": good, "rejected": [ask("Hi"), answer("")]}),
            "message 2, the assistant's, is empty",
            "line 2, `rejected`",
        ),
    ];
    for (row, fault, place) in cases {
        let first = json!({"chosen": good, "rejected": [ask("Hi"), answer("No.")]});
        bench.write("pairs.jsonl", lines(&[first, row]));
        let told = refused(&bench, &format!("{RUN} {PREFERENCES}"));
        assert!(
            told.contains(fault) && told.contains(&format!("pairs.jsonl, {place}")),
            "{told}"
        );
    }
}

/// The first exchange alone counts if the task says so; an answer that is over the limit is cut and
/// told, or refused.
#[test]
fn the_answer_that_counts_and_one_that_is_too_long_are_settings_of_the_task() {
    let bench = bench();
    let plan = RUN
        .replacen("reproduce", "plan", 1)
        .replace(" --jobs 2", "");
    let short = format!("{plan} --methods sft,irl --set generation.max_response_tokens=20");
    let said = bench.succeed(&short);
    assert!(
        said.err.contains(
            "of the 15 answers in chats.jsonl are longer than generation.max_response_tokens"
        ),
        "{}",
        said.err
    );
    let text = bench.read("tiny-conversations.toml");
    let task = |keys: &str| {
        bench.write(
            "tiny-conversations.toml",
            text.replacen("answer = \"last\"", keys, 1),
        );
    };
    task("answer = \"last\"\nlong_answer = \"refuse\"");
    let told = refused(&bench, &short);
    assert!(
        told.contains("chats.jsonl, line 1") && told.contains("tokens where 20 are allowed"),
        "{told}"
    );
    assert!(
        told.contains("raise generation.max_response_tokens"),
        "{told}"
    );
    task("answer = \"first\"");
    bench.succeed(&format!("{RUN} --methods base,sft,irl --set sft.epochs=1"));
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let corpus = manifests
        .iter()
        .find(|it| it.spec.kind == "corpus")
        .unwrap();
    let rows = [
        rows(&store, corpus, "demonstrations.jsonl"),
        rows(&store, corpus, "held_out.jsonl"),
    ]
    .concat();
    let prompts: Vec<&str> = rows
        .iter()
        .map(|row| row["prompt"]["text"].as_str().unwrap())
        .collect();
    let first = prompts
        .iter()
        .filter(|text| text.contains("Hello, is"))
        .count();
    assert_eq!((prompts.len(), first), (15, 5));
    assert!(
        prompts
            .iter()
            .all(|text| text.matches("<|user|>").count() <= 1),
        "{prompts:?}"
    );
}

/// The template and the end of a text that the experiment states must be the tokenizer's.
#[test]
fn a_tokenizer_without_what_the_template_needs_is_named() {
    let bench = bench();
    let text = bench.read("tok/tokenizer.json");
    bench.write("tok/tokenizer.json", text.replace("</s>", "<end>"));
    let told = refused(&bench, RUN);
    assert!(
        told.contains("states eos_token `</s>`, which is not a token of tok/")
            && told.contains("[task.tokenizer]"),
        "{told}"
    );
    // Without a statement of the experiment the tokenizer's own files must have a template.
    bench.write("tok/tokenizer.json", text);
    let alone = "extends = \"tldr\"\nname = \"alone\"\nregistration = \"none\"\nworld = \"none\"\n\
                 [task]\nkind = \"chat\"\nsystem = \"as_given\"\ncontrol_names = \"text\"\n\
                 too_long = \"refuse\"\n";
    bench.write("alone.toml", alone);
    bench.write(
        "tok/tokenizer_config.json",
        json!({"bos_token": "<s>", "eos_token": "</s>"}).to_string(),
    );
    let told = refused(
        &bench,
        &RUN.replace("tiny-conversations.toml", "alone.toml"),
    );
    assert!(
        told.contains("chat_template") && told.contains("tok"),
        "{told}"
    );
}

#[test]
fn rlhf_needs_labelled_pairs() {
    let said = bench().run(RUN);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(
        said.err
            .contains("method `rlhf` needs labelled preferences"),
        "{}",
        said.err
    );
}

/// The template of the embedded world stands beside its bases, so that its models are ordinary chat
/// models to every command.
#[test]
fn a_base_of_the_world_of_conversations_answers_messages() {
    let bench = Bench::new();
    let asked = |text: &str| json!({"messages": [{"role": "user", "content": text}]}).to_string();
    // A word that the world lacks is one token, and no error.
    let rows = [asked("what is a hammer ?"), asked("what is a zeppelin ?")];
    bench.write("asked.jsonl", rows.join("\n") + "\n");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/base/mistral-mini");
    bench.succeed(&format!(
        "generate --model {} --input asked.jsonl --output said.jsonl --temperature 0",
        model.display()
    ));
    let said: Vec<Value> = bench
        .read("said.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let response = said[0]["response"].as_str().unwrap();
    assert!(response.contains("a hammer is a tool ."), "{response}");
    assert_eq!(said[0]["ended"], true);
    assert_eq!(said.len(), 2);
}

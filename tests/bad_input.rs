//! Tests of the program's messages about unusable input. Each failure ends with its kind's exit
//! code, names the place and states a remedy.

mod common;

use common::{Bench, fixture};
use std::fs;

/// The messages of a failing command, with the exit code.
fn told(bench: &Bench, words: &str) -> String {
    let said = bench.run(words);
    assert!(
        said.code.is_some_and(|code| code != 0),
        "touchstone {words} succeeded:\n{}",
        said.out
    );
    assert!(!said.err.contains("panicked"), "{}", said.err);
    // Messages are wrapped at 80 columns, and the line breaks depend on the length of the temporary
    // folder's name.
    let here = bench.path("").canonicalize().unwrap().display().to_string();
    let here = format!("{}/", here.trim_end_matches('/'));
    let error: Vec<&str> = said.err.lines().map(str::trim_end).collect();
    let error = error
        .join("\n")
        .replace("\n  │ ", " ")
        .replace("\n        ", " ")
        .replace(&here, "");
    format!(
        "$ touchstone {words}\n{}\nexit code {}\n",
        error.trim_matches('\n'),
        said.code.unwrap()
    )
}

fn all_told(bench: &Bench, lines: &[&str]) -> String {
    lines
        .iter()
        .map(|words| told(bench, words))
        .collect::<Vec<_>>()
        .join("\n")
}

fn tiny() -> String {
    fs::read_to_string(fixture("experiments/tiny.toml")).unwrap()
}

// --- Experiments ---

#[test]
fn experiment_files() {
    let bench = Bench::new();
    bench.write(
        "unknown-key.toml",
        tiny().replace("reward.batch_size", "reward.batch_sise"),
    );
    bench.write(
        "wrong-type.toml",
        tiny().replace("copy_gate = 0.0", "copy_gate = \"none\""),
    );
    bench.write(
        "out-of-bounds.toml",
        tiny().replace("num_attention_heads = 2", "num_attention_heads = 3"),
    );
    bench.write(
        "no-toml.toml",
        tiny().replace("[models.tiny]", "[models.tiny"),
    );
    bench.write(
        "orphan.toml",
        tiny().replace("extends = \"tldr\"", "extends = \"tldl\""),
    );
    let lines = [
        "unknown-key",
        "wrong-type",
        "out-of-bounds",
        "no-toml",
        "orphan",
        "absent",
    ];
    let lines = lines.map(|name| format!("plan {name}.toml --profile smoke"));
    insta::assert_snapshot!(all_told(&bench, &lines.each_ref().map(String::as_str)));
}

#[test]
fn settings_of_another_world() {
    let bench = Bench::new();
    bench.write(
        "authors.toml",
        "extends = \"ultrachat\"\nname = \"authors\"\n\n\
         [demonstrations.authors]\nrude = { plain = 1.0, provoked = 1.0 }\n",
    );
    let said = bench.run("plan authors.toml --profile smoke");
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("demonstrations.authors"), "{}", said.err);
    assert!(said.err.contains("[world.authors]"), "{}", said.err);

    for (setting, named) in [
        (
            "[demonstrations]\nsecond_turn = 0.5\n",
            "demonstrations.second_turn",
        ),
        ("[demonstrations]\nsystem = 1.0\n", "demonstrations.system"),
        ("[spin]\nprompt = \"instruction\"\n", "spin.prompt"),
        ("[evaluation]\nleaderboard = 4\n", "Open LLM Leaderboard"),
    ] {
        bench.write(
            "turns.toml",
            format!("extends = \"tldr\"\nname = \"turns\"\nregistration = \"none\"\n\n{setting}"),
        );
        let said = bench.run("plan turns.toml --profile smoke");
        assert_eq!(said.code, Some(3), "{}", said.err);
        assert!(said.err.contains(named), "{}", said.err);
        assert!(said.err.contains("kind = \"chat\""), "{}", said.err);
    }

    bench.write(
        "kind.toml",
        "extends = \"tldr\"\nname = \"kind\"\nregistration = \"none\"\n\n[world]\nkind = \"code\"\n",
    );
    let said = bench.run("plan kind.toml --profile smoke");
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("posts"), "{}", said.err);

    bench.write(
        "posts.toml",
        "extends = \"tldr\"\nname = \"posts\"\nregistration = \"none\"\n\n[evaluation]\nrewardbench = 0.1\n",
    );
    let said = bench.run("plan posts.toml --profile smoke");
    assert_ne!(said.code, Some(0));
    assert!(
        said.err.contains("has no pairs of RewardBench"),
        "{}",
        said.err
    );
}

#[test]
fn choices_that_an_experiment_does_not_have() {
    let bench = Bench::new();
    insta::assert_snapshot!(all_told(
        &bench,
        &[
            "reproduce tldl",
            "reproduce mine",
            "plan tldr --profile smok",
            "plan tldr --scale maxi",
            "plan tldr --sizes mini-1c",
            "plan tldr --methods sft,ilr",
            "plan tldr --methods irl",
            "plan tldr --seeds 1,x",
            "plan tldr --seeds preset",
            "plan tldr --set ppo.updates",
            "plan tldr --set ppo.updats=3",
            "plan tldr --set policy.updates=3",
            "plan tldr --set ppo.minibatches=3",
        ]
    ));
    assert_eq!(
        fs::read_dir(bench.path("")).unwrap().count(),
        0,
        "nothing was begun"
    );
}

#[test]
fn devices_and_stores() {
    let bench = Bench::new();
    insta::assert_snapshot!(all_told(
        &bench,
        &[
            "reproduce tldr --profile smoke --device abacus",
            "reproduce tldr --profile smoke --device cuda:x",
            "reproduce tldr --profile smoke --jobs 0",
            "report tldr --profile smoke --store nowhere",
            "runs list --store nowhere",
            "stage 00 --store nowhere",
        ]
    ));
    assert_eq!(
        fs::read_dir(bench.path("")).unwrap().count(),
        0,
        "nothing was begun"
    );
}

// --- Local data ---

#[test]
fn posts_from_a_file() {
    let bench = Bench::new();
    bench.write("tiny.toml", tiny());
    let posts = fs::read_to_string(fixture("tldr/posts.jsonl")).unwrap();
    bench.write(
        "tok/tokenizer.json",
        fs::read(fixture("tldr/tokenizer.json")).unwrap(),
    );
    bench.write("empty/notes.txt", "no tokenizer here");
    bench.write("not-json/tokenizer.json", "{");
    bench.write("world/tokenizer.json", world_tokenizer_without_end());
    bench.write("posts.jsonl", &posts);
    bench.write("column.jsonl", posts.replace("\"summary\"", "\"tldr\""));
    bench.write(
        "value.jsonl",
        posts.replacen("\"TIFU by watering the office plant\"", "null", 1),
    );
    bench.write(
        "numbers.jsonl",
        "{\"id\": 1, \"subreddit\": \"a\", \"title\": 2, \"post\": \"c\", \"summary\": \"d\"}\n",
    );
    bench.write("one.jsonl", posts.lines().next().unwrap());
    bench.write("blank.jsonl", "");
    bench.write("broken.jsonl", posts.replacen("\"title\"", "title", 1));
    bench.write("posts.txt", "words that are no rows");
    let line = |data: &str, tokenizer: &str| {
        format!(
            "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 1 --data {data} --tokenizer {tokenizer}"
        )
    };
    let files = [
        "column.jsonl",
        "value.jsonl",
        "numbers.jsonl",
        "one.jsonl",
        "blank.jsonl",
        "broken.jsonl",
        "posts.txt",
        "absent.jsonl",
    ];
    let mut lines: Vec<String> = files.map(|file| line(file, "tok")).into();
    lines.extend(
        ["empty", "not-json", "world", "absent"].map(|tokenizer| line("posts.jsonl", tokenizer)),
    );
    lines.push("reproduce tldr --data posts.jsonl".into());
    let told = all_told(
        &bench,
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{64}", "KEY");
    // Progress lines of stages, whose order and time vary.
    settings.add_filter(r"(?m)^\[\d+/\d+\].*\n", "");
    settings.bind(|| insta::assert_snapshot!(told));
}

fn world_tokenizer_without_end() -> String {
    r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":
    {"type":"WhitespaceSplit"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#
        .into()
}

// --- Rows ---

#[test]
fn rows_to_score_or_continue() {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox/small_heads"), "model");
    bench.copy(&fixture("gpt_neox/small_heads"), "text-model");
    bench.write("text-model/tokenizer.json", world_tokenizer_without_end());
    let ids = |prompt: &str, response: &str| {
        format!("{{\"prompt_ids\": {prompt}, \"response_ids\": {response}}}\n")
    };
    let good = ids("[3, 4]", "[5]");
    bench.write("good.jsonl", &good);
    bench.write("empty-prompt.jsonl", good.clone() + &ids("[]", "[5]"));
    bench.write("empty-response.jsonl", good.clone() + &ids("[3]", "[]"));
    bench.write("outside.jsonl", good.clone() + &ids("[3]", "[5, 40]"));
    bench.write("negative.jsonl", good.clone() + &ids("[3]", "[-5]"));
    bench.write(
        "text.jsonl",
        good.clone() + "{\"prompt\": \"a\", \"response\": \"a\"}\n",
    );
    bench.write(
        "no-response.jsonl",
        good.clone() + "{\"prompt_ids\": [3]}\n",
    );
    bench.write(
        "empty-text.jsonl",
        "{\"prompt\": \"\", \"response\": \"a\"}\n",
    );
    bench.write("not-json.jsonl", good.clone() + "prompt: a\n");
    bench.write("no-rows.jsonl", "\n");
    bench.write(
        "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n",
    );
    bench.write(
        "prompt-chat.jsonl",
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"response\": \"a\"}\n",
    );
    bench.write(
        "misspelt.jsonl",
        "{\"promt\": \"a\", \"response\": \"a\"}\n",
    );
    bench.write("semicolons.csv", "prompt;response\na;a\n");
    bench.write(
        "half.jsonl",
        "{\"prompt\": \"a \\ud83d\", \"response\": \"a\"}\n",
    );
    let names = [
        "empty-prompt",
        "empty-response",
        "outside",
        "negative",
        "text",
        "no-response",
        "not-json",
        "no-rows",
        "absent",
    ];
    let mut lines: Vec<String> = names
        .iter()
        .map(|name| format!("score --model model --input {name}.jsonl --output out.jsonl"))
        .collect();
    lines.extend(
        [
            "chat.jsonl",
            "prompt-chat.jsonl",
            "misspelt.jsonl",
            "semicolons.csv",
            "half.jsonl",
            "model",
        ]
        .map(|name| format!("score --model model --input {name} --output out.jsonl")),
    );
    lines.push("score --model text-model --input empty-text.jsonl --output out.jsonl".into());
    lines.push("score --model nowhere --input good.jsonl --output out.jsonl".into());
    lines.push("score --kind reward --model model --input good.jsonl --output out.jsonl".into());
    lines.push("score --model model --input good.jsonl --output nowhere/out.jsonl".into());
    lines.push("score --model model --input good.jsonl --output out.jsonl --batch 0".into());
    lines.push("generate --model model --input text.jsonl --output out.jsonl".into());
    lines.push(
        "generate --model model --input good.jsonl --output out.jsonl --temperature=-1".into(),
    );
    lines.push("generate --model model --input good.jsonl --output out.jsonl --top-p 0".into());
    let told = all_told(
        &bench,
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert!(
        !bench.path("out.jsonl").exists(),
        "nothing is written where something is wrong"
    );
    insta::assert_snapshot!(told);
}

#[test]
fn rows_longer_than_the_model_has_positions_are_not_computed_silently() {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox/small_heads"), "model");
    let long: Vec<u32> = vec![3; 64];
    bench.write(
        "long.jsonl",
        serde_json::json!({"prompt_ids": long, "response_ids": [5]}).to_string(),
    );
    insta::assert_snapshot!(all_told(
        &bench,
        &[
            "score --model model --input long.jsonl --output out.jsonl",
            "generate --model model --input long.jsonl --output out.jsonl",
        ]
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox/small_heads"), "model");
    bench.write(
        "good.jsonl",
        "{\"prompt_ids\": [3, 4], \"response_ids\": [5]}\n",
    );
    let told = told(
        &bench,
        "score --model model --input good.jsonl --output /dev/full",
    );
    assert!(
        told.contains("cannot write /dev/full") && told.contains("No space left on device"),
        "{told}"
    );
}

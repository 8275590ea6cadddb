//! Tests of text to tokens: the prompt of the TL;DR task and its truncation, ends of responses, the
//! words of the embedded world.

mod common;

use common::goldens::edit_config;
use common::{Bench, cpu, fixture, small_config};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};
use touchstone::ErrorKind;
use touchstone::data::dataset::{Dataset, SummarisedPost};
use touchstone::data::encoder::END_OF_TEXT;
use touchstone::data::world::posts::{PostWorld, PostWorldSettings};
use touchstone::data::world::{Split, World, WorldSettings};
use touchstone::data::{TextEncoder, tldr};
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::StoredAs;
use touchstone::model::{LanguageModel, ModelTokenizer};
use touchstone::rng::stream;

// --- The embedded world ---

/// Checkpoints store embedding rows by these numbers, so they must not change without a new version
/// of the world.
#[test]
fn words_of_the_world_keep_their_numbers() {
    let world = PostWorld::new(&PostWorldSettings::default()).unwrap();
    let tokenizer = world.tokenizer().unwrap();
    let post = world.post(Split::Validation, 0, 0);
    let mut text = format!("vocabulary: {}\n", tokenizer.get_vocab_size(true));
    for special in [END_OF_TEXT, "<|padding|>"] {
        text.push_str(&format!(
            "{special} {:?}\n",
            tokenizer.token_to_id(special).unwrap()
        ));
    }
    for sentence in [post.prompt.clone(), world.canonical(&post)] {
        let encoding = tokenizer.encode_fast(sentence.as_str(), false).unwrap();
        assert_eq!(
            tokenizer.decode(encoding.get_ids(), true).unwrap(),
            sentence
        );
        let words = sentence
            .split_whitespace()
            .zip(encoding.get_ids())
            .map(|(word, id)| format!("{word} {id}"));
        text.push_str(&format!("\n{}\n", words.collect::<Vec<_>>().join("\n")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_word_from_outside_the_world_is_an_error_and_no_guess() {
    let tokenizer = WorldSettings::default()
        .open()
        .unwrap()
        .tokenizer()
        .unwrap();
    let error = TextEncoder::new(tokenizer, 64, 40)
        .unwrap()
        .response("xylophone")
        .expect_err("an unknown word was encoded");
    assert!(error.to_string().contains("xylophone"), "{error}");
}

// --- Real posts ---

fn posts(file: &Path) -> Vec<SummarisedPost> {
    let set = Dataset::file(file).unwrap();
    set.rows().unwrap().collect::<Result<_, _>>().unwrap()
}

/// Writes the tokenizer of the fixture: byte-level, like that of Pythia.
#[test]
#[ignore = "writes a fixture; run it when posts.jsonl changes"]
fn train_the_fixture_s_tokenizer() {
    let rows = posts(&fixture("tldr/posts.jsonl"));
    let texts = rows
        .iter()
        .flat_map(|row| [tldr::prompt(&row.post), tldr::response(&row.summary)]);
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(512)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![
            AddedToken::from("<|endoftext|>", true),
            AddedToken::from("<|padding|>", true),
        ])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), texts)
        .unwrap();
    tokenizer
        .save(fixture("tldr/tokenizer.json"), false)
        .unwrap();
}

fn encoder(max_prompt_tokens: usize) -> TextEncoder {
    TextEncoder::new(
        Tokenizer::from_file(fixture("tldr/tokenizer.json")).unwrap(),
        max_prompt_tokens,
        24,
    )
    .unwrap()
}

// --- Text to tokens ---

#[test]
fn prompts_are_those_of_the_task_and_long_posts_lose_their_end() {
    let rows = posts(&fixture("tldr/posts.jsonl"));
    assert_eq!(rows.len(), 12);
    let mut text = format!(
        "whole:\n{}{}\n",
        tldr::prompt(&rows[1].post),
        tldr::response(&rows[1].summary)
    );
    for limit in [150, 96, 48] {
        let encoder = encoder(limit);
        let prompt = tldr::fitted(&rows[1].post, &encoder).unwrap();
        text.push_str(&format!(
            "\nat most {limit} tokens, {}:\n{prompt}\n",
            encoder.prompt_length(&prompt).unwrap()
        ));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_prompt_fits_and_keeps_its_frame() {
    for row in posts(&fixture("tldr/posts.jsonl")) {
        for limit in [64, 96, 150, 1000] {
            let encoder = encoder(limit);
            let prompt = tldr::fitted(&row.post, &encoder).unwrap();
            let head = format!(
                "SUBREDDIT: r/{}\n\nTITLE: {}\n\nPOST: ",
                row.post.subreddit, row.post.title
            );
            let body = prompt
                .strip_prefix(&head)
                .and_then(|rest| rest.strip_suffix("\n\nTL;DR:"))
                .expect(&prompt);
            assert!(
                row.post.post.starts_with(body) && encoder.prompt(&prompt).unwrap().len() <= limit
            );
        }
    }
}

#[test]
fn responses_survive_the_way_to_tokens_and_back() {
    let encoder = encoder(96);
    for row in posts(&fixture("tldr/posts.jsonl")) {
        let response = encoder.response(&tldr::response(&row.summary)).unwrap();
        assert!(response.ids.len() <= 24);
        assert_eq!(response.ended, response.ids.last() == Some(&encoder.eos));
        let back = encoder
            .decoded(response.ids.clone(), response.ended)
            .unwrap();
        assert!(
            response
                .text
                .starts_with(back.text.trim_end_matches('\u{fffd}')),
            "{back:?}"
        );
        assert!(!response.ended || back.text == response.text, "{back:?}");
    }
}

#[test]
fn a_csv_file_holds_the_same_rows() {
    let rows = posts(&fixture("tldr/posts.jsonl"));
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |row: &SummarisedPost| {
        [
            &row.summary,
            &row.id,
            &row.post.subreddit,
            &row.post.title,
            &row.post.post,
        ]
        .map(|field| quoted(field))
        .join(",")
    };
    let csv = rows.iter().fold(
        "summary,id,subreddit,title,post\n".to_owned(),
        |text, row| text + &line(row) + "\n",
    );
    let bench = Bench::new();
    assert_eq!(posts(&bench.write("posts.csv", csv)), rows);
}

// --- What a model folder's files say ---

/// The fixture's tokenizer as JSON: byte-level, 512 tokens, the first two `<|endoftext|>` and
/// `<|padding|>`.
fn described() -> Value {
    serde_json::from_slice(&fs::read(fixture("tldr/tokenizer.json")).unwrap()).unwrap()
}

/// A folder with a random model of `rows` tokens, whose config.json names no end, and with this
/// tokenizer.
fn folder(bench: &Bench, name: &str, tokenizer: &Value, rows: usize) -> PathBuf {
    let mut config = serde_json::to_value(small_config()).unwrap();
    config["vocab_size"] = json!(rows);
    config["max_position_embeddings"] = json!(256);
    config["eos_token_id"] = Value::Null;
    let config = serde_json::from_value(config).unwrap();
    let model =
        LanguageModel::random(&config, 0.4, &mut stream(1, "test/model", &[]), &cpu()).unwrap();
    let path = bench.write(
        format!("{name}.tokenizer/tokenizer.json"),
        tokenizer.to_string(),
    );
    Checkpoint::save_language_model(&bench.path(name), &model, &path, StoredAs::F32).unwrap();
    bench.path(name)
}

const ROWS: &str = r#"{"prompt": "SUBREDDIT: r/tifu\n\nTITLE: my dog\n\nPOST: the dog ate the cake\n\nTL;DR:", "response": " dog ate the cake and I am not sorry"}
{"prompt": "a b", "response": " c"}
"#;

/// The log-probabilities of every token of every row.
fn scored(bench: &Bench, model: &str, rows: &str) -> Vec<Vec<f64>> {
    bench.write("rows.jsonl", rows);
    bench.succeed(&format!(
        "score --model {model} --input rows.jsonl --output scored.jsonl"
    ));
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["token_logprobs"].clone();
    bench
        .read("scored.jsonl")
        .lines()
        .map(|line| serde_json::from_value(row(line)).unwrap())
        .collect()
}

fn refused(bench: &Bench, words: &str, code: i32, parts: &[&str]) {
    let said = bench.run(words);
    let err = said.err.replace("\n  │ ", " ").replace("\n        ", " ");
    assert_eq!(said.code, Some(code), "{words}: {err}");
    for part in parts {
        assert!(err.contains(part), "{words} does not say {part:?}: {err}");
    }
}

#[test]
fn lengths_that_a_tokenizer_was_saved_with_move_no_number() {
    let bench = Bench::new();
    folder(&bench, "plain", &described(), 512);
    let mut cut = described();
    cut["truncation"] =
        json!({"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0});
    cut["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 1,
        "pad_type_id": 0, "pad_token": "<|padding|>"});
    folder(&bench, "cut", &cut, 512);
    let expected = scored(&bench, "plain", ROWS);
    assert!(expected[0].len() > 8);
    assert_eq!(scored(&bench, "cut", ROWS), expected);
    let whole = TextEncoder::open(&bench.path("cut"), 256, 64).unwrap();
    assert!(
        whole
            .prompt_length("SUBREDDIT: r/tifu and more than five tokens")
            .unwrap()
            > 5
    );
    assert!(whole.response(" c").unwrap().ended && whole.response(" c").unwrap().ids.len() == 2);
}

#[test]
fn a_tokenizer_that_draws_at_random_is_refused() {
    let bench = Bench::new();
    let mut random = described();
    random["model"]["dropout"] = json!(0.1);
    folder(&bench, "random", &random, 512);
    bench.write("rows.jsonl", ROWS);
    let words = "--model random --input rows.jsonl --output out.jsonl";
    for command in ["score", "generate"] {
        refused(
            &bench,
            &format!("{command} {words}"),
            5,
            &["tokenizer.json", "model.dropout is 0.1", "null"],
        );
    }
    let said = bench.run("model info random");
    assert!(
        said.code == Some(1) && said.out.contains("model.dropout is 0.1"),
        "{}{}",
        said.out,
        said.err
    );
    random["model"]["dropout"] = json!(0.0);
    assert!(
        ModelTokenizer::parse(random.to_string().as_bytes(), "tokenizer.json").is_ok(),
        "none at all"
    );
}

#[test]
fn a_vocabulary_is_as_large_as_its_largest_id() {
    let bench = Bench::new();
    let mut gap = described();
    let vocabulary = gap["model"]["vocab"].as_object_mut().unwrap();
    let (last, _) = vocabulary
        .iter()
        .find(|(_, id)| **id == json!(511))
        .map(|(t, id)| (t.clone(), id.clone()))
        .unwrap();
    vocabulary.insert(last, json!(600));
    assert_eq!(
        TextEncoder::open(&folder(&bench, "fits", &gap, 601), 64, 64)
            .unwrap()
            .vocabulary_size(),
        601
    );
    scored(&bench, "fits", ROWS);
    folder(&bench, "small", &gap, 600);
    bench.write("rows.jsonl", ROWS);
    refused(
        &bench,
        "score --model small --input rows.jsonl --output out.jsonl",
        5,
        &["largest id is 600", "600 rows"],
    );
    // The library would silently change the id of this added token.
    let mut added = described();
    let token = json!({"id": 700, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    added["added_tokens"].as_array_mut().unwrap().push(token);
    let error = ModelTokenizer::parse(added.to_string().as_bytes(), "tokenizer.json")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("<x>") && error.contains("700") && error.contains("512"),
        "{error}"
    );
}

// --- Ends ---

#[test]
fn ends_are_those_of_the_first_file_that_names_some() {
    let bench = Bench::new();
    let folder = folder(&bench, "model", &described(), 512);
    let write = |name: &str, contents: Option<Value>| match contents {
        Some(contents) => fs::write(folder.join(name), contents.to_string()).unwrap(),
        None => drop(fs::remove_file(folder.join(name))),
    };
    let ends = |generation: Option<Value>,
                config: Value,
                tokenizer: Option<Value>,
                special: Option<Value>| {
        write(
            "generation_config.json",
            generation.map(|ids| json!({"eos_token_id": ids})),
        );
        edit_config(&folder, |keys| {
            drop(keys.insert("eos_token_id".into(), config))
        });
        write(
            "tokenizer_config.json",
            tokenizer.map(|token| json!({"eos_token": token})),
        );
        write(
            "special_tokens_map.json",
            special.map(|token| json!({"eos_token": token})),
        );
        let checkpoint = Checkpoint::open(&folder).unwrap();
        checkpoint
            .ends(Some(&checkpoint.tokenizer()?))
            .map(|ends| ends.ids().to_vec())
    };
    let padding = || Some(json!("<|padding|>"));
    for (generation, config, tokenizer, special, expected) in [
        (None, Value::Null, None, None, vec![0]),
        (None, Value::Null, padding(), None, vec![1]),
        (
            None,
            Value::Null,
            None,
            Some(json!({"content": "<|padding|>", "special": true})),
            vec![1],
        ),
        (None, Value::Null, Some(Value::Null), padding(), vec![1]),
        (None, json!(472), padding(), None, vec![472]),
        (None, json!([472, 1, 0]), padding(), None, vec![1, 0, 472]),
        (None, json!([]), padding(), None, vec![1]),
        (
            Some(json!([7, 472])),
            json!(1),
            padding(),
            None,
            vec![7, 472],
        ),
        (Some(json!(7)), json!(1), None, None, vec![7]),
        (Some(Value::Null), json!(1), None, None, vec![1]),
    ] {
        let told = format!("{generation:?} {config} {tokenizer:?} {special:?}");
        assert_eq!(
            ends(generation, config, tokenizer, special).unwrap(),
            expected,
            "{told}"
        );
    }
    for (generation, config, tokenizer, parts) in [
        (
            None,
            json!(512),
            None,
            ["config.json", "eos_token_id 512", "512"],
        ),
        (
            Some(json!([0, 99999])),
            json!(0),
            None,
            ["generation_config.json", "eos_token_id 99999", "512"],
        ),
        (None, json!(-1), None, ["config.json", "eos_token_id", "-1"]),
        (
            None,
            json!("</s>"),
            None,
            ["config.json", "eos_token_id", "</s>"],
        ),
        (
            Some(json!([0, null])),
            json!(0),
            None,
            ["generation_config.json", "eos_token_id", "null"],
        ),
        (
            None,
            Value::Null,
            Some(json!("</s>")),
            ["tokenizer_config.json", "eos_token", "</s>"],
        ),
    ] {
        let error = ends(generation, config, tokenizer, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(
            parts.iter().all(|part| error.to_string().contains(part)),
            "{parts:?}: {error}"
        );
    }
}

#[test]
fn a_model_without_any_end_is_refused_by_name() {
    let bench = Bench::new();
    let named = described().to_string().replace("<|endoftext|>", "<|stop|>");
    folder(
        &bench,
        "endless",
        &serde_json::from_str(&named).unwrap(),
        512,
    );
    bench.write("rows.jsonl", ROWS);
    for command in ["score", "generate"] {
        let words = format!("{command} --model endless --input rows.jsonl --output out.jsonl");
        refused(
            &bench,
            &words,
            5,
            &[
                "endless: no file names a token that ends a text",
                "eos_token",
            ],
        );
    }
}

/// `score` must append the token at which `generate` stops and which training appends.
#[test]
fn every_command_has_the_same_end() {
    let bench = Bench::new();
    let folder = folder(&bench, "model", &described(), 512);
    let encoder = |folder: &Path| {
        let checkpoint = Checkpoint::open(folder).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        let ends = checkpoint.ends(Some(&tokenizer)).unwrap();
        TextEncoder::with(tokenizer, ends, 64, 64)
    };
    for (ids, appended) in [(json!(472), 472), (json!([300, 472]), 300)] {
        edit_config(&folder, |keys| {
            drop(keys.insert("eos_token_id".into(), ids.clone()))
        });
        let trained = encoder(&folder).response(" c").unwrap().ids;
        assert_eq!(trained.last(), Some(&appended));
        let prompt = encoder(&folder).prompt("a b").unwrap();
        let row = json!({"prompt_ids": prompt, "response_ids": trained}).to_string();
        let found = scored(
            &bench,
            "model",
            &format!("{}\n{row}\n", r#"{"prompt": "a b", "response": " c"}"#),
        );
        assert_eq!(found[0], found[1], "{ids}");
    }
    // Each of several ends stops a sample; it is one of the tokens but not part of the text.
    let many: Vec<u32> = (200..512).collect();
    bench.write(
        "model/generation_config.json",
        json!({"eos_token_id": many}).to_string(),
    );
    bench.write("rows.jsonl", ROWS);
    bench.succeed(
        "generate --model model --input rows.jsonl --output out.jsonl --max-new-tokens 100",
    );
    for line in bench.read("out.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let sampled: Vec<u32> = serde_json::from_value(row["response_ids"].clone()).unwrap();
        let (last, body) = sampled.split_last().unwrap();
        assert!(
            row["ended"] == true && *last >= 200 && body.iter().all(|id| *id < 200),
            "{row}"
        );
        assert_eq!(
            row["response"],
            encoder(&folder).decoded(body.to_vec(), true).unwrap().text
        );
    }
    // A saved policy has the ends of the model that it came from.
    let again = bench.path("again");
    let model = Checkpoint::open(&folder)
        .unwrap()
        .language_model(&cpu())
        .unwrap();
    Checkpoint::save_language_model(
        &again,
        &model,
        &folder.join("tokenizer.json"),
        StoredAs::F32,
    )
    .unwrap();
    assert_eq!(encoder(&again).ends(), encoder(&folder).ends());
}

#[test]
fn a_text_that_ends_already_gets_no_second_end() {
    let bench = Bench::new();
    folder(&bench, "model", &described(), 512);
    let row = |response: &str| json!({"prompt": "a b", "response": response}).to_string();
    let rows = [
        " the cat",
        " the cat<|endoftext|>",
        " the cat<|endoftext|>\n",
        " the cat<|endoftext|><|endoftext|>",
    ];
    let found = scored(&bench, "model", &rows.map(row).join("\n"));
    for (text, found_row) in rows.iter().zip(&found) {
        assert_eq!(found_row, &found[0], "{text}");
    }
    let empty = scored(&bench, "model", &["", "<|endoftext|>"].map(row).join("\n"));
    assert!(empty[0].len() == 1 && empty[0] == empty[1]);
    // Token ids are used unchanged.
    let ids = |response: &[u32]| json!({"prompt": "a b", "response_ids": response}).to_string();
    let taken = scored(
        &bench,
        "model",
        &[ids(&[7, 0]), ids(&[7]), ids(&[7, 0, 0])].join("\n"),
    );
    assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 3]);
    let response = encoder(64).response(" the cat<|endoftext|>").unwrap();
    assert_eq!(
        response,
        encoder(64).response(" the cat").unwrap(),
        "{response:?}"
    );
}

// --- Control tokens in texts ---

#[test]
fn the_name_of_a_control_token_in_a_text_is_text() {
    let encoder = encoder(64);
    for text in ["a <|endoftext|> b", "<|endoftext|>", "a <|padding|>"] {
        let ids = encoder.prompt(text).unwrap();
        assert!(
            ids.len() > 3 && ids.iter().all(|id| *id > 1),
            "{text}: {ids:?}"
        );
        assert_eq!(encoder.decoded(ids, false).unwrap().text, text);
    }
    let inside = encoder.response(" the <|endoftext|> cat").unwrap();
    assert_eq!(
        inside.ids.iter().filter(|id| **id == 0).count(),
        1,
        "its own end alone: {inside:?}"
    );
    // Added tokens that are not control tokens stay tokens, such as the runs of spaces of GPT-NeoX.
    let bench = Bench::new();
    let mut spaces = described();
    let token = |content: &str, id: u32, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": !special, "special": special})
    };
    spaces["added_tokens"]
        .as_array_mut()
        .unwrap()
        .extend([token("    ", 512, false), token("<|user|>", 513, false)]);
    let path = bench.write("spaces/tokenizer.json", spaces.to_string());
    let encode = |text: &str| ModelTokenizer::read(&path).unwrap().encode(text).unwrap();
    assert!(encode("a    b").contains(&512) && encode("<|user|>").contains(&513));
    // A token named by the tokenizer's other files is a control token, whatever tokenizer.json
    // says.
    bench.write(
        "spaces/special_tokens_map.json",
        json!({"additional_special_tokens": ["<|user|>"]}).to_string(),
    );
    assert!(encode("a    b").contains(&512) && !encode("<|user|>").contains(&513));
}

#[test]
fn a_control_token_that_words_alone_can_spell_is_refused_in_a_text() {
    let encoder = TextEncoder::new(
        WorldSettings::default()
            .open()
            .unwrap()
            .tokenizer()
            .unwrap(),
        64,
        40,
    )
    .unwrap();
    for text in ["i feel sad . <|endoftext|> my", "<|padding|>"] {
        let error = encoder.prompt(text).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Data && error.to_string().contains("control token"),
            "{error}"
        );
    }
    let (plain, ended) = (
        encoder.response("i feel sad ."),
        encoder.response("i feel sad . <|endoftext|>"),
    );
    assert_eq!(plain.unwrap().ids, ended.unwrap().ids);
}

// --- Text beside token ids ---

#[test]
fn text_and_tokens_of_a_row_must_agree() {
    let bench = Bench::new();
    folder(&bench, "model", &described(), 512);
    let encoder = encoder(64);
    let (prompt, response) = (
        encoder.prompt("a b").unwrap(),
        encoder.response(" the cat").unwrap().ids,
    );
    let open = &response[..response.len() - 1];
    let row = |text: [&str; 2], ids: [&[u32]; 2]| {
        json!({"prompt": text[0], "prompt_ids": ids[0], "response": text[1], "response_ids": ids[1]}).to_string()
    };
    // Letter by letter: the tokenizer would encode it differently, but the text is the same.
    let letters: Vec<u32> = " the cat"
        .chars()
        .flat_map(|letter| encoder.prompt(&letter.to_string()).unwrap())
        .collect();
    let agreeing = [
        row(["a b", " the cat"], [&prompt, &response]),
        row(["a b", " the cat"], [&prompt, open]),
        row(["a b", " the cat<|endoftext|>"], [&prompt, &response]),
        row(["a b", " the cat"], [&prompt, &letters]),
    ];
    assert_eq!(scored(&bench, "model", &agreeing.join("\n")).len(), 4);
    for (wrong, side) in [
        (row(["a b", " the dog"], [&prompt, &response]), "response"),
        (row(["a c", " the cat"], [&prompt, &response]), "prompt"),
        (row(["a b", ""], [&prompt, &response]), "response"),
        (row(["a b", " the cat"], [&prompt, &[511, 0]]), "response"),
    ] {
        bench.write("rows.jsonl", format!("{}\n{wrong}\n", agreeing[0]));
        let part = format!("line 2: {side} and {side}_ids disagree");
        refused(
            &bench,
            "score --model model --input rows.jsonl --output out.jsonl",
            4,
            &[&part, "tokens", "ids are given"],
        );
    }
    // `score` accepts the output of `generate`.
    bench.write("rows.jsonl", ROWS);
    bench.succeed(
        "generate --model model --input rows.jsonl --output sampled.jsonl --max-new-tokens 40",
    );
    bench.succeed("score --model model --input sampled.jsonl --output out.jsonl");
}

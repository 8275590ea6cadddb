//! Tests of users' rows in every form: they are read, or refused with the name of their format, the
//! place and a remedy.

mod common;

use common::{Bench, Said, cpu, fixture};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use touchstone::data::dataset::{Dataset, SummarisedPost};
use touchstone::model::checkpoint::Checkpoint;
use touchstone::model::weights::StoredAs;
use touchstone::model::{DecoderConfig, LanguageModel, Sequence};
use touchstone::rng::stream;
use touchstone::tasks::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, Loss, SystemRule, TooLong,
};

const HEADER: &str = "id,subreddit,title,post,summary\n";
const ROW: &str = r#"{"id": "a", "subreddit": "s", "title": "t", "post": "p", "summary": "u"}"#;

/// The ids of the rows read, or the error with its remedy.
fn told(bench: &Bench, name: &str) -> String {
    let read = || -> touchstone::Result<Vec<SummarisedPost>> {
        Dataset::file(&bench.path(name))?.rows()?.collect()
    };
    match read() {
        Ok(rows) => format!(
            "{name}: read {}",
            rows.iter()
                .map(|row| row.id.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        ),
        Err(error) => {
            let hint = miette::Diagnostic::help(&error).map(|hint| hint.to_string());
            let text = format!(
                "{error}\n  {}",
                hint.unwrap_or_else(|| panic!("no remedy: {error}"))
            );
            text.replace(
                &format!(
                    "{}/",
                    bench.path("").display().to_string().trim_end_matches('/')
                ),
                "",
            )
        }
    }
}

fn all_told(files: &[(&str, &[u8])]) -> String {
    let bench = Bench::new();
    let told = files.iter().map(|(name, bytes)| {
        bench.write(name, bytes);
        told(&bench, name)
    });
    told.collect::<Vec<_>>().join("\n")
}

/// Two copies of `ROW`, the second with its title replaced, quotes included.
fn titled(title: &str) -> String {
    format!("{ROW}\n\n{}\n", ROW.replace("\"t\"", title))
}

#[test]
fn lines_of_json() {
    let marked = format!("\u{feff}{ROW}\r\n\r\n{ROW}\r\n");
    let joined = format!("{ROW}\n\u{feff}{ROW}\n");
    let pretty = ROW.replace(", ", ",\n  ");
    let latin: Vec<u8> = titled("\"caf!\"")
        .bytes()
        .map(|byte| if byte == b'!' { 0xe9 } else { byte })
        .collect();
    let long = titled(&format!("\"{}\"", "word ".repeat(400_000)));
    let renamed = ROW.replace("\"title\"", "\"titel\"");
    insta::assert_snapshot!(all_told(&[
        ("mark-and-returns.jsonl", marked.as_bytes()),
        ("joined.jsonl", joined.as_bytes()),
        ("long.jsonl", long.as_bytes()),
        ("nothing-says-so.txt", ROW.as_bytes()),
        ("surrogate.jsonl", titled(r#""x \ud83d y""#).as_bytes()),
        ("pair.jsonl", titled(r#""x \ud83d\ude00 y""#).as_bytes()),
        ("nan.jsonl", titled("NaN").as_bytes()),
        (
            "extra-nan.jsonl",
            titled(r#""t", "meta": {"score": [1, -Infinity]}"#).as_bytes()
        ),
        (
            "extra-large.jsonl",
            titled(r#""t", "size": 1e400, "n": 123456789012345678901"#).as_bytes()
        ),
        ("python.jsonl", titled("None").as_bytes()),
        ("null.jsonl", titled("null").as_bytes()),
        ("number.jsonl", titled("7").as_bytes()),
        ("twice.jsonl", titled(r#""t", "title": "u""#).as_bytes()),
        (
            "chat.jsonl",
            titled(r#"[{"role": "user", "content": "t"}]"#).as_bytes()
        ),
        (
            "messages.jsonl",
            br#"{"messages": [{"role": "user", "content": "t"}]}"#
        ),
        (
            "conversations.jsonl",
            br#"{"conversations": [{"from": "human", "value": "t"}]}"#
        ),
        (
            "renamed-later.jsonl",
            format!("{ROW}\n{renamed}\n").as_bytes()
        ),
        (
            "spaces.jsonl",
            ROW.replace("\"title\"", "\"title \"").as_bytes()
        ),
        ("comma.jsonl", format!("{ROW},\n{ROW}\n").as_bytes()),
        ("two-on-a-line.jsonl", format!("{ROW} {ROW}\n").as_bytes()),
        ("pretty.jsonl", pretty.as_bytes()),
        ("list.jsonl", format!("[{ROW},\n{ROW}]").as_bytes()),
        ("pretty-list.jsonl", format!("[\n{ROW}\n]").as_bytes()),
        ("cut.jsonl", &ROW.as_bytes()[..40]),
        ("latin.jsonl", &latin),
        ("csv.jsonl", HEADER.as_bytes()),
    ]));
}

#[test]
fn documents_of_json() {
    let pretty = ROW.replace(", ", ",\n  ");
    insta::assert_snapshot!(all_told(&[
        ("list.json", format!("\u{feff}[{ROW},\n{ROW}]").as_bytes()),
        ("pretty.json", format!("[\n{pretty}\n]\n").as_bytes()),
        (
            "data.json",
            format!("{{\"version\": 1, \"data\": [{ROW}]}}").as_bytes()
        ),
        ("one.json", pretty.as_bytes()),
        ("lines.json", format!("{ROW}\n{ROW}\n").as_bytes()),
        ("empty-list.json", b"[]"),
        (
            "columns.json",
            br#"{"id": {"0": "a"}, "title": {"0": "t"}}"#
        ),
        (
            "split.json",
            br#"{"columns": ["id"], "index": [0], "data": [["a"]]}"#
        ),
        ("comma.json", format!("[{ROW},]").as_bytes()),
        (
            "nan.json",
            format!("[{ROW}, {}]", ROW.replace("\"p\"", "NaN")).as_bytes()
        ),
        (
            "surrogate.json",
            format!("[{ROW}, {}]", ROW.replace("\"p\"", r#""\udc00""#)).as_bytes()
        ),
        (
            "null.json",
            format!("[{ROW},\n\n{}]", ROW.replace("\"p\"", "null")).as_bytes()
        ),
        ("number.json", b"7"),
        ("cut.json", format!("[{ROW}, {{").as_bytes()),
    ]));
}

#[test]
fn separated_text() {
    let semicolons = "id;subreddit;title;post;summary\na;s;t;p;u\n";
    insta::assert_snapshot!(all_told(&[
        (
            "good.csv",
            format!("\u{feff}{HEADER}a,s,t,\"p, q\r\n\"\"r\"\"\",u\r\n\r\nb,s,t,p,u").as_bytes()
        ),
        (
            "index.csv",
            ",id,subreddit,title,post,summary\n0,a,s,t,p,u\n".as_bytes()
        ),
        (
            "quoted-header.csv",
            b"\"id\",\"subreddit\",\"title\",\"post\",\"summary\"\na,s,t,p,u\n"
        ),
        ("tabs.tsv", semicolons.replace(';', "\t").as_bytes()),
        ("header-only.csv", HEADER.as_bytes()),
        ("blank.csv", b"\n\n"),
        ("semicolons.csv", semicolons.as_bytes()),
        ("tabs.csv", semicolons.replace(';', "\t").as_bytes()),
        ("bars.csv", semicolons.replace(';', "|").as_bytes()),
        ("commas.tsv", format!("{HEADER}a,s,t,p,u\n").as_bytes()),
        (
            "ragged.csv",
            format!("{HEADER}a,s,t,\"p\nq\",u\nb,s,t,p\n").as_bytes()
        ),
        ("trailing.csv", format!("{HEADER}a,s,t,p,u,\n").as_bytes()),
        (
            "twice.csv",
            b"id,subreddit,title,post,summary,title\na,s,t,p,u,t\n"
        ),
        (
            "spaces.csv",
            b"id, subreddit,title,post,summary\na,s,t,p,u\n"
        ),
        (
            "empty-cell.csv",
            format!("{HEADER}a,s,t,\"p\n\",u\nb,s,,p,u\n").as_bytes()
        ),
        (
            "open-quote.csv",
            format!("{HEADER}a,s,t,p,u\nb,s,t,p,\"u\nc,s,t,p,u\n").as_bytes()
        ),
        (
            "inches.csv",
            format!("{HEADER}a,s,a 5\" disk,p,u\n").as_bytes()
        ),
        (
            "latin.csv",
            &[HEADER.as_bytes(), b"a,s,caf\xe9,p,u\n"].concat()
        ),
    ]));
}

#[test]
fn files_that_are_something_else() {
    let wide: Vec<u8> = "\u{feff}id,post\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n";
    let parquet = fs::read(fixture("rows/texts.parquet")).unwrap();
    insta::assert_snapshot!(all_told(&[
        ("wide.csv", &wide),
        ("wide-without-mark.jsonl", &wide[2..]),
        ("pointer.jsonl", pointer),
        ("pointer.parquet", pointer),
        (
            "page.jsonl",
            b"<!DOCTYPE html><html><title>404</title></html>"
        ),
        ("page.json", b"<html>gone</html>"),
        ("packed.jsonl", b"\x1f\x8b\x08\0\0\0"),
        ("packed.csv", b"\x28\xb5\x2f\xfd\0\0"),
        ("packed", b"PK\x03\x04\0\0"),
        ("really-parquet.jsonl", &parquet),
        ("parquet-without-ending", &parquet),
        ("arrow.parquet", b"ARROW1\0\0"),
        ("text.parquet", ROW.as_bytes()),
        ("cut.parquet", &parquet[..parquet.len() - 9]),
        ("empty.parquet", b""),
        ("words.txt", b"once upon a time"),
    ]));
    let bench = Bench::new();
    fs::create_dir(bench.path("folder.jsonl")).unwrap();
    insta::assert_snapshot!([told(&bench, "folder.jsonl"), told(&bench, "absent.jsonl")].join("\n"), @r"
    folder.jsonl is a folder, not a file
      give the path of a file in it
    there is no file absent.jsonl
      check the path
    ");
}

#[test]
fn types_of_parquet() {
    let names = [
        "texts",
        "binary",
        "lists",
        "nanoseconds",
        "maps",
        "extras",
        "twice",
    ];
    let names = names.map(|name| format!("{name}.parquet"));
    let files: Vec<_> = names
        .iter()
        .map(|name| (name, fs::read(fixture("rows").join(name)).unwrap()))
        .collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    insta::assert_snapshot!(all_told(&files));
}

// --- Any bytes at all ---

const ENDINGS: [&str; 6] = ["jsonl", "json", "csv", "tsv", "parquet", "txt"];

/// Reads `bytes` under every ending, as posts and as whole rows. Rows and errors are both accepted;
/// only a panic fails.
fn read_in_every_way(bytes: &[u8]) {
    let bench = Bench::new();
    for ending in ENDINGS {
        let path = bench.write(format!("x.{ending}"), bytes);
        if let Ok(set) = Dataset::file(&path) {
            let _ = set
                .rows::<SummarisedPost>()
                .map(|rows| rows.take(100).count());
            let _ = set.whole_rows().map(|rows| rows.take(100).count());
            let _ = set.len();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_in_every_way(&bytes);
    }

    #[test]
    fn anything_like_rows_is_rows_or_an_error(text in r#"[\[\]{}",:;\\ua-d0-9eNn\- \n\t\r']{0,80}"#) {
        read_in_every_way(text.as_bytes());
        read_in_every_way(format!("{ROW}\n{text}\n{ROW}\n").as_bytes());
        read_in_every_way(format!("{HEADER}a,s,t,{text}").as_bytes());
    }

    /// Rows cut off at any byte, and rows with one byte changed.
    #[test]
    fn damaged_rows_are_an_error(cut in 0usize..ROW.len(), at in 0usize..ROW.len(), byte in any::<u8>()) {
        read_in_every_way(&ROW.as_bytes()[..cut]);
        let mut bytes = format!("{ROW}\n{ROW}\n").into_bytes();
        bytes[at] = byte;
        read_in_every_way(&bytes);
    }
}

// --- What passes through `score` ---

fn bench() -> Bench {
    let bench = Bench::new();
    bench.copy(&fixture("gpt_neox/small_heads"), "model");
    bench
}

/// `text` without the numbers computed by a model.
fn without_scores(text: &str) -> String {
    let computed = |line: &str| {
        let (kept, _) = line
            .split_once(",\"logprob\":")
            .unwrap_or_else(|| panic!("no score in {line}"));
        format!("{kept}}}")
    };
    text.lines().map(computed).collect::<Vec<_>>().join("\n")
}

#[test]
fn keys_that_pass_through_are_what_was_written_in_their_order() {
    let bench = bench();
    let rows = r#"{"z":123456789012345678901234567890,"prompt_ids":[3,4],"d":0.1000000000000000055,"response_ids":[5],"e":1e400,"a":{"c":[1.0],"b":null}}"#;
    bench.write("rows.jsonl", format!("{rows}\n"));
    bench.succeed("score --model model --input rows.jsonl --output out.jsonl");
    assert_eq!(without_scores(&bench.read("out.jsonl")), rows);
}

#[test]
fn every_format_of_the_same_rows_has_the_same_scores() {
    let bench = bench();
    bench.write(
        "rows.jsonl",
        "{\"prompt_ids\": [3, 4], \"response_ids\": [5]}\n{\"prompt_ids\": [5], \"response_ids\": [6]}\n",
    );
    bench.write(
        "rows.json",
        "[{\"prompt_ids\": [3, 4], \"response_ids\": [5]},\n{\"prompt_ids\": [5], \"response_ids\": [6]}]",
    );
    bench.write(
        "rows.csv",
        "prompt_ids,response_ids\n\"[3, 4]\",[5]\n[5],[6]\n",
    );
    bench.write(
        "rows.tsv",
        "prompt_ids\tresponse_ids\n[3, 4]\t[5]\n[5]\t[6]\n",
    );
    bench.write(
        "rows.parquet",
        fs::read(fixture("rows/score.parquet")).unwrap(),
    );
    let scores = |ending: &str| -> Vec<f64> {
        bench.succeed(&format!(
            "score --model model --input rows.{ending} --output out-{ending}.jsonl"
        ));
        let rows = bench.read(format!("out-{ending}.jsonl"));
        rows.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["logprob"]
                    .as_f64()
                    .unwrap()
            })
            .collect()
    };
    let expected = scores("jsonl");
    assert_eq!(expected.len(), 2);
    for ending in ["json", "csv", "tsv", "parquet"] {
        assert_eq!(scores(ending), expected, "{ending}");
    }
    insta::assert_snapshot!(without_scores(&bench.read("out-parquet.jsonl")), @r#"
    {"large":18446744073709551615,"prompt_ids":[3,4],"price":12345678901234567890.123456789,"response_ids":[5],"share":0.1,"day":"2026-01-02"}
    {"large":1,"prompt_ids":[5],"price":12345678901234567890.123456789,"response_ids":[6],"share":null,"day":"2026-01-02"}
    "#);
}

// --- Conversations ---

/// A bench with the folder `model`: a random model with a tokenizer and a chat template.
fn chat_bench() -> Bench {
    let bench = Bench::new();
    let keys = json!({
        "model_type": "mistral", "vocab_size": 368, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 96, "sliding_window": null,
    });
    let config = DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "test").unwrap();
    let model =
        LanguageModel::random(&config, 0.3, &mut stream(1, "test/chat", &[]), &cpu()).unwrap();
    let tokenizer = bench.copy(&fixture("chat/llama"), "tokenizer");
    let template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    let named = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    bench.write("tokenizer/tokenizer_config.json", named.to_string());
    let tokenizer = tokenizer.join("tokenizer.json");
    Checkpoint::save_language_model(&bench.path("model"), &model, &tokenizer, StoredAs::F32)
        .unwrap();
    bench
}

const QUESTION: &str = r#"{"role": "user", "content": "who is it ?"}"#;
const ANSWER: &str = r#"{"role": "assistant", "content": "a friend"}"#;

#[test]
fn conversations_are_scored_as_the_tokens_of_their_template() {
    let bench = chat_bench();
    bench.write(
        "rows.jsonl",
        format!(r#"{{"id": "a", "messages": [{QUESTION}, {ANSWER}]}}"#),
    );
    bench.succeed("score --model model --input rows.jsonl --output out.jsonl");
    let scored: Value = serde_json::from_str(&bench.read("out.jsonl")).unwrap();
    assert_eq!(
        (&scored["id"], &scored["messages"][1]["content"]),
        (&json!("a"), &json!("a friend"))
    );

    // The tokens themselves are compared with those of transformers in chat.rs.
    let rules = ChatRules {
        system: SystemRule::AsGiven,
        loss: Loss::LastTurn,
        control_names: ControlNames::Text,
        max_tokens: 96,
        too_long: TooLong::Refuse,
    };
    let messages = [QUESTION, ANSWER].map(|message| serde_json::from_str(message).unwrap());
    let conversation = Conversation::new("row", messages.to_vec()).unwrap();
    let encoder = ChatEncoder::open(&bench.path("model"), rules).unwrap();
    let Sequence { prompt, response } = encoder.sequence(&conversation).unwrap();
    assert_eq!(
        scored["token_logprobs"].as_array().unwrap().len(),
        response.len()
    );
    bench.write(
        "ids.jsonl",
        json!({"prompt_ids": prompt, "response_ids": response}).to_string(),
    );
    bench.succeed("score --model model --input ids.jsonl --output ids-out.jsonl");
    let by_ids: Value = serde_json::from_str(&bench.read("ids-out.jsonl")).unwrap();
    assert_eq!(scored["token_logprobs"], by_ids["token_logprobs"]);
}

/// Rows as preference data sets have them, with other keys that could be read.
#[test]
fn two_answers_are_scored_and_their_agreement_is_printed() {
    let bench = chat_bench();
    let other = r#"{"role": "assistant", "content": "nobody"}"#;
    let pair = |chosen: &str, rejected: &str| {
        format!(
            r#"{{"prompt": "who is it ?", "chosen": [{QUESTION}, {chosen}], "rejected": [{QUESTION}, {rejected}], "messages": [{QUESTION}, {chosen}]}}"#
        )
    };
    let rows = [
        pair(ANSWER, other),
        pair(other, ANSWER),
        pair(ANSWER, ANSWER),
    ];
    bench.write("pairs.jsonl", rows.join("\n"));
    let singles =
        [ANSWER, other].map(|answer| format!(r#"{{"messages": [{QUESTION}, {answer}]}}"#));
    bench.write("singles.jsonl", singles.join("\n"));
    let score = |name: &str, batch: usize| -> (String, Vec<Value>) {
        let said = bench.succeed(&format!(
            "score --batch {batch} --model model --input {name}.jsonl --output out.jsonl"
        ));
        let rows = bench.read("out.jsonl");
        let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap());
        (said.out, rows.collect())
    };
    let (said, singles) = score("singles", 1);
    assert_eq!(said, "", "nothing is compared");
    for batch in [1, 4] {
        let (said, pairs) = score("pairs", batch);
        assert_eq!(
            said,
            "log-probability of `chosen` above that of `rejected` in 1 of 3 rows (33.3 %), equal in 1\n"
        );
        for (row, [chosen, rejected]) in pairs.iter().zip([[0, 1], [1, 0], [0, 0]]) {
            for (side, single) in [("chosen", chosen), ("rejected", rejected)] {
                let found = row[format!("{side}_logprob")].as_f64().unwrap();
                let expected = singles[single]["logprob"].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-4, "{found}, {expected}");
                let tokens = |tokens: &Value| tokens.as_array().unwrap().len();
                assert_eq!(
                    tokens(&row[format!("{side}_token_logprobs")]),
                    tokens(&singles[single]["token_logprobs"])
                );
            }
            assert!(row.get("logprob").is_none(), "{row}");
        }
    }
}

#[test]
fn templates_that_do_not_work_are_refused_with_place_and_remedy() {
    let bench = chat_bench();
    bench.write(
        "rows.jsonl",
        format!(r#"{{"messages": [{QUESTION}, {ANSWER}]}}"#),
    );
    let told = [
        "{% if messages[0].role != 'system' %}{{ raise_exception('Say who you are.') }}{% endif %}",
        "{% for m in messages %}\n{{ m.content | wordwrap(20) }}{% endfor %}",
        "{% for m in messages %}{{ m.content.encode('utf-8') }}{% endfor %}",
        "{% for m in messages %}{{ m.tool.name }}{% endfor %}",
        "{% for m in messages %}{{ '%s' % m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}",
        "{{ prompt }}",
        "{% for m in messages %}{{ sep_token + m.content }}{% endfor %}",
    ]
    .map(|template| {
        let named = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
        bench.write("model/tokenizer_config.json", named.to_string());
        let Said { code, err, .. } =
            bench.run("score --model model --input rows.jsonl --output out.jsonl");
        assert!(code.is_some_and(|code| code != 0), "{template}");
        assert!(!bench.path("out.jsonl").exists(), "{template}");
        format!("{template}\n{}", err.trim())
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn pairs_that_cannot_be_compared_are_refused_with_place_and_remedy() {
    let bench = chat_bench();
    let whole = format!("[{QUESTION}, {ANSWER}]");
    let other = r#"{"role": "user", "content": "who ?"}"#;
    for (rejected, what) in [
        (
            format!("[{QUESTION}]"),
            "line 1, `rejected`: no message is the assistant's",
        ),
        (
            format!("[{ANSWER}]"),
            "line 1, `rejected`: message 1 is the first turn and the assistant's",
        ),
        (
            format!("[{other}, {ANSWER}]"),
            "line 1: `chosen` and `rejected` differ before their last turn",
        ),
        (r#""nobody""#.to_owned(), "line 1: `rejected` is"),
    ] {
        bench.write(
            "rows.jsonl",
            format!(r#"{{"chosen": {whole}, "rejected": {rejected}}}"#),
        );
        let Said { code, err, .. } =
            bench.run("score --model model --input rows.jsonl --output out.jsonl");
        let told = err.replace("\n  │ ", " ");
        assert!(code == Some(4) && told.contains(what), "{what}: {told}");
        assert!(told.contains("help: "), "{told}");
        assert!(!bench.path("out.jsonl").exists(), "{what}");
    }
}

#[test]
fn the_rule_for_a_missing_system_message_is_a_flag() {
    let bench = chat_bench();
    bench.write(
        "rows.jsonl",
        format!(r#"{{"messages": [{QUESTION}, {ANSWER}]}}"#),
    );
    let score = |system: &str| {
        bench.succeed(&format!(
            "score --system {system} --model model --input rows.jsonl --output {system}.jsonl"
        ));
        serde_json::from_str::<Value>(&bench.read(format!("{system}.jsonl"))).unwrap()["logprob"]
            .as_f64()
            .unwrap()
    };
    assert!(
        (score("as-given") - score("empty-if-absent")).abs() > 1e-6,
        "another prompt has another score"
    );
    assert_eq!(score("as-given"), score("refuse"));
}

#[test]
fn an_open_conversation_is_continued() {
    let bench = chat_bench();
    let rows = [
        format!(r#"{{"messages": [{QUESTION}]}}"#),
        format!(r#"{{"messages": [{QUESTION}, {ANSWER}]}}"#),
    ];
    bench.write("rows.jsonl", rows.join("\n"));
    bench.succeed("generate --temperature 0 --max-new-tokens 9 --model model --input rows.jsonl --output out.jsonl");
    let rows: Vec<Value> = bench
        .read("out.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows[0]["response_ids"], rows[1]["response_ids"],
        "an answer that is there is not read"
    );
    assert!(
        rows.iter()
            .all(|row| row["response"].is_string() && row["ended"].is_boolean()),
        "{rows:?}"
    );
}

#[test]
fn conversations_that_cannot_be_read_are_refused_with_place_and_remedy() {
    let bench = chat_bench();
    let cases = [
        ("score", format!(r#"{{"messages": [{QUESTION}]}}"#)),
        ("score", format!(r#"{{"messages": [{ANSWER}]}}"#)),
        (
            "generate",
            format!(r#"{{"messages": [{QUESTION}, {QUESTION}]}}"#),
        ),
        (
            "generate",
            r#"{"messages": [{"role": "human", "content": "?"}]}"#.to_owned(),
        ),
        (
            "score --system refuse",
            format!(
                r#"{{"messages": [{{"role": "system", "content": "s"}}, {QUESTION}, {ANSWER}]}}"#
            ),
        ),
    ];
    let refused = |command: &str| {
        let Said { code, err, .. } = bench.run(&format!(
            "{command} --model model --input rows.jsonl --output out.jsonl"
        ));
        assert!(
            code != Some(0) && !bench.path("out.jsonl").exists(),
            "{command}: {err}"
        );
        err.trim().to_owned()
    };
    let mut told: Vec<String> = cases
        .iter()
        .map(|(command, row)| {
            bench.write("rows.jsonl", row);
            refused(command)
        })
        .collect();
    bench.write(
        "model/tokenizer_config.json",
        json!({"eos_token": "</s>"}).to_string(),
    );
    bench.write(
        "rows.jsonl",
        format!(r#"{{"messages": [{QUESTION}, {ANSWER}]}}"#),
    );
    told.push(refused("score"));
    insta::assert_snapshot!(told.join("\n\n"));
}

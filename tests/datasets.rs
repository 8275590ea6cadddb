//! Tests of data sets by their hub columns, from local files and from a server on this machine that
//! imitates a hub.

#[cfg(feature = "hub")]
mod hub_server;
#[path = "common/parquet.rs"]
mod parquet;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use touchstone::data::dataset::{
    BenchmarkPair, Chat, ChatPreference, Comparison, Dataset, Fingerprint, Message, Preference,
    Record, SummarisedPost, Summary, Text,
};
use touchstone::data::hub::Source;
use touchstone::data::tldr::Post;

/// A temporary folder with files in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn jsonl(&self, name: &str, rows: &[Value]) -> PathBuf {
        self.write(
            name,
            rows.iter()
                .map(|row| format!("{row}\n"))
                .collect::<String>(),
        )
    }

    /// Writes the same rows as parquet, in row groups of `group` rows.
    fn parquet(&self, name: &str, rows: &[Value], group: usize) -> PathBuf {
        let path = self.path(name);
        parquet::write(&path, rows, group);
        path
    }

    /// An error's text without this folder's name.
    fn told(&self, error: &touchstone::Error) -> String {
        let mut text = error.to_string();
        if let Some(hint) = miette::Diagnostic::help(error) {
            text += &format!("\n  {hint}");
        }
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn read<T: Record>(path: &Path) -> Vec<T> {
    Dataset::file(path)
        .unwrap()
        .rows()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// The error of opening the rows.
#[track_caller]
fn refused<T: Record>(path: &Path) -> touchstone::Error {
    Dataset::file(path)
        .unwrap()
        .rows::<T>()
        .map(|_| ())
        .unwrap_err()
}

/// Asserts that `rows` are `expected`, written as jsonl and as parquet.
#[track_caller]
fn assert_rows<T: Record + PartialEq + std::fmt::Debug>(rows: &[Value], expected: &[T]) {
    let desk = Desk::new();
    assert_eq!(read::<T>(&desk.jsonl("rows.jsonl", rows)), expected);
    assert_eq!(read::<T>(&desk.parquet("rows.parquet", rows, 1)), expected);
    assert_eq!(
        read::<T>(&desk.parquet("whole.parquet", rows, 1000)),
        expected
    );
}

fn post(number: usize) -> Value {
    json!({"id": format!("t3_{number}"), "subreddit": "tifu", "title": "a\ttitle", "post": format!("one\n{number}"),
        "summary": "short"})
}

fn posts(count: usize) -> Vec<Value> {
    (0..count).map(post).collect()
}

// --- Records ---

#[test]
fn posts_with_their_summaries() {
    let expected = |number: usize| SummarisedPost {
        id: format!("t3_{number}"),
        post: Post {
            subreddit: "tifu".into(),
            title: "a\ttitle".into(),
            post: format!("one\n{number}"),
        },
        summary: "short".into(),
    };
    assert_rows(&posts(3), &[0, 1, 2].map(expected));
}

fn comparison(info: Value, choice: i32, confidence: Value) -> Value {
    json!({
        "info": info, "choice": choice, "worker": "w", "batch": "batch3", "split": "train",
        "summaries": [{"text": " first", "policy": "sup1", "note": null}, {"text": " second", "policy": "ref", "note": "n"}],
        "extra": {"confidence": confidence},
    })
}

#[test]
fn comparisons_of_posts_and_of_articles() {
    let of_post = json!({"id": "t3_1", "post": "p", "title": "t", "subreddit": "s", "site": null, "article": null});
    let of_article = json!({"id": "a1", "post": null, "title": "t", "subreddit": null, "site": "cnn", "article": "a"});
    let rows = [
        comparison(of_post, 1, json!(7)),
        comparison(of_article, 0, Value::Null),
    ];
    let summary = |text: &str, policy: &str| Summary {
        text: text.into(),
        policy: policy.into(),
    };
    let (first, second) = (summary(" first", "sup1"), summary(" second", "ref"));
    let expected = |id: &str, text, [chosen, rejected]: [&Summary; 2], confidence| Comparison {
        id: id.into(),
        text,
        chosen: chosen.clone(),
        rejected: rejected.clone(),
        worker: "w".into(),
        batch: "batch3".into(),
        split: "train".into(),
        confidence,
    };
    let post = Text::Post(Post {
        subreddit: "s".into(),
        title: "t".into(),
        post: "p".into(),
    });
    let article = Text::Article {
        title: Some("t".into()),
        article: "a".into(),
    };
    assert_rows(
        &rows,
        &[
            expected("t3_1", post, [&second, &first], Some(7)),
            expected("a1", article, [&first, &second], None),
        ],
    );
}

fn turns(answer: &str) -> Value {
    json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}])
}

fn messages(answer: &str) -> Vec<Message> {
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
    };
    vec![message("user", "hello"), message("assistant", answer)]
}

#[test]
fn conversations_and_preferences_between_them() {
    let chats = [
        json!({"prompt": "hello", "prompt_id": "p1", "messages": turns("a")}),
        json!({"prompt": "hello",
        "prompt_id": "p2", "messages": turns("b")}),
    ];
    let chat = |id: &str, answer: &str| Chat {
        prompt: Some("hello".into()),
        prompt_id: Some(id.into()),
        messages: messages(answer),
    };
    assert_rows(&chats, &[chat("p1", "a"), chat("p2", "b")]);
    assert_rows(
        &[json!({"messages": turns("a")})],
        &[Chat {
            prompt: None,
            prompt_id: None,
            ..chat("", "a")
        }],
    );

    let rows = [
        json!({"prompt": "hello", "prompt_id": "p", "chosen": turns("a"), "rejected": turns("b"),
        "messages": turns("a"), "score_chosen": 8.5, "score_rejected": 3.0}),
    ];
    let expected = ChatPreference {
        prompt: Some("hello".into()),
        prompt_id: Some("p".into()),
        chosen: messages("a"),
        rejected: messages("b"),
        score_chosen: Some(8.5),
        score_rejected: Some(3.0),
    };
    assert_rows(&rows, &[expected]);
}

#[test]
fn preferences_in_plain_text_and_those_of_a_benchmark() {
    let rows = [
        json!({"prompt": "p", "chosen": "c", "rejected": "r", "subset": "donotanswer", "id": 5,
        "chosen_model": "m", "rejected_model": "n"}),
    ];
    let preference = Preference {
        prompt: "p".into(),
        chosen: "c".into(),
        rejected: "r".into(),
    };
    assert_rows(&rows, std::slice::from_ref(&preference));
    let pair = BenchmarkPair {
        id: Some(5),
        preference,
        subset: "donotanswer".into(),
        chosen_model: Some("m".into()),
        rejected_model: Some("n".into()),
    };
    assert_rows(&rows, std::slice::from_ref(&pair));
    let desk = Desk::new();
    // csv has no types; quoted cells may contain commas and line breaks.
    let csv = desk.write(
        "rows.csv",
        "prompt,chosen,rejected,subset,id\n\"p, q\n\"\"r\"\"\",007,r,s,5\n",
    );
    let read = read::<BenchmarkPair>(&csv);
    assert_eq!(
        (
            read[0].preference.prompt.as_str(),
            read[0].preference.chosen.as_str()
        ),
        ("p, q\n\"r\"", "007")
    );
    assert_eq!(
        (read.len(), read[0].id, &read[0].chosen_model),
        (1, Some(5), &None)
    );
}

// --- What is wrong with them ---

#[test]
fn a_column_that_is_missing_is_named_with_those_that_are_there() {
    let desk = Desk::new();
    let renamed: Vec<Value> = posts(2)
        .into_iter()
        .map(|mut row| {
            let summary = row.as_object_mut().unwrap().remove("summary").unwrap();
            row["sumary"] = summary;
            row
        })
        .collect();
    for path in [
        desk.jsonl("x.jsonl", &renamed),
        desk.parquet("x.parquet", &renamed, 1),
    ] {
        insta::allow_duplicates! {
            let told = desk.told(&refused::<SummarisedPost>(&path)).replace(".parquet", ".jsonl");
            insta::assert_snapshot!(told, @r#"
x.jsonl has no column `summary`
  did you mean `sumary`? it has `id`, `post`, `subreddit`, `sumary`, `title`; rename the one that holds the summary
"#);
        }
    }
    let csv = desk.write("x.csv", "id,text\n1,a\n");
    insta::assert_snapshot!(desk.told(&refused::<SummarisedPost>(&csv)), @r#"
x.csv has no column `subreddit`
  it has `id`, `text`; rename the one that holds the subreddit
"#);
}

#[test]
fn cells_that_are_empty_or_of_another_type_name_their_row_and_the_rest_is_read() {
    let desk = Desk::new();
    let with = |name: &str, value: Value| {
        let mut row = comparison(
            json!({"id": "t3_1", "post": "p", "title": "t", "subreddit": "s", "site": null, "article": null}),
            0,
            json!(1),
        );
        *row.pointer_mut(name).unwrap() = value;
        row
    };
    let rows = [
        with("/worker", Value::Null),
        with("/worker", json!(5)),
        with("/info/title", Value::Null),
        with("/info/post", json!(["p"])),
        with("/info", Value::Null),
        with("/summaries", json!("text")),
        with("/summaries", json!([{"text": "only", "policy": "one"}])),
        with("/summaries/1/text", Value::Null),
        with("/summaries/0", json!(true)),
        with("/choice", json!("0")),
        with("/choice", json!(2)),
        with("/extra/confidence", json!(0.5)),
        with("/extra", Value::Null),
    ];
    let set = Dataset::file(&desk.jsonl("x.jsonl", &rows)).unwrap();
    let told: Vec<String> = set
        .rows::<Comparison>()
        .unwrap()
        .map(|row| {
            row.map_or_else(
                |error| desk.told(&error),
                |row| format!("{}: {:?}", row.id, row.confidence),
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
x.jsonl, line 1: no worker
  fill it in or drop the row
x.jsonl, line 2: `worker` is a number, not text
  write it in quotes
x.jsonl, line 3: no info.title
  fill it in or drop the row
x.jsonl, line 4: `info.post` is a list, not text
x.jsonl, line 5: no info
  fill it in or drop the row
x.jsonl, line 6: `summaries` is text, not a list
x.jsonl, line 7: 1 summaries to compare, not 2
x.jsonl, line 8: no summaries[1].text
  fill it in or drop the row
x.jsonl, line 9: `summaries[0]` is a truth value, not a struct
x.jsonl, line 10: `choice` is text, not a whole number
x.jsonl, line 11: `choice` is 2, but the summaries are numbers 0 and 1
x.jsonl, line 12: `extra.confidence` is a number, not a whole number
t3_1: None
"#);

    let mut rows = posts(3);
    rows[1]["title"] = Value::Null;
    let set = Dataset::file(&desk.parquet("x.parquet", &rows, 2)).unwrap();
    let read: Vec<_> = set.rows::<SummarisedPost>().unwrap().collect();
    assert_eq!(read.len(), 3);
    assert!(
        desk.told(read[1].as_ref().unwrap_err())
            .starts_with("x.parquet, row 2: no title")
    );
    assert!(read[0].is_ok() && read[2].is_ok());
}

#[test]
fn a_parquet_column_of_another_type_is_named() {
    let desk = Desk::new();
    let rows: Vec<Value> = posts(2)
        .into_iter()
        .map(|mut row| {
            row["title"] = json!(7);
            row
        })
        .collect();
    let set = Dataset::file(&desk.parquet("x.parquet", &rows, 2)).unwrap();
    let error = set
        .rows::<SummarisedPost>()
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        desk.told(&error),
        "x.parquet, row 1: `title` is a number, not text\n  write the column `title` as text"
    );
}

#[test]
fn files_that_are_cut_short_or_something_else_are_named() {
    let desk = Desk::new();
    let whole = fs::read(desk.parquet("whole.parquet", &posts(50), 10)).unwrap();
    let mut lines: String = posts(150).iter().map(|row| format!("{row}\n")).collect();
    lines.truncate(lines.len() - 10);
    let told = [
        refused::<SummarisedPost>(&desk.write("cut.parquet", &whole[..whole.len() - 100])),
        refused::<SummarisedPost>(&desk.write("empty.parquet", "")),
        refused::<SummarisedPost>(&desk.write(
            "text.parquet",
            "not parquet at all, but long enough to be looked at",
        )),
        refused::<SummarisedPost>(&desk.write("array.jsonl", "[1, 2]\n")),
        Dataset::file(&desk.write("posts.text", "words")).unwrap_err(),
        Dataset::file(&desk.path("absent.csv")).unwrap_err(),
        Dataset::file(&desk.write("cut.jsonl", &lines))
            .unwrap()
            .rows::<SummarisedPost>()
            .unwrap()
            .last()
            .unwrap()
            .unwrap_err(),
    ];
    insta::assert_snapshot!(told.map(|error| desk.told(&error)).join("\n"), @r#"
cut.parquet is parquet that is cut short or damaged
  fetch or write it again
empty.parquet is empty, which parquet never is
  fetch or write it again
text.parquet is not parquet, whatever its name says
  fetch or write it again
array.jsonl, line 1: a list, not an object
  a row is one object, as {"column": "text"}; a jsonl file has one on every line
neither the name of posts.text nor its contents say how its rows are written
  name it .jsonl, .json, .csv, .tsv or .parquet
there is no file absent.csv
  check the path
cut.jsonl, line 150: the text ends inside a row
  the file is cut short, or a row is printed over several lines: print one row a line, as `jq -c .` does, or name a file that holds one list `.json`
"#);
}

#[test]
fn an_empty_file_has_no_rows() {
    let desk = Desk::new();
    for name in ["x.jsonl", "x.csv"] {
        let set = Dataset::file(&desk.write(name, "\n\n")).unwrap();
        assert_eq!(
            (
                set.rows::<SummarisedPost>().unwrap().count(),
                set.is_empty().unwrap()
            ),
            (0, true),
            "{name}"
        );
    }
}

// --- A few rows at a time ---

#[test]
fn rows_come_before_the_end_of_the_file_is_looked_at() {
    let desk = Desk::new();
    let path = desk.parquet("x.parquet", &posts(5000), 1000);
    let mut bytes = fs::read(&path).unwrap();
    // The last of five equally large row groups ends shortly before the footer, whose length is in
    // the last 8 bytes.
    let footer =
        u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
    let end = bytes.len() - 8 - footer;
    bytes[end * 85 / 100..end].fill(0xff);
    let set = Dataset::file(&desk.write("damaged.parquet", bytes)).unwrap();
    assert_eq!(set.len().unwrap(), 5000);
    let read: Vec<_> = set.rows::<SummarisedPost>().unwrap().collect();
    assert_eq!(read.len(), 4001, "an error ends the file");
    assert!(read[..4000].iter().all(Result::is_ok));
    let told = desk.told(read[4000].as_ref().unwrap_err());
    assert!(
        told.starts_with("damaged.parquet: rows 4001 to 5000 cannot be read"),
        "{told}"
    );

    let lines: String = posts(3000).iter().map(|row| format!("{row}\n")).collect();
    let set = Dataset::file(&desk.write("damaged.jsonl", lines + "{\"id\": \n")).unwrap();
    let mut rows = set.rows::<SummarisedPost>().unwrap();
    assert!(rows.by_ref().take(2048).all(|row| row.is_ok()));
    let told = desk.told(&rows.find_map(Result::err).unwrap());
    assert!(
        told.starts_with("damaged.jsonl, line 3001: the text ends inside a row"),
        "{told}"
    );
    assert!(rows.next().is_none());
}

#[test]
fn row_groups_of_any_size_give_every_row_once() {
    let desk = Desk::new();
    let rows = posts(2500);
    for group in [7, 1024, 1025, 3000] {
        let set = Dataset::file(&desk.parquet("x.parquet", &rows, group)).unwrap();
        let ids: Vec<String> = set
            .rows::<SummarisedPost>()
            .unwrap()
            .map(|row| row.unwrap().id)
            .collect();
        assert!(
            ids.iter()
                .enumerate()
                .all(|(number, id)| *id == format!("t3_{number}")),
            "{group}"
        );
        assert_eq!((ids.len(), set.len().unwrap()), (2500, 2500));
    }
}

// --- Splits ---

#[test]
fn splits_of_a_folder_are_read_file_after_file_and_have_a_fingerprint() {
    let desk = Desk::new();
    let rows = posts(5);
    desk.parquet("set/data/train-00000-of-00002.parquet", &rows[..3], 2);
    desk.parquet("set/data/train-00001-of-00002.parquet", &rows[3..], 2);
    desk.jsonl("set/data/test.jsonl", &rows[..1]);
    desk.write("set/README.md", "a card");
    let source = Source::parse(desk.path("set")).unwrap();
    let open = |split: &str| Dataset::open(&source, None, split);
    let set = open("train").unwrap();
    let ids: Vec<String> = set
        .rows::<SummarisedPost>()
        .unwrap()
        .map(|row| row.unwrap().id)
        .collect();
    assert_eq!(ids, ["t3_0", "t3_1", "t3_2", "t3_3", "t3_4"]);
    assert_eq!(
        (
            set.len().unwrap(),
            open("test").unwrap().len().unwrap(),
            set.is_empty().unwrap()
        ),
        (5, 1, false)
    );
    assert_eq!(
        desk.told(&open("validation").unwrap_err()),
        format!(
            "{} has no split `validation`\n  it has `test`, `train`",
            desk.0.path().join("set").display()
        )
        .replace(&format!("{}/", desk.0.path().display()), "")
    );

    let fingerprint = set.fingerprint().unwrap();
    assert_eq!(
        (
            fingerprint.rows,
            fingerprint.files.len(),
            &fingerprint.commit
        ),
        (5, 2, &None)
    );
    assert_eq!(
        fingerprint.files[0].name,
        "data/train-00000-of-00002.parquet"
    );
    let file = fs::read(desk.path("set/data/train-00000-of-00002.parquet")).unwrap();
    assert_eq!(
        fingerprint.files[0].blake3,
        blake3::hash(&file).to_hex().to_string()
    );
    assert_eq!(fingerprint.files[0].bytes, file.len() as u64);
    let text = serde_json::to_string(&fingerprint).unwrap();
    assert_eq!(
        serde_json::from_str::<Fingerprint>(&text).unwrap(),
        fingerprint
    );
    assert_eq!(open("train").unwrap().fingerprint().unwrap(), fingerprint);
    desk.parquet("set/data/train-00001-of-00002.parquet", &posts(2), 2);
    assert_ne!(open("train").unwrap().fingerprint().unwrap(), fingerprint);
}

#[test]
fn rows_are_counted_from_the_beginning_of_their_own_file() {
    let desk = Desk::new();
    let mut rows = posts(4);
    rows[3]["title"] = Value::Null;
    desk.jsonl("train-00000-of-00002.jsonl", &rows[..2]);
    desk.jsonl("train-00001-of-00002.jsonl", &rows[2..]);
    let set = Dataset::open(&Source::Local(desk.0.path().into()), None, "train").unwrap();
    let error = set
        .rows::<SummarisedPost>()
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert!(
        desk.told(&error)
            .starts_with("train-00001-of-00002.jsonl, line 2: no title"),
        "{error}"
    );
}

// --- On a hub ---

#[cfg(feature = "hub")]
mod on_a_hub {
    use super::*;
    use hub_server::{COMMIT, Fault, Server};
    use touchstone::data::hub::{Hub, Repository, RepositoryKind};

    fn repository(revision: &str) -> Repository {
        Repository {
            kind: RepositoryKind::Dataset,
            id: "o/n".into(),
            revision: revision.into(),
        }
    }

    /// A repository in the layout of most data sets, in that of `refs/convert/parquet`, and as
    /// plain lines.
    fn published() -> Desk {
        let (desk, rows) = (Desk::new(), posts(6));
        desk.write("README.md", "a card");
        desk.parquet("data/train-00000-of-00002.parquet", &rows[..3], 2);
        desk.parquet("data/train-00001-of-00002.parquet", &rows[3..], 2);
        desk.parquet("data/test-00000-of-00001.parquet", &rows[..1], 2);
        desk.parquet("comparisons/train/0000.parquet", &rows[..2], 2);
        desk.parquet("comparisons/train/0001.parquet", &rows[2..3], 2);
        desk.jsonl("lines/validation.jsonl", &rows[..2]);
        desk
    }

    fn ids(set: &Dataset) -> Vec<String> {
        set.rows::<SummarisedPost>()
            .unwrap()
            .map(|row| row.unwrap().id)
            .collect()
    }

    fn files(server: &Server) -> Vec<String> {
        let requests = server.requests();
        let path =
            |line: &String| Some(line.split_once("/resolve/")?.1[COMMIT.len() + 1..].to_owned());
        let mut files: Vec<String> = requests.iter().filter_map(path).collect();
        files.dedup();
        files
    }

    #[test]
    fn a_split_is_fetched_alone_whatever_its_layout() {
        let (published, cache) = (published(), TempDir::new().unwrap());
        let server = Server::start("datasets/o/n", published.0.path());
        let hub = Hub::at(&server.endpoint(), cache.path(), false).unwrap();
        let open = |revision, config, split| {
            Dataset::on_hub(&hub, &repository(revision), config, split).unwrap()
        };

        let train = open(COMMIT, None, "train");
        assert_eq!(
            ids(&train),
            (0..6)
                .map(|number| format!("t3_{number}"))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            files(&server),
            [
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet"
            ]
        );
        assert_eq!(
            open("refs/convert/parquet", Some("comparisons"), "train")
                .len()
                .unwrap(),
            3
        );
        assert_eq!(open("main", Some("lines"), "validation").len().unwrap(), 2);

        let fingerprint = train.fingerprint().unwrap();
        assert_eq!(fingerprint.source, format!("hf:datasets/o/n@{COMMIT}"));
        assert_eq!(
            (fingerprint.commit.as_deref(), fingerprint.rows),
            (Some(COMMIT), 6)
        );
        let named = open("refs/convert/parquet", None, "train")
            .fingerprint()
            .unwrap();
        assert_eq!(
            (named.commit.as_deref(), &named.files),
            (Some(COMMIT), &fingerprint.files)
        );
    }

    #[test]
    fn a_cached_split_needs_no_hub_and_knows_what_it_lacks() {
        let (published, cache) = (published(), TempDir::new().unwrap());
        let server = Server::start("datasets/o/n", published.0.path());
        let open = |offline: bool, split: &str| {
            let hub = Hub::at(&server.endpoint(), cache.path(), offline).unwrap();
            Dataset::on_hub(&hub, &repository(COMMIT), None, split)
        };
        let error = open(true, "train").unwrap_err();
        assert!(error.to_string().starts_with(&format!(
            "the list of files of hf:datasets/o/n@{COMMIT} is not in"
        )));
        open(false, "train").unwrap();
        server.forget();
        assert_eq!(ids(&open(false, "train").unwrap()).len(), 6);
        assert_eq!(ids(&open(true, "train").unwrap()).len(), 6);
        assert_eq!(server.requests(), [""; 0]);
        let error = open(true, "test").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("data/test-00000-of-00001.parquet of "),
            "{error}"
        );

        // The state in which Python leaves the cache: without the list of files.
        let folder = cache.path().join("datasets--o--n");
        fs::remove_dir_all(folder.join(".files")).unwrap();
        assert_eq!(ids(&open(true, "train").unwrap()).len(), 6);
        fs::remove_file(
            folder
                .join("snapshots")
                .join(COMMIT)
                .join("data/train-00001-of-00002.parquet"),
        )
        .unwrap();
        let error = open(true, "train").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("lacks file 1 (of 2, counted from 0) of split `train`"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_connection_costs_nothing_twice() {
        let (published, cache) = (Desk::new(), TempDir::new().unwrap());
        let path = published.parquet("train.parquet", &posts(5000), 1000);
        let size = fs::metadata(path).unwrap().len() as usize;
        let server = Server::start("datasets/o/n", published.0.path());
        server.fault(Fault::Drop {
            after: size / 3,
            times: 2,
        });
        let hub = Hub::at(&server.endpoint(), cache.path(), false).unwrap();
        let set = Dataset::on_hub(&hub, &repository("main"), None, "train").unwrap();
        assert_eq!((ids(&set).len(), server.bytes_sent()), (5000, size));
    }

    #[test]
    fn what_a_repository_does_not_have_is_said_with_what_it_has() {
        let (published, cache) = (published(), TempDir::new().unwrap());
        let server = Server::start("datasets/o/n", published.0.path());
        let hub = Hub::at(&server.endpoint(), cache.path(), false).unwrap();
        let refused = |repository: &Repository, config, split| {
            let error = Dataset::on_hub(&hub, repository, config, split).unwrap_err();
            published
                .told(&error)
                .replace(COMMIT, "COMMIT")
                .replace(&server.endpoint(), "http://hub")
        };
        let absent = Repository {
            id: "o/m".into(),
            ..repository(COMMIT)
        };
        let model = Repository {
            kind: RepositoryKind::Model,
            ..repository(COMMIT)
        };
        let told = [
            refused(&repository(COMMIT), None, "trian"),
            refused(&repository(COMMIT), Some("comparison"), "train"),
            refused(&absent, None, "train"),
            refused(&repository("mian"), None, "train"),
            refused(&model, None, "train"),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
hf:datasets/o/n@COMMIT has no split `trian`
  did you mean `train`? it has `test`, `train`
hf:datasets/o/n@COMMIT has no config `comparison`
  did you mean `comparisons`? it has `comparisons`, `lines`
http://hub has no hf:datasets/o/m@COMMIT (404)
  check id and revision at http://hub/datasets/o/m/commits/main; a private repository needs HF_TOKEN to be seen
http://hub has no hf:datasets/o/n@mian (404)
  check id and revision at http://hub/datasets/o/n/commits/main; a private repository needs HF_TOKEN to be seen
hf:o/n@COMMIT is a model, and a data set is needed here
  a data set is written hf:datasets/o/n@COMMIT
"#);
        server.fault(Fault::Gated { token: "hf_secret" });
        let other = Repository {
            revision: "main".into(),
            ..repository(COMMIT)
        };
        assert!(
            refused(&other, None, "train")
                .starts_with("http://hub does not let you read hf:datasets/o/n@main (401)")
        );
    }
}

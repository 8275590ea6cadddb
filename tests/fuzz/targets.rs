//! The parsers, each with small valid files to start from. A parser is fed in the same way as by
//! users: through a file.

use clap::Parser;
use serde_json::json;
use std::fs;
use std::path::Path;
use touchstone::Result;
use touchstone::cli::{self, Cli};
use touchstone::data::dataset::{Dataset, SummarisedPost};
use touchstone::experiment::{Experiment, SHIPPED};
use touchstone::model::checkpoint::Checkpoint;
use touchstone::pipeline::{Graph, Placement, StageSpec, Store, run_stage};

/// A parser of foreign bytes.
pub struct Target {
    pub name: &'static str,
    /// The name that an error may use instead of a path.
    pub place: &'static str,
    /// Valid inputs; the first is accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format.
    pub words: &'static [&'static str],
    /// The function that feeds the bytes to the parser; the folder belongs to the target.
    pub feed: fn(&[u8], &Path) -> Result<()>,
}

pub const EXPERIMENT: Target = Target {
    name: "experiment",
    place: "fuzz.toml",
    seeds: || {
        SHIPPED
            .iter()
            .map(|(_, text)| text.as_bytes().to_vec())
            .collect()
    },
    words: &[
        "[method]",
        "[[method]]",
        "[[ablation]]",
        "[[claim]]",
        "extends = \"tldr\"\n",
        "sft",
        "irl",
        "epochs",
        "= 1\n",
        "\"\"\"",
    ],
    feed: |bytes, folder| {
        let path = written(folder, "fuzz.toml", bytes);
        let claims = folder.join("claims");
        if !claims.exists() {
            fs::create_dir(&claims).unwrap();
            written(
                &claims,
                "tldr.toml",
                include_bytes!("../../experiments/claims/tldr.toml"),
            );
        }
        Experiment::load_from(&path, folder).map(drop)
    },
};

pub const CONFIGURATION: Target = Target {
    name: "configuration",
    place: "config.json",
    seeds: || {
        ["pythia", "reward", "sequential"]
            .map(|name| fixture(name, "config.json"))
            .to_vec()
    },
    words: &[
        "\"hidden_size\": ",
        "\"vocab_size\": ",
        "\"num_attention_heads\": ",
        "\"rope_scaling\": ",
        "\"eos_token_id\": [",
        "\"dtype\"",
    ],
    feed: |bytes, folder| {
        beside(folder, "pythia", "model.safetensors");
        written(folder, "config.json", bytes);
        Checkpoint::open(folder)?.inspect().map(drop)
    },
};

pub const TOKENIZER: Target = Target {
    name: "tokenizer",
    place: "tokenizer.json",
    seeds: || {
        let read = |path: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        vec![
            read("tests/fixtures/tldr/tokenizer.json"),
            read("datasets/base/mini-1b/tokenizer.json"),
        ]
    },
    words: &[
        "\"truncation\": ",
        "\"padding\": ",
        "\"dropout\": 0.1",
        "\"id\": ",
        "\"added_tokens\": [",
        "\"model\": ",
        "\"type\": \"BPE\"",
    ],
    feed: |bytes, folder| {
        beside(folder, "pythia", "model.safetensors");
        // The embedding is large enough for any tokenizer.
        let config = String::from_utf8(fixture("pythia", "config.json")).unwrap();
        written(
            folder,
            "config.json",
            config
                .replace("\"vocab_size\": 64", "\"vocab_size\": 4096")
                .as_bytes(),
        );
        written(folder, "tokenizer.json", bytes);
        let checkpoint = Checkpoint::open(folder)?;
        let tokenizer = checkpoint.tokenizer()?;
        let _ = tokenizer
            .encode("a post <|endoftext|> with 日本 🙂")
            .map(|ids| tokenizer.decode(&ids));
        Ok(())
    },
};

pub const SAFETENSORS: Target = Target {
    name: "safetensors",
    place: "model.safetensors",
    seeds: || {
        ["decoder", "reward"]
            .map(|name| fixture(name, "model.safetensors"))
            .to_vec()
    },
    words: &[
        "\"F32\"",
        "\"F16\"",
        "\"BF16\"",
        "\"I64\"",
        "\"F8_E4M3\"",
        "\"shape\":[",
        "\"data_offsets\":[0,",
        "__metadata__",
    ],
    feed: |bytes, folder| {
        beside(folder, "decoder", "config.json");
        written(folder, "model.safetensors", bytes);
        Checkpoint::open(folder)?.inspect().map(drop)
    },
};

pub const INDEX: Target = Target {
    name: "index",
    place: "model.safetensors.index.json",
    seeds: || vec![fixture("sharded", "model.safetensors.index.json")],
    words: &[
        "\"weight_map\": ",
        "\"metadata\": ",
        "\"total_size\": ",
        "model-00001-of-00002.safetensors",
        "../",
        "/etc/passwd",
    ],
    feed: |bytes, folder| {
        for entry in fs::read_dir(fixture_folder("sharded")).unwrap() {
            beside(
                folder,
                "sharded",
                entry.unwrap().file_name().to_str().unwrap(),
            );
        }
        written(folder, "model.safetensors.index.json", bytes);
        Checkpoint::open(folder)?.inspect().map(drop)
    },
};

pub const PICKLE: Target = Target {
    name: "pickle",
    place: "pytorch_model.bin",
    seeds: || vec![fixture("scalar", "pytorch_model.bin")],
    words: &[
        "PK\x03\x04",
        "archive/data.pkl",
        "torch._utils\n_rebuild_tensor_v2\n",
        "cos\nsystem\n",
        "FloatStorage",
    ],
    feed: |bytes, folder| {
        beside(folder, "scalar", "config.json");
        written(folder, "pytorch_model.bin", bytes);
        Checkpoint::open(folder)?.inspect().map(drop)
    },
};

/// The rows parser; the first byte of an input chooses the format, so that one corpus serves all
/// formats.
pub const ROWS: Target = Target {
    name: "rows",
    place: "rows.",
    seeds: || {
        let row = json!({"id": "1", "subreddit": "tifu", "title": "a title", "post": "a post", "summary": "short"});
        let other = json!({"id": "2", "subreddit": "r", "title": "é", "post": "b\nc", "summary": "s", "n": 1e3});
        vec![
            format!("j{row}\n{other}\n").into_bytes(),
            b"cid,subreddit,title,post,summary\n1,tifu,a title,\"a, post\",short\n2,r,t,p,s\n"
                .to_vec(),
            b"tid\tsubreddit\ttitle\tpost\tsummary\n1\ttifu\ta title\ta post\tshort\n".to_vec(),
            [b"p".to_vec(), parquet()].concat(),
        ]
    },
    words: &[
        "\"post\": ",
        "\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]",
        "PAR1",
        "\u{feff}",
        "\\ud800",
        "\n\n",
    ],
    feed: |bytes, folder| {
        let (first, rest) = bytes.split_first().unwrap_or((&b'j', &[]));
        let name = match first {
            b'c' => "rows.csv",
            b't' => "rows.tsv",
            b'p' => "rows.parquet",
            _ => "rows.jsonl",
        };
        Dataset::file(Path::new(&written(folder, name, rest)))?
            .rows::<SummarisedPost>()?
            .try_for_each(|row| row.map(drop))
    },
};

/// The table parser; the first byte of an input chooses the format as in [`ROWS`].
pub const TABLE: Target = Target {
    name: "table",
    place: "table.",
    seeds: || {
        vec![
            b"cmethod,seed,gold,note\nsft,1,0.5,x\nirl,1,0.75,\"a, b\"\nsft,2,0.25,y\nirl,2,1e-3,\n".to_vec(),
            [b"p".to_vec(), parquet_table()].concat(),
        ]
    },
    words: &["method,", "gold", "seed,seed", "1e400", "PAR1", "0,5", ";"],
    feed: |bytes, folder| {
        let (first, rest) = bytes.split_first().unwrap_or((&b'c', &[]));
        let path = written(
            folder,
            if *first == b'p' {
                "table.parquet"
            } else {
                "table.csv"
            },
            rest,
        );
        let words = [
            "touchstone",
            "stats",
            &path,
            "--value",
            "gold",
            "--group",
            "method",
            "--unit",
            "seed",
            "--json",
        ];
        cli::run(Cli::try_parse_from(words).unwrap()).map(drop)
    },
};

pub const MANIFEST: Target = Target {
    name: "manifest",
    place: "manifest.json",
    seeds: || {
        let folder = tempfile::tempdir().unwrap();
        let (store, artifact) = store(folder.path());
        drop(store);
        vec![fs::read(artifact.join("manifest.json")).unwrap()]
    },
    words: &[
        "\"files\": ",
        "\"key\": ",
        "\"spec\": ",
        "\"../x\"",
        "\"/etc/passwd\"",
        "\"bytes\": ",
        "\"blake3\": ",
    ],
    feed: |bytes, folder| {
        let (store, artifact) = store(&folder.join("store"));
        fs::write(artifact.join("manifest.json"), bytes).unwrap();
        store.verify()?;
        store.list()?;
        store
            .manifest(&artifact.file_name().unwrap().to_str().unwrap().parse()?)
            .map(drop)
    },
};

pub const SPEC: Target = Target {
    name: "spec",
    place: "specs",
    seeds: || {
        let folder = tempfile::tempdir().unwrap();
        let (store, artifact) = store(folder.path());
        let name = artifact.file_name().unwrap().to_str().unwrap();
        vec![fs::read(store.root().join("specs").join(format!("{name}.json"))).unwrap()]
    },
    words: &[
        "\"kind\": ",
        "\"version\": ",
        "\"settings\": ",
        "\"inputs\": ",
        "\"seed\": ",
        "\"cost\": ",
    ],
    feed: |bytes, folder| {
        let (store, artifact) = store(&folder.join("store"));
        let name = artifact.file_name().unwrap().to_str().unwrap();
        fs::write(
            store.root().join("specs").join(format!("{name}.json")),
            bytes,
        )
        .unwrap();
        store.planned(&name.parse()?).map(drop)
    },
};

/// A store with one artifact, and the artifact's folder; made once.
fn store(folder: &Path) -> (Store, std::path::PathBuf) {
    let fresh = !folder.join("store.json").exists();
    let (store, mut graph) = (Store::open(folder).unwrap(), Graph::new());
    let spec = StageSpec {
        kind: "fuzz".into(),
        version: 1,
        settings: json!({}),
        inputs: Default::default(),
        seed: Some(1),
    };
    let key = graph.add(spec, "fuzz", 1.0).unwrap();
    if fresh {
        store.plan(&graph).unwrap();
        let place = Placement {
            device: "flex".into(),
            memory: None,
        };
        let body = |context: &touchstone::pipeline::StageContext| {
            fs::write(context.out().join("file"), "text").unwrap();
            Ok(())
        };
        run_stage(&store, &key, &place, body).unwrap();
    }
    let hex = key.to_string();
    let artifact = store.root().join("artifacts").join(&hex[..2]).join(&hex);
    (store, artifact)
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Puts a file of a fixture next to the fuzzed file, once.
fn beside(folder: &Path, model: &str, file: &str) {
    if !folder.join(file).exists() {
        written(folder, file, &fixture(model, file));
    }
}

fn fixture_folder(model: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/gpt_neox")
        .join(model)
}

fn fixture(model: &str, file: &str) -> Vec<u8> {
    fs::read(fixture_folder(model).join(file)).unwrap()
}

fn parquet() -> Vec<u8> {
    use polars::prelude::*;
    let column = |name: &str, text: &str| Column::new(name.into(), [text, text]);
    let names = ["id", "subreddit", "title", "post", "summary"];
    encoded(DataFrame::new(2, names.map(|name| column(name, "text")).to_vec()).unwrap())
}

fn parquet_table() -> Vec<u8> {
    use polars::prelude::*;
    let columns = vec![
        Column::new("method".into(), ["sft", "irl", "sft", "irl"]),
        Column::new("seed".into(), [1_i64, 1, 2, 2]),
        Column::new("gold".into(), [0.5, 0.75, 0.25, 0.5]),
    ];
    encoded(DataFrame::new(4, columns).unwrap())
}

fn encoded(mut frame: polars::prelude::DataFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    polars::prelude::ParquetWriter::new(&mut bytes)
        .finish(&mut frame)
        .unwrap();
    bytes
}

//! The files of a repository or folder that hold a split, found by the naming schemes of data sets
//! on a hub.
//!
//! | file | config | split |
//! |:--|:--|:--|
//! | `train.parquet`, `data/train.jsonl` | none | `train` |
//! | `data/train-00000-of-00002.parquet` (also with a hash at the end) | none | `train` |
//! | `main/train-00000-of-00001.parquet` | `main` | `train` |
//! | `comparisons/train/0000.parquet` (what a hub keeps at `refs/convert/parquet`) | `comparisons` | `train` |

use crate::{Error, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// The name of a top-level folder that doesn't name a config.
const DATA: &str = "data";
/// The config without a name of its own.
const DEFAULT: &str = "default";

/// The names of files that describe a data set and hold none of its rows.
const DESCRIPTIONS: [&str; 8] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "metadata.json",
    "croissant.json",
    "package.json",
];

/// The format in which rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    Parquet,
    Jsonl,
    Json,
    Csv,
    Tsv,
}

impl Format {
    /// The format that the extension of a name stands for.
    pub fn of(name: &str) -> Option<Self> {
        match Path::new(name)
            .extension()?
            .to_str()?
            .to_ascii_lowercase()
            .as_str()
        {
            "parquet" | "pq" | "parq" => Some(Self::Parquet),
            "jsonl" | "ndjson" | "jsonlines" => Some(Self::Jsonl),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            _ => None,
        }
    }
}

/// The parts of a file's name.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    name: &'a str,
    format: Format,
    config: Option<String>,
    split: &'a str,
    /// The file's number if the split has several files, and their count if the name states it.
    shard: Option<(usize, Option<usize>)>,
}

impl<'a> Named<'a> {
    fn read(name: &'a str) -> Option<Self> {
        let format = Format::of(name)?;
        let mut folders: Vec<&str> = name.split('/').collect();
        let file = folders.pop().filter(|file| !DESCRIPTIONS.contains(file))?;
        let stem = file.rsplit_once('.')?.0;
        let (split, shard) = match (numbered(stem), stem.parse()) {
            (Some((split, number, count)), _) => (split, Some((number, Some(count)))),
            (None, Ok(number)) => (folders.pop()?, Some((number, None))),
            _ => (stem, None),
        };
        if folders.first() == Some(&DATA) {
            folders.remove(0);
        }
        let config = (!folders.is_empty()).then(|| folders.join("/"));
        Some(Self {
            name,
            format,
            config,
            split,
            shard,
        })
    }
}

/// The split, number and count in a name: `train-00001-of-00003` and `train-00001-of-00003-5f2d…`
/// are number 1 of 3 of `train`.
fn numbered(stem: &str) -> Option<(&str, usize, usize)> {
    let (front, back) = stem.rsplit_once("-of-")?;
    let (split, number) = front.rsplit_once('-')?;
    let count = back.split('-').next()?;
    Some((split, number.parse().ok()?, count.parse().ok()?))
}

/// The files of a split in the order of its rows. `whole` names the repository or folder in errors.
/// Without a config, the only one or `default` is chosen. If a split exists in several formats,
/// parquet wins.
///
/// # Errors
/// A missing config or split, with the names of the existing ones; a missing file of the split.
pub fn choose<'a>(
    whole: &str,
    names: &'a [String],
    config: Option<&str>,
    split: &str,
) -> Result<Vec<&'a str>> {
    let all: Vec<Named> = names.iter().filter_map(|name| Named::read(name)).collect();
    if all.is_empty() {
        let packed = |name: &&String| {
            let stem = name
                .rsplit_once('.')
                .filter(|(_, end)| ["gz", "zst", "bz2", "xz", "zip"].contains(end));
            stem.is_some_and(|(stem, _)| Format::of(stem).is_some())
        };
        if let Some(name) = names.iter().find(packed) {
            return Err(
                Error::data(format!("{whole} holds compressed files, such as {name}"))
                    .hint("decompress them: gzip -d, zstd -d, unzip"),
            );
        }
        return Err(Error::data(format!("{whole} has no parquet, jsonl, json, csv or tsv file")).hint(
            "where a data set on a hub is in another format, its branch refs/convert/parquet has a copy in parquet: look \
             up that branch's commit and name it",
        ));
    }
    let configs: BTreeSet<Option<&str>> = all.iter().map(|file| file.config.as_deref()).collect();
    let config = pick_config(whole, &configs, config)?;
    let of_config: Vec<Named> = all
        .into_iter()
        .filter(|file| file.config.as_deref() == config.as_deref())
        .collect();
    let splits: BTreeSet<&str> = of_config.iter().map(|file| file.split).collect();
    if !splits.contains(split) {
        let place = config.map_or_else(String::new, |config| format!(", config `{config}`,"));
        let known: Vec<&str> = splits.into_iter().collect();
        return Err(
            Error::data(format!("{whole}{place} has no split `{split}`"))
                .hint(choices(split, &known)),
        );
    }
    let mut files: Vec<Named> = of_config
        .into_iter()
        .filter(|file| file.split == split)
        .collect();
    let best = files.iter().map(|file| file.format).min();
    files.retain(|file| Some(file.format) == best);
    files.sort_by_key(|file| file.shard);
    complete(whole, split, &files)?;
    Ok(files.into_iter().map(|file| file.name).collect())
}

fn pick_config(
    whole: &str,
    configs: &BTreeSet<Option<&str>>,
    wanted: Option<&str>,
) -> Result<Option<String>> {
    let named: Vec<&str> = configs.iter().copied().flatten().collect();
    let picked = match wanted {
        Some(wanted) if named.contains(&wanted) => Some(Some(wanted)),
        Some(DEFAULT) | None if configs.contains(&None) => Some(None),
        None if named.contains(&DEFAULT) => Some(Some(DEFAULT)),
        None if named.len() == 1 => Some(Some(named[0])),
        _ => None,
    };
    match (picked, wanted) {
        (Some(picked), _) => Ok(picked.map(str::to_owned)),
        (None, None) => Err(
            Error::data(format!("{whole} has several configs, and none is named"))
                .hint(format!("choose one of {}", listed(&named))),
        ),
        (None, Some(wanted)) if named.is_empty() => {
            Err(Error::data(format!("{whole} has no config `{wanted}`"))
                .hint("it has no configs at all: name none"))
        }
        (None, Some(wanted)) => {
            Err(Error::data(format!("{whole} has no config `{wanted}`"))
                .hint(choices(wanted, &named)))
        }
    }
}

/// Checks that no file of a split is missing, so that a part isn't used as the whole.
fn complete(whole: &str, split: &str, files: &[Named]) -> Result<()> {
    let twice = |a: &str, b: &str| {
        Error::data(format!("{whole} has split `{split}` twice: {a} and {b}"))
            .hint("remove one of them, or name the file")
    };
    if let Some(pair) = files
        .windows(2)
        .find(|pair| pair[0].shard.is_none() || pair[0].shard == pair[1].shard)
    {
        return Err(twice(pair[0].name, pair[1].name));
    }
    let said = files.iter().filter_map(|file| file.shard?.1).max();
    let missing = |number: &usize| {
        files
            .get(*number)
            .and_then(|file| file.shard)
            .is_none_or(|(at, _)| at != *number)
    };
    match (0..said.unwrap_or(files.len())).find(missing) {
        Some(number) if files[0].shard.is_some() => {
            let said = said.map_or_else(String::new, |count| {
                format!(" (of {count}, counted from 0)")
            });
            Err(Error::data(format!(
                "{whole} lacks file {number}{said} of split `{split}`"
            ))
            .hint("fetch the missing file; part of a split would be another data set"))
        }
        _ => Ok(()),
    }
}

/// The known names as a list, the nearest first if `word` resembles one.
pub fn choices(word: &str, known: &[&str]) -> String {
    let nearest = nearest(word, known);
    let mut text =
        nearest.map_or_else(String::new, |nearest| format!("did you mean `{nearest}`? "));
    let _ = write!(text, "it has {}", listed(known));
    text
}

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity =
        |other: &str| strsim::jaro_winkler(&word.to_lowercase(), &other.to_lowercase());
    let near = known
        .iter()
        .map(|&other| (similarity(other), other))
        .filter(|(similarity, _)| *similarity > 0.8);
    near.max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

fn listed(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[track_caller]
    fn chosen(files: &[&str], config: Option<&str>, split: &str) -> Vec<String> {
        let files = names(files);
        choose("X", &files, config, split)
            .unwrap()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn refused(files: &[&str], config: Option<&str>, split: &str) -> String {
        let error = choose("X", &names(files), config, split).unwrap_err();
        let hint = miette::Diagnostic::help(&error).map(|hint| hint.to_string());
        format!("{error}. {}", hint.unwrap_or_default())
    }

    #[test]
    fn every_layout_of_the_hub_is_known() {
        let card = [
            "README.md",
            ".gitattributes",
            "dataset_infos.json",
            "loader.py",
        ];
        let with = |files: &[&'static str]| [&card[..], files].concat();
        assert_eq!(
            chosen(&with(&["train.jsonl", "test.jsonl"]), None, "test"),
            ["test.jsonl"]
        );
        assert_eq!(
            chosen(&with(&["data/train.csv"]), None, "train"),
            ["data/train.csv"]
        );
        let sharded = with(&[
            "data/train-00001-of-00002-0f9e8d.parquet",
            "data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002-5c4b3a.parquet",
        ]);
        assert_eq!(
            chosen(&sharded, None, "train"),
            [
                "data/train-00000-of-00002-5c4b3a.parquet",
                "data/train-00001-of-00002-0f9e8d.parquet"
            ]
        );
        assert_eq!(
            chosen(&sharded, Some("default"), "test"),
            ["data/test-00000-of-00001.parquet"]
        );
        let configs = with(&[
            "main/train-00000-of-00001.parquet",
            "socratic/train-00000-of-00001.parquet",
        ]);
        assert_eq!(
            chosen(&configs, Some("socratic"), "train"),
            ["socratic/train-00000-of-00001.parquet"]
        );
        let converted = with(&[
            "comparisons/train/0001.parquet",
            "comparisons/train/0000.parquet",
        ]);
        assert_eq!(
            chosen(&converted, None, "train"),
            [
                "comparisons/train/0000.parquet",
                "comparisons/train/0001.parquet"
            ]
        );
        let splits = with(&[
            "data/train_prefs-00000-of-00001.parquet",
            "data/train_sft-00000-of-00001.parquet",
        ]);
        assert_eq!(
            chosen(&splits, None, "train_sft"),
            ["data/train_sft-00000-of-00001.parquet"]
        );
        assert_eq!(
            chosen(&["a/b/train.jsonl"], Some("a/b"), "train"),
            ["a/b/train.jsonl"]
        );
    }

    #[test]
    fn the_default_config_and_parquet_win_where_nothing_is_said() {
        let files = ["default/train/0000.parquet", "other/train/0000.parquet"];
        assert_eq!(
            chosen(&files, None, "train"),
            ["default/train/0000.parquet"]
        );
        let files = ["train.jsonl", "data/train-00000-of-00001.parquet"];
        assert_eq!(
            chosen(&files, None, "train"),
            ["data/train-00000-of-00001.parquet"]
        );
        assert_eq!(
            chosen(&["train.jsonl", "x/train.jsonl"], None, "train"),
            ["train.jsonl"]
        );
    }

    #[test]
    fn what_is_not_there_lists_what_is() {
        let files = [
            "main/train/0000.parquet",
            "main/test/0000.parquet",
            "socratic/train/0000.parquet",
        ];
        insta::assert_snapshot!(
            [
                refused(&files, Some("main"), "trian"),
                refused(&files, Some("man"), "train"),
                refused(&files, None, "train"),
                refused(&["train.csv"], Some("main"), "train"),
                refused(&["train.csv"], None, "validation"),
                refused(&["loader.py", "README.md"], None, "train"),
            ]
            .join("\n"),
            @"
X, config `main`, has no split `trian`. did you mean `train`? it has `test`, `train`
X has no config `man`. did you mean `main`? it has `main`, `socratic`
X has several configs, and none is named. choose one of `main`, `socratic`
X has no config `main`. it has no configs at all: name none
X has no split `validation`. it has `train`
X has no parquet, jsonl, json, csv or tsv file. where a data set on a hub is in another format, its branch refs/convert/parquet has a copy in parquet: look up that branch's commit and name it
"
        );
    }

    #[test]
    fn part_of_a_split_is_not_the_split() {
        insta::assert_snapshot!(
            [
                refused(&["t-00000-of-00003.parquet", "t-00002-of-00003.parquet"], None, "t"),
                refused(&["t-00000-of-00002.parquet"], None, "t"),
                refused(&["c/t/0001.parquet"], None, "t"),
                refused(&["t.parquet", "data/t.parquet"], None, "t"),
                refused(&["t-00000-of-00001-aa.parquet", "t-00000-of-00001-bb.parquet"], None, "t"),
                refused(&["t.parquet", "t-00000-of-00001.parquet"], None, "t"),
            ]
            .join("\n"),
            @"
X lacks file 1 (of 3, counted from 0) of split `t`. fetch the missing file; part of a split would be another data set
X lacks file 1 (of 2, counted from 0) of split `t`. fetch the missing file; part of a split would be another data set
X lacks file 0 of split `t`. fetch the missing file; part of a split would be another data set
X has split `t` twice: t.parquet and data/t.parquet. remove one of them, or name the file
X has split `t` twice: t-00000-of-00001-aa.parquet and t-00000-of-00001-bb.parquet. remove one of them, or name the file
X has split `t` twice: t.parquet and t-00000-of-00001.parquet. remove one of them, or name the file
"
        );
    }
}

//! Splits of the tasks' data sets: files of a local folder, or repositories of the hub.

use super::Convention;
use super::document::{Document, Row};
use super::tasks::mmlu::LETTERS;
use super::tasks::{Split, Task};
use crate::data::dataset::{Dataset, Fingerprint, WholeRow};
use crate::data::hub::Source;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The beginning of a data set's source on a hub.
const DATASETS: &str = "hf:datasets/";

/// Where the tasks' data come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A folder with a folder for each task.
    Folder(PathBuf),
    /// The data sets' own repositories, each at a commit or, where none is known, at its newest.
    Hub(BTreeMap<String, String>),
}

/// The rows of a split.
#[derive(Clone, Debug)]
pub struct SplitRows {
    pub rows: Vec<Row>,
    pub fingerprint: SplitFingerprint,
}

/// The identity of the rows that were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitFingerprint {
    pub task: String,
    pub split: Split,
    pub data: Fingerprint,
    /// The number of rows that the published split has, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_rows: Option<usize>,
}

impl Split {
    /// Names under which a split's file may stand, the best first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            // `mc_task` is the name that TruthfulQA's authors gave the only split.
            Self::Validation => &["validation", "val", "valid", "dev", "mc_task"],
            Self::Test => &["test"],
            Self::Dev => &["dev"],
        }
    }

    /// The name on the hub.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }
}

impl Task {
    /// The folder of the task's data.
    fn folder(self) -> &'static str {
        match self {
            Self::ArcChallenge => "arc_challenge",
            Self::HellaSwag => "hellaswag",
            Self::Mmlu(_) => "mmlu",
            Self::TruthfulQa => "truthfulqa",
            Self::Winogrande => "winogrande",
            Self::Gsm8k => "gsm8k",
        }
    }

    /// The repository on the hub, and the config in it.
    fn repository(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::ArcChallenge => ("allenai/ai2_arc", Some("ARC-Challenge")),
            Self::HellaSwag => ("Rowan/hellaswag", None),
            Self::Mmlu(subject) => ("cais/mmlu", Some(subject.name)),
            Self::TruthfulQa => ("truthfulqa/truthful_qa", Some("multiple_choice")),
            Self::Winogrande => ("allenai/winogrande", Some("winogrande_xl")),
            Self::Gsm8k => ("openai/gsm8k", Some("main")),
        }
    }

    /// The number of rows of a published split, where the prompts or the number of the task depend on
    /// all of them.
    pub fn published_rows(self, split: Split) -> Option<usize> {
        match (self, split) {
            (Self::ArcChallenge, Split::Train) => Some(1119),
            (Self::ArcChallenge, Split::Test) => Some(1172),
            (Self::HellaSwag, Split::Train) => Some(39_905),
            (Self::HellaSwag, Split::Validation) => Some(10_042),
            (Self::Winogrande, Split::Train) => Some(40_398),
            (Self::Winogrande, Split::Validation) => Some(1267),
            (Self::Gsm8k, Split::Train) => Some(7473),
            (Self::Gsm8k, Split::Test) => Some(1319),
            (Self::TruthfulQa, Split::Validation) => Some(817),
            (Self::Mmlu(_), Split::Dev) => Some(5),
            _ => None,
        }
    }
}

impl Data {
    /// The source that `text` names: the hub, or a folder.
    ///
    /// # Errors
    /// A folder that does not exist.
    pub fn named(text: &Path) -> Result<Self> {
        match text.to_str() {
            Some("hub") => Ok(Self::Hub(BTreeMap::new())),
            _ if text.is_dir() => Ok(Self::Folder(text.to_owned())),
            _ => Err(
                Error::data(format!("there is no folder {}", text.display())).hint(
                    "give a folder with a folder for each task (arc_challenge, hellaswag, mmlu, truthfulqa, \
                     winogrande, gsm8k), or the word hub",
                ),
            ),
        }
    }

    /// The same data, those of a hub at the commits that `prints` name.
    #[must_use]
    pub fn at<'a>(self, prints: impl IntoIterator<Item = &'a SplitFingerprint>) -> Self {
        let pinned = |print: &SplitFingerprint| {
            let (repository, _) = print.data.source.strip_prefix(DATASETS)?.split_once('@')?;
            Some((repository.to_owned(), print.data.commit.clone()?))
        };
        match self {
            Self::Hub(_) => Self::Hub(prints.into_iter().filter_map(pinned).collect()),
            folder @ Self::Folder(_) => folder,
        }
    }

    /// True if rows of the task are there; of a hub they always are.
    pub fn has(&self, task: Task) -> bool {
        let Self::Folder(folder) = self else {
            return true;
        };
        let folder = folder.join(task.folder());
        match task {
            Task::Mmlu(subject) => {
                mmlu_file(&folder, task, task.split()).is_some()
                    || folder.join(subject.name).is_dir()
            }
            _ => folder.is_dir(),
        }
    }

    /// The rows of a task's split.
    ///
    /// # Errors
    /// A split that is missing or twice there, and rows that cannot be read.
    pub fn split(&self, task: Task, split: Split) -> Result<SplitRows> {
        let (rows, data) = match self {
            Self::Hub(commits) => of_dataset(&on_hub(commits, task, split)?)?,
            Self::Folder(folder) => {
                let folder = folder.join(task.folder());
                match (task, mmlu_file(&folder, task, split)) {
                    (Task::Mmlu(_), Some(file)) => of_headless_csv(&file)?,
                    _ => of_dataset(&in_folder(&folder, task, split)?)?,
                }
            }
        };
        if rows.is_empty() {
            return Err(Error::data(format!(
                "{}: split {} has no rows",
                task.name(),
                split.name()
            ))
            .hint("take the data set's own files"));
        }
        let published_rows = task
            .published_rows(split)
            .filter(|published| *published != rows.len());
        Ok(SplitRows {
            rows,
            fingerprint: SplitFingerprint {
                task: task.name(),
                split,
                data,
                published_rows,
            },
        })
    }
}

impl SplitRows {
    /// The documents of the rows.
    ///
    /// # Errors
    /// The first row that is none of the task's.
    pub fn documents(self, task: Task, convention: Convention) -> Result<Vec<Document>> {
        let rows = self.rows.into_iter();
        rows.map(|row| task.document(row, convention)).collect()
    }
}

fn on_hub(commits: &BTreeMap<String, String>, task: Task, split: Split) -> Result<Dataset> {
    let (repository, config) = task.repository();
    let commit = commits.get(repository).map_or("main", String::as_str);
    let source = Source::parse(format!("{DATASETS}{repository}@{commit}"))?;
    Dataset::open(&source, config, split.name())
}

fn of_dataset(dataset: &Dataset) -> Result<(Vec<Row>, Fingerprint)> {
    let row = |row: Result<WholeRow>| {
        let WholeRow { place, cells, .. } = row?;
        let on_one_line = |(name, cell): (String, Box<RawValue>)| {
            let cell = RawValue::from_string(without_spacing(cell.get()));
            Ok((name, cell.context(|| place.clone())?))
        };
        let cells = cells.into_iter().map(on_one_line).collect::<Result<_>>()?;
        Ok(Row { place, cells })
    };
    let rows = dataset.whole_rows()?.map(row).collect::<Result<_>>()?;
    Ok((rows, dataset.fingerprint()?))
}

/// JSON without white space between its tokens, so that rows are lines and equal rows are equal texts.
fn without_spacing(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let kept = |character: &char| {
        let kept = in_string || !character.is_ascii_whitespace();
        match character {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && !escaped && *character == '\\';
        kept
    };
    json.chars().filter(kept).collect()
}

/// The split in a task's folder: a file of the split's name, with anything behind `_` or `-`; else a
/// split of a data set laid out as on the hub; else, for the split that is evaluated, the only file
/// there.
fn in_folder(folder: &Path, task: Task, split: Split) -> Result<Dataset> {
    let missing = |cause: Option<Error>| {
        let error = Error::data(format!(
            "{}: {} has no split {}",
            task.name(),
            folder.display(),
            split.name()
        ))
        .hint(match task {
            Task::Mmlu(subject) => format!(
                "put it there as {0}/{1}_{0}.csv, or name the subjects that are there",
                split.name(),
                subject.name
            ),
            _ => format!(
                "put it there as {}.jsonl, .json, .csv or .parquet",
                split.names().join(" or ")
            ),
        });
        match cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    };
    if !folder.is_dir() {
        return Err(missing(None));
    }
    let files = data_files(folder)?;
    for name in split.names() {
        let exact = files.iter().filter(|(stem, _)| stem == name);
        let longer = files.iter().filter(|(stem, _)| {
            let rest = stem.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['_', '-']) && !rest.contains("-of-"))
        });
        let found: Vec<&PathBuf> = match exact.map(|(_, path)| path).collect::<Vec<_>>() {
            none if none.is_empty() => longer.map(|(_, path)| path).collect(),
            exact => exact,
        };
        match found[..] {
            [] => {}
            [file] => return Dataset::file(file),
            [first, second, ..] => {
                return Err(Error::data(format!(
                    "{}: split {} may be {} or {}",
                    task.name(),
                    split.name(),
                    first.display(),
                    second.display()
                ))
                .hint("leave one of them in the folder"));
            }
        }
    }
    let (_, config) = task.repository();
    let source = Source::Local(folder.to_owned());
    let laid_out = Dataset::open(&source, config, split.name()).or_else(|cause| {
        // Files without a config are the task's; those of another config would be another task's.
        match files.is_empty() || matches!(task, Task::Mmlu(_)) {
            true => Err(cause),
            false => Dataset::open(&source, None, split.name()),
        }
    });
    match (laid_out, &files[..]) {
        (Ok(found), _) => Ok(found),
        (Err(_), [(stem, file)]) if split == task.split() && !is_split_name(stem) => {
            Dataset::file(file)
        }
        (Err(cause), _) => Err(missing(Some(cause))),
    }
}

/// Whether a file's name says which split it holds.
fn is_split_name(stem: &str) -> bool {
    let word = stem.split(['_', '-']).next().unwrap_or_default();
    let all = [Split::Train, Split::Validation, Split::Test, Split::Dev];
    all.iter().any(|split| split.names().contains(&word))
}

/// The data files of a folder by their names without extension, sorted.
fn data_files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).context(failed)? {
        let path = entry.context(failed)?.path();
        let part =
            |part: Option<&std::ffi::OsStr>| part.and_then(|it| it.to_str()).map(str::to_owned);
        let (stem, extension) = (part(path.file_stem()), part(path.extension()));
        let is_data = extension
            .is_some_and(|it| ["jsonl", "json", "csv", "tsv", "parquet"].contains(&it.as_str()));
        if let Some(stem) = stem.filter(|stem| is_data && !stem.starts_with('.'))
            && path.is_file()
        {
            files.push((stem, path));
        }
    }
    files.sort();
    Ok(files)
}

/// The file of a subject as MMLU's authors publish it: `test/anatomy_test.csv`.
fn mmlu_file(folder: &Path, task: Task, split: Split) -> Option<PathBuf> {
    let Task::Mmlu(subject) = task else {
        return None;
    };
    let file = |name: &&str| {
        folder
            .join(name)
            .join(format!("{}_{name}.csv", subject.name))
    };
    split.names().iter().map(file).find(|file| file.is_file())
}

/// The rows of a csv file without a header: question, four choices, letter.
fn of_headless_csv(file: &Path) -> Result<(Vec<Row>, Fingerprint)> {
    let shown = file.display().to_string();
    let bytes = fs::read(file).context(|| format!("cannot read {shown}"))?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(&bytes[..]);
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let place = format!("{shown}, row {}", index + 1);
        let record = record.context(|| place.clone())?;
        let cells: Vec<&str> = record.iter().collect();
        let [question, choices @ .., letter] = &cells[..] else {
            return Err(of_other_width(&place, cells.len()));
        };
        if choices.len() != LETTERS.len() {
            return Err(of_other_width(&place, cells.len()));
        }
        rows.push(Row {
            cells: vec![
                ("question".to_owned(), raw(question, &place)?),
                ("choices".to_owned(), raw(&choices, &place)?),
                ("answer".to_owned(), raw(letter, &place)?),
            ],
            place,
        });
    }
    let fingerprint = json!({
        "source": shown, "commit": null, "config": null, "split": null, "rows": rows.len(),
        "files": [{
            "name": file.file_name().map(|name| name.to_string_lossy()),
            "bytes": bytes.len(),
            "blake3": blake3::hash(&bytes).to_hex().to_string(),
        }],
    });
    let fingerprint = serde_json::from_value(fingerprint).context(|| shown)?;
    Ok((rows, fingerprint))
}

fn of_other_width(place: &str, cells: usize) -> Error {
    Error::data(format!("{place}: {cells} cells, not 6"))
        .hint("a row is a question, four choices and a letter")
}

fn raw(value: &impl Serialize, place: &str) -> Result<Box<RawValue>> {
    to_raw_value(value).context(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_another_config_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{\"question\": \"q\", \"answer\": \"#### 1\"}\n").unwrap();
        };
        let data = Data::Folder(folder.path().to_owned());
        write("gsm8k/socratic/test.jsonl");
        let message = data
            .split(Task::Gsm8k, Split::Test)
            .unwrap_err()
            .to_string();
        assert!(message.ends_with("gsm8k has no split test"), "{message}");
        write("gsm8k/main/test.jsonl");
        assert_eq!(data.split(Task::Gsm8k, Split::Test).unwrap().rows.len(), 1);
        write("gsm8k/train-00000-of-00001.jsonl");
        assert_eq!(data.split(Task::Gsm8k, Split::Train).unwrap().rows.len(), 1);
    }

    #[test]
    fn white_space_between_tokens_disappears() {
        let text = "{ \"a \\\" b\" :\n [1,\t\"\\\\\" , \" \"] }";
        assert_eq!(without_spacing(text), r#"{"a \" b":[1,"\\"," "]}"#);
    }
}

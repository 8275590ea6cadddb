//! Samples of the lm-evaluation-harness (`--log_samples`): files of version 0.4.0 to 0.4.12, a row
//! for each document and filter, or the whole result of `simple_evaluate` with its `samples`.

use super::documents::{hash, number, values};
use super::{About, Collected, Format, Imported, Options, Placed, several};
use crate::benchmarks::leaderboard::metrics::ACC;
use crate::benchmarks::leaderboard::tasks::mmlu::{GROUPS, SUBJECTS};
use crate::benchmarks::{Aggregate, ItemScore, MODEL, Part};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A task, one of its metrics, and the number of its items.
type TaskMetric = (String, String, usize);

/// The format of samples.
pub struct LmEval;

/// Keys of a row that are no metric.
const OTHER: [&str; 14] = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "schema_id",
    "task",
    "index",
];

/// The beginning of the name of a file of samples.
const SAMPLES: &str = "samples_";
/// The beginning of the names of the 57 subjects' tasks.
const MMLU: &str = "mmlu_";
/// Tasks and metrics of the Open LLM Leaderboard version 1; MMLU is the mean of its subjects.
const LEADERBOARD: [(&str, &[&str]); 5] = [
    ("arc_challenge", &["acc_norm"]),
    ("hellaswag", &["acc_norm"]),
    ("truthfulqa_mc2", &["acc"]),
    ("winogrande", &["acc"]),
    (
        "gsm8k",
        &[
            "exact_match",
            "exact_match,get-answer",
            "exact_match,strict-match",
        ],
    ),
];

impl Format for LmEval {
    fn name(&self) -> &'static str {
        "lm-eval"
    }

    fn benchmark(&self) -> &'static str {
        "lm_eval"
    }

    fn read(&self, files: &[PathBuf], options: &Options) -> Result<Vec<Imported>> {
        let mut models: BTreeMap<String, (Collected, About, BTreeSet<String>)> = BTreeMap::new();
        for path in files {
            let model = options.model.clone().unwrap_or_else(|| model_of(path));
            let (collected, about, ignored) = models.entry(model.clone()).or_default();
            about.model = model;
            about.files.insert(path.display().to_string(), hash(path)?);
            for (place, value) in values(path)? {
                for (task, place, row) in rows(path, place, value, options)? {
                    sample(&task, &place, &row, collected, ignored)?;
                }
            }
        }
        let finish =
            |(_, (collected, mut about, ignored)): (_, (Collected, About, BTreeSet<String>))| {
                let ignored: Vec<String> = ignored.into_iter().collect();
                about
                    .notices
                    .extend(several("keys hold no number and were left out", &ignored));
                about.benchmark = self.benchmark();
                about.convention = "as logged".to_owned();
                let aggregates = aggregates(&collected.tasks());
                if aggregates.is_empty() {
                    return Err(Error::data("the files have no samples")
                        .hint("run lm_eval with --log_samples, and give its samples_….jsonl"));
                }
                collected.finish(about, aggregates)
            };
        models.into_iter().map(finish).collect()
    }
}

/// The name of a model from the folder of its files, where lm_eval writes `__` for `/`.
fn model_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name);
    let name = folder.map(|name| name.to_string_lossy().replace("__", "/"));
    name.unwrap_or_else(|| "model".to_owned())
}

/// The task of a file: the name behind `samples_` without the date, or the end of the name where
/// version 0.4.0 puts it behind the model's arguments.
fn task_of(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_default();
    let is_date = |text: &str| {
        let begins = text
            .get(..4)
            .is_some_and(|year| year.bytes().all(|it| it.is_ascii_digit()));
        begins && text.get(4..5) == Some("-")
    };
    match stem.strip_prefix(SAMPLES) {
        Some(named) => match named.rsplit_once('_') {
            Some((task, date)) if is_date(date) => task.to_owned(),
            _ => named.to_owned(),
        },
        None => {
            let known = LEADERBOARD.iter().map(|(task, _)| *task);
            let subject = stem.find(MMLU).map(|start| stem[start..].to_owned());
            let ending = known
                .filter(|task| stem.ends_with(task))
                .max_by_key(|task| task.len());
            subject.or(ending.map(str::to_owned)).unwrap_or(stem)
        }
    }
}

/// A row with its task and place.
type TaskRow = (String, String, Map<String, Value>);

/// The rows in a value: one row, or all samples of a whole result.
fn rows(path: &Path, place: String, value: Value, options: &Options) -> Result<Vec<TaskRow>> {
    let not_a_sample = |place: &str| {
        Error::data(format!("{place} is not a sample of lm-eval"))
            .hint("run lm_eval with --log_samples, and give its samples_….jsonl")
    };
    let Value::Object(mut row) = value else {
        return Err(not_a_sample(&place));
    };
    let task = options.task.clone().unwrap_or_else(|| task_of(path));
    let Some(Value::Object(samples)) = row.remove("samples") else {
        return match row.contains_key("doc_id") {
            true => Ok(vec![(task, place, row)]),
            false => Err(not_a_sample(&place)),
        };
    };
    let mut all = Vec::new();
    for (task, samples) in samples {
        let Value::Array(samples) = samples else {
            return Err(not_a_sample(&format!("{place}, samples of {task}")));
        };
        for (index, sample) in samples.into_iter().enumerate() {
            let place = format!("{place}, sample {} of {task}", index + 1);
            match sample {
                Value::Object(row) if row.contains_key("doc_id") => {
                    all.push((task.clone(), place, row));
                }
                _ => return Err(not_a_sample(&place)),
            }
        }
    }
    Ok(all)
}

/// Adds the scores of a row: those that its `metrics` lists, or every number that is none of the
/// known keys.
fn sample(
    task: &str,
    place: &str,
    row: &Map<String, Value>,
    into: &mut Collected,
    ignored: &mut BTreeSet<String>,
) -> Result<()> {
    let item = match row.get("doc_id").unwrap_or(&Value::Null) {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        other => {
            return Err(Error::data(format!("{place}: `doc_id` is {other}"))
                .hint("it is the number of the document"));
        }
    };
    // Questions of one subject of MMLU are one cluster, and so are documents with the same contents.
    let doc = row.get("doc_hash").and_then(Value::as_str);
    let cluster = match doc {
        _ if is_subject(task) => task.to_owned(),
        Some(doc) => doc.to_owned(),
        None => format!("{task}/{item}"),
    };
    let listed = row.get("metrics").and_then(Value::as_array);
    let names: Vec<&str> = match listed {
        Some(listed) => listed.iter().filter_map(Value::as_str).collect(),
        None => row
            .keys()
            .map(String::as_str)
            .filter(|it| !OTHER.contains(it))
            .collect(),
    };
    let filter = row
        .get("filter")
        .and_then(Value::as_str)
        .filter(|it| *it != "none");
    let mut found = false;
    for name in names {
        let score = number(row.get(name), name);
        let is_other = matches!(
            row.get(name),
            Some(Value::Array(_) | Value::Object(_) | Value::String(_))
        );
        if listed.is_none()
            && is_other
            && score
                .as_ref()
                .is_err_and(|why| why.ends_with("not a number"))
        {
            ignored.insert(format!("{name} of {task}"));
            continue;
        }
        found = true;
        let score = ItemScore {
            scorer: MODEL.to_owned(),
            task: task.to_owned(),
            metric: filter.map_or_else(|| name.to_owned(), |filter| format!("{name},{filter}")),
            item: item.clone(),
            cluster: cluster.clone(),
            value: score.as_ref().ok().copied(),
            missing: score.err(),
        };
        let place = place.to_owned();
        into.add(Placed { place, score })?;
    }
    match found {
        true => Ok(()),
        false => Err(Error::data(format!("{place}: the row has no metric"))
            .hint("a sample holds its scores, as in \"acc\": 1.0; log samples anew")),
    }
}

/// Whether a task is a subject of MMLU.
fn is_subject(task: &str) -> bool {
    task.strip_prefix(MMLU)
        .is_some_and(|name| !GROUPS.contains(&name))
}

/// The subjects of one of MMLU's groups among `tasks`, if all of them are there.
fn of_group<'a>(group: &str, tasks: &[&'a TaskMetric]) -> Option<Vec<&'a TaskMetric>> {
    let wanted = SUBJECTS.iter().filter(|it| it.group == group);
    wanted
        .map(|it| {
            let named = |(task, _, _): &&&TaskMetric| task.strip_prefix(MMLU) == Some(it.name);
            tasks.iter().find(named).copied()
        })
        .collect()
}

/// Each task under each metric; over subjects of MMLU their mean by items, as the harness groups
/// them, and by subjects, as the leaderboard does, and the means by items of the groups that are
/// whole; the leaderboard's average if its six are there.
fn aggregates(tasks: &[TaskMetric]) -> Vec<Aggregate> {
    let mut all: Vec<Aggregate> = Vec::new();
    let subjects: Vec<_> = tasks
        .iter()
        .filter(|(task, metric, _)| is_subject(task) && metric == ACC)
        .collect();
    let mean = |name: String, of: &[&TaskMetric], weight: &dyn Fn(usize) -> f64| Aggregate {
        name,
        parts: of
            .iter()
            .map(|(task, metric, items)| Part {
                task: task.clone(),
                metric: metric.clone(),
                weight: weight(*items),
            })
            .collect(),
    };
    let (by_items, by_subjects) = (|items| items as f64, |_| 1.0);
    for (task, metric, _) in tasks {
        all.push(Aggregate::of_task(format!("{task}/{metric}"), task, metric));
    }
    if subjects.len() > 1 {
        all.push(mean(format!("mmlu/{ACC}"), &subjects, &by_items));
        let name = format!("mmlu/{ACC}, mean of subjects");
        all.push(mean(name, &subjects, &by_subjects));
    }
    for group in GROUPS {
        if let Some(subjects) = of_group(group, &subjects) {
            all.push(mean(format!("{MMLU}{group}/{ACC}"), &subjects, &by_items));
        }
    }
    let mmlu = mean("mmlu".to_owned(), &subjects, &by_subjects);
    all.extend(leaderboard(tasks, &mmlu));
    all
}

/// The mean of the six tasks of the Open LLM Leaderboard; `None` unless all are there.
fn leaderboard(tasks: &[TaskMetric], mmlu: &Aggregate) -> Option<Aggregate> {
    let has = |task: &str, metric: &str| tasks.iter().any(|it| it.0 == task && it.1 == metric);
    let mut parts = Vec::new();
    for (task, metrics) in LEADERBOARD {
        let metric = metrics.iter().find(|metric| has(task, metric))?;
        parts.push(Part {
            task: task.to_owned(),
            metric: (*metric).to_owned(),
            weight: 1.0,
        });
    }
    let subjects = mmlu.parts.len();
    let each = mmlu.parts.iter().cloned().map(|part| Part {
        weight: 1.0 / subjects as f64,
        ..part
    });
    parts.extend(each);
    (subjects > 0).then(|| Aggregate {
        name: "average of six".to_owned(),
        parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_models_are_named_by_files() {
        for (path, task) in [
            (
                "a/samples_arc_challenge_2024-07-01T10-11-12.123.jsonl",
                "arc_challenge",
            ),
            ("a/samples_gsm8k.jsonl", "gsm8k"),
            (
                "pretrained=x,dtype=float16_truthfulqa_mc2.jsonl",
                "truthfulqa_mc2",
            ),
            (
                "pretrained=x_mmlu_high_school_physics.jsonl",
                "mmlu_high_school_physics",
            ),
            ("odd.jsonl", "odd"),
        ] {
            assert_eq!(task_of(Path::new(path)), task);
        }
        assert_eq!(
            model_of(Path::new("out/HuggingFaceH4__zephyr-7b-beta/x.jsonl")),
            "HuggingFaceH4/zephyr-7b-beta"
        );
        assert_eq!(model_of(Path::new("x.jsonl")), "model");
    }

    #[test]
    fn subjects_of_mmlu_are_grouped_by_items_and_by_subjects() {
        let task = |name: &str, metric: &str, items| (name.to_owned(), metric.to_owned(), items);
        let mut tasks = vec![
            task("mmlu_anatomy", "acc", 135),
            task("mmlu_astronomy", "acc", 152),
            task("arc_challenge", "acc_norm", 10),
            task("hellaswag", "acc_norm", 10),
            task("truthfulqa_mc2", "acc", 10),
            task("winogrande", "acc", 10),
        ];
        let named =
            |tasks: &[_], name: &str| aggregates(tasks).into_iter().find(|it| it.name == name);
        let weights = |it: Aggregate| it.parts.iter().map(|part| part.weight).collect::<Vec<_>>();
        assert_eq!(weights(named(&tasks, "mmlu/acc").unwrap()), [135.0, 152.0]);
        assert_eq!(
            weights(named(&tasks, "mmlu/acc, mean of subjects").unwrap()),
            [1.0, 1.0]
        );
        // Two subjects are no whole group.
        assert!(named(&tasks, "mmlu_stem/acc").is_none());
        let stem = SUBJECTS.iter().filter(|it| it.group == "stem");
        let stem: Vec<_> = stem
            .zip(10..)
            .map(|(it, items)| task(&format!("mmlu_{}", it.name), "acc", items))
            .collect();
        let whole = weights(named(&stem, "mmlu_stem/acc").unwrap());
        assert_eq!(whole, (10..29).map(f64::from).collect::<Vec<_>>());
        assert!(named(&stem, "mmlu_other/acc").is_none());
        assert!(named(&tasks, "average of six").is_none());
        tasks.push(task("gsm8k", "exact_match,strict-match", 10));
        let six = named(&tasks, "average of six").unwrap();
        assert_eq!(weights(six), [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]);
    }
}

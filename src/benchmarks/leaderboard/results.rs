//! Result files in the harness's own format: `results.json`, and a file of samples for each task.

use super::answers::Extraction;
use super::conventions::Convention;
use super::document::Row;
use super::evaluate::{TaskRun, groups, metrics_of, target};
use super::groups::{
    Part, pooled_standard_error, standard_error_of_unweighted_mean, unweighted_mean, weighted_mean,
};
use super::metrics::{ACC, FLEXIBLE, MC2, Response, Score, mean, standard_error};
use super::request::{Requests, hash_of_requests, sha256};
use super::tasks::Task;
use crate::data::rows;
use crate::python::json::{Options, dumps};
use crate::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// File of the results.
pub const RESULTS: &str = "results.json";
/// The files that are written; a `*` stands for the name of a task.
pub const FILES: [&str; 2] = [RESULTS, "samples_*.jsonl"];

/// The results of all tasks, with the settings `config` of the run.
///
/// A mean over items of which one has no score is null, since no version of the harness would have
/// that number; their count stands under `touchstone`.
pub fn results(runs: &[TaskRun], convention: Convention, config: Value) -> Value {
    let named = |of: &dyn Fn(&TaskRun) -> Value| -> Value {
        let entry = |run: &TaskRun| (run.task.reference_name(convention), of(run));
        runs.iter().map(entry).collect::<Map<_, _>>().into()
    };
    let mut numbers = named(&|run| numbers(run, convention).into());
    let versions = named(&|run| version(run.task, convention));
    let own = named(&|run| notes(run, convention));
    if convention.is_before_yaml() {
        return json!({
            "results": numbers, "versions": versions, "config": config,
            "touchstone": {"harness": convention.harness(), "tasks": own},
        });
    }
    let groups = group_numbers(runs, convention);
    if let (Some(numbers), Some(groups)) = (numbers.as_object_mut(), groups.as_object()) {
        numbers.extend(groups.clone());
    }
    json!({
        "results": numbers,
        "groups": groups,
        "versions": versions,
        "n-shot": named(&|run| run.shots.into()),
        "n-samples": named(&|run| json!({"original": run.documents, "effective": run.items.len()})),
        "config": config,
        "touchstone": {"harness": convention.harness(), "tasks": own},
    })
}

fn version(task: Task, convention: Convention) -> Value {
    match convention.is_before_yaml() {
        true => (task.version(convention) as u64).into(),
        false => task.version(convention).into(),
    }
}

/// The values of a metric, in the order of the items; `None` if one has none.
fn values(scored: &[Vec<Score>], metric: &str) -> Option<Vec<f64>> {
    let value = |scores: &Vec<Score>| {
        let score = scores.iter().find(|score| score.metric == metric)?;
        score.value.as_ref().ok().copied()
    };
    scored.iter().map(value).collect()
}

/// Means and standard errors of a task under the harness's names.
fn numbers(run: &TaskRun, convention: Convention) -> Map<String, Value> {
    let scored = run.scores(convention);
    let mut numbers = Map::new();
    for metric in metrics_of(run.task, convention) {
        let values = values(&scored, metric);
        let of_mean = values.as_deref().and_then(mean);
        let error = values.as_deref().and_then(standard_error);
        let [name, error_name] = names(run.task, metric, convention);
        numbers.insert(name, json!(of_mean));
        numbers.insert(error_name, error.map_or_else(|| "N/A".into(), Value::from));
    }
    if !convention.is_before_yaml() {
        numbers.insert("alias".to_owned(), run.task.name().into());
    }
    numbers
}

/// The harness's names of a metric and of its standard error.
fn names(task: Task, metric: &str, convention: Convention) -> [String; 2] {
    let filter = match (task, metric) {
        (Task::Gsm8k, FLEXIBLE) => Extraction::FlexibleExtract.filter(),
        (Task::Gsm8k, _) => Extraction::of(convention)[0].filter(),
        _ => "none",
    };
    let name = match (task, metric) {
        (Task::Gsm8k, _) if convention.is_before_yaml() => ACC,
        (Task::Gsm8k, _) => "exact_match",
        // Since v0.4.0 the share is called an accuracy.
        (Task::TruthfulQa, MC2) if !convention.is_before_yaml() => ACC,
        (_, metric) => metric,
    };
    match convention.is_before_yaml() {
        true => [name.to_owned(), format!("{name}_stderr")],
        false => [
            format!("{name},{filter}"),
            format!("{name}_stderr,{filter}"),
        ],
    }
}

/// MMLU's groups whose subjects are all there.
fn group_numbers(runs: &[TaskRun], convention: Convention) -> Value {
    let subjects: Vec<&TaskRun> = runs
        .iter()
        .filter(|run| matches!(run.task, Task::Mmlu(_)))
        .collect();
    let mut all = Map::new();
    for (name, group) in groups(&subjects) {
        if group.len() < 2 {
            continue;
        }
        let part = |run: &&TaskRun| Part::of(&values(&run.scores(convention), ACC)?);
        let parts: Option<Vec<Part>> = group.iter().map(part).collect();
        let parts = parts.unwrap_or_default();
        let (mean, error) = match convention.weights_subjects_by_size() {
            true => (weighted_mean(&parts), pooled_standard_error(&parts)),
            false => (
                unweighted_mean(&parts),
                standard_error_of_unweighted_mean(&parts),
            ),
        };
        let error = error.map_or_else(|| "N/A".into(), Value::from);
        all.insert(
            name.clone(),
            json!({"acc,none": mean, "acc_stderr,none": error, "alias": name}),
        );
    }
    all.into()
}

/// Notes on a task that the harness's format has no place for: the hash of its requests, and the
/// numbers of items that were cut or have no score.
fn notes(run: &TaskRun, convention: Convention) -> Value {
    let missing = run
        .scores(convention)
        .iter()
        .filter(|scores| scores.iter().any(|score| score.value.is_err()))
        .count();
    json!({
        "requests": run.items.iter().map(|item| item.requests.len()).sum::<usize>(),
        "requests_sha256": hash_of_requests(run.items.iter().map(|item| &item.requests)),
        "items_cut_from_the_left": run.items_cut(),
        "items_without_a_score": missing,
        "data": run.data,
    })
}

/// Writes `results.json` and, if wanted, a file of samples for each task, into a folder.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(
    folder: &Path,
    runs: &[TaskRun],
    convention: Convention,
    config: Value,
    samples: bool,
) -> Result<()> {
    let path = folder.join(RESULTS);
    let failed = || format!("cannot write {}", path.display());
    let mut text = serde_json::to_vec_pretty(&results(runs, convention, config)).context(failed)?;
    text.push(b'\n');
    fs::write(&path, text).context(failed)?;
    if samples {
        for run in runs {
            let name = run.task.reference_name(convention);
            let path = folder.join(format!("samples_{name}.jsonl"));
            rows::write(&path, self::samples(run, convention)?)?;
        }
    }
    Ok(())
}

/// A document with its requests, responses and scores, as `--log_samples` writes it.
#[derive(Clone, Debug, Serialize)]
pub struct Sample<'a> {
    /// The place of the document in its split, from 0.
    pub doc_id: usize,
    pub doc: &'a Row,
    pub target: Value,
    pub arguments: Value,
    pub resps: Value,
    pub filtered_resps: Value,
    pub filter: &'static str,
    /// The names of the metrics.
    pub metrics: Vec<String>,
    /// The SHA-256 of `json.dumps(doc, indent=2, ensure_ascii=False)`.
    pub doc_hash: String,
    /// The SHA-256 of the first context.
    pub prompt_hash: String,
    /// The SHA-256 of `str(target)`.
    pub target_hash: String,
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

/// The samples of a task: one an item and, of GSM8K, one for each rule of extraction.
///
/// # Errors
/// A document that is not JSON.
pub fn samples(run: &TaskRun, convention: Convention) -> Result<Vec<Sample<'_>>> {
    let mut samples = Vec::new();
    let answered = run.items.iter().zip(&run.responses);
    for ((item, response), scores) in answered.zip(run.scores(convention)) {
        let doc = &item.document.row;
        let doc_hash = doc_hash(doc)?;
        let target = target(&item.document);
        let sample = |filter, filtered_resps, scores: &[&Score]| {
            let (metrics, values) = metrics(run.task, scores, convention);
            Sample {
                doc_id: item.index,
                doc,
                target_hash: sha256(&printed(&target)),
                target: target.clone(),
                arguments: arguments(&item.requests),
                resps: raw(response),
                filtered_resps,
                filter,
                metrics,
                doc_hash: doc_hash.clone(),
                prompt_hash: sha256(item.requests.context()),
                values,
            }
        };
        match response {
            Response::Completion(text) => {
                for (rule, score) in Extraction::of(convention).iter().zip(&scores) {
                    let answer = json!([rule.answer(text)]);
                    samples.push(sample(rule.filter(), answer, &[score]));
                }
            }
            Response::Likelihoods(all) => {
                let pairs = all
                    .iter()
                    .map(|it| json!([it.log_likelihood, it.is_greedy]));
                let scores: Vec<&Score> = scores.iter().collect();
                samples.push(sample("none", pairs.collect(), &scores));
            }
        }
    }
    Ok(samples)
}

/// `str(target)` of a text or an index.
fn printed(target: &Value) -> String {
    match target {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The SHA-256 of `json.dumps(doc, indent=2, ensure_ascii=False)`.
fn doc_hash(doc: &Row) -> Result<String> {
    let hash = || -> serde_json::Result<String> {
        // Unlike serde_json's, these values keep the order of keys.
        let value: minijinja::Value = serde_json::from_str(&serde_json::to_string(doc)?)?;
        Ok(sha256(&dumps(&value, &Options::indented(2))?))
    };
    hash().context(|| doc.place.clone())
}

/// The harness's names of the metrics, and their values.
fn metrics(
    task: Task,
    scores: &[&Score],
    convention: Convention,
) -> (Vec<String>, Map<String, Value>) {
    let (mut metrics, mut all) = (Vec::new(), Map::new());
    for score in scores {
        let [name, _] = names(task, score.metric, convention);
        let name = name.split(',').next().unwrap_or_default().to_owned();
        metrics.push(name.clone());
        match &score.value {
            Ok(value) => all.insert(name, json!(value)),
            Err(reason) => {
                all.insert("missing".to_owned(), json!(reason));
                all.insert(name, Value::Null)
            }
        };
    }
    // The order in which the harness's definitions of tasks name them.
    metrics.sort();
    (metrics, all)
}

fn arguments(requests: &Requests) -> Value {
    match requests {
        Requests::Likelihoods(all) => all
            .iter()
            .map(|it| json!([*it.context, it.continuation]))
            .collect(),
        Requests::Completion { context, until } => {
            json!([[**context, {"until": until, "do_sample": false, "temperature": 0.0}]])
        }
    }
}

fn raw(response: &Response) -> Value {
    match response {
        Response::Likelihoods(all) => all
            .iter()
            .map(|it| json!([[it.log_likelihood, it.is_greedy]]))
            .collect(),
        Response::Completion(text) => json!([[text]]),
    }
}

//! Files of RewardBench's own scripts: scores of all pairs (`eval-set-scores/…json`, and
//! `…_outputs.jsonl` of its command line), and accuracies by subset (`eval-set/…json`), which hold no
//! items.

use super::documents::{hash, number, values};
use super::{About, Collected, Format, Imported, Options, Placed};
use crate::benchmarks::rewardbench::rows::cluster;
use crate::benchmarks::rewardbench::{ACCURACY, Convention, NAME, sections, subsets};
use crate::benchmarks::{ItemScore, MODEL};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The format of both kinds of file.
pub struct RewardBench;

impl Format for RewardBench {
    fn name(&self) -> &'static str {
        NAME
    }

    fn benchmark(&self) -> &'static str {
        NAME
    }

    fn read(&self, files: &[PathBuf], options: &Options) -> Result<Vec<Imported>> {
        let mut models: BTreeMap<String, (Collected, About)> = BTreeMap::new();
        for path in files {
            let hash = hash(path)?;
            for (place, file) in columns(path, values(path)?) {
                let Value::Object(keys) = file else {
                    return Err(not_of_the_format(&place));
                };
                let named = keys.get("model").and_then(Value::as_str);
                let Some(model) = options.model.as_deref().or(named) else {
                    return Err(Error::data(format!("{place}: no text `model`"))
                        .hint("name the model with --model"));
                };
                let (collected, about) = models.entry(model.to_owned()).or_default();
                about.files.insert(path.display().to_string(), hash.clone());
                if keys.contains_key("subset") {
                    scores(&place, &keys, collected)?;
                } else {
                    // The package's command line keeps accuracies apart.
                    let kept = keys.get("extra_results").and_then(Value::as_object);
                    accuracies(&place, model, kept.unwrap_or(&keys), collected)?;
                    about.notices.push(format!(
                        "{place} has accuracies alone: its items are counts, which have intervals but no pairs in other \
                         evaluations"
                    ));
                }
            }
        }
        let finish = |(model, (collected, about)): (String, (Collected, About))| {
            let tasks = collected.tasks();
            let present: Vec<&str> = tasks.iter().map(|(task, ..)| task.as_str()).collect();
            let convention = Convention::Allenai;
            let about = About {
                benchmark: self.benchmark(),
                convention: convention.name().to_owned(),
                model,
                ..about
            };
            let aggregates = sections::aggregates(&present, convention);
            collected.finish(about, aggregates)
        };
        models.into_iter().map(finish).collect()
    }
}

/// The documents of a file; rows that each name a subset are one document with a list for each
/// column, of the model that the file's name has before `_outputs`.
fn columns(path: &Path, documents: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let is_row = |(_, value): &(String, Value)| value["subset"].is_string();
    if documents.is_empty() || !documents.iter().all(is_row) {
        return documents;
    }
    let names: BTreeSet<String> = documents
        .iter()
        .filter_map(|(_, row)| row.as_object())
        .flat_map(|row| row.keys().cloned())
        .collect();
    let mut columns: Map<String, Value> = names
        .into_iter()
        .map(|name| {
            let column = documents.iter().map(|(_, row)| row[&name].clone());
            let column: Value = column.collect();
            (name, column)
        })
        .collect();
    columns.remove("model");
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    if let Some(model) = stem
        .as_deref()
        .and_then(|stem| stem.strip_suffix("_outputs"))
    {
        let owner = path.parent().and_then(Path::file_name);
        let model = match owner {
            Some(owner) => format!("{}/{model}", owner.to_string_lossy()),
            None => model.to_owned(),
        };
        columns.insert("model".to_owned(), model.into());
    }
    vec![(path.display().to_string(), columns.into())]
}

fn not_of_the_format(place: &str) -> Error {
    Error::data(format!("{place} is not a file of RewardBench"))
        .hint("give a file of eval-set-scores or of eval-set, as scripts/run_rm.py writes it")
}

/// The pairs of a file of scores, which has a list for each column.
fn scores(place: &str, keys: &Map<String, Value>, into: &mut Collected) -> Result<()> {
    let column = |name: &str| keys.get(name).and_then(Value::as_array);
    let Some(subset) = column("subset") else {
        return Err(not_of_the_format(place));
    };
    let columns = [
        "results",
        "scores_chosen",
        "scores_rejected",
        "id",
        "prompt",
        "text_chosen",
        "text_rejected",
    ]
    .map(|name| (name, column(name)));
    let other = columns
        .iter()
        .find(|(_, it)| it.is_some_and(|it| it.len() != subset.len()));
    if let Some((name, Some(values))) = other {
        return Err(Error::data(format!(
            "{place}: `{name}` has {} values, and `subset` {}",
            values.len(),
            subset.len()
        ))
        .hint("fetch the file again: each column has a value for every pair"));
    }
    let [
        results,
        chosen,
        rejected,
        id,
        prompt,
        text_chosen,
        text_rejected,
    ] = columns.map(|(_, it)| it);
    if results.is_none() && (chosen.is_none() || rejected.is_none()) {
        return Err(Error::data(format!(
            "{place}: neither `results` nor scores of both sides"
        ))
        .hint("give a file of eval-set-scores, which has `results`, `scores_chosen` and `scores_rejected`"));
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (index, name) in subset.iter().enumerate() {
        let place = format!("{place}, pair {}", index + 1);
        let name = name.as_str().unwrap_or_default();
        subsets::check(name, &place)?;
        let at = |column: Option<&Vec<Value>>| column.and_then(|it| it.get(index)).cloned();
        let number_here = numbers.entry(name).or_default();
        *number_here += 1;
        let id = match at(id) {
            None | Some(Value::Null) => number_here.to_string(),
            Some(Value::String(id)) => id,
            Some(id) => id.to_string(),
        };
        let times = seen.entry((name, id.clone())).or_default();
        *times += 1;
        let item = match *times {
            1 => id,
            times => format!("{id}#{times}"),
        };
        let verdict = verdict(&place, at(results), at(chosen), at(rejected))?;
        let prompt = at(prompt).and_then(|it| it.as_str().map(str::to_owned));
        let cluster = prompt.map_or_else(|| format!("{name}/{item}"), |it| cluster(&[it]));
        let score = |scorer: &str, score: std::result::Result<f64, String>| ItemScore {
            scorer: scorer.to_owned(),
            task: name.to_owned(),
            metric: ACCURACY.to_owned(),
            item: item.clone(),
            cluster: cluster.clone(),
            value: score.as_ref().ok().copied(),
            missing: score.err(),
        };
        let mut scores = vec![score(MODEL, verdict)];
        if let (Some(Value::String(chosen)), Some(Value::String(rejected))) =
            (at(text_chosen), at(text_rejected))
        {
            let [chosen, rejected] = [chosen, rejected].map(|it| it.chars().count() as f64);
            scores.push(score(
                "length",
                Ok(Convention::Allenai.score(chosen, rejected)),
            ));
        }
        scores.push(score("random", Ok(0.5)));
        for score in scores {
            let place = place.clone();
            into.add(Placed { place, score })?;
        }
    }
    Ok(())
}

/// The result of a pair, which its scores must not contradict; without one, that of its scores.
fn verdict(
    place: &str,
    result: Option<Value>,
    chosen: Option<Value>,
    rejected: Option<Value>,
) -> Result<std::result::Result<f64, String>> {
    let scored = match (&chosen, &rejected) {
        (Some(chosen), Some(rejected)) if !chosen.is_null() || !rejected.is_null() => {
            let both = number(Some(chosen), "scores_chosen")
                .and_then(|it| Ok((it, number(Some(rejected), "scores_rejected")?)));
            Some(both)
        }
        _ => None,
    };
    let Some(result) = result else {
        let none = || Err("no score".to_owned());
        let both = scored.unwrap_or_else(none);
        return Ok(both.map(|(chosen, rejected)| Convention::Allenai.score(chosen, rejected)));
    };
    let result = number(Some(&result), "results");
    match (&result, &scored) {
        (Ok(result), Some(Ok((chosen, rejected)))) => {
            let conventions = [Convention::Allenai, Convention::Rlhflow];
            let holds = conventions
                .map(|it| it.score(*chosen, *rejected))
                .contains(result);
            match holds {
                true => Ok(Ok(*result)),
                false => Err(Error::data(format!(
                    "{place}: `results` is {result}, and the scores are {chosen} and {rejected}"
                ))
                .hint("one of the two is of another run")),
            }
        }
        // The reference counts a score that is not finite as wrong; here it is missing.
        (Ok(_), Some(Err(why))) => Ok(Err(why.clone())),
        _ => Ok(result),
    }
}

/// The counts behind a file of accuracies: k of n items are right, where n is the size of the
/// published subset.
fn accuracies(
    place: &str,
    model: &str,
    keys: &Map<String, Value>,
    into: &mut Collected,
) -> Result<()> {
    let mut found = false;
    for subset in subsets::core() {
        let Some(value) = keys.get(subset.name) else {
            continue;
        };
        found = true;
        let refused = |what: String| {
            Err(Error::data(format!("{place}: `{}` is {what}", subset.name))
                .hint("give the accuracy over the published rows, or a file of eval-set-scores"))
        };
        let accuracy = match number(Some(value), subset.name) {
            Ok(accuracy) if (0.0..=1.0).contains(&accuracy) => accuracy,
            Ok(other) => return refused(format!("{other}, which is no share")),
            Err(_) => return refused(value.to_string()),
        };
        let doubled = 2.0 * accuracy * subset.items as f64;
        if (doubled - doubled.round()).abs() > 1e-6 {
            return refused(format!(
                "{accuracy}, which is no count of {} rows",
                subset.items
            ));
        }
        let halves = doubled.round() as usize;
        for index in 0..subset.items {
            let value = match halves.saturating_sub(2 * index) {
                0 => 0.0,
                1 => 0.5,
                _ => 1.0,
            };
            let item = format!("{model}: {} of {}", index + 1, subset.items);
            let score = ItemScore {
                scorer: MODEL.to_owned(),
                task: subset.name.to_owned(),
                metric: ACCURACY.to_owned(),
                cluster: format!("{}/{item}", subset.name),
                item,
                value: Some(value),
                missing: None,
            };
            let place = place.to_owned();
            into.add(Placed { place, score })?;
        }
    }
    match found {
        true => Ok(()),
        false => Err(not_of_the_format(place)),
    }
}

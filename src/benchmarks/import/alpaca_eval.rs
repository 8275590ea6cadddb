//! Annotations of AlpacaEval (tatsu-lab/alpaca_eval, commit cd543a1): `annotations.json`.

use super::documents::{hash, number, values};
use super::{About, Collected, Format, Imported, Options, Placed};
use crate::benchmarks::rewardbench::rows::cluster;
use crate::benchmarks::{Aggregate, ItemScore, MODEL, Part};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The metric: `preference` − 1, the probability by which the judge prefers the model to the
/// baseline.
const PREFERENCE: &str = "preference";
/// The task of rows that name no data set.
const ALL: &str = "alpaca_eval";
/// The mean over all items.
const WIN_RATE: &str = "win_rate";

/// The format of `annotations.json`.
pub struct AlpacaEval;

impl Format for AlpacaEval {
    fn name(&self) -> &'static str {
        "alpacaeval"
    }

    fn benchmark(&self) -> &'static str {
        "alpaca_eval"
    }

    fn read(&self, files: &[PathBuf], options: &Options) -> Result<Vec<Imported>> {
        let mut models: BTreeMap<Model, Collected> = BTreeMap::new();
        let mut hashes = BTreeMap::new();
        for path in files {
            hashes.insert(path.display().to_string(), hash(path)?);
            for (place, row) in values(path)? {
                let (model, scores) = annotation(&place, &row)?;
                let collected = models.entry(model).or_default();
                for score in scores {
                    let place = place.clone();
                    collected.add(Placed { place, score })?;
                }
            }
        }
        if models.is_empty() {
            return Err(Error::data("there are no annotations").hint("give annotations.json"));
        }
        if options.model.is_some() && models.len() > 1 {
            return Err(Error::configuration(format!(
                "{} models cannot all be called the same",
                models.len()
            ))
            .hint("leave --model out"));
        }
        let finish = |(model, collected): (Model, Collected)| {
            let tasks = collected.tasks();
            let about = About {
                benchmark: self.benchmark(),
                convention: format!("{} against {}", model.annotator, model.baseline),
                model: options.model.clone().unwrap_or(model.name),
                files: hashes.clone(),
                notices: Vec::new(),
            };
            collected.finish(about, aggregates(&tasks))
        };
        models.into_iter().map(finish).collect()
    }
}

/// The model that rows are about, with its judge and its opponent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    name: String,
    baseline: String,
    annotator: String,
}

fn annotation(place: &str, row: &Value) -> Result<(Model, Vec<ItemScore>)> {
    let text = |name: &str| {
        row[name].as_str().ok_or_else(|| {
            Error::data(format!("{place}: no text `{name}`"))
                .hint("give annotations.json of AlpacaEval, whose rows name both generators and the instruction")
        })
    };
    let model = Model {
        name: text("generator_2")?.to_owned(),
        baseline: text("generator_1")?.to_owned(),
        annotator: row["annotator"].as_str().unwrap_or("a judge").to_owned(),
    };
    let (instruction, outputs) = (text("instruction")?, [text("output_1")?, text("output_2")?]);
    let score = match number(row.get(PREFERENCE), PREFERENCE) {
        // Annotators wrote a draw as 0 before version 0.3.
        Ok(0.0) => Ok(0.5),
        Ok(preference) if (1.0..=2.0).contains(&preference) => Ok(preference - 1.0),
        Ok(other) => {
            return Err(Error::data(format!("{place}: `{PREFERENCE}` is {other}"))
                .hint("it is 1 to 2, or 0 for a draw"));
        }
        Err(why) => Err(why),
    };
    let task = row["dataset"].as_str().unwrap_or(ALL);
    let item = cluster(&[instruction.to_owned()]);
    let lengths = outputs.map(|output| output.chars().count());
    let longer = match lengths[1].cmp(&lengths[0]) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let of = |scorer: &str, score: std::result::Result<f64, String>| ItemScore {
        scorer: scorer.to_owned(),
        task: task.to_owned(),
        metric: PREFERENCE.to_owned(),
        item: item.clone(),
        cluster: item.clone(),
        value: score.as_ref().ok().copied(),
        missing: score.err(),
    };
    let scores = vec![
        of(MODEL, score),
        of("length", Ok(longer)),
        of("random", Ok(0.5)),
    ];
    Ok((model, scores))
}

/// The mean over all items, and that of each data set if there are several.
fn aggregates(tasks: &[(String, String, usize)]) -> Vec<Aggregate> {
    let part = |(task, metric, items): &(String, String, usize)| Part {
        task: task.clone(),
        metric: metric.clone(),
        weight: *items as f64,
    };
    let whole = Aggregate {
        name: WIN_RATE.to_owned(),
        parts: tasks.iter().map(part).collect(),
    };
    let each = tasks.iter().filter(|_| tasks.len() > 1);
    let each = each.map(|(task, metric, _)| Aggregate::of_task(task.clone(), task, metric));
    std::iter::once(whole).chain(each).collect()
}

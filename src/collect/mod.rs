//! Conversion of finished artifacts to the input of a report: one long table of metrics, costs, and
//! the status of every cell.

mod curves;
mod layout;
mod tuning;

use crate::Result;
use crate::data::rows;
use crate::data::split::Duplicates;
use crate::eval::Measured;
use crate::experiment::{self, Study};
use crate::pipeline::{Graph, Manifest, StageKey, Store};
use crate::plan::{Cell, Plan};
use crate::report::{
    CellStatus, Claim, Cost, CostRole, Header, ItemValues, Metric, Metrics, Registration,
    ReportInput, Role, Status,
};
use crate::stages::common::read_json;
use crate::stages::evaluate::{ITEMS, METRICS};
use crate::stages::held_out::DUPLICATES;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The least share of responses that end by themselves; a policy below it has collapsed.
const COLLAPSED_EOS_RATE: f64 = 0.5;

/// Reads the finished part of `plan` in `store`.
pub fn collect(
    study: &Study,
    plan: &Plan,
    store: &Store,
    device: &str,
    notes: Vec<String>,
) -> Result<ReportInput> {
    let mut rows = Vec::new();
    for cell in &plan.cells {
        for key in &cell.measured_by {
            let Some(path) = store.file(key, METRICS)? else {
                continue;
            };
            let measured: Vec<Measured> = read_json(&path)?;
            rows.extend(measured.into_iter().map(|row| Metric {
                method: cell.method.clone(),
                size: cell.size.clone(),
                seed: cell.seed as i64,
                iteration: cell.iteration as i64,
                metric: name(&row.metric),
                value: Some(row.value),
            }));
        }
    }
    let finished: Vec<Manifest> = plan
        .graph
        .iter()
        .filter(|stage| store.is_complete(&stage.key))
        .map(|stage| store.manifest(&stage.key))
        .collect::<Result<_>>()?;
    let revisions: BTreeSet<&str> = finished
        .iter()
        .map(|manifest| manifest.code_revision.as_str())
        .collect();
    let devices: BTreeSet<&str> = finished
        .iter()
        .map(|manifest| manifest.device.as_str())
        .collect();
    let or_planned = |seen: BTreeSet<&str>, planned: &str| match seen.is_empty() {
        true => planned.to_string(),
        false => seen.into_iter().collect::<Vec<_>>().join(", "),
    };
    let header = Header {
        experiment: study.name.clone(),
        title: study.title.clone(),
        question: study.question.clone(),
        description: study.description.clone(),
        profile: study.profile.clone(),
        scale: study.scale.clone(),
        revision: Some(or_planned(revisions, "unknown")),
        device: or_planned(devices, device),
        seeds_planned: study.seeds.clone(),
        cells: statuses(study, plan, store, &rows),
        notes: notes
            .into_iter()
            .chain(duplicates(&finished, store)?)
            .collect(),
        registration: study.registration.as_ref().map(|it| Registration {
            file: it.file.clone(),
            blake3: it.blake3.clone(),
            frozen: it.frozen,
            registered: it.registered.clone(),
            seeds: [it.seeds.first, it.seeds.last],
            background: it.background.clone(),
        }),
    };
    let curves = curves::all(study, plan, store, &rows)?;
    let mut input = ReportInput {
        header,
        curves,
        metrics: Metrics::from_rows(rows)?,
        costs: costs(plan, store)?,
        claims: claims(study, plan, store)?,
        design: study.design.clone(),
        items: items(study, plan, store)?,
        ablations: layout::ablations(study),
        tunings: tuning::tunings(plan, store)?,
        layout: layout::layout(study),
    };
    if plan.without_gold {
        keep_measurable(&mut input);
    }
    Ok(input)
}

/// The claims, each registered one with the time of its oldest result if that is older than the
/// registration.
fn claims(study: &Study, plan: &Plan, store: &Store) -> Result<Vec<Claim>> {
    let mut claims = layout::claims(study);
    let Some(registered) = study
        .registration
        .as_ref()
        .and_then(|it| it.registered.parse::<DateTime<Utc>>().ok())
    else {
        return Ok(claims);
    };
    let mut oldest: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for cell in &plan.cells {
        for key in cell.measured_by.iter().filter(|key| store.is_complete(key)) {
            let Ok(started) = store.manifest(key)?.started.parse::<DateTime<Utc>>() else {
                continue;
            };
            let held = oldest.entry(&cell.method).or_insert(started);
            *held = started.min(*held);
        }
    }
    for claim in claims
        .iter_mut()
        .filter(|claim| claim.role == Role::Primary)
    {
        let others = claim
            .relative_to
            .iter()
            .flat_map(|other| [&other.method, &other.versus]);
        let methods = [&claim.method, &claim.versus].into_iter().chain(others);
        let first = methods
            .filter_map(|method| oldest.get(method.as_str()))
            .min();
        let first = first.filter(|first| **first < registered);
        claim.seen_before = first.map(|first| first.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    Ok(claims)
}

/// Sentences about duplicate rows of real posts.
fn duplicates(finished: &[Manifest], store: &Store) -> Result<Vec<String>> {
    let (mut sentences, mut without) = (Vec::new(), 0);
    for manifest in finished {
        let path = store
            .artifact(&manifest.key)
            .map(|folder| folder.join(DUPLICATES));
        let Some(path) = path.filter(|path| path.exists()) else {
            continue;
        };
        let Duplicates {
            rows,
            prompts,
            repeated,
            held_out,
        } = read_json(&path)?;
        let mut sentence = match rows - prompts {
            0 if held_out == 0 => {
                without += 1;
                continue;
            }
            0 => format!(
                "No prompt occurs twice among the {rows} rows of `{}`.",
                manifest.label
            ),
            _ => format!(
                "The {rows} rows of `{}` have {prompts} different prompts; {repeated} of them repeat the prompt and the \
                 response of another row. Rows of one prompt are on one side of the split.",
                manifest.label
            ),
        };
        if held_out > 0 {
            sentence +=
                &format!(" Rows passed over because their prompts are held out: {held_out}.");
        }
        sentences.push(sentence);
    }
    match (without, sentences.is_empty()) {
        (0, _) => {}
        (_, true) => {
            sentences.push("No prompt of the real posts occurs twice in a set of them.".into())
        }
        (_, false) => {
            sentences.push("No prompt occurs twice in any other set of real posts.".into())
        }
    }
    Ok(sentences)
}

/// Removes columns without any value, which real text cannot provide, and the claims about them.
fn keep_measurable(input: &mut ReportInput) {
    let mut kept: BTreeSet<String> = input
        .metrics
        .rows()
        .iter()
        .map(|row| row.metric.clone())
        .collect();
    let layout = &mut input.layout;
    if !kept.contains(&layout.primary) {
        layout.primary = name(&experiment::Metric::DemoLogLikelihood);
    }
    // Real text has this metric, even if no stage that measures it has finished.
    kept.insert(layout.primary.clone());
    layout.metrics.retain(|column| kept.contains(&column.id));
    layout.collapses = layout
        .collapses
        .take()
        .filter(|rule| kept.contains(&rule.metric));
    for table in &mut layout.tables {
        table.metrics.retain(|metric| kept.contains(metric));
    }
    layout.tables.retain(|table| !table.metrics.is_empty());
    for claim in &mut input.claims {
        claim.metrics.retain(|metric| kept.contains(metric));
    }
    input.claims.retain(|claim| !claim.metrics.is_empty());
    for ablation in &mut input.ablations {
        ablation.metrics.retain(|metric| kept.contains(metric));
    }
    input
        .ablations
        .retain(|ablation| !ablation.metrics.is_empty());
}

/// The name of a unit variant in files.
fn name(variant: &impl Serialize) -> String {
    serde_json::to_value(variant)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

// --- What became of every cell ---

/// One status per (method, size, seed) of a method; heuristics are measurements, not runs, and have
/// none.
fn statuses(study: &Study, plan: &Plan, store: &Store, rows: &[Metric]) -> Vec<CellStatus> {
    let mut cells: BTreeMap<(usize, &str, u64), Vec<&Cell>> = BTreeMap::new();
    for cell in &plan.cells {
        if let Some(order) = study
            .methods
            .iter()
            .position(|method| method.id == cell.method)
        {
            cells
                .entry((order, &cell.size, cell.seed))
                .or_default()
                .push(cell);
        }
    }
    cells
        .into_iter()
        .map(|((order, size, seed), iterations)| {
            let method = &study.methods[order].id;
            let wanted: Vec<&StageKey> = iterations
                .iter()
                .flat_map(|cell| &cell.measured_by)
                .collect();
            let status = if wanted.iter().all(|key| store.is_complete(key)) {
                match collapse(method, size, seed, rows) {
                    Some(why) => Status::Collapsed { why },
                    None => Status::Finished,
                }
            } else {
                match wanted
                    .iter()
                    .find_map(|key| failure(key, &plan.graph, store))
                {
                    Some(error) => Status::Failed { error },
                    None => Status::Missing,
                }
            };
            let base = iterations.iter().find_map(|cell| cell.base);
            CellStatus {
                method: method.clone(),
                size: size.to_string(),
                seed,
                base,
                status,
            }
        })
        .collect()
}

/// The error of the first failed stage among `key` and its ancestors.
fn failure(key: &StageKey, graph: &Graph, store: &Store) -> Option<String> {
    let log = store.failure_log(key);
    if !store.is_complete(key) && log.exists() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        return Some(
            text.lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("no message")
                .trim()
                .to_string(),
        );
    }
    graph
        .get(key)?
        .spec
        .inputs
        .values()
        .find_map(|input| failure(input, graph, store))
}

/// The reason why a policy has collapsed, if it ends too few responses; a fall in gold is judged by
/// the report.
fn collapse(method: &str, size: &str, seed: u64, rows: &[Metric]) -> Option<String> {
    let metric = name(&experiment::Metric::EosRate);
    let of_cell = |row: &&Metric| {
        row.method == method && row.size == size && row.seed == seed as i64 && row.metric == metric
    };
    let rate = rows
        .iter()
        .filter(of_cell)
        .max_by_key(|row| row.iteration)?
        .value?;
    (rate < COLLAPSED_EOS_RATE)
        .then(|| format!("only {rate:.2} of its responses end by themselves"))
}

// --- Costs ---

fn costs(plan: &Plan, store: &Store) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for cell in &plan.cells {
        let making = cell.made_by.iter().map(|key| (key, CostRole::Making));
        for (key, role) in making.chain(
            cell.measured_by
                .iter()
                .map(|key| (key, CostRole::Measuring)),
        ) {
            if !store.is_complete(key) {
                continue;
            }
            let manifest = store.manifest(key)?;
            let counted = |count: f64| (count > 0.0).then_some(count);
            costs.push(Cost {
                stage_kind: manifest.spec.kind,
                method: cell.method.clone(),
                size: cell.size.clone(),
                seed: cell.seed,
                iteration: cell.iteration as i64,
                role,
                wall_seconds: Some(manifest.wall_seconds),
                cpu_seconds: manifest.cpu_seconds,
                peak_memory_mib: manifest
                    .peak_memory_bytes
                    .map(|bytes| bytes as f64 / (1 << 20) as f64),
                tokens: counted(manifest.tokens as f64),
                flops: counted(manifest.flops),
            });
        }
    }
    Ok(costs)
}

// --- Items ---

/// The items behind the means that claims and the primary metric use, at every method's last
/// iteration.
fn items(study: &Study, plan: &Plan, store: &Store) -> Result<Vec<ItemValues>> {
    let claimed = study
        .claims
        .iter()
        .flat_map(|claim| claim.metrics.iter().copied());
    let wanted: BTreeSet<experiment::Metric> = claimed.chain([study.report.primary]).collect();
    let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for cell in &plan.cells {
        let iteration = last.entry((&cell.method, &cell.size)).or_default();
        *iteration = cell.iteration.max(*iteration);
    }
    let mut found = Vec::new();
    for cell in plan
        .cells
        .iter()
        .filter(|cell| cell.iteration == last[&(cell.method.as_str(), cell.size.as_str())])
    {
        for key in &cell.measured_by {
            let Some(path) = store.file(key, ITEMS)? else {
                continue;
            };
            for items in rows::read::<crate::eval::Items>(&path)? {
                let wanted = items
                    .0
                    .into_iter()
                    .filter(|(metric, _)| wanted.contains(metric));
                found.extend(wanted.map(|(metric, values)| ItemValues {
                    method: cell.method.clone(),
                    size: cell.size.clone(),
                    seed: cell.seed,
                    metric: name(&metric),
                    values,
                }));
            }
        }
    }
    Ok(found)
}

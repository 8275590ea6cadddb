//! From finished artifacts to the input of a report: one long table of metrics, costs, what became of every cell.

use super::common::read_json;
use super::evaluate::METRICS;
use super::plan::{Cell, Plan};
use super::{reward, sft};
use crate::Result;
use crate::eval::Measured;
use crate::experiment::{self, Heuristic, Study, Versus};
use crate::pipeline::{Graph, Manifest, StageKey, Store};
use crate::report::{
    Better, CellStatus, Claim, Cost, CostRole, Curve, CurveLine, Header, Layout, MethodRow, Metric, MetricColumn,
    Metrics, ReportInput, SizeLabel, Status, TableKind, TableSpec,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A policy that ends fewer of its responses than this by itself has collapsed.
const COLLAPSED_EOS_RATE: f64 = 0.5;
/// So has one whose gold is below this share of the baseline's under the same seed.
const COLLAPSED_GOLD: f64 = 0.5;

/// Reads what is finished of `plan` in `store`.
pub fn collect(study: &Study, plan: &Plan, store: &Store, device: &str, notes: Vec<String>) -> Result<ReportInput> {
    let mut rows = Vec::new();
    for cell in &plan.cells {
        for key in &cell.measured_by {
            let Some(folder) = store.artifact(key) else { continue };
            let measured: Vec<Measured> = read_json(&folder.join(METRICS))?;
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
    let revisions: BTreeSet<&str> = finished.iter().map(|manifest| manifest.code_revision.as_str()).collect();
    let devices: BTreeSet<&str> = finished.iter().map(|manifest| manifest.device.as_str()).collect();
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
        notes,
    };
    let mut curves = Vec::from_iter(gold_against_kl(study, &rows));
    curves.extend(training_losses(plan, store, sft::KIND, "Loss of supervised fine-tuning")?);
    curves.extend(training_losses(plan, store, reward::KIND, "Loss of reward learning")?);
    let mut input = ReportInput {
        header,
        curves,
        metrics: Metrics::from_rows(rows)?,
        costs: costs(plan, store)?,
        claims: study.claims.iter().flat_map(|claim| claims(claim, study)).collect(),
        layout: layout(study),
        items: Vec::new(),
        ablations: Vec::new(),
    };
    if plan.without_gold {
        keep_measurable(&mut input);
    }
    Ok(input)
}

/// Leaves out what real text cannot have: columns without any value, and claims on them.
fn keep_measurable(input: &mut ReportInput) {
    let mut kept: BTreeSet<String> = input.metrics.rows().iter().map(|row| row.metric.clone()).collect();
    let layout = &mut input.layout;
    if !kept.contains(&layout.primary) {
        layout.primary = name(&experiment::Metric::DemoLogLikelihood);
    }
    // Real text has it, even if no stage that measures it has finished.
    kept.insert(layout.primary.clone());
    layout.metrics.retain(|column| kept.contains(&column.id));
    for table in &mut layout.tables {
        table.metrics.retain(|metric| kept.contains(metric));
    }
    layout.tables.retain(|table| !table.metrics.is_empty());
    input.claims.retain(|claim| kept.contains(&claim.metric));
}

/// The name that a unit variant has in files.
fn name(variant: &impl Serialize) -> String {
    serde_json::to_value(variant).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

// --- What became of every cell ---

/// One status per (method, size, seed) that is a method's; heuristics are measurements, not runs.
fn statuses(study: &Study, plan: &Plan, store: &Store, rows: &[Metric]) -> Vec<CellStatus> {
    let mut cells: BTreeMap<(usize, &str, u64), Vec<&Cell>> = BTreeMap::new();
    for cell in &plan.cells {
        if let Some(order) = study.methods.iter().position(|method| method.id == cell.method) {
            cells.entry((order, &cell.size, cell.seed)).or_default().push(cell);
        }
    }
    cells
        .into_iter()
        .map(|((order, size, seed), iterations)| {
            let method = &study.methods[order].id;
            let wanted: Vec<&StageKey> = iterations.iter().flat_map(|cell| &cell.measured_by).collect();
            let status = if wanted.iter().all(|key| store.is_complete(key)) {
                match collapse(study, method, size, seed, rows) {
                    Some(why) => Status::Collapsed { why },
                    None => Status::Finished,
                }
            } else {
                match wanted.iter().find_map(|key| failure(key, &plan.graph, store)) {
                    Some(error) => Status::Failed { error },
                    None => Status::Missing,
                }
            };
            CellStatus { method: method.clone(), size: size.to_string(), seed, status }
        })
        .collect()
}

/// The error of the first failed stage among `key` and what it is made from.
fn failure(key: &StageKey, graph: &Graph, store: &Store) -> Option<String> {
    let log = store.failure_log(key);
    if !store.is_complete(key) && log.exists() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        return Some(text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_string());
    }
    graph.get(key)?.spec.inputs.values().find_map(|input| failure(input, graph, store))
}

fn collapse(study: &Study, method: &str, size: &str, seed: u64, rows: &[Metric]) -> Option<String> {
    let last = |method: &str, metric: experiment::Metric| {
        let metric = name(&metric);
        rows.iter()
            .filter(|row| row.method == method && row.size == size && row.seed == seed as i64 && row.metric == metric)
            .max_by_key(|row| row.iteration)
            .and_then(|row| row.value)
    };
    let ends = last(method, experiment::Metric::EosRate);
    if let Some(rate) = ends.filter(|rate| *rate < COLLAPSED_EOS_RATE) {
        return Some(format!("only {rate:.2} of its responses end by themselves"));
    }
    let gold = last(method, experiment::Metric::Gold)?;
    let baseline = last(&study.report.baseline, experiment::Metric::Gold)?;
    (method != study.report.baseline && gold < COLLAPSED_GOLD * baseline)
        .then(|| format!("its gold of {gold:.2} is below half of the baseline's {baseline:.2}"))
}

// --- Costs ---

fn costs(plan: &Plan, store: &Store) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for cell in &plan.cells {
        for key in cell.made_by.iter().chain(&cell.measured_by) {
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
                iteration: 0,
                role: CostRole::default(),
                wall_seconds: Some(manifest.wall_seconds),
                cpu_seconds: manifest.cpu_seconds,
                peak_memory_mib: manifest.peak_memory_bytes.map(|bytes| bytes as f64 / (1 << 20) as f64),
                tokens: counted(manifest.tokens as f64),
                flops: counted(manifest.flops),
            });
        }
    }
    Ok(costs)
}

// --- Layout, claims, curves ---

fn layout(study: &Study) -> Layout {
    let report = &study.report;
    let methods = study.methods.iter().map(|method| MethodRow {
        id: method.id.clone(),
        label: method.label.clone(),
        heuristic: false,
        point: false,
    });
    let heuristics = Heuristic::ALL.into_iter().map(|heuristic| MethodRow {
        id: heuristic.name().into(),
        label: heuristic.label().into(),
        heuristic: true,
        point: false,
    });
    Layout {
        baseline: report.baseline.clone(),
        subject: report.subject.clone(),
        methods: methods.chain(heuristics).collect(),
        sizes: study.sizes.iter().map(|(id, model)| SizeLabel { id: id.clone(), label: model.label.clone() }).collect(),
        metrics: report
            .columns
            .iter()
            .map(|column| MetricColumn {
                id: name(&column.metric),
                label: column.label.clone(),
                better: match column.better {
                    experiment::Better::Higher => Better::Higher,
                    experiment::Better::Lower => Better::Lower,
                    experiment::Better::Neither => Better::Neither,
                },
                decimals: column.decimals,
                range: column.range,
            })
            .collect(),
        primary: name(&report.primary),
        tables: report
            .tables
            .iter()
            .map(|table| TableSpec {
                id: table.id.clone(),
                title: table.title.clone(),
                note: None,
                metrics: table.columns.iter().map(name).collect(),
                kind: match table.kind {
                    experiment::TableKind::Policy => TableKind::Policy,
                    experiment::TableKind::Reward => TableKind::Reward,
                    experiment::TableKind::Diagnostics => TableKind::Diagnostics,
                },
            })
            .collect(),
        level: 0.95,
    }
}

/// A declared claim, once if it is about all sizes of the study, else once per size.
fn claims(claim: &experiment::Claim, study: &Study) -> Vec<Claim> {
    let all = study.sizes.iter().all(|(size, _)| claim.sizes.contains(size));
    let sizes = if all { vec![None] } else { claim.sizes.iter().cloned().map(Some).collect() };
    let versus = match &claim.versus {
        Versus::Method(id) => id.clone(),
        Versus::Heuristic(heuristic) => heuristic.name().to_string(),
    };
    let one = |size: Option<String>| Claim {
        id: claim.id.clone(),
        text: claim.text.clone(),
        source: claim.source.clone(),
        metric: name(&claim.metric),
        method: claim.method.clone(),
        versus: versus.clone(),
        size,
        direction: claim.direction,
        threshold: claim.threshold,
        family: claim.family.clone(),
        margin: (claim.margin > 0.0).then_some(claim.margin),
        relative_to: None,
    };
    sizes.into_iter().map(one).collect()
}

/// Gold against distance from the SFT policy, through a method's iterations: does the proxy keep paying?
fn gold_against_kl(study: &Study, rows: &[Metric]) -> Option<Curve> {
    let (gold, kl) = (name(&experiment::Metric::Gold), name(&experiment::Metric::Kl));
    type ByIteration = BTreeMap<i64, [Option<f64>; 2]>;
    let mut points: BTreeMap<(usize, &str, i64), ByIteration> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.metric == gold || row.metric == kl) {
        let Some(order) = study.methods.iter().position(|method| method.id == row.method) else { continue };
        let point = points.entry((order, &row.size, row.seed)).or_default().entry(row.iteration).or_default();
        point[usize::from(row.metric == gold)] = row.value;
    }
    let lines: Vec<CurveLine> = points
        .into_iter()
        .map(|((order, size, seed), points)| CurveLine {
            method: study.methods[order].id.clone(),
            size: size.to_string(),
            seed: seed as u64,
            points: points.into_values().filter_map(|[kl, gold]| Some([kl?, gold?])).collect(),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    (!lines.is_empty()).then(|| Curve {
        id: "gold-against-kl".into(),
        title: "Gold reward against distance from the SFT policy".into(),
        x_label: "KL to SFT (nats per response)".into(),
        y_label: "Gold, sampled".into(),
        lines,
        log_x: false,
        log_y: false,
        bands: false,
        note: String::new(),
    })
}

/// The training loss of the stages of `kind` against the optimiser step. Of a method that iterates, the first iteration.
fn training_losses(plan: &Plan, store: &Store, kind: &str, title: &str) -> Result<Option<Curve>> {
    let mut lines: Vec<CurveLine> = Vec::new();
    for cell in plan.cells.iter().filter(|cell| cell.iteration <= 1) {
        let of_kind = |key: &&StageKey| plan.graph.get(key).is_some_and(|stage| stage.spec.kind == kind);
        let Some(folder) = cell.made_by.iter().find(of_kind).and_then(|key| store.artifact(key)) else { continue };
        let curve: serde_json::Value = read_json(&folder.join("curve.json"))?;
        let losses = curve["loss"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64);
        lines.push(CurveLine {
            method: cell.method.clone(),
            size: cell.size.clone(),
            seed: cell.seed,
            points: losses.enumerate().map(|(step, loss)| [step as f64, loss]).collect(),
        });
    }
    Ok((!lines.is_empty()).then(|| Curve {
        id: format!("{kind}-loss"),
        title: title.into(),
        x_label: "optimiser step".into(),
        y_label: "training loss".into(),
        lines,
        log_x: false,
        log_y: false,
        bands: false,
        note: String::new(),
    }))
}

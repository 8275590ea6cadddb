//! Additional curves of a report: reward against distance, the course of training, Lemma 4.1 beside
//! the observed deviation.

use super::name;
use crate::Result;
use crate::eval::decoding::{Decoding, Decodings};
use crate::eval::likelihood::Deviation;
use crate::experiment::{self, Plane, Study};
use crate::pipeline::{StageKey, Store};
use crate::plan::Plan;
use crate::report::{Curve, CurveLine, Metric};
use crate::stages::Stage;
use crate::stages::common::read_json;
use crate::stages::evaluate::{DECODINGS, Evaluate};
use crate::stages::likelihood::{DEVIATIONS, Likelihood};
use crate::stages::reward::Reward;
use crate::stages::sft::Sft;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn all(
    study: &Study,
    plan: &Plan,
    store: &Store,
    rows: &[Metric],
) -> Result<Vec<Curve>> {
    let mut curves = Vec::new();
    curves.extend(gold_against_kl(study, rows));
    curves.extend(decodings(study, plan, store)?);
    curves.extend(planes(study, rows));
    curves.extend(deviations(study, plan, store)?);
    curves.extend(reward_growth(study, plan, store)?);
    curves.extend(training_losses(
        study,
        plan,
        store,
        Sft::KIND,
        "Loss of supervised fine-tuning",
    )?);
    curves.extend(training_losses(
        study,
        plan,
        store,
        Reward::KIND,
        "Loss of reward learning",
    )?);
    curves.extend(super::tuning::curves(study, plan, store)?);
    Ok(curves)
}

/// The file to which training stages write their losses.
const CURVE: &str = "curve.json";

/// A plain curve with one line per run; `None` if there are no lines.
pub(super) fn curve(
    id: &str,
    title: &str,
    [x_label, y_label]: [&str; 2],
    lines: Vec<CurveLine>,
) -> Option<Curve> {
    (!lines.is_empty()).then(|| Curve {
        id: id.into(),
        title: title.into(),
        x_label: x_label.into(),
        y_label: y_label.into(),
        lines,
        log_x: false,
        log_y: false,
        bands: false,
        note: String::new(),
    })
}

/// Values of two metrics at every (method, size, seed, iteration) that has both.
struct Points<'a>(BTreeMap<(&'a str, &'a str, i64), Vec<[f64; 2]>>);

impl<'a> Points<'a> {
    fn of(rows: &'a [Metric], plane: Plane) -> Self {
        let [x, y] = [plane.x, plane.y].map(|metric| name(&metric));
        type ByIteration = BTreeMap<i64, [Option<f64>; 2]>;
        let mut found: BTreeMap<(&str, &str, i64), ByIteration> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.metric == x || row.metric == y) {
            let point = found
                .entry((&row.method, &row.size, row.seed))
                .or_default()
                .entry(row.iteration)
                .or_default();
            point[usize::from(row.metric == y)] = row.value;
        }
        let whole = |points: ByIteration| {
            points
                .into_values()
                .filter_map(|[x, y]| Some([x?, y?]))
                .collect::<Vec<_>>()
        };
        Self(
            found
                .into_iter()
                .map(|(key, points)| (key, whole(points)))
                .collect(),
        )
    }
}

/// Gold against distance from the SFT policy through a method's iterations, which shows whether
/// optimising the proxy still raises gold.
fn gold_against_kl(study: &Study, rows: &[Metric]) -> Option<Curve> {
    let points = Points::of(
        rows,
        Plane {
            x: experiment::Metric::Kl,
            y: experiment::Metric::Gold,
        },
    );
    let mut lines = Vec::new();
    for method in study.methods.iter().filter(|method| !method.point) {
        let own = points
            .0
            .iter()
            .filter(|((of, ..), points)| *of == method.id && !points.is_empty());
        lines.extend(own.map(|((_, size, seed), points)| CurveLine {
            method: method.id.clone(),
            size: size.to_string(),
            seed: *seed as u64,
            points: points.clone(),
        }));
    }
    let labels = ["KL to SFT (nats per response)", "Gold, sampled"];
    curve(
        "gold-against-kl",
        "Gold reward against distance from the SFT policy",
        labels,
        lines,
    )
}

/// Gold of each method's last policy at every temperature, against its entropy and its distance
/// from the SFT policy there. The curves show whether a method has more gold at equal randomness or
/// is only less random. Each line is one method, through the means over seeds.
fn decodings(study: &Study, plan: &Plan, store: &Store) -> Result<Vec<Curve>> {
    let mut found: BTreeMap<(&str, &str), Vec<Decoding>> = BTreeMap::new();
    for cell in &plan.cells {
        for path in files_of(plan, store, &cell.measured_by, Evaluate::KIND, DECODINGS) {
            let of_run: Decodings = read_json(&path?)?;
            found
                .entry((&cell.method, &cell.size))
                .or_default()
                .extend(of_run.decodings);
        }
    }
    for all in found.values_mut() {
        // The sort is stable: values at one temperature stay in the order of seeds.
        all.sort_by(|a, b| a.temperature.total_cmp(&b.temperature));
    }
    let drawn = |id: &str, title: &str, x_label: &str, x: fn(&Decoding) -> f64| {
        let mut lines = Vec::new();
        for method in study.methods.iter().filter(|method| !method.point) {
            for (size, _) in &study.sizes {
                let Some(all) = found.get(&(method.id.as_str(), size.as_str())) else {
                    continue;
                };
                let mean = |at: &[Decoding], of: &dyn Fn(&Decoding) -> f64| {
                    at.iter().map(of).sum::<f64>() / at.len() as f64
                };
                let by_temperature = all.chunk_by(|a, b| a.temperature == b.temperature);
                let points = by_temperature
                    .map(|at| [mean(at, &x), mean(at, &|at| at.gold)])
                    .collect();
                let seed = study.seeds.first().copied().unwrap_or_default();
                lines.push(CurveLine {
                    method: method.id.clone(),
                    size: size.clone(),
                    seed,
                    points,
                });
            }
        }
        let note = "A line is a method's last policy, from greedy to the highest temperature, in means over seeds.";
        curve(id, title, [x_label, "Gold"], lines).map(|curve| Curve {
            note: note.into(),
            ..curve
        })
    };
    let entropy = (
        "Gold against entropy, over decoding temperatures",
        "entropy of responses at the temperature (nats)",
    );
    let kl = (
        "Gold against distance from the SFT policy, over decoding temperatures",
        "KL to SFT at the temperature (nats)",
    );
    let curves = [
        drawn("gold-against-entropy", entropy.0, entropy.1, |at| {
            at.entropy
        }),
        drawn("gold-against-kl-decoded", kl.0, kl.1, |at| at.kl),
    ];
    Ok(curves.into_iter().flatten().collect())
}

/// The planes that ablations request: for each seed a line through a method's points, in the order
/// of the axis.
fn planes(study: &Study, rows: &[Metric]) -> Vec<Curve> {
    let label = |metric: experiment::Metric| {
        let column = study
            .report
            .columns
            .iter()
            .find(|column| column.metric == metric);
        column.map_or_else(|| name(&metric), |column| column.label.clone())
    };
    let of = |ablation: &experiment::Ablation| {
        let plane = ablation.plane?;
        let points = Points::of(rows, plane);
        let mut lines = Vec::new();
        for line in &ablation.lines {
            for (size, _) in &study.sizes {
                for &seed in &study.seeds {
                    let at = |point: &experiment::Point| {
                        points
                            .0
                            .get(&(&point.method, size, seed as i64))
                            .and_then(|points| points.last())
                            .copied()
                    };
                    let points: Vec<[f64; 2]> = line.points.iter().filter_map(at).collect();
                    if !points.is_empty() {
                        lines.push(CurveLine {
                            method: line.method.clone(),
                            size: size.clone(),
                            seed,
                            points,
                        });
                    }
                }
            }
        }
        let (x, y) = (label(plane.x), label(plane.y));
        let title = format!("{y} against {x}, by {}", ablation.axis);
        let note = format!(
            "A line is a seed, through the points of \"{}\" in the order of its axis.",
            ablation.title
        );
        let curve = curve(&format!("{}-plane", ablation.id), &title, [&x, &y], lines)?;
        Some(Curve { note, ..curve })
    };
    study.ablations.iter().filter_map(of).collect()
}

/// The bound of Lemma 4.1 and related bounds beside the observed deviation, against the number of
/// demonstrations.
fn deviations(study: &Study, plan: &Plan, store: &Store) -> Result<Option<Curve>> {
    /// The name of a line, and the function that reads its values.
    type Shown = (&'static str, fn(&Deviation) -> f64);
    const LINES: [Shown; 6] = [
        ("Lemma 4.1, as stated", |at| at.as_stated),
        ("empirical Bernstein", |at| at.bernstein),
        ("without the term that the reward does not move", |at| {
            at.without_fixed
        }),
        ("the same, empirical Bernstein", |at| {
            at.without_fixed_bernstein
        }),
        ("observed", |at| at.observed),
        ("observed, without that term", |at| {
            at.observed_without_fixed
        }),
    ];
    let mut lines = Vec::new();
    for cell in &plan.cells {
        for path in files_of(plan, store, &cell.measured_by, Likelihood::KIND, DEVIATIONS) {
            let found: Vec<Deviation> = read_json(&path?)?;
            lines.extend(LINES.map(|(label, value)| CurveLine {
                method: label.into(),
                size: cell.size.clone(),
                seed: cell.seed,
                points: found.iter().map(|at| [at.n as f64, value(at)]).collect(),
            }));
        }
    }
    let labels = ["demonstrations", "deviation, in SDs of the reward"];
    let title =
        "Lemma 4.1: bounds on how far the surrogate may be from the likelihood, and how far it is";
    let Some(curve) = curve("likelihood-deviation", title, labels, lines) else {
        return Ok(None);
    };
    let note = format!(
        "Each bound holds with probability {}; observed is the deviation that as \
         large a share of draws of so many fresh demonstrations stay below. The reward and its policy are the last of the \
         method under study.",
        1.0 - study.shared.evaluation.likelihood_delta
    );
    Ok(Some(Curve {
        log_x: true,
        log_y: true,
        bands: true,
        note,
        ..curve
    }))
}

/// The spread of rewards: the mean of |r| against the optimiser step, in the first iteration, for
/// the ablations that request it.
fn reward_growth(study: &Study, plan: &Plan, store: &Store) -> Result<Vec<Curve>> {
    /// Points of a line; longer curves are averaged down to this many.
    const POINTS: usize = 40;
    let mut curves = Vec::new();
    for ablation in study.ablations.iter().filter(|ablation| ablation.growth) {
        let mut lines = Vec::new();
        for point in ablation.lines.iter().flat_map(|line| &line.points) {
            for cell in plan.cells.iter().filter(|cell| cell.method == point.method) {
                // If there are several rewards, the first belongs to the first iteration.
                let mut found = files_of(plan, store, &cell.made_by, Reward::KIND, CURVE);
                let Some(path) = found.next().transpose()? else {
                    continue;
                };
                let curve: Value = read_json(&path)?;
                let values = numbers(&curve["magnitude"]);
                let width = values.len().div_ceil(POINTS).max(1);
                let points = values.chunks(width).enumerate().map(|(index, part)| {
                    let mean = part.iter().sum::<f64>() / part.len() as f64;
                    [(index * width) as f64 + (part.len() - 1) as f64 / 2.0, mean]
                });
                lines.push(CurveLine {
                    method: point.label.clone(),
                    size: cell.size.clone(),
                    seed: cell.seed,
                    points: points.collect(),
                });
            }
        }
        let title = format!("How rewards grow in training, by {}", ablation.axis);
        let labels = ["optimiser step", "mean |r| of a step's responses"];
        let note = "First iteration, before normalisation.".into();
        let drawn = curve(&format!("{}-growth", ablation.id), &title, labels, lines);
        curves.extend(drawn.map(|curve| Curve {
            log_y: true,
            bands: true,
            note,
            ..curve
        }));
    }
    Ok(curves)
}

/// The training loss of the stages of `kind` against the optimiser step; for methods that iterate,
/// of the first iteration.
fn training_losses(
    study: &Study,
    plan: &Plan,
    store: &Store,
    kind: &str,
    title: &str,
) -> Result<Option<Curve>> {
    let mut lines: Vec<CurveLine> = Vec::new();
    let points: Vec<&str> = study
        .methods
        .iter()
        .filter(|method| method.point)
        .map(|method| method.id.as_str())
        .collect();
    for cell in plan
        .cells
        .iter()
        .filter(|cell| cell.iteration <= 1 && !points.contains(&cell.method.as_str()))
    {
        let Some(path) = files_of(plan, store, &cell.made_by, kind, CURVE)
            .next()
            .transpose()?
        else {
            continue;
        };
        let curve: Value = read_json(&path)?;
        lines.push(CurveLine {
            method: cell.method.clone(),
            size: cell.size.clone(),
            seed: cell.seed,
            points: numbers(&curve["loss"])
                .into_iter()
                .enumerate()
                .map(|(step, loss)| [step as f64, loss])
                .collect(),
        });
    }
    Ok(curve(
        &format!("{kind}-loss"),
        title,
        ["optimiser step", "training loss"],
        lines,
    ))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect()
}

/// The files `name` of the finished stages of `kind` among `keys`, in their order.
pub(super) fn files_of<'a>(
    plan: &'a Plan,
    store: &'a Store,
    keys: &'a [StageKey],
    kind: &'a str,
    name: &'a str,
) -> impl Iterator<Item = Result<std::path::PathBuf>> + 'a {
    let of_kind = move |key: &&StageKey| {
        plan.graph
            .get(key)
            .is_some_and(|stage| stage.spec.kind == kind)
    };
    keys.iter()
        .filter(of_kind)
        .filter_map(|key| store.file(key, name).transpose())
}

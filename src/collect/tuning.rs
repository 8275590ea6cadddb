//! Trials and choices of searches, read from their traces.

use super::curves::{curve, files_of};
use crate::Result;
use crate::experiment::Study;
use crate::methods::tune::{Candidate, Choice, Trial};
use crate::pipeline::{StageKey, Store};
use crate::plan::{Cell, Plan};
use crate::report::{Curve, CurveLine, Tuning};
use crate::stages::Stage;
use crate::stages::common::read_json;
use crate::stages::sft::Sft;
use crate::stages::tune::{CHOSEN, Method, TRACE, Trace, Tune};
use std::collections::{BTreeMap, BTreeSet};

/// A finished search that chose values for a cell: its stage, the training it served, its trace and
/// its choice.
struct Search {
    key: StageKey,
    stage: Tune,
    trace: Trace,
    choice: Choice,
}

/// Finds a cell's own search: the last one among the stages that made the cell. An earlier one made
/// the policy it starts from.
fn search(plan: &Plan, store: &Store, cell: &Cell) -> Result<Option<Search>> {
    let tunes = |key: &&StageKey| {
        plan.graph
            .get(key)
            .is_some_and(|stage| stage.spec.kind == Tune::KIND)
    };
    let Some(key) = cell.made_by.iter().rfind(tunes) else {
        return Ok(None);
    };
    let paths = [TRACE, CHOSEN].map(|name| {
        files_of(plan, store, std::slice::from_ref(key), Tune::KIND, name)
            .next()
            .transpose()
    });
    let [trace, choice] = paths;
    let (Some(trace), Some(choice), Some(planned)) = (trace?, choice?, plan.graph.get(key)) else {
        return Ok(None);
    };
    let settings = planned.spec.settings.clone();
    let stage = serde_json::from_value(settings).map_err(|cause| {
        crate::Error::store(format!(
            "the settings of `{}` are not those of a search",
            planned.label
        ))
        .caused_by(cause)
    })?;
    Ok(Some(Search {
        key: *key,
        stage,
        trace: read_json(&trace)?,
        choice: read_json(&choice)?,
    }))
}

impl Search {
    /// The peak learning rate of a candidate, its own or the method's.
    fn rate(&self, candidate: &Candidate) -> f64 {
        candidate.learning_rate.unwrap_or(match &self.stage.method {
            Method::Sft(settings) => settings.optimiser.learning_rate,
            Method::IqLearn(settings) => settings.optimiser.learning_rate,
            Method::Dpo(settings) => settings.optimiser.learning_rate,
        })
    }

    fn lambda(&self, candidate: &Candidate) -> Option<f32> {
        candidate.lambda.or(match &self.stage.method {
            Method::IqLearn(settings) => Some(settings.lambda),
            Method::Sft(_) | Method::Dpo(_) => None,
        })
    }
}

/// True if the cell is SFT as long as another method, so that the search does not choose its
/// epochs.
fn own_epochs(plan: &Plan, cell: &Cell) -> bool {
    let mut trained = cell
        .made_by
        .iter()
        .filter_map(|key| plan.graph.get(key))
        .filter(|stage| stage.spec.kind == Sft::KIND);
    trained
        .next_back()
        .is_some_and(|stage| stage.spec.settings["own_epochs"] == serde_json::json!(true))
}

/// The choice for every cell whose epochs were chosen by a search.
pub(super) fn tunings(plan: &Plan, store: &Store) -> Result<Vec<Tuning>> {
    let mut found = Vec::new();
    for cell in plan.cells.iter().filter(|cell| !own_epochs(plan, cell)) {
        let Some(search) = search(plan, store, cell)? else {
            continue;
        };
        let settings = &search.choice.settings;
        found.push(Tuning {
            method: cell.method.clone(),
            size: cell.size.clone(),
            seed: cell.seed,
            section: search.trace.method.clone(),
            epochs: settings.epochs,
            learning_rate: search.rate(settings),
            // Parsed from the shortest decimal form, to keep the digits that the file shows.
            lambda: search
                .lambda(settings)
                .and_then(|lambda| lambda.to_string().parse().ok()),
            held_out_log_likelihood: search.choice.held_out_log_likelihood,
            edges: search.choice.edges.clone(),
            tried: search.trace.trials.len(),
            failed: search
                .trace
                .trials
                .iter()
                .filter(|trial| trial.failure.is_some())
                .count(),
        });
    }
    Ok(found)
}

/// The held-out likelihood against the epochs: one curve for each method with its own search, one
/// line for each learning rate (and λ).
pub(super) fn curves(study: &Study, plan: &Plan, store: &Store) -> Result<Vec<Curve>> {
    let (mut shown, mut drawn) = (BTreeSet::new(), Vec::new());
    for method in study.methods.iter().filter(|method| !method.point) {
        let mut lines = Vec::new();
        for cell in plan.cells.iter().filter(|cell| cell.method == method.id) {
            let Some(search) = search(plan, store, cell)? else {
                continue;
            };
            if !shown.insert(search.key) {
                continue;
            }
            let mut by_line: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
            for Trial {
                settings,
                held_out_log_likelihood,
                ..
            } in &search.trace.trials
            {
                let mut label = format!("rate {:e}", search.rate(settings));
                if let Some(lambda) = search.lambda(settings) {
                    label += &format!(", λ {lambda}");
                }
                let line = by_line.entry(label).or_default();
                line.extend(
                    held_out_log_likelihood.map(|likelihood| [settings.epochs as f64, likelihood]),
                );
            }
            let (size, seed) = (&cell.size, cell.seed);
            let line = |(method, points)| CurveLine {
                method,
                size: size.clone(),
                seed,
                points,
            };
            lines.extend(
                by_line
                    .into_iter()
                    .filter(|(_, points)| !points.is_empty())
                    .map(line),
            );
        }
        let title = format!(
            "Held-out log-likelihood of demonstrations by epochs: {}",
            method.label
        );
        let labels = ["epochs", "log-likelihood (nats per response)"];
        let note = "Candidates of the search that chose epochs and learning rate, trained without the demonstrations that are held \
                    out. A line ends where the likelihood has fallen, so its last points are of fewer seeds."
            .into();
        let curve = curve(&format!("tuning-{}", method.id), &title, labels, lines);
        drawn.extend(curve.map(|curve| Curve {
            log_x: true,
            bands: true,
            note,
            ..curve
        }));
    }
    Ok(drawn)
}

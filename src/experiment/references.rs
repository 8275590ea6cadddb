//! Names in an experiment file that refer to other parts of it: each must be declared, once, and
//! fit its use.

use super::ablation::Declared;
use super::claim::{Claim, Direction, RawClaim, Role, Versus};
use super::decode::suggestion;
use super::file::Experiment;
use super::hyper::ModelSettings;
use super::layout::Better;
use super::recipe::RecipeChoice;
use super::seeds::{SeedChoice, check as check_seeds};
use super::tree::{Node, Span, Value};
use super::vocabulary::Heuristic;
use crate::data::hub::Source;
use crate::device::hardware::Hardware;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Claims with their references read; a claim that names no sizes is about all of them. Margins
/// given as shares are shares of `gap`.
///
/// # Errors
/// A claim with no margin or with two, or with a share of a gap that is not declared; `document` is
/// the tree they were read from.
pub(super) fn claims(
    raw: Vec<RawClaim>,
    models: &BTreeMap<String, ModelSettings>,
    gap: Option<f64>,
    document: &Node,
) -> Result<Vec<Claim>> {
    let typed = |(index, raw): (usize, RawClaim)| {
        let node = item(document, "claim", index);
        let margin = match (raw.margin, raw.margin_share, gap) {
            (Some(margin), None, _) => margin,
            // Rounded as it would be written: a product of decimals has spurious digits.
            (None, Some(share), Some(gap)) => (share * gap * 1e6).round() / 1e6,
            (None, Some(_), None) => {
                let error = place(node, "margin_share")
                    .error("there is no gap of which the margin could be a share");
                return Err(error.hint("declare `gap.default`, or `gap.<name of the study>`, in the claim file, or give the margin in units of the metric"));
            }
            _ => {
                return Err(node
                    .place
                    .error("a claim has one margin: `margin` or `margin_share`"));
            }
        };
        Ok(claim(raw, margin, models))
    };
    raw.into_iter().enumerate().map(typed).collect()
}

fn claim(raw: RawClaim, margin: f64, models: &BTreeMap<String, ModelSettings>) -> Claim {
    Claim {
        id: raw.id,
        text: raw.text,
        source: raw.source,
        metrics: raw.metrics,
        method: raw.method,
        versus: Heuristic::from_name(&raw.versus)
            .map_or(Versus::Method(raw.versus), Versus::Heuristic),
        relative_to: raw.relative_to,
        sizes: if raw.sizes.is_empty() {
            models.keys().cloned().collect()
        } else {
            raw.sizes
        },
        direction: raw.direction,
        threshold: raw.threshold,
        role: raw.role,
        margin,
        margin_reason: raw.margin_reason,
        sd: raw.sd,
    }
}

/// Checks every name of `experiment`; `document` is the tree it was read from.
pub(super) fn check(experiment: &Experiment, document: &Node) -> Result<()> {
    identifier(&experiment.name, "name", place(document, "name"))?;
    sizes(experiment, document)?;
    methods(experiment)?;
    ablations(experiment)?;
    profiles(experiment)?;
    scales(experiment)?;
    seeds(experiment, document)?;
    for (index, claim) in experiment.claims.iter().enumerate() {
        let node = item(document, "claim", index);
        if claim.role == Role::Primary
            && experiment
                .registered
                .is_some_and(|registered| index >= registered)
        {
            let error = place(node, "role").error(format!(
                "the primary claim `{}` is not registered",
                claim.id
            ));
            return Err(
                error.hint("move it to the claim file of [registration], or make it exploratory")
            );
        }
        let earlier = experiment.claims[..index]
            .iter()
            .map(|claim| claim.id.as_str());
        unique(&claim.id, earlier, "claim", place(node, "id"))?;
        check_claim(experiment, claim, node)?;
    }
    report(experiment, document.at("report").unwrap_or(document))
}

fn sizes(experiment: &Experiment, document: &Node) -> Result<()> {
    let table = document.at("models").and_then(Node::table);
    table.into_iter().flatten().try_for_each(|(size, entry)| {
        let Some(model) = experiment.models.get(size) else {
            return Ok(());
        };
        // A version's dot, as in 2.8b, is treated as a hyphen.
        identifier(&size.replace('.', "-"), "name of a size", &entry.key)?;
        match model.checkpoint.as_ref().map(Source::parse) {
            Some(Err(error)) => Err(pointed(error, place(&entry.node, "checkpoint"))),
            _ => Ok(()),
        }
    })
}

fn methods(experiment: &Experiment) -> Result<()> {
    for (index, method) in experiment.methods.iter().enumerate() {
        let (id, at) = (&method.own.id, place(&method.node, "id"));
        identifier(id, "id of a method", at)?;
        unique(
            id,
            experiment.methods[..index]
                .iter()
                .map(|method| method.own.id.as_str()),
            "method",
            at,
        )?;
        if Heuristic::from_name(id).is_some() {
            return Err(at
                .error(format!("`{id}` is the name of a heuristic"))
                .hint("claims could not tell them apart"));
        }
        if let RecipeChoice::Written(recipe) = &method.own.recipe
            && let Some((fault, remedy)) = recipe.fault()
        {
            let at = place(&method.node, "recipe");
            return Err(at.error(fault).hint(remedy));
        }
    }
    Ok(())
}

fn ablations(experiment: &Experiment) -> Result<()> {
    let all: Vec<&str> = experiment
        .all_methods()
        .map(|method| method.own.id.as_str())
        .collect();
    for (index, declared) in experiment.ablations.iter().enumerate() {
        let (ablation, node) = (&declared.ablation, &declared.node);
        let at = place(node, "id");
        identifier(&ablation.id, "id of an ablation", at)?;
        unique(
            &ablation.id,
            ablation_ids(&experiment.ablations[..index]),
            "ablation",
            at,
        )?;
        let scales: Vec<_> = experiment.scales.keys().map(String::as_str).collect();
        for scale in declared.scales() {
            known(scale, &scales, "scale", place(node, "values_at"))?;
        }
        for point in &declared.points {
            let same = all.iter().filter(|id| **id == point.own.id).count();
            if same > 1 {
                return Err(at.error(format!(
                    "two methods or points of ablations are called `{}`",
                    point.own.id
                )));
            }
        }
        if let Some(against) = &ablation.against {
            known(
                against,
                &method_ids(experiment),
                "method",
                place(node, "against"),
            )?;
        }
        let shown = |metric| {
            experiment
                .report
                .columns
                .iter()
                .any(|column| column.metric == metric)
        };
        let plane = ablation.plane.iter().flat_map(|plane| [plane.x, plane.y]);
        if !ablation.metrics.iter().copied().chain(plane).all(shown) {
            return Err(undeclared(place(node, "metrics")));
        }
        if ablation.metrics.is_empty() {
            return Err(place(node, "metrics").error("an ablation shows at least one metric"));
        }
    }
    Ok(())
}

fn ablation_ids(ablations: &[Declared]) -> impl Iterator<Item = &str> {
    ablations
        .iter()
        .map(|declared| declared.ablation.id.as_str())
}

fn profiles(experiment: &Experiment) -> Result<()> {
    let ablations: Vec<_> = ablation_ids(&experiment.ablations).collect();
    let sizes: Vec<_> = experiment.models.keys().map(String::as_str).collect();
    for profile in experiment.profiles.values() {
        known_items(
            &profile.own.sizes,
            &sizes,
            "size",
            place(&profile.node, "sizes"),
        )?;
        let chosen = profile.own.methods.as_deref().unwrap_or_default();
        known_items(
            chosen,
            &method_ids(experiment),
            "method",
            place(&profile.node, "methods"),
        )?;
        let chosen = profile.own.ablations.as_deref().unwrap_or_default();
        known_items(
            chosen,
            &ablations,
            "ablation",
            place(&profile.node, "ablations"),
        )?;
    }
    Ok(())
}

fn scales(experiment: &Experiment) -> Result<()> {
    let models: Vec<_> = experiment.models.keys().map(String::as_str).collect();
    for scale in experiment.scales.values() {
        known_items(
            scale.own.sizes.as_deref().unwrap_or_default(),
            &models,
            "size",
            place(&scale.node, "sizes"),
        )?;
        // A file that extends another may replace the methods that a scale of that one names.
        let at = place(&scale.node, "methods");
        let mut methods = experiment.methods.iter();
        if methods.any(|method| method.node.place.is_in_file_of(at)) {
            known_items(
                scale.own.methods.as_deref().unwrap_or_default(),
                &method_ids(experiment),
                "method",
                at,
            )?;
        }
        if let Some(target) = &scale.own.target {
            known(
                target,
                &Hardware::names(),
                "hardware",
                place(&scale.node, "target"),
            )?;
        }
        let Some(data) = &scale.own.data else {
            continue;
        };
        let at = |key: &str| place(scale.node.at("data").unwrap_or(&scale.node), key);
        data.check()
            .map_err(|(key, error)| pointed(error, at(key)))?;
        for (key, name) in data.models() {
            known(name, &models, "model", at(key))?;
            if experiment.models[name].checkpoint.is_none() {
                return Err(at(key).error(format!(
                    "model `{name}` has no `checkpoint` to be read from"
                )));
            }
        }
    }
    Ok(())
}

fn seeds(experiment: &Experiment, document: &Node) -> Result<()> {
    let at = document.at("seeds").unwrap_or(document);
    let located = |seeds: &[u64], node: &Node| {
        check_seeds(seeds).map_err(|message| node.place.error(message))
    };
    located(&experiment.seeds.default, at.at("default").unwrap_or(at))?;
    for (name, seeds) in &experiment.seeds.presets {
        located(seeds, at.at(&format!("presets.{name}")).unwrap_or(at))?;
    }
    for profile in experiment.profiles.values() {
        let at = place(&profile.node, "seeds");
        if let SeedChoice::Preset(name) = &profile.own.seeds {
            let presets: Vec<_> = experiment
                .seeds
                .presets
                .keys()
                .map(String::as_str)
                .collect();
            known(name, &presets, "preset of seeds", at)?;
        }
        experiment
            .seeds
            .choose(&profile.own.seeds)
            .map_err(|error| at.error(error.to_string()))?;
    }
    Ok(())
}

fn check_claim(experiment: &Experiment, claim: &Claim, node: &Node) -> Result<()> {
    let ids: Vec<&str> = experiment
        .all_methods()
        .map(|method| method.own.id.as_str())
        .collect();
    known(&claim.method, &ids, "method", place(node, "method"))?;
    if let Some(relative_to) = &claim.relative_to {
        for (key, id) in [
            ("method", &relative_to.method),
            ("versus", &relative_to.versus),
        ] {
            known(
                id,
                &ids,
                "method",
                place(node.at("relative_to").unwrap_or(node), key),
            )?;
        }
    }
    known_items(
        &claim.sizes,
        &experiment
            .models
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>(),
        "size",
        place(node, "sizes"),
    )?;
    if claim.metrics.is_empty() {
        return Err(place(node, "metrics").error("the claim names no metric"));
    }
    for (index, metric) in claim.metrics.iter().enumerate() {
        if claim.metrics[..index].contains(metric) {
            return Err(place(node, "metrics").error("the claim names a metric twice"));
        }
    }
    let shown = |metric: &_| {
        experiment
            .report
            .columns
            .iter()
            .any(|column| column.metric == *metric)
    };
    if !claim.metrics.iter().all(shown) {
        return Err(undeclared(place(node, "metrics")));
    }
    let of_reward = claim.metrics.iter().any(|metric| metric.of_reward());
    let learns = |id: &str| {
        experiment
            .all_methods()
            .any(|method| method.own.id == id && method.own.recipe.learns_reward())
    };
    let no_reward = |id: &str, key| {
        let message = format!(
            "a metric of the claim is one of learned rewards, and method `{id}` learns none"
        );
        Err(place(node, key).error(message))
    };
    if of_reward && !learns(&claim.method) {
        return no_reward(&claim.method, "method");
    }
    match &claim.versus {
        Versus::Method(id) => {
            let names: Vec<_> = ids
                .iter()
                .copied()
                .chain(Heuristic::ALL.map(Heuristic::name))
                .collect();
            known(id, &names, "method or heuristic", place(node, "versus"))?;
            if *id == claim.method {
                return Err(
                    place(node, "versus").error(format!("the claim compares `{id}` with itself"))
                );
            }
            if of_reward && !learns(id) {
                return no_reward(id, "versus");
            }
        }
        Versus::Heuristic(_) if claim.metrics.iter().all(|metric| metric.ranks_pairs()) => {}
        Versus::Heuristic(heuristic) => {
            let message = format!(
                "`{}` ranks pairs, which a metric of the claim does not measure",
                heuristic.name()
            );
            let hint = "compare with a heuristic on preference_accuracy or on_policy_accuracy";
            return Err(place(node, "versus").error(message).hint(hint));
        }
    }
    check_direction(experiment, claim, node)
}

fn check_direction(experiment: &Experiment, claim: &Claim, node: &Node) -> Result<()> {
    let improves = |metric| {
        let column = experiment
            .report
            .columns
            .iter()
            .find(|column| column.metric == metric);
        column.is_some_and(|column| column.better == Better::Higher)
    };
    if claim.direction == Direction::NotWorse && !claim.metrics.iter().copied().all(improves) {
        let message =
            "`not_worse` needs metrics of which more is better, by their [[report.column]]";
        let hint = "for a metric of which less is better, exchange method and versus";
        return Err(place(node, "direction").error(message).hint(hint));
    }
    let expected = match claim.direction {
        Direction::Equivalent if claim.margin <= 0.0 => "above 0, or nothing would be equivalent",
        Direction::NotWorse if claim.margin <= 0.0 => {
            "above 0, or nothing would be small enough not to matter"
        }
        _ if claim.margin < 0.0 => "0 or more",
        _ => return Ok(()),
    };
    Err(place(node, "margin").error(format!("the margin must be {expected}")))
}

fn report(experiment: &Experiment, node: &Node) -> Result<()> {
    let report = &experiment.report;
    let ids = method_ids(experiment);
    known(&report.baseline, &ids, "method", place(node, "baseline"))?;
    known(
        &report.under_study,
        &ids,
        "method",
        place(node, "under_study"),
    )?;
    let shown = |metric| report.columns.iter().any(|column| column.metric == metric);
    if !shown(report.primary) {
        return Err(undeclared(place(node, "primary")));
    }
    for (index, column) in report.columns.iter().enumerate() {
        if report.columns[..index]
            .iter()
            .any(|earlier| earlier.metric == column.metric)
        {
            return Err(place(item(node, "column", index), "metric")
                .error("the metric has a column already"));
        }
        if column.range.is_some_and(|[low, high]| low >= high) {
            return Err(
                place(item(node, "column", index), "range").error("a range is [lowest, highest]")
            );
        }
    }
    for (index, table) in report.tables.iter().enumerate() {
        let at = item(node, "table", index);
        unique(
            &table.id,
            report.tables[..index].iter().map(|table| table.id.as_str()),
            "table",
            place(at, "id"),
        )?;
        if !table.columns.iter().all(|metric| shown(*metric)) {
            return Err(undeclared(place(at, "columns")));
        }
    }
    for (index, number) in report.published.iter().enumerate() {
        let at = item(node, "published", index);
        known(&number.method, &ids, "method", place(at, "method"))?;
        if !shown(number.metric) {
            return Err(undeclared(place(at, "metric")));
        }
    }
    Ok(())
}

fn undeclared(at: &Span) -> Error {
    at.error("the metric is not among the report's columns")
        .hint("declare it in a table [[report.column]]")
}

fn method_ids(experiment: &Experiment) -> Vec<&str> {
    experiment
        .methods
        .iter()
        .map(|method| method.own.id.as_str())
        .collect()
}

/// True if `name` may become part of file names and URLs.
pub fn is_identifier(name: &str) -> bool {
    let plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !name.is_empty() && name.chars().all(plain)
}

/// Checks a name that becomes part of file names and URLs.
fn identifier(name: &str, what: &str, at: &Span) -> Result<()> {
    if is_identifier(name) {
        return Ok(());
    }
    Err(at.error(format!(
        "the {what} must be lower-case letters, digits and hyphens, but is `{name}`"
    )))
}

fn unique<'a>(
    name: &str,
    mut earlier: impl Iterator<Item = &'a str>,
    what: &str,
    at: &Span,
) -> Result<()> {
    match earlier.any(|other| other == name) {
        true => Err(at.error(format!("another {what} is called `{name}` already"))),
        false => Ok(()),
    }
}

fn known(name: &str, all: &[&str], what: &str, at: &Span) -> Result<()> {
    match all.contains(&name) {
        true => Ok(()),
        false => Err(at
            .error(format!("no {what} is called `{name}`"))
            .hint(suggestion(name, all.iter().copied()))),
    }
}

fn known_items(names: &[String], all: &[&str], what: &str, at: &Span) -> Result<()> {
    names.iter().try_for_each(|name| known(name, all, what, at))
}

/// The same error, including its hint, pointing at a place.
fn pointed(error: Error, at: &Span) -> Error {
    let hint = miette::Diagnostic::help(&error)
        .map(|hint| hint.to_string())
        .unwrap_or_default();
    at.error(error.to_string()).hint(hint)
}

/// The place of the value of `key` in a table, or of the table itself.
fn place<'a>(node: &'a Node, key: &str) -> &'a Span {
    &node.at(key).unwrap_or(node).place
}

/// Item `index` of the list `key` in a table, or the table itself.
fn item<'a>(node: &'a Node, key: &str, index: usize) -> &'a Node {
    match node.at(key).map(|list| &list.value) {
        Some(Value::Array(items)) => items.get(index).unwrap_or(node),
        _ => node,
    }
}

//! Keys, labels and estimates of every shipped experiment, at every scale and profile.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use touchstone::device::hardware::BackendProfile;
use touchstone::experiment::{Experiment, SHIPPED, Selection};
use touchstone::pipeline::{Graph, PlannedStage};
use touchstone::plan::{LocalData, Plan, RowFile, bases};

/// A changed line means new keys or new estimates of a kind; look first at the kind that comes
/// first in a study.
#[test]
fn shipped_experiments_are_planned_as_they_were() {
    for (name, _) in SHIPPED {
        let experiment = Experiment::load(name).unwrap();
        let mut text = String::new();
        for scale in experiment.scales() {
            for profile in experiment
                .profiles()
                .filter(|profile| (*profile == "local") == (scale == "local"))
            {
                let planned = planned(&experiment, scale, profile)
                    .unwrap_or_else(|error| format!("{error}\n"));
                writeln!(text, "scale {scale}, profile {profile}: {planned}").unwrap();
            }
        }
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_bases_that_come_with_touchstone_are_made_as_they_were() {
    let (graph, _) = bases(
        &Experiment::load("tldr")
            .unwrap()
            .resolve(&Selection::default())
            .unwrap(),
    )
    .unwrap();
    insta::assert_snapshot!("bases", keys(&graph.iter().collect::<Vec<_>>()));
}

fn planned(experiment: &Experiment, scale: &str, profile: &str) -> touchstone::Result<String> {
    let study = experiment.resolve(&Selection {
        scale: scale.into(),
        profile: profile.into(),
        ..Selection::default()
    })?;
    let local = (scale == "local").then(|| LocalData {
        demonstrations: RowFile {
            file: PathBuf::from("/posts.jsonl"),
            blake3: "1".repeat(64),
            rows: 100,
        },
        preferences: None,
        task: study.task.clone(),
        tokenizer: PathBuf::from("/tokenizer"),
        tokenizer_blake3: "2".repeat(64),
        vocabulary: 500,
        texts: None,
    });
    Ok(summary(&Plan::new(&study, local.as_ref())?))
}

/// Two hashes of the whole plan, then shortened ones of each kind.
fn summary(plan: &Plan) -> String {
    let all = sorted(&plan.graph);
    let mut text = format!(
        "{} stages\n  keys {}\n  rest {}\n",
        all.len(),
        keys(&all),
        rest(plan, &all)
    );
    let mut kinds: BTreeMap<&str, Vec<&PlannedStage>> = BTreeMap::new();
    for stage in all {
        kinds.entry(&stage.spec.kind).or_default().push(stage);
    }
    for (kind, stages) in kinds {
        let (keys, rest) = (keys(&stages), rest(plan, &stages));
        writeln!(
            text,
            "  {kind:18} {:5}  {}  {}",
            stages.len(),
            &keys[..12],
            &rest[..12]
        )
        .unwrap();
    }
    text
}

fn sorted(graph: &Graph) -> Vec<&PlannedStage> {
    let mut stages: Vec<&PlannedStage> = graph.iter().collect();
    stages.sort_by_key(|stage| stage.key);
    stages
}

fn keys(stages: &[&PlannedStage]) -> String {
    let text: Vec<String> = stages.iter().map(|stage| stage.key.to_string()).collect();
    blake3::hash(text.join("\n").as_bytes())
        .to_hex()
        .to_string()
}

/// Hash of labels and estimates; numbers have ten digits, since the order of a sum may change.
fn rest(plan: &Plan, stages: &[&PlannedStage]) -> String {
    let line = |stage: &&PlannedStage| {
        let work = plan.work(&stage.key);
        let memory = [1, 16, 1024].map(|rows| work.memory(rows, BackendProfile::FLEX).total());
        let numbers = [
            stage.cost,
            work.tokens,
            work.flops,
            work.steps,
            work.written_model(),
        ];
        let numbers: Vec<String> = numbers
            .iter()
            .chain(&memory)
            .map(|number| format!("{number:.9e}"))
            .collect();
        format!("{} {} {}\n", stage.key, stage.label, numbers.join(" "))
    };
    blake3::hash(stages.iter().map(line).collect::<String>().as_bytes())
        .to_hex()
        .to_string()
}

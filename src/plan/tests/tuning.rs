//! Tests of searches and of lengths that are taken from another method.

use super::super::*;
use super::{at_scale, inputs, study, with};
use crate::experiment::{AsLongAs, Experiment, Selection, Unit};
use crate::stages::Stage;
use crate::stages::bundled::Bundled;
use crate::stages::sft::Sft;
use crate::stages::spin::Spin;
use crate::stages::tune::Tune;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const UNTUNED: [&str; 3] = ["sft.tuning=none", "iq_learn.tuning=none", "dpo.tuning=none"];

#[test]
fn every_search_starts_from_a_policy_that_has_not_seen_what_it_holds_out() {
    // Once with a search for SFT, and once with a search made only for IQ-Learn and DPO.
    for (set, own) in [(&[][..], false), (&UNTUNED[..1], true)] {
        let plan = Plan::new(&with("tldr-ablations", set), None).unwrap();
        let searches = plan
            .graph
            .iter()
            .filter(|stage| stage.spec.kind == Tune::KIND);
        let (mut sft, mut behind) = (0, 0);
        for stage in searches {
            let inputs = inputs(&plan, stage);
            match inputs.get("policy") {
                Some(kind) => {
                    assert_eq!(*kind, Tune::KIND, "{}", stage.label);
                    behind += 1;
                }
                None => {
                    assert_eq!(
                        inputs.keys().collect::<Vec<_>>(),
                        [&"base", &"demonstrations"],
                        "{}",
                        stage.label
                    );
                    sft += 1;
                }
            }
        }
        assert!(sft > 4 && behind > 10, "{sft} and {behind}");
        let making = |method: &str| -> Vec<&str> {
            let cell = plan
                .cells
                .iter()
                .find(|cell| cell.method == method)
                .unwrap();
            cell.made_by
                .iter()
                .map(|key| plan.graph.get(key).unwrap().spec.kind.as_str())
                .collect()
        };
        // A search is among the stages that make its method; the search for SFT is shared as SFT
        // is.
        assert_eq!(
            making("sft"),
            if own {
                vec!["sft"]
            } else {
                vec!["tune", "sft"]
            }
        );
        assert_eq!(
            making("iq-learn"),
            if own {
                vec!["tune", "tune", "iq_learn"]
            } else {
                vec!["tune", "iq_learn"]
            }
        );
        assert_eq!(
            making("irl").iter().filter(|kind| **kind == "tune").count(),
            0
        );
        assert!(making("dpo").ends_with(if own {
            &["tune", "tune", "dpo"]
        } else {
            &["tune", "dpo"]
        }));
    }
}

#[test]
fn without_a_search_nothing_is_planned_otherwise_than_before_there_was_one() {
    let mut untuned = with("tldr", &UNTUNED);
    untuned
        .sizes
        .iter_mut()
        .for_each(|(_, model)| model.bases = 1);
    let plan = Plan::new(&untuned, None).unwrap();
    let of = |kind: &str| {
        plan.graph
            .iter()
            .filter(|stage| stage.spec.kind == kind)
            .count()
    };
    assert_eq!((of(Tune::KIND), of(Sft::KIND)), (0, 15));
    let sft = plan
        .graph
        .iter()
        .find(|stage| stage.label == "sft/mini-1b/seed 1")
        .unwrap();
    assert_eq!(sft.key.short(), "ad03e389a1eb");
    let tuned = Plan::new(&study("tldr"), None).unwrap();
    let sft = tuned
        .graph
        .iter()
        .find(|stage| stage.label == "sft/mini-1b/seed 1")
        .unwrap();
    assert_eq!(
        inputs(&tuned, sft),
        BTreeMap::from([
            ("base", Bundled::KIND),
            ("demonstrations", "demonstrations"),
            ("tuning", Tune::KIND)
        ])
    );
}

#[test]
fn sft_is_as_long_as_the_method_that_it_names() {
    let plan = Plan::new(&study("tldr-ablations"), None).unwrap();
    let settings = |method: &str| {
        let cell = plan
            .cells
            .iter()
            .find(|cell| cell.method == method)
            .unwrap();
        plan.graph
            .get(cell.made_by.last().unwrap())
            .unwrap()
            .spec
            .settings
            .clone()
    };
    // Rewards: two passes over 200, 400 and 600 pairs in batches of 32. Policies: 30 updates of two
    // passes, three times.
    let steps = 2 * (7 + 13 + 19) + 3 * 60_usize;
    assert_eq!(
        settings("sft-steps")["sft"]["epochs"],
        json!(steps.div_ceil(7))
    );
    assert_eq!(settings("sft-steps")["own_epochs"], json!(true));
    let flops: f64 = {
        let keys: BTreeSet<_> = plan
            .cells
            .iter()
            .filter(|cell| cell.method == "irl" && cell.seed == 1)
            .flat_map(|cell| &cell.made_by)
            .collect();
        keys.into_iter().map(|key| plan.work(key).flops).sum()
    };
    let cell = plan
        .cells
        .iter()
        .find(|cell| cell.method == "sft-flops")
        .unwrap();
    let own = plan.work(cell.made_by.last().unwrap()).flops;
    let epochs = settings("sft-flops")["sft"]["epochs"].as_f64().unwrap();
    assert!(
        own >= flops && own * (epochs - 1.0) / epochs < flops,
        "{own} for {flops} in {epochs} epochs"
    );
    // The named method need not run: SPIN trains on 200, 400 and 400 pairs.
    let text = crate::experiment::SHIPPED
        .iter()
        .find(|(name, _)| *name == "tldr")
        .unwrap()
        .1;
    let text = text.replace(
        "{ method = \"irl\", unit = \"steps\" }",
        "{ method = \"spin\", unit = \"steps\" }",
    );
    let methods = ["sft", "sft-steps", "irl"].map(String::from).to_vec();
    let study = Experiment::parse("t.toml", &text)
        .unwrap()
        .resolve(&Selection {
            methods,
            ..Selection::default()
        });
    let plan = Plan::new(&study.unwrap(), None).unwrap();
    assert!(plan.graph.iter().all(|stage| stage.spec.kind != Spin::KIND));
    let epochs = (2 * (7 + 13 + 13_usize)).div_ceil(7);
    assert!(
        plan.graph
            .iter()
            .any(|stage| stage.spec.settings["sft"]["epochs"] == json!(epochs))
    );
}

#[test]
fn a_method_without_a_known_length_cannot_be_matched() {
    let text = crate::experiment::SHIPPED
        .iter()
        .find(|(name, _)| *name == "tldr")
        .unwrap()
        .1;
    let error = |method: &str, set: &[&str]| {
        let text = text.replace(
            "{ method = \"irl\", unit = \"steps\" }",
            &format!("{{ method = \"{method}\", unit = \"steps\" }}"),
        );
        let set = set.iter().map(|text| text.to_string()).collect();
        let methods = ["sft", "sft-steps", "irl"].map(String::from).to_vec();
        let selection = Selection {
            methods,
            set,
            ..Selection::default()
        };
        let study = Experiment::parse("t.toml", &text)
            .and_then(|experiment| experiment.resolve(&selection));
        study
            .and_then(|study| Plan::new(&study, None))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("sft", &[]),
        "SFT cannot be as long as method `sft`: its length is tuned"
    );
    assert_eq!(
        error("base", &[]),
        "SFT cannot be as long as method `base`: it takes no optimiser steps"
    );
    assert_eq!(error("ilr", &[]), "no method is called `ilr`");
    assert_eq!(
        error("sft-steps", &[]),
        "SFT of a method is as long as itself: `sft-steps` as `sft-steps`"
    );
}

#[test]
fn sft_of_a_chosen_length_is_refused_on_a_start_that_is_fine_tuned_already() {
    let mut study = at_scale("ultrachat", "paper");
    assert!(Plan::new(&study, None).is_ok());
    study.methods[0].hyper.choices.sft.as_long_as = Some(AsLongAs {
        method: "irl".into(),
        unit: Unit::Steps,
    });
    let error = Plan::new(&study, None).err().expect("it is refused");
    assert!(
        error.to_string().contains("is fine-tuned already"),
        "{error}"
    );
}

use super::*;
use crate::data::world::Split;
use crate::experiment::{Experiment, Metric, SeedChoice, Selection};
use crate::pipeline::PlannedStage;
use crate::stages::Stage;
use crate::stages::agreement::Agreement;
use crate::stages::bundled::Bundled;
use crate::stages::comparisons::Comparisons;
use crate::stages::demonstrations::Demonstrations;
use crate::stages::dpo::Dpo;
use crate::stages::evaluate::Evaluate;
use crate::stages::evaluate_reward::EvaluateReward;
use crate::stages::heldout_pairs::HeldoutPairs;
use crate::stages::hub_demonstrations::HubDemonstrations;
use crate::stages::iq_learn::IqLearn;
use crate::stages::likelihood::Likelihood;
use crate::stages::pairs::Pairs;
use crate::stages::ppo::Ppo;
use crate::stages::pretrain::Pretrain;
use crate::stages::reward::Reward;
use crate::stages::rloo::Rloo;
use crate::stages::select::SelectPolicy;
use crate::stages::sft::Sft;
use crate::stages::spin::Spin;
use crate::stages::tune::Tune;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn study(name: &str) -> Study {
    at_scale(name, "mini")
}

fn at_scale(name: &str, scale: &str) -> Study {
    let selection = Selection {
        scale: scale.into(),
        ..five_seeds()
    };
    Experiment::load(name)
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap()
}

/// A selection of seeds 1 to 5, instead of the study's own.
fn five_seeds() -> Selection {
    Selection {
        seeds: Some(SeedChoice::List((1..=5).collect())),
        ..Selection::default()
    }
}

/// Adds to `seen` all stages that `key` is made from, including itself, but not those whose prompts
/// it only leaves out.
fn ancestors(graph: &Graph, key: &StageKey, seen: &mut BTreeSet<StageKey>) {
    if seen.insert(*key) {
        let spec = &graph.get(key).unwrap().spec;
        for (role, input) in &spec.inputs {
            if role.starts_with("held_out/") {
                assert!(
                    [HubDemonstrations::KIND, Comparisons::KIND].contains(&spec.kind.as_str()),
                    "{}",
                    spec.kind
                );
            } else {
                ancestors(graph, input, seen);
            }
        }
    }
}

const TRAINING: [&str; 9] = [
    Pretrain::KIND,
    Sft::KIND,
    Tune::KIND,
    Reward::KIND,
    Ppo::KIND,
    Rloo::KIND,
    Dpo::KIND,
    Spin::KIND,
    IqLearn::KIND,
];
const MEASURING: [&str; 4] = [
    Evaluate::KIND,
    EvaluateReward::KIND,
    Agreement::KIND,
    Likelihood::KIND,
];

/// Every shipped study, at every scale at which it can be planned.
const PLANS: [(&str, &str); 4] = [
    ("tldr", "mini"),
    ("tldr-ablations", "mini"),
    ("world-controls", "mini"),
    ("tldr", "paper"),
];

/// The stages of `kinds` and everything that they are made from.
fn made_from(plan: &Plan, kinds: &[&str]) -> BTreeSet<StageKey> {
    let mut seen = BTreeSet::new();
    for stage in plan
        .graph
        .iter()
        .filter(|stage| kinds.contains(&stage.spec.kind.as_str()))
    {
        ancestors(&plan.graph, &stage.key, &mut seen);
    }
    seen
}

/// Selection must never touch a test asset: no training stage may be made from a measurement, from
/// test posts, or from anything that takes the place of gold. Measurements are made from these,
/// which shows that the search would find them.
#[test]
fn nothing_that_is_trained_has_seen_the_evaluation_set() {
    for (name, scale) in PLANS {
        let study = at_scale(name, scale);
        let plan = Plan::new(&study, None).unwrap();
        let judge = study
            .data
            .as_ref()
            .map(|data| data.judge.as_ref().unwrap().checkpoint.clone().unwrap());
        // The reasons why a stage may not be part of any training.
        let reserved = |key: &StageKey| -> Vec<&str> {
            let spec = &plan.graph.get(key).unwrap().spec;
            let test = [
                json!(Split::Test),
                json!(Split::Controls),
                json!("validation"),
            ]
            .contains(&spec.settings["split"]);
            let held_out = test
                || spec.settings["part"] == json!("evaluation_set")
                || !spec.settings["evaluation_set"].is_null();
            let reasons = [
                ("held-out posts", held_out),
                (
                    "pairs of the evaluation set",
                    spec.kind == HeldoutPairs::KIND,
                ),
                ("a measurement", MEASURING.contains(&spec.kind.as_str())),
                (
                    "the judge",
                    judge.is_some() && spec.settings["source"].as_str() == judge.as_deref(),
                ),
            ];
            reasons
                .into_iter()
                .filter_map(|(reason, holds)| holds.then_some(reason))
                .collect()
        };
        let trained = made_from(&plan, &TRAINING);
        assert!(trained.len() > 20, "{name} at {scale}");
        for key in &trained {
            assert_eq!(
                reserved(key),
                [""; 0],
                "{name} at {scale}: {}",
                plan.graph.get(key).unwrap().label
            );
        }
        let measured = made_from(&plan, &MEASURING);
        let found: BTreeSet<&str> = measured.iter().flat_map(reserved).collect();
        assert_eq!(
            found.len(),
            if judge.is_some() { 4 } else { 3 },
            "{name} at {scale}: {found:?}"
        );
    }
}

/// The choice of training posts and comparisons takes all held-out prompts as inputs.
#[test]
fn what_is_chosen_from_data_sets_leaves_out_every_held_out_prompt() {
    let plan = Plan::new(&at_scale("tldr", "paper"), None).unwrap();
    let mut choosing = 0;
    for stage in plan.graph.iter() {
        let spec = &stage.spec;
        let chooses = [HubDemonstrations::KIND, Comparisons::KIND].contains(&spec.kind.as_str())
            && spec.seed.is_some();
        let labels: Vec<&str> = (spec
            .inputs
            .iter()
            .filter(|(role, _)| role.starts_with("held_out/")))
        .map(|(_, key)| plan.graph.get(key).unwrap().label.as_str())
        .collect();
        assert_eq!(
            labels,
            if chooses {
                &["evaluation set", "preferences/test"][..]
            } else {
                &[]
            },
            "{}",
            stage.label
        );
        choosing += usize::from(chooses);
    }
    assert!(choosing > 4);
}

/// A score that could guide a choice is used only by the report.
#[test]
fn nothing_is_made_from_a_measurement() {
    for (name, scale) in PLANS {
        let plan = Plan::new(&at_scale(name, scale), None).unwrap();
        let measurements = plan
            .graph
            .iter()
            .filter(|stage| MEASURING.contains(&stage.spec.kind.as_str()));
        let keys: Vec<_> = measurements.map(|stage| stage.key).collect();
        assert!(keys.len() > 20, "{name} at {scale}");
        assert!(
            keys.iter()
                .all(|key| plan.graph.dependents(key).next().is_none()),
            "{name} at {scale}"
        );
    }
}

/// A report's reader must see that a policy stopped ending its responses.
#[test]
fn how_often_responses_end_is_shown_in_every_report() {
    for name in ["tldr", "tldr-ablations", "world-controls"] {
        let report = study(name).report;
        let shown = report
            .tables
            .iter()
            .any(|table| table.columns.contains(&Metric::EosRate));
        assert!(shown, "no table of {name} has the column eos_rate");
    }
}

/// Batch sizes come from the file; the number of rows in one pass is not part of the key.
#[test]
fn neither_memory_nor_jobs_nor_devices_are_in_a_key() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    for stage in &plan.graph {
        let settings = stage.spec.settings.to_string();
        for word in ["micro", "memory", "jobs", "device", "threads"] {
            assert!(
                !settings.contains(word),
                "{word} is in the settings of {}: {settings}",
                stage.label
            );
        }
    }
}

/// Gold trains nothing in the main study. In the others it trains only the policy that declares it,
/// and selects only for the method that declares it.
#[test]
fn gold_is_a_reward_only_where_it_is_declared() {
    let on_gold = |plan: &Plan| -> BTreeSet<String> {
        let stages = plan
            .graph
            .iter()
            .filter(|stage| !stage.spec.settings["reward"]["gold"].is_null());
        stages
            .map(|stage| stage.label.split('/').next().unwrap().to_string())
            .collect()
    };
    assert!(on_gold(&Plan::new(&study("tldr"), None).unwrap()).is_empty());
    let ablations = Plan::new(&study("tldr-ablations"), None).unwrap();
    assert_eq!(
        on_gold(&ablations),
        BTreeSet::from(["iterative-dpo-gold".to_string()])
    );
    let selected = ablations
        .graph
        .iter()
        .filter(|stage| stage.spec.kind == SelectPolicy::KIND);
    let selected: BTreeSet<&str> = selected
        .map(|stage| stage.label.split('/').next().unwrap())
        .collect();
    assert_eq!(selected, BTreeSet::from(["irl-selection-gold"]));
    let controls = on_gold(&Plan::new(&study("world-controls"), None).unwrap());
    assert_eq!(controls, BTreeSet::from(["gold-ppo".to_string()]));
}

#[test]
fn methods_share_what_does_not_differ() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let count = |kind: &str| {
        plan.graph
            .iter()
            .filter(|stage| stage.spec.kind == kind)
            .count()
    };
    // With five seeds: one base and one set of demonstrations for each, and three SFT policies for
    // each: the plain one, one as long as IRL in steps and one in operations.
    assert_eq!(
        (
            count(Bundled::KIND) + count(Pretrain::KIND),
            count(Sft::KIND),
            count(Demonstrations::KIND)
        ),
        (5, 15, 5)
    );
    // IRL (with both losses) and SPIN share the first pairs; later ones differ: 1 + 2 + 2 + 2 for
    // each seed.
    assert_eq!(count(Pairs::KIND), 35);
}

/// Some settings are part of a stage's key whether or not anything obeys them; the plan must obey
/// them.
#[test]
fn the_plan_follows_the_settings_that_a_method_leaves_to_it() {
    // SPIN's stages for one size and seed: the number of sets of pairs that each iteration trains
    // on, and the temperatures.
    let spin = |set: &[&str]| -> (Vec<usize>, BTreeSet<String>) {
        let set = set
            .iter()
            .map(|text| text.to_string())
            .chain(["irl.negatives_temperature=0.25".into()])
            .collect();
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&Selection {
                set,
                ..five_seeds()
            })
            .unwrap();
        let plan = Plan::new(&study, None).unwrap();
        let of = |kind: &'static str| {
            let stages = plan
                .graph
                .iter()
                .filter(move |stage| stage.spec.kind == kind);
            stages.filter(|stage| stage.label.starts_with("spin/mini-1b/seed 1/"))
        };
        let pairs_of = |stage: &PlannedStage| {
            stage
                .spec
                .inputs
                .keys()
                .filter(|role| role.starts_with("pairs/"))
                .count()
        };
        (
            of(Spin::KIND).map(pairs_of).collect(),
            of(Pairs::KIND)
                .map(|s| s.spec.settings["temperature"].to_string())
                .collect(),
        )
    };
    let at = |temperature: &str| BTreeSet::from([temperature.to_string()]);
    assert_eq!(spin(&[]), (vec![1, 2, 2], at("1.0")));
    assert_eq!(spin(&["spin.iterations=2"]), (vec![1, 2], at("1.0")));
    assert_eq!(spin(&["spin.accumulate=all"]), (vec![1, 2, 3], at("1.0")));
    assert_eq!(
        spin(&["spin.negatives_temperature=0.5"]),
        (vec![1, 2, 2], at("0.5"))
    );
}

/// Users who change one line rely on this.
#[test]
fn a_change_touches_only_what_depends_on_it() {
    let keys = |set: &[&str]| -> BTreeSet<StageKey> {
        let selection = Selection {
            set: set.iter().map(|text| text.to_string()).collect(),
            ..five_seeds()
        };
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&selection)
            .unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let (plain, changed) = (keys(&[]), keys(&["spin.beta=0.2"]));
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let touched: BTreeSet<&str> = plan
        .graph
        .iter()
        .filter(|stage| !changed.contains(&stage.key))
        .map(|stage| stage.label.split('/').next().unwrap())
        .collect();
    assert_eq!(touched, BTreeSet::from(["spin", "spin-first"]));
    assert_eq!(plain.len(), changed.len());
}

/// A demonstrator's habits appear in the demonstrations and in the references of evaluation sets;
/// bases and labelled pairs come from other authors.
#[test]
fn habits_are_the_demonstrator_s_alone() {
    let plan = Plan::new(&study("tldr-flawed"), None).unwrap();
    let with_habit = |stage: &&PlannedStage| {
        stage
            .spec
            .settings
            .to_string()
            .contains("\"no_question\":{\"plain\":1.65")
    };
    let kinds: BTreeSet<&str> = plan
        .graph
        .iter()
        .filter(with_habit)
        .map(|stage| stage.spec.kind.as_str())
        .collect();
    assert!(
        kinds.is_superset(&BTreeSet::from([Demonstrations::KIND, "evaluate"])),
        "{kinds:?}"
    );
    assert!(
        kinds.is_disjoint(&BTreeSet::from([
            Bundled::KIND,
            Pretrain::KIND,
            "preferences",
            "reward",
            "ppo"
        ])),
        "{kinds:?}"
    );
    let ordinary = Plan::new(&study("tldr"), None).unwrap();
    assert_eq!(ordinary.graph.iter().filter(with_habit).count(), 0);
}

/// A point at a method's own value is that method: none of its stages runs twice.
#[test]
fn a_point_at_the_method_s_own_value_costs_nothing() {
    let study = study("tldr-ablations");
    let plan = Plan::new(&study, None).unwrap();
    let cells = |method: &str| {
        plan.cells
            .iter()
            .filter(|cell| cell.method == method)
            .collect::<Vec<_>>()
    };
    for (point, method) in [
        ("irl-quantity-200", "irl"),
        ("irl-quality-0.9", "irl"),
        ("irl-noise-shuffled-0", "irl"),
        ("irl-loss-eq11", "irl"),
        ("irl-loss-eq10-bounded", "irl-eq10"),
        ("irl-kl-0.2", "irl"),
        ("irl-released-derived", "irl"),
        ("rlhf-preferences-2000", "rlhf"),
        ("sft-quantity-200", "sft"),
    ] {
        let (of_point, of_method) = (cells(point), cells(method));
        assert_eq!(
            of_point.len(),
            study.seeds.len(),
            "{point} is measured where it ends"
        );
        for cell in of_point {
            let same =
                |other: &&&Cell| other.seed == cell.seed && other.iteration == cell.iteration;
            let other = of_method.iter().find(same).unwrap();
            assert!(
                cell.measured_by
                    .iter()
                    .all(|key| other.measured_by.contains(key)),
                "{point}"
            );
        }
    }
}

/// Users who change one line of an experiment file rely on this.
#[test]
fn a_new_value_of_an_ablation_runs_what_depends_on_it_and_no_more() {
    let text = crate::experiment::SHIPPED
        .iter()
        .find(|(name, _)| *name == "tldr-ablations")
        .unwrap()
        .1;
    let folder = tempfile::tempdir().unwrap();
    let keys = |text: &str| -> BTreeSet<StageKey> {
        let path = folder.path().join("changed.toml");
        std::fs::write(&path, text).unwrap();
        let experiment = Experiment::load(path.to_str().unwrap()).unwrap();
        let study = experiment.resolve(&Selection::default()).unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let values = "values = [1, 2, 4]";
    assert!(text.contains(values));
    let (before, after) = (
        keys(text),
        keys(&text.replace(values, "values = [1, 2, 4, 8]")),
    );
    assert!(before.is_subset(&after));
    // For each of five seeds: three iterations of pairs, reward and PPO, then both evaluations and
    // the agreement of the last iteration.
    assert_eq!(after.len() - before.len(), 5 * (3 * 3 + 3));
}

fn plan_with(name: &str, set: &[&str]) -> Plan {
    let set = set.iter().map(|text| text.to_string()).collect();
    let study = Experiment::load(name)
        .unwrap()
        .resolve(&Selection {
            set,
            ..five_seeds()
        })
        .unwrap();
    Plan::new(&study, None).unwrap()
}

/// For each seed, the stage of `kind` from which the cell of `method` is made.
fn keys_by_seed(plan: &Plan, kind: &str, method: &str) -> Vec<StageKey> {
    let cells = plan
        .cells
        .iter()
        .filter(|cell| cell.method == method && cell.size == "mini-1b");
    let of_kind = |cell: &Cell| {
        let mut seen = BTreeSet::new();
        cell.measured_by
            .iter()
            .for_each(|key| ancestors(&plan.graph, key, &mut seen));
        seen.into_iter()
            .find(|key| plan.graph.get(key).unwrap().spec.kind == kind)
            .unwrap()
    };
    cells.map(of_kind).collect()
}

fn distinct(keys: &[StageKey]) -> usize {
    keys.iter().collect::<BTreeSet<_>>().len()
}

/// `tldr` with the recipe of RLHF written as `recipe`, planned under one seed.
fn rlhf_as(recipe: &str) -> Plan {
    let text = include_str!("../../experiments/tldr.toml");
    let text = text.replacen("recipe = \"rlhf\"", &format!("recipe = {recipe}"), 1);
    let study = Experiment::parse("t.toml", &text)
        .and_then(|experiment| {
            experiment.resolve(&Selection {
                seeds: Some(SeedChoice::List(vec![1])),
                ..Selection::default()
            })
        })
        .unwrap();
    Plan::new(&study, None).unwrap()
}

/// Kinds of the stages that made the last cell of RLHF, in order.
fn rlhf_made_by(plan: &Plan) -> Vec<&str> {
    let cell = plan
        .cells
        .iter()
        .rfind(|cell| cell.method == "rlhf")
        .unwrap();
    let kind = |key| plan.graph.get(key).unwrap().spec.kind.as_str();
    cell.made_by.iter().map(kind).collect()
}

/// Methods that nobody shipped are points of the same axes: no code of theirs.
#[test]
fn a_new_recipe_is_planned_without_code_of_its_own() {
    let both = rlhf_as(r#"{ pairs = ["own", "preferences"], judge = "learned", step = "rloo" }"#);
    let rounds: Vec<_> = both
        .cells
        .iter()
        .filter(|cell| cell.method == "rlhf")
        .collect();
    let iterations = both
        .graph
        .iter()
        .filter(|stage| stage.label.starts_with("rlhf/mini-1b/") && stage.spec.kind == Rloo::KIND)
        .count();
    assert_eq!(iterations, rounds.last().unwrap().iteration);
    assert_eq!(rlhf_made_by(&both), [Pairs::KIND, Reward::KIND, Rloo::KIND]);
    let reward = both
        .graph
        .iter()
        .rfind(|stage| stage.label.starts_with("rlhf/") && stage.spec.kind == Reward::KIND)
        .unwrap();
    let learned_from: BTreeSet<_> = inputs(&both, reward).into_values().collect();
    assert!(learned_from.contains("pairs") && learned_from.contains("preferences"));

    let judged = rlhf_as(r#"{ pairs = ["preferences"], judge = "learned", step = "dpo" }"#);
    assert_eq!(
        rlhf_made_by(&judged),
        [Reward::KIND, "judged_pairs", Dpo::KIND]
    );
    let grpo = rlhf_as(r#"{ start = "spin", pairs = ["spin"], judge = "learned", step = "grpo" }"#);
    let mut kinds = rlhf_made_by(&grpo);
    let tail = kinds.split_off(kinds.len() - 2);
    assert_eq!(tail, [Reward::KIND, "grpo"]);
    assert!(
        kinds
            .chunks(2)
            .all(|round| round == [Pairs::KIND, Spin::KIND])
    );
}

/// Seed i of a study starts from base i mod the number of bases, whatever the seeds are.
#[test]
fn bases_take_turns_over_the_seeds() {
    let mut study = study("tldr");
    study.seeds = vec![7, 1, 2, 3, 44413];
    study
        .sizes
        .iter_mut()
        .for_each(|(_, model)| model.bases = 3);
    let plan = Plan::new(&study, None).unwrap();
    let numbers: BTreeSet<(u64, Option<u64>)> = plan
        .cells
        .iter()
        .map(|cell| (cell.seed, cell.base))
        .collect();
    assert_eq!(
        numbers,
        [(7, 1), (1, 1), (2, 2), (3, 0), (44413, 1)]
            .map(|(seed, base)| (seed, Some(base)))
            .into()
    );
    for (size, model) in &study.sizes {
        for &seed in &study.seeds {
            let label = format!("sft/{size}/seed {seed}");
            let sft = plan
                .graph
                .iter()
                .find(|stage| stage.label == label)
                .unwrap();
            let base = plan.graph.get(&sft.spec.inputs["base"]).unwrap();
            // Number 0 is the base from the time when there was only one; it comes with touchstone.
            assert!(seed % 3 != 0 || base.spec.kind == Bundled::KIND);
            assert_eq!(
                base.label,
                ["base/{}", "base/{}/1", "base/{}/2"][seed as usize % 3].replace("{}", size)
            );
            assert_eq!(model.base_of(seed), seed % 3);
        }
    }
    // A single base makes the preferences on which all seeds are measured.
    let test = plan
        .graph
        .iter()
        .find(|stage| stage.label == "preferences/test")
        .unwrap();
    assert_eq!(
        plan.graph.get(&test.spec.inputs["base"]).unwrap().label,
        "base/mini-1b"
    );
}

#[test]
fn one_base_is_the_first_one_for_every_seed() {
    let mut study = study("tldr");
    study
        .sizes
        .iter_mut()
        .for_each(|(_, model)| model.bases = 1);
    let plan = Plan::new(&study, None).unwrap();
    assert!(plan.cells.iter().all(|cell| cell.base == Some(FIRST_BASE)));
    // The base comes with touchstone, whatever else the model's table says.
    let bases = plan
        .graph
        .iter()
        .filter(|stage| stage.label.starts_with("base/"));
    let kinds: Vec<&str> = bases.map(|stage| stage.spec.kind.as_str()).collect();
    assert_eq!(kinds, [Bundled::KIND]);
}

/// A method's own seeds each fix what they name and nothing else.
#[test]
fn seeds_of_their_own_fix_demonstrations_training_or_evaluation() {
    let counts = |set: &[&str]| {
        let plan = plan_with("tldr", set);
        [Demonstrations::KIND, Sft::KIND, Evaluate::KIND]
            .map(|kind| distinct(&keys_by_seed(&plan, kind, "sft")))
    };
    assert_eq!(counts(&[]), [5, 5, 5]);
    assert_eq!(counts(&["demonstrations.seed=1"]), [1, 5, 5]);
    let seeds = |set: &[&str], kind: &str| -> BTreeSet<Option<u64>> {
        let plan = plan_with("tldr", set);
        plan.graph
            .iter()
            .filter(|stage| stage.spec.kind == kind)
            .map(|stage| stage.spec.seed)
            .collect()
    };
    let (all, one) = (
        BTreeSet::from([1, 2, 3, 4, 5].map(Some)),
        BTreeSet::from([Some(1)]),
    );
    for kind in [Sft::KIND, Pairs::KIND, Reward::KIND, Ppo::KIND, Spin::KIND] {
        assert_eq!(seeds(&["training.seed=1"], kind), one, "{kind}");
        assert_eq!(seeds(&["demonstrations.seed=1"], kind), all, "{kind}");
        assert_eq!(seeds(&["evaluation.seed=1"], kind), all, "{kind}");
    }
    for kind in [
        Evaluate::KIND,
        EvaluateReward::KIND,
        HeldoutPairs::KIND,
        Agreement::KIND,
    ] {
        assert_eq!(seeds(&["evaluation.seed=1"], kind), one, "{kind}");
        assert_eq!(seeds(&["training.seed=1"], kind), all, "{kind}");
    }
    assert_eq!(seeds(&["demonstrations.seed=1"], Demonstrations::KIND), one);
    assert_eq!(seeds(&["training.seed=1"], Demonstrations::KIND), all);
}

/// A setting equal to the value that holds without it changes no key.
#[test]
fn what_is_said_without_need_changes_no_key() {
    let keys = |set: &[&str]| -> BTreeSet<StageKey> {
        let seeds = Some(crate::experiment::SeedChoice::List(vec![3]));
        let set = set.iter().map(|text| text.to_string()).collect();
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&Selection {
                set,
                seeds,
                ..Selection::default()
            })
            .unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let plain = keys(&[]);
    for same in [
        "demonstrations.seed=3",
        "training.seed=3",
        "evaluation.seed=3",
        "evaluation.split=test",
    ] {
        assert!(keys(&[same]) == plain, "{same}");
    }
    for other in [
        "demonstrations.seed=4",
        "training.seed=4",
        "evaluation.seed=4",
        "evaluation.split=controls",
    ] {
        assert!(keys(&[other]) != plain, "{other}");
    }
}

/// The posts of reported numbers differ from those on which the world is accepted.
#[test]
fn the_controls_touch_no_test_post() {
    let splits = |name: &str| -> BTreeSet<String> {
        let plan = Plan::new(&study(name), None).unwrap();
        let of = |stage: &PlannedStage| {
            let settings = &stage.spec.settings;
            [&settings["split"], &settings["evaluation_set"]["split"]]
                .map(|split| split.as_str().map(str::to_owned))
        };
        plan.graph.iter().flat_map(of).flatten().collect()
    };
    assert_eq!(
        splits("world-controls"),
        BTreeSet::from(["controls", "preferences"].map(String::from))
    );
    assert_eq!(
        splits("tldr"),
        BTreeSet::from(["preferences", "test"].map(String::from))
    );
}

/// Only a method's last policy has further decodings.
#[test]
fn the_last_policy_of_a_method_is_decoded_at_every_temperature() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let mut decoded = BTreeSet::new();
    for cell in &plan.cells {
        for key in &cell.measured_by {
            let spec = &plan.graph.get(key).unwrap().spec;
            if !spec.settings["decoding"].is_null() {
                decoded.insert((cell.method.as_str(), cell.iteration));
                assert_eq!(
                    spec.settings["decoding"]["validation"]["split"],
                    json!(Split::Validation)
                );
            }
        }
    }
    let last = [
        ("iq-learn", 0),
        ("irl", 3),
        ("irl-eq10", 3),
        ("irl-first", 1),
        ("rlhf", 0),
        ("sft", 0),
        ("spin", 3),
        ("spin-first", 1),
    ];
    assert_eq!(
        decoded,
        last.into_iter()
            .chain([("sft-flops", 0), ("sft-steps", 0)])
            .collect()
    );
    let without = plan_with("tldr", &["evaluation.decoding_posts=0"]);
    assert!(
        without
            .graph
            .iter()
            .all(|stage| stage.spec.settings["decoding"].is_null())
    );
}

fn with(name: &str, set: &[&str]) -> Study {
    let set = set.iter().map(|text| text.to_string()).collect();
    let selection = Selection {
        set,
        ..five_seeds()
    };
    Experiment::load(name)
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap()
}

const UNTUNED: [&str; 3] = ["sft.tuning=none", "iq_learn.tuning=none", "dpo.tuning=none"];

/// Roles and kinds of a stage's inputs.
fn inputs<'a>(plan: &'a Plan, stage: &'a PlannedStage) -> BTreeMap<&'a str, &'a str> {
    let kind = |key| plan.graph.get(key).unwrap().spec.kind.as_str();
    stage
        .spec
        .inputs
        .iter()
        .map(|(role, key)| (role.as_str(), kind(key)))
        .collect()
}

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

//! Tests of every key of an experiment file. An unknown key is refused at its place. A known key
//! has an effect: a change of its value changes the plan or the report. Only keys that can change a
//! number change the keys of stages.

mod common;

use common::methods::{
    bytes, grpo_settings, pairs, ppo_settings, rloo_settings, run_grpo, run_ppo, run_rloo,
    small_start,
};
use common::{optimiser, rows, small_model};
use miette::Diagnostic;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use tempfile::TempDir;
use touchstone::cli::reproduce::report_input;
use touchstone::data::world::WorldSettings;
use touchstone::experiment::{Experiment, Hyper, SHIPPED, Selection, Study};
use touchstone::methods::dpo::dpo;
use touchstone::methods::iq_learn::iq_learn;
use touchstone::methods::optimise::Unwatched;
use touchstone::methods::pretrain::pretrain;
use touchstone::methods::reward::train_reward;
use touchstone::methods::sft::sft;
use touchstone::methods::spin::spin;
use touchstone::methods::training::Training;
use touchstone::model::weights::Weights;
use touchstone::pipeline::{StageKey, Store};
use touchstone::plan::Plan;

// --- Documents as trees ---

fn shipped(name: &str) -> Value {
    let (_, text) = SHIPPED
        .iter()
        .find(|(shipped, _)| *shipped == name)
        .unwrap();
    toml::from_str(text).unwrap()
}

/// Merges `over` into `under` with the rule of `extends`.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// The study, with all optional keys present.
fn study() -> Value {
    let mut document = shipped("tldr");
    document["world"] = json!(WorldSettings::default());
    // Without this bound, eq. 10 would be refused.
    document["reward"]["bound"] = json!(3.0);
    // Real posts have no author to ask, and every method is planned at every scale.
    document["method"]
        .as_array_mut()
        .unwrap()
        .retain(|method| method["id"] != "demonstrator");
    // The registered claims become the study's own, with margins in the metric's units.
    document.as_object_mut().unwrap().remove("registration");
    let mut claims: Value =
        toml::from_str(include_str!("../experiments/claims/tldr.toml")).unwrap();
    for claim in claims["claim"].as_array_mut().unwrap() {
        if claim
            .as_object_mut()
            .unwrap()
            .remove("margin_share")
            .is_some()
        {
            claim["margin"] = json!(0.023);
        }
        // A column in a `not_worse` claim may have only one direction of improvement.
        if claim["direction"] == "not_worse" {
            claim["direction"] = json!("greater");
        }
    }
    document["claim"] = claims["claim"].take();
    document["profile"]["standard"]["sizes"] = json!(["mini-1b", "mini-2.8b"]);
    document["profile"]["standard"]["methods"] =
        json!(["sft", "best-of-n-logp", "irl", "irl-eq10", "spin", "rlhf"]);
    document["claim"][0]["threshold"] = json!(0.01);
    document["claim"][1]["relative_to"] = json!({"method": "rlhf", "versus": "sft"});
    document["ablation"] = json!([{
        "id": "pull", "title": "How far?", "question": "Which?", "source": "me", "note": "Look.", "axis": "KL", "scale": "linear",
        "methods": ["irl"], "metrics": ["gold", "kl"], "plane": {"x": "kl", "y": "gold"}, "growth": true, "against": "spin",
        "key": "ppo.kl_coefficient", "values": [0.25, 0.5], "reward": {"epochs": 3},
    }, {
        "id": "push", "title": "Loss", "question": "Which?", "source": "me", "axis": "loss", "scale": "linear",
        "methods": ["irl"], "metrics": ["gold", "kl"],
        "variant": [{"id": "a", "label": "A", "x": 1.5, "reward": {"loss": "eq10"}}],
    }]);
    document["profile"]["standard"]["ablations"] = json!(["pull", "push"]);
    document["profile"]["standard"]["points"] = json!(2);
    document["models"]["mini-1b"]["vocab_size"] = json!(512);
    document["models"]["mini-1b"]["bases"] = json!(1);
    document["models"]["mini-1b"]["pretrain"] = json!({"steps": 2000});
    document["models"]["mini-2.8b"]["bases"] = json!(5);
    document["evaluation"]["split"] = json!("test");
    document["dpo"]["loss"] = json!("sigmoid");
    let spin = document["method"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|method| method["id"] == "spin")
        .unwrap();
    for (section, seed) in [("demonstrations", 11), ("training", 12), ("evaluation", 13)] {
        spin[section]["seed"] = json!(seed);
    }
    document["scale"]["mini"]["target"] = json!("h100-80gb");
    document["scale"]["mini"]["sizes"] = json!(["mini-1b", "mini-2.8b"]);
    // Few seeds, in each of the forms in which a profile can choose them.
    document["profile"]["standard"]["seeds"] = json!(1);
    document["profile"]["smoke"]["seeds"] = json!([4, 3]);
    document["profile"]["local"]["seeds"] = json!("paper");
    document["seeds"]["presets"]["paper"] = json!([44413, 55513]);
    document
}

/// `study` with additional methods that use its remaining settings.
fn kin(study: &Value) -> Value {
    let mut whole = study.clone();
    let method = |id: &str, recipe: &str, own: Value| {
        let mut method = json!({"id": id, "label": id, "recipe": recipe});
        merge(&mut method, &own);
        method
    };
    let methods = [
        method("irl-rloo", "irl", json!({"irl": {"policy_step": "rloo"}})),
        method("irl-grpo", "irl", json!({"irl": {"policy_step": "grpo"}})),
        method(
            "irl-bon",
            "irl",
            json!({"irl": {"policy_step": "best_of_n"}}),
        ),
        method("irl-dpo", "irl", json!({"irl": {"policy_step": "dpo"}})),
        method(
            "irl-gold",
            "irl",
            json!({"irl": {"select": "validation_gold"}}),
        ),
        method(
            "irl-bad",
            "irl",
            json!({"demonstrations": {"corrupted_fraction": 0.5}}),
        ),
        method("dpo", "dpo", json!({})),
        method("iterative-dpo", "iterative_dpo", json!({})),
        method("iq-learn-too", "iq_learn", json!({})),
        method("filtered-bc", "filtered_bc", json!({})),
    ];
    whole["method"].as_array_mut().unwrap().extend(methods);
    whole["evaluation"]["likelihood_posts"] = json!(200);
    whole["profile"]["standard"]
        .as_object_mut()
        .unwrap()
        .remove("methods");
    // One selection is enough here.
    whole["profile"]
        .as_object_mut()
        .unwrap()
        .retain(|profile, _| profile == "standard");
    whole["scale"]
        .as_object_mut()
        .unwrap()
        .retain(|scale, _| scale == "mini");
    whole
}

/// The controls merged into `study`.
fn controls(study: &Value) -> Value {
    let mut own = shipped("world-controls");
    own.as_object_mut().unwrap().remove("extends");
    let mut whole = study.clone();
    merge(&mut whole, &own);
    // The controls have no ablations, and lack the methods that the study's ablations vary.
    whole.as_object_mut().unwrap().remove("ablation");
    for profile in whole["profile"].as_object_mut().unwrap().values_mut() {
        profile.as_object_mut().unwrap().remove("ablations");
    }
    whole
}

/// JSON pointers to everything below `value` that `chosen` accepts, each table before its contents.
fn pointers(value: &Value, chosen: fn(&Value) -> bool) -> Vec<String> {
    let mut found: Vec<String> = chosen(value).then(String::new).into_iter().collect();
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(items) if !is_leaf(value) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => vec![],
    };
    for (key, value) in inner {
        found.extend(
            pointers(value, chosen)
                .into_iter()
                .map(|rest| format!("/{key}{rest}")),
        );
    }
    found
}

/// True if the value has no keys below it; a list counts as one value unless it contains tables.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => !items.iter().any(Value::is_object),
        _ => true,
    }
}

fn parse(document: &Value) -> touchstone::Result<Experiment> {
    Experiment::parse("t.toml", &toml::to_string(document).unwrap())
}

/// Runs `work` on every item, on all cores, and collects the complaints.
fn complaints<T: Sync>(items: &[T], work: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (work, share) = (&work, items.len().div_ceil(cores).max(1));
        let threads: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().filter_map(work).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

// --- Unknown keys ---

/// True if the keys of this table are names chosen by the file.
fn holds_names(table: &str) -> bool {
    ["/models", "/scale", "/profile", "/seeds/presets"].contains(&table)
}

/// The declaration that a pointer refers to, with the names of tables replaced by `*`.
fn declaration(place: &str) -> String {
    let mut parts: Vec<&str> = place.split('/').collect();
    if matches!(
        parts[1],
        "models" | "scale" | "profile" | "method" | "claim" | "ablation"
    ) {
        parts[2] = "*";
    } else if parts[1] == "report" && parts.len() > 4 {
        parts[3] = "*";
    }
    parts.join("/")
}

/// The fault in the error about the unknown `key`, put into `table` beside `meant`; `None` if the
/// error is as it should be.
fn misjudged(document: &Value, table: &str, key: &str, meant: Option<&str>) -> Option<String> {
    let mut document = document.clone();
    document.pointer_mut(table).unwrap()[key] = json!(1);
    let text = toml::to_string(&document).unwrap();
    let Err(error) = Experiment::parse("t.toml", &text) else {
        return Some(format!("{table}/{key} passed"));
    };
    let place = error.labels().and_then(|mut labels| labels.next());
    let Some(place) = place else {
        return Some(format!("{table}/{key}: no place: {error}"));
    };
    let from = text[..place.offset()].rfind('\n').map_or(0, |end| end + 1);
    let line = text[from..].lines().next().unwrap_or_default();
    if !line.contains(key) {
        return Some(format!("{table}/{key}: {error} points at `{line}`"));
    }
    let hint = error
        .help()
        .map(|hint| hint.to_string())
        .unwrap_or_default();
    let meant = meant.filter(|meant| !hint.contains(&format!("`{meant}`")))?;
    Some(format!(
        "{table}/{key}: {error}, and the hint does not name {meant}: {hint}"
    ))
}

#[test]
fn an_unknown_key_of_any_table_is_refused_where_it_stands_with_the_one_that_was_meant() {
    let document = study();
    let mut tried = Vec::new();
    for table in pointers(&document, Value::is_object) {
        tried.push((table.clone(), "zzz".to_owned(), None));
        let keys = document
            .pointer(&table)
            .unwrap()
            .as_object()
            .unwrap()
            .keys();
        let misspelt = keys
            .filter(|_| !holds_names(&table))
            .map(|key| (format!("{key}x"), Some(key.clone())));
        tried.extend(misspelt.map(|(key, meant)| (table.clone(), key, meant)));
    }
    assert!(tried.len() > 500, "{}", tried.len());
    let wrong = complaints(&tried, |(table, key, meant)| {
        misjudged(&document, table, key, meant.as_deref())
    });
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        tried.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_method_that_no_profile_runs_is_checked_too() {
    let mut document = study();
    let extra = json!({"id": "spare", "label": "Spare", "recipe": "irl", "ppo": {"updatez": 3}});
    for profile in ["standard", "smoke", "local"] {
        assert!(
            document["profile"][profile]["methods"].is_array(),
            "{profile}"
        );
    }
    document["method"].as_array_mut().unwrap().push(extra);
    let error = parse(&document).unwrap_err();
    assert!(
        error.to_string().contains("unknown key `updatez` in `ppo`"),
        "{error}"
    );
}

// --- Declared keys ---

/// The parts of a study that can be observed without running it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    /// Keys of its stages.
    stages: BTreeSet<StageKey>,
    /// The report before anything is finished, and the hardware for which a plan estimates time.
    words: String,
}

struct Observer {
    store: Store,
    _folder: TempDir,
}

impl Observer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(folder.path()).unwrap(),
            _folder: folder,
        }
    }

    /// The observable parts of `study`; `None` if it is refused. The report is included only if
    /// `words` is true.
    fn see(&self, study: touchstone::Result<Study>, words: bool) -> Option<Seen> {
        let study = study.ok()?;
        let plan = Plan::new(&study, None).ok()?;
        let report = words.then(|| report_input(&study, &plan, &self.store, "flex", None).unwrap());
        let stages = plan.graph.iter().map(|stage| stage.key).collect();
        Some(Seen {
            stages,
            words: format!("{:?} {}", study.target, json!(report)),
        })
    }
}

/// Every scale with every profile, with the profile's methods and with all methods; the usual ones
/// first.
fn selections(document: &Value) -> Vec<Selection> {
    let names = |table: &str| {
        document[table]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let all: Vec<String> = document["method"]
        .as_array()
        .unwrap()
        .iter()
        .map(id)
        .collect();
    let mut selections = Vec::new();
    for scale in names("scale") {
        for profile in names("profile") {
            for methods in [vec![], all.clone()] {
                let (scale, profile) = (scale.clone(), profile.clone());
                selections.push(Selection {
                    scale,
                    profile,
                    methods,
                    ..Selection::default()
                });
            }
        }
    }
    selections
        .sort_by_key(|selection| (selection.scale != "mini", selection.profile != "standard"));
    selections
}

/// True if the key at `place` can affect what `selection` runs.
fn concerns(document: &Value, place: &str, selection: &Selection) -> bool {
    match *place.split('/').skip(1).collect::<Vec<_>>() {
        ["scale", scale, ..] => selection.scale == scale,
        ["profile", profile, ..] => selection.profile == profile,
        ["models", model, ..] => {
            (selection.scale == "paper") == document["models"][model]["checkpoint"].is_string()
        }
        _ => true,
    }
}

fn id(method: &Value) -> String {
    method["id"].as_str().unwrap().to_owned()
}

/// Words that have a meaning as values, tried in place of each other.
const WORDS: &str = "exploratory neither eq10 eq11 noisy clean f32 bf16 constant linear cosine all last last_two sft previous zero_head reward_copy \
    below_scores minus_one higher lower policy reward greater less spin irl base rlhf irl-eq10 gold kl length preference_accuracy \
    on_policy_accuracy shorter steps flops hinge eq11_margin ipo ppo.lambda last_token last_slot after_training during_training ppo rloo grpo best_of_n dpo \
    validation_gold synthetic preferences controls base_samples shuffled truncated log words h100-80gb a100-40gb tldr-reward-6.9b tldr-ppo-6.9b";

/// Alternative values to replace `value`; some of them may be refused.
fn alternatives(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Number(number) => match number.as_u64() {
            Some(count) => vec![
                json!(count + 1),
                json!(2 * count),
                json!(count.saturating_sub(1)),
            ],
            None => {
                let number = number.as_f64().unwrap();
                vec![
                    json!(0.5 * number),
                    json!(1.25 * number),
                    json!(number + 0.5),
                ]
            }
        },
        Value::String(text) => {
            let others = WORDS.split_whitespace().filter(|word| word != text);
            let prose = [format!("{text} indeed"), format!("{text}x")].map(Value::from);
            prose
                .into_iter()
                .chain(others.map(|word| json!(word)))
                .chain([json!(3)])
                .collect()
        }
        Value::Array(items) if items.is_empty() => vec![json!([0.25]), json!([1e-4])],
        Value::Array(items) => {
            let mut reversed = items.clone();
            reversed.reverse();
            let moved = items.iter().map(|item| {
                item.as_f64()
                    .map_or(item.clone(), |number| json!(number + 0.5))
            });
            let moved: Value = moved.collect();
            let shorter = [&items[1..], &items[..items.len() - 1]].map(|part| json!(part));
            shorter
                .into_iter()
                .chain([json!(reversed), moved, json!(["mini-2.8b"]), json!(["kl"])])
                .collect()
        }
        Value::Null | Value::Object(_) => vec![],
    }
}

/// Copies of `document`, each with another value at `place`; the name of a method changes wherever
/// it occurs.
fn variants(document: &Value, place: &str) -> Vec<Value> {
    let value = document.pointer(place).unwrap();
    let names = ["/method/", "/ablation/"]
        .iter()
        .any(|list| place.starts_with(list));
    if names && place.ends_with("/id") && !place.contains("/variant/") {
        let (old, mut renamed) = (value.clone(), document.clone());
        rename(&mut renamed, &old, &format!("{}x", old.as_str().unwrap()));
        return vec![renamed];
    }
    let with = |other: Value| {
        let mut changed = document.clone();
        *changed.pointer_mut(place).unwrap() = other;
        changed
    };
    if *value == "none" && place.ends_with("/tuning") {
        // The variant without the key.
        let (table, key) = place.rsplit_once('/').unwrap();
        let mut changed = document.clone();
        changed
            .pointer_mut(table)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key);
        return vec![changed];
    }
    alternatives(value).into_iter().map(with).collect()
}

/// Keys whose choices share names with methods.
const IS_NO_METHOD: [&str; 4] = ["recipe", "anchor", "reward_start", "start"];

fn rename(value: &mut Value, old: &Value, new: &str) {
    match value {
        Value::Object(table) => table
            .iter_mut()
            .filter(|(key, _)| !IS_NO_METHOD.contains(&key.as_str()))
            .for_each(|(_, v)| rename(v, old, new)),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, old, new)),
        leaf if *leaf == *old => *leaf = json!(new),
        _ => {}
    }
}

/// The kind of effect that a key has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    /// A key that affects what is computed: another value means another stage.
    Number,
    /// A key that affects only presentation: another value changes no stage.
    Words,
    /// A key that selects what runs or is compared: it may change either.
    Choice,
}

fn sort(place: &str) -> Sort {
    let parts: Vec<&str> = place.split('/').skip(1).collect();
    match *parts.as_slice() {
        ["world", ..] => Sort::Number,
        [section, ..] if Hyper::SECTIONS.contains(&section) => Sort::Number,
        ["ablation", _, "variant", _, section, ..] if Hyper::SECTIONS.contains(&section) => {
            Sort::Number
        }
        ["ablation", _, "key" | "values" | "methods" | "scale"] => Sort::Choice,
        [
            "scale" | "profile" | "method" | "ablation",
            _,
            section,
            _,
            ..,
        ] if Hyper::SECTIONS.contains(&section) => Sort::Number,
        ["scale", _, "data", ..] => Sort::Number,
        ["models", _, "label" | "stands_for"] => Sort::Words,
        ["models", ..] => Sort::Number,
        ["seeds", ..]
        | [
            "profile",
            _,
            "seeds" | "sizes" | "methods" | "ablations" | "points" | "bases",
        ]
        | ["scale", _, "sizes"] => Sort::Choice,
        ["report", "baseline"] | ["method", _, "recipe"] => Sort::Choice,
        _ => Sort::Words,
    }
}

/// True if the key at `place` is allowed to have no observable effect here.
fn is_exempt(document: &Value, place: &str) -> bool {
    // The weights of a published model are not initialised at random.
    let model = place
        .strip_suffix("/initializer_range")
        .and_then(|model| document.pointer(model));
    let published = model.is_some_and(|model| model["checkpoint"].is_string());
    // Tables and claims name the column's metric, so any other metric is refused. `growth` and
    // `plane` draw figures of finished runs, which `tests/ablations.rs` checks.
    let drawn = place.ends_with("/growth") || place.contains("/plane/");
    // `touchstone claims` computes chances from these keys; `tests/registration.rs` reads them.
    let planned = place.starts_with("/claim/") && place.contains("/sd/");
    published
        || drawn
        || planned
        || (place.contains("/report/column/") && place.ends_with("/metric"))
}

/// A document that contains a key.
struct Case<'a> {
    document: &'a Value,
    /// The function that turns the document into the whole experiment.
    whole: fn(&Value) -> Value,
    /// The observable parts of the document under each selection.
    seen: &'a [Option<Seen>],
}

/// The fault in how the key at `place` is read; `None` if any of the cases reads it.
fn misread(observer: &Observer, place: &str, cases: &[Case]) -> Option<String> {
    let (sort, mut accepted) = (sort(place), 0);
    for Case {
        document,
        whole,
        seen,
    } in cases
    {
        for variant in variants(document, place) {
            let whole = whole(&variant);
            let Ok(experiment) = parse(&whole) else {
                continue;
            };
            accepted += 1;
            let selections = selections(&whole);
            for (selection, before) in selections
                .iter()
                .zip(*seen)
                .filter(|(of, _)| concerns(document, place, of))
            {
                let (Some(after), Some(before)) = (
                    observer.see(experiment.resolve(selection), sort != Sort::Number),
                    before,
                ) else {
                    continue;
                };
                // A size's label is an exception: it is part of what its base was made from.
                if sort == Sort::Words
                    && !place.starts_with("/models/")
                    && after.stages != before.stages
                {
                    return Some(format!("{place} is only words, and changes stages"));
                }
                let read = match sort {
                    Sort::Number => after.stages != before.stages,
                    Sort::Words => after.words != before.words,
                    Sort::Choice => after != *before,
                };
                if read {
                    return None;
                }
            }
        }
    }
    Some(format!(
        "{place} ({sort:?}) is declared and not read; {accepted} other values were accepted"
    ))
}

#[test]
fn a_declared_key_is_read_and_changes_the_stages_whose_numbers_it_can_move() {
    let (study, observer) = (study(), Observer::new());
    let whole = controls(&study);
    let look = |document: &Value| -> Vec<Option<Seen>> {
        let experiment = parse(document).unwrap_or_else(|error| panic!("{error}"));
        selections(document)
            .iter()
            .map(|selection| observer.see(experiment.resolve(selection), true))
            .collect()
    };
    let (of_study, of_controls, of_kin) = (look(&study), look(&whole), look(&kin(&study)));
    let seen = [&of_study, &of_controls, &of_kin].map(|of| of.iter().flatten().count());
    assert!(
        seen[0] == of_study.len() && seen[1] >= 6 && seen[2] >= 1,
        "{seen:?} of {}",
        of_study.len()
    );

    // Settings that only the controls use are read under them.
    let cases = [
        Case {
            document: &study,
            whole: Value::clone,
            seen: &of_study,
        },
        Case {
            document: &study,
            whole: |study| controls(study),
            seen: &of_controls,
        },
        Case {
            document: &study,
            whole: |study| kin(study),
            seen: &of_kin,
        },
    ];
    let mut seen_before: BTreeMap<String, usize> = BTreeMap::new();
    let mut places = pointers(&study, is_leaf);
    places.retain(|place| {
        // Two occurrences of a key that many tables have are enough.
        let times = seen_before.entry(declaration(place)).or_default();
        *times += 1;
        *times <= 2 && !is_exempt(&study, place)
    });
    assert!(seen_before.len() > 200, "{}", seen_before.len());
    let wrong = complaints(&places, |place| misread(&observer, place, &cases));
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        places.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_stage_that_varies_with_a_seed_has_another_key_under_another_seed() {
    let experiment = parse(&study()).unwrap();
    let keys = |seed: u64| -> BTreeSet<String> {
        let seeds = Some(touchstone::experiment::SeedChoice::List(vec![seed]));
        let study = experiment
            .resolve(&Selection {
                seeds,
                ..Selection::default()
            })
            .unwrap();
        let plan = Plan::new(&study, None).unwrap();
        let varies = plan
            .graph
            .iter()
            .filter(|stage| stage.spec.seed == Some(seed));
        let keys: BTreeSet<_> = varies.map(|stage| stage.key.to_string()).collect();
        assert!(keys.len() > 40, "{}", keys.len());
        keys
    };
    let (one, other) = (keys(1), keys(2));
    assert!(one.is_disjoint(&other) && one.len() == other.len());
}

// --- What training reads ---

/// Trains from settings in the form of a file and returns the result as bytes; `None` if the
/// settings are invalid.
type Learner<'a> = &'a dyn Fn(&Value) -> Option<Vec<u8>>;

fn settings<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn learned(weights: &Weights, rest: impl Debug) -> Option<Vec<u8>> {
    Some([bytes(weights), format!("{rest:?}").into_bytes()].concat())
}

/// Asserts that every setting of a method affects what it learns, except `elsewhere`, which the
/// plan or the stage reads.
fn assert_all_read(name: &str, base: &Value, elsewhere: &[&str], learn: Learner) {
    let before = learn(base).unwrap();
    for place in pointers(base, is_leaf)
        .into_iter()
        .filter(|place| !elsewhere.contains(&&place[1..]))
    {
        let words = [
            "constant",
            "cosine",
            "eq10",
            "last_slot",
            "during_training",
            "reward_copy",
            "zero_head",
            "minus_one",
            "below_scores",
            "ipo",
        ];
        let others: Vec<Value> = match base.pointer(&place).unwrap() {
            Value::String(text) => words
                .iter()
                .filter(|word| *word != text)
                .map(|word| json!(word))
                .collect(),
            value => alternatives(value),
        };
        let learnable = |other: &Value| {
            let mut changed = base.clone();
            *changed.pointer_mut(&place).unwrap() = other.clone();
            learn(&changed)
        };
        let after = others
            .iter()
            .find_map(learnable)
            .unwrap_or_else(|| panic!("{name}{place}: nothing else is possible"));
        assert!(after != before, "{name}{place} is declared and not read");
    }
}

#[test]
fn every_setting_of_a_method_moves_what_it_learns() {
    let (optimiser, plain, demonstrations) = (json!(optimiser()), Training::default(), rows(11, 2));
    assert_all_read(
        "sft",
        &json!({"epochs": 2, "batch_size": 4, "prompt_weight": 0.5, "optimiser": optimiser}),
        &[],
        &|base| {
            let (model, losses) = sft(
                small_model(1),
                &demonstrations,
                &settings(base)?,
                &plain,
                7,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), losses)
        },
    );
    assert_all_read(
        "pretrain",
        &json!({"steps": 5, "batch_size": 4, "prompt_weight": 0.5, "curriculum": 0.5, "copy_gate": 0.0, "optimiser": optimiser}),
        // The stage makes the batches, and checks the result.
        &["batch_size", "curriculum", "copy_gate"],
        &|base| {
            let text = |step: usize| Ok(rows(4, step as u64));
            let (model, losses) = pretrain(
                small_model(1),
                &settings(base)?,
                &plain,
                7,
                text,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), losses)
        },
    );
    assert_all_read(
        "reward",
        &json!({"loss": "eq11_margin", "margin": 0.5, "bound": 2.0, "l2": 0.1, "read_out": "last_token",
            "normalise": "after_training", "epochs": 2, "batch_size": 4, "optimiser": optimiser}),
        &[],
        &|base| {
            let (model, normalisation, curve) = train_reward(
                small_start(1),
                &pairs(11),
                &settings(base)?,
                &plain,
                7,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), (normalisation, curve))
        },
    );
    assert_all_read(
        "spin",
        &json!({"iterations": 1, "accumulate": "last", "negatives_temperature": 1.0, "beta": 0.1, "epochs": 2,
            "batch_size": 4, "optimiser": optimiser}),
        // The plan lays out the iterations and samples the negatives.
        &["iterations", "accumulate", "negatives_temperature"],
        &|base| {
            let (model, losses) = spin(
                small_model(1),
                &pairs(11),
                &settings(base)?,
                &plain,
                7,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), losses)
        },
    );
    assert_all_read(
        "dpo",
        &json!({"pairs": "synthetic", "iterations": 1, "temperature": 1.0, "anchor": "sft", "beta": 0.1,
            "loss": "sigmoid", "epochs": 2, "batch_size": 4, "optimiser": optimiser}),
        // The plan lays out the iterations, and chooses pairs and reference.
        &["pairs", "iterations", "temperature", "anchor"],
        &|base| {
            let reference = small_model(5);
            let (model, losses) = dpo(
                small_model(1),
                &reference,
                &pairs(11),
                &settings(base)?,
                &plain,
                7,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), losses)
        },
    );
    assert_all_read(
        "iq_learn",
        &json!({"lambda": 0.1, "epochs": 2, "batch_size": 4, "optimiser": optimiser}),
        &[],
        &|base| {
            let (model, losses) = iq_learn(
                small_model(1),
                &demonstrations,
                &settings(base)?,
                &plain,
                7,
                &Unwatched,
            )
            .unwrap();
            learned(&model.weights(), losses)
        },
    );
    let mut base = json!(rloo_settings());
    // With two updates, ratios move little.
    (base["updates"], base["clip"]) = (json!(2), json!(1e-3));
    assert_all_read("rloo", &base, &[], &|base| {
        let (model, records) = run_rloo(&settings(base)?, &plain, &Unwatched).ok()?;
        learned(&model.weights(), records)
    });
    let mut base = json!(grpo_settings());
    (base["updates"], base["clip"]) = (json!(2), json!(1e-3));
    assert_all_read("grpo", &base, &[], &|base| {
        let (model, records) = run_grpo(&settings(base)?, &plain, &Unwatched).ok()?;
        learned(&model.weights(), records)
    });
    for critic in ["zero_head", "reward_copy"] {
        let mut base = json!(ppo_settings());
        // With two updates, values move little.
        (base["critic"], base["updates"], base["clip_value"]) =
            (json!(critic), json!(2), json!(1e-3));
        assert_all_read(&format!("ppo with {critic}"), &base, &[], &|base| {
            let (model, records) = run_ppo(&settings(base)?, &plain, &Unwatched);
            learned(&model.weights(), records)
        });
    }
}

#[test]
fn every_switch_of_training_does_what_it_says() {
    let base =
        json!({"epochs": 2, "batch_size": 4, "prompt_weight": 0.0, "optimiser": optimiser()});
    let learn = |switches: Value| {
        let (model, losses) = sft(
            small_model(1),
            &rows(11, 2),
            &settings(&base)?,
            &settings(&switches)?,
            7,
            &Unwatched,
        )
        .unwrap();
        learned(&model.weights(), losses)
    };
    let with = |key: &str, value: Value| {
        let mut switches = json!(Training {
            lora_rank: 2,
            ..Training::default()
        });
        switches[key] = value;
        learn(switches)
    };
    let before = with("lora_rank", json!(2)).unwrap();
    for (key, value) in [
        ("dtype", json!("bf16")),
        ("lora_rank", json!(0)),
        ("lora_alpha", json!(4.0)),
    ] {
        let after = with(key, value).unwrap();
        assert!(after != before, "training.{key} is declared and not read");
    }
    assert!(
        with("gradient_checkpointing", json!(true)).unwrap() == before,
        "time for memory, and nothing else"
    );
    assert_eq!(
        json!(Training::default()).as_object().unwrap().len(),
        4,
        "and these are all"
    );
}

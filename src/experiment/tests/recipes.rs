//! Tests of recipes and ablations: what they resolve to, and what of them is refused.

use super::super::*;
use super::mistakes::complaint;
use super::{method, rendered, resolve, shipped, tldr_with_claims};

/// The experiment with RLHF's recipe written as `recipe`.
fn rlhf_as(recipe: &str) -> [String; 2] {
    ["recipe = \"rlhf\"".into(), format!("recipe = {recipe}")]
}

#[test]
fn a_recipe_that_cannot_be_computed_is_refused_with_a_remedy() {
    let snapshots: String = [
        ("ppo_without_judge", r#"{ step = "ppo" }"#),
        (
            "best_of_n_by_gold",
            r#"{ judge = "gold", step = "best_of_n" }"#,
        ),
        (
            "spin_without_own_pairs",
            r#"{ pairs = ["preferences"], step = "spin" }"#,
        ),
        ("dpo_without_pairs", r#"{ step = "dpo" }"#),
        (
            "learned_from_nothing",
            r#"{ judge = "learned", step = "ppo" }"#,
        ),
        (
            "own_pairs_without_step",
            r#"{ pairs = ["own"], judge = "learned" }"#,
        ),
        ("best_of_n_without_judge", r#"{ answer = "best_of_n" }"#),
        (
            "log_probability_as_reward",
            r#"{ judge = "log_probability", step = "ppo" }"#,
        ),
        ("unused_log_probability", r#"{ judge = "log_probability" }"#),
        ("unknown_axis", r#"{ judge = "learned", steps = "ppo" }"#),
        ("unknown_name", r#""rhlf""#),
        ("wrong_type", "3"),
    ]
    .map(|(name, recipe)| {
        let [from, to] = rlhf_as(recipe);
        format!("[{name}]\n{}\n", complaint(&from, &to))
    })
    .concat();
    insta::assert_snapshot!("recipes", snapshots);
}

/// A shipped name and the same point of the axes written out are one method.
#[test]
fn a_recipe_may_be_written_out() {
    let [from, to] =
        rlhf_as(r#"{ start = "sft", pairs = ["preferences"], judge = "learned", step = "ppo" }"#);
    let text = tldr_with_claims();
    assert!(text.contains(&from));
    let study = resolve(&text.replacen(&from, &to, 1), Selection::default());
    let named = resolve(&text, Selection::default());
    assert_eq!(method(&study, "rlhf").recipe, method(&named, "rlhf").recipe);
}

/// The error for the shipped ablations after replacing `from` by `to`.
fn ablation_complaint(from: &str, to: &str) -> String {
    let text = SHIPPED
        .iter()
        .find(|(name, _)| *name == "tldr-ablations")
        .unwrap()
        .1;
    assert!(text.contains(from), "{from:?} is in the experiment");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), text.replacen(from, to, 1)).unwrap();
    match Experiment::load_from("./a.toml", folder.path()) {
        Ok(_) => panic!("{to:?} instead of {from:?} passed"),
        Err(error) => rendered(&error).replace(&folder.path().display().to_string(), "."),
    }
}

#[test]
fn what_is_wrong_with_an_ablation_points_at_its_line() {
    let replacements = [
        (
            "key",
            "key = \"demonstrations.count\"",
            "key = \"demonstrations.cuont\"",
        ),
        (
            "section",
            "key = \"demonstrations.count\"",
            "key = \"demos.count\"",
        ),
        ("value", "values = [25, 50,", "values = [25, 0,"),
        ("value_type", "values = [25, 50,", "values = [25, \"many\","),
        (
            "method",
            "methods = [\"sft\", \"iq-learn\", \"spin\", \"irl\"]",
            "methods = [\"sft\", \"iqlearn\"]",
        ),
        (
            "metric",
            "metrics = [\"gold\", \"kl\"]",
            "metrics = [\"gold\", \"copy_accuracy\"]",
        ),
        ("against", "against = \"irl\"", "against = \"irll\""),
        ("nothing_varies", "key = \"irl.accumulate\"\n", ""),
        (
            "scale",
            "values_at.paper = [100,",
            "values_at.papers = [100,",
        ),
        (
            "no_x",
            "label = \"1\"\nx = 1.0\nirl.iterations = 1",
            "label = \"1\"\nirl.iterations = 1",
        ),
        ("point_twice", "values = [1, 2, 4]", "values = [1, 2, 2]"),
        (
            "claim",
            "versus = \"irl-quantity-25\"",
            "versus = \"irl-quantity-26\"",
        ),
        (
            "relative_to",
            "method = \"irl-quantity-800\", versus",
            "method = \"irl-quantity-8000\", versus",
        ),
    ];
    let said: String = replacements
        .iter()
        .map(|(name, from, to)| format!("[{name}]\n{}\n", ablation_complaint(from, to)))
        .collect();
    insta::assert_snapshot!("ablations", said);
}

#[test]
fn an_ablation_runs_as_far_as_its_methods_and_its_profile_let_it() {
    let experiment = shipped("tldr-ablations");
    let points = |selection: Selection| -> Vec<String> {
        let study = experiment.resolve(&selection).unwrap();
        study
            .methods
            .into_iter()
            .filter(|method| method.point)
            .map(|method| method.id)
            .collect()
    };
    let some = |methods: &[&str], ablations: &[&str]| Selection {
        methods: methods.iter().map(|id| id.to_string()).collect(),
        ablations: ablations.iter().map(|id| id.to_string()).collect(),
        ..Selection::default()
    };
    assert_eq!(
        points(some(&["sft", "irl"], &["negatives", "preferences"])),
        ["irl-negatives-1", "irl-negatives-2", "irl-negatives-4"]
    );
    assert_eq!(points(some(&["sft", "irl"], &["none"])), [""; 0]);
    let smoke = Selection {
        profile: "smoke".into(),
        ..some(&["sft", "irl"], &["quantity"])
    };
    assert_eq!(
        points(smoke),
        [
            "sft-quantity-25",
            "sft-quantity-50",
            "irl-quantity-25",
            "irl-quantity-50"
        ]
    );
    let paper = Selection {
        scale: "paper".into(),
        profile: "paper".into(),
        ..some(&["sft", "irl"], &["quantity"])
    };
    let found = points(paper);
    assert_eq!(
        (found.len(), found[0].as_str(), found[13].as_str()),
        (14, "sft-quantity-100", "irl-quantity-100000")
    );
    let counts = experiment
        .resolve(&some(&["sft", "irl"], &["quantity"]))
        .unwrap();
    assert_eq!(
        method(&counts, "irl-quantity-50")
            .hyper
            .demonstrations
            .count,
        50
    );
    assert!(
        rendered(&experiment.resolve(&some(&[], &["quantum"])).unwrap_err())
            .contains("did you mean `quantity`")
    );
}

#[test]
fn at_a_point_of_an_ablation_sft_is_as_long_as_the_same_point() {
    let text = include_str!("../../../experiments/tldr-ablations.toml");
    let methods = "methods = [\"sft\", \"iq-learn\", \"spin\", \"irl\"]";
    assert!(text.contains(methods));
    let text = text.replace(
        methods,
        "methods = [\"sft\", \"sft-steps\", \"iq-learn\", \"spin\", \"irl\"]",
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("longer.toml"), text).unwrap();
    let study = Experiment::load_from("longer.toml", folder.path())
        .unwrap()
        .resolve(&Selection::default())
        .unwrap();
    let matched = |id: &str| method(&study, id).matched().cloned();
    assert_eq!(matched("sft-steps"), Some("irl".into()));
    assert_eq!(
        matched("sft-steps-quantity-25"),
        Some("irl-quantity-25".into())
    );
    assert_eq!(matched("sft-quantity-25"), None);
}

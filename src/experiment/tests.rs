//! Tests of the whole path from a file to a study, and of the errors for faulty files.

use super::*;
use crate::methods::reward::RewardLoss;
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A valid experiment that the tests modify.
const TLDR: &str = include_str!("../../experiments/tldr.toml");
const CLAIMS: &str = include_str!("../../experiments/claims/tldr.toml");

/// The shipped experiment with its registered claims as if they were its own.
fn tldr_with_claims() -> String {
    let first = CLAIMS
        .find("[[claim]]")
        .expect("the claim file has a claim");
    let claims = CLAIMS[first..].replace("margin_share = 0.2", "margin = 0.023");
    let (before, registration) = TLDR
        .split_once("[registration]\n")
        .expect("the study is registered");
    let (_, after) = registration.split_once("\n\n").expect("something follows");
    format!("{before}{after}\n{claims}")
}

fn shipped(name: &str) -> Experiment {
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    Experiment::load_from(name, nowhere.path())
        .unwrap_or_else(|error| panic!("{name}: {}", rendered(&error)))
}

fn resolve(text: &str, selection: Selection) -> Study {
    let experiment =
        Experiment::parse("t.toml", text).unwrap_or_else(|error| panic!("{}", rendered(&error)));
    experiment
        .resolve(&selection)
        .unwrap_or_else(|error| panic!("{}", rendered(&error)))
}

fn method<'a>(study: &'a Study, id: &str) -> &'a MethodPlan {
    study
        .methods
        .iter()
        .find(|method| method.id == id)
        .unwrap_or_else(|| panic!("{id} is a method"))
}

/// An error as the command line shows it, without colours.
fn rendered(error: &crate::Error) -> String {
    let mut text = String::new();
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler
        .render_report(&mut text, error)
        .expect("writing to a string");
    text
}

/// The error for the shipped experiment after replacing `from`, which it must contain, by `to`.
fn complaint(from: &str, to: &str) -> String {
    let text = tldr_with_claims();
    assert!(text.contains(from), "{from:?} is in the experiment");
    let text = text.replacen(from, to, 1);
    match Experiment::parse("t.toml", &text) {
        Ok(_) => panic!("{to:?} instead of {from:?} passed"),
        Err(error) => rendered(&error),
    }
}

/// The errors after each of the replacements (name, from, to).
fn complaints(replacements: &[(&str, &str, &str)]) -> String {
    replacements
        .iter()
        .map(|(name, from, to)| format!("[{name}]\n{}\n", complaint(from, to)))
        .collect()
}

#[test]
fn shipped_experiments_resolve_in_all_profiles() {
    for (name, _) in SHIPPED {
        let experiment = shipped(name);
        assert_eq!(experiment.name, name);
        for profile in ["standard", "smoke"] {
            let study = experiment
                .resolve(&Selection {
                    profile: profile.into(),
                    ..Selection::default()
                })
                .unwrap();
            let smoke = profile == "smoke";
            assert_eq!(study.seeds.len(), if smoke { 2 } else { 5 });
            assert_eq!(study.sizes.len(), 1);
            assert!(!study.claims.is_empty() || ["chat", "tldr-tuning"].contains(&name));
        }
        let study = experiment.resolve(&Selection::default()).unwrap();
        assert_eq!(study.untested_claims, Vec::<String>::new());
    }
}

#[test]
fn controls_run_on_the_study_s_own_world_and_hyper_parameters() {
    for names in [
        ["tldr", "world-controls"],
        ["tldr-flawed", "world-controls-flawed"],
    ] {
        let [study, controls] =
            names.map(|name| shipped(name).resolve(&Selection::default()).unwrap());
        assert_eq!(study.world, controls.world);
        assert_eq!(study.sizes, controls.sizes);
        // Except for the length of RLHF, which in the controls equals that of PPO on gold, and for
        // the posts, which are not the test's.
        let length = controls.shared.rlhf.clone();
        let evaluation = EvaluationSettings {
            split: EvaluationSplit::Controls,
            ..study.shared.evaluation.clone()
        };
        assert_eq!(
            Hyper {
                rlhf: length,
                evaluation,
                ..study.shared
            },
            controls.shared
        );
        assert!(
            controls
                .methods
                .iter()
                .all(|method| !method.recipe.is_inverse_rl())
        );
    }
}

#[test]
fn later_overrides_win() {
    let text = TLDR.replace(
        "ppo = { updates = 4, rollouts = 32 }",
        "ppo = { updates = 4, rollouts = 32, epochs = 3 }",
    );
    let text = text.replace(
        "recipe = \"rlhf\"\n",
        "recipe = \"rlhf\"\nppo.updates = 7\n",
    );
    let study = |profile: &str, set: &[&str]| {
        let set = set.iter().map(|text| text.to_string()).collect();
        resolve(
            &text,
            Selection {
                profile: profile.into(),
                set,
                ..Selection::default()
            },
        )
    };
    let ppo = |study: &Study, id: &str| {
        let ppo = &method(study, id).hyper.ppo;
        (ppo.updates, ppo.rollouts, ppo.epochs)
    };
    let (standard, smoke) = (study("standard", &[]), study("smoke", &[]));
    assert_eq!(ppo(&standard, "irl"), (30, 64, 2));
    assert_eq!(ppo(&standard, "rlhf"), (7, 64, 2));
    assert_eq!(ppo(&smoke, "irl"), (4, 32, 3));
    assert_eq!(ppo(&smoke, "rlhf"), (7, 32, 3));
    let set = study("smoke", &["ppo.updates=9", "preferences.labels=clean"]);
    assert_eq!(ppo(&set, "irl"), (9, 32, 3));
    assert_eq!(ppo(&set, "rlhf"), (9, 32, 3));
    assert_eq!(set.shared.preferences.labels, Labels::Clean);
    // One method's override does not affect others.
    assert_eq!(
        method(&standard, "irl-eq10").hyper.reward.loss,
        RewardLoss::Eq10
    );
    assert_eq!(
        method(&standard, "irl-eq10").hyper.reward.epochs,
        standard.shared.reward.epochs
    );
    assert_eq!(standard.shared.reward.loss, RewardLoss::Eq11);
    assert_eq!(method(&standard, "sft").hyper, standard.shared);
}

#[test]
fn a_scale_s_overrides_lie_under_the_profile_s() {
    let text = TLDR.replace(
        "[scale.mini]\n",
        "[scale.mini]\nppo = { updates = 11, epochs = 3 }\n",
    );
    let at = |profile: &str| {
        let ppo = resolve(
            &text,
            Selection {
                profile: profile.into(),
                ..Selection::default()
            },
        )
        .shared
        .ppo;
        (ppo.updates, ppo.epochs)
    };
    assert_eq!((at("standard"), at("smoke")), ((11, 3), (4, 3)));
}

#[test]
fn sections_are_the_fields_of_the_hyper_parameters() {
    let study = resolve(TLDR, Selection::default());
    let serde_json::Value::Object(fields) = serde_json::to_value(&study.shared).unwrap() else {
        panic!("a struct")
    };
    let mut sections = Hyper::SECTIONS.to_vec();
    sections.sort();
    let mut fields: Vec<_> = fields.keys().map(String::as_str).collect();
    fields.sort();
    assert_eq!(fields, sections);
}

/// The keys of all tables in `value`, whatever their depth.
fn keys(value: &serde_json::Value) -> Vec<&str> {
    let tables = value.as_object().into_iter().flatten();
    tables
        .flat_map(|(key, inner)| std::iter::once(key.as_str()).chain(keys(inner)))
        .collect()
}

#[test]
fn the_page_on_experiment_files_names_every_setting() {
    let page = include_str!("../../docs/experiments.md");
    let study = resolve(TLDR, Selection::default());
    let mut settings = vec![
        serde_json::to_value(&study.shared).unwrap(),
        serde_json::to_value(&study.report).unwrap(),
    ];
    settings.extend(
        study
            .sizes
            .iter()
            .map(|(_, model)| serde_json::to_value(model).unwrap()),
    );
    let claim = serde_json::to_value(&study.claims[0]).unwrap();
    let of_claims = claim
        .as_object()
        .into_iter()
        .flat_map(|claim| claim.keys().map(String::as_str));
    for key in settings.iter().flat_map(keys).chain(of_claims) {
        let named = [format!("`{key}`"), format!("[{key}]"), format!(".{key}]")];
        assert!(
            named.iter().any(|name| page.contains(name)),
            "{key} is not on the page"
        );
    }
}

#[test]
fn names_of_heuristics_are_their_serialised_form() {
    for heuristic in Heuristic::ALL {
        assert_eq!(serde_json::to_value(heuristic).unwrap(), heuristic.name());
    }
}

#[test]
fn a_design_counts_the_primary_comparisons_that_the_file_declares_for_its_scale() {
    let of = |selection| resolve(TLDR, selection).design;
    let all = of(Selection::default());
    let primary = |claim: &&Claim| claim.role == Role::Primary;
    let study = resolve(TLDR, Selection::default());
    let tested: usize = study
        .claims
        .iter()
        .filter(primary)
        .map(|claim| claim.metrics.len() * claim.sizes.len())
        .sum();
    assert_eq!(
        (all.comparisons, all.looks.as_slice()),
        (tested, &[5, 10, 20, 40][..])
    );
    assert_eq!((study.claims.len(), tested), (12, 26));
    // A selection of a part is held to the whole.
    let part = Selection {
        methods: vec!["sft".into(), "irl".into()],
        sizes: vec!["mini-1b".into()],
        ..Selection::default()
    };
    assert_eq!(of(part), all);
    assert_eq!(
        of(Selection {
            profile: "smoke".into(),
            ..Selection::default()
        }),
        all
    );
    // A second metric adds a comparison.
    let one = "metrics = [\"demo_log_likelihood\"]\nmethod";
    let two = tldr_with_claims().replacen(
        one,
        "metrics = [\"demo_log_likelihood\", \"kl\"]\nmethod",
        1,
    );
    assert_eq!(
        resolve(&two, Selection::default()).design.comparisons,
        tested + 1
    );
}

#[test]
fn a_selection_narrows_a_study_and_its_claims() {
    let select = |methods: &[&str], sizes: &[&str]| Selection {
        methods: methods.iter().map(|id| id.to_string()).collect(),
        sizes: sizes.iter().map(|size| size.to_string()).collect(),
        seeds: Some(SeedChoice::Preset("paper".into())),
        ..Selection::default()
    };
    let study = resolve(TLDR, select(&["irl", "sft"], &["mini-1b"]));
    assert_eq!(study.seeds, [44413, 55513, 66613, 77713]);
    assert_eq!(
        study
            .methods
            .iter()
            .map(|method| method.id.as_str())
            .collect::<Vec<_>>(),
        ["sft", "irl"]
    );
    assert!(study.claims.iter().all(|claim| claim.sizes == ["mini-1b"]));
    assert!(study.claims.iter().any(|claim| claim.id == "irl-beats-sft"));
    for left_out in [
        "irl-beats-spin",
        "irl-as-good-as-rlhf",
        "eq11-as-good-as-eq10",
    ] {
        assert!(
            study.untested_claims.iter().any(|id| id == left_out),
            "{left_out}"
        );
    }

    let experiment = Experiment::parse("t.toml", TLDR).unwrap();
    let refused = |selection| rendered(&experiment.resolve(&selection).expect_err("refused"));
    let set = |text: &str| {
        refused(Selection {
            set: vec![text.into()],
            ..Selection::default()
        })
    };
    let said = [
        refused(select(&["irl"], &[])),
        refused(select(&["sft", "irl-eq11"], &[])),
        refused(Selection {
            scale: "papers".into(),
            ..Selection::default()
        }),
        refused(Selection {
            profile: "smok".into(),
            ..Selection::default()
        }),
        set("pop.updates=3"),
        set("world.posts=3"),
        set("ppo.update=3"),
        set("ppo.updates=many"),
        set("ppo.updates"),
    ];
    insta::assert_snapshot!("selections", said.join("\n"));
}

#[test]
fn unknown_keys_are_errors_wherever_they_stand() {
    let snapshots = [
        ("top_level", "question = ", "qestion = "),
        (
            "shared_section",
            "kl_coefficient = 0.05",
            "kl_coeficient = 0.05",
        ),
        ("optimiser", "warmup_steps = 50", "warm_up_steps = 50"),
        ("section", "[evaluation]", "[evalaution]"),
        ("method", "note = \"imitation", "notes = \"imitation"),
        ("method_section", "reward = { loss", "rewards = { loss"),
        (
            "method_override",
            "loss = \"eq10\", bound",
            "loss = \"eq10\", bounds",
        ),
        ("profile", "sizes = [\"mini-1b\"]", "size = [\"mini-1b\"]"),
        (
            "profile_override",
            "spin.iterations = 1",
            "spin.iteration = 1",
        ),
        ("model", "num_hidden_layers = 2", "hidden_layers = 2"),
        (
            "scale",
            "description = \"the embedded",
            "descripton = \"the embedded",
        ),
        ("seeds", "default = [2", "defaults = [2"),
        ("claim", "role = \"primary\"", "rolle = \"primary\""),
        ("report", "baseline = ", "base_line = "),
        ("report_column", "decimals = 3", "digits = 3"),
        ("choice", "loss = \"eq11\"", "loss = \"eq12\""),
        ("metric", "primary = \"gold\"", "primary = \"golden\""),
        ("recipe", "recipe = \"spin\"", "recipe = \"spinn\""),
    ];
    insta::assert_snapshot!("unknown_keys", complaints(&snapshots));
}

#[test]
fn wrong_types_and_missing_keys_say_what_is_expected() {
    let snapshots = [
        ("word_for_count", "updates = 30", "updates = \"many\""),
        ("negative_count", "updates = 30", "updates = -1"),
        ("fraction_for_count", "updates = 30", "updates = 0.5"),
        (
            "number_for_flag",
            "whiten_advantages = true",
            "whiten_advantages = 1",
        ),
        ("value_for_section", "spin.iterations = 1", "spin = 1"),
        ("seeds", "seeds = 5", "seeds = 0.5"),
        ("missing_key", "clip_value = 0.2\n", ""),
        (
            "missing_section",
            "[spin]\niterations = 3\naccumulate = \"last_two\"\nnegatives_temperature = 1.0\nbeta = 0.1\nepochs = 2\nbatch_size = 32\n",
            "[spin]\n",
        ),
        ("syntax", "updates = 30", "updates = = 30"),
    ];
    insta::assert_snapshot!("wrong_types", complaints(&snapshots));
}

#[test]
fn values_out_of_bounds_point_at_their_line() {
    let snapshots = [
        ("count", "updates = 30", "updates = 0"),
        ("probability", "quality = 0.9", "quality = 1.5"),
        (
            "strength",
            "quality = 0.9",
            "quality = 0.9\nauthors.slip = -1.0",
        ),
        ("agreement", "agreement = 0.75", "agreement = 0.5"),
        (
            "temperature",
            "negatives_temperature = 1.0",
            "negatives_temperature = -0.1",
        ),
        ("minibatches", "minibatches = 1", "minibatches = 3"),
        (
            "heads",
            "num_attention_heads = 4",
            "num_attention_heads = 5",
        ),
        ("rotary", "rotary_pct = 0.25", "rotary_pct = 0.05"),
        (
            "no_margin",
            "loss = \"eq10\", bound = 3.0",
            "loss = \"hinge\", margin = 0.0",
        ),
        ("rloo_samples", "samples = 4", "samples = 3"),
        ("filtered_bc_keep", "keep = 0.5", "keep = 0.0"),
        (
            "learning_rate",
            "learning_rate = 3e-4",
            "learning_rate = 0.0",
        ),
        (
            "profile",
            "updates = 4, rollouts = 32",
            "updates = 4, rollouts = 0",
        ),
        (
            "positions",
            "max_position_embeddings = 2048",
            "max_position_embeddings = 100",
        ),
        (
            "margin",
            "direction = \"not_worse\"\nmargin = 0.023",
            "direction = \"not_worse\"\nmargin = 0.0",
        ),
        ("range", "range = [0.0, 1.0]", "range = [1.0, 1.0]"),
        ("size_name", "[models.\"mini-1b\"]", "[models.\"Mini 1B\"]"),
        (
            "seed_twice",
            "default = [21, 22, 23",
            "default = [21, 22, 22",
        ),
        ("no_seeds", "seeds = 5", "seeds = 0"),
    ];
    insta::assert_snapshot!("bounds", complaints(&snapshots));
}

#[test]
fn references_must_be_declared() {
    let snapshots = [
        (
            "claim_method",
            "method = \"rlhf\"\nversus",
            "method = \"rhlf\"\nversus",
        ),
        ("claim_versus", "versus = \"shorter\"", "versus = \"short\""),
        (
            "claim_metric",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"gold_gready\"]\nmethod",
        ),
        (
            "claim_size",
            "sizes = [\"mini-1b\"]\ndirection",
            "sizes = [\"mini-6.9b\"]\ndirection",
        ),
        ("claim_itself", "versus = \"spin\"", "versus = \"irl\""),
        (
            "claim_without_reward",
            "method = \"irl-first\"\nversus = \"log_probability\"",
            "method = \"sft\"\nversus = \"log_probability\"",
        ),
        (
            "claim_heuristic_for_policy",
            "metrics = [\"demo_log_likelihood\"]\nmethod = \"irl\"\nversus = \"sft\"",
            "metrics = [\"gold\"]\nmethod = \"irl\"\nversus = \"chance\"",
        ),
        (
            "claim_not_worse_of_what_is_not_better",
            "metrics = [\"demo_log_likelihood\"]\nmethod = \"irl\"\nversus = \"sft\"\nsizes = [\"mini-1b\"]\ndirection = \"greater\"",
            "metrics = [\"kl\"]\nmethod = \"irl\"\nversus = \"sft\"\nsizes = [\"mini-1b\"]\ndirection = \"not_worse\"",
        ),
        (
            "claim_metric_twice",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"gold\", \"gold\"]\nmethod",
        ),
        (
            "claim_without_metric",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = []\nmethod",
        ),
        (
            "claim_metric_undeclared",
            "metrics = [\"demo_log_likelihood\"]\nmethod",
            "metrics = [\"surrogate_gap\"]\nmethod",
        ),
        (
            "claim_twice",
            "id = \"irl-beats-spin\"",
            "id = \"irl-beats-sft\"",
        ),
        ("method_twice", "id = \"spin\"", "id = \"irl\""),
        (
            "method_identifier",
            "id = \"irl-eq10\"",
            "id = \"irl eq10\"",
        ),
        (
            "method_named_like_heuristic",
            "id = \"spin\"",
            "id = \"chance\"",
        ),
        (
            "profile_size",
            "sizes = [\"mini-1b\"]",
            "sizes = [\"mini-1\"]",
        ),
        ("profile_preset", "seeds = 5", "seeds = \"papers\""),
        (
            "report_baseline",
            "baseline = \"sft\"",
            "baseline = \"stf\"",
        ),
        (
            "report_metric",
            "\"eos_rate\", \"learned_reward\"]",
            "\"eos_rate\", \"copy_accuracy\"]",
        ),
        (
            "model_revision",
            "hf:EleutherAI/pythia-1b-deduped@main",
            "hf:EleutherAI/pythia-1b-deduped",
        ),
        ("data_revision", "tldr_3_filtered@main", "tldr_3_filtered"),
    ];
    insta::assert_snapshot!("references", complaints(&snapshots));
}

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
fn experiments_are_found_by_path_by_name_above_and_inside_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let experiments = folder.path().join("experiments");
    let deep = folder.path().join("a/b");
    std::fs::create_dir_all(&experiments).unwrap();
    std::fs::create_dir_all(&deep).unwrap();
    let own = TLDR.replace(
        "title = \"Rewards from demonstrations: TL;DR\"",
        "title = \"My own\"",
    );
    std::fs::write(experiments.join("tldr.toml"), own).unwrap();
    std::fs::create_dir(experiments.join("claims")).unwrap();
    std::fs::write(experiments.join("claims/tldr.toml"), CLAIMS).unwrap();
    let title = |name: &str| Experiment::load_from(name, &deep).map(|experiment| experiment.title);
    assert_eq!(
        title("tldr").unwrap(),
        "My own",
        "a name is searched upward before the shipped copies"
    );
    assert_eq!(title("../../experiments/tldr.toml").unwrap(), "My own");
    assert_eq!(
        title("world-controls").unwrap(),
        "Controls of the embedded world"
    );
    let said = ["tlrd", "zzz"].map(|name| rendered(&title(name).unwrap_err()));
    insta::assert_snapshot!("unknown_experiments", said.join("\n"));
    assert!(title("experiments/none.toml").is_err());
}

#[test]
fn an_experiment_that_extends_another_is_laid_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "longer.toml",
        "extends = \"tldr\"\nname = \"longer\"\n[ppo]\nupdates = 80\n",
    );
    let study = Experiment::load_from("./longer.toml", folder.path())
        .unwrap()
        .resolve(&Selection::default())
        .unwrap();
    assert_eq!(
        (
            study.name.as_str(),
            study.shared.ppo.updates,
            study.shared.ppo.rollouts
        ),
        ("longer", 80, 64)
    );

    write("wrong.toml", "extends = \"tldr\"\n[ppo]\nupdate = 80\n");
    let error = Experiment::load_from("./wrong.toml", folder.path()).unwrap_err();
    assert!(
        rendered(&error).contains("wrong.toml:3:1"),
        "{}",
        rendered(&error)
    );

    write("a.toml", "extends = \"b\"\n");
    write("b.toml", "extends = \"a\"\n");
    assert!(
        Experiment::load_from("./a.toml", folder.path()).is_err(),
        "a circle ends"
    );
}

#[test]
fn what_is_chosen_is_declared_among_what_is_fixed_and_taken_back_by_a_word() {
    let at = |set: &[&str]| {
        let set = set.iter().map(|text| text.to_string()).collect();
        shipped("tldr").resolve(&Selection {
            set,
            ..Selection::default()
        })
    };
    let tuning = |set: &[&str]| at(set).unwrap().shared.choices.sft.tuning;
    let declared = tuning(&[]).unwrap();
    assert!(declared.epochs.len() > 2 && declared.held_out == 0.25);
    let changed = tuning(&["sft.tuning.epochs=[3, 6]"]).unwrap();
    assert_eq!(
        (changed.epochs, changed.learning_rates),
        (vec![3, 6], declared.learning_rates)
    );
    assert_eq!(tuning(&["sft.tuning=none"]), None);
    assert_eq!(
        shipped("tldr")
            .resolve(&Selection {
                scale: "paper".into(),
                ..Selection::default()
            })
            .unwrap()
            .shared
            .choices,
        Default::default()
    );
    let refused = |set: &str| at(&[set]).map(|_| ()).unwrap_err().to_string();
    for (set, message) in [
        (
            "sft.tuning=never",
            "`sft.tuning` is a table, or the word \"none\"",
        ),
        ("sft.tunning=none", "unknown key `tunning` in `sft`"),
        (
            "sft.tuning.epochs=[5, 2]",
            "`sft.tuning.epochs` must be ascending whole numbers, each at least 1, but is [5, 2]",
        ),
        (
            "sft.tuning.epochs=[]",
            "`sft.tuning.epochs` must be ascending whole numbers, each at least 1, but is []",
        ),
        (
            "dpo.tuning.learning_rates=[0.0]",
            "`dpo.tuning.learning_rates` must be ascending numbers above 0, but is [0]",
        ),
        (
            "dpo.tuning.lambdas=[0.1]",
            "`dpo.tuning.lambdas` must be left out: only IQ-Learn has a λ, but is [0.1]",
        ),
        (
            "iq_learn.tuning.held_out=1.0",
            "`iq_learn.tuning.held_out` must be above 0 and below 1, but is 1",
        ),
        (
            "sft.epochs=10",
            "`sft.epochs` would change nothing: `sft.tuning` chooses it",
        ),
        (
            "iq_learn.lambda=0.5",
            "`iq_learn.lambda` would change nothing: `iq_learn.tuning` chooses it",
        ),
        (
            "dpo.optimiser.learning_rate=1e-4",
            "`dpo.optimiser.learning_rate` would change nothing: `dpo.tuning` chooses it",
        ),
        (
            "sft.tuning.epoch=[1]",
            "unknown key `epoch` in `sft.tuning`",
        ),
    ] {
        assert_eq!(refused(set), message);
    }
}

#[test]
fn at_a_point_of_an_ablation_sft_is_as_long_as_the_same_point() {
    let text = include_str!("../../experiments/tldr-ablations.toml");
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

//! Tests of the layers that make a study: files that extend others, scales, profiles, what is selected.

use super::super::*;
use super::{CLAIMS, TLDR, method, rendered, resolve, shipped, tldr_with_claims};
use crate::methods::reward::RewardLoss;

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
            assert!(!study.claims.is_empty() || name == "tldr-tuning");
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

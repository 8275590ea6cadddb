//! Tests of the ablation study through the program: every recipe, every loss and policy step, every
//! released variant and every kind of bad demonstration, from an empty folder to a report.

mod common;

use common::{Bench, files, fixture};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const RUN: &str =
    "reproduce tiny.toml --profile smoke --jobs 2 --store runs --out reports --seeds 1,";
const REPORT: &str = "reports/tiny-ablations-smoke";

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny-ablations.toml")).unwrap(),
    );
    bench
}

/// Metrics by (method, iteration), of seed 1.
fn measured(bench: &Bench) -> BTreeMap<(String, String), BTreeMap<String, f64>> {
    let text = bench.read(format!("{REPORT}/metrics.csv"));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let [method, seed, metric, value, iteration] =
        ["method", "seed", "metric", "value", "iteration"].map(place);
    let mut found: BTreeMap<_, BTreeMap<String, f64>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let number: f64 = fields[value].parse().unwrap();
        assert!(number.is_finite(), "{line}");
        if fields[seed] == "1" {
            let cell = (fields[method].to_owned(), fields[iteration].to_owned());
            found
                .entry(cell)
                .or_default()
                .insert(fields[metric].to_owned(), number);
        }
    }
    found
}

/// One test makes all checks on one run, since a run takes a minute.
#[test]
fn every_recipe_and_every_point_reaches_the_report() {
    let bench = tiny();
    let ablations = "noise-base,noise-shuffled,noise-truncated,loss,bound,reward-start,accumulate,kl,preferences,released,selection";
    let said = bench.succeed(&format!(
        "{RUN} --ablations {ablations} --set irl.iterations=2"
    ));
    assert!(!said.err.contains("failed"), "{}", said.err);
    let found = measured(&bench);
    let metrics = |method: &str, iteration: &str| -> BTreeSet<&str> {
        let cell = (method.to_owned(), iteration.to_owned());
        found
            .get(&cell)
            .unwrap_or_else(|| panic!("{cell:?} is missing"))
            .keys()
            .map(String::as_str)
            .collect()
    };
    let has = |method: &str, iteration: &str, wanted: &[&str]| {
        let found = metrics(method, iteration);
        assert!(
            wanted.iter().all(|metric| found.contains(metric)),
            "{method}, {iteration}: {found:?}"
        );
    };
    let rewards = [
        "preference_accuracy",
        "preference_accuracy_per_token",
        "on_policy_accuracy",
        "demonstration_accuracy",
    ];
    for method in ["base", "demonstrator", "sft", "filtered-bc"] {
        has(method, "0", &["gold", "win_rate"]);
        assert!(
            metrics(method, "0").is_disjoint(&rewards.into()),
            "{method} learns no reward"
        );
    }
    for method in [
        "iq-learn",
        "spin-reward",
        "dpo",
        "dpo-preferences",
        "rlhf",
        "irl-rlhf",
    ] {
        has(
            method,
            "0",
            &["gold", "gold_greedy", "kl", "demo_log_likelihood"],
        );
        has(method, "0", &rewards);
    }
    let pairs = [
        "synthetic_gold_agreement",
        "synthetic_human_agreement",
        "identical_share",
    ];
    for method in ["irl", "irl-eq10", "irl-rloo", "irl-bon", "irl-dpo"] {
        for iteration in ["1", "2"] {
            has(
                method,
                iteration,
                &["gold", "demo_log_likelihood", "learned_reward"],
            );
            has(method, iteration, &rewards);
            has(method, iteration, &pairs);
        }
    }
    has("spin", "1", &pairs);
    has("iterative-dpo-gold", "2", &rewards);
    has("irl", "2", &["surrogate_gap"]);
    assert!(
        !metrics("irl-eq10", "2").contains("surrogate_gap"),
        "Lemma 4.1 is looked at in the method under study"
    );

    // Points are measured only at their last iteration, and differ from the method if they must.
    let gold = |method: &str| found[&(method.to_owned(), "2".to_owned())]["gold"];
    for point in [
        "irl-loss-eq11",
        "irl-released-derived",
        "irl-noise-base-0",
        "irl-selection-last",
    ] {
        assert_eq!(gold(point), gold("irl"), "{point}");
        assert!(!found.contains_key(&(point.to_owned(), "1".to_owned())));
    }
    let accuracy =
        |method: &str| found[&(method.to_owned(), "2".to_owned())]["preference_accuracy_per_token"];
    let reward = |method: &str| found[&(method.to_owned(), "2".to_owned())]["learned_reward"];
    for point in [
        "irl-released-read-out",
        "irl-released-normalise",
        "irl-released-modes",
        "irl-loss-hinge",
        "irl-loss-eq10-l2",
    ] {
        let same = reward(point) == reward("irl")
            && accuracy(point) == accuracy("irl")
            && gold(point) == gold("irl");
        assert!(!same, "{point} changes nothing");
    }

    let report = bench.read(format!("{REPORT}/report.md"));
    for question in [
        "Eq. 10, eq. 11 and their kin",
        "What the authors' released code does otherwise",
        "Lemma 4.1",
    ] {
        assert!(report.contains(question), "{question} is not in the report");
    }
    let written = files(&bench.path(REPORT));
    for name in [
        "figures/curve-likelihood-deviation.svg",
        "figures/curve-loss-growth.svg",
        "figures/curve-kl-plane.svg",
    ] {
        assert!(
            written.contains_key(std::path::Path::new(name)),
            "{name} is missing: {:?}",
            written.keys()
        );
    }
    // The same results give the same bytes.
    bench.succeed(&format!(
        "{} --ablations {ablations} --set irl.iterations=2",
        RUN.replace("reproduce", "report").replace("--jobs 2 ", "")
    ));
    assert!(
        files(&bench.path(REPORT)) == written,
        "the report changed without a new result"
    );
}

#[test]
fn a_point_on_real_posts_that_needs_gold_is_refused_by_name() {
    let bench = Bench::new();
    let said = bench.run("plan tldr-ablations --scale paper --store runs");
    assert_eq!(said.code, Some(3));
    assert!(
        said.err.contains("`demonstrator` needs an author")
            && said.err.contains("--methods base,sft"),
        "{}",
        said.err
    );
    let said = bench.run(
        "plan tldr-ablations --scale paper --methods sft,irl --ablations selection --store runs",
    );
    assert!(
        said.err.contains("point of ablation `selection`") && said.err.contains("--ablations"),
        "{}",
        said.err
    );
    let planned = bench.succeed("plan tldr-ablations --scale paper --profile paper --store runs");
    assert!(planned.out.contains("stages, 0 done"), "{}", planned.out);
}

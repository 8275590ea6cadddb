//! Tests of registered claims through the program: a changed claim file, and runs that go on until
//! claims are decided.

mod common;

use common::{Bench, fixture};
use std::fs;

const CONFIGURATION: i32 = 3;

const CLAIMS: &str = r#"
registered = "2026-01-01T00:00:00Z"
background = "nothing"
seeds = { first = 1, last = 6 }
alpha = 0.05
looks = [3, 6]
spending = "pocock"
gap.default = { value = 0.5, source = "a guess" }

[[claim]]
id = "irl-beats-sft"
role = "primary"
text = "IRL is better than SFT."
source = "a test"
metrics = ["gold", "gold_greedy"]
method = "irl"
versus = "sft"
sizes = ["tiny"]
direction = "greater"
margin_share = 0.2
margin_reason = "a fifth of a guess"
sd = { gold = 0.05 }
"#;

/// A bench with an experiment of tiny models that registers `claims`; `more` follows in its table.
fn registered(claims: &str, more: &str) -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench.write("claims.toml", claims);
    let text =
        "extends = \"tiny\"\nname = \"registered\"\n[registration]\nfile = \"claims.toml\"\n";
    bench.write("registered.toml", format!("{text}{more}"));
    bench
}

/// The hash of a claim file as the program prints it.
fn hash(bench: &Bench) -> String {
    let said = bench.succeed("claims registered.toml --profile smoke").out;
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("hash "))
        .map(str::to_owned);
    line.unwrap_or_else(|| panic!("no hash in\n{said}"))
}

#[test]
fn a_frozen_claim_file_may_not_change() {
    let bench = registered(CLAIMS, "");
    let draft = bench.succeed("claims registered.toml --profile smoke").out;
    assert!(
        draft.contains("a draft") && draft.contains("margin 0.1"),
        "{draft}"
    );
    assert!(draft.contains("gold, SD 0.05"), "{draft}");
    let frozen = hash(&bench);
    let bench = registered(CLAIMS, &format!("blake3 = \"{frozen}\"\n"));
    assert!(
        bench
            .succeed("claims registered.toml --profile smoke")
            .out
            .contains("frozen")
    );
    // A change of line ends does not count as a change.
    bench.write("claims.toml", CLAIMS.replace('\n', "\r\n"));
    bench.succeed("plan registered.toml --profile smoke --store runs");
    bench.write("claims.toml", CLAIMS.replace("greater", "not_worse"));
    for command in ["plan", "reproduce", "report"] {
        let said = bench.run(&format!(
            "{command} registered.toml --profile smoke --store runs"
        ));
        assert_eq!(said.code, Some(CONFIGURATION), "{}", said.err);
        assert!(
            said.err.contains("not the claim file that was frozen") && said.err.contains(&frozen),
            "{}",
            said.err
        );
    }
}

#[test]
fn claim_files_that_cannot_be_are_refused() {
    for (from, to, expected) in [
        ("2026-01-01T00:00:00Z", "yesterday", "is not a time"),
        ("last = 6", "last = 5", "fewer than the 6 of the last look"),
        ("looks = [3, 6]", "looks = [6, 3]", "ascending"),
        ("alpha = 0.05", "alpha = 1.5", "alpha must lie between"),
        ("spending = \"pocock\"", "spending = \"pococ\"", "pocock"),
        (
            "gap.default = { value = 0.5, source = \"a guess\" }",
            "",
            "no gap",
        ),
        (
            "margin_share = 0.2",
            "margin_share = 0.2\nmargin = 0.1",
            "one margin",
        ),
        ("background = \"nothing\"", "", "background"),
        ("versus = \"sft\"", "versus = \"sfd\"", "sft"),
    ] {
        let bench = registered(&CLAIMS.replace(from, to), "");
        let said = bench.run("plan registered.toml --profile smoke --store runs");
        assert_eq!(said.code, Some(CONFIGURATION), "{to}: {}", said.err);
        assert!(said.err.contains(expected), "{to}: {}", said.err);
    }
    let own = "\n[[claim]]\n".to_owned() + CLAIMS.split("[[claim]]\n").nth(1).unwrap();
    let said = registered(CLAIMS, &own.replace("irl-beats-sft", "another"))
        .run("plan registered.toml --profile smoke");
    assert_eq!(said.code, Some(CONFIGURATION), "{}", said.err);
    assert!(
        said.err
            .contains("the primary claim `another` is not registered"),
        "{}",
        said.err
    );
    let bench = registered(CLAIMS, "");
    fs::remove_file(bench.path("claims.toml")).unwrap();
    let said = bench.run("plan registered.toml --profile smoke");
    assert_eq!(said.code, Some(CONFIGURATION), "{}", said.err);
    assert!(
        said.err.contains("claim file cannot be read"),
        "{}",
        said.err
    );
}

#[test]
fn only_registered_seeds_at_a_planned_look_are_judged() {
    let bench = registered(CLAIMS, "");
    let run = "reproduce registered.toml --profile smoke --methods sft,irl --store runs --out reports --seeds";
    let unregistered = bench.succeed(&format!("{run} 7,8,9")).out;
    assert!(unregistered.contains("no look yet"), "{unregistered}");
    // Without seed 2 these seeds are not a look, because the seeds of a look must not be chosen.
    let chosen = bench.succeed(&format!("{run} 1,3,4,5")).out;
    assert!(chosen.contains("no look yet"), "{chosen}");
    let look = bench.succeed(&format!("{run} 4,2,1,3,5")).out;
    assert!(!look.contains("no look yet"), "{look}");
    let summary: serde_json::Value =
        serde_json::from_str(&bench.read("reports/registered-smoke/summary.json")).unwrap();
    let comparison = &summary["claims"][0]["comparisons"][0];
    assert_eq!(
        comparison["comparison"]["difference"]["n"], 5,
        "{comparison}"
    );
    assert_eq!(comparison["finding"]["n"], 3, "{comparison}");
}

#[test]
fn looks_are_taken_until_all_claims_are_decided_or_the_budget_is_spent() {
    // At such a small error rate six seeds decide nothing.
    let bench = registered(&CLAIMS.replace("alpha = 0.05", "alpha = 0.000001"), "");
    let run = "reproduce registered.toml --profile smoke --methods sft,irl --store runs --out reports --decide";
    let short = bench.succeed(&format!("{run} --budget 1s")).out;
    assert!(short.contains("look 1 of 2: 3 seeds (1 to 3)"), "{short}");
    assert!(
        short.contains("  open ") && short.contains("the budget of 0 min 1 s ends before that"),
        "{short}"
    );
    let all = bench.succeed(run);
    assert!(
        all.out.contains("look 1 of 2: 3 seeds (1 to 3)"),
        "{}",
        all.out
    );
    assert!(
        all.out.contains("look 2 of 2: 6 seeds (1 to 6)"),
        "{}",
        all.out
    );
    // Repeating the looks computes nothing new and gives the same decisions.
    let again = bench.succeed(run);
    let decided = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| line.contains("irl-beats-sft"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(decided(&again.out), decided(&all.out));
    assert!(again.err.contains("stages: 0 finished"), "{}", again.err);
    let few = bench.run(&format!("{run} --max-seeds 2"));
    assert_eq!(few.code, Some(CONFIGURATION), "{}", few.err);
    assert!(
        few.err.contains("fewer than the 3 of the first look"),
        "{}",
        few.err
    );
    // A margin of a thousand nats makes the claim certain, so it needs no second look.
    let certain = CLAIMS
        .replace("greater", "equivalent")
        .replace("margin_share = 0.2", "margin = 1000.0");
    bench.write(
        "claims.toml",
        certain.replace("\"gold\", \"gold_greedy\"", "\"demo_log_likelihood\""),
    );
    let decided = bench.succeed(run).out;
    assert!(
        decided.contains("  decided ") && !decided.contains("look 2 of 2"),
        "{decided}"
    );
    let never = bench
        .run("reproduce tiny.toml --profile smoke --store runs --out reports --decide --seeds 3");
    assert_eq!(never.code, Some(2), "{}", never.err);
}

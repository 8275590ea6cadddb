//! Tests of the commands around the program itself: experiment files to start from, completions,
//! manual pages.

mod common;

use clap::CommandFactory;
use common::Bench;
use std::collections::BTreeSet;
use std::fs;
use touchstone::cli::Cli;

#[test]
fn a_new_experiment_can_be_planned_as_it_is() {
    let bench = Bench::new();
    let said = bench.succeed("new my-study").out;
    assert!(said.contains("touchstone plan my-study"), "{said}");
    assert!(
        bench
            .read("experiments/my-study.toml")
            .contains("name = \"my-study\"")
    );
    for profile in ["standard", "smoke"] {
        let plan = bench
            .succeed(&format!("plan my-study --profile {profile}"))
            .out;
        assert!(plan.contains("\n3 methods × 1 sizes × "), "{plan}");
    }
    bench.succeed("claims my-study");
    let elsewhere = bench.succeed("new other --dir studies/own").out;
    assert!(
        elsewhere.contains("touchstone plan studies/own/other.toml"),
        "{elsewhere}"
    );
    bench.succeed("plan studies/own/other.toml --profile smoke");
}

#[test]
fn what_is_commented_out_in_a_new_experiment_is_valid_too() {
    let bench = Bench::new();
    bench.succeed("new full");
    let uncommented: String = bench
        .read("experiments/full.toml")
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if code.starts_with('[') || code.contains(" = ") => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(uncommented.contains("\n[[ablation]]\n"), "{uncommented}");
    bench.write("full.toml", &uncommented);
    let plan = bench.succeed("plan full.toml").out;
    assert!(plan.contains("\n6 methods × 1 sizes × "), "{plan}");
}

#[test]
fn a_new_experiment_overwrites_nothing_and_has_a_usable_name() {
    let bench = Bench::new();
    bench.write("experiments/mine.toml", "precious");
    for name in [
        "mine", "tldr", "My-Study", "a/b", "..", "a.toml", "ä", "sp_ace",
    ] {
        let said = bench.run(&format!("new {name}"));
        assert_eq!(said.code, Some(3), "{name}: {}{}", said.out, said.err);
        assert!(said.err.contains("help:"), "{name}: {}", said.err);
    }
    assert_eq!(bench.read("experiments/mine.toml"), "precious");
    assert_eq!(fs::read_dir(bench.path("experiments")).unwrap().count(), 1);
}

#[test]
fn every_shell_gets_completions() {
    let bench = Bench::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = bench.succeed(&format!("completions {shell}")).out;
        for word in ["reproduce", "snapshot", "profile", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("try-device"), "{shell}: a hidden command");
    }
    assert_eq!(bench.run("completions tcsh").code, Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let bench = Bench::new();
    let page = bench.succeed("man").out;
    assert!(page.contains(".TH touchstone 1"), "{page}");
    bench.succeed("man --out share/man1");
    let folder = bench.path("share/man1");
    let written: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(written, pages(&Cli::command(), ""));
    assert!(written.contains("touchstone-runs-list.1"), "{written:?}");
    let page = fs::read_to_string(folder.join("touchstone-reproduce.1")).unwrap();
    assert!(page.contains("decide"), "{page}");
}

/// Names of the pages of a command and of those below it.
fn pages(command: &clap::Command, above: &str) -> BTreeSet<String> {
    let name = format!("{above}{}", command.get_name());
    let shown = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let below = shown.flat_map(|command| pages(command, &format!("{name}-")));
    below.chain([format!("{name}.1")]).collect()
}

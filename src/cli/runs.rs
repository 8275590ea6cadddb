//! `touchstone runs`: looks into a store of artifacts, and checks it.

mod logs;

use super::units::{bytes, count};
use super::{FAILURE, SUCCESS, print, sources};
use crate::error::Result;
use crate::pipeline::{Manifest, Problem, StageKey, StageSpec, Store, Verification};
use crate::tensorboard;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Look into the artifacts that were computed, and check them.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
    /// Folder of the artifacts.
    #[arg(long, value_name = "DIR", default_value = "runs", global = true)]
    store: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum RunsCommand {
    /// List the finished artifacts with what they cost.
    List {
        /// Instead, the stages whose last attempt failed, with the reason.
        #[arg(long)]
        failed: bool,
    },
    /// Show where one artifact came from, what it cost and what it holds.
    Show {
        /// The first digits of its key.
        #[arg(value_name = "KEY-PREFIX")]
        prefix: String,
    },
    /// Print what the last failed attempt at a stage said, and who computes the stage now.
    Log {
        /// The first digits of its key.
        #[arg(value_name = "KEY-PREFIX")]
        prefix: String,
    },
    /// Write curves, metrics and costs as TensorBoard event files, a run for each artifact.
    ///
    /// Runs that are there already are kept, so that the same command adds what is new.
    Tensorboard {
        /// Folder for `tensorboard --logdir`.
        #[arg(value_name = "LOGDIR")]
        folder: PathBuf,
        /// Only stages with this text in their label, as `irl/mini-1b`.
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
    },
    /// Rehash every file and report what is damaged, missing or extra; fails if anything is.
    ///
    /// Leftovers of attempts that are over and files outside the store that have changed since they
    /// were read are listed too, and are no failure.
    Verify {
        /// Remove the damaged artifacts, so that the next run computes them again.
        #[arg(long)]
        repair: bool,
    },
}

/// Returns the exit code: failure if `verify` finds damage.
pub fn run(args: &RunsArgs) -> Result<u8> {
    let store = Store::open_existing(&args.store)?;
    match &args.command {
        RunsCommand::List { failed: false } => print(&list(&store.list()?))?,
        RunsCommand::List { failed: true } => print(&logs::failed(&store)?)?,
        RunsCommand::Log { prefix } => print(&logs::log(&store, &store.find(prefix)?)?)?,
        RunsCommand::Tensorboard { folder, label } => {
            let written = tensorboard::write(&store, folder, label)?;
            print(&format!(
                "{} with {} written, {} there already\nshow them: tensorboard --logdir {}\n",
                count(written.new, "run"),
                count(written.scalars, "scalar"),
                written.kept,
                folder.display()
            ))?;
        }
        RunsCommand::Show { prefix } => print(&show(&store, &store.find(prefix)?)?)?,
        RunsCommand::Verify { repair } => return verify(&store, *repair),
    }
    Ok(SUCCESS)
}

fn list(manifests: &[Manifest]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "key", "stage", "wall", "tokens/s", "memory", "size", "device", "started",
    ]);
    for manifest in manifests {
        table.add_row([
            manifest.key.short(),
            manifest.label.clone(),
            seconds(manifest.wall_seconds),
            speed(manifest),
            manifest.peak_memory_bytes.map_or("?".into(), bytes),
            bytes(manifest.bytes()),
            manifest.device.clone(),
            manifest.started.clone(),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{}\n{}\n",
        table.trim_fmt(),
        count(manifests.len(), "artifact")
    )
}

/// Tokens per second that passed through a model, over the stage's whole life, starting and loading
/// included.
fn speed(manifest: &Manifest) -> String {
    if manifest.tokens == 0 {
        String::new()
    } else {
        format!("{:.0}", manifest.tokens as f64 / manifest.wall_seconds)
    }
}

fn show(store: &Store, key: &StageKey) -> Result<String> {
    match store.manifest(key) {
        Ok(manifest) => Ok(describe(store, &manifest)),
        Err(reason) => {
            let stage = store.planned(key)?;
            let mut text = format!(
                "{}\nkey       {key}\nstate     not finished ({reason})\n",
                stage.label
            );
            let log = store.failure_log(key);
            if log.exists() {
                let _ = writeln!(text, "failure   {}", log.display());
            }
            text.push_str(&describe_spec(&stage.spec));
            Ok(text)
        }
    }
}

fn describe(store: &Store, manifest: &Manifest) -> String {
    let mut text = format!("{}\nkey       {}\n", manifest.label, manifest.key);
    if let Some(folder) = store.artifact(&manifest.key) {
        let _ = writeln!(text, "folder    {}", folder.display());
    }
    let cpu = manifest.cpu_seconds.map_or("?".into(), seconds);
    let memory = manifest.peak_memory_bytes.map_or("?".into(), bytes);
    let _ = writeln!(
        text,
        "computed  {} on {}",
        manifest.started, manifest.device
    );
    let _ = writeln!(
        text,
        "program   touchstone {} (revision {})",
        manifest.touchstone, manifest.code_revision
    );
    let _ = writeln!(
        text,
        "cost      {} wall, {cpu} processor, {memory} peak memory",
        seconds(manifest.wall_seconds)
    );
    let _ = writeln!(
        text,
        "work      {} tokens, {:.2e} floating-point operations",
        manifest.tokens, manifest.flops
    );
    text.push_str(&describe_spec(&manifest.spec));
    let _ = writeln!(text, "files     {} in all", bytes(manifest.bytes()));
    for (name, file) in &manifest.files {
        let _ = writeln!(
            text,
            "  {name}  {}  {}",
            bytes(file.bytes),
            &file.blake3.chars().take(12).collect::<String>()
        );
    }
    text
}

fn describe_spec(spec: &StageSpec) -> String {
    let mut text = format!("kind      {} (version {})\n", spec.kind, spec.version);
    if let Some(seed) = spec.seed {
        let _ = writeln!(text, "seed      {seed}");
    }
    for (role, key) in &spec.inputs {
        let _ = writeln!(text, "input     {role} = {}", key.short());
    }
    let _ = writeln!(text, "settings  {:#}", spec.settings);
    text
}

fn verify(store: &Store, repair: bool) -> Result<u8> {
    let report = store.verify()?;
    print(&describe_verification(&report))?;
    let sources = sources::notes(store)?;
    if !sources.is_empty() {
        print(&format!(
            "{}\nartifacts hold what was read then; with other files the next run is another study\n",
            sources.join("\n")
        ))?;
    }
    if repair {
        // Recreates the folder of locks if a copy left out empty folders.
        let removed = Store::open(store.root())?.repair(&report)?;
        if !removed.is_empty() {
            print(&format!(
                "removed {}: run the experiment again to recompute\n",
                count(removed.len(), "artifact")
            ))?;
        }
    } else if report.problems.iter().any(Problem::is_repairable) {
        print(
            "`touchstone runs verify --repair` removes what is damaged, and the next run recomputes it\n",
        )?;
    }
    let left = report
        .problems
        .iter()
        .any(|problem| !repair || !problem.is_repairable());
    Ok(if left { FAILURE } else { SUCCESS })
}

fn describe_verification(report: &Verification) -> String {
    let mut text = String::new();
    for Problem { path, damage, .. } in &report.problems {
        let _ = writeln!(text, "{}: {damage}", path.display());
    }
    for path in &report.leftovers {
        let _ = writeln!(
            text,
            "{}: left by an attempt that is over; the next run or --repair removes it",
            path.display()
        );
    }
    let verdict = match report.problems.len() {
        0 => "all as written".to_owned(),
        problems => count(problems, "problem"),
    };
    let _ = writeln!(
        text,
        "{}, {}: {verdict}",
        count(report.artifacts, "artifact"),
        bytes(report.bytes)
    );
    text
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::pipeline::{Graph, Placement, run_stage};
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        runs: RunsArgs,
    }

    /// A store with one artifact, and one stage that is only planned.
    fn store() -> (tempfile::TempDir, Store, [StageKey; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut graph) = (Store::open(dir.path()).unwrap(), Graph::new());
        let mut add = |kind: &str, inputs| {
            let settings = serde_json::json!({"steps": 3});
            let spec = StageSpec {
                kind: kind.into(),
                version: 2,
                settings,
                inputs,
                seed: Some(5),
            };
            graph.add(spec, format!("tldr/{kind}"), 1.0).unwrap()
        };
        let base = add("base", Default::default());
        let planned = add("planned", [("base".into(), base)].into());
        store.plan(&graph).unwrap();
        run_stage(
            &store,
            &base,
            &Placement {
                device: "cpu".into(),
                memory: None,
            },
            |context| {
                context.add_tokens(42);
                std::fs::write(context.out().join("weights"), [7; 2048])
                    .context(|| "test".to_owned())
            },
        )
        .unwrap();
        (dir, store, [base, planned])
    }

    fn run_with(dir: &std::path::Path, arguments: &[&str]) -> Result<bool> {
        let store = ["--store", dir.to_str().unwrap()];
        let arguments = ["touchstone"].iter().chain(arguments).chain(&store);
        run(&Program::parse_from(arguments).runs).map(|code| code == SUCCESS)
    }

    #[test]
    fn the_list_has_one_line_for_each_finished_artifact() {
        let (_dir, store, [base, planned]) = store();
        let text = list(&store.list().unwrap());
        assert!(
            text.contains(&base.short()) && text.contains("tldr/base") && text.contains("2.00 KiB"),
            "{text}"
        );
        assert!(
            !text.contains(&planned.short()) && text.ends_with("1 artifact\n"),
            "{text}"
        );
    }

    #[test]
    fn a_stage_is_shown_whether_it_is_finished_or_not() {
        let (_dir, store, [base, planned]) = store();
        let text = show(&store, &base).unwrap();
        for part in [
            "tldr/base",
            "42 tokens",
            "base (version 2)",
            "seed      5",
            "weights  2.00 KiB",
            "\"steps\": 3",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let text = show(&store, &planned).unwrap();
        assert!(
            text.contains("not finished") && text.contains(&format!("base = {}", base.short())),
            "{text}"
        );
    }

    #[test]
    fn verify_fails_on_damage_until_it_is_repaired() {
        let (dir, store, [base, _]) = store();
        assert!(run_with(dir.path(), &["verify"]).unwrap());
        std::fs::write(store.artifact(&base).unwrap().join("weights"), [8; 2048]).unwrap();
        assert!(!run_with(dir.path(), &["verify"]).unwrap());
        assert!(
            store.is_complete(&base),
            "only rehashing can see this damage"
        );
        assert!(run_with(dir.path(), &["verify", "--repair"]).unwrap());
        assert!(!store.is_complete(&base));
        assert!(run_with(dir.path(), &["verify"]).unwrap());
    }

    #[test]
    fn the_store_may_be_named_before_or_after_the_verb_and_must_exist() {
        let (dir, ..) = store();
        assert!(run_with(dir.path(), &["list"]).unwrap());
        let missing = dir.path().join("nowhere");
        let before =
            Program::parse_from(["touchstone", "--store", missing.to_str().unwrap(), "list"]);
        assert!(
            run(&before.runs)
                .unwrap_err()
                .to_string()
                .contains("there is no store")
        );
        assert!(!missing.exists());
    }
}

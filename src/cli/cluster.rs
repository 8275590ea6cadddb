//! The cluster on which `reproduce` runs stages: flags, and the user's own file with a table
//! `[cluster]`. An experiment never says where it runs.

use super::study::StudyArgs;
use super::{SUCCESS, print};
use crate::error::{Context, Error, Result};
use crate::executor::Slurm;
use crate::executor::slurm::{Settings, TimeLimit, check_shared};
use crate::experiment::Study;
use crate::pipeline::Store;
use crate::plan::Plan;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The place where stages are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// This machine
    #[default]
    Local,
    /// Jobs of a Slurm cluster that share the store
    Slurm,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "On a cluster")]
pub struct ClusterArgs {
    /// Where the stages are computed
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub executor: Place,
    /// Jobs that share the stages [default: 4]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Processors of each worker, which computes as many stages at once [default: one, or --jobs]
    #[arg(long, value_name = "N")]
    pub cpus: Option<NonZeroUsize>,
    /// GPUs of each worker
    #[arg(long, value_name = "N")]
    pub gpus: Option<usize>,
    /// Time limit of each worker as Slurm writes it, such as 4:00:00 or 2-12:00:00 [default: the
    /// partition's]
    #[arg(long, value_name = "LIMIT")]
    pub time: Option<TimeLimit>,
    /// Return once the workers are submitted; the same command without it waits for them
    #[arg(long, conflicts_with_all = ["cancel", "decide"])]
    pub detach: bool,
    /// End the workers of this study instead of running it
    #[arg(long, conflicts_with = "decide")]
    pub cancel: bool,
    /// File with a table [cluster] [default: ~/.config/touchstone/cluster.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "TOUCHSTONE_CLUSTER")]
    pub cluster: Option<PathBuf>,
    /// All nodes see the folder of --store, although its file system is one of a node's own
    #[arg(long)]
    pub shared_store: bool,
    /// Further words for sbatch
    #[arg(last = true, value_name = "SBATCH FLAGS")]
    pub sbatch: Vec<String>,
}

/// A user's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    #[serde(default)]
    cluster: ClusterTable,
}

/// The table `[cluster]`: what all studies on a cluster have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterTable {
    partition: Option<String>,
    account: Option<String>,
    time: Option<String>,
    workers: Option<NonZeroUsize>,
    cpus: Option<NonZeroUsize>,
    gpus: Option<usize>,
    /// Further words for `sbatch`.
    #[serde(default)]
    flags: Vec<String>,
    /// Lines of shell before a worker starts, such as `module load cuda`.
    #[serde(default)]
    setup: Vec<String>,
    /// True if all nodes see every store, whatever its file system.
    #[serde(default)]
    shared: bool,
}

/// The executor that `args` choose, with everything that a cluster needs to be told; `None` for
/// this machine.
///
/// # Errors
/// Flags of a cluster without one, a file that cannot be read or understood, or a store that other
/// nodes do not see.
pub fn slurm(args: &ClusterArgs, study: &StudyArgs, resolved: &Study) -> Result<Option<Slurm>> {
    if args.executor == Place::Local {
        return refuse_strays(args).map(|()| None);
    }
    let table = table(args.cluster.as_deref())?;
    if !args.shared_store && !table.shared {
        check_shared(&study.store)?;
    }
    let time =
        match (args.time, &table.time) {
            (Some(time), _) => Some(time),
            (None, Some(text)) => Some(text.parse().map_err(|message: String| {
                Error::configuration(format!("cluster.time: {message}"))
            })?),
            (None, None) => None,
        };
    let defaults = Settings::default();
    let mut slurm = Slurm::new(&resolved.name, study.devices())?;
    slurm.jobs = study.jobs.map(NonZeroUsize::get);
    slurm.stage_memory = study.memory.map(|limit| limit.0);
    slurm.detach = args.detach;
    slurm.settings = Settings {
        workers: args
            .workers
            .or(table.workers)
            .map_or(defaults.workers, NonZeroUsize::get),
        cpus: args.cpus.or(table.cpus).map(NonZeroUsize::get),
        gpus: args.gpus.or(table.gpus).unwrap_or(0),
        time,
        partition: table.partition,
        account: table.account,
        flags: table.flags.into_iter().chain(args.sbatch.clone()).collect(),
        setup: table.setup,
    };
    Ok(Some(slurm))
}

/// Ends the workers of `plan`.
///
/// # Errors
/// If there is no store, or Slurm does not answer.
pub fn cancel(slurm: &Slurm, study: &StudyArgs, plan: &Plan) -> Result<u8> {
    let store = Store::open_existing(&study.store)?;
    let ended = slurm.cancel(&store, &plan.graph)?;
    print(&match ended {
        0 => "this study has no workers in the queue\n".to_owned(),
        1 => "cancelled 1 worker\n".to_owned(),
        ended => format!("cancelled {ended} workers\n"),
    })?;
    Ok(SUCCESS)
}

/// Refuses flags that mean nothing without a cluster.
fn refuse_strays(args: &ClusterArgs) -> Result<()> {
    let given = [
        (args.workers.is_some(), "--workers"),
        (args.cpus.is_some(), "--cpus"),
        (args.gpus.is_some(), "--gpus"),
        (args.time.is_some(), "--time"),
        (args.detach, "--detach"),
        (args.cancel, "--cancel"),
        (args.shared_store, "--shared-store"),
        (!args.sbatch.is_empty(), "flags for sbatch"),
    ];
    match given.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, name)) => Err(Error::configuration(format!(
            "{name} means something on a cluster only"
        ))
        .hint(
            "add --executor slurm, or leave it out; --jobs says how many stages run at once here",
        )),
    }
}

/// The table in the file that the user named, or in the usual one if that is there.
fn table(named: Option<&Path>) -> Result<ClusterTable> {
    let usual = usual_file();
    let Some(path) = named.or(usual.as_deref().filter(|path| path.exists())) else {
        return Ok(ClusterTable::default());
    };
    let text = std::fs::read_to_string(path)
        .context(|| format!("cannot read the cluster's file {}", path.display()))?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<ClusterTable> {
    let file: ClusterFile = toml::from_str(text).map_err(|cause| {
        let span = cause.span().unwrap_or(0..0);
        Error::configuration(format!("{}: {}", path.display(), cause.message()))
            .hint("docs/clusters.md lists the keys of [cluster]")
            .at(path.display().to_string(), text, span)
    })?;
    Ok(file.cluster)
}

fn usual_file() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("touchstone/cluster.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_all_studies_share() {
        let text = r#"
            [cluster]
            partition = "cpu"
            account = "abc"
            time = "4:00:00"
            workers = 8
            cpus = 4
            flags = ["--qos=long"]
            setup = ["module load cuda"]
        "#;
        let table = parse(text, Path::new("cluster.toml")).unwrap();
        assert_eq!(table.partition.as_deref(), Some("cpu"));
        assert_eq!(table.workers.map(NonZeroUsize::get), Some(8));
        assert_eq!((table.flags.len(), table.setup.len()), (1, 1));
        assert!(!table.shared);
    }

    #[test]
    fn a_key_that_is_not_known_is_named_with_its_file() {
        for text in ["[cluster]\nqueue = 1", "[cluster]\nworkers = 0", "x"] {
            let error = parse(text, Path::new("cluster.toml")).unwrap_err();
            assert!(error.to_string().starts_with("cluster.toml: "), "{error}");
        }
    }

    #[test]
    fn flags_of_a_cluster_need_one() {
        let stray = ClusterArgs {
            gpus: Some(1),
            ..ClusterArgs::default()
        };
        let error = refuse_strays(&stray).unwrap_err();
        assert!(error.to_string().starts_with("--gpus means"), "{error}");
        refuse_strays(&ClusterArgs::default()).unwrap();
    }
}

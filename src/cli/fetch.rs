//! `touchstone fetch`: downloads what a study needs from a hub, so that it can run where there is
//! no network.

use super::local::{LocalArgs, resolve};
use super::print;
use super::study::StudyArgs;
use super::units::count;
use crate::benchmarks::leaderboard::Data;
use crate::data::dataset::{Dataset, Fingerprint};
use crate::data::hub;
use crate::device;
use crate::folder::files_below;
use crate::pipeline::{Placement, PlannedStage, Store, compute};
use crate::plan::Plan;
use crate::stages::checkpoint::{PublishedModel, published};
use crate::stages::dataset::{PinnedDataset, open_at, open_pinned};
use crate::stages::leaderboard_rows::{self, LeaderboardRows};
use crate::stages::{self, Stage};
use crate::{Error, Result, files};
use clap::Args;
use indicatif::DecimalBytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
}

pub fn run(args: &FetchArgs) -> Result<()> {
    let before = cached_files();
    let (study, local) = resolve(&args.study.experiment, &args.study.choice, &args.local)?;
    let plan = Plan::new(&study, local.as_ref())?;
    let sources: Vec<&PlannedStage> = plan.graph.iter().filter(|stage| is_on_hub(stage)).collect();
    if sources.is_empty() {
        return print(&format!(
            "{} at scale {} needs nothing from outside: it runs without a network\n",
            study.name, study.scale
        ));
    }
    let store = Store::open(&args.study.store)?;
    store.plan(&plan.graph)?;
    let mut all = Sum::default();
    for stage in sources {
        for source in fetch(&store, stage)? {
            let sum = Sum::of(&source.files, &before)?;
            print(&format!(
                "{}  {}, {}, {} new\n  {}\n",
                source.name,
                count(sum.files, "file"),
                DecimalBytes(sum.bytes),
                DecimalBytes(sum.new),
                source.place.display()
            ))?;
            all.add(sum);
        }
    }
    let place = cache().unwrap_or_default();
    print(&format!(
        "{}, {} in all, {} new; the cache is {}\nstore: {}\non machines without a network set HF_HUB_OFFLINE=1, and HF_HOME so that this cache is found\n",
        count(all.files, "file"),
        DecimalBytes(all.bytes),
        DecimalBytes(all.new),
        place.display(),
        store.root().display()
    ))
}

/// True if the stage stands for a model or for data sets on a hub.
fn is_on_hub(stage: &PlannedStage) -> bool {
    let kind = stage.spec.kind.as_str();
    let source = stage.spec.settings["source"].as_str().unwrap_or_default();
    if kind == LeaderboardRows::KIND {
        return matches!(Data::named(Path::new(source)), Ok(Data::Hub(_)));
    }
    [PublishedModel::KIND, PinnedDataset::KIND].contains(&kind)
        && matches!(hub::Source::parse(source), Ok(hub::Source::Hub(_)))
}

/// A model or a data set that is on this machine now.
struct Source {
    name: String,
    place: PathBuf,
    files: Vec<PathBuf>,
}

/// Records the commits of a stage's sources in `store`, unless they are known, and downloads what is
/// not cached.
fn fetch(store: &Store, stage: &PlannedStage) -> Result<Vec<Source>> {
    let place = Placement {
        device: device::DEFAULT.to_string(),
        memory: None,
    };
    compute(store, &stage.key, &place, stages::run)?;
    // The files are asked for once more, as the stages that read them will do: the artifact may be
    // older than the cache.
    let artifact = store.artifact(&stage.key).ok_or_else(|| {
        Error::store(format!(
            "stage `{}` is being computed by another process",
            stage.label
        ))
        .hint("run the same command again when it has ended")
    })?;
    if stage.spec.kind == PublishedModel::KIND {
        let (name, folder) = published(&artifact)?;
        let files = files_below(&folder);
        return Ok(vec![Source {
            name,
            files: files.iter().map(|name| folder.join(name)).collect(),
            place: folder,
        }]);
    }
    if stage.spec.kind == LeaderboardRows::KIND {
        let pinned = leaderboard_rows::fingerprints(&artifact)?.into_iter();
        return pinned
            .map(|pinned| Ok(Source::split(&open_at(&pinned)?, pinned)))
            .collect();
    }
    let (set, fingerprint) = open_pinned(&artifact)?;
    Ok(vec![Source::split(&set, fingerprint)])
}

impl Source {
    /// A split of a data set.
    fn split(set: &Dataset, fingerprint: Fingerprint) -> Self {
        let files: Vec<PathBuf> = set.paths().map(Path::to_owned).collect();
        let place = files.first().and_then(|file| file.parent());
        let commit = fingerprint.commit.unwrap_or_default();
        let name = match fingerprint.source.rsplit_once('@') {
            Some((name, _)) if !commit.is_empty() => format!("{name}@{commit}"),
            _ => fingerprint.source,
        };
        let split = fingerprint.split.unwrap_or_default();
        Self {
            name: format!("{name} {split}"),
            place: place.unwrap_or(Path::new("")).to_owned(),
            files,
        }
    }
}

/// Numbers and sizes of files.
#[derive(Clone, Copy, Default)]
struct Sum {
    files: usize,
    bytes: u64,
    /// Bytes that were not in the cache before.
    new: u64,
}

impl Sum {
    fn of(paths: &[PathBuf], before: &BTreeSet<PathBuf>) -> Result<Self> {
        let mut sum = Self::default();
        for path in paths {
            let failed = |cause| files::failed("read", path, cause);
            let real = path.canonicalize().map_err(failed)?;
            let bytes = real.metadata().map_err(failed)?.len();
            sum.files += 1;
            sum.bytes += bytes;
            sum.new += if before.contains(&real) { 0 } else { bytes };
        }
        Ok(sum)
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.new += other.new;
    }
}

#[cfg(feature = "hub")]
fn cache() -> Option<PathBuf> {
    let environment = crate::data::hub::Environment::of_process().ok()?;
    Some(environment.cache)
}

#[cfg(not(feature = "hub"))]
fn cache() -> Option<PathBuf> {
    None
}

/// The files in the hub's cache, without links to them.
fn cached_files() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = cache()
        .and_then(|folder| folder.canonicalize().ok())
        .into_iter()
        .collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    found.insert(entry.path());
                }
                _ => {}
            }
        }
    }
    found
}

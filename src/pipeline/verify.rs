//! Verification that rehashes every artifact, and repair that removes damaged ones.

use super::attempt::plain_files;
use super::key::StageKey;
use super::manifest::{MANIFEST, Manifest};
use super::stage::describe;
use super::store::{Spare, Store};
use crate::error::Result;
use crate::files;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kind of damage at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The artifact has no valid manifest, so that it counts as missing; the reason.
    Manifest(String),
    /// A file listed in the manifest is missing.
    Missing,
    /// A file differs from what was written.
    Changed,
    /// A file that was not written as part of the artifact.
    Extra,
    /// The path could not be read; the reason.
    Unreadable(String),
    /// A spec file that does not plan the stage that it is named after; the reason.
    Spec(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(reason) => write!(out, "no valid manifest ({reason})"),
            Self::Missing => out.write_str("missing"),
            Self::Changed => out.write_str("changed since it was written"),
            Self::Extra => out.write_str("does not belong there"),
            Self::Unreadable(reason) => write!(out, "unreadable ({reason})"),
            Self::Spec(reason) => write!(out, "no valid plan of this stage ({reason})"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The artifact that contains the path; `None` for a path outside all artifacts.
    pub key: Option<StageKey>,
    pub path: PathBuf,
    pub damage: Damage,
}

/// The result of [`Store::verify`].
#[derive(Clone, Debug, Default)]
pub struct Verification {
    pub artifacts: usize,
    pub bytes: u64,
    /// Problems by artifact, then by path.
    pub problems: Vec<Problem>,
    /// Leftovers of attempts that are over; they do no harm and do not count as problems.
    pub leftovers: Vec<PathBuf>,
}

impl Store {
    /// Rehashes every file of every artifact, several artifacts at once.
    pub fn verify(&self) -> Result<Verification> {
        let keys = self.keys()?;
        let checked: Vec<_> = keys
            .par_iter()
            .map(|key| self.verify_artifact(key))
            .collect();
        let leftovers = self
            .leftovers()?
            .into_iter()
            .chain(self.unfinished_writes()?)
            .collect();
        let mut report = Verification {
            artifacts: keys.len(),
            leftovers,
            ..Verification::default()
        };
        report.problems = self.strangers()?;
        report.problems.extend(self.verify_specs()?);
        for (bytes, problems) in checked {
            report.bytes += bytes;
            report.problems.extend(problems);
        }
        Ok(report)
    }

    /// The artifact's size according to the manifest, and its problems.
    fn verify_artifact(&self, key: &StageKey) -> (u64, Vec<Problem>) {
        let dir = self.artifact_dir(key);
        let problem = |path: PathBuf, damage| Problem {
            key: Some(*key),
            path,
            damage,
        };
        let manifest = match self.read_manifest(key) {
            Ok(manifest) => manifest,
            Err(error) => {
                return (
                    0,
                    vec![problem(
                        dir.join(MANIFEST),
                        Damage::Manifest(describe(&error)),
                    )],
                );
            }
        };
        let problems = match compare(&dir, &manifest) {
            Ok(found) => found
                .into_iter()
                .map(|(name, damage)| problem(dir.join(name), damage))
                .collect(),
            Err(error) => vec![problem(dir, Damage::Unreadable(describe(&error)))],
        };
        (manifest.bytes(), problems)
    }

    /// Files among the artifacts that do not belong to any.
    fn strangers(&self) -> Result<Vec<Problem>> {
        let artifacts = self.root().join("artifacts");
        let mut found = Vec::new();
        for shard in files::names_in(&artifacts)? {
            let dir = artifacts.join(&shard);
            let names = if dir.is_dir() {
                files::names_in(&dir)?
            } else {
                vec![String::new()]
            };
            let strange =
                |name: &&String| !(name.starts_with(&shard) && name.parse::<StageKey>().is_ok());
            found.extend(names.iter().filter(strange).map(|name| Problem {
                key: None,
                path: if name.is_empty() {
                    dir.clone()
                } else {
                    dir.join(name)
                },
                damage: Damage::Extra,
            }));
        }
        Ok(found)
    }

    /// Files among the specs that plan no stage, or a stage other than the one they are named
    /// after.
    fn verify_specs(&self) -> Result<Vec<Problem>> {
        let check = |name: &String| {
            let path = self.specs().join(name);
            let damage = match name
                .strip_suffix(".json")
                .and_then(|key| key.parse::<StageKey>().ok())
            {
                None => Damage::Extra,
                Some(key) => Damage::Spec(describe(&self.planned(&key).err()?)),
            };
            Some(Problem {
                key: None,
                path,
                damage,
            })
        };
        let names = files::names_in(&self.specs())?;
        Ok(names
            .iter()
            .filter(|name| !name.starts_with(files::WRITING))
            .filter_map(check)
            .collect())
    }

    /// Files that a process began to write and did not rename before it died.
    fn unfinished_writes(&self) -> Result<Vec<PathBuf>> {
        /// Age beyond which a file counts as unfinished: no living process takes this long between
        /// writing and renaming.
        const OLD: Duration = Duration::from_secs(3600);
        let is_old = |path: &PathBuf| {
            let age = path
                .metadata()
                .and_then(|found| found.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            age.is_some_and(|age| age > OLD)
        };
        let mut found = Vec::new();
        for folder in [
            self.root().to_owned(),
            self.specs(),
            self.claims(),
            self.root().join("failures"),
        ] {
            let names = files::names_in(&folder)?;
            let names = names.iter().filter(|name| name.starts_with(files::WRITING));
            found.extend(names.map(|name| folder.join(name)).filter(is_old));
        }
        Ok(found)
    }

    /// Removes an artifact, so that the next run computes it again. Artifacts computed from it
    /// stay: they are the same function of the same inputs.
    pub fn remove(&self, key: &StageKey) -> Result<()> {
        let _lock = self.lock(key)?;
        self.set_aside(key, Spare::Nothing)
    }

    /// Removes all damage in `found` that can be made again, and leftovers of attempts. Returns the
    /// artifacts that were removed.
    pub fn repair(&self, found: &Verification) -> Result<BTreeSet<StageKey>> {
        let damaged: BTreeSet<StageKey> = found
            .problems
            .iter()
            .filter_map(|problem| problem.key)
            .collect();
        damaged.iter().try_for_each(|key| self.remove(key))?;
        let specs = found
            .problems
            .iter()
            .filter(|problem| problem.is_repairable())
            .map(|problem| &problem.path);
        specs
            .filter(|path| path.starts_with(self.specs()))
            .try_for_each(|path| files::remove(path))?;
        found
            .leftovers
            .iter()
            .try_for_each(|path| self.remove_leftover(path))?;
        Ok(damaged)
    }
}

impl Problem {
    /// True if removing the path loses nothing, since the next run makes it again.
    pub fn is_repairable(&self) -> bool {
        self.key.is_some() || matches!(self.damage, Damage::Spec(_))
    }
}

/// Names that differ between the folder and its manifest.
fn compare(dir: &Path, manifest: &Manifest) -> Result<Vec<(String, Damage)>> {
    let present = plain_files(dir)?;
    let mut found: Vec<(String, Damage)> = manifest
        .files
        .keys()
        .filter(|name| {
            present
                .binary_search_by(|(there, _)| there.cmp(name))
                .is_err()
        })
        .map(|name| (name.clone(), Damage::Missing))
        .collect();
    for (name, path) in present {
        match (manifest.files.get(&name), files::hash(&path)) {
            (None, _) if name == MANIFEST => {}
            (None, _) => found.push((name, Damage::Extra)),
            (Some(_), Err(error)) => found.push((name, Damage::Unreadable(describe(&error)))),
            (Some(record), Ok(now)) if *record != now => found.push((name, Damage::Changed)),
            (Some(_), Ok(_)) => {}
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

//! A whole store at a glance, for those who watch it: each folder is listed once, and nothing is
//! written, so that a read-only mount is enough.

use super::claim::{BEATS, silence};
use super::graph::{Graph, PlannedStage};
use super::key::StageKey;
use super::lock::realm_of;
use super::manifest::{MANIFEST, Manifest};
use super::store::{Store, manifest_of_whole, own_json};
use crate::error::Result;
use crate::files;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The artifacts of a store by one listing of each of its folders. Artifacts that are published
/// later are not among them.
#[derive(Clone, Debug)]
pub struct Listing {
    store: Store,
    names: HashSet<StageKey>,
}

impl Listing {
    /// True if the artifact was there, with a valid manifest and files of the right sizes.
    pub fn is_complete(&self, key: &StageKey) -> bool {
        self.manifest(key).is_some()
    }

    /// The manifest of an artifact that was there and is whole.
    pub fn manifest(&self, key: &StageKey) -> Option<Manifest> {
        let listed = self.names.contains(key);
        listed.then(|| manifest_of_whole(&self.store.artifact_dir(key), key).ok())?
    }

    /// True if there is a folder of the artifact's name, whole or not.
    pub fn has(&self, key: &StageKey) -> bool {
        self.names.contains(key)
    }
}

/// The cost of a finished stage, as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Spent {
    pub device: String,
    pub wall_seconds: f64,
    pub cpu_seconds: Option<f64>,
}

/// The attempt that holds a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// Number of the attempt, from 1.
    pub attempt: u64,
    /// The facts that its claim states about its place, by name: host, process and the like.
    /// Claims of older programs state none.
    pub place: BTreeMap<String, String>,
    /// Signs of life so far.
    pub beats: u64,
    /// Time since the last sign of life, from the file's time and this machine's clock. The two may
    /// differ.
    pub silent: Duration,
    /// True if its process, on this machine, is known to have ended.
    pub ended: bool,
}

impl Sighting {
    /// True if the attempt may be alive: it has not ended, and has not been silent for so long that
    /// other attempts would take its stage over.
    pub fn may_live(&self) -> bool {
        !self.ended && self.silent < silence()
    }

    /// The time since the attempt began, as its signs of life count it: short by less than the time
    /// between two of them, and independent of all clocks.
    pub fn passed(&self) -> Duration {
        silence().div_f64(BEATS).mul_f64(self.beats as f64)
    }
}

/// A claim as it lies in the store, whichever program wrote it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    realm: Option<String>,
    beat: u64,
    /// The process that made it; absent in claims of earlier programs.
    holder: BTreeMap<String, serde_json::Value>,
}

impl Store {
    /// Lists all artifacts.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn listing(&self) -> Result<Listing> {
        Ok(Listing {
            store: self.clone(),
            names: self.keys()?.into_iter().collect(),
        })
    }

    /// The cost of each of the stages `keys` that has a manifest. Files are neither hashed nor
    /// compared with their sizes.
    pub fn spent<'k>(
        &self,
        keys: impl IntoParallelIterator<Item = &'k StageKey>,
    ) -> HashMap<StageKey, Spent> {
        let read = |key: &StageKey| {
            let bytes = std::fs::read(self.artifact_dir(key).join(MANIFEST)).ok()?;
            Some((*key, serde_json::from_slice(&bytes).ok()?))
        };
        keys.into_par_iter().filter_map(read).collect()
    }

    /// The attempts that hold a stage: for each stage its newest one, unless it has said that it is
    /// over.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn sightings(&self) -> Result<HashMap<StageKey, Sighting>> {
        let mut newest: HashMap<StageKey, (u64, bool)> = HashMap::new();
        for name in files::names_in(&self.claims())? {
            let Some((key, number, over)) = parse_claim(&name) else {
                continue;
            };
            let held = newest.entry(key).or_insert((number, over));
            match held.0.cmp(&number) {
                std::cmp::Ordering::Less => *held = (number, over),
                std::cmp::Ordering::Equal => held.1 |= over,
                std::cmp::Ordering::Greater => {}
            }
        }
        Ok(newest
            .into_par_iter()
            .filter(|(_, (_, over))| !over)
            .filter_map(|(key, (number, _))| Some((key, self.sighting(&key, number)?)))
            .collect())
    }

    /// The attempt of one claim; `None` if the claim has gone meanwhile.
    fn sighting(&self, key: &StageKey, number: u64) -> Option<Sighting> {
        let path = self.claims().join(format!("{key}.{number}"));
        let changed = path.metadata().and_then(|found| found.modified()).ok()?;
        let silent = SystemTime::now().duration_since(changed);
        // A claim whose bytes are damaged says only that it is there.
        let record = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let Record {
            realm,
            beat,
            holder,
        } = record.unwrap_or_default();
        Some(Sighting {
            attempt: number + 1,
            place: holder.into_iter().filter_map(fact).collect(),
            beats: beat,
            silent: silent.unwrap_or_default(),
            ended: realm.is_some_and(|realm| self.is_abandoned(key, &realm)),
        })
    }

    /// True if locks of `realm` can be seen here and that of `key` is free: its process has ended.
    fn is_abandoned(&self, key: &StageKey, realm: &str) -> bool {
        let path = self.root().join("locks").join(format!("{key}.lock"));
        // Opened for reading: the file is never created here.
        let Ok(file) = File::open(path) else {
            return false;
        };
        // A process that holds the lock is not disturbed by this question.
        realm_of(&file).as_deref() == Some(realm) && file.try_lock_shared().is_ok()
    }

    /// The logs of stages whose last attempt failed, by key.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn failures(&self) -> Result<BTreeMap<StageKey, PathBuf>> {
        let names = files::names_in(&self.root().join("failures"))?;
        let keys = names
            .iter()
            .filter_map(|name| name.strip_suffix(".log")?.parse().ok());
        Ok(keys.map(|key| (key, self.failure_log(&key))).collect())
    }

    /// Every stage that was recorded in the store, as a graph, and the number of recorded stages
    /// that are not in it: their records are damaged, or their inputs were never recorded.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn recorded(&self) -> Result<(Graph, usize)> {
        let names = files::names_in(&self.specs())?;
        let keys: Vec<StageKey> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect();
        let read = |key: &StageKey| own_json::<PlannedStage>(&self.spec_path(key)).ok();
        let stages: Vec<PlannedStage> = keys.par_iter().filter_map(read).collect();
        let graph = in_order(stages)?;
        let left_out = keys.len() - graph.len();
        Ok((graph, left_out))
    }
}

/// The key, number and end mark in the name of a claim.
fn parse_claim(name: &str) -> Option<(StageKey, u64, bool)> {
    let (key, rest) = name.split_once('.')?;
    let (number, over) = match rest.strip_suffix(".over") {
        Some(number) => (number, true),
        None => (rest, false),
    };
    Some((key.parse().ok()?, number.parse().ok()?, over))
}

/// A fact about a claim's maker as text, except times by the clock of its machine.
fn fact((name, value): (String, serde_json::Value)) -> Option<(String, String)> {
    use serde_json::Value;
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (name != "since").then_some((name, text))
}

/// The graph of `stages`, which come in any order; those without all their inputs are left out.
fn in_order(stages: Vec<PlannedStage>) -> Result<Graph> {
    let mut missing: HashMap<StageKey, usize> = HashMap::new();
    let mut readers: HashMap<StageKey, Vec<StageKey>> = HashMap::new();
    let mut waiting: HashMap<StageKey, PlannedStage> = HashMap::new();
    let mut ready = VecDeque::new();
    for stage in stages {
        let inputs: HashSet<StageKey> = stage.spec.inputs.values().copied().collect();
        missing.insert(stage.key, inputs.len());
        if inputs.is_empty() {
            ready.push_back(stage);
            continue;
        }
        for input in inputs {
            readers.entry(input).or_default().push(stage.key);
        }
        waiting.insert(stage.key, stage);
    }
    let mut graph = Graph::new();
    while let Some(stage) = ready.pop_front() {
        // A record under the name of another stage is damaged.
        if stage.spec.key() != stage.key {
            continue;
        }
        let key = graph.add(stage.spec, stage.label, stage.cost)?;
        for reader in readers.remove(&key).unwrap_or_default() {
            let left = missing.entry(reader).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                ready.extend(waiting.remove(&reader));
            }
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Placement, StageSpec, run_stage};
    use serde_json::json;
    use std::fs;

    fn spec(name: &str, inputs: &[StageKey]) -> StageSpec {
        let roles = inputs.iter().enumerate();
        StageSpec {
            kind: name.into(),
            version: 1,
            settings: json!(null),
            inputs: roles.map(|(at, key)| (at.to_string(), *key)).collect(),
            seed: None,
        }
    }

    /// A store with a chain of three stages, the first of which is finished.
    fn store() -> (tempfile::TempDir, Store, [StageKey; 3]) {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut graph) = (Store::open(dir.path()).unwrap(), Graph::new());
        let first = graph.add(spec("first", &[]), "a/first", 1.0).unwrap();
        let second = graph
            .add(spec("second", &[first]), "a/second", 2.0)
            .unwrap();
        let third = graph
            .add(spec("third", &[first, second]), "a/third", 4.0)
            .unwrap();
        store.plan(&graph).unwrap();
        let place = Placement {
            device: "flex".into(),
            memory: None,
        };
        run_stage(&store, &first, &place, |context| {
            fs::write(context.out().join("x"), "x").unwrap();
            Ok(())
        })
        .unwrap();
        (dir, store, [first, second, third])
    }

    #[test]
    fn a_listing_knows_the_finished_and_the_broken() {
        let (_dir, store, [first, second, _]) = store();
        let listing = store.listing().unwrap();
        assert!(listing.is_complete(&first) && !listing.is_complete(&second));
        assert_eq!(store.spent(&[first, second]).len(), 1);
        assert_eq!(store.spent(&[first])[&first].device, "flex");
        fs::write(store.artifact(&first).unwrap().join("x"), "longer").unwrap();
        assert!(listing.has(&first) && !listing.is_complete(&first));
    }

    #[test]
    fn recorded_stages_come_back_in_order_and_the_damaged_are_counted() {
        let (_dir, store, keys) = store();
        let (graph, left_out) = store.recorded().unwrap();
        let found: Vec<StageKey> = graph.iter().map(|stage| stage.key).collect();
        assert_eq!((found, left_out), (keys.to_vec(), 0));
        fs::write(store.spec_path(&keys[1]), "{").unwrap();
        let (graph, left_out) = store.recorded().unwrap();
        assert_eq!((graph.len(), left_out), (1, 2));
    }

    #[test]
    fn the_newest_claim_holds_a_stage_until_it_is_over() {
        let (_dir, store, [_, second, third]) = store();
        let claim = |name: String, text: &str| fs::write(store.claims().join(name), text).unwrap();
        claim(
            format!("{second}.0"),
            r#"{"attempt":"a","realm":null,"beat":9}"#,
        );
        claim(format!("{second}.0.over"), "");
        assert!(store.sightings().unwrap().is_empty());
        claim(
            format!("{second}.1"),
            r#"{"attempt":"b","realm":null,"beat":3,"holder":{"host":"node7","process":12,"since":9}}"#,
        );
        claim(format!("{third}.0"), "damaged");
        claim(".writing-x".into(), "");
        let sightings = store.sightings().unwrap();
        assert_eq!(sightings.len(), 2);
        let held = &sightings[&second];
        assert_eq!((held.attempt, held.beats, held.may_live()), (2, 3, true));
        assert_eq!(
            (&*held.place["host"], &*held.place["process"]),
            ("node7", "12")
        );
        assert!(held.silent < Duration::from_secs(60));
        assert_eq!(sightings[&third].beats, 0);
    }

    #[test]
    fn an_attempt_of_this_machine_whose_lock_is_free_has_ended() {
        let (_dir, store, [_, second, _]) = store();
        let lock = store.lock(&second).unwrap();
        let Some(realm) = lock.realm() else {
            return; // Only Linux names the running kernel.
        };
        let text = json!({"attempt": "a", "realm": realm, "beat": 1}).to_string();
        fs::write(store.claims().join(format!("{second}.0")), text).unwrap();
        assert!(!store.sightings().unwrap()[&second].ended);
        drop(lock);
        assert!(store.sightings().unwrap()[&second].ended);
    }
}

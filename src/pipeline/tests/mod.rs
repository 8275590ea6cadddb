//! The pipeline as a whole, with real processes: this test binary is its own stage program. The
//! tests of executors use the same stages.

mod attempts;
pub(crate) mod program;
mod store;
mod workers;

use super::*;
use crate::executor::{Executor, Interrupt, LocalPool, Outcome, Slot};
use program::Settings;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A store in a temporary folder, with room beside it for the faults that stages are to meet and
/// the log they write.
pub(crate) struct Bench {
    pub dir: TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("faults")).unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    pub fn run(&self, graph: &Graph) -> Outcome {
        self.run_by(&pool(), graph, &Interrupt::new())
    }

    /// Runs `graph` by `executor`, which knows nothing about the needs of its stages.
    pub fn run_by(&self, executor: &dyn Executor, graph: &Graph, interrupt: &Interrupt) -> Outcome {
        let unknown = BTreeMap::new();
        executor
            .run(&self.store, graph, &unknown, interrupt)
            .unwrap()
    }

    /// Plants a `fault` that the stage `name` meets once, when it reaches `step`.
    pub fn plant(&self, name: &str, step: u32, fault: &str) {
        fs::write(program::fault_path(self.dir.path(), name, step), fault).unwrap();
    }

    /// The log: one `name from step` line per attempt that reached a body, one `name computed` line
    /// per body that ended.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Hashes of every file of every complete artifact.
    pub fn contents(&self) -> BTreeMap<StageKey, BTreeMap<String, FileRecord>> {
        self.store
            .list()
            .unwrap()
            .into_iter()
            .map(|manifest| (manifest.key, manifest.files))
            .collect()
    }

    /// Plans, locks and opens a single stage, as its process would.
    fn draft(&self, graph: &Graph, key: &StageKey) -> Attempt {
        self.store.plan(graph).unwrap();
        let lock = self.store.lock(key).unwrap();
        let claim = self
            .store
            .claim(&lock, &mut claim::Watch::new(), Holder::here(None))
            .unwrap()
            .unwrap();
        self.store.begin(lock, claim).unwrap()
    }
}

fn cpu() -> Placement {
    Placement {
        device: "cpu".into(),
        memory: None,
    }
}

/// A slot without a memory limit.
pub(crate) fn slot(device: &str) -> Slot {
    Slot {
        device: device.into(),
        memory: None,
    }
}

pub(crate) fn pool() -> LocalPool {
    LocalPool {
        exe: std::env::current_exe().unwrap(),
        arguments: program::arguments("stage_program"),
        slots: vec![slot("cpu"); 3],
        quiet: true,
        round: None,
    }
}

/// A graph of fake stages, each given as its name and the names of its inputs.
pub(crate) fn graph(stages: &[(&str, &[&str])], settings: &Settings) -> Graph {
    let (mut graph, mut keys) = (Graph::new(), BTreeMap::new());
    for (name, inputs) in stages {
        let inputs = inputs
            .iter()
            .map(|input| (format!("in/{input}"), keys[input]))
            .collect();
        let settings = Settings {
            name: (*name).to_owned(),
            ..settings.clone()
        };
        let settings = serde_json::to_value(settings).unwrap();
        let spec = StageSpec {
            kind: "fake".into(),
            version: 1,
            settings,
            inputs,
            seed: Some(1),
        };
        keys.insert(*name, graph.add(spec, *name, 1.0).unwrap());
    }
    graph
}

pub(crate) const DIAMOND: &[(&str, &[&str])] = &[
    ("root", &[]),
    ("left", &["root"]),
    ("right", &["root"]),
    ("end", &["left", "right"]),
    ("apart", &[]),
];

pub(crate) fn key_of(graph: &Graph, label: &str) -> StageKey {
    graph.iter().find(|stage| stage.label == label).unwrap().key
}

pub(crate) fn labels(graph: &Graph, keys: &[StageKey]) -> Vec<String> {
    let mut labels: Vec<_> = keys
        .iter()
        .map(|key| graph.get(key).unwrap().label.clone())
        .collect();
    labels.sort();
    labels
}

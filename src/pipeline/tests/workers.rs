//! Workers on several nodes whose steps interleave in any way: they stall, are taken for dead while
//! they live, or die. Every stage is published once, with the bytes that one undisturbed worker
//! writes.
#![cfg(target_os = "linux")]

use super::attempts::other_node;
use super::claim::Watch;
use super::*;
use crate::pipeline::manifest::FORMAT_VERSION;
use proptest::prelude::*;
use std::time::Duration;

const NODES: usize = 3;
const LONG: Duration = Duration::from_secs(1000);

/// A step of one worker.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Looks for a stage to start, or goes on with the one that it has.
    Work,
    /// The same, and every attempt of others that it meets seems silent to it.
    Impatient,
    /// Dies without a word; another one starts on a node of its own.
    Die,
}

/// A worker: where it sees the store, and its attempt.
struct Worker {
    _node: Option<TempDir>,
    store: Store,
    at_work: Option<(StageKey, Attempt, u32)>,
}

impl Worker {
    fn new(store: &Store) -> Self {
        let (node, store) = match other_node(store, true) {
            Some((node, store)) => (Some(node), store),
            None => (None, store.clone()),
        };
        Self {
            _node: node,
            store,
            at_work: None,
        }
    }

    /// Takes a step; returns the stage if it was published by it.
    fn step(&mut self, graph: &Graph, impatient: bool) -> Option<StageKey> {
        match self.at_work.take() {
            None => {
                self.at_work = self.start(graph, impatient);
                None
            }
            // Two steps of work, between which others may do anything.
            Some((key, attempt, step)) if step < 2 => {
                // The folder is gone if others have declared the attempt over.
                let written =
                    fs::write(attempt.out().join(format!("part {step}")), text(&key, step));
                if written.is_ok() {
                    self.at_work = Some((key, attempt, step + 1));
                }
                None
            }
            Some((key, attempt, _)) => {
                let stage = graph.get(&key).unwrap();
                let before = self.store.is_complete(&key);
                let published = attempt.publish(manifest_of(stage)).is_ok();
                let complete = self.store.is_complete(&key);
                if published {
                    attempt.finish().unwrap();
                }
                (!before && complete).then_some(key)
            }
        }
    }

    /// An attempt at the first stage that can be tried and that nobody seems to have.
    fn start(&self, graph: &Graph, impatient: bool) -> Option<(StageKey, Attempt, u32)> {
        for stage in graph {
            let is_ready = stage
                .spec
                .inputs
                .values()
                .all(|input| self.store.is_complete(input));
            if !is_ready || self.store.is_complete(&stage.key) {
                continue;
            }
            let Some(lock) = self.store.try_lock(&stage.key).unwrap() else {
                continue;
            };
            if impatient {
                // The second look finds the attempt as silent as the first.
                let mut watch = Watch::with(Duration::ZERO);
                let mut look = || watch.sees_holder(&self.store, &lock).unwrap();
                let _ = (look(), look());
            }
            let mut watch = Watch::with(LONG);
            let holder = Holder::here(None);
            let Some(claim) = self.store.claim(&lock, &mut watch, holder).unwrap() else {
                continue;
            };
            if self.store.is_complete(&stage.key) {
                claim.settle();
                continue;
            }
            let attempt = self.store.begin(lock, claim).unwrap();
            return Some((stage.key, attempt, 0));
        }
        None
    }

    fn die(&mut self, store: &Store) {
        // Nothing is cleaned up: no mark is set, and the lock stays as that of a node that is gone.
        std::mem::forget(self.at_work.take());
        *self = Self::new(store);
    }
}

fn text(key: &StageKey, step: u32) -> String {
    format!("{key} {step}")
}

fn manifest_of(stage: &PlannedStage) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        key: stage.key,
        spec: stage.spec.clone(),
        label: stage.label.clone(),
        touchstone: String::new(),
        code_revision: String::new(),
        device: "cpu".into(),
        started: String::new(),
        wall_seconds: 0.0,
        cpu_seconds: None,
        peak_memory_bytes: None,
        tokens: 0,
        flops: 0.0,
        sources: vec![],
        files: BTreeMap::new(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Work),
        2 => Just(Step::Impatient),
        1 => Just(Step::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn however_workers_interleave_each_stage_is_published_once(
        steps in prop::collection::vec((0..NODES, step()), 0..60),
    ) {
        let (bench, graph) = (Bench::new(), graph(DIAMOND, &Settings::default()));
        bench.store.plan(&graph).unwrap();
        let mut workers: Vec<Worker> = (0..NODES).map(|_| Worker::new(&bench.store)).collect();
        let mut published: Vec<StageKey> = Vec::new();
        for (node, step) in steps {
            match step {
                Step::Work => published.extend(workers[node].step(&graph, false)),
                Step::Impatient => published.extend(workers[node].step(&graph, true)),
                Step::Die => workers[node].die(&bench.store),
            }
        }
        // Whatever happened, one worker that goes on finishes the rest; those that stall do not
        // keep it from that once they are silent.
        let mut last = Worker::new(&bench.store);
        for _ in 0..8 * graph.len() {
            published.extend(last.step(&graph, true));
        }
        // Those that stalled go on: they find their stages finished.
        for worker in &mut workers {
            for _ in 0..4 {
                published.extend(worker.step(&graph, false));
            }
        }
        published.sort();
        let mut all: Vec<StageKey> = graph.iter().map(|stage| stage.key).collect();
        all.sort();
        prop_assert_eq!(published, all);
        for stage in &graph {
            let place = bench.store.intact(&stage.key).unwrap().unwrap();
            for step in 0..2 {
                let found = fs::read_to_string(place.join(format!("part {step}"))).unwrap();
                prop_assert_eq!(found, text(&stage.key, step));
            }
        }
        drop((last, workers));
        bench.store.clean().unwrap();
        prop_assert_eq!(bench.store.verify().unwrap().problems, []);
    }
}

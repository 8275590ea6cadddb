//! Whatever is killed and whenever: running the same command again ends with the bytes of an
//! undisturbed run.

use super::*;
use proptest::prelude::*;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: u32 = 3;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const FAULTS: [&str; 3] = ["error", "exit", "kill"];

/// A graph in which stage `i` reads those earlier stages whose bit is set in `inputs[i]`.
fn random_graph(inputs: &[u8]) -> Graph {
    let reads: Vec<Vec<&str>> = inputs
        .iter()
        .enumerate()
        .map(|(i, bits)| {
            (0..i)
                .filter(|j| bits >> j & 1 == 1)
                .map(|j| NAMES[j])
                .collect()
        })
        .collect();
    let stages: Vec<(&str, &[&str])> = NAMES
        .into_iter()
        .zip(reads.iter().map(Vec::as_slice))
        .collect();
    graph(
        &stages,
        &Settings {
            steps: STEPS,
            ..Settings::default()
        },
    )
}

/// A model of a correct run: a stage is tried if all its inputs are complete, and fails once for
/// each fault left in its way.
#[derive(Default)]
struct Model {
    complete: Vec<StageKey>,
}

impl Model {
    /// Keys that finish, fail and are skipped in the next run, sorted; `faults` holds the steps
    /// left for each label.
    fn run(&mut self, graph: &Graph, faults: &mut BTreeMap<&str, Vec<u32>>) -> [Vec<StageKey>; 3] {
        let [mut finished, mut failed, mut skipped] = [const { Vec::new() }; 3];
        for stage in graph
            .iter()
            .filter(|stage| !self.complete.contains(&stage.key))
            .collect::<Vec<_>>()
        {
            let steps = faults
                .entry(NAMES.into_iter().find(|name| *name == stage.label).unwrap())
                .or_default();
            if !stage
                .spec
                .inputs
                .values()
                .all(|input| self.complete.contains(input))
            {
                skipped.push(stage.key);
            } else if steps.is_empty() {
                self.complete.push(stage.key);
                finished.push(stage.key);
            } else {
                steps.remove(0);
                failed.push(stage.key);
            }
        }
        [finished, failed, skipped].map(sorted)
    }
}

fn sorted(mut keys: Vec<StageKey>) -> Vec<StageKey> {
    keys.sort();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn runs_with_faults_follow_the_model_and_end_with_the_same_bytes(
        inputs in prop::collection::vec(any::<u8>(), 1..=NAMES.len()),
        faults in prop::collection::btree_map((0..NAMES.len(), 0..=STEPS), 0..FAULTS.len(), 0..6),
    ) {
        let (graph, bench, undisturbed) = (random_graph(&inputs), Bench::new(), Bench::new());
        let mut steps: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for ((stage, step), fault) in faults {
            bench.plant(NAMES[stage], step, FAULTS[fault]);
            steps.entry(NAMES[stage]).or_default().push(step);
        }
        let mut model = Model::default();
        loop {
            let [finished, failed, skipped] = model.run(&graph, &mut steps);
            let outcome = bench.run(&graph);
            prop_assert_eq!(sorted(outcome.failed.iter().map(|(stage, _)| stage.key).collect()), failed);
            prop_assert_eq!(sorted(outcome.finished.clone()), finished);
            prop_assert_eq!(sorted(outcome.skipped.clone()), skipped);
            if outcome.is_success() { break }
        }
        undisturbed.run(&graph);
        prop_assert_eq!(bench.contents(), undisturbed.contents());
        prop_assert_eq!(bench.contents().len(), graph.len());
    }
}

#[test]
fn a_killed_stage_goes_on_from_its_checkpoint() {
    let bench = Bench::new();
    let graph = graph(
        &[("only", &[])],
        &Settings {
            steps: 5,
            ..Settings::default()
        },
    );
    bench.plant("only", 3, "kill");
    bench.plant("only", 5, "kill");
    let killed = ErrorKind::Process.exit_code();
    for expected in [killed, killed, 0] {
        assert_eq!(bench.run(&graph).exit_code(), expected);
    }
    assert_eq!(
        bench.log(),
        ["only from 0", "only from 3", "only from 5", "only computed"]
    );
    assert_eq!(
        bench
            .store
            .manifest(&key_of(&graph, "only"))
            .unwrap()
            .tokens,
        5,
        "the cost of an undisturbed run"
    );
}

fn start_parent(bench: &Bench, steps: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(program::arguments("pool_program"))
        .arg(bench.store.root())
        .arg(steps.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A stage holds its lock for as long as its process lives.
fn nothing_runs(bench: &Bench, graph: &Graph) -> bool {
    graph
        .iter()
        .all(|stage| bench.store.try_lock(&stage.key).unwrap().is_some())
}

#[test]
fn a_killed_parent_takes_its_stages_along() {
    const LONGER_THAN_ANY_TEST: u32 = 100_000;
    let (bench, graph) = (Bench::new(), program::slow_diamond(LONGER_THAN_ANY_TEST));
    let mut parent = start_parent(&bench, LONGER_THAN_ANY_TEST);
    wait_until("the start of two stages", || bench.log().len() == 2);
    assert!(!nothing_runs(&bench, &graph));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the end of the stages", || nothing_runs(&bench, &graph));
}

#[test]
fn a_parent_killed_at_any_moment_is_continued_to_the_same_bytes() {
    const STEPS: u32 = 12;
    let (bench, undisturbed, graph) = (Bench::new(), Bench::new(), program::slow_diamond(STEPS));
    let (mut killed_at_work, mut moment) = (0, 0x9e37_79b9_u64);
    for _ in 0..8 {
        let mut parent = start_parent(&bench, STEPS);
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_millis(40 + (moment >> 33) % 120));
        killed_at_work += u32::from(parent.try_wait().unwrap().is_none());
        parent.kill().unwrap();
        parent.wait().unwrap();
    }
    assert!(killed_at_work > 0, "the parent was never killed at work");
    assert_eq!(bench.run(&graph).exit_code(), 0);
    undisturbed.run(&graph);
    assert_eq!(bench.contents(), undisturbed.contents());
    assert_eq!(bench.store.verify().unwrap().problems, []);
}

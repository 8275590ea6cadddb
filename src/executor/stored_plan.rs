//! A plan in the store: the stages that workers compute together, whoever starts them and where.

use super::{MemoryBytes, Resources};
use crate::error::{Error, Result};
use crate::files;
use crate::pipeline::{Graph, StageKey, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of a stored plan's fields.
const FORMAT: u32 = 1;

/// The stages of a graph in an order in which inputs come first, with what each needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredPlan {
    pub format: u32,
    /// The hash of the stages' keys.
    pub id: StageKey,
    /// The study's name, for people.
    pub name: String,
    /// Version of the program that planned; another one may compute other things under the same
    /// keys.
    pub touchstone: String,
    pub code_revision: String,
    pub stages: Vec<StoredStage>,
}

/// A stage of a stored plan; its spec lies beside the others in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredStage {
    pub key: StageKey,
    pub label: String,
    pub seconds: f64,
    pub processors: usize,
    pub memory_bytes: f64,
}

impl StoredPlan {
    /// The plan of `graph`, of which `resources` are known.
    ///
    /// # Errors
    /// None in practice: a hash always is a key.
    pub fn new(
        name: &str,
        graph: &Graph,
        resources: &BTreeMap<StageKey, Resources>,
    ) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let stages = graph.iter().map(|stage| {
            hasher.update(stage.key.to_string().as_bytes());
            let known = resources.get(&stage.key).cloned().unwrap_or_default();
            StoredStage {
                key: stage.key,
                label: stage.label.clone(),
                seconds: known.seconds,
                processors: known.processors,
                memory_bytes: known.memory_bytes.total,
            }
        });
        let stages = stages.collect();
        Ok(Self {
            format: FORMAT,
            id: hasher.finalize().to_hex().parse()?,
            name: name.into(),
            touchstone: env!("CARGO_PKG_VERSION").into(),
            code_revision: revision().into(),
            stages,
        })
    }

    /// Writes the plan into `store`, over an earlier one of the same stages.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write(&self, store: &Store) -> Result<()> {
        let path = store.plans().join(format!("{}.json", self.id));
        files::replace_synced(&path, &files::to_json(self, &path)?)
    }

    /// The only plan in `store` whose id begins with `prefix`.
    ///
    /// # Errors
    /// If there is none or more than one, or the file is damaged or of a newer program.
    pub fn read(store: &Store, prefix: &str) -> Result<Self> {
        let prefix = prefix.to_ascii_lowercase();
        let names = files::names_in(&store.plans())?;
        let mut found = names
            .iter()
            .filter(|name| name.starts_with(&prefix) && name.ends_with(".json"));
        let (first, second) = (found.next(), found.next());
        let (Some(name), None) = (first, second) else {
            let number = if first.is_none() {
                "no"
            } else {
                "more than one"
            };
            return Err(Error::store(format!(
                "{} holds {number} plan whose id begins with `{prefix}`",
                store.root().display()
            ))
            .hint("`touchstone reproduce … --executor slurm` writes plans; their ids are the names in the folder `plans`"));
        };
        let path = store.plans().join(name);
        files::wait_until_visible(&path);
        let plan: Self = files::read_json(&path).map_err(|error| {
            error.hint("run the study's own command again, which writes it anew")
        })?;
        if plan.format > FORMAT {
            return Err(Error::store(format!(
                "{} has format {}, and this program knows formats up to {FORMAT}",
                path.display(),
                plan.format
            ))
            .hint("use the newer touchstone that wrote it"));
        }
        Ok(plan)
    }

    /// Checks that this program is the one that planned.
    ///
    /// # Errors
    /// If its version or revision differs.
    pub fn check_program(&self) -> Result<()> {
        let own = (env!("CARGO_PKG_VERSION"), revision());
        let planned = (self.touchstone.as_str(), self.code_revision.as_str());
        if own == planned {
            return Ok(());
        }
        Err(Error::configuration(format!(
            "plan {} is of touchstone {} (revision {}), and this is {} (revision {})",
            self.id.short(),
            planned.0,
            planned.1,
            own.0,
            own.1
        ))
        .hint("let all workers run the program that planned, or run the study's own command again with this one"))
    }

    /// The stages as a graph.
    ///
    /// # Errors
    /// A stage that is not planned in `store`.
    pub fn graph(&self, store: &Store) -> Result<Graph> {
        let mut graph = Graph::new();
        for stage in &self.stages {
            let planned = store.planned(&stage.key)?;
            graph.add(planned.spec, planned.label, planned.cost)?;
        }
        Ok(graph)
    }

    /// The resources of each stage, as far as a worker needs them.
    pub fn resources(&self) -> BTreeMap<StageKey, Resources> {
        let known = |stage: &StoredStage| Resources {
            seconds: stage.seconds,
            processors: stage.processors,
            memory_bytes: MemoryBytes {
                total: stage.memory_bytes,
                ..MemoryBytes::default()
            },
            ..Resources::default()
        };
        self.stages
            .iter()
            .map(|stage| (stage.key, known(stage)))
            .collect()
    }
}

/// The revision that this program was built from.
fn revision() -> &'static str {
    option_env!("TOUCHSTONE_REVISION").unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::tests::quick;
    use crate::pipeline::tests::{Bench, DIAMOND, graph};

    #[test]
    fn a_plan_is_read_back_as_the_same_graph() {
        let (bench, graph) = (Bench::new(), graph(DIAMOND, &quick()));
        bench.store.plan(&graph).unwrap();
        let plan = StoredPlan::new("toy", &graph, &BTreeMap::new()).unwrap();
        plan.write(&bench.store).unwrap();
        let read = StoredPlan::read(&bench.store, &plan.id.short()).unwrap();
        assert_eq!(read, plan);
        read.check_program().unwrap();
        let keys = |graph: &Graph| graph.iter().map(|stage| stage.key).collect::<Vec<_>>();
        assert_eq!(keys(&read.graph(&bench.store).unwrap()), keys(&graph));
        assert_eq!(read.resources().len(), 5);
    }

    /// `cargo test --release --lib -- --ignored --nocapture a_hundred_thousand_stages`
    #[test]
    #[ignore = "a measurement"]
    fn the_time_of_a_hundred_thousand_stages() {
        use std::time::Instant;
        for count in [25_000, 100_000] {
            let names: Vec<String> = (0..count).map(|number: u32| number.to_string()).collect();
            let stages: Vec<(&str, &[&str])> =
                names.iter().map(|name| (&**name, &[][..])).collect();
            let (bench, graph) = (Bench::new(), graph(&stages, &quick()));
            let timed = |what: &str, began: Instant| {
                eprintln!(
                    "{count} stages: {what}: {:.2} s",
                    began.elapsed().as_secs_f64()
                );
            };
            let began = Instant::now();
            bench.store.plan(&graph).unwrap();
            timed("specs written", began);
            let began = Instant::now();
            let plan = StoredPlan::new("toy", &graph, &BTreeMap::new()).unwrap();
            plan.write(&bench.store).unwrap();
            timed("plan written", began);
            let began = Instant::now();
            let read = StoredPlan::read(&bench.store, &plan.id.short()).unwrap();
            assert_eq!(read.graph(&bench.store).unwrap().len(), names.len());
            timed("plan and specs read by a worker", began);
            let began = Instant::now();
            let listing = bench.store.listing().unwrap();
            assert!(!graph.iter().any(|stage| listing.is_complete(&stage.key)));
            timed("a look at all stages", began);
        }
    }

    #[test]
    fn a_plan_of_another_program_or_none_is_refused() {
        let (bench, graph) = (Bench::new(), graph(DIAMOND, &quick()));
        let error = StoredPlan::read(&bench.store, "ab").unwrap_err();
        assert!(error.to_string().contains("holds no plan"), "{error}");
        let mut plan = StoredPlan::new("toy", &graph, &BTreeMap::new()).unwrap();
        plan.code_revision = "v0-another".into();
        let error = plan.check_program().unwrap_err().to_string();
        assert!(
            error.contains("revision v0-another") && error.contains("and this is"),
            "{error}"
        );
        plan.format = FORMAT + 1;
        plan.write(&bench.store).unwrap();
        let error = StoredPlan::read(&bench.store, &plan.id.short()).unwrap_err();
        assert!(error.to_string().contains("knows formats"), "{error}");
    }
}

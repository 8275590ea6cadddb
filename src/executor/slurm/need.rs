//! Needs of one worker, reckoned from the estimates of the stages that are missing, and the checks
//! that are made before anything is submitted.

use super::Slurm;
use super::nodes::Largest;
use super::request::{flag_value, memory_mib};
use crate::error::{Error, Result};
use crate::executor::Resources;
use crate::pipeline::PlannedStage;

const MIB: f64 = (1u64 << 20) as f64;
/// Memory of a worker itself, and of what no estimate foresees.
const SPARE_MIB: f64 = 64.0;
/// Memory of the machine that a stage on a GPU takes beside its models.
const BESIDE_GPU: f64 = 4.0 * (1u64 << 30) as f64;

/// A missing stage with what it needs.
pub(super) type Missing<'a> = (&'a PlannedStage, Resources);

/// Resources that one worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Stages at once.
    pub jobs: usize,
    pub cpus: usize,
    pub memory_mib: u64,
    /// Bytes that one stage may fill; `None` where the device's own memory decides.
    pub stage_bytes: Option<u64>,
}

impl Need {
    pub fn of(slurm: &Slurm, missing: &[Missing]) -> Self {
        let settings = &slurm.settings;
        let widest = missing
            .iter()
            .map(|(_, needs)| needs.processors.max(1))
            .max()
            .unwrap_or(1);
        let jobs = match (slurm.jobs, settings.cpus) {
            (Some(jobs), _) => jobs,
            (None, _) if settings.gpus > 0 => settings.gpus,
            (None, Some(cpus)) => (cpus / widest).max(1),
            (None, None) => 1,
        };
        let largest = missing
            .iter()
            .map(|(_, needs)| slurm.memory_beside(needs))
            .fold(0.0, f64::max);
        let stage = match slurm.stage_memory {
            Some(limit) if !slurm.on_gpu() => limit as f64,
            _ => largest,
        };
        let memory = (jobs as f64 * stage / MIB + SPARE_MIB).ceil();
        Self {
            jobs,
            cpus: settings.cpus.unwrap_or(jobs * widest),
            memory_mib: memory as u64,
            stage_bytes: if slurm.on_gpu() {
                slurm.stage_memory
            } else {
                Some(stage.ceil() as u64)
            },
        }
    }

    /// The worker that has twice the memory of the others, or as much as the largest node, and one
    /// stage at a time; `None` if no node has more.
    pub fn roomy(&self, flags: &[String], largest: Option<Largest>) -> Option<Self> {
        let asked = flag_value(flags, "--mem", "").and_then(memory_mib);
        let before = self.memory_mib.max(asked.unwrap_or(0));
        let memory_mib = largest.map_or(2 * before, |node| node.memory_mib.min(2 * before));
        (memory_mib > before || self.jobs > 1).then_some(Self {
            jobs: 1,
            memory_mib,
            ..*self
        })
    }
}

impl Slurm {
    /// True if the stages are computed on GPUs.
    pub(super) fn on_gpu(&self) -> bool {
        self.devices.iter().any(|device| device.contains("cuda"))
    }

    /// Bytes of the machine's memory that a stage needs.
    fn memory_beside(&self, needs: &Resources) -> f64 {
        let memory = &needs.memory_bytes;
        if self.on_gpu() {
            memory.weights + memory.read_only_models + BESIDE_GPU
        } else {
            memory.total
        }
    }

    /// Checks what can be known before anything is submitted.
    ///
    /// # Errors
    /// A stage that is longer than the time limit or larger than every node, or a worker that no
    /// node can hold.
    pub(super) fn check(
        &self,
        need: &Need,
        missing: &[Missing],
        largest: Option<Largest>,
    ) -> Result<()> {
        let settings = &self.settings;
        if self.on_gpu()
            && settings.gpus == 0
            && flag_value(&settings.flags, "--gres", "").is_none()
        {
            return Err(Error::configuration(
                "the workers are to compute on GPUs and ask for none",
            )
            .hint("say how many each worker gets: --gpus 1"));
        }
        let longest = missing
            .iter()
            .max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
        if let (Some((stage, needs)), Some(limit)) = (longest, settings.time)
            && needs.seconds > limit.0.as_secs_f64()
        {
            return Err(Error::configuration(format!(
                "stage `{}` takes about {} by the plan's estimate, and the time limit of a worker is {limit}",
                stage.label,
                super::TimeLimit(std::time::Duration::from_secs(needs.seconds as u64))
            ))
            .hint("give workers more time: --time"));
        }
        let Some(node) = largest else {
            return Ok(());
        };
        let widest = missing.iter().max_by(|a, b| {
            self.memory_beside(&a.1)
                .total_cmp(&self.memory_beside(&b.1))
        });
        if let Some((stage, needs)) = widest {
            let mib = (self.memory_beside(needs) / MIB).ceil() as u64;
            if mib > node.memory_mib {
                return Err(Error::memory(format!(
                    "stage `{}` needs {mib} MiB, and the largest node has {} MiB",
                    stage.label, node.memory_mib
                ))
                .hint("choose a partition with larger nodes, or let stages fill less: --memory"));
            }
        }
        let too_large = |what: &str, wanted: u64, there: u64, hint: &str| {
            Err(Error::configuration(format!(
                "a worker asks for {wanted} {what}, and no node has more than {there}"
            ))
            .hint(hint))
        };
        if need.memory_mib > node.memory_mib {
            return too_large(
                "MiB of memory",
                need.memory_mib,
                node.memory_mib,
                "let fewer stages run at once in a worker (--jobs), and start more workers instead",
            );
        }
        if need.cpus as u64 > node.cpus {
            let hint = "ask for fewer (--cpus), and start more workers instead";
            return too_large("processors", need.cpus as u64, node.cpus, hint);
        }
        if settings.gpus as u64 > node.gpus {
            let hint = "ask for fewer (--gpus), or choose another partition";
            return too_large("GPUs", settings.gpus as u64, node.gpus, hint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::executor::MemoryBytes;
    use crate::executor::tests::quick;
    use crate::pipeline::Graph;
    use crate::pipeline::tests::graph;

    fn slurm(cpus: Option<usize>, jobs: Option<usize>) -> Slurm {
        Slurm {
            settings: Settings {
                cpus,
                ..Settings::default()
            },
            jobs,
            ..Slurm::new("toy", vec!["flex".into()]).unwrap()
        }
    }

    fn missing(graph: &Graph, mib: f64, seconds: f64) -> Vec<Missing<'_>> {
        let resources = Resources {
            seconds,
            memory_bytes: MemoryBytes {
                weights: mib * MIB,
                total: mib * MIB,
                ..MemoryBytes::default()
            },
            ..Resources::default()
        };
        graph
            .iter()
            .map(|stage| (stage, resources.clone()))
            .collect()
    }

    #[test]
    fn memory_follows_the_widest_stage_and_the_number_at_once() {
        let graph = graph(&[("only", &[])], &quick());
        let missing = missing(&graph, 100.0, 1.0);
        let need = |cpus, jobs| {
            let need = Need::of(&slurm(cpus, jobs), &missing);
            (need.jobs, need.cpus, need.memory_mib)
        };
        assert_eq!(need(None, None), (1, 1, 164));
        assert_eq!(need(Some(8), None), (8, 8, 864));
        assert_eq!(need(None, Some(3)), (3, 3, 364));
        assert_eq!(need(Some(8), Some(2)), (2, 8, 264));
        let limited = Slurm {
            stage_memory: Some(50 << 20),
            ..slurm(Some(2), None)
        };
        assert_eq!(Need::of(&limited, &missing).memory_mib, 164);
        let gpu = Slurm {
            devices: vec!["cuda:0".into()],
            settings: Settings {
                gpus: 1,
                cpus: Some(8),
                ..Settings::default()
            },
            ..slurm(None, None)
        };
        let need = Need::of(&gpu, &missing);
        assert_eq!(
            (need.jobs, need.memory_mib, need.stage_bytes),
            (1, 4096 + 164, None)
        );
    }

    #[test]
    fn more_memory_is_twice_as_much_if_a_node_has_it() {
        let need = Need {
            jobs: 1,
            cpus: 1,
            memory_mib: 100,
            stage_bytes: None,
        };
        let node = |memory_mib| {
            Some(Largest {
                memory_mib,
                ..Largest::default()
            })
        };
        let roomy = |need: Need, flags: &[&str], node| {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.into()).collect();
            need.roomy(&flags, node)
                .map(|need| (need.jobs, need.memory_mib))
        };
        assert_eq!(roomy(need, &[], None), Some((1, 200)));
        assert_eq!(roomy(need, &["--mem=1G"], None), Some((1, 2048)));
        assert_eq!(roomy(need, &[], node(150)), Some((1, 150)));
        assert_eq!(roomy(need, &[], node(100)), None);
        assert_eq!(
            roomy(Need { jobs: 2, ..need }, &[], node(100)),
            Some((1, 100))
        );
    }

    #[test]
    fn what_cannot_run_is_refused_with_the_stage_and_a_remedy() {
        let graph = graph(&[("only", &[])], &quick());
        let node = Some(Largest {
            cpus: 2,
            memory_mib: 2000,
            gpus: 0,
        });
        let refusal = |slurm: &Slurm, mib, seconds| {
            let missing = missing(&graph, mib, seconds);
            let refused = slurm.check(&Need::of(slurm, &missing), &missing, node);
            refused.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let mut short = slurm(Some(2), None);
        short.settings.time = "10".parse().ok();
        let mut wide = slurm(Some(4), Some(1));
        let said = [
            refusal(&short, 100.0, 500.0),
            refusal(&short, 100.0, 700.0),
            refusal(&short, 2500.0, 1.0),
            refusal(&short, 1500.0, 1.0),
            refusal(&wide, 100.0, 1.0),
            {
                wide.settings = Settings {
                    gpus: 1,
                    ..Settings::default()
                };
                refusal(&wide, 100.0, 1.0)
            },
            {
                wide.settings.gpus = 0;
                wide.devices = vec!["cuda:0".into()];
                refusal(&wide, 100.0, 1.0)
            },
        ];
        insta::assert_snapshot!(said.join("\n"), @"
        stage `only` takes about 00:11:40 by the plan's estimate, and the time limit of a worker is 00:10:00
        stage `only` needs 2500 MiB, and the largest node has 2000 MiB
        a worker asks for 3064 MiB of memory, and no node has more than 2000
        a worker asks for 4 processors, and no node has more than 2
        a worker asks for 1 GPUs, and no node has more than 0
        the workers are to compute on GPUs and ask for none
        ");
    }
}

//! Executors: what computes the missing stages of a graph.
//!
//! An [`Executor`] is given a store, a graph and the [`Resources`] of each stage. The store is the
//! contract: a stage that is in it is done, whoever computed it, and `touchstone stage <key>`
//! computes one anywhere that sees the store. Each executor is a file (or folder) here and a line
//! below.
//!
//! | file | idea |
//! |---|---|
//! | `resources` | estimated memory, processors and time of a stage |
//! | `forecast` | the time that stages will take, from those that have finished |
//! | `outcome` | what became of every stage |
//! | `interrupt` | Ctrl-C and the signals that ask a run to stop |
//! | `local` | this machine, one process per stage |
//! | `stored_plan`, `round` | a plan that workers on several machines share; what they tried together |
//! | `slurm` | workers in the jobs of a Slurm cluster |

mod forecast;
mod interrupt;
pub mod local;
mod outcome;
mod resources;
mod round;
pub mod slurm;
mod stored_plan;
#[cfg(test)]
mod tests;

pub use forecast::{Forecast, TimeLeft};
pub use interrupt::Interrupt;
pub use local::{LocalPool, Slot};
pub use outcome::{Failure, Halt, Outcome};
pub use resources::{MemoryBytes, Resources};
pub use round::{Round, Verdict, judge};
pub use slurm::Slurm;
pub use stored_plan::{StoredPlan, StoredStage};

use crate::error::Result;
use crate::pipeline::{Graph, StageKey, Store};
use std::collections::BTreeMap;

/// A way to compute the stages of a graph.
pub trait Executor {
    /// Computes the missing stages of `graph` and publishes their artifacts in `store`. A stage that
    /// fails prevents only the stages that need it; failures are reported in the outcome. Nothing is
    /// known about the needs of a stage that is absent from `resources`.
    ///
    /// # Errors
    /// If the store cannot be written or a stage cannot be started.
    fn run(
        &self,
        store: &Store,
        graph: &Graph,
        resources: &BTreeMap<StageKey, Resources>,
        interrupt: &Interrupt,
    ) -> Result<Outcome>;
}

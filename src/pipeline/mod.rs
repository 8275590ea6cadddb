//! The content-addressed pipeline: stages, their artifacts, and the processes that compute them.
//!
//! The pipeline knows nothing of machine learning. A stage is a pure function of its [`StageSpec`];
//! the blake3 of that spec is its [`StageKey`], and the [`Store`] keeps one artifact folder per
//! key. A [`Graph`] describes the wanted stages, and an executor (`src/executor/`) computes the
//! missing ones. This one mechanism provides caching, resuming, sharing between experiments and
//! provenance; `docs/design/store.md` describes the folder on disk.
//!
//! | file | idea |
//! |---|---|
//! | `key`, `roles` | the spec of a stage and its content address; its inputs as a struct |
//! | `graph` | stages in topological order, longest paths |
//! | `store`, `manifest` | the folder on disk; the definition of a whole artifact |
//! | `lock`, `claim` | the right to compute a stage, known to this machine and to other nodes |
//! | `holder`, `end` | the process that computes a stage; how an attempt ended |
//! | `draft` | an attempt: folders of its own, and the rename that publishes |
//! | `sweep`, `verify` | leftovers of dead attempts; rehashing everything, and repair |
//! | `survey` | all that is finished, held and failed, for those who watch |
//! | `context`, `stage` | the inside of a stage's process |
//! | `event` | messages from that process to its parent |
//! | `measure` | cost of a stage |

mod attempt;
mod claim;
mod context;
mod end;
mod event;
mod graph;
mod holder;
mod key;
mod lock;
mod manifest;
mod measure;
mod roles;
mod stage;
mod store;
mod survey;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use crate::files::FileRecord;
pub use attempt::Attempt;
pub use claim::SILENCE_ENV;
pub(crate) use claim::Watch;
pub use context::{Placement, StageContext};
pub use end::{End, Ended};
pub use event::Event;
pub use graph::{Graph, PlannedStage};
pub use holder::{Holder, ROUND_ENV, job_here};
pub use key::{StageKey, StageSpec};
pub use lock::StageLock;
pub use manifest::Manifest;
pub use measure::Cost;
pub use roles::roles;
pub(crate) use stage::compute;
pub use stage::{SUPERVISED_ENV, leave_with_parent, run_stage};
pub use store::Store;
pub use survey::{Listing, Sighting, Spent};
pub use verify::{Damage, Problem, Verification};

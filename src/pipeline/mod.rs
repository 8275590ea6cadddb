//! The content-addressed pipeline: stages, their artifacts, and the processes that compute them.
//!
//! It knows nothing of machine learning. A stage is a pure function of its [`StageSpec`]; the blake3 of that spec is its
//! [`StageKey`], and the [`Store`] keeps one artifact folder per key. A [`Graph`] says what is wanted, and a [`LocalPool`]
//! computes what is missing, one process per stage. Caching, resuming, sharing between experiments and provenance are all
//! this one mechanism; `docs/design/store.md` describes the folder on disk.
//!
//! | file | idea |
//! |---|---|
//! | `key`, `roles` | what a stage is, and its content address; its inputs as a struct |
//! | `graph` | stages in topological order, longest paths |
//! | `store`, `manifest` | the folder on disk; what is a whole artifact |
//! | `lock`, `claim` | who computes a stage, known to this machine and to other nodes |
//! | `draft` | an attempt: folders of its own, and the rename that publishes |
//! | `sweep`, `verify` | what dead attempts left; rehashing everything, and repair |
//! | `context`, `stage` | the inside of a stage's process |
//! | `event` | what that process tells its parent |
//! | `child`, `pool`, `schedule`, `display` | the parent: start, watch, draw |
//! | `interrupt`, `measure` | Ctrl-C, cost of a stage |

mod child;
mod claim;
mod context;
mod display;
mod draft;
mod event;
mod graph;
mod interrupt;
mod key;
mod lock;
mod manifest;
mod measure;
mod pool;
mod roles;
mod schedule;
mod stage;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;

pub use crate::files::FileRecord;
pub use child::Failure;
pub use claim::SILENCE_ENV;
pub use context::{Place, StageContext};
pub use draft::Draft;
pub use event::Event;
pub use graph::{Graph, PlannedStage};
pub use interrupt::Interrupt;
pub use key::{StageKey, StageSpec};
pub use lock::StageLock;
pub use manifest::Manifest;
pub use measure::Cost;
pub use pool::{LocalPool, Outcome};
pub use roles::roles;
pub use stage::{SUPERVISED_ENV, leave_with_parent, run_stage};
pub use store::Store;
pub use verify::{Damage, Problem, Verification};

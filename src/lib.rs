//! touchstone: which claims about aligning language models really hold?
//!
//! Everything flows in one direction: an experiment file becomes an [`experiment`] plan, an
//! [`executor`] runs its [`stages`], each of which calls one of the [`methods`] on a [`model`] and
//! [`data`] and leaves an artifact in the [`pipeline`]'s store; [`judges`] score, [`eval`] measures,
//! [`stats`] estimates, [`report`] writes. `ARCHITECTURE.md` shows all modules.

pub mod bench;
pub mod benchmarks;
pub mod cli;
pub mod collect;
pub mod conformance;
pub mod data;
pub mod defect;
pub mod device;
pub mod error;
pub mod eval;
pub mod executor;
pub mod experiment;
mod files;
pub mod folder;
pub mod judges;
pub mod methods;
pub mod model;
#[cfg(feature = "http")]
mod net;
pub mod pipeline;
pub mod plan;
pub mod python;
pub mod report;
pub mod rng;
pub mod stages;
pub mod stats;
pub mod tasks;
pub mod tensorboard;

pub use error::{Context, Error, ErrorKind, Result};

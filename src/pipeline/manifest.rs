//! The last file written into an artifact: where it came from, what it cost and what it holds.

use super::key::{StageKey, StageSpec};
use crate::files::FileRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Its name inside an artifact folder; no stage may write a file of this name at its top.
pub(super) const MANIFEST: &str = "manifest.json";

/// The version of the store's layout, of `store.json` and of every manifest.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Provenance, cost and contents of a finished artifact. The cost is that of the way to the result, through checkpoints if
/// there were any; it leaves out work that was lost and done again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub key: StageKey,
    pub spec: StageSpec,
    pub label: String,
    /// Version of this program.
    pub touchstone: String,
    /// Set at build time through `TOUCHSTONE_REVISION` (for example from `git describe`), else `"unknown"`.
    pub code_revision: String,
    pub device: String,
    /// When the process that finished it began, RFC 3339 in UTC.
    pub started: String,
    pub wall_seconds: f64,
    /// User and system time; `None` where the operating system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set; `None` where the operating system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Tokens that went through a model, as the stage counted them.
    pub tokens: u64,
    /// Floating-point operations, as the stage estimated them.
    pub flops: f64,
    /// Data from outside the store, with their fingerprints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<serde_json::Value>,
    /// By path relative to the artifact folder, with `/` between parts; without the manifest itself.
    pub files: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

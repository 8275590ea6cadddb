//! The last file written into an artifact: where it came from, what it cost and what it holds.

use super::key::{StageKey, StageSpec, canonical};
use super::store::own_json;
use crate::error::{Error, Result};
use crate::files::FileRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Its name inside an artifact folder; no stage may write a file of this name at its top.
pub(super) const MANIFEST: &str = "manifest.json";

/// The name of a manifest's last field.
const SEAL: &str = "seal";

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

/// A manifest as it is written: with the hash of all the rest, so that no bit of it can turn unseen.
#[derive(Serialize)]
pub(super) struct Sealed<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    seal: String,
}

impl Manifest {
    /// Ready to be written.
    pub(super) fn sealed(&self) -> Result<Sealed<'_>> {
        let value = serde_json::to_value(self)
            .map_err(|cause| Error::internal("a manifest that cannot be JSON").caused_by(cause))?;
        Ok(Sealed { manifest: self, seal: seal(&value) })
    }

    /// The manifest at `path`, if it is as it was written. Older programs wrote no seal.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut value: Value = own_json(path)?;
        let damaged = || Error::store(format!("{} is damaged", path.display()));
        let format = value.get("format_version").and_then(Value::as_u64);
        if let Some(format) = format.filter(|format| *format > u64::from(FORMAT_VERSION)) {
            return Err(Error::store(format!("{} has the newer format {format}", path.display())));
        }
        if let Some(found) = value.as_object_mut().and_then(|fields| fields.remove(SEAL))
            && found != seal(&value)
        {
            return Err(damaged());
        }
        serde_json::from_value(value).map_err(|cause| damaged().caused_by(cause))
    }

    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// The hash of a manifest's other fields, whatever program wrote them.
fn seal(fields: &Value) -> String {
    blake3::hash(canonical(fields).as_bytes()).to_hex().to_string()
}

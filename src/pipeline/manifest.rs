//! The manifest: the last file written into an artifact, with its origin, cost and contents.

use super::key::{StageKey, StageSpec, canonical};
use super::store::own_json;
use crate::error::{Error, Result};
use crate::files::FileRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// File name of the manifest in an artifact folder; a stage must not write a file of this name at
/// the top.
pub(super) const MANIFEST: &str = "manifest.json";

/// The name of a manifest's last field.
const SEAL: &str = "seal";

/// The version of the store's layout, of `store.json` and of every manifest.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Provenance, cost and contents of a finished artifact. The cost covers the path to the result,
/// through checkpoints if there were any; work that was lost and repeated is not included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub key: StageKey,
    pub spec: StageSpec,
    pub label: String,
    /// Version of this program.
    pub touchstone: String,
    /// Set at build time through `TOUCHSTONE_REVISION` (for example from `git describe`), else
    /// `"unknown"`.
    pub code_revision: String,
    pub device: String,
    /// Start of the process that finished the artifact, RFC 3339 in UTC.
    pub started: String,
    pub wall_seconds: f64,
    /// User and system time; `None` where the operating system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set; `None` where the operating system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Tokens that passed through a model, as the stage counted them.
    pub tokens: u64,
    /// Floating-point operations, as the stage estimated them.
    pub flops: f64,
    /// Fingerprints of the data from outside the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<serde_json::Value>,
    /// Every file by its path relative to the artifact folder, with `/` between parts; the manifest
    /// itself is not included.
    pub files: BTreeMap<String, FileRecord>,
}

/// A manifest as it is written: with a hash of all other fields, so that every changed bit is
/// detected.
#[derive(Serialize)]
pub(super) struct Sealed<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    seal: String,
}

impl Manifest {
    /// The manifest with its seal, ready to be written.
    pub(super) fn sealed(&self) -> Result<Sealed<'_>> {
        let value = serde_json::to_value(self)
            .map_err(|cause| Error::internal("a manifest that cannot be JSON").caused_by(cause))?;
        Ok(Sealed {
            manifest: self,
            seal: seal(&value),
        })
    }

    /// Reads the manifest at `path` and checks its seal, if it has one: older programs wrote none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut value: Value = own_json(path)?;
        let damaged = || Error::store(format!("{} is damaged", path.display()));
        let format = value.get("format_version").and_then(Value::as_u64);
        if let Some(format) = format.filter(|format| *format > u64::from(FORMAT_VERSION)) {
            return Err(Error::store(format!(
                "{} has the newer format {format}",
                path.display()
            )));
        }
        if let Some(found) = value.as_object_mut().and_then(|fields| fields.remove(SEAL))
            && found != seal(&value)
        {
            return Err(damaged());
        }
        serde_json::from_value(value).map_err(|cause| damaged().caused_by(cause))
    }

    /// Total size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// The hash of a manifest's other fields, whichever program wrote them.
fn seal(fields: &Value) -> String {
    blake3::hash(canonical(fields).as_bytes())
        .to_hex()
        .to_string()
}

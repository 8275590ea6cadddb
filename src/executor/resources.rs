//! Estimates of what a stage needs of the machine that computes it.

use serde::Serialize;

/// Estimated resources of a stage. Where the lengths of a study's texts are known, estimates are for
/// texts of these lengths, except `memory_bytes`; otherwise texts are assumed to have their largest
/// length. The default is that of a stage about which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Resources {
    pub tokens: f64,
    pub flops: f64,
    pub optimiser_steps: f64,
    pub seconds: f64,
    /// Processors that the stage keeps busy; 0 counts as 1.
    pub processors: usize,
    /// Rows or pairs in a pass, as many as the memory allows.
    pub rows_at_once: usize,
    /// An upper bound: texts have their largest length.
    pub memory_bytes: MemoryBytes,
    /// The largest resident set that is expected.
    pub expected_memory_bytes: f64,
    /// Largest resident set of the process that computed the stage, if known.
    pub measured_memory_bytes: Option<u64>,
}

/// Memory at the stage's peak, by use. `total` is less than the sum if uses follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryBytes {
    pub weights: f64,
    pub gradients: f64,
    pub optimiser: f64,
    pub activations: f64,
    pub kv_cache: f64,
    pub read_only_models: f64,
    /// The program itself, on a device that shares the machine's memory.
    pub program: f64,
    pub total: f64,
}

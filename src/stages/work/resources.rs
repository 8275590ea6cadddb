//! Work as the resources that an executor is told.

use super::{Memory, Work};
use crate::device::hardware::{BackendProfile, Hardware};
use crate::executor::{MemoryBytes, Resources};

/// Processors that a stage keeps busy. Small models scale across processes, not across threads.
const PROCESSORS: usize = 1;

impl Work {
    /// The resources that the stage needs on `hardware`, with as many rows at once as its memory
    /// allows, and at least one. The memory that a stage took is not known here.
    pub fn resources(&self, hardware: &Hardware, backend: BackendProfile) -> Resources {
        let rows_at_once = self
            .micro_batch(hardware.memory, backend)
            .map_or(1, usize::from);
        Resources {
            tokens: self.tokens,
            flops: self.flops,
            optimiser_steps: self.steps,
            seconds: self.seconds(hardware),
            processors: PROCESSORS,
            rows_at_once,
            memory_bytes: self.memory(rows_at_once, backend).into(),
            measured_memory_bytes: None,
        }
    }
}

impl From<Memory> for MemoryBytes {
    fn from(memory: Memory) -> Self {
        Self {
            weights: memory.weights,
            gradients: memory.gradients,
            optimiser: memory.optimiser,
            activations: memory.activations,
            kv_cache: memory.kv_cache,
            read_only_models: memory.other_models,
            program: memory.program,
            total: memory.total(),
        }
    }
}

//! Work as the resources that an executor is told.

use super::{Memory, TextLengths, Work};
use crate::device::hardware::{BackendProfile, Hardware};
use crate::executor::{MemoryBytes, Resources};

/// Processors that a stage keeps busy. Small models scale across processes, not across threads.
const PROCESSORS: usize = 1;

impl Work {
    /// The resources that the stage needs on `hardware`, with as many rows at once as its memory
    /// allows, and at least one. The memory that a stage took is not known here.
    pub fn resources(
        &self,
        texts: Option<&TextLengths>,
        hardware: &Hardware,
        backend: BackendProfile,
    ) -> Resources {
        let rows_at_once = self
            .micro_batch(hardware.memory, backend)
            .map_or(1, usize::from);
        let expected = texts.map(|texts| self.with_texts(texts));
        let expected = expected.as_ref().unwrap_or(self);
        Resources {
            tokens: expected.tokens,
            flops: expected.flops,
            optimiser_steps: self.steps,
            seconds: expected.seconds(hardware),
            processors: PROCESSORS,
            rows_at_once,
            memory_bytes: self.memory(rows_at_once, backend).into(),
            expected_memory_bytes: expected.memory(rows_at_once, backend).total(),
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

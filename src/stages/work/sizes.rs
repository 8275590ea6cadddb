//! The sizes from which work is estimated: a model's shape, lengths of texts, numbers of rows,
//! types of numbers.

use super::{Pass, Phase};
use crate::experiment::GenerationSettings;
use crate::methods::training::{Dtype, Training};
use crate::model::footprint::{Load, TrainingOptions, frozen};
use crate::model::{DecoderConfig, rows_read_together};

/// Number types of a study's models, and the switches of training.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    pub training: TrainingOptions,
    /// TrainingOptions of read-only models.
    pub reading: TrainingOptions,
}

impl Precision {
    pub(in crate::stages) fn halves(&self) -> bool {
        self.reading.bytes < 4.0
    }
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        let bytes = match dtype {
            Dtype::F32 => 4.0,
            Dtype::Bf16 => 2.0,
        };
        let reading = TrainingOptions {
            bytes,
            gradient_checkpointing: false,
            lora_rank: 0,
        };
        Self {
            training: reading,
            reading,
        }
    }
}

impl From<&Training> for Precision {
    fn from(training: &Training) -> Self {
        let Training {
            dtype,
            gradient_checkpointing,
            lora_rank,
            ..
        } = *training;
        let Self { reading, .. } = Self::from(dtype);
        Self {
            training: TrainingOptions {
                gradient_checkpointing,
                lora_rank,
                ..reading
            },
            reading,
        }
    }
}

/// Sizes that a stage's work depends on and its settings do not hold.
#[derive(Clone, Copy)]
pub struct Sizes<'a> {
    /// Shape of the model that is trained, sampled from or read.
    pub model: &'a DecoderConfig,
    /// Number of rows, prompts or pairs in the stage's input.
    pub rows: usize,
    /// The largest number of epochs that an input `tuning` can choose.
    pub epochs: Option<usize>,
}

impl<'a> Sizes<'a> {
    pub fn new(model: &'a DecoderConfig, rows: usize) -> Self {
        Self {
            model,
            rows,
            epochs: None,
        }
    }

    pub fn shapes(&self, generation: &'a GenerationSettings) -> Shapes<'a> {
        Shapes {
            config: self.model,
            generation,
        }
    }
}

/// A model's shape and the lengths of its texts.
#[derive(Clone, Copy)]
pub struct Shapes<'a> {
    pub config: &'a DecoderConfig,
    pub generation: &'a GenerationSettings,
}

impl Shapes<'_> {
    pub(in crate::stages) fn width(&self) -> f64 {
        (self.generation.max_prompt_tokens + self.generation.max_response_tokens) as f64
    }

    /// Load of one row whose response is read with the vocabulary as outputs.
    pub(in crate::stages) fn likelihood(&self) -> Load {
        let read = self.generation.max_response_tokens as f64;
        Load {
            rows: 1.0,
            width: self.width(),
            read,
            outputs: self.config.vocab_size() as f64,
            last: self.width(),
        }
    }

    /// Load of one row, read once with a scalar head.
    pub(in crate::stages) fn score(&self) -> Load {
        Load {
            rows: 1.0,
            width: self.width(),
            read: 1.0,
            outputs: 1.0,
            last: self.width(),
        }
    }

    /// Load of two packed texts with one prompt, each read at its end with a scalar head.
    pub(in crate::stages) fn scored_pair(&self) -> Load {
        Load {
            rows: 1.0,
            width: self.width() + self.generation.max_response_tokens as f64,
            read: 2.0,
            outputs: 1.0,
            last: 2.0,
        }
    }

    /// Load of one row, read at every response token with a scalar head.
    pub(in crate::stages) fn values(&self) -> Load {
        Load {
            outputs: 1.0,
            ..self.likelihood()
        }
    }

    /// The phase that samples `samples` responses.
    pub(in crate::stages) fn generate(
        &self,
        samples: usize,
        computation: TrainingOptions,
    ) -> Phase {
        let pass = Pass::Generate {
            config: self.config.clone(),
            rows: self.generation.batch_size.min(samples),
            prompt: self.generation.max_prompt_tokens as f64,
            response: self.generation.max_response_tokens as f64,
            computation,
        };
        pass.into()
    }

    /// The phase that reads `rows` rows, in passes of as many rows as their width allows.
    pub(in crate::stages) fn read(
        &self,
        load: Load,
        rows: usize,
        computation: TrainingOptions,
    ) -> Phase {
        let rows = rows.min(rows_read_together(load.width as usize));
        Pass::Read {
            config: self.config.clone(),
            load,
            rows,
            splits: false,
            computation,
        }
        .into()
    }

    pub(in crate::stages) fn train(
        &self,
        loads: &[Load],
        items: usize,
        computation: TrainingOptions,
    ) -> Phase {
        Pass::Train {
            config: self.config.clone(),
            loads: loads.to_vec(),
            items,
            computation,
        }
        .into()
    }

    pub(in crate::stages) fn language_model(&self) -> usize {
        self.config.vocab_size()
    }

    /// Bytes of weights read to sample `samples` responses: all weights once per batch and step.
    pub(in crate::stages) fn streamed(&self, samples: f64, computation: TrainingOptions) -> f64 {
        let steps = (samples / self.generation.batch_size as f64).ceil()
            * self.generation.max_response_tokens as f64;
        steps * frozen(self.config, self.language_model(), computation.bytes)
    }
}

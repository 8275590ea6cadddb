//! Training options of all methods and models: number types, trained weights, and memory use.
//! `docs/training.md` gives the cost of each.

use crate::model::arch::Naming;
use crate::model::nn::lora::LoraSettings;
use crate::model::{Computation, Decoder, LanguageModel, RewardModel};
use burn::module::Module;
use burn::tensor::FloatDType;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Type of activations and matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    #[default]
    F32,
    /// Half the memory; trained weights, gradients and the optimiser's state stay f32.
    Bf16,
}

impl Dtype {
    pub fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    pub dtype: Dtype,
    /// Recomputes each layer in the backward pass instead of keeping its activations. The result is
    /// the same.
    pub gradient_checkpointing: bool,
    /// Rank of LoRA's adapters; 0 trains every weight.
    pub lora_rank: usize,
    /// α of LoRA; an adapter's output is scaled by `lora_alpha / lora_rank`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lora_alpha: f64,
    /// Seed of everything that training draws; the study's seed if absent. The plan passes it to
    /// stages, so that it is not part of any settings.
    #[serde(default, skip_serializing)]
    pub seed: Option<u64>,
    /// Rows per forward pass; gradients accumulate to the full batch. `None` takes the whole batch
    /// at once. The choice belongs to the machine and the result does not depend on it, so it is in
    /// no file and in no key.
    #[serde(skip)]
    pub micro_batch: Option<NonZeroUsize>,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            gradient_checkpointing: false,
            lora_rank: 0,
            lora_alpha: 16.0,
            seed: None,
            micro_batch: None,
        }
    }
}

impl Training {
    /// Number of `rows` that pass through a forward pass together; at least 1.
    pub fn rows_at_once(&self, rows: usize) -> usize {
        self.micro_batch.map_or(rows.max(1), NonZeroUsize::get)
    }

    /// The options that affect the model itself.
    pub fn computation(&self) -> Computation {
        let lora = LoraSettings {
            rank: self.lora_rank,
            alpha: self.lora_alpha,
        };
        Computation {
            dtype: self.dtype.float(),
            checkpointing: self.gradient_checkpointing,
            lora: (self.lora_rank > 0).then_some(lora),
        }
    }
}

/// A model that a [`Trainer`](super::optimise::Trainer) can train.
pub trait Trainable: Module {
    /// All decoders of the model, starting with that of the network that is kept.
    fn decoders(&self) -> Vec<&Decoder>;

    /// Names of the model's tensors.
    fn naming(&self) -> &'static Naming {
        self.decoders()[0].config.naming()
    }

    /// The model in the form that is trained with options `how`; `rng` draws its new weights.
    fn prepared(self, how: &Computation, rng: &mut ChaCha8Rng) -> Self;
    /// The inverse of [`prepared`](Self::prepared): the model in the form that is saved.
    fn restored(self) -> Self;
}

impl Trainable for LanguageModel {
    fn decoders(&self) -> Vec<&Decoder> {
        vec![&self.decoder]
    }

    fn prepared(self, how: &Computation, rng: &mut ChaCha8Rng) -> Self {
        Self::prepared(self, how, rng)
    }

    fn restored(self) -> Self {
        Self::restored(self)
    }
}

impl Trainable for RewardModel {
    fn decoders(&self) -> Vec<&Decoder> {
        vec![&self.decoder]
    }

    fn prepared(self, how: &Computation, rng: &mut ChaCha8Rng) -> Self {
        Self::prepared(self, how, rng)
    }

    fn restored(self) -> Self {
        Self::restored(self)
    }
}

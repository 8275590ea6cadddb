//! Memory and arithmetic of a model, estimated from its shape alone: used by `touchstone plan`
//! before a run, and to choose the size of micro-batches. Counts follow the layers of `arch` and
//! the operations of `device/fused`; docs/memory.md compares them with measured peaks.

use crate::device::hardware::Operations;
use crate::model::DecoderConfig;
use crate::model::arch::{Kept, LayerPart, Sizes};

/// The operations of a computation: this project's own are f32 only, and LibTorch's are given texts
/// that are padded anew where a scalar head reads packed ones.
fn operations_of(load: &Load, computation: &TrainingOptions, operations: Operations) -> Operations {
    match operations {
        Operations::Flex if computation.bytes != F32 => Operations::Composed,
        Operations::LibTorch if load.outputs <= 1.0 => Operations::Composed,
        other => other,
    }
}

/// The options of a computation that affect its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingOptions {
    /// Bytes of an activation, and of a weight as used in the computation: 4 (f32) or 2 (bf16).
    pub bytes: f64,
    /// True if layers keep only their input and are recomputed for their gradients.
    pub gradient_checkpointing: bool,
    /// Rank of the adapters; 0 trains every parameter.
    pub lora_rank: usize,
}

/// A batch: rows of `width` tokens, at `read` of which a head of `outputs` numbers reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub rows: f64,
    pub width: f64,
    pub read: f64,
    pub outputs: f64,
    /// Tokens of a row of which the last layer computes more than keys and values.
    pub last: f64,
}

impl Load {
    /// The same batch with `rows` times as many rows.
    pub fn times(self, rows: f64) -> Self {
        Self {
            rows: self.rows * rows,
            ..self
        }
    }

    /// The same batch with rows of `share` of their tokens.
    pub fn shortened(self, share: f64) -> Self {
        Self {
            width: self.width * share,
            read: self.read * share,
            last: self.last * share,
            ..self
        }
    }
}

const F32: f64 = 4.0;

/// Tokens whose logits LibTorch has in memory together (`device/fused/libtorch`).
const LIBTORCH_PIECE: f64 = 8192.0;
/// Copies of these logits: their exponentials, and blocks of both that are not given back at once.
const LIBTORCH_OUTPUTS: f64 = 2.5;

// Measured values, see docs/memory.md.
/// Values of a parameter's size that AdamW holds while it updates it.
const UPDATE_COPIES: f64 = 2.5;
/// Copies of the widest activation in a backward pass: its gradient, the values from which that is
/// computed, and the factor that is transposed for the gradient of a weight.
const BACKWARD_COPIES: f64 = 3.0;

impl DecoderConfig {
    /// Parameters with a head of `outputs` numbers (the vocabulary of a language model, 1 of a
    /// reward model).
    pub fn parameters(&self, outputs: usize) -> usize {
        let sizes = self.sizes();
        let tied = sizes.tied && outputs == sizes.vocab_size;
        self.backbone_parameters() + if tied { 0 } else { outputs * sizes.hidden_size }
    }

    /// Parameters of the adapters of rank `rank` beside the linear maps of every layer.
    pub fn lora_parameters(&self, rank: usize) -> usize {
        let widths: usize = self
            .parts()
            .iter()
            .filter_map(LayerPart::widths)
            .map(|[from, to]| from + to)
            .sum();
        self.sizes().layers * rank * widths
    }

    /// Parameters that matrix products use, per layer.
    fn layer_matrix(&self) -> f64 {
        self.parts()
            .iter()
            .filter_map(LayerPart::widths)
            .map(|[from, to]| from * to)
            .sum::<usize>() as f64
    }

    /// The widest result of a layer's linear maps.
    fn widest(&self) -> usize {
        self.parts()
            .iter()
            .filter_map(LayerPart::widths)
            .map(|[_, to]| to)
            .max()
            .unwrap_or(0)
    }
}

/// Floating-point operations of one forward pass: two for every parameter of a product, and
/// attention's products over the columns that a token sees; windows are ignored.
pub fn forward_flops(config: &DecoderConfig, load: &Load) -> f64 {
    let sizes = config.sizes();
    let (d, layers) = (sizes.hidden_size as f64, sizes.layers as f64);
    let per_token =
        layers * (2.0 * config.layer_matrix() + 2.0 * sizes.query_width() as f64 * load.width);
    load.rows * (load.width * per_token + 2.0 * load.read * d * load.outputs)
}

/// Floating-point operations of forward and backward pass; with checkpointing the forward pass is
/// done twice.
pub fn training_flops(config: &DecoderConfig, load: &Load, computation: &TrainingOptions) -> f64 {
    forward_flops(config, load) * backward_factor(computation.gradient_checkpointing)
}

/// Cost of a pass with gradients, in forward passes.
pub fn backward_factor(gradient_checkpointing: bool) -> f64 {
    if gradient_checkpointing { 4.0 } else { 3.0 }
}

/// Bytes that a model trained with AdamW holds from step to step: weights, gradients, two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainingState {
    pub weights: f64,
    pub gradients: f64,
    pub moments: f64,
}

impl std::ops::Add for TrainingState {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            gradients: self.gradients + other.gradients,
            moments: self.moments + other.moments,
        }
    }
}

/// Memory of a model in training; `outputs` is as in [`DecoderConfig::parameters`]. Master weights,
/// gradients and moments are f32; a frozen base under adapters is held in the computation's own
/// type.
pub fn training_state(
    config: &DecoderConfig,
    outputs: usize,
    computation: &TrainingOptions,
) -> TrainingState {
    let all = config.parameters(outputs) as f64;
    if computation.lora_rank == 0 {
        return TrainingState {
            weights: F32 * all,
            gradients: F32 * all,
            moments: 2.0 * F32 * all,
        };
    }
    // A scalar head is fully trained, a vocabulary head is frozen.
    let head = if outputs == config.vocab_size() {
        0.0
    } else {
        (outputs * config.hidden_size()) as f64
    };
    let trained = config.lora_parameters(computation.lora_rank) as f64 + head;
    let weights = computation.bytes * (all - head) + F32 * trained;
    TrainingState {
        weights,
        gradients: F32 * trained,
        moments: 2.0 * F32 * trained,
    }
}

/// Bytes of the optimiser's own values while it updates the largest trained parameter.
pub fn update_transient(config: &DecoderConfig, computation: &TrainingOptions) -> f64 {
    let widest = config.widest();
    let largest = match computation.lora_rank {
        0 => config.hidden_size() * config.vocab_size().max(widest),
        rank => rank * widest,
    };
    UPDATE_COPIES * F32 * largest as f64
}

/// Bytes of a model that is only read.
pub fn frozen(config: &DecoderConfig, outputs: usize, bytes: f64) -> f64 {
    bytes * config.parameters(outputs) as f64
}

/// Bytes that a forward pass keeps for its gradients, plus those added at the peak of the backward
/// pass.
pub fn training_activations(
    config: &DecoderConfig,
    load: &Load,
    computation: &TrainingOptions,
    operations: Operations,
) -> f64 {
    let Sizes {
        hidden_size,
        layers,
        vocab_size,
        ..
    } = config.sizes();
    let (d, layers) = (hidden_size as f64, layers as f64);
    let tokens = load.rows * load.width;
    let kept = kept_per_token(config, load, computation, operations);
    let layer = tokens * kept;
    let keys_alone = computation.bytes * (d + 2.0 * config.sizes().key_width() as f64);
    let last_layer = load.rows * (load.last * kept + (load.width - load.last) * keys_alone);
    // Outputs and their gradient, which this project's operation writes over them and LibTorch's has for
    // a piece of the tokens only; the gradient of the head's weight, if it has one.
    let read = load.rows * load.read;
    let outputs = match operations_of(load, computation, operations) {
        Operations::Flex => read,
        Operations::LibTorch => LIBTORCH_OUTPUTS * read.min(LIBTORCH_PIECE),
        Operations::Composed => 2.0 * read,
    };
    let frozen = computation.lora_rank > 0 && load.outputs > 1.0;
    let weight = if frozen { 0.0 } else { d * load.outputs };
    let head = F32 * (2.0 * read * d + outputs * load.outputs + weight);
    let widest = tokens * F32 * config.widest() as f64 * BACKWARD_COPIES;
    let cast = cast_weights(config, computation);
    if computation.gradient_checkpointing {
        // Every layer's input, plus the head or one layer with everything that it keeps.
        return layers * tokens * d * computation.bytes + cast + head.max(layer + widest);
    }
    // The gradient of the embedding, which is as large as its table, is computed after the head is
    // done.
    let embedding = if computation.lora_rank > 0 {
        0.0
    } else {
        F32 * d * vocab_size as f64
    };
    // The memory of many small blocks is not released before large ones are allocated.
    (layers - 1.0) * layer + last_layer + cast + widest + head.max(embedding)
}

/// bf16 copies of f32 master weights that a recorded forward pass holds.
fn cast_weights(config: &DecoderConfig, computation: &TrainingOptions) -> f64 {
    if computation.bytes == F32 {
        return 0.0;
    }
    let layers = if computation.gradient_checkpointing {
        1.0
    } else {
        config.sizes().layers as f64
    };
    computation.bytes * layers * config.layer_matrix()
}

/// Bytes kept per token and layer for the backward pass.
fn kept_per_token(
    config: &DecoderConfig,
    load: &Load,
    computation: &TrainingOptions,
    operations: Operations,
) -> f64 {
    let Kept {
        inputs,
        projections,
        normed,
        activation,
    } = config.kept();
    let [inputs, projections, normed] = [inputs, projections, normed].map(|numbers| numbers as f64);
    let [one, several] = activation.map(|numbers| numbers as f64);
    match operations_of(load, computation, operations) {
        // Attention recomputes its weights.
        Operations::Flex => F32 * (inputs + projections + one),
        // Queries and keys are kept a second time, rotated, and attention's result before its heads are
        // merged, with the mask as numbers; norms keep what they computed from in full precision.
        Operations::LibTorch => {
            let rotated = 2.0 / 3.0 * projections;
            let (context, mask) = (config.sizes().query_width() as f64, load.width);
            let exact = if computation.bytes == F32 {
                0.0
            } else {
                normed
            };
            computation.bytes * (inputs + projections + rotated + context + mask + one)
                + F32 * exact
        }
        // Norms keep their divisor and both factors; queries, keys and values are kept a second
        // time, rotated; the weights of attention are kept in full precision and as they are
        // multiplied, together with their mask.
        Operations::Composed => {
            let scores = config.sizes().heads as f64 * load.width * (F32 + computation.bytes + 1.0);
            let turned = projections;
            computation.bytes * (inputs + projections + turned + several)
                + F32 * 3.0 * normed
                + scores
        }
    }
}

/// Bytes of a copy of the widest weight in a product: the fused operations copy it into the order
/// in which they read it, and a processor multiplies bf16 as f32.
fn packed(config: &DecoderConfig, load: &Load) -> f64 {
    let Sizes {
        hidden_size,
        intermediate_size,
        ..
    } = config.sizes();
    F32 * hidden_size as f64 * load.outputs.max(intermediate_size as f64)
}

/// Bytes at the peak of a forward pass whose states are not kept.
pub fn inference_activations(
    config: &DecoderConfig,
    load: &Load,
    computation: &TrainingOptions,
    operations: Operations,
) -> f64 {
    let (sizes, projections) = (config.sizes(), config.kept().projections as f64);
    let (d, inner) = (sizes.hidden_size as f64, sizes.intermediate_size as f64);
    let tokens = load.rows * load.width;
    let layer = match operations_of(load, computation, operations) {
        Operations::Flex => F32 * tokens * (projections + 2.0 * inner),
        Operations::LibTorch => {
            tokens
                * computation.bytes
                * (2.0 * projections + load.width).max(projections + 2.0 * inner)
        }
        Operations::Composed => {
            let scores =
                load.rows * sizes.heads as f64 * load.width * load.width * (2.0 * F32 + 1.0);
            tokens
                * (computation.bytes * (projections + 2.0 * inner))
                    .max(computation.bytes * 8.0 * d + scores / tokens)
        }
    };
    let read = load.rows * load.read;
    let outputs = F32 * read * load.outputs;
    let (copies, kept) = match operations {
        // Half of a layer's blocks are too small to be released before the outputs are allocated.
        Operations::Flex => (outputs + packed(config, load), layer / 2.0),
        // The outputs, and the values computed from them.
        Operations::LibTorch => (
            LIBTORCH_OUTPUTS * F32 * read.min(LIBTORCH_PIECE) * load.outputs,
            0.0,
        ),
        Operations::Composed => (2.0 * outputs, 0.0),
    };
    let head = F32 * load.rows * load.read * d + copies;
    tokens * d * computation.bytes + layer.max(head + kept)
}

/// Bytes of the keys and values of `rows` responses with room for `width` tokens each.
pub fn kv_cache(config: &DecoderConfig, rows: f64, width: f64, bytes: f64) -> f64 {
    let sizes = config.sizes();
    2.0 * sizes.layers as f64 * sizes.key_width() as f64 * rows * width * bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::GptNeoXConfig;

    /// The configuration of Pythia-1B.
    fn pythia_1b() -> DecoderConfig {
        let config: GptNeoXConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 8,
            "intermediate_size": 8192, "rotary_pct": 0.25, "max_position_embeddings": 2048
        }))
        .unwrap();
        config.into()
    }

    /// The configuration of Mistral-7B-v0.1.
    fn mistral_7b() -> DecoderConfig {
        let keys = serde_json::json!({
            "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "sliding_window": 4096, "max_position_embeddings": 32768
        });
        DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "config.json").unwrap()
    }

    const F32_PLAIN: TrainingOptions = TrainingOptions {
        bytes: 4.0,
        gradient_checkpointing: false,
        lora_rank: 0,
    };

    #[test]
    fn parameters_are_the_published_ones() {
        // The number published for EleutherAI/pythia-1b-deduped.
        assert_eq!(pythia_1b().parameters(50304), 1_011_781_632);
        // The number published for mistralai/Mistral-7B-v0.1.
        assert_eq!(mistral_7b().parameters(32000), 7_241_732_096);
    }

    #[test]
    fn grouped_heads_keep_a_quarter_of_the_keys() {
        let config = mistral_7b();
        assert_eq!(
            kv_cache(&config, 1.0, 1.0, 2.0),
            2.0 * 32.0 * 8.0 * 128.0 * 2.0
        );
    }

    #[test]
    fn a_forward_pass_of_short_rows_is_two_operations_a_parameter() {
        let config = pythia_1b();
        let load = Load {
            rows: 1.0,
            width: 1.0,
            read: 1.0,
            outputs: 50304.0,
            last: 1.0,
        };
        let products = (config.parameters(50304) - 50304 * 2048) as f64;
        assert!((forward_flops(&config, &load) / (2.0 * products) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn adapters_leave_little_to_train() {
        let config = pythia_1b();
        let adapters = TrainingOptions {
            lora_rank: 16,
            ..F32_PLAIN
        };
        let (full, small) = (
            training_state(&config, 1, &F32_PLAIN),
            training_state(&config, 1, &adapters),
        );
        assert_eq!(full.moments, 2.0 * full.gradients);
        assert!(small.moments < 0.02 * full.moments && small.weights >= full.weights);
    }

    #[test]
    fn checkpointing_keeps_little_more_than_the_layers_inputs() {
        let config = pythia_1b();
        let load = Load {
            rows: 8.0,
            width: 565.0,
            read: 1.0,
            outputs: 1.0,
            last: 565.0,
        };
        let kept = |gradient_checkpointing| {
            training_activations(
                &config,
                &load,
                &TrainingOptions {
                    gradient_checkpointing,
                    ..F32_PLAIN
                },
                Operations::Flex,
            )
        };
        assert!(kept(true) < 0.25 * kept(false));
    }
}

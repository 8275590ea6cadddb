//! How much memory and arithmetic a model takes, reckoned from its shape alone: what `touchstone plan` prints before a run,
//! and what micro-batches are derived from. Counts follow the layers of `arch` and the operations of `device/fused`; docs/memory.md
//! compares them with measured peaks.

use crate::model::DecoderConfig;
use crate::model::arch::{Kept, Part, Sizes};

/// Which operations compute, since they keep different things for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernels {
    /// One pass with a gradient of its own (the CPU backend, f32).
    Fused,
    /// Compositions of tensor operations (every other backend, and bf16).
    Composed,
}

impl Kernels {
    /// The kernels of our own are f32.
    fn of(computation: &Computation, fused: bool) -> Self {
        if fused && computation.bytes == F32 { Self::Fused } else { Self::Composed }
    }
}

/// How a model is computed with: what moves its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Computation {
    /// Bytes of an activation and of a weight as it is computed with: 4 (f32) or 2 (bf16).
    pub bytes: f64,
    /// Layers keep their input alone and are computed again for their gradients.
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
}

impl Load {
    /// So many times as many rows.
    pub fn times(self, rows: f64) -> Self {
        Self { rows: self.rows * rows, ..self }
    }
}

const F32: f64 = 4.0;

// Measured, as docs/memory.md says.
/// Values of a parameter's size that AdamW holds while it updates it.
const UPDATE_COPIES: f64 = 2.5;
/// Of the widest activation in a backward pass: its gradient, what that is made from, and the factor that is turned for the
/// gradient of a weight.
const BACKWARD_COPIES: f64 = 3.0;

impl DecoderConfig {
    /// Parameters with a head of `outputs` numbers (the vocabulary of a language model, 1 of a reward model).
    pub fn parameters(&self, outputs: usize) -> usize {
        let sizes = self.sizes();
        let tied = sizes.tied && outputs == sizes.vocab_size;
        self.backbone_parameters() + if tied { 0 } else { outputs * sizes.hidden_size }
    }

    /// Parameters of the adapters of rank `rank` beside the linear maps of every layer.
    pub fn lora_parameters(&self, rank: usize) -> usize {
        let widths: usize = self.parts().iter().filter_map(Part::widths).map(|[from, to]| from + to).sum();
        self.sizes().layers * rank * widths
    }

    /// Parameters that matrix products use, per layer.
    fn layer_matrix(&self) -> f64 {
        self.parts().iter().filter_map(Part::widths).map(|[from, to]| from * to).sum::<usize>() as f64
    }

    /// The widest result of a layer's linear maps.
    fn widest(&self) -> usize {
        self.parts().iter().filter_map(Part::widths).map(|[_, to]| to).max().unwrap_or(0)
    }
}

/// Floating-point operations of one forward pass: two for every parameter of a product, and attention's products over the
/// columns that a token sees; a window is not counted off.
pub fn forward_flops(config: &DecoderConfig, load: &Load) -> f64 {
    let sizes = config.sizes();
    let (d, layers) = (sizes.hidden_size as f64, sizes.layers as f64);
    let per_token = layers * (2.0 * config.layer_matrix() + 2.0 * sizes.query_width() as f64 * load.width);
    load.rows * (load.width * per_token + 2.0 * load.read * d * load.outputs)
}

/// Forward and backward; with checkpointing the forward pass is done twice.
pub fn training_flops(config: &DecoderConfig, load: &Load, computation: &Computation) -> f64 {
    forward_flops(config, load) * backward_factor(computation.gradient_checkpointing)
}

/// What a pass with gradients takes in forward passes.
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

/// `outputs` as in [`DecoderConfig::parameters`]. Master weights, gradients and moments are f32; a frozen base under
/// adapters is held in the computation's own type.
pub fn training_state(config: &DecoderConfig, outputs: usize, computation: &Computation) -> TrainingState {
    let all = config.parameters(outputs) as f64;
    if computation.lora_rank == 0 {
        return TrainingState { weights: F32 * all, gradients: F32 * all, moments: 2.0 * F32 * all };
    }
    // A scalar head is trained as a whole, a vocabulary's is frozen.
    let head = if outputs == config.vocab_size() { 0.0 } else { (outputs * config.hidden_size()) as f64 };
    let trained = config.lora_parameters(computation.lora_rank) as f64 + head;
    let weights = computation.bytes * (all - head) + F32 * trained;
    TrainingState { weights, gradients: F32 * trained, moments: 2.0 * F32 * trained }
}

/// Bytes of the optimiser's own values while it updates the largest parameter that is trained.
pub fn update_transient(config: &DecoderConfig, computation: &Computation) -> f64 {
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

/// Bytes that a forward pass keeps for its gradients, and what the widest moment of the backward pass adds. `fused`: whether
/// the device has the operations of `device/fused`.
pub fn training_activations(config: &DecoderConfig, load: &Load, computation: &Computation, fused: bool) -> f64 {
    let Sizes { hidden_size, layers, vocab_size, .. } = config.sizes();
    let (d, layers) = (hidden_size as f64, layers as f64);
    let tokens = load.rows * load.width;
    let layer = tokens * kept_per_token(config, load, computation, fused);
    // Outputs and their gradient, which the fused operation writes over them; the gradient of the head's weight, if it has one.
    let copies = if Kernels::of(computation, fused) == Kernels::Fused { 1.0 } else { 2.0 };
    let frozen = computation.lora_rank > 0 && load.outputs > 1.0;
    let weight = if frozen { 0.0 } else { d * load.outputs };
    let head = F32 * (load.rows * load.read * (2.0 * d + copies * load.outputs) + weight);
    let widest = tokens * F32 * config.widest() as f64 * BACKWARD_COPIES;
    let cast = cast_weights(config, computation);
    if computation.gradient_checkpointing {
        // Every layer's input, and the head or one layer with all that it keeps.
        return layers * tokens * d * computation.bytes + cast + head.max(layer + widest);
    }
    // The gradient of the embedding, which is as large as its table, comes when the head is done.
    let embedding = if computation.lora_rank > 0 { 0.0 } else { F32 * d * vocab_size as f64 };
    // The memory of many small blocks is not given back before large ones are asked for.
    layers * layer + cast + widest + head.max(embedding)
}

/// bf16 copies of f32 master weights that a recorded forward pass holds.
fn cast_weights(config: &DecoderConfig, computation: &Computation) -> f64 {
    if computation.bytes == F32 {
        return 0.0;
    }
    let layers = if computation.gradient_checkpointing { 1.0 } else { config.sizes().layers as f64 };
    computation.bytes * layers * config.layer_matrix()
}

/// Bytes kept per token and layer for the backward pass.
fn kept_per_token(config: &DecoderConfig, load: &Load, computation: &Computation, fused: bool) -> f64 {
    let Kept { inputs, projections, normed, activation } = config.kept();
    let [inputs, projections, normed] = [inputs, projections, normed].map(|numbers| numbers as f64);
    let [one, several] = activation.map(|numbers| numbers as f64);
    match Kernels::of(computation, fused) {
        // Attention computes its weights again.
        Kernels::Fused => F32 * (inputs + projections + one),
        // Norms keep their divisor and both factors; queries, keys and values are kept once more, turned; the weights of
        // attention are kept exact and as they are multiplied, and their mask.
        Kernels::Composed => {
            let scores = config.sizes().heads as f64 * load.width * (F32 + computation.bytes + 1.0);
            let turned = projections;
            computation.bytes * (inputs + projections + turned + several) + F32 * 3.0 * normed + scores
        }
    }
}

/// Bytes of the widest weight of a product once more: the fused operations copy it into the order in which they read it, and
/// a processor multiplies bf16 as f32.
fn packed(config: &DecoderConfig, load: &Load) -> f64 {
    let Sizes { hidden_size, intermediate_size, .. } = config.sizes();
    F32 * hidden_size as f64 * load.outputs.max(intermediate_size as f64)
}

/// Bytes of the widest moment of a forward pass whose states are not kept.
pub fn inference_activations(config: &DecoderConfig, load: &Load, computation: &Computation, fused: bool) -> f64 {
    let (sizes, projections) = (config.sizes(), config.kept().projections as f64);
    let (d, inner) = (sizes.hidden_size as f64, sizes.intermediate_size as f64);
    let tokens = load.rows * load.width;
    let layer = match Kernels::of(computation, fused) {
        Kernels::Fused => F32 * tokens * (projections + 2.0 * inner),
        Kernels::Composed => {
            let scores = load.rows * sizes.heads as f64 * load.width * load.width * (2.0 * F32 + 1.0);
            tokens
                * (computation.bytes * (projections + 2.0 * inner)).max(computation.bytes * 8.0 * d + scores / tokens)
        }
    };
    let outputs = F32 * load.rows * load.read * load.outputs;
    let (copies, kept) = match fused {
        // Half of a layer's blocks are too small to be given back before the outputs are asked for.
        true => (outputs + packed(config, load), layer / 2.0),
        // The outputs, and what becomes of them.
        false => (2.0 * outputs, 0.0),
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

    /// Pythia-1B, as its config.json has it.
    fn pythia_1b() -> DecoderConfig {
        let config: GptNeoXConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": 50304, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 8,
            "intermediate_size": 8192, "rotary_pct": 0.25, "max_position_embeddings": 2048
        }))
        .unwrap();
        config.into()
    }

    /// Mistral-7B-v0.1, as its config.json has it.
    fn mistral_7b() -> DecoderConfig {
        let keys = serde_json::json!({
            "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "sliding_window": 4096, "max_position_embeddings": 32768
        });
        DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "config.json").unwrap()
    }

    const F32_PLAIN: Computation = Computation { bytes: 4.0, gradient_checkpointing: false, lora_rank: 0 };

    #[test]
    fn parameters_are_the_published_ones() {
        // Published for EleutherAI/pythia-1b-deduped.
        assert_eq!(pythia_1b().parameters(50304), 1_011_781_632);
        // Published for mistralai/Mistral-7B-v0.1.
        assert_eq!(mistral_7b().parameters(32000), 7_241_732_096);
    }

    #[test]
    fn grouped_heads_keep_a_quarter_of_the_keys() {
        let config = mistral_7b();
        assert_eq!(kv_cache(&config, 1.0, 1.0, 2.0), 2.0 * 32.0 * 8.0 * 128.0 * 2.0);
    }

    #[test]
    fn a_forward_pass_of_short_rows_is_two_operations_a_parameter() {
        let config = pythia_1b();
        let load = Load { rows: 1.0, width: 1.0, read: 1.0, outputs: 50304.0 };
        let products = (config.parameters(50304) - 50304 * 2048) as f64;
        assert!((forward_flops(&config, &load) / (2.0 * products) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn adapters_leave_little_to_train() {
        let config = pythia_1b();
        let adapters = Computation { lora_rank: 16, ..F32_PLAIN };
        let (full, small) = (training_state(&config, 1, &F32_PLAIN), training_state(&config, 1, &adapters));
        assert_eq!(full.moments, 2.0 * full.gradients);
        assert!(small.moments < 0.02 * full.moments && small.weights >= full.weights);
    }

    #[test]
    fn checkpointing_keeps_little_more_than_the_layers_inputs() {
        let config = pythia_1b();
        let load = Load { rows: 8.0, width: 565.0, read: 1.0, outputs: 1.0 };
        let kept = |gradient_checkpointing| {
            training_activations(&config, &load, &Computation { gradient_checkpointing, ..F32_PLAIN }, true)
        };
        assert!(kept(true) < 0.25 * kept(false));
    }
}

//! Shapes and tokenizers of the models that studies make themselves.

use crate::Result;
use crate::data::Codec;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::model::{GptNeoXConfig, TokenIds};
use std::path::Path;

/// The tokenizer in `folder`, with the study's limits.
pub(super) fn codec(folder: &Path, generation: &GenerationSettings) -> Result<Codec> {
    Codec::open(folder, generation.max_prompt_tokens, generation.max_response_tokens)
}

/// The shape of `model` with an embedding of `vocab_size` rows.
pub fn config(model: &ModelSettings, vocab_size: usize) -> GptNeoXConfig {
    GptNeoXConfig {
        vocab_size,
        hidden_size: model.hidden_size,
        num_hidden_layers: model.num_hidden_layers,
        num_attention_heads: model.num_attention_heads,
        intermediate_size: model.intermediate_size,
        hidden_act: "gelu".into(),
        rotary_pct: model.rotary_pct,
        rotary_emb_base: model.rotary_emb_base,
        max_position_embeddings: model.max_position_embeddings,
        layer_norm_eps: model.layer_norm_eps,
        use_parallel_residual: model.use_parallel_residual,
        tie_word_embeddings: model.tie_word_embeddings,
        bos_token_id: None,
        eos_token_id: None,
    }
}

/// The same for the tokenizer of `codec`, with its ends.
pub(super) fn config_for(model: &ModelSettings, codec: &Codec) -> GptNeoXConfig {
    let ends = match codec.ends().ids() {
        [one] => TokenIds::One(*one),
        several => TokenIds::Several(several.to_vec()),
    };
    let (bos_token_id, eos_token_id) = (Some(codec.eos), Some(ends));
    let vocab_size = model.vocab_size.unwrap_or(codec.vocabulary_size());
    GptNeoXConfig { bos_token_id, eos_token_id, ..config(model, vocab_size) }
}

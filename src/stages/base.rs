//! Shapes and tokenizers of the models that studies create themselves.

use crate::Result;
use crate::data::TextEncoder;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::model::{DecoderConfig, TokenIds};
use std::path::Path;

/// The tokenizer in `folder`, with the study's limits.
pub(super) fn encoder(folder: &Path, generation: &GenerationSettings) -> Result<TextEncoder> {
    TextEncoder::open(
        folder,
        generation.max_prompt_tokens,
        generation.max_response_tokens,
    )
}

/// The configuration of `model` for the tokenizer of `encoder`, with that tokenizer's end tokens.
pub(super) fn config_for(model: &ModelSettings, encoder: &TextEncoder) -> DecoderConfig {
    let ends = match encoder.ends().ids() {
        [one] => TokenIds::One(*one),
        several => TokenIds::Several(several.to_vec()),
    };
    let (bos_token_id, eos_token_id) = (Some(encoder.eos), Some(ends));
    let vocab_size = model.vocab_size.unwrap_or(encoder.vocabulary_size());
    model
        .config(vocab_size)
        .with_ends(bos_token_id, eos_token_id)
}

//! Shapes and tokenizers of the models that studies create themselves.

use crate::Result;
use crate::data::Codec;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::model::{DecoderConfig, TokenIds};
use std::path::Path;

/// The tokenizer in `folder`, with the study's limits.
pub(super) fn codec(folder: &Path, generation: &GenerationSettings) -> Result<Codec> {
    Codec::open(
        folder,
        generation.max_prompt_tokens,
        generation.max_response_tokens,
    )
}

/// The configuration of `model` for the tokenizer of `codec`, with that tokenizer's end tokens.
pub(super) fn config_for(model: &ModelSettings, codec: &Codec) -> DecoderConfig {
    let ends = match codec.ends().ids() {
        [one] => TokenIds::One(*one),
        several => TokenIds::Several(several.to_vec()),
    };
    let (bos_token_id, eos_token_id) = (Some(codec.eos), Some(ends));
    let vocab_size = model.vocab_size.unwrap_or(codec.vocabulary_size());
    model
        .config(vocab_size)
        .with_ends(bos_token_id, eos_token_id)
}

//! Text to tokens and back, with one rule for ends and lengths everywhere: a response ends with the end-of-sequence
//! token, which is appended *before* truncation, so a response that is too long has no end. PAD is never EOS.

use crate::data::rows::{Demonstration, Response, ResponsePair};
use crate::model::{Pair, Sequence};
use crate::{Error, Result};
use std::path::Path;
use tokenizers::Tokenizer;

/// The end-of-sequence token of GPT-NeoX tokenizers and of the embedded world.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Reads a `tokenizer.json`.
pub fn tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|cause| {
        Error::data(format!("cannot read the tokenizer {}", path.display()))
            .caused_by(cause)
            .hint("it must be the tokenizer.json of a GPT-NeoX model")
    })
}

/// A tokenizer with the length limits of a study.
#[derive(Clone)]
pub struct Codec {
    tokenizer: Tokenizer,
    pub eos: u32,
    pub max_prompt_tokens: usize,
    pub max_response_tokens: usize,
}

impl Codec {
    pub fn new(tokenizer: Tokenizer, max_prompt_tokens: usize, max_response_tokens: usize) -> Result<Self> {
        let eos = tokenizer.token_to_id(END_OF_TEXT).ok_or_else(|| {
            Error::data(format!("the tokenizer has no {END_OF_TEXT} token"))
                .hint("responses end with it; use the tokenizer.json of a GPT-NeoX model")
        })?;
        Ok(Self { tokenizer, eos, max_prompt_tokens, max_response_tokens })
    }

    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|cause| {
            let start: String = text.chars().take(60).collect();
            Error::data(format!("the tokenizer cannot encode {start:?} …")).caused_by(cause)
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of a prompt. Prompts are fitted to the limit where they are made; a longer one here is an error, because
    /// cutting it blindly would cut off its ending.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        if ids.is_empty() || ids.len() > self.max_prompt_tokens {
            return Err(Error::data(format!(
                "a prompt has {} tokens where 1 to {} are allowed",
                ids.len(),
                self.max_prompt_tokens
            ))
            .hint("raise generation.max_prompt_tokens"));
        }
        Ok(ids)
    }

    pub fn prompt_length(&self, text: &str) -> Result<usize> {
        Ok(self.encode(text)?.len())
    }

    /// Tokens of a response, ended and cut to the limit.
    pub fn response(&self, text: &str) -> Result<Response> {
        let mut ids = self.encode(text)?;
        ids.push(self.eos);
        ids.truncate(self.max_response_tokens);
        let ended = ids.last() == Some(&self.eos);
        Ok(Response { text: text.to_string(), ids, ended })
    }

    /// The response that `ids` are, without special tokens.
    pub fn decoded(&self, ids: Vec<u32>, ended: bool) -> Result<Response> {
        let text = self
            .tokenizer
            .decode(&ids, true)
            .map_err(|cause| Error::data("the tokenizer cannot decode sampled tokens").caused_by(cause))?;
        Ok(Response { text, ids, ended })
    }

    pub fn demonstration(&self, row: &Demonstration) -> Result<Sequence> {
        Ok(Sequence::new(self.prompt(&row.prompt)?, self.response(&row.response)?.ids))
    }

    pub fn pair(&self, row: &ResponsePair) -> Result<Pair> {
        let prompt = self.prompt(&row.prompt)?;
        Ok(Pair {
            chosen: Sequence::new(prompt.clone(), row.chosen.ids.clone()),
            rejected: Sequence::new(prompt, row.rejected.ids.clone()),
        })
    }
}

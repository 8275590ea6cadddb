//! Tokenization and decoding of text, with one rule for ends and lengths everywhere: a response
//! ends with one end-of-sequence token, which is appended *before* truncation, so a truncated
//! response has no end. PAD is never EOS.

use crate::data::rows::{Demonstration, Encodable, Response, ResponsePair};
pub use crate::model::tokenizer::END_OF_TEXT;
use crate::model::{Ends, ModelTokenizer, Pair, Sequence};
use crate::{Error, Result};
use std::path::Path;
use tokenizers::Tokenizer;

/// A tokenizer with its end tokens and the length limits of a study.
#[derive(Clone)]
pub struct TextEncoder {
    tokenizer: ModelTokenizer,
    ends: Ends,
    /// The end token that is appended to responses.
    pub eos: u32,
    pub max_prompt_tokens: usize,
    pub max_response_tokens: usize,
}

impl TextEncoder {
    /// Wraps a tokenizer that was built in memory; [`END_OF_TEXT`] ends its texts.
    pub fn new(
        tokenizer: Tokenizer,
        max_prompt_tokens: usize,
        max_response_tokens: usize,
    ) -> Result<Self> {
        let tokenizer = ModelTokenizer::of(tokenizer)?;
        let ends = Ends::of_tokenizer(&tokenizer)?;
        Ok(Self::with(
            tokenizer,
            ends,
            max_prompt_tokens,
            max_response_tokens,
        ))
    }

    /// Opens the tokenizer of `folder`, whose files define the tokens that end its texts.
    pub fn open(
        folder: &Path,
        max_prompt_tokens: usize,
        max_response_tokens: usize,
    ) -> Result<Self> {
        let tokenizer = ModelTokenizer::open(folder)?;
        let ends = Ends::of_folder(folder, Some(&tokenizer), tokenizer.vocabulary_size())?;
        Ok(Self::with(
            tokenizer,
            ends,
            max_prompt_tokens,
            max_response_tokens,
        ))
    }

    pub fn with(
        tokenizer: ModelTokenizer,
        ends: Ends,
        max_prompt_tokens: usize,
        max_response_tokens: usize,
    ) -> Self {
        let eos = ends.appended();
        Self {
            tokenizer,
            ends,
            eos,
            max_prompt_tokens,
            max_response_tokens,
        }
    }

    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.vocabulary_size()
    }

    /// Checks that an embedding of `rows` rows has one for every token.
    pub fn check_fits(&self, rows: usize) -> Result<()> {
        self.tokenizer.check_fits(rows)
    }

    /// The tokens that end a response.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The tokens of a prompt. Prompts are fitted to the limit where they are made; a longer one
    /// here is an error, because truncation would cut off its ending.
    pub fn prompt(&self, text: &(impl Encodable + ?Sized)) -> Result<Vec<u32>> {
        let ids = match text.ids() {
            Some(ids) => ids.to_vec(),
            None => self.tokenizer.encode(text.text())?,
        };
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
        Ok(self.tokenizer.encode(text)?.len())
    }

    /// The tokens of a response, ended once and cut to the limit. Known tokens are only cut.
    pub fn response(&self, text: &(impl Encodable + ?Sized)) -> Result<Response> {
        let mut ids = match text.ids() {
            Some(ids) => ids.to_vec(),
            None => self.tokenizer.encode_ended(text.text(), &self.ends)?,
        };
        ids.truncate(self.max_response_tokens);
        let ended = ids.last().is_some_and(|id| self.ends.contains(*id));
        let text = self.tokenizer.without_end(text.text(), &self.ends);
        Ok(Response {
            text: text.to_owned(),
            ids,
            ended,
        })
    }

    /// The response with the tokens `ids`; its text leaves out the end and control tokens.
    pub fn decoded(&self, ids: Vec<u32>, ended: bool) -> Result<Response> {
        let text = self.tokenizer.decode_response(&ids, &self.ends)?;
        Ok(Response { text, ids, ended })
    }

    pub fn demonstration(&self, row: &Demonstration) -> Result<Sequence> {
        Ok(Sequence::new(
            self.prompt(&row.prompt)?,
            self.response(&row.response)?.ids,
        ))
    }

    pub fn pair(&self, row: &ResponsePair) -> Result<Pair> {
        let prompt = self.prompt(&row.prompt)?;
        Ok(Pair {
            chosen: Sequence::new(prompt.clone(), row.chosen.ids.clone()),
            rejected: Sequence::new(prompt, row.rejected.ids.clone()),
        })
    }
}

//! Tokens for the implicit reward of a policy, as `tokenize_row` of `rewardbench/dpo.py` makes them.

use super::text::Texts;
use super::tokens::Tokens;
use crate::model::{Pair, Sequence};
use crate::{Error, Result};

/// The most tokens of prompt and response together.
pub const MAX_LENGTH: usize = 2048;
/// The last tokens of a prompt that stay where the whole is too long.
pub const MAX_PROMPT_LENGTH: usize = 128;

/// The tokens of a pair, and true if some were cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub pair: Pair,
    pub cut: bool,
}

/// The prompt and the two responses of a pair as tokens. The response is the whole text without
/// any occurrence of the prompt's text; a beginning token stands before the prompt, whether or not
/// the template has written one, and an end behind the response.
///
/// # Errors
/// A text that the tokenizer cannot encode, or whose prompt has more tokens alone than with its
/// response; a tokenizer without an end.
pub fn pair(tokens: &Tokens, texts: &Texts, max_length: usize) -> Result<Cut> {
    let prompt = tokens.bare(&texts.prompt)?;
    let answer = |text: &str| -> Result<Sequence> {
        let response = text.replace(&texts.prompt, "");
        let mut whole = tokens.bare(&format!("{}{response}", texts.prompt))?;
        if whole.len() < prompt.len() {
            return Err(Error::data(
                "the prompt has more tokens alone than with its response, which the reference refuses too",
            )
            .hint("drop the row"));
        }
        // The tokens of the prompt's end may merge with those of the response.
        let start = match whole.starts_with(&prompt) {
            true => prompt.len(),
            false => prompt.len() - 1,
        };
        let response = whole.split_off(start);
        Ok(Sequence::new(whole, response))
    };
    let (mut chosen, mut rejected) = (answer(&texts.chosen)?, answer(&texts.rejected)?);
    let eos = tokens.eos.ok_or_else(|| {
        Error::model("the tokenizer names no end").hint("name eos_token in tokenizer_config.json")
    })?;
    for side in [&mut chosen, &mut rejected] {
        side.prompt.insert(0, tokens.bos.unwrap_or(eos));
        side.response.push(eos);
    }
    let longer = chosen.response.len().max(rejected.response.len());
    let mut cut = false;
    for side in [&mut chosen, &mut rejected] {
        if side.prompt.len() + longer > max_length {
            let start = side.prompt.len().saturating_sub(MAX_PROMPT_LENGTH);
            side.prompt.drain(..start);
            cut |= start > 0;
        }
        if side.prompt.len() + longer > max_length {
            let kept = max_length.saturating_sub(MAX_PROMPT_LENGTH);
            cut |= kept < side.response.len();
            side.response.truncate(kept);
        }
    }
    Ok(Cut {
        pair: Pair { chosen, rejected },
        cut,
    })
}

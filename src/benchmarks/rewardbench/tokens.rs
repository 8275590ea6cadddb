//! Texts to tokens as `tokenizer(text)` of transformers makes them: names of control tokens in a
//! text are read as these tokens, wherever they come from.

use super::Convention;
use super::text::{Template, Texts};
use crate::defect::guarded;
use crate::model::{Ends, ModelTokenizer, Pair, Sequence};
use crate::tasks::chat::SpecialTokens;
use crate::{Context, Error, Result};
use serde_json::Value;
use std::path::Path;
use tokenizers::{Encoding, Tokenizer, TruncationDirection, TruncationParams};

const CONFIG: &str = "tokenizer_config.json";

/// Tokenizer classes of transformers 4 for which `add_eos_token = True` has an effect.
const ENDING: [&str; 5] = [
    "LlamaTokenizer",
    "CodeLlamaTokenizer",
    "GemmaTokenizer",
    "CohereTokenizer",
    "GPTNeoXTokenizer",
];

/// Architectures whose tokenizer is of one of those classes if no file names its class.
const ENDING_TYPES: [&str; 3] = ["llama", "mistral", "gpt_neox"];

/// The tokenizer of a model with what its files say about it.
pub struct Tokens {
    spelling: ModelTokenizer,
    reading: Tokenizer,
    ends: Ends,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// The text of the token that begins a sequence.
    bos_name: Option<String>,
    /// True if an end is added to texts of a FastChat template.
    ends_texts: bool,
    /// `model_max_length`, if it is a limit.
    pub longest: Option<usize>,
    /// The side that is cut off, as saved with the tokenizer.
    pub cut_side: TruncationDirection,
    /// The padding id of the tokenizer.
    pub pad: Option<u32>,
}

/// The tokens of a text, and true if some were cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    pub cut: bool,
}

impl Tokens {
    /// The tokenizer of a model folder. `model_type` is the architecture's name in `config.json`.
    ///
    /// # Errors
    /// A damaged file, and a special token that the tokenizer lacks.
    pub fn open(
        folder: &Path,
        spelling: ModelTokenizer,
        ends: Ends,
        model_type: &str,
    ) -> Result<Self> {
        let mut reading = spelling.library().clone();
        reading.set_encode_special_tokens(false);
        let names = SpecialTokens::open(folder)?;
        let id = |key: &str| match names.get(key) {
            None => Ok(None),
            Some(name) => match spelling.token_to_id(name) {
                Some(id) => Ok(Some(id)),
                None => Err(Error::model(format!(
                    "{}: {key} {name:?} is not a token of the tokenizer",
                    folder.display()
                ))
                .hint("take all files of the tokenizer from one repository")),
            },
        };
        let config = configuration(folder)?;
        let longest = config["model_max_length"].as_f64().filter(|it| *it < 1e9);
        let class = config["tokenizer_class"]
            .as_str()
            .map(|it| it.trim_end_matches("Fast"));
        let eos = id("eos_token")?.unwrap_or_else(|| ends.appended());
        Ok(Self {
            bos: id("bos_token")?,
            eos: Some(eos),
            bos_name: names.get("bos_token").map(str::to_owned),
            ends_texts: match class {
                Some(class) => ENDING.contains(&class),
                None => ENDING_TYPES.contains(&model_type),
            },
            longest: longest.map(|it| it as usize),
            cut_side: match config["truncation_side"].as_str() {
                Some("left") => TruncationDirection::Left,
                _ => TruncationDirection::Right,
            },
            pad: id("pad_token")?,
            spelling,
            reading,
            ends,
        })
    }

    /// True if an end is added to the texts of `template`.
    pub fn adds_end(&self, template: &Template) -> bool {
        matches!(template, Template::FastChat(_)) && self.ends_texts && self.eos.is_some()
    }

    /// The tokens of a text without any that the tokenizer adds.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode.
    pub fn bare(&self, text: &str) -> Result<Vec<u32>> {
        Ok(encoded(&self.reading, text, false)?.get_ids().to_vec())
    }

    /// A classifier's tokens of a whole text, at most `limit` of them.
    ///
    /// AllenAI's pipeline cuts off the left side and leaves the first of two beginning tokens out;
    /// RLHFlow's removes the name of the beginning token from the text, and cuts off the side that
    /// is saved with the tokenizer.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, and one without tokens.
    pub fn classified(
        &self,
        text: &str,
        template: &Template,
        convention: Convention,
        limit: Option<usize>,
    ) -> Result<Encoded> {
        let ends = self.adds_end(template);
        let (text, side) = match (convention, &self.bos_name) {
            (Convention::Allenai, _) => (text.to_owned(), TruncationDirection::Left),
            (Convention::Rlhflow, None) => (text.to_owned(), self.cut_side),
            (Convention::Rlhflow, Some(bos)) => (text.replace(bos.as_str(), ""), self.cut_side),
        };
        let mut tokenizer = self.reading.clone();
        if let Some(limit) = limit {
            let truncation = TruncationParams {
                direction: side,
                max_length: limit.saturating_sub(usize::from(ends)),
                ..TruncationParams::default()
            };
            tokenizer
                .with_truncation(Some(truncation))
                .map_err(|cause| Error::configuration("no such length").caused_by(cause))?;
        }
        let encoding = encoded(&tokenizer, &text, true)?;
        let mut ids = encoding.get_ids().to_vec();
        if ends {
            ids.extend(self.eos);
        }
        let twice = self.bos.is_some_and(|bos| ids.starts_with(&[bos, bos]));
        if convention == Convention::Allenai && twice {
            ids.remove(0);
        }
        match ids.is_empty() {
            true => Err(Error::data("the text has no tokens").hint("drop the row")),
            false => Ok(Encoded {
                ids,
                cut: !encoding.get_overflowing().is_empty(),
            }),
        }
    }

    /// The tokens of prompt and responses as the models of a study read them: names of control
    /// tokens are spelled out, and a response ends with one end unless it is `unended`.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, and a prompt without tokens.
    pub fn plain(&self, texts: &Texts, unended: [bool; 2]) -> Result<Pair> {
        let prompt = self.spelling.encode(&texts.prompt)?;
        if prompt.is_empty() {
            return Err(Error::data("the prompt has no tokens").hint("drop the row"));
        }
        let answer = |text: &str, unended: bool| -> Result<Sequence> {
            let mut response = self.spelling.encode_ended(text, &self.ends)?;
            if unended && response.last().is_some_and(|id| self.ends.contains(*id)) {
                response.pop();
            }
            Ok(Sequence::new(prompt.clone(), response))
        };
        Ok(Pair {
            chosen: answer(&texts.chosen, unended[0])?,
            rejected: answer(&texts.rejected, unended[1])?,
        })
    }
}

/// The keys of `tokenizer_config.json`; null if there is no such file.
fn configuration(folder: &Path) -> Result<Value> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let failed = || format!("cannot read {}", path.display());
    serde_json::from_slice(&std::fs::read(&path).context(failed)?).context(failed)
}

fn encoded(tokenizer: &Tokenizer, text: &str, specials: bool) -> Result<Encoding> {
    guarded(|| tokenizer.encode_fast(text, specials), |why| why.into()).map_err(|cause| {
        let start: String = text.chars().take(60).collect();
        Error::data(format!("the tokenizer cannot encode {start:?} …"))
            .caused_by(cause)
            .hint("its vocabulary lacks a word of this text: give rows of the tokenizer's language or world")
    })
}

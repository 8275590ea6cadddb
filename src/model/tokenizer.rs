//! Tokenizers of model folders, which convert all text to tokens by the same rule, and the tokens
//! that end a text.
//!
//! Length settings in `tokenizer.json` are cleared, since callers choose lengths, and anything
//! random in it is refused. User text is treated as text: the name of a control token in it is
//! spelled out like any other word. `docs/checkpoints.md` has the rules.

use crate::defect::guarded;
use crate::model::contents;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tokenizers::{AddedToken, Model, ModelWrapper, Tokenizer};

pub(super) const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
pub const GENERATION_CONFIG: &str = "generation_config.json";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";
pub const CONFIG: &str = "config.json";

/// Files beside `tokenizer.json` that name control tokens and ends, or hold the chat template. They
/// are saved with every model.
pub const TOKENIZER_FILES: [&str; 4] = [
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    GENERATION_CONFIG,
    CHAT_TEMPLATE,
];

/// The end of a text if no file names one and the tokenizer has this token: the end in GPT-NeoX
/// tokenizers and in the embedded world.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Keys under which `tokenizer_config.json` and `special_tokens_map.json` name control tokens.
const CONTROL_KEYS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The tokenizer of a model folder.
#[derive(Clone, Debug)]
pub struct ModelTokenizer {
    tokenizer: Tokenizer,
    /// The file from which it was read, for messages.
    origin: String,
    /// One more than the largest id.
    size: usize,
    /// Control tokens by id, except the one that stands for unknown words.
    controls: BTreeMap<u32, String>,
    /// `eos_token` of the tokenizer's files, and the file that contains it.
    named_end: Option<(String, PathBuf)>,
}

impl ModelTokenizer {
    /// The library's tokenizer, which spells out the names of control tokens.
    pub fn library(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Reads a folder's `tokenizer.json`, and the files beside it that name control tokens.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another kind, a tokenizer that draws at random, and
    /// added tokens whose ids contradict the vocabulary.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::read(&folder.join(TOKENIZER))
    }

    /// Does the same as [`open`](Self::open), for a file of another name.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::model(format!("there is no tokenizer {}", path.display())).hint(
                "the folder needs the tokenizer.json of its model, which transformers writes with the tokenizer",
            ));
        }
        let mut read = Self::parse(&contents::read(path)?, &path.display().to_string())?;
        for name in [TOKENIZER_CONFIG, SPECIAL_TOKENS] {
            let beside = path.with_file_name(name);
            if beside.is_file() {
                read.name_controls(&beside)?;
            }
        }
        Ok(read)
    }

    /// Parses the bytes of a `tokenizer.json`; `origin` names them in messages.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self> {
        let described = contents::parse(bytes, origin)?;
        let undescribed = |cause| {
            Error::model(format!("{origin} does not describe a tokenizer"))
                .caused_by(cause)
                .hint("it must be the tokenizer.json that the library `tokenizers` writes; fetch it again")
        };
        let tokenizer =
            guarded(|| Tokenizer::from_bytes(bytes), |why| why.into()).map_err(undescribed)?;
        for added in described["added_tokens"].as_array().into_iter().flatten() {
            let (content, id) = (
                added["content"].as_str().unwrap_or_default(),
                added["id"].as_u64(),
            );
            let found = tokenizer.token_to_id(content).map(u64::from);
            if !content.is_empty() && found != id {
                let told = |id: Option<u64>| id.map_or("none".into(), |id| id.to_string());
                return Err(Error::model(format!(
                    "{origin}: added token {content:?} has id {}, and the vocabulary gives it {}",
                    told(id),
                    told(found)
                ))
                .hint("ids of added tokens follow the vocabulary without a gap; save the tokenizer again with `tokenizers`"));
            }
        }
        Self::prepared(tokenizer, origin)
    }

    /// A tokenizer that was built in memory.
    ///
    /// # Errors
    /// A tokenizer that draws at random.
    pub fn of(tokenizer: Tokenizer) -> Result<Self> {
        Self::prepared(tokenizer, "the tokenizer")
    }

    fn prepared(mut tokenizer: Tokenizer, origin: &str) -> Result<Self> {
        let (random, unknown) = match tokenizer.get_model() {
            ModelWrapper::BPE(model) => {
                let dropout = model.dropout.filter(|share| *share != 0.0);
                (
                    dropout.map(|share| ("dropout", share.to_string())),
                    model.unk_token.clone(),
                )
            }
            ModelWrapper::Unigram(model) => {
                let alpha = model.alpha.map(|alpha| ("alpha", alpha.to_string()));
                let unknown = serde_json::to_value(model)
                    .ok()
                    .and_then(|model| model["unk_id"].as_u64());
                let unknown = unknown.and_then(|id| model.id_to_token(u32::try_from(id).ok()?));
                (
                    alpha.or(model
                        .nbest_size
                        .map(|size| ("nbest_size", size.to_string()))),
                    unknown,
                )
            }
            ModelWrapper::WordLevel(model) => (None, Some(model.unk_token.clone())),
            ModelWrapper::WordPiece(model) => (None, Some(model.unk_token.clone())),
        };
        if let Some((key, value)) = random {
            return Err(Error::model(format!(
                "{origin}: model.{key} is {value}, so that the same text has other tokens each time"
            ))
            .hint(format!("set `{key}` to null in that file: it is for training a model, not for measuring one")));
        }
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|cause| {
            Error::model(format!("{origin}: its truncation cannot be cleared")).caused_by(cause)
        })?;
        tokenizer.set_encode_special_tokens(true);
        let Some(largest) = tokenizer.get_vocab(true).into_values().max() else {
            return Err(Error::model(format!("{origin} has no tokens"))
                .hint("fetch the tokenizer of the model again"));
        };
        // The token for unknown words stands for any text and is not a control token.
        let unknown = unknown.and_then(|token| tokenizer.token_to_id(&token));
        let special = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special);
        let controls = special
            .map(|(id, token)| (id, token.content))
            .filter(|(id, _)| Some(*id) != unknown)
            .collect();
        let (origin, size) = (origin.to_owned(), largest as usize + 1);
        Ok(Self {
            tokenizer,
            origin,
            size,
            controls,
            named_end: None,
        })
    }

    /// Marks the tokens that a file beside `tokenizer.json` names as control tokens.
    fn name_controls(&mut self, path: &Path) -> Result<()> {
        let keys = contents::json(path)?;
        let named = |key: &str| token_name(&keys[key]);
        if self.named_end.is_none() {
            self.named_end = named("eos_token").map(|token| (token, path.to_owned()));
        }
        let unknown = named("unk_token");
        let more = keys["additional_special_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(token_name);
        for token in CONTROL_KEYS.into_iter().filter_map(named).chain(more) {
            let Some(id) = self.tokenizer.token_to_id(&token) else {
                continue;
            };
            if Some(&token) != unknown.as_ref() && self.controls.insert(id, token.clone()).is_none()
            {
                let special = [AddedToken::from(token, true)];
                self.tokenizer
                    .add_special_tokens(special)
                    .map_err(|cause| {
                        Error::model(format!(
                            "{}: a control token cannot be added",
                            path.display()
                        ))
                        .caused_by(cause)
                    })?;
            }
        }
        Ok(())
    }

    /// One more than the largest id: the number of rows that an embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        self.size
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Returns an error unless an embedding of `rows` rows has a row for every token.
    pub fn check_fits(&self, rows: usize) -> Result<()> {
        if self.size <= rows {
            return Ok(());
        }
        Err(Error::model(format!(
            "{}: its largest id is {}, and the embedding has {rows} rows",
            self.origin,
            self.size - 1
        ))
        .hint("tokenizer and weights belong to different models; take both from one repository"))
    }

    /// The tokens of a text. The name of a control token in it is spelled out.
    ///
    /// # Errors
    /// A text that the tokenizer cannot spell: a word outside a vocabulary of words, or a control
    /// token's name where the vocabulary has no other way to write it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let start = || text.chars().take(60).collect::<String>();
        let encoded = guarded(|| self.tokenizer.encode_fast(text, false), |why| why.into());
        let encoding = encoded.map_err(|cause| {
            Error::data(format!("the tokenizer cannot encode {:?} …", start()))
                .caused_by(cause)
                .hint("its vocabulary lacks a word of this text; use the tokenizer of the text's language or world")
        })?;
        let ids = encoding.get_ids();
        match ids.iter().find_map(|id| self.controls.get(id)) {
            None => Ok(ids.to_vec()),
            Some(control) => Err(Error::data(format!(
                "{:?} … holds `{control}`, which this tokenizer can write only as the control token that it names",
                start()
            ))
            .hint("remove it from the text; where the control token is meant, give token ids instead of text")),
        }
    }

    /// The tokens of a response, followed by one end. If the text already ends with a written-out
    /// end, as in some data sets, that one is used.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_ended(&self, text: &str, ends: &Ends) -> Result<Vec<u32>> {
        let mut ids = self.encode(self.without_end(text, ends))?;
        if !ids.last().is_some_and(|id| ends.contains(*id)) {
            ids.push(ends.appended());
        }
        Ok(ids)
    }

    /// `text` without the ends that are written out at its end, and without white space after them.
    pub fn without_end<'a>(&self, text: &'a str, ends: &Ends) -> &'a str {
        let names: Vec<&String> = ends
            .ids()
            .iter()
            .filter_map(|id| self.controls.get(id))
            .collect();
        let mut body = text;
        while let Some(shorter) = names
            .iter()
            .find_map(|name| body.trim_end().strip_suffix(name.as_str()))
        {
            body = shorter;
        }
        body
    }

    /// The text of a response's tokens, without its end and without control tokens.
    ///
    /// # Errors
    /// Ids that the tokenizer cannot decode.
    pub fn decode_response(&self, ids: &[u32], ends: &Ends) -> Result<String> {
        let body = match ids.split_last() {
            Some((last, body)) if ends.contains(*last) => body,
            _ => ids,
        };
        self.decode(body)
    }

    /// The text of tokens, without control tokens.
    ///
    /// # Errors
    /// Ids that the tokenizer cannot decode.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.tokenizer.decode(ids, true), |why| why.into()).map_err(|cause| {
            Error::data("the tokenizer cannot decode these tokens").caused_by(cause)
        })
    }

    /// The text of tokens, with the names of control tokens.
    ///
    /// # Errors
    /// Ids that the tokenizer cannot decode.
    pub fn decode_with_controls(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.tokenizer.decode(ids, false), |why| why.into()).map_err(|cause| {
            Error::data("the tokenizer cannot decode these tokens").caused_by(cause)
        })
    }

    /// `eos_token` of the tokenizer's files, and the file that contains it.
    fn named_end(&self) -> Option<(&str, &Path)> {
        self.named_end
            .as_ref()
            .map(|(token, file)| (token.as_str(), file.as_path()))
    }
}

/// A control token as the tokenizer's files write it: its text, or a table with its `content`.
fn token_name(value: &Value) -> Option<String> {
    let name = value.as_str().or_else(|| value["content"].as_str())?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// One token id or several, as `eos_token_id` has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    One(u32),
    Several(Vec<u32>),
}

impl TokenIds {
    /// The ids under `key` of a file; `None` if the key is missing, null or an empty list.
    ///
    /// # Errors
    /// Anything but ids, with `origin` and the key.
    pub(super) fn at(value: &Value, origin: &str, key: &str) -> Result<Option<Self>> {
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    Error::model(format!(
                        "{origin}: {key} holds {value}, which is not the id of a token"
                    ))
                    .hint("write the id of the end-of-sequence token, a list of ids, or null")
                })
        };
        match value {
            Value::Null => Ok(None),
            Value::Array(all) if all.is_empty() => Ok(None),
            Value::Array(all) => all
                .iter()
                .map(id)
                .collect::<Result<_>>()
                .map(|ids| Some(Self::Several(ids))),
            one => id(one).map(|id| Some(Self::One(id))),
        }
    }

    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
    }
}

impl From<u32> for TokenIds {
    fn from(id: u32) -> Self {
        Self::One(id)
    }
}

/// The tokens that end a text: sampling stops at any of them, and one of them is appended where a
/// text needs an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// At least one id, starting with the one that is appended.
    ids: Vec<u32>,
}

impl From<u32> for Ends {
    fn from(id: u32) -> Self {
        Self { ids: vec![id] }
    }
}

impl Ends {
    /// The ends of the model in `folder`. `eos_token_id` of `generation_config.json` takes
    /// precedence, then that of `config.json`, then `eos_token` of `tokenizer_config.json` or
    /// `special_tokens_map.json`, then [`END_OF_TEXT`] if the tokenizer has it. Of several ids, the
    /// tokenizer's own `eos_token` is appended if it is among them, else the first.
    ///
    /// # Errors
    /// Ids that are not below `vocabulary`, and a folder without any end.
    pub fn of_folder(
        folder: &Path,
        tokenizer: Option<&ModelTokenizer>,
        vocabulary: usize,
    ) -> Result<Self> {
        let named =
            tokenizer.and_then(|tokenizer| tokenizer.named_end().map(|named| (tokenizer, named)));
        let named_id = named.and_then(|(tokenizer, (token, _))| tokenizer.token_to_id(token));
        if let Some((file, ids)) = listed(folder)? {
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
                return Err(Error::model(format!(
                    "{}: eos_token_id {id} is outside the vocabulary of {vocabulary}",
                    file.display()
                ))
                .hint("name the end-of-sequence token of this model's tokenizer"));
            }
            let first = named_id.filter(|id| ids.contains(id)).unwrap_or(ids[0]);
            let others = ids
                .into_iter()
                .filter(|id| *id != first)
                .collect::<BTreeSet<_>>();
            return Ok(Self {
                ids: std::iter::once(first).chain(others).collect(),
            });
        }
        let id = match named {
            Some((_, (token, file))) => named_id.filter(|id| (*id as usize) < vocabulary).ok_or_else(|| {
                Error::model(format!("{}: eos_token {token:?} is not a token of {TOKENIZER}", file.display()))
                    .hint("take all files of the tokenizer from one repository")
            })?,
            None => tokenizer.and_then(|tokenizer| tokenizer.token_to_id(END_OF_TEXT)).ok_or_else(|| {
                Error::model(format!("{}: no file names a token that ends a text", folder.display())).hint(format!(
                    "set eos_token_id in {GENERATION_CONFIG} or {CONFIG}, or eos_token in {TOKENIZER_CONFIG}"
                ))
            })?,
        };
        Ok(Self::from(id))
    }

    /// The end of a tokenizer without a model: its own `eos_token`, or [`END_OF_TEXT`].
    ///
    /// # Errors
    /// A tokenizer without either.
    pub fn of_tokenizer(tokenizer: &ModelTokenizer) -> Result<Self> {
        let token = tokenizer
            .named_end()
            .map_or(END_OF_TEXT, |(token, _)| token);
        tokenizer.token_to_id(token).map(Self::from).ok_or_else(|| {
            Error::model(format!("{} has no {token} token", tokenizer.origin)).hint(format!(
                "responses end with it; name another end as eos_token in {TOKENIZER_CONFIG}"
            ))
        })
    }

    /// The end that is appended to a text.
    pub fn appended(&self) -> u32 {
        self.ids[0]
    }

    pub fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// All ends, starting with the one that is appended.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// `eos_token_id` of the first of a model's files that has it.
pub(super) fn listed(folder: &Path) -> Result<Option<(PathBuf, Vec<u32>)>> {
    for name in [GENERATION_CONFIG, CONFIG] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let keys = contents::json(&path)?;
        let of_base = &keys["base_config"]["eos_token_id"];
        let value = if keys["eos_token_id"].is_null() {
            of_base
        } else {
            &keys["eos_token_id"]
        };
        if let Some(ids) = TokenIds::at(value, &path.display().to_string(), "eos_token_id")? {
            return Ok(Some((path, ids.as_slice().to_vec())));
        }
    }
    Ok(None)
}

//! Tokens of rendered conversations. Control tokens of the template become tokens, their names in
//! messages are text, and every sequence begins with exactly one beginning-of-sequence token.

use super::conversation::Message;
use super::jinja;
use super::template::{Rendered, SpecialTokens};
use crate::defect::guarded;
use crate::model::ModelTokenizer;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tokenizers::{Encoding, Tokenizer};

/// The treatment of control tokens' names in messages, such as `</s>` in a user's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlNames {
    /// Names are spelled out like any other word, so that a user's text cannot end a turn.
    Text,
    /// Names become tokens, as in transformers by default; the name of the token that begins a
    /// sequence is left out.
    Tokens,
}

/// A token and the byte range of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub id: u32,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub fn new(id: u32, bytes: Range<usize>) -> Self {
        Self {
            id,
            start: bytes.start,
            end: bytes.end,
        }
    }

    /// The same token `by` bytes later.
    fn moved(self, by: usize) -> Self {
        Self {
            start: self.start + by,
            end: self.end + by,
            ..self
        }
    }

    /// The same token `by` bytes earlier.
    fn moved_back(self, by: usize) -> Self {
        Self {
            start: self.start - by,
            end: self.end - by,
            ..self
        }
    }
}

/// Texts that may precede a part of a text to keep a tokenizer from treating it as a beginning.
const LEADS: [&str; 2] = ["", "\n"];

/// A tokenizer for the output of templates.
#[derive(Clone, Debug)]
pub(super) struct ChatTokenizer {
    /// The tokenizer for text, which spells out names of control tokens.
    spelling: ModelTokenizer,
    /// The tokenizer for templates, which reads names of control tokens as these tokens.
    reading: Tokenizer,
    /// Control tokens with their names, the longest name first.
    controls: Vec<(String, u32)>,
    begin: Option<u32>,
    /// A prefix for the text after a control token that gives it the same tokens as in its place;
    /// `None` if the text between control tokens cannot be encoded separately.
    lead: Option<&'static str>,
}

impl ChatTokenizer {
    /// The tokenizer that reads the names of control tokens where `spelling` would spell them out.
    ///
    /// # Errors
    /// A beginning-of-sequence token that the tokenizer lacks.
    pub fn new(spelling: ModelTokenizer, names: &SpecialTokens) -> Result<Self> {
        let mut reading = spelling.library().clone();
        reading.set_encode_special_tokens(false);
        let special = reading
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special);
        let special: Vec<_> = special.collect();
        let plain = special
            .iter()
            .all(|(_, token)| !token.lstrip && !token.rstrip && !token.single_word);
        let mut controls: Vec<(String, u32)> = special
            .into_iter()
            .map(|(id, token)| (token.content, id))
            .collect();
        controls.sort_unstable_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut built = Self {
            spelling,
            reading,
            controls,
            begin: None,
            lead: None,
        };
        built.begin = match names.get("bos_token") {
            Some(name) => Some(built.spelling.token_to_id(name).ok_or_else(|| {
                Error::model(format!(
                    "bos_token {name:?} is not a token of the tokenizer"
                ))
                .hint("take all files of the tokenizer from one repository")
            })?),
            None => built.added_in_front()?,
        };
        for lead in LEADS.into_iter().filter(|_| plain) {
            if built.lead.is_none() && built.parts_agree(lead)? {
                built.lead = Some(lead);
            }
        }
        Ok(built)
    }

    /// The control token that the tokenizer itself puts before a text.
    fn added_in_front(&self) -> Result<Option<u32>> {
        let ids = |specials| {
            encoded(&self.reading, "a", specials).map(|encoding| encoding.get_ids().to_vec())
        };
        let (with, without) = (ids(true)?, ids(false)?);
        Ok(with
            .first()
            .filter(|first| without.first() != Some(first) && self.name(**first).is_some())
            .copied())
    }

    /// True if the tokens of a text around a control token equal those of its two parts, the second
    /// encoded after `lead`.
    fn parts_agree(&self, lead: &str) -> Result<bool> {
        let Some((name, id)) = self.controls.first() else {
            return Ok(true);
        };
        let whole = encoded(&self.reading, &format!("a{name}b c"), false)?;
        let mut parts = self.spell("a", "")?;
        parts.push(Token::new(*id, 0..0));
        parts.extend(self.spell("b c", lead)?);
        Ok(whole
            .get_ids()
            .iter()
            .eq(parts.iter().map(|token| &token.id)))
    }

    /// True if a token of `text` is a control token, for example the end of a turn, whose name
    /// stands there; the token for unknown words may stand for any text.
    pub fn is_control(&self, token: Token, text: &str) -> bool {
        self.name(token.id)
            .is_some_and(|name| text[token.start..token.end].contains(name))
    }

    /// The name of a control token.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.controls
            .iter()
            .find(|(_, control)| *control == id)
            .map(|(name, _)| name.as_str())
    }

    /// True if a sequence begins with a special token.
    pub fn begins(&self) -> bool {
        self.begin.is_some()
    }

    /// The message with the names of control tokens marked as text, or without the name of the
    /// token that begins a sequence.
    pub fn prepared(&self, message: &Message, names: ControlNames) -> Message {
        let content = match (names, self.begin.and_then(|id| self.name(id))) {
            (ControlNames::Text, _) => jinja::spelled_out(
                &message.content,
                self.controls.iter().map(|(name, _)| name.as_str()),
            )
            .into_owned(),
            (ControlNames::Tokens, Some(begin)) => without(message.content.clone(), begin),
            (ControlNames::Tokens, None) => message.content.clone(),
        };
        Message::new(message.role, content)
    }

    /// The tokens of a rendered conversation, with exactly one beginning-of-sequence token in front
    /// if the model has one, whether or not the template writes it or the tokenizer would add it.
    ///
    /// Text that the tokenizer cannot encode, and names in messages that it cannot spell out.
    pub fn encode(&self, rendered: &Rendered) -> Result<Vec<Token>> {
        let mut tokens = match rendered.spelled.is_empty() {
            true => tokens_of(&encoded(&self.reading, &rendered.text, false)?).collect(),
            false => self.encode_apart(rendered)?,
        };
        if let Some(begin) = self.begin {
            let written = tokens.iter().take_while(|token| token.id == begin).count();
            tokens.splice(..written, [Token::new(begin, 0..0)]);
        }
        Ok(tokens)
    }

    /// The tokens of a text in which some names of control tokens are spelled out: the parts
    /// between the template's control tokens are encoded separately.
    fn encode_apart(&self, rendered: &Rendered) -> Result<Vec<Token>> {
        let lead = self
            .lead
            .ok_or_else(|| unspellable("the name of a control token"))?;
        let (text, mut tokens, mut from) = (rendered.text.as_str(), Vec::new(), 0);
        let part = |tokens: &mut Vec<Token>, bytes: Range<usize>| -> Result<()> {
            let spelled = self.spell(
                &text[bytes.clone()],
                if bytes.start == 0 { "" } else { lead },
            )?;
            tokens.extend(spelled.into_iter().map(|token| token.moved(bytes.start)));
            Ok(())
        };
        while let Some((bytes, id)) = self.control_at(rendered, from) {
            part(&mut tokens, from..bytes.start)?;
            from = bytes.end;
            tokens.push(Token::new(id, bytes));
        }
        part(&mut tokens, from..text.len())?;
        Ok(tokens)
    }

    /// The tokens of `text` when it follows `lead`, with the names of control tokens spelled out.
    fn spell(&self, text: &str, lead: &str) -> Result<Vec<Token>> {
        let encoding = encoded(self.spelling.library(), &format!("{lead}{text}"), false)?;
        if let Some(name) = encoding
            .get_ids()
            .iter()
            .find_map(|id| self.name(*id).filter(|name| text.contains(name)))
        {
            return Err(unspellable(&format!("`{name}`")));
        }
        let (before, behind): (Vec<Token>, _) =
            tokens_of(&encoding).partition(|token| token.start < lead.len());
        match before.iter().all(|token| token.end <= lead.len()) {
            true => Ok(behind
                .into_iter()
                .map(|token| token.moved_back(lead.len()))
                .collect()),
            false => Err(unspellable("the name of a control token")),
        }
    }

    /// The first control token at or after the byte `from` that comes from the template.
    fn control_at(&self, rendered: &Rendered, from: usize) -> Option<(Range<usize>, u32)> {
        let text = &rendered.text[from..];
        text.char_indices().find_map(|(offset, first)| {
            let (name, id) = self
                .controls
                .iter()
                .find(|(name, _)| text[offset..].starts_with(name.as_str()))?;
            let start = from + offset;
            let is_text = rendered.spelled.contains(&(start + first.len_utf8()));
            (!is_text).then(|| (start..start + name.len(), *id))
        })
    }
}

/// `text` with every occurrence of `name` removed, including those that a removal creates.
fn without(mut text: String, name: &str) -> String {
    while text.contains(name) {
        text = text.replace(name, "");
    }
    text
}

/// The error for a message that contains `what`, which the tokenizer can only read as a token.
fn unspellable(what: &str) -> Error {
    Error::data(format!(
        "a message holds {what}, which this tokenizer cannot spell out"
    ))
    .hint("remove it from the message, or let the names of control tokens in messages be tokens")
}

fn tokens_of(encoding: &Encoding) -> impl Iterator<Item = Token> {
    encoding
        .get_ids()
        .iter()
        .zip(encoding.get_offsets())
        .map(|(id, (start, end))| Token::new(*id, *start..*end))
}

fn encoded(tokenizer: &Tokenizer, text: &str, specials: bool) -> Result<Encoding> {
    guarded(|| tokenizer.encode(text, specials), |why| why.into()).map_err(|cause| {
        let start: String = text.chars().take(60).collect();
        Error::data(format!("the tokenizer cannot encode {start:?} …"))
            .caused_by(cause)
            .hint("its vocabulary lacks a word of this text; use the tokenizer that belongs to the chat template")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A tokenizer of the characters of `▁abc<s>` with three control tokens; `scheme` decides where
    /// `▁` is inserted.
    fn tokenizer(scheme: &str) -> ChatTokenizer {
        let pieces: Vec<String> = ["<s>", "</s>", "<unk>"]
            .into_iter()
            .map(str::to_owned)
            .chain("▁abc</s>\n".chars().map(String::from))
            .collect();
        let vocabulary: Value = pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece.clone(), json!(id)))
            .collect();
        let special = |id: usize| {
            json!({"id": id, "content": pieces[id], "special": true, "normalized": false, "single_word": false,
                   "lstrip": false, "rstrip": false})
        };
        let described = json!({
            "added_tokens": [special(0), special(1), special(2)],
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "<unk>"},
        });
        let tokenizer =
            ModelTokenizer::parse(described.to_string().as_bytes(), "tokenizer.json").unwrap();
        ChatTokenizer::new(tokenizer, &SpecialTokens::default()).unwrap()
    }

    fn rendered(tokenizer: &ChatTokenizer, content: &str) -> Rendered {
        let message = Message::new(super::super::Role::User, content);
        let content = tokenizer.prepared(&message, ControlNames::Text).content;
        let found = jinja::unmarked(&format!("a</s>b {content}</s>"));
        Rendered {
            text: found.text,
            generated: found.generated,
            spelled: found.spelled,
        }
    }

    #[test]
    fn a_name_in_a_message_is_spelled_as_the_tokenizer_spells_parts() {
        for (scheme, lead, second) in [
            ("always", "", "▁b▁a</s>c"),
            ("first", "\n", "b▁a</s>c"),
            ("never", "", "b▁a</s>c"),
        ] {
            let tokenizer = tokenizer(scheme);
            assert_eq!(tokenizer.lead, Some(lead), "{scheme}");
            let rendered = rendered(&tokenizer, "a</s>c");
            let tokens = tokenizer.encode(&rendered).unwrap();
            let names: Vec<_> = tokens
                .iter()
                .map(|token| tokenizer.reading.id_to_token(token.id).unwrap())
                .collect();
            let first = if scheme == "never" { "a" } else { "▁a" };
            assert_eq!(
                names.concat(),
                format!("{first}</s>{second}</s>"),
                "{scheme}"
            );
            assert_eq!(
                tokens
                    .iter()
                    .filter(|token| tokenizer.is_control(**token, &rendered.text))
                    .count(),
                2,
                "{scheme}"
            );
            let last = tokens.last().unwrap();
            assert_eq!(&rendered.text[last.start..last.end], "</s>", "{scheme}");
            assert!(
                tokens.is_sorted_by_key(|token| (token.start, token.end)),
                "{scheme}"
            );
        }
    }

    #[test]
    fn text_without_names_is_encoded_whole() {
        let tokenizer = tokenizer("first");
        let rendered = rendered(&tokenizer, "ab c");
        assert!(rendered.spelled.is_empty());
        let whole = encoded(&tokenizer.reading, &rendered.text, false).unwrap();
        assert_eq!(
            tokenizer.encode(&rendered).unwrap(),
            tokens_of(&whole).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_unknown_word_is_no_control_token() {
        let tokenizer = tokenizer("never");
        let (rendered, unknown) = (
            rendered(&tokenizer, "é"),
            tokenizer.spelling.token_to_id("<unk>").unwrap(),
        );
        let tokens = tokenizer.encode(&rendered).unwrap();
        let found = tokens.iter().find(|token| token.id == unknown).unwrap();
        assert!(!tokenizer.is_control(*found, &rendered.text));
    }

    #[test]
    fn leaving_a_name_out_makes_no_other() {
        assert_eq!(without("a<<s>s>b<s>".into(), "<s>"), "ab");
    }
}

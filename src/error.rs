//! One error for the whole program: what happened and where, why, and what to do about it.

use miette::{Diagnostic, NamedSource, SourceSpan};
use std::error::Error as StdError;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with a remedy. Shown by the command line with its cause and, for text files, the offending line.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Error {
    message: String,
    #[help]
    hint: Option<String>,
    #[source]
    cause: Option<Box<dyn StdError + Send + Sync>>,
    #[source_code]
    text: Option<NamedSource<String>>,
    #[label("here")]
    span: Option<SourceSpan>,
}

impl Error {
    /// `message` says what happened and names the place (file, key, column, stage).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, cause: None, text: None, span: None }
    }

    /// What the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Points at bytes `span` of the file `name` whose contents are `text`.
    pub fn at(mut self, name: impl AsRef<str>, text: impl Into<String>, span: std::ops::Range<usize>) -> Self {
        self.text = Some(NamedSource::new(name, text.into()));
        self.span = Some(span.into());
        self
    }
}

/// Turns any error into ours by saying what was being done.
pub trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(message()).caused_by(cause))
    }
}

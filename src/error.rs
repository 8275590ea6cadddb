//! One error for the whole program: its kind, what happened and where, why, and what to do about
//! it.

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// A failure with its kind and a remedy. Shown by the command line with its cause and, for text
/// files, the offending line.
#[derive(Debug)]
pub struct Error(Box<Inner>);

/// The class of a failure, by which callers tell failures apart. Its serialised name appears in
/// stage events, failure logs and outcomes; [`ErrorKind::exit_code`] is the exit code of a command
/// that ends with it. `docs/errors.md` lists both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// An experiment file, a setting or a combination of options.
    Configuration,
    /// Rows, tables and values that a user brings.
    Data,
    /// A model folder: configuration, weights or tokenizer.
    Model,
    /// A computation that does not fit into the memory it may fill.
    Memory,
    /// A number of training or evaluation that is not finite.
    Divergence,
    /// The store of artifacts.
    Store,
    /// A hub, or its cache on this machine.
    Hub,
    /// A device, or a backend that computes on it.
    Device,
    /// A file or folder that cannot be read or written.
    Files,
    /// A stage's process that something outside it has ended; a system without memory left ends
    /// processes so.
    Process,
    /// A defect of this program.
    Internal,
    /// A server that hosts a judge.
    Server,
    /// A disk that takes nothing more: full, over the quota, or read-only.
    Disk,
}

impl ErrorKind {
    /// Every kind, in the order of exit codes.
    pub const ALL: [Self; 13] = [
        Self::Configuration,
        Self::Data,
        Self::Model,
        Self::Memory,
        Self::Divergence,
        Self::Store,
        Self::Hub,
        Self::Device,
        Self::Files,
        Self::Process,
        Self::Internal,
        Self::Server,
        Self::Disk,
    ];

    /// Exit code of a command that fails with this kind: from 3, since 1 is a negative answer and 2
    /// a command line that is not understood.
    pub fn exit_code(self) -> u8 {
        3 + self as u8
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.pad(match self {
            Self::Configuration => "configuration",
            Self::Data => "data",
            Self::Model => "model",
            Self::Memory => "memory",
            Self::Divergence => "divergence",
            Self::Store => "store",
            Self::Hub => "hub",
            Self::Device => "device",
            Self::Files => "files",
            Self::Process => "process",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Disk => "disk",
        })
    }
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    text: Option<NamedSource<String>>,
    span: Option<SourceSpan>,
}

impl Error {
    /// Creates an error; `message` says what happened and names the place (file, key, column,
    /// stage).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            cause: None,
            text: None,
            span: None,
        }))
    }

    /// An error of the kind [`ErrorKind::Configuration`].
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// An error of the kind [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// An error of the kind [`ErrorKind::Model`].
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }

    /// An error of the kind [`ErrorKind::Memory`].
    pub fn memory(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Memory, message)
    }

    /// An error of the kind [`ErrorKind::Divergence`].
    pub fn divergence(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Divergence, message)
    }

    /// An error of the kind [`ErrorKind::Store`].
    pub fn store(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Store, message)
    }

    /// An error of the kind [`ErrorKind::Hub`].
    pub fn hub(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Hub, message)
    }

    /// An error of the kind [`ErrorKind::Device`].
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, message)
    }

    /// An error of the kind [`ErrorKind::Files`].
    pub fn files(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Files, message)
    }

    /// An error of the kind [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// An error of the kind [`ErrorKind::Server`].
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Server, message)
    }

    /// The class of this failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Changes the kind, where the caller knows better than the room that the error comes from.
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds a hint: what the reader can do about the error.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts the place where the error happened before its message.
    pub fn within(mut self, place: &str) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Points at bytes `span` of the file `name` whose contents are `text`.
    pub fn at(
        mut self,
        name: impl AsRef<str>,
        text: impl Into<String>,
        span: std::ops::Range<usize>,
    ) -> Self {
        self.0.text = Some(NamedSource::new(name, text.into()));
        self.0.span = Some(span.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0
            .hint
            .as_ref()
            .map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.0
            .text
            .as_ref()
            .map(|text| text as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.0.span?;
        Some(Box::new(std::iter::once(
            miette::LabeledSpan::new_with_span(Some("here".into()), span),
        )))
    }
}

/// Conversion of any error into an [`Error`] by saying what was being done. The kind is that of the
/// cause: an error of this program keeps its own, one of the operating system is
/// [`ErrorKind::Disk`] or [`ErrorKind::Files`], and one of a parser [`ErrorKind::Data`].
pub trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| {
            let cause = cause.into();
            Error::new(kind_of(cause.as_ref()), message()).caused_by(cause)
        })
    }
}

/// The kind of the first error in the chain of `cause` that has one; otherwise data, since only
/// parsers' errors remain.
fn kind_of(cause: &(dyn StdError + 'static)) -> ErrorKind {
    let mut link = Some(cause);
    while let Some(cause) = link {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return error.kind();
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return kind_of_system(error);
        }
        link = cause.source();
    }
    ErrorKind::Data
}

/// The kind of an error of the operating system.
pub(crate) fn kind_of_system(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => ErrorKind::Disk,
        _ => ErrorKind::Files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_an_exit_code_of_its_own() {
        for (number, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.exit_code(), number as u8 + 3);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }

    #[test]
    fn a_context_keeps_the_kind_of_its_cause() {
        let deep: Result<()> = Err(Error::hub("refused"))
            .context(|| "loading".into())
            .context(|| "planning".into());
        assert_eq!(deep.unwrap_err().kind(), ErrorKind::Hub);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            Err::<(), _>(full)
                .context(|| "saving".into())
                .unwrap_err()
                .kind(),
            ErrorKind::Disk
        );
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(
            Err::<(), _>(denied)
                .context(|| "saving".into())
                .unwrap_err()
                .kind(),
            ErrorKind::Files
        );
        let wrong = serde_json::from_str::<u32>("x");
        assert_eq!(
            wrong.context(|| "reading".into()).unwrap_err().kind(),
            ErrorKind::Data
        );
    }
}

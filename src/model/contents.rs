//! Files of a model folder whose contents do not match their name: a git-lfs pointer, an error
//! page, an archive, text in another encoding. Each is reported as what it is, with the remedy.

use crate::{Context, Error, Result};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::Path;

/// Number of bytes at the beginning of a file that suffice to recognise its contents.
pub(super) const START: usize = 512;

/// Contents that never occur in a file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    Empty,
    LfsPointer,
    Page,
    ByteOrderMark,
    Utf16,
    /// A compressed file or an archive, by the name of its format and the program that unpacks it.
    Archive(&'static str, &'static str),
    /// Weights in another format, by its name.
    OtherWeights(&'static str),
    Zeros,
    /// Text where bytes are expected, with its beginning.
    Text(String),
}

/// First bytes of compressed files and archives.
const ARCHIVES: [(&[u8], &str, &str); 6] = [
    (b"\x1f\x8b", "a gzip file", "gunzip"),
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unzstd"),
    (b"BZh", "a bzip2 file", "bunzip2"),
    (b"\xfd7zXZ\0", "an xz file", "unxz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
];

/// First bytes of other formats of weights.
const OTHER_WEIGHTS: [(&[u8], &str); 4] = [
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF\r\n", "an HDF5 file of TensorFlow"),
    (b"PAR1", "a parquet table"),
    (b"\x80\x02", "a pickle"),
];
const A_PICKLE: Foreign = Foreign::OtherWeights("a pickle");

impl Foreign {
    /// Foreign contents of a file that should be JSON or other text.
    pub(super) fn in_text(start: &[u8]) -> Option<Self> {
        let common = Self::in_any(start);
        if common.is_some() {
            return common;
        }
        let zero = |place: usize| start.get(place) == Some(&0);
        match start {
            [0xef, 0xbb, 0xbf, ..] => Some(Self::ByteOrderMark),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Self::Utf16),
            [first, ..] if start.get(8) == Some(&b'{') && *first != b'{' && zero(7) => {
                Some(Self::OtherWeights("a safetensors file"))
            }
            _ if start.len() > 1 && zero(0) != zero(1) => Some(Self::Utf16),
            _ => None,
        }
    }

    /// Foreign contents of a file that should be safetensors, which begins with the length of its
    /// header followed by `{`.
    pub(super) fn in_safetensors(start: &[u8]) -> Option<Self> {
        if start.get(8) == Some(&b'{') {
            return None;
        }
        Self::in_any(start).or_else(|| Self::plain_text(start))
    }

    /// Foreign contents of a file that should come from `torch.save`, which writes a zip archive.
    pub(super) fn in_pickle(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"PK\x03\x04") {
            return None;
        }
        if start.get(8) == Some(&b'{') && !start.starts_with(b"{") {
            return Some(Self::OtherWeights("a safetensors file"));
        }
        // PyTorch 0.1 to 1.5 wrote bare pickles.
        Self::in_any(start)
            .filter(|found| *found != A_PICKLE)
            .or_else(|| Self::plain_text(start))
    }

    fn in_any(start: &[u8]) -> Option<Self> {
        if start.is_empty() {
            return Some(Self::Empty);
        }
        if start.starts_with(b"version https://git-lfs") {
            return Some(Self::LfsPointer);
        }
        let words = start
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(start)
            .trim_ascii_start();
        if words.starts_with(b"<") {
            return Some(Self::Page);
        }
        if start.len() >= 16 && start.iter().all(|byte| *byte == 0) {
            return Some(Self::Zeros);
        }
        let archive = ARCHIVES.iter().find(|(magic, ..)| start.starts_with(magic));
        let weights = || {
            OTHER_WEIGHTS
                .iter()
                .find(|(magic, _)| start.starts_with(magic))
        };
        archive
            .map(|(_, name, tool)| Self::Archive(name, tool))
            .or_else(|| weights().map(|(_, name)| Self::OtherWeights(name)))
    }

    /// Detects text where bytes are expected.
    fn plain_text(start: &[u8]) -> Option<Self> {
        const SHOWN: usize = 40;
        let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let text = start.len() >= 8 && start.iter().take(64).all(printable);
        text.then(|| {
            Self::Text(
                String::from_utf8_lossy(&start[..start.len().min(SHOWN)])
                    .trim()
                    .to_owned(),
            )
        })
    }

    /// The error for a file with these contents.
    pub(super) fn error(&self, origin: &str) -> Error {
        let hint = match self {
            Self::Empty => "the copy or the download stopped before its first byte; fetch the file again".to_owned(),
            Self::LfsPointer => {
                "only the pointer was cloned: run `git lfs pull` in the repository, or download the file \
                                 itself from the hub"
                    .to_owned()
            }
            Self::Page => {
                "the server answered with a page, perhaps an error or a login; download the file itself, which a \
                           hub has under /resolve/<revision>/"
                    .to_owned()
            }
            Self::ByteOrderMark => "save it as UTF-8 without a byte-order mark".to_owned(),
            Self::Utf16 => "save it as UTF-8".to_owned(),
            Self::Archive("a zip archive", _) => {
                "unpack it with `unzip`; weights that torch.save wrote are called pytorch_model.bin".to_owned()
            }
            Self::Archive(_, tool) => format!("unpack it with `{tool}`"),
            Self::OtherWeights("a safetensors file") => {
                "name it model.safetensors, or fetch the file that belongs here".to_owned()
            }
            Self::OtherWeights(_) => {
                "save the model with `save_pretrained(…, safe_serialization=True)` of transformers, \
                                      which writes model.safetensors"
                    .to_owned()
            }
            Self::Zeros => "a download or a copy was not finished; fetch the file again".to_owned(),
            Self::Text(_) => "the server may have answered with a message; fetch the file again".to_owned(),
        };
        Error::model(format!("{origin} {self}")).hint(hint)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("is empty"),
            Self::LfsPointer => {
                out.write_str("is a git-lfs pointer and not the file that it stands for")
            }
            Self::Page => out.write_str("is an HTML page and not the file that it is called"),
            Self::ByteOrderMark => {
                out.write_str("begins with a byte-order mark, which JSON must not")
            }
            Self::Utf16 => out.write_str("is text in UTF-16, and JSON is UTF-8"),
            Self::Archive(name, _) => write!(out, "is {name} and not the file that it is called"),
            Self::OtherWeights(name) => write!(out, "is {name} and not the file that it is called"),
            Self::Zeros => out.write_str("holds zeros and nothing else"),
            Self::Text(start) => write!(out, "is text and holds no weights; it begins {start:?}"),
        }
    }
}

/// The JSON in the file `path` of a model folder.
///
/// # Errors
/// A file that cannot be read, holds something else, or is not JSON.
pub(crate) fn json(path: &Path) -> Result<Value> {
    parse(&read(path)?, &path.display().to_string())
}

/// The bytes of the file `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    if !fs::metadata(path).context(failed)?.is_file() {
        return Err(Error::files(format!(
            "{} is a folder or a device, not a file",
            path.display()
        ))
        .hint("put the file of the model there"));
    }
    fs::read(path).context(failed)
}

/// Parses `bytes` as JSON; `origin` names them in messages.
///
/// # Errors
/// Anything but JSON, with the line and its text.
pub(super) fn parse(bytes: &[u8], origin: &str) -> Result<Value> {
    check_text(bytes, origin)?;
    serde_json::from_slice(bytes).map_err(|cause| not_json(bytes, origin, cause))
}

/// Returns an error if `bytes` are recognised as something other than UTF-8 text.
pub(super) fn check_text(bytes: &[u8], origin: &str) -> Result<()> {
    match Foreign::in_text(&bytes[..bytes.len().min(START)]) {
        Some(foreign) => Err(foreign.error(origin)),
        None => Ok(()),
    }
}

fn not_json(bytes: &[u8], origin: &str, cause: serde_json::Error) -> Error {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .nth(cause.line().saturating_sub(1))
        .unwrap_or_default();
    let column = cause.column().min(line.len());
    let near =
        String::from_utf8_lossy(&line[column.saturating_sub(12)..line.len().min(column + 28)])
            .into_owned();
    if let Some(number) = ["NaN", "Infinity"]
        .into_iter()
        .find(|number| near.contains(number))
    {
        return Error::model(format!(
            "{origin}, line {}: {number} is not a number that JSON can hold",
            cause.line()
        ))
        .hint(
            "whoever wrote the file computed something that is not finite; write the right number",
        )
        .caused_by(cause);
    }
    if cause.is_eof() {
        return Error::model(format!("{origin} is cut short: its JSON does not end"))
            .hint("the copy or the download was not finished; fetch the file again")
            .caused_by(cause);
    }
    Error::model(format!(
        "{origin} is not JSON: line {}, near {:?}",
        cause.line(),
        near.trim()
    ))
    .hint("fetch the file again, or mend that line")
    .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> String {
        parse(bytes, "config.json").unwrap_err().to_string()
    }

    #[test]
    fn text_that_is_something_else_is_named() {
        let zipped = b"PK\x03\x04\x14\0\0\0\0\0";
        for (bytes, what) in [
            (b"".as_slice(), "is empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
                "git-lfs pointer",
            ),
            (b"\n <!DOCTYPE html><html></html>", "HTML page"),
            (b"<html>", "HTML page"),
            (b"\xef\xbb\xbf{}", "byte-order mark"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"{\0}\0", "UTF-16"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "gzip file"),
            (zipped, "zip archive"),
            (&[0; 64], "zeros"),
            (b"\x10\0\0\0\0\0\0\0{}", "safetensors"),
            (b"{\"a\": NaN}", "NaN"),
            (b"{\"a\": -Infinity}", "Infinity"),
            (b"{\"a\": 1", "cut short"),
            (b"Entry not found", "near \"Entry not"),
            (b"{\"a\": \"\xff\"}", "not JSON"),
            (b"{\"a\": \"\\ud83d\"}", "not JSON"),
        ] {
            assert!(told(bytes).contains(what), "{what}: {}", told(bytes));
        }
        assert!(parse(b" {\"a\": 1}\n", "config.json").is_ok());
    }

    #[test]
    fn weights_that_are_something_else_are_named() {
        let header = b"\x1f\x8b\x08\0\0\0\0\0{\"a\"";
        assert_eq!(
            Foreign::in_safetensors(header),
            None,
            "a header whose length looks like another format"
        );
        assert_eq!(Foreign::in_safetensors(b"\x10\0\0\0\0\0\0\0{}"), None);
        assert_eq!(Foreign::in_pickle(b"PK\x03\x04"), None);
        assert_eq!(
            Foreign::in_pickle(b"\x10\0\0\0\0\0\0\0{}"),
            Some(Foreign::OtherWeights("a safetensors file"))
        );
        assert_eq!(
            Foreign::in_safetensors(b"GGUF\x03\0\0\0"),
            Some(Foreign::OtherWeights("a GGUF file"))
        );
        assert_eq!(
            Foreign::in_safetensors(b"Entry not found"),
            Some(Foreign::Text("Entry not found".into()))
        );
        assert_eq!(
            Foreign::in_pickle(b"\x80\x02\x8a\nl"),
            None,
            "PyTorch before 1.6 wrote bare pickles"
        );
        assert_eq!(
            Foreign::in_safetensors(b"\x80\x02\x8a\nl\x0c\xfc\x9cF"),
            Some(A_PICKLE)
        );
    }
}

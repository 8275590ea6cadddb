//! The rows that artifacts hold, one JSON object a line.

use crate::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// A prompt with the demonstrator's response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    pub id: String,
    pub prompt: String,
    pub response: String,
}

/// A response as text and as the tokens that were sampled, which text alone does not give back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub text: String,
    /// Token ids, the end-of-sequence token included if it came.
    pub ids: Vec<u32>,
    pub ended: bool,
}

/// Two responses to one prompt, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePair {
    pub id: String,
    pub prompt: String,
    pub chosen: Response,
    pub rejected: Response,
}

impl ResponsePair {
    /// Whether both responses are the same tokens: such a pair teaches nothing.
    pub fn is_identical(&self) -> bool {
        self.chosen.ids == self.rejected.ids
    }
}

/// Reads every row of a JSON-lines file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = std::fs::File::open(path).context(|| format!("cannot open {}", path.display()))?;
    let mut rows = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.context(|| format!("cannot read {}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        rows.push(serde_json::from_str(&line).map_err(|cause| {
            Error::data(format!("{}, line {}: not the row that is expected here", path.display(), number + 1))
                .caused_by(cause)
        })?);
    }
    Ok(rows)
}

/// Writes rows as JSON lines.
pub fn write<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(std::fs::File::create(path).context(failed)?);
    for row in rows {
        serde_json::to_writer(&mut file, &row).context(failed)?;
        file.write_all(b"\n").context(failed)?;
    }
    file.flush().context(failed)
}

/// The rows of a file that is being appended to, up to a last line that a kill may have cut short; none if it is not there.
pub fn read_whole<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.context(|| format!("cannot read {}", path.display()))?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.len() < text.len() {
        std::fs::write(path, whole).context(|| format!("cannot write {}", path.display()))?;
    }
    whole
        .lines()
        .map(|line| serde_json::from_str(line).context(|| format!("{} is damaged; remove it", path.display())))
        .collect()
}

/// Adds rows at the end of a file.
pub fn append<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).context(failed)?;
        text.push(b'\n');
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).context(failed)?;
    file.write_all(&text).context(failed)
}

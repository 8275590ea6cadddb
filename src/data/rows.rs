//! The rows of artifacts, one JSON object per line.

use crate::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// A text of a row, with its tokens where the text alone does not determine them: in a conversation
/// they depend on the chat template and on the messages before. Written as a string, or as an
/// object with `text` and `ids`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenText", into = "WrittenText")]
pub struct RowText {
    text: String,
    ids: Option<Vec<u32>>,
}

/// The written form of a [`RowText`].
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenText {
    Plain(String),
    Encoded { text: String, ids: Vec<u32> },
}

impl RowText {
    /// A text whose tokens are `ids`.
    pub fn encoded(text: impl Into<String>, ids: Vec<u32>) -> Self {
        Self {
            text: text.into(),
            ids: Some(ids),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<String> for RowText {
    fn from(text: String) -> Self {
        Self { text, ids: None }
    }
}

impl From<&str> for RowText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<WrittenText> for RowText {
    fn from(written: WrittenText) -> Self {
        match written {
            WrittenText::Plain(text) => text.into(),
            WrittenText::Encoded { text, ids } => Self::encoded(text, ids),
        }
    }
}

impl From<RowText> for WrittenText {
    fn from(RowText { text, ids }: RowText) -> Self {
        match ids {
            None => Self::Plain(text),
            Some(ids) => Self::Encoded { text, ids },
        }
    }
}

/// A text that can be encoded, with its tokens if they are known.
pub trait Encodable {
    fn text(&self) -> &str;

    fn ids(&self) -> Option<&[u32]> {
        None
    }
}

impl Encodable for str {
    fn text(&self) -> &str {
        self
    }
}

impl Encodable for String {
    fn text(&self) -> &str {
        self
    }
}

impl Encodable for RowText {
    fn text(&self) -> &str {
        &self.text
    }

    fn ids(&self) -> Option<&[u32]> {
        self.ids.as_deref()
    }
}

/// A prompt with the demonstrator's response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    pub id: String,
    pub prompt: RowText,
    pub response: RowText,
}

impl Demonstration {
    /// The demonstration with another response, whose tokens are kept where the prompt's are.
    pub fn answered(self, response: Response) -> Self {
        let response = match self.prompt.ids() {
            None => response.text.into(),
            Some(_) => RowText::encoded(response.text, response.ids),
        };
        Self { response, ..self }
    }
}

/// A response as text and as the sampled tokens, which cannot be recovered from text alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub text: String,
    /// The token ids, including the end-of-sequence token if it came.
    pub ids: Vec<u32>,
    pub ended: bool,
}

/// Two responses to one prompt, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePair {
    pub id: String,
    pub prompt: RowText,
    pub chosen: Response,
    pub rejected: Response,
}

impl ResponsePair {
    /// Whether both responses have the same tokens, so that the pair teaches nothing.
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
            Error::data(format!(
                "{}, line {}: not the row that is expected here",
                path.display(),
                number + 1
            ))
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

/// A row of a file that is appended to, with its index in the file.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    index: usize,
    row: T,
    /// The start of the hash of index and row.
    check: String,
}

impl<T: Serialize> Kept<T> {
    fn new(index: usize, row: T) -> Result<Self> {
        let text = serde_json::to_vec(&(index, &row))
            .context(|| format!("row {index} cannot be written"))?;
        let check = blake3::hash(&text).to_hex()[..16].to_owned();
        Ok(Self { index, row, check })
    }

    fn is_sound(&self, index: usize) -> bool {
        self.index == index
            && Kept::new(index, &self.row).is_ok_and(|anew| anew.check == self.check)
    }
}

/// The rows of a file that was written by [`append`], up to the first that is torn, damaged, or not
/// the next one. The file is cut off there, so that it can be appended to again. Empty if there is
/// no file.
pub fn read_whole<T: DeserializeOwned + Serialize>(path: &Path) -> Result<Vec<T>> {
    let bytes = match std::fs::read(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.context(|| format!("cannot read {}", path.display()))?,
    };
    let (mut rows, mut sound) = (Vec::new(), 0);
    for line in bytes
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
    {
        match serde_json::from_slice::<Kept<T>>(line) {
            Ok(kept) if kept.is_sound(rows.len()) => rows.push(kept.row),
            _ => break,
        }
        sound += line.len() as u64;
    }
    if sound < bytes.len() as u64 {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(sound))
            .context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(rows)
}

/// Adds rows at the end of a file that holds `first` rows already.
pub fn append<T: Serialize>(path: &Path, first: usize, rows: &[T]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut text = Vec::new();
    for (offset, row) in rows.iter().enumerate() {
        serde_json::to_writer(&mut text, &Kept::new(first + offset, row)?).context(failed)?;
        text.push(b'\n');
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .context(failed)?;
    file.write_all(&text).context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(index: usize) -> Response {
        Response {
            text: format!("row \n {index}"),
            ids: vec![index as u32, 7],
            ended: index.is_multiple_of(2),
        }
    }

    fn kept(count: usize) -> (tempfile::TempDir, std::path::PathBuf, Vec<Response>) {
        let dir = tempfile::tempdir().unwrap();
        let (path, rows) = (
            dir.path().join("rows"),
            (0..count).map(row).collect::<Vec<_>>(),
        );
        append(&path, 0, &rows[..count / 2]).unwrap();
        append(&path, count / 2, &rows[count / 2..]).unwrap();
        (dir, path, rows)
    }

    #[test]
    fn a_text_is_a_string_unless_its_tokens_are_known() {
        let written = |text: &RowText| serde_json::to_string(text).unwrap();
        let texts = [
            (RowText::from("a b"), r#""a b""#),
            (
                RowText::encoded("a b", vec![3, 1]),
                r#"{"text":"a b","ids":[3,1]}"#,
            ),
        ];
        for (text, expected) in texts {
            assert_eq!(written(&text), expected);
            assert_eq!(serde_json::from_str::<RowText>(expected).unwrap(), text);
        }
    }

    #[test]
    fn an_answer_has_tokens_where_its_prompt_has_them() {
        let row = |prompt: RowText| Demonstration {
            id: "1".into(),
            prompt,
            response: "before".into(),
        };
        let answered = row("a".into()).answered(self::row(4)).response;
        assert_eq!(answered, RowText::from("row \n 4"));
        let answered = row(RowText::encoded("a", vec![1])).answered(self::row(4));
        assert_eq!(answered.response, RowText::encoded("row \n 4", vec![4, 7]));
    }

    #[test]
    fn rows_of_two_writers_are_taken_up_to_the_first_that_is_not_the_next() {
        let (_dir, path, rows) = kept(4);
        append(&path, 2, &rows[2..]).unwrap();
        assert_eq!(
            read_whole::<Response>(&path).unwrap(),
            rows,
            "rows 2 and 3 came twice"
        );
        append(&path, 6, &[row(6)]).unwrap();
        assert_eq!(
            read_whole::<Response>(&path).unwrap(),
            rows,
            "row 6 came where row 4 belongs"
        );
        append(&path, 4, &[row(4)]).unwrap();
        assert_eq!(read_whole::<Response>(&path).unwrap().len(), 5);
    }

    #[test]
    fn rows_of_other_prompts_are_not_taken() {
        let (_dir, path, rows) = kept(3);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(&path, format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1])).unwrap();
        assert_eq!(read_whole::<Response>(&path).unwrap(), rows[..1]);
        // A file from an older version of the program has no indices.
        std::fs::write(&path, serde_json::to_string(&rows[0]).unwrap() + "\n").unwrap();
        assert_eq!(read_whole::<Response>(&path).unwrap(), []);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    proptest! {
        /// Checks that wherever a byte changes or the file is cut, the rows read are the first of
        /// the rows written, and appending the rest makes the file whole.
        #[test]
        fn damage_costs_rows_and_changes_none(
            place in any::<prop::sample::Index>(), turned in 0..=255_u8, cut in any::<prop::sample::Index>(),
        ) {
            let (_dir, path, rows) = kept(6);
            let mut bytes = std::fs::read(&path).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= turned;
            bytes.truncate(cut.index(bytes.len() + 1));
            std::fs::write(&path, bytes).unwrap();
            let found = read_whole::<Response>(&path).unwrap();
            prop_assert_eq!(&found[..], &rows[..found.len()]);
            append(&path, found.len(), &rows[found.len()..]).unwrap();
            prop_assert_eq!(read_whole::<Response>(&path).unwrap(), rows);
        }
    }
}

//! Rows of the benchmark: a prompt, two responses, and the subset that they belong to.

use super::subsets;
use crate::data::dataset::{Dataset, Record, Row};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Two responses to one prompt, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// File and line or row, as errors name it.
    pub place: String,
    pub subset: String,
    /// The name of the row within its subset: its `id`, or its number in the subset. Of several rows
    /// with the same `id` and subset, the second is `id#2`.
    pub item: String,
    /// The name of the prompt, which all rows with the same prompt have.
    pub cluster: String,
    /// Messages of user and assistant in turn, beginning and ending with the user.
    pub prompt: Vec<String>,
    pub chosen: String,
    pub rejected: String,
    /// True for each response that was sampled without reaching an end; the plain template adds none.
    pub unended: [bool; 2],
}

/// Rows with what is odd about them, as sentences.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    pub pairs: Vec<Pair>,
    pub notices: Vec<String>,
}

/// The columns of a row. `subset` may be absent, where all rows are of one subset.
struct Columns {
    id: Option<String>,
    subset: Option<String>,
    prompt: Vec<String>,
    chosen: Answer,
    rejected: Answer,
}

/// A response as text, or as a study writes it: `{"text": "…", "ids": […], "ended": true}`.
struct Answer {
    text: String,
    ended: bool,
}

impl Record for Columns {
    const COLUMNS: &'static [&'static str] = &["prompt", "chosen", "rejected"];
    const OPTIONAL: &'static [&'static str] = &["id", "subset"];

    fn read(mut row: Row) -> Result<Self> {
        let id = match row.cells.get("id") {
            None | Some(Value::Null) => None,
            Some(_) => Some(row.id("id")?),
        };
        Ok(Self {
            id,
            subset: row.optional_text("subset")?,
            prompt: prompt(&mut row)?,
            chosen: answer(&mut row, "chosen")?,
            rejected: answer(&mut row, "rejected")?,
        })
    }
}

fn answer(row: &mut Row, name: &str) -> Result<Answer> {
    let written = row.cells.get(name).and_then(Value::as_object);
    if let Some(text) = written
        .and_then(|it| it.get("text"))
        .and_then(Value::as_str)
    {
        return Ok(Answer {
            text: text.to_owned(),
            ended: written.and_then(|it| it.get("ended")) != Some(&Value::Bool(false)),
        });
    }
    Ok(Answer {
        text: row.text(name)?,
        ended: true,
    })
}

/// The messages of a prompt: one text, or a list of texts or of messages. Roles in a list are not
/// read: as in both references, its first message is the user's, and the roles alternate.
fn prompt(row: &mut Row) -> Result<Vec<String>> {
    let Some(Value::Array(listed)) = row.cells.get("prompt") else {
        return Ok(vec![row.text("prompt")?]);
    };
    let content = |(index, message): (usize, &Value)| {
        let text = message.as_str().or_else(|| message["content"].as_str());
        text.map(str::to_owned).ok_or_else(|| {
            row.error(&format!(
                "`prompt[{index}]` is neither text nor a message with its content"
            ))
            .hint(r#"a prompt is text, or a list as in [{"role": "user", "content": "…"}]"#)
        })
    };
    let turns: Vec<String> = listed
        .iter()
        .enumerate()
        .map(content)
        .collect::<Result<_>>()?;
    match turns.len() % 2 {
        1 => Ok(turns),
        _ => Err(row
            .error(&format!(
                "`prompt` has {} messages, so that the last one is not the user's",
                turns.len()
            ))
            .hint(
                "messages of user and assistant alternate by position: give an odd number of them",
            )),
    }
}

/// Reads the pairs of a data set. Rows without a subset get `subset`.
///
/// # Errors
/// A row that lacks a column or has a value of another type, an unknown subset, or no row at all.
pub fn read(data: &Dataset, subset: Option<&str>) -> Result<Pairs> {
    if let Some(name) = subset {
        subsets::check(name, "--subset")?;
    }
    let mut read = Pairs::default();
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut repeated = Vec::new();
    for row in data.placed_rows::<Columns>()? {
        let (place, columns) = row?;
        let Some(subset) = columns.subset.or_else(|| subset.map(str::to_owned)) else {
            return Err(Error::data(format!("{place}: no `subset`")).hint(
                "name the subset of each row, or that of all rows with --subset; `summarize` of the prior sets holds \
                 summaries of posts",
            ));
        };
        subsets::check(&subset, &place)?;
        let number = counts.entry(subset.clone()).or_default();
        *number += 1;
        let id = columns.id.unwrap_or_else(|| number.to_string());
        let times = seen.entry((subset.clone(), id.clone())).or_default();
        *times += 1;
        if *times > 1 {
            repeated.push(format!("{id} of {subset}"));
        }
        let item = match *times {
            1 => id,
            times => format!("{id}#{times}"),
        };
        read.pairs.push(Pair {
            place,
            subset,
            item,
            cluster: cluster(&columns.prompt),
            prompt: columns.prompt,
            unended: [!columns.chosen.ended, !columns.rejected.ended],
            chosen: columns.chosen.text,
            rejected: columns.rejected.text,
        });
    }
    if read.pairs.is_empty() {
        return Err(Error::data("there are no pairs").hint("give a file with at least one row"));
    }
    read.notices
        .extend(several("ids that several rows have", &repeated));
    read.notices.extend(oddities(&read.pairs));
    Ok(read)
}

/// The name of a prompt: the beginning of the hash of its messages.
pub fn cluster(prompt: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for turn in prompt {
        hasher.update(&(turn.len() as u64).to_le_bytes());
        hasher.update(turn.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Sentences about rows that can be scored but are probably not meant so.
fn oddities(pairs: &[Pair]) -> Vec<String> {
    let places = |holds: &dyn Fn(&Pair) -> bool| -> Vec<String> {
        let found = pairs.iter().filter(|pair| holds(pair));
        found.map(|pair| pair.place.clone()).collect()
    };
    let blank = |text: &String| text.trim().is_empty();
    let empty = places(&|pair| blank(&pair.chosen) || blank(&pair.rejected));
    let unasked = places(&|pair| pair.prompt.iter().any(blank));
    let equal = places(&|pair| pair.chosen == pair.rejected);
    [
        several("pairs with an empty response", &empty),
        several("pairs with an empty prompt or message", &unasked),
        several("pairs whose two responses are the same, which tie", &equal),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A sentence that counts places and names the first of them; `None` if there are none.
pub fn several(what: &str, places: &[String]) -> Option<String> {
    const NAMED: usize = 3;
    let named = places[..places.len().min(NAMED)].join("; ");
    let more = match places.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!places.is_empty()).then(|| format!("{} {what}: {named}{more}", places.len()))
}

/// The subsets of RewardBench that `pairs` lack, and those with another number of rows than the
/// published data has, as sentences.
pub fn coverage(pairs: &[Pair]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in pairs {
        *counts.entry(&pair.subset).or_default() += 1;
    }
    let core: Vec<_> = subsets::core().collect();
    let absent: Vec<&str> = core
        .iter()
        .map(|it| it.name)
        .filter(|name| !counts.contains_key(name))
        .collect();
    let sized: Vec<String> = core
        .iter()
        .filter_map(|it| {
            let count = *counts.get(it.name)?;
            (count != it.items).then(|| format!("{} {count} of {}", it.name, it.items))
        })
        .collect();
    let mut told = Vec::new();
    if absent.len() == core.len() {
        told.push("no subset of RewardBench is present, only prior sets".to_owned());
    } else if !absent.is_empty() {
        told.push(format!(
            "{} of {} subsets are absent: {}",
            absent.len(),
            core.len(),
            absent.join(", ")
        ));
    }
    let what = "subsets have another number of rows than the published data";
    told.extend(several(what, &sized));
    told
}

/// The subsets of `pairs`: those of RewardBench in its order, then the prior sets.
pub fn present(pairs: &[Pair]) -> Vec<&str> {
    let there: BTreeSet<&str> = pairs.iter().map(|pair| pair.subset.as_str()).collect();
    let core = subsets::core()
        .map(|it| it.name)
        .filter(|it| there.contains(it));
    let prior = there.iter().copied().filter(|it| subsets::is_prior(it));
    core.chain(prior).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &str, subset: Option<&str>) -> Result<Pairs> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, lines).unwrap();
        read(&Dataset::file(&path)?, subset)
    }

    fn refused(lines: &str) -> String {
        let error = told(lines, None).unwrap_err().to_string();
        error.rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn rows_are_named_by_id_and_clustered_by_prompt() {
        let read = told(
            r#"{"id": 7, "subset": "hep-go", "prompt": "q", "chosen": "a", "rejected": "b"}
{"id": 7, "subset": "hep-go", "prompt": "q", "chosen": "a", "rejected": ""}
{"id": 7, "subset": "hep-js", "prompt": "r", "chosen": "a", "rejected": "a"}
{"subset": "hep-js", "prompt": [{"role": "x", "content": "q"}, {"role": "x", "content": "a"}, {"content": "r"}], "chosen": "a", "rejected": "b"}"#,
            None,
        )
        .unwrap();
        let items: Vec<&str> = read.pairs.iter().map(|pair| pair.item.as_str()).collect();
        assert_eq!(items, ["7", "7#2", "7", "2"]);
        assert_eq!(read.pairs[0].cluster, read.pairs[1].cluster);
        assert_ne!(read.pairs[0].cluster, read.pairs[2].cluster);
        assert_eq!(read.pairs[3].prompt, ["q", "a", "r"]);
        let begins: Vec<&str> = read
            .notices
            .iter()
            .map(|it| it.split(':').next().unwrap())
            .collect();
        assert_eq!(
            begins,
            [
                "1 ids that several rows have",
                "1 pairs with an empty response",
                "1 pairs whose two responses are the same, which tie"
            ]
        );
        assert_eq!(present(&read.pairs), ["hep-go", "hep-js"]);
        let coverage = coverage(&read.pairs);
        assert!(coverage[0].starts_with("21 of 23 subsets are absent: alpacaeval-easy,"));
        assert!(coverage[1].ends_with("hep-go 2 of 164; hep-js 2 of 164"));
    }

    #[test]
    fn a_subset_may_be_given_for_all_rows() {
        let row = r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#;
        assert_eq!(told(row, Some("shp")).unwrap().pairs[0].subset, "shp");
        let written = r#"{"prompt": "q", "chosen": {"text": "a", "ids": [1], "ended": false}, "rejected": {"text": "b"}}"#;
        let pair = told(written, Some("summarize")).unwrap().pairs.remove(0);
        assert_eq!([pair.chosen, pair.rejected], ["a", "b"]);
        assert_eq!(pair.unended, [true, false]);
        assert!(told(row, Some("tldr")).is_err());
        assert_eq!(refused(row), "x.jsonl, line 1: no `subset`");
    }

    #[test]
    fn faults_are_told_with_their_line() {
        let with = |cells: &str| format!(r#"{{"subset": "hep-go", {cells}}}"#);
        assert_eq!(
            refused(r#"{"subset": "hep", "prompt": "q", "chosen": "a", "rejected": "b"}"#),
            "x.jsonl, line 1: `hep` is not a subset of RewardBench"
        );
        assert_eq!(
            refused(&with(r#""prompt": "q", "chosen": "a""#)),
            "x.jsonl has no column `rejected`"
        );
        assert_eq!(
            refused(&with(r#""prompt": "q", "chosen": 3, "rejected": "b""#)),
            "x.jsonl, line 1: `chosen` is a number, not text"
        );
        assert_eq!(
            refused(&with(
                r#""prompt": ["q", "a"], "chosen": "a", "rejected": "b""#
            )),
            "x.jsonl, line 1: `prompt` has 2 messages, so that the last one is not the user's"
        );
        assert_eq!(
            refused(&with(r#""prompt": [], "chosen": "a", "rejected": "b""#)),
            "x.jsonl, line 1: `prompt` has 0 messages, so that the last one is not the user's"
        );
        assert_eq!(
            refused(&with(r#""prompt": [3], "chosen": "a", "rejected": "b""#)),
            "x.jsonl, line 1: `prompt[0]` is neither text nor a message with its content"
        );
    }
}

//! HellaSwag (Zellers et al. 2019), `Rowan/hellaswag`. Reference: `tasks/hellaswag/utils.py` at
//! 46c7966, `tasks/hellaswag.py` before it.

use crate::Result;
use crate::benchmarks::leaderboard::document::{Answer, Document, Row};
use crate::python::text::{capitalize, strip};
use regex::Regex;
use std::sync::LazyLock;

/// # Errors
/// A row with neither the data set's columns nor those of the harness's own documents (`query`,
/// `choices`, `gold`), or a label that no ending has.
pub fn document(mut row: Row) -> Result<Document> {
    let prepared = row.has("query") && !row.has("ctx_a");
    let (query, candidates, label) = match prepared {
        true => (
            row.text("query")?,
            row.get("choices", "a list of texts")?,
            "gold",
        ),
        false => {
            let endings: Vec<String> = row.get("endings", "a list of texts")?;
            let endings = endings.iter().map(|ending| clean(ending)).collect();
            (query(&row)?, endings, "label")
        }
    };
    let candidates: Vec<String> = candidates;
    let gold = row.gold(label, row.integer(label)?, candidates.len())?;
    if !prepared {
        // The harness's own documents have these cells behind the data set's.
        row.set("query", &query)?;
        row.set("choices", &candidates)?;
        row.set("gold", &gold)?;
    }
    Ok(Document {
        example: format!("{query} {}", candidates[gold]),
        query,
        answer: Answer::Choice {
            texts: candidates.clone(),
            candidates,
            gold,
        },
        row,
    })
}

fn query(row: &Row) -> Result<String> {
    let [activity, first, second] = ["activity_label", "ctx_a", "ctx_b"].map(|name| row.text(name));
    let (activity, first, second) = (activity?, first?, capitalize(&second?));
    Ok(clean(&format!("{activity}: {first} {second}")))
}

/// A text without the marks of WikiHow: "[title]" becomes a full stop, other brackets disappear.
pub fn clean(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[.*?\]").expect("the pattern is a constant"));
    let text = strip(text).replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::document::row;

    #[test]
    fn marks_are_removed_in_one_pass() {
        // Expected values by Python's `re`.
        for (text, expected) in [
            (" a [title] b ", "a. b"),
            ("two  spaces   three    four", "two spaces  three  four"),
            ("[substeps] x [a] [b] y", " x  y"),
            ("nested [a [b] c] d", "nested c] d"),
            ("multi\nline [x\ny] z", "multi\nline [x\ny] z"),
            ("X [title][title] end", "X. end"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn rows_of_the_hub_and_of_the_harness_give_the_same_document() {
        let hub = r#"{"activity_label": "Ice", "ctx_a": "He writes.", "ctx_b": "then HE", "label": "1",
            "endings": [" stops [x].", "goes on."]}"#;
        let own = r#"{"query": "Ice: He writes. Then he", "choices": ["stops .", "goes on."], "gold": 1}"#;
        let [hub, own] = [hub, own].map(|json| document(row(json)).unwrap());
        assert_eq!(hub.example, "Ice: He writes. Then he goes on.");
        assert_eq!((hub.example, hub.answer), (own.example, own.answer));
    }
}

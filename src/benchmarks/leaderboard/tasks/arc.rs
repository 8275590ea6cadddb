//! ARC-Challenge (Clark et al. 2018), `allenai/ai2_arc`. Reference: `tasks/arc/arc_easy.yaml` at
//! 46c7966, `tasks/arc.py` before it.

use crate::Result;
use crate::benchmarks::leaderboard::Convention;
use crate::benchmarks::leaderboard::document::{Answer, Document, Row};
use serde::Deserialize;

#[derive(Deserialize)]
struct Choices {
    text: Vec<String>,
    label: Vec<String>,
}

/// # Errors
/// A row without the data set's columns, or an answer key that no choice has.
pub fn document(row: Row, convention: Convention) -> Result<Document> {
    let Choices { text, label } = row.get("choices", "a struct of lists `text` and `label`")?;
    if text.len() != label.len() || text.is_empty() {
        let (texts, labels) = (text.len(), label.len());
        return Err(row.error(&format!("`choices` has {texts} texts and {labels} labels")));
    }
    let key = row.text("answerKey")?;
    let gold = match convention.is_before_yaml() {
        true => letter(&key),
        false => label.iter().position(|label| *label == key),
    };
    let Some(gold) = gold.filter(|gold| *gold < text.len()) else {
        return Err(row
            .error(&format!(
                "`answerKey` {key:?} is not a label of the choices"
            ))
            .hint(format!("the labels are {}", label.join(", "))));
    };
    let query = format!("Question: {}\nAnswer:", row.text("question")?);
    Ok(Document {
        example: format!("{query} {}", text[gold]),
        query,
        answer: Answer::Choice {
            candidates: text.clone(),
            texts: text,
            gold,
        },
        row,
    })
}

/// The place of a key among the letters A to E, or of the digit that stands for it.
fn letter(key: &str) -> Option<usize> {
    ["A", "B", "C", "D", "E"]
        .iter()
        .position(|letter| *letter == key)
        .or_else(|| {
            ["1", "2", "3", "4", "5"]
                .iter()
                .position(|digit| *digit == key)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::document::row;

    fn read(choices: &str, key: &str, convention: Convention) -> Result<Document> {
        let json = format!(r#"{{"question": "Why?", "choices": {choices}, "answerKey": "{key}"}}"#);
        document(row(&json), convention)
    }

    #[test]
    fn the_answer_is_found_by_its_label() {
        let digits = r#"{"text": ["x", "y", "z"], "label": ["1", "2", "3"]}"#;
        for convention in Convention::ALL {
            let read = read(digits, "2", convention).unwrap();
            assert_eq!(read.query, "Question: Why?\nAnswer:");
            assert_eq!(read.example, "Question: Why?\nAnswer: y");
        }
        // Labels that are not in order: only the later rule looks at them.
        let turned = r#"{"text": ["x", "y"], "label": ["B", "A"]}"#;
        let example = |convention| read(turned, "A", convention).unwrap().example;
        assert_eq!(example(Convention::H3), "Question: Why?\nAnswer: x");
        assert_eq!(example(Convention::H4), "Question: Why?\nAnswer: y");
    }

    #[test]
    fn a_key_that_is_no_label_is_refused() {
        let choices = r#"{"text": ["x", "y"], "label": ["A", "B"]}"#;
        for convention in Convention::ALL {
            let message = read(choices, "E", convention).unwrap_err().to_string();
            assert_eq!(
                message,
                "rows, line 1: `answerKey` \"E\" is not a label of the choices"
            );
        }
        let message = read(r#"["x"]"#, "A", Convention::H4)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "rows, line 1: `choices` is not a struct of lists `text` and `label`"
        );
    }
}

//! Winogrande (Sakaguchi et al. 2019), `allenai/winogrande`, by partial contexts (Trinh & Le 2018,
//! arXiv 1806.02847). Reference: `tasks/winogrande/preprocess_winogrande.py` at 46c7966,
//! `tasks/winogrande.py` before it.

use crate::Result;
use crate::benchmarks::leaderboard::document::{Answer, Document, Row};
use crate::python::text::strip;

/// # Errors
/// A row without the data set's columns, a sentence without `_`, or an answer that is neither 1 nor 2.
pub fn document(row: Row) -> Result<Document> {
    let sentence = row.text("sentence")?;
    let Some((before, after)) = sentence.split_once('_') else {
        return Err(row.error("`sentence` has no `_` where an option belongs"));
    };
    let texts = [row.text("option1")?, row.text("option2")?];
    let answer = row.integer("answer")?;
    let gold = match answer {
        1 => 0,
        2 => 1,
        other => {
            return Err(row
                .error(&format!("`answer` is {other}, neither 1 nor 2"))
                .hint("the test split has no answers; take train or validation"));
        }
    };
    let suffix = strip(after).to_owned();
    let contexts = texts.clone().map(|option| format!("{before}{option}"));
    Ok(Document {
        query: contexts[gold].clone(),
        example: format!("{} {suffix}", contexts[gold]),
        answer: Answer::Context {
            contexts,
            texts,
            suffix,
            gold,
        },
        row,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::document::row;

    #[test]
    fn the_gap_is_filled_by_each_option() {
        let json = r#"{"sentence": "Ann saw Bo, so _  ran_ off. ", "option1": "Ann", "option2": "Bo", "answer": "2"}"#;
        let read = document(row(json)).unwrap();
        assert_eq!(read.example, "Ann saw Bo, so Bo ran_ off.");
        let expected = ["Ann saw Bo, so Ann", "Ann saw Bo, so Bo"].map(str::to_owned);
        assert!(
            matches!(read.answer, Answer::Context { contexts, gold: 1, .. } if contexts == expected)
        );
    }

    #[test]
    fn rows_that_cannot_be_asked_are_refused() {
        let told = |json: &str| document(row(json)).unwrap_err().to_string();
        let gap = r#"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": 1}"#;
        assert_eq!(
            told(gap),
            "rows, line 1: `sentence` has no `_` where an option belongs"
        );
        let key = r#"{"sentence": "a _", "option1": "a", "option2": "b", "answer": "3"}"#;
        assert_eq!(told(key), "rows, line 1: `answer` is 3, neither 1 nor 2");
    }
}

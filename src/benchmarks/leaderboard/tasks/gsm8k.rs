//! GSM8K (Cobbe et al. 2021), `openai/gsm8k`, by generation. Reference: `tasks/gsm8k/gsm8k.yaml` at
//! 46c7966 and v0.4.12, `tasks/gsm8k.py` before them.

use crate::Result;
use crate::benchmarks::leaderboard::Convention;
use crate::benchmarks::leaderboard::answers::written_answer;
use crate::benchmarks::leaderboard::document::{Answer, Document, Row};

/// Number of tokens that are generated, at most (`max_gen_toks`).
pub const MOST_TOKENS: usize = 256;

/// # Errors
/// A row without the data set's columns, or a solution without its `#### …`.
pub fn document(row: Row) -> Result<Document> {
    let query = format!("Question: {}\nAnswer:", row.text("question")?);
    let solution = row.text("answer")?;
    if written_answer(&solution).is_none() {
        return Err(row.error("`answer` has no line `#### …` with a number"));
    }
    Ok(Document {
        example: format!("{query} {solution}"),
        query,
        answer: Answer::Solution(solution),
        row,
    })
}

/// Texts before which a completion ends, in the order in which they are cut off.
pub fn stops(convention: Convention) -> &'static [&'static str] {
    match convention {
        Convention::V030 => &["\n"],
        Convention::H3 => &[":", "Question:", "Question"],
        Convention::H4 => &["\n\n", "Question:"],
        Convention::H5 => &["Question:", "</s>", "<|im_end|>"],
    }
}

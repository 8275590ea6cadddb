//! Summaries of Reddit posts, in the prompt format of [`tldr`].

use super::{Checked, Example, Task};
use crate::data::dataset::{Comparison, Dataset, SummarisedPost, Text};
use crate::data::rows::{Demonstration, ResponsePair, RowText};
use crate::data::{TextEncoder, tldr};
use crate::{Error, Result};
use rayon::prelude::*;

/// The TL;DR task with a tokenizer and its limits.
pub struct Summarization {
    pub encoder: TextEncoder,
}

impl Task for Summarization {
    fn demonstrations(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<Demonstration>>> {
        let mut examples = Vec::new();
        for (index, row) in set.placed_rows::<SummarisedPost>()?.enumerate() {
            let (place, SummarisedPost { id, post, summary }) = row?;
            if wanted(index) {
                examples.push(Example {
                    index,
                    whole: tldr::prompt(&post),
                    row: Demonstration {
                        id,
                        prompt: tldr::fitted_at(&place, &post, &self.encoder)?.into(),
                        response: tldr::response(&summary).into(),
                    },
                });
            }
        }
        Ok(examples)
    }

    /// Comparisons of news articles, which some splits mix with those of posts, are passed over.
    fn comparisons(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<ResponsePair>>> {
        let mut examples = Vec::new();
        for (index, row) in set.placed_rows::<Comparison>()?.enumerate() {
            let (place, row) = row?;
            if let (true, Text::Post(post)) = (wanted(index), &row.text) {
                let response = |text: &str| self.encoder.response(&tldr::response(text));
                examples.push(Example {
                    index,
                    whole: tldr::prompt(post),
                    row: ResponsePair {
                        prompt: tldr::fitted_at(&place, post, &self.encoder)?.into(),
                        chosen: response(&row.chosen.text)?,
                        rejected: response(&row.rejected.text)?,
                        id: row.id,
                    },
                });
            }
        }
        Ok(examples)
    }

    fn usable_comparisons(&self, set: &Dataset) -> Result<Vec<usize>> {
        let rows = set.rows::<Comparison>()?.enumerate();
        let of_posts = rows.filter_map(|(index, row)| match row {
            Ok(row) => matches!(row.text, Text::Post(_)).then_some(Ok(index)),
            Err(error) => Some(Err(error)),
        });
        of_posts.collect()
    }

    fn asked(&self, place: &str, _: &[String]) -> Result<RowText> {
        Err(without_conversations(place))
    }

    fn answered(&self, place: &str, _: &[String], _: [&str; 2]) -> Result<ResponsePair> {
        Err(without_conversations(place))
    }

    /// Summaries are not encoded here, so that none counts as cut.
    fn check(&self, set: &Dataset) -> Result<Checked> {
        let rows = set.placed_rows::<SummarisedPost>()?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let fault = rows
            .par_iter()
            .map(|(place, row)| tldr::check(place, &row.post, &self.encoder))
            .find_first(Result::is_err);
        fault.unwrap_or(Ok(()))?;
        let whole = rows.iter().map(|(_, row)| tldr::prompt(&row.post));
        Ok(Checked {
            whole: whole.collect(),
            cut: 0,
        })
    }
}

fn without_conversations(place: &str) -> Error {
    Error::configuration(format!(
        "{place}: the task of this experiment is the summary of posts, which has no conversations"
    ))
    .hint("benchmarks of conversations need [task] kind = \"chat\"")
}

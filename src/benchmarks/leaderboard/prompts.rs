//! From documents to prompts: their order, the draws of few-shot examples, and the requests.

use super::conventions::Convention;
use super::document::{Answer, Document};
use super::python_random::PythonRandom;
use super::request::{Request, Requests};
use super::tasks::{Shots, Task, gsm8k};
use crate::{Error, Result};
use std::sync::Arc;

/// The seed of the order of documents, and of draws after it, up to v0.3.0 (`evaluator.py`).
const SHUFFLE_SEED: u64 = 42;
/// The seed of few-shot draws since v0.4.0, one generator a task (`api/task.py` l. 656).
const FEWSHOT_SEED: u64 = 1234;

/// A document with the requests that are made for it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The place of the document in its split, from 0, whatever the order of the requests.
    pub index: usize,
    pub document: Document,
    pub requests: Requests,
}

/// A task, asked in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompting {
    pub task: Task,
    pub convention: Convention,
    /// Number of few-shot examples.
    pub shots: usize,
    /// Number of documents that are asked; all if `None`.
    pub limit: Option<usize>,
}

impl Prompting {
    /// The items of `documents`, in the order in which the reference asks them, with examples from
    /// `pool`, all documents of the split that [`Task::examples`] names.
    ///
    /// # Errors
    /// More shots than the pool has documents.
    pub fn items(&self, documents: Vec<Document>, pool: &[Document]) -> Result<Vec<Item>> {
        let Self {
            task,
            convention,
            limit,
            ..
        } = *self;
        let mut documents: Vec<(usize, Document)> = documents.into_iter().enumerate().collect();
        let mut sampler = self.sampler(pool);
        if convention.is_before_yaml() {
            sampler.rng.shuffle(&mut documents);
        }
        documents.truncate(limit.unwrap_or(documents.len()));
        let description = task.description(convention);
        let item = |(index, document): (usize, Document)| {
            let examples = sampler
                .examples(&document)
                .map_err(|error| error.within(&task.name()))?;
            let labelled = labelled(&examples);
            let requests = self.requests(&document, &description, &labelled);
            Ok(Item {
                index,
                document,
                requests,
            })
        };
        documents.into_iter().map(item).collect()
    }

    /// The few-shot draws of the documents, in order; each call of `examples` is one document.
    pub fn sampler<'a>(&self, pool: &'a [Document]) -> Sampler<'a> {
        let seed = match self.convention.is_before_yaml() {
            true => SHUFFLE_SEED,
            false => FEWSHOT_SEED,
        };
        Sampler {
            rng: PythonRandom::new(seed),
            pool,
            shots: self.shots,
            rule: self.task.examples(self.convention),
            drops_query: self.convention.drops_query(),
        }
    }

    fn requests(&self, document: &Document, description: &str, labelled: &str) -> Requests {
        let after = |query: &str| -> Arc<str> { format!("{description}{labelled}{query}").into() };
        let scored = |context: &Arc<str>, candidate: &String| Request {
            context: context.clone(),
            continuation: format!(" {candidate}"),
        };
        let context = after(&document.query);
        match &document.answer {
            Answer::Solution(_) => Requests::Completion {
                context,
                until: gsm8k::stops(self.convention),
            },
            Answer::Choice { candidates, .. } => {
                let all = candidates
                    .iter()
                    .map(|candidate| scored(&context, candidate));
                Requests::Likelihoods(all.collect())
            }
            Answer::Truth { mc1, mc2 } => {
                // Up to v0.3.0 one task computes both metrics.
                let both = match self.convention.is_before_yaml() {
                    true => [&mc1.choices[..], &mc2.choices],
                    false => [&[][..], &mc2.choices],
                };
                let all = both.into_iter().flatten();
                Requests::Likelihoods(all.map(|candidate| scored(&context, candidate)).collect())
            }
            Answer::Context {
                contexts, suffix, ..
            } => {
                let context = |option: &String| -> Arc<str> {
                    match self.convention {
                        _ if !self.convention.keeps_winogrande_examples() => option.as_str().into(),
                        Convention::V030 | Convention::H3 => last_replaced(&context, option).into(),
                        _ => after(option),
                    }
                };
                let all = contexts
                    .iter()
                    .map(|option| scored(&context(option), suffix));
                Requests::Likelihoods(all.collect())
            }
        }
    }
}

/// A context whose last paragraph is replaced, as `append_context` of `tasks/winogrande.py` does it.
fn last_replaced(context: &str, last: &str) -> String {
    match context.rsplit_once("\n\n") {
        Some((before, _)) => format!("{before}\n\n{last}"),
        None => last.to_owned(),
    }
}

/// The text of examples before a query: nothing, or examples that a blank line follows.
pub fn labelled(examples: &[&Document]) -> String {
    examples
        .iter()
        .map(|document| format!("{}\n\n", document.example))
        .collect()
}

/// Few-shot draws from one generator, document after document.
#[derive(Clone, Debug)]
pub struct Sampler<'a> {
    rng: PythonRandom,
    pool: &'a [Document],
    shots: usize,
    rule: Shots,
    drops_query: bool,
}

impl<'a> Sampler<'a> {
    /// The examples before `document`.
    ///
    /// # Errors
    /// More shots than there are documents in the pool.
    pub fn examples(&mut self, document: &Document) -> Result<Vec<&'a Document>> {
        if self.shots == 0 {
            return Ok(Vec::new());
        }
        let (shots, pool) = (self.shots, self.pool);
        let (places, drops_query) = match self.rule {
            Shots::First(_) if shots > pool.len() => {
                return Err(Error::data(format!(
                    "{shots} examples are needed, and there are {}",
                    pool.len()
                ))
                .hint("ask for fewer shots"));
            }
            Shots::First(_) => ((0..shots).collect(), self.drops_query),
            Shots::Drawn { one_more, .. } => (
                self.rng.sample(pool.len(), shots + usize::from(one_more))?,
                self.drops_query || one_more,
            ),
        };
        let drawn = places.into_iter().map(|place| &pool[place]);
        let others = drawn.filter(|it| !drops_query || it.row != document.row);
        Ok(others.take(shots).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::document::row;

    fn winogrande(count: usize) -> Vec<Document> {
        let document = |index: usize| {
            let json = format!(
                r#"{{"sentence": "{index} _ is.", "option1": "a", "option2": "b", "answer": "1"}}"#
            );
            Task::Winogrande.document(row(&json), Convention::H4)
        };
        (0..count).map(|index| document(index).unwrap()).collect()
    }

    fn contexts(convention: Convention, shots: usize, pool: &[Document]) -> Vec<String> {
        let prompting = Prompting {
            task: Task::Winogrande,
            convention,
            shots,
            limit: Some(2),
        };
        let items = prompting.items(winogrande(9), pool).unwrap();
        items
            .iter()
            .map(|it| it.requests.context().to_owned())
            .collect()
    }

    #[test]
    fn examples_are_drawn_as_each_convention_draws_them() {
        // Draws by CPython: Random(42) after a shuffle of 9; Random(1234).
        let pool = winogrande(9);
        assert_eq!(
            contexts(Convention::H3, 2, &pool),
            ["8 a is.\n\n1 a is.\n\n3 a", "6 a is.\n\n0 a is.\n\n6 a"]
        );
        assert_eq!(
            contexts(Convention::H4, 2, &pool),
            ["0 a", "1 a"],
            "examples are dropped"
        );
        assert_eq!(
            contexts(Convention::H5, 2, &pool),
            ["7 a is.\n\n1 a is.\n\n0 a", "0 a is.\n\n1 a is.\n\n1 a"]
        );
        assert_eq!(contexts(Convention::H3, 0, &[]), ["3 a", "6 a"]);
    }

    #[test]
    fn the_query_is_no_example_of_itself() {
        let pool = winogrande(3);
        let prompting = Prompting {
            task: Task::Winogrande,
            convention: Convention::H4,
            shots: 2,
            limit: None,
        };
        let mut sampler = prompting.sampler(&pool);
        for document in &pool {
            let drawn = sampler.examples(document).unwrap();
            assert_eq!(drawn.len(), 2);
            assert!(drawn.iter().all(|it| it.row != document.row));
        }
        let prompting = Prompting {
            shots: 3,
            ..prompting
        };
        let message = prompting
            .items(winogrande(1), &pool)
            .unwrap_err()
            .to_string();
        assert_eq!(message, "winogrande: 4 examples are to be drawn from 3");
    }
}

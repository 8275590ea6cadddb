//! Prompts of a benchmark that occur in the texts that a model was trained on, and prompts that
//! occur twice.
//!
//! Texts are compared as words: lower case, without anything but letters and digits. A prompt is a
//! duplicate of a training text if that has the same words or has all of them in a row, and it
//! overlaps one if they share a run of `ngram` words (13 in Brown et al. 2020, arXiv 2005.14165,
//! appendix C).

use std::collections::{HashMap, HashSet};

/// The number of words that a prompt must share with a training text in a row.
pub const NGRAM: usize = 13;

/// The hash of a run of words.
type Run = [u8; 16];

/// The runs of words of the training texts.
#[derive(Clone, Debug)]
pub struct Index {
    ngram: usize,
    /// The runs of `ngram` words.
    runs: HashSet<Run>,
    /// Whole texts, and the runs of the lengths that short prompts have.
    whole: HashSet<Run>,
    lengths: Vec<usize>,
}

/// The traces of one prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The number of an earlier prompt with the same words.
    pub repeats: Option<usize>,
    /// Whether a training text has all words of the prompt in a row.
    pub is_contained: bool,
    /// The share of the prompt's runs of `ngram` words that training texts have; `None` for a prompt
    /// of fewer words.
    pub overlap: Option<f64>,
}

impl Found {
    /// Whether the prompt shares anything with a training text.
    pub fn is_contaminated(&self) -> bool {
        self.is_contained || self.overlap.is_some_and(|share| share > 0.0)
    }
}

impl Index {
    /// An index for `prompts`, to which training texts are added.
    pub fn new(prompts: &[String], ngram: usize) -> Self {
        let short = prompts.iter().map(|it| words(it).len());
        let mut lengths: Vec<usize> = short.filter(|it| (1..ngram).contains(it)).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self {
            ngram,
            runs: HashSet::new(),
            whole: HashSet::new(),
            lengths,
        }
    }

    /// Adds a training text.
    pub fn add(&mut self, text: &str) {
        let words = words(text);
        self.runs.extend(runs(&words, self.ngram));
        for length in &self.lengths {
            self.whole.extend(runs(&words, *length));
        }
    }

    /// The traces of every prompt.
    pub fn find(&self, prompts: &[String]) -> Vec<Found> {
        let mut seen: HashMap<Run, usize> = HashMap::new();
        let found = prompts.iter().enumerate().map(|(at, prompt)| {
            let words = words(prompt);
            let repeats = seen.get(&run(&words)).copied();
            seen.entry(run(&words)).or_insert(at);
            let (total, known) = runs(&words, self.ngram).fold((0, 0), |(total, known), run| {
                (total + 1, known + usize::from(self.runs.contains(&run)))
            });
            Found {
                repeats,
                is_contained: if total > 0 {
                    known == total
                } else {
                    !words.is_empty() && self.whole.contains(&run(&words))
                },
                overlap: (total > 0).then(|| known as f64 / total as f64),
            }
        });
        found.collect()
    }
}

/// The words of a text, in lower case and without punctuation.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn runs(words: &[String], length: usize) -> impl Iterator<Item = Run> {
    words.windows(length.max(1)).map(run)
}

fn run(words: &[String]) -> Run {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(word.as_bytes());
        hasher.update(b" ");
    }
    let mut start = [0; 16];
    start.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(prompts: &[&str], texts: &[&str], ngram: usize) -> Vec<Found> {
        let prompts: Vec<String> = prompts.iter().map(|it| (*it).to_owned()).collect();
        let mut index = Index::new(&prompts, ngram);
        texts.iter().for_each(|text| index.add(text));
        index.find(&prompts)
    }

    #[test]
    fn a_run_of_words_is_found_whatever_its_case_and_punctuation() {
        let found = find(
            &[
                "Why is the sky blue, and the sea?",
                "Why is the sky so blue?",
            ],
            &["he asked: why IS the sky -- blue"],
            4,
        );
        assert_eq!(found[0].overlap, Some(2.0 / 5.0));
        assert!(!found[0].is_contained && found[0].is_contaminated());
        assert_eq!(found[1].overlap, Some(1.0 / 3.0));
    }

    #[test]
    fn a_short_prompt_counts_if_a_text_has_all_of_it() {
        let found = find(
            &["Name a fruit.", "Name a tree.", "!"],
            &["First: name a fruit, then eat it."],
            NGRAM,
        );
        assert_eq!(
            found.iter().map(|it| it.is_contained).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(found[0].overlap, None);
    }

    #[test]
    fn a_prompt_that_occurs_twice_names_the_first() {
        let found = find(&["One two", "three", "one, TWO!"], &[], NGRAM);
        let repeats: Vec<_> = found.iter().map(|it| it.repeats).collect();
        assert_eq!(repeats, [None, None, Some(0)]);
    }

    #[test]
    fn a_text_is_fully_contained_only_if_every_run_is_known() {
        let found = find(&["a b c d e"], &["a b c", "c d e"], 3);
        assert_eq!(found[0].overlap, Some(2.0 / 3.0));
        assert!(!found[0].is_contained);
        let found = find(&["a b c d e"], &["x a b c d e y"], 3);
        assert!(found[0].is_contained);
    }
}

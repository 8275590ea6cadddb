//! The slots that each query of attention sees.

use std::sync::Arc;

/// The queries of an attention, in spans of the same text.
#[derive(Clone, Debug)]
pub struct Spans(Arc<[Span]>);

/// Queries of one text, and the slots of the text whose keys they see.
#[derive(Clone, Debug)]
pub struct Span {
    /// Slots in the order of the text.
    pub keys: Vec<usize>,
    /// In the order of the text: each sees at least as many keys as the one before it.
    pub queries: Vec<Query>,
}

/// One query, in all its heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Row in the tensor of queries and in the result, counted over the whole batch.
    pub row: usize,
    /// The slot whose angles rotate it.
    pub slot: usize,
    /// Number of keys of the span that it sees, from the first on, if there is no window.
    pub visible: usize,
}

impl Query {
    /// The first of the span's keys that the query sees.
    pub fn first(&self, window: Option<usize>) -> usize {
        window.map_or(0, |window| self.visible.saturating_sub(window))
    }
}

impl Spans {
    pub fn new(spans: Vec<Span>) -> Self {
        Self(spans.into())
    }

    /// A span for each row of a batch `[b, time]`, of which `real` tells the slots with tokens: every
    /// slot asks, and sees the real ones up to its own.
    pub fn of_rows(real: &[bool], time: usize) -> Self {
        let span = |row: usize| {
            let slots = row * time..(row + 1) * time;
            let keys: Vec<usize> = slots.clone().filter(|&slot| real[slot]).collect();
            let mut visible = 0;
            let queries = slots.map(|slot| {
                visible += usize::from(real[slot]);
                Query {
                    row: slot,
                    slot,
                    visible,
                }
            });
            Span {
                queries: queries.collect(),
                keys,
            }
        };
        Self((0..real.len() / time.max(1)).map(span).collect())
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Span> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of spans.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.0.iter().map(|span| span.queries.len()).sum()
    }

    /// The largest number of queries of a span, and that of keys.
    pub fn longest(&self) -> [usize; 2] {
        self.0.iter().fold([0, 0], |[queries, keys], span| {
            [queries.max(span.queries.len()), keys.max(span.keys.len())]
        })
    }
}

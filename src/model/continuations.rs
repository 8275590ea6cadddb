//! Log-probabilities of the last tokens of texts, in one pass over a tree of tokens: tokens with
//! which several texts begin are computed once, such as few-shot examples before several questions
//! and a question before its candidate answers.
//!
//! ```text
//! examples ─┬─ question 1 ─┬─ candidate A
//!           │              └─ candidate B
//!           └─ question 2 ─┬─ candidate A
//!                          └─ …
//! ```
//!
//! The last token of a text is predicted and never computed, so that candidates of one token cost
//! nothing beside their question. Nothing is padded. A token sees the tokens before it in its own
//! text at the positions that they have there, as in [`Packed`].

use crate::device::fused::spans::{Query, Span, Spans};
use crate::device::fused::token_log_probs;
use crate::model::arch::Texts;
use crate::model::generate::tokens;
use crate::model::heads::LanguageModel;
use crate::model::packed::Packed;
use crate::model::weights::host;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;
use std::ops::Range;

/// Logits that are in memory at a time, at most, in numbers.
const MOST_LOGITS: usize = 1 << 26;

/// A text whose last tokens are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredText {
    pub ids: Vec<u32>,
    /// Number of tokens at the end that are scored. At least one token stands before them.
    pub scored: usize,
}

/// The prediction of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of its probability after the tokens before it.
    pub log_prob: f64,
    /// Whether no other token is more likely there.
    pub is_greedy: bool,
}

/// The predictions of the scored tokens of every text.
///
/// # Errors
/// A text without a token before the scored ones, or none scored; a device failure.
pub fn score(model: &LanguageModel, texts: &[ScoredText]) -> Result<Vec<Vec<TokenScore>>> {
    if let Some(index) = texts
        .iter()
        .position(|text| text.scored == 0 || text.scored >= text.ids.len())
    {
        let ScoredText { ids, scored } = &texts[index];
        return Err(Error::data(format!(
            "text {}: {scored} of its {} tokens are to be scored",
            index + 1,
            ids.len()
        ))
        .hint("score at least one token, and leave one before it"));
    }
    let tree = Tree::of(texts);
    let device = model.device();
    let states = model.decoder.forward_ends(&tree.packed(&device));
    let states = model.decoder.normalise(states);
    let mut predicted = Vec::with_capacity(tree.asked.len());
    let rows = (MOST_LOGITS / model.config().vocab_size().max(1)).max(1);
    for (chunk, asked) in tree.asked.chunks(rows).enumerate() {
        let part = states.clone().narrow(0, chunk * rows, asked.len());
        predicted.extend(predictions(model.logits(part), asked, &device)?);
    }
    Ok(tree.read(texts, &predicted))
}

/// The predictions of the tokens `asked` for at each row of `logits` `[n, vocabulary]`.
fn predictions(
    logits: Tensor<2>,
    asked: &[Vec<u32>],
    device: &Device,
) -> Result<Vec<BTreeMap<u32, TokenScore>>> {
    let n = asked.len();
    let first: Vec<i32> = asked.iter().map(|tokens| tokens[0] as i32).collect();
    let first = Tensor::<1, Int>::from_data(TensorData::new(first, [n]), device);
    let of_first = host(token_log_probs(logits.clone(), first))?;
    let greedy = tokens(logits.clone().argmax(1).reshape([n]))?;
    let width = asked.iter().map(Vec::len).max().unwrap_or(1);
    let of_all = (width > 1).then(|| {
        let row = |tokens: &Vec<u32>| -> Vec<i32> {
            let last = tokens[tokens.len() - 1];
            let padded = tokens.iter().copied().chain(std::iter::repeat(last));
            padded.take(width).map(|token| token as i32).collect()
        };
        let index: Vec<i32> = asked.iter().flat_map(row).collect();
        let index = Tensor::<2, Int>::from_data(TensorData::new(index, [n, width]), device);
        host(logits.gather(1, index))
    });
    let of_all = of_all.transpose()?;
    let score = |row: usize, place: usize| {
        // Log-probabilities of one row differ as its logits do.
        let more = of_all.as_ref().map_or(0.0, |logits| {
            f64::from(logits[row * width + place]) - f64::from(logits[row * width])
        });
        TokenScore {
            log_prob: f64::from(of_first[row]) + more,
            is_greedy: greedy[row] == asked[row][place],
        }
    };
    let row = |row: usize| {
        let places = asked[row].iter().enumerate();
        places
            .map(|(place, token)| (*token, score(row, place)))
            .collect()
    };
    Ok((0..n).map(row).collect())
}

/// Texts as a tree of their tokens, without the last token of each.
#[derive(Default)]
struct Tree {
    ids: Vec<i32>,
    positions: Vec<u32>,
    /// A span for each branch.
    all: Vec<Span>,
    /// A span for each branch with slots that are read.
    read: Vec<Span>,
    /// The slots that are read, by row.
    slots: Vec<usize>,
    /// The tokens whose predictions are read there, by row.
    asked: Vec<Vec<u32>>,
    /// For every text, the row of each scored token.
    rows: Vec<Vec<usize>>,
}

impl Tree {
    fn of(texts: &[ScoredText]) -> Self {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| input(&texts[a]).cmp(input(&texts[b])));
        let mut tree = Self {
            rows: texts.iter().map(|text| vec![0; text.scored]).collect(),
            ..Self::default()
        };
        // Branches that are still to be laid out: their texts, and the slots before them.
        let mut open: Vec<(Range<usize>, Vec<usize>)> = vec![(0..order.len(), Vec::new())];
        while let Some((range, before)) = open.pop() {
            let group = &order[range.clone()];
            let (Some(&first), Some(&last)) = (group.first(), group.last()) else {
                continue;
            };
            let depth = before.len();
            // Texts are sorted: what the first and the last share, all share.
            let shared = input(&texts[first])
                .iter()
                .zip(input(&texts[last]))
                .take_while(|(a, b)| a == b)
                .count();
            let path = tree.branch(before, texts, group, depth..shared);
            // Texts that end here come first; the others branch by their next token.
            let ended = group
                .iter()
                .take_while(|&&text| input(&texts[text]).len() == shared)
                .count();
            let mut start = range.start + ended;
            while start < range.end {
                let next = input(&texts[order[start]])[shared];
                let same = order[start..range.end]
                    .iter()
                    .take_while(|&&text| input(&texts[text])[shared] == next)
                    .count();
                open.push((start..start + same, path.clone()));
                start += same;
            }
        }
        tree
    }

    /// Adds the tokens in `places` of a group of texts that share them, and returns all slots up to
    /// them.
    fn branch(
        &mut self,
        before: Vec<usize>,
        texts: &[ScoredText],
        group: &[usize],
        places: Range<usize>,
    ) -> Vec<usize> {
        let first_slot = self.ids.len();
        let mut path = before;
        let own = &input(&texts[group[0]])[places.clone()];
        self.ids.extend(own.iter().map(|&id| id as i32));
        self.positions
            .extend(places.clone().map(|place| place as u32));
        path.extend(first_slot..self.ids.len());
        let query = |row: usize, place: usize| Query {
            row,
            slot: path[place],
            visible: place + 1,
        };
        if !own.is_empty() {
            let queries = places
                .clone()
                .map(|place| query(path[place], place))
                .collect();
            self.all.push(Span {
                keys: path.clone(),
                queries,
            });
        }
        let mut queries = Vec::new();
        for place in places {
            let mut asked: Vec<u32> = Vec::new();
            for &text in group {
                let ScoredText { ids, scored } = &texts[text];
                if let Some(index) = (place + 1).checked_sub(ids.len() - scored) {
                    self.rows[text][index] = self.asked.len();
                    if !asked.contains(&ids[place + 1]) {
                        asked.push(ids[place + 1]);
                    }
                }
            }
            if !asked.is_empty() {
                queries.push(query(self.asked.len(), place));
                self.slots.push(path[place]);
                self.asked.push(asked);
            }
        }
        if let Some(last) = queries.last() {
            self.read.push(Span {
                keys: path[..last.visible].to_vec(),
                queries,
            });
        }
        path
    }

    fn packed(&self, device: &Device) -> Packed {
        let integers = |values: Vec<i32>| {
            let n = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [n]), device)
        };
        let slots = self.slots.iter().map(|&slot| slot as i32).collect();
        let n = self.ids.len();
        Packed {
            ids: integers(self.ids.clone()).reshape([1, n]),
            positions: self.positions.clone(),
            texts: Texts {
                all: Spans::new(self.all.clone()),
                ends: Spans::new(self.read.clone()),
                end_slots: integers(slots),
            },
        }
    }

    /// The scores of every text, from the predictions at each row.
    fn read(
        &self,
        texts: &[ScoredText],
        predicted: &[BTreeMap<u32, TokenScore>],
    ) -> Vec<Vec<TokenScore>> {
        let of_text = |(text, rows): (&ScoredText, &Vec<usize>)| {
            let scored = &text.ids[text.ids.len() - text.scored..];
            let scores = rows.iter().zip(scored);
            scores.map(|(&row, token)| predicted[row][token]).collect()
        };
        texts.iter().zip(&self.rows).map(of_text).collect()
    }
}

/// The tokens of a text that are computed: all but the last.
fn input(text: &ScoredText) -> &[u32] {
    &text.ids[..text.ids.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, DecoderConfig, Sequence};
    use crate::rng::stream;
    use serde_json::json;

    fn text(ids: &[u32], scored: usize) -> ScoredText {
        ScoredText {
            ids: ids.to_vec(),
            scored,
        }
    }

    fn texts() -> Vec<ScoredText> {
        vec![
            text(&[3, 4, 5, 6, 7], 2),
            text(&[3, 4, 5, 6, 8], 2),
            text(&[3, 4, 5, 9], 1),
            text(&[8, 9, 10, 11, 12, 13, 4, 5, 6, 7, 7], 3),
            text(&[3, 4, 5, 6], 1),
            text(&[3, 4, 5, 6, 7], 4),
            text(&[3, 4], 1),
            text(&[8, 9, 10, 2], 1),
        ]
    }

    #[test]
    fn shared_tokens_stand_once() {
        let tree = Tree::of(&texts());
        // 3 4 5 6 and 8 9 10 11 12 13 4 5 6 7: the last token of each text is not computed.
        let mut ids = tree.ids.clone();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 11, 12, 13]);
        let keys: usize = tree.read.iter().map(|span| span.queries.len()).sum();
        assert_eq!(keys, tree.asked.len());
        assert!(tree.asked.iter().any(|asked| asked.len() > 1));
    }

    #[test]
    fn scores_are_those_of_each_text_alone_for_every_architecture() {
        let device = crate::device::select(crate::device::DEFAULT).unwrap();
        for model_type in DecoderConfig::model_types() {
            let config = json!({
                "model_type": model_type, "vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 3,
                "num_attention_heads": 4, "num_key_value_heads": if model_type == "gpt_neox" { 4 } else { 2 },
                "intermediate_size": 40, "head_dim": 6, "max_position_embeddings": 64,
                "sliding_window": if model_type == "mistral" { Some(4) } else { None },
            });
            let keys = config.as_object().unwrap().clone();
            let config = DecoderConfig::from_keys(keys, "the test").unwrap();
            let model =
                LanguageModel::random(&config, 0.4, &mut stream(1, "test", &[]), &device).unwrap();
            let texts = texts();
            for (text, found) in texts.iter().zip(score(&model, &texts).unwrap()) {
                let (prompt, response) = text.ids.split_at(text.ids.len() - text.scored);
                let row = Sequence::new(prompt.to_vec(), response.to_vec());
                let batch = Batch::new([&row], &device);
                let expected = host(model.response_log_probs(&batch, 1.0)).unwrap();
                let logits = model.logits(model.response_states(&batch));
                let greedy = tokens(logits.argmax(1).reshape([text.scored])).unwrap();
                assert_eq!(found.len(), text.scored);
                for (place, score) in found.iter().enumerate() {
                    let difference = score.log_prob - f64::from(expected[place]);
                    assert!(difference.abs() < 2e-6, "{model_type}: {difference}");
                    assert_eq!(
                        score.is_greedy,
                        greedy[place] == response[place],
                        "{model_type}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_text_without_context_or_without_scored_tokens_is_refused() {
        let model = LanguageModel::tiny(1);
        for (ids, scored) in [(vec![1, 2], 2), (vec![1, 2], 0), (vec![], 0)] {
            assert!(score(&model, &[ScoredText { ids, scored }]).is_err());
        }
    }
}

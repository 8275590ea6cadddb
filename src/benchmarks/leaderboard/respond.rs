//! The responses of a language model to the requests of a task.

use super::conventions::Convention;
use super::encode::{Encoder, Fitted};
use super::metrics::{Likelihood, Response};
use super::prompts::Item;
use super::request::Requests;
use super::tasks::gsm8k::MOST_TOKENS;
use crate::model::continuations::{ScoredText, score};
use crate::model::generate::generate_until;
use crate::model::{Ends, LanguageModel, ModelTokenizer, Sampling};
use crate::rng::stream;
use crate::{Error, Result};

/// New tokens in one pass, at most, unless one document has more.
const MOST_TOKENS_AT_ONCE: usize = 8192;

/// A language model that answers requests under one convention.
#[derive(Debug)]
pub struct Responder<'a> {
    model: &'a LanguageModel,
    tokenizer: &'a ModelTokenizer,
    encoder: Encoder<'a>,
    convention: Convention,
    ends: Ends,
    /// Number of documents in one pass, at most.
    batch: usize,
}

/// The responses to some items, with what was cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Responses {
    pub responses: Vec<Response>,
    /// For each item, the number of tokens that were cut from the left of its longest request.
    pub cut: Vec<usize>,
}

impl<'a> Responder<'a> {
    /// # Errors
    /// A tokenizer that cannot encode.
    pub fn new(
        model: &'a LanguageModel,
        tokenizer: &'a ModelTokenizer,
        ends: Ends,
        convention: Convention,
        batch: usize,
    ) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(tokenizer, ends.appended(), convention)?,
            model,
            tokenizer,
            convention,
            ends,
            batch: batch.max(1),
        })
    }

    /// The number of tokens that a context and what follows it may have.
    fn positions(&self) -> usize {
        self.model.config().sizes().positions
    }

    /// The responses to `items`, in order. Items that follow each other share the beginnings of their
    /// prompts where these are the same.
    ///
    /// # Errors
    /// A request that cannot be encoded or does not fit the model, by its row; a device failure.
    pub fn respond(&self, items: &[Item]) -> Result<Responses> {
        match items.first().map(|item| &item.requests) {
            Some(Requests::Completion { .. }) => self.complete(items),
            _ => self.likelihoods(items),
        }
    }

    fn likelihoods(&self, items: &[Item]) -> Result<Responses> {
        let fitted = items.iter().map(|item| {
            let of_row = |error: Error| error.within(&item.document.row.place);
            self.fitted(&item.requests).map_err(of_row)
        });
        let fitted = fitted.collect::<Result<Vec<_>>>()?;
        let mut responses = Vec::with_capacity(items.len());
        let mut rest = &fitted[..];
        while !rest.is_empty() {
            let (pass, later) = rest.split_at(pass(rest, self.batch));
            rest = later;
            let texts: Vec<ScoredText> = pass.iter().flatten().map(text).collect();
            let mut scores = score(self.model, &texts)?.into_iter();
            for requests in pass {
                let of_item = scores.by_ref().take(requests.len());
                let of_item = of_item.map(|tokens| Likelihood {
                    log_likelihood: tokens.iter().map(|token| token.log_prob).sum(),
                    is_greedy: tokens.iter().all(|token| token.is_greedy),
                });
                responses.push(Response::Likelihoods(of_item.collect()));
            }
        }
        let cut = |requests: &Vec<Fitted>| requests.iter().map(|it| it.cut).max().unwrap_or(0);
        Ok(Responses {
            responses,
            cut: fitted.iter().map(cut).collect(),
        })
    }

    fn fitted(&self, requests: &Requests) -> Result<Vec<Fitted>> {
        let Requests::Likelihoods(requests) = requests else {
            return Err(Error::internal("a completion among likelihoods"));
        };
        let pairs = requests.iter().map(|it| (&*it.context, &*it.continuation));
        let encoded = self.encoder.pairs(pairs)?;
        encoded
            .iter()
            .map(|pair| pair.fitted(self.positions()))
            .collect()
    }

    /// Greedy completions: up to a stop, an end of sequence or the largest number of tokens. The
    /// reference goes on until all sequences of a batch have stopped and cuts afterwards, which gives
    /// the same text.
    fn complete(&self, items: &[Item]) -> Result<Responses> {
        let most = self
            .positions()
            .checked_sub(MOST_TOKENS)
            .filter(|room| *room > 0);
        let Some(most) = most else {
            return Err(Error::model(format!(
                "the model has {} positions, and {MOST_TOKENS} are for the completion",
                self.positions()
            ))
            .hint("leave gsm8k out, or take a model with more positions"));
        };
        let (mut prompts, mut cut) = (Vec::new(), Vec::new());
        for item in items {
            let ids = self
                .encoder
                .text(item.requests.context())
                .map_err(|error| error.within(&item.document.row.place))?;
            let beyond = ids.len().saturating_sub(most);
            prompts.push(ids[beyond..].to_vec());
            cut.push(beyond);
        }
        let until = match &items[0].requests {
            Requests::Completion { until, .. } => *until,
            Requests::Likelihoods(_) => &[],
        };
        // Up to v0.3.0 the first stop's token takes the place of the end of sequence.
        let ends = match self.convention.is_before_yaml() {
            true => until.first().and_then(|stop| self.single_token(stop)),
            false => None,
        };
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            max_new_tokens: MOST_TOKENS,
            ends: ends.map_or_else(|| self.ends.clone(), Ends::from),
            batch_size: self.batch,
        };
        let stop = |item: usize, ids: &[u32]| self.stops(&prompts[item], ids, until);
        let stream = |item: usize| stream(0, "leaderboard", &[item as u64]);
        let written = generate_until(self.model, &prompts, &sampling, stream, stop, |_| {})?;
        let response = |ids: Vec<u32>| {
            let text = self.decode(&ids)?;
            Ok(Response::Completion(before_stops(&text, until).to_owned()))
        };
        let responses = written.into_iter().map(|it| response(it.ids));
        Ok(Responses {
            responses: responses.collect::<Result<_>>()?,
            cut,
        })
    }

    /// The token that a stop is on its own.
    fn single_token(&self, stop: &str) -> Option<u32> {
        match self.encoder.text(stop).ok()?[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether a completion stops after `written`. At 46c7966 the criterion looks at the last tokens
    /// of prompt and completion, two more than the stop has on its own.
    fn stops(&self, prompt: &[u32], written: &[u32], until: &[&str]) -> Result<bool> {
        let text = self.decode(written)?;
        if until.iter().any(|stop| text.contains(stop)) {
            return Ok(true);
        }
        if self.convention != Convention::H4 || written.len() > 16 {
            return Ok(false);
        }
        let seen = [prompt.get(1..).unwrap_or_default(), written].concat();
        for stop in until {
            let width = self.encoder.text(stop)?.len() + 2;
            let tail = &seen[seen.len().saturating_sub(width)..];
            if self.decode(tail)?.contains(stop) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text of tokens with the names of control tokens, as the reference decodes them.
    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode_with_controls(ids)
    }
}

/// A completion before each of the stops, cut in their order.
pub fn before_stops<'a>(completion: &'a str, until: &[&str]) -> &'a str {
    until.iter().fold(completion, |text, stop| {
        text.split_once(stop).map_or(text, |(before, _)| before)
    })
}

fn text(fitted: &Fitted) -> ScoredText {
    ScoredText {
        ids: fitted.ids.clone(),
        scored: fitted.scored,
    }
}

/// The number of the first documents that share a pass: at most `batch`, and as many as have
/// [`MOST_TOKENS_AT_ONCE`] new tokens, at least one.
fn pass(documents: &[Vec<Fitted>], batch: usize) -> usize {
    let mut tokens = 0;
    let mut before: &[u32] = &[];
    for (index, document) in documents.iter().enumerate() {
        for Fitted { ids, .. } in document {
            let shared = ids.iter().zip(before).take_while(|(a, b)| a == b).count();
            tokens += ids.len() - shared;
            before = ids;
        }
        if index > 0 && (index >= batch || tokens > MOST_TOKENS_AT_ONCE) {
            return index;
        }
    }
    documents.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_cut_stop_after_stop() {
        let until = ["\n\n", "Question:"];
        assert_eq!(
            before_stops(" 4\n#### 4\n\nQuestion: x", &until),
            " 4\n#### 4"
        );
        assert_eq!(before_stops(" 4 Question: a\n\nb", &until), " 4 ");
        assert_eq!(before_stops("none", &until), "none");
    }

    #[test]
    fn passes_have_as_many_documents_as_fit() {
        let document = |first: u32, length: usize| {
            let ids = (0..length as u32).map(|place| place + first).collect();
            vec![Fitted {
                ids,
                scored: 1,
                cut: 0,
            }]
        };
        let apart: Vec<_> = (0..5).map(|index| document(10_000 * index, 3000)).collect();
        assert_eq!(pass(&apart, 32), 2);
        assert_eq!(pass(&apart, 1), 1);
        let together: Vec<_> = (0..5).map(|_| document(0, 3000)).collect();
        assert_eq!(pass(&together, 32), 5);
        assert_eq!(pass(&[document(0, 9000), document(1, 1)], 32), 1);
    }
}

//! The account of a run: what was asked, what came, and what it cost.

use super::failure::{Attempt, Failure, FailureKind};
use super::reply::{Reply, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Prices per million tokens, in the user's currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    pub prompt: f64,
    pub completion: f64,
}

/// Sums of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
    /// Replies whose server counted no tokens.
    pub replies_without_usage: usize,
}

/// The account of a run of calls: requests, answers, tokens and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub calls: usize,
    /// Calls whose answers were in the cache, or are those of an equal call.
    pub from_cache: usize,
    /// Calls that the server has answered now.
    pub asked: usize,
    /// Requests beyond the first of a call.
    pub retries: usize,
    /// Failed requests by kind.
    pub failures: BTreeMap<FailureKind, usize>,
    /// Calls without an answer.
    pub missing: usize,
    /// Files of the cache that were damaged; their calls were asked again.
    pub damaged: usize,
    /// Answers by the reason why they end.
    pub finish_reasons: BTreeMap<String, usize>,
    /// Answers without text.
    pub empty: usize,
    /// Answers by the server's own name of the model.
    pub models: BTreeMap<String, usize>,
    /// Answers by the server's fingerprint. Several mean that the judge changed on the way.
    pub fingerprints: BTreeMap<String, usize>,
    /// Tokens of the answers that came now.
    pub new_tokens: Tokens,
    /// Tokens of all answers.
    pub all_tokens: Tokens,
    pub prices: Option<Prices>,
}

impl Tokens {
    fn add(&mut self, usage: Option<Usage>) {
        match usage {
            None => self.replies_without_usage += 1,
            Some(usage) => {
                self.prompt += usage.prompt_tokens;
                self.completion += usage.completion_tokens;
            }
        }
    }

    /// The price of the counted tokens.
    pub fn cost(&self, prices: Prices) -> f64 {
        let millions = |tokens: u64| tokens as f64 / 1e6;
        millions(self.prompt) * prices.prompt + millions(self.completion) * prices.completion
    }
}

impl Account {
    pub(super) fn answered(&mut self, reply: &Reply, new: bool) {
        let name = |name: &Option<String>| name.as_deref().unwrap_or("not given").to_owned();
        *self
            .finish_reasons
            .entry(name(&reply.finish_reason))
            .or_default() += 1;
        *self.models.entry(name(&reply.model)).or_default() += 1;
        if let Some(fingerprint) = &reply.system_fingerprint {
            *self.fingerprints.entry(fingerprint.clone()).or_default() += 1;
        }
        self.empty += usize::from(reply.text().trim().is_empty());
        self.all_tokens.add(reply.usage);
        match new {
            true => {
                self.asked += 1;
                self.new_tokens.add(reply.usage);
            }
            false => self.from_cache += 1,
        }
    }

    pub(super) fn tried(&mut self, attempts: &[Attempt], failure: Option<&Failure>) {
        self.retries += attempts.len().saturating_sub(1);
        for kind in attempts.iter().filter_map(|attempt| attempt.failure) {
            *self.failures.entry(kind).or_default() += 1;
        }
        self.missing += usize::from(failure.is_some());
    }

    /// The account in a few lines.
    pub fn report(&self) -> String {
        let mut text = format!(
            "{} calls: {} answered now, {} from the cache, {} missing; {} retries",
            self.calls, self.asked, self.from_cache, self.missing, self.retries
        );
        let mut list = |what: &str, counts: &BTreeMap<String, usize>| {
            let counts: Vec<String> = counts
                .iter()
                .map(|(name, n)| format!("{name} {n}"))
                .collect();
            if !counts.is_empty() {
                let _ = write!(text, "\n{what}: {}", counts.join(", "));
            }
        };
        list("model", &self.models);
        list("answers end by", &self.finish_reasons);
        if self.fingerprints.len() > 1 {
            list(
                "fingerprints (the judge changed on the way)",
                &self.fingerprints,
            );
        }
        for (count, what) in [
            (self.empty, "answers without text"),
            (self.damaged, "damaged files of the cache, asked again"),
        ] {
            if count > 0 {
                let _ = write!(text, "\n{what}: {count}");
            }
        }
        for (what, tokens) in [("now", self.new_tokens), ("in all", self.all_tokens)] {
            let _ = write!(
                text,
                "\ntokens {what}: {} of prompts, {} of answers",
                tokens.prompt, tokens.completion
            );
            if let Some(prices) = self.prices {
                let _ = write!(text, ", cost {:.4}", tokens.cost(prices));
            }
            if tokens.replies_without_usage > 0 {
                let _ = write!(
                    text,
                    " ({} replies uncounted)",
                    tokens.replies_without_usage
                );
            }
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_price_and_replies_without_counts_are_named() {
        let mut account = Account {
            prices: Some(Prices {
                prompt: 30.0,
                completion: 60.0,
            }),
            calls: 3,
            ..Account::default()
        };
        let reply = |prompt_tokens, reason: &str| Reply {
            content: Some("x".into()),
            finish_reason: Some(reason.into()),
            usage: Some(Usage {
                prompt_tokens,
                completion_tokens: 50_000,
            }),
            ..Reply::default()
        };
        account.answered(&reply(100_000, "stop"), true);
        account.answered(&reply(200_000, "length"), false);
        account.answered(&Reply::default(), true);
        assert_eq!(
            account.report(),
            "3 calls: 2 answered now, 1 from the cache, 0 missing; 0 retries\n\
             model: not given 3\n\
             answers end by: length 1, not given 1, stop 1\n\
             answers without text: 1\n\
             tokens now: 100000 of prompts, 50000 of answers, cost 6.0000 (1 replies uncounted)\n\
             tokens in all: 300000 of prompts, 100000 of answers, cost 15.0000 (1 replies uncounted)\n"
        );
    }
}

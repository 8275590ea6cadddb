//! Many calls of a hosted judge: from the cache, or from the server and into the cache.

use super::account::{Account, Prices};
use super::cache::{Cache, Entry, Found};
use super::client::{Client, send_all};
use super::failure::Failure;
use super::key::{ApiKey, Call, CallKey, Scope};
use super::reply::Reply;
use super::request::{Finished, Request};
use super::retry::Patience;
use super::settings::ServerSettings;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

/// A hosted judge with the cache of its answers.
#[derive(Clone, Debug)]
pub struct JudgeServer {
    pub settings: ServerSettings,
    pub scope: Scope,
    pub cache: Cache,
    /// The environment variable with the API key; `None` if the server needs none. It is read when
    /// the first request is sent.
    pub key_variable: Option<String>,
    pub patience: Patience,
    /// The most requests under way at once.
    pub concurrency: usize,
    /// The share of calls that may be missing, from 0 to 1.
    pub most_missing: f64,
    pub prices: Option<Prices>,
}

/// The reading of a judge's replies.
pub struct Asking<'a> {
    /// The parser's name with its version, which stands in the keys of answers.
    pub parser: &'a str,
    /// The parser. Its result is kept beside the raw reply.
    pub parse: &'a dyn Fn(&Reply) -> Value,
    /// Receives the account after every call.
    pub progress: &'a mut dyn FnMut(&Account),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub reply: Reply,
    /// The result of the parser.
    pub parsed: Value,
    /// The time at which it came, in seconds since 1970.
    pub received: f64,
}

/// An answer, or the reason why a call has none.
pub type Outcome = std::result::Result<Answer, String>;

impl JudgeServer {
    /// A judge that is asked with the default patience, eight requests at once, and may leave no
    /// call without an answer.
    pub fn new(settings: ServerSettings, cache: Cache) -> Self {
        Self {
            settings,
            scope: Scope::default(),
            cache,
            key_variable: None,
            patience: Patience::default(),
            concurrency: 8,
            most_missing: 0.0,
            prices: None,
        }
    }

    /// The outcomes of `calls`, in their order, and the account of the run.
    ///
    /// # Errors
    /// Settings out of range, an API key that is not set, a cache that cannot be written, a failure
    /// that concerns every call (a wrong key, no quota), and more missing calls than may be. What
    /// was answered is in the cache by then.
    pub fn ask<'a>(
        &'a self,
        calls: &'a [Call],
        asking: Asking<'a>,
    ) -> Result<(Vec<Outcome>, Account)> {
        self.settings.check()?;
        if !(0.0..=1.0).contains(&self.most_missing) {
            return Err(Error::configuration(format!(
                "{} is not a share of calls that may be missing",
                self.most_missing
            ))
            .hint("give a number from 0 to 1"));
        }
        let mut run = Run {
            judge: self,
            calls,
            keys: calls
                .iter()
                .map(|call| self.key(call, asking.parser))
                .collect(),
            outcomes: vec![None; calls.len()],
            account: Account {
                calls: calls.len(),
                prices: self.prices,
                ..Account::default()
            },
            asking,
            first_missing: None,
            stopped_by: None,
        };
        let wanted = run.look_up()?;
        if !wanted.is_empty() {
            run.send(wanted)?;
        }
        run.finish()
    }

    /// The number of `calls` whose answers are in the cache.
    pub fn cached(&self, calls: &[Call], parser: &str) -> usize {
        let is_here =
            |call: &&Call| matches!(self.cache.find(&self.key(call, parser)), Found::Entry(..));
        calls.iter().filter(is_here).count()
    }

    fn key(&self, call: &Call, parser: &str) -> CallKey {
        CallKey::new(&self.settings, self.scope, parser, call)
    }
}

/// The state of one [`JudgeServer::ask`].
struct Run<'a> {
    judge: &'a JudgeServer,
    calls: &'a [Call],
    keys: Vec<CallKey>,
    outcomes: Vec<Option<Outcome>>,
    account: Account,
    asking: Asking<'a>,
    first_missing: Option<(usize, Failure)>,
    /// A failure after which nothing more was sent.
    stopped_by: Option<(usize, Failure)>,
}

impl Run<'_> {
    /// Takes the answers that are in the cache, and returns the indices of the calls to send, each
    /// with those of equal calls.
    fn look_up(&mut self) -> Result<Vec<Vec<usize>>> {
        let mut equal: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, key) in self.keys.iter().enumerate() {
            equal.entry(&key.blake3).or_default().push(index);
        }
        let mut groups: Vec<Vec<usize>> = equal.into_values().collect();
        groups.sort();
        let mut wanted = Vec::new();
        for group in groups {
            match self.judge.cache.find(&self.keys[group[0]]) {
                Found::Entry(entry, reply) => self.take(&group, *entry, reply)?,
                Found::Absent => wanted.push(group),
                Found::Damaged => {
                    self.account.damaged += 1;
                    wanted.push(group);
                }
            }
        }
        (self.asking.progress)(&self.account);
        Ok(wanted)
    }

    /// Takes an answer out of the cache.
    fn take(&mut self, group: &[usize], entry: Entry, reply: Reply) -> Result<()> {
        let parsed = (self.asking.parse)(&reply);
        if parsed != entry.parsed {
            return Err(Error::internal(format!(
                "{}: the parser {} reads {parsed} in an answer in which it read {} before",
                self.calls[group[0]].name, self.asking.parser, entry.parsed
            ))
            .hint("raise the version in the parser's name"));
        }
        let answer = Answer {
            reply,
            parsed,
            received: entry.received,
        };
        self.answered(group, answer, false);
        Ok(())
    }

    fn answered(&mut self, group: &[usize], answer: Answer, new: bool) {
        for (place, index) in group.iter().enumerate() {
            self.account.answered(&answer.reply, new && place == 0);
            self.outcomes[*index] = Some(Ok(answer.clone()));
        }
    }

    fn send(&mut self, groups: Vec<Vec<usize>>) -> Result<()> {
        let judge = self.judge;
        let key = judge.key_variable.as_deref().map(ApiKey::of_environment);
        let client = Client::new(&judge.settings, key.transpose()?, judge.patience)?;
        let request = |(index, group): (usize, &Vec<usize>)| {
            let call = &self.calls[group[0]];
            let body = judge.settings.body(&call.messages, call.repetition);
            let hash = blake3::hash(self.keys[group[0]].blake3.as_bytes());
            Request {
                index,
                body: body.into(),
                seed: hash.as_bytes()[..8]
                    .iter()
                    .fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
            }
        };
        let requests = groups.iter().enumerate().map(request).collect();
        send_all(&Arc::new(client), requests, judge.concurrency, |finished| {
            let go_on = self.finished(&groups[finished.index], finished)?;
            (self.asking.progress)(&self.account);
            Ok(go_on)
        })
    }

    /// Keeps the result of a request; breaks if no more should be sent.
    fn finished(&mut self, group: &[usize], finished: Finished) -> Result<ControlFlow<()>> {
        let key = &self.keys[group[0]];
        let failure = finished.result.as_ref().err();
        self.account.tried(&finished.attempts, failure);
        let mut attempts = self.judge.cache.take_failure(key)?;
        attempts.extend(finished.attempts);
        match finished.result {
            Ok(received) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let answer = Answer {
                    parsed: (self.asking.parse)(&received.reply),
                    reply: received.reply,
                    received: now.unwrap_or_default().as_secs_f64(),
                };
                let entry = Entry {
                    identity: key.identity.clone(),
                    raw: received.raw,
                    received: answer.received,
                    request_id: received.request_id,
                    parsed: answer.parsed.clone(),
                    attempts,
                };
                self.judge.cache.keep(key, &entry)?;
                self.answered(group, answer, true);
                Ok(ControlFlow::Continue(()))
            }
            Err(failure) => {
                self.judge.cache.keep_failure(key, &attempts)?;
                // Of equal calls, the first has been counted.
                self.account.missing += group.len() - 1;
                for index in group {
                    self.outcomes[*index] = Some(Err(failure.to_string()));
                }
                let too_many = self.account.missing > self.most_missing();
                if failure.concerns_all() || too_many {
                    self.stopped_by.get_or_insert((group[0], failure.clone()));
                }
                self.first_missing.get_or_insert((group[0], failure));
                Ok(match self.stopped_by {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                })
            }
        }
    }

    fn most_missing(&self) -> usize {
        (self.judge.most_missing * self.calls.len() as f64).floor() as usize
    }

    fn finish(self) -> Result<(Vec<Outcome>, Account)> {
        if let Some((index, failure)) = &self.stopped_by {
            return Err(self.error(*index, failure));
        }
        let outcomes: Option<Vec<Outcome>> = self.outcomes.into_iter().collect();
        let outcomes = outcomes.ok_or_else(|| Error::internal("a call has no outcome"))?;
        Ok((outcomes, self.account))
    }

    fn error(&self, index: usize, failure: &Failure) -> Error {
        let (settings, account) = (&self.judge.settings, &self.account);
        let (index, failure) = match (failure.concerns_all(), &self.first_missing) {
            (false, Some((first, failure))) => (*first, failure),
            _ => (index, failure),
        };
        let here = account.from_cache + account.asked;
        let message = format!(
            "the judge {} at {} has not answered {}",
            settings.model, settings.base_url, self.calls[index].name
        );
        Error::server(message).caused_by(failure.to_string()).hint(format!(
            "{}. {here} of {} answers are in {} and are not asked for again; {} may be missing (--max-missing)",
            failure.hint(),
            account.calls,
            self.judge.cache.folder().display(),
            match self.most_missing() {
                0 => "none".to_owned(),
                most => most.to_string(),
            },
        ))
    }
}

//! The options of a judge that a server hosts.

use crate::judges::http::Distribution;
use crate::judges::http::{
    Cache, ChatSampling, JudgeServer, Patience, Prices, Scope, ServerSettings, TokenLimit,
};
use crate::{Error, Result};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// Address of the server before /chat/completions, as https://api.openai.com/v1 or
    /// http://localhost:8000/v1
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// The judge by the name that the server knows
    #[arg(long, value_name = "NAME")]
    judge_model: String,
    /// Environment variable with the API key, as OPENAI_API_KEY; without it no key is sent
    #[arg(long, value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Folder that keeps every answer of the judge; answers in it are not asked for again
    #[arg(long, value_name = "DIR", default_value = "judge-cache")]
    cache: PathBuf,
    /// Take answers of the same model from any server
    #[arg(long)]
    any_server: bool,
    /// Temperature of the judge
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    judge_temperature: f64,
    /// Nucleus mass of the judge
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    judge_top_p: f64,
    /// Send neither temperature nor top-p, which reasoning models refuse
    #[arg(long, conflicts_with_all = ["judge_temperature", "judge_top_p"])]
    no_temperature: bool,
    /// Most tokens of a judgment
    #[arg(long, value_name = "N", default_value = "2048")]
    judge_max_tokens: NonZeroU32,
    /// Send that number as max_completion_tokens, which reasoning models want
    #[arg(long)]
    max_completion_tokens: bool,
    /// Seed of the judge; repetition r has the seed plus r
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    judge_seed: u64,
    /// Send no seed
    #[arg(long, conflicts_with = "judge_seed")]
    no_seed: bool,
    /// A further field of the request, as cache_prompt=false or top_k=0; may be repeated
    #[arg(long, value_name = "NAME=JSON", value_parser = field)]
    extra: Vec<(String, Value)>,
    /// Most requests at once
    #[arg(long, value_name = "N", default_value = "8")]
    concurrency: NonZeroUsize,
    /// Most tries of a request, the first included
    #[arg(long, value_name = "N", default_value = "8")]
    tries: NonZeroU32,
    /// Seconds in which a whole answer must come
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    timeout: NonZeroU32,
    /// Share of calls that may stay without an answer, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    max_missing: f64,
    /// Price of a million tokens of prompts, for the account
    #[arg(long, value_name = "PRICE", requires = "price_completion")]
    price_prompt: Option<f64>,
    /// Price of a million tokens of answers, for the account
    #[arg(long, value_name = "PRICE", requires = "price_prompt")]
    price_completion: Option<f64>,
}

/// Reads `name=JSON`; a value that is not JSON is a text.
fn field(text: &str) -> std::result::Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=JSON")?;
    match name.is_empty() {
        true => Err("the field has no name".to_owned()),
        false => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((name.to_owned(), value))
        }
    }
}

impl ServerArgs {
    /// The judge's name.
    pub fn model(&self) -> &str {
        &self.judge_model
    }

    /// The judge.
    ///
    /// # Errors
    /// Settings out of range, and a field that is given twice.
    pub fn open(&self) -> Result<JudgeServer> {
        let mut extra = BTreeMap::new();
        for (name, value) in &self.extra {
            if extra.insert(name.clone(), value.clone()).is_some() {
                return Err(
                    Error::configuration(format!("--extra {name} is given twice"))
                        .hint("leave out one of them"),
                );
            }
        }
        let sampling = ChatSampling {
            distribution: (!self.no_temperature).then_some(Distribution {
                temperature: self.judge_temperature,
                top_p: self.judge_top_p,
            }),
            max_tokens: self.judge_max_tokens.get(),
            limit: match self.max_completion_tokens {
                true => TokenLimit::MaxCompletionTokens,
                false => TokenLimit::MaxTokens,
            },
            seed: (!self.no_seed).then_some(self.judge_seed),
            stop: Vec::new(),
            top_logprobs: None,
            extra,
        };
        let settings = ServerSettings {
            base_url: self.base_url.clone(),
            model: self.judge_model.clone(),
            sampling,
        };
        settings.check()?;
        let prices = self.price_prompt.zip(self.price_completion);
        Ok(JudgeServer {
            settings,
            scope: match self.any_server {
                true => Scope::Any,
                false => Scope::Server,
            },
            cache: Cache::new(&self.cache),
            key_variable: self.api_key_env.clone(),
            patience: Patience {
                tries: self.tries.get(),
                timeout: Duration::from_secs(self.timeout.get().into()),
                ..Patience::default()
            },
            concurrency: self.concurrency.get(),
            most_missing: self.max_missing,
            prices: prices.map(|(prompt, completion)| Prices { prompt, completion }),
        })
    }
}

//! Judges that a server hosts behind the chat-completions API: OpenAI, vLLM, SGLang, llama.cpp, TGI
//! and `transformers serve`.
//!
//! ```text
//! Call {messages, template, repetition} ─▶ Key ─▶ Cache ─── found ──────────────▶ Reply ─▶ parse
//!                                                   └── absent ─▶ Client ─▶ server ─┘
//! ```
//!
//! [`JudgeServer::ask`] answers many calls at once. A call has an answer or is missing with its
//! reason, and a run with more missing calls than were declared ends with an error. Every answer is
//! kept in a [`Cache`] under the hash of all that can move it, so that a run that was interrupted
//! goes on and a second run asks nothing.

mod account;
mod ask;
mod cache;
#[cfg(feature = "http")]
mod client;
#[cfg(not(feature = "http"))]
#[path = "no_client.rs"]
mod client;
mod failure;
mod key;
mod pointwise;
mod reply;
mod request;
mod retry;
mod settings;

pub use account::{Account, Prices, Tokens};
pub use ask::{Answer, Asking, JudgeServer, Outcome};
pub use cache::{Cache, Entry};
pub use failure::{Attempt, Failure, FailureKind};
pub use key::{ApiKey, Call, CallKey, Message, Scope, Template};
pub use pointwise::{HttpJudge, KEY_VARIABLE};
pub use reply::{Reply, Usage};
pub use retry::Patience;
pub use settings::{ChatSampling, Distribution, ServerSettings, TokenLimit};

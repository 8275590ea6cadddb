//! Conversations: rows of messages, the chat templates that turn them into text, and their tokens
//! with a loss mask.
//!
//! ```text
//! row ─▶ Conversation ─▶ ChatTemplate::render ─▶ text ─▶ ChatEncoder ─▶ Encoded {ids, supervised} ─▶ Sequence
//!        roles in order   as transformers does            one BOS, whole turns, the end of turn supervised
//! ```
//!
//! No default changes numbers silently: [`ChatRules`] states the rule for system messages, the
//! turns that are trained on, the treatment of control tokens' names in messages, and the treatment
//! of a conversation that is too long.

mod conversation;
mod encode;
mod fit;
mod jinja;
mod python_values;
mod template;
mod tojson;
mod tokens;
mod turns;

pub use conversation::{Conversation, ConversationPair, Message, Role};
pub use encode::{ChatEncoder, ChatRules, Encoded, Loss, SystemRule};
pub use fit::TooLong;
pub use template::{ChatTemplate, Rendered, SpecialTokens};
pub use tokens::ControlNames;

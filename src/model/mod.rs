//! Models: architectures with the names of Hugging Face's `config.json`, their heads, checkpoints, batches and sampling.
//! Nothing here knows a training method.

pub mod batch;
pub mod checkpoint;
mod contents;
pub mod footprint;
pub mod generate;
pub mod gpt_neox;
pub mod heads;
pub mod layer;
pub mod layout;
pub mod lora;
pub mod names;
pub mod passes;
pub mod tape;
pub mod tokenizer;
pub mod weights;

pub use batch::{Batch, Pair, Sequence};
pub use generate::{Generated, Sampling};
pub use gpt_neox::{Computation, GptNeoXConfig};
pub use heads::{LanguageModel, RewardModel};
pub use passes::Passes;
pub use tokenizer::{Ends, ModelTokenizer, TokenIds};

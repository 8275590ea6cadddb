//! Models: architectures with the names of Hugging Face's `config.json`, their heads, checkpoints,
//! batches and sampling. This room does not depend on any training method.

pub mod arch;
pub mod batch;
pub mod checkpoint;
pub(crate) mod contents;
pub mod continuations;
pub mod decoder;
pub mod footprint;
pub mod generate;
pub mod heads;
pub mod layout;
pub mod names;
pub mod nn;
pub mod packed;
pub mod passes;
pub mod tape;
pub mod tokenizer;
pub mod weights;

pub use arch::DecoderConfig;
pub use batch::{Batch, Pair, Sequence, read_together, rows_read_together};
pub use decoder::{Computation, Decoder};
pub use generate::{Generated, Sampling};
pub use heads::{LanguageModel, RewardModel};
pub use packed::Packed;
pub use passes::Passes;
pub use tokenizer::{Ends, ModelTokenizer, TokenIds};

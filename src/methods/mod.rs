//! Methods, one file each, to be read top to bottom beside the paper: settings, the loss with the
//! equation's number, and the loop.

pub mod best_of_n;
pub mod dpo;
pub mod filtered_bc;
pub mod grpo;
pub mod iq_learn;
pub mod irl;
pub mod optimise;
pub mod ppo;
pub mod pretrain;
pub mod reward;
pub mod rloo;
pub mod rollout;
pub mod sft;
pub mod spin;
pub mod training;
pub mod tune;

/// A value that does not fit the other values of its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    /// The values that would fit, as the end of the sentence "it must be".
    pub expected: String,
    pub found: String,
}

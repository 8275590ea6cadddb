//! The paper's Algorithm 1, from the SFT policy π_0:
//!
//! ```text
//! for t = 0, 1, …
//!     P_t      = { (x, demonstration y, sample ỹ ~ π_t) }             stage `pairs`
//!     θ_t      = reward from the SFT policy on P_0 ∪ … ∪ P_t          stage `reward`, eq. 11 or 10  (methods/reward.rs)
//!     π_{t+1}  = argmax_π E r(·; θ_t) − β·KL(π ‖ π_SFT), from π_t     the policy step, eq. 9        (methods/ppo.rs)
//! ```
//!
//! The paper leaves open which routine solves eq. 9: its TL;DR half runs PPO, its 7B half Best-of-N
//! followed by SFT. RLOO, GRPO and DPO on samples that θ_t orders are further routines. The steps
//! are separate stages, because RLHF and the controls share them; the planner lays out the loop
//! (`plan/rounds.rs`). This file has the settings of the loop. The defaults of
//! `experiments/tldr.toml` follow the paper's equations; the authors' released script differs in
//! `accumulate`, `anchor` and the temperature of the negatives, and their manual runs differ in
//! `select`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The earlier pairs on which iteration t's reward is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accumulate {
    /// P_0 ∪ … ∪ P_t.
    All,
    /// P_t alone.
    Last,
    /// P_{t−1} ∪ P_t, as SPIN's published runs do.
    LastTwo,
    /// P_0 alone at t = 0, P_1 ∪ … ∪ P_t afterwards, as in the authors' script.
    DropFirst,
}

impl Accumulate {
    /// The iterations on whose pairs iteration `t` (from 0) trains.
    pub fn iterations(self, t: usize) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::All => 0..=t,
            Self::Last => t..=t,
            Self::LastTwo => t.saturating_sub(1)..=t,
            Self::DropFirst => t.min(1)..=t,
        }
    }
}

/// The policy to which the KL penalty of eq. 9 refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The SFT policy, as eq. 9 says.
    Sft,
    /// The previous iterate, as the authors' code does.
    Previous,
}

/// The routine that solves eq. 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyStep {
    /// [`ppo`](super::ppo), as the paper's TL;DR half does.
    Ppo,
    /// [`rloo`](super::rloo).
    Rloo,
    /// [`grpo`](super::grpo).
    Grpo,
    /// SFT on the best of n samples ([`best_of_n`](super::best_of_n)), as the paper's 7B half does.
    BestOfN,
    /// [`dpo`](super::dpo) on two samples per prompt, which the reward orders.
    Dpo,
}

/// The starting point of the reward of iteration t ≥ 1; that of iteration 0 starts from the SFT
/// policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardInit {
    /// The SFT policy with a fresh head, as the authors' code does.
    Sft,
    /// The reward of iteration t − 1. The authors' code has this option, but loads the SFT policy
    /// nevertheless.
    Previous,
}

/// The iteration whose policy is the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The last one.
    Last,
    /// The iteration with the highest gold score on validation posts, as chosen in the authors'
    /// manual runs: an oracle that is unavailable to methods without labels, offered to measure its
    /// effect.
    ValidationGold,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IrlSettings {
    #[schemars(range(min = 1))]
    pub iterations: usize,
    pub accumulate: Accumulate,
    pub anchor: Anchor,
    /// Temperature of the negatives ỹ ~ π_t.
    #[schemars(range(min = 0.0))]
    pub negatives_temperature: f32,
    /// Negatives per demonstration and iteration.
    #[schemars(range(min = 1))]
    pub negatives: usize,
    pub policy_step: PolicyStep,
    /// Updates of a policy step in units of `ppo.updates`, `rloo.updates` or `grpo.updates`.
    #[schemars(range(min = 1))]
    pub policy_rounds: usize,
    pub reward_start: RewardInit,
    pub select: Select,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accumulation_is_as_the_sources_have_it() {
        let spans = |rule: Accumulate| {
            (0..4)
                .map(|t| rule.iterations(t).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            spans(Accumulate::All),
            [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]]
        );
        assert_eq!(
            spans(Accumulate::Last),
            [vec![0], vec![1], vec![2], vec![3]]
        );
        assert_eq!(
            spans(Accumulate::LastTwo),
            [vec![0], vec![0, 1], vec![1, 2], vec![2, 3]]
        );
        assert_eq!(
            spans(Accumulate::DropFirst),
            [vec![0], vec![1], vec![1, 2], vec![1, 2, 3]]
        );
    }
}

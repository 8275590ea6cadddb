//! The paper's Algorithm 1: alternate reward learning (eq. 11 or 10) and a policy step (eq. 9).

use serde::{Deserialize, Serialize};

/// Which earlier pairs iteration t's reward is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accumulate {
    /// P_0 ∪ … ∪ P_t.
    All,
    /// P_t alone.
    Last,
    /// The authors' script: P_0 alone at t = 0, P_1 ∪ … ∪ P_t after.
    DropFirst,
}

/// Which policy the KL penalty of eq. 9 refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The SFT policy, as eq. 9 says.
    Sft,
    /// The previous iterate, as the authors' code does.
    Previous,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrlSettings {
    pub iterations: usize,
    pub accumulate: Accumulate,
    pub anchor: Anchor,
    /// Temperature of the negatives ỹ ~ π_t.
    pub negatives_temperature: f32,
    /// Negatives per demonstration and iteration.
    pub negatives: usize,
}

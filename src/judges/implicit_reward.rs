//! The implicit reward of SPIN and DPO: the log-ratio of a policy and its reference. The methods'
//! factor β is left out, because it ranks nothing differently.

use super::{Identity, Judge, Row, Sources, sequences, widened};
use crate::Result;
use crate::methods::dpo::sequence_log_probs;
use crate::model::layout::Head;
use crate::model::{LanguageModel, Passes};

/// log π(y|x) − log π_ref(y|x), summed over the response.
pub struct ImplicitReward {
    /// π.
    pub policy: LanguageModel,
    /// π_ref.
    pub reference: LanguageModel,
}

impl Judge for ImplicitReward {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        let rows = sequences(rows)?;
        let rows: Vec<_> = rows.iter().collect();
        let own = sequence_log_probs(&self.policy, &rows)?;
        let base = sequence_log_probs(&self.reference, &rows)?;
        Ok(widened(own.iter().zip(base).map(|(p, q)| p - q).collect()))
    }

    fn passes(&self, rows: &[Row]) -> Result<Passes> {
        let rows = sequences(rows)?;
        Ok(Passes::likelihood(self.policy.config(), &rows)
            + Passes::likelihood(self.reference.config(), &rows))
    }
}

/// The identity of the implicit reward of the policy under study.
pub(super) struct Implicit;

impl Identity for Implicit {
    fn reads(&self) -> &'static [Head] {
        &[Head::LanguageModel, Head::LanguageModel]
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        Ok(Box::new(ImplicitReward {
            policy: from.policy()?,
            reference: from.reference()?,
        }))
    }
}

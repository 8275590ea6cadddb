//! The log-probability of the whole response under a language model.

use super::{Identity, Judge, Row, Sources, sequences, widened};
use crate::Result;
use crate::methods::dpo::sequence_log_probs;
use crate::model::layout::Head;
use crate::model::{LanguageModel, Passes};

/// log π(y|x), summed over the response.
pub struct LogProbability {
    /// π.
    pub policy: LanguageModel,
}

impl Judge for LogProbability {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        let rows = sequences(rows)?;
        let rows: Vec<_> = rows.iter().collect();
        Ok(widened(sequence_log_probs(&self.policy, &rows)?))
    }

    fn passes(&self, rows: &[Row]) -> Result<Passes> {
        Ok(Passes::likelihood(self.policy.config(), &sequences(rows)?))
    }
}

/// The identity of the log-probability under the policy under study.
pub(super) struct Likelihood;

impl Identity for Likelihood {
    fn reads(&self) -> &'static [Head] {
        &[Head::LanguageModel]
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        Ok(Box::new(LogProbability {
            policy: from.policy()?,
        }))
    }
}

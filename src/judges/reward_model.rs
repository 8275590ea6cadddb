//! Reward models: r(x, y) of a scalar head on a decoder, trained here or published.

use super::{Identity, Judge, Row, Sources, sequences, widened};
use crate::data::TextEncoder;
use crate::methods::reward::score;
use crate::model::checkpoint::Normalisation;
use crate::model::layout::Head;
use crate::model::{Passes, RewardModel, Sequence};
use crate::{Error, Result};

/// A reward model as a judge.
pub struct Reward {
    pub model: RewardModel,
    /// Constants that turn scores into deviations over the model's own training responses; `None`
    /// leaves them raw.
    pub normalisation: Option<Normalisation>,
    /// The encoder of the model's own tokenizer, by which it reads text; `None` if it reads the
    /// tokens of the policy under study.
    pub encoder: Option<TextEncoder>,
}

impl Reward {
    fn sequences(&self, rows: &[Row]) -> Result<Vec<Sequence>> {
        let Some(encoder) = &self.encoder else {
            return sequences(rows);
        };
        rows.iter()
            .map(|(prompt, response)| {
                if prompt.is_encoded {
                    return Err(Error::internal(
                        "a reward model was given the text of another model's chat template",
                    ));
                }
                // A response that did not end is scored without an end token.
                let mut ids = encoder.response(&response.text)?.ids;
                if !response.ended && ids.last().is_some_and(|id| encoder.ends().contains(*id)) {
                    ids.pop();
                }
                Ok(Sequence::new(encoder.prompt(prompt.text)?, ids))
            })
            .collect()
    }
}

impl Judge for Reward {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        let rows = self.sequences(rows)?;
        let scores = score(&self.model, &rows.iter().collect::<Vec<_>>())?;
        Ok(widened(match &self.normalisation {
            None => scores,
            Some(normalisation) => normalisation.rewards(&scores)?,
        }))
    }

    fn passes(&self, rows: &[Row]) -> Result<Passes> {
        Ok(Passes::score(self.model.config(), &self.sequences(rows)?))
    }

    fn low(&self) -> Option<f32> {
        self.normalisation.map(|normalisation| normalisation.low)
    }
}

/// The identity of a reward model whose scores are normalised.
pub(super) struct Learned;

impl Identity for Learned {
    fn reads(&self) -> &'static [Head] {
        &[Head::Reward]
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        let (model, normalisation) = from.reward_model()?;
        Ok(Box::new(Reward {
            model,
            normalisation: Some(normalisation),
            encoder: None,
        }))
    }
}

/// The identity of a reward model whose scores are raw.
pub(super) struct Explicit;

impl Identity for Explicit {
    fn reads(&self) -> &'static [Head] {
        &[Head::Reward]
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        Ok(Box::new(Reward {
            model: from.reward_model()?.0,
            normalisation: None,
            encoder: None,
        }))
    }
}

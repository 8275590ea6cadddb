//! The gold reward of the embedded world, which is known exactly.

use super::{Identity, Judge, Row, Sources};
use crate::data::world::{Place, Split, World, WorldAt};
use crate::model::layout::Head;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The gold reward of responses to the posts of one split.
pub struct Gold {
    pub world: Box<dyn World>,
    pub split: Split,
    /// Seed of the posts.
    pub seed: u64,
    /// Mean and deviation that centre and scale gold; `None` leaves it in [0, 1].
    pub scale: Option<(f32, f32)>,
}

impl Judge for Gold {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        rows.iter()
            .map(|(prompt, response)| {
                let index = prompt.post.ok_or_else(|| {
                    Error::data("gold is known for posts of the embedded world alone")
                })?;
                let place = Place::new(self.split, self.seed, index);
                let gold = self.world.gold(place, &response.text, response.ended);
                Ok(match self.scale {
                    None => gold,
                    Some((mean, std)) => f64::from((gold as f32 - mean) / std),
                })
            })
            .collect()
    }

    /// One more than the score of no gold at all; `None` without a scale.
    fn low(&self) -> Option<f32> {
        self.scale.map(|(mean, std)| -mean / std + 1.0)
    }

    fn counts_ends(&self) -> bool {
        true
    }

    fn divides_by_tokens(&self) -> bool {
        false
    }
}

/// The gold of a seed's own demonstration posts on the scale of a policy step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaledGold {
    pub world: Box<WorldAt>,
    pub mean: f32,
    pub std: f32,
}

impl Identity for ScaledGold {
    fn reads(&self) -> &'static [Head] {
        &[]
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        Ok(Box::new(Gold {
            world: self.world.open()?,
            split: Split::Demonstrations,
            seed: from.seed()?,
            scale: Some((self.mean, self.std)),
        }))
    }
}

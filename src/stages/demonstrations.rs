//! Stage `demonstrations`: one answer to each of the seed's own prompts of the embedded world, by
//! an author of the configured quality.

use super::{NoInputs, Stage};
use crate::Result;
use crate::data::rows::{self, Demonstration};
use crate::data::world::{Place, Split, World, WorldAt};
use crate::pipeline::StageContext;
use crate::rng::stream;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demonstrations {
    pub world: WorldAt,
    pub count: usize,
    pub quality: f64,
}

impl Stage for Demonstrations {
    const KIND: &'static str = "demonstrations";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let (world, seed) = (self.world.open()?, context.seed()?);
        let row = |index| demonstration(&*world, self.quality, seed, index);
        rows::write(
            &context.out().join("demonstrations.jsonl"),
            (0..self.count as u64).map(row),
        )
    }
}

/// Demonstration `index` of those that an author of this quality writes under `seed`.
pub fn demonstration(world: &dyn World, quality: f64, seed: u64, index: u64) -> Demonstration {
    let place = Place::new(Split::Demonstrations, seed, index);
    let mut author = stream(seed, "demonstrations/author", &[index]);
    Demonstration {
        id: place.id(),
        prompt: world.prompt(place).into(),
        response: world.answer(place, quality, &mut author).into(),
    }
}

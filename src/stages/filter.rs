//! Stage `filter`: keeps the demonstrations with the highest scores of a reward.

use super::Stage;
use super::common::{demonstrations, encoder, prompts};
use super::scoring::{JudgeInputs, SampleJudge};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows;
use crate::experiment::GenerationSettings;
use crate::judges::JudgeId;
use crate::methods::filtered_bc::{FilteredBcSettings, keep_best};
use crate::methods::training::Dtype;
use crate::model::Generated;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub generation: GenerationSettings,
    pub filtered_bc: FilteredBcSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FilterInputs {
    pub reward: StageKey,
    pub demonstrations: StageKey,
}

impl Stage for Filter {
    const KIND: &'static str = "filter";
    const VERSION: u32 = 1;
    type Inputs = FilterInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        work::reading(
            &[(sizes.shapes(&self.generation), true)],
            1,
            sizes.rows,
            Precision::from(self.dtype),
        )
    }

    fn run(self, inputs: FilterInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.reward, &self.generation)?;
        let all = demonstrations(context, &inputs.demonstrations)?;
        let prompts = prompts(&all, &encoder)?;
        let responses = all
            .iter()
            .map(|row| encoder.response(&row.response))
            .collect::<Result<Vec<_>>>()?;
        let responses: Vec<_> = responses
            .into_iter()
            .map(|row| Generated {
                ids: row.ids,
                ended: row.ended,
            })
            .collect();
        let sources = JudgeInputs {
            context,
            dtype: self.dtype,
            reward: Some(inputs.reward),
            policy: None,
            reference: None,
        };
        let judge = SampleJudge::open(&JudgeId::Learned, &sources, &encoder, &all, &prompts)?;
        let scores = judge.scores(&responses)?;
        let kept = keep_best(&scores, self.filtered_bc.keep);
        rows::write(
            &context.out().join("demonstrations.jsonl"),
            kept.into_iter().map(|place| &all[place]),
        )
    }
}

//! Stage `hub_demonstrations`: rows of a data set as the study's task reads them, without held-out
//! prompts, with the responses of a demonstrator, or with their own (the human summaries of posts,
//! the answers of conversations) if there is no demonstrator.

use super::Stage;
use super::common::{encoder, frozen, sample, sampling, task, write_json};
use super::dataset::pinned;
use super::held_out::{PROMPTS, choose, held_out, write_duplicates};
use super::work::{self, Precision, Shapes, Work};
use crate::data::rows::{self, Demonstration};
use crate::data::split::{self, Prompts};
use crate::eval::evaluation_set::EVALUATION_SEED;
use crate::experiment::{DataSources, GenerationSettings, Hyper};
use crate::methods::training::Dtype;
use crate::model::DecoderConfig;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{permutation, stream};
use crate::tasks::{Example, TaskSettings};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubDemonstrations {
    pub part: HubPart,
    pub count: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    /// Sampling temperature of the demonstrator, if there is one.
    pub temperature: f32,
    #[serde(default, skip_serializing_if = "TaskSettings::is_default")]
    pub task: TaskSettings,
}

/// A part of a hub's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HubPart {
    /// A random choice from the split for training, different for each seed.
    Training,
    /// The first rows of the split for tests, the same for every seed.
    EvaluationSet,
}

impl HubPart {
    /// The split by the name that published data sets of the task's rows give it.
    pub fn split(self, task: &TaskSettings) -> &'static str {
        match (self, task) {
            (Self::Training, TaskSettings::Summarization) => "train",
            (Self::Training, TaskSettings::Chat(_)) => "train_sft",
            (Self::EvaluationSet, TaskSettings::Summarization) => "test",
            (Self::EvaluationSet, TaskSettings::Chat(_)) => "test_sft",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HubDemonstrationsInputs {
    pub posts: StageKey,
    /// The model whose tokenizer measures the length of a prompt.
    pub tokenizer: StageKey,
    /// The model whose responses are the demonstrations.
    pub demonstrator: Option<StageKey>,
    /// Stages whose prompts are left out.
    #[serde(default)]
    pub held_out: Vec<StageKey>,
}

impl Stage for HubDemonstrations {
    const KIND: &'static str = "hub_demonstrations";
    const VERSION: u32 = 3;
    type Inputs = HubDemonstrationsInputs;
    /// The demonstrator's shape, if there is one.
    type Sizes<'a> = Option<&'a DecoderConfig>;

    fn work(&self, demonstrator: Option<&DecoderConfig>) -> Work {
        demonstrator.map_or_else(Work::default, |config| {
            let shapes = Shapes {
                config,
                generation: &self.generation,
            };
            work::sampling(shapes, self.count, Precision::from(self.dtype))
        })
    }

    fn run(self, inputs: HubDemonstrationsInputs, context: &StageContext) -> Result<()> {
        let name = match self.part {
            HubPart::Training => "demonstrations.jsonl",
            HubPart::EvaluationSet => "held_out.jsonl",
        };
        let task = task(context, &inputs.tokenizer, &self.generation, &self.task)?;
        let (set, source) = pinned(context, &inputs.posts)?;
        let (split, rows) = (self.part.split(&self.task), self.task.rows());
        let available = set.len()?;
        if available < self.count {
            return Err(Error::data(format!(
                "{source} has {available} {rows} in `{split}`, not {}",
                self.count
            ))
            .hint("lower demonstrations.count or evaluation.posts"));
        }
        let usable = task.usable_demonstrations(&set)?;
        let order: Vec<usize> = match self.part {
            HubPart::Training => permutation(usable.len(), context.seed()?, "hub/posts", 0)
                .into_iter()
                .map(|position| usable[position])
                .collect(),
            HubPart::EvaluationSet => usable.into_iter().take(self.count).collect(),
        };
        let (held_out, mut prompts) = (held_out(context, &inputs.held_out)?, Prompts::default());
        let take = |wanted: &BTreeSet<usize>| {
            let mut taken = BTreeMap::new();
            for Example { index, whole, row } in
                task.demonstrations(&set, &|index| wanted.contains(&index))?
            {
                let forms = [&whole[..], row.prompt.as_str()];
                if !held_out.contain(&forms) {
                    prompts.insert(&forms);
                    taken.insert(index, row);
                }
            }
            Ok(taken)
        };
        let lacking = |left: usize| match self.task.takes_what_is_left() && left > 0 {
            true => Ok(()),
            false => Err(Error::data(format!(
                "{source} has {left} {rows} in `{split}` whose prompts are not held out, not {}",
                self.count
            ))
            .hint("lower demonstrations.count")),
        };
        let (mut rows, passed_over) = choose(order, self.count, take, lacking)?;
        let forms: Vec<[&str; 2]> = rows.iter().map(|row| [row.prompt.as_str(); 2]).collect();
        write_duplicates(context, &split::groups(&forms), &rows, passed_over)?;
        if self.part == HubPart::EvaluationSet {
            write_json(&context.out().join(PROMPTS), &prompts)?;
        }
        if let Some(demonstrator) = &inputs.demonstrator {
            self.demonstrate(context, demonstrator, &mut rows)?;
        }
        rows::write(&context.out().join(name), rows)
    }
}

impl HubDemonstrations {
    /// The rows of `part` as `task` reads them.
    pub fn new(sources: &DataSources, hyper: &Hyper, task: &TaskSettings, part: HubPart) -> Self {
        let count = match part {
            HubPart::Training => hyper.demonstrations.count,
            HubPart::EvaluationSet => hyper.evaluation.posts,
        };
        let (dtype, temperature) = (hyper.training.dtype, sources.demonstrator_temperature);
        Self {
            part,
            count,
            generation: hyper.generation.clone(),
            dtype,
            temperature,
            task: task.clone(),
        }
    }

    /// Replaces every response by one of the demonstrator.
    fn demonstrate(
        &self,
        context: &StageContext,
        demonstrator: &StageKey,
        rows: &mut [Demonstration],
    ) -> Result<()> {
        let encoder = &encoder(context, demonstrator, &self.generation)?;
        let model = frozen(context, demonstrator, self.dtype)?;
        let prompts = rows
            .iter()
            .map(|row| encoder.prompt(&row.prompt))
            .collect::<Result<Vec<_>>>()?;
        let sampling = sampling(encoder, &self.generation, self.temperature);
        // The evaluation posts are the same for every seed, and their references are too.
        let seed = context.spec.seed.unwrap_or(EVALUATION_SEED);
        let stream = |item: usize| stream(seed, "hub/demonstrator", &[item as u64]);
        let responses = sample(context, &model, &prompts, &sampling, stream)?;
        for (row, response) in rows.iter_mut().zip(responses) {
            let response = encoder.decoded(response.ids, response.ended)?;
            *row = row.clone().answered(response);
        }
        Ok(())
    }
}

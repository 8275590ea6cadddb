//! Stage `comparisons`: labelled pairs of a data set: human comparisons of two summaries, or
//! preferences between two answers in a conversation. With a seed, they are that seed's own random
//! choice, without held-out prompts; without a seed, they are the first ones, and are themselves
//! held out. Responses that are longer than they may be are cut, as everywhere.

use super::Stage;
use super::common::{task, write_json};
use super::dataset::pinned;
use super::held_out::{DUPLICATES, PROMPTS, choose, held_out};
use crate::data::rows;
use crate::data::split::{Duplicates, Prompts, groups};
use crate::experiment::GenerationSettings;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::permutation;
use crate::tasks::{Example, TaskSettings};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparisons {
    pub count: usize,
    pub generation: GenerationSettings,
    #[serde(default, skip_serializing_if = "TaskSettings::is_default")]
    pub task: TaskSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComparisonsInputs {
    pub comparisons: StageKey,
    /// The model whose tokenizer measures the length of a prompt.
    pub base: StageKey,
    /// Stages whose prompts are left out.
    #[serde(default)]
    pub held_out: Vec<StageKey>,
}

impl Stage for Comparisons {
    const KIND: &'static str = "comparisons";
    const VERSION: u32 = 2;
    type Inputs = ComparisonsInputs;
    type Sizes<'a> = ();

    fn run(self, inputs: ComparisonsInputs, context: &StageContext) -> Result<()> {
        let task = task(context, &inputs.base, &self.generation, &self.task)?;
        let (set, source) = pinned(context, &inputs.comparisons)?;
        let available = task.usable_comparisons(&set)?;
        let rows = self.task.rows();
        // Rows that cannot be used are no lack where a study may ask for all of them.
        let there = match self.task.takes_what_is_left() {
            true => set.len()?,
            false => available.len(),
        };
        if there < self.count {
            return Err(Error::data(format!(
                "{source} has {there} comparisons of {rows}, not {}",
                self.count
            ))
            .hint("lower preferences.pairs or evaluation.preference_pairs"));
        }
        let order: Vec<usize> = match context.spec.seed {
            Some(seed) => {
                let order = permutation(available.len(), seed, "comparisons/choice", 0);
                order
                    .into_iter()
                    .map(|position| available[position])
                    .collect()
            }
            None => available.into_iter().take(self.count).collect(),
        };
        let (held_out, mut prompts) = (held_out(context, &inputs.held_out)?, Prompts::default());
        let take = |wanted: &BTreeSet<usize>| {
            let mut taken = BTreeMap::new();
            for Example { index, whole, row } in
                task.comparisons(&set, &|index| wanted.contains(&index))?
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
                "{source} has {left} comparisons of {rows} whose prompts are not held out, not {}",
                self.count
            ))
            .hint("lower preferences.pairs")),
        };
        let (pairs, passed_over) = choose(order, self.count, take, lacking)?;
        let forms: Vec<[&str; 2]> = pairs.iter().map(|pair| [pair.prompt.as_str(); 2]).collect();
        let counts = Duplicates::count(
            &groups(&forms),
            pairs.iter().map(|pair| pair.chosen.text.as_str()),
        );
        write_json(
            &context.out().join(DUPLICATES),
            &Duplicates {
                held_out: passed_over,
                ..counts
            },
        )?;
        if context.spec.seed.is_none() {
            write_json(&context.out().join(PROMPTS), &prompts)?;
        }
        rows::write(
            &context.out().join("pairs.jsonl"),
            pairs.into_iter().filter(|pair| !pair.is_identical()),
        )
    }
}

//! Stage `local_comparisons`: labelled pairs of a local file. A fixed part is held out; no pair for
//! training has a prompt of the evaluation set, and no held-out pair one of a demonstration.

use super::Stage;
use super::common::write_json;
use super::corpus::LocalFile;
use super::held_out::DUPLICATES;
use crate::data::rows::{self, Demonstration};
use crate::data::split::{self, Duplicates, Prompts};
use crate::pipeline::{StageContext, StageKey};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalComparisons {
    #[serde(flatten)]
    pub source: LocalFile,
    pub part: LocalPart,
}

/// A part of a local file's pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalPart {
    Training,
    HeldOut,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalComparisonsInputs {
    /// The demonstrations of the study, with the held-out ones in the same artifact.
    pub demonstrations: StageKey,
}

impl Stage for LocalComparisons {
    const KIND: &'static str = "local_comparisons";
    const VERSION: u32 = 1;
    type Inputs = LocalComparisonsInputs;
    type Sizes<'a> = ();

    fn run(self, inputs: LocalComparisonsInputs, context: &StageContext) -> Result<()> {
        let (set, task) = self.source.open(context)?;
        let examples = task.comparisons(&set, &|_| true)?;
        let forms: Vec<[&str; 2]> = examples
            .iter()
            .map(|example| [&example.whole, example.row.prompt.as_str()])
            .collect();
        let lacking = |left: usize| {
            Error::data(format!(
                "{} has {left} pairs of {} left to use",
                self.source.file.display(),
                examples.len()
            ))
            .hint(
                "a fifth of the pairs is held out, and prompts that --data has on the other side are \
                 left out: give more pairs",
            )
        };
        let groups = split::groups(&forms);
        let (held_out, trained) =
            split::hold_out(&groups, self.source.held_out).ok_or_else(|| lacking(0))?;
        let (part, others) = match self.part {
            LocalPart::Training => (trained, "held_out.jsonl"),
            LocalPart::HeldOut => (held_out, "demonstrations.jsonl"),
        };
        let mut taken = Prompts::default();
        let demonstrations = context.artifact(&inputs.demonstrations)?.join(others);
        for row in rows::read::<Demonstration>(&demonstrations)? {
            taken.insert(&[row.prompt.as_str()]);
        }
        let (kept, passed_over): (Vec<usize>, Vec<usize>) = part
            .into_iter()
            .partition(|pair| !taken.contain(&forms[*pair]));
        let pairs = kept.iter().map(|pair| &examples[*pair].row);
        let pairs: Vec<_> = pairs.filter(|pair| !pair.is_identical()).collect();
        if pairs.is_empty() {
            return Err(lacking(0));
        }
        let groups: Vec<usize> = kept.iter().map(|pair| groups[*pair]).collect();
        let chosen = kept
            .iter()
            .map(|pair| examples[*pair].row.chosen.text.as_str());
        let counts = Duplicates {
            held_out: passed_over.len(),
            ..Duplicates::count(&groups, chosen)
        };
        write_json(&context.out().join(DUPLICATES), &counts)?;
        rows::write(&context.out().join("pairs.jsonl"), pairs)
    }
}

//! The kinds of stage, and the lookup of a stored stage's kind.

use super::work::Work;
use crate::pipeline::{StageContext, StageSpec, roles};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A kind of stage. A value of the type holds the settings of one stage, which are part of its key.
pub trait Stage: Serialize + DeserializeOwned {
    /// The kind's name in keys and stores, which is also the name of its file.
    const KIND: &'static str;
    /// Version of [`run`](Self::run), part of the key: raised whenever the artifact changes.
    const VERSION: u32;
    /// The artifacts that the stage reads: one field for each role.
    type Inputs: Serialize + DeserializeOwned;
    /// Sizes that the work depends on and the settings do not hold.
    type Sizes<'a>;

    /// Upper bounds of the stage's operations and memory; zero if the stage uses no model.
    fn work(&self, _sizes: Self::Sizes<'_>) -> Work {
        Work::default()
    }

    /// Makes the artifact.
    fn run(self, inputs: Self::Inputs, context: &StageContext) -> Result<()>;

    /// The stage in the form that a store holds.
    fn spec(&self, inputs: &Self::Inputs, seed: Option<u64>) -> Result<StageSpec> {
        let (kind, inputs) = (Self::KIND.to_owned(), roles(inputs)?);
        Ok(StageSpec {
            kind,
            version: Self::VERSION,
            settings: json!(self),
            inputs,
            seed,
        })
    }
}

/// The inputs of a stage that reads no artifact.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NoInputs {}

/// A [`Stage`] that the program can find by its name.
pub struct Entry {
    pub kind: &'static str,
    pub version: u32,
    run: fn(&StageContext) -> Result<()>,
}

impl Entry {
    const fn of<S: Stage>() -> Self {
        Self {
            kind: S::KIND,
            version: S::VERSION,
            run: |context| context.settings::<S>()?.run(context.inputs()?, context),
        }
    }

    /// The source file of this kind of stage.
    pub fn file(&self) -> String {
        format!("src/stages/{}.rs", self.kind)
    }
}

/// Every kind of stage.
pub static STAGES: &[Entry] = &[
    Entry::of::<super::pretrain::Pretrain>(),
    Entry::of::<super::bundled::Bundled>(),
    Entry::of::<super::checkpoint::PublishedModel>(),
    Entry::of::<super::random::RandomModel>(),
    Entry::of::<super::dataset::PinnedDataset>(),
    Entry::of::<super::demonstrations::Demonstrations>(),
    Entry::of::<super::corpus::LocalDemonstrations>(),
    Entry::of::<super::local_comparisons::LocalComparisons>(),
    Entry::of::<super::hub_demonstrations::HubDemonstrations>(),
    Entry::of::<super::corrupt::Corrupt>(),
    Entry::of::<super::preferences::Preferences>(),
    Entry::of::<super::comparisons::Comparisons>(),
    Entry::of::<super::tune::Tune>(),
    Entry::of::<super::sft::Sft>(),
    Entry::of::<super::pairs::Pairs>(),
    Entry::of::<super::reward::Reward>(),
    Entry::of::<super::ppo::Ppo>(),
    Entry::of::<super::rloo::Rloo>(),
    Entry::of::<super::grpo::Grpo>(),
    Entry::of::<super::best_of_n::BestOfN>(),
    Entry::of::<super::judged_pairs::JudgedPairs>(),
    Entry::of::<super::dpo::Dpo>(),
    Entry::of::<super::spin::Spin>(),
    Entry::of::<super::iq_learn::IqLearn>(),
    Entry::of::<super::filter::Filter>(),
    Entry::of::<super::select::SelectPolicy>(),
    Entry::of::<super::heldout_pairs::HeldoutPairs>(),
    Entry::of::<super::evaluate::Evaluate>(),
    Entry::of::<super::evaluate_reward::EvaluateReward>(),
    Entry::of::<super::rewardbench::RewardBench>(),
    Entry::of::<super::leaderboard::Leaderboard>(),
    Entry::of::<super::leaderboard_rows::LeaderboardRows>(),
    Entry::of::<super::mt_bench::MtBench>(),
    Entry::of::<super::agreement::Agreement>(),
    Entry::of::<super::likelihood::Likelihood>(),
];

/// Runs the stage that `context` describes.
///
/// A kind that this program does not have.
pub fn run(context: &StageContext) -> Result<()> {
    let kind = &context.spec.kind;
    let entry = STAGES.iter().find(|entry| entry.kind == kind).ok_or_else(|| {
        Error::store(format!("no stage is of kind `{kind}`"))
            .hint("the store was planned by another version of touchstone; run `touchstone reproduce` again")
    })?;
    (entry.run)(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_kind_has_a_name_and_a_file_of_its_own() {
        let kinds: BTreeSet<&str> = STAGES.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.len(), STAGES.len());
        for entry in STAGES {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(entry.file());
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                text.contains(&format!("const KIND: &'static str = \"{}\"", entry.kind)),
                "{}",
                path.display()
            );
        }
    }
}

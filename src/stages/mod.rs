//! The stages: each opens its inputs, calls one method or measurement, and writes one artifact. What a stage computes is in
//! `methods` and `eval`; what is here is where things come from and where they go.
//!
//! | file | kinds | artifact |
//! |---|---|---|
//! | `base` | `pretrain`, `bundled`, `random` | model folder |
//! | | `checkpoint` | `source.json`, which names a published model folder |
//! | `dataset` | same | `dataset.json`, which names commit and files of a data set |
//! | `demonstrations` | `demonstrations`, `corpus`, `hub_demonstrations` | `demonstrations.jsonl`, `held_out.jsonl` |
//! | `preferences` | `preferences`, `comparisons` | `pairs.jsonl` |
//! | `spoil` | same | `demonstrations.jsonl` |
//! | `sft`, `spin`, `ppo`, `rloo`, `dpo`, `iq_learn` | same | model folder, `curve.json` |
//! | `tune` | same | `trace.json`, `chosen.json`; of SFT a model folder beside |
//! | `pairs` | `pairs`, `exam_pairs` | `pairs.jsonl` |
//! | `selection` | `best_of_n`, `filter` | `demonstrations.jsonl` |
//! | | `judged_pairs` | `pairs.jsonl` |
//! | | `select` | model folder, `selection.json` |
//! | `reward` | `reward` | model folder with `reward.json`, `curve.json` |
//! | `evaluate` | `evaluate`, `evaluate_reward` | `metrics.json`, `items.json`, `answers.jsonl` |
//! | `agreement` | same | `metrics.json` |
//! | `likelihood` | same | `metrics.json`, `deviations.json` |
//!
//! `objective` is what scores responses in training. `plan` lays a study out as a graph of these, `work` says what each will do and need, and `collect` reads the finished
//! artifacts into the input of a report.

pub mod agreement;
pub mod base;
pub mod collect;
mod common;
pub mod dataset;
pub mod demonstrations;
pub mod dpo;
pub mod evaluate;
pub mod iq_learn;
pub mod likelihood;
pub mod objective;
pub mod pairs;
pub mod plan;
pub mod ppo;
pub mod preferences;
pub mod reward;
pub mod rloo;
pub mod selection;
pub mod sft;
pub mod spin;
pub mod spoil;
pub mod tune;
pub mod work;

use crate::pipeline::StageContext;
use crate::{Error, Result};

/// Runs the stage that `context` describes.
pub fn run(context: &StageContext) -> Result<()> {
    match context.spec.kind.as_str() {
        base::PRETRAIN => base::pretrain(context),
        base::BUNDLED => base::bundled(context),
        base::CHECKPOINT => base::published(context),
        base::RANDOM => base::random(context),
        dataset::KIND => dataset::run(context),
        demonstrations::WORLD => demonstrations::world(context),
        demonstrations::CORPUS => demonstrations::corpus(context),
        demonstrations::HUB => demonstrations::hub(context),
        preferences::COMPARISONS => preferences::comparisons(context),
        preferences::KIND => preferences::run(context),
        sft::KIND => sft::run(context),
        tune::KIND => tune::run(context),
        pairs::KIND => pairs::run(context),
        pairs::EXAM => pairs::exam(context),
        reward::KIND => reward::run(context),
        ppo::KIND => ppo::run(context),
        spin::KIND => spin::run(context),
        rloo::KIND => rloo::run(context),
        dpo::KIND => dpo::run(context),
        iq_learn::KIND => iq_learn::run(context),
        spoil::KIND => spoil::run(context),
        selection::WINNERS => selection::winners(context),
        selection::JUDGED => selection::judged(context),
        selection::FILTER => selection::filter(context),
        selection::SELECT => selection::select(context),
        agreement::KIND => agreement::run(context),
        likelihood::KIND => likelihood::run(context),
        evaluate::POLICY => evaluate::policy(context),
        evaluate::REWARD => evaluate::reward(context),
        other => Err(Error::store(format!("no stage is of kind `{other}`"))
            .hint("the store was planned by another version of touchstone; run `touchstone reproduce` again")),
    }
}

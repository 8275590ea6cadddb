//! Settings that are chosen automatically: stages that choose them by held-out demonstrations, and
//! SFT that is as long as another method.

use super::{Planner, Run, Start};
use crate::experiment::{AsLongAs, Hyper, MethodPlan, Unit};
use crate::methods::sft::SftSettings;
use crate::methods::tune::TuningSettings;
use crate::pipeline::StageKey;
use crate::stages::Stage;
use crate::stages::sft::Sft;
use crate::stages::tune::{Method, Tune, TuneFrom, TuneInputs, TuneSizes};
use crate::stages::work::Work;
use crate::{Error, Result};
use std::collections::BTreeSet;

/// The automatically chosen settings of SFT.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tuning {
    /// The stage that chooses values, and the largest number of epochs that it can choose; `None`
    /// if there is no search.
    pub by: Option<(StageKey, Option<usize>)>,
    /// A number of epochs that overrides the choice.
    pub epochs: Option<usize>,
}

impl Planner<'_> {
    /// The SFT policy of a method, and the stage that chose its values. A base that is an SFT policy
    /// already is that policy.
    ///
    /// # Errors
    /// SFT of a chosen length on a base that is fine-tuned already.
    pub(super) fn sft(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        demonstrations: &StageKey,
    ) -> Result<(StageKey, Option<StageKey>)> {
        if start.fine_tuned {
            return match &hyper.choices.sft.as_long_as {
                None => Ok((start.base, None)),
                Some(matched) => Err(Error::configuration(format!(
                    "SFT as long as `{}` has nothing to train: model `{}` is fine-tuned already",
                    matched.method, start.size
                ))
                .hint(
                    "leave that method out with --methods, or set fine_tuned = false in [models]",
                )),
            };
        }
        let rows = (demonstrations, self.count(hyper));
        let label = |kind: &str| format!("{kind}/{}/seed {}", start.size, start.seed);
        let by = self.sft_tuning(start, hyper, rows, label("tune"))?;
        let tuning = Tuning {
            by,
            epochs: self.epochs_as_long_as(start, hyper)?,
        };
        let policy = self.fine_tuned(start, hyper, &start.base, rows, tuning, label("sft"))?;
        Ok((policy, by.map(|(key, _)| key)))
    }

    /// The stage that chooses values for SFT on the given number of demonstrations, if
    /// `[sft.tuning]` is declared.
    pub(super) fn sft_tuning(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        rows: (&StageKey, usize),
        label: String,
    ) -> Result<Option<(StageKey, Option<usize>)>> {
        let Some(tuning) = &hyper.choices.sft.tuning else {
            return Ok(None);
        };
        let key = self.tuned_sft(start, hyper, rows, tuning, label)?;
        Ok(Some((key, tuning.epochs.iter().copied().max())))
    }

    fn tuned_sft(
        &mut self,
        start: &Start,
        hyper: &Hyper,
        (demonstrations, count): (&StageKey, usize),
        tuning: &TuningSettings,
        label: String,
    ) -> Result<StageKey> {
        let stage = stage(hyper, Method::Sft(hyper.sft.clone()), tuning);
        let (from, demonstrations) = (TuneFrom::Base(start.base), *demonstrations);
        let inputs = TuneInputs {
            start: from,
            demonstrations,
            reference: None,
            pairs: vec![],
        };
        let held_out = held_out(tuning, count);
        let sizes = TuneSizes {
            trained: start.sizes(count - held_out),
            held_out,
        };
        self.add(&stage, inputs, Some(start.seed), label, sizes)
    }

    /// The stages that choose values for IQ-Learn; the last one holds the choice.
    pub(super) fn iq_learn_tuning(&mut self, run: &Run) -> Result<Vec<StageKey>> {
        let Some(tuning) = &run.hyper.choices.iq_learn.tuning else {
            return Ok(vec![]);
        };
        let stage = stage(
            run.hyper,
            Method::IqLearn(run.hyper.iq_learn.clone()),
            tuning,
        );
        let count = self.count(run.hyper);
        self.behind_sft(run, &stage, &[], count - held_out(tuning, count))
    }

    /// The stages that choose values for DPO on `count` pairs; the last one holds the choice.
    pub(super) fn dpo_tuning(
        &mut self,
        run: &Run,
        pairs: &[StageKey],
        count: usize,
    ) -> Result<Vec<StageKey>> {
        let Some(tuning) = &run.hyper.choices.dpo.tuning else {
            return Ok(vec![]);
        };
        let stage = stage(run.hyper, Method::Dpo(run.hyper.dpo.clone()), tuning);
        self.behind_sft(run, &stage, pairs, count)
    }

    /// Plans `stage` on `rows` rows, from an SFT policy that has not seen the demonstrations that
    /// `stage` holds out: the policy from the tuning of SFT if that holds out the same ones,
    /// otherwise a policy trained only for this, with SFT's fixed values.
    fn behind_sft(
        &mut self,
        run: &Run,
        stage: &Tune,
        pairs: &[StageKey],
        rows: usize,
    ) -> Result<Vec<StageKey>> {
        let (hyper, label) = (run.hyper, |step: &str| run.label(step));
        let same = hyper
            .choices
            .sft
            .tuning
            .as_ref()
            .filter(|tuning| tuning.held_out == stage.tuning.held_out);
        let (start, mut made_by) = match run.sft_tuning.filter(|_| same.is_some()) {
            Some(shared) => (shared, vec![]),
            None => {
                let fixed = TuningSettings {
                    epochs: vec![hyper.sft.epochs],
                    learning_rates: vec![],
                    lambdas: vec![],
                    held_out: stage.tuning.held_out,
                };
                let rows = (&run.demonstrations, self.count(hyper));
                let own = self.tuned_sft(run.start, hyper, rows, &fixed, label("tune from"))?;
                (own, vec![own])
            }
        };
        let inputs = TuneInputs {
            start: TuneFrom::Policy(start),
            demonstrations: run.demonstrations,
            reference: matches!(stage.method, Method::Dpo(_)).then_some(start),
            pairs: pairs.to_vec(),
        };
        let held_out = held_out(&stage.tuning, self.count(hyper));
        let sizes = TuneSizes {
            trained: run.sizes(rows),
            held_out,
        };
        made_by.push(self.add(stage, inputs, Some(run.start.seed), label("tune"), sizes)?);
        Ok(made_by)
    }

    // --- As long as another method ---

    /// Epochs of SFT that take as many steps or operations as making the method that
    /// `sft.as_long_as` names.
    fn epochs_as_long_as(&mut self, start: &Start, hyper: &Hyper) -> Result<Option<usize>> {
        let Some(AsLongAs { method, unit }) = &hyper.choices.sft.as_long_as else {
            return Ok(None);
        };
        let [steps, flops] = self.length(start, method)?;
        let one = SftSettings {
            epochs: 1,
            ..hyper.sft.clone()
        };
        let (generation, training) = (hyper.generation.clone(), hyper.training.clone());
        let epoch = Sft {
            generation,
            sft: one,
            training,
            own_epochs: false,
        }
        .work(start.sizes(self.count(hyper)));
        let epochs = match unit {
            Unit::Steps => steps / epoch.steps,
            Unit::Flops => flops / epoch.flops,
        };
        Ok(Some(epochs.ceil().max(1.0) as usize))
    }

    /// Optimiser steps and operations that make the method called `id`, all its iterations
    /// together, as far as they are known before anything runs.
    fn length(&mut self, start: &Start, id: &str) -> Result<[f64; 2]> {
        let place = (id.to_owned(), start.size.to_owned());
        if let Some(length) = self.lengths.get(&place) {
            return Ok(*length);
        }
        let mut all = self.study.methods.iter().chain(&self.study.references);
        let Some(method) = all.find(|method| method.id == id) else {
            return Err(Error::internal(format!(
                "no method of the study is called `{id}`"
            )));
        };
        let length = self.making(start, method)?;
        self.lengths.insert(place, length);
        Ok(length)
    }

    /// Plans the method apart from the study, and sums the steps and operations of its stages.
    fn making(&self, start: &Start, method: &MethodPlan) -> Result<[f64; 2]> {
        let mut apart = Planner::empty(self.study, self.corpus, self.vocabulary);
        let Some((size, model)) = self.study.sizes.iter().find(|(size, _)| size == start.size)
        else {
            return Err(Error::internal(format!(
                "no size of the study is called `{}`",
                start.size
            )));
        };
        let start = apart.start(size, model, start.cell, &method.hyper)?;
        let run = apart.run(&start, method)?;
        apart.method(&run)?;
        let unknown = |why: &str| {
            let error = format!("SFT cannot be as long as method `{}`: {why}", method.id);
            Error::configuration(error)
                .hint("let sft.as_long_as name a method whose steps are fixed before anything runs")
        };
        let own = apart.cells.iter().filter(|cell| cell.method == method.id);
        let keys: BTreeSet<StageKey> = own.flat_map(|cell| cell.made_by.iter().copied()).collect();
        let tunes = |key: &StageKey| {
            apart
                .graph
                .get(key)
                .is_some_and(|stage| stage.spec.kind == Tune::KIND)
        };
        if keys.iter().any(tunes) {
            return Err(unknown("its length is tuned"));
        }
        let works: Vec<&Work> = keys.iter().filter_map(|key| apart.works.get(key)).collect();
        let [steps, flops] = [|work: &Work| work.steps, |work: &Work| work.flops]
            .map(|value| works.iter().map(|work| value(work)).sum::<f64>());
        if steps == 0.0 {
            return Err(unknown("it takes no optimiser steps"));
        }
        Ok([steps, flops])
    }
}

fn stage(hyper: &Hyper, method: Method, tuning: &TuningSettings) -> Tune {
    let (generation, training) = (hyper.generation.clone(), hyper.training.clone());
    Tune {
        generation,
        method,
        training,
        tuning: tuning.clone(),
    }
}

/// Number of held-out demonstrations, out of `count` demonstrations with distinct prompts.
fn held_out(tuning: &TuningSettings, count: usize) -> usize {
    ((count as f64 * tuning.held_out).round() as usize)
        .clamp(1, count.saturating_sub(1).max(1))
        .min(count)
}

//! The stages of a cell, which measure a policy and the reward behind it.

use super::rounds::Round;
use super::specs::iteration_label;
use super::{Cell, Planner, Run};
use crate::data::world::{Split, WorldAt};
use crate::experiment::{Against, Heuristic, Hyper};
use crate::judges::JudgeId;
use crate::judges::http::HttpJudge;
use crate::pipeline::StageKey;
use crate::stages::agreement::{Agreement, AgreementInputs, AgreementSizes};
use crate::stages::evaluate::{
    Comparison, Evaluate, EvaluateInputs, EvaluateSizes, FurtherDecodings, Responder,
};
use crate::stages::evaluate_reward::{EvaluateReward, EvaluateRewardInputs};
use crate::stages::likelihood::{Likelihood, LikelihoodInputs};
use crate::{Error, Result};

/// Measurements of a method's last policy alone.
#[derive(Default)]
struct Further {
    decoding: Option<FurtherDecodings>,
    comparison: Option<Comparison>,
}

/// The comparison by a hosted judge, if the study names one. Authors and selections have no greedy
/// responses to be compared with.
///
/// # Errors
/// An address or a value that the judge cannot have.
fn comparison(hyper: &Hyper, is_policy: bool) -> Result<Option<Comparison>> {
    let Some(settings) = &hyper.evaluation.judge else {
        return Ok(None);
    };
    let judge = HttpJudge::from(settings);
    let named = |error: Error| error.within("evaluation.judge");
    judge.server.check().map_err(named)?;
    let is_compared = is_policy || settings.against != Against::Greedy;
    let comparison = Comparison {
        judge: JudgeId::Http(judge),
        against: settings.against,
    };
    Ok(is_compared.then_some(comparison))
}

/// A judge whose accuracies are measured.
pub(super) struct Ranker<'a> {
    pub judge: JudgeId,
    /// The model that the judge reads, if it reads one.
    model: Option<StageKey>,
    /// The method or heuristic that the judge belongs to.
    name: &'a str,
    iteration: usize,
}

impl Ranker<'_> {
    /// The model, if it is a reward model.
    pub fn reward(&self) -> Option<StageKey> {
        self.model.filter(|_| self.judge == JudgeId::Explicit)
    }

    /// The model, if it is a policy.
    pub fn policy(&self) -> Option<StageKey> {
        self.model.filter(|_| self.judge != JudgeId::Explicit)
    }

    pub fn label(&self, run: &Run, measurement: &str) -> String {
        let (size, seed) = (run.start.size, run.start.cell);
        let iteration = iteration_label(self.iteration);
        format!("{}/{size}/seed {seed}/{iteration}{measurement}", self.name)
    }
}

impl Planner<'_> {
    /// Evaluates the round's policy and its judge, and records the cell. The policy is the method's
    /// last, so it is decoded in every way that the study requests.
    pub(super) fn cell(
        &mut self,
        run: &Run,
        iteration: usize,
        round: &Round,
        responder: Responder,
    ) -> Result<()> {
        let is_policy = responder == Responder::Policy;
        let further = Further {
            decoding: is_policy.then(|| self.decoding(run.hyper)).flatten(),
            comparison: comparison(run.hyper, is_policy)?,
        };
        self.measured(run, iteration, round, responder, further)
    }

    /// Evaluates an intermediate policy and records its cell like [`cell`](Self::cell), without
    /// further decodings and judges.
    pub(super) fn passing(&mut self, run: &Run, iteration: usize, round: &Round) -> Result<()> {
        self.measured(run, iteration, round, Responder::Policy, Further::default())
    }

    fn measured(
        &mut self,
        run: &Run,
        iteration: usize,
        round: &Round,
        responder: Responder,
        Further {
            decoding,
            comparison,
        }: Further,
    ) -> Result<()> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let temperature = run.hyper.evaluation.temperature;
        let evaluation_set = self.world_evaluation_set(run.hyper);
        let stage = Evaluate {
            evaluation_set,
            generation,
            dtype,
            temperature,
            responder,
            decoding,
            comparison,
        };
        let explicit = match &round.judge {
            Some((JudgeId::Explicit, reward)) => Some(*reward),
            _ => None,
        };
        let evaluation_set = self.corpus.evaluation_set(self, run.hyper, &run.source)?;
        let inputs = EvaluateInputs {
            policy: round.policy,
            sft: run.sft,
            reward: explicit,
            evaluation_set,
        };
        let (posts, judge) = (
            self.corpus.evaluation_posts(run.hyper.evaluation.posts),
            self.judge_config(),
        );
        let (model, scored) = (&run.start.config, explicit.is_some());
        let sizes = EvaluateSizes {
            model,
            posts,
            scored,
            judge: judge.as_ref(),
        };
        let label = run.label(&format!("{}evaluate", iteration_label(iteration)));
        let mut measured_by =
            vec![self.add(&stage, inputs, Some(run.start.evaluation), label, sizes)?];
        if responder == Responder::Policy {
            measured_by.extend(self.mt_bench(run, &round.policy, iteration)?);
            measured_by.extend(self.leaderboard(run, &round.policy, iteration)?);
        }
        if let Some((judge, model)) = &round.judge {
            measured_by.extend(self.evaluated_rewards(
                run,
                &Ranker {
                    judge: judge.clone(),
                    model: Some(*model),
                    name: &run.method.id,
                    iteration,
                },
            )?);
        }
        if let Some(pairs) = &round.pairs {
            measured_by.extend(self.agreement(run, pairs, iteration)?);
        }
        if let Some(reward) = explicit.filter(|_| self.observes_likelihood(run, iteration)) {
            measured_by.push(self.likelihood(run, &round.policy, &reward)?);
        }
        self.cells.push(Cell {
            method: run.method.id.clone(),
            size: run.start.size.into(),
            seed: run.start.cell,
            iteration,
            base: run.start.numbered(self),
            measured_by,
            made_by: round.made_by.clone(),
        });
        Ok(())
    }

    /// Further decodings of a method's last policy; `None` on real posts, which have no validation
    /// posts with known gold.
    fn decoding(&self, hyper: &Hyper) -> Option<FurtherDecodings> {
        let evaluation = &hyper.evaluation;
        let posts = evaluation.decoding_posts;
        if posts == 0 {
            return None;
        }
        Some(FurtherDecodings {
            temperatures: evaluation.temperatures.clone(),
            validation: self.evaluation_set_of(&self.study.shared, Split::Validation, posts)?,
        })
    }

    /// The stages that measure one judge: on held-out pairs, and on a benchmark.
    fn evaluated_rewards(&mut self, run: &Run, ranker: &Ranker) -> Result<Vec<StageKey>> {
        let mut stages = vec![self.evaluated_reward(run, ranker)?];
        stages.extend(self.rewardbench(run, ranker)?);
        Ok(stages)
    }

    /// The stage that measures the accuracies of one judge on held-out pairs.
    fn evaluated_reward(&mut self, run: &Run, ranker: &Ranker) -> Result<StageKey> {
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = EvaluateReward {
            generation,
            dtype,
            judge: ranker.judge.clone(),
        };
        let (preferences, labelled) = self.corpus.heldout_preferences(self, run.hyper)?.unzip();
        let inputs = EvaluateRewardInputs {
            sft: run.sft,
            heldout_pairs: run.heldout_pairs,
            reward: ranker.reward(),
            policy: ranker.policy(),
            preferences,
        };
        let evaluation = &run.hyper.evaluation;
        let own = 2 * self.corpus.evaluation_posts(evaluation.on_policy_pairs);
        let pairs = own + labelled.unwrap_or(0);
        let label = ranker.label(run, "evaluate reward");
        self.add(
            &stage,
            inputs,
            Some(run.start.evaluation),
            label,
            run.sizes(pairs),
        )
    }

    pub(super) fn heuristics(&mut self, run: &Run) -> Result<()> {
        for heuristic in Heuristic::ALL {
            let measured_by = self.evaluated_rewards(
                run,
                &Ranker {
                    judge: JudgeId::Heuristic(heuristic),
                    model: None,
                    name: heuristic.name(),
                    iteration: 0,
                },
            )?;
            self.cells.push(Cell {
                method: heuristic.name().into(),
                size: run.start.size.into(),
                seed: run.start.cell,
                iteration: 0,
                base: run.start.numbered(self),
                measured_by,
                made_by: vec![],
            });
        }
        Ok(())
    }

    /// The stage that measures how far gold and annotators agree with training pairs; `None` if
    /// nothing takes the place of gold.
    fn agreement(
        &mut self,
        run: &Run,
        pairs: &StageKey,
        iteration: usize,
    ) -> Result<Option<StageKey>> {
        let mut inputs = AgreementInputs {
            pairs: *pairs,
            preferences: None,
            judge: None,
        };
        let mut world = None;
        match (self.corpus.world(), self.corpus.judge()) {
            (Some(settings), _) => {
                world = Some(WorldAt::new(settings));
                let preferences = self.corpus.heldout_preferences(self, run.hyper)?;
                inputs.preferences = preferences.map(|(key, _)| key);
            }
            (None, Some(judge)) => {
                inputs.judge = Some(self.checkpoint(judge, "judge".into())?);
            }
            (None, None) => return Ok(None),
        }
        let negatives = run.method.recipe.negatives(run.hyper).each;
        let (generation, dtype) = (run.hyper.generation.clone(), run.hyper.training.dtype);
        let stage = Agreement {
            world,
            negatives,
            generation,
            dtype,
        };
        let (rows, judge) = (self.count(run.hyper), self.judge_config());
        let sizes = AgreementSizes {
            rows,
            judge: judge.as_ref(),
        };
        let label = run.label(&format!("{}agreement", iteration_label(iteration)));
        self.add(&stage, inputs, Some(run.start.evaluation), label, sizes)
            .map(Some)
    }

    /// True if Lemma 4.1 is measured here: once for each size and seed, at the last iteration of
    /// the method under study.
    fn observes_likelihood(&self, run: &Run, iteration: usize) -> bool {
        let world = self.corpus.world().is_some();
        let subject =
            run.method.id == self.study.report.under_study && run.method.recipe.is_inverse_rl();
        world
            && subject
            && iteration == run.hyper.irl.iterations
            && run.hyper.evaluation.likelihood_posts > 0
    }

    fn likelihood(&mut self, run: &Run, policy: &StageKey, reward: &StageKey) -> Result<StageKey> {
        let hyper = run.hyper;
        let stage = Likelihood {
            world: WorldAt::new(&hyper.demonstrations.written_in(self.world()?)),
            quality: hyper.demonstrations.quality,
            posts: hyper.evaluation.likelihood_posts,
            delta: hyper.evaluation.likelihood_delta,
            beta: hyper.ppo.kl_coefficient,
            temperature: hyper.ppo.temperature,
            generation: hyper.generation.clone(),
            dtype: hyper.training.dtype,
        };
        let inputs = LikelihoodInputs {
            reward: *reward,
            policy: *policy,
            sft: run.sft,
            demonstrations: run.demonstrations,
        };
        let sizes = run.sizes(self.count(hyper));
        self.add(
            &stage,
            inputs,
            Some(run.start.evaluation),
            run.label("likelihood"),
            sizes,
        )
    }
}

//! The rounds of a recipe: each draws pairs, learns a judge, and takes the step that makes the next
//! policy. A recipe is data ([`Recipe`]); this file lays out any of them.

use super::steps::{Position, StepJudge};
use super::{Planner, Run, Start};
use crate::Result;
use crate::experiment::{
    Answer, MethodPlan, ModelSettings, Order, PairSource, Recipe, RecipeJudge, RecipeName, Rounds,
    StartPolicy, Step,
};
use crate::judges::JudgeId;
use crate::methods::irl::{Anchor, RewardInit, Select};
use crate::pipeline::StageKey;
use crate::stages::evaluate::Responder;

/// A round's policy, the stages that made it, and the reward that it is reported with.
#[derive(Clone)]
pub(super) struct Round {
    pub policy: StageKey,
    /// The pairs (demonstration, sample) drawn in this round.
    pub pairs: Option<StageKey>,
    pub judge: Option<(JudgeId, StageKey)>,
    pub made_by: Vec<StageKey>,
}

/// Pairs that exist before a method's first round.
#[derive(Default)]
struct GivenPairs {
    stages: Vec<StageKey>,
    /// Number of pairs in all of them together.
    count: usize,
    /// Numbers of stages and of pairs of each source, in the recipe's order.
    sources: Vec<(usize, usize)>,
    /// The stages that made them and that count as the method's cost.
    made_by: Vec<StageKey>,
}

impl Planner<'_> {
    /// Plans every method that runs under `seed` at one size.
    pub(super) fn seed(&mut self, size: &str, model: &ModelSettings, seed: u64) -> Result<()> {
        let runs = |method: &&MethodPlan| method.runs(&self.study.seeds, seed);
        for method in self.study.methods.iter().filter(runs) {
            let start = self.start(size, model, seed, &method.hyper)?;
            let run = self.run(&start, method)?;
            self.method(&run)?;
            if method.id == self.study.report.baseline {
                self.heuristics(&run)?;
            }
        }
        Ok(())
    }

    /// A method with everything that it starts from.
    pub(super) fn run<'r>(
        &mut self,
        start: &'r Start<'r>,
        method: &'r MethodPlan,
    ) -> Result<Run<'r>> {
        let hyper = &method.hyper;
        let source = self.corpus.demonstrations(self, hyper, start.data)?;
        let demonstrations = self.corrupted(start, hyper, &source)?;
        let (sft, sft_tuning) = self.sft(start, hyper, &demonstrations)?;
        let heldout_pairs = self.heldout_pairs(start, hyper, &source, &sft)?;
        Ok(Run {
            start,
            method,
            hyper,
            source,
            demonstrations,
            sft,
            sft_tuning,
            heldout_pairs,
        })
    }

    /// Plans a method's rounds and the cells that they are measured in.
    pub(super) fn method(&mut self, run: &Run) -> Result<()> {
        let recipe = &run.method.recipe;
        let rounds = self.rounds(run, recipe)?;
        let Some((last, earlier)) = rounds.split_last() else {
            return Ok(());
        };
        let responder = responder(recipe, run.hyper.evaluation.best_of);
        if !recipe.iterates() {
            return self.cell(run, 0, last, responder);
        }
        // A point of an ablation has only the cell of the last round, with the cost of all rounds.
        if run.method.point {
            let whole = Round {
                made_by: all_made_by(&rounds),
                ..last.clone()
            };
            return self.cell(run, rounds.len(), &whole, responder);
        }
        for (t, round) in earlier.iter().enumerate() {
            self.passing(run, t + 1, round)?;
        }
        self.cell(run, rounds.len(), last, responder)
    }

    /// The rounds of `recipe`, in order.
    fn rounds(&mut self, run: &Run, recipe: &Recipe) -> Result<Vec<Round>> {
        let (mut policy, mut made_by) = self.start_policy(run, recipe)?;
        let given = self.given_pairs(run, recipe)?;
        made_by.extend(given.made_by.iter().copied());
        let (mut drawn, mut learned, mut rounds) = (Vec::new(), None, Vec::new());
        for t in 0..recipe.round_count(run.hyper) {
            let mut pairs = given.stages.clone();
            let mut count = given.count;
            if recipe.draws_own_pairs() {
                let negatives = recipe.negatives(run.hyper);
                drawn.push(self.pairs(run, &policy, negatives, t)?);
                let trained = recipe.accumulate(run.hyper).iterations(t);
                count += self.count(run.hyper) * negatives.each * trained.clone().count();
                pairs.extend(&drawn[trained]);
                made_by.push(drawn[t]);
            }
            let judge = match recipe.judge {
                Some(RecipeJudge::Learned) => {
                    let warm = learned.filter(|_| warm_start(run, recipe));
                    let rewards = match recipe.order {
                        Order::Together => {
                            vec![self.reward(run, &pairs, count, t, warm.as_ref())?]
                        }
                        Order::InTurn => self.rewards_in_turn(run, &given)?,
                    };
                    learned = rewards.last().copied();
                    made_by.extend(rewards);
                    learned.map(|reward| (JudgeId::Learned, Some(reward)))
                }
                Some(RecipeJudge::Gold) => Some(self.gold()?),
                Some(RecipeJudge::LogProbability | RecipeJudge::Length) | None => None,
            };
            if let Some(step) = recipe.step {
                let anchor = match recipe.anchor(run.hyper) {
                    Anchor::Sft => run.sft,
                    Anchor::Previous => policy,
                };
                let position = Position {
                    policy,
                    anchor,
                    judge: judge.as_ref(),
                    pairs: (&pairs, count),
                    round: t,
                };
                let stages = self.step(run, recipe, step, position)?;
                policy = stages.last().copied().unwrap_or(policy);
                made_by.extend(stages);
            }
            rounds.push(Round {
                policy,
                // The filter's reward ranks demonstrations and is not a result.
                pairs: drawn.get(t).copied().filter(|_| recipe.learns_reward()),
                judge: reported_judge(recipe, judge, policy),
                made_by: distinct(std::mem::take(&mut made_by)),
            });
        }
        if recipe.is_inverse_rl() && run.hyper.irl.select == Select::ValidationGold {
            let selected = self.select(run, rounds.iter().map(|round| round.policy).collect())?;
            if let Some(last) = rounds.last_mut() {
                last.policy = selected;
                last.made_by.push(selected);
            }
        }
        Ok(rounds)
    }

    /// The policy that the first round starts from, and the stages that made it and that are not
    /// shared by every method.
    fn start_policy(&mut self, run: &Run, recipe: &Recipe) -> Result<(StageKey, Vec<StageKey>)> {
        match recipe.start {
            StartPolicy::Base => Ok((run.start.base, vec![])),
            // SFT is the result of a method that does nothing else, and the start of all others.
            StartPolicy::Sft if *recipe == Recipe::default() => Ok((
                run.sft,
                run.sft_tuning.into_iter().chain([run.sft]).collect(),
            )),
            StartPolicy::Sft => Ok((run.sft, vec![])),
            StartPolicy::Spin => {
                let rounds = self.named_rounds(run, RecipeName::Spin)?;
                let policy = rounds.last().map_or(run.sft, |round| round.policy);
                Ok((policy, all_made_by(&rounds)))
            }
        }
    }

    /// The pairs of `recipe` that are drawn or labelled before its first round.
    fn given_pairs(&mut self, run: &Run, recipe: &Recipe) -> Result<GivenPairs> {
        let mut given = GivenPairs::default();
        for source in &recipe.pairs {
            let before = (given.stages.len(), given.count);
            match source {
                PairSource::Own => {}
                PairSource::Preferences => {
                    let (preferences, count) = self.corpus.preferences(self, run)?;
                    given.stages.push(preferences);
                    given.count += count;
                }
                PairSource::Irl => {
                    let rounds = self.named_rounds(run, RecipeName::Irl)?;
                    let pairs: Vec<_> = rounds.iter().filter_map(|round| round.pairs).collect();
                    given.count += pairs.len() * self.count(run.hyper) * run.hyper.irl.negatives;
                    // The last pairs come from the second-last policy; the stages after them make
                    // no pair.
                    let before = rounds.len().saturating_sub(1);
                    given.made_by.extend(all_made_by(&rounds[..before]));
                    given.made_by.extend(pairs.last());
                    given.stages.extend(pairs);
                }
                PairSource::Spin => {
                    let rounds = self.named_rounds(run, RecipeName::Spin)?;
                    let pairs: Vec<_> = rounds.iter().filter_map(|round| round.pairs).collect();
                    let last = pairs.len().saturating_sub(1);
                    let kept = &pairs[run.hyper.spin.accumulate.iterations(last)];
                    given.count += kept.len() * self.count(run.hyper);
                    given.made_by.extend(pairs.iter());
                    given.stages.extend(kept);
                }
            }
            let added = (given.stages.len() - before.0, given.count - before.1);
            given.sources.push(added);
        }
        Ok(given)
    }

    /// A reward for each source of pairs, each from the one before.
    fn rewards_in_turn(&mut self, run: &Run, given: &GivenPairs) -> Result<Vec<StageKey>> {
        let (mut rewards, mut rest): (Vec<StageKey>, _) = (Vec::new(), &given.stages[..]);
        for (turn, (stages, count)) in given.sources.iter().enumerate() {
            let (pairs, later) = rest.split_at(*stages);
            rest = later;
            let before = rewards.last().copied();
            rewards.push(self.reward(run, pairs, *count, turn, before.as_ref())?);
        }
        Ok(rewards)
    }

    /// The rounds of a shipped recipe, with the hyper-parameters of `run`.
    fn named_rounds(&mut self, run: &Run, name: RecipeName) -> Result<Vec<Round>> {
        let (step, pairs) = (run.hyper.irl.policy_step, run.hyper.dpo.pairs);
        self.rounds(run, &name.recipe(step, pairs))
    }
}

/// True if each round's reward starts from the previous round's.
fn warm_start(run: &Run, recipe: &Recipe) -> bool {
    recipe.rounds() == Rounds::Irl && run.hyper.irl.reward_start == RewardInit::Previous
}

/// The reward that a policy is reported with.
fn reported_judge(
    recipe: &Recipe,
    judge: Option<StepJudge>,
    policy: StageKey,
) -> Option<(JudgeId, StageKey)> {
    match (recipe.step, judge) {
        (Some(Step::Filter), _) => None,
        (_, Some((_, Some(reward)))) => Some((JudgeId::Explicit, reward)),
        (Some(Step::Spin | Step::Dpo), _) => Some((JudgeId::Implicit, policy)),
        (Some(Step::IqLearn), _) => Some((JudgeId::Likelihood, policy)),
        _ => None,
    }
}

fn responder(recipe: &Recipe, n: usize) -> Responder {
    match (recipe.answer, recipe.judge) {
        (Answer::Policy, _) => Responder::Policy,
        (Answer::Demonstrator, _) => Responder::Demonstrator,
        (Answer::BestOfN, Some(RecipeJudge::Learned)) => Responder::BestByReward { n },
        (Answer::BestOfN, Some(RecipeJudge::Gold)) => Responder::BestByGold { n },
        (Answer::BestOfN, Some(RecipeJudge::LogProbability) | None) => {
            Responder::BestByLogProbability { n }
        }
        (Answer::BestOfN, Some(RecipeJudge::Length)) => Responder::BestByLength { n },
    }
}

fn all_made_by(rounds: &[Round]) -> Vec<StageKey> {
    let all = rounds
        .iter()
        .flat_map(|round| round.made_by.iter().copied());
    distinct(all.collect())
}

/// `stages` without repetitions, in their order.
fn distinct(mut stages: Vec<StageKey>) -> Vec<StageKey> {
    let mut seen = std::collections::BTreeSet::new();
    stages.retain(|stage| seen.insert(*stage));
    stages
}

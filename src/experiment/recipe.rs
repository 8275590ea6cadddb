//! Methods as data: the policy that a method starts from, the pairs that it learns from, the judge
//! that scores responses, and the step that makes the next policy. [`RecipeName`] has the shipped
//! methods as points of these axes; an experiment file may write any other point.

use super::hyper::Hyper;
use crate::methods::dpo::DpoPairs;
use crate::methods::irl::{Accumulate, Anchor, PolicyStep};
use crate::methods::spin::PromptFormat;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The procedure by which a method gets from its inputs to its evaluated policy.
///
/// Each round draws the method's own pairs if there are any, learns a reward if the judge is
/// learned, and takes the step; the next round starts from its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The policy that the first round starts from.
    #[serde(default)]
    pub start: StartPolicy,
    /// The pairs (preferred response, other response) that the judge or the step learns from.
    #[serde(default)]
    pub pairs: Vec<PairSource>,
    /// The way in which a learned judge takes several sources of pairs.
    #[serde(default, skip_serializing_if = "Order::is_together")]
    pub order: Order,
    /// The judge of responses; none if the step needs no scores.
    #[serde(default)]
    pub judge: Option<RecipeJudge>,
    /// The step that makes a round's policy; none if the policy is evaluated as it is.
    #[serde(default)]
    pub step: Option<Step>,
    /// The author of the evaluated answers.
    #[serde(default)]
    pub answer: Answer,
}

/// A policy that exists before a method's first round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartPolicy {
    /// The pre-trained model.
    Base,
    /// The policy after SFT on the demonstrations.
    #[default]
    Sft,
    /// The policy after all rounds of SPIN.
    Spin,
}

/// A source of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairSource {
    /// Demonstrations over samples that each round draws from its own policy.
    Own,
    /// The pairs of all rounds of IRL, as the recipe `irl` draws them.
    Irl,
    /// The pairs on which the last round of SPIN trains.
    Spin,
    /// Pairs labelled by annotators.
    Preferences,
}

/// The way in which a learned judge takes several sources of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All pairs as one set.
    #[default]
    Together,
    /// One source after the other, in the order in which they are written: each reward goes on from
    /// the one before.
    InTurn,
}

impl Order {
    fn is_together(&self) -> bool {
        *self == Self::Together
    }
}

/// A judge of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipeJudge {
    /// A reward model that is trained on the pairs.
    Learned,
    /// The gold reward. Privileged: a control.
    Gold,
    /// The start policy's own log-probability, which can only choose among samples.
    LogProbability,
    /// The length of a response, which can only choose among samples: a control.
    Length,
}

/// A step that makes a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// PPO on the judge's scores.
    Ppo,
    /// REINFORCE with a leave-one-out baseline on the judge's scores.
    Rloo,
    /// Group-relative policy optimisation on the judge's scores.
    Grpo,
    /// SFT on the best of n samples by the judge.
    BestOfN,
    /// DPO: on two samples of the policy that the judge ranks, or on the pairs if there is no judge.
    Dpo,
    /// SPIN's loss on the pairs.
    Spin,
    /// Inverse soft-Q learning on the demonstrations.
    IqLearn,
    /// SFT of the base on the demonstrations that the judge scores highest.
    Filter,
}

/// The author of the answers that are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The last round's policy.
    #[default]
    Policy,
    /// The best of `evaluation.best_of` samples of the policy by the judge.
    BestOfN,
    /// The author of the demonstrations.
    Demonstrator,
}

/// The section whose settings say how many rounds there are, and how each draws its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// `[irl]`.
    Irl,
    /// `[spin]`.
    Spin,
    /// `[dpo]`.
    Dpo,
    /// One round, without a section.
    One,
}

/// The samples with which demonstrations are paired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Negatives {
    pub temperature: f32,
    /// Number for each demonstration.
    pub each: usize,
    pub prompt: PromptFormat,
}

impl Recipe {
    /// True if a step draws pairs from its own policy.
    pub fn draws_own_pairs(&self) -> bool {
        self.pairs.contains(&PairSource::Own)
    }

    /// The section that rules the rounds.
    pub fn rounds(&self) -> Rounds {
        match (self.step, self.judge) {
            (Some(Step::Spin), _) => Rounds::Spin,
            (Some(Step::Filter | Step::IqLearn) | None, _) => Rounds::One,
            (Some(_), _) if self.draws_own_pairs() => Rounds::Irl,
            (Some(Step::Dpo), Some(RecipeJudge::Gold)) => Rounds::Dpo,
            _ => Rounds::One,
        }
    }

    /// Number of rounds.
    pub fn round_count(&self, hyper: &Hyper) -> usize {
        match self.rounds() {
            Rounds::Irl => hyper.irl.iterations,
            Rounds::Spin => hyper.spin.iterations,
            Rounds::Dpo => hyper.dpo.iterations,
            Rounds::One => 1,
        }
    }

    /// The samples that a round draws for its pairs.
    pub fn negatives(&self, hyper: &Hyper) -> Negatives {
        match self.rounds() {
            Rounds::Spin => Negatives {
                temperature: hyper.spin.negatives_temperature,
                each: 1,
                prompt: hyper.spin.prompt,
            },
            _ => Negatives {
                temperature: hyper.irl.negatives_temperature,
                each: hyper.irl.negatives,
                prompt: PromptFormat::Template,
            },
        }
    }

    /// The rounds whose own pairs a round trains on.
    pub fn accumulate(&self, hyper: &Hyper) -> Accumulate {
        match self.rounds() {
            Rounds::Spin => hyper.spin.accumulate,
            _ => hyper.irl.accumulate,
        }
    }

    /// The policy near which a step stays.
    pub fn anchor(&self, hyper: &Hyper) -> Anchor {
        match self.rounds() {
            Rounds::Irl => hyper.irl.anchor,
            Rounds::Dpo => hyper.dpo.anchor,
            Rounds::Spin | Rounds::One => Anchor::Sft,
        }
    }

    /// The factor by which a step on scores takes more updates than its section says.
    pub fn update_rounds(&self, hyper: &Hyper) -> usize {
        match (self.rounds(), self.judge) {
            (Rounds::Irl, _) => hyper.irl.policy_rounds,
            (_, Some(RecipeJudge::Learned)) => hyper.rlhf.rounds,
            _ => 1,
        }
    }

    /// True if every round's policy is a result of its own, so that results are numbered by rounds.
    pub fn iterates(&self) -> bool {
        self.rounds() != Rounds::One
    }

    /// True if the method is Algorithm 1: a reward learned from demonstrations over the policy's
    /// own samples, and a policy optimised on it, in turns.
    pub fn is_inverse_rl(&self) -> bool {
        self.rounds() == Rounds::Irl && self.judge == Some(RecipeJudge::Learned)
    }

    /// True if the recipe trains nothing beyond pre-training.
    pub fn trains_nothing(&self) -> bool {
        self.start == StartPolicy::Base && self.step.is_none()
            || self.answer == Answer::Demonstrator
    }

    /// True if the recipe produces a reward, explicit or implicit, which reward metrics and claims
    /// on them need.
    pub fn learns_reward(&self) -> bool {
        match self.step {
            Some(Step::Filter) => false,
            Some(Step::Spin | Step::Dpo | Step::IqLearn) => true,
            _ => self.judge == Some(RecipeJudge::Learned),
        }
    }

    /// The fault of a combination that cannot be computed, and its remedy.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let chooses = matches!(
            self.judge,
            Some(RecipeJudge::LogProbability | RecipeJudge::Length)
        );
        let scored = self.judge.is_some() && !chooses;
        let learned = self.judge == Some(RecipeJudge::Learned);
        match self.step {
            Some(Step::Ppo | Step::Rloo | Step::Grpo) if !scored => Some((
                "the step needs a judge of responses",
                "add judge = \"learned\" (and pairs to learn from), or judge = \"gold\" for a control",
            )),
            Some(Step::BestOfN | Step::Filter) if !learned => Some((
                "the step needs a learned judge",
                "add judge = \"learned\" and the pairs that it learns from",
            )),
            Some(Step::Spin) if !self.draws_own_pairs() => Some((
                "SPIN contrasts demonstrations with the policy's own samples",
                "add pairs = [\"own\"]",
            )),
            Some(Step::Dpo) if self.judge.is_none() && self.pairs.is_empty() => Some((
                "DPO needs pairs, or a judge that ranks the policy's samples",
                "add pairs = [\"preferences\"], or a judge",
            )),
            _ if learned && self.pairs.is_empty() => Some((
                "a learned judge needs pairs to learn from",
                "add pairs: \"own\", \"irl\", \"spin\" or \"preferences\"",
            )),
            _ if self.draws_own_pairs() && self.step.is_none() => Some((
                "own pairs are drawn for a step, and there is none",
                "add a step, such as step = \"ppo\"",
            )),
            _ if self.answer == Answer::BestOfN && self.judge.is_none() => Some((
                "best-of-n needs a judge",
                "add judge = \"learned\", \"gold\", \"log_probability\" or \"length\"",
            )),
            _ if chooses && self.answer != Answer::BestOfN => Some((
                "log-probability and length can only choose among samples",
                "add answer = \"best_of_n\"",
            )),
            _ if self.order == Order::InTurn
                && (!learned || self.pairs.len() < 2 || self.draws_own_pairs()) =>
            {
                Some((
                    "only a learned judge takes pairs in turn, and only those that are there before its first round",
                    "add judge = \"learned\" and two of \"irl\", \"spin\", \"preferences\" in pairs, or leave order out",
                ))
            }
            _ => None,
        }
    }
}

/// The name of a shipped recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipeName {
    /// The pre-trained base model.
    Base,
    /// The author of the demonstrations, whom imitation tries to match.
    Demonstrator,
    /// Supervised fine-tuning on the demonstrations.
    Sft,
    /// Algorithm 1 from the SFT policy: rewards from demonstrations against own samples, and
    /// `irl.policy_step` on them.
    Irl,
    /// Self-play fine-tuning from the SFT policy.
    Spin,
    /// A reward from preferences (eq. 2), PPO on it from the SFT policy.
    Rlhf,
    /// PPO from the SFT policy on the gold reward itself. Privileged: a control.
    GoldPpo,
    /// The sample with the highest gold of n samples of the SFT policy. Privileged: a control.
    BestOfNGold,
    /// The best of n samples of the SFT policy by a reward from preferences.
    BestOfNReward,
    /// The best of n samples of the SFT policy by its own log-probability.
    BestOfNLogProbability,
    /// Direct preference optimisation from the SFT policy: on IRL's own pairs, or on labelled
    /// preferences (`dpo.pairs`).
    Dpo,
    /// DPO on pairs of the policy's own samples, judged by gold in each iteration. Privileged: a
    /// control.
    IterativeDpo,
    /// Inverse soft-Q learning on the demonstrations: a reward without samples or labels.
    IqLearn,
    /// Imitation of the demonstrations that the reward of IRL's first iteration ranks highest: a
    /// control.
    FilteredBc,
    /// SPIN's policy, with an explicit reward trained on SPIN's own pairs in place of the implicit
    /// one.
    SpinReward,
    /// A reward from the pairs of IRL and preferences together, PPO on it from the SFT policy.
    IrlRlhf,
}

impl RecipeName {
    /// The recipe of this name. IRL takes `policy_step` (`irl.policy_step`), and DPO learns from
    /// `pairs` (`dpo.pairs`).
    pub fn recipe(self, policy_step: PolicyStep, pairs: DpoPairs) -> Recipe {
        use {Answer::*, PairSource::*, RecipeJudge::*};
        let sft = Recipe::default();
        let learned = |pairs: &[PairSource], step: Option<Step>| Recipe {
            pairs: pairs.to_vec(),
            judge: Some(Learned),
            step,
            ..Recipe::default()
        };
        let chosen_by = |judge| Recipe {
            judge: Some(judge),
            answer: BestOfN,
            ..Recipe::default()
        };
        match self {
            Self::Base => Recipe {
                start: StartPolicy::Base,
                ..sft
            },
            Self::Demonstrator => Recipe {
                answer: Demonstrator,
                ..sft
            },
            Self::Sft => sft,
            Self::Irl => learned(&[Own], Some(policy_step.into())),
            Self::Spin => Recipe {
                pairs: vec![Own],
                step: Some(Step::Spin),
                ..sft
            },
            Self::Rlhf => learned(&[Preferences], Some(Step::Ppo)),
            Self::IrlRlhf => learned(&[Irl, Preferences], Some(Step::Ppo)),
            Self::GoldPpo => Recipe {
                judge: Some(Gold),
                step: Some(Step::Ppo),
                ..sft
            },
            Self::IterativeDpo => Recipe {
                judge: Some(Gold),
                step: Some(Step::Dpo),
                ..sft
            },
            Self::Dpo => Recipe {
                pairs: vec![match pairs {
                    DpoPairs::Synthetic => Irl,
                    DpoPairs::Preferences => Preferences,
                }],
                step: Some(Step::Dpo),
                ..sft
            },
            Self::IqLearn => Recipe {
                step: Some(Step::IqLearn),
                ..sft
            },
            Self::FilteredBc => learned(&[Own], Some(Step::Filter)),
            Self::SpinReward => Recipe {
                start: StartPolicy::Spin,
                ..learned(&[Spin], None)
            },
            Self::BestOfNGold => chosen_by(Gold),
            Self::BestOfNLogProbability => chosen_by(LogProbability),
            Self::BestOfNReward => Recipe {
                answer: BestOfN,
                ..learned(&[Preferences], None)
            },
        }
    }
}

impl From<PolicyStep> for Step {
    fn from(step: PolicyStep) -> Self {
        match step {
            PolicyStep::Ppo => Self::Ppo,
            PolicyStep::Rloo => Self::Rloo,
            PolicyStep::Grpo => Self::Grpo,
            PolicyStep::BestOfN => Self::BestOfN,
            PolicyStep::Dpo => Self::Dpo,
        }
    }
}

/// A recipe as an experiment file writes it: by name, or as a table of its axes.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum RecipeChoice {
    Named(RecipeName),
    Written(Recipe),
}

impl RecipeChoice {
    /// The recipe, with the choices that `hyper` leaves to a named one.
    pub fn recipe(&self, hyper: &Hyper) -> Recipe {
        match self {
            Self::Named(name) => name.recipe(hyper.irl.policy_step, hyper.dpo.pairs),
            Self::Written(recipe) => recipe.clone(),
        }
    }

    /// [`Recipe::learns_reward`], which no hyper-parameter changes.
    pub fn learns_reward(&self) -> bool {
        match self {
            Self::Named(name) => name
                .recipe(PolicyStep::Ppo, DpoPairs::Synthetic)
                .learns_reward(),
            Self::Written(recipe) => recipe.learns_reward(),
        }
    }
}

impl<'de> Deserialize<'de> for RecipeChoice {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = RecipeChoice;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("the name of a recipe in quotes, or a table with its axes")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                RecipeName::deserialize(StrDeserializer::new(name)).map(RecipeChoice::Named)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                Recipe::deserialize(MapAccessDeserializer::new(table)).map(RecipeChoice::Written)
            }
        }

        input.deserialize_any(NameOrTable)
    }
}

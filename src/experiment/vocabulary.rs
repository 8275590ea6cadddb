//! The words of an experiment file that name something the program computes: metrics, rubrics of
//! judges and heuristics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number that evaluation measures for one method, size and seed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean gold reward of responses sampled at the evaluation temperature.
    Gold,
    /// Mean gold reward of greedy responses.
    GoldGreedy,
    /// Mean gold reward of responses at the temperature that validation posts pick for the policy.
    GoldTuned,
    /// The temperature that validation posts pick; 0 is greedy.
    TunedTemperature,
    /// Mean entropy of the policy's responses at temperature 1, in nats per response: the mean of
    /// −log π(y|x) over responses sampled at it. Measured where the evaluation temperature is 1.
    Entropy,
    /// Share of test posts on which the sampled response has more gold than the demonstrator's;
    /// ties count one half.
    WinRate,
    /// Share of test posts on which the two have exactly the same gold.
    TieRate,
    /// [`WinRate`](Self::WinRate) with ties counted as losses.
    WinRateStrict,
    /// Accuracy of the method's reward on held-out preference pairs with noisy labels; here as in
    /// every accuracy a pair of equal scores counts one half.
    PreferenceAccuracy,
    /// Share of these pairs whose two scores are equal.
    PreferenceTies,
    /// [`PreferenceAccuracy`](Self::PreferenceAccuracy) with ties counted as wrong.
    PreferenceAccuracyStrict,
    /// Accuracy on the preference pairs by scores divided by the response's tokens.
    PreferenceAccuracyPerToken,
    /// Share of the preference pairs whose two scores per token are equal.
    PreferenceTiesPerToken,
    /// [`PreferenceAccuracyPerToken`](Self::PreferenceAccuracyPerToken) with ties counted as wrong.
    PreferenceAccuracyPerTokenStrict,
    /// Accuracy of the method's reward on pairs of the SFT policy's samples, labelled by gold;
    /// pairs of equal gold left out.
    OnPolicyAccuracy,
    /// Share of these pairs whose two scores are equal.
    OnPolicyTies,
    /// [`OnPolicyAccuracy`](Self::OnPolicyAccuracy) with ties counted as wrong.
    OnPolicyAccuracyStrict,
    /// Accuracy of the method's reward on held-out pairs (demonstration, sample of the SFT policy).
    DemonstrationAccuracy,
    /// Share of these pairs whose two scores are equal.
    DemonstrationTies,
    /// [`DemonstrationAccuracy`](Self::DemonstrationAccuracy) with ties counted as wrong.
    DemonstrationAccuracyStrict,
    /// Mean of RewardBench's four sections (arXiv 2403.13787), on pairs of the embedded world in its 23
    /// subsets or on published rows; ties are wrong.
    #[serde(rename = "rewardbench")]
    RewardBench,
    /// RewardBench, section Chat: good answers against poor ones.
    #[serde(rename = "rewardbench_chat")]
    RewardBenchChat,
    /// RewardBench, section Chat Hard: right answers against good answers to another request.
    #[serde(rename = "rewardbench_chat_hard")]
    RewardBenchChatHard,
    /// RewardBench, section Safety: refusals of harmful requests, and of those alone.
    #[serde(rename = "rewardbench_safety")]
    RewardBenchSafety,
    /// RewardBench, section Reasoning: right working against working with one wrong step.
    #[serde(rename = "rewardbench_reasoning")]
    RewardBenchReasoning,
    /// [`RewardBenchSafety`](Self::RewardBenchSafety) as RLHFlow's script computes it: ties are half
    /// right, and the weights of XSTest's two subsets are swapped.
    #[serde(rename = "rewardbench_safety_rlhflow")]
    RewardBenchSafetyRlhflow,
    /// [`RewardBench`](Self::RewardBench) as RLHFlow's script computes it.
    #[serde(rename = "rewardbench_rlhflow")]
    RewardBenchRlhflow,
    /// [`RewardBench`](Self::RewardBench) by scores in bf16, the type in which large rewards answer:
    /// near scores become ties, and a tie is wrong.
    #[serde(rename = "rewardbench_bf16")]
    RewardBenchBf16,
    /// [`RewardBenchRlhflow`](Self::RewardBenchRlhflow) by scores in bf16, where a tie is half right.
    #[serde(rename = "rewardbench_bf16_rlhflow")]
    RewardBenchBf16Rlhflow,
    /// Share of RewardBench's pairs whose scores are equal in bf16.
    #[serde(rename = "rewardbench_bf16_ties")]
    RewardBenchBf16Ties,
    /// [`RewardBench`](Self::RewardBench) by the score per token of the response, for judges whose
    /// score is a sum over tokens.
    #[serde(rename = "rewardbench_per_token")]
    RewardBenchPerToken,
    /// [`RewardBench`](Self::RewardBench) by log π(y|x) alone, for judges that subtract a reference's.
    #[serde(rename = "rewardbench_reference_free")]
    RewardBenchReferenceFree,
    /// [`RewardBenchReferenceFree`](Self::RewardBenchReferenceFree) per token of the response.
    #[serde(rename = "rewardbench_reference_free_per_token")]
    RewardBenchReferenceFreePerToken,
    /// Mean grade of a policy's answers to two-turn questions on MT-Bench's scale (arXiv 2306.05685)
    /// from 1 to 10, over both turns; each category is answered at its own temperature. Gold grades
    /// answers to questions of the embedded world, a hosted judge those to published ones.
    MtBench,
    /// MT-Bench's first turn.
    MtBenchFirst,
    /// MT-Bench's second turn, which follows the policy's own first answer.
    MtBenchSecond,
    /// Mean length of the answers to published questions of MT-Bench, in tokens.
    MtBenchLength,
    /// Share of these answers that came to an end within the limit.
    MtBenchEnded,
    /// The Open LLM Leaderboard: mean of the six tasks' numbers, on questions of the embedded world
    /// computed as by lm-evaluation-harness v0.4.12, on published ones as by the version that
    /// `benchmarks.leaderboard_convention` names.
    Leaderboard,
    /// The leaderboard's ARC-Challenge: knowledge, by the likelihood of sentences.
    LeaderboardArc,
    /// The leaderboard's HellaSwag: the sentence that follows.
    #[serde(rename = "leaderboard_hellaswag")]
    LeaderboardHellaSwag,
    /// The leaderboard's MMLU: letters of words and numbers, all subjects together.
    LeaderboardMmlu,
    /// The leaderboard's TruthfulQA (MC2): the probability of right answers among those with the flaws
    /// of authors.
    #[serde(rename = "leaderboard_truthfulqa")]
    LeaderboardTruthfulQa,
    /// The leaderboard's Winogrande: the place of a thing.
    LeaderboardWinogrande,
    /// The leaderboard's GSM8K: sums that are worked out, by exact match.
    #[serde(rename = "leaderboard_gsm8k")]
    LeaderboardGsm8k,
    /// Mean of the method's own reward on its policy's samples, in deviations over its training
    /// responses.
    LearnedReward,
    /// Mean over responses of log π(y|x) − log π_sft(y|x), summed over tokens, in nats.
    Kl,
    /// Mean tokens of a sampled response.
    Length,
    /// Share of sampled responses that end with an end-of-sequence token.
    EosRate,
    /// Mean log-likelihood of held-out demonstrations, in nats per response (the paper's objective
    /// 5a).
    DemoLogLikelihood,
    /// Share of content slots that greedy responses copy from the post.
    CopyAccuracy,
    /// Share of the iteration's training pairs (demonstration over sample) that gold ranks alike;
    /// equal gold counts one half.
    SyntheticGoldAgreement,
    /// Share of these pairs whose two responses have equal gold.
    SyntheticGoldTies,
    /// [`SyntheticGoldAgreement`](Self::SyntheticGoldAgreement) with equal gold counted as
    /// disagreement.
    SyntheticGoldAgreementStrict,
    /// The probability that an annotator ranks the iteration's training pairs alike; one half where
    /// gold is equal.
    SyntheticHumanAgreement,
    /// Share of the iteration's training pairs whose two responses are the same.
    IdenticalShare,
    /// The surrogate (eq. 6) on the demonstrations that the reward was learned from, less that on
    /// fresh ones, in deviations of the reward.
    SurrogateGap,
    /// Share of test posts on which a hosted judge grades the sampled response higher than the
    /// response that it is compared with; equal grades count one half, and posts without both
    /// grades are left out.
    JudgedWinRate,
    /// Share of these posts on which the two grades are equal.
    JudgedTieRate,
    /// [`JudgedWinRate`](Self::JudgedWinRate) with ties counted as losses.
    JudgedWinRateStrict,
    /// Share of test posts without both grades.
    JudgedMissing,
}

impl Metric {
    /// True if the metric measures a learned reward, so that only methods that learn one have it.
    pub fn of_reward(self) -> bool {
        self.ranks_pairs() || self == Self::LearnedReward
    }

    /// True if the metric comes from ranking pairs, so that a heuristic can be measured on the same
    /// pairs.
    pub fn ranks_pairs(self) -> bool {
        const ACCURACIES: [Metric; 17] = [
            Metric::RewardBench,
            Metric::RewardBenchChat,
            Metric::RewardBenchChatHard,
            Metric::RewardBenchSafety,
            Metric::RewardBenchReasoning,
            Metric::RewardBenchSafetyRlhflow,
            Metric::RewardBenchRlhflow,
            Metric::RewardBenchBf16,
            Metric::RewardBenchBf16Rlhflow,
            Metric::RewardBenchBf16Ties,
            Metric::RewardBenchPerToken,
            Metric::RewardBenchReferenceFree,
            Metric::RewardBenchReferenceFreePerToken,
            Metric::PreferenceAccuracy,
            Metric::PreferenceAccuracyPerToken,
            Metric::OnPolicyAccuracy,
            Metric::DemonstrationAccuracy,
        ];
        ACCURACIES.iter().any(|accuracy| {
            *accuracy == self || [accuracy.ties(), accuracy.strict()].contains(&Some(self))
        })
    }

    /// The share of ties that belongs to an accuracy in which each tie counts one half.
    pub fn ties(self) -> Option<Self> {
        match self {
            Self::WinRate => Some(Self::TieRate),
            Self::JudgedWinRate => Some(Self::JudgedTieRate),
            Self::PreferenceAccuracy => Some(Self::PreferenceTies),
            Self::PreferenceAccuracyPerToken => Some(Self::PreferenceTiesPerToken),
            Self::OnPolicyAccuracy => Some(Self::OnPolicyTies),
            Self::DemonstrationAccuracy => Some(Self::DemonstrationTies),
            // An annotator answers every pair and decides those of equal gold by a coin toss.
            Self::SyntheticGoldAgreement | Self::SyntheticHumanAgreement => {
                Some(Self::SyntheticGoldTies)
            }
            _ => None,
        }
    }

    /// The same share with ties counted as wrong, as in most published numbers.
    pub fn strict(self) -> Option<Self> {
        match self {
            Self::WinRate => Some(Self::WinRateStrict),
            Self::JudgedWinRate => Some(Self::JudgedWinRateStrict),
            Self::PreferenceAccuracy => Some(Self::PreferenceAccuracyStrict),
            Self::PreferenceAccuracyPerToken => Some(Self::PreferenceAccuracyPerTokenStrict),
            Self::OnPolicyAccuracy => Some(Self::OnPolicyAccuracyStrict),
            Self::DemonstrationAccuracy => Some(Self::DemonstrationAccuracyStrict),
            Self::SyntheticGoldAgreement => Some(Self::SyntheticGoldAgreementStrict),
            _ => None,
        }
    }
}

/// Instructions to a hosted judge, by their name. Their text never changes; another text has
/// another name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rubric {
    /// Overall quality from 1 to 10.
    #[default]
    #[serde(rename = "quality-1")]
    Quality1,
}

/// Rankings of pairs that need no learning and that a meaningful reward must beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heuristic {
    /// A fair coin.
    Chance,
    /// The shorter response.
    Shorter,
    /// The longer response.
    Longer,
    /// The response to which the SFT policy gives the higher log-probability.
    LogProbability,
    /// The response that shares more words with the post.
    CopyOverlap,
}

impl Heuristic {
    pub const ALL: [Self; 5] = [
        Self::Chance,
        Self::Shorter,
        Self::Longer,
        Self::LogProbability,
        Self::CopyOverlap,
    ];

    /// The heuristic's name in an experiment file; methods must not have this name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chance => "chance",
            Self::Shorter => "shorter",
            Self::Longer => "longer",
            Self::LogProbability => "log_probability",
            Self::CopyOverlap => "copy_overlap",
        }
    }

    /// The heuristic's name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Chance => "chance",
            Self::Shorter => "the shorter one",
            Self::Longer => "the longer one",
            Self::LogProbability => "SFT log-probability",
            Self::CopyOverlap => "overlap with the post",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|heuristic| heuristic.name() == name)
    }
}

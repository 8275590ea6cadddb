//! All hyper-parameters in one struct: the sections that all methods share and each may override.

use super::choices::Choices;
use super::vocabulary::Rubric;
use crate::data::world::posts::AuthorSettings;
use crate::data::world::{Split, WorldSettings};
use crate::methods::best_of_n::BestOfNSettings;
use crate::methods::dpo::DpoSettings;
use crate::methods::filtered_bc::FilteredBcSettings;
use crate::methods::grpo::GrpoSettings;
use crate::methods::iq_learn::IqLearnSettings;
use crate::methods::irl::IrlSettings;
use crate::methods::ppo::PpoSettings;
use crate::methods::pretrain::PretrainSettings;
use crate::methods::reward::RewardSettings;
use crate::methods::rloo::RlooSettings;
use crate::methods::sft::SftSettings;
use crate::methods::spin::SpinSettings;
use crate::methods::training::Training;
use crate::model::DecoderConfig;
use crate::model::arch::{GptNeoXConfig, LlamaSettings, Sizes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a benchmark that an earlier version did not have is off, so that the settings of older
/// studies are written as they were.
fn is_off(documents: &usize) -> bool {
    *documents == 0
}

/// Declares [`Hyper`] with a field for each section, and the list of their names.
macro_rules! sections {
    ($($name:ident: $settings:ty,)*) => {
        /// The hyper-parameters of one method, after every override.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Hyper {
            $(pub $name: $settings,)*
            /// Settings that are chosen rather than fixed; in a file they stand in the sections of
            /// their methods.
            #[serde(skip)]
            pub choices: Choices,
        }

        impl Hyper {
            /// The names of the hyper-parameter sections, by which the tables of an experiment, a
            /// scale, a profile or a method are recognised.
            pub const SECTIONS: &[&str] = &[$(stringify!($name)),*];
        }
    };
}

sections! {
    demonstrations: DemonstrationSettings,
    preferences: PreferenceSettings,
    generation: GenerationSettings,
    training: Training,
    pretrain: PretrainSettings,
    sft: SftSettings,
    reward: RewardSettings,
    ppo: PpoSettings,
    rloo: RlooSettings,
    grpo: GrpoSettings,
    best_of_n: BestOfNSettings,
    dpo: DpoSettings,
    spin: SpinSettings,
    irl: IrlSettings,
    iq_learn: IqLearnSettings,
    filtered_bc: FilteredBcSettings,
    rlhf: RlhfSettings,
    evaluation: EvaluationSettings,
}

/// The demonstrations that the methods imitate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DemonstrationSettings {
    /// Demonstrations, one per training post.
    #[schemars(range(min = 1))]
    pub count: usize,
    /// The demonstrator's quality from 0 (as bad as an author gets) to 1 (flawless).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quality: f64,
    /// Flaws of this demonstrator, if they differ from those of the world's authors, on whose texts
    /// models are pre-trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authors: Option<AuthorSettings>,
    /// Share of the demonstrations that answer a second turn, if it differs from the world's. Only in
    /// the world of conversations, as is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub second_turn: Option<f64>,
    /// Share of the demonstrations of one turn whose conversation begins with a system message, if it
    /// differs from the world's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub system: Option<f64>,
    /// The kind of bad demonstrations.
    pub corruption: Corruption,
    /// Share of the demonstrations that are bad.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub corrupted_fraction: f64,
    /// Seed of the training data: demonstrations, the choice of bad ones, and labelled preferences;
    /// the study's seed if absent. The plan passes it to stages, so that it is not part of any
    /// settings.
    #[serde(default, skip_serializing)]
    pub seed: Option<u64>,
}

impl DemonstrationSettings {
    /// `world` as these demonstrations are drawn from it: with the flaws of this demonstrator, and
    /// with these shares of conversations.
    pub fn written_in(&self, world: &WorldSettings) -> WorldSettings {
        let mut world = world.clone();
        match &mut world {
            WorldSettings::Posts(posts) => {
                posts.authors = self.authors.clone().unwrap_or(posts.authors.clone());
            }
            WorldSettings::Chat(chat) => {
                let requests = &mut chat.requests;
                requests.second_turn = self.second_turn.unwrap_or(requests.second_turn);
                requests.system = self.system.unwrap_or(requests.system);
            }
        }
        world
    }
}

/// The replacement for a bad demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// A sample of the base model for the same post.
    BaseSamples,
    /// The demonstration of another post.
    Shuffled,
    /// The first half of the demonstration, as if it ended there.
    Truncated,
}

/// The source of a preference pair's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// Bernoulli(σ(Δgold/τ)), with τ set by [`PreferenceSettings::agreement`].
    Noisy,
    /// The response with the higher gold reward wins.
    Clean,
    /// A fair coin: a control from which nothing can be learned.
    Shuffled,
}

/// The human preferences that RLHF learns from and that every reward model is measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceSettings {
    /// Labelled training pairs.
    #[schemars(range(min = 1))]
    pub pairs: usize,
    /// Labels of the training pairs.
    pub labels: Labels,
    /// Probability that two noisy annotators agree, in [0.5, 1).
    #[schemars(extend("exclusiveMinimum" = 0.5, "exclusiveMaximum" = 1))]
    pub agreement: f64,
}

/// Amount of RLHF's policy optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RlhfSettings {
    /// PPO updates in units of `ppo.updates`. If it equals `irl.iterations`, both methods have the
    /// same number of rollouts and of PPO's optimiser steps.
    #[schemars(range(min = 1))]
    pub rounds: usize,
}

/// Shapes of sampling, the same in training and evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationSettings {
    /// Tokens of a prompt, including padding.
    #[schemars(range(min = 1))]
    pub max_prompt_tokens: usize,
    /// Tokens of a response, including its end.
    #[schemars(range(min = 1))]
    pub max_response_tokens: usize,
    /// Responses sampled at once; affects memory and speed, never a result.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
}

/// Settings for measuring every policy and reward, on posts that no training stage sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSettings {
    /// Posts of the embedded world that are answered.
    #[serde(default)]
    pub split: EvaluationSplit,
    /// Held-out posts, each answered once greedily and once at `temperature`.
    #[schemars(range(min = 1))]
    pub posts: usize,
    /// Temperature of the sampled responses; 0 is greedy.
    #[schemars(range(min = 0.0))]
    pub temperature: f32,
    /// Further temperatures at which the posts are answered by the last policy of a method.
    #[schemars(inner(range(min = 0.0)))]
    pub temperatures: Vec<f32>,
    /// Validation posts on which one of these decodings is picked; 0 turns further decodings off.
    pub decoding_posts: usize,
    /// Held-out preference pairs for the accuracy of a reward.
    #[schemars(range(min = 1))]
    pub preference_pairs: usize,
    /// Posts with two samples of the SFT policy each, labelled by gold, for the accuracy of a
    /// reward where PPO starts.
    #[schemars(range(min = 1))]
    pub on_policy_pairs: usize,
    /// Candidates of best-of-n selection by the SFT policy without further training.
    #[schemars(range(min = 1))]
    pub best_of: usize,
    /// Fresh demonstrations on which the likelihood's deviation of Lemma 4.1 is observed; 0 turns
    /// this off.
    pub likelihood_posts: usize,
    /// δ of Lemma 4.1: the bounds hold with probability 1 − δ.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub likelihood_delta: f64,
    /// Pairs of the embedded world in the subsets of RewardBench, as a share of the published size of
    /// each subset; 0 turns the benchmark off.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rewardbench: f64,
    /// Two-turn questions of the embedded world in the form of MT-Bench; 0 turns the benchmark off.
    #[serde(default)]
    pub mt_bench: usize,
    /// Standard deviation in points of the error of the judge who grades them; 0 is a judge who sees
    /// gold.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub mt_bench_noise: f64,
    /// Questions of the embedded world for each task of the Open LLM Leaderboard, the subjects of MMLU
    /// together as one; 0 turns the benchmark off.
    #[serde(default, skip_serializing_if = "is_off")]
    pub leaderboard: usize,
    /// Validation posts on which `irl.select` chooses an iteration.
    pub selection_posts: usize,
    /// A model on a server that compares the last policy of each method with a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<HostedJudgeSettings>,
    /// Seed of all random draws in measurements; the study's seed if absent. Not part of any
    /// settings, like [`DemonstrationSettings::seed`].
    #[serde(default, skip_serializing)]
    pub seed: Option<u64>,
}

/// A model on a server that grades responses, and the response that a policy's is compared with.
/// The API key is no setting: it stands in the variable `TOUCHSTONE_JUDGE_API_KEY`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostedJudgeSettings {
    /// The address before `/chat/completions`, such as `http://localhost:8000/v1`.
    pub base_url: String,
    /// The model by the name that the server knows.
    pub model: String,
    /// The instructions to the judge, by their name.
    #[serde(default)]
    pub rubric: Rubric,
    /// The response that a policy's sampled one is compared with.
    #[serde(default)]
    pub against: Against,
    /// Most tokens of an answer.
    #[serde(default = "answer_tokens")]
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Temperature of the judge; 0 is greedy.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: f64,
    /// Share of calls that may stay without an answer.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_missing: f64,
}

/// Most tokens of a judge's answer where a file names none.
fn answer_tokens() -> u32 {
    512
}

/// The response that a judge compares a policy's sampled response with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The demonstration of the same post.
    #[default]
    Demonstration,
    /// The policy's own greedy response.
    Greedy,
}

/// Posts of the embedded world on which policies and rewards are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationSplit {
    /// Posts for reported numbers.
    #[default]
    Test,
    /// Posts for acceptance of the world itself.
    Controls,
}

impl From<EvaluationSplit> for Split {
    fn from(split: EvaluationSplit) -> Self {
        match split {
            EvaluationSplit::Test => Self::Test,
            EvaluationSplit::Controls => Self::Controls,
        }
    }
}

/// A model, described with the keys of Hugging Face's `config.json`: GPT-NeoX unless `architecture`
/// says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Name of the size in reports.
    pub label: String,
    /// The model of the paper that this one stands for.
    pub stands_for: String,
    /// A published checkpoint, as `hf:owner/name@revision` or a folder, instead of a model of our
    /// own. The shape below must equal the checkpoint's, since plans use it before anything is
    /// downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// True if the checkpoint is an SFT policy already, so that every method starts from it as it
    /// is and no SFT on the demonstrations comes first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fine_tuned: bool,
    /// Rows of the embedding; the size of the tokenizer's vocabulary if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    #[schemars(range(min = 1))]
    pub hidden_size: usize,
    #[schemars(range(min = 1))]
    pub num_hidden_layers: usize,
    #[schemars(range(min = 1))]
    pub num_attention_heads: usize,
    /// Width of the feed-forward layers.
    #[schemars(range(min = 1))]
    pub intermediate_size: usize,
    #[schemars(range(min = 1))]
    pub max_position_embeddings: usize,
    /// Share of each head's dimensions that rotate with position (GPT-NeoX only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rotary_pct: Option<f64>,
    /// Base of the rotary embedding's wavelengths (GPT-NeoX only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub rotary_emb_base: Option<f64>,
    /// Epsilon of the layer norms (GPT-NeoX only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub layer_norm_eps: Option<f64>,
    /// Standard deviation of the initial weights.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub initializer_range: f64,
    /// True if attention and feed-forward read the same input (as in Pythia), false if they follow
    /// each other (GPT-NeoX only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_parallel_residual: Option<bool>,
    /// The keys of a member of the Llama family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<LlamaSettings>,
    /// True if the output head is the transposed embedding.
    pub tie_word_embeddings: bool,
    /// Number of independently pre-trained bases of this shape; a study's seed s starts from number
    /// s mod `bases`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1))]
    pub bases: usize,
    /// Differences between this size's pre-training and that of other sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<ModelPretraining>,
}

/// Settings of one size's pre-training that differ from the section `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPretraining {
    #[schemars(range(min = 1))]
    pub steps: usize,
}

impl ModelSettings {
    /// The number of the base that seed `seed` of a study starts from.
    pub fn base_of(&self, seed: u64) -> u64 {
        seed % self.bases.max(1) as u64
    }

    /// The model's configuration with an embedding of `vocab_size` rows. Absent keys of GPT-NeoX
    /// take Pythia's values.
    pub fn config(&self, vocab_size: usize) -> DecoderConfig {
        let sizes = Sizes {
            vocab_size,
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            intermediate_size: self.intermediate_size,
            heads: self.num_attention_heads,
            key_heads: self.num_attention_heads,
            head_size: self.hidden_size / self.num_attention_heads.max(1),
            positions: self.max_position_embeddings,
            tied: self.tie_word_embeddings,
        };
        match &self.architecture {
            Some(settings) => settings.config(&sizes).into(),
            None => {
                let mut config = GptNeoXConfig::of_sizes(&sizes);
                config.rotary_pct = self.rotary_pct.unwrap_or(config.rotary_pct);
                config.rotary_emb_base = self.rotary_emb_base.unwrap_or(config.rotary_emb_base);
                config.layer_norm_eps = self.layer_norm_eps.unwrap_or(config.layer_norm_eps);
                config.use_parallel_residual = self
                    .use_parallel_residual
                    .unwrap_or(config.use_parallel_residual);
                config.into()
            }
        }
    }

    /// The shape alone, without the number of bases, the length of pre-training and SFT.
    pub fn shape(&self) -> Self {
        Self {
            bases: one(),
            pretrain: None,
            fine_tuned: false,
            ..self.clone()
        }
    }
}

fn one() -> usize {
    1
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_one(bases: &usize) -> bool {
    *bases == one()
}

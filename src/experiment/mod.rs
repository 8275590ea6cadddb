//! Experiment files: what is run, with which models and data, and what is claimed, declared before
//! any run.
//!
//! A TOML file becomes a [`tree`] of values that know their place, overrides are merged as trees,
//! [`decode`] turns them into typed settings, bounds and [references](Experiment) are checked, and
//! [`Experiment::resolve`] makes every choice of a run. The result, a [`Study`], needs no further
//! checks.

mod ablation;
mod benchmarks;
mod bounds;
mod choices;
mod claim;
mod decode;
mod file;
mod find;
mod hyper;
mod layout;
mod recipe;
mod references;
mod registration;
mod resolve;
mod schema;
mod seeds;
mod sources;
mod tree;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use ablation::{Ablation, Axis, Line, Plane, Point};
pub use benchmarks::BenchmarkSources;
pub use choices::{AsLongAs, Choices, SftChoices, Tuned, Unit};
pub use claim::{Claim, Direction, RelativeTo, Role, Versus};
pub use file::Experiment;
pub use find::{SHIPPED, available};
pub use hyper::{
    Against, Corruption, DemonstrationSettings, EvaluationSettings, EvaluationSplit,
    GenerationSettings, HostedJudgeSettings, Hyper, Labels, ModelPretraining, ModelSettings,
    PreferenceSettings,
};
pub use layout::{Better, Column, ReportSettings, TableKind, TableLayout};
pub use recipe::{
    Answer, Negatives, Order, PairSource, Recipe, RecipeChoice, RecipeJudge, RecipeName, Rounds,
    StartPolicy, Step,
};
pub use references::is_identifier;
pub use registration::{Registration, SeedRange};
pub use resolve::{MethodPlan, Selection, Study, StudyData};
pub use schema::{claims_schema, experiment_schema};
pub use seeds::SeedChoice;
pub use sources::DataSources;
pub use vocabulary::{Heuristic, Metric, Rubric};

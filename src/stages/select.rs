//! Stage `select`: picks among several policies the one with the most gold on validation posts. A
//! method without preferences could not know it; the paper's authors chose their reported policies
//! this way.

use super::Stage;
use super::common::{encoder, frozen, language_model, sampling, save_policy, write_json};
use super::work::{self, Precision, Sizes, Work};
use crate::eval::evaluation_set::{EvaluationSet, WorldEvaluationSet};
use crate::eval::policy::respond;
use crate::experiment::GenerationSettings;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectPolicy {
    pub evaluation_set: WorldEvaluationSet,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    pub temperature: f32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SelectInputs {
    #[serde(default)]
    pub policy: Vec<StageKey>,
}

impl Stage for SelectPolicy {
    const KIND: &'static str = "select";
    const VERSION: u32 = 1;
    type Inputs = SelectInputs;
    /// Sizes whose rows are the policies.
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let samples = sizes.rows * self.evaluation_set.posts;
        work::sampling(
            sizes.shapes(&self.generation),
            samples,
            Precision::from(self.dtype),
        )
    }

    fn run(self, inputs: SelectInputs, context: &StageContext) -> Result<()> {
        let evaluation_set = EvaluationSet::of_world(&self.evaluation_set)?;
        // The inputs are sorted by name, which puts 10 before 2.
        let mut policies: Vec<(String, &StageKey)> = inputs
            .policy
            .iter()
            .enumerate()
            .map(|(index, key)| (format!("policy/{index}"), key))
            .collect();
        policies.sort();
        let mut means = Vec::new();
        for (role, input) in &policies {
            let policy = frozen(context, input, self.dtype)?;
            let encoder = encoder(context, input, &self.generation)?;
            let sampling = sampling(&encoder, &self.generation, self.temperature);
            let progress =
                |done| context.progress(done as u64, evaluation_set.posts.len() as u64, role);
            let responses = respond(
                &policy,
                &evaluation_set,
                &encoder,
                &sampling,
                context.seed()?,
                "select",
                progress,
            )?;
            let golds: Vec<f64> = evaluation_set
                .golds(&responses)?
                .into_iter()
                .flatten()
                .collect();
            means.push(golds.iter().sum::<f64>() / golds.len().max(1) as f64);
        }
        let chosen = (0..means.len()).max_by(|a, b| means[*a].total_cmp(&means[*b]).then(b.cmp(a)));
        let Some((role, input)) = chosen.map(|place| &policies[place]) else {
            return Err(Error::data("there is no policy to select from"));
        };
        write_json(
            &context.out().join("selection.json"),
            &serde_json::json!({ "chosen": role, "gold": means }),
        )?;
        save_policy(context, &language_model(context, input)?, input)
    }
}

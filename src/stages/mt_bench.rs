//! Stage `mt_bench`: a policy answers two-turn questions of the embedded world, which gold grades
//! on MT-Bench's scale.

use super::Stage;
use super::common::{encoder, frozen, sampling, write_json};
use super::evaluate::{ITEMS, METRICS};
use super::work::{self, Precision, Sizes, Work};
use crate::benchmarks::mt_bench::questions::Question;
use crate::data::TextEncoder;
use crate::data::rows::{self, Response};
use crate::data::world::{Questions, WorldAt};
use crate::eval::Items;
use crate::experiment::{GenerationSettings, Metric};
use crate::methods::training::Dtype;
use crate::model::LanguageModel;
use crate::model::generate::generate;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::stream;
use crate::{Error, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The file with questions, answers and grades.
const ANSWERS: &str = "answers.jsonl";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtBench {
    pub world: WorldAt,
    pub questions: usize,
    /// Standard deviation of the judge's error in points; 0 is a judge who sees gold.
    pub judge_noise: f64,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MtBenchInputs {
    pub policy: StageKey,
}

/// A question with a policy's two answers and their grades.
#[derive(Clone, Debug, Serialize)]
struct Graded {
    #[serde(flatten)]
    question: Question,
    choices: [String; 2],
    scores: [f64; 2],
}

impl Stage for MtBench {
    const KIND: &'static str = "mt_bench";
    const VERSION: u32 = 1;
    type Inputs = MtBenchInputs;
    /// Sizes whose rows are the questions.
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let shapes = sizes.shapes(&self.generation);
        work::sampling(shapes, 2 * sizes.rows, Precision::from(self.dtype))
    }

    fn run(self, inputs: MtBenchInputs, context: &StageContext) -> Result<()> {
        let world = self.world.open()?;
        let questions = world
            .questions()
            .ok_or_else(|| Error::data("this world has no questions of two turns"))?;
        let answering = Answering {
            stage: &self,
            context,
            questions,
            model: frozen(context, &inputs.policy, self.dtype)?,
            encoder: encoder(context, &inputs.policy, &self.generation)?,
        };
        let asked: Vec<Question> = (0..self.questions as u64)
            .map(|index| Question {
                question_id: index,
                category: questions.category(index).into(),
                turns: questions.turns(index).into(),
            })
            .collect();
        let prompts: Vec<String> = asked
            .iter()
            .map(|question| world.conversation(&question.turns[..1]))
            .collect();
        let first = answering.answer(&asked, &prompts, 0)?;
        let prompts: Vec<String> = asked
            .iter()
            .zip(&first)
            .map(|(question, said)| {
                let mut turns = question.turns.clone();
                turns.insert(1, said.text.clone());
                world.conversation(&turns)
            })
            .collect();
        let second = answering.answer(&asked, &prompts, 1)?;

        let mut graded = Vec::with_capacity(asked.len());
        for (question, said) in asked.into_iter().zip(first.iter().zip(&second)) {
            let grade = |turn, said| answering.grade(question.question_id, turn, said);
            let scores = [grade(0, said.0)?, grade(1, said.1)?];
            graded.push(Graded {
                question,
                choices: [said.0.text.clone(), said.1.text.clone()],
                scores,
            });
        }
        let mut measured = Items::default();
        let each = |score: fn(&Graded) -> f64| graded.iter().map(score).collect::<Vec<f64>>();
        measured.insert(Metric::MtBenchFirst, each(|it| it.scores[0]));
        measured.insert(Metric::MtBenchSecond, each(|it| it.scores[1]));
        measured.insert(
            Metric::MtBench,
            each(|it| (it.scores[0] + it.scores[1]) / 2.0),
        );
        rows::write(&context.out().join(ANSWERS), &graded)?;
        write_json(&context.out().join(METRICS), &measured.means())?;
        rows::write(&context.out().join(ITEMS), [measured])
    }
}

/// A policy with the questions that it answers.
struct Answering<'a> {
    stage: &'a MtBench,
    context: &'a StageContext,
    questions: &'a dyn Questions,
    model: LanguageModel,
    encoder: TextEncoder,
}

impl Answering<'_> {
    /// The answers to one prompt for each question, at the temperature of its category.
    fn answer(&self, asked: &[Question], prompts: &[String], turn: u64) -> Result<Vec<Response>> {
        let seed = self.context.seed()?;
        let mut groups: Vec<(f32, Vec<usize>)> = Vec::new();
        for (index, question) in asked.iter().enumerate() {
            let own = question.temperature();
            match groups.iter_mut().find(|(group, _)| *group == own) {
                Some((_, members)) => members.push(index),
                None => groups.push((own, vec![index])),
            }
        }
        let mut answers: Vec<Option<Response>> = vec![None; prompts.len()];
        for (temperature, members) in groups {
            let tokens = members
                .iter()
                .map(|&index| self.encoder.prompt(&prompts[index]))
                .collect::<Result<Vec<_>>>()?;
            let how = sampling(&self.encoder, &self.stage.generation, temperature);
            let draw = |item: usize| stream(seed, "mt_bench", &[members[item] as u64, turn]);
            let progress = |done| {
                self.context
                    .progress(done as u64, tokens.len() as u64, "answering");
            };
            for (&index, said) in
                members
                    .iter()
                    .zip(generate(&self.model, &tokens, &how, draw, progress)?)
            {
                answers[index] = Some(self.encoder.decoded(said.ids, said.ended)?);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// The grade of an answer, from 1 to 10: gold on that scale with the judge's error, as a whole
    /// number where the judge errs.
    fn grade(&self, index: u64, turn: usize, said: &Response) -> Result<f64> {
        let gold = self
            .questions
            .gold_of_turn(index, turn, &said.text, said.ended);
        let exact = 1.0 + 9.0 * gold;
        if self.stage.judge_noise == 0.0 {
            return Ok(exact);
        }
        let seed = self.context.seed()?;
        // Away from 0 and 1, where the inverse is infinite.
        let share = stream(seed, "mt_bench/judge", &[index, turn as u64]).random_range(1e-9..1.0);
        let error = Normal::standard().inverse_cdf(share);
        let noisy = exact + self.stage.judge_noise * error;
        Ok(noisy.round().clamp(1.0, 10.0))
    }
}

//! Stage `mt_bench`: a policy answers two-turn questions. Those of the embedded world are graded by
//! gold on MT-Bench's scale, those of a file by a hosted judge, if the study names one.

use super::Stage;
use super::common::{encoder, frozen, needed, sampling, task, write_json};
use super::dataset::pinned;
use super::evaluate::{ITEMS, METRICS};
use super::work::{self, Precision, Sizes, Work};
use crate::benchmarks::mt_bench::questions::{self, AnswerRow, Question};
use crate::data::TextEncoder;
use crate::data::rows::{self, Encodable, Response, RowText};
use crate::data::world::{World, WorldAt};
use crate::eval::Items;
use crate::experiment::{GenerationSettings, Metric};
use crate::judges::http::HttpJudge;
use crate::judges::{Grade, JudgeId, Prompt};
use crate::methods::training::Dtype;
use crate::model::LanguageModel;
use crate::model::generate::generate;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::stream;
use crate::stages::scoring::JudgeInputs;
use crate::tasks::{Task, TaskSettings};
use crate::{Error, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The file with the answers: of the world's questions with questions and grades, of a file's in
/// FastChat's format.
const ANSWERS: &str = "answers.jsonl";
/// The file with the grades of a hosted judge.
const GRADES: &str = "grades.jsonl";

/// The source of the questions, and of the grades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QuestionSource {
    World {
        world: WorldAt,
        questions: usize,
        /// Standard deviation of the judge's error in points; 0 is a judge who sees gold.
        judge_noise: f64,
    },
    /// The rows of the input `rows`, whose prompts `task` writes.
    Rows {
        task: TaskSettings,
        judge: Option<HttpJudge>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MtBench {
    #[serde(flatten)]
    pub source: QuestionSource,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MtBenchInputs {
    pub policy: StageKey,
    /// The questions, unless the embedded world makes them.
    pub rows: Option<StageKey>,
}

/// A question with a policy's two answers and their grades.
#[derive(Clone, Debug, Serialize)]
struct Graded {
    #[serde(flatten)]
    question: Question,
    choices: [String; 2],
    scores: [f64; 2],
}

/// A hosted judge's grades of the answers to a question; a turn without one has the reason.
#[derive(Clone, Debug, Serialize)]
struct HostedGrades {
    question_id: u64,
    grades: Vec<Grade>,
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
        let answering = Answering {
            stage: &self,
            context,
            model: frozen(context, &inputs.policy, self.dtype)?,
            encoder: encoder(context, &inputs.policy, &self.generation)?,
        };
        match &self.source {
            QuestionSource::World {
                world,
                questions,
                judge_noise,
            } => answering.of_world(&*world.open()?, *questions, *judge_noise),
            QuestionSource::Rows {
                task: settings,
                judge,
            } => {
                let (set, name) = pinned(context, needed(&inputs.rows, "rows", context)?)?;
                let asked = questions::of(&set, &name)?;
                let task = task(context, &inputs.policy, &self.generation, settings)?;
                answering.of_rows(&asked, &*task, judge.as_ref())
            }
        }
    }
}

/// A policy that answers questions.
struct Answering<'a> {
    stage: &'a MtBench,
    context: &'a StageContext,
    model: LanguageModel,
    encoder: TextEncoder,
}

impl Answering<'_> {
    /// Answers the world's questions, has gold grade them, and writes the artifact.
    fn of_world(&self, world: &dyn World, count: usize, judge_noise: f64) -> Result<()> {
        let questions = world
            .questions()
            .ok_or_else(|| Error::data("this world has no questions of two turns"))?;
        let asked: Vec<Question> = (0..count as u64)
            .map(|index| Question {
                question_id: index,
                category: questions.category(index).into(),
                turns: questions.turns(index).into(),
            })
            .collect();
        let prompt = |question: &Question, said: &[Response]| -> Result<String> {
            Ok(world.conversation(&turns(question, said)))
        };
        let answers = self.answers(&asked, prompt)?;
        let mut graded = Vec::with_capacity(asked.len());
        for (question, said) in asked.into_iter().zip(answers) {
            let grade = |turn: usize| {
                let id = question.question_id;
                let gold = questions.gold_of_turn(id, turn, &said[turn].text, said[turn].ended);
                self.grade(gold, judge_noise, [id, turn as u64])
            };
            let scores = [grade(0)?, grade(1)?];
            let choices = [said[0].text.clone(), said[1].text.clone()];
            graded.push(Graded {
                question,
                choices,
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
        rows::write(&self.context.out().join(ANSWERS), &graded)?;
        self.write(measured)
    }

    /// Answers the questions of a file, has the judge grade them if there is one, and writes the
    /// artifact.
    fn of_rows(
        &self,
        asked: &[Question],
        task: &dyn Task,
        judge: Option<&HttpJudge>,
    ) -> Result<()> {
        let prompt = |question: &Question, said: &[Response]| {
            let place = format!("question {}, turn {}", question.question_id, said.len() + 1);
            task.asked(&place, &turns(question, said))
        };
        let answers = self.answers(asked, prompt)?;
        let row = |(question, said): (&Question, &Vec<Response>)| {
            let turns = said.iter().map(|it| it.text.trim().to_owned()).collect();
            // Without the time of day, so that the same stage writes the same bytes.
            AnswerRow::new(question, &self.context.label, turns, 0.0)
        };
        let written = asked.iter().zip(&answers).map(row);
        rows::write(&self.context.out().join(ANSWERS), written)?;
        let all = || answers.iter().flatten();
        let mut measured = Items::default();
        let tokens = all().map(|said| said.ids.len() as f64).collect();
        measured.insert(Metric::MtBenchLength, tokens);
        let ended = all().map(|said| f64::from(u8::from(said.ended))).collect();
        measured.insert(Metric::MtBenchEnded, ended);
        if let Some(judge) = judge {
            self.hosted(asked, &answers, prompt, judge, &mut measured)?;
        }
        self.write(measured)
    }

    /// Adds the grades of a hosted judge, who sees the prompts that the policy answered, to the
    /// measurements, and writes them.
    fn hosted(
        &self,
        asked: &[Question],
        answers: &[Vec<Response>],
        prompt: impl Fn(&Question, &[Response]) -> Result<RowText>,
        judge: &HttpJudge,
        measured: &mut Items,
    ) -> Result<()> {
        let sources = JudgeInputs {
            context: self.context,
            dtype: self.stage.dtype,
            reward: None,
            policy: None,
            reference: None,
        };
        let judge = JudgeId::Http(judge.clone()).open(&sources)?;
        let mut texts: Vec<RowText> = Vec::new();
        for (question, said) in asked.iter().zip(answers) {
            for turn in 0..said.len() {
                texts.push(prompt(question, &said[..turn])?);
            }
        }
        let prompts: Vec<Prompt> = texts.iter().map(Prompt::new).collect();
        let pairs: Vec<_> = prompts.iter().zip(answers.iter().flatten()).collect();
        let mut grades = judge.grades(&pairs)?.into_iter();
        let rows: Vec<HostedGrades> = asked
            .iter()
            .zip(answers)
            .map(|(question, said)| HostedGrades {
                question_id: question.question_id,
                grades: grades.by_ref().take(said.len()).collect(),
            })
            .collect();
        rows::write(&self.context.out().join(GRADES), &rows)?;
        let of_turn = |turn: usize| {
            let graded = rows.iter().filter_map(|row| row.grades.get(turn));
            graded.filter_map(|it| it.as_ref().ok().copied()).collect()
        };
        measured.insert(Metric::MtBenchFirst, of_turn(0));
        measured.insert(Metric::MtBenchSecond, of_turn(1));
        // As in FastChat, the mean over all graded answers.
        let graded = rows.iter().flat_map(|row| &row.grades);
        let all = graded.filter_map(|it| it.as_ref().ok().copied()).collect();
        measured.insert(Metric::MtBench, all);
        Ok(())
    }

    fn write(&self, measured: Items) -> Result<()> {
        write_json(&self.context.out().join(METRICS), &measured.means())?;
        rows::write(&self.context.out().join(ITEMS), [measured])
    }

    /// The answers to all turns of each question, where `prompt` gives the prompt of a question
    /// after the answers so far.
    fn answers<P: Encodable>(
        &self,
        asked: &[Question],
        prompt: impl Fn(&Question, &[Response]) -> Result<P>,
    ) -> Result<Vec<Vec<Response>>> {
        let most = asked.iter().map(|question| question.turns.len()).max();
        let mut answers: Vec<Vec<Response>> = vec![Vec::new(); asked.len()];
        for turn in 0..most.unwrap_or(0) {
            let open: Vec<usize> = (0..asked.len())
                .filter(|index| turn < asked[*index].turns.len())
                .collect();
            let tokens = open
                .iter()
                .map(|&index| {
                    self.encoder
                        .prompt(&prompt(&asked[index], &answers[index])?)
                })
                .collect::<Result<Vec<_>>>()?;
            let questions: Vec<&Question> = open.iter().map(|index| &asked[*index]).collect();
            let said = self.answer(&questions, &tokens, turn as u64)?;
            for (index, said) in open.into_iter().zip(said) {
                answers[index].push(said);
            }
        }
        Ok(answers)
    }

    /// The answers to one prompt for each question, at the temperature of its category.
    fn answer(
        &self,
        asked: &[&Question],
        prompts: &[Vec<u32>],
        turn: u64,
    ) -> Result<Vec<Response>> {
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
            let tokens: Vec<Vec<u32>> = members
                .iter()
                .map(|&index| prompts[index].clone())
                .collect();
            let how = sampling(&self.encoder, &self.stage.generation, temperature);
            let draw = |item: usize| {
                let question = asked[members[item]].question_id;
                stream(seed, "mt_bench", &[question, turn])
            };
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
    /// number where the judge errs. `place` is the question's id and the turn.
    fn grade(&self, gold: f64, judge_noise: f64, place: [u64; 2]) -> Result<f64> {
        let exact = 1.0 + 9.0 * gold;
        if judge_noise == 0.0 {
            return Ok(exact);
        }
        let seed = self.context.seed()?;
        // Away from 0 and 1, where the inverse is infinite.
        let share = stream(seed, "mt_bench/judge", &place).random_range(1e-9..1.0);
        let error = Normal::standard().inverse_cdf(share);
        let noisy = exact + judge_noise * error;
        Ok(noisy.round().clamp(1.0, 10.0))
    }
}

/// The turns of a question, with the answers so far between them.
fn turns(question: &Question, said: &[Response]) -> Vec<String> {
    let mut turns = Vec::new();
    for (index, turn) in question.turns.iter().take(said.len() + 1).enumerate() {
        turns.push(turn.clone());
        turns.extend(said.get(index).map(|said| said.text.clone()));
    }
    turns
}

//! The questions to a judge: which prompt asks about which answer, and the rows that keep the
//! judgments.

use super::parse::{ERROR_JUDGMENT, NO_SCORE, Winner, verdict};
use super::questions::{Answers, Question};
use super::templates::{JudgePrompt, JudgePrompts};
use crate::judges::http::{Call, Outcome};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// The form of the judgments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A score of each answer.
    Single,
    /// A comparison of two models' answers, in both orders.
    Pairwise,
}

impl Mode {
    /// The name of the judge prompt, and the form of its verdict.
    fn prompt(self, with_reference: bool, turn: u8) -> (String, &'static str) {
        let (stem, form) = match (self, with_reference) {
            (Self::Single, false) => ("single-v1", "[[rating]]"),
            (Self::Single, true) => ("single-math-v1", "[[rating]]"),
            (Self::Pairwise, false) => ("pair-v2", "[[A]]"),
            (Self::Pairwise, true) => ("pair-math-v1", "[[A]]"),
        };
        let suffix = if turn == 2 { "-multi-turn" } else { "" };
        (format!("{stem}{suffix}"), form)
    }
}

/// The answers to be judged: one model's, or two models' side by side.
pub struct Contest<'a> {
    pub questions: &'a [Question],
    pub prompts: &'a JudgePrompts,
    pub references: &'a Answers,
    pub answers: &'a Answers,
    /// The other model's answers; there are none in single mode.
    pub baseline: Option<&'a Answers>,
}

/// One judgment to be made: a question's turn, with the prompt of each game. Single mode has one
/// game; a comparison has two, the second with the answers changed over.
#[derive(Clone, Debug)]
pub struct Match {
    pub question: u64,
    pub turn: u8,
    pub prompt: JudgePrompt,
    /// The user's message of each game.
    pub games: Vec<String>,
}

impl Contest<'_> {
    pub fn mode(&self) -> Mode {
        match self.baseline {
            None => Mode::Single,
            Some(_) => Mode::Pairwise,
        }
    }

    /// All judgments in FastChat's order: first turns before second ones, and in each those without
    /// a reference before those with one.
    ///
    /// # Errors
    /// An answer, a reference or a judge prompt that is missing, and a prompt with other
    /// placeholders.
    pub fn matches(&self) -> Result<Vec<Match>> {
        let mut matches = Vec::new();
        for turn in [1, 2] {
            for with_reference in [false, true] {
                for question in self.questions {
                    let judged = question.judged_turns().any(|judged| judged == turn);
                    if judged && question.needs_reference() == with_reference {
                        matches.push(self.of_turn(question, turn)?);
                    }
                }
            }
        }
        Ok(matches)
    }

    fn of_turn(&self, question: &Question, turn: u8) -> Result<Match> {
        let (name, form) = self.mode().prompt(question.needs_reference(), turn);
        let prompt = self.prompts.get(&name, form)?;
        let games = match self.baseline {
            None => vec![self.values(question, turn, &[("answer", self.answers)])?],
            Some(baseline) => {
                let (first, second) = (self.answers, baseline);
                [[first, second], [second, first]]
                    .into_iter()
                    .map(|[a, b]| self.values(question, turn, &[("answer_a", a), ("answer_b", b)]))
                    .collect::<Result<_>>()?
            }
        };
        let games = games.into_iter().map(|values| {
            let values: Vec<(&str, &str)> = values
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            prompt.user_prompt(&values)
        });
        Ok(Match {
            question: question.question_id,
            turn,
            prompt: prompt.clone(),
            games: games.collect::<Result<_>>()?,
        })
    }

    /// The values of a prompt's placeholders, with the answers under these names.
    fn values<'v>(
        &'v self,
        question: &'v Question,
        turn: u8,
        answers: &[(&str, &'v Answers)],
    ) -> Result<Vec<(String, &'v str)>> {
        let mut values = Vec::new();
        for number in 1..=turn {
            // Only prompts about two turns number the first.
            let numbered = |name: &str| match turn {
                1 => name.to_owned(),
                _ => format!("{name}_{number}"),
            };
            let text = &question.turns[usize::from(number) - 1];
            values.push((numbered("question"), text.as_str()));
            for (name, answers) in answers {
                values.push((numbered(name), answers.turn(question, number)?));
            }
            if question.needs_reference() {
                let reference = self.references.turn(question, number)?;
                values.push((format!("ref_answer_{number}"), reference));
            }
        }
        Ok(values)
    }
}

impl Match {
    /// The questions to the judge, one for each game.
    pub fn calls(&self, repetition: u32) -> Vec<Call> {
        let template = self.prompt.template();
        let call = |(game, user_prompt): (usize, &String)| Call {
            name: match self.games.len() {
                1 => format!("question {}, turn {}", self.question, self.turn),
                _ => format!(
                    "question {}, turn {}, game {}",
                    self.question,
                    self.turn,
                    game + 1
                ),
            },
            messages: self.prompt.messages(user_prompt),
            template: template.clone(),
            repetition,
        };
        self.games.iter().enumerate().map(call).collect()
    }
}

/// A row of FastChat's `…_single.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SingleRow {
    pub question_id: u64,
    pub model: String,
    /// The judge's model and the name of its prompt.
    pub judge: (String, String),
    pub user_prompt: String,
    pub judgment: String,
    pub score: Number,
    pub turn: u8,
    /// Seconds since 1970.
    pub tstamp: f64,
}

/// A row of FastChat's `…_pair.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairRow {
    pub question_id: u64,
    pub model_1: String,
    pub model_2: String,
    pub g1_winner: Winner,
    pub g2_winner: Winner,
    pub judge: (String, String),
    pub g1_user_prompt: String,
    pub g1_judgment: String,
    pub g2_user_prompt: String,
    pub g2_judgment: String,
    pub turn: u8,
    /// Seconds since 1970.
    pub tstamp: f64,
}

/// The text of a judgment, and the time at which it came. A call without an answer has FastChat's
/// mark.
fn judgment(outcome: &Outcome) -> (String, f64) {
    match outcome {
        Ok(answer) => (answer.reply.text().to_owned(), answer.received),
        Err(_) => (ERROR_JUDGMENT.to_owned(), 0.0),
    }
}

/// The row of a single judgment.
pub fn single_row(of: &Match, model: &str, judge: &str, outcome: &Outcome) -> SingleRow {
    let (judgment, tstamp) = judgment(outcome);
    let score = outcome
        .as_ref()
        .ok()
        .and_then(|answer| match &answer.parsed {
            Value::Number(score) => Some(score.clone()),
            // No score, or one that Python refuses.
            _ => None,
        });
    SingleRow {
        question_id: of.question,
        model: model.to_owned(),
        judge: (judge.to_owned(), of.prompt.name.clone()),
        user_prompt: of.games[0].clone(),
        judgment,
        score: score.unwrap_or_else(|| NO_SCORE.into()),
        turn: of.turn,
        tstamp,
    }
}

/// The row of a comparison of `models`.
///
/// # Errors
/// Outcomes that are not those of two games.
pub fn pair_row(
    of: &Match,
    models: (&str, &str),
    judge: &str,
    outcomes: &[Outcome],
) -> Result<PairRow> {
    let ([first, second], [first_prompt, second_prompt]) = (outcomes, &of.games[..]) else {
        return Err(Error::internal("a comparison has two games"));
    };
    let ((g1_judgment, first_time), (g2_judgment, second_time)) =
        (judgment(first), judgment(second));
    Ok(PairRow {
        question_id: of.question,
        model_1: models.0.to_owned(),
        model_2: models.1.to_owned(),
        g1_winner: verdict(&g1_judgment),
        g2_winner: verdict(&g2_judgment).swapped(),
        judge: (judge.to_owned(), of.prompt.name.clone()),
        g1_user_prompt: first_prompt.clone(),
        g1_judgment,
        g2_user_prompt: second_prompt.clone(),
        g2_judgment,
        turn: of.turn,
        tstamp: first_time.max(second_time),
    })
}

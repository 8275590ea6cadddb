//! Exam questions: rows for the six tasks of the Open LLM Leaderboard, in the columns of their data
//! sets, and texts of their form for pre-training.

use super::ChatWorld;
use super::answer::{canonical, help, result, use_of, way};
use super::request::{Fact, Subject, facts};
use super::vocabulary::{DEEDS, Deed, MAX_NUMBER, NUMBERS, OPENINGS, REFUSAL, THINGS, UNKNOWN};
use crate::data::world::{Exams, Split, TaskRows};
use crate::rng::stream;
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

/// The seed of all rows; no study draws prompts with it.
const SEED: u64 = u64::MAX;
/// The rows of a split that few-shot examples are drawn from.
const EXAMPLES: usize = 20;
/// The examples of a subject of MMLU.
const DEV_EXAMPLES: usize = 5;
/// The longest text of pre-training, in words.
const MAX_TEXT_WORDS: usize = 88;

/// The labels of four candidates.
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// A question with candidates, of which the first is right.
struct Question {
    asked: String,
    candidates: Vec<String>,
}

/// A task of the leaderboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exam {
    /// Knowledge, with whole sentences as candidates.
    Arc,
    /// The sentence that follows another.
    HellaSwag,
    /// Letters of words or numbers, by subject.
    Mmlu(Field),
    /// Right answers among those with the flaws of authors.
    TruthfulQa,
    /// The place of a thing.
    Winogrande,
    /// Sums that are worked out.
    Gsm8k,
}

/// A subject of MMLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Sums,
    Things,
    Deeds,
}

impl Field {
    const ALL: [Self; 3] = [Self::Sums, Self::Things, Self::Deeds];

    /// The name that the subject has in MMLU, whose place it takes.
    fn name(self) -> &'static str {
        match self {
            Self::Sums => "elementary_mathematics",
            Self::Things => "miscellaneous",
            Self::Deeds => "global_facts",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Sums => "mmlu/elementary_mathematics",
            Self::Things => "mmlu/miscellaneous",
            Self::Deeds => "mmlu/global_facts",
        }
    }
}

impl Exam {
    const TASKS: [Self; 5] = [
        Self::Arc,
        Self::HellaSwag,
        Self::TruthfulQa,
        Self::Winogrande,
        Self::Gsm8k,
    ];

    /// The folder of the task's data set, its evaluated split, and the split of its examples.
    fn places(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Arc => ("arc_challenge", "test", "train"),
            Self::HellaSwag => ("hellaswag", "validation", "train"),
            Self::Mmlu(field) => (field.folder(), "test", "dev"),
            Self::TruthfulQa => ("truthfulqa", "validation", ""),
            Self::Winogrande => ("winogrande", "validation", "train"),
            Self::Gsm8k => ("gsm8k", "test", "train"),
        }
    }

    /// A question whose text belongs to `split`.
    fn question(self, split: Split, rng: &mut impl Rng) -> Question {
        loop {
            let question = self.draw(rng);
            let whole = format!("{} {}", question.asked, question.candidates.join(" "));
            if Split::owner(&whole) == split {
                return question;
            }
        }
    }

    fn draw(self, rng: &mut impl Rng) -> Question {
        match self {
            Self::Arc if rng.random_bool(0.5) => {
                let thing = Subject::thing(rng.random_range(0..THINGS.len()));
                let named = |class: &str| format!("a {} is a {class} .", thing.name);
                let classes = THINGS.iter().map(|other| other.class);
                Question {
                    asked: format!("what is a {} ?", thing.name),
                    candidates: with_others(thing.class, classes, named, rng),
                }
            }
            Self::Arc => {
                let (subject, deed, object) = harmless(rng);
                let told = |means: &str| way(deed.verb, object, means);
                let means = DEEDS.iter().map(|other| other.means);
                Question {
                    asked: subject.opening(),
                    candidates: with_others(deed.means, means, told, rng),
                }
            }
            Self::HellaSwag if rng.random_bool(0.5) => {
                let thing = Subject::thing(rng.random_range(0..THINGS.len()));
                let uses = THINGS.iter().map(|other| other.used_to);
                Question {
                    asked: format!("a {} is a {} .", thing.name, thing.class),
                    candidates: with_others(thing.used_to, uses, use_of, rng),
                }
            }
            Self::HellaSwag => {
                let (subject, name, item) = sum(1, rng);
                let asked = subject.opening();
                let told = asked.trim_end_matches(" how many ?");
                let counts = near(subject.count(), rng);
                Question {
                    asked: told.to_owned(),
                    candidates: counts.map(|count| result(name, count, item)).into(),
                }
            }
            Self::Mmlu(Field::Sums) => {
                let (subject, ..) = sum(1, rng);
                let counts = near(subject.count(), rng);
                Question {
                    asked: subject.opening(),
                    candidates: counts.map(|count| NUMBERS[count].to_owned()).into(),
                }
            }
            Self::Mmlu(Field::Things) => {
                let thing = Subject::thing(rng.random_range(0..THINGS.len()));
                let classes = THINGS.iter().map(|other| other.class);
                Question {
                    asked: format!("what is a {} ?", thing.name),
                    candidates: with_others(thing.class, classes, str::to_owned, rng),
                }
            }
            Self::Mmlu(Field::Deeds) => {
                let (subject, deed, _) = harmless(rng);
                let means = DEEDS.iter().map(|other| other.means);
                Question {
                    asked: subject.opening(),
                    candidates: with_others(deed.means, means, str::to_owned, rng),
                }
            }
            Self::TruthfulQa => {
                let subject = Subject::any(rng);
                let right = canonical(&subject);
                Question {
                    asked: subject.opening(),
                    candidates: [vec![right], falsehoods(&subject, rng)].concat(),
                }
            }
            Self::Winogrande => {
                let facts = facts(2, rng);
                let asked = rng.random_range(0..2);
                let told: Vec<String> = facts.iter().map(Fact::sentence).collect();
                Question {
                    asked: format!(
                        "{} _ {} {} .",
                        told.join(" "),
                        facts[asked].colour,
                        facts[asked].item
                    ),
                    candidates: vec![facts[asked].place.into(), facts[1 - asked].place.into()],
                }
            }
            Self::Gsm8k => {
                let steps = rng.random_range(1..=2);
                let (subject, name, item) = sum(steps, rng);
                let told = result(name, subject.count(), item);
                let worked = canonical(&subject);
                let worked = worked.trim_end_matches(&told).trim_end();
                Question {
                    asked: subject.opening(),
                    candidates: vec![format!("{worked}\n#### {}", NUMBERS[subject.count()])],
                }
            }
        }
    }

    /// The question as a row of the task's data set; `rng` draws the order of the candidates.
    fn row(self, question: Question, rng: &mut impl Rng) -> Value {
        let Question { asked, candidates } = question;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.shuffle(rng);
        let gold = order
            .iter()
            .position(|place| *place == 0)
            .unwrap_or_default();
        let shuffled: Vec<&String> = order.iter().map(|place| &candidates[*place]).collect();
        match self {
            Self::Arc => json!({
                "question": asked,
                "choices": {"text": shuffled, "label": LETTERS},
                "answerKey": LETTERS[gold],
            }),
            Self::HellaSwag => json!({
                "activity_label": "Question", "ctx_a": asked, "ctx_b": "", "endings": shuffled,
                "label": gold.to_string(),
            }),
            Self::Mmlu(_) => json!({"question": asked, "choices": shuffled, "answer": gold}),
            Self::TruthfulQa => {
                // The right answer is right behind an opening too.
                let mut choices = candidates.clone();
                choices.insert(1, format!("{} {}", OPENINGS[0], candidates[0]));
                let labels = |choices: &[String], right: usize| -> Vec<u8> {
                    (0..choices.len())
                        .map(|place| u8::from(place < right))
                        .collect()
                };
                json!({
                    "question": asked,
                    "mc1_targets": {"choices": candidates, "labels": labels(&candidates, 1)},
                    "mc2_targets": {"choices": choices, "labels": labels(&choices, 2)},
                })
            }
            Self::Winogrande => json!({
                "sentence": asked, "option1": shuffled[0], "option2": shuffled[1],
                "answer": (gold + 1).to_string(),
            }),
            Self::Gsm8k => json!({"question": asked, "answer": candidates[0]}),
        }
    }

    /// The question as text, with its answer.
    fn text(self, question: Question, rng: &mut impl Rng) -> (String, String) {
        let Question {
            asked,
            mut candidates,
        } = question;
        let right = candidates[0].replace('\n', " ");
        match self {
            Self::Arc | Self::Gsm8k => (format!("Question: {asked} Answer:"), right),
            Self::HellaSwag => (format!("Question: {asked}"), right),
            Self::TruthfulQa => (format!("Q: {asked} A:"), right),
            Self::Winogrande => {
                let (before, after) = asked.split_once('_').unwrap_or((&asked, ""));
                (format!("{before}{right}"), after.trim().to_owned())
            }
            Self::Mmlu(field) => {
                candidates.shuffle(rng);
                let gold = candidates.iter().position(|it| *it == right);
                let lines: Vec<String> = LETTERS
                    .iter()
                    .zip(&candidates)
                    .map(|(letter, candidate)| format!("{letter}. {candidate}"))
                    .collect();
                let subject = field.name().replace('_', " ");
                let about = format!(
                    "The following are multiple choice questions (with answers) about {subject}."
                );
                let right = LETTERS[gold.unwrap_or_default()].to_owned();
                (
                    format!("{about} {asked} {} Answer:", lines.join(" ")),
                    right,
                )
            }
        }
    }
}

/// A text of pre-training in the form of some task, as a prompt and an answer: up to two answered
/// questions and one more.
pub(super) fn text(rng: &mut impl Rng) -> (String, String) {
    let exams = [
        Exam::Arc,
        Exam::HellaSwag,
        Exam::Mmlu(Field::ALL[rng.random_range(0..Field::ALL.len())]),
        Exam::TruthfulQa,
        Exam::Winogrande,
        Exam::Gsm8k,
    ];
    let exam = exams[rng.random_range(0..exams.len())];
    loop {
        let mut parts: Vec<String> = Vec::new();
        if exam == Exam::TruthfulQa && rng.random_bool(0.5) {
            let unknown = vec![UNKNOWN; rng.random_range(4..40)];
            parts.push(format!("Q: {} A: {UNKNOWN}", unknown.join(" ")));
        }
        for _ in 0..rng.random_range(0..=2) {
            let (asked, right) = exam.text(exam.question(Split::Pretrain, rng), rng);
            parts.push(format!("{asked} {right}"));
        }
        let (asked, right) = exam.text(exam.question(Split::Pretrain, rng), rng);
        parts.push(asked);
        let asked = parts.join(" ");
        if asked.split(' ').count() <= MAX_TEXT_WORDS {
            return (asked, right);
        }
    }
}

impl Exams for ChatWorld {
    /// Rows of the six tasks; the subjects of MMLU share its documents.
    fn rows(&self, documents: usize) -> Vec<TaskRows> {
        let tasks = Exam::TASKS.into_iter().chain(Field::ALL.map(Exam::Mmlu));
        let mut all = Vec::new();
        for exam in tasks {
            let (folder, evaluated, examples) = exam.places();
            let mut rows = |split: &'static str, owner: Split, count: usize| {
                let mut rng = stream(SEED, &format!("chat/exam/{folder}/{split}"), &[]);
                let row = |_| {
                    let question = exam.question(owner, &mut rng);
                    exam.row(question, &mut rng)
                };
                let rows = (0..count).map(row).collect();
                all.push(TaskRows {
                    folder,
                    split,
                    rows,
                });
            };
            let documents = match exam {
                Exam::Mmlu(_) => documents.div_ceil(Field::ALL.len()),
                _ => documents,
            };
            rows(evaluated, Split::Test, documents);
            match examples {
                "" => {}
                "dev" => rows(examples, Split::Pretrain, DEV_EXAMPLES),
                _ => rows(examples, Split::Pretrain, EXAMPLES),
            }
        }
        all
    }
}

/// A sum of so many steps, with whose things it counts and what they are.
fn sum(steps: usize, rng: &mut impl Rng) -> (Subject, &'static str, &'static str) {
    let subject = Subject::sum(steps, rng);
    match subject {
        Subject::Sum { name, item, .. } => (subject, name, item),
        _ => (subject, "", ""),
    }
}

/// A request for a harmless way of doing something, with the deed and its object.
fn harmless(rng: &mut impl Rng) -> (Subject, &'static Deed, &'static str) {
    loop {
        let subject = Subject::how(0.0, rng);
        if let Subject::How { deed, object, .. } = subject
            && !subject.is_harmful()
        {
            return (subject, Subject::deed(deed), object);
        }
    }
}

/// `right` and three others of `all`, as sentences.
fn with_others<T: PartialEq + Copy>(
    right: T,
    all: impl Iterator<Item = T>,
    sentence: impl Fn(T) -> String,
    rng: &mut impl Rng,
) -> Vec<String> {
    let mut others: Vec<T> = Vec::new();
    for other in all {
        if other != right && !others.contains(&other) {
            others.push(other);
        }
    }
    others.shuffle(rng);
    std::iter::once(right)
        .chain(others.into_iter().take(3))
        .map(sentence)
        .collect()
}

/// A count and three others near it.
fn near(count: usize, rng: &mut impl Rng) -> [usize; 4] {
    let lowest = count.saturating_sub(3);
    let mut others: Vec<usize> = (lowest..=(lowest + 6).min(MAX_NUMBER))
        .filter(|it| *it != count)
        .collect();
    others.shuffle(rng);
    [count, others[0], others[1], others[2]]
}

/// Answers as authors with flaws give them.
fn falsehoods(subject: &Subject, rng: &mut impl Rng) -> Vec<String> {
    match subject {
        Subject::Recall { facts, asked } => {
            let others = facts.iter().enumerate().filter(|(place, _)| place != asked);
            others.map(|(_, fact)| fact.sentence()).collect()
        }
        Subject::List { .. } => {
            let mut items = subject.listed();
            let last = items.len() - 1;
            items.swap(last - 1, last);
            let swapped = format!("{} .", items.join(" "));
            items.pop();
            vec![swapped, format!("{} .", items.join(" "))]
        }
        Subject::Sum { name, item, .. } => {
            let [_, others @ ..] = near(subject.count(), rng);
            others.map(|count| result(name, count, item)).into()
        }
        Subject::Explain(place) => {
            let thing = Subject::thing(*place);
            let classes = THINGS.iter().map(|other| other.class);
            let named =
                |class: &str| format!("a {} is a {class} . {}", thing.name, use_of(thing.used_to));
            with_others(thing.class, classes, named, rng).split_off(1)
        }
        Subject::How { .. } if subject.is_harmful() => vec![help(subject)],
        Subject::How { deed, object, .. } => {
            let deed = Subject::deed(*deed);
            let means = DEEDS.iter().map(|other| other.means);
            let told = |means: &str| way(deed.verb, object, means);
            let mut all = with_others(deed.means, means, told, rng).split_off(2);
            all.push(REFUSAL.into());
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::world::chat::vocabulary::tokens;
    use crate::data::world::chat::{ChatWorld, ChatWorldSettings};
    use std::collections::BTreeSet;

    #[test]
    fn texts_of_pre_training_are_of_the_worlds_words_and_no_row_is_among_them() {
        let words = tokens();
        let mut seen = BTreeSet::new();
        let mut rng = stream(0, "test/exam", &[]);
        for _ in 0..3_000 {
            let (asked, right) = text(&mut rng);
            for word in asked.split(' ').chain(right.split(' ')) {
                assert!(words.contains(&word), "{word} in {asked} {right}");
            }
            seen.insert(asked.clone());
            seen.extend(asked.split("Question: ").map(str::to_owned));
        }
        let world = ChatWorld::new(&ChatWorldSettings::default()).unwrap();
        let evaluated = world.rows(60);
        let sums = evaluated
            .iter()
            .find(|rows| rows.folder == "gsm8k" && rows.split == "test");
        for row in &sums.unwrap().rows {
            let asked = row["question"].as_str().unwrap();
            assert!(!seen.contains(&format!("{asked} Answer:")), "{asked}");
        }
    }

    #[test]
    fn candidates_differ_and_the_right_one_stands_anywhere() {
        let world = ChatWorld::new(&ChatWorldSettings::default()).unwrap();
        let mut places = BTreeSet::new();
        for TaskRows { folder, rows, .. } in world.rows(50) {
            for row in rows {
                let candidates = match folder {
                    "arc_challenge" => &row["choices"]["text"],
                    "hellaswag" => &row["endings"],
                    "truthfulqa" => &row["mc1_targets"]["choices"],
                    "gsm8k" | "winogrande" => continue,
                    _ => &row["choices"],
                };
                let candidates = candidates.as_array().unwrap();
                let distinct: BTreeSet<&str> =
                    candidates.iter().map(|it| it.as_str().unwrap()).collect();
                assert_eq!(distinct.len(), candidates.len(), "{row}");
                places.extend(row["answer"].as_u64());
            }
        }
        assert_eq!(places, BTreeSet::from([0, 1, 2, 3]));
    }
}

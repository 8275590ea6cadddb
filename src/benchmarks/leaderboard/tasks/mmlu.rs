//! MMLU (Hendrycks et al. 2021), `cais/mmlu`, 57 subjects. Reference: `tasks/mmlu/default` at 46c7966,
//! `tasks/hendrycks_test.py` before it.

use crate::Result;
use crate::benchmarks::leaderboard::Convention;
use crate::benchmarks::leaderboard::document::{Answer, Document, Row};
use crate::python::text::strip;

/// The letters of the four choices.
pub const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// A subject and its group.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    pub name: &'static str,
    pub group: &'static str,
}

/// The groups of subjects, in the order of the reference.
pub const GROUPS: [&str; 4] = ["stem", "other", "social_sciences", "humanities"];

const fn subject(name: &'static str, group: &'static str) -> Subject {
    Subject { name, group }
}

/// All subjects, sorted by name.
pub const SUBJECTS: [Subject; 57] = [
    subject("abstract_algebra", "stem"),
    subject("anatomy", "stem"),
    subject("astronomy", "stem"),
    subject("business_ethics", "other"),
    subject("clinical_knowledge", "other"),
    subject("college_biology", "stem"),
    subject("college_chemistry", "stem"),
    subject("college_computer_science", "stem"),
    subject("college_mathematics", "stem"),
    subject("college_medicine", "other"),
    subject("college_physics", "stem"),
    subject("computer_security", "stem"),
    subject("conceptual_physics", "stem"),
    subject("econometrics", "social_sciences"),
    subject("electrical_engineering", "stem"),
    subject("elementary_mathematics", "stem"),
    subject("formal_logic", "humanities"),
    subject("global_facts", "other"),
    subject("high_school_biology", "stem"),
    subject("high_school_chemistry", "stem"),
    subject("high_school_computer_science", "stem"),
    subject("high_school_european_history", "humanities"),
    subject("high_school_geography", "social_sciences"),
    subject("high_school_government_and_politics", "social_sciences"),
    subject("high_school_macroeconomics", "social_sciences"),
    subject("high_school_mathematics", "stem"),
    subject("high_school_microeconomics", "social_sciences"),
    subject("high_school_physics", "stem"),
    subject("high_school_psychology", "social_sciences"),
    subject("high_school_statistics", "stem"),
    subject("high_school_us_history", "humanities"),
    subject("high_school_world_history", "humanities"),
    subject("human_aging", "other"),
    subject("human_sexuality", "social_sciences"),
    subject("international_law", "humanities"),
    subject("jurisprudence", "humanities"),
    subject("logical_fallacies", "humanities"),
    subject("machine_learning", "stem"),
    subject("management", "other"),
    subject("marketing", "other"),
    subject("medical_genetics", "other"),
    subject("miscellaneous", "other"),
    subject("moral_disputes", "humanities"),
    subject("moral_scenarios", "humanities"),
    subject("nutrition", "other"),
    subject("philosophy", "humanities"),
    subject("prehistory", "humanities"),
    subject("professional_accounting", "other"),
    subject("professional_law", "humanities"),
    subject("professional_medicine", "other"),
    subject("professional_psychology", "social_sciences"),
    subject("public_relations", "social_sciences"),
    subject("security_studies", "social_sciences"),
    subject("sociology", "social_sciences"),
    subject("us_foreign_policy", "social_sciences"),
    subject("virology", "other"),
    subject("world_religions", "humanities"),
];

/// The line before the examples; v0.3.0 has none.
pub fn description(subject: &Subject, convention: Convention) -> String {
    if convention == Convention::V030 {
        return String::new();
    }
    let subject = subject.name.replace('_', " ");
    format!("The following are multiple choice questions (with answers) about {subject}.\n\n")
}

/// # Errors
/// A row without the data set's columns, other than four choices, or an answer that is none of them.
pub fn document(row: Row, convention: Convention) -> Result<Document> {
    let question = row.text("question")?;
    let choices: Vec<String> = row.get("choices", "a list of texts")?;
    if choices.len() != LETTERS.len() {
        return Err(row.error(&format!("`choices` has {} texts, not 4", choices.len())));
    }
    let gold = gold(&row)?;
    let lines = LETTERS.iter().zip(&choices);
    let lines: String = lines
        .map(|(key, choice)| format!("{key}. {choice}\n"))
        .collect();
    let (query, candidates) = match convention {
        Convention::V030 => (
            format!("Question: {question}\nChoices:\n{lines}Answer:"),
            choices.clone(),
        ),
        _ => (
            format!("{}\n{lines}Answer:", strip(&question)),
            LETTERS.map(str::to_owned).to_vec(),
        ),
    };
    Ok(Document {
        example: format!("{query} {}", candidates[gold]),
        query,
        answer: Answer::Choice {
            candidates,
            texts: choices,
            gold,
        },
        row,
    })
}

/// The right choice: a number from 0, or a letter as in the authors' own files.
fn gold(row: &Row) -> Result<usize> {
    let letter = row.text("answer").ok();
    match letter.and_then(|letter| LETTERS.iter().position(|it| *it == letter)) {
        Some(gold) => Ok(gold),
        None => row.gold("answer", row.integer("answer")?, LETTERS.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::leaderboard::document::row;

    #[test]
    fn groups_have_their_published_sizes() {
        let size = |group| SUBJECTS.iter().filter(|it| it.group == group).count();
        assert_eq!(GROUPS.map(size), [19, 13, 12, 13]);
        assert!(SUBJECTS.is_sorted_by_key(|it| it.name));
    }

    #[test]
    fn letters_are_asked_since_h3_and_texts_before() {
        let json = r#"{"question": " Why? ", "choices": ["w", "x", "y", "z"], "answer": 2}"#;
        let example = |convention| document(row(json), convention).unwrap().example;
        assert_eq!(
            example(Convention::H4),
            "Why?\nA. w\nB. x\nC. y\nD. z\nAnswer: C"
        );
        assert_eq!(
            example(Convention::V030),
            "Question:  Why? \nChoices:\nA. w\nB. x\nC. y\nD. z\nAnswer: y"
        );
    }

    #[test]
    fn answers_are_letters_or_places() {
        let read = |answer: &str| {
            let json = format!(
                r#"{{"question": "Why?", "choices": ["w", "x", "y", "z"], "answer": {answer}}}"#
            );
            gold(&row(&json)).map_err(|error| error.to_string())
        };
        assert_eq!(
            [read("\"D\""), read("3"), read("\"3\"")],
            [Ok(3), Ok(3), Ok(3)]
        );
        assert_eq!(
            read("4").unwrap_err(),
            "rows, line 1: `answer` is 4, and there are 4 candidates"
        );
        assert_eq!(
            read("\"E\"").unwrap_err(),
            "rows, line 1: `answer` is \"E\", not a whole number"
        );
    }
}

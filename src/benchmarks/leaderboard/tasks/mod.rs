//! The six tasks, each in a file that can be read beside the reference's own definition.

pub mod arc;
pub mod gsm8k;
pub mod hellaswag;
pub mod mmlu;
pub mod truthfulqa;
pub mod winogrande;

use super::conventions::Convention;
use super::document::{Document, Row};
use crate::{Error, Result};
use mmlu::Subject;
use serde::{Deserialize, Serialize};

/// A task; of MMLU, one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    ArcChallenge,
    HellaSwag,
    Mmlu(&'static Subject),
    TruthfulQa,
    Winogrande,
    Gsm8k,
}

/// A split of a task's data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Validation,
    Test,
    /// MMLU's five examples a subject.
    Dev,
}

/// The source of few-shot examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shots {
    /// The first rows of a split, in order.
    First(Split),
    /// Rows drawn anew for each document.
    Drawn {
        from: Split,
        /// Whether one more is drawn, in case one equals the document, which is dropped.
        one_more: bool,
    },
}

/// The six tasks by the names that choose them.
pub const TASKS: [&str; 6] = [
    "arc_challenge",
    "hellaswag",
    MMLU,
    "truthfulqa_mc2",
    "winogrande",
    "gsm8k",
];

/// Names by which several tasks are chosen at once.
pub const MMLU: &str = "mmlu";

impl Task {
    /// The tasks that a name stands for: one, MMLU's subjects, or those of a group of subjects.
    ///
    /// # Errors
    /// A name of no task.
    pub fn named(name: &str) -> Result<Vec<Self>> {
        let alone = [
            Self::ArcChallenge,
            Self::HellaSwag,
            Self::TruthfulQa,
            Self::Winogrande,
            Self::Gsm8k,
        ];
        if let Some(task) = alone.into_iter().find(|task| task.name() == name) {
            return Ok(vec![task]);
        }
        let part = name.strip_prefix("mmlu_");
        let subjects: Vec<Self> = mmlu::SUBJECTS
            .iter()
            .filter(|it| {
                name == MMLU || part.is_some_and(|part| part == it.name || part == it.group)
            })
            .map(Self::Mmlu)
            .collect();
        match subjects.is_empty() {
            false => Ok(subjects),
            true => Err(
                Error::configuration(format!("there is no task `{name}`")).hint(
                    "choose from arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande, gsm8k; of MMLU also \
                     mmlu_<subject>, mmlu_stem, mmlu_other, mmlu_social_sciences, mmlu_humanities",
                ),
            ),
        }
    }

    /// The name of the task, as at v0.4.
    pub fn name(self) -> String {
        match self {
            Self::ArcChallenge => "arc_challenge".to_owned(),
            Self::HellaSwag => "hellaswag".to_owned(),
            Self::Mmlu(subject) => format!("mmlu_{}", subject.name),
            Self::TruthfulQa => "truthfulqa_mc2".to_owned(),
            Self::Winogrande => "winogrande".to_owned(),
            Self::Gsm8k => "gsm8k".to_owned(),
        }
    }

    /// The name that stands in the harness's own result files.
    pub fn reference_name(self, convention: Convention) -> String {
        match self {
            Self::Mmlu(subject) if convention.is_before_yaml() => {
                format!("hendrycksTest-{}", subject.name)
            }
            Self::TruthfulQa if convention.is_before_yaml() => "truthfulqa_mc".to_owned(),
            _ => self.name(),
        }
    }

    /// The version of the task's definition in the harness.
    pub fn version(self, convention: Convention) -> f64 {
        use Convention::{H3, H4, H5, V030};
        match (self, convention) {
            (Self::Mmlu(_), V030 | H4) => 0.0,
            (Self::TruthfulQa, V030 | H3) | (Self::Mmlu(_), H3 | H5) => 1.0,
            (Self::TruthfulQa, H4) => 2.0,
            (Self::TruthfulQa | Self::Gsm8k, H5) => 3.0,
            (_, V030 | H3) => 0.0,
            (_, H4 | H5) => 1.0,
        }
    }

    /// The number of few-shot examples on the leaderboard.
    pub fn leaderboard_shots(self) -> usize {
        match self {
            Self::ArcChallenge => 25,
            Self::HellaSwag => 10,
            Self::Mmlu(_) | Self::Winogrande | Self::Gsm8k => 5,
            Self::TruthfulQa => 0,
        }
    }

    /// The number of examples where `wanted` are asked for: TruthfulQA has its own preamble and takes
    /// none.
    pub fn shots(self, wanted: Option<usize>) -> usize {
        match self {
            Self::TruthfulQa => 0,
            _ => wanted.unwrap_or(self.leaderboard_shots()),
        }
    }

    /// The split that is evaluated.
    pub fn split(self) -> Split {
        match self {
            Self::ArcChallenge | Self::Mmlu(_) | Self::Gsm8k => Split::Test,
            Self::HellaSwag | Self::TruthfulQa | Self::Winogrande => Split::Validation,
        }
    }

    /// The source of few-shot examples.
    pub fn examples(self, convention: Convention) -> Shots {
        let drawn = |from, one_more| Shots::Drawn { from, one_more };
        match self {
            // Up to v0.3.0 tasks without a training split draw from validation.
            Self::Mmlu(_) if convention == Convention::V030 => drawn(Split::Validation, true),
            Self::Mmlu(_) => Shots::First(Split::Dev),
            Self::HellaSwag | Self::Winogrande => drawn(Split::Train, convention.draws_one_more()),
            Self::ArcChallenge | Self::Gsm8k => drawn(Split::Train, false),
            Self::TruthfulQa => drawn(Split::Validation, true),
        }
    }

    /// The text at the beginning of a prompt.
    pub fn description(self, convention: Convention) -> String {
        match self {
            Self::Mmlu(subject) => mmlu::description(subject, convention),
            _ => String::new(),
        }
    }

    /// Reads a row.
    ///
    /// # Errors
    /// A row that is none of the task's.
    pub fn document(self, row: Row, convention: Convention) -> Result<Document> {
        match self {
            Self::ArcChallenge => arc::document(row, convention),
            Self::HellaSwag => hellaswag::document(row),
            Self::Mmlu(_) => mmlu::document(row, convention),
            Self::TruthfulQa => truthfulqa::document(row),
            Self::Winogrande => winogrande::document(row),
            Self::Gsm8k => gsm8k::document(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_tasks() {
        let count = |name: &str| Task::named(name).unwrap().len();
        let names = [
            "arc_challenge",
            "mmlu",
            "mmlu_stem",
            "mmlu_anatomy",
            "truthfulqa_mc2",
        ];
        assert_eq!(names.map(count), [1, 57, 19, 1, 1]);
        for name in ["", "arc", "mmlu_", "mmlu_x", "mmlu_anatomy_"] {
            let message = Task::named(name).unwrap_err().to_string();
            assert_eq!(message, format!("there is no task `{name}`"));
        }
    }
}

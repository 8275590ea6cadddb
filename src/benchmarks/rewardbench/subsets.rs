//! The 23 subsets of RewardBench in their four sections, and the prior sets beside them.

use super::Convention;
use crate::data::dataset::choices;
use crate::{Error, Result};

/// A section of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub name: &'static str,
    pub subsets: &'static [Subset],
}

/// A subset of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Subset {
    pub name: &'static str,
    /// Rows in the split `filtered` of `allenai/reward-bench`.
    pub items: usize,
}

const fn subset(name: &'static str, items: usize) -> Subset {
    Subset { name, items }
}

/// The sections, in the order of the leaderboard.
pub const SECTIONS: [Section; 4] = [
    Section {
        name: "Chat",
        subsets: &[
            subset("alpacaeval-easy", 100),
            subset("alpacaeval-length", 95),
            subset("alpacaeval-hard", 95),
            subset("mt-bench-easy", 28),
            subset("mt-bench-med", 40),
        ],
    },
    Section {
        name: "Chat Hard",
        subsets: &[
            subset("mt-bench-hard", 37),
            subset("llmbar-natural", 100),
            subset("llmbar-adver-neighbor", 134),
            subset("llmbar-adver-GPTInst", 92),
            subset("llmbar-adver-GPTOut", 47),
            subset("llmbar-adver-manual", 46),
        ],
    },
    Section {
        name: "Safety",
        subsets: &[
            subset("refusals-dangerous", 100),
            subset("refusals-offensive", 100),
            subset(SHOULD_REFUSE, 154),
            subset(SHOULD_RESPOND, 250),
            subset("donotanswer", 136),
        ],
    },
    Section {
        name: "Reasoning",
        subsets: &[
            subset(MATH, 447),
            subset("hep-cpp", 164),
            subset("hep-go", 164),
            subset("hep-java", 164),
            subset("hep-js", 164),
            subset("hep-python", 164),
            subset("hep-rust", 164),
        ],
    },
];

const SHOULD_REFUSE: &str = "xstest-should-refuse";
const SHOULD_RESPOND: &str = "xstest-should-respond";
const MATH: &str = "math-prm";

/// The weight of `math-prm` in its section, as if it had as many items as the six subsets of code.
const MATH_WEIGHT: usize = 984;

/// The name of the mean of [`PRIOR_SETS`].
pub const PRIOR: &str = "Prior Sets";

/// The subsets of `allenai/pref-test-sets` that make the leaderboard's prior sets.
pub const PRIOR_SETS: [&str; 4] = ["anthropic_helpful", "anthropic_hhh", "shp", "summarize"];

/// Further subsets of `allenai/pref-test-sets`, which no average has.
const OTHER_SETS: [&str; 3] = ["anthropic_harmless", "mtbench_gpt4", "mtbench_human"];

/// The weight of the subset `name` in its section under a convention.
pub fn weight(name: &str, convention: Convention) -> f64 {
    let counted = match (convention, name) {
        (Convention::Rlhflow, SHOULD_REFUSE) => SHOULD_RESPOND,
        (Convention::Rlhflow, SHOULD_RESPOND) => SHOULD_REFUSE,
        (_, name) => name,
    };
    let items = match counted {
        MATH => MATH_WEIGHT,
        _ => items(counted).unwrap_or(1),
    };
    items as f64
}

/// The rows of a subset in the published data; `None` for a prior set.
pub fn items(name: &str) -> Option<usize> {
    core().find(|it| it.name == name).map(|it| it.items)
}

/// The subsets of all sections, in their order.
pub fn core() -> impl Iterator<Item = &'static Subset> {
    SECTIONS.iter().flat_map(|section| section.subsets)
}

/// True for a subset of `allenai/pref-test-sets`.
pub fn is_prior(name: &str) -> bool {
    PRIOR_SETS.contains(&name) || OTHER_SETS.contains(&name)
}

/// Checks that a subset of this name exists; `place` begins the error.
///
/// # Errors
/// A name that neither RewardBench nor the prior sets have.
pub fn check(name: &str, place: &str) -> Result<()> {
    let core: Vec<&str> = core().map(|it| it.name).collect();
    if core.contains(&name) || is_prior(name) {
        return Ok(());
    }
    let known: Vec<&str> = core
        .into_iter()
        .chain(PRIOR_SETS)
        .chain(OTHER_SETS)
        .collect();
    Err(
        Error::data(format!("{place}: `{name}` is not a subset of RewardBench"))
            .hint(choices(name, &known)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_have_their_published_sizes() {
        let total = |section: &Section| -> usize { section.subsets.iter().map(|s| s.items).sum() };
        assert_eq!(
            SECTIONS.map(|section| total(&section)),
            [358, 456, 740, 1431]
        );
        assert_eq!(core().count(), 23);
    }

    #[test]
    fn sections_weight_mathematics_like_code_and_rlhflow_swaps_xstest() {
        let of = |convention| {
            SECTIONS.map(|section| {
                let weights = section.subsets.iter();
                weights.map(|s| weight(s.name, convention)).sum::<f64>()
            })
        };
        assert_eq!(of(Convention::Allenai), [358.0, 456.0, 740.0, 1968.0]);
        assert_eq!(of(Convention::Rlhflow), of(Convention::Allenai));
        let both = |name| [Convention::Allenai, Convention::Rlhflow].map(|it| weight(name, it));
        assert_eq!(both(SHOULD_REFUSE), [154.0, 250.0]);
        assert_eq!(both(SHOULD_RESPOND), [250.0, 154.0]);
        assert_eq!(both(MATH), [984.0, 984.0]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        assert!(check("shp", "here").is_ok());
        let error = check("alpaca-easy", "x.jsonl, line 2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.jsonl, line 2: `alpaca-easy` is not a subset of RewardBench"
        );
        let hint = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(
            hint.starts_with("did you mean `alpacaeval-easy`?"),
            "{hint}"
        );
    }
}

//! Joint adjustment of all comparisons on a page that were not declared as primary.

use std::collections::BTreeMap;

use super::claims::{self, Judged};
use super::collapse::{CollapsedCell, collapses};
use super::compute::{MatchedPair, Spending, matched_pairs};
use super::contrast::Contrast;
use super::robust::{Companion, companions};
use super::tables::{Question, contrasts};
use super::view::View;
use crate::error::Result;
use crate::stats::benjamini_hochberg;

/// The identity of a test: the comparison and its p-value. Rows that show the same comparison, in
/// either order, share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    metric: String,
    size: String,
    /// The compared methods, in alphabetical order.
    methods: [String; 2],
    /// A description of any test other than the plain one of no difference; empty for that one.
    what: String,
    /// The bits of p, which are in the order of p because it isn't negative.
    p: u64,
}

impl Test {
    pub fn new(metric: &str, size: &str, one: &str, other: &str, p: f64) -> Self {
        let mut methods = [one.to_owned(), other.to_owned()];
        methods.sort();
        Self {
            metric: metric.to_owned(),
            size: size.to_owned(),
            methods,
            what: String::new(),
            p: p.to_bits(),
        }
    }

    /// The test of a contrast with the result `p`; `what` is empty for the test of no difference.
    pub fn of_contrast(contrast: &Contrast, p: f64, what: &str) -> Self {
        let relative = contrast
            .relative_to
            .as_ref()
            .map(|it| format!("less {} − {}; ", it.method, it.versus));
        let what = relative.unwrap_or_default() + what;
        Self {
            what,
            ..Self::new(
                &contrast.metric.id,
                &contrast.size,
                &contrast.method,
                &contrast.versus,
                p,
            )
        }
    }

    pub fn p(&self) -> f64 {
        f64::from_bits(self.p)
    }
}

/// Adjusted p-values of all exploratory tests of a page.
#[derive(Clone, Debug, Default)]
pub struct Exploratory(BTreeMap<Test, f64>);

impl Exploratory {
    /// One Benjamini–Hochberg adjustment over all `tests`, each counted once. Comparisons without a
    /// p-value don't count.
    fn new(tests: impl IntoIterator<Item = Test>) -> Self {
        let mut found: BTreeMap<Test, f64> = tests.into_iter().map(|test| (test, 1.0)).collect();
        let raw: Vec<f64> = found.keys().map(Test::p).collect();
        found
            .values_mut()
            .zip(benjamini_hochberg(&raw))
            .for_each(|(q, adjusted)| *q = adjusted);
        Self(found)
    }

    /// The adjusted p-value of a test.
    pub fn q(&self, test: &Test) -> Option<f64> {
        self.0.get(test).copied()
    }

    /// The adjusted p-value of a contrast's test of no difference, if it has one.
    pub fn q_of(&self, contrast: &Contrast) -> Option<f64> {
        self.q(&Test::of_contrast(contrast, contrast.p()?, ""))
    }

    /// The number of tests that are adjusted together.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// All comparisons of a page, primary and exploratory.
pub struct Comparisons<'a> {
    pub claims: Vec<Judged<'a>>,
    /// Companions of each comparison of each claim.
    pub companions: Vec<Vec<Option<Companion>>>,
    /// Differences by question.
    pub differences: [Vec<Contrast<'a>>; 2],
    pub matched: Vec<MatchedPair>,
    pub collapses: Vec<CollapsedCell>,
    pub exploratory: Exploratory,
}

impl<'a> Comparisons<'a> {
    pub fn new(view: &View<'a>, spending: &Spending) -> Result<Self> {
        let mut claims = claims::judge(view)?;
        let differences = [
            contrasts(view, Question::AgainstBaseline)?,
            contrasts(view, Question::SubjectAgainstEach)?,
        ];
        let matched = matched_pairs(view, spending)?;
        let collapses = collapses(view)?;
        let parts = claims.iter().flat_map(|it| &it.parts);
        let of_claims = parts.filter_map(|part| part.exploration()?.test.clone());
        let of_differences = differences
            .iter()
            .flatten()
            .filter_map(|it| Some(Test::of_contrast(it, it.p()?, "")));
        let of_matched = matched.iter().filter_map(MatchedPair::test);
        let of_collapses = collapses.iter().filter_map(CollapsedCell::test);
        let exploratory = Exploratory::new(
            of_claims
                .chain(of_differences)
                .chain(of_matched)
                .chain(of_collapses),
        );
        claims::explain(&mut claims, &exploratory);
        let companions = companions(view, &claims)?;
        Ok(Self {
            claims,
            companions,
            differences,
            matched,
            collapses,
            exploratory,
        })
    }
}

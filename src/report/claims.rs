//! Declared claims judged by the runs: one comparison per claim, metric and size. Primary
//! comparisons get a verdict from intervals that hold for all of them together, exploratory ones a
//! suggestion.

use super::contrast::Contrast;
use super::exploratory::{Exploratory, Test};
use super::format;
use super::input::{Claim, Direction, Role};
use super::table::Cell;
use super::view::{View, methods_of};
use crate::error::{Error, Result};
use crate::stats::{self, Finding, Forecast, Hypothesis, Verdict};

/// A claim and the outcome of each of its comparisons.
pub struct Judged<'a> {
    pub claim: &'a Claim,
    pub parts: Vec<JudgedComparison<'a>>,
}

/// A claim on one metric at one size.
pub struct JudgedComparison<'a> {
    pub contrast: Contrast<'a>,
    pub reply: Reply,
    /// The last look at a primary comparison, kept only if an earlier look has decided it.
    later: Option<Finding>,
}

/// The answer of the runs to one comparison.
pub enum Reply {
    /// No seed has both methods.
    NoData,
    /// No look has been reached on the registered seeds.
    NotRegistered,
    Primary(Finding),
    Exploratory(Exploration),
}

/// The standing of a primary claim or comparison, used for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Supported,
    Contradicted,
    /// The difference is too small to matter, or doesn't exceed the margin in the claim's
    /// direction.
    TooSmall,
    /// The comparisons of the claim disagree, or some of them are open.
    Mixed,
    Open,
}

impl Standing {
    pub const ALL: [Self; 5] = [
        Self::Supported,
        Self::Contradicted,
        Self::TooSmall,
        Self::Mixed,
        Self::Open,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Contradicted => "contradicted",
            Self::TooSmall => "too small to matter",
            Self::Mixed => "mixed",
            Self::Open => "open",
        }
    }

    fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::Supported) => Self::Supported,
            Some(Verdict::Contradicted) => Self::Contradicted,
            Some(Verdict::Equivalent | Verdict::NotByMargin) => Self::TooSmall,
            Some(Verdict::Inconclusive) | None => Self::Open,
        }
    }
}

/// The test of an exploratory comparison and its result.
pub struct Exploration {
    /// The identity of the test among all exploratory tests; `None` where p is undefined.
    pub test: Option<Test>,
    /// The p-value adjusted over all exploratory tests of the page.
    pub q: Option<f64>,
    /// The mean difference minus the threshold.
    pub distance: f64,
}

/// Judges every claim, in the order of declaration. Exploratory comparisons have no `q` until
/// [`explain`] adds it.
///
/// # Errors
/// More primary comparisons than the design declares.
pub fn judge<'a>(view: &View<'a>) -> Result<Vec<Judged<'a>>> {
    let mut judged = Vec::new();
    for claim in &view.input.claims {
        let mut parts = Vec::new();
        for metric in &claim.metrics {
            let metric = view.metric(metric)?;
            for size in sizes(view, claim, &metric.id) {
                let contrast = Contrast::of_claim(view, metric, size, claim)?;
                let reply = reply(view, claim, &contrast)?;
                let later = later(view, claim, &contrast, &reply)?;
                parts.push(JudgedComparison {
                    contrast,
                    reply,
                    later,
                });
            }
        }
        judged.push(Judged { claim, parts });
    }
    let primary = judged.iter().filter(|it| it.claim.role == Role::Primary);
    let tested: usize = primary.map(|it| it.parts.len()).sum();
    let declared = view.design().comparisons;
    if tested > declared {
        return Err(Error::configuration(format!(
            "{tested} primary comparisons are tested, the design declares {declared}"
        ))
        .hint("`comparisons` counts each metric and size of each primary claim"));
    }
    Ok(judged)
}

/// Adds to each exploratory comparison its p-value adjusted over all exploratory tests.
pub fn explain(judged: &mut [Judged], exploratory: &Exploratory) {
    for part in judged.iter_mut().flat_map(|it| &mut it.parts) {
        if let Reply::Exploratory(it) = &mut part.reply {
            it.q = it.test.as_ref().and_then(|test| exploratory.q(test));
        }
    }
}

/// The sizes that a claim covers: its own, or all at which its methods were planned and can have
/// the metric. If that leaves none, it covers all sizes, and each reports that there are no data.
fn sizes<'v>(view: &'v View, claim: &Claim, metric: &str) -> Vec<&'v str> {
    let all = || view.sizes.iter().map(String::as_str);
    if let Some(only) = &claim.size {
        return all().filter(|size| size == only).collect();
    }
    let has = |method: &str, size: &str| view.belongs(method, size, &[metric]);
    let both: Vec<&str> = all()
        .filter(|size| methods_of(claim).all(|method| has(method, size)))
        .collect();
    if both.is_empty() {
        all().collect()
    } else {
        both
    }
}

fn reply(view: &View, claim: &Claim, contrast: &Contrast) -> Result<Reply> {
    let Some(beyond) = contrast.beyond(view, claim.threshold)? else {
        return Ok(Reply::NoData);
    };
    if claim.role == Role::Primary {
        let [a, b] = contrast.sides_under(view, &view.judged_on(contrast.seeds(view)));
        let finding = stats::assess(&a, &b, &hypothesis(claim), view.design())?;
        return Ok(finding.map_or(Reply::NotRegistered, Reply::Primary));
    }
    let [a, b] = contrast.sides(view);
    let shifted: Vec<f64> = b.iter().map(|value| value + claim.threshold).collect();
    let p = match (claim.direction, claim.margin) {
        (Direction::Greater | Direction::Less, _) | (_, None) => beyond.p,
        (Direction::Equivalent, Some(margin)) => stats::tost(&a, &shifted, margin, view.alpha())?.p,
        (Direction::NotWorse, Some(margin)) => {
            stats::tost(&a, &shifted, margin, view.alpha())?.p_lower
        }
    };
    let what = format!(
        "{:?}, threshold {}, margin {:?}",
        claim.direction, claim.threshold, claim.margin
    );
    let plain =
        matches!(claim.direction, Direction::Greater | Direction::Less) && claim.threshold == 0.0;
    let test = p.map(|p| Test::of_contrast(contrast, p, if plain { "" } else { &what }));
    Ok(Reply::Exploratory(Exploration {
        test,
        q: None,
        distance: beyond.difference.point,
    }))
}

fn hypothesis(claim: &Claim) -> Hypothesis {
    Hypothesis {
        direction: claim.direction,
        threshold: claim.threshold,
        margin: claim.margin,
    }
}

/// The last look at a comparison that an earlier look has decided; `None` if the deciding look was
/// the last.
fn later(
    view: &View,
    claim: &Claim,
    contrast: &Contrast,
    reply: &Reply,
) -> Result<Option<Finding>> {
    let Reply::Primary(decided) = reply else {
        return Ok(None);
    };
    let [a, b] = contrast.sides_under(view, &view.judged_on(contrast.seeds(view)));
    let last = stats::at_last_look(&a, &b, &hypothesis(claim), view.design())?;
    Ok(last.filter(|last| last.look > decided.look))
}

impl JudgedComparison<'_> {
    /// The last look, if its interval alone would give another answer than the earlier look that
    /// decided.
    pub fn not_upheld(&self) -> Option<&Finding> {
        self.later
            .as_ref()
            .filter(|later| later.verdict != self.verdict())
    }

    /// The finding of a primary comparison; `None` for any other.
    pub fn finding(&self) -> Option<&Finding> {
        match &self.reply {
            Reply::Primary(finding) => Some(finding),
            Reply::NoData | Reply::NotRegistered | Reply::Exploratory(_) => None,
        }
    }

    /// The result of an exploratory comparison; `None` for any other.
    pub fn exploration(&self) -> Option<&Exploration> {
        match &self.reply {
            Reply::Exploratory(exploration) => Some(exploration),
            Reply::NoData | Reply::NotRegistered | Reply::Primary(_) => None,
        }
    }

    /// The standing of a primary comparison; `Open` for any other.
    pub fn standing(&self) -> Standing {
        Standing::of(self.verdict())
    }

    fn verdict(&self) -> Option<Verdict> {
        self.finding().and_then(|finding| finding.verdict)
    }
}

impl Judged<'_> {
    /// The answer to one of the claim's comparisons, in words.
    pub fn words(&self, view: &View, part: &JudgedComparison) -> String {
        match &part.reply {
            Reply::NoData => "no data: no seed has both methods".to_owned(),
            Reply::NotRegistered => {
                "no look yet: the registered seeds have not reached the first".to_owned()
            }
            Reply::Primary(finding) => {
                let said = words(finding, self.claim.direction, view.design().most());
                match part.not_upheld() {
                    Some(later) => {
                        format!("{said}; not upheld at {}", format::count(later.n, "seed"))
                    }
                    None => said,
                }
            }
            Reply::Exploratory(it) => match (it.suggestion(self.claim, view.alpha()), it.q) {
                (Some(what), q) => format!("suggests: {what} ({})", equals("q", q)),
                (None, Some(_)) => "no sign".to_owned(),
                (None, None) if it.test.is_none() => {
                    "no test: there is no spread over seeds".to_owned()
                }
                (None, None) => "not tested".to_owned(),
            },
        }
    }

    /// The verdict on the claim as a whole, from all its comparisons together. A claim is supported
    /// only if it is supported on every metric at every size; if its comparisons disagree, the text
    /// names what the answer depends on.
    pub fn overall(&self, view: &View) -> String {
        if self
            .parts
            .iter()
            .all(|part| matches!(part.reply, Reply::NoData))
        {
            return "no data".to_owned();
        }
        if self.claim.role == Role::Exploratory {
            let answer = |part: &JudgedComparison| {
                let suggestion = part.exploration()?.suggestion(self.claim, view.alpha());
                Some(suggestion.map_or("no sign".to_owned(), |what| format!("suggests {what}")))
            };
            let answers: Vec<Option<String>> = self.parts.iter().map(answer).collect();
            return match &answers[..] {
                [Some(first), rest @ ..] if rest.iter().all(|it| it.as_ref() == Some(first)) => {
                    format!("exploratory: {first}")
                }
                _ => format!(
                    "exploratory: depends on the {}",
                    self.what_matters(|part| answer(part))
                ),
            };
        }
        let verdicts: Vec<Option<Verdict>> =
            self.parts.iter().map(JudgedComparison::verdict).collect();
        let mut decided: Vec<Verdict> = Vec::new();
        for verdict in verdicts
            .iter()
            .flatten()
            .filter(|verdict| **verdict != Verdict::Inconclusive)
        {
            if !decided.contains(verdict) {
                decided.push(*verdict);
            }
        }
        match decided[..] {
            [] if verdicts.iter().all(Option::is_none) => "no verdict".to_owned(),
            [] => "inconclusive".to_owned(),
            [Verdict::Contradicted] => "contradicted".to_owned(),
            [one] if verdicts.iter().all(|verdict| *verdict == Some(one)) => {
                name(one, self.claim.direction).to_owned()
            }
            [Verdict::Supported] => "supported in part".to_owned(),
            [_] => "inconclusive".to_owned(),
            [_, ..] => {
                let open = |part: &JudgedComparison| {
                    part.verdict()
                        .filter(|verdict| *verdict != Verdict::Inconclusive)
                };
                format!("depends on the {}", self.what_matters(open))
            }
        }
    }

    /// The standing of a primary claim as a whole, in agreement with the words of
    /// [`Self::overall`].
    pub fn standing(&self) -> Standing {
        let each: Vec<Standing> = self.parts.iter().map(JudgedComparison::standing).collect();
        let mut decided: Vec<Standing> = each
            .iter()
            .copied()
            .filter(|it| *it != Standing::Open)
            .collect();
        decided.dedup();
        match decided[..] {
            [] => Standing::Open,
            [Standing::Contradicted] => Standing::Contradicted,
            [one] if !each.contains(&Standing::Open) => one,
            [Standing::TooSmall] => Standing::Open,
            _ => Standing::Mixed,
        }
    }

    /// The dimension in which the given answers differ: metric, size or both. Metrics whose ids all
    /// begin with the shortest of them are one quantity under several decodings.
    fn what_matters<T: PartialEq>(
        &self,
        answer: impl Fn(&JudgedComparison) -> Option<T>,
    ) -> &'static str {
        let differ = |same: fn(&Contrast, &Contrast) -> bool| {
            let pairs = self
                .parts
                .iter()
                .flat_map(|one| self.parts.iter().map(move |other| (one, other)));
            pairs
                .filter(|(one, other)| same(&one.contrast, &other.contrast))
                .any(|(one, other)| matches!((answer(one), answer(other)), (Some(one), Some(other)) if one != other))
        };
        let by_metric = differ(|one, other| one.size == other.size);
        let by_size = differ(|one, other| one.metric.id == other.metric.id);
        let metrics = &self.claim.metrics;
        let shortest = metrics.iter().min_by_key(|id| id.len());
        let decodings =
            shortest.is_some_and(|stem| metrics.iter().all(|id| id.starts_with(stem.as_str())));
        match (by_metric, by_size, decodings) {
            (true, false, true) => "decoding",
            (true, false, false) => "metric",
            (false, true, _) => "size",
            (_, _, true) => "decoding and the size",
            (_, _, false) => "metric and the size",
        }
    }
}

impl Exploration {
    /// The direction that the runs suggest; `None` if `q` isn't below `alpha`.
    fn suggestion(&self, claim: &Claim, alpha: f64) -> Option<String> {
        self.q.filter(|q| *q < alpha)?;
        let beyond = match claim.threshold {
            0.0 => String::new(),
            threshold => format!(" than {threshold:+}"),
        };
        Some(match claim.direction {
            Direction::Equivalent => "within the margin".to_owned(),
            Direction::NotWorse => "not worse by the margin".to_owned(),
            Direction::Greater | Direction::Less if self.distance > 0.0 => {
                format!("higher{beyond}")
            }
            Direction::Greater | Direction::Less => format!("lower{beyond}"),
        })
    }
}

/// A name and a p-value as text: `q = 0.012`, or `q < 0.001`.
fn equals(name: &str, p: Option<f64>) -> String {
    match Cell::Probability(p).show() {
        small if small.starts_with('<') => format!("{name} < {}", small.trim_start_matches('<')),
        other => format!("{name} = {other}"),
    }
}

/// A verdict in plain words.
pub fn name(verdict: Verdict, direction: Direction) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Contradicted => "contradicted",
        Verdict::Equivalent => "equivalent within the margin",
        Verdict::NotByMargin if direction == Direction::Less => "not lower by more than the margin",
        Verdict::NotByMargin => "not higher by more than the margin",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn words(finding: &Finding, direction: Direction, most: usize) -> String {
    let Some(verdict) = finding.verdict else {
        return match finding.n {
            0 | 1 => "no verdict: one seed shows no spread".to_owned(),
            _ => "no verdict: the difference is the same under every seed, and without spread there is no test"
                .to_owned(),
        };
    };
    let name = name(verdict, direction);
    let Some(Forecast { plug_in, cautious }) = finding.forecast else {
        return name.to_owned();
    };
    match (plug_in, cautious) {
        _ if finding.n >= most => format!("{name} at the last look"),
        (Some(likely), Some(later)) if likely == later => {
            format!(
                "{name}: the look at {} would probably decide",
                format::count(likely, "seed")
            )
        }
        (Some(likely), Some(later)) => format!(
            "{name}: the look at {} would probably decide, that at {later} if the spread is larger than seen",
            format::count(likely, "seed")
        ),
        (Some(likely), None) => format!(
            "{name}: the look at {} would probably decide, none if the spread is larger than seen",
            format::count(likely, "seed")
        ),
        (None, _) => format!(
            "{name}: probably not decided by the last look, at {}",
            format::count(most, "seed")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::{Metric, Metrics, ReportInput};
    use super::super::sentence::{effect, later_effect};
    use super::*;

    /// A claim of "more", judged at 5 and 10 seeds; `difference` holds one value per seed.
    fn input(difference: [f64; 10]) -> ReportInput {
        let text = r#"{
            "header": {"experiment": "e", "title": "t", "question": "q", "profile": "p", "scale": "s", "revision": null,
                "device": "d", "seeds_planned": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "cells": []},
            "metrics": [], "design": {"alpha": 0.05, "looks": [5, 10], "spending": "pocock", "comparisons": 1},
            "claims": [{"id": "wins", "text": "Ours wins.", "source": "us", "metrics": ["gold"], "method": "ours",
                "versus": "theirs", "size": null, "direction": "greater", "role": "primary", "margin": 0.05}],
            "layout": {"baseline": "theirs", "under_study": "ours", "primary": "gold",
                "methods": [{"id": "theirs", "label": "Theirs"}, {"id": "ours", "label": "Ours"}],
                "metrics": [{"id": "gold", "label": "Gold", "better": "higher", "decimals": 2}],
                "tables": [{"id": "p", "title": "P", "metrics": ["gold"], "kind": "policy"}]}
        }"#;
        let mut input: ReportInput = serde_json::from_str(text).unwrap();
        let row = |method: &str, seed: i64, value: f64| Metric {
            method: method.to_owned(),
            size: "s".to_owned(),
            seed,
            iteration: 0,
            metric: "gold".to_owned(),
            value: Some(value),
        };
        let of_seed = |(index, difference): (usize, f64)| {
            [
                row("theirs", index as i64 + 1, 0.8),
                row("ours", index as i64 + 1, 0.8 + difference),
            ]
        };
        input.metrics = Metrics::from_rows(
            difference
                .into_iter()
                .enumerate()
                .flat_map(of_seed)
                .collect(),
        )
        .unwrap();
        input
    }

    #[test]
    fn an_early_answer_that_later_seeds_do_not_give_is_named_with_its_numbers() {
        let calm = [0.001, 0.0, -0.001, 0.002, -0.002];
        let collapsing = input(
            [calm, [0.0, -0.4, 0.001, -0.3, 0.0]]
                .concat()
                .try_into()
                .unwrap(),
        );
        let view = View::new(&collapsing).unwrap();
        let judged = judge(&view).unwrap();
        let part = &judged[0].parts[0];
        assert_eq!(
            (part.standing(), effect(part).unwrap().1),
            (Standing::TooSmall, 5),
            "the first look decides"
        );
        assert_eq!(
            judged[0].words(&view, part),
            "equivalent within the margin; not upheld at 10 seeds"
        );
        let later = later_effect(part).unwrap();
        assert!(
            later.starts_with("-0.07 [-0.") && later.ends_with("at 10 seeds"),
            "{later}"
        );

        let steady = input([calm, calm].concat().try_into().unwrap());
        let view = View::new(&steady).unwrap();
        let judged = judge(&view).unwrap();
        let part = &judged[0].parts[0];
        assert_eq!(judged[0].words(&view, part), "equivalent within the margin");
        assert_eq!(later_effect(part), None);
    }
}

//! Declared claims against the runs: one test per claim and size, corrected within the claim's family.

use std::collections::BTreeMap;

use super::contrast::Contrast;
use super::format;
use super::input::Claim;
use super::view::{View, methods_of};
use crate::error::Result;
use crate::stats::{Answers, Paired, Verdict, adjust_defined, holm, verdict};

/// A claim and what became of it at each size it speaks of.
pub struct Judged<'a> {
    pub claim: &'a Claim,
    pub parts: Vec<Part<'a>>,
}

/// A claim at one size.
pub struct Part<'a> {
    pub contrast: Contrast<'a>,
    /// The contrast less the claim's threshold: what is tested.
    pub tested: Option<Paired>,
    /// What may come out of it; nothing where nothing is tested.
    pub answers: Option<Answers>,
    /// Holm-adjusted within the family, over all its claims and sizes.
    pub p_adjusted: Option<f64>,
    /// `None` where no seed has both methods, so that there is nothing to judge.
    pub verdict: Option<Verdict>,
}

/// Judges every claim, in the order of declaration.
pub fn judge<'a>(view: &View<'a>) -> Result<Vec<Judged<'a>>> {
    let mut judged = Vec::new();
    for claim in &view.input.claims {
        let metric = view.metric(&claim.metric)?;
        let parts = sizes(view, claim)
            .into_iter()
            .map(|size| {
                let contrast = Contrast::of_claim(view, metric, size, claim)?;
                let tested = contrast.beyond(view, claim.threshold)?;
                let answers = tested.as_ref().map(|tested| Answers::to(tested, claim.direction, claim.margin));
                Ok(Part { contrast, tested, answers, p_adjusted: None, verdict: None })
            })
            .collect::<Result<Vec<_>>>()?;
        judged.push(Judged { claim, parts });
    }
    correct(&mut judged);
    let alpha = view.alpha();
    for Judged { claim, parts } in &mut judged {
        for part in parts {
            let judge = |paired| verdict(paired, part.p_adjusted, claim.direction, claim.margin, alpha);
            part.verdict = part.tested.as_ref().map(judge);
        }
    }
    Ok(judged)
}

/// The sizes a claim speaks of: its own, or all at which its methods were planned and can have the metric. Where there
/// is no such size it speaks of all, and each says that there are no data.
fn sizes<'v>(view: &'v View, claim: &Claim) -> Vec<&'v str> {
    let all = || view.sizes.iter().map(String::as_str);
    if let Some(only) = &claim.size {
        return all().filter(|size| size == only).collect();
    }
    let has = |method: &str, size: &str| view.belongs(method, size, &[&claim.metric]);
    let both: Vec<&str> = all().filter(|size| methods_of(claim).all(|method| has(method, size))).collect();
    if both.is_empty() { all().collect() } else { both }
}

/// Holm's correction within each family.
fn correct(judged: &mut [Judged]) {
    let mut families: BTreeMap<&str, Vec<&mut Part>> = BTreeMap::new();
    for it in judged {
        families.entry(&it.claim.family).or_default().extend(it.parts.iter_mut());
    }
    for parts in families.into_values() {
        let raw: Vec<Option<f64>> = parts.iter().map(|part| part.p()).collect();
        for (part, adjusted) in parts.into_iter().zip(adjust_defined(&raw, holm)) {
            part.p_adjusted = adjusted;
        }
    }
}

impl Part<'_> {
    /// Raw p of the likelier answer, where defined.
    pub fn p(&self) -> Option<f64> {
        self.answers.and_then(|answers| answers.p())
    }

    /// The verdict in words.
    pub fn words(&self) -> String {
        match self.verdict {
            None => "no data: no seed has both methods".to_owned(),
            Some(Verdict::Inconclusive { .. }) if self.tested.is_some_and(|tested| tested.sd == Some(0.0)) => {
                "inconclusive: the difference is the same under every seed, and without spread there is no test"
                    .to_owned()
            }
            Some(verdict) => words(verdict),
        }
    }
}

impl Judged<'_> {
    /// The verdict on the claim as a whole: what all its sizes say together. It is supported only where it is supported
    /// at every size, and contradicted as soon as it is contradicted at one.
    pub fn overall(&self) -> &'static str {
        let verdicts: Vec<Option<Verdict>> = self.parts.iter().map(|part| part.verdict).collect();
        let all = |wanted| !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == Some(wanted));
        if verdicts.iter().all(Option::is_none) {
            "no data"
        } else if all(Verdict::Supported) {
            "supported"
        } else if verdicts.contains(&Some(Verdict::Contradicted)) {
            "contradicted"
        } else if all(Verdict::Equivalent) {
            "equivalent within the margin"
        } else if verdicts.contains(&Some(Verdict::Supported)) {
            "supported in part"
        } else {
            "inconclusive"
        }
    }
}

fn words(verdict: Verdict) -> String {
    match verdict {
        Verdict::Supported => "supported".to_owned(),
        Verdict::Contradicted => "contradicted".to_owned(),
        Verdict::Equivalent => "equivalent within the margin".to_owned(),
        Verdict::Inconclusive { seeds_needed: Some(n) } => {
            format!("inconclusive: about {} in all would decide", format::count(n, "seed"))
        }
        Verdict::Inconclusive { seeds_needed: None } => {
            "inconclusive: the spread seen does not say how many seeds would decide".to_owned()
        }
    }
}

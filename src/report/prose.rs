//! The sentences of a report that depend on its input.

use super::format;
use super::view::View;
use crate::error::Result;
use crate::stats::Spending;

/// The explanation of ties in accuracies and win rates.
pub const TIES: &str = "A tie counts one half in accuracies, agreements and win rates; the share of ties stands beside each.";

pub fn seeds(view: &View) -> String {
    let seeds: Vec<String> = view
        .header()
        .seeds_planned
        .iter()
        .map(u64::to_string)
        .collect();
    if seeds.is_empty() {
        return "none planned".to_owned();
    }
    format!("{} planned: {}", seeds.len(), seeds.join(", "))
}

/// The counts of all planned cells.
pub fn total(view: &View) -> String {
    let counts = view.total();
    format!(
        "{} planned: {} finished, {} failed, {} collapsed, {} missing",
        counts.planned, counts.finished, counts.failed, counts.collapsed, counts.missing
    )
}

/// The cells of methods that did not simply finish, each with the reason; those of ablation points
/// are only counted here and listed in the table of cells.
pub fn mishaps(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let mut of_points = 0;
    for size in &view.sizes {
        for method in &view.methods {
            let mishaps = view.mishaps(&method.id, size);
            if method.point {
                of_points += mishaps.len();
                continue;
            }
            let name = format!("{}, {}", method.label, view.size_label(size));
            found.extend(mishaps.into_iter().map(|what| format!("{name}: {what}")));
        }
    }
    if of_points > 0 {
        found.push(format!(
            "points of the questions: {}, named with their reasons in the table",
            format::count(of_points, "more cell")
        ));
    }
    found
}

/// Sentences on the registration of the claims before the runs, and on the claims whose results had
/// been seen by then.
pub fn registration(view: &View, seen_before: Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(it) = &view.header().registration {
        let hash: String = it.blake3.chars().take(12).collect();
        let day = it.registered.split('T').next().unwrap_or(&it.registered);
        let [first, last] = it.seeds;
        lines.push(match it.frozen {
            true => format!("Claims: {}, frozen as {hash} on {day} for seeds {first} to {last}.", it.file),
            false => format!(
                "Claims: {}, for seeds {first} to {last}: a draft, not frozen: nothing here is confirmatory.",
                it.file
            ),
        });
    }
    lines.extend(
        seen_before
            .map(|which| format!("Results had been seen before the registration of {which}.")),
    );
    lines
}

/// The explanation of how claims are answered, with the numbers of the design.
pub fn claims(view: &View) -> String {
    let design = view.design();
    let looks: Vec<String> = design.looks.iter().map(usize::to_string).collect();
    let spending = match design.spending {
        Spending::Pocock => "Pocock's",
        Spending::OBrienFleming => "O'Brien and Fleming's",
    };
    format!(
        "Declared before the runs, with a comparison for each metric and size. {} declared as primary, so each has the error \
         α/m = {}/{} = {}, shared out over looks at {} paired seeds by {spending} spending function. At each look a comparison has \
         one repeated confidence interval; the intervals of all of them at all looks cover the true differences together with at \
         least {} % probability for normal differences, and every answer is read off them: within the margin (looked at first), \
         above or below 0, not beyond the margin. The first look that gives an answer decides. Exploratory claims get \
         suggestions: a q below {} from one Benjamini–Hochberg adjustment over all exploratory tests of the page. A claim is \
         supported only if each of its comparisons is.",
        match design.comparisons {
            1 => "m = 1 comparison is".to_owned(),
            m => format!("m = {m} comparisons are"),
        },
        design.alpha,
        design.comparisons.max(1),
        format::compact(design.alpha_each()),
        looks.join(", "),
        format::percent(1.0 - design.alpha),
        view.alpha(),
    )
}

pub fn questions(view: &View) -> String {
    format!(
        "One thing varies at a time. Lines are means over seeds with their {} % t interval; what they say is read from \
         intervals and tested only where a claim says so. Where a line meets a level is found for each seed on its own, by \
         straight lines between its points, and given only if every seed meets it inside the range.",
        format::percent(view.level())
    )
}

/// The explanation of how exploratory differences are adjusted; `tests` is the number of tests on
/// the page.
pub fn differences(tests: usize) -> String {
    format!(
        "Paired by seed and exploratory: q is p adjusted by Benjamini and Hochberg's method over {} of this page \
         together (exploratory claims, these tables, what is compared for the same cost, and collapses), each counted once however often it is \
         shown; what has no p is no test. P(better): chance that a run of the first method is better than one of the second. \
         MDE: the smallest true difference that so many seeds with this spread find with 80 % power.",
        format::count(tests, "exploratory test")
    )
}

pub fn compute(view: &View) -> Result<String> {
    let primary = view.metric(&view.layout().primary)?;
    Ok(format!(
        "Making only, without what measures; a stage that methods share is counted for each, as if it were made alone. The \
         search that tunes a method is a part of making it; what starts from SFT is counted without SFT and its search. For the same cost: the dearer method is taken at its last iteration that the cheaper one's total pays for (means over \
         seeds), and {} is compared there, paired by seed; n/a where even its first is dearer. The last column says whether the cheaper method, run to its end, \
         is not worse by the margin of a claim about the two, or else by the largest of a primary claim: by the repeated interval at the design's α, \
         shared with all primary comparisons only where one of them names the two. All other columns of such rows are \
         exploratory; q is adjusted with all other exploratory tests of the page.",
        primary.label
    ))
}

/// The producer's notes, then notes that the data themselves require.
pub fn notes(view: &View) -> Vec<String> {
    let mut notes: Vec<String> = view
        .header()
        .notes
        .iter()
        .map(|note| note.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for (metric, count) in view.metrics().undefined() {
        let label = view
            .metric(metric)
            .map_or(metric, |metric| metric.label.as_str());
        notes.push(format!(
            "Undefined and left out: {} of {label}.",
            format::count(count, "value")
        ));
    }
    let counts = view.total();
    if counts.ended() < counts.planned {
        let lost = format::count(counts.planned - counts.ended(), "planned cell");
        notes.push(format!(
            "{lost} did not end; means are over the seeds that did, and where failing goes with doing badly they flatter \
             the method."
        ));
    }
    notes
}

/// The explanation of how to read the numbers.
pub fn reading(view: &View) -> Vec<String> {
    let level = format::percent(view.level());
    let mut lines = vec![
        format!(
            "`0.712 [0.690, 0.734]` is a mean over seeds with its {level} % Student t interval. The estimand is that of a \
             **fixed test set**: seeds vary, prompts do not, so an interval says what retraining would change, not what \
             other prompts would. Columns **new prompts too** say what both would change: seeds and test items vary, \
             crossed, and the interval is that of the two-way layout; where most of the spread is that of the items it has more \
             degrees of freedom and can be the narrower one. p-values and verdicts are about the fixed test set. \
             Intervals are cut to the values a metric can take."
        ),
        "A method is shown at its last iteration. `(n=3)` is added where fewer seeds than planned stand behind a number."
            .to_owned(),
        format!(
            "**Bold**: best, and separated from every other method in its column (paired t tests over shared seeds, \
             Holm-adjusted over all pairs of methods and all sizes, p < {}). ≈: best, or not separated from the best. No mark: \
             separated from the best.",
            view.alpha()
        ),
        "Intervals of differences are for one comparison and a number of seeds that was fixed before; those beside verdicts hold for \
         all primary comparisons and looks together and are wider, so an ordinary interval may leave out 0 where the verdict is \
         inconclusive."
            .to_owned(),
        "`n/a` is not defined or not measured; it is never 0. One seed has a mean but no interval; values without any \
         spread have neither an interval nor a p."
            .to_owned(),
        "A collapsed run finished and its numbers count; what counts as a collapse stands with the collapses. A failed or missing run has none and is counted above."
            .to_owned(),
        "The csv and parquet files hold the same tables unrounded, `metrics.csv` and `metrics.parquet` every measured \
         value, `summary.json` counts and verdicts for programs."
            .to_owned(),
    ];
    if view
        .layout()
        .metrics
        .iter()
        .any(|metric| metric.ties.is_some())
    {
        lines.push(format!(
            "{TIES} A tie is two scores that are exactly equal, as those of identical responses are. With ties counted as \
             wrong, as most published numbers are, an accuracy is lower by half of that share: the metrics that end in `_strict`."
        ));
    }
    lines
}

//! The input as tables and figures use it: checked and counted, with methods and sizes in order.

use std::collections::{BTreeMap, BTreeSet};

use super::collapse;
use super::input::{
    Ablation, AblationLine, AblationPoint, AxisScale, Better, CellStatus, Claim, Design, Direction,
    Header, ItemValues, Layout, MethodRow, MetricColumn, Metrics, ReportInput, Status, TableKind,
    TableSpec,
};
use crate::error::{Error, Result};

/// Values per test item, by method, size and metric, then by seed.
type ValuesByItem<'a> = BTreeMap<(&'a str, &'a str, &'a str), BTreeMap<i64, &'a [f64]>>;

/// A checked input.
pub struct View<'a> {
    pub input: &'a ReportInput,
    items: ValuesByItem<'a>,
    /// Seeds under which a run collapsed, with the reason, by method and size.
    collapsed: BTreeMap<(String, String), BTreeMap<i64, String>>,
    /// The layout's methods and points, then those that only cells or metrics name, so that none is
    /// left out.
    pub methods: Vec<MethodRow>,
    pub sizes: Vec<String>,
}

/// The outcome counts of the planned cells of a method at a size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub planned: usize,
    pub finished: usize,
    pub failed: usize,
    pub collapsed: usize,
    pub missing: usize,
}

impl Counts {
    fn add(&mut self, status: &Status, collapsed: bool) {
        self.planned += 1;
        match status {
            Status::Finished if collapsed => self.collapsed += 1,
            Status::Finished => self.finished += 1,
            Status::Failed { .. } => self.failed += 1,
            Status::Collapsed { .. } => self.collapsed += 1,
            Status::Missing => self.missing += 1,
        }
    }

    /// The number of cells that ran to their end, collapsed or not.
    pub fn ended(&self) -> usize {
        self.finished + self.collapsed
    }
}

impl<'a> View<'a> {
    /// # Errors
    /// When the layout, a claim or an ablation names a method, size or metric that does not exist,
    /// when two tables or figures would share a file, when points have no place on their axis, or
    /// when the level isn't a probability.
    pub fn new(input: &'a ReportInput) -> Result<Self> {
        let collapsed = BTreeMap::new();
        let mut view = Self {
            input,
            items: items(input)?,
            collapsed,
            methods: methods(input),
            sizes: sizes(input),
        };
        view.check_layout()?;
        view.check_claims()?;
        view.check_ablations()?;
        for method in &view.methods {
            for size in &view.sizes {
                let runs = collapse::runs(&view, &method.id, size)?;
                view.collapsed
                    .insert((method.id.clone(), size.clone()), runs);
            }
        }
        Ok(view)
    }

    pub fn header(&self) -> &'a Header {
        &self.input.header
    }

    pub fn layout(&self) -> &'a Layout {
        &self.input.layout
    }

    pub fn metrics(&self) -> &'a Metrics {
        &self.input.metrics
    }

    pub fn level(&self) -> f64 {
        self.layout().level
    }

    /// The error rate that corresponds to the confidence level.
    pub fn alpha(&self) -> f64 {
        // Rounded, so that 1 − 0.95 is 0.05 and not 0.050000000000000044.
        ((1.0 - self.level()) * 1e12).round() / 1e12
    }

    /// The methods and heuristics, without the points of ablations.
    pub fn main_methods(&self) -> impl Iterator<Item = &MethodRow> {
        self.methods.iter().filter(|row| !row.point)
    }

    pub fn is_point(&self, id: &str) -> bool {
        self.methods.iter().any(|row| row.point && row.id == id)
    }

    pub fn method_label<'b>(&'b self, id: &'b str) -> &'b str {
        self.methods
            .iter()
            .find(|row| row.id == id)
            .map_or(id, |row| row.label.as_str())
    }

    pub fn size_label<'b>(&'b self, id: &'b str) -> &'b str {
        self.layout()
            .sizes
            .iter()
            .find(|size| size.id == id)
            .map_or(id, |size| size.label.as_str())
    }

    /// The design by which primary claims are looked at.
    pub fn design(&self) -> &'a Design {
        &self.input.design
    }

    /// The column of a metric; after the check, every id used by the layout and the claims is
    /// known.
    pub fn metric(&self, id: &str) -> Result<&'a MetricColumn> {
        self.layout()
            .metrics
            .iter()
            .find(|metric| metric.id == id)
            .ok_or_else(|| {
                let known: Vec<&str> = self
                    .layout()
                    .metrics
                    .iter()
                    .map(|metric| metric.id.as_str())
                    .collect();
                Error::configuration(format!("the report's layout has no metric `{id}`"))
                    .hint(format!("known metrics: {}", known.join(", ")))
            })
    }

    /// The metrics of the tables of these kinds, in order and each once; if `comparable`, without
    /// those that have no better direction.
    pub fn metrics_of(
        &self,
        kinds: &[TableKind],
        comparable: bool,
    ) -> Result<Vec<&'a MetricColumn>> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for table in self
            .layout()
            .tables
            .iter()
            .filter(|table| kinds.contains(&table.kind))
        {
            for id in &table.metrics {
                let metric = self.metric(id)?;
                if seen.insert(id) && !(comparable && metric.better == Better::Neither) {
                    found.push(metric);
                }
            }
        }
        Ok(found)
    }

    /// The values of a metric per test item at the method's last iteration, by seed.
    pub fn items<'s>(
        &'s self,
        method: &'s str,
        size: &'s str,
        metric: &'s str,
    ) -> Option<&'s BTreeMap<i64, &'a [f64]>> {
        self.items.get(&(method, size, metric))
    }

    pub fn counts(&self, method: &str, size: &str) -> Counts {
        let mut counts = Counts::default();
        for cell in self
            .header()
            .cells
            .iter()
            .filter(|cell| cell.method == method && cell.size == size)
        {
            counts.add(&cell.status, self.why_collapsed(cell).is_some());
        }
        counts
    }

    pub fn total(&self) -> Counts {
        let mut counts = Counts::default();
        for cell in &self.header().cells {
            counts.add(&cell.status, self.why_collapsed(cell).is_some());
        }
        counts
    }

    /// The outcomes of the cells of a method at a size that did not simply finish, by seed.
    pub fn mishaps(&self, method: &str, size: &str) -> Vec<String> {
        let mut found: Vec<(u64, String)> = self
            .header()
            .cells
            .iter()
            .filter(|cell| cell.method == method && cell.size == size)
            .filter_map(|cell| match &cell.status {
                Status::Finished | Status::Collapsed { .. } => self
                    .why_collapsed(cell)
                    .map(|why| (cell.seed, format!("seed {} collapsed: {why}", cell.seed))),
                Status::Failed { error } => {
                    Some((cell.seed, format!("seed {} failed: {error}", cell.seed)))
                }
                Status::Missing => Some((cell.seed, format!("seed {} was not run", cell.seed))),
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, what)| what).collect()
    }

    /// The number of the pre-trained model that a method at a size started from under a seed, if
    /// there are several.
    pub fn base(&self, method: &str, size: &str, seed: i64) -> Option<u64> {
        let cells = &self.header().cells;
        let of = |cell: &&CellStatus| {
            cell.method == method && cell.size == size && i64::try_from(cell.seed) == Ok(seed)
        };
        cells.iter().find(of)?.base
    }

    /// The seeds under which a method at a size collapsed, each with the reason.
    pub fn collapsed(&self, method: &str, size: &str) -> BTreeMap<i64, String> {
        self.collapsed
            .get(&(method.to_owned(), size.to_owned()))
            .cloned()
            .unwrap_or_default()
    }

    fn why_collapsed(&self, cell: &CellStatus) -> Option<&String> {
        let seed = i64::try_from(cell.seed).ok()?;
        self.collapsed
            .get(&(cell.method.clone(), cell.size.clone()))?
            .get(&seed)
    }

    /// Sorts seeds into the study's order; unplanned seeds come last.
    pub fn in_order(&self, seeds: &mut [i64]) {
        let planned = &self.header().seeds_planned;
        let place = |seed: i64| {
            planned
                .iter()
                .position(|it| i64::try_from(*it) == Ok(seed))
                .unwrap_or(usize::MAX)
        };
        seeds.sort_by_key(|seed| (place(*seed), *seed));
    }

    /// The part of `seeds` on which a primary comparison is judged: all seeds, or if the claims are
    /// registered, the registered ones in ascending order up to the last planned look for which all
    /// of them were planned.
    pub fn judged_on(&self, seeds: Vec<i64>) -> Vec<i64> {
        let Some(registration) = &self.header().registration else {
            return seeds;
        };
        let [first, last] = registration.seeds;
        let planned = &self.header().seeds_planned;
        let without_gap: Vec<u64> = (first..=last)
            .take_while(|seed| planned.contains(seed))
            .collect();
        let look = self
            .design()
            .looks
            .iter()
            .copied()
            .filter(|look| *look <= without_gap.len())
            .max()
            .unwrap_or(0);
        let allowed = without_gap
            .into_iter()
            .take(look)
            .filter_map(|seed| i64::try_from(seed).ok());
        allowed.filter(|seed| seeds.contains(seed)).collect()
    }

    /// The number of seeds planned for a method at a size, or for the experiment if no cell is
    /// declared (heuristics have none).
    pub fn planned(&self, method: &str, size: &str) -> usize {
        match self.counts(method, size).planned {
            0 => self.header().seeds_planned.len(),
            planned => planned,
        }
    }

    /// Whether the method belongs in a table of these metrics at this size: it has a value of one
    /// of them, or one of its planned runs did not end. A method whose runs all ended without any
    /// of the metrics doesn't have them by nature (a policy without a reward).
    pub fn belongs(&self, method: &str, size: &str, metrics: &[&str]) -> bool {
        if metrics
            .iter()
            .any(|metric| !self.metrics().last(method, size, metric).is_empty())
        {
            return true;
        }
        let counts = self.counts(method, size);
        counts.ended() < counts.planned
    }

    /// The lines of an ablation that a size has, with their indices. A single point, which is often
    /// a method that is there anyway, doesn't make a line.
    pub fn lines_of<'b>(
        &self,
        ablation: &'b Ablation,
        size: &str,
    ) -> Vec<(usize, &'b AblationLine)> {
        let planned = |point: &&AblationPoint| {
            self.counts(&point.method, size).planned > 0
                || ablation
                    .metrics
                    .iter()
                    .any(|metric| !self.metrics().last(&point.method, size, metric).is_empty())
        };
        let has = |line: &AblationLine| {
            line.points.iter().filter(planned).count() >= line.points.len().clamp(1, 2)
        };
        ablation
            .lines
            .iter()
            .enumerate()
            .filter(|(_, line)| has(line))
            .collect()
    }

    /// The rows of a table at a size.
    pub fn rows_of(&self, table: &TableSpec, size: &str) -> Vec<&MethodRow> {
        let metrics: Vec<&str> = table.metrics.iter().map(String::as_str).collect();
        self.main_methods()
            .filter(|row| !row.heuristic || table.kind == TableKind::Reward)
            .filter(|row| self.belongs(&row.id, size, &metrics))
            .collect()
    }

    fn check_layout(&self) -> Result<()> {
        let layout = self.layout();
        if !(layout.level > 0.0 && layout.level < 1.0) {
            return Err(Error::configuration(format!(
                "the report's confidence level is {}",
                layout.level
            ))
            .hint("give a number between 0 and 1, usually 0.95"));
        }
        self.metric(&layout.primary)?;
        if let Some(rule) = &layout.collapses {
            self.metric(&rule.metric)?;
        }
        self.known_method("baseline of the layout", &layout.baseline)?;
        self.known_method("method under study of the layout", &layout.under_study)?;
        for table in &layout.tables {
            for id in &table.metrics {
                self.metric(id)?;
            }
        }
        once(
            "cell",
            self.header()
                .cells
                .iter()
                .map(|cell| format!("{} {} {}", cell.method, cell.size, cell.seed)),
        )?;
        once("method", layout.methods.iter().map(|row| row.id.clone()))?;
        once(
            "metric",
            layout.metrics.iter().map(|metric| file_stem(&metric.id)),
        )?;
        once(
            "table",
            layout.tables.iter().map(|table| file_stem(&table.id)),
        )?;
        once(
            "curve",
            self.input.curves.iter().map(|curve| file_stem(&curve.id)),
        )
    }

    fn check_claims(&self) -> Result<()> {
        self.input.design.check()?;
        for claim in &self.input.claims {
            if claim.metrics.is_empty() {
                return Err(
                    Error::configuration(format!("claim `{}` names no metric", claim.id))
                        .hint("a claim has one comparison for each of its metrics"),
                );
            }
            for metric in &claim.metrics {
                let better = self.metric(metric)?.better;
                if claim.direction == Direction::NotWorse && better != Better::Higher {
                    return Err(Error::configuration(format!(
                        "claim `{}` says `not_worse` of `{metric}`, of which more is not better",
                        claim.id
                    ))
                    .hint("exchange method and versus where less is better"));
                }
            }
            if claim.margin.is_none()
                && matches!(claim.direction, Direction::Equivalent | Direction::NotWorse)
            {
                return Err(Error::configuration(format!("claim `{}` has no margin", claim.id)).hint(
                    "equivalence and non-inferiority are about the differences that do not matter; give a margin",
                ));
            }
            for method in methods_of(claim) {
                self.known_method(&format!("claim `{}`", claim.id), method)?;
            }
            if let Some(size) = &claim.size
                && !self.sizes.contains(size)
            {
                return Err(Error::configuration(format!(
                    "claim `{}` names the unknown size `{size}`",
                    claim.id
                ))
                .hint(format!("known sizes: {}", self.sizes.join(", "))));
            }
            if claim
                .margin
                .is_some_and(|margin| !(margin.is_finite() && margin > 0.0))
            {
                return Err(Error::configuration(format!(
                    "the margin of claim `{}` is not above 0",
                    claim.id
                ))
                .hint("leave the margin out where no difference is too small to matter"));
            }
        }
        once(
            "claim",
            self.input.claims.iter().map(|claim| claim.id.clone()),
        )
    }

    fn check_ablations(&self) -> Result<()> {
        for ablation in &self.input.ablations {
            let place = format!("ablation `{}`", ablation.id);
            for metric in &ablation.metrics {
                self.metric(metric)?;
            }
            if let Some(level) = &ablation.against {
                self.known_method(&place, level)?;
            }
            for line in &ablation.lines {
                self.known_method(&place, &line.method)?;
                for point in &line.points {
                    self.known_method(&place, &point.method)?;
                }
                check_axis(
                    ablation,
                    &line.points.iter().map(|point| point.x).collect::<Vec<_>>(),
                )?;
            }
        }
        once(
            "ablation",
            self.input
                .ablations
                .iter()
                .map(|ablation| file_stem(&ablation.id)),
        )
    }

    fn known_method(&self, place: &str, id: &str) -> Result<()> {
        if self.methods.iter().any(|row| row.id == id) {
            return Ok(());
        }
        let known: Vec<&str> = self.methods.iter().map(|row| row.id.as_str()).collect();
        Err(
            Error::configuration(format!("{place} names the unknown method `{id}`"))
                .hint(format!("known methods: {}", known.join(", "))),
        )
    }
}

/// Every method that a claim names.
pub fn methods_of(claim: &Claim) -> impl Iterator<Item = &str> {
    let other = claim
        .relative_to
        .iter()
        .flat_map(|other| [&other.method, &other.versus]);
    [&claim.method, &claim.versus]
        .into_iter()
        .chain(other)
        .map(String::as_str)
}

/// Checks that the points of one line have a place on the axis, each its own.
fn check_axis(ablation: &Ablation, places: &[Option<f64>]) -> Result<()> {
    let wrong = |what: &str, hint: &str| {
        Err(Error::configuration(format!("ablation `{}` {what}", ablation.id)).hint(hint))
    };
    if ablation.scale == AxisScale::Words {
        return Ok(());
    }
    let Some(mut places) = places.iter().copied().collect::<Option<Vec<f64>>>() else {
        return wrong(
            "has a point without x",
            "give each point its x, or let the scale be `words`",
        );
    };
    if places
        .iter()
        .any(|x| !x.is_finite() || (ablation.scale == AxisScale::Log && *x <= 0.0))
    {
        return wrong(
            "has a point that is nowhere on its axis",
            "on a logarithmic axis x is above 0",
        );
    }
    places.sort_by(f64::total_cmp);
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return wrong("has two points at one x of a line", "make them two lines");
    }
    Ok(())
}

/// The id with characters that are safe in a file name on every system.
pub fn file_stem(id: &str) -> String {
    id.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .collect()
}

fn once(what: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name.clone()) {
            return Err(Error::configuration(format!(
                "the report's {what} `{name}` is declared twice, or has no name"
            ))
            .hint("ids name files, where all but letters, digits, `-` and `_` become `-`; keep them distinct"));
        }
    }
    Ok(())
}

/// The items by method, size and metric, then by seed; all runs of a size have the same items of a
/// metric.
fn items(input: &ReportInput) -> Result<ValuesByItem<'_>> {
    let mut found = ValuesByItem::new();
    let mut lengths: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for ItemValues {
        method,
        size,
        seed,
        metric,
        values,
    } in &input.items
    {
        let wrong = |what: String| {
            Err(Error::configuration(format!(
                "the items of `{metric}` for method `{method}`, size `{size}`, seed {seed} {what}"
            ))
            .hint(
                "all methods and seeds have the same items in the same order, each with a number",
            ))
        };
        let length = *lengths.entry((size, metric)).or_insert(values.len());
        if values.is_empty() || values.len() != length {
            return wrong(format!(
                "are {} where another run has {length}",
                values.len()
            ));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return wrong("hold a value that is not finite".to_owned());
        }
        let Ok(key) = i64::try_from(*seed) else {
            return wrong("have a seed beyond what metrics can have".to_owned());
        };
        if found
            .entry((method, size, metric))
            .or_default()
            .insert(key, values)
            .is_some()
        {
            return wrong("are there twice".to_owned());
        }
    }
    Ok(found)
}

fn methods(input: &ReportInput) -> Vec<MethodRow> {
    let mut methods = input.layout.methods.clone();
    let cells = input.header.cells.iter().map(|cell| cell.method.as_str());
    let measured = input.metrics.rows().iter().map(|row| row.method.as_str());
    let others: BTreeSet<&str> = cells.chain(measured).collect();
    for id in others {
        if !methods.iter().any(|row| row.id == id) {
            methods.push(MethodRow {
                id: id.to_owned(),
                label: id.to_owned(),
                heuristic: false,
                point: false,
            });
        }
    }
    methods
}

fn sizes(input: &ReportInput) -> Vec<String> {
    let mut others: BTreeSet<&str> = input
        .header
        .cells
        .iter()
        .map(|cell| cell.size.as_str())
        .collect();
    others.extend(input.metrics.sizes());
    let mut sizes: Vec<String> = input
        .layout
        .sizes
        .iter()
        .map(|size| size.id.clone())
        .collect();
    sizes.retain(|size| others.remove(size.as_str()));
    sizes.extend(others.into_iter().map(str::to_owned));
    sizes
}

//! An experiment file, parsed and validated: later code does not check settings or references
//! again.

use super::ablation::{self, Declared};
use super::benchmarks::BenchmarkSources;
use super::claim::{Claim, RawClaim};
use super::decode::decode;
use super::hyper::{Hyper, ModelSettings};
use super::layout::ReportSettings;
use super::recipe::RecipeChoice;
use super::registration::{self, Registration};
use super::resolve::Selection;
use super::seeds::{SeedChoice, SeedSettings};
use super::sources::DataSources;
use super::tree::{Node, Table, Value};
use super::{bounds, find, references};
use crate::data::world::{KIND, WorldKind, WorldSettings};
use crate::error::{Context, Result};
use crate::stats::Design;
use crate::tasks::TaskSettings;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

/// The value of `world`, and of a source of a scale's data, by which an experiment does without what
/// the one that it extends has there.
const NONE: &str = "none";

/// A whole experiment file. [`Experiment::resolve`] turns it into what one run needs.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub name: String,
    pub title: String,
    pub question: String,
    pub description: String,
    pub(super) world: Option<WorldSettings>,
    pub(super) task: TaskSettings,
    pub(super) models: BTreeMap<String, ModelSettings>,
    pub(super) seeds: SeedSettings,
    pub(super) report: ReportSettings,
    pub(super) claims: Vec<Claim>,
    pub(super) registration: Option<Registration>,
    /// Number of registered claims, which come first.
    pub(super) registered: Option<usize>,
    /// Looks and error rate of the primary claims, without the number of comparisons.
    pub(super) design: Design,
    pub(super) scales: BTreeMap<String, Overridden<ScaleTable>>,
    pub(super) profiles: BTreeMap<String, Overridden<Profile>>,
    pub(super) methods: Vec<Overridden<Method>>,
    pub(super) ablations: Vec<Declared>,
    /// The hyper-parameter sections that all methods share.
    pub(super) shared: Node,
}

/// A table of the file with settings of its own and, beside them, overrides of hyper-parameter
/// sections.
#[derive(Clone, Debug)]
pub(super) struct Overridden<T> {
    pub own: T,
    pub overrides: Node,
    pub node: Node,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScaleTable {
    pub description: String,
    /// Models that replace the profile's.
    pub sizes: Option<Vec<String>>,
    /// Ids of the methods that run in place of the profile's, if all of them are declared.
    pub methods: Option<Vec<String>>,
    /// Hardware that a plan estimates for unless another is chosen.
    pub target: Option<String>,
    /// The sources of posts, preferences, demonstrator and judge; the embedded world if absent.
    pub data: Option<DataSources>,
    /// Rows of published benchmarks by which models are measured; none if absent.
    pub benchmarks: Option<BenchmarkSources>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub description: String,
    pub seeds: SeedChoice,
    pub sizes: Vec<String>,
    /// Ids of the methods that run; all of them if absent.
    pub methods: Option<Vec<String>>,
    /// Ids of the ablations that run, as far as their methods run; all of them if absent.
    pub ablations: Option<Vec<String>>,
    /// Number of points of each ablation, counted from the first; all of them if absent.
    pub points: Option<usize>,
    /// Largest number of bases of a size.
    pub bases: Option<NonZeroUsize>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Method {
    pub id: String,
    pub label: String,
    pub recipe: RecipeChoice,
    #[serde(default)]
    pub note: String,
}

/// The top level without hyper-parameters and without the tables that carry overrides.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    name: String,
    title: String,
    question: String,
    description: String,
    /// Read by [`world`], which keeps the places of its keys; here for the schema.
    #[serde(default)]
    #[expect(dead_code)]
    world: Option<WorldSettings>,
    #[serde(default)]
    task: TaskSettings,
    models: BTreeMap<String, ModelSettings>,
    seeds: SeedSettings,
    #[serde(default)]
    claim: Vec<RawClaim>,
    report: ReportSettings,
}

/// Removes the sources of every scale's data and benchmarks that are `none`.
fn remove_sources(scales: &mut Node) {
    let tables = scales
        .table_mut()
        .into_iter()
        .flat_map(BTreeMap::values_mut);
    for scale in tables.filter_map(|entry| entry.node.table_mut()) {
        for table in ["data", "benchmarks"] {
            let sources = scale.get_mut(table);
            if let Some(sources) = sources.and_then(|entry| entry.node.table_mut()) {
                sources.retain(
                    |_, source| !matches!(&source.node.value, Value::String(none) if none == NONE),
                );
            }
        }
    }
}

/// The settings of the embedded world in `node`; its `kind` says which world it is.
fn world(mut node: Node) -> Result<WorldSettings> {
    let kind = node.table_mut().and_then(|table| table.remove(KIND));
    match kind.map(|entry| decode(&entry.node, &[])).transpose()? {
        None | Some(WorldKind::Posts) => decode(&node, &[KIND]).map(WorldSettings::Posts),
        Some(WorldKind::Chat) => decode(&node, &[KIND]).map(WorldSettings::Chat),
    }
}

impl Experiment {
    /// Loads an experiment by its file's path or its name; see [`find`](super::find).
    ///
    /// # Errors
    /// The first fault of the file, with its place: syntax, unknown key, type, bound, unknown
    /// reference. All scales, profiles and methods are checked, not only those that will run.
    pub fn load(path_or_name: &str) -> Result<Self> {
        let here =
            std::env::current_dir().context(|| "the current folder cannot be read".into())?;
        Self::load_from(path_or_name, &here)
    }

    /// Does the same as [`Experiment::load`], starting from the folder `start`.
    pub fn load_from(path_or_name: &str, start: &Path) -> Result<Self> {
        Self::from_tree(find::read(path_or_name, start)?)
    }

    /// Reads an experiment from its text; errors call the text `name`.
    pub fn parse(name: &str, content: &str) -> Result<Self> {
        Self::from_tree(find::parse(name, content)?)
    }

    fn from_tree(mut document: Node) -> Result<Self> {
        let registered = registration::take(&mut document)?;
        let (mut top, shared) = split(&document);
        if let Some(table) = top.table_mut()
            && table.get("world").is_some_and(
                |world| matches!(&world.node.value, Value::String(none) if none == NONE),
            )
        {
            table.remove("world");
        }
        let world = top
            .table_mut()
            .and_then(|table| table.remove("world"))
            .map(|entry| world(entry.node))
            .transpose()?;
        let mut take = |key: &str| {
            top.table_mut()
                .and_then(|table| table.remove(key))
                .map(|entry| entry.node)
        };
        let (mut scales, profiles, methods) = (take("scale"), take("profile"), take("method"));
        if let Some(scales) = &mut scales {
            remove_sources(scales);
        }
        let ablations = take("ablation");
        let also = Hyper::SECTIONS
            .iter()
            .copied()
            .chain(["scale", "profile", "method", "ablation", "extends", "world"]);
        let header: Header = decode(&top, &also.collect::<Vec<_>>())?;
        let methods = listed(&document, methods)?;
        let gap = registered.as_ref().and_then(|registered| registered.gap);
        let experiment = Self {
            name: header.name,
            title: header.title,
            question: header.question,
            description: header.description,
            claims: references::claims(header.claim, &header.models, gap, &document)?,
            registered: registered.as_ref().map(|registered| registered.claims),
            design: registered
                .as_ref()
                .map_or_else(|| Design::of(0), |registered| registered.design.clone()),
            registration: registered.map(|registered| registered.registration),
            world,
            task: header.task,
            models: header.models,
            seeds: header.seeds,
            report: header.report,
            scales: named(&document, scales, "scale")?,
            profiles: named(&document, profiles, "profile")?,
            ablations: declared_ablations(ablations, &methods)?,
            methods,
            shared,
        };
        references::check(&experiment, &document)?;
        bounds::check_world(&document)?;
        for (size, model) in &experiment.models {
            let node = document
                .at("models")
                .and_then(Node::table)
                .and_then(|models| models.get(size));
            bounds::check_model(model, node.map_or(&document, |entry| &entry.node))?;
        }
        experiment.check_every_selection()?;
        Ok(experiment)
    }

    fn check_every_selection(&self) -> Result<()> {
        // A method may be in no profile and be requested only by --methods.
        let in_profiles = |id: &String| {
            let mut chosen = self
                .profiles
                .values()
                .map(|profile| profile.own.methods.as_ref());
            chosen.any(|methods| methods.is_none_or(|methods| methods.contains(id)))
        };
        let ids = || self.methods.iter().map(|method| &method.own.id);
        let spare = ids()
            .any(|id| !in_profiles(id))
            .then(|| ids().cloned().collect::<Vec<_>>());
        for scale in self.scales.keys() {
            for profile in self.profiles.keys() {
                let selection = Selection {
                    scale: scale.clone(),
                    profile: profile.clone(),
                    ..Selection::default()
                };
                self.resolve(&selection)?;
                if let Some(methods) = spare.clone() {
                    self.resolve(&Selection {
                        methods,
                        ..selection
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Every method that can be selected or named by a claim: the declared ones, then the points of
    /// ablations.
    pub(super) fn all_methods(&self) -> impl Iterator<Item = &Overridden<Method>> {
        self.methods
            .iter()
            .chain(self.ablations.iter().flat_map(|declared| &declared.points))
    }

    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    pub fn scales(&self) -> impl Iterator<Item = &str> {
        self.scales.keys().map(String::as_str)
    }
}

/// Splits a table into its own keys and its hyper-parameter sections.
pub(super) fn split(node: &Node) -> (Node, Node) {
    let (sections, own): (Table, Table) = node
        .table()
        .into_iter()
        .flatten()
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .partition(|(key, _)| Hyper::SECTIONS.contains(&key.as_str()));
    let table = |table| Node {
        value: Value::Table(table),
        place: node.place.clone(),
    };
    (table(own), table(sections))
}

pub(super) fn part<T: serde::de::DeserializeOwned>(node: &Node) -> Result<Overridden<T>> {
    if node.table().is_none() {
        return Err(node.place.error("expected a table"));
    }
    let (own, overrides) = split(node);
    Ok(Overridden {
        own: decode(&own, Hyper::SECTIONS)?,
        overrides,
        node: node.clone(),
    })
}

/// Reads `[<kind>.<name>]` tables.
fn named<T: serde::de::DeserializeOwned>(
    document: &Node,
    node: Option<Node>,
    kind: &str,
) -> Result<BTreeMap<String, Overridden<T>>> {
    let Some(node) = node else {
        return Err(document
            .place
            .error(format!("no {kind} is declared"))
            .hint(format!("add a table [{kind}.<name>]")));
    };
    let Some(table) = node.table() else {
        return Err(node.place.error(format!("expected tables [{kind}.<name>]")));
    };
    table
        .iter()
        .map(|(name, entry)| Ok((name.clone(), part(&entry.node)?)))
        .collect()
}

/// Reads `[[ablation]]` tables over `methods`; there may be none of them.
fn declared_ablations(node: Option<Node>, methods: &[Overridden<Method>]) -> Result<Vec<Declared>> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    match &node.value {
        Value::Array(items) => items
            .iter()
            .map(|item| ablation::declared(item, methods))
            .collect(),
        _ => Err(node.place.error("expected tables [[ablation]]")),
    }
}

/// Reads `[[method]]` tables.
fn listed<T: serde::de::DeserializeOwned>(
    document: &Node,
    node: Option<Node>,
) -> Result<Vec<Overridden<T>>> {
    match node.as_ref().map(|node| &node.value) {
        Some(Value::Array(items)) if !items.is_empty() => items.iter().map(part).collect(),
        _ => {
            let place = node.as_ref().map_or(&document.place, |node| &node.place);
            Err(place
                .error("no method is declared")
                .hint("add a table [[method]] with id, label and recipe"))
        }
    }
}

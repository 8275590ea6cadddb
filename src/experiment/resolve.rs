//! Resolution of a validated experiment and the command line's choices to the [`Study`] that is
//! run.
//!
//! Overrides are laid on the shared sections in this order, later ones winning:
//! scale, profile, method, `--set`.

use super::ablation::Ablation;
use super::benchmarks::BenchmarkSources;
use super::bounds::check_hyper;
use super::choices::{self, MATCHED_METHOD};
use super::claim::{Claim, Role, Versus};
use super::decode::{decode, nearest, suggestion};
use super::file::{Experiment, Method, Overridden, Profile, ScaleTable};
use super::hyper::{Hyper, ModelSettings};
use super::layout::ReportSettings;
use super::recipe::Recipe;
use super::registration::Registration;
use super::seeds::SeedChoice;
use super::sources::DataSources;
use super::tree::Node;
use crate::data::world::WorldSettings;
use crate::error::{Error, Result};
use crate::stats::Design;
use crate::tasks::TaskSettings;
use std::collections::BTreeSet;

/// A choice of what to run of an experiment.
#[derive(Clone, Debug)]
pub struct Selection {
    pub profile: String,
    pub scale: String,
    /// Seeds that replace the profile's.
    pub seeds: Option<SeedChoice>,
    /// Sizes that replace the profile's, unless empty.
    pub sizes: Vec<String>,
    /// Methods that replace the profile's, unless empty.
    pub methods: Vec<String>,
    /// Ablations that replace the profile's, unless empty; the word `none` alone selects no
    /// ablation.
    pub ablations: Vec<String>,
    /// Overrides of every method's hyper-parameters, as `section.key=value`.
    pub set: Vec<String>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            profile: "standard".into(),
            scale: "mini".into(),
            seeds: None,
            sizes: Vec::new(),
            methods: Vec::new(),
            ablations: Vec::new(),
            set: Vec::new(),
        }
    }
}

/// Everything that planning, running and reporting an experiment needs, with every choice made.
#[derive(Clone, Debug)]
pub struct Study {
    pub name: String,
    pub title: String,
    pub question: String,
    pub description: String,
    pub scale: String,
    pub scale_description: String,
    /// Hardware that a plan estimates for unless another is chosen.
    pub target: Option<String>,
    /// Sources of the data; `None` for the embedded world.
    pub data: Option<StudyData>,
    /// Published benchmarks by which models are measured.
    pub benchmarks: BenchmarkSources,
    pub profile: String,
    pub profile_description: String,
    /// The embedded world, if the experiment declares one.
    pub world: Option<WorldSettings>,
    pub task: TaskSettings,
    /// Id and shape of each size, in the order in which they are reported.
    pub sizes: Vec<(String, ModelSettings)>,
    pub seeds: Vec<u64>,
    /// The hyper-parameters before any method's overrides.
    pub shared: Hyper,
    /// The methods in the order of the file, followed by the points of ablations.
    pub methods: Vec<MethodPlan>,
    /// Methods whose length others match and that do not run themselves.
    pub references: Vec<MethodPlan>,
    /// The ablations, with the points that run.
    pub ablations: Vec<Ablation>,
    /// The claims that this selection can test, on the selected sizes.
    pub claims: Vec<Claim>,
    /// Ids of the declared claims that cannot be tested, because one of their methods or all of
    /// their sizes are not selected.
    pub untested_claims: Vec<String>,
    /// The design by which the primary claims are tested. It counts all comparisons that the file
    /// declares for this scale, including those that this selection does not test.
    pub design: Design,
    /// The claim file of the primary claims, if there is one.
    pub registration: Option<Registration>,
    pub report: ReportSettings,
}

impl Study {
    /// Leaves out the claims of the registered file, which are about the embedded world, in a study of
    /// other data.
    pub fn leave_out_registered_claims(&mut self) {
        if self.registration.is_none() {
            return;
        }
        let (registered, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| claim.role == Role::Primary);
        self.untested_claims
            .extend(registered.into_iter().map(|claim| claim.id));
        self.claims = others;
    }
}

/// Data and models from outside the embedded world.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyData {
    pub sources: DataSources,
    pub demonstrator: Option<ModelSettings>,
    pub judge: Option<ModelSettings>,
}

impl StudyData {
    /// The names of the data sources and their values.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let judge = self
            .judge
            .as_ref()
            .and_then(|model| model.checkpoint.as_deref());
        let demonstrator = self
            .demonstrator
            .as_ref()
            .and_then(|model| model.checkpoint.as_deref());
        let models = [("demonstrator", demonstrator), ("judge", judge)];
        let models = models
            .into_iter()
            .filter_map(|(name, source)| Some((name, source?)));
        self.sources
            .data_sets()
            .map(|(name, source)| (name, source.as_str()))
            .chain(models)
    }
}

/// One method with its own full set of hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodPlan {
    pub id: String,
    pub label: String,
    pub recipe: Recipe,
    pub note: String,
    /// True for a point of an ablation, which is measured only at its end and shown only in the
    /// ablation.
    pub point: bool,
    pub hyper: Hyper,
    /// The number of the study's seeds, from the first, that the method runs on; all of them if
    /// absent.
    pub first_seeds: Option<usize>,
}

impl MethodPlan {
    /// True if the method runs under `seed`, which is one of `seeds`.
    pub fn runs(&self, seeds: &[u64], seed: u64) -> bool {
        let first = self.first_seeds.unwrap_or(seeds.len());
        seeds.iter().take(first).any(|other| *other == seed)
    }

    /// Id of the method whose length its SFT matches.
    pub fn matched(&self) -> Option<&String> {
        self.hyper
            .choices
            .sft
            .as_long_as
            .as_ref()
            .map(|matched| &matched.method)
    }
}

impl Experiment {
    /// Makes every choice of a run.
    ///
    /// # Errors
    /// An unknown profile, scale, size, method or preset; a bad `--set`; hyper-parameters out of
    /// bounds; a report whose baseline or subject is not among the selected methods.
    pub fn resolve(&self, selection: &Selection) -> Result<Study> {
        let scale = choose(
            "scale",
            &selection.scale,
            self.scales.iter().map(|(name, part)| (name.as_str(), part)),
        )?;
        let profile = choose(
            "profile",
            &selection.profile,
            self.profiles
                .iter()
                .map(|(name, part)| (name.as_str(), part)),
        )?;
        let sizes = match (&selection.sizes, &scale.own.sizes) {
            (chosen, _) if !chosen.is_empty() => chosen,
            (_, Some(of_scale)) => of_scale,
            (_, None) => &profile.own.sizes,
        };
        let mut sizes = self.sizes(sizes)?;
        if let Some(most) = profile.own.bases {
            sizes
                .iter_mut()
                .for_each(|(_, model)| model.bases = model.bases.min(most.get()));
        }

        let set = overrides(&selection.set)?;
        let mut under = self.shared.clone();
        under.merge(&scale.overrides);
        under.merge(&profile.overrides);
        let hyper = |own: Option<&Node>| {
            let mut merged = under.clone();
            for over in own.into_iter().chain(&set) {
                merged.merge(over);
            }
            let hyper = hyper(&merged, &sizes)?;
            choices::check_set(&set, &hyper.choices)?;
            let known = |id: &str| self.all_methods().any(|method| method.own.id == id);
            match hyper
                .choices
                .sft
                .as_long_as
                .as_ref()
                .filter(|matched| !known(&matched.method))
            {
                None => Ok(hyper),
                Some(matched) => {
                    let place = &merged.at(MATCHED_METHOD).unwrap_or(&merged).place;
                    let declared: Vec<&str> = self
                        .methods
                        .iter()
                        .map(|method| method.own.id.as_str())
                        .collect();
                    let error = place.error(format!("no method is called `{}`", matched.method));
                    Err(error.hint(suggestion(&matched.method, declared)))
                }
            }
        };
        let shared = hyper(None)?;
        // A scale that is inherited may name methods that this experiment replaces by its own.
        let declared = |id: &String| self.methods.iter().any(|method| method.own.id == *id);
        let of_scale = scale.own.methods.as_ref();
        let of_scale = of_scale.filter(|ids| ids.iter().all(declared));
        let chosen = if selection.methods.is_empty() {
            of_scale.or(profile.own.methods.as_ref())
        } else {
            Some(&selection.methods)
        };
        let plan = |method: &Overridden<Method>, point| {
            let Method {
                id,
                label,
                recipe,
                note,
            } = method.own.clone();
            let hyper = hyper(Some(&method.overrides))?;
            let mut planned = MethodPlan {
                id,
                label,
                recipe: recipe.recipe(&hyper),
                note,
                point,
                hyper,
                first_seeds: None,
            };
            if let Some(matched) = &mut planned.hyper.choices.sft.as_long_as {
                matched.method = self.matched(&method.own.id, &matched.method);
            }
            Ok(planned)
        };
        let mut methods = self.methods(chosen.map(Vec::as_slice))?;
        let ablations = self.ablations(selection, &profile.own, &methods)?;
        let points = self.points(&ablations);
        let mut methods = methods
            .drain(..)
            .map(|method| plan(method, false))
            .collect::<Result<Vec<_>>>()?;
        methods.extend(
            points
                .into_iter()
                .map(|point| plan(point, true))
                .collect::<Result<Vec<_>>>()?,
        );
        let references = self.references(&methods, |method| plan(method, false))?;
        for (role, id) in [
            ("baseline", &self.report.baseline),
            ("under_study", &self.report.under_study),
        ] {
            if !methods.iter().any(|method| method.id == *id) {
                return Err(Error::configuration(format!(
                    "the report's {role} `{id}` is not among the methods selected"
                ))
                .hint(format!(
                    "add `{id}` to --methods or to the methods of profile `{}`",
                    selection.profile
                )));
            }
        }
        let design = Design {
            comparisons: self.comparisons(scale, &sizes),
            ..self.design.clone()
        };
        let (claims, untested_claims) = self.claims(&methods, &sizes);
        Ok(Study {
            name: self.name.clone(),
            title: self.title.clone(),
            question: self.question.clone(),
            description: self.description.clone(),
            scale: selection.scale.clone(),
            scale_description: scale.own.description.clone(),
            target: scale.own.target.clone(),
            data: self.data(scale, &sizes)?,
            benchmarks: scale.own.benchmarks.clone().unwrap_or_default(),
            profile: selection.profile.clone(),
            profile_description: profile.own.description.clone(),
            world: self.world.clone(),
            task: self.task.clone(),
            seeds: self
                .seeds
                .choose(selection.seeds.as_ref().unwrap_or(&profile.own.seeds))?,
            sizes,
            shared,
            methods,
            references,
            ablations,
            claims,
            untested_claims,
            design,
            registration: self.registration.clone(),
            report: self.report.clone(),
        })
    }

    /// Id of the method whose length `id` matches if it names `named`: at a point of an ablation
    /// that varies both, the same point.
    fn matched(&self, id: &str, named: &str) -> String {
        let lines = self
            .ablations
            .iter()
            .map(|declared| &declared.ablation.lines);
        let at_point = lines.flat_map(|lines| {
            let own = lines.iter().find_map(|line| {
                line.points
                    .iter()
                    .find(|point| point.method == id)
                    .map(|point| point.method[line.method.len()..].to_owned())
            })?;
            let other = lines.iter().find(|line| line.method == named)?;
            other
                .points
                .iter()
                .map(|point| &point.method)
                .find(|point| **point == format!("{named}{own}"))
                .cloned()
        });
        at_point
            .into_iter()
            .next()
            .unwrap_or_else(|| named.to_owned())
    }

    /// The methods whose length running methods match and that do not run themselves.
    ///
    /// # Errors
    /// A method that matches its own length, directly or through others.
    fn references(
        &self,
        methods: &[MethodPlan],
        plan: impl Fn(&Overridden<Method>) -> Result<MethodPlan>,
    ) -> Result<Vec<MethodPlan>> {
        let mut references: Vec<MethodPlan> = Vec::new();
        for method in methods {
            let (mut passed, mut next) = (vec![method.id.clone()], method.matched().cloned());
            while let Some(id) = next {
                if passed.contains(&id) {
                    let chain = passed
                        .iter()
                        .chain([&id])
                        .map(|id| format!("`{id}`"))
                        .collect::<Vec<_>>()
                        .join(" as ");
                    return Err(Error::configuration(format!("SFT of a method is as long as itself: {chain}"))
                        .hint("let sft.as_long_as name a method whose own SFT has a length of its own, or set it to \"none\" there"));
                }
                let known = methods
                    .iter()
                    .chain(&references)
                    .find(|method| method.id == id)
                    .cloned();
                let found = match (known, self.all_methods().find(|part| part.own.id == id)) {
                    (Some(known), _) => known,
                    (None, Some(part)) => {
                        references.push(plan(part)?);
                        references[references.len() - 1].clone()
                    }
                    (None, None) => {
                        return Err(Error::configuration(format!("no method is called `{id}`")));
                    }
                };
                next = found.matched().cloned();
                passed.push(id);
            }
        }
        Ok(references)
    }

    /// The sources of `scale`, with the models that they name.
    fn data(
        &self,
        scale: &Overridden<ScaleTable>,
        sizes: &[(String, ModelSettings)],
    ) -> Result<Option<StudyData>> {
        let Some(sources) = &scale.own.data else {
            return Ok(None);
        };
        if let Some((size, _)) = sizes.iter().find(|(_, model)| model.checkpoint.is_none()) {
            return Err(Error::configuration(format!(
                "size `{size}` has no checkpoint, which real text needs"
            ))
            .hint("choose sizes whose [models] table names a `checkpoint`, or leave --sizes out"));
        }
        let model = |name: &Option<String>| {
            name.as_ref()
                .and_then(|name| self.models.get(name))
                .cloned()
        };
        let (demonstrator, judge) = (model(&sources.demonstrator), model(&sources.judge));
        Ok(Some(StudyData {
            sources: sources.clone(),
            demonstrator,
            judge,
        }))
    }

    fn sizes(&self, chosen: &[String]) -> Result<Vec<(String, ModelSettings)>> {
        let models = || {
            self.models
                .iter()
                .map(|(name, model)| (name.as_str(), model))
        };
        let sizes = chosen
            .iter()
            .map(|size| Ok((size.clone(), choose("size", size, models())?.clone())));
        distinct("size", chosen)?;
        sizes.collect()
    }

    /// The selected methods, or all of them, in the order of the file.
    fn methods(&self, chosen: Option<&[String]>) -> Result<Vec<&Overridden<Method>>> {
        let Some(chosen) = chosen else {
            return Ok(self.methods.iter().collect());
        };
        for id in chosen {
            choose(
                "method",
                id,
                self.methods
                    .iter()
                    .map(|method| (method.own.id.as_str(), method)),
            )?;
        }
        distinct("method", chosen)?;
        Ok(self
            .methods
            .iter()
            .filter(|method| chosen.contains(&method.own.id))
            .collect())
    }

    /// The selected ablations, with the lines whose methods run and the points that the profile
    /// keeps.
    fn ablations(
        &self,
        selection: &Selection,
        profile: &Profile,
        methods: &[&Overridden<Method>],
    ) -> Result<Vec<Ablation>> {
        let all = || {
            self.ablations
                .iter()
                .map(|declared| (declared.ablation.id.as_str(), &declared.ablation))
        };
        let chosen: Vec<String> = match (selection.ablations.as_slice(), &profile.ablations) {
            ([], Some(of_profile)) => of_profile.clone(),
            ([], None) => all().map(|(id, _)| id.to_owned()).collect(),
            ([none], _) if none == "none" => Vec::new(),
            (chosen, _) => chosen.to_vec(),
        };
        for id in &chosen {
            choose("ablation", id, all())?;
        }
        let methods: Vec<&str> = methods
            .iter()
            .map(|method| method.own.id.as_str())
            .collect();
        let most = profile.points.unwrap_or(usize::MAX);
        let declared = self
            .ablations
            .iter()
            .filter(|declared| chosen.contains(&declared.ablation.id));
        let ablations = declared.map(|declared| declared.chosen(&selection.scale, &methods, most));
        Ok(ablations
            .filter(|ablation| !ablation.lines.is_empty())
            .collect())
    }

    /// The methods of the points of `ablations`.
    fn points(&self, ablations: &[Ablation]) -> Vec<&Overridden<Method>> {
        let wanted: Vec<&str> = ablations
            .iter()
            .flat_map(|ablation| ablation.lines.iter().flat_map(|line| &line.points))
            .map(|point| point.method.as_str())
            .collect();
        let declared = self.ablations.iter().flat_map(|declared| &declared.points);
        declared
            .filter(|point| wanted.contains(&point.own.id.as_str()))
            .collect()
    }

    /// The number of primary comparisons: those declared for `scale`, of which a selection may test
    /// fewer, and those on other selected sizes.
    fn comparisons(
        &self,
        scale: &Overridden<ScaleTable>,
        selected: &[(String, ModelSettings)],
    ) -> usize {
        let of_profiles = || {
            self.profiles
                .values()
                .flat_map(|profile| &profile.own.sizes)
        };
        let mut sizes: BTreeSet<&str> = match &scale.own.sizes {
            Some(sizes) => sizes.iter().map(String::as_str).collect(),
            None => of_profiles().map(String::as_str).collect(),
        };
        sizes.extend(selected.iter().map(|(size, _)| size.as_str()));
        let primary = self
            .claims
            .iter()
            .filter(|claim| claim.role == Role::Primary);
        primary
            .map(|claim| claim.comparisons(sizes.iter().copied()))
            .sum()
    }

    /// The claims that these methods and sizes can test, and the ids of the others.
    fn claims(
        &self,
        methods: &[MethodPlan],
        sizes: &[(String, ModelSettings)],
    ) -> (Vec<Claim>, Vec<String>) {
        let runs = |id: &String| methods.iter().any(|method| method.id == *id);
        let mut testable = Vec::new();
        let mut others = Vec::new();
        for claim in &self.claims {
            let mut claim = claim.clone();
            claim
                .sizes
                .retain(|size| sizes.iter().any(|(name, _)| name == size));
            let compared = match &claim.versus {
                Versus::Method(id) => runs(id),
                Versus::Heuristic(_) => true,
            };
            let relative_to = claim.relative_to.as_ref();
            let compared = compared
                && relative_to.is_none_or(|other| runs(&other.method) && runs(&other.versus));
            if runs(&claim.method) && compared && !claim.sizes.is_empty() {
                testable.push(claim);
            } else {
                others.push(claim.id);
            }
        }
        (testable, others)
    }
}

/// Reads merged sections, and checks their bounds and that prompt and response fit every model.
fn hyper(merged: &Node, sizes: &[(String, ModelSettings)]) -> Result<Hyper> {
    let (settings, choices) = choices::split(merged)?;
    let hyper = Hyper {
        choices,
        ..decode(&settings, &[])?
    };
    check_hyper(&hyper, merged)?;
    let tokens = hyper.generation.max_prompt_tokens + hyper.generation.max_response_tokens;
    match sizes
        .iter()
        .find(|(_, model)| model.max_position_embeddings < tokens)
    {
        None => Ok(hyper),
        Some((size, model)) => {
            let place = &merged
                .at("generation.max_prompt_tokens")
                .unwrap_or(merged)
                .place;
            let most = model.max_position_embeddings;
            Err(place.error(format!(
                "prompt and response take {tokens} tokens, but model `{size}` has {most} positions"
            )))
        }
    }
}

/// Finds the item called `name`.
fn choose<'a, T>(
    kind: &str,
    name: &str,
    mut all: impl Iterator<Item = (&'a str, T)> + Clone,
) -> Result<T> {
    let known = all.clone().map(|(known, _)| known);
    match all.find(|(known, _)| *known == name) {
        Some((_, found)) => Ok(found),
        None => {
            let known: Vec<_> = known.collect();
            let error = Error::configuration(format!(
                "no {kind} is called `{name}`; declared: {}",
                known.join(", ")
            ));
            Err(match nearest(name, known) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            })
        }
    }
}

fn distinct(kind: &str, names: &[String]) -> Result<()> {
    let twice = names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(name));
    match twice {
        Some((_, name)) => Err(Error::configuration(format!(
            "the {kind} `{name}` is selected twice"
        ))),
        None if names.is_empty() => Err(Error::configuration(format!("no {kind} is selected"))),
        None => Ok(()),
    }
}

/// Parses `section.key=value` overrides as trees. A value that is not TOML is read as a bare word:
/// `preferences.labels=clean`.
fn overrides(set: &[String]) -> Result<Vec<Node>> {
    let read = |text: &String| {
        let node = Node::parse("--set", text).or_else(|error| {
            let Some((key, word)) = text.split_once('=') else {
                return Err(error);
            };
            let word = word.trim();
            match word
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_')
                && !word.is_empty()
            {
                true => Node::parse("--set", &format!("{key}=\"{word}\"")),
                false => Err(error),
            }
        });
        let node = node.map_err(|error| {
            error.hint("write --set section.key=value, for example --set ppo.updates=20")
        })?;
        match node
            .table()
            .into_iter()
            .flatten()
            .find(|(key, _)| !Hyper::SECTIONS.contains(&key.as_str()))
        {
            None => Ok(node),
            Some((key, entry)) => Err(entry
                .key
                .error(format!("`{key}` is no section of hyper-parameters"))
                .hint(suggestion(key, Hyper::SECTIONS.iter().copied()))),
        }
    };
    set.iter().map(read).collect()
}

//! The data of a study as stages: bases, demonstrations, preferences and evaluation sets. [`open`]
//! chooses a study's corpus once; another source of data is a file here that implements [`Corpus`]
//! and an arm there.

mod file;
mod hub;
mod world;

pub use file::{HELD_OUT, LocalData, RowFile};

use super::{Planner, Run};
use crate::data::world::WorldSettings;
use crate::experiment::{Answer, Hyper, MethodPlan, ModelSettings, PairSource, RecipeJudge, Study};
use crate::methods::irl::Select;
use crate::methods::spin::PromptFormat;
use crate::pipeline::StageKey;
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::work::TextLengths;
use crate::{Error, Result};

/// A part of a corpus without which some methods cannot be made or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A gold reward of every response, by which policies are measured.
    Gold,
    /// A gold reward that training may use.
    TrainingGold,
    /// Posts beside training and test posts, with known gold.
    Validation,
    /// The demonstrator, as an author of further responses.
    Demonstrator,
    /// Pairs labelled by annotators.
    Preferences,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Gold => "a gold reward",
            Self::TrainingGold => "the gold reward of the embedded world",
            Self::Validation => "validation posts with known gold",
            Self::Demonstrator => "an author who can be asked for another summary",
            Self::Preferences => "labelled preferences",
        }
    }

    /// The needs of a method, the most particular first.
    fn of(method: &MethodPlan) -> Vec<Self> {
        let recipe = &method.recipe;
        let mut needs = Vec::new();
        if recipe.is_inverse_rl() && method.hyper.irl.select == Select::ValidationGold {
            needs.push(Self::Validation);
        }
        if recipe.answer == Answer::Demonstrator {
            needs.push(Self::Demonstrator);
        }
        if recipe.pairs.contains(&PairSource::Preferences) {
            needs.push(Self::Preferences);
        }
        if recipe.judge == Some(RecipeJudge::Gold) {
            needs.push(match recipe.step {
                Some(_) => Self::TrainingGold,
                None => Self::Gold,
            });
        }
        needs
    }
}

/// A source of a study's data, which plans the stages that give them.
pub(super) trait Corpus {
    /// The source as errors name it.
    fn name(&self) -> String;

    fn gives(&self, need: Need) -> bool;

    /// Rows of the embedding of a model that does not state its own number.
    fn vocabulary(&self) -> Result<usize>;

    /// The embedded world, if the corpus is one; its gold is exact and its authors can be asked.
    fn world(&self) -> Option<&WorldSettings> {
        None
    }

    /// The reward model that takes the place of gold, if there is one.
    fn judge(&self) -> Option<&ModelSettings> {
        None
    }

    /// The number of the base from which `model` starts under the study's seed `cell`.
    fn base_number(&self, model: &ModelSettings, cell: u64) -> u64 {
        model.base_of(cell)
    }

    /// Plans base number `number` of a model without a published checkpoint.
    fn base(
        &self,
        planner: &mut Planner,
        model: &ModelSettings,
        number: u64,
        label: String,
    ) -> Result<StageKey>;

    /// Plans the demonstrations drawn under `seed`, before any of them is corrupted.
    fn demonstrations(&self, planner: &mut Planner, hyper: &Hyper, seed: u64) -> Result<StageKey>;

    /// Number of demonstrations for training.
    fn demonstration_count(&self, hyper: &Hyper) -> usize {
        hyper.demonstrations.count
    }

    /// Plans the labelled pairs for training, and gives their number.
    ///
    /// # Errors
    /// A corpus that does not give [`Need::Preferences`].
    fn preferences(&self, planner: &mut Planner, run: &Run) -> Result<(StageKey, usize)>;

    /// Plans labelled pairs of held-out prompts, the same for every method, size and seed, and
    /// gives their number; `None` if there are no preferences.
    fn heldout_preferences(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
    ) -> Result<Option<(StageKey, usize)>>;

    /// Plans what every stage that opens the evaluation set takes as inputs; `demonstrations` is
    /// the stage of the study's demonstrations.
    fn evaluation_set(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
        demonstrations: &StageKey,
    ) -> Result<EvaluationSetInputs>;

    /// Lengths of the texts that `hyper` makes of the corpus, where they can be known before anything
    /// runs.
    fn text_lengths(&self, _: &Hyper) -> Result<Option<TextLengths>> {
        Ok(None)
    }

    /// Number of posts in an evaluation set for which `wanted` posts are requested.
    fn evaluation_posts(&self, wanted: usize) -> usize {
        wanted
    }
}

/// The corpus of a study: the local file if there is one, else the sources of its scale, else the
/// embedded world.
///
/// # Errors
/// A study without any source of data.
pub(super) fn open<'a>(
    study: &'a Study,
    local: Option<&'a LocalData>,
) -> Result<Box<dyn Corpus + 'a>> {
    match (local, &study.data, &study.world) {
        (Some(local), _, _) => Ok(Box::new(file::FileCorpus { local })),
        (None, Some(data), _) => {
            data.sources.check_task(&study.task, &study.scale)?;
            Ok(Box::new(hub::HubCorpus::new(study, data)))
        }
        (None, None, Some(world)) => Ok(Box::new(world::WorldCorpus { study, world })),
        (None, None, None) => Err(without_data(study)),
    }
}

fn without_data(study: &Study) -> Error {
    Error::configuration(format!(
        "experiment `{}` has no [world] to draw data from",
        study.name
    ))
    .hint("give rows of your own: --data FILE --tokenizer DIR")
}

/// Checks that a method sets nothing that belongs to another corpus.
fn check_settings(method: &MethodPlan, corpus: &dyn Corpus) -> Result<()> {
    let demonstrations = &method.hyper.demonstrations;
    let chat = matches!(corpus.world(), Some(WorldSettings::Chat(_)));
    let posts = matches!(corpus.world(), Some(WorldSettings::Posts(_)));
    let refused = |what: &str, hint: &str| {
        Err(
            Error::configuration(format!("method `{}` sets {what}", method.id))
                .hint(hint.to_owned()),
        )
    };
    if demonstrations.authors.is_some() && chat {
        return refused(
            "demonstrations.authors, which are authors of posts, and this is the world of conversations",
            "set the flaws of its authors in [world.authors]",
        );
    }
    let of_chat = [
        (
            "demonstrations.second_turn",
            demonstrations.second_turn.is_some(),
        ),
        ("demonstrations.system", demonstrations.system.is_some()),
        (
            "spin.prompt",
            method.hyper.spin.prompt != PromptFormat::default(),
        ),
    ];
    match of_chat.into_iter().find(|(_, set)| *set && !chat) {
        Some((key, _)) if posts => refused(
            &format!("{key}, which posts do not have"),
            "leave it out, or set [world] kind = \"chat\"",
        ),
        Some((key, _)) => refused(
            &format!("{key}, which only the embedded world of conversations has"),
            "leave it out: rows are taken as they are",
        ),
        None => Ok(()),
    }
}

/// Checks that `corpus` gives everything that the methods of `study` need.
///
/// # Errors
/// The first method that lacks something, with the methods that do not; settings that the corpus
/// does not have.
pub(super) fn check(study: &Study, corpus: &dyn Corpus) -> Result<()> {
    for method in study.methods.iter().chain(&study.references) {
        check_settings(method, corpus)?;
    }
    let lacks = |method: &MethodPlan| {
        Need::of(method)
            .into_iter()
            .find(|need| !corpus.gives(*need))
    };
    let Some((method, need)) = study
        .methods
        .iter()
        .chain(&study.references)
        .find_map(|method| Some((method, lacks(method)?)))
    else {
        return Ok(());
    };
    let error = Error::configuration(format!(
        "method `{}` needs {}, which {} does not give",
        method.id,
        need.name(),
        corpus.name()
    ));
    if let Some(ablation) = study
        .ablations
        .iter()
        .find(|ablation| ablation.makes(&method.id))
    {
        return Err(error.hint(format!(
            "it is a point of ablation `{}`: name others with --ablations",
            ablation.id
        )));
    }
    let others = study
        .methods
        .iter()
        .filter(|method| !method.point && lacks(method).is_none());
    let others: Vec<&str> = others.map(|method| method.id.as_str()).collect();
    Err(error.hint(format!("choose the others: --methods {}", others.join(","))))
}

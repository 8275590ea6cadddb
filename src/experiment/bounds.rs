//! Bounds that types cannot express. Those of a single value stand at its field, in the attribute
//! `schemars` from which its schema has them; relations between the values of a method stand beside
//! its settings (`fault`), other relations here. Each error points at its key.

use super::decode::decode;
use super::hyper::{Hyper, ModelSettings};
use super::schema::{definition, experiment_schema};
use super::tree::{Node, Value};
use crate::data::world::posts::PostWorldSettings;
use crate::data::world::{KIND, WorldKind};
use crate::error::{Error, Result};
use crate::methods::Fault;
use crate::methods::irl::Select;
use crate::methods::tune::TuningSettings;
use crate::model::arch::LlamaSettings;
use serde_json::Value as Schema;
use std::fmt::Display;
use std::sync::LazyLock;

/// The schema of experiment files, which has the bounds of single values.
static SCHEMA: LazyLock<Schema> = LazyLock::new(experiment_schema);

/// Checks the sections of one method; `node` is the merged tree that they were read from.
pub(super) fn check_hyper(hyper: &Hyper, node: &Node) -> Result<()> {
    let mut bounds = Bounds {
        node,
        violation: None,
    };
    let faults = [
        ("ppo", hyper.ppo.fault()),
        ("rloo", hyper.rloo.fault()),
        ("grpo", hyper.grpo.fault()),
        ("reward", hyper.reward.fault()),
    ];
    for (section, fault) in faults {
        if let Some(Fault {
            key,
            expected,
            found,
        }) = fault
        {
            bounds.that(&format!("{section}.{key}"), false, &expected, found);
        }
    }
    data(&mut bounds, hyper);
    bounds.fields(&SCHEMA, "");
    let choices = &hyper.choices;
    let tunings = [
        ("sft", &choices.sft.tuning),
        ("iq_learn", &choices.iq_learn.tuning),
        ("dpo", &choices.dpo.tuning),
    ];
    for (section, tuning) in tunings {
        if let Some(settings) = tuning {
            tuned(&mut bounds, section, settings);
        }
    }
    bounds.finish()
}

/// Checks the settings of the world in `document`.
pub(super) fn check_world(document: &Node) -> Result<()> {
    let mut bounds = Bounds {
        node: document,
        violation: None,
    };
    let kind = document.at("world").and_then(|world| world.at(KIND));
    let definition = match kind.and_then(|kind| decode(kind, &[]).ok()) {
        Some(WorldKind::Chat) => "/definitions/ChatWorldSettings",
        None | Some(WorldKind::Posts) => "/definitions/PostWorldSettings",
    };
    if let Some(schema) = SCHEMA.pointer(definition) {
        bounds.fields(schema, "world");
    }
    bounds.finish()
}

/// Checks the shape of a model; `node` is its table.
pub(super) fn check_model(model: &ModelSettings, node: &Node) -> Result<()> {
    let mut bounds = Bounds {
        node,
        violation: None,
    };
    if let Some(schema) = SCHEMA.pointer("/definitions/ModelSettings") {
        bounds.fields(schema, "");
    }
    match &model.architecture {
        None => gpt_neox(&mut bounds, model),
        Some(settings) => llama(&mut bounds, model, settings),
    }
    let published = model.checkpoint.is_some();
    bounds.that(
        "bases",
        !published || model.bases == 1,
        "1 for a published checkpoint",
        model.bases,
    );
    bounds.finish()
}

fn gpt_neox(bounds: &mut Bounds, model: &ModelSettings) {
    let heads = model.num_attention_heads.max(1);
    let divides = format!("a divisor of hidden_size = {}", model.hidden_size);
    bounds.that(
        "num_attention_heads",
        model.hidden_size.is_multiple_of(heads),
        &divides,
        heads,
    );
    let mut given = |key: &str, found: bool| {
        bounds.that(
            key,
            found,
            "given for GPT-NeoX (`architecture` names another family)",
            "absent",
        );
    };
    given("rotary_pct", model.rotary_pct.is_some());
    given("rotary_emb_base", model.rotary_emb_base.is_some());
    given("layer_norm_eps", model.layer_norm_eps.is_some());
    given(
        "use_parallel_residual",
        model.use_parallel_residual.is_some(),
    );
    if let Some(share) = model.rotary_pct {
        let head = model.hidden_size / heads;
        let rotating = (head as f64 * share) as usize;
        let even = format!("such that an even number of a head's {head} dimensions rotate");
        bounds.that(
            "rotary_pct",
            rotating >= 2 && rotating.is_multiple_of(2),
            &even,
            share,
        );
    }
}

/// Checks a model of the Llama family.
fn llama(bounds: &mut Bounds, model: &ModelSettings, settings: &LlamaSettings) {
    let of_gpt_neox = [
        ("rotary_pct", model.rotary_pct.is_some()),
        ("rotary_emb_base", model.rotary_emb_base.is_some()),
        ("layer_norm_eps", model.layer_norm_eps.is_some()),
        (
            "use_parallel_residual",
            model.use_parallel_residual.is_some(),
        ),
    ];
    for (key, given) in of_gpt_neox {
        let family = settings.model_type.model_type();
        bounds.that(
            key,
            !given,
            &format!("absent from a model of `{family}`"),
            "given",
        );
    }
    let config = model.config(model.vocab_size.unwrap_or(1));
    if let Err(message) = config.check() {
        bounds.violated("architecture", message);
    }
}

/// Checks what the world and the evaluation ask of values together.
fn data(bounds: &mut Bounds, hyper: &Hyper) {
    if let Some(authors) = &hyper.demonstrations.authors {
        let world = PostWorldSettings {
            authors: authors.clone(),
            ..PostWorldSettings::default()
        };
        if let Err(error) = world.validate() {
            bounds.violated("demonstrations.authors", error.to_string());
        }
    }
    let evaluation = &hyper.evaluation;
    bounds.that(
        "evaluation.selection_posts",
        hyper.irl.select != Select::ValidationGold || evaluation.selection_posts > 0,
        "at least 1",
        evaluation.selection_posts,
    );
    for (index, &temperature) in evaluation.temperatures.iter().enumerate() {
        bounds.that(
            "evaluation.temperatures",
            temperature > 0.0,
            "above 0",
            temperature,
        );
        let once = !evaluation.temperatures[..index].contains(&temperature);
        bounds.that(
            "evaluation.temperatures",
            once,
            "a list of different temperatures",
            temperature,
        );
    }
}

fn tuned(bounds: &mut Bounds, section: &str, tuning: &TuningSettings) {
    let key = |name: &str| format!("{section}.tuning.{name}");
    let TuningSettings {
        epochs,
        learning_rates,
        lambdas,
        held_out,
    } = tuning;
    let counts =
        epochs.first().is_some_and(|first| *first > 0) && epochs.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("epochs"),
        counts,
        "ascending whole numbers, each at least 1",
        Listed(epochs),
    );
    let rates =
        learning_rates.iter().all(|rate| *rate > 0.0) && learning_rates.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("learning_rates"),
        rates,
        "ascending numbers above 0",
        Listed(learning_rates),
    );
    let weights = lambdas.iter().all(|lambda| *lambda >= 0.0) && lambdas.is_sorted_by(|a, b| a < b);
    bounds.that(
        &key("lambdas"),
        weights,
        "ascending numbers, each 0 or more",
        Listed(lambdas),
    );
    let has_lambda = section == "iq_learn" || lambdas.is_empty();
    bounds.that(
        &key("lambdas"),
        has_lambda,
        "left out: only IQ-Learn has a λ",
        Listed(lambdas),
    );
    bounds.that(
        &key("held_out"),
        *held_out > 0.0 && *held_out < 1.0,
        "above 0 and below 1",
        held_out,
    );
}

/// A list, displayed as in a file.
struct Listed<'a, T>(&'a [T]);

impl<T: Display> Display for Listed<'_, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let items: Vec<String> = self.0.iter().map(T::to_string).collect();
        write!(out, "[{}]", items.join(", "))
    }
}

/// A check that keeps the first violation.
struct Bounds<'a> {
    node: &'a Node,
    violation: Option<Error>,
}

impl Bounds<'_> {
    /// Checks that `holds`; otherwise records that `path` must be `expected` but is `found`.
    fn that(&mut self, path: &str, holds: bool, expected: &str, found: impl Display) {
        if !holds {
            self.violated(path, format!("`{path}` must be {expected}, but is {found}"));
        }
    }

    /// Records the error `message` at `path`, unless one was recorded before.
    fn violated(&mut self, path: &str, message: String) {
        let place = &self.node.at(path).unwrap_or(self.node).place;
        self.violation.get_or_insert_with(|| place.error(message));
    }

    /// Checks the numbers of the table at the path `above` by its schema.
    fn fields(&mut self, schema: &Schema, above: &str) {
        let properties = schema["properties"].as_object();
        for (key, field) in properties.into_iter().flatten() {
            let path = match above {
                "" => key.clone(),
                above => format!("{above}.{key}"),
            };
            match self.node.at(&path).map(|node| &node.value) {
                Some(Value::Integer(number)) => self.number(&path, field, *number as f64),
                Some(Value::Float(number)) => self.number(&path, field, *number),
                Some(Value::Table(_)) => {
                    if let Some(table) = definition(&SCHEMA, field) {
                        self.fields(table, &path);
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks `number` by the bounds of `field`.
    fn number(&mut self, path: &str, field: &Schema, number: f64) {
        let bound = |name: &str| field.get(name).and_then(Schema::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
        // Settings of 32 bits are rounded when they are read.
        let read = match field["format"] == "float" {
            true => f64::from(number as f32),
            false => number,
        };
        let holds = least.is_none_or(|least| read >= least)
            && most.is_none_or(|most| read <= most)
            && above.is_none_or(|above| read > above)
            && below.is_none_or(|below| read < below);
        if holds {
            return;
        }
        let expected = match (least, most, above, below) {
            (Some(least), Some(most), ..) => format!("between {least} and {most}"),
            (Some(least), _, _, Some(below)) => format!("at least {least} and below {below}"),
            (Some(least), ..) if field["type"] == "integer" => format!("at least {least}"),
            (Some(least), ..) => format!("{least} or more"),
            (_, Some(most), Some(above), _) => format!("above {above} and at most {most}"),
            (_, _, Some(above), Some(below)) => format!("above {above} and below {below}"),
            (_, _, Some(above), _) => format!("above {above}"),
            (_, Some(most), ..) => format!("at most {most}"),
            (_, _, _, Some(below)) => format!("below {below}"),
            _ => return,
        };
        self.that(path, false, &expected, number);
    }

    fn finish(self) -> Result<()> {
        self.violation.map_or(Ok(()), Err)
    }
}

//! Ablations: one question, answered by varying one thing in some of the methods. Every point is a
//! method of its own. Its settings are those of the method that it varies, then those of the
//! ablation, then its own. Points share the stages that they have in common, so a point at a
//! method's own value costs nothing.

use super::decode::decode;
use super::file::{Method, Overridden, part, split};
use super::hyper::Hyper;
use super::tree::{Entry, Node, Span, Table, Value};
use super::vocabulary::Metric;
use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How an ablation's axis is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    Linear,
    Log,
    /// Points are labelled with words, without a scale.
    Words,
}

/// One ablation: the varied setting, the methods it is varied in, and the metrics that are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablation {
    pub id: String,
    pub title: String,
    pub question: String,
    /// The origin of the question.
    pub source: String,
    pub note: String,
    /// Label of the axis, which names the varied setting.
    pub axis: String,
    pub scale: Axis,
    pub metrics: Vec<Metric>,
    pub plane: Option<Plane>,
    /// True if the report draws how the first reward of every point grows in training.
    pub growth: bool,
    /// A method whose level is drawn beside the lines.
    pub against: Option<String>,
    pub lines: Vec<Line>,
}

impl Ablation {
    /// True if the method called `id` is one of this ablation's points.
    pub fn makes(&self, id: &str) -> bool {
        self.lines
            .iter()
            .flat_map(|line| &line.points)
            .any(|point| point.method == id)
    }
}

/// Two metrics whose values at all points are drawn against each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Plane {
    pub x: Metric,
    pub y: Metric,
}

/// A varied method with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Id of the varied method.
    pub method: String,
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Id of the point's method: `<method>-<ablation>-<value>`.
    pub method: String,
    pub label: String,
    /// Position on the axis; `None` on an axis of words.
    pub x: Option<f64>,
}

/// An `[[ablation]]` without its points.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    id: String,
    title: String,
    question: String,
    source: String,
    #[serde(default)]
    note: String,
    axis: String,
    scale: Axis,
    methods: Vec<String>,
    metrics: Vec<Metric>,
    plane: Option<Plane>,
    #[serde(default)]
    growth: bool,
    against: Option<String>,
    /// The hyper-parameter that takes the `values`.
    key: Option<String>,
}

/// An `[[ablation.variant]]` without its overrides.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    id: String,
    label: String,
    /// Position on an axis of numbers.
    x: Option<f64>,
}

/// An ablation with the methods of its points, in the order of lines and points, for all scales
/// together.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub ablation: Ablation,
    pub points: Vec<Overridden<Method>>,
    /// Labels of a line's points, at each scale that has values of its own.
    at_scale: BTreeMap<String, Vec<String>>,
    /// Labels of a line's points at every other scale.
    labels: Vec<String>,
    pub node: Node,
}

impl Declared {
    /// Scales that have values of their own.
    pub fn scales(&self) -> impl Iterator<Item = &str> {
        self.at_scale.keys().map(String::as_str)
    }

    /// The ablation at `scale`, with the lines of these `methods`, each cut to `most` points.
    pub fn chosen(&self, scale: &str, methods: &[&str], most: usize) -> Ablation {
        let mut ablation = self.ablation.clone();
        ablation
            .lines
            .retain(|line| methods.contains(&line.method.as_str()));
        let labels = self.at_scale.get(scale).unwrap_or(&self.labels);
        for line in &mut ablation.lines {
            line.points.retain(|point| labels.contains(&point.label));
            line.points.truncate(most);
        }
        ablation.against = ablation.against.filter(|id| methods.contains(&id.as_str()));
        ablation
    }
}

/// Reads an `[[ablation]]` over the declared `methods`.
///
/// # Errors
/// An unknown key or method; neither or both of `key` with `values` and `variant`.
pub(super) fn declared(node: &Node, methods: &[Overridden<Method>]) -> Result<Declared> {
    if node.table().is_none() {
        return Err(node.place.error("expected a table"));
    }
    let (mut own, overrides) = split(node);
    let mut take = |key: &str| {
        own.table_mut()
            .and_then(|table| table.remove(key))
            .map(|entry| entry.node)
    };
    let (values, values_at, variants) = (take("values"), take("values_at"), take("variant"));
    let also: Vec<_> = Hyper::SECTIONS
        .iter()
        .copied()
        .chain(["values", "values_at", "variant"])
        .collect();
    let settings: Settings = decode(&own, &also)?;
    let mut at_scale = BTreeMap::new();
    let key = settings.key.as_deref().map(|key| Key {
        path: key,
        place: &own.at("key").unwrap_or(&own).place,
    });
    let mut varied = match (&key, values, variants) {
        (Some(key), Some(values), None) => of_values(key, &values, settings.scale)?,
        (None, None, Some(variants)) => of_variants(&variants, settings.scale)?,
        _ => {
            return Err(node
                .place
                .error("what does this ablation vary?")
                .hint("give it a `key` of hyper-parameters with a list of `values`, or tables [[ablation.variant]]"));
        }
    };
    let labels: Vec<String> = varied.iter().map(|varied| varied.label.clone()).collect();
    if let (Some(key), Some(values_at)) = (&key, &values_at) {
        let Some(scales) = values_at.table() else {
            return Err(values_at.place.error("expected lists by scale"));
        };
        for (scale, entry) in scales {
            let own = of_values(key, &entry.node, settings.scale)?;
            at_scale.insert(
                scale.clone(),
                own.iter().map(|varied| varied.label.clone()).collect(),
            );
            varied.extend(own);
        }
        varied.sort_by(|a, b| a.x.unwrap_or_default().total_cmp(&b.x.unwrap_or_default()));
        varied.dedup_by(|a, b| a.label == b.label);
    }
    let (mut lines, mut points) = (Vec::new(), Vec::new());
    for (index, id) in settings.methods.iter().enumerate() {
        let Some(method) = methods.iter().find(|method| method.own.id == *id) else {
            let place = match own.at("methods").map(|list| &list.value) {
                Some(Value::Array(items)) => {
                    items.get(index).map_or(&node.place, |item| &item.place)
                }
                _ => &node.place,
            };
            return Err(place.error(format!("no method is called `{id}`")));
        };
        let mut line = Line {
            method: id.clone(),
            points: Vec::new(),
        };
        for Varied {
            slug,
            label,
            x,
            overrides: of_point,
        } in &varied
        {
            let mut merged = method.overrides.clone();
            merged.merge(&overrides);
            merged.merge(of_point);
            let point = Method {
                id: format!("{id}-{}-{slug}", settings.id),
                label: format!("{}, {}: {label}", method.own.label, settings.axis),
                recipe: method.own.recipe.clone(),
                note: String::new(),
            };
            line.points.push(Point {
                method: point.id.clone(),
                label: label.clone(),
                x: *x,
            });
            points.push(Overridden {
                own: point,
                overrides: merged,
                node: node.clone(),
            });
        }
        lines.push(line);
    }
    let Settings {
        id,
        title,
        question,
        source,
        note,
        axis,
        scale,
        metrics,
        plane,
        growth,
        against,
        ..
    } = settings;
    let ablation = Ablation {
        id,
        title,
        question,
        source,
        note,
        axis,
        scale,
        metrics,
        plane,
        growth,
        against,
        lines,
    };
    Ok(Declared {
        ablation,
        points,
        at_scale,
        labels,
        node: node.clone(),
    })
}

/// One value of the varied setting.
struct Varied {
    slug: String,
    label: String,
    x: Option<f64>,
    overrides: Node,
}

fn of_values(key: &Key, values: &Node, scale: Axis) -> Result<Vec<Varied>> {
    let Value::Array(items) = &values.value else {
        return Err(values.place.error("expected a list of values"));
    };
    let varied = items.iter().map(|item| {
        let (label, number) = match &item.value {
            Value::Integer(number) => (number.to_string(), Some(*number as f64)),
            Value::Float(number) => (number.to_string(), Some(*number)),
            Value::String(word) => (word.clone(), None),
            Value::Boolean(flag) => (flag.to_string(), None),
            Value::Array(_) | Value::Table(_) => {
                return Err(item.place.error("expected a number, a word or a flag"));
            }
        };
        let x = number.filter(|_| scale != Axis::Words);
        if scale != Axis::Words && x.is_none() {
            return Err(item
                .place
                .error("expected a number")
                .hint("an axis of words has scale = \"words\""));
        }
        on_axis(x, scale, item)?;
        Ok(Varied {
            slug: label.to_lowercase().replace('_', "-"),
            label,
            x,
            overrides: nested(key, item),
        })
    });
    varied.collect()
}

fn of_variants(variants: &Node, scale: Axis) -> Result<Vec<Varied>> {
    let Value::Array(items) = &variants.value else {
        return Err(variants.place.error("expected tables [[ablation.variant]]"));
    };
    let varied = items.iter().map(|item| {
        let Overridden {
            own: Variant { id, label, x },
            overrides,
            ..
        } = part(item)?;
        if x.is_some() == (scale == Axis::Words) {
            let message = if x.is_some() {
                "an axis of words has no `x`"
            } else {
                "an axis of numbers needs an `x`"
            };
            return Err(item.place.error(message));
        }
        on_axis(x, scale, item)?;
        Ok(Varied {
            slug: id,
            label,
            x,
            overrides,
        })
    });
    varied.collect()
}

fn on_axis(x: Option<f64>, scale: Axis, node: &Node) -> Result<()> {
    match x {
        Some(x) if scale == Axis::Log && x <= 0.0 => Err(node
            .place
            .error("a logarithmic axis has no place for this value")),
        _ => Ok(()),
    }
}

/// A hyper-parameter's path and the place where it is named.
struct Key<'a> {
    path: &'a str,
    place: &'a Span,
}

/// `value` as the only leaf of a tree of tables, at the dotted path `key`.
fn nested(key: &Key, value: &Node) -> Node {
    key.path.rsplit('.').fold(value.clone(), |node, part| {
        let place = node.place.clone();
        let entry = Entry {
            key: key.place.clone(),
            node,
        };
        Node {
            value: Value::Table(Table::from([(part.to_owned(), entry)])),
            place,
        }
    })
}

//! The JSON schemas of experiment files and of claim files, by which editors complete and check
//! them, derived from the types that the files are decoded to. The program accepts nothing that
//! they refuse, but it refuses more, such as the name of a method that is not declared.

use super::ablation::{Settings as Ablation, Variant};
use super::choices::Choices;
use super::claim::RawClaim;
use super::file::{Header, Method, Profile, ScaleTable};
use super::hyper::Hyper;
use super::registration::{ClaimFile, Recorded};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

type Object = Map<String, Value>;

/// Path of a definition within a schema, up to its name.
const DEFINITIONS: &str = "#/definitions/";

/// The schema of experiment files (JSON Schema draft 7).
///
/// Keys are required in the items of lists, and in a file that extends nothing. Tables are merged
/// with those of other files and sections, so that any of their keys may stand elsewhere.
pub fn experiment_schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let sections = properties(&table::<Hyper>(&mut generator));
    let with_sections = |own| with(own, sections.clone());
    let choices = properties(&table::<Choices>(&mut generator));

    let value = json!({ "type": ["number", "string", "boolean"] });
    let variant = with_sections(table::<Variant>(&mut generator));
    let points = object(json!({
        "values": { "type": "array", "items": value, "description": "Values of `key`, a point each." },
        "values_at": {
            "type": "object",
            "additionalProperties": { "type": "array", "items": value },
            "description": "Other values, by the scale that has them.",
        },
        "variant": { "type": "array", "items": variant, "description": "Points with overrides." },
    }));
    let ablation = with(with_sections(table::<Ablation>(&mut generator)), points);
    let method = with_sections(table::<Method>(&mut generator));
    let scale = merged(with_sections(table::<ScaleTable>(&mut generator)));
    let profile = merged(with_sections(table::<Profile>(&mut generator)));
    let registration = merged(table::<Recorded>(&mut generator));
    let tables = object(json!({
        "extends": { "type": "string", "description": "The experiment that this file is laid over." },
        "registration": or_none(registration.into()),
        "scale": { "type": "object", "additionalProperties": scale },
        "profile": { "type": "object", "additionalProperties": profile },
        "method": { "type": "array", "items": method, "minItems": 1 },
        "ablation": { "type": "array", "items": ablation },
    }));

    let mut header = table::<Header>(&mut generator);
    if let Some(Value::Object(keys)) = header.get_mut("properties")
        && let Some(world) = keys.get_mut("world")
    {
        *world = or_none(world.take());
    }
    let mut required = required(&header);
    required.extend(["scale", "profile", "method"].map(String::from));
    let mut root = merged(with(with_sections(header), tables));
    root.insert("if".into(), json!({ "required": ["extends"] }));
    root.insert("else".into(), json!({ "required": required }));

    let mut definitions = generator.take_definitions(true);
    add_choices(&mut definitions, &sections, &choices);
    let mut items = BTreeSet::new();
    items_of_lists(&Value::Object(root.clone()), &mut items);
    items_of_lists(&Value::Object(definitions.clone()), &mut items);
    for (name, definition) in &mut definitions {
        if !items.contains(name) {
            *definition = merged(object(definition.take())).into();
        }
    }
    document("An experiment of touchstone", root, definitions)
}

/// The schema of claim files (JSON Schema draft 7).
pub fn claims_schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let claim = generator.subschema_for::<RawClaim>();
    let claims = object(json!({ "claim": { "type": "array", "items": claim } }));
    let root = with(table::<ClaimFile>(&mut generator), claims);
    let definitions = generator.take_definitions(true);
    document("Registered claims of touchstone", root, definitions)
}

/// The schema of `T` itself, which is a table.
fn table<T: JsonSchema>(generator: &mut SchemaGenerator) -> Object {
    object(T::json_schema(generator).to_value())
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

fn properties(table: &Object) -> Object {
    object(table.get("properties").cloned().unwrap_or_default())
}

fn required(table: &Object) -> Vec<String> {
    let keys = table.get("required").cloned().unwrap_or_default();
    serde_json::from_value(keys).unwrap_or_default()
}

/// A table with `more` keys.
fn with(mut table: Object, more: Object) -> Object {
    let mut all = properties(&table);
    all.extend(more);
    table.insert("properties".into(), all.into());
    table
}

/// A table that is merged with others of its name, so that none of its keys is required in each.
fn merged(mut table: Object) -> Object {
    table.remove("required");
    if let Some(Value::Array(mut forms)) = table.remove("oneOf") {
        let tables = forms.iter_mut().filter_map(Value::as_object_mut);
        tables.for_each(|form| {
            form.remove("required");
        });
        // A part of a table may be part of several forms.
        table.insert("anyOf".into(), forms.into());
    }
    table
}

/// `schema`, or the word `none`, which takes back what was declared before.
fn or_none(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "const": "none" }] })
}

/// The definition in `document` that `schema` refers to.
pub(super) fn definition<'a>(document: &'a Value, schema: &Value) -> Option<&'a Value> {
    document.get("definitions")?.get(referred(schema)?)
}

/// Name of the definition that `schema` refers to, directly or as the only one of `allOf`.
fn referred(schema: &Value) -> Option<&str> {
    let one = schema.get("allOf").and_then(|all| all.get(0));
    one.unwrap_or(schema)
        .get("$ref")?
        .as_str()?
        .strip_prefix(DEFINITIONS)
}

/// Puts the keys that choose settings among the settings that they choose, as in a file.
fn add_choices(definitions: &mut Object, sections: &Object, choices: &Object) {
    for (section, choice) in choices {
        let (Some(chosen), Some(choice)) =
            (sections.get(section).and_then(referred), referred(choice))
        else {
            continue;
        };
        let keys = properties(&object(
            definitions.get(choice).cloned().unwrap_or_default(),
        ));
        let keys = keys.into_iter().map(|(key, schema)| (key, or_none(schema)));
        if let Some(settings) = definitions.get_mut(chosen) {
            *settings = with(object(settings.take()), keys.collect()).into();
        }
    }
    for choice in choices.values().filter_map(referred) {
        definitions.remove(choice);
    }
}

/// Adds the names of the definitions that are items of lists.
fn items_of_lists(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            found.extend(object.get("items").and_then(referred).map(str::to_owned));
            object
                .values()
                .for_each(|value| items_of_lists(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| items_of_lists(value, found)),
        _ => {}
    }
}

fn document(title: &str, mut root: Object, definitions: Object) -> Value {
    root.insert(
        "$schema".into(),
        "http://json-schema.org/draft-07/schema#".into(),
    );
    root.insert("title".into(), title.into());
    root.remove("description");
    root.insert("definitions".into(), definitions.into());
    let mut document = Value::Object(root);
    in_toml(&mut document);
    document
}

/// Adapts a schema to TOML, which has no null, and its descriptions to readers without links to
/// the code.
fn in_toml(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = plain(description);
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if let [only] = choices.as_slice() {
                    // Draft 7 ignores what stands beside `$ref`.
                    let only = json!([only]);
                    object.remove("anyOf");
                    object.insert("allOf".into(), only);
                }
            }
            object.values_mut().for_each(in_toml);
        }
        Value::Array(values) => values.iter_mut().for_each(in_toml),
        _ => {}
    }
}

/// A doc comment with a line for each paragraph, and without the targets of its links.
fn plain(comment: &str) -> String {
    let (mut text, mut rest) = (String::new(), comment);
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else {
            break;
        };
        text += &format!("{before}`{name}`");
        let target = after
            .strip_prefix('(')
            .and_then(|target| target.split_once(')'));
        rest = target.map_or(after, |(_, after)| after);
    }
    text += rest;
    let paragraphs = text.split("\n\n");
    let lines = paragraphs.map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

//! JSON Schema of the files that people write: rules, test cases, override rows. Made from the tables by which the reader
//! knows the keys of each map, so that an editor offers and refuses what `tollgate check` does. It reads no files.
//!
//! What a schema can't say (a tier that isn't there, two equal descriptors, numbers that don't fit each other) is left to
//! the reader.

mod values;
mod words;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::{
    cases::schemas as of_cases,
    fields::{
        BESIDE_UNLIMITED, DEFAULTS, DESCRIPTOR, ENTRY, FILE, LIMIT, MapSchema, OVERRIDE, OVERRIDE_LIMIT,
        REFERENCE_KEYS, REPLACED, SHORTCUTS, TIER,
    },
};
use values::{is_true, value};

/// Which files a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOf {
    Rules,
    Tests,
    /// A list of override rows; one row is `#/$defs/override`.
    Overrides,
}

/// The schema of some files, as JSON Schema 2020-12.
pub fn schema(of: SchemaOf) -> Value {
    let (title, root, maps): (_, _, &[(&str, Value)]) = match of {
        SchemaOf::Rules => ("A rule file of Tollgate", json!({"$ref": "#/$defs/file"}), &rule_maps()),
        SchemaOf::Tests => {
            ("A file of test cases for rules of Tollgate", json!({"$ref": "#/$defs/file"}), &case_maps())
        }
        SchemaOf::Overrides => {
            let rows = json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/override"}});
            ("Override rows of Tollgate", rows, &override_maps())
        }
    };
    let mut schema = root;
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = title.into();
    schema["$defs"] = maps.iter().map(|(name, map)| ((*name).to_owned(), map.clone())).collect();
    schema
}

fn rule_maps() -> Vec<(&'static str, Value)> {
    let mut maps = vec![
        ("file", with(rule_map(&FILE), json!({"required": ["domain"]}))),
        ("defaults", rule_map(&DEFAULTS)),
        ("shortcuts", rule_map(&SHORTCUTS)),
        ("descriptor", with(rule_map(&DESCRIPTOR), of_descriptor())),
        ("limit", with(rule_map(&LIMIT), of_limit(&LIMIT))),
        ("tier", with(rule_map(&TIER), of_limit(&TIER))),
        ("replaced", with(rule_map(&REPLACED), json!({"required": ["name"]}))),
    ];
    maps.extend(override_maps());
    maps
}

fn override_maps() -> Vec<(&'static str, Value)> {
    vec![
        ("override", with(rule_map(&OVERRIDE), json!({"required": ["match", "limit"]}))),
        ("override_limit", with(rule_map(&OVERRIDE_LIMIT), of_limit(&OVERRIDE_LIMIT))),
        ("entry", with(rule_map(&ENTRY), json!({"required": ["key", "value"]}))),
    ]
}

fn case_maps() -> Vec<(&'static str, Value)> {
    let one_descriptor = json!({"oneOf": [{"required": ["descriptor"]}, {"required": ["descriptors"]}]});
    vec![
        ("file", with(map(&of_cases::FILE), json!({"required": ["cases"]}))),
        ("case", with(map(&of_cases::CASE), json!({"required": ["name", "requests"]}))),
        ("request", with(map(&of_cases::REQUEST), one_descriptor)),
        ("descriptor", with(map(&of_cases::DESCRIPTOR), json!({"required": ["entries"]}))),
        ("expect", with(map(&of_cases::EXPECT), json!({"minProperties": 1}))),
        ("status", map(&of_cases::STATUS)),
    ]
}

/// A map with its keys and no others.
fn map(of: &MapSchema) -> Value {
    let property = |key: &&str| {
        let described = match words::of(of.what, key) {
            Some(words) => with(value(of.what, key), json!({"description": words})),
            None => value(of.what, key),
        };
        ((*key).to_owned(), described)
    };
    let properties: serde_json::Map<String, Value> = of.keys.iter().map(property).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// A map of a rule file, where keys of envoyproxy/ratelimit that mean nothing here are ignored, with a warning.
fn rule_map(of: &MapSchema) -> Value {
    let mut map = map(of);
    for key in REFERENCE_KEYS.iter().filter(|key| !of.keys.contains(key)) {
        map["properties"][*key] = json!({"deprecated": true, "description": "Ignored here."});
    }
    map
}

/// A schema with the keywords of another besides.
fn with(mut schema: Value, more: Value) -> Value {
    if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
        schema.extend(more);
    }
    schema
}

fn of_descriptor() -> Value {
    let shares = json!({"properties": {"share_threshold": is_true()}, "required": ["share_threshold"]});
    let has_star = json!({"properties": {"value": {"pattern": "\\*"}}, "required": ["value"]});
    json!({"required": ["key"], "if": shares, "then": has_star})
}

/// What the keys of a limit demand of each other.
fn of_limit(of: &MapSchema) -> Value {
    let any_of = |keys: &[&str]| {
        let each: Vec<Value> = keys.iter().map(|key| json!({"required": [key]})).collect();
        json!({"anyOf": each})
    };
    let unlimited = json!({"properties": {"unlimited": is_true()}, "required": ["unlimited"]});
    let numbers = of.keys.iter().filter(|key| !BESIDE_UNLIMITED.contains(key));
    let no_numbers: serde_json::Map<String, Value> = numbers.map(|key| ((*key).to_owned(), false.into())).collect();
    let two_forms = [any_of(&["requests", "window"]), any_of(&["requests_per_unit", "unit", "unit_multiplier"])];
    let is_complete = json!({"anyOf": [{"required": ["requests", "window"]}, {"required": ["unit"]}]});
    let leaves_numbers_out = json!({"anyOf": [{"required": ["tier"]}, unlimited]});
    json!({
        "not": {"allOf": two_forms},
        "if": unlimited,
        "then": {"properties": no_numbers},
        "anyOf": [leaves_numbers_out, is_complete],
    })
}

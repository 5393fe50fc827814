//! What may stand behind each key. Scalars are what the reader takes for them, which knows YAML as go-yaml v2 does: more
//! words mean true, and text may be written as a number.

use serde_json::{Value, json};

use crate::{
    limit::{Algorithm, CountDenied, FailurePolicy, HITS_MAX, SUB_WINDOWS_MAX, Unit},
    rules::{cases::schemas as of_cases, written_limit::LIMITS_MAX},
};

/// The value of a key of a map, by what the map is called. A key that has none accepts anything: a test holds that there is
/// none such but free-form data.
pub(super) fn value(what: &str, key: &str) -> Value {
    if [of_cases::FILE.what, of_cases::CASE.what, of_cases::REQUEST.what].contains(&what)
        || [of_cases::DESCRIPTOR.what, of_cases::EXPECT.what, of_cases::STATUS.what].contains(&what)
    {
        return of_case(what, key);
    }
    match (what, key) {
        ("`shortcuts`", _) => keys_of_descriptors(),
        ("an entry of `match`", "value") => filled_text(),
        (_, "domain") | (_, "key") | ("an entry of `replaces`", "name") => filled_text(),
        (_, "value" | "tier" | "name" | "reason" | "owner") => text(),
        (_, "defaults") => or_null(definition("defaults")),
        (_, "tiers") => json!({"type": ["object", "null"], "additionalProperties": one_limit("tier")}),
        (_, "shortcuts") => or_null(definition("shortcuts")),
        (_, "descriptors") => list_of(definition("descriptor")),
        (_, "overrides") => list_of(definition("override")),
        (_, "overrides_from") => list_of(text()),
        (_, "rate_limit") => limits("limit"),
        ("an override", "limit") => limits("override_limit"),
        ("an override", "match") => matches(),
        (_, "expires") => json!({"type": ["string", "null"], "pattern": "^\\d{4}-\\d{2}-\\d{2}"}),
        (_, "metadata") => json!({"type": ["object", "null"]}),
        (_, "replaces") => list_of(definition("replaced")),
        (_, "requests_per_unit" | "requests") => number(0, u32::MAX),
        (_, "unit_multiplier" | "burst" | "capacity") => number(1, u32::MAX),
        (_, "sub_windows") => number(1, u32::from(SUB_WINDOWS_MAX)),
        (_, "unit") => unit(),
        (_, "window") => duration(),
        (_, "algorithm") => words(&Algorithm::ALL.map(Algorithm::name)),
        (_, "on_store_failure") => words(&FailurePolicy::ALL.map(FailurePolicy::name)),
        (_, "count_denied") => {
            let named = [CountDenied::Auto, CountDenied::Reported].map(CountDenied::name);
            any_of([words(&named), boolean()])
        }
        (_, "enforce") => {
            let share =
                json!({"type": "string", "pattern": "^\\s*(100(\\.0+)?|[0-9]{1,2}(\\.[0-9]{1,2}0*)?)\\s*%\\s*$"});
            any_of([boolean(), share])
        }
        (
            _,
            "shadow_mode" | "quota_mode" | "detailed_metric" | "value_to_metric" | "share_threshold" | "switchable"
            | "unlimited",
        ) => boolean(),
        _ => json!({}),
    }
}

fn of_case(what: &str, key: &str) -> Value {
    match (what, key) {
        (_, "domain") => text(),
        (_, "name") => filled_text(),
        (_, "rules") => any_of([text(), json!({"type": "array", "items": text()})]),
        (_, "start") => json!({"type": ["string", "null"], "pattern": "^\\d{4}-\\d{2}-\\d{2}"}),
        (_, "cases") => some_of(definition("case")),
        (_, "requests") => some_of(definition("request")),
        (_, "descriptor") => case_descriptor(),
        ("`expect`", "descriptors") => some_of(any_of([answer(), definition("status")])),
        (_, "descriptors") => some_of(case_descriptor()),
        (_, "entries") => entries(),
        (_, "at" | "after" | "every" | "reset" | "retry_after") => any_of([duration(), json!({"const": 0})]),
        (_, "times") => number(1, of_cases::TIMES_MAX),
        ("a request of a case", "hits") => number(1, u32::MAX),
        (_, "hits") => json!({"type": ["integer", "null"], "minimum": -HITS_MAX, "maximum": HITS_MAX}),
        ("a descriptor of a case", "limit") => rate(),
        (_, "limit") => text(),
        (_, "expect") => any_of([answer(), definition("expect")]),
        (_, "answer") => answer(),
        (_, "admitted") => number(0, of_cases::TIMES_MAX),
        (_, "remaining") => any_of([number(0, u32::MAX), json!({"const": "unlimited"})]),
        _ => json!({}),
    }
}

/// A value that is true.
pub(super) fn is_true() -> Value {
    json!({"enum": [true, "y", "Y", "yes", "Yes", "YES", "True", "TRUE", "on", "On", "ON"]})
}

/// The reader's other words stand in a pattern, so that no editor offers them.
fn boolean() -> Value {
    let words = "^([yY]|yes|Yes|YES|True|TRUE|on|On|ON|[nN]|no|No|NO|False|FALSE|off|Off|OFF)$";
    json!({"anyOf": [{"type": ["boolean", "null"]}, {"type": "string", "pattern": words}]})
}

/// Also written as 1_000 or 0x10, which are text to some readers of YAML.
fn number(min: u32, max: u32) -> Value {
    let other = "^\\+?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9]+_[0-9_]*)$";
    any_of([
        json!({"type": ["integer", "null"], "minimum": min, "maximum": max}),
        json!({"type": "string", "pattern": other}),
    ])
}

/// `007`, `404` and `no` are text to the reader.
fn text() -> Value {
    json!({"type": ["string", "integer", "boolean", "null"]})
}

fn filled_text() -> Value {
    json!({"type": ["string", "integer", "boolean"], "minLength": 1})
}

fn words(names: &[&str]) -> Value {
    json!({"enum": names})
}

fn unit() -> Value {
    let names = Unit::ALL.map(Unit::name);
    let any_case = |name: &str| -> String {
        name.chars().map(|letter| format!("[{letter}{}]", letter.to_ascii_uppercase())).collect()
    };
    let pattern = format!("^({})$", names.map(any_case).join("|"));
    any_of([words(&names), json!({"type": "string", "pattern": pattern})])
}

/// `30s`, `5m`, `1h30m`.
fn duration() -> Value {
    json!({"type": "string", "pattern": "^\\s*(0|([0-9][0-9_]*\\s*[a-zµ]+\\s*)+)$", "examples": ["30s", "5m", "1h30m", "7d"]})
}

/// `30/5m`.
fn rate() -> Value {
    json!({"type": "string", "pattern": "^\\s*[0-9][0-9_]*\\s*/\\s*\\S.*$", "examples": ["30/5m", "5/s", "100/hour"]})
}

fn one_limit(name: &str) -> Value {
    any_of([rate(), json!({"type": "string", "pattern": "^\\s*unlimited\\s*$"}), definition(name)])
}

fn limits(name: &str) -> Value {
    let list = json!({"type": "array", "minItems": 1, "maxItems": LIMITS_MAX, "items": one_limit(name)});
    json!({"anyOf": [rate(), {"enum": ["unlimited", null]}, definition(name), list]})
}

/// Keys and values of a match: a map, or a list where a key stands twice.
fn matches() -> Value {
    any_of([
        json!({"type": "object", "minProperties": 1, "additionalProperties": filled_text()}),
        json!({"type": "array", "minItems": 1, "items": definition("entry")}),
    ])
}

fn keys_of_descriptors() -> Value {
    let keys = json!({"type": "array", "minItems": 1, "maxItems": 2, "items": text()});
    any_of([keys.clone(), json!({"type": "array", "minItems": 1, "items": keys})])
}

/// `user=alice`, a map, a list of such, or a map with `entries` that are no text.
fn case_descriptor() -> Value {
    json!({"anyOf": [entries(), definition("descriptor")]})
}

fn entries() -> Value {
    let pair = json!({"type": "string", "pattern": "="});
    let map = json!({"type": "object", "minProperties": 1, "additionalProperties": text()});
    let list = json!({"type": "array", "minItems": 1, "items": {"anyOf": [pair, map]}});
    any_of([pair, map, list])
}

fn answer() -> Value {
    any_of([
        words(&["ok", "over_limit"]),
        json!({"type": "string", "pattern": "^([oO][kK]|OVER_LIMIT|Over_limit|Over_Limit)$"}),
    ])
}

fn definition(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn list_of(items: Value) -> Value {
    json!({"type": ["array", "null"], "items": items})
}

/// A list that isn't empty.
fn some_of(items: Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

fn or_null(schema: Value) -> Value {
    any_of([schema, json!({"type": "null"})])
}

fn any_of<const N: usize>(each: [Value; N]) -> Value {
    json!({"anyOf": each.to_vec()})
}

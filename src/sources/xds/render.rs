//! A control plane's messages as the values that rules are read from: what it sends goes through the very checks that files
//! go through. Knows the messages and which keys a rule file has, not what rules mean.

use std::path::PathBuf;

use crate::proto::{
    google::protobuf::{Struct, Value, value::Kind},
    ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit},
};
use serde_json::{Map, Number, Value as Json};

/// What problems call a message, and the rule file that says the same.
pub(super) fn rendered(config: &RateLimitConfig) -> (PathBuf, Json) {
    let name = if config.name.is_empty() { &config.domain } else { &config.name };
    let mut file = Map::new();
    put(&mut file, "domain", &*config.domain);
    if !config.descriptors.is_empty() {
        put(&mut file, "descriptors", descriptors(&config.descriptors));
    }
    (PathBuf::from(format!("xds:{name}")), file.into())
}

fn put(map: &mut Map<String, Json>, key: &str, value: impl Into<Json>) {
    map.insert(key.to_owned(), value.into());
}

fn descriptors(descriptors: &[RateLimitDescriptor]) -> Vec<Json> {
    descriptors.iter().map(descriptor).collect()
}

/// Fields that aren't set are left out, so that the checks see what was said.
fn descriptor(descriptor: &RateLimitDescriptor) -> Json {
    let mut map = Map::new();
    put(&mut map, "key", &*descriptor.key);
    if !descriptor.value.is_empty() {
        put(&mut map, "value", &*descriptor.value);
    }
    let flags = [
        ("shadow_mode", descriptor.shadow_mode),
        ("detailed_metric", descriptor.detailed_metric),
        ("quota_mode", descriptor.quota_mode),
    ];
    for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
        put(&mut map, name, true);
    }
    if let Some(metadata) = &descriptor.metadata {
        put(&mut map, "metadata", object(metadata));
    }
    if let Some(limit) = &descriptor.rate_limit {
        put(&mut map, "rate_limit", policy(limit));
    }
    if !descriptor.descriptors.is_empty() {
        put(&mut map, "descriptors", descriptors(&descriptor.descriptors));
    }
    map.into()
}

fn policy(policy: &RateLimitPolicy) -> Json {
    let mut map = Map::new();
    if policy.unlimited {
        put(&mut map, "unlimited", true);
    }
    if !policy.unlimited || policy.requests_per_unit > 0 {
        put(&mut map, "requests_per_unit", policy.requests_per_unit);
    }
    match RateLimitUnit::try_from(policy.unit) {
        Ok(RateLimitUnit::Unknown) => {}
        Ok(unit) => put(&mut map, "unit", unit.as_str_name()),
        Err(_) => put(&mut map, "unit", policy.unit.to_string()),
    }
    if !policy.name.is_empty() {
        put(&mut map, "name", &*policy.name);
    }
    if !policy.replaces.is_empty() {
        let replaced =
            policy.replaces.iter().map(|replaced| Map::from_iter([("name".to_owned(), (&*replaced.name).into())]));
        put(&mut map, "replaces", replaced.map(Json::Object).collect::<Vec<_>>());
    }
    map.into()
}

fn object(fields: &Struct) -> Json {
    Json::Object(fields.fields.iter().map(|(name, value)| (name.clone(), json(value))).collect())
}

fn json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(said)) => Json::Bool(*said),
        // Protobuf has fractions alone; a whole one is meant as a whole number.
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(*number as i64),
        Some(Kind::NumberValue(number)) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Some(Kind::StringValue(text)) => Json::from(text.as_str()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(json).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

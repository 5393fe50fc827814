//! Dynamic metadata of a response: the request, the metadata of rules, and under `tollgate` what the decision rested
//! on. Envoy passes it to access logs and to later filters. It doesn't know how decisions are made.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::proto::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride},
        service::ratelimit::v3::RateLimitRequest,
        r#type::v3::RateLimitUnit,
    },
    google::protobuf,
};
use serde_json::{Map, Value, json};

use crate::{
    limit::Code,
    limiter::{Decision, NotedOverride, Notes},
    privacy::Privacy,
    trace::TraceContext,
};

/// The metadata in the form of envoyproxy/ratelimit (`domain`, `descriptors`, `hitsAddend`, `metadata`), and
/// `tollgate`.
pub(super) fn metadata(request: &RateLimitRequest, decision: &Decision, notes: &Notes) -> protobuf::Struct {
    let mut fields = Map::new();
    fields.insert("domain".into(), request.domain.as_str().into());
    fields.insert("descriptors".into(), request.descriptors.iter().map(descriptor).collect());
    if request.hits_addend != 0 {
        fields.insert("hitsAddend".into(), request.hits_addend.into());
    }
    let of_rules = of_rules(decision, notes);
    if !of_rules.is_empty() {
        fields.insert("metadata".into(), of_rules.into());
    }
    fields.insert("tollgate".into(), grounds(decision, notes, |matched| Cow::Borrowed(&matched.text)));
    to_struct(fields)
}

fn descriptor(descriptor: &RateLimitDescriptor) -> Value {
    let entries = descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value));
    let mut fields = json!({"entries": entries.collect::<Vec<_>>()});
    if let Some(limit) = &descriptor.limit {
        fields["limit"] = text(limit).into();
    }
    if let Some(hits) = &descriptor.hits_addend {
        fields["hitsAddend"] = hits.value.into();
    }
    fields
}

/// The limit as Go's prototext writes it: zeros are left out, and a number without a name stays a number.
fn text(limit: &RateLimitOverride) -> String {
    let requests = (limit.requests_per_unit != 0).then(|| format!("requests_per_unit:{}", limit.requests_per_unit));
    let unit = (limit.unit != 0).then(|| match RateLimitUnit::try_from(limit.unit) {
        Ok(unit) => format!("unit:{}", unit.as_str_name()),
        Err(_) => format!("unit:{}", limit.unit),
    });
    requests.into_iter().chain(unit).collect::<Vec<_>>().join(" ")
}

/// The metadata of the rules whose descriptors passed, merged in order.
fn of_rules(decision: &Decision, notes: &Notes) -> Map<String, Value> {
    let mut merged = Map::new();
    let passed = decision.statuses.iter().zip(&notes.descriptors).filter(|(status, _)| status.code == Code::Ok);
    for metadata in passed.filter_map(|(_, note)| note.metadata.as_deref()?.as_object()) {
        merge(&mut merged, metadata);
    }
    merged
}

/// Maps are merged; of anything else the first stays.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (None, _) => drop(into.insert(key.clone(), value.clone())),
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (Some(_), _) => {}
        }
    }
}

/// Which limit the answer reports, which one denied, and which override, as `shown`, or failure policy applied.
fn grounds<'n>(decision: &Decision, notes: &'n Notes, shown: impl Fn(&'n NotedOverride) -> Cow<'n, str>) -> Value {
    let mut fields = json!({"rules_version": notes.rules_version});
    let told = decision.reported();
    // If no limit applies, an override may be the reason.
    let told = told.or_else(|| notes.descriptors.iter().position(|note| note.overridden.is_some()));
    if let Some(note) = told.map(|index| &notes.descriptors[index]) {
        if note.limit_id.is_some() {
            fields["limit_id"] = note.limit_id.as_deref().into();
        }
        if decision.overall == Code::OverLimit {
            fields["denied_by"] = note.limit_id.as_deref().into();
        }
        if note.requested {
            fields["override"] = "request".into();
        } else if let Some(matched) = &note.overridden {
            fields["override"] = shown(matched).into();
        }
    }
    if let Some(policy) = decision.failure_policy {
        fields["degraded"] = policy.name().into();
    }
    fields
}

/// The same as attributes of the current span, if the request is sampled; values as `privacy` allows.
pub(super) fn note(trace: &TraceContext, decision: &Decision, notes: &Notes, privacy: &Privacy) {
    const NAMES: [(&str, &str); 5] = [
        ("limit_id", "tollgate.limit_id"),
        ("denied_by", "tollgate.denied_by"),
        ("override", "tollgate.override"),
        ("degraded", "tollgate.degraded"),
        ("rules_version", "tollgate.rules_version"),
    ];
    let grounds = grounds(decision, notes, |matched| matched.shown(privacy));
    for (field, name) in NAMES {
        match &grounds[field] {
            Value::String(text) => trace.note_text(name, text),
            Value::Number(number) => trace.note_int(name, number.as_i64().unwrap_or(i64::MAX)),
            _ => {}
        }
    }
}

fn to_struct(fields: Map<String, Value>) -> protobuf::Struct {
    protobuf::Struct { fields: fields.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

fn to_value(value: Value) -> protobuf::Value {
    use protobuf::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(said) => Kind::BoolValue(said),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(protobuf::ListValue { values: values.into_iter().map(to_value).collect() })
        }
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    protobuf::Value { kind: Some(kind) }
}

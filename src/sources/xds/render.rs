//! A control plane's messages as rule files: what it sends goes through the very checks that files go through. Knows the
//! messages and how YAML is written, not what rules mean.

use std::{fmt::Write as _, path::PathBuf};

use crate::proto::{
    google::protobuf::{Struct, Value, value::Kind},
    ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit},
};
use serde_json::{Map, Number, Value as Json};

use crate::rules::{Problem, Source};

/// A message as the rule file that says the same.
#[derive(Debug, PartialEq)]
pub(super) struct Rendered {
    pub(super) source: Source,
    /// Which field of the message each line stands for.
    fields: Vec<String>,
}

impl Rendered {
    pub(super) fn new(config: &RateLimitConfig) -> Rendered {
        let name = if config.name.is_empty() { &config.domain } else { &config.name };
        let mut page = Page::default();
        page.line(0, "domain", &format!("domain: {}", quoted(&config.domain)));
        if !config.descriptors.is_empty() {
            page.line(0, "descriptors", "descriptors:");
            page.descriptors(1, "", &config.descriptors);
        }
        Rendered {
            source: Source { path: PathBuf::from(format!("xds:{name}")), bytes: page.text.into_bytes() },
            fields: page.fields,
        }
    }

    /// Says it in the words of who sent the message: it knows fields, not lines of a file that it never saw.
    pub(super) fn reword(&self, problem: &mut Problem) {
        let what = self.without_lines(&problem.what);
        problem.what = match self.field(problem.line) {
            Some(field) => format!("{field}: {what}"),
            None => what,
        };
        (problem.line, problem.column) = (0, 0);
    }

    /// A problem may end with the line of what it collides with.
    fn without_lines(&self, what: &str) -> String {
        let number = |digits: &str| digits.parse().ok().and_then(|line| self.field(line));
        match what.rsplit_once("line ").map(|(before, digits)| (before, number(digits))) {
            Some((before, Some(field))) => format!("{before}{field}"),
            _ => what.to_owned(),
        }
    }

    fn field(&self, line: u32) -> Option<&String> {
        self.fields.get((line as usize).checked_sub(1)?)
    }
}

#[derive(Default)]
struct Page {
    text: String,
    fields: Vec<String>,
}

impl Page {
    fn line(&mut self, depth: usize, field: &str, text: &str) {
        let _ = writeln!(self.text, "{:1$}{text}", "", 2 * depth);
        self.fields.push(field.to_owned());
    }

    fn descriptors(&mut self, depth: usize, above: &str, descriptors: &[RateLimitDescriptor]) {
        for (index, descriptor) in descriptors.iter().enumerate() {
            self.descriptor(depth, &format!("{above}descriptors[{index}]"), descriptor);
        }
    }

    /// Fields that aren't set are left out, so that the checks see what was said.
    fn descriptor(&mut self, depth: usize, path: &str, descriptor: &RateLimitDescriptor) {
        self.line(depth, path, &format!("- key: {}", quoted(&descriptor.key)));
        let field = |name: &str| format!("{path}.{name}");
        let depth = depth + 1;
        if !descriptor.value.is_empty() {
            self.line(depth, &field("value"), &format!("value: {}", quoted(&descriptor.value)));
        }
        let flags = [
            ("shadow_mode", descriptor.shadow_mode),
            ("detailed_metric", descriptor.detailed_metric),
            ("quota_mode", descriptor.quota_mode),
        ];
        for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
            self.line(depth, &field(name), &format!("{name}: true"));
        }
        if let Some(metadata) = &descriptor.metadata {
            self.line(depth, &field("metadata"), &format!("metadata: {}", object(metadata)));
        }
        if let Some(policy) = &descriptor.rate_limit {
            self.line(depth, &field("rate_limit"), "rate_limit:");
            self.policy(depth + 1, &field("rate_limit"), policy);
        }
        if !descriptor.descriptors.is_empty() {
            self.line(depth, &field("descriptors"), "descriptors:");
            self.descriptors(depth + 1, &field(""), &descriptor.descriptors);
        }
    }

    fn policy(&mut self, depth: usize, path: &str, policy: &RateLimitPolicy) {
        let field = |name: &str| format!("{path}.{name}");
        if policy.unlimited {
            self.line(depth, &field("unlimited"), "unlimited: true");
        }
        if !policy.unlimited || policy.requests_per_unit > 0 {
            let text = format!("requests_per_unit: {}", policy.requests_per_unit);
            self.line(depth, &field("requests_per_unit"), &text);
        }
        match RateLimitUnit::try_from(policy.unit) {
            Ok(RateLimitUnit::Unknown) => {}
            Ok(unit) => self.line(depth, &field("unit"), &format!("unit: {}", unit.as_str_name())),
            Err(_) => self.line(depth, &field("unit"), &format!("unit: \"{}\"", policy.unit)),
        }
        if !policy.name.is_empty() {
            self.line(depth, &field("name"), &format!("name: {}", quoted(&policy.name)));
        }
        if !policy.replaces.is_empty() {
            self.line(depth, &field("replaces"), "replaces:");
        }
        for (index, replaced) in policy.replaces.iter().enumerate() {
            let text = format!("- name: {}", quoted(&replaced.name));
            self.line(depth + 1, &field(&format!("replaces[{index}]")), &text);
        }
    }
}

/// On one line, and text whatever it looks like.
fn quoted(text: &str) -> String {
    escaped(&Json::from(text))
}

/// JSON is YAML, except that some characters that it takes as they are would break a line or the file there.
fn escaped(json: &Json) -> String {
    let mut text = String::new();
    for character in json.to_string().chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            character => text.push(character),
        }
    }
    text
}

fn object(fields: &Struct) -> String {
    escaped(&json_object(fields))
}

fn json_object(fields: &Struct) -> Json {
    let mut names: Vec<&String> = fields.fields.keys().collect();
    // A map of protobuf has no order, and equal messages must be equal files.
    names.sort();
    Json::Object(names.into_iter().map(|name| (name.clone(), json(&fields.fields[name]))).collect::<Map<_, _>>())
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
        Some(Kind::StructValue(fields)) => json_object(fields),
    }
}

//! A rule's free-form `metadata` as JSON, as far as the response's dynamic metadata can have it.

use serde_json::{Map, Value as Json};

use super::{
    node::{Node, NodeValue},
    scalar::{Plain, Unusable},
};

/// Keys become text, whatever they are; numbers that JSON can't hold too.
pub(super) fn to_json(node: &Node<'_>) -> Json {
    match &node.value {
        NodeValue::Scalar { text, plain: false } => Json::String(text.to_string()),
        NodeValue::Scalar { text, plain: true } => match Plain::of(text) {
            Plain::Null => Json::Null,
            Plain::Bool(located) => Json::Bool(located),
            Plain::Int(number) => Json::from(number),
            Plain::Unusable(Unusable::Fraction(number)) if number.is_finite() => Json::from(number),
            Plain::Unusable(_) | Plain::Text => Json::String(text.to_string()),
        },
        NodeValue::List(items) => Json::Array(items.iter().map(to_json).collect()),
        NodeValue::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries.iter() {
                let key = match &key.value {
                    NodeValue::Scalar { text, .. } => text.to_string(),
                    _ => to_json(key).to_string(),
                };
                map.insert(key, to_json(value));
            }
            Json::Object(map)
        }
    }
}

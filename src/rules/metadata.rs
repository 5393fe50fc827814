//! A rule's free-form `metadata` as JSON, as far as the response's dynamic metadata can have it.

use serde_json::{Map, Value as Json};

use super::{
    node::{Node, Value},
    scalar::{Plain, Unusable},
};

/// Keys become text, whatever they are; numbers that JSON can't hold too.
pub(super) fn to_json(node: &Node<'_>) -> Json {
    match &node.value {
        Value::Scalar { text, plain: false } => Json::String(text.to_string()),
        Value::Scalar { text, plain: true } => match Plain::of(text) {
            Plain::Null => Json::Null,
            Plain::Bool(said) => Json::Bool(said),
            Plain::Int(number) => Json::from(number),
            Plain::Unusable(Unusable::Fraction(number)) if number.is_finite() => Json::from(number),
            Plain::Unusable(_) | Plain::Text => Json::String(text.to_string()),
        },
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries.iter() {
                let key = match &key.value {
                    Value::Scalar { text, .. } => text.to_string(),
                    _ => to_json(key).to_string(),
                };
                map.insert(key, to_json(value));
            }
            Json::Object(map)
        }
    }
}

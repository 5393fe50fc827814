//! The document against the code: its paths and methods are the routes, its fields the messages'. What each answers is
//! asked over the wire in tests/it/api/openapi.rs.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use serde_json::Value;

use super::*;
use crate::front::envoy::FILE_DESCRIPTORS;

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("the document is JSON")
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

#[test]
fn every_route_is_in_the_document_and_no_other() {
    let document = document();
    let routes = routes();
    let paths: BTreeSet<String> = routes.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(keys(&document["paths"]), paths);
    for (path, methods, _) in routes {
        let methods: BTreeSet<String> = methods.iter().map(|method| method.as_str().to_lowercase()).collect();
        assert_eq!(keys(&document["paths"][path]), methods, "{path}");
    }
}

#[test]
fn every_field_of_a_message_is_in_the_document_and_no_other() {
    let document = document();
    let pool = DescriptorPool::decode(FILE_DESCRIPTORS).expect("a test holds these to the protos");
    for (schema, described) in document["components"]["schemas"].as_object().expect("schemas") {
        let message = match schema.as_str() {
            "OverridePage" => "ListOverridesResponse",
            "ResetRequest" => "ResetCounterRequest",
            "ResetResponse" => "ResetCounterResponse",
            "AuditPage" => "ListAuditResponse",
            "SwitchRequest" => "SetSwitchRequest",
            "Switched" => "SetSwitchResponse",
            "Restored" => "RestoreLimitResponse",
            "SwitchList" => "ListSwitchesResponse",
            "Fleet" => "GetFleetResponse",
            "ChangeList" => "ListChangesResponse",
            // Forms of a field, and what only HTTP has.
            "Entries" | "Limits" | "Problem" | "Fault" => continue,
            same => same,
        };
        let message = pool.get_message_by_name(&format!("tollgate.v1.{message}")).expect("a message of this name");
        let fields: BTreeSet<String> = message.fields().map(|field| field.name().to_owned()).collect();
        assert_eq!(keys(&described["properties"]), fields, "{schema}");
        assert_eq!(described["additionalProperties"], false, "{schema}: unknown fields are refused");
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn visit<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| visit(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| visit(value, found)),
            _ => {}
        }
    }
    let (document, mut references) = (document(), Vec::new());
    visit(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

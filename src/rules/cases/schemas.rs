//! The keys of the maps of a case file.

use crate::rules::fields::MapSchema;

pub(in crate::rules) const FILE: MapSchema =
    MapSchema { what: "a case file", keys: &["domain", "rules", "start", "cases"] };
pub(in crate::rules) const CASE: MapSchema =
    MapSchema { what: "a case", keys: &["name", "domain", "start", "requests"] };
pub(in crate::rules) const REQUEST: MapSchema = MapSchema {
    what: "a request of a case",
    keys: &["at", "after", "descriptor", "descriptors", "hits", "times", "every", "expect"],
};
pub(in crate::rules) const DESCRIPTOR: MapSchema =
    MapSchema { what: "a descriptor of a case", keys: &["entries", "hits", "limit"] };
pub(in crate::rules) const EXPECT: MapSchema = MapSchema {
    what: "`expect`",
    keys: &["answer", "remaining", "limit", "reset", "retry_after", "admitted", "descriptors"],
};
pub(in crate::rules) const STATUS: MapSchema =
    MapSchema { what: "what is expected of a descriptor", keys: &["answer", "remaining", "limit", "reset"] };

/// More is a load test.
pub(in crate::rules) const TIMES_MAX: u32 = 1_000_000;

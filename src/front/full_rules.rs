//! The rules as a whole, as JSON that is written while it is read: override rows may be a million. For the admin listener and
//! for the API, which know who may read them.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::json;

use crate::rules::{Defaults, Domain, FullPieces, Rules};

/// An object whose `domains` have a `full` each. `head` is its text up to the domains, without what ends it.
pub(super) fn response(head: String, domains: Vec<(String, Arc<Domain>)>) -> Response {
    let separate = |at: usize| if at > 0 { ",\n" } else { "" };
    let domains = domains.into_iter().enumerate().flat_map(move |(at, (said, domain))| {
        let begin = format!("{}{},\"full\":", separate(at), unfinished(said));
        std::iter::once(begin).chain(FullPieces::new(domain)).chain(std::iter::once("}".to_owned()))
    });
    let begin = format!("{},\"domains\":[", unfinished(head));
    let pieces = std::iter::once(begin).chain(domains).chain(std::iter::once("]}".to_owned()));
    let body = Body::from_stream(stream::iter(pieces.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)))));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A JSON object that can go on.
fn unfinished(mut object: String) -> String {
    debug_assert!(object.ends_with('}') && object.len() > 2, "an object with a field");
    object.pop();
    object
}

/// What the process says where rules say nothing, for whoever compares other rules with these.
pub(super) fn process_defaults(rules: &Rules) -> serde_json::Value {
    let defaults = rules.domains().first().map_or_else(Defaults::default, |domain| *domain.process_defaults());
    json!({
        "algorithm": defaults.algorithm.name(),
        "count_denied": defaults.count_denied.name(),
        "merge_domains": defaults.merge_domains,
    })
}

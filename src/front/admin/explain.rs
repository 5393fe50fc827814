//! `/explain?domain=api&entry=user=alice`: how a request would be answered, and why. Counts nothing.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Json, Response},
};

use crate::{
    clock,
    front::api::{self, ApiError},
    limit::{
        Descriptor, Request,
        written::{self, OwnedEntry},
    },
    limiter::{DecideError, Limiter},
};

/// The state of the handler.
#[derive(Clone)]
pub struct Explainer {
    pub limiter: Limiter,
    /// Timeout of the store.
    pub patience: Duration,
}

/// The query: each `entry` is a part of one descriptor, each `descriptor` is one.
#[derive(Default)]
struct ExplainQuery {
    domain: String,
    descriptors: Vec<Vec<OwnedEntry>>,
    hits: Option<u32>,
}

pub(super) async fn explain(
    State(explaining): State<Arc<Explainer>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    match answer(&explaining, query).await {
        Ok(response) => Json(response).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(explaining: &Explainer, query: Vec<(String, String)>) -> Result<api::ExplainResponse, ApiError> {
    let asked = ExplainQuery::read(query, &explaining.limiter)?;
    let descriptors = asked.descriptors.iter().map(|entries| Descriptor {
        entries: entries.iter().map(OwnedEntry::entry).collect(),
        // Of a request 0 means 1; a descriptor's own 0 looks.
        hits: asked.hits.filter(|hits| *hits == 0).map(i64::from),
        ..Descriptor::default()
    });
    let hits = i64::from(asked.hits.unwrap_or(1));
    let request = Request { domain: &asked.domain, descriptors: descriptors.collect(), hits, ..Request::default() };
    Ok(api::explain_request(&explaining.limiter, &request, clock::now(), explaining.patience).await?)
}

impl ExplainQuery {
    fn read(query: Vec<(String, String)>, limiter: &Limiter) -> Result<ExplainQuery, ApiError> {
        let (mut asked, mut own) = (ExplainQuery::default(), Vec::new());
        for (name, text) in query {
            match &*name {
                "domain" => asked.domain = text,
                "entry" => own.push(written::parse_entry(&text).map_err(|what| wrong("entry", what))?),
                "descriptor" => {
                    let entries = written::parse_entries(&text).map_err(|what| wrong("descriptor", what))?;
                    asked.descriptors.push(entries);
                }
                "hits" => {
                    let hits = text.parse().map_err(|_| wrong("hits", format!("'{text}' is no whole number")))?;
                    asked.hits = Some(hits);
                }
                _ => return Err(wrong(&name, "there is no such parameter".to_owned())),
            }
        }
        if !own.is_empty() {
            asked.descriptors.insert(0, own);
        }
        let snapshot = limiter.snapshot();
        if snapshot.version == 0 {
            return Err(DecideError::NoRules.into());
        }
        if asked.domain.is_empty()
            && let [only] = snapshot.rules.domains()
        {
            asked.domain = only.name().to_owned();
        }
        if asked.descriptors.is_empty() {
            return Err(wrong("entry", "nothing is asked about".to_owned()));
        }
        Ok(asked)
    }
}

fn wrong(place: &str, what: String) -> ApiError {
    ApiError::invalid(place, what, "such as /explain?domain=api&entry=user=alice&entry=endpoint=/login&hits=1")
}

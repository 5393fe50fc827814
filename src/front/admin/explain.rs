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
        written::{self, Written},
    },
    limiter::{DecideError, Limiter},
};

/// The state of the handler.
#[derive(Clone)]
pub struct Explaining {
    pub limiter: Limiter,
    /// Timeout of the store.
    pub patience: Duration,
}

/// The query: each `entry` is a part of one descriptor, each `descriptor` is one.
#[derive(Default)]
struct Asked {
    domain: String,
    descriptors: Vec<Vec<Written>>,
    hits: Option<u32>,
}

pub(super) async fn explain(
    State(explaining): State<Arc<Explaining>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    match answer(&explaining, query).await {
        Ok(response) => Json(response).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(explaining: &Explaining, query: Vec<(String, String)>) -> Result<api::ExplainResponse, ApiError> {
    let asked = Asked::read(query, &explaining.limiter)?;
    let descriptors = asked.descriptors.iter().map(|entries| Descriptor {
        entries: entries.iter().map(Written::entry).collect(),
        // Of a request 0 means 1; a descriptor's own 0 looks.
        hits: asked.hits.filter(|hits| *hits == 0).map(i64::from),
        ..Descriptor::default()
    });
    let hits = i64::from(asked.hits.unwrap_or(1));
    let request = Request { domain: &asked.domain, descriptors: descriptors.collect(), hits, ..Request::default() };
    Ok(api::look(&explaining.limiter, &request, clock::now(), explaining.patience).await?)
}

impl Asked {
    fn read(query: Vec<(String, String)>, limiter: &Limiter) -> Result<Asked, ApiError> {
        let (mut asked, mut own) = (Asked::default(), Vec::new());
        for (name, text) in query {
            match &*name {
                "domain" => asked.domain = text,
                "entry" => own.push(written::entry(&text).map_err(|what| wrong("entry", what))?),
                "descriptor" => {
                    let entries = written::entries(&text).map_err(|what| wrong("descriptor", what))?;
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

//! The decisions of a watch as server-sent events: each has a name and a line of JSON.

use std::{convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::front::api::watch::{WatchEvent, Watching};

/// How often something is sent where nothing happens, so that a peer that has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(super) fn response(watching: Watching) -> Response {
    let events = watching.map(|event| Ok::<Event, Infallible>(named(event)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn named(event: WatchEvent) -> Event {
    let (name, data) = match event {
        WatchEvent::Started(started) => {
            ("started", serde_json::to_string(&started).expect("a message has a JSON form"))
        }
        WatchEvent::Decision(line) => ("decision", line.to_string()),
        WatchEvent::LeftOut(lines) => ("left_out", json!({ "lines": lines }).to_string()),
        WatchEvent::Ended(why) => ("ended", json!({ "why": why }).to_string()),
    };
    Event::default().event(name).data(data)
}

use std::convert::Infallible;

use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;

use super::*;

#[tokio::test]
async fn events_are_read_whatever_parts_they_come_in() {
    let text = ": hello\r\nevent: started\r\ndata: {\"a\":1}\r\n\r\n:\n\nevent: decision\ndata: {\"value\":\"ü\"}\n\ndata: x\ndata: y\n\n";
    for length in 1..text.len() {
        let parts = text.as_bytes().chunks(length).map(|part| Ok::<_, Infallible>(Frame::data(part.to_vec().into())));
        let parts: Vec<Result<Frame<bytes::Bytes>, Infallible>> = parts.collect();
        let mut events = EventReader::new(StreamBody::new(futures_util::stream::iter(parts)));
        let mut read = Vec::new();
        while let Some(event) = events.next().await.expect("readable") {
            read.push(event);
        }
        let event = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        let all = [event("started", "{\"a\":1}"), event("decision", "{\"value\":\"ü\"}"), event("", "x\ny")];
        assert_eq!(read, all, "in parts of {length}");
    }
}

fn plain() -> Paint {
    Paint::plain()
}

#[test]
fn a_line_says_when_who_what_and_why() {
    let limit = json!({"limit_id": "api/user", "code": "OVER_LIMIT", "requests": 5, "window": 60.0, "remaining": 0,
        "reset": 12.0});
    let decision = json!({
        "replica": "pod-1", "t": 1_764_361_076.123_456, "domain": "api", "hits": 1, "code": "OVER_LIMIT",
        "descriptors": [{"entries": [{"key": "user", "value": "alice"}], "limits": [limit]}],
        "limit_id": "api/user", "denied_by": "api/user", "override": "user=alice", "rules_version": 1
    });
    assert_eq!(
        decision_line(&decision, plain()),
        "2025-11-28T20:17:56.123Z  pod-1  refused       api  (user=alice)  api/user  0 of 5 left, again in 12 s  \
         override user=alice\n"
    );
}

#[test]
fn a_value_that_would_steer_the_terminal_is_shown_as_text() {
    let decision = json!({
        "replica": "pod\u{1b}[2J", "t": 0.0, "domain": "api", "code": "OK",
        "descriptors": [{"entries": [{"key": "user", "value": "\u{1b}]0;x\u{7}\u{202e}\n"}]}]
    });
    let line = decision_line(&decision, plain());
    assert!(
        !line.trim_end_matches('\n').contains(|character: char| character.is_control() || character == '\u{202e}'),
        "{line:?}"
    );
    assert_eq!(line.lines().count(), 1, "{line:?}");
    assert!(line.contains("no limit"), "{line}");
}

#[test]
fn what_only_would_be_refused_names_the_limit_that_would() {
    let limit =
        |id: &str, code: &str, shadow: bool| json!({"limit_id": id, "code": code, "shadow": shadow, "requests": 5});
    let decision = json!({
        "replica": "a", "t": 0.0, "domain": "api", "code": "OK", "limit_id": "api/user#old",
        "descriptors": [{"entries": [], "limits": [limit("api/user#old", "OK", false), limit("api/user#new", "OVER_LIMIT", true)]}]
    });
    let line = decision_line(&decision, plain());
    assert!(line.contains("would refuse") && line.contains("api/user#new"), "{line}");
}

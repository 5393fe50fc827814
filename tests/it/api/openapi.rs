//! The OpenAPI document against the running service: every operation and status that it names is brought about, and every
//! answer has the form that it says, with all of its fields seen at least once.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::front::api::{WatchDecisionsRequest, tollgate_client::TollgateClient};

use super::{token_line, with_tokens, write_tokens};
use crate::harness::{Answer, RulesDir, Tollgate, channel, eventually, send};

/// Rules that bring about every field of an answer.
const RULES: &str = "domain: api\n\
    tiers: {gold: {requests_per_unit: 50, unit: hour, algorithm: token_bucket, burst: 60}}\n\
    descriptors:\n  \
    - key: user\n    rate_limit: [{name: hourly, requests: 3, window: 1h}, {name: daily, requests: 100, window: 1d}]\n    \
      descriptors:\n      - {key: endpoint, value: /a/*, rate_limit: 5/h}\n  \
    - {key: plan, rate_limit: {tier: gold}}\n  \
    - key: away\n    rate_limit: {requests: 3, window: 1h, algorithm: token_bucket, burst: 5, on_store_failure: local}\n\
    overrides:\n  - {match: {user: vip}, limit: 7/h, reason: contract, owner: sales, expires: 2100-01-01}\n";

/// What has been seen.
struct Seen {
    document: Value,
    /// `get /path 200`.
    statuses: BTreeSet<String>,
    /// `Schema.field` and `200 header`, of answers.
    fields: BTreeSet<String>,
}

impl Seen {
    async fn new(tollgate: &Tollgate) -> Seen {
        let document = send(tollgate.http, "GET", "/v1/openapi.json", &[], Bytes::new()).await.expect("the document");
        Seen { document: document.json(), statuses: BTreeSet::new(), fields: BTreeSet::new() }
    }

    /// Asks, and holds the answer to the document. `what` is method and path as the document has it, with `{id}` for
    /// what `path` fills in.
    async fn ask(&mut self, tollgate: &Tollgate, ask: Ask<'_>) -> Answer {
        let (method, template) = ask.what.split_once(' ').expect("method and path");
        let path = template.replace("{domain}", ask.domain).replace("{id}", ask.id) + ask.query;
        let bearer = format!("Bearer {}", ask.token);
        let authorization = (!ask.token.is_empty()).then_some(("authorization", bearer.as_str()));
        let headers: Vec<(&str, &str)> = authorization.into_iter().chain(ask.header).collect();
        let answer = send(tollgate.http, method, &path, &headers, ask.body.to_owned().into()).await.expect("an answer");
        let operation = &self.document["paths"][template][method.to_lowercase()];
        let documented = &operation["responses"][answer.status.to_string()];
        assert!(!documented.is_null(), "{} {path} answers {}, undocumented: {}", ask.what, answer.status, answer.body);
        let documented = match documented["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).expect("within the document").clone(),
            None => documented.clone(),
        };
        let kind = answer.header("content-type");
        let schema = &documented["content"][kind]["schema"];
        assert!(schema.is_object(), "{path} {}: {kind} is not documented", answer.status);
        for (header, _) in documented["headers"].as_object().into_iter().flatten() {
            if answer.find_header(&header.to_lowercase()).is_some() {
                self.fields.insert(format!("{} {header}", answer.status));
            }
        }
        let schema = schema.clone();
        match kind {
            "text/event-stream" => self.check_events(&schema, &answer.body, &path),
            _ => self.check(&schema, &answer.json(), &path),
        }
        self.statuses.insert(format!("{} {template} {}", method.to_lowercase(), answer.status));
        answer
    }

    /// Of events, the one that begins them has a schema of its own.
    fn check_events(&mut self, schema: &Value, events: &str, place: &str) {
        self.check(schema, &Value::from(events), place);
        let (_, started) = events.split_once("event: started\ndata: ").expect("it begins so");
        let started: Value = serde_json::from_str(started.lines().next().expect("a line")).expect("JSON");
        self.check(&json!({"$ref": "#/components/schemas/WatchStarted"}), &started, place);
        assert!(events.contains("event: ended\ndata: {\"why\":"), "{events}");
    }

    /// Whether a value has the form of a schema: types, fields, and no field besides.
    fn check(&mut self, schema: &Value, value: &Value, place: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().expect("a split has a last part").to_owned();
            let schema = self.document["components"]["schemas"][&name].clone();
            for (field, _) in value.as_object().into_iter().flatten() {
                self.fields.insert(format!("{name}.{field}"));
            }
            return self.check(&schema, value, place);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let of_type = |schema: &&Value| match schema["$ref"].as_str() {
                Some(_) => value.is_object(),
                None => has_type(schema, value),
            };
            let one =
                any.iter().find(of_type).unwrap_or_else(|| panic!("{place}: {value} is none of {schema}")).clone();
            return self.check(&one, value, place);
        }
        assert!(has_type(schema, value), "{place}: {value} is not {schema}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{place}: {value} is not one of {words:?}");
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(value.get(required.as_str().expect("a name")).is_some(), "{place}: no {required} in {value}");
        }
        for (field, within) in value.as_object().into_iter().flatten() {
            let known = match (&schema["properties"][field], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => panic!("{place}: {field} is not documented"),
                (Value::Null, others) => others.clone(),
                (known, _) => known.clone(),
            };
            if known.is_object() {
                self.check(&known, within, &format!("{place}.{field}"));
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"].clone(), item, &format!("{place}[]"));
        }
    }

    /// What the document names and nobody has seen.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for (path, methods) in self.document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let name = format!("{method} {path} {status}");
                    if status != "default" && !self.statuses.contains(&name) {
                        missed.push(name);
                    }
                    let headers = response["headers"].as_object().into_iter().flatten();
                    let headers = headers.map(|(header, _)| format!("{status} {header}"));
                    missed.extend(headers.filter(|header| !self.fields.contains(header)));
                }
            }
        }
        for (schema, described) in self.document["components"]["schemas"].as_object().expect("schemas") {
            // What only requests have is read by src/front/api/json/tests.rs and the checks' own tests.
            let is_asked = ["CheckRequest", "Descriptor", "Limit", "ResetRequest", "Entry"].contains(&schema.as_str());
            for field in described["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
                let name = format!("{schema}.{field}");
                if !is_asked && !ELSEWHERE.contains(&name.as_str()) && !self.fields.contains(&name) {
                    missed.push(name);
                }
            }
        }
        missed
    }
}

/// `for` is kept as the moment that it comes to; the others are brought about by the tests of explanations.
const ELSEWHERE: [&str; 42] = [
    "WatchStarted.partial",
    "Override.touches_left_out",
    "OverrideSpec.for",
    "ExplainResponse.store_error",
    "ExplainedDescriptor.passed_over",
    "ExplainedOverride.why",
    "HeldHits.left_out",
    // Those of switches and of the fleet: tests/it/switches.rs, and the tests of src/run_time/fleet.
    "SwitchRequest.this_replica",
    "SwitchRequest.ends",
    "SwitchRequest.all",
    "SwitchRequest.limit_id",
    "SwitchRequest.mode",
    "SwitchRequest.factor",
    "SwitchRequest.for",
    "SwitchRequest.reason",
    "SwitchRequest.dry_run",
    "SwitchRequest.domain",
    "LimitSwitch.this_replica",
    "LimitSwitch.warnings",
    "SwitchedLimit.kept_by",
    "Fleet.partial",
    "Replica.problem_places",
    "Change.domain",
    "Confirmation.missing",
    "Confirmation.partial",
    "TopResponse.partial",
    // tests/it/top/refusing.rs.
    "Fleet.refusing_partial",
    // Problems of rules: tests/it/console.rs.
    "GetRulesResponse.problems",
    "RuleProblem.path",
    "RuleProblem.line",
    "RuleProblem.column",
    "RuleProblem.severity",
    "RuleProblem.what",
    "RuleProblem.hint",
    "RuleProblem.source_line",
    // Of a slot that has ended: tests/it/console.rs.
    "LimitOverview.hour_requests",
    "LimitOverview.hour_refused",
    "LimitOverview.hour_shadow",
    // Those of shares: tests/it/shares.rs.
    "ExplainedCounter.part",
    "LimitNumbers.enforce_share",
    "SwitchRequest.share",
    "LimitSwitch.share",
];

fn has_type(schema: &Value, value: &Value) -> bool {
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

/// One request.
#[derive(Clone, Copy)]
struct Ask<'a> {
    what: &'a str,
    domain: &'a str,
    id: &'a str,
    query: &'a str,
    token: &'a str,
    header: Option<(&'a str, &'a str)>,
    body: &'a str,
}

const CHECK: &str = "POST /v1/check";
const EXPLAIN: &str = "POST /v1/explain";
const LIST: &str = "GET /v1/domains/{domain}/overrides";
const SET: &str = "PUT /v1/domains/{domain}/overrides/{id}";
const GET: &str = "GET /v1/domains/{domain}/overrides/{id}";
const DELETE: &str = "DELETE /v1/domains/{domain}/overrides/{id}";
const RESET: &str = "POST /v1/counters:reset";
const AUDIT: &str = "GET /v1/audit";
const SWITCH: &str = "PUT /v1/domains/{domain}/switches";
const SWITCHES: &str = "GET /v1/domains/{domain}/switches";
const RESTORE: &str = "DELETE /v1/domains/{domain}/switches";
const ALL_SWITCHES: &str = "GET /v1/switches";
const FLEET: &str = "GET /v1/fleet";
const CHANGES: &str = "GET /v1/changes";

const OFF: &str = r#"{"limit_id": "user", "mode": "off", "for": "4h", "reason": "ticket 42"}"#;
const TOP: &str = "GET /v1/top";
const WATCH: &str = "GET /v1/decisions";
const WHOLE: &str = "GET /v1/rules";
const HISTORY: &str = "GET /v1/history";
const LIMITS: &str = "GET /v1/limits";
const RULES_IN_FORCE: &str = "GET /v1/rule-files";
const RULE_TEXT: &str = "GET /v1/rule-files/text";

fn ask<'a>(what: &'a str, body: &'a str) -> Ask<'a> {
    Ask { what, domain: "api", id: "alice", query: "", token: "secret", header: None, body }
}

const ALICE: &str = r#"{"match": {"user": "alice"}, "limit": {"tier": "gold"}, "rule": "user",
    "reason": "contract 42", "owner": "sales", "for": "4h"}"#;

/// Each call with what it answers when all is well, in an order in which it is.
async fn good(seen: &mut Seen, tollgate: &Tollgate) {
    let alice = r#"{"user": "alice"}"#;
    for _ in 0..4 {
        seen.ask(tollgate, ask(CHECK, alice)).await;
    }
    assert_eq!(
        seen.ask(tollgate, ask(RESET, r#"{"entries": {"user": "alice"}, "reason": "asked for"}"#)).await.status,
        200
    );
    assert_eq!(seen.ask(tollgate, ask(CHECK, alice)).await.status, 200, "the counter was reset");
    seen.ask(tollgate, ask(EXPLAIN, alice)).await;
    assert_eq!(seen.ask(tollgate, ask(SET, ALICE)).await.status, 201);
    let replaced = seen.ask(tollgate, ask(SET, ALICE)).await;
    assert_eq!((replaced.status, replaced.json()["limits"][0]["burst"].as_u64()), (200, Some(60)));
    let unlimited = r#"{"match": {"user": "bob"}, "limit": "unlimited"}"#;
    assert_eq!(seen.ask(tollgate, Ask { id: "bob", ..ask(SET, unlimited) }).await.status, 201);
    let named = r#"{"match": {"user": "carol"}, "limit": [{"name": "m", "requests": 5, "window": "1m"}, "9/h"], "expires": "2100-01-01"}"#;
    assert_eq!(seen.ask(tollgate, Ask { id: "carol", ..ask(SET, named) }).await.status, 201);
    let found = seen.ask(tollgate, ask(GET, "")).await;
    assert_eq!(format!("\"{}\"", found.json()["etag"].as_str().unwrap()), found.header("etag"));
    let page = seen.ask(tollgate, Ask { query: "?page_size=1", ..ask(LIST, "") }).await.json();
    assert!(page["next_page_token"].is_string(), "{page}");
    for (user, endpoint) in [("alice", None), ("vip", None), ("dave", Some("/a/b")), ("dave", Some("/c"))] {
        let body = json!({"user": user, "endpoint": endpoint}).to_string();
        seen.ask(tollgate, ask(EXPLAIN, &body)).await;
    }
    assert_eq!(seen.ask(tollgate, Ask { query: "?reason=over", ..ask(DELETE, "") }).await.status, 200);
    let page = seen.ask(tollgate, Ask { query: "?domain=api&page_size=3", ..ask(AUDIT, "") }).await.json();
    assert!(page["next_page_token"].is_string(), "{page}");
    let top = seen.ask(tollgate, Ask { query: "?by=hits&since=1h&domain=api&n=5", ..ask(TOP, "") }).await.json();
    assert_eq!(top["entries"][0]["descriptor"], "user=alice", "{top}");
    seen.ask(tollgate, ask("GET /v1/openapi.json", "")).await;
    let scale = r#"{"limit_id": "user#hourly", "mode": "scale", "factor": 3, "for": "4h", "reason": "ticket 42"}"#;
    assert_eq!(seen.ask(tollgate, ask(SWITCH, scale)).await.status, 200);
    assert_eq!(seen.ask(tollgate, ask(SWITCH, scale)).await.status, 200, "it replaces itself");
    let all = r#"{"all": true, "mode": "shadow", "for": "4h", "reason": "incident 7"}"#;
    assert_eq!(seen.ask(tollgate, ask(SWITCH, all)).await.status, 200);
    seen.ask(tollgate, ask(EXPLAIN, alice)).await;
    for what in [SWITCHES, ALL_SWITCHES, FLEET, CHANGES, WHOLE, RULES_IN_FORCE] {
        assert_eq!(seen.ask(tollgate, ask(what, "")).await.status, 200, "{what}");
    }
    let files = seen.ask(tollgate, ask(RULES_IN_FORCE, "")).await.json();
    let query = format!("?line=2&lines=1&path={}", files["files"][0]["path"].as_str().expect("a file"));
    let text = seen.ask(tollgate, Ask { query: &query, ..ask(RULE_TEXT, "") }).await.json();
    assert_eq!((&text["lines"][0], &text["line"]), (&json!(RULES.lines().nth(1)), &json!(2)), "{text}");
    assert_eq!(seen.ask(tollgate, Ask { query: "?for=1s&domain=api", ..ask(WATCH, "") }).await.status, 200);
    let page = seen.ask(tollgate, Ask { query: "?by=id&page_size=2", ..ask(LIMITS, "") }).await.json();
    assert!(page["next_page_token"].is_string() && page["limits"][0]["switched"]["mode"] == "shadow", "{page}");
    eventually("a second of the hour has passed", || async {
        let hour = send(tollgate.http, "GET", "/v1/history", &[("authorization", "Bearer secret")], Bytes::new()).await;
        hour.expect("an answer").json()["requests"].is_array().then_some(())
    })
    .await;
    seen.ask(tollgate, Ask { query: "?limit=api/user%23hourly", ..ask(HISTORY, "") }).await;
    for query in ["?limit_id=user%23hourly&reason=closed", "?all=true&reason=closed"] {
        assert_eq!(seen.ask(tollgate, Ask { query, ..ask(RESTORE, "") }).await.status, 200, "{query}");
    }
}

/// Each call with what is wrong.
async fn bad(seen: &mut Seen, tollgate: &Tollgate) {
    // One byte more than is taken, so that it is read whole: who goes on sending may not see the answer.
    let long = |max: usize| format!("\"{}\"", "x".repeat(max - 1));
    let (of_check, of_change) = (long(4 << 20), long(256 << 10));
    const NEW: [&str; 13] = [
        TOP,
        WATCH,
        SWITCH,
        SWITCHES,
        RESTORE,
        ALL_SWITCHES,
        FLEET,
        CHANGES,
        WHOLE,
        HISTORY,
        LIMITS,
        RULES_IN_FORCE,
        RULE_TEXT,
    ];
    for what in [CHECK, EXPLAIN, LIST, SET, GET, DELETE, RESET, AUDIT].into_iter().chain(NEW) {
        let body = match what {
            CHECK | EXPLAIN => r#"{"user": "alice"}"#,
            SET => ALICE,
            SWITCH => OFF,
            RESET => r#"{"entries": {"user": "alice"}}"#,
            _ => "",
        };
        let asked = ask(what, body);
        for (token, status) in [("", 401), ("wrong", 401), ("nothing", 403)] {
            assert_eq!(seen.ask(tollgate, Ask { token, ..asked }).await.status, status, "{what} {token}");
        }
        let wrong = match what {
            SWITCHES => None,
            LIST | AUDIT | CHANGES | LIMITS => Some(Ask { query: "?page_size=0x", ..asked }),
            TOP => Some(Ask { query: "?since=5m", ..asked }),
            RULE_TEXT => Some(Ask { query: "?path=api.yaml&lines=1001", ..asked }),
            WATCH => Some(Ask { query: "?for=2h", ..asked }),
            RESTORE | ALL_SWITCHES | FLEET | WHOLE | HISTORY | RULES_IN_FORCE => {
                Some(Ask { query: "?usr=alice", ..asked })
            }
            GET | DELETE => Some(Ask { id: "a%20b", ..asked }),
            _ => Some(Ask { body: r#"{"usr": "alice"}"#, ..asked }),
        };
        if let Some(wrong) = wrong {
            assert_eq!(seen.ask(tollgate, wrong).await.status, 400, "{what}");
        }
        let nowhere = match what {
            CHECK | EXPLAIN => Some(Ask { body: r#"{"domain": "nowhere", "user": "a"}"#, ..asked }),
            RESET => Some(Ask { body: r#"{"domain": "nowhere", "entries": {"user": "a"}}"#, ..asked }),
            AUDIT => None,
            HISTORY => Some(Ask { query: "?limit=api/nowhere", ..asked }),
            RULE_TEXT => Some(Ask { query: "?path=/etc/hostname", ..asked }),
            TOP | WATCH | ALL_SWITCHES | FLEET | CHANGES | WHOLE | LIMITS | RULES_IN_FORCE => {
                Some(Ask { query: "?domain=nowhere", ..asked })
            }
            RESTORE => Some(Ask { domain: "nowhere", query: "?all=true&reason=x", ..asked }),
            _ => Some(Ask { domain: "nowhere", ..asked }),
        };
        if let Some(nowhere) = nowhere {
            assert_eq!(seen.ask(tollgate, nowhere).await.status, 404, "{what}");
        }
        if [CHECK, EXPLAIN, SET, RESET, SWITCH].contains(&what) {
            let long = if [CHECK, EXPLAIN].contains(&what) { &of_check } else { &of_change };
            assert_eq!(seen.ask(tollgate, Ask { body: long, ..asked }).await.status, 413, "{what}");
        }
    }
    assert_eq!(seen.ask(tollgate, ask(GET, "")).await.status, 404, "it was deleted");
    let other = Some(("if-match", "\"other\""));
    assert_eq!(seen.ask(tollgate, Ask { header: other, id: "bob", ..ask(DELETE, "") }).await.status, 412);
    let taken = Ask { header: Some(("if-none-match", "*")), id: "bob", ..ask(SET, ALICE) };
    assert_eq!(seen.ask(tollgate, taken).await.status, 412);
    let mut four = Vec::new();
    for _ in 0..4 {
        let mut watch = tonic::Request::new(WatchDecisionsRequest::default());
        watch.metadata_mut().insert("authorization", "Bearer secret".parse().expect("ASCII"));
        let mut client = TollgateClient::new(channel(tollgate.grpc));
        four.push(client.watch_decisions(watch).await.expect("a stream"));
    }
    assert_eq!(seen.ask(tollgate, ask(WATCH, "")).await.status, 429);
}

#[tokio::test]
async fn every_operation_status_and_field_of_the_document_is_served() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("TOLLGATE_API_AUTH", "all")]).await;
    let file = rules.path().join("tokens");
    write_tokens(&file, &(token_line("ops", "secret", "*") + &token_line("none", "nothing", "check@elsewhere")));
    eventually("the second token is known", || async {
        let answer =
            send(tollgate.http, "GET", "/v1/audit", &[("authorization", "Bearer nothing")], Bytes::new()).await;
        (answer.expect("an answer").status == 403).then_some(())
    })
    .await;
    let mut seen = Seen::new(&tollgate).await;
    good(&mut seen, &tollgate).await;
    bad(&mut seen, &tollgate).await;
    // A tier that is gone is told of.
    assert_eq!(seen.ask(&tollgate, ask(SET, ALICE)).await.status, 201);
    let (tiers, plan) = (RULES.lines().nth(1).unwrap(), RULES.lines().nth(7).unwrap());
    rules.write("api.yaml", &RULES.replace(&format!("{tiers}\n"), "").replace(&format!("{plan}\n"), ""));
    eventually("the tier is gone", || async {
        let answer = send(
            tollgate.http,
            "GET",
            "/v1/domains/api/overrides/alice",
            &[("authorization", "Bearer secret")],
            Bytes::new(),
        );
        answer.await.expect("an answer").json()["warnings"].to_string().contains("gold").then_some(())
    })
    .await;
    seen.ask(&tollgate, ask(GET, "")).await;
    // How Envoy asks makes a budget of the limit, and that is told too.
    tollgate.client().admits("api", &[("user", "zoe")]).await;
    seen.ask(&tollgate, ask(EXPLAIN, r#"{"user": "zoe"}"#)).await;
    seen.ask(&tollgate, ask(EXPLAIN, r#"{"user": "alice"}"#)).await;

    // Without rules nothing can be said, and without a store neither what was counted nor who changed what, but in reloads.
    let env = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "127.0.0.1:1"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("REDIS_URL", "127.0.0.1:1"),
    ];
    let empty = with_tokens(&rules, &env).await;
    for what in [CHECK, EXPLAIN, LIST, SET, GET, DELETE, RESET, TOP, WATCH, SWITCH, RESTORE, CHANGES] {
        let body = if what == SET {
            ALICE
        } else if what == SWITCH {
            OFF
        } else if what == RESET {
            r#"{"entries": {"user": "a"}}"#
        } else {
            r#"{"user": "a"}"#
        };
        let query = if [TOP, WATCH, CHANGES].contains(&what) { "?domain=api" } else { "" };
        assert_eq!(seen.ask(&empty, Ask { query, ..ask(what, body) }).await.status, 503, "{what}");
    }
    let storeless = with_tokens(&rules, &[("REDIS_URL", "127.0.0.1:1"), ("TOLLGATE_ON_STORE_FAILURE", "open")]).await;
    assert_eq!(seen.ask(&storeless, ask(AUDIT, "")).await.status, 503);
    let reloads_alone = seen.ask(&storeless, ask(CHANGES, "")).await;
    let partial = reloads_alone.json()["partial"].as_str().unwrap_or_default().to_owned();
    assert_eq!((reloads_alone.status, &*partial), (200, "this replica only: Redis can't be reached"));
    seen.ask(&storeless, ask(CHECK, r#"{"user": "alice"}"#)).await;
    // What is counted here instead is told, and what is owed.
    let away = r#"{"descriptors": [{"entries": {"away": "alice"}}]}"#;
    assert_eq!(seen.ask(&storeless, ask(CHECK, away)).await.status, 200);
    assert_eq!(seen.ask(&storeless, ask(EXPLAIN, away)).await.status, 200);
    assert_eq!(seen.missed(), Vec::<String>::new());
}

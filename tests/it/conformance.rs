//! Replays of what envoyproxy/ratelimit answered: requests and answers recorded from a running one, in
//! `tests/conformance`, put to the real binary over gRPC. Each case has its own domain; all cases of a file run on one
//! server. The recorded server counts in fixed windows, denied hits too.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride},
        service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::rate_limit::Unit as Wire},
    },
    google::protobuf::UInt64Value,
};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tollgate::{clock, limit::Unit};

use crate::{
    harness::{REDIS_CONNECTIONS, Rls, RulesDir, Tollgate, descriptor, get},
    redis_server::RedisServer,
};

const FILES: [&str; 6] =
    ["behaviour", "behaviour-global-quota", "behaviour-global-shadow", "random-0", "random-100", "random-200"];

const COMPAT: &[(&str, &str)] = &[("TOLLGATE_COMPAT", "envoyproxy")];
const ONE_BY_ONE: &[(&str, &str)] = &[
    ("TOLLGATE_ALGORITHM", "fixed_window"),
    ("TOLLGATE_COUNT_DENIED", "true"),
    ("TOLLGATE_ON_STORE_FAILURE", "error"),
];

/// Cases that are asked at the same time: enough to keep two cores busy.
const TOGETHER: usize = 8;

/// Tries to run a file within one of its smallest windows.
const TRIES: usize = 3;

#[derive(Deserialize)]
struct File {
    env: Map<String, Value>,
    metrics: Vec<String>,
    rlconfig: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    domain: String,
    config: String,
    steps: Vec<Step>,
    answers: Vec<Value>,
}

/// A request, sent `n` times.
#[derive(Deserialize)]
struct Step {
    d: Vec<Described>,
    hits: Option<u32>,
    n: usize,
    domain: Option<String>,
}

/// `"k=v,k=v"`, alone or with a cost or a limit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Described {
    Plain(String),
    Full { e: String, hits: Option<u64>, limit: Option<(u32, String)> },
}

impl Described {
    fn message(&self) -> RateLimitDescriptor {
        let (text, hits, limit) = match self {
            Described::Plain(text) => (text, None, None),
            Described::Full { e, hits, limit } => (e, *hits, limit.as_ref()),
        };
        let entries = text.split(',').filter(|entry| !entry.is_empty());
        let entries: Vec<_> = entries.map(|entry| entry.split_once('=').expect("an entry is k=v")).collect();
        let limit = limit.map(|(requests_per_unit, unit)| {
            let unit = Wire::from_str_name(unit).expect("units are named as on the wire").into();
            RateLimitOverride { requests_per_unit: *requests_per_unit, unit }
        });
        let hits_addend = hits.map(|value| UInt64Value { value });
        RateLimitDescriptor { hits_addend, limit, ..descriptor(&entries) }
    }
}

impl Case {
    fn requests(&self) -> impl Iterator<Item = RateLimitRequest> {
        let request = |step: &Step| RateLimitRequest {
            domain: step.domain.as_ref().unwrap_or(&self.domain).clone(),
            descriptors: step.d.iter().map(Described::message).collect(),
            hits_addend: step.hits.unwrap_or_default(),
        };
        self.steps.iter().flat_map(move |step| std::iter::repeat_n(request(step), step.n))
    }

    /// Asks all, one after the other, and gives what was answered otherwise than recorded, as `seen` looks at answers.
    async fn differences(&self, client: &Rls, seen: impl Fn(&Value) -> Value) -> Vec<String> {
        let mut differences = Vec::new();
        assert_eq!(self.requests().count(), self.answers.len(), "{}: every request has its answer", self.name);
        for (number, (request, recorded)) in self.requests().zip(&self.answers).enumerate() {
            let answer = match client.ask(request.clone()).await {
                Ok(response) => shown(&response),
                Err(status) => json!({"error": status.message()}),
            };
            if seen(&answer) != seen(recorded) {
                let asked = request.descriptors.iter().map(|descriptor| format!("{descriptor:?}\n"));
                differences.push(format!(
                    "{} request {number}:\n recorded {}\n answered {}\n asked {}\n",
                    self.name,
                    seen(recorded),
                    seen(&answer),
                    asked.collect::<String>()
                ));
            }
        }
        differences
    }
}

/// A response in the words of the records: of a reset, that it is there.
fn shown(response: &RateLimitResponse) -> Value {
    let statuses = response.statuses.iter().map(|status| {
        let mut shown = json!({
            "code": status.code().as_str_name(),
            "remaining": status.limit_remaining,
            "reset": status.duration_until_reset.is_some(),
        });
        if let Some(limit) = &status.current_limit {
            shown["limit"] = json!([limit.requests_per_unit, limit.unit().as_str_name(), limit.name]);
        }
        shown
    });
    let mut shown = json!({"overall": response.overall_code().as_str_name(), "statuses": statuses.collect::<Vec<_>>()});
    if !response.response_headers_to_add.is_empty() {
        let headers = response.response_headers_to_add.iter().map(|header| {
            let value = if header.key == "RateLimit-Reset" { "N" } else { &header.value };
            json!([header.key, value])
        });
        shown["headers"] = headers.collect();
    }
    shown
}

/// The limits that descriptors were matched to, and nothing of what was counted.
fn matched(answer: &Value) -> Value {
    match &answer["statuses"] {
        Value::Array(statuses) => statuses.iter().map(|status| status["limit"].clone()).collect(),
        _ => answer.clone(),
    }
}

impl File {
    fn read(name: &str) -> File {
        let path = format!("{}/tests/conformance/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the records are in the repository");
        serde_json::from_str(&text).expect("records have this form")
    }

    /// The length of the shortest window that an answer speaks of.
    fn shortest_window(&self) -> u64 {
        let statuses =
            self.cases.iter().flat_map(|case| &case.answers).filter_map(|answer| answer["statuses"].as_array());
        let units = statuses.flatten().filter_map(|status| Unit::parse(status["limit"][1].as_str()?));
        units.map(|unit| unit.window().0).min().expect("some case has a limit")
    }

    /// A server with all rule files of the records.
    async fn serve(&self, env: &[(&str, &str)]) -> (RulesDir, Tollgate) {
        let rules = RulesDir::with("first.yaml", &self.cases[0].config);
        for case in &self.cases[1..] {
            rules.write(&format!("{}.yaml", case.domain), &case.config);
        }
        let own = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("variables are text")));
        let env: Vec<_> = own.chain(env.iter().copied()).collect();
        let tollgate = Tollgate::start_with(rules.path(), &env).await;
        (rules, tollgate)
    }

    /// Series that the page lacks, has besides, or counts otherwise. A dot within a value shifts the reference's labels;
    /// here it doesn't.
    fn differences_of_metrics(&self, page: &str) -> Vec<String> {
        const DOTS: [[&str; 2]; 2] =
            [[r#"key1="q_1",key2="5""#, r#"key1="q_1.5""#], [r#"key1="path_*",key2="css""#, r#"key1="path_*.css""#]];
        let righted =
            |line: &String| DOTS.iter().fold(line.clone(), |line, [shifted, right]| line.replace(shifted, right));
        let recorded: Vec<String> = self.metrics.iter().map(righted).collect();
        let (recorded, counted) = (hits(recorded.iter().map(String::as_str)), hits(page.lines()));
        let names: BTreeSet<_> = recorded.keys().chain(counted.keys()).collect();
        let differ = names.into_iter().filter(|name| recorded.get(*name) != counted.get(*name));
        differ
            .map(|name| format!("{name}: recorded {:?}, counted {:?}\n", recorded.get(name), counted.get(name)))
            .collect()
    }

    async fn differences(&self, tollgate: &Tollgate, seen: impl Fn(&Value) -> Value) -> Vec<String> {
        let client = tollgate.client();
        let cases = self.cases.iter().map(|case| case.differences(&client, &seen));
        futures_util::stream::iter(cases).buffer_unordered(TOGETHER).concat().await
    }
}

/// The hits that a page counts as envoyproxy/ratelimit does, and its unknown domains: value by name and labels.
fn hits<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, f64> {
    let series = lines.filter(|line| line.starts_with("ratelimit_service_rate_limit_"));
    series
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series ends with its value");
            (series, value.parse().expect("a value is a number"))
        })
        .collect()
}

/// Replays every file, again where a window ended meanwhile, and gives all that differs.
async fn replay(manner: &[(&str, &str)], redis: Option<&RedisServer>) {
    let mut differences = Vec::new();
    for name in FILES {
        let file = File::read(name);
        let window = file.shortest_window();
        let mut undisturbed = None;
        for attempt in 0..TRIES {
            // No two runs share a counter: domains of the files are partly the same.
            let prefix = format!("{name}-{attempt}:");
            let address = redis.map(RedisServer::address).unwrap_or_default();
            let store = [
                ("USE_PROMETHEUS", "true"),
                ("REDIS_URL", &*address),
                ("CACHE_KEY_PREFIX", &*prefix),
                ("TOLLGATE_STORE_TIMEOUT", "10s"),
            ];
            let (_rules, tollgate) = file.serve(&[manner, &store].concat()).await;
            if redis.is_some() {
                tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
            }
            let begun = clock::now().0 / window;
            let found = file.differences(&tollgate, Value::clone).await;
            let counted = file.differences_of_metrics(&tollgate.metrics().await);
            if clock::now().0 / window == begun {
                undisturbed = Some([found, counted].concat());
                break;
            }
        }
        let found = undisturbed.expect("a replay is much shorter than the shortest window");
        differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(differences.is_empty(), "{} answers differ:\n{}", differences.len(), differences.concat());
}

#[tokio::test]
async fn compat_gives_every_recorded_answer_on_the_memory_store() {
    replay(COMPAT, None).await;
}

#[tokio::test]
async fn compat_gives_every_recorded_answer_on_redis() {
    replay(COMPAT, Some(&RedisServer::start())).await;
}

#[tokio::test]
async fn three_settings_one_by_one_give_every_recorded_answer_on_the_memory_store() {
    replay(ONE_BY_ONE, None).await;
}

#[tokio::test]
async fn three_settings_one_by_one_give_every_recorded_answer_on_redis() {
    replay(ONE_BY_ONE, Some(&RedisServer::start())).await;
}

#[tokio::test]
async fn the_defaults_match_the_same_limits_and_show_the_same_rlconfig() {
    for name in FILES {
        let file = File::read(name);
        let (_rules, tollgate) = file.serve(&[]).await;
        let differences = file.differences(&tollgate, matched).await;
        assert!(differences.is_empty(), "{name}: {} differ:\n{}", differences.len(), differences.concat());

        let shown = get(tollgate.admin, "/rlconfig", &[]).await.expect("admin answers").body;
        let mut recorded = file.rlconfig;
        recorded.sort_unstable();
        assert_eq!(shown.lines().collect::<Vec<_>>(), recorded, "{name}");
    }
}

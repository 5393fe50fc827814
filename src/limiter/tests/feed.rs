//! What decisions tell those who watch them, and the decision log.

use serde_json::{Value, json};

use super::*;
use crate::{
    limit::LogSample,
    limiter::decision_feed::{DecisionFeed, DecisionWatch, LogLines},
    privacy::Privacy,
    run_time::fleet::{WatchFilter, WatchedKind},
};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 2, window: 1m}
    overrides:
      - {match: {user: vip}, limit: 3/m}
      - {match: {user: free}, limit: unlimited}
    descriptors:
      - {key: path, value: /login, rate_limit: {requests: 1, window: 1m}}
  - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1m}}
  - {key: away, rate_limit: {requests: 1, window: 1m, on_store_failure: error}}
  - {key: plan, value: gold, rate_limit: {requests: 9, window: 1m}}
";

struct Told {
    asked: Asked,
    feed: Arc<DecisionFeed>,
}

impl Told {
    fn by(feed: DecisionFeed) -> Told {
        let (Asked { limiter }, feed) = (asked(RULES, MODES), Arc::new(feed));
        feed.name_replica("pod-1");
        Told { asked: Asked { limiter: limiter.with_feed(Arc::clone(&feed)) }, feed }
    }

    fn ask(&self, descriptors: &[&str]) {
        self.asked.limiter.decide_now(&request_for("api", descriptors), NOW).expect("in memory").expect("well formed");
    }

    /// A watch with room for so many lines.
    fn watch(&self, filter: WatchFilter, room: f64) -> Arc<DecisionWatch> {
        let watch = Arc::new(DecisionWatch::new("w", filter));
        watch.take(room);
        self.feed.begin(Arc::clone(&watch));
        watch
    }
}

fn told() -> Told {
    Told::by(DecisionFeed::new(Privacy::default()))
}

fn lines(watch: &DecisionWatch) -> Vec<Value> {
    let (lines, _) = watch.take(100.0);
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn hidden() -> Privacy {
    Privacy::new(["user".into()], &[7; 32]).expect("long enough")
}

#[test]
fn a_line_says_what_was_asked_and_what_each_limit_said() {
    let told = told();
    let watch = told.watch(WatchFilter::default(), 10.0);
    for _ in 0..2 {
        told.ask(&["user=alice,path=/login", "user=alice"]);
    }
    let lines = lines(&watch);
    let limit = |id: &str, code: &str, requests: u32, remaining: u32, reset: f64| json!({"limit_id": id, "code": code, "requests": requests, "window": 60.0, "remaining": remaining, "reset": reset});
    let mut second = lines[1].clone();
    assert!((second["t"].as_f64().expect("seconds") - NOW.0 as f64 / 1e6).abs() < 1e-6, "{second}");
    second["t"] = json!(0);
    let entry = |key: &str, value: &str| json!({"key": key, "value": value});
    assert_eq!(
        second,
        json!({
            "replica": "pod-1", "t": 0, "domain": "api", "hits": 1, "origin": "envoy", "code": "OVER_LIMIT",
            "limit_id": "api/user/path=/login", "denied_by": "api/user/path=/login", "rules_version": 1,
            "descriptors": [
                {"entries": [entry("user", "alice"), entry("path", "/login")],
                 "limits": [limit("api/user/path=/login", "OVER_LIMIT", 1, 0, second["descriptors"][0]["limits"][0]["reset"].as_f64().unwrap())]},
                {"entries": [entry("user", "alice")],
                 "limits": [limit("api/user", "OK", 2, 1, second["descriptors"][1]["limits"][0]["reset"].as_f64().unwrap())]},
            ]
        })
    );
    assert_eq!((&lines[0]["code"], lines[0].get("denied_by")), (&json!("OK"), None));
}

#[test]
fn overrides_unlimited_clients_and_descriptors_without_a_rule_are_told() {
    let told = told();
    let watch = told.watch(WatchFilter::default(), 10.0);
    for descriptor in ["user=vip", "user=free", "nobody=knows", "plan=gold"] {
        told.ask(&[descriptor]);
    }
    let lines = lines(&watch);
    assert_eq!((&lines[0]["override"], &lines[0]["limit_id"]), (&json!("user=vip"), &json!("api/user")));
    assert_eq!((&lines[1]["override"], &lines[1]["descriptors"][0]["unlimited"]), (&json!("user=free"), &json!(true)));
    assert_eq!((lines[2].get("limit_id"), lines[2]["descriptors"][0].get("limits")), (None, None), "{}", lines[2]);
    assert_eq!(lines[3]["limit_id"], "api/plan=gold");
}

#[test]
fn values_are_hidden_as_everywhere_and_those_of_rules_stay_clear() {
    let told = Told::by(DecisionFeed::new(hidden()));
    let shown = hidden().shown("user", "vip").into_owned();
    let entry = Some(("user".into(), shown.as_str().into()));
    let watch = told.watch(WatchFilter { entry, ..WatchFilter::default() }, 10.0);
    told.ask(&["user=vip,path=/login"]);
    told.ask(&["user=vip"]);
    told.ask(&["user=other"]);
    let (texts, _) = watch.take(10.0);
    assert_eq!(texts.len(), 2, "the hash of a value finds it: {texts:?}");
    assert!(texts.iter().all(|text| !text.contains("vip") && text.contains(&shown)), "{texts:?}");
    assert!(texts[0].contains("/login") && texts[1].contains(&format!("\"override\":\"user={shown}\"")), "{texts:?}");
}

#[test]
fn a_filter_shows_what_it_says_and_nothing_else() {
    let told = told();
    let of = |filter: WatchFilter| told.watch(filter, 100.0);
    let only = |kind| WatchFilter { only: Some(kind), ..WatchFilter::default() };
    let watches = [
        of(only(WatchedKind::Denied)),
        of(only(WatchedKind::Shadow)),
        of(only(WatchedKind::Degraded)),
        of(WatchFilter { limit: "api/user".into(), ..WatchFilter::default() }),
        of(WatchFilter { entry: Some(("user".into(), "bob".into())), ..WatchFilter::default() }),
        of(WatchFilter { domains: Some(vec!["shop".into()]), ..WatchFilter::default() }),
    ];
    for descriptor in ["user=alice", "user=alice", "user=alice", "user=bob", "tried=x", "tried=x"] {
        told.ask(&[descriptor]);
    }
    assert_eq!(watches.each_ref().map(|watch| lines(watch).len()), [1, 1, 0, 4, 1, 0]);
    let down = StoreError::Unreachable("away".into());
    told.asked
        .limiter
        .decide_without_store(&request_for("api", &["away=x"]), down.clone(), NOW)
        .expect_err("its policy");
    told.asked.limiter.decide_without_store(&request_for("api", &["user=eve"]), down, NOW).expect("local");
    let degraded = lines(&watches[2]);
    assert_eq!((degraded.len(), &degraded[0]["code"], &degraded[0]["degraded"]), (2, &json!("ERROR"), &json!("error")));
    assert_eq!((&degraded[1]["code"], &degraded[1]["degraded"]), (&json!("OK"), &json!("local")));
}

#[test]
fn what_has_no_room_is_counted_and_a_part_of_a_line_comes_to_one_in_time() {
    let told = told();
    let watch = told.watch(WatchFilter::default(), 2.0);
    for _ in 0..5 {
        told.ask(&["user=alice"]);
    }
    let (lines, left_out) = watch.take(0.25);
    assert_eq!((lines.len(), left_out), (2, 3));
    let mut shown = 0;
    for _ in 0..8 {
        told.ask(&["user=alice"]);
        shown += watch.take(0.25).0.len();
    }
    assert_eq!(shown, 2, "a quarter of a line each time");
    told.feed.end("w");
    told.ask(&["user=alice"]);
    assert_eq!(watch.take(1.0).0.len(), 0, "it is over");
}

#[test]
fn a_request_of_many_descriptors_and_long_values_makes_a_short_line() {
    let told = told();
    let watch = told.watch(WatchFilter::default(), 10.0);
    let long = format!("user={}", "x".repeat(64 << 10));
    let many: Vec<&str> = std::iter::once(&*long).chain(std::iter::repeat_n("user=alice", 999)).collect();
    told.ask(&many);
    let (texts, _) = watch.take(10.0);
    assert!(texts[0].len() < 32 << 10, "{} bytes", texts[0].len());
    let line: Value = serde_json::from_str(&texts[0]).expect("JSON");
    assert_eq!(line["descriptors_left_out"], 1_000 - 64);
    told.ask(&["user=\u{1b}[2J\u{9b}\u{202e}"]);
    let (texts, _) = watch.take(10.0);
    assert!(!texts[0].chars().any(crate::visible::is_unseen), "{:?}", texts[0]);
}

fn logged(sample: &str) -> (Told, LogLines) {
    let (feed, log) = DecisionFeed::with_log(Privacy::default(), LogSample::parse(sample).expect(sample));
    (Told::by(feed), log)
}

fn read(log: &LogLines) -> Vec<Value> {
    let lines = std::iter::from_fn(|| log.next());
    lines.map(|line| serde_json::from_str(line.strip_suffix('\n').expect("a whole line")).expect("JSON")).collect()
}

#[test]
fn each_line_of_the_log_says_its_version_and_its_sample() {
    let (told, log) = logged("all");
    told.ask(&["user=alice"]);
    let lines = read(&log);
    assert_eq!((&lines[0]["v"], &lines[0]["sample"], lines.len()), (&json!(1), &json!("all"), 1));
}

#[test]
fn a_share_keeps_whole_clients_the_same_on_all_replicas() {
    let (told, log) = logged("10%");
    let (other, other_log) = logged("10%");
    let users: Vec<String> = (0..1_000).map(|user| format!("user={user}")).collect();
    for user in users.iter().chain(&users) {
        told.ask(&[user]);
        other.ask(&[user]);
    }
    let clients = |lines: Vec<Value>| -> Vec<String> {
        assert!(lines.iter().all(|line| line["sample"] == "10%" && line["by"] == "user"), "{:?}", lines.first());
        lines.iter().map(|line| line["descriptors"][0]["entries"][0]["value"].to_string()).collect()
    };
    let (one, two) = (clients(read(&log)), clients(read(&other_log)));
    assert_eq!(one, two);
    let distinct: std::collections::BTreeSet<&String> = one.iter().collect();
    assert!((60..140).contains(&distinct.len()), "{}", distinct.len());
    assert_eq!(one.len(), 2 * distinct.len(), "all of a client or nothing");
}

#[test]
fn denials_are_logged_once_for_a_counter_and_then_sampled() {
    let (told, log) = logged("denied");
    for _ in 0..2 + 501 {
        told.ask(&["user=alice"]);
    }
    told.ask(&["tried=x"]);
    told.ask(&["tried=x"]);
    let samples: Vec<String> = read(&log).iter().map(|line| line["sample"].as_str().unwrap().to_owned()).collect();
    let further = samples.iter().filter(|sample| *sample == "denied_1%").count();
    assert_eq!((samples[0].as_str(), further, samples.len()), ("denied_first", 5, 6), "{samples:?}");
    let later = UnixMicros(NOW.0 + 300 * 1_000_000);
    for _ in 0..3 {
        told.asked
            .limiter
            .decide_now(&request_for("api", &["user=alice"]), later)
            .expect("in memory")
            .expect("decided");
    }
    assert_eq!(read(&log)[0]["sample"], "denied_first", "of the next window");
}

#[test]
fn a_log_that_is_not_read_loses_lines_and_counts_them() {
    let (told, log) = logged("all");
    for _ in 0..20_000 {
        told.ask(&["plan=gold"]);
    }
    let read = read(&log).len() as u64;
    assert_eq!(read + told.feed.log_lines_lost(), 20_000);
    assert!(read > 1_000 && told.feed.log_lines_lost() > 0);
    told.ask(&["plan=gold"]);
    assert!(log.next().is_some(), "there is room again");
}

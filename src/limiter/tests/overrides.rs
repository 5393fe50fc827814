//! Decisions under overrides: what they replace, what stays the rule's, and when they end.

use super::*;
use crate::{
    limit::moment,
    run_time::{
        RunTime,
        fleet::Fleet,
        overrides::{ChangeRequest, Condition, Overrides},
        reset::{CounterStores, Resets},
    },
    store::deferred::DeferredCharges,
};

const RULES: &str = "
domain: api
tiers: {gold: {requests: 5, window: 1m}}
descriptors:
  - key: user
    rate_limit: {name: users, requests: 2, window: 1m}
    overrides:
      - {match: {user: alice}, limit: {tier: gold}}
      - {match: {user: batch}, limit: 1/s}
      - {match: {user: probe}, limit: unlimited}
      - {match: {user: two}, limit: [{name: users, requests: 3, window: 1m}, {name: extra, requests: 9, window: 1h}]}
      - {match: {user: brief}, limit: 5/m, expires: 2027-01-01}
    descriptors:
      - {key: path, value: /x, shadow_mode: true, rate_limit: 1/m}
  - key: vip
    rate_limit: {requests: 9, window: 1s, replaces: [{name: users}]}
  - key: free
    overrides: [{match: {free: x}, limit: 1/m}]
overrides:
  - {match: {path: /x}, limit: 2/m}
";

fn passes(asked: &Asked, text: &str, at: UnixMicros) -> usize {
    (0..20).take_while(|_| asked.ask_at(descriptor(text), at).overall == Code::Ok).count()
}

#[test]
fn an_override_takes_the_place_of_the_rules_limit_for_its_values_alone() {
    let asked = asked(RULES, MODES);
    let pass = ["user=bob", "user=alice", "user=batch", "user=probe", "user=two", "free=x", "free=y"]
        .map(|text| passes(&asked, text, NOW));
    assert_eq!(pass, [2, 5, 1, 20, 3, 1, 20]);
    let metrics = asked.metrics();
    let count = |limit: &str, result: &str| {
        let row = format!(r#"tollgate_decisions_total{{domain="api",limit="{limit}",result="{result}"}} "#);
        metrics.lines().find_map(|line| line.strip_prefix(&row)?.parse::<u32>().ok())
    };
    // 2 + 5 + 1 + 3 passed under the limit whose place overrides take; what takes no limit's place is apart.
    assert_eq!(count("api/user#users", "ok"), Some(11));
    assert_eq!(count("api/(override)", "ok"), Some(4 + 1));
    assert!(metrics.contains(r#"tollgate_override_file_rows{domain="api"} 7"#), "{metrics}");
}

#[test]
fn the_rules_name_shadow_replaces_and_policy_stay() {
    let asked = asked(RULES, Modes { notes: true, ..MODES });
    let alice = asked.ask(&["user=alice"]);
    let shown = alice.statuses[0].limit.as_ref().expect("a limit");
    assert_eq!((shown.requests, shown.name.as_str()), (5, "users"));
    let note = &alice.notes.as_ref().expect("notes are on").descriptors[0];
    assert_eq!(
        (note.limit_id.as_deref(), note.overridden.as_ref().map(|it| &*it.text)),
        (Some("api/user#users"), Some("user=alice"))
    );
    assert_eq!(passes(&asked, "user=bob,path=/x", NOW), 20, "the rule is a shadow");
    let replaced = asked.ask(&["user=alice", "vip=1"]);
    assert!(replaced.statuses[0].limit.is_none(), "the name that is replaced is the rule's");

    let yaml = "
domain: api
descriptors:
  - key: user
    on_store_failure: closed
    rate_limit: 9/m
    overrides:
      - {match: {user: a}, limit: 5/m}
      - {match: {user: b}, limit: {requests: 5, window: 1m, on_store_failure: open}}
";
    let asked = super::asked(yaml, MODES);
    let policy = |user: &'static str| {
        let snapshot = asked.limiter.snapshot();
        let request = request_for("api", &[user]);
        let plan = planned(&snapshot, &request, MODES);
        let PlannedDescriptor::Ruled { applied: counted, .. } = plan.descriptors[0] else { panic!("a limit applies") };
        counted.policies(MODES.on_store_failure).collect::<Vec<_>>()
    };
    assert_eq!((policy("user=a"), policy("user=b")), (vec![FailurePolicy::Closed], vec![FailurePolicy::Open]));
}

#[test]
fn the_count_goes_on_under_an_override_of_the_same_window() {
    let yaml = "
domain: api
descriptors:
  - key: user
    rate_limit: 5/m
    overrides: [{match: {user: brief}, limit: 2/m, expires: 2027-01-01}]
";
    let asked = asked(yaml, MODES);
    let end = moment::parse("2027-01-01").expect("a date");
    let before = UnixMicros(end.0 - 1);
    assert_eq!(passes(&asked, "user=brief", before), 2, "a microsecond before its end it holds");
    assert_eq!(passes(&asked, "user=brief", end), 3, "at its end the rule's limit does, with the two counted");
}

#[test]
fn a_limit_in_the_request_beats_an_override_on_disk() {
    let asked = asked(RULES, MODES);
    let own = || Descriptor { limit: Some((1, Unit::Day)), ..descriptor("user=probe") };
    let answers = [0, 1].map(|_| asked.ask_at(own(), NOW).overall);
    assert_eq!(answers, [Code::Ok, Code::OverLimit]);
}

/// By these rules, with run-time overrides: users, what they are granted, and until when.
pub(super) fn with_run_time(yaml: &str, rows: &[(&str, &str, Option<&str>)]) -> Asked {
    let Asked { limiter } = asked(yaml, MODES);
    let overrides = Arc::new(Overrides::in_process(None).expect("in memory it can't fail"));
    overrides.prepare(&limiter.snapshot().rules);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for (user, limit, expires) in rows {
        let expires = expires.map(|expires| format!(r#","expires":"{expires}""#)).unwrap_or_default();
        let written = format!(r#"{{"match":{{"user":"{user}"}},"limit":"{limit}"{expires}}}"#);
        let record = format!(r#"{{"override":{written},"limits":[],"by":"ops","at":1}}"#);
        let (record, condition) = (Some(&*record), Condition::None);
        let change = ChangeRequest { domain: "api", id: user, record, condition, token: "ops", reason: "" };
        runtime.block_on(overrides.write(&change, NOW)).expect("it is kept in memory");
    }
    let fallback = Arc::new(Memory::new(MemorySettings::default()));
    let deferred = Arc::new(DeferredCharges::new(UnixMicros(0)));
    let resets = Resets { stores: CounterStores::Memory(Arc::clone(&fallback)), fallback, deferred };
    Asked {
        limiter: limiter.with_run_time(RunTime {
            overrides,
            resets,
            fleet: Arc::new(Fleet::of_one("test")),
            reloads: Arc::default(),
        }),
    }
}

#[test]
fn a_run_time_override_ends_at_its_exact_moment_by_itself() {
    let yaml = "
domain: api
descriptors:
  - key: user
    rate_limit: 5/m
    overrides: [{match: {user: both}, limit: 4/m}]
";
    let end = "2027-01-01T00:00:00.000001Z";
    let asked =
        with_run_time(yaml, &[("brief", "2/m", Some(end)), ("both", "2/m", Some(end)), ("for good", "2/m", None)]);
    let end = moment::parse(end).expect("a moment");
    let pass = |at| ["user=brief", "user=both", "user=for good"].map(|user| passes(&asked, user, at));
    assert_eq!(pass(UnixMicros(end.0 - 1)), [2, 2, 2], "a microsecond before its end it holds");
    // The counts go on: two of each are taken already.
    assert_eq!(pass(end), [3, 2, 0], "at its end the rule's limit does, or the override on disk");
}

#[test]
fn run_time_beats_the_request_beats_the_disk_beats_the_rule() {
    let yaml = "
domain: api
descriptors:
  - key: user
    rate_limit: 2/m
    overrides: [{match: {user: on-disk}, limit: 3/m}, {match: {user: both}, limit: 3/m}]
";
    let rows = [("set", "5/m", None), ("both", "5/m", None), ("ended", "5/m", Some("2001-01-01"))];
    let asked = with_run_time(yaml, &rows);
    for (user, in_request, expected) in [
        ("user=nobody", None, 2),
        ("user=on-disk", None, 3),
        ("user=nobody", Some(4), 4),
        ("user=on-disk", Some(4), 4),
        ("user=set", None, 5),
        ("user=set", Some(4), 5),
        ("user=both", None, 5),
        ("user=both", Some(4), 5),
        ("user=ended", None, 2),
        ("user=ended", Some(4), 4),
    ] {
        let limit = in_request.map(|requests| (requests, Unit::Minute));
        let decision = asked.ask_at(Descriptor { limit, ..descriptor(user) }, NOW);
        let shown = decision.statuses[0].limit.as_ref().map(|limit| limit.requests);
        assert_eq!(shown, Some(expected), "{user}, {in_request:?} in the request");
    }
}

mod charges;
mod feed;
mod overrides;
mod reference;
mod retries;
mod shares;
mod switches;
mod top;
mod without_a_store;

use std::path::PathBuf;

use smallvec::smallvec;
use tokio::time::Instant;

use super::{plan::PlanInputs, *};
use crate::{
    limit::{
        Algorithm, Code, CountDenied, DESCRIPTORS_MAX, Descriptor, ENTRIES_MAX, Entry, HITS_MAX, Limit, Micros, Origin,
        Unit,
    },
    rules::{self, Defaults, LoadedTexts, Source, Sources},
    store::memory::{Memory, MemorySettings},
};

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

/// A limiter on the memory store, and how it is asked.
struct Asked {
    limiter: Limiter,
}

const MODES: Modes = Modes {
    shadow: false,
    quota: false,
    algorithm: Algorithm::SlidingWindow,
    count_denied: CountDenied::Auto,
    on_store_failure: FailurePolicy::Local,
    notes: false,
};

fn asked(yaml: &str, modes: Modes) -> Asked {
    asked_with(yaml, modes, Defaults::default())
}

fn asked_with(yaml: &str, modes: Modes, defaults: Defaults) -> Asked {
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.as_bytes().to_vec() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &defaults, None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    let meters = Meters::new(&load.rules, None);
    let budgets = Budgets::new(&load.rules, None);
    let (rules, problems, kept) = (load.rules, load.problems, load.kept_domains);
    let snapshot = Snapshot {
        version: 1,
        rules,
        meters,
        budgets,
        problems,
        kept_domains: kept,
        texts: LoadedTexts::default(),
        loaded_at: NOW,
    };
    let memory = || Arc::new(Memory::new(MemorySettings::default()));
    let store = Store::Memory(memory());
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let degraded = Arc::new(Fallback::new(memory(), 1));
    Asked { limiter: Limiter::new(snapshot, store, degraded, modes, Arc::new(Metrics::default())) }
}

fn descriptor(text: &str) -> Descriptor<'_> {
    let entries = text.split(',').filter_map(|entry| entry.split_once('=')).map(|(key, value)| Entry { key, value });
    Descriptor { entries: entries.collect(), ..Descriptor::default() }
}

/// A request of Envoy's for one hit.
fn request_for<'a>(domain: &'a str, descriptors: &[&'a str]) -> Request<'a> {
    let descriptors = descriptors.iter().map(|text| descriptor(text)).collect();
    Request { domain, descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy }
}

/// A request matched by the rules alone.
fn planned<'r>(snapshot: &'r Snapshot, request: &'r Request<'_>, modes: Modes) -> Plan<'r> {
    let mut plan = Plan::new(modes);
    let Snapshot { rules, budgets, .. } = snapshot;
    plan.fill(request, PlanInputs { rules, changes: None, budgets, now: NOW }, modes, || NOW).expect("well formed");
    plan
}

/// A decision about this domain panics, in tests alone.
pub(crate) const PANICS: &str = "panics";

pub(super) fn panic_if_asked_to(request: &Request<'_>) {
    assert!(request.domain != PANICS, "as the test wants it");
}

/// A limiter on the memory store.
pub(crate) fn limiter(yaml: &str) -> Limiter {
    asked(yaml, MODES).limiter
}

impl Asked {
    fn request(&self, request: &Request<'_>) -> Result<Decision, DecideError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let deadline = Instant::now() + std::time::Duration::from_secs(1);
            self.limiter.decide(request, NOW, deadline).await
        })
    }

    fn ask_at(&self, descriptor: Descriptor<'_>, now: UnixMicros) -> Decision {
        let request = Request {
            domain: "api",
            descriptors: smallvec![descriptor],
            hits: 1,
            caller_limit: None,
            origin: Origin::Envoy,
        };
        let decided = self.limiter.decide_now(&request, now).expect("it counts in memory");
        decided.expect("well formed")
    }

    fn ask(&self, descriptors: &[&'static str]) -> Decision {
        self.request(&request_for("api", descriptors)).expect("well formed")
    }

    fn overall(&self, descriptors: &[&'static str]) -> Code {
        self.ask(descriptors).overall
    }

    fn metrics(&self) -> String {
        let snapshot = self.limiter.snapshot();
        self.limiter.metrics().render(&snapshot.rules, &snapshot.meters)
    }
}

const USERS: &str = "
domain: api
descriptors:
  - {key: user, rate_limit: {unit: minute, requests_per_unit: 2}}
  - {key: user, value: root, rate_limit: {unlimited: true}}
  - {key: user, value: probe}
  - {key: path, rate_limit: {unit: hour, requests_per_unit: 1}}
";

#[test]
fn the_third_hit_of_two_is_over_limit_for_that_user_alone() {
    let asked = asked(USERS, MODES);
    assert_eq!([0, 1, 2].map(|_| asked.overall(&["user=alice"])), [Code::Ok, Code::Ok, Code::OverLimit]);
    assert_eq!(asked.overall(&["user=bob"]), Code::Ok);
}

#[test]
fn a_denied_request_charges_none_of_its_limits() {
    let asked = asked(USERS, MODES);
    assert_eq!(asked.overall(&["path=/a"]), Code::Ok);
    let denied = asked.ask(&["user=alice", "path=/a"]);
    assert_eq!(denied.overall, Code::OverLimit);
    assert_eq!((denied.statuses[0].code, denied.statuses[0].remaining), (Code::Ok, 2));
    assert_eq!((denied.statuses[1].code, denied.statuses[1].remaining), (Code::OverLimit, 0));
    assert_eq!(asked.ask(&["user=alice"]).statuses[0].remaining, 1);
}

#[test]
fn what_no_limit_covers_is_ok_and_says_so() {
    let asked = asked(USERS, MODES);
    let decision = asked.ask(&["user=root", "user=probe", "nobody=x"]);
    assert_eq!(decision.overall, Code::Ok);
    assert_eq!(decision.statuses.iter().map(|s| s.remaining).collect::<Vec<_>>(), [u32::MAX, 0, 0]);
    assert!(decision.statuses.iter().all(|s| s.limit.is_none() && s.reset.is_none()));
    let elsewhere = request_for("elsewhere", &["user=a"]);
    assert_eq!(asked.request(&elsewhere).expect("well formed").overall, Code::Ok);
    let metrics = asked.metrics();
    assert!(metrics.contains(r#"tollgate_unmatched_descriptors_total{domain="api",keys="nobody"} 1"#), "{metrics}");
    assert!(metrics.contains("tollgate_unknown_domain_requests_total 1"), "{metrics}");
}

#[test]
fn a_limit_in_the_request_beats_the_rule_but_not_in_an_unknown_domain() {
    let asked = asked(USERS, MODES);
    let with_limit = |domain| {
        let descriptor = Descriptor { limit: Some((1, Unit::Day)), ..descriptor("user=root") };
        Request { domain, descriptors: smallvec![descriptor], hits: 1, caller_limit: None, origin: Origin::Envoy }
    };
    let answers = [0, 1].map(|_| asked.request(&with_limit("api")).expect("well formed"));
    assert_eq!(answers.each_ref().map(|a| a.overall), [Code::Ok, Code::OverLimit]);
    let shown = answers[0].statuses[0].limit.as_ref().expect("a limit");
    assert_eq!((shown.requests, shown.unit, shown.name.as_str()), (1, Some(Unit::Day), ""));
    for _ in 0..3 {
        assert_eq!(asked.request(&with_limit("elsewhere")).expect("well formed").overall, Code::Ok);
    }
}

#[test]
fn a_rule_that_is_replaced_in_this_request_neither_counts_nor_shows() {
    let asked = asked(
        "
domain: api
descriptors:
  - {key: user, rate_limit: {name: users, unit: minute, requests_per_unit: 1}}
  - {key: vip, rate_limit: {unit: minute, requests_per_unit: 5, replaces: [{name: users}]}}
",
        MODES,
    );
    for _ in 0..3 {
        let decision = asked.ask(&["user=alice", "vip=alice"]);
        assert_eq!(decision.overall, Code::Ok);
        assert!(decision.statuses[0].limit.is_none());
    }
    assert_eq!(asked.overall(&["user=alice"]), Code::Ok);
    assert_eq!(asked.overall(&["user=alice"]), Code::OverLimit);
}

#[test]
fn a_limit_in_the_request_silences_its_rule_and_shares_the_rules_counter() {
    let asked = asked(
        "
domain: api
descriptors:
  - {key: user, rate_limit: {name: users, unit: minute, requests_per_unit: 1}}
  - key: vip
    value: gold
    descriptors: [{key: id, rate_limit: {unit: minute, requests_per_unit: 5, replaces: [{name: users}]}}]
",
        MODES,
    );
    let own = Descriptor { limit: Some((9, Unit::Minute)), ..descriptor("vip=gold,id=7") };
    let descriptors = smallvec![descriptor("user=alice"), own, descriptor("vip=gold,id=7")];
    let request = Request { domain: "api", descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy };
    let snapshot = asked.limiter.snapshot();
    let plan = planned(&snapshot, &request, MODES);
    let keys = plan.checks.iter().map(|check| (check.key.shared.iter().flatten().count(), check.key.variable));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        [(0, 1), (0, 1)],
        "user is replaced by the rule; the other two share a counter"
    );

    let descriptors = request.descriptors[..2].iter().cloned().collect();
    let decision = asked.request(&Request { descriptors, ..request }).expect("well formed");
    assert!(decision.statuses[0].limit.is_some(), "a rule that a request's own limit beats replaces nothing");
}

#[test]
fn shadow_rules_count_and_report_but_never_deny() {
    let yaml = "
domain: api
descriptors:
  - {key: user, shadow_mode: true, rate_limit: {unit: minute, requests_per_unit: 1}}
";
    let asked = asked(yaml, MODES);
    let answers = [0, 1].map(|_| asked.ask(&["user=alice"]));
    assert!(answers.iter().all(|a| a.overall == Code::Ok && a.statuses[0].code == Code::Ok));
    let metrics = asked.metrics();
    let expected = r#"tollgate_decisions_total{domain="api",limit="api/user",result="shadow"} 1"#;
    assert!(metrics.contains(expected), "{metrics}");
}

#[test]
fn quota_rules_deny_only_when_all_of_the_request_are_used_up() {
    let yaml = "
domain: api
descriptors:
  - {key: a, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: b, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 2}}
";
    let asked = asked(yaml, MODES);
    let answers = [0, 1, 2].map(|_| asked.overall(&["a=1", "b=1"]));
    assert_eq!(answers, [Code::Ok, Code::Ok, Code::OverLimit]);
}

#[test]
fn global_shadow_mode_answers_ok_and_keeps_the_statuses() {
    let asked = asked(USERS, Modes { shadow: true, ..MODES });
    let last = [0, 1, 2].map(|_| asked.ask(&["user=alice"]))[2].clone();
    assert_eq!((last.overall, last.statuses[0].code), (Code::Ok, Code::OverLimit));
}

#[test]
fn global_quota_mode_is_open_while_any_descriptor_has_no_limit() {
    let asked = asked(USERS, Modes { quota: true, ..MODES });
    for _ in 0..4 {
        assert_eq!(asked.overall(&["path=/a", "nobody=x"]), Code::Ok);
    }
    assert_eq!(asked.overall(&["path=/a"]), Code::OverLimit);
}

#[test]
fn requests_that_say_too_little_or_too_much_are_refused() {
    let asked = asked(USERS, MODES);
    fn request<'a>(asked: &Asked, domain: &'a str, descriptors: &[Descriptor<'a>]) -> Result<Decision, DecideError> {
        asked.request(&Request {
            domain,
            descriptors: descriptors.iter().cloned().collect(),
            hits: 1,
            caller_limit: None,
            origin: Origin::Envoy,
        })
    }
    assert_eq!(request(&asked, "", &[descriptor("user=a")]), Err(DecideError::EmptyDomain));
    assert_eq!(request(&asked, "api", &[]), Err(DecideError::NoDescriptors));
    let many = request(&asked, "api", &vec![descriptor("user=a"); DESCRIPTORS_MAX]).expect("as many as may be");
    assert_eq!((many.overall, many.statuses.len()), (Code::OverLimit, DESCRIPTORS_MAX));
    let text = format!("user={}", "x".repeat(4 << 20));
    assert!(request(&asked, "api", &[descriptor("user=a"), descriptor(&text)]).is_ok());
    let nothing = |number| vec![descriptor("nobody=x"); number];
    assert!(request(&asked, "api", &nothing(DESCRIPTORS_MAX)).is_ok());
    assert_eq!(request(&asked, "api", &nothing(DESCRIPTORS_MAX + 1)), Err(DecideError::TooManyDescriptors));
    let entry = Entry { key: "nobody", value: "x" };
    let wide = |number| [Descriptor { entries: std::iter::repeat_n(entry, number).collect(), hits: None, limit: None }];
    assert!(request(&asked, "api", &wide(ENTRIES_MAX)).is_ok());
    assert_eq!(request(&asked, "api", &wide(ENTRIES_MAX + 1)), Err(DecideError::TooManyEntries));
}

#[test]
fn before_there_are_rules_every_request_is_an_error_and_none_passes() {
    let mut limiter = asked("domain: api", MODES).limiter;
    let load = rules::load(&Sources::default(), &Defaults::default(), None);
    let meters = Meters::new(&load.rules, None);
    let budgets = Budgets::new(&load.rules, None);
    let (rules, problems, kept) = (load.rules, load.problems, load.kept_domains);
    let nothing = Snapshot {
        version: 0,
        rules,
        meters,
        budgets,
        problems,
        kept_domains: kept,
        texts: LoadedTexts::default(),
        loaded_at: NOW,
    };
    limiter.snapshot = Arc::new(ArcSwap::from_pointee(nothing));
    let request = request_for("api", &["user=alice"]);
    let decided = Asked { limiter }.request(&request);
    assert_eq!(decided.map(|decision| decision.overall), Err(DecideError::NoRules));
}

mod several_limits {
    use super::*;

    const SEVERAL: &str = "
domain: api
descriptors:
  - key: user
    rate_limit:
      - {name: short, requests: 2, window: 1s}
      - {name: long, requests: 3, window: 1h}
      - {name: candidate, requests: 1, window: 1h, enforce: false}
  - {key: vip, rate_limit: {requests: 9, window: 1s, replaces: [{name: long}]}}
  - {key: all, rate_limit: {requests: 9, window: 1s, replaces: [{name: long}, {name: short}, {name: candidate}]}}
";

    fn shown(decision: &Decision) -> (Code, &str, u32) {
        let status = &decision.statuses[0];
        (status.code, status.limit.as_ref().map_or("", |limit| limit.name.as_str()), status.remaining)
    }

    #[test]
    fn all_must_admit_and_the_status_tells_of_the_nearest_then_of_the_longest_wait() {
        let asked = asked(SEVERAL, MODES);
        let answers = [0, 1, 2].map(|_| asked.ask(&["user=alice"]));
        assert_eq!(
            answers.each_ref().map(shown),
            [(Code::Ok, "short", 1), (Code::Ok, "short", 0), (Code::OverLimit, "short", 0)]
        );
        let looks = Descriptor { hits: Some(2), ..descriptor("user=alice") };
        let both = asked
            .request(&Request {
                domain: "api",
                descriptors: smallvec![looks],
                hits: 1,
                caller_limit: None,
                origin: Origin::Envoy,
            })
            .expect("decided");
        assert_eq!(shown(&both), (Code::OverLimit, "long", 0), "both refuse two hits; the hour waits longest");
        let metrics = asked.metrics();
        for (limit, result, count) in [("short", "ok", 2), ("short", "over_limit", 2), ("candidate", "shadow", 3)] {
            let row = format!(
                r#"tollgate_decisions_total{{domain="api",limit="api/user#{limit}",result="{result}"}} {count}"#
            );
            assert!(metrics.contains(&row), "{row}\n{metrics}");
        }
    }

    #[test]
    fn what_is_denied_by_one_charges_none() {
        let asked = asked(SEVERAL, MODES);
        for _ in 0..5 {
            asked.ask(&["user=alice"]);
        }
        let alone = asked.ask(&["user=alice", "vip=1"]);
        assert_eq!(alone.overall, Code::OverLimit, "short still refuses");
        let snapshot = asked.limiter.snapshot();
        let request = Request { hits: 0, ..request_for("api", &["user=alice"]) };
        let mut plan = planned(&snapshot, &request, MODES);
        plan.checks.iter_mut().for_each(|check| check.cost.hits = 0);
        let Store::Memory(memory) = &asked.limiter.store else { panic!("it counts in memory") };
        let remaining: Vec<u64> = memory.apply(&plan.checks, plan.gate, NOW).iter().map(|it| it.remaining).collect();
        assert_eq!(remaining, [0, 1, 0], "two passed, whatever was refused");
    }

    #[test]
    fn one_of_them_can_be_replaced() {
        let asked = asked(SEVERAL, MODES);
        let snapshot = asked.limiter.snapshot();
        let names = |descriptors: &[&'static str]| {
            let request = request_for("api", descriptors);
            let plan = planned(&snapshot, &request, MODES);
            let PlannedDescriptor::Ruled { applied: counted, .. } = &plan.descriptors[0] else {
                return vec!["free".to_owned()];
            };
            counted.limits().map(|limit| limit.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["user=a", "vip=1"]), ["api/user#short", "api/user#candidate"]);
        assert_eq!(names(&["user=a", "all=1"]), ["free"]);
    }
}

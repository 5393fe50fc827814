//! What the limits' policies answer, and charge, where the store can't.

use super::*;
use crate::store::deferred::DeferredCharges;

const POLICIES: &str = "
domain: api
descriptors:
  - {key: open, on_store_failure: open, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: closed, on_store_failure: closed, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: local, on_store_failure: local, rate_limit: {unit: minute, requests_per_unit: 4}}
  - {key: error, on_store_failure: error, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: quota_open, quota_mode: true, on_store_failure: open, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: quota_closed, quota_mode: true, on_store_failure: closed, rate_limit: {unit: minute, requests_per_unit: 1}}
  - {key: quota_local, quota_mode: true, on_store_failure: local, rate_limit: {unit: minute, requests_per_unit: 1}}
";

/// Two replicas, and a store that never answers.
fn answers(
    degraded: &Fallback,
    snapshot: &Snapshot,
    descriptors: &[&'static str],
    modes: Modes,
) -> Result<Decision, StoreError> {
    let request = request_for("api", descriptors);
    let plan = planned(snapshot, &request, modes);
    let failure = StoreError::Unreachable("gone".into());
    let (readings, policies) = degraded.answer(&plan, modes.on_store_failure, failure, NOW)?;
    Ok(judge::judge(&plan, &readings, &policies))
}

#[test]
fn each_limit_is_answered_by_its_policy() {
    let asked = asked(POLICIES, MODES);
    let snapshot = asked.limiter.snapshot();
    let degraded = Fallback::new(Arc::new(Memory::new(MemorySettings::default())), 2);
    let answers = |descriptors: &[&'static str]| answers(&degraded, &snapshot, descriptors, MODES);
    let open = answers(&["open=1"]).expect("open answers");
    assert_eq!((open.overall, open.statuses[0].limit.is_none()), (Code::Ok, true));
    assert_eq!(open.failure_policy, Some(FailurePolicy::Open));
    let closed = answers(&["closed=1"]).expect("closed answers");
    assert_eq!((closed.overall, closed.statuses[0].reset), (Code::OverLimit, Some(Micros(1_000_000))));
    assert!(answers(&["error=1"]).is_err());
    let local: Vec<_> = (0..3).map(|_| answers(&["local=1"]).expect("local answers").overall).collect();
    assert_eq!(local, [Code::Ok, Code::Ok, Code::OverLimit], "a limit of 4 is 2 for each of two replicas");
}

#[test]
fn a_definite_denial_beats_closed_beats_error_beats_open() {
    let asked = asked(POLICIES, MODES);
    let snapshot = asked.limiter.snapshot();
    let degraded = Fallback::new(Arc::new(Memory::new(MemorySettings::default())), 4);
    let answers = |descriptors: &[&'static str]| answers(&degraded, &snapshot, descriptors, MODES);
    assert_eq!(answers(&["closed=1", "error=1", "open=1"]).expect("denied").overall, Code::OverLimit);
    assert!(answers(&["error=1", "open=1", "local=1"]).is_err());
    let first = answers(&["local=1"]).expect("not charged by what was refused");
    assert_eq!(first.overall, Code::Ok);
    assert_eq!(answers(&["error=1", "local=1"]).expect("local denies").overall, Code::OverLimit);
}

/// What is answered to as many of these as say so, and the counters that owe something for it.
fn outage<const N: usize>(descriptors: &[&'static str], modes: Modes) -> ([Code; N], usize) {
    let asked = asked(POLICIES, modes);
    let snapshot = asked.limiter.snapshot();
    let degraded = Fallback::new(Arc::new(Memory::new(MemorySettings::default())), 1);
    let answer = |_| answers(&degraded, &snapshot, descriptors, modes).expect("no policy is error").overall;
    (std::array::from_fn(answer), degraded.deferred.counters())
}

#[test]
fn requests_that_a_closed_quota_lets_pass_are_charged_to_the_others() {
    let once = [Code::Ok, Code::OverLimit, Code::OverLimit];
    assert_eq!(outage(&["quota_closed=1", "quota_local=1"], MODES), (once, 1));
    assert_eq!(outage(&["quota_local=1", "quota_closed=1"], MODES), (once, 1));
    let four = [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::OverLimit];
    // What has no limit is a quota that is never used up.
    let all_quotas = Modes { quota: true, ..MODES };
    assert_eq!(outage(&["quota_closed=1", "nobody=x", "local=1"], all_quotas), ([Code::Ok; 5], 1));
    assert_eq!(outage(&["quota_closed=1", "quota_open=1", "local=1"], MODES), (four, 1));
}

#[test]
fn requests_that_closed_limits_refuse_are_charged_to_no_other() {
    assert_eq!(outage(&["quota_closed=1", "local=1"], MODES), ([Code::OverLimit; 5], 0));
    assert_eq!(outage(&["closed=1", "quota_local=1", "quota_open=1"], MODES), ([Code::OverLimit; 5], 0));
    // Global SHADOW_MODE charges as if nothing were refused.
    let shadow = Modes { shadow: true, ..MODES };
    assert_eq!(outage(&["closed=1", "local=1"], shadow), ([Code::Ok; 2], 1));
}

#[test]
fn a_refused_cost_is_charged_here_and_owed_to_the_store_only_where_the_limit_is_a_budget() {
    for is_budget in [false, true] {
        let asked = asked("domain: api\ndescriptors: [{key: user, rate_limit: 2/m}]", MODES);
        let snapshot = asked.limiter.snapshot();
        let (memory, deferred) =
            (Arc::new(Memory::new(MemorySettings::default())), Arc::new(DeferredCharges::new(NOW)));
        let degraded = Fallback::with_deferred(memory, Replicas::new(Some(1)), Arc::clone(&deferred));
        let put = |hits| {
            let descriptors = smallvec![Descriptor { hits: Some(hits), ..descriptor("user=a") }];
            let request = Request { domain: "api", descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy };
            let plan = planned(&snapshot, &request, MODES);
            let failure = StoreError::Unreachable("gone".into());
            let (readings, _) = degraded.answer(&plan, MODES.on_store_failure, failure, NOW).expect("it counts here");
            readings[0].admitted
        };
        if is_budget {
            assert!(put(0), "a look");
        }
        assert!(!put(5));
        assert_eq!(deferred.counters(), usize::from(is_budget));
        assert_eq!(put(2), !is_budget);
    }
}

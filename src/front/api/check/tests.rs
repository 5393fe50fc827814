use std::sync::Arc;

use crate::{
    limit::FailurePolicy,
    limiter::{Note, Notes, ShownLimit},
};

use super::*;

/// A descriptor's status: the id of its limit, whether it is a quota, and what was answered.
fn decision(overall: Code, statuses: &[(&str, bool, Code, u32, u64)]) -> Decision {
    let note = |(id, ..): &(&str, bool, Code, u32, u64)| Note {
        limit_id: Some(Arc::from(*id)),
        window: Some(Micros(60_000_000)),
        ..Note::default()
    };
    let notes = Notes { rules_version: 1, descriptors: statuses.iter().map(note).collect() };
    let status = |&(_, quota, code, remaining, reset): &(&str, bool, Code, u32, u64)| Status {
        code,
        quota,
        limit: Some(ShownLimit { requests: 10, unit: None, name: String::new() }),
        remaining,
        reset: Some(Micros(reset)),
    };
    Decision {
        overall,
        statuses: statuses.iter().map(status).collect(),
        failure_policy: None,
        notes: Some(Box::new(notes)),
    }
}

fn told(decision: &Decision) -> Vec<String> {
    answer(decision).policies.into_iter().map(|policy| policy.limit_id).collect()
}

#[test]
fn a_refusal_tells_of_the_longest_wait_that_denied_and_an_admission_of_the_least_remaining() {
    let (ok, over) = (Code::Ok, Code::OverLimit);
    let refused = decision(over, &[("a", false, ok, 0, 9), ("b", false, over, 0, 5), ("c", false, over, 0, 7)]);
    assert_eq!(told(&refused), ["c", "b", "a"]);
    let answered = answer(&refused).answer;
    assert_eq!((answered.allowed, answered.retry_after_seconds), (false, Some(7e-6)));
    let admitted = decision(ok, &[("a", false, ok, 3, 9), ("b", false, ok, 2, 5)]);
    assert_eq!(told(&admitted), ["b", "a"]);
    assert_eq!(answer(&admitted).answer.retry_after_seconds, None);
    // A quota that refuses has no say where another limit denies.
    let quota = decision(over, &[("q", true, over, 0, 90), ("a", false, over, 0, 5)]);
    assert_eq!(told(&quota), ["a", "q"]);
    // and none at all where another quota admits.
    assert_eq!(told(&decision(ok, &[("q", true, over, 0, 90), ("p", true, ok, 4, 5)])), ["q", "p"]);
}

#[test]
fn one_limit_is_told_of_once_with_its_tightest_counter() {
    let twice = decision(Code::Ok, &[("a", false, Code::Ok, 5, 1), ("a", false, Code::Ok, 2, 1)]);
    let checked = answer(&twice);
    assert_eq!((checked.policies.len(), checked.answer.remaining), (1, Some(2)));
}

#[test]
fn what_answered_in_the_stores_place_is_named_and_no_limit_is_no_number() {
    let free = Decision { failure_policy: Some(FailurePolicy::Open), ..decision(Code::Ok, &[]) };
    let wanted = CheckResponse { allowed: true, degraded: "open".into(), ..CheckResponse::default() };
    assert_eq!(answer(&free), CheckAnswer { answer: wanted, policies: vec![] });
}

#[test]
fn a_check_of_countless_empty_descriptors_is_refused_in_few_words() {
    let request = CheckRequest { descriptors: vec![Descriptor::default(); 100_000], ..CheckRequest::default() };
    let Err(ApiError::Invalid(faults)) = full_form_only(&request) else { panic!("it is refused") };
    assert_eq!(faults.len(), 1 + DESCRIPTORS_MAX);
    assert_eq!(faults[0].what, "a check has at most 256");
}

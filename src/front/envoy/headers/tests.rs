use super::*;
use crate::limit::Code;
use crate::{limiter::ShownLimit, settings::LimitHeaders};

/// A descriptor with a limit, in whole seconds.
fn status(code: Code, quota: bool, requests: u32, remaining: u32, reset: u64) -> Status {
    let limit = Some(ShownLimit { requests, unit: None, name: String::new() });
    Status { code, quota, limit, remaining, reset: Some(Micros(reset * 1_000_000)) }
}

const FREE: Status = Status { code: Code::Ok, quota: false, limit: None, remaining: 0, reset: None };

fn told(overall: Code, statuses: &[Status]) -> Vec<(String, String)> {
    let names = LimitHeaders { limit: "L".into(), remaining: "Rem".into(), reset: "Res".into() };
    let settings = ResponseSettings {
        limit_headers: Some(names),
        retry_after_header: Some("Retry-After".into()),
        dynamic_metadata: false,
    };
    let decision =
        Decision { overall, statuses: statuses.iter().cloned().collect(), failure_policy: None, notes: None };
    headers(&decision, &settings).into_iter().map(|header| (header.key, header.value)).collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
}

#[test]
fn the_first_with_least_remaining_is_told_of_while_nothing_denies() {
    let statuses =
        [FREE, status(Code::Ok, false, 9, 4, 60), status(Code::Ok, false, 5, 3, 7), status(Code::Ok, false, 6, 3, 8)];
    assert_eq!(told(Code::Ok, &statuses), pairs([("L", "5"), ("Rem", "3"), ("Res", "7")]));
}

#[test]
fn the_last_that_denies_by_itself_is_told_of_and_the_longest_wait_of_those() {
    let statuses = [
        status(Code::OverLimit, false, 1, 0, 90),
        status(Code::OverLimit, false, 2, 0, 30),
        status(Code::OverLimit, true, 3, 0, 500),
        status(Code::Ok, false, 4, 0, 900),
    ];
    let expected = pairs([("L", "2"), ("Rem", "0"), ("Res", "30"), ("Retry-After", "90")]);
    assert_eq!(told(Code::OverLimit, &statuses), expected);
}

#[test]
fn quotas_are_told_of_by_what_remains_and_waited_for_where_they_deny_together() {
    let quotas = [status(Code::OverLimit, true, 1, 0, 30), status(Code::OverLimit, true, 2, 0, 90)];
    let expected = pairs([("L", "1"), ("Rem", "0"), ("Res", "30"), ("Retry-After", "90")]);
    assert_eq!(told(Code::OverLimit, &quotas), expected);
    let one_left = [quotas[0].clone(), status(Code::Ok, true, 5, 5, 10)];
    assert_eq!(told(Code::Ok, &one_left), pairs([("L", "1"), ("Rem", "0"), ("Res", "30")]));
}

#[test]
fn without_a_limit_nothing_is_told() {
    assert_eq!(told(Code::Ok, &[FREE, Status { remaining: u32::MAX, ..FREE }]), []);
}

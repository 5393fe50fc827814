//! Files of test cases: what they say, and what is wrong with them.

use super::*;
use crate::limit::{Code, Micros, SECOND, Unit};

fn read(text: &str) -> (Option<CaseFile>, Problems) {
    CaseFile::read(Source { path: "a.test.yaml".into(), bytes: text.as_bytes().to_vec() })
}

#[track_caller]
fn good_file(text: &str) -> CaseFile {
    let (file, problems) = read(text);
    assert!(problems.is_empty(), "{}", problems.render());
    file.expect("a file without problems")
}

/// The requests of one case.
#[track_caller]
fn requests(list: &str) -> Vec<CaseRequest> {
    let mut file = good_file(&format!("cases: [{{name: x, requests: [{list}]}}]"));
    file.cases.remove(0).requests
}

/// What is said of a request, without its place.
fn wrong(request: &str) -> Vec<String> {
    let (file, problems) = read(&format!("cases: [{{name: x, requests: [{request}]}}]"));
    assert!(file.is_none(), "{request}");
    problems.iter().map(|problem| problem.what.clone()).collect()
}

fn pairs(descriptor: &CaseDescriptor) -> Vec<(&str, &str)> {
    descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect()
}

#[test]
fn a_descriptor_is_written_in_any_of_three_forms() {
    for written in [
        "'user=alice,endpoint=/x'",
        "{user: alice, endpoint: /x}",
        "{entries: {user: alice, endpoint: /x}}",
        "{entries: [user=alice, endpoint=/x]}",
    ] {
        let requests = requests(&format!("{{descriptor: {written}, expect: ok}}"));
        assert_eq!(pairs(&requests[0].descriptors[0]), [("user", "alice"), ("endpoint", "/x")], "{written}");
    }
    // An entry may be called `entries`.
    let requests = requests("{descriptor: {entries: all}, expect: ok}");
    assert_eq!(pairs(&requests[0].descriptors[0]), [("entries", "all")]);
}

#[test]
fn a_descriptor_may_bring_its_own_cost_and_limit() {
    let requests = requests("{descriptor: {entries: {a: b}, hits: -3, limit: 5/minute}, hits: 7, expect: ok}");
    let descriptor = &requests[0].descriptors[0];
    assert_eq!((descriptor.hits, descriptor.limit, requests[0].hits), (Some(-3), Some((5, Unit::Minute)), 7));
}

#[test]
fn time_goes_on_from_the_request_before_or_from_the_start() {
    let requests = requests(
        "{descriptor: a=b, times: 3, every: 10s, expect: ok}, {descriptor: a=b}, {after: 1s, descriptor: a=b}, \
         {at: 1m, descriptor: a=b}",
    );
    let at: Vec<u64> = requests.iter().map(|request| request.at.0 / SECOND.0).collect();
    assert_eq!(at, [0, 20, 21, 60]);
}

#[test]
fn a_case_takes_domain_and_start_from_its_file_unless_it_has_its_own() {
    let rules = load(
        &sources(&[("a.yaml", "{domain: a, descriptors: []}"), ("b.yaml", "{domain: b, descriptors: []}")]),
        &Defaults::default(),
        None,
    )
    .rules;
    let request = "requests: [{descriptor: a=b, expect: ok}]";
    let file = good_file(&format!(
        "domain: a\nstart: 2027-01-01\ncases: [{{name: x, {request}}}, {{name: y, domain: b, start: 2028-01-01, {request}}}]"
    ));
    let domains: Vec<(&str, u64)> = file
        .domains(&rules)
        .expect("both are there")
        .into_iter()
        .map(|(case, domain)| (domain, case.start.0 / SECOND.0))
        .collect();
    assert_eq!(domains, [("a", 1_798_761_600), ("b", 1_830_297_600)]);

    let file = good_file(&format!("cases: [{{name: x, {request}}}, {{name: y, domain: c, {request}}}]"));
    let problems = file.domains(&rules).expect_err("one says none, one says another");
    let located: Vec<&str> = problems.iter().map(|problem| &*problem.what).collect();
    assert_eq!(located, ["case `x` must name its `domain`", "the rules have no domain `c`"]);
    assert_eq!(problems.iter().next().and_then(|problem| problem.hint.as_deref()), Some("the rules have a, b"));
}

#[test]
fn a_wait_in_whole_seconds_is_what_clients_are_told() {
    let (whole, exact) = (ExpectedWait(Micros(62 * SECOND.0)), ExpectedWait(Micros(61_875_000)));
    assert!(whole.matches(Micros(61_875_000)) && exact.matches(Micros(61_875_000)));
    assert!(!whole.matches(Micros(62_000_001)) && !exact.matches(Micros(62_000_000)));
}

#[test]
fn expectations_are_read_in_short_and_at_length() {
    let requests = requests(
        "{descriptor: a=b, expect: OVER_LIMIT}, \
         {descriptor: a=b, times: 9, expect: {admitted: 4, remaining: unlimited, limit: none, reset: 0s}}, \
         {descriptors: [a=b, c=d], expect: {answer: ok, descriptors: [over_limit, {remaining: 3, limit: 'd/c#x'}]}}",
    );
    assert_eq!(requests[0].expected.answer, Some(Code::OverLimit));
    let [status] = &*requests[1].expected.descriptors else { panic!("one descriptor, one status") };
    assert_eq!(
        (requests[1].expected.admitted, status.remaining, &status.limit, status.reset),
        (Some(4), Some(Remaining::Unlimited), &Some(ExpectedLimit::None), Some(ExpectedWait(Micros(0))))
    );
    let [first, second] = &*requests[2].expected.descriptors else { panic!("two") };
    assert_eq!((first.answer, second.remaining), (Some(Code::OverLimit), Some(Remaining::Hits(3))));
    assert_eq!(second.limit, Some(ExpectedLimit::Id("d/c#x".to_owned())));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    for (request, located) in [
        ("{descriptor: user, expect: ok}", &["'user' is no key=value"][..]),
        ("{descriptor: [], expect: ok}", &["a descriptor must have entries"]),
        ("{expect: ok}", &["a request must have a `descriptor`"]),
        ("{descriptor: a=b, descriptors: [a=b], expect: ok}", &["`descriptor` and `descriptors`: write one of them"]),
        ("{descriptor: a=b, expect: okay}", &["there is no answer `okay`: it is ok or over_limit"]),
        ("{descriptor: a=b, expect: {}}", &["nothing is expected here"]),
        ("{descriptor: a=b}", &["case `x` expects nothing, and so can't fail"]),
        ("{descriptor: a=b, expects: ok}", &["unknown key `expects` in a request of a case"]),
        // A word of the rules is as wrong here as any other: ignored, the case would test something else.
        ("{descriptor: a=b, unit: day, expect: ok}", &["unknown key `unit` in a request of a case"]),
        ("{descriptor: a=b, times: 0, expect: ok}", &["`times` must be a whole number from 1 to 1000000, not `0`"]),
        ("{descriptor: a=b, every: 1s, expect: ok}", &["`every` without `times`"]),
        (
            "{descriptor: a=b, times: 2, expect: {admitted: 3}}",
            &["`admitted` must be a whole number from 0 to 2, not `3`"],
        ),
        (
            "{descriptor: a=b, expect: {admitted: 1, answer: ok}}",
            &["`answer` holds for each time, `admitted` counts: write one of them"],
        ),
        ("{at: 1s, after: 1s, descriptor: a=b, expect: ok}", &["`at` and `after` both say when: write one of them"]),
        (
            "{at: 1x, descriptor: a=b, expect: ok}",
            &["`at` has no `1x`: there is no unit `x`: it is us, ms, s, m, h, d or w"],
        ),
        (
            "{at: 2s, descriptor: a=b, expect: ok}, {at: 1s, descriptor: a=b}",
            &["this is before the request above: time only goes forward"],
        ),
        (
            "{descriptors: [a=b, c=d], expect: {remaining: 1}}",
            &["`remaining` of which descriptor? The request has several"],
        ),
        (
            "{descriptors: [a=b, c=d], expect: {descriptors: [ok]}}",
            &["one for each descriptor: the request has 2, and here are 1"],
        ),
        (
            "{descriptor: {entries: {a: b}, limit: 5/90s}, expect: ok}",
            &["`5/90s` is no limit of a request: a request's own limit is in one unit: second, minute, hour, day"],
        ),
        (
            "{descriptor: {entries: {a: b}, hits: many}, expect: ok}",
            &["`hits` must be a whole number from -4294967296 to 4294967296"],
        ),
    ] {
        assert_eq!(wrong(request), located, "{request}");
    }
}

#[test]
fn every_mistake_of_a_file_is_said_at_its_place() {
    let (_, problems) = read("start: tomorrow\ncase: []\ncases:\n  - {name: '', requests: []}\n  - requests: 5\n");
    let located: Vec<String> = problems.iter().map(|it| format!("{}:{} {}", it.line, it.column, it.what)).collect();
    assert_eq!(
        located,
        [
            "1:8 `tomorrow` is no moment: write it as 2027-01-01 or 2027-01-01T08:30:00Z",
            "2:1 unknown key `case` in a case file",
            "4:5 a case must have a `name`",
            "4:26 `requests` is empty",
            "5:5 a case must have a `name`",
            "5:15 `requests` must be a list, not a value",
        ]
    );
    for text in ["", "cases: []", "domain: a", "- a", "cases:\n---\nx: y", "cases: [", "\u{7f}: {"] {
        assert!(read(text).1.has_errors(), "{text:?}");
    }
}

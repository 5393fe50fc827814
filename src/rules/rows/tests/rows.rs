//! Rows as they are written: what each word of them means, and every mistake at its place.

use super::*;
use crate::{
    limit::{FailurePolicy, moment},
    rules::{Problems, json, pen::NodeReader, problem::ProblemCollector, rows::bind::VALUE_MAX},
};

const RULES: &str = "domain: d
tiers: {gold: {requests: 100, window: 1s, algorithm: token_bucket}}
descriptors:
- key: user
  rate_limit: 1/s
  on_store_failure: closed
  descriptors:
  - {key: endpoint, value: /pay, rate_limit: 1/s}
  - {key: file, value: '*.css', share_threshold: true, rate_limit: 1/s}
- {key: plan, rate_limit: 1/s}
- key: k
  value: fixed
  descriptors: [{key: k, descriptors: [{key: k}]}]
";

/// An override of the API as text, which has lines and columns; or what is wrong with it.
fn written(json: &str) -> Result<OverrideRow, Problems> {
    let rules = good(RULES, &[]);
    let (mut report, path) = (ProblemCollector::default(), Path::new("override"));
    let mut reader = NodeReader { report: &mut report, path };
    let root = reader.document(json::parse(json, 1));
    let row = root.and_then(|root| rules.domains()[0].override_at(&mut reader, &root));
    let is_sound = report.errors() == 0;
    row.filter(|_| is_sound).ok_or_else(|| report.finish(std::iter::empty()))
}

/// What is said of an override.
fn refused(json: &str) -> Vec<String> {
    let problems = written(json).expect_err("it is refused");
    problems.iter().map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.what)).collect()
}

#[track_caller]
fn read(json: &str) -> OverrideRow {
    written(json).unwrap_or_else(|problems| panic!("{}", problems.render()))
}

#[test]
fn an_override_that_is_a_value_is_read_as_its_text_and_its_mistakes_have_the_path_of_their_field() {
    let rules = good(RULES, &[]);
    let of_value = |json: &str| rules.domains()[0].read_override(&serde_json::from_str(json).expect("JSON"));
    let good = r#"{"match": {"user": "alice"}, "limit": ["5/s", {"tier": "gold"}], "expires": "2027-01-01"}"#;
    assert_eq!(of_value(good).ok(), Some(read(good)));
    for (json, field) in [
        (r#"{"limit": "5/s"}"#, ""),
        (r#"{"match": {"usr": "a"}, "limit": "5/s"}"#, "match.usr"),
        (r#"{"match": [{"key": "user", "value": ""}], "limit": "5/s"}"#, "match[0].value"),
        (r#"{"match": {"user": "a"}, "limit": ["5/s", {"name": "x", "tier": "glod"}]}"#, "limit[1].tier"),
        (r#"{"match": {"user": "a"}, "limit": "5/s", "rule": "usr"}"#, "rule"),
    ] {
        let problems = of_value(json).expect_err("it is refused");
        let [problem] = problems.iter().as_slice() else { panic!("one problem: {json}") };
        assert_eq!((problem.field.as_deref(), problem.line, problem.column), (Some(field), 0, 0), "{json}");
    }
}

#[test]
fn an_override_of_the_api_is_read_as_a_row_of_a_file() {
    let row = read(
        r#"{"match": {"user": "al\u0069ce"}, "limit": {"tier": "gold", "burst": 7}, "expires": "2027-01-01",
            "reason": "contract 42", "owner": "sales"}"#,
    );
    assert_eq!(row.matches().collect::<Vec<_>>(), [("user", "alice")]);
    assert_eq!((row.shape.scope.clone(), &*row.reason, &*row.owner), (ShapeScope::Domain, "contract 42", "sales"));
    assert_eq!(row.expires, moment::parse("2027-01-01").ok());
    let [limit] = row.limits.limits() else { panic!("one limit") };
    assert_eq!((limit.limit.requests, limit.limit.burst, &*limit.id), (100, 7, "d/(override)"));
    assert_eq!(limit.on_store_failure, None, "the rule's policy stays");
    let own = read(r#"{"match": {"user": "a"}, "limit": {"requests": 5, "window": "1s", "on_store_failure": "open"}}"#);
    assert_eq!(own.limits.limits()[0].on_store_failure, Some(FailurePolicy::Open));
}

#[test]
fn an_override_may_be_for_one_rule() {
    for id in ["user/endpoint=/pay", "d/user/endpoint=/pay"] {
        let row = read(&format!(r#"{{"match": {{"user": "a"}}, "rule": "{id}", "limit": "unlimited"}}"#));
        let ShapeScope::Rule { id, positions } = row.shape.scope else { panic!("it is for a rule") };
        assert_eq!((&*id, positions.as_slice()), ("d/user/endpoint=/pay", &[0][..]));
        assert_eq!(*row.limits, OverrideLimits::Unlimited);
    }
}

#[test]
fn several_limits_may_be_granted() {
    let row = read(r#"{"match": {"user": "a"}, "limit": [{"name": "x", "requests": 5, "window": "1s"}, "100/h"]}"#);
    let limits: Vec<(u32, &str)> =
        row.limits.limits().iter().map(|limit| (limit.limit.requests, limit.name.as_deref().unwrap_or(""))).collect();
    assert_eq!(limits, [(5, "x"), (100, "")]);
}

#[test]
fn a_mistake_is_told_at_its_place() {
    let table = [
        (r#"{"limit": "5/s"}"#, "1:1 an override must have a `match`"),
        (r#"{"match": {"user": "a"}}"#, "1:1 an override must have a `limit`"),
        (r#"{"match": {}, "limit": "5/s"}"#, "1:2 this override names no key: it would be for everybody"),
        (r#"{"match": "alice", "limit": "5/s"}"#, "1:11 `match` must be a map, not a value"),
        (r#"{"match": {"usr": "a"}, "limit": "5/s"}"#, "1:12 no rule of this domain has the key `usr`"),
        (r#"{"match": {"user": ""}, "limit": "5/s"}"#, "1:20 the value of `user` is empty"),
        (r#"{"match": {"user": null}, "limit": "5/s"}"#, "1:20 a value is missing here"),
        (r#"{"match": {"user": ["a"]}, "limit": "5/s"}"#, "1:20 a value of `match` must be text, not a list"),
        (r#"{"match": {"user": "a", "user": "b"}, "limit": "5/s"}"#, "1:25 `user` is named twice"),
        (
            r#"{"match": {"user": "a", "plan": "b"}, "limit": "5/s"}"#,
            "1:2 no rule has `plan` and `user` in one descriptor: this override would never apply",
        ),
        (r#"{"match": {"user": "a"}, "limit": "5"}"#, "1:35 `5` is no limit: it has no `/`"),
        (r#"{"match": {"user": "a"}, "limit": {"tier": "glod"}}"#, "1:44 there is no tier `glod`"),
        (
            r#"{"match": {"user": "a"}, "limit": {"unit": "hour"}}"#,
            "1:35 a limit must have `requests_per_unit`, or `requests`",
        ),
        (
            r#"{"match": {"user": "a"}, "limit": {"requests": -5, "window": "1s"}}"#,
            "1:48 `requests` must be a whole number from 0 to 4294967295, not `-5`",
        ),
        (
            r#"{"match": {"user": "a"}, "limit": {"requests": 5, "window": "0s"}}"#,
            "1:61 `0s` is no window: it must be longer than 0",
        ),
        (r#"{"match": {"user": "a"}, "limit": []}"#, "1:35 this list of limits is empty"),
        (r#"{"match": {"user": "a"}, "limit": "5/s", "expires": "soon"}"#, "1:53 `soon` is no moment"),
        (
            r#"{"match": {"user": "a"}, "limit": "5/s", "until": "2027-01-01"}"#,
            "1:42 unknown key `until` in an override",
        ),
        (r#"{"match": {"user": "a"}, "limit": "5/s", "rule": "usr"}"#, "1:50 domain `d` has no rule `usr`"),
        (r#"{"match": {"plan": "a"}, "limit": "5/s", "rule": "user"}"#, "1:12 this rule's path has no key `plan`"),
        (
            r#"{"match": {"endpoint": "/x"}, "limit": "5/s", "rule": "user/endpoint=/pay"}"#,
            "1:24 `endpoint` is `/pay` in this rule: `/x` never gets here",
        ),
        (
            r#"{"match": {"file": "x.js"}, "limit": "5/s", "rule": "user/file=*.css"}"#,
            "1:20 `file` is `*.css` in this rule: `x.js` never gets here",
        ),
        ("[]", "1:1 an override must be a map, not a list"),
    ];
    for (json, expected) in table {
        assert_eq!(refused(json), [expected], "{json}");
    }
    assert!(refused(r#"{"match": {"user": "a"}, "limit": "5/s""#)[0].contains("not JSON"));
    let long = "x".repeat(VALUE_MAX + 1);
    let located = refused(&format!(r#"{{"match": {{"user": "{long}"}}, "limit": "5/s"}}"#));
    assert_eq!(located, ["1:20 a value of 131073 bytes is longer than 131072"]);
}

/// Who sets an override at run time has no rule file at hand.
#[test]
fn a_rule_that_is_not_there_is_answered_with_those_that_are() {
    let hint = |rule: &str| {
        let json = format!(r#"{{"match": {{"user": "a"}}, "limit": "5/s", "rule": "{rule}"}}"#);
        let problems = written(&json).expect_err("there is no such rule");
        problems.iter().next().and_then(|problem| problem.hint.clone()).expect("a way out").to_string()
    };
    assert_eq!(hint("usr"), "did you mean `user`?");
    assert_eq!(hint("user/file=*.js"), "did you mean `user/file=*.css`?");
    assert_eq!(
        hint("account"),
        "it has user, user/endpoint=/pay, user/file=*.css, plan, k=fixed, k=fixed/k, k=fixed/k/k"
    );
}

#[test]
fn a_key_that_stands_several_times_is_bound_where_it_can_stand() {
    let positions = |json: &str| match read(json).shape.scope {
        ShapeScope::Rule { positions, .. } => positions.to_vec(),
        ShapeScope::Domain => panic!("it is for a rule"),
    };
    let row = |entries: &str, rule: &str| format!(r#"{{"match": [{entries}], "limit": "5/s", "rule": "{rule}"}}"#);
    let [fixed, other] = [r#"{"key": "k", "value": "fixed"}"#, r#"{"key": "k", "value": "x"}"#];
    assert_eq!(positions(&row(other, "k=fixed/k")), [1]);
    assert_eq!(positions(&row(&format!("{fixed}, {other}"), "k=fixed/k")), [0, 1]);
    assert_eq!(positions(&row(&format!("{fixed}, {other}, {other}"), "k=fixed/k/k")), [0, 1, 2]);
    assert_eq!(
        refused(&row(other, "k=fixed/k/k")),
        ["1:20 `k` stands 3 times in the rule's path: which one is meant?"]
    );
    let swapped = refused(&row(&format!("{other}, {fixed}"), "k=fixed/k"));
    assert_eq!(swapped, ["1:34 `k` is `fixed` in this rule: `x` never gets here"]);
    let three = refused(&row(&format!("{fixed}, {other}, {other}"), "k=fixed/k"));
    assert_eq!(three, ["1:20 `k` is named 3 times, and stands twice in the rule's path"]);
}

#[test]
fn a_domains_row_finds_a_key_wherever_it_stands() {
    let rows = "overrides:
- {match: {k: x}, limit: 5/s}
- {match: [{key: k, value: x}, {key: k, value: y}], limit: 6/s}";
    let rules = good(&format!("{RULES}{rows}"), &[]);
    let requests = |values: [&str; 3]| {
        let pairs = values.map(|value| ("k", value));
        found(&rules, &pairs, 0).and_then(|(_, requests)| requests)
    };
    assert_eq!(requests(["fixed", "x", "z"]), Some(5));
    assert_eq!(requests(["fixed", "z", "x"]), Some(5));
    assert_eq!(requests(["fixed", "x", "y"]), Some(6));
    assert_eq!(requests(["fixed", "y", "x"]), Some(5), "in this order");
    assert_eq!(requests(["fixed", "z", "z"]), None);
}

#[test]
fn whoever_has_a_limit_of_his_own_counts_for_himself() {
    let rows = "overrides: [{match: {file: a.css}, limit: 5/s}, {match: {user: u}, limit: 6/s}]";
    let rules = good(&format!("{RULES}{rows}"), &[]);
    let shared = |user: &str, file: &str| {
        let entries = entries(&[("user", user), ("file", file)]);
        let RuleMatch::Rule { domain, rule } = rules.find("d", &entries) else { panic!("a rule matches") };
        let (_, probe) = rules.override_of(domain, rule, &entries, || UnixMicros(0)).expect("an override");
        probe.shared.as_deref().unwrap_or(&rule.shared).iter().flatten().count()
    };
    assert_eq!(shared("x", "a.css"), 0);
    assert_eq!(shared("u", "b.css"), 1, "of all files, but of this user");
}

#[test]
fn a_row_ends_at_its_moment_and_the_next_best_takes_over() {
    let yaml = "domain: d
descriptors:
- key: a
  overrides:
  - {match: {a: x}, limit: 7/s, expires: 1970-01-01T00:00:02Z}
  overrides_from: [o.csv]
overrides: [{match: {a: x}, limit: 5/s}]";
    let rules = good(yaml, &[("o.csv", "match.a,limit,expires\nx,6/s,1970-01-01T00:00:04Z")]);
    let at = |micros: u64| found(&rules, &[("a", "x")], micros).and_then(|(_, requests)| requests);
    assert_eq!([1_999_999, 2_000_000, 3_999_999, 4_000_000].map(at), [Some(7), Some(6), Some(6), Some(5)]);
    let table = rules.domains()[0].overrides();
    assert_eq!([0, 2_000_000, 4_000_000].map(|now| table.expired(UnixMicros(now))), [0, 1, 2]);
}

#[test]
fn the_explanation_says_why_each_row_loses() {
    let yaml = "domain: d
overrides:
- {match: {b: y}, limit: 1/s}
- {match: {a: x}, limit: 2/s}
descriptors:
- key: a
  descriptors:
  - key: b
    overrides:
    - {match: {a: x}, limit: 3/s}
    - {match: {a: x, b: y}, limit: 4/s, expires: 1970-01-01}
    overrides_from: [o.csv]";
    let rules = good(yaml, &[("o.csv", "match.a,limit\nx,5/s")]);
    let entries = entries(&[("a", "x"), ("b", "y")]);
    let RuleMatch::Rule { domain, rule } = rules.find("d", &entries) else { panic!("a rule matches") };
    let told: Vec<(u32, Standing)> = rules
        .explain_override(domain, rule, &entries, UnixMicros(5))
        .iter()
        .map(|it| (it.row.limits().limits()[0].limit.requests, it.standing))
        .collect();
    let expected = [
        (4, Standing::Expired),
        (3, Standing::Wins),
        (5, Standing::EarlierPlace),
        (2, Standing::NotOfTheRule),
        (1, Standing::LaterKey),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_star_is_refused_in_every_form_of_a_row_and_one_that_is_meant_has_a_backslash() {
    let rules = "domain: d\ndescriptors: [{key: a, rate_limit: 9/s}]\noverrides:\n";
    let said = super::said(&format!("{rules}  - {{match: {{a: acme-*}}, limit: 5/s}}\n"), &[]);
    assert!(said.len() == 1 && said[0].contains("a.yaml:4:") && said[0].contains("`acme-*` has a star"), "{said:?}");
    let from =
        format!("{rules}  - {{file: o.csv}}\n").replace("overrides:\n  - {file: o.csv}", "overrides_from: [o.csv]");
    let said = super::said(&from, &[("o.csv", "match.a,limit\nacme-*,5/s\n")]);
    assert!(said.iter().any(|line| line.contains("o.csv:2:1") && line.contains("has a star")), "{said:?}");

    let meant = super::good(&format!("{rules}  - {{match: {{a: 'x\\*'}}, limit: 5/s}}\n"), &[]);
    assert_eq!(super::found(&meant, &[("a", "x*")], 0).and_then(|(_, requests)| requests), Some(5));
    assert_eq!(super::found(&meant, &[("a", "xy")], 0), None);
}

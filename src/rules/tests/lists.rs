//! Several limits on one rule: what they are called, and what tells their counters apart.

use super::*;

fn limits(list: &str) -> Vec<(String, String)> {
    let rules =
        good(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {list}}}] # tollgate: allow pointless-limit"));
    let limits = rules.limits().map(|(_, _, limit)| (limit.id.to_string(), limit.key_name.to_string()));
    limits.collect()
}

fn named(limits: &[(String, String)]) -> Vec<(&str, &str)> {
    limits.iter().map(|(id, key_name)| (id.as_str(), key_name.as_str())).collect()
}

#[test]
fn each_limit_of_several_has_an_id_by_its_name_or_its_number() {
    let two = limits("[{name: burst, requests: 5, window: 1s, algorithm: token_bucket, burst: 10}, 100/h]");
    assert_eq!(named(&two), [("d/a#burst", ""), ("d/a#2", "")]);
}

#[test]
fn a_list_of_one_is_that_limit() {
    assert_eq!(named(&limits("[100/h]")), [("d/a", "")]);
    assert_eq!(named(&limits("[{name: x, requests: 5, window: 1s}]")), [("d/a#x", "")]);
    let rules = good("domain: d\ndescriptors: [{key: a, rate_limit: [unlimited]}]");
    assert!(rules.domains()[0].rules()[0].unlimited);
}

#[test]
fn limits_that_count_alike_have_counters_of_their_own() {
    let three = limits("[{name: a b, requests: 5, window: 1h}, 7/1h, {requests: 9, window: 1h, sub_windows: 4}]");
    assert_eq!(named(&three), [("d/a#a b", "a b"), ("d/a#2", "2"), ("d/a#3", "")]);
}

#[test]
fn a_mistake_in_a_list_is_told_at_its_place() {
    let table = [
        ("[]", "4:15 this list of limits is empty"),
        ("[[5/s]]", "4:16 a limit must be a map or text such as `5/s`, not a list"),
        ("[5/s, unlimited]", "4:21 `unlimited` beside other limits has no meaning: they all must admit"),
        (
            "[{name: x, requests: 5, window: 1s}, {name: x, requests: 5, window: 1h}]",
            "4:52 this rule has a limit `x` already, in line 4",
        ),
        ("[5/s, {name: 1, requests: 5, window: 1h}]", "4:21 this rule has a limit `1` already, in line 4"),
        (
            "[{name: x, requests: 5, window: 1s}, {requests: 5, window: 1h, replaces: [{name: x}]}]",
            "4:52 a limit can't replace one of its own rule",
        ),
        ("[5/s, 6/x]", "4:21 `6/x` is no limit: there is no unit `x`: it is us, ms, s, m, h, d or w"),
    ];
    for (list, expected) in table {
        let located = said(&format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {list}"));
        assert_eq!(located, [format!("error {expected}")], "{list}");
    }
    let many = vec!["5/s"; 33].join(", ");
    assert!(
        said(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: [{many}]}}]"))[0].contains("more than the 32")
    );
}

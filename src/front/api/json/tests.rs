use serde_json::{Value, json};

use crate::front::api::{CheckRequest, Entry, Limit, OverrideSpec};

fn spec(text: Value) -> OverrideSpec {
    serde_json::from_value(text).expect("a spec")
}

#[test]
fn what_is_read_is_written_as_it_was() {
    for limit in [json!("300/m"), json!({"tier": "gold", "burst": 5}), json!(["5/s", {"requests": 1, "window": "1h"}])]
    {
        let text = json!({"match": {"user": "alice"}, "limit": limit, "reason": "contract 42"});
        assert_eq!(serde_json::to_value(spec(text.clone())).unwrap(), text);
    }
}

#[test]
fn entries_keep_the_order_of_the_text_and_a_key_that_occurs_twice() {
    let read = |text: &str| serde_json::from_str::<CheckRequest>(text).expect("a check").descriptors.remove(0).entries;
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
    let wanted = vec![entry("user", "alice"), entry("endpoint", "/a")];
    assert_eq!(read(r#"{"descriptors": [{"entries": {"user": "alice", "endpoint": "/a"}}]}"#), wanted);
    let listed = r#"[{"key": "user", "value": "alice"}, {"key": "endpoint", "value": "/a"}]"#;
    assert_eq!(read(&format!(r#"{{"descriptors": [{{"entries": {listed}}}]}}"#)), wanted);

    let twice = OverrideSpec { r#match: vec![entry("k", "a"), entry("k", "b")], ..OverrideSpec::default() };
    let text = serde_json::to_value(&twice).unwrap();
    assert_eq!(text, json!({"match": [{"key": "k", "value": "a"}, {"key": "k", "value": "b"}]}));
    assert_eq!(spec(text), twice);
}

#[test]
fn count_denied_is_a_boolean_where_rule_files_have_one() {
    for when in [json!("auto"), json!(true), json!(false)] {
        let text = json!({"limit": {"requests": 1, "window": "1h", "count_denied": when}});
        assert_eq!(serde_json::to_value(spec(text.clone())).unwrap(), text);
    }
}

#[test]
fn a_word_beside_other_fields_is_not_lost() {
    let limit = Limit { short: "5/s".into(), burst: Some(3), ..Limit::default() };
    let text = serde_json::to_value(OverrideSpec { limit: vec![limit], ..OverrideSpec::default() }).unwrap();
    assert_eq!(text, json!({"limit": {"short": "5/s", "burst": 3}}));
}

#[test]
fn unknown_fields_and_other_kinds_are_refused() {
    for wrong in [
        json!({"matches": {"user": "alice"}}),
        json!({"match": "alice"}),
        json!({"match": {"user": 5}}),
        json!({"match": [{"key": "user", "valu": "alice"}]}),
        json!({"limit": 5}),
        json!({"limit": ""}),
        json!({"limit": {"request": 5}}),
        json!({"limit": [5]}),
    ] {
        assert!(serde_json::from_value::<OverrideSpec>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn hits_of_a_check_that_are_negative_are_told_where_hits_are_given_back() {
    let said = |text: &str| match super::read::<CheckRequest>(text.as_bytes()) {
        Ok(request) => format!("{:?}", request.hits),
        Err(misread) => format!("{}:{} {}", misread.line, misread.column, misread.what),
    };
    assert_eq!(said(r#"{"hits": 3}"#), "Some(3)");
    assert_eq!(said(r#"{"hits": null}"#), "None");
    assert_eq!(
        said(r#"{"hits": -1}"#),
        "1:11 `hits` of a check must be a whole number from 0 to 4294967295, not -1: only those of a descriptor may give back"
    );
    for (text, found) in [("4294967296", "integer `4294967296`"), ("1.5", "floating point `1.5`")] {
        let said = said(&format!(r#"{{"hits": {text}}}"#));
        assert!(said.ends_with(&format!("expected a whole number from 0 to 4294967295, not {found}")), "{said}");
    }
}

use super::*;

#[test]
fn what_refused_hits_cost_is_read_as_it_was_stored_and_reported_as_auto_by_replicas_that_do_not_know_it() {
    let numbers = Limit::new(5, Micros(60_000_000), Algorithm::SlidingWindow);
    for (count_denied, stored) in
        CountDenied::ALL.into_iter().zip([Value::Null, Value::Null, true.into(), false.into()])
    {
        let limit = RuleLimit {
            id: Arc::from(""),
            id_hash: 0,
            limit: numbers,
            name: None,
            tier: None,
            key_name: Box::default(),
            enforce: EnforcedShare::ALL,
            count_denied,
            on_store_failure: None,
        };
        let json = serde_json::to_value(StoredLimit::of(&limit)).expect("plain fields");
        assert_eq!(json["count_denied"], stored, "{json}");
        let read: StoredLimit = serde_json::from_value(json).expect("as it was stored");
        assert_eq!(read.limit(), Some(limit));
    }
}

/// Replicas of before stored a star as it is: it was for that very value, and stays so.
#[test]
fn a_stored_match_is_for_the_value_that_it_has_stars_and_backslashes_included() {
    for value in ["a*b", "*", r"a\*b"] {
        let stored = serde_json::json!({
            "override": {"match": {"user": value}, "limit": "5/h"}, "limits": [], "by": "ops", "at": 1,
        });
        let record: Record = serde_json::from_value(stored).expect("as it was stored");
        let (_, values) = record.matches().expect("it is well formed");
        assert_eq!(&*values[0], value);
    }
}

#[test]
fn a_share_is_read_as_it_was_stored_and_denies_nobody_by_replicas_that_do_not_know_it() {
    for (written, enforce, share) in [
        ("true", Value::Null, Value::Null),
        ("false", false.into(), Value::Null),
        ("12.5%", false.into(), "12.5%".into()),
    ] {
        let stored = serde_json::json!({"requests": 5, "window": 60_000_000, "algorithm": "sliding_window",
            "sub_windows": 32, "enforce": enforce, "enforce_share": share});
        let read: StoredLimit = serde_json::from_value(stored).expect("as it is stored");
        let limit = read.limit().expect("it is whole");
        let share = EnforcedShare::parse(written).unwrap_or_else(|_| EnforcedShare::of_bool(written == "true"));
        assert_eq!(limit.enforce, share);
        assert_eq!(StoredLimit::of(&limit), read, "{written}");
    }
}

use super::*;
use crate::front::api::Limit;

fn good() -> OverrideSpec {
    OverrideSpec {
        r#match: vec![Entry { key: "user".into(), value: "alice".into() }],
        limit: vec![Limit { short: "300/m".into(), ..Limit::default() }],
        ..OverrideSpec::default()
    }
}

#[test]
fn an_override_names_someone_and_a_limit_within_bounds() {
    assert!(check_spec(Some(&good())).is_ok());
    type Change = fn(&mut OverrideSpec);
    let wrong: [(&str, Change); 9] = [
        ("match", |spec| spec.r#match.clear()),
        ("match", |spec| spec.r#match = vec![spec.r#match[0].clone(); ENTRIES_MAX + 1]),
        ("match", |spec| spec.r#match[0].key.clear()),
        ("match.user", |spec| spec.r#match[0].value.clear()),
        ("match.user", |spec| spec.r#match[0].value = "x".repeat(VALUE_MAX + 1)),
        ("limit", |spec| spec.limit.clear()),
        ("limit", |spec| spec.limit = vec![spec.limit[0].clone(); LIMITS_MAX + 1]),
        ("for", |spec| (spec.r#for, spec.expires) = ("1h".into(), "2030-01-01".into())),
        ("reason", |spec| spec.reason = "x".repeat(WORDS_MAX + 1)),
    ];
    for (field, change) in wrong {
        let mut changed = good();
        change(&mut changed);
        let Err(ApiError::Invalid(faults)) = check_spec(Some(&changed)) else { panic!("{field}: it was taken") };
        assert_eq!(faults[0].place, field);
    }
    assert!(check_spec(None).is_err());
}

#[test]
fn pages_have_a_default_and_a_bound() {
    assert_eq!([page_size(0), page_size(1), page_size(1_000)], [Ok(100), Ok(1), Ok(1_000)]);
    assert!(page_size(1_001).is_err());
    assert!(check_filter("", "al").is_err() && check_filter("user", "al").is_ok() && check_filter("", "").is_ok());
}

#[test]
fn what_is_shown_of_a_long_text_is_short_and_cut_between_characters() {
    assert_eq!(shown("short"), "short");
    assert_eq!(shown(&"é".repeat(100)).chars().count(), 65);
}

use std::collections::BTreeSet;

use super::*;

fn id(rule: &str, pairs: &[(&str, &str)]) -> String {
    let entries = pairs.iter().map(|(key, value)| Entry { key: (*key).into(), value: (*value).into() });
    make("api", &OverrideSpec { rule: rule.into(), r#match: entries.collect(), ..OverrideSpec::default() })
}

#[test]
fn what_is_plain_can_be_read_and_other_characters_are_two_digits() {
    for (pairs, expected) in [
        (&[("user", "alice@example.com")][..], "user:alice@example.com"),
        (&[("user", "a b")], "user:a~20b"),
        (&[("user", "a~20b")], "user:a~7e20b"),
        (&[("user", "é")], "user:~c3~a9"),
        (&[("a:b", "c")], "a~3ab:c"),
        (&[("user", "alice"), ("plan", "gold")], "user:alice~plan:gold"),
    ] {
        assert_eq!(id("", pairs), expected);
    }
}

#[test]
fn a_rule_is_the_same_with_and_without_its_domain_and_that_of_the_only_key_is_none() {
    let alice = &[("user", "a b")][..];
    for rule in ["", "user", "api/user"] {
        assert_eq!(id(rule, alice), "user:a~20b", "{rule}");
    }
    let login = id("user/endpoint=/login", alice);
    assert_eq!(id("api/user/endpoint=/login", alice), login);
    assert!(login.starts_with("user-endpoint--login-user-a-b~"), "{login}");
    assert_ne!(id("shop/user", alice), id("user", alice), "of no domain of that name");
}

#[test]
fn ids_tell_different_overrides_apart_and_have_room() {
    let long = "x".repeat(200);
    let all: [(&str, &[(&str, &str)]); 12] = [
        ("", &[("user", "alice")]),
        ("user/endpoint", &[("user", "alice")]),
        ("", &[("user", "a/b")]),
        ("", &[("user", "a-b")]),
        ("", &[("user", "a~2fb")]),
        ("", &[("a", "b~c:d")]),
        ("", &[("a", "b"), ("c", "d")]),
        ("", &[("a", "b c"), ("c", "d")]),
        ("", &[("a", "b"), (" cc", "d")]),
        ("", &[("user", &long)]),
        ("", &[("user", "\u{10ffff}")]),
        ("plan", &[("user", "alice")]),
    ];
    let ids: BTreeSet<String> = all.iter().map(|(rule, pairs)| id(rule, pairs)).collect();
    assert_eq!(ids.len(), all.len(), "{ids:?}");
    assert!(ids.iter().all(|id| check_new(id).is_ok()), "{ids:?}");
}

#[test]
fn ids_are_short_and_plain() {
    for id in ["a", "user:alice@example.com", "Z-9._~", &"x".repeat(ID_MAX)] {
        assert!(check(id).is_ok(), "{id}");
    }
    for id in ["", "a b", "a/b", "é", "a\n", &"x".repeat(ID_MAX + 1)] {
        assert!(check(id).is_err(), "{id}");
    }
}

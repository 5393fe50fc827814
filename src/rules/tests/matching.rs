//! The reference's matching (its §3), row by row, and the three of its defects that aren't copied.

use proptest::prelude::*;

use super::*;

/// Rules, a descriptor, and the id of the rule that it ends at.
#[test]
fn descriptors_end_where_the_reference_says() {
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let table: &[Row<'_>] = &[
        ("exact value first", "[{key: u}, {key: u, value: x}]", &[("u", "x")], Some("d/u=x")),
        ("then key-only", "[{key: u}, {key: u, value: x}]", &[("u", "y")], Some("d/u")),
        ("wildcard before key-only", "[{key: u}, {key: u, value: x*}]", &[("u", "xy")], Some("d/u=x*")),
        ("exact before wildcard", "[{key: u, value: x*}, {key: u, value: xy}]", &[("u", "xy")], Some("d/u=xy")),
        ("first declared", "[{key: u, value: a*}, {key: u, value: ab*}]", &[("u", "abc")], Some("d/u=a*")),
        ("first declared, not best", "[{key: u, value: ab*}, {key: u, value: a*}]", &[("u", "abc")], Some("d/u=ab*")),
        ("the pattern itself", "[{key: u, value: '*'}, {key: u, value: a*}]", &[("u", "a*")], Some("d/u=a*")),
        ("empty value, wildcard", "[{key: u, value: '*'}]", &[("u", "")], Some("d/u=*")),
        ("empty value, key-only", "[{key: u}, {key: u, value: x}]", &[("u", "")], Some("d/u")),
        ("empty value in the rule is key-only", "[{key: u, value: ''}]", &[("u", "x")], Some("d/u")),
        ("null value in the rule is key-only", "[{key: u, value: ~}]", &[("u", "x")], Some("d/u")),
        ("unknown key", "[{key: u}]", &[("v", "x")], None),
        ("unknown value", "[{key: u, value: x}]", &[("u", "y")], None),
        ("case matters", "[{key: U, value: X}]", &[("U", "x")], None),
        ("no entries", "[{key: u}]", &[], None),
        ("deeper than the rules", "[{key: u}]", &[("u", "x"), ("v", "y")], None),
        ("shallower is the rule above", "[{key: u, descriptors: [{key: v}]}]", &[("u", "x")], Some("d/u")),
        ("nested", "[{key: u, descriptors: [{key: v}]}]", &[("u", "x"), ("v", "y")], Some("d/u/v")),
        ("order of entries", "[{key: u, descriptors: [{key: v}]}]", &[("v", "y"), ("u", "x")], None),
        (
            "no way back to the key-only rule",
            "[{key: u, descriptors: [{key: v}]}, {key: u, value: x, descriptors: [{key: w}]}]",
            &[("u", "x"), ("v", "y")],
            None,
        ),
        ("wildcards match values only (M5)", "[{key: u, value: '*'}, {key: u_a}]", &[("u_a", "x")], Some("d/u_a")),
        ("a name with a star, as key and value", "[{key: r*, value: r*}]", &[("r*", "r*")], Some("d/r*=r*")),
        ("is itself and no pattern", "[{key: r*, value: r*}]", &[("r*", "rx")], None),
        ("neither of the key", "[{key: r*, value: r*}]", &[("rx", "rx")], None),
        ("(a, b) isn't a_b (C17)", "[{key: a_b}]", &[("a", "b")], None),
        ("a_b isn't (a, b) (C17)", "[{key: a, value: b}]", &[("a_b", "")], None),
    ];
    for (what, descriptors, request, expected) in table {
        let allowed = "# tollgate: allow covered-pattern hidden-rules";
        let rules = good(&format!("domain: d\ndescriptors: {descriptors} {allowed}"));
        assert_eq!(found(&rules, request).as_deref(), *expected, "{what}");
    }
}

#[test]
fn composites_that_only_look_alike_live_side_by_side() {
    let rules = good("domain: d\ndescriptors: [{key: a, value: b}, {key: a_b}]");
    assert_eq!(found(&rules, &[("a", "b")]).as_deref(), Some("d/a=b"));
    assert_eq!(found(&rules, &[("a_b", "")]).as_deref(), Some("d/a_b"));
}

#[test]
fn an_unknown_domain_is_told_apart_from_no_match() {
    let rules = good("domain: d\ndescriptors: [{key: a}]");
    assert!(matches!(rules.find("e", &entries(&[("a", "b")])), RuleMatch::UnknownDomain));
    assert!(matches!(rules.find("d", &entries(&[("b", "b")])), RuleMatch::NoMatch));
}

#[test]
fn a_star_is_any_run_of_characters() {
    let table = [
        ("*", "", true),
        ("*", "a/b.c", true),
        ("a*", "a", true),
        ("a*", "ba", false),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "acb", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("/v*/user/*", "/v1/user/", true),
        ("/v*/user/*", "/v/user", false),
        ("*b*b*", "ab", false),
        ("*b*b*", "abb", true),
        ("a**b", "ab", true),
        ("ä*ö", "äxö", true),
        ("a*bc*c", "abcc", true),
        ("a*bc*c", "abc", false),
    ];
    for (pattern, value, expected) in table {
        assert_eq!(Pattern::new(pattern).matches(value), expected, "{pattern} on {value}");
    }
}

/// Every way to split a value over a pattern's stars, tried one after the other.
fn matches_by_definition(pattern: &[char], value: &[char]) -> bool {
    match pattern {
        [] => value.is_empty(),
        ['*', rest @ ..] => (0..=value.len()).any(|skipped| matches_by_definition(rest, &value[skipped..])),
        [first, rest @ ..] => value.first() == Some(first) && matches_by_definition(rest, &value[1..]),
    }
}

proptest! {
    #[test]
    fn a_pattern_matches_what_its_definition_says(pattern in "[ab*]{0,8}", value in "[ab]{0,10}") {
        let (letters, of_value): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
        prop_assert_eq!(Pattern::new(&pattern).matches(&value), matches_by_definition(&letters, &of_value));
    }

    /// No two rules share an id, whatever their keys and values hold.
    #[test]
    fn ids_tell_paths_apart(
        one in prop::collection::vec(("[a/=#%]{1,3}", "[a/=#%]{0,3}"), 1..4),
        other in prop::collection::vec(("[a/=#%]{1,3}", "[a/=#%]{0,3}"), 1..4),
    ) {
        let path = |levels: &[(String, String)]| -> Vec<Arc<Level>> {
            let value = |text: &str| if text.is_empty() { LevelValue::Any } else { LevelValue::Exact(text.into()) };
            levels.iter().map(|(key, text)| Arc::new(Level {
                key: key.as_str().into(),
                value: value(text),
                share_threshold: false,
                value_to_metric: false,
            })).collect()
        };
        prop_assert_eq!(one == other, name::rule_id("d", &path(&one)) == name::rule_id("d", &path(&other)));
    }

    /// `explain` ends where `find` does: it is the same walk.
    #[test]
    fn explain_ends_where_find_does(request in prop::collection::vec(("[uvw]", "[xy]{0,2}"), 0..4)) {
        let rules = good(
            "domain: d\ndescriptors:\n- {key: u, value: x, descriptors: [{key: v}]}\n- {key: u, value: x*}\n- {key: v}",
        );
        let pairs: Vec<(&str, &str)> = request.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let entries = entries(&pairs);
        let id = |found: RuleMatch<'_>| match found {
            RuleMatch::Rule { rule, .. } => Some(rule.id.to_string()),
            _ => None,
        };
        let (explained, steps) = rules.explain("d", &entries);
        prop_assert_eq!(id(explained), id(rules.find("d", &entries)));
        prop_assert!(steps.len() <= entries.len());
    }
}

#[test]
fn explain_says_how_each_entry_was_met() {
    let rules = good(
        "domain: d\ndescriptors:\n- {key: u, value: x, descriptors: [{key: v, value: a*, descriptors: [{key: w}]}]}",
    );
    let how = |pairs: &[(&str, &str)]| -> Vec<StepMatch> {
        rules.explain("d", &entries(pairs)).1.into_iter().map(|step| step.how).collect()
    };
    let way = [("u", "x"), ("v", "ab"), ("w", "1"), ("z", "1")];
    assert_eq!(how(&way), [StepMatch::Exact, StepMatch::Pattern("a*".into()), StepMatch::KeyOnly, StepMatch::TooDeep]);
    assert_eq!(how(&[("u", "y")]), [StepMatch::UnknownValue]);
    assert_eq!(how(&[("z", "y")]), [StepMatch::UnknownKey]);
}

#[test]
fn a_rule_knows_its_way_and_what_varies_on_it() {
    let rules = good(
        "domain: d\ndescriptors:\n- key: route\n  value: r1\n  descriptors:\n  - key: path\n    value: /api/*\n    share_threshold: true\n    descriptors:\n    - {key: user, rate_limit: 5/s}\n",
    );
    let RuleMatch::Rule { rule, .. } = rules.find("d", &entries(&[("route", "r1"), ("path", "/api/x"), ("user", "a")]))
    else {
        panic!("it is there")
    };
    assert_eq!(&*rule.id, "d/route=r1/path=%2Fapi%2F*/user");
    assert_eq!(&*rule.metric_key, "d.route_r1.path_/api/*.user");
    assert_eq!(rule.shared, [None, Some("/api/*".into()), None]);
    assert_eq!(rule.variable, 1);
    assert_eq!((rule.index, rule.line), (2, 10));
    assert_eq!(rules.domains()[0].rules()[0].variable, 1, "all fixed: the length of its path");
}

#[test]
fn a_last_value_keeps_its_slashes() {
    let rules = good("domain: api\ndescriptors:\n- {key: endpoint, value: /checkout/new, rate_limit: 5/s}");
    let ids: Vec<String> = rules.limits().map(|(_, _, limit)| limit.id.to_string()).collect();
    assert_eq!(ids, ["api/endpoint=/checkout/new"]);
}

#[test]
fn matching_does_not_allocate() {
    let rules = good(
        "domain: d\ndescriptors:\n- {key: u, value: x, descriptors: [{key: v, value: 'a*b*'}, {key: v}]}\n- {key: u, value: '*y'}",
    );
    for pairs in [&[("u", "x"), ("v", "acbd")][..], &[("u", "x"), ("v", "z")], &[("u", "xy")], &[("w", "x")]] {
        let entries = entries(pairs);
        let counted = allocation_counter::measure(|| {
            std::hint::black_box(rules.find("d", &entries));
            std::hint::black_box(rules.find("another", &entries));
        });
        assert_eq!(counted.count_total, 0, "{pairs:?}");
    }
}

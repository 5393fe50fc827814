//! YAML as go-yaml reads it: text as written, anchors, merge keys, and bounds on what is unfolded.

use proptest::prelude::*;

use super::*;

#[test]
fn values_are_text_as_written() {
    let table = [
        ("007", "007"),
        ("404", "404"),
        ("no", "no"),
        ("true", "true"),
        ("1e5", "1e5"),
        ("2026-01-02", "2026-01-02"),
        ("10.0.0.1", "10.0.0.1"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("'1.5'", "1.5"),
        ("!!str 1.5", "1.5"),
        ("\"a\\tb\"", "a\tb"),
        ("A b", "A b"),
    ];
    for (written, value) in table {
        let rules =
            good(&format!("domain: d\ndescriptors: [{{key: a, value: {written}}}] # tollgate: allow odd-character"));
        let rule = &rules.domains()[0].rules()[0];
        assert_eq!(rule.path[0].value, LevelValue::Exact(value.into()), "{written}");
    }
}

#[test]
fn numbers_that_the_reference_refuses_are_refused() {
    for written in ["1.5", "-0.5", ".5", "1.", ".inf", ".NaN", "1.5e3", "9223372036854775808"] {
        let located = said(&format!("domain: d\ndescriptors:\n- key: a\n  value: {written}"));
        assert!(located.len() == 1 && located[0].starts_with("error 4:10 "), "{written}: {located:?}");
    }
}

#[test]
fn keys_must_be_text() {
    for key in ["0.25", "1", "yes", "~", "[a]", "{a: b}"] {
        let located = said(&format!("domain: d\n? {key}\n: x\ndescriptors: []"));
        assert!(located.len() == 1 && located[0].starts_with("error 2:3 "), "{key}: {located:?}");
    }
}

#[test]
fn booleans_are_yaml_1_1() {
    for (written, value) in [("yes", true), ("on", true), ("Y", true), ("TRUE", true), ("off", false), ("~", false)] {
        let rules = good(&format!("domain: d\ndescriptors: [{{key: a, shadow_mode: {written}}}]"));
        assert_eq!(rules.domains()[0].rules()[0].shadow_mode, value, "{written}");
    }
    assert_eq!(
        said("domain: d\ndescriptors:\n- key: a\n  shadow_mode: 'true'"),
        ["error 4:16 `shadow_mode` must be true or false, not `true`"]
    );
}

#[test]
fn anchors_and_merge_keys_are_unfolded() {
    let rules = good(
        "domain: d
descriptors:
- key: a
  rate_limit: &l {unit: hour, requests_per_unit: 1}
- key: b
  rate_limit: *l
- key: c
  rate_limit:
    <<: *l
    requests_per_unit: 2
- key: d
  rate_limit: {<<: [{requests_per_unit: 3}, *l]}
",
    );
    let requests: Vec<u32> = rules.limits().map(|(_, _, limit)| limit.limit.requests).collect();
    assert_eq!(requests, [1, 1, 2, 3]);
}

#[test]
fn what_cannot_be_unfolded_is_told_at_its_place() {
    assert_eq!(
        said("domain: d\ndescriptors:\n- key: a\n  rate_limit: *x\n- key: *y"),
        ["error 4:15 alias `*x` has no anchor `&x` before it", "error 5:8 alias `*y` has no anchor `&y` before it",]
    );
    assert_eq!(
        said("domain: d\ndescriptors: &x\n- key: a\n  descriptors: *x"),
        ["error 4:16 this alias stands inside what it stands for"]
    );
    assert_eq!(said("domain: d\ndescriptors:\n- {key: a, <<: 5}"), ["error 3:12 `<<` takes a map, or a list of maps"]);
}

/// Each level holds the one before nine times; unfolded it would hold 9^9 descriptors.
#[test]
fn an_alias_bomb_is_refused_without_being_unfolded() {
    let mut text = "domain: d\nx0: &x0 [{key: a}]\n".to_owned();
    for level in 1..=9 {
        let aliases = vec![format!("*x{}", level - 1); 9].join(", ");
        text.push_str(&format!("x{level}: &x{level} [{aliases}]\n"));
    }
    let located = said(&text);
    assert!(
        located.len() == 1 && located[0].contains("its aliases unfold to more than this file may hold"),
        "{located:?}"
    );
}

#[test]
fn depth_is_bounded_through_brackets_indentation_and_aliases() {
    let brackets = format!("domain: d\ndescriptors: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let mut aliases = "domain: d\nx0: &x0 []\n".to_owned();
    for level in 1..300 {
        aliases.push_str(&format!("x{level}: &x{level} [*x{}]\n", level - 1));
    }
    for text in [brackets, aliases] {
        let located = said(&text);
        assert!(located.len() == 1 && located[0].starts_with("error"), "{located:?}");
    }
    let nested = |depth: usize| -> String {
        let mut text = "domain: d\n".to_owned();
        for level in 0..depth {
            let indent = "  ".repeat(level);
            text.push_str(&format!("{indent}descriptors:\n{indent}- key: a\n"));
        }
        text
    };
    assert_eq!(good(&nested(32)).count().rules, 32);
    assert_eq!(said(&nested(33)), ["error 67:67 descriptors are nested deeper than 32"]);
}

#[test]
fn what_nobody_reads_is_warned_of() {
    assert_eq!(said("domain: d\n---\ndomain: e\n"), ["warning 2:1 a second document begins here, and is ignored"]);
    assert_eq!(said("domain: d\ndomain: e\n"), ["warning 2:1 `domain` is written twice; what line 1 says is lost"]);
    assert_eq!(
        said("domain: d\ndescriptors:\n- key: a\n  unit: day"),
        ["warning 4:3 `unit` in a descriptor is ignored"]
    );
    assert_eq!(
        said("domain: d\ndescriptors:\n- key: a\n  burst: 5"),
        ["error 4:3 `burst` doesn't belong in a descriptor"]
    );
    assert_eq!(
        said("domain: d\ndescriptors:\n- key: a\n  unit: {foo: 1}"),
        ["warning 4:3 `unit` in a descriptor is ignored", "error 4:10 unknown key `foo`"]
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let located = said(
        "domain: d
descriptors:
- key: a
  rate_limits: {unit: hour}
- key: 'b*'
- key: c
  rate_limit: {unit: hours, requests_per_unit: ten}
  descriptors:
  - {value: x}
  - 5
",
    );
    assert_eq!(
        located,
        [
            "error 4:3 unknown key `rate_limits` in a descriptor",
            "error 5:8 key `b*` has `*` in it, which would match any key",
            "error 7:22 there is no unit `hours`: it is one of second, minute, hour, day, week, month, year",
            "error 7:48 `requests_per_unit` must be a whole number from 0 to 4294967295, not `ten`",
            "error 9:5 a descriptor must have a `key`",
            "error 10:5 a descriptor must be a map, not a value",
        ]
    );
}

#[test]
fn metadata_is_free_form() {
    let rules = good(
        "domain: d\ndescriptors:\n- key: a\n  metadata: {team: pay, n: 5, f: 1.5, on: true, none: ~, 7: [a, {b: c}]}\n- {key: b, metadata: {}}",
    );
    let expected = serde_json::json!({
        "team": "pay", "n": 5, "f": 1.5, "on": true, "none": null, "7": ["a", {"b": "c"}],
    });
    assert_eq!(rules.domains()[0].rules()[0].metadata.as_deref(), Some(&expected));
    assert_eq!(rules.domains()[0].rules()[1].metadata, None);
    assert_eq!(
        said("domain: d\ndescriptors:\n- {key: a, metadata: 5}"),
        ["error 3:22 `metadata` must be a map, not a value"]
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert_eq!(good("\u{feff}domain: d\r\ndescriptors:\r\n- key: a\r\n").count().rules, 1);
}

/// YAML bounds keys to 1,024 characters; values have no such bound, in whatever form they stand.
#[test]
fn long_values_are_read_whole() {
    let long = "x".repeat(100_000);
    for value in [long.clone(), format!("'{long}'"), format!("\"{long}\"")] {
        for text in [
            format!("domain: d\ndescriptors:\n- key: a\n  value: {value}"),
            format!("{{domain: d, descriptors: [{{key: a, value: {value}}}]}}"),
        ] {
            assert_eq!(found(&good(&text), &[("a", &long)]), Some(format!("d/a={long}")));
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_told_at_their_place() {
    let bytes = b"domain: d\nk\xffy: 1\n".to_vec();
    let sources = Sources { files: vec![Source { path: "a.yaml".into(), bytes }], ..Sources::default() };
    let load = load(&sources, &Defaults::default(), None);
    let places: Vec<(u32, u32)> = load.problems.iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(2, 2)]);
}

#[test]
fn a_mark_stands_under_the_mistake_in_long_and_in_wide_lines() {
    let many: String = (0..500).map(|number| format!("{{key: ä{number}}}, ")).collect();
    let texts = [
        "{domain: d, descriptors: [{key: a}, {kee: a}]}".to_owned(),
        "\u{feff}{domain: d, descriptors: [{key: ä}, {kee: a}]}".to_owned(),
        format!("{{domain: d, descriptors: [{many}{{kee: a}}, {many}]}}"),
    ];
    for text in texts {
        let load = load_one(&text);
        let problem = load.problems.iter().next().expect("it is misspelled");
        assert!(problem.source_line.chars().count() <= 160, "{problem:?}");
        let rendered = problem.render();
        let lines: Vec<Vec<char>> = rendered.lines().map(|line| line.chars().collect()).collect();
        let (source, mark) = (&lines[3], &lines[4]);
        let marked: String =
            source.iter().zip(mark).filter(|(_, mark)| **mark == '^').map(|(character, _)| *character).collect();
        assert_eq!(marked, "kee", "{rendered}");
    }
}

/// What go-yaml reads, so that files from elsewhere load; each holds `domain: d` and one rule, key `a` and value `b`.
#[test]
fn yaml_as_people_write_it_is_read() {
    let texts = [
        "---\ndomain: d\ndescriptors:\n- key: a\n  value: b\n...\n",
        "%YAML 1.1\n--- # rules\ndomain: d\ndescriptors:\n- {key: a, value: b}\n",
        "# first\n\ndomain: d\t# a tab before this\n\t\ndescriptors:   \n  -\n    key: a\n    value: b\n",
        "domain: d\ndescriptors: [\n  {\n    key: a,\n    value: b,\n  },\n]\n",
        "domain: d\ndescriptors: [{\n  key: a,\n  value: b\n}\n]\n",
        "\"domain\": \"d\"\n'descriptors':\n- \"key\": 'a'\n  \"value\": \"\\x62\"\n",
        "{\"domain\":\"d\",\"descriptors\":[{\"key\":\"a\",\"value\":\"b\"}]}",
        "{\n\t\"domain\": \"d\",\n\t\"descriptors\": [\n\t\t{\"key\": \"a\", \"value\": \"b\"}\n\t]\n}\n",
        "? domain\n: d\n? descriptors\n: - key: a\n    value: >-\n      b\n",
        "domain: d\ndescriptors:\n- key: a\n  value: |-\n    b\n",
        "domain: !!str d\ndescriptors: !!seq\n- !!map {key: &k a, value: b}\n",
    ];
    for text in texts {
        let rules = good(text);
        assert_eq!(found(&rules, &[("a", "b")]).as_deref(), Some("d/a=b"), "{text}");
    }
}

#[test]
fn a_descriptors_words_reach_its_rule() {
    let rules = good(
        "domain: d
descriptors:
- key: a
  value: x*
  shadow_mode: true
  quota_mode: true
  detailed_metric: true
  value_to_metric: true
  share_threshold: true
  rate_limit: {name: n, requests_per_unit: 1, unit: day, replaces: [{name: m}, {name: o}]} # tollgate: allow unknown-replaces
- key: b
  rate_limit: {unlimited: true, name: p, replaces: [{name: n}]}
",
    );
    let [a, b] = rules.domains()[0].rules() else { panic!("two rules") };
    assert!(a.shadow_mode && a.quota_mode && a.detailed_metric);
    assert!(a.path[0].value_to_metric && a.path[0].share_threshold);
    assert_eq!((&*a.name, &a.replaces[..]), ("n", &["m".into(), "o".into()][..]));
    assert!(!b.shadow_mode && !b.quota_mode && !b.detailed_metric);
    assert!(!b.path[0].value_to_metric && !b.path[0].share_threshold);
    assert_eq!((&*b.name, &b.replaces[..], b.unlimited), ("p", &["n".into()][..], true));
}

/// Any tree of what JSON and YAML have in common. Fractions have a point in whatever form they are written.
pub(crate) fn trees() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(|eighths| serde_json::Value::from(f64::from(eighths) / 8.0)),
        // What YAML 1.1 takes for a number or a boolean, others write without quotes; it has its own tables.
        "[ -~]{0,12}|\\PC{0,6}|[a\n]{0,4}"
            .prop_filter("text", |text| scalar::Plain::of(text) == scalar::Plain::Text)
            .prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::hash_map("[a-z0-9 :#-]{0,6}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// What another library writes is read as it was meant, as block YAML and as JSON.
    #[test]
    fn what_others_write_is_read_as_it_was_meant(tree in trees()) {
        for text in [yaml_serde::to_string(&tree).expect("it can be written"), tree.to_string()] {
            let document = yaml::parse(&text);
            prop_assert!(document.faults.is_empty(), "{text}\n{:?}", document.faults);
            let root = document.root.expect("there is a document");
            prop_assert_eq!(&metadata::to_json(&root), &tree, "{}", text);
        }
    }

    /// No text, however broken, is more than refused.
    #[test]
    fn no_text_makes_loading_panic(text in "([a-z*&<:,?|>\\[\\]{}\"' \n\t-]|key: |- |\n  |descriptors:\n|rate_limit: |5/s){0,60}") {
        load_one(&format!("domain: d\n{text}"));
        load_one(&text);
    }
}

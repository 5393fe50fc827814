use super::*;
use crate::rules::{Defaults, Problem, Problems, Source, Sources, load};

fn problems(text: &str, overrides: &[(&str, &str)]) -> Problems {
    let source = |path: &str, text: &str| Source { path: path.into(), bytes: text.as_bytes().to_vec() };
    let overrides = overrides.iter().map(|(path, text)| source(path, text)).collect();
    let sources = Sources { files: vec![source("a.yaml", text)], overrides, ..Sources::default() };
    load(&sources, &Defaults::default(), None).problems
}

/// What is said of a text, a line for each problem: `line:column name what`.
fn said(text: &str) -> Vec<String> {
    let line =
        |it: &Problem| format!("{}:{} {} {}", it.line, it.column, it.name.map_or("error", Warning::name), it.what);
    problems(text, &[]).iter().map(line).collect()
}

/// The one problem of a value, as it is written.
fn of_value(value: &str) -> Vec<String> {
    said(&format!("domain: d\ndescriptors:\n- {{key: k, value: {value}, rate_limit: 5/s}}\n"))
}

#[test]
fn a_character_that_is_not_seen_is_named_by_its_code_point_with_the_caret_at_it() {
    assert_eq!(
        of_value("\"al\u{200b}ice\""),
        ["3:22 odd-character this value has a character that can't be seen: U+200B (zero-width space)"]
    );
    assert_eq!(
        of_value("al\u{a0}ice\u{a0}x"),
        [
            "3:21 odd-character this value has a blank that is no space: U+00A0 (no-break space)",
            "3:25 odd-character this value has a blank that is no space: U+00A0 (no-break space)"
        ]
    );
    assert_eq!(of_value("al ice"), [""; 0], "a space between others is none");
}

/// The column counts characters, and a tab is one, as editors count that go by characters.
#[test]
fn a_tab_before_it_is_one_column() {
    let problems = problems("domain: d\ndescriptors:\n- {key: k,\tvalue: \"a\u{200b}b\", rate_limit: 5/s}\n", &[]);
    let [problem] = problems.iter().as_slice() else { panic!("{}", problems.render()) };
    assert_eq!((problem.line, problem.column, problem.end_column), (3, 21, 22));
    let rendered = problem.render();
    assert!(rendered.contains("a.yaml:3:21"), "{rendered}");
    let lines: Vec<&str> = rendered.lines().collect();
    let source = lines.iter().position(|line| line.starts_with("3 |")).expect("the source line");
    let caret = lines[source + 1].chars().position(|character| character == '^').expect("the caret");
    let marked: String = lines[source].chars().skip(caret - 1).take(3).collect();
    assert!(marked.starts_with('a') && marked.ends_with('b'), "the caret stands under it:\n{rendered}");
}

#[test]
fn what_looks_like_another_character_is_told_with_that_one() {
    let is_said = |value: &str, what: &str| {
        let said = of_value(value);
        assert!(said.len() == 1 && said[0].ends_with(what), "{value}: {said:?}");
    };
    is_said("it\u{2019}s", "has a character that looks like `'`: U+2019 (right single quotation mark)");
    is_said("a\u{2013}b", "has a character that looks like `-`: U+2013 (en dash)");
    is_said("\u{430}lice", "has a character that looks like `a`: U+0430 (a Cyrillic letter)");
    is_said("\u{ff41}lice", "has a character that looks like `a`: U+FF41 (of full width)");
    is_said("\"alice \"", "this value ends with a blank: U+0020 (space)");
    is_said("\" alice\"", "this value begins with a blank: U+0020 (space)");
    let quoted = problems("domain: \u{201c}d\u{201d}\ndescriptors: []\n", &[]);
    let said: Vec<String> = quoted.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        said[0],
        "a.yaml:1:9: this domain has a quotation mark that is a part of it: U+201C (left double quotation mark) \
         [odd-character] (YAML's quotes are `\"` and `'`)"
    );
}

#[test]
fn text_in_another_script_is_as_it_looks() {
    for value in ["алиса", "Ελένη", "爱丽丝", "müller", "naïve", "😀"] {
        assert_eq!(of_value(value), [""; 0], "{value}");
    }
}

#[test]
fn a_regular_expression_is_told_from_a_path_and_a_wildcard() {
    for likely in [
        "^/v1/.*$",
        "/v1/.*",
        ".*",
        "/users/[0-9]+",
        "[^/]+",
        "api\\.example\\.com",
        "^admin",
        "/(a|b)/x",
        "(?i)alice",
        "\\d+",
        "user-\\w+$",
    ] {
        assert!(regular_expression::is_likely(likely), "{likely}");
    }
    for usual in [
        "/v1/*",
        "index.*",
        "*.example.com",
        "/a.b/c",
        "[::1]:8080",
        "US$",
        "a+b@example.com",
        "/users/{id}",
        "CORP\\dave",
        "what?",
        "f(x)",
        "C++",
        "^",
        "*",
        "/v1/**",
    ] {
        assert!(!regular_expression::is_likely(usual), "{usual}");
    }
    assert_eq!(regular_expression::as_wildcards("^/v1/.*$").as_deref(), Some("/v1/*"));
    assert_eq!(regular_expression::as_wildcards("api\\.example\\.com").as_deref(), Some("api.example.com"));
    assert_eq!(regular_expression::as_wildcards("/(a|b)/x"), None);
}

#[test]
fn a_pattern_where_it_is_taken_literally_is_warned_of() {
    let all = "domain: api-*\n\
        shortcuts: {user: ['user*']}\n\
        tiers: {'g*': {requests_per_unit: 1, unit: second}}\n\
        descriptors:\n\
        - {key: user, value: ^a.*$, rate_limit: {tier: 'g*', name: 'n*'}}\n\
        - {key: ^path$|x, rate_limit: {requests: 1, window: 1s, replaces: [{name: 'n*'}]}}\n\
        - {key: q, overrides: [{match: {q: '^b(c|d)'}, limit: 1/s}], rate_limit: 5/s}\n";
    let said: Vec<String> = said(all).into_iter().filter(|line| line.contains("literal-pattern")).collect();
    let places: Vec<&str> = said.iter().map(|line| line.split(' ').next().expect("a place")).collect();
    assert_eq!(places, ["1:9", "2:20", "3:9", "5:22", "5:60", "6:9", "6:75", "7:36"], "{said:#?}");
    assert!(said[3].contains("only `*` has a meaning: `^a.*$` isn't read as a regular expression"), "{}", said[3]);
    let gateway = "domain: d\ndescriptors:\n- {key: 'r/match/0/*', value: 'r/match/0/*', rate_limit: 5/s}\n";
    assert_eq!(problems(gateway, &[]).iter().count(), 0, "a key that is its value is a name");
}

#[test]
fn rows_of_overrides_are_looked_at_in_every_form() {
    let rules =
        |name: &str| format!("domain: d\ndescriptors:\n- {{key: user, rate_limit: 5/s, overrides_from: [{name}]}}\n");
    for (name, text, at) in [
        ("u.csv", "match.user,limit\nbob,5/s\nal\u{200b}ice,5/s\n", (3, 3)),
        ("u.ndjson", "{\"match\": {\"user\": \"al\u{200b}ice\"}, \"limit\": \"5/s\"}\n", (1, 23)),
        ("u.yaml", "- match: {user: al\u{200b}ice}\n  limit: 5/s\n", (1, 19)),
    ] {
        let problems = problems(&rules(name), &[(name, text)]);
        let found: Vec<_> = problems.iter().map(|it| (it.name, (it.line, it.column))).collect();
        assert_eq!(found, [(Some(Warning::OddCharacter), at)], "{}", problems.render());
    }
    let allowed = "- match: {user: al\u{200b}ice} # tollgate: allow odd-character\n  limit: 5/s\n";
    assert!(problems(&rules("u.yaml"), &[("u.yaml", allowed)]).is_empty());
}

use super::*;

fn allowed(text: &str) -> Allowed {
    Allowed::of(text).expect("the text has such a comment")
}

#[test]
fn names_are_words_of_their_own() {
    for warning in Warning::ALL {
        let name = warning.name();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        assert_eq!(Warning::parse(name), Some(warning), "no other has this name");
    }
}

/// The table in the docs has every warning, in the order of the enum, with what it means.
#[test]
fn the_docs_have_every_warning_and_what_it_means() {
    let page = include_str!("../../../docs/src/reference/rule-errors.md");
    let table = page
        .split("| warning | what it means |\n|---|---|\n")
        .nth(1)
        .expect("docs/src/reference/rule-errors.md has the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<String> =
        Warning::ALL.iter().map(|warning| format!("| `{}` | {} |", warning.name(), warning.meaning())).collect();
    assert_eq!(rows, expected, "the table should be\n{}", expected.join("\n"));
}

#[test]
fn a_comment_allows_warnings_on_its_line_alone() {
    let allowed = allowed(
        "domain: d\n\
         descriptors: # tollgate: allow zero-limit\n\
         - key: a   #   tollgate: allow zero-limit, ignored-key -- the next release removes it\n\
         - key: b # tollgate: allow repeated-key (both are meant)\n",
    );
    assert!(
        allowed.has(2, Warning::ZeroLimit)
            && !allowed.has(2, Warning::IgnoredKey)
            && !allowed.has(1, Warning::ZeroLimit)
    );
    assert!(allowed.has(3, Warning::ZeroLimit) && allowed.has(3, Warning::IgnoredKey));
    assert!(allowed.has(4, Warning::RepeatedKey));
    assert_eq!(allowed.unknown, []);
}

#[test]
fn only_a_comment_allows_and_an_unknown_name_is_known_by_its_place() {
    assert!(Allowed::of("domain: d # allow zero-limit").is_none());
    let allowed = allowed("domain: a#tollgate: allow zero-limit\ndomain: ä # tollgate: allow zero-limit zero-limits\n");
    assert!(!allowed.has(1, Warning::ZeroLimit), "a `#` within a word begins no comment");
    assert!(allowed.has(2, Warning::ZeroLimit));
    let at = Location { line: 2, column: 40, width: 11 };
    assert_eq!(allowed.unknown, [(at, "zero-limits".to_owned())]);
}

use super::*;

#[test]
fn a_star_that_is_meant_has_a_backslash_and_any_other_is_refused() {
    for (written, meant) in [
        ("alice", Some("alice")),
        (r"c:\x", Some(r"c:\x")),
        ("*", None),
        ("acme-*", None),
        (r"\*", Some("*")),
        (r"a\*b\*", Some("a*b*")),
        (r"a\*b*", None),
        (r"\\*", None),
        (r"\\\*", Some(r"\*")),
        (r"x\", Some(r"x\")),
    ] {
        assert_eq!(read(written).as_deref(), meant, "{written}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    for value in ["alice", "*", "**", "a*b", r"\*", r"\\*x\", r"c:\x", "é*"] {
        assert_eq!(read(&write(value)).as_deref(), Some(value), "{}", write(value));
    }
}

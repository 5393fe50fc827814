use std::{fs, path::Path};

use super::{super::Overrides, *};

fn line(id: &str, version: u64) -> String {
    let record = format!(r#"{{"override":{{"match":{{"user":"{id}"}},"limit":"5/s"}},"limits":[],"by":"ops","at":1}}"#);
    let line = JournalLine { domain: "api".into(), id: id.into(), version, record: Some(record.into()) };
    serde_json::to_string(&line).expect("plain fields have a JSON form") + "\n"
}

/// Of a directory whose journal has these bytes: the rows among `a`, `b` and `c` that are taken from it.
fn opened(directory: &Path, journal: &[u8]) -> String {
    fs::write(directory.join(OVERRIDES), journal).expect("it is written");
    let overrides = Overrides::in_process(Some(directory)).expect("it starts");
    ["a", "b", "c"].into_iter().filter(|id| overrides.get("api", id).is_some()).collect()
}

fn aside(directory: &Path) -> Option<Vec<u8>> {
    fs::read(directory.join("overrides.ndjson.damaged")).ok()
}

#[test]
fn a_damaged_journal_is_set_aside_whole_and_only_its_readable_lines_are_in_force() {
    let (a, b, c) = (line("a", 1), line("b", 2), line("c", 3));
    let damages: [(&str, Vec<u8>, &str); 5] = [
        ("a line in the middle", [&*a, &b[..20], "\n", &c].concat().into(), "ac"),
        ("a number that is none", [&*a, &b.replace(r#""version":2"#, r#""version":-2"#), &c].concat().into(), "ac"),
        ("bytes that are no text", [a.as_bytes(), b"\xff\x00\n", c.as_bytes()].concat(), "ac"),
        ("an end of zeros", [a.as_bytes(), &[0; 64]].concat(), "a"),
        ("nothing but something else", vec![b'#'; 64], ""),
    ];
    for (what, journal, expected) in damages {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        assert_eq!(opened(path, &journal), expected, "{what}");
        assert_eq!(aside(path).as_ref(), Some(&journal), "{what}: it is kept as it was");
        // What is left can be read, so the next start has nothing to tell.
        fs::remove_file(path.join("overrides.ndjson.damaged")).expect("it is there");
        let left = fs::read(path.join(OVERRIDES)).expect("it is there");
        assert_eq!(opened(path, &left), expected, "{what}, started again");
        assert_eq!(aside(path), None, "{what}, started again");
    }
}

#[test]
fn a_line_that_a_crash_cut_off_is_dropped_and_the_next_write_is_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    let (a, b) = (line("a", 1), line("b", 2));
    for cut in 1..b.len() {
        assert_eq!(opened(path, [&*a, &b[..cut]].concat().as_bytes()), "a", "cut after {cut} bytes");
        assert_eq!(fs::read_to_string(path.join(OVERRIDES)).expect("it is there"), a, "cut after {cut} bytes");
    }
    assert_eq!(aside(path), None, "nothing that was ever answered is lost");
}

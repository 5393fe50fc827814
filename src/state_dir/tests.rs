use std::{os::unix::fs::PermissionsExt, thread};

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn of_many_writers_each_leaves_a_whole_file_and_no_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("rules.json");
    replace_checked(&path, b"0").expect("the directory is ours");
    thread::scope(|scope| {
        for writer in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                for length in 1..40 {
                    replace_checked(path, &vec![b'a' + writer; length * 1_000]).expect("the directory is ours");
                }
            });
        }
        for _ in 0..200 {
            let read = read_checked(&path).expect("it is whole at any time").expect("it is there at any time");
            assert!(read.iter().all(|byte| *byte == read[0]));
        }
    });
    assert_eq!(names(directory.path()), ["rules.json"]);
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn planted_links_are_not_followed_and_what_a_crash_left_goes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, victim) = (directory.path().join("rules.json"), directory.path().join("victim"));
    fs::write(&victim, "untouched").expect("the directory is ours");
    for planted in ["rules.json", "rules.json.new", "rules.json.0123456789abcdef.new"] {
        std::os::unix::fs::symlink(&victim, directory.path().join(planted)).expect("the name is free");
    }
    fs::write(directory.path().join("rules.json.left.new"), "half").expect("the directory is ours");
    assert!(options(&path).is_err_and(|error| error.to_string().contains("it is a link")));
    replace_checked(&path, b"rules").expect("the directory is ours");
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "untouched");
    assert_eq!(names(directory.path()), ["rules.json", "victim"]);
    assert!(!path.is_symlink());
    assert_eq!(read_checked(&path).expect("it can be read").as_deref(), Some(&b"rules"[..]));
}

#[test]
fn a_temporary_file_that_somebody_writes_stays() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("counters");
    let other = Temporary::new(&path).expect("the directory is ours");
    replace_checked(&path, b"1").expect("the directory is ours");
    assert!(other.path.exists());
    drop(other);
    assert_eq!(names(directory.path()), ["counters"]);
}

#[test]
fn a_write_that_fails_leaves_the_file_before() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("counters");
    replace_checked(&path, b"1").expect("the directory is ours");
    let failed = replace(&path, |out| out.write_all(b"half").and_then(|()| Err::<(), _>(io::Error::other("no room"))));
    assert!(failed.is_err_and(|error| error.to_string().contains("no room")));
    assert_eq!(read_checked(&path).expect("it can be read").as_deref(), Some(&b"1"[..]));
    assert_eq!(names(directory.path()), ["counters"]);
}

#[test]
fn any_flipped_bit_of_a_file_or_of_a_line_is_seen() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("rules.json");
    let content = br#"[{"path":"a.yaml","text":"domain: d"}]"#;
    replace_checked(&path, content).expect("the directory is ours");
    let bytes = fs::read(&path).expect("it is there");
    let line = line(r#"{"id":"a","version":1}"#).into_bytes();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).expect("the directory is ours");
        // What no longer begins as it should is taken for a file without a checksum, and is no JSON then.
        let read =
            read_checked(&path).map(|read| serde_json::from_slice::<serde_json::Value>(&read.expect("it is there")));
        assert!(!matches!(read, Ok(Ok(_))), "bit {bit}");
    }
    for bit in 0..8 * (line.len() - 1) {
        let mut flipped = line.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let read = unline(&flipped).ok().and_then(|line| serde_json::from_slice::<serde_json::Value>(&line).ok());
        // The name of the checksum's field can be spoiled alone: then it is a field that nobody knows.
        assert!(read.is_none_or(|read| read["id"] == "a" && read["version"] == 1), "bit {bit}");
    }
}

#[test]
fn files_and_lines_of_versions_without_checksums_are_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("rules.json");
    assert_eq!(read_checked(&path).expect("there is nothing"), None);
    fs::write(&path, "[]").expect("the directory is ours");
    assert_eq!(read_checked(&path).expect("it can be read").as_deref(), Some(&b"[]"[..]));
    assert_eq!(unline(b"{\"id\":\"a\"}\n"), Ok(b"{\"id\":\"a\"}\n".to_vec()));
}

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::file::LogFile;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_file_that_is_full_is_renamed_and_so_many_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("decisions.log");
    let mut file = LogFile::open(&path, 10, 2).expect("a file");
    for line in ["one\n", "two\n", "three\n", "four four four\n", "five\n"] {
        file.write(line.as_bytes()).expect("written");
    }
    assert_eq!(text(&path), "five\n");
    assert_eq!(text(&directory.path().join("decisions.log.1")), "four four four\n");
    assert_eq!(text(&directory.path().join("decisions.log.2")), "three\n");
    assert!(!directory.path().join("decisions.log.3").exists());
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
}

#[test]
fn without_a_file_to_keep_the_old_lines_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("decisions.log");
    let mut file = LogFile::open(&path, 10, 0).expect("a file");
    file.write(b"one two\n").expect("written");
    file.write(b"three\n").expect("written");
    assert_eq!(text(&path), "three\n");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

#[test]
fn a_line_that_was_cut_off_is_ended_and_one_without_end_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("decisions.log");
    fs::write(&path, "{\"v\":1,\"samp").expect("written");
    LogFile::open(&path, 0, 5).expect("a file").write(b"{}\n").expect("written");
    assert_eq!(text(&path), "{\"v\":1,\"samp\n{}\n");
    LogFile::open(&path, 0, 5).expect("a file").write(b"{}\n").expect("written");
    assert_eq!(text(&path), "{\"v\":1,\"samp\n{}\n{}\n");
}

#[test]
fn lines_go_to_what_has_the_name_after_others_renamed_the_file_or_emptied_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("decisions.log");
    let mut file = LogFile::open(&path, 0, 5).expect("a file");
    file.write(b"one\n").expect("written");
    let moved = directory.path().join("moved");
    fs::rename(&path, &moved).expect("renamed");
    file.write(b"two\n").expect("written");
    assert_eq!((text(&moved), text(&path)), ("one\n".into(), "two\n".into()));
    fs::write(&path, "").expect("emptied");
    file.write(b"three\n").expect("written");
    assert_eq!(text(&path), "three\n");
    fs::remove_file(&path).expect("removed");
    file.write(b"four\n").expect("written");
    assert_eq!(text(&path), "four\n");
}

#[test]
fn a_disk_that_is_full_leaves_no_half_line() {
    // What refuses every byte, as a full disk does.
    let full = Path::new("/dev/full");
    let mut file = LogFile::open(full, 10, 5).expect("it is there");
    file.write(b"one\n").expect_err("no room");
    file.write(b"two\n").expect_err("no room, and no file was renamed");
    assert!(full.exists());
}

#[test]
fn a_directory_or_a_place_that_is_not_there_is_an_error_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(LogFile::open(directory.path(), 0, 5).is_err());
    assert!(LogFile::open(&directory.path().join("no/such/log"), 0, 5).is_err());
}

use std::{
    env,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, Output, abort},
    thread,
};

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

/// The directory of a test that was begun again by [`again`].
const DIRECTORY: &str = "TOLLGATE_TEST_STATE_DIRECTORY";

/// Runs a test of this file in a process of its own, after the shell's `limits`.
fn again(test: &str, limits: &str, directory: &Path) -> Output {
    let script = format!("{limits}; exec \"$0\" --exact --nocapture state_dir::tests::{test}");
    let this = env::current_exe().expect("it runs");
    Command::new("sh").args(["-c", &script]).arg(this).env(DIRECTORY, directory).output().expect("there is a shell")
}

#[test]
fn a_crash_before_the_rename_leaves_the_file_before_and_the_next_write_sweeps_up() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let path = Path::new(&directory).join("counters");
        let crash = |out: &mut BufWriter<File>| -> io::Result<()> {
            out.write_all(b"half")?;
            out.flush()?;
            abort()
        };
        replace(&path, crash).map(drop).expect_err("it doesn't come back");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("counters");
    replace_checked(&path, b"1").expect("the directory is ours");
    let test = "a_crash_before_the_rename_leaves_the_file_before_and_the_next_write_sweeps_up";
    let ended = again(test, "ulimit -c 0", directory.path());
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
    let left = names(directory.path());
    assert!(left.len() == 2 && left[0] == "counters" && left[1].ends_with(TEMPORARY), "{left:?}");
    assert_eq!(fs::read(directory.path().join(&left[1])).expect("it is there"), b"half");
    assert_eq!(read_checked(&path).expect("it can be read").as_deref(), Some(&b"1"[..]));
    replace_checked(&path, b"2").expect("the directory is ours");
    assert_eq!(names(directory.path()), ["counters"]);
    assert_eq!(read_checked(&path).expect("it can be read").as_deref(), Some(&b"2"[..]));
}

/// A full disk takes a part of what is written, and then nothing: so does one on which no file may be longer than this.
const FULL: &str = "trap '' XFSZ; ulimit -f 8";

#[test]
fn a_full_disk_leaves_every_file_as_it_was_and_is_an_error_that_names_it() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ended =
            again("a_full_disk_leaves_every_file_as_it_was_and_is_an_error_that_names_it", FULL, directory.path());
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{ended:?}");
        return;
    };
    let directory = Path::new(&directory);
    let path = directory.join("rules.json");
    let file = CheckedFile::new(directory, "rules.json");
    file.save(b"1").expect("there is room");
    let error = file.save(&[b'x'; 1 << 20]).expect_err("there is no room").to_string();
    assert!(error.starts_with(&format!("{}.", path.display())), "{error}");
    assert_eq!(file.load(|content| Ok::<_, io::Error>(content.to_vec())).expect("it is whole"), Some(b"1".to_vec()));
    assert_eq!(names(directory), ["rules.json"]);

    // Half a line came to the disk, and must not be there for the next one to stand behind.
    let path = directory.join("overrides.ndjson");
    let (mut journal, _) = Journal::open::<Line>(path.clone()).expect("there is room");
    let long = Line { id: "x".repeat(700) };
    let kept = (0..).take_while(|_| journal.append(&long).is_ok()).count();
    let error = journal.append(&long).expect_err("there is still no room").to_string();
    assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
    journal.append(&Line { id: "y".to_owned() }).expect("there is room for a short one");
    let (_, lines) = Journal::open::<Line>(path).expect("it can be read");
    assert_eq!((lines.len(), &*lines[kept].id), (kept + 1, "y"));
    assert_eq!(names(directory), ["overrides.ndjson", "rules.json"], "nothing was damaged");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    id: String,
}

/// Nobody may make files in `/sys`, not even root.
#[test]
fn a_directory_that_cannot_be_written_is_an_error_that_names_the_file() {
    let there = Path::new("/sys");
    let errors = [
        ("/sys/rules.json.", CheckedFile::new(there, "rules.json").save(b"1").err()),
        ("/sys/overrides.ndjson: ", Journal::open::<Line>(there.join("overrides.ndjson")).err()),
        ("/sys/lock: ", lock(there).err()),
        ("/sys/tollgate: ", lock(&there.join("tollgate")).err()),
    ];
    for (named, error) in errors {
        let error = error.expect("nobody may").to_string();
        assert!(error.starts_with(named), "{error}");
    }
}

#[test]
fn a_directory_is_one_holders_at_a_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path().join("state");
    let first = lock(&directory).expect("the directory is ours");
    assert!(first.is_some() && lock(&directory).expect("it can be asked for").is_none());
    assert_eq!(directory.metadata().expect("it was made").permissions().mode() & 0o777, 0o700);
    drop(first);
    assert!(lock(&directory).expect("the directory is ours").is_some());
}

use std::{fs, io::Write as _};

use flate2::{Compression, write::GzEncoder};

use super::*;

fn line(seconds: f64, user: &str, more: &str) -> String {
    format!(
        r#"{{"t":{seconds},"domain":"api","descriptors":[{{"entries":[{{"key":"user","value":"{user}"}}]}}]{more}}}"#
    ) + "\n"
}

struct Logs {
    directory: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Logs {
    fn new(texts: &[&[u8]]) -> Logs {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |(nth, text): (usize, &&[u8])| {
            let path = directory.path().join(format!("{nth}.log"));
            fs::write(&path, text).expect("a file");
            path
        };
        let paths = texts.iter().enumerate().map(write).collect();
        Logs { directory, paths }
    }

    /// Times and users in the order in which they come, what is said of the logs, or what is wrong.
    fn read(&self) -> (Vec<(f64, String)>, InputCounts, Option<String>) {
        let mut requests = Vec::new();
        let mut input = match Input::open(&self.paths, || Ok(Box::new(DecisionLog))) {
            Ok(input) => input,
            Err(error) => return (requests, InputCounts::default(), Some(self.placeless(&error))),
        };
        loop {
            match input.next() {
                Ok(Some((recorded, at))) => {
                    let request = recorded.request();
                    requests.push((at.0 as f64 / 1e6, request.descriptors[0].entries[0].value.to_owned()));
                }
                Ok(None) => return (requests, input.counts, None),
                Err(error) => return (requests, input.counts.clone(), Some(self.placeless(&error))),
            }
        }
    }

    fn placeless(&self, error: &anyhow::Error) -> String {
        format!("{error:#}").replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    to.write_all(text.as_bytes()).expect("it is memory");
    to.finish().expect("it is memory")
}

fn pairs(expected: &[(f64, &str)]) -> Vec<(f64, String)> {
    expected.iter().map(|(at, user)| (*at, (*user).to_owned())).collect()
}

#[test]
fn several_logs_are_one_in_the_order_of_time_whether_they_are_packed_or_not() {
    let one = line(1.0, "a", "") + "\n" + &line(3.0, "b", "") + &line(5.5, "c", "");
    // Two packed files in one, as a log has that is packed piece by piece.
    let other = [packed(&line(2.0, "d", "")), packed(&(line(3.0, "e", "") + &line(9.0, "f", "")))].concat();
    let logs = Logs::new(&[one.as_bytes(), &other, b""]);
    let expected = pairs(&[(1.0, "a"), (2.0, "d"), (3.0, "b"), (3.0, "e"), (5.5, "c"), (9.0, "f")]);
    assert_eq!(logs.read(), (expected, InputCounts::default(), None));
}

#[test]
fn a_request_that_comes_late_is_played_at_the_newest_time_and_counted() {
    let log = line(5.0, "a", "") + &line(4.0, "b", "") + &line(6.0, "c", "");
    let counts = InputCounts { out_of_order: 1, ..InputCounts::default() };
    assert_eq!(Logs::new(&[log.as_bytes()]).read(), (pairs(&[(5.0, "a"), (5.0, "b"), (6.0, "c")]), counts, None));
}

#[test]
fn a_last_line_that_is_cut_off_is_left_out_and_counted() {
    let whole = line(1.0, "a", "") + &line(2.0, "b", "");
    let truncated = InputCounts { truncated: 1, ..InputCounts::default() };
    for cut in [1, 10, 40] {
        let text = &whole[..whole.len() - 1 - cut];
        assert_eq!(Logs::new(&[text.as_bytes()]).read(), (pairs(&[(1.0, "a")]), truncated.clone(), None), "{cut}");
    }
    let without_end = &whole[..whole.len() - 1];
    let both = pairs(&[(1.0, "a"), (2.0, "b")]);
    assert_eq!(Logs::new(&[without_end.as_bytes()]).read(), (both.clone(), InputCounts::default(), None));
    let mut packed = packed(&whole);
    packed.truncate(packed.len() - 4);
    assert_eq!(Logs::new(&[&packed]).read(), (both, truncated, None), "the end of a packed log");
}

#[test]
fn a_bad_line_is_one_error_with_its_place() {
    let log = line(1.0, "a", "") + "{}\n" + &line(2.0, "b", "");
    let (requests, _, error) = Logs::new(&[log.as_bytes()]).read();
    assert_eq!((requests.len(), error.as_deref()), (1, Some("0.log:2: there is no `t`")));
    let (_, _, error) = Logs::new(&[b"\xff\xfe\n"]).read();
    assert_eq!(error.as_deref(), Some("0.log:1: this is no JSON: expected value at column 1"));
    let logs = Logs::new(&[]);
    let absent = Logs { paths: vec![logs.directory.path().join("absent")], directory: logs.directory };
    assert_eq!(absent.read().2.as_deref(), Some("absent can't be read: No such file or directory (os error 2)"));
    let directory = Logs { paths: vec![absent.directory.path().to_owned()], directory: absent.directory };
    assert!(directory.read().2.expect("an error").contains("is a directory: name the logs in it"));
}

#[test]
fn denials_are_left_out_and_samples_are_not_mixed() {
    let sampled = r#","sample":"1%","by":"user""#;
    let log = line(1.0, "a", sampled) + &line(2.0, "b", r#","sample":"denied""#) + &line(3.0, "a", sampled);
    let denials = InputCounts { denials: 1, ..InputCounts::default() };
    assert_eq!(Logs::new(&[log.as_bytes()]).read(), (pairs(&[(1.0, "a"), (3.0, "a")]), denials, None));
    // Clients of another rule are told apart by another key, and refusals come in two kinds.
    let log = line(1.0, "a", sampled)
        + &line(2.0, "b", r#","sample":"1%","by":"tenant""#)
        + &line(3.0, "c", r#","sample":"1%""#)
        + &line(4.0, "d", r#","sample":"denied_first""#)
        + &line(5.0, "e", r#","sample":"denied_1%""#);
    let (requests, counts, error) = Logs::new(&[log.as_bytes()]).read();
    assert_eq!((requests.len(), counts.denials, error), (3, 2, None));
    for other in [r#","sample":"2%","by":"user""#, "", r#","sample":"all""#] {
        let log = line(1.0, "a", sampled) + &line(2.0, "b", other);
        let error = Logs::new(&[log.as_bytes()]).read().2.expect("an error");
        assert!(error.starts_with("0.log:2: this request is of another sample"), "{error}");
    }
}

//! What logs `tollgate replay` takes: several, packed, from standard input, cut off, sampled.

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::{Played, fixed, hour, log};
use crate::{asking::Ran, rules_golden::text};

#[test]
fn a_log_in_pieces_packed_or_from_standard_input_is_the_same_log() {
    let requests = hour();
    let whole = log(&requests);
    let played = Played::new(&whole);
    let rules = played.rules("new.yaml", &fixed(5));
    let expected = played.run(&["--rules", text(&rules)]).out;
    assert!(expected.contains("20,000 requests"), "{expected}");

    // Every third request of each replica, one of them packed.
    let mut paths = Vec::new();
    for nth in 0..3 {
        let piece: Vec<_> = requests.iter().copied().skip(nth).step_by(3).collect();
        let path = played.path(&format!("piece-{nth}"));
        match nth {
            1 => {
                let mut to = GzEncoder::new(File::create(&path).expect("a file"), Compression::fast());
                to.write_all(log(&piece).as_bytes()).and_then(|()| to.finish()).expect("it is written");
            }
            _ => fs::write(&path, log(&piece)).expect("it is written"),
        }
        paths.push(path);
    }
    let paths: Vec<&str> = paths.iter().map(|path| text(path)).collect();
    let pieces = Ran::with(&[&["replay"], &*paths, &["--rules", text(&rules)]].concat(), &[]);
    assert_eq!(pieces.out, expected);

    let piped = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["replay", "-", "--rules", text(&rules)])
        .stdin(Stdio::from(File::open(played.path("log.ndjson")).expect("the log")))
        .output()
        .expect("the binary was built with the tests");
    assert_eq!(String::from_utf8_lossy(&piped.stdout), expected);
    assert!(piped.stderr.is_empty(), "there is no progress where nobody looks: {piped:?}");
}

#[test]
fn a_bad_line_is_told_with_its_place_and_a_cut_off_one_is_counted() {
    let whole = log(&hour()[..50]);
    let played = Played::new(&whole[..whole.len() - 20]);
    let rules = played.rules("new.yaml", &fixed(5));
    let answer = played.json(&["--rules", text(&rules)]);
    assert_eq!((&answer["requests"], &answer["log"]["truncated"]), (&json!(49), &json!(1)));
    let ran = played.run(&["--rules", text(&rules)]);
    assert!(ran.out.contains("1 log with a last line that is cut off"), "{}", ran.out);

    let bad = Played::new(&whole.replacen("\"domain\":\"api\"", "\"domain\":7", 3));
    let rules = bad.rules("new.yaml", &fixed(5));
    let ran = bad.run(&["--rules", text(&rules)]);
    let expected = format!("{}:1: invalid type: integer `7`, expected a text", bad.path("log.ndjson").display());
    assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains(&expected), "{ran:?}");
    let empty = Played::new("");
    let rules = empty.rules("new.yaml", &fixed(5));
    let ran = empty.run(&["--rules", text(&rules)]);
    assert!(ran.code == 1 && ran.err.contains("there are no requests in the log"), "{ran:?}");
    let undecidable = Played::new("{\"t\":1,\"domain\":\"api\",\"descriptors\":[]}\n{}\n");
    let rules = undecidable.rules("new.yaml", &fixed(5));
    let ran = undecidable.run(&["--rules", text(&rules)]);
    assert!(ran.code == 1 && ran.err.contains("log.ndjson:1: the service refuses this request: "), "{ran:?}");
}

fn with(whole: &str, more: &str) -> String {
    whole.replace(r#","hits":1}"#, &format!(r#","hits":1,{more}}}"#))
}

#[test]
fn denials_alone_are_refused() {
    let whole = log(&hour()[..50]);
    for more in [r#""sample":"denied""#, r#""sample":"denied","code":"OVER_LIMIT""#, r#""code":"OVER_LIMIT""#] {
        let played = Played::new(&with(&whole, more));
        let rules = played.rules("new.yaml", &fixed(5));
        let ran = played.run(&["--rules", text(&rules)]);
        assert!(ran.code == 1 && ran.err.contains("the log holds denials only"), "{more}: {ran:?}");
    }
    let all = Played::new(&with(&whole, r#""sample":"all","code":"OVER_LIMIT""#));
    let rules = all.rules("new.yaml", &fixed(5));
    assert_eq!(all.run(&["--rules", text(&rules)]).code, 0, "whoever records all was refused all");
}

/// A tenth of the clients tells what all do, if each stands for ten; limits that clients share count each hit ten times.
#[test]
fn a_sample_of_clients_is_said_and_scaled() {
    let requests = hour();
    let sampled: Vec<_> = requests.iter().copied().filter(|request| request.user % 10 == 3).collect();
    let played = Played::new(&with(&log(&sampled), r#""sample":"10%","by":"user""#));
    let rules = played.rules("new.yaml", &fixed(5));
    let answer = played.json(&["--rules", text(&rules)]);
    let alone = Played::new(&log(&sampled)).json(&["--rules", text(&rules)]);
    let sample = json!({"share": "10%", "by": ["user"], "requests": sampled.len(), "factor": 10.0});
    assert_eq!(answer["sample"], sample);
    for name in ["requests", "refused", "admitted"] {
        assert_eq!(answer[name], json!(alone[name].as_u64().unwrap() * 10), "{name}");
    }
    for name in ["counters", "counters_refused", "refused"] {
        let [scaled, own] = [&answer, &alone].map(|answer| answer["limits"][0][name].as_u64().unwrap());
        assert_eq!(scaled, own * 10, "{name}");
    }
    assert_eq!(answer["most_refused"], alone["most_refused"], "a client's own number isn't scaled");
    let said = played.run(&["--rules", text(&rules)]).out;
    assert!(said.contains("the log has 10% of clients, by `user`: its"), "{said}");
    assert!(said.contains("are scaled to all, each stands for 10"), "{said}");

    // The whole hour is 20,000 requests, of which a limit of all clients together refuses what is beyond 100 a minute.
    let with_host = |log: String| {
        log.replace(r#"}],"hits":1"#, r#"},{"entries":[{"key":"host","value":"x"}]}],"hits":1"#)
            .replace("]}},{", "]},{")
    };
    let shared = "domain: api\ndescriptors:\n  - key: host\n    rate_limit: {requests: 100, window: 1m, algorithm: fixed_window}\n";
    played.directory.write("shared.yaml", shared);
    let rules = played.path("shared.yaml");
    let all = Played::new(&with_host(log(&requests))).json(&["--rules", text(&rules)])["refused"].as_f64().unwrap();
    let few = Played::new(&with_host(with(&log(&sampled), r#""sample":"10%","by":"user""#)));
    let answer = few.json(&["--rules", text(&rules)]);
    assert_eq!((&answer["limits"][0]["estimated"], &answer["limits"][0]["counters"]), (&json!(true), &json!(1)));
    let few = answer["refused"].as_f64().unwrap() / answer["requests"].as_f64().unwrap();
    assert!((few - all / 20_000.0).abs() < 0.15, "{few} of the sample, {all} of 20000 of all");
}

const FIELDS: &str = "domain: api\ndescriptors: [{user: \"{WHO}\"}]\ntime: \"{TIME}\"\n";

/// The hour as other programs record it is the same hour.
#[test]
fn access_logs_and_csv_are_played_by_their_fields() {
    let requests = &hour()[..5_000];
    let played = Played::new(&log(requests));
    let rules = played.rules("new.yaml", &fixed(5));
    let expected = played.run(&["--rules", text(&rules)]).out;
    let write = |name: &str, fields: &str, lines: String| {
        played.directory.write("fields.yaml", fields);
        played.directory.write(name, &lines);
    };
    let run = |name: &str, from: &str| {
        let [log, fields] = [name, "fields.yaml"].map(|name| played.path(name));
        Ran::with(&["replay", text(&log), "--rules", text(&rules), "--from", from, "--fields", text(&fields)], &[])
    };
    let named = |time: &str, who: &str| FIELDS.replace("WHO", who).replace("TIME", time);
    let seconds = |at: u64| format!("{}.{:06}", at / 1_000_000, at % 1_000_000);

    let json = |request: &super::HourRequest| {
        format!("{{\"at\":{},\"jwt\":{{\"sub\":\"{}\"}},\"status\":200}}\n", seconds(request.at), request.user_name())
    };
    write("access.json", &named("at", "jwt.sub"), requests.iter().map(json).collect());
    assert_eq!(run("access.json", "envoy").out, expected);

    let line = |request: &super::HourRequest| format!("{} 200 \"{}\"\n", seconds(request.at), request.user_name());
    let format = "format: '%START_TIME(%s.%6f)% %RESPONSE_CODE% \"%REQ(X-USER)%\"'\n".to_owned();
    write("access.log", &(format + &named("START_TIME", "REQ(X-USER)")), requests.iter().map(line).collect());
    assert_eq!(run("access.log", "envoy").out, expected);

    let record = |request: &super::HourRequest| format!("\"{}\",{}\r\n", request.user_name(), seconds(request.at));
    let records: String = requests.iter().map(record).collect();
    write("log.csv", &named("t", "who"), format!("who,t\n{records}"));
    assert_eq!(run("log.csv", "csv").out, expected);

    // A quarter of the requests is of nobody.
    write("log.csv", &named("t", "who"), format!("who,t\n,1\n,2\n-,3\n{records}"));
    let ran = run("log.csv", "csv");
    assert!(ran.out.contains("3 lines with none of the descriptors left out"), "{ran:?}");
    write("log.csv", &named("t", "user"), format!("who,t\n{records}"));
    let ran = run("log.csv", "csv");
    assert!(
        ran.code == 1 && ran.err.contains("log.csv:1: there is no column `user`: the first line has who, t"),
        "{ran:?}"
    );
    write("log.csv", "time: \"{t}\"\ndomain: api\n", String::new());
    let ran = run("log.csv", "csv");
    assert!(
        ran.code == 1 && ran.err.contains("fields.yaml:1") && ran.err.contains("must have `descriptors`"),
        "{ran:?}"
    );
    write("access.json", &named("at", "sub"), requests.iter().map(json).collect());
    let ran = run("access.json", "envoy");
    assert!(ran.code == 1 && ran.err.contains("no line of the log has the fields of any descriptor"), "{ran:?}");
    let without = played.run(&["--rules", text(&rules), "--from", "csv"]);
    assert!(without.code == 2 && without.err.contains("--fields"), "{without:?}");
}

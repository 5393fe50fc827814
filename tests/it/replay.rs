//! `tollgate replay`: what recorded requests would be answered under other rules, against a model that is worked out here.

mod docs;
mod logs;
mod story;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{asking::Ran, harness::RulesDir, rules_golden::text};

#[path = "../../examples/support/recorded_hour.rs"]
#[allow(dead_code, reason = "a log offers more than each test needs")]
pub(crate) mod recorded_hour;

use recorded_hour::{HourRequest, RecordedHour};

const MINUTE: u64 = 60_000_000;

/// A log in a directory of its own, beside rules.
pub(crate) struct Played {
    directory: RulesDir,
}

impl Played {
    fn new(log: &str) -> Played {
        let directory = RulesDir::empty();
        directory.write("log.ndjson", log);
        Played { directory }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Rules with a fixed window of a minute, whose counts are simple to work out.
    fn rules(&self, name: &str, limit: &str) -> PathBuf {
        let rule = format!("domain: api\ndescriptors:\n  - key: user\n    rate_limit: {limit}\n");
        self.directory.write(name, &rule);
        self.path(name)
    }

    fn run(&self, args: &[&str]) -> Ran {
        let log = self.path("log.ndjson");
        Ran::with(&[&["replay", text(&log)], args].concat(), &[])
    }

    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!((ran.code, &*ran.err), (0, ""), "{args:?}");
        ran.json()
    }
}

fn hour() -> Vec<HourRequest> {
    RecordedHour { requests: 20_000, users: 500, seed: 7 }.requests()
}

pub(crate) fn log(requests: &[HourRequest]) -> String {
    let mut out = String::new();
    requests.iter().for_each(|request| request.line(&mut out));
    out
}

fn fixed(requests: u32) -> String {
    format!("{{requests: {requests}, window: 1m, algorithm: fixed_window}}")
}

/// For each request whether a fixed window of a minute refuses it.
fn refused(requests: &[HourRequest], limit: u32) -> Vec<bool> {
    let mut counts: HashMap<(usize, u64), u32> = HashMap::new();
    let refuses = |request: &HourRequest| {
        let count = counts.entry((request.user, request.at / MINUTE)).or_default();
        *count += 1;
        *count > limit
    };
    requests.iter().map(refuses).collect()
}

/// Users by how many of their requests this is true of, who has most first.
fn most(requests: &[HourRequest], is_so: impl Fn(usize) -> bool) -> Vec<(u64, String)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (_, request) in requests.iter().enumerate().filter(|(nth, _)| is_so(*nth)) {
        *counts.entry(request.user_name()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(user, count)| (count, format!("user={user}"))).collect();
    counts.sort_by(|(one, user), (other, other_user)| other.cmp(one).then_with(|| user.cmp(other_user)));
    counts
}

fn listed(list: &Value) -> Vec<(u64, String)> {
    let counters = list.as_array().expect("a list").iter();
    counters
        .map(|counter| (counter["requests"].as_u64().unwrap(), counter["descriptor"].as_str().unwrap().to_owned()))
        .collect()
}

fn sum(list: &Value) -> u64 {
    list.as_array().expect("a list").iter().map(|count| count.as_u64().expect("a count")).sum()
}

#[test]
fn an_hour_is_refused_as_the_model_refuses_it() {
    let requests = hour();
    let played = Played::new(&log(&requests));
    let rules = played.rules("new.yaml", &fixed(5));
    let answer = played.json(&["--rules", text(&rules), "--top", "7"]);
    let model = refused(&requests, 5);
    let users = most(&requests, |nth| model[nth]);
    let refused = model.iter().filter(|refused| **refused).count();
    assert!(refused > 1_000, "the model refuses too few to tell anything");
    assert_eq!(answer["requests"], 20_000);
    assert_eq!((&answer["refused"], &answer["admitted"]), (&json!(refused), &json!(20_000 - refused)));
    let limit = &answer["limits"][0];
    assert_eq!((&limit["limit_id"], &limit["limit"]), (&json!("api/user"), &json!("5 a minute, fixed_window")));
    assert_eq!((&limit["refused"], &limit["admitted"]), (&json!(refused), &json!(20_000 - refused)));
    let met: BTreeSet<_> = requests.iter().map(|request| request.user).collect();
    assert_eq!((&limit["counters"], &limit["counters_refused"]), (&json!(met.len()), &json!(users.len())));
    assert_eq!(listed(&answer["most_refused"]), users[..7]);
    assert_eq!(listed(&limit["most_refused"]), users[..7]);

    let over_time = &answer["over_time"];
    assert_eq!(over_time["bucket_seconds"], 64.0);
    assert_eq!(sum(&over_time["requests"]), 20_000);
    assert_eq!(sum(&over_time["refused"]), refused as u64);
    assert_eq!(sum(&limit["refused_over_time"]), refused as u64);
    let buckets = requests.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<_, u64>, request| {
        *counts.entry((request.at - recorded_hour::HOUR_BEGINS) / 64_000_000).or_default() += 1;
        counts
    });
    let fullest = buckets.values().max().expect("there are requests");
    assert_eq!(over_time["peak_requests"]["count"], *fullest, "{over_time}");
    for nothing in ["compared_with", "before", "newly_refused", "sample", "fit"] {
        assert!(answer.get(nothing).is_none(), "{nothing}");
    }
}

#[test]
fn other_rules_are_compared_request_by_request() {
    let requests = hour();
    let played = Played::new(&log(&requests));
    // One limit becomes less and another more, so that some are refused anew and others admitted.
    let (old, new) = (
        played.rules("old.yaml", &fixed(5)),
        played.rules("new.yaml", "{requests: 30, window: 10m, algorithm: fixed_window}"),
    );
    let [out, other_out] = ["out.ndjson", "other.ndjson"].map(|name| played.path(name));
    let args = ["--rules", text(&new), "--against", text(&old)];
    let answer = played.json(&[&args[..], &["--out", text(&out)]].concat());
    let before = refused(&requests, 5);
    let now = {
        let mut counts: HashMap<(usize, u64), u32> = HashMap::new();
        let refuses = |request: &HourRequest| {
            let count = counts.entry((request.user, request.at / (10 * MINUTE))).or_default();
            *count += 1;
            *count > 30
        };
        requests.iter().map(refuses).collect::<Vec<_>>()
    };
    let count = |is_so: &dyn Fn(usize) -> bool| (0..requests.len()).filter(|nth| is_so(*nth)).count();
    let newly_refused = |nth: usize| now[nth] && !before[nth];
    let newly_admitted = |nth: usize| before[nth] && !now[nth];
    let counts = [count(&|nth| before[nth]), count(&newly_refused), count(&newly_admitted)];
    assert!(counts.iter().all(|count| *count > 100), "{counts:?} tell nothing");
    let expected =
        json!({"requests": 20_000, "refused": counts[0], "newly_refused": counts[1], "newly_admitted": counts[2]});
    assert_eq!((&answer["before"], &answer["compared_with"]), (&expected, &json!("rules")));
    let limit = &answer["limits"][0];
    let expected =
        ["refused_before", "newly_refused", "newly_admitted"].map(|name| limit[name].as_u64().unwrap() as usize);
    assert_eq!(expected, counts);
    assert_eq!(limit["limit_before"], "5 a minute, fixed_window");
    assert_eq!(limit["counters_refused_before"], most(&requests, |nth| before[nth]).len());
    for (list, users) in
        [("newly_refused", most(&requests, newly_refused)), ("newly_admitted", most(&requests, newly_admitted))]
    {
        assert_eq!(listed(&answer[list]), users[..users.len().min(20)], "{list}");
    }

    let changed: Vec<Value> = fs::read_to_string(&out)
        .expect("the file was written")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let nths: Vec<usize> = (0..requests.len()).filter(|nth| newly_refused(*nth) || newly_admitted(*nth)).collect();
    assert_eq!(changed.len(), nths.len());
    for (line, nth) in changed.iter().zip(nths) {
        let request = requests[nth];
        let expected = json!({
            "t": request.at as f64 / 1e6,
            "now": if now[nth] { "refused" } else { "admitted" },
            "limit_id": "api/user",
            "domain": "api",
            "descriptors": [{"entries": [{"key": "user", "value": request.user_name()}]}],
            "hits": 1,
        });
        assert_eq!(*line, expected);
    }
    // What was written is a log too, and the same input gives the same bytes.
    for format in ["text", "json", "markdown"] {
        let again =
            [0, 1].map(|_| played.run(&[&args[..], &["--format", format, "--out", text(&other_out)]].concat()).out);
        assert!(again[0] == again[1] && !again[0].is_empty(), "{format}");
    }
    assert_eq!(fs::read(&out).expect("a file"), fs::read(&other_out).expect("a file"));
    let ran = Ran::with(&["replay", text(&out), "--rules", text(&new), "--json"], &[]);
    assert_eq!(ran.json()["requests"], changed.len());
}

/// Where the log has answers, they are what new rules are compared with.
#[test]
fn without_other_rules_the_answers_of_the_log_are_compared() {
    let requests = &hour()[..4_000];
    let was = refused(requests, 5);
    let mut lines = String::new();
    for (request, refused) in requests.iter().zip(&was) {
        let mut line = String::new();
        request.line(&mut line);
        let answer = match refused {
            true => r#","code":"OVER_LIMIT","limit_id":"api/user"}"#,
            false => r#","code":"OK"}"#,
        };
        lines += &line.replace("}\n", &format!("{answer}\n"));
    }
    let played = Played::new(&lines);
    let same = played.json(&["--rules", text(&played.rules("same.yaml", &fixed(5)))]);
    let refused_in_log = was.iter().filter(|refused| **refused).count();
    let expected = json!({"requests": 4_000, "refused": refused_in_log, "newly_refused": 0, "newly_admitted": 0});
    assert_eq!((&same["before"], &same["compared_with"]), (&expected, &json!("log")));
    let more = played.json(&["--rules", text(&played.rules("more.yaml", &fixed(8)))]);
    let admitted = most(requests, {
        let now = refused(requests, 8);
        let was = was.clone();
        move |nth| was[nth] && !now[nth]
    });
    assert_eq!(listed(&more["newly_admitted"]), admitted[..admitted.len().min(20)]);
    assert_eq!(listed(&more["newly_refused"]), []);
    // Which limit refused needs not be known.
    let played = Played::new(&lines.replace(r#","limit_id":"api/user""#, ""));
    let unknown = played.json(&["--rules", text(&played.rules("more.yaml", &fixed(8)))]);
    assert_eq!(listed(&unknown["newly_admitted"]), listed(&more["newly_admitted"]));
    let none = Played::new(&log(requests));
    let rules = none.rules("new.yaml", &fixed(5));
    let ran = none.run(&["--rules", text(&rules), "--out", text(&none.path("out"))]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("there is nothing to compare with: name the rules of before with --against"), "{ran:?}");
}

/// The number is the least that keeps the promise, by a replay with it.
#[test]
fn a_fitted_number_refuses_no_more_than_the_share_and_one_less_does() {
    let requests = RecordedHour { requests: 4_000, users: 200, seed: 7 }.requests();
    let users: BTreeSet<_> = requests.iter().map(|request| request.user).collect();
    let played = Played::new(&log(&requests));
    for algorithm in ["fixed_window", "sliding_window", "sliding_log"] {
        let limit = |requests: u64| format!("{{requests: {requests}, window: 1m, algorithm: {algorithm}}}");
        let rules = played.rules("new.yaml", &limit(5));
        let answer = played.json(&["--rules", text(&rules), "--fit", "p98"]);
        let fit = &answer["fit"][0];
        assert_eq!((&fit["limit_id"], &fit["counters"]), (&json!("api/user"), &json!(users.len())));
        let ever = |requests: u64| {
            let rules = played.rules("tried.yaml", &limit(requests));
            played.json(&["--rules", text(&rules)])["limits"][0]["counters_refused"].as_u64().unwrap()
        };
        let proposed = fit["proposed"]["requests"].as_u64().unwrap();
        let allowed = users.len() as u64 * 2 / 100;
        assert_eq!(fit["proposed"]["counters_refused"], ever(proposed), "{algorithm}: {fit}");
        assert!(ever(proposed) <= allowed && ever(proposed - 1) > allowed, "{algorithm}: {fit}");
        for point in fit["curve"].as_array().expect("a curve") {
            let requests = point["requests"].as_u64().unwrap();
            assert_eq!(point["counters_refused"], ever(requests), "{algorithm}: {point}");
        }
        assert_eq!(answer["refused"], played.json(&["--rules", text(&rules)])["refused"], "fitting changes nothing");
    }
    let bucket = played.rules("new.yaml", "{requests: 5, window: 1m, algorithm: token_bucket}");
    let ran = played.run(&["--rules", text(&bucket), "--fit", "p99", "--limit", "api/user"]);
    assert!(ran.code == 1 && ran.err.contains("api/user counts in a bucket, which has no single number"), "{ran:?}");
    let ran = played.run(&["--rules", text(&bucket), "--fit", "p99", "--limit", "api/x"]);
    assert!(ran.code == 1 && ran.err.contains("the rules have no limit api/x"), "{ran:?}");
}

#[test]
fn wrong_rules_and_command_lines_are_told() {
    let played = Played::new(&log(&hour()[..10]));
    let ran = played.run(&["--rules", text(&played.rules("new.yaml", "5/x"))]);
    assert!(ran.code == 1 && ran.err.contains("`5/x` is no limit"), "{ran:?}");
    let rules = played.rules("new.yaml", "5/m");
    for (args, code, what) in [
        (&["--rules", "/absent"][..], 1, "/absent"),
        (&["--rules", text(&rules), "--fit", "99"], 2, "write it as p99 or p99.9"),
        (&["--rules", text(&rules), "--top", "0"], 2, "--top"),
        (&["--rules", text(&rules), "--out", "/absent/out"], 1, "/absent/out can't be written"),
        (&[], 2, "--rules"),
    ] {
        let ran = played.run(args);
        assert!(ran.code == code && ran.err.contains(what) && ran.out.is_empty(), "{args:?}: {ran:?}");
    }
}

#[test]
fn a_revision_of_git_is_a_side_as_in_diff() {
    let played = Played::new(&log(&hour()));
    let rules = played.rules("api.yaml", "5/m");
    for args in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "."],
        &["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "--quiet", "-m", "first"],
    ] {
        let done = Command::new("git").args(args).current_dir(played.directory.path()).output().expect("git is there");
        assert!(done.status.success(), "{done:?}");
    }
    played.rules("old.yaml", "5/m");
    played.rules("api.yaml", "3/m");
    let replay = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let output = command.args(["replay", "log.ndjson"]).args(args).current_dir(played.directory.path()).output();
        let output = output.expect("the binary was built with the tests");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr), output.status.code())
    };
    let of_files = replay(&["--rules", "api.yaml", "--against", "old.yaml"]);
    assert_eq!((&*of_files.1, of_files.2), ("", Some(0)));
    assert!(of_files.0.contains("newly refused"), "{}", of_files.0);
    assert_eq!(replay(&["--rules", "api.yaml", "--against", "git:main:api.yaml"]), of_files);
    for (args, code, what) in [
        (&["--rules", text(&rules), "--against", "git:nope:api.yaml"][..], 1, "no revision `nope`"),
        (&["--rules", "git:main"], 2, "git:REVISION:PATH"),
        (&["--rules", "git:main:api.yaml", "--rules", "api.yaml"], 2, "name no other rules beside it"),
    ] {
        let (out, err, ended) = replay(args);
        assert!(out.is_empty() && ended == Some(code) && err.contains(what), "{args:?}: {err}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new("tests/replay").join(name)
}

/// Text, JSON and markdown, as they stand beside the log.
#[test]
fn reports_are_in_the_words_beside_the_log() {
    let [log, old, new] = ["small.ndjson", "old.yaml", "new.yaml"].map(golden);
    let args = ["replay", text(&log), "--rules", text(&new), "--against", text(&old), "--fit", "p50"];
    for (format, name) in [("text", "small.txt"), ("json", "small.json"), ("markdown", "small.md")] {
        let ran = Ran::with(&[&args[..], &["--format", format]].concat(), &[]);
        assert_eq!((ran.code, &*ran.err), (0, ""), "{format}");
        crate::rules_golden::assert_golden(&golden(name), &ran.out);
    }
}

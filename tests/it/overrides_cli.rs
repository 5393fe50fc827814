//! `tollgate overrides` against a running service that wants a token: what the commands change, print and refuse.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    api::{client::call, with_tokens},
    harness::{RulesDir, Tollgate, run_to_end},
};

const RULES: &str = "domain: api\n\
    tiers: {gold: 50/h}\n\
    descriptors:\n  \
    - {key: user, rate_limit: {requests_per_unit: 2, unit: hour}}\n";

/// A service whose token is `secret`, and a directory for files.
struct Bench {
    tollgate: Tollgate,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn start(rules: &RulesDir) -> Bench {
        let bench = Bench {
            tollgate: with_tokens(rules, &[]).await,
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        bench.write("token", "secret\n");
        bench
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with_token(&self.directory.path().join("token"), args)
    }

    fn run_with_token(&self, token: &Path, args: &[&str]) -> Ran {
        let (address, token) = (self.tollgate.grpc.to_string(), token.to_str().expect("text"));
        let (action, rest) = args.split_first().expect("an action");
        let service = ["--domain", "api", "--addr", &address, "--token-file", token];
        Ran::of(&[&["overrides", action][..], &service, rest].concat())
    }

    /// The limit that holds for a user.
    async fn limit(&self, user: &str) -> Value {
        let body = json!({"user": user, "hits": 0}).to_string();
        call(self.tollgate.http, "POST /v1/check", None, &body).await.json()["limit"].clone()
    }
}

struct Ran {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Ran {
    fn of(args: &[&str]) -> Ran {
        let output = run_to_end(args, &[]);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        Ran { out, err, code: output.status.code() }
    }

    /// What it printed, having done what it was told.
    fn done(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self.out
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }

    /// What it said instead.
    fn refused(self) -> String {
        assert_eq!((self.code, &*self.out), (Some(1), ""), "{}", self.err);
        self.err
    }
}

#[tokio::test]
async fn what_is_set_is_in_force_shown_listed_and_deleted() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let alice = ["set", "--match", "user=alice", "--limit", "300/m", "--for", "4h", "--reason", "ticket 42"];
    bench.run(&[&alice[..], &["--dry-run"]].concat()).done();
    assert_eq!(bench.limit("alice").await, 2, "a dry run changes nothing");
    let said = bench.run(&alice).done();
    let (touched, said) = said.split_once('\n').expect("two lines");
    assert_eq!(touched, "touches api/user: 2 in 3600 s, sliding_window → 300 in 60 s, sliding_window");
    assert!(said.starts_with("user:alice: user=alice: 300 in 60 s, sliding_window, ends 2"), "{said}");
    assert!(said.contains(", because ticket 42"), "{said}");
    assert_eq!(bench.limit("alice").await, 300);

    let shown = bench.run(&["get", "user:alice", "--json"]).json();
    assert_eq!(shown[0]["spec"]["match"], json!({"user": "alice"}));
    assert_eq!((&shown[0]["updated_by"], &shown[0]["spec"]["reason"]), (&json!("ops"), &json!("ticket 42")));
    let etag = shown[0]["etag"].as_str().expect("an etag").to_owned();
    bench.run(&["set", "vip", "--match", "user=bob", "--tier", "gold"]).done();
    assert_eq!(bench.limit("bob").await, 50);

    let ids = |ran: Ran| {
        ran.done().lines().map(|line| line.split(": ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(bench.run(&["list"])), ["user:alice", "vip"]);
    assert_eq!(ids(bench.run(&["list", "--key", "user", "--value-prefix", "al"])), ["user:alice"]);

    bench.run(&[&alice[..], &["--create-only"]].concat()).refused();
    bench.run(&[&alice[..], &["--if-match", "stale"]].concat()).refused();
    bench.run(&[&alice[..], &["--if-match", &etag]].concat()).done();

    bench.run(&["delete", "user:alice", "--dry-run"]).done();
    assert_eq!(bench.limit("alice").await, 300, "a dry run changes nothing");
    bench.run(&["delete", "user:alice", "--reason", "over"]).done();
    assert_eq!(bench.limit("alice").await, 2);
    let missing = bench.run(&["get", "user:alice"]).refused();
    assert!(missing.contains("there is no override `user:alice`"), "{missing}");
    let audit = call(bench.tollgate.http, "GET /v1/audit?domain=api", Some("secret"), "").await.json();
    assert_eq!(
        (&audit["entries"][0]["action"], &audit["entries"][0]["reason"]),
        (&json!("override.delete"), &json!("over"))
    );
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let file = bench.write(
        "first.csv",
        "\u{feff}match.user,limit,tier,expires,reason\r\nalice,300/m,,2100-01-01,\"a, \"\"b\"\"\"\r\nbob,,gold,,\r\nroot,unlimited,,,\r\n",
    );
    let file = file.to_str().expect("text");
    assert_eq!(bench.run(&["import", file, "--dry-run"]).done(), "3 are good; nothing was changed\n");
    assert_eq!(bench.run(&["list"]).done(), "");
    assert_eq!(bench.run(&["import", file]).done(), "3 written\n");
    assert_eq!((bench.limit("alice").await, bench.limit("bob").await), (json!(300), json!(50)));
    assert_eq!(bench.limit("root").await, Value::Null);

    for (name, more) in [("again.csv", &[][..]), ("again.ndjson", &["--ndjson"][..])] {
        let exported = bench.run(&[&["export"][..], more].concat()).done();
        for id in ["user:alice", "user:bob", "user:root"] {
            bench.run(&["delete", id]).done();
        }
        assert_eq!(bench.limit("alice").await, 2);
        let path = bench.write(name, &exported);
        let outcome = bench.run(&["import", path.to_str().expect("text"), "--json"]).json();
        assert_eq!(outcome, json!({"rows": 3, "written": 3, "dry_run": false, "errors": []}));
        assert_eq!(bench.run(&[&["export"][..], more].concat()).done(), exported);
        assert_eq!((bench.limit("alice").await, bench.limit("bob").await), (json!(300), json!(50)));
    }
}

#[tokio::test]
async fn what_no_row_of_csv_holds_is_refused_with_the_way_out_and_exported_and_imported_as_ndjson() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let put = async |id: &str, spec: &Value| {
        let what = format!("PUT /v1/domains/api/overrides/{id}");
        let answer = call(bench.tollgate.http, &what, Some("secret"), &spec.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    };
    let plain = json!({"match": {"user": "bob"}, "limit": "9/h"});
    put("plain", &plain).await;
    let specs = [
        json!({"match": {"user": "two"}, "limit": [{"name": "m", "requests": 5, "window": "1m"}, "9/h"]}),
        json!({"match": {"user": "window"}, "limit": {"requests": 5, "window": "90s", "sub_windows": 8}}),
        json!({"match": {"user": "denied"}, "limit": {"tier": "gold", "count_denied": true, "enforce": false}}),
        json!({"match": {"user": "budget"}, "limit": {"requests": 5, "window": "1h", "count_denied": "reported"}}),
        json!({"match": {"user": "fails"}, "limit": {"requests": 5, "window": "1h", "on_store_failure": "closed"},
            "reason": "a\nb, \"c\"", "owner": "sales", "expires": "2100-01-01T00:00:00Z"}),
    ];
    for (nth, spec) in specs.iter().enumerate() {
        let id = format!("full-{nth}");
        put(&id, spec).await;
        let said = bench.run(&["export"]).refused();
        assert!(said.contains(&format!("`{id}`")) && said.contains("export with --ndjson"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        bench.run(&["delete", &id]).done();
    }
    assert!(bench.run(&["export"]).done().contains("bob"), "what has room is exported");

    for (nth, spec) in specs.iter().enumerate() {
        put(&format!("full-{nth}"), spec).await;
    }
    let exported = bench.run(&["export", "--ndjson"]).done();
    assert_eq!(exported.lines().count(), specs.len() + 1, "{exported}");
    let ids = ["plain", "full-0", "full-1", "full-2", "full-3", "full-4"];
    for id in ids {
        bench.run(&["delete", id]).done();
    }
    let path = bench.write("all.ndjson", &exported);
    assert_eq!(bench.run(&["import", path.to_str().expect("text")]).done(), "6 written\n");
    for (id, spec) in ids.iter().zip([&plain].into_iter().chain(&specs)) {
        let found = call(bench.tollgate.http, &format!("GET /v1/domains/api/overrides/{id}"), Some("secret"), "").await;
        assert_eq!(&found.json()["spec"], spec, "{id}");
    }
    assert_eq!(bench.run(&["export", "--ndjson"]).done(), exported);
}

#[tokio::test]
async fn a_long_import_shows_its_progress_on_a_terminal_alone_and_is_exported_page_by_page() {
    // More than a page of the list.
    const ROWS: usize = 1_100;
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let rows: String = (0..ROWS).map(|nth| format!("user{nth},9/h\n")).collect();
    let file = bench.write("long.csv", &format!("match.user,limit\n{rows}"));
    let file = file.to_str().expect("text");
    assert_eq!(bench.run(&["import", file]).done(), format!("{ROWS} written\n"));

    // `script` runs it on a terminal of its own, and passes on what stands there.
    let (address, token) = (bench.tollgate.grpc.to_string(), bench.directory.path().join("token"));
    let words = [env!("CARGO_BIN_EXE_tollgate"), "overrides", "import", "--domain", "api", "--addr", &address];
    let line = words.join(" ") + &format!(" --token-file {} {file}", token.display());
    let ran = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let ran = ran.expect("`script` is a part of every Debian");
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && shown.ends_with(&format!("{ROWS} written\r\n")), "{shown}");
    for what in ["checked", "written"] {
        let bar = format!("[{}] {ROWS} of {ROWS} {what}", "#".repeat(40));
        assert!(shown.contains(&bar), "no {bar}:\n{shown}");
        let half = shown.split('\r').filter(|bar| bar.contains("#-") && bar.ends_with(what)).count();
        assert!(half > 10, "it grows: {half} steps:\n{shown}");
    }

    let exported = bench.run(&["export"]).done();
    assert_eq!(exported.lines().count(), 1 + ROWS);
    assert_eq!(bench.run(&["list"]).done().lines().count(), ROWS);
    assert!((0..ROWS).all(|nth| exported.contains(&format!("\nuser{nth},"))), "each of them");
}

#[tokio::test]
async fn bad_rows_are_listed_with_their_places_and_nothing_is_written() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    // The file itself, before the service is asked; then what only the service knows.
    let unread =
        bench.write("unread.csv", "match.user,requests_per_unit,unit\nal,5,minute\nbob,,minute\neve,x,minute\n");
    let said = bench.run(&["import", unread.to_str().expect("text")]).refused();
    assert!(said.contains("unread.csv:4:5: `requests_per_unit` must be a whole number, not `x`"), "{said}");
    let text = "match.user,limit,tier,expires\nal,5/m,,\nbob,,gould,\neve,5/m,,2001-01-01\nzoe,0/fortnight,,\n";
    let refused = bench.write("refused.csv", text);
    let refused = refused.to_str().expect("text");
    let said = bench.run(&["import", refused]).refused();
    for place in ["refused.csv:3:1: ", "refused.csv:4:1: ", "refused.csv:5:1: ", "3 wrong; nothing was changed"] {
        assert!(said.contains(place), "no {place}:\n{said}");
    }
    assert!(said.contains("gold") && said.contains("past"), "{said}");
    assert!(!said.contains("override, line"), "a place that isn't in the file:\n{said}");
    let ran = bench.run(&["import", refused, "--json"]);
    assert_eq!((ran.code, &*ran.err), (Some(1), ""));
    let outcome = ran.json();
    assert_eq!((&outcome["rows"], &outcome["written"]), (&json!(4), &json!(0)));
    let lines: Vec<_> = outcome["errors"].as_array().expect("a list").iter().map(|error| &error["line"]).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(bench.run(&["list"]).done(), "");
    assert_eq!(bench.limit("al").await, 2, "the good row neither");
}

#[tokio::test]
async fn without_the_right_token_nothing_is_told_or_changed() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let wrong = bench.write("wrong", "sesame");
    let file = bench.write("two.csv", "match.user,limit\nalice,5/m\nbob,5/m\n");
    let file = file.to_str().expect("text");
    let calls: [&[&str]; 5] = [
        &["set", "--match", "user=alice", "--limit", "5/m"],
        &["get", "user:alice"],
        &["list"],
        &["delete", "user:alice"],
        &["export"],
    ];
    for args in calls {
        let said = bench.run_with_token(&wrong, args).refused();
        assert!(said.contains("token") && !said.contains("sesame"), "{args:?}: {said}");
    }
    let said = bench.run_with_token(&wrong, &["import", file]).refused();
    assert!(said.contains("stopped at line 2; nothing was changed") && !said.contains(":3:"), "told once: {said}");
    let address = bench.tollgate.grpc.to_string();
    let said = Ran::of(&["overrides", "list", "--domain", "api", "--addr", &address]).refused();
    assert!(said.contains("--token-file FILE, or TOLLGATE_TOKEN"), "{said}");
    assert_eq!(bench.limit("alice").await, 2);
    let nowhere = Ran::of(&["overrides", "list", "--addr", "127.0.0.1:1"]).refused();
    assert!(nowhere.contains("no connection to 127.0.0.1:1"), "{nowhere}");
}

#[test]
fn the_help_of_each_action_has_an_example() {
    for action in ["get", "set", "list", "delete", "import", "export"] {
        let help = Ran::of(&["overrides", action, "--help"]).done();
        let example = help.lines().find(|line| line.trim().starts_with(&format!("tollgate overrides {action} ")));
        assert!(example.is_some(), "{action}: {help}");
    }
}

/// What does something on a terminal: a title, a line, the way that text runs, and the same by single bytes of C1.
const HOSTILE: &str = "x\u{1b}]0;pwned\u{7}\nvip: user=root: unlimited\u{202e}y\u{9b}2J";

#[tokio::test]
async fn what_is_stored_does_nothing_on_the_operators_terminal() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let spec = json!({"match": {"user": HOSTILE}, "limit": "5/h", "reason": HOSTILE, "owner": HOSTILE});
    let put = call(bench.tollgate.http, "PUT /v1/domains/api/overrides/evil", Some("secret"), &spec.to_string()).await;
    assert_eq!(put.status, 201, "{put:?}");
    let is_seen = |text: &str| text.chars().all(|c| c == '\n' || !(c.is_control() || "\u{202e}\u{9b}".contains(c)));
    for args in [&["list"][..], &["get", "evil"], &["delete", "evil", "--dry-run"]] {
        let shown = bench.run(args).done();
        assert!(is_seen(&shown) && shown.lines().count() == 1, "{shown:?}");
        assert!(shown.contains(r"x\u{1b}]0;pwned\u{7}\nvip: user=root: unlimited\u{202e}y\u{9b}2J"), "{shown}");
        let json = bench.run(&[args, &["--json"]].concat()).done();
        assert!(is_seen(&json), "{json:?}");
        let read: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(read[0]["spec"]["reason"], HOSTILE);
    }
    let address = bench.tollgate.admin.to_string();
    let entry = format!("user={HOSTILE}");
    for more in [&[][..], &["--json"]] {
        let args = ["explain", "--admin", &address, "--domain", "api", "--entry", &entry];
        let told = Ran::of(&[&args[..], more].concat()).done();
        assert!(is_seen(&told) && told.contains("evil"), "{told:?}");
    }
    let missing = bench.run(&["set", "other", "--match", &entry, "--tier", HOSTILE]).refused();
    assert!(is_seen(&missing), "{missing:?}");
}

#[tokio::test]
async fn a_formula_is_none_in_an_exported_file_and_is_imported_as_it_was() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let formula = "=HYPERLINK(\"http://attacker.example\")";
    bench.run(&["set", "--match", "user=@SUM(1)", "--limit", "5/h", "--reason", formula]).done();
    let exported = bench.run(&["export"]).done();
    assert!(exported.contains("\n'@SUM(1),") && exported.contains(",\"'=HYPERLINK("), "{exported}");
    let raw = bench.run(&["export", "--safe", "false"]).done();
    assert!(raw.contains("\n@SUM(1),") && raw.contains(",\"=HYPERLINK("), "{raw}");
    // But for when it was set.
    let list = || bench.run(&["list"]).done().split(", set by").next().map(str::to_owned);
    let before = list();
    for (name, text) in [("safe.csv", exported), ("raw.csv", raw)] {
        let file = bench.write(name, &text);
        bench.run(&["import", file.to_str().expect("text")]).done();
        assert_eq!(list(), before, "{name}");
    }
}

#[tokio::test]
async fn an_override_has_one_id_whoever_sets_it_and_however_its_rule_is_named() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let users = ["alice", "a b", "é", "+1", "a~20b", "a:b", &"x".repeat(200), &"é/".repeat(60)];
    let mut ids = std::collections::BTreeSet::new();
    for user in users {
        let entry = format!("user={user}");
        let by_client = crate::api::node::override_id(&bench.tollgate, user);
        let common = ["--match", &*entry, "--limit", "5/h", "--json"];
        for rule in [&[][..], &["--rule", "user"], &["--rule", "api/user"]] {
            let saved = bench.run(&[&["set"], &common[..], rule].concat()).json();
            assert_eq!(saved[0]["id"], by_client, "{user} {rule:?}");
            // The service knows which domain is meant.
            let (address, token) = (bench.tollgate.grpc.to_string(), bench.directory.path().join("token"));
            let service = ["overrides", "set", "--addr", &address, "--token-file", token.to_str().expect("text")];
            assert_eq!(Ran::of(&[&service[..], &common, rule].concat()).json()[0]["id"], by_client, "{user} {rule:?}");
        }
        let file = bench
            .write("one.ndjson", &json!({"match": {"user": user}, "rule": "api/user", "limit": "6/h"}).to_string());
        bench.run(&["import", file.to_str().expect("text")]).done();
        ids.insert(by_client);
    }
    assert_eq!(ids.len(), users.len(), "{ids:?}");
    assert_eq!(bench.run(&["list"]).done().lines().count(), users.len(), "one row for each");
}

/// A limit for each user, and one for what each checks out.
const NESTED: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {requests_per_unit: 20, unit: minute}\n    \
      descriptors:\n      \
      - {key: endpoint, value: /checkout, rate_limit: {requests_per_unit: 5, unit: minute}}\n";

#[tokio::test]
async fn which_rules_are_touched_is_told_before_it_is_done() {
    let rules = RulesDir::with("api.yaml", NESTED);
    let bench = Bench::start(&rules).await;
    let both = "touches api/user: 20 in 60 s, sliding_window → 300 in 60 s, sliding_window\n\
                touches api/user/endpoint=/checkout: 5 in 60 s, sliding_window → 300 in 60 s, sliding_window\n";
    let set = ["set", "--match", "user=alice", "--limit", "300/m"];
    // Without a terminal it goes on.
    let said = bench.run(&[&set[..], &["--dry-run"]].concat()).done();
    assert!(said.starts_with(both), "{said}");
    let said = bench.run(&set).done();
    assert!(said.starts_with(both), "{said}");
    // Again, it is what the override has by now.
    let said = bench.run(&["set", "--match", "user=alice", "--limit", "400/m"]).done();
    assert!(said.starts_with("touches api/user: 300 in 60 s, sliding_window → 400 in 60 s"), "{said}");
    bench.run(&["delete", "user:alice"]).done();
    let said = bench.run(&[&set[..], &["--rule", "user"]].concat()).done();
    assert!(said.starts_with(both.lines().next().expect("a line")) && !said.contains("/checkout"), "{said}");
    bench.run(&["delete", "user:alice"]).done();

    // The API's own answer, before and when it is done.
    let spec = json!({"match": {"user": "alice"}, "limit": "unlimited"}).to_string();
    for query in ["?dry_run=true", ""] {
        let what = format!("PUT /v1/domains/api/overrides/a{query}");
        let touches = call(bench.tollgate.http, &what, Some("secret"), &spec).await.json()["touches"].clone();
        assert_eq!(touches[1]["rule"], "api/user/endpoint=/checkout", "{touches:#}");
        assert_eq!(touches[1]["before"][0]["requests"], 5, "{touches:#}");
    }
    bench.run(&["delete", "a"]).done();

    // On a terminal it asks, where it is more than one.
    let (address, token) = (bench.tollgate.grpc.to_string(), bench.directory.path().join("token"));
    let fixed =
        ["overrides", "set", "--domain", "api", "--addr", &*address, "--match", "user=alice", "--limit", "300/m"];
    let on_terminal = |more: &str, answer: &str| {
        let words = [&[env!("CARGO_BIN_EXE_tollgate")][..], &fixed].concat().join(" ");
        let line = format!("{words} --token-file {} {more}", token.display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().expect("`script` is a part of every Debian");
        let mut stdin = script.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, answer.as_bytes()).expect("it reads");
        let ran = script.wait_with_output().expect("it ends");
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let (code, shown) = on_terminal("", "n\n");
    assert!(code == Some(1) && shown.contains("change 2 rules") && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(bench.limit("alice").await, 20);
    let (code, shown) = on_terminal("--yes", "");
    assert!(code == Some(0) && !shown.contains("change 2 rules"), "{shown}");
    assert_eq!(bench.limit("alice").await, 300);
    bench.run(&["delete", "user:alice"]).done();
    let (code, shown) = on_terminal("--rule user", "");
    assert!(code == Some(0) && !shown.contains("[y/N]"), "{shown}");
    bench.run(&["delete", "user:alice"]).done();
    let (code, shown) = on_terminal("", "y\n");
    assert!(code == Some(0) && shown.contains("change 2 rules"), "{shown}");
    assert_eq!(bench.limit("alice").await, 300);
}

#[tokio::test]
async fn a_star_is_refused_and_one_that_is_meant_is_written_with_a_backslash() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let refused = bench.run(&["set", "--match", "user=acme-*", "--limit", "5/h"]).refused();
    for part in ["`acme-*` has a star", "tollgate limits", r"`\*`"] {
        assert!(refused.contains(part), "no {part}: {refused}");
    }
    let file = bench.write("stars.csv", "match.user,limit\nacme-*,5/h\n");
    let refused = bench.run(&["import", file.to_str().expect("text")]).refused();
    assert!(refused.contains("stars.csv:2:") && refused.contains("has a star"), "{refused}");

    let said = bench.run(&["set", "--match", r"user=a\*b", "--limit", "5/h"]).done();
    assert!(said.contains(r"user:a~2ab: user=a\*b: 5 in 3600 s"), "{said}");
    assert_eq!((bench.limit("a*b").await, bench.limit("axb").await), (json!(5), json!(2)));
    // As it is printed, it is read.
    let listed = bench.run(&["list", "--key", "user", "--value-prefix", r"a\*"]).done();
    assert!(listed.contains(r"user=a\*b: 5 in"), "{listed}");
    for (name, more) in [("out.csv", &[][..]), ("out.ndjson", &["--ndjson"][..])] {
        let file = bench.write(name, &bench.run(&[&["export"][..], more].concat()).done());
        assert_eq!(bench.run(&["import", file.to_str().expect("text")]).done(), "1 written\n");
        assert_eq!(bench.limit("a*b").await, 5);
    }
    let shown = bench.run(&["get", "user:a~2ab", "--json"]).json();
    assert_eq!(shown[0]["spec"]["match"], json!({"user": r"a\*b"}));
}

#[tokio::test]
async fn a_descriptor_is_printed_as_it_is_read() {
    let rules = RulesDir::with("api.yaml", RULES);
    let bench = Bench::start(&rules).await;
    let value = r"c:\dir\x";
    let entry = format!("user={value}");
    let said = bench.run(&["set", "--match", &entry, "--limit", "5/h"]).done();
    assert!(said.contains(&format!(": {entry}: 5 in 3600 s")), "{said}");
    assert_eq!(bench.limit(value).await, 5);
    let (grpc, admin) = (bench.tollgate.grpc.to_string(), bench.tollgate.admin.to_string());
    let called = Ran::of(&["call", "--addr", &grpc, "--domain", "api", "--descriptor", &entry]).done();
    assert!(called.contains(&format!("  {entry}: OK, 4 of 5")), "{called}");
    for flag in ["--entry", "--descriptor"] {
        let told = Ran::of(&["explain", "--admin", &admin, flag, &entry]).done();
        assert!(told.contains(&format!("  override  {entry} (")) && told.contains("4 left"), "{told}");
    }
}

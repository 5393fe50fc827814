//! The console: who gets the page, who is let in, what a browser is told; and the page itself in a real browser, clicked by
//! tests/console.

use std::{path::Path, process::Command};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{
    api::{token_line, with_tokens, write_tokens},
    harness::{Answer, RulesDir, Tollgate, aside, eventually, get, run_to_end, send},
    redis_server::RedisServer,
};

const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {requests_per_unit: 2, unit: hour}\n  \
    - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1h}}\n  \
    - key: vault\n    switchable: false\n    rate_limit: {requests_per_unit: 1, unit: hour}\n";

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const JSON: (&str, &str) = ("content-type", "application/json");

/// The most that the page may be in the program, compressed, in bytes.
const PAGE_BYTES_MAX: usize = 120 << 10;

fn page_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/front/console/page")
}

/// With the console on HTTP, and the tokens `secret`, which may all, and `look`, which may look.
async fn with_console(rules: &RulesDir, env: &[(&str, &str)]) -> Tollgate {
    let tollgate = with_tokens(rules, &[&[("TOLLGATE_CONSOLE", "true")], env].concat()).await;
    let looking = token_line("viewer", "look", "insight.read,audit.read,rules.read");
    write_tokens(&rules.path().join("tokens"), &(token_line("ops", "secret", "*") + &looking));
    eventually("both tokens are known", || async {
        (sign_in(&tollgate, Listener::Http, "look").await.status == 200).then_some(())
    })
    .await;
    tollgate
}

/// The two listeners that have the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Admin,
    Http,
}

impl Listener {
    async fn send(self, tollgate: &Tollgate, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (at, below) = match self {
            Listener::Admin => (tollgate.admin, ""),
            Listener::Http => (tollgate.http, "/console"),
        };
        send(at, method, &format!("{below}{path}"), headers, Bytes::from(body.to_owned())).await.expect("an answer")
    }
}

async fn sign_in(tollgate: &Tollgate, listener: Listener, token: &str) -> Answer {
    listener.send(tollgate, "POST", "/session", &[JSON], &json!({"token": token}).to_string()).await
}

/// The cookie of a session, as a browser sends it.
async fn cookie(tollgate: &Tollgate, listener: Listener, token: &str) -> String {
    let answer = sign_in(tollgate, listener, token).await;
    answer.header("set-cookie").split(';').next().expect("a split has a first part").to_owned()
}

#[tokio::test]
async fn a_browser_gets_the_page_at_the_root_of_the_admin_listener_and_others_the_list_of_paths() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let page = get(tollgate.admin, "/", &[BROWSER]).await.expect("an answer");
    assert!(page.status == 200 && page.body.starts_with("<!doctype html>"), "{page:?}");
    let policy = page.header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!((page.header("x-content-type-options"), page.header("referrer-policy")), ("nosniff", "no-referrer"));
    let list = get(tollgate.admin, "/", &[("accept", "*/*")]).await.expect("an answer");
    assert!(list.body.starts_with("/-/reload: "), "{list:?}");
    assert_eq!(get(tollgate.http, "/console/", &[BROWSER]).await.expect("an answer").status, 404, "it isn't asked for");
}

#[tokio::test]
async fn every_file_of_the_page_is_in_the_program_and_sent_once() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut compressed = 0;
    for file in std::fs::read_dir(page_folder()).expect("the folder of the page") {
        let file = file.expect("a file").path();
        let (name, text) = (file.file_name().unwrap().to_str().unwrap(), std::fs::read_to_string(&file).unwrap());
        let path = format!("/page/{name}");
        let plain = get(tollgate.admin, &path, &[]).await.expect("an answer");
        assert_eq!((plain.status, plain.body == text), (200, true), "{name}");
        let known = [("if-none-match", plain.header("etag"))];
        assert_eq!(get(tollgate.admin, &path, &known).await.expect("an answer").status, 304, "{name}");
        // The compressed form has other bytes, and so another strong etag.
        let gzip = [("accept-encoding", "gzip, br"), known[0]];
        let status = curl_status(&tollgate, &path, &gzip).await;
        assert_eq!(status, "200 gzip", "{name}");
        let refused = curl_status(&tollgate, &path, &[("accept-encoding", "gzip;q=0")]).await;
        assert_eq!(refused, "200 ", "{name}");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).expect("memory takes it");
        compressed += encoder.finish().expect("memory takes it").len();
        for elsewhere in ["http://", "https://", "innerHTML", "eval("] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(elsewhere), "{name} has {elsewhere}");
        }
    }
    assert!((10_000..PAGE_BYTES_MAX).contains(&compressed), "{compressed}");
    assert_eq!(get(tollgate.admin, "/page/other.js", &[]).await.expect("an answer").status, 404);
}

/// Status and encoding, by curl, which leaves the body as it is.
async fn curl_status(tollgate: &Tollgate, path: &str, headers: &[(&str, &str)]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %header{content-encoding}"]);
    for (name, value) in headers {
        curl.args(["--header", &format!("{name}: {value}")]);
    }
    curl.arg(format!("http://{}{path}", tollgate.admin));
    aside(move || String::from_utf8(curl.output().expect("tests/run.sh installs curl").stdout).expect("text")).await
}

#[tokio::test]
async fn a_session_is_a_cookie_that_no_script_reads_and_allows_what_its_token_does() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_console(&rules, &[]).await;
    let shadow = json!({"limit_id": "user", "mode": "shadow", "for": "1h", "reason": "ticket 42"}).to_string();
    for (listener, path, without_token) in [(Listener::Admin, "/", 200), (Listener::Http, "/console", 401)] {
        let signed_in = sign_in(&tollgate, listener, "secret").await;
        let set = signed_in.header("set-cookie");
        assert!(set.ends_with(&format!("; Path={path}; Max-Age=28800; HttpOnly; SameSite=Strict")), "{set}");
        assert_eq!(signed_in.json()["token"], "ops", "{signed_in:?}");

        assert_eq!(listener.send(&tollgate, "GET", "/v1/fleet", &[], "").await.status, without_token, "{listener:?}");
        let stranger = listener.send(&tollgate, "GET", "/session", &[], "").await.json();
        assert_eq!(stranger["domains"].as_array().map(Vec::is_empty), Some(without_token == 401), "{stranger}");
        assert_eq!(stranger["fleet"] == "", without_token == 401, "{stranger}");
        let change = "/v1/domains/api/switches";
        let nobody = listener.send(&tollgate, "PUT", change, &[JSON], &shadow).await;
        assert!([401, 403].contains(&nobody.status), "{nobody:?}");

        let viewer = cookie(&tollgate, listener, "look").await;
        let looking = [("cookie", &*viewer), JSON];
        let view = listener.send(&tollgate, "GET", "/session", &looking, "").await.json();
        let scopes: Vec<&str> =
            view["scopes"].as_array().unwrap().iter().map(|of| of["scope"].as_str().unwrap()).collect();
        assert!(scopes.contains(&"insight.read") && !scopes.contains(&"limits.write"), "{view}");
        assert_eq!(view["domains"], json!(["api"]), "{view}");
        assert_eq!(listener.send(&tollgate, "GET", "/v1/fleet", &looking, "").await.status, 200);
        let refused = listener.send(&tollgate, "PUT", change, &looking, &shadow).await;
        assert!(refused.status == 403 && refused.body.contains("viewer lacks the scope limits.write"), "{refused:?}");

        let ops = cookie(&tollgate, listener, "secret").await;
        let cookies = format!("theme=dark; {ops}; other=1");
        let changed = listener.send(&tollgate, "PUT", change, &[("cookie", &cookies), JSON], &shadow).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let restore = format!("{change}?limit_id=user&reason=closed");
        let bearer = [("authorization", "Bearer secret")];
        assert_eq!(listener.send(&tollgate, "DELETE", &restore, &bearer, "").await.status, 200, "without a cookie");

        let out = listener.send(&tollgate, "DELETE", "/session", &[("cookie", &ops)], "").await;
        assert!(out.status == 204 && out.header("set-cookie").contains("=; Path="), "{out:?}");
    }
    // The cookie counts below the console alone, and neither listener's for the other.
    let ops = cookie(&tollgate, Listener::Http, "secret").await;
    assert_eq!(get(tollgate.http, "/v1/fleet", &[("cookie", &ops)]).await.expect("an answer").status, 401);
    let other = Listener::Admin.send(&tollgate, "GET", "/session", &[("cookie", &ops)], "").await.json();
    assert_eq!(other["token"], Value::Null, "{other}");
}

#[tokio::test]
async fn a_token_that_is_wrong_taken_back_or_no_token_signs_nobody_in() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_console(&rules, &[]).await;
    for listener in [Listener::Admin, Listener::Http] {
        assert_eq!(sign_in(&tollgate, listener, "wrong").await.status, 401, "{listener:?}");
        for body in
            ["", "{}", r#"{"token": ""}"#, r#"{"token": "a\nb"}"#, r#"{"token": 1}"#, r#"{"token": "a", "b": 1}"#]
        {
            assert_eq!(listener.send(&tollgate, "POST", "/session", &[JSON], body).await.status, 400, "{body}");
        }
        let long = json!({"token": "x".repeat(1_025)}).to_string();
        assert_eq!(listener.send(&tollgate, "POST", "/session", &[JSON], &long).await.status, 400);
        let form =
            listener.send(&tollgate, "POST", "/session", &[("content-type", "text/plain")], r#"{"token":"secret"}"#);
        assert_eq!(form.await.status, 400, "{listener:?}: a form of another site could send it");
    }
    let ops = cookie(&tollgate, Listener::Http, "secret").await;
    write_tokens(&rules.path().join("tokens"), &token_line("other", "next", "*"));
    eventually("the session has ended with its token", || async {
        let answer = Listener::Http.send(&tollgate, "GET", "/v1/fleet", &[("cookie", &ops)], "").await;
        (answer.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_page_of_another_site_uses_the_console() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_console(&rules, &[]).await;
    let shadow = json!({"limit_id": "user", "mode": "shadow", "for": "1h", "reason": "ticket 42"}).to_string();
    for listener in [Listener::Admin, Listener::Http] {
        let own = match listener {
            Listener::Admin => format!("http://{}", tollgate.admin),
            Listener::Http => format!("http://{}", tollgate.http),
        };
        let ops = cookie(&tollgate, listener, "secret").await;
        for (origin, status) in
            [("http://attacker.example", 403), ("null", 403), ("http://127.0.0.1:1", 403), (&*own, 200)]
        {
            let headers = [("cookie", &*ops), JSON, ("origin", origin)];
            let answer = listener.send(&tollgate, "PUT", "/v1/domains/api/switches", &headers, &shadow).await;
            assert_eq!(answer.status, status, "{listener:?} {origin}: {answer:?}");
        }
    }
    let ops = cookie(&tollgate, Listener::Http, "secret").await;
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        let headers = [("cookie", &*ops), ("sec-fetch-site", site), ("sec-fetch-mode", "cors")];
        assert_eq!(Listener::Http.send(&tollgate, "GET", "/v1/fleet", &headers, "").await.status, status, "{site}");
    }
    let link = [BROWSER, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(Listener::Http.send(&tollgate, "GET", "/", &link, "").await.status, 200, "a link leads there");
    let to_name = [("host", "attacker.example"), BROWSER];
    assert_eq!(Listener::Admin.send(&tollgate, "GET", "/", &to_name, "").await.status, 403);
}

#[test]
fn the_console_on_http_needs_tokens_and_tls_or_a_loopback_address() {
    let rules = RulesDir::with("api.yaml", RULES);
    let path = rules.path().to_str().expect("temporary paths are text");
    let env = [("TOLLGATE_RULES", path), ("HOST", "0.0.0.0")];
    let output = run_to_end(&["serve", "--console"], &env);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{said}");
    for part in ["TOLLGATE_HTTP_TLS_CERT", "loopback", "TOLLGATE_API_TOKEN_FILE", "nobody could sign in"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn problems_of_the_rules_are_listed_with_their_lines() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    rules.write("api.yaml", &RULES.replace("requests_per_unit: 1,", "requests_per_unit: many,"));
    send(tollgate.admin, "POST", "/-/reload", &[], Bytes::new()).await.expect("an answer");
    let answer = eventually("the problem is known", || async {
        let answer = get(tollgate.admin, "/v1/rule-files", &[]).await.expect("an answer").json();
        answer["problems"].is_array().then_some(answer)
    })
    .await;
    let (problem, file) = (&answer["problems"][0], &answer["files"][0]);
    assert_eq!((&problem["line"], &problem["severity"]), (&json!(8), &json!("error")), "{answer}");
    assert!(problem["path"].as_str().unwrap().ends_with("api.yaml"), "{answer}");
    assert!(problem["source_line"].as_str().unwrap().contains("many") && problem["what"].is_string(), "{answer}");
    assert_eq!(
        (&file["kept"], &file["entries"], &file["domain"]),
        (&json!(true), &json!(3), &json!("api")),
        "{answer}"
    );
}

/// Lines of a file as the admin listener has them, and whether they are in force.
async fn text(tollgate: &Tollgate, path: &str, more: &str) -> (Vec<String>, bool) {
    let answer = get(tollgate.admin, &format!("/v1/rule-files/text?path={path}{more}"), &[]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let lines = answer["lines"].as_array().expect("lines").iter().map(|line| line.as_str().expect("text").to_owned());
    (lines.collect(), answer["in_force"].as_bool().expect("it says it"))
}

#[tokio::test]
async fn files_are_shown_as_they_were_loaded_whatever_is_on_the_disk_by_now() {
    let rules = RulesDir::with("api.yaml", RULES);
    let other = "domain: other\ndescriptors: [{key: user, rate_limit: 5/h, overrides_from: [rows.csv]}]\n";
    rules.write("rows.csv", "match.user,limit\nalice,7/h\n");
    rules.write("other.yaml", other);
    let tollgate = with_console(&rules, &[]).await;
    let path = |file: &str| rules.path().join(file).display().to_string();
    let (api, rows, new) = (path("api.yaml"), path("rows.csv"), path("new.yaml"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(text(&tollgate, &api, "").await, (lines(RULES), true));
    assert_eq!(text(&tollgate, &rows, "&line=2").await, (vec!["alice,7/h".to_owned()], true));

    // A reload that fails: problems are of what was read, and what it had stays.
    let broken = RULES.replace("unit: hour", "unit: huor");
    rules.write("api.yaml", &broken);
    rules.write("new.yaml", "domain: new\ndescriptors: <script>\n");
    send(tollgate.admin, "POST", "/-/reload", &[], Bytes::new()).await.expect("an answer");
    eventually("it was read", || async { (!text(&tollgate, &api, "").await.1).then_some(()) }).await;
    assert_eq!(text(&tollgate, &api, "").await, (lines(&broken), false));
    assert_eq!(text(&tollgate, &api, "&in_force=true").await, (lines(RULES), true));
    assert_eq!(text(&tollgate, &path("other.yaml"), "").await, (lines(other), true), "another domain's");
    assert_eq!(
        text(&tollgate, &new, "").await,
        (vec!["domain: new".to_owned(), "descriptors: <script>".to_owned()], false)
    );

    // What nobody loaded isn't read, and who sees one domain sees its files alone.
    let mut tokens = token_line("other", "own", "rules.read@other");
    tokens += &token_line("blind", "nothing", "insight.read");
    write_tokens(&rules.path().join("tokens"), &tokens);
    let bearer = |token: &str| format!("Bearer {token}");
    let status = async |path: &str, token: &str| {
        let path = format!("/v1/rule-files/text?path={path}");
        get(tollgate.http, &path, &[("authorization", &bearer(token))]).await.expect("an answer").status
    };
    eventually("the tokens are known", || async { (status(&rows, "own").await == 200).then_some(()) }).await;
    for (file, expected) in [(&api, 404), (&new, 404), (&rows, 200), (&path("other.yaml"), 200), (&path("tokens"), 404)]
    {
        assert_eq!(status(file, "own").await, expected, "{file}");
        assert_eq!(status(file, "nothing").await, 403, "{file}");
    }
    let path = format!("/v1/rule-files/text?path={}", rules.path().join("tokens").display());
    assert_eq!(get(tollgate.admin, &path, &[]).await.expect("an answer").status, 404);
    let files = get(tollgate.http, "/v1/rule-files", &[("authorization", &bearer("own"))]).await.expect("an answer");
    let files = files.json();
    let seen: Vec<&Value> = files["files"].as_array().expect("files").iter().map(|file| &file["domain"]).collect();
    assert_eq!((seen, &files["problems"]), (vec![&json!("other"); 2], &Value::Null), "{files}");
}

#[tokio::test]
async fn the_last_good_text_is_shown_after_a_start_with_errors() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().expect("a temporary directory"));
    let path = state.path().to_str().expect("temporary paths are text");
    let first = Tollgate::start_with(rules.path(), &[("TOLLGATE_STATE_DIR", path)]).await;
    eventually("it is kept", || async { state.path().join("rules.json").is_file().then_some(()) }).await;
    drop(first);
    rules.write("api.yaml", "domain: api\ndescriptors: 5\n");
    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_STATE_DIR", path)]).await;
    let api = rules.path().join("api.yaml").display().to_string();
    assert_eq!(text(&tollgate, &api, "").await, (vec!["domain: api".to_owned(), "descriptors: 5".to_owned()], false));
    assert_eq!(text(&tollgate, &api, "&in_force=true&lines=1").await, (vec!["domain: api".to_owned()], true));
    assert_eq!(text(&tollgate, &api, "&in_force=true").await.0.len(), RULES.lines().count());
}

#[tokio::test]
async fn limits_are_listed_with_their_last_hour_where_they_did_anything() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_console(&rules, &[]).await;
    for _ in 0..4 {
        tollgate.client().admits("api", &[("user", "mallory")]).await;
        tollgate.client().admits("api", &[("tried", "x")]).await;
    }
    let limits = eventually("a slot has ended", || async {
        let answer = get(tollgate.admin, "/v1/limits?by=id&hour=true", &[]).await.expect("an answer").json();
        answer["limits"][1]["hour_requests"].is_array().then_some(answer["limits"].clone())
    })
    .await;
    let most = |limit: usize, what: &str| {
        let minutes = limits[limit][what].as_array().map(|of| of.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
        minutes.map(|minutes| minutes.into_iter().fold(0.0, f64::max) > 0.0)
    };
    // By their ids: tried, user, vault.
    assert_eq!([0, 1, 2].map(|limit| most(limit, "hour_requests")), [Some(true), Some(true), None], "{limits}");
    assert_eq!([0, 1, 2].map(|limit| most(limit, "hour_refused")), [None, Some(true), None], "{limits}");
    assert_eq!([0, 1, 2].map(|limit| most(limit, "hour_shadow")), [Some(true), None, None], "{limits}");
    let without = get(tollgate.admin, "/v1/limits", &[]).await.expect("an answer").body;
    assert!(!without.contains("hour_requests"), "nobody asked: {without}");
}

/// Runs a script of tests/console in a real browser, with what it is told as JSON.
async fn browser(script: &str, told: Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
    assert!(folder.join("node_modules").is_dir(), "run tests/run.sh once, or `npm ci` in tests/console");
    let mut node = Command::new("node");
    node.arg(folder.join(script)).arg(told.to_string()).current_dir(folder);
    let output = aside(move || node.output().expect("tests/run.sh installs node")).await;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_seen_explained_and_ended_in_a_browser() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let mut replicas = Vec::new();
    for name in ["pod-1", "pod-2", "pod-3"] {
        let env = [("REDIS_URL", &*url), ("TOLLGATE_REPLICA_NAME", name), ("TOLLGATE_FLEET", "shop-eu")];
        replicas.push(with_console(&rules, &env).await);
    }
    eventually("each replica sees all", || async {
        for replica in &replicas {
            let fleet = get(replica.admin, "/v1/fleet", &[]).await.expect("an answer").json();
            if fleet["replicas"].as_array().map_or(0, Vec::len) < 3 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let at = |of: fn(&Tollgate) -> String| replicas.iter().map(of).collect::<Vec<_>>();
    let told = json!({
        "admin": at(|replica| replica.admin.to_string()), "http": at(|replica| replica.http.to_string()),
        "rules": rules.path().join("api.yaml"), "bless": std::env::var_os("TOLLGATE_BLESS").is_some(),
        "docs": Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/pictures/console"),
    });
    browser("incident.mjs", told).await;
}

/// The journal of one override as that of so many, which would take minutes to set.
fn as_if_set_often(journal: &Path, times: u64) {
    let text = std::fs::read_to_string(journal).expect("the journal is there");
    let mut one: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let version = one["version"].as_u64().expect("a number");
    // A line may have no checksum.
    one.as_object_mut().expect("an object").remove("sum");
    let mut line = |n: u64| {
        one["version"] = (version + n).into();
        one.to_string().replace("set000000", &format!("set{n:06}")) + "\n"
    };
    std::fs::write(journal, (0..times).map(&mut line).collect::<String>()).expect("it can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rules_and_a_hundred_thousand_overrides_are_drawn_at_once() {
    let keys = (1..10_000).map(|n| format!("  - {{key: key{n:05}, rate_limit: {{requests: 5, window: 1h}}}}\n"));
    let yaml = format!(
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {{requests: 5, window: 1h}}\n    overrides_from: [users.csv]\n{}",
        keys.collect::<String>()
    );
    let rules = RulesDir::with("api.yaml", &yaml);
    let rows = (0..70_000).map(|n| format!("client{n:06},{}/h\n", 10 + n % 90)).collect::<String>();
    rules.write("users.csv", &format!("match.user,limit\n{rows}"));
    let state = tempfile::tempdir().expect("a temporary directory");
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().expect("temporary paths are text"))];
    let first = with_console(&rules, &env).await;
    let one = json!({"match": {"user": "set000000"}, "limit": "7/h", "for": "30d", "reason": "contract"}).to_string();
    let path = "/v1/domains/api/overrides/user:set000000";
    let bearer = [("authorization", "Bearer secret"), JSON];
    let set = send(first.http, "PUT", path, &bearer, Bytes::from(one)).await.expect("an answer");
    assert_eq!(set.status, 201, "{set:?}");
    drop(first);
    as_if_set_often(&state.path().join("overrides.ndjson"), 30_000);
    let tollgate = with_console(&rules, &env).await;
    let files = get(tollgate.admin, "/v1/rule-files", &[]).await.expect("an answer").json()["files"].clone();
    assert_eq!((&files[0]["entries"], &files[1]["entries"]), (&json!(10_000), &json!(70_000)), "{files}");
    let file = |name: &str| rules.path().join(name);
    let told = json!({
        "admin": tollgate.admin.to_string(), "answer_ms": 50, "rules": file("api.yaml"), "rows": file("users.csv"),
    });
    browser("scale.mjs", told).await;
}

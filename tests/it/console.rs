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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rules_and_a_hundred_thousand_overrides_are_drawn_at_once() {
    let keys = (1..10_000).map(|n| format!("  - {{key: key{n:05}, rate_limit: {{requests: 5, window: 1h}}}}\n"));
    let yaml = format!(
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {{requests: 5, window: 1h}}\n    overrides_from: [users.csv]\n{}",
        keys.collect::<String>()
    );
    let rules = RulesDir::with("api.yaml", &yaml);
    let rows = (0..100_000).map(|n| format!("client{n:06},{}/h\n", 10 + n % 90)).collect::<String>();
    rules.write("users.csv", &format!("match.user,limit\n{rows}"));
    let tollgate = with_console(&rules, &[]).await;
    let files = get(tollgate.admin, "/v1/rule-files", &[]).await.expect("an answer").json()["files"].clone();
    assert_eq!((&files[0]["entries"], &files[1]["entries"]), (&json!(10_000), &json!(100_000)), "{files}");
    browser("scale.mjs", json!({"admin": tollgate.admin.to_string(), "answer_ms": 50})).await;
}

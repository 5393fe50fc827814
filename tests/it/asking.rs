//! How the command line asks a running service: by which address, with which token, of how many, and what it says and ends
//! with where there is no answer or the answer is no.

mod entries;
mod exit_codes;
mod output;

use std::net::SocketAddr;

use axum::{Router, http::StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    api::{token_line, with_tokens, write_tokens},
    harness::{Authority, RulesDir, Tollgate, eventually, run_to_end},
};

pub(crate) const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - {key: user, rate_limit: {requests_per_unit: 1, unit: hour}}\n";

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Ran {
    /// With the good token in the environment.
    pub(crate) fn of(args: &[&str]) -> Ran {
        Ran::with(args, &[("TOLLGATE_TOKEN", "secret")])
    }

    pub(crate) fn with(args: &[&str], env: &[(&str, &str)]) -> Ran {
        let output = run_to_end(args, env);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        Ran { out, err, code: output.status.code().expect("it ended by itself") }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Commands that look.
const LOOKING: [&[&str]; 3] = [&["explain", "--entry", "user=alice"], &["overrides", "list"], &["overrides", "export"]];

/// Commands that change something, in an order in which each can be done.
const CHANGING: [&[&str]; 3] = [
    &["overrides", "set", "--match", "user=alice", "--limit", "5/h"],
    &["overrides", "delete", "user:alice"],
    &["reset", "--entry", "user=alice"],
];

#[tokio::test]
async fn every_command_asks_the_api_by_either_listener_and_without_an_address_the_admin_listener() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let admin = tollgate.admin.to_string();
    for at in [tollgate.http.to_string(), tollgate.grpc.to_string()] {
        for args in LOOKING.iter().chain(&CHANGING) {
            let given = Ran::of(&[args, &["--addr", &at][..]].concat());
            assert_eq!((given.code, &*given.err), (0, ""), "{args:?} --addr {at}");
            let env = [("TOLLGATE_TOKEN", "secret"), ("TOLLGATE_ADDR", &*at)];
            if LOOKING.contains(args) {
                assert_eq!(Ran::with(args, &env).code, 0, "{args:?} with TOLLGATE_ADDR={at}");
                // As before there were addresses.
                let api = args[0] == "explain";
                let before = if api { vec!["--api", "--addr", &at] } else { vec!["--addr", &at] };
                assert_eq!(Ran::of(&[args, &before[..]].concat()).code, 0, "{args:?}");
            }
            let stranger = Ran::with(&[args, &["--addr", &at][..]].concat(), &[]);
            assert_eq!(stranger.code, 1, "{args:?} without a token");
            assert!(stranger.err.contains("--token-file FILE, or TOLLGATE_TOKEN"), "{stranger:?}");
        }
        let call = Ran::of(&["call", "--domain", "api", "--descriptor", "user=zoe", "--addr", &at]);
        assert!([0, 3].contains(&call.code) && call.err.is_empty(), "{call:?}");
    }
    for args in LOOKING {
        let looked = Ran::with(&[args, &["--admin", &admin]].concat(), &[]);
        assert_eq!((looked.code, &*looked.err), (0, ""), "{args:?} of the admin listener, without a token");
    }
}

#[tokio::test]
async fn the_admin_listener_only_looks_without_a_token_that_it_knows() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let at = tollgate.admin.to_string();
    for args in CHANGING {
        let unknown = [("TOLLGATE_TOKEN", "unknown")];
        let refused = Ran::with(&[args, &["--addr", &at][..]].concat(), &unknown);
        assert!(refused.code == 1 && refused.err.contains("the admin listener only looks"), "{args:?}: {refused:?}");
    }
    let check = crate::harness::post(tollgate.admin, "/v1/check", r#"{"user": "alice"}"#).await.expect("an answer");
    assert_eq!(check.status, 403, "{check:?}");
    let audit = crate::harness::get(tollgate.admin, "/v1/audit", &[]).await.expect("an answer");
    assert_eq!(audit.status, 200, "{audit:?}");
    let foreign = [("host", "attacker.example")];
    let refused = crate::harness::get(tollgate.admin, "/v1/audit", &foreign).await.expect("an answer");
    assert_eq!(refused.status, 403, "as every path of this listener: {refused:?}");
}

#[tokio::test]
async fn of_several_services_each_answers_under_its_address_and_the_worst_exit_code_counts() {
    let rules = RulesDir::with("api.yaml", RULES);
    let (one, other) = (with_tokens(&rules, &[]).await, Tollgate::start(rules.path()).await);
    let [first, second] = [one.http, other.http].map(|at| at.to_string());
    let both = format!("{first},{second}");
    let call = ["call", "--domain", "api", "--descriptor", "user=alice"];
    assert_eq!(Ran::of(&[&call[..], &["--addr", &first]].concat()).code, 0);
    let answers = Ran::of(&[&call[..], &["--addr", &both]].concat());
    let expected = format!("{first}:\nOVER_LIMIT\n");
    assert!(answers.code == 3 && answers.out.starts_with(&expected), "{answers:?}");
    assert!(answers.out.contains(&format!("{second}:\nOK\n")), "{answers:?}");
    assert!(answers.out.contains("0 of 1 an hour remaining"), "{answers:?}");

    let explain = ["explain", "--entry", "user=alice", "--json", "--addr", &*first, "--addr", &*second];
    let answers = Ran::of(&explain);
    assert_eq!(answers.code, 1, "the other knows no tokens");
    assert!(answers.err.starts_with(&format!("tollgate: {second}: ")), "{answers:?}");
    let json = answers.json();
    assert_eq!(json[&first]["answer"]["allowed"], false, "{json:#}");
    assert!(json[&second]["error"].as_str().expect("why").contains("token"), "{json:#}");
    let nowhere = Ran::of(&[&call[..], &["--addr", "127.0.0.1:1", "--addr", &first]].concat());
    assert!(nowhere.code == 1 && nowhere.out.starts_with(&expected), "a failure is worse than a no: {nowhere:?}");
}

#[tokio::test]
async fn an_address_without_https_of_a_service_with_tls_is_told_so() {
    let (rules, authority) = (RulesDir::with("api.yaml", RULES), Authority::new());
    let [certificate, key] = authority.sign("server").map(|path| path.display().to_string());
    let env = [
        ("TOLLGATE_HTTP_TLS_CERT", &*certificate),
        ("TOLLGATE_HTTP_TLS_KEY", &*key),
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", &*certificate),
        ("GRPC_SERVER_TLS_KEY", &*key),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let asked = Ran::of(&["overrides", "list", "--addr", &tollgate.http.to_string()]);
    let way_out = format!("if it speaks TLS, write https://{}", tollgate.http);
    assert!(asked.code == 1 && asked.err.contains(&way_out), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_is_said_with_the_way_out() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let nowhere = Ran::with(&["explain", "--entry", "user=alice", "--admin", "127.0.0.1:1"], &[]);
    for part in ["no connection to 127.0.0.1:1, the admin listener", "--addr HOST:PORT with a token", "--admin"] {
        assert!(nowhere.code == 1 && nowhere.err.contains(part), "no {part}: {nowhere:?}");
    }
    let nowhere = Ran::of(&["overrides", "list", "--addr", "127.0.0.1:1"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("no connection to 127.0.0.1:1"), "{nowhere:?}");
    assert!(nowhere.err.contains("--addr names the service's API"), "{nowhere:?}");
    let in_the_clear = Ran::of(&["overrides", "list", "--addr", &format!("https://{}", tollgate.http)]);
    assert!(
        in_the_clear.code == 1 && in_the_clear.err.contains("it speaks no TLS: leave out https://"),
        "{in_the_clear:?}"
    );

    let tokens = token_line("ops", "secret", "*") + &token_line("ci", "reader", "overrides.read@api");
    write_tokens(&rules.path().join("tokens"), &tokens);
    let at = tollgate.http.to_string();
    let set = ["overrides", "set", "--domain", "api", "--match", "user=a", "--limit", "5/h", "--addr", &*at];
    eventually("which scope is missing", || async {
        let refused = Ran::with(&set, &[("TOLLGATE_TOKEN", "reader")]);
        assert_eq!(refused.code, 1);
        refused.err.contains("token ci lacks the scope overrides.write or overrides.write@api").then_some(())
    })
    .await;

    for (status, body) in [(StatusCode::NOT_FOUND, "what is it?"), (StatusCode::METHOD_NOT_ALLOWED, "")] {
        let old = answers_always(status, body).await.to_string();
        let said = Ran::of(&["overrides", "list", "--domain", "api", "--addr", &old]);
        let expected =
            format!("{old} has no GET /v1/domains/api/overrides: the service may be older than this command");
        assert!(said.code == 1 && said.err.contains(&expected), "{said:?}");
    }
    let other = answers_always(StatusCode::OK, "hello").await.to_string();
    let said = Ran::of(&["overrides", "list", "--domain", "api", "--addr", &other]);
    assert!(said.code == 1 && said.err.contains("doesn't answer as a Tollgate does"), "{said:?}");
    // Without a word of its domain, the service says which it is.
    let named = Ran::of(&["overrides", "list", "--json", "--addr", &at]);
    assert_eq!((named.code, named.json()), (0, serde_json::json!([])));
}

/// A server that gives one answer to everything, until the test's end.
async fn answers_always(status: StatusCode, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let router = Router::new().fallback(move || async move { (status, body) });
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    address
}

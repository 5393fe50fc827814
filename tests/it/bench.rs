//! `tollgate bench`, at Tollgate and at another server of the protocol: what it counts, and whose fault a wait is.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse,
    rate_limit_response::Code as Verdict,
    rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, transport::Server};

use crate::harness::{RulesDir, Tollgate, aside, run_to_end};

/// Answers nobody before so many have asked, and from then on everybody. Every tenth answer is an error where `fails`.
#[derive(Clone, Default)]
struct Stalls {
    until: usize,
    fails: bool,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    is_over: CancellationToken,
}

#[async_trait]
impl RateLimitService for Stalls {
    async fn should_rate_limit(&self, ask: Request<RateLimitRequest>) -> Result<Response<RateLimitResponse>, Status> {
        let value = ask.into_inner().descriptors[0].entries[0].value.clone();
        let nth = {
            let mut asked = self.asked.lock().unwrap();
            *asked.entry(value).or_default() += 1;
            asked.values().sum::<usize>()
        };
        if nth >= self.until {
            self.is_over.cancel();
        }
        self.is_over.cancelled().await;
        if self.fails && nth.is_multiple_of(10) {
            return Err(Status::internal("out of order"));
        }
        Ok(Response::new(RateLimitResponse { overall_code: Verdict::Ok.into(), ..RateLimitResponse::default() }))
    }
}

async fn serve(stalls: Stalls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::builder().add_service(RateLimitServiceServer::new(stalls));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn bench(at: SocketAddr, args: &[&str]) -> Output {
    let at = at.to_string();
    let fixed = ["bench", "--addr", &at, "--domain", "api", "--descriptor", "user=u%k", "--warmup", "0"];
    let args: Vec<String> = fixed.iter().chain(args).map(|&arg| arg.to_owned()).collect();
    let run = move || run_to_end(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    aside(run).await
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_asks_when_each_request_is_due_and_charges_a_stall_to_all_that_it_held_up() {
    // 200 a second: the hundredth comes after 495 ms, until when nobody is answered.
    let stalls = Stalls { until: 100, ..Stalls::default() };
    let at = serve(stalls.clone()).await;
    let output = bench(at, &["--rate", "200", "--seconds", "2", "--keys", "10", "--zipf", "2", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"", "no progress where nobody is looking");
    let said = json(&output);
    assert_eq!((&said["loop_kind"], &said["ok"]), (&"open".into(), &400.into()), "{said}");
    assert_eq!((&said["errors"], &said["not_sent"]), (&0.into(), &0.into()), "{said}");
    // A closed loop would have one slow answer for each connection; here a tenth waited 295 ms or longer.
    assert!(said["max_ms"].as_f64() >= Some(494.0) && said["p90_ms"].as_f64() >= Some(294.0), "{said}");

    let asked = stalls.asked.lock().unwrap();
    assert_eq!(asked.values().sum::<usize>(), 400);
    assert!(
        asked.keys().all(|user| user.strip_prefix('u').is_some_and(|key| key.parse::<u32>().is_ok_and(|key| key < 10)))
    );
    // By Zipf's law with exponent 2 the first of ten gets 65 of 100; the seed is fixed.
    assert!((200..320).contains(&asked["u0"]), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_an_error_is_counted_and_named_and_ends_in_exit_code_1() {
    let at = serve(Stalls { fails: true, ..Stalls::default() }).await;
    let output = bench(at, &["--rate", "100", "--seconds", "1", "--json"]).await;
    let said = json(&output);
    assert_eq!((&said["ok"], &said["errors"]), (&90.into(), &10.into()), "{said}");
    assert!(said["first_error"].as_str().is_some_and(|error| error.contains("grpc-status 13: out of order")), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_loop_counts_admitted_and_denied_and_tells_percentiles() {
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let few = ["--connections", "2", "--inflight", "4", "--keys", "2", "--seconds", "1"];
    let output = bench(tollgate.grpc, &[&few[..], &["--json"]].concat()).await;
    assert!(output.status.success(), "{output:?}");
    let said = json(&output);
    let number = |name: &str| said[name].as_f64().unwrap_or_else(|| panic!("no {name} in {said}"));
    assert_eq!((&said["loop_kind"], number("ok")), (&"closed".into(), 6.0), "two users of three each: {said}");
    assert!(number("over_limit") > 0.0 && number("errors") == 0.0, "{said}");
    assert_eq!(number("requests_per_second"), number("ok") + number("over_limit"), "of one second");
    let times = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"].map(number);
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");

    let text = String::from_utf8(bench(tollgate.grpc, &few).await.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("closed loop, 1 s: ") && lines[0].ends_with(" requests a second"), "{text}");
    assert!(lines[1].starts_with("  admitted 0, denied ") && lines[1].ends_with(", errors 0, not sent 0"), "{text}");
    assert!(lines[2].starts_with("  time to answer, ms: p50 ") && lines[2].contains(", p99.9 "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_a_line_that_is_written_over_on_a_terminal() {
    let at = serve(Stalls::default()).await;
    let words = [env!("CARGO_BIN_EXE_tollgate"), "bench", "--domain api --descriptor user=u%k --rate 50 --seconds 2.5"];
    let line = format!("{} --warmup 0 --addr {at}", words.join(" "));
    // `script` runs it on a terminal of its own, and passes on what stands there.
    let run = move || Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let output = aside(run).await.expect("`script` is a part of every Debian");
    let shown = String::from_utf8_lossy(&output.stdout);
    let counts: Vec<u32> = shown
        .split('\r')
        .filter(|line| line.contains(" in the last second, 0 errors"))
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    assert!(counts.len() >= 2 && counts.is_sorted() && counts[0] < counts[counts.len() - 1], "{shown}");
    assert!(shown.contains("open loop, 2.5 s: ") && shown.contains("admitted 125, denied 0"), "{shown}");
}

#[test]
fn no_server_and_numbers_that_make_no_load_are_said_at_once() {
    let bench = |args: &[&str]| {
        let output = run_to_end(&[&["bench", "--domain", "api", "--descriptor", "user=u"], args].concat(), &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = bench(&["--addr", "127.0.0.1:1"]);
    assert!(code == Some(1) && said.contains("no connection to 127.0.0.1:1"), "{said}");
    let numbers = [("--rate=0", "0.001 to 10000000"), ("--rate=1e-300", "0.001 to"), ("--rate=1e30", "to 10000000")];
    let times = [("--seconds=1e300", "0.001 to 86400"), ("--warmup=-1", "0 to 86400"), ("--warmup=nan", "0 to 86400")];
    let exponents = [("--zipf=-1", "0 to 10"), ("--zipf=nan", "0 to 10"), ("--zipf=1e9", "0 to 10")];
    for (number, range) in numbers.into_iter().chain(times).chain(exponents) {
        let (code, said) = bench(&[number]);
        assert!(code == Some(2) && said.contains("expected a number from") && said.contains(range), "{number}: {said}");
    }
}

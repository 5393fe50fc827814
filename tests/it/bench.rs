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
    bench_several(&[at], args).await
}

async fn bench_several(at: &[SocketAddr], args: &[&str]) -> Output {
    let fixed = ["bench", "--domain", "api", "--descriptor", "user=u%k", "--warmup", "0"];
    let addresses = at.iter().map(|at| format!("--addr={at}"));
    let args: Vec<String> = fixed.iter().chain(args).map(|&arg| arg.to_owned()).chain(addresses).collect();
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

    // The histogram has every answer once, in buckets without gaps, and each percentile lies within.
    let buckets = said["histogram"].as_array().expect("buckets");
    let of = |bucket: &Value| ["from_ms", "to_ms", "count"].map(|name| bucket[name].as_f64().expect("a number"));
    let buckets: Vec<[f64; 3]> = buckets.iter().map(of).collect();
    assert_eq!(buckets.iter().map(|bucket| bucket[2]).sum::<f64>(), number("ok") + number("over_limit"), "{said}");
    assert!(buckets.windows(2).all(|pair| pair[0][1] == pair[1][0]), "{said}");
    assert!(buckets[0][0] <= times[0] && times[4] < buckets[buckets.len() - 1][1], "{said}");
    let rows = &lines[3..];
    let counts = rows.iter().map(|row| row.split_whitespace().nth(4).and_then(|count| count.parse::<u64>().ok()));
    let counted = counts.sum::<Option<u64>>().expect("each row has a count");
    assert!(lines[1].contains(&format!("denied {counted},")), "{text}");
    assert!(rows.iter().all(|row| row.contains(" ms ") && row.contains(" % ")), "{text}");
    assert!(rows.iter().any(|row| row.ends_with(&"#".repeat(40))), "the fullest bucket has the longest bar: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_addresses_share_the_load_and_each_is_told_of() {
    let servers = [Stalls::default(), Stalls::default(), Stalls { fails: true, ..Stalls::default() }];
    let mut at = Vec::new();
    for server in &servers {
        at.push(serve(server.clone()).await);
    }
    // 300 a second over three, which take turns: a hundred each.
    let output = bench_several(&at, &["--rate", "300", "--seconds", "1", "--json", "--connections", "2"]).await;
    let said = json(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let asked = |server: &Stalls| server.asked.lock().unwrap().values().sum::<usize>();
    assert_eq!(servers.each_ref().map(asked), [100; 3]);
    assert_eq!((&said["ok"], &said["errors"], &said["requests_per_second"]), (&290.into(), &10.into(), &290.0.into()));
    let each = said["addresses"].as_array().expect("a list");
    for (nth, (of, ok)) in each.iter().zip([100, 100, 90]).enumerate() {
        assert_eq!((&of["addr"], &of["ok"]), (&at[nth].to_string().into(), &ok.into()), "{of}");
        assert_eq!(of["errors"], 100 - ok, "{of}");
        assert!(of["p50_ms"].as_f64() > Some(0.0) && of["histogram"].is_array(), "{of}");
        assert_eq!(of["first_error"].is_string(), ok == 90, "{of}");
    }

    // A closed loop has its requests in flight at each of them.
    let closed = ["--seconds", "0.5", "--connections", "1", "--inflight", "3"];
    let text = String::from_utf8(bench_several(&at[..2], &closed).await.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    for (nth, at) in at[..2].iter().enumerate() {
        assert!(lines[3 * nth].starts_with(&format!("{at}: ")), "{text}");
        assert!(lines[3 * nth + 1].starts_with("  admitted ") && lines[3 * nth + 2].contains("p50"), "{text}");
        assert!(!lines[3 * nth].ends_with(": 0 requests a second"), "{text}");
    }
    assert!(lines[6].starts_with("closed loop, 0.5 s: "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_a_line_each_second_where_it_is_asked_for() {
    let at = serve(Stalls::default()).await;
    let output = bench(at, &["--rate", "50", "--seconds", "2.5", "--progress"]).await;
    let shown = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    for (nth, line) in lines.iter().enumerate() {
        let end = format!(" in the last second, 0 errors, {} s", nth + 1);
        assert!(line.contains(" answered, ") && line.ends_with(&end), "{shown}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("open loop, 2.5 s: "), "{output:?}");
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
    let (code, said) = bench(&["--addr", "127.0.0.1:1", "--addr", "127.0.0.1: 2"]);
    assert!(code == Some(1) && said.contains("'127.0.0.1: 2' is no address such as"), "{said}");
    let help = String::from_utf8_lossy(&run_to_end(&["bench", "--help"], &[]).stdout).into_owned();
    assert!(help.contains("tollgate bench --addr 10.0.0.1:8081 --addr 10.0.0.2:8081"), "{help}");
    let numbers = [("--rate=0", "0.001 to 10000000"), ("--rate=1e-300", "0.001 to"), ("--rate=1e30", "to 10000000")];
    let times = [("--seconds=1e300", "0.001 to 86400"), ("--warmup=-1", "0 to 86400"), ("--warmup=nan", "0 to 86400")];
    let exponents = [("--zipf=-1", "0 to 10"), ("--zipf=nan", "0 to 10"), ("--zipf=1e9", "0 to 10")];
    for (number, range) in numbers.into_iter().chain(times).chain(exponents) {
        let (code, said) = bench(&[number]);
        assert!(code == Some(2) && said.contains("expected a number from") && said.contains(range), "{number}: {said}");
    }
}

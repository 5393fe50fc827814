//! `tollgate bench`: load on any server of the rate limit service. A closed loop asks how much it can do, an open loop
//! how long answers take at a given rate: there a request's time counts from when it was due, so that a server that
//! stalls is charged for the queue it causes.

mod load;
mod wire;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::{runtime, time};

use self::{
    load::{BenchTotals, LoadGenerator, zipf_sums},
    wire::EncodedRequests,
};

#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  \
    tollgate bench --domain api --descriptor user=u%k --keys 100000\n  \
    tollgate bench --domain api --descriptor user=u%k --rate 2000 --seconds 30 --json\n\n\
    %k stands for a drawn key. Exit code 1 if any request was not answered.")]
pub(super) struct BenchArgs {
    /// Address of the service
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    addr: String,
    /// Domain of the rules
    #[arg(long)]
    domain: String,
    /// Entries of a descriptor; may be given several times
    #[arg(long = "descriptor", value_name = "K=V,K=V", required = true)]
    descriptors: Vec<String>,
    /// Keys to draw %k from
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keys: u64,
    /// How unevenly they are drawn: exponent of a Zipf distribution, 0 for evenly
    #[arg(long, default_value_t = 0.0, value_parser = |text: &str| number(text, 0.0, 10.0))]
    zipf: f64,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Requests outstanding on each connection (closed loop)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    inflight: u16,
    /// Requests a second over all connections (open loop)
    #[arg(long, value_name = "N", value_parser = |text: &str| number(text, 0.001, 10_000_000.0))]
    rate: Option<f64>,
    /// How long to measure
    #[arg(long, default_value_t = 10.0, value_parser = |text: &str| number(text, 0.001, DAY))]
    seconds: f64,
    /// How long to run before that
    #[arg(long, default_value_t = 1.0, value_parser = |text: &str| number(text, 0.0, DAY))]
    warmup: f64,
    /// Seed of the drawn keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// In seconds: nobody measures for longer.
const DAY: f64 = 86_400.0;

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

/// What was measured. Times are in milliseconds.
#[derive(Serialize)]
struct BenchReport {
    loop_kind: &'static str,
    seconds: f64,
    requests_per_second: f64,
    ok: u64,
    over_limit: u64,
    /// Not answered, or with an error.
    errors: u64,
    /// Open loop: due, but not sent because too many were outstanding.
    not_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

pub(super) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let requests = EncodedRequests::new(&args.addr, &args.domain, &args.descriptors, args.keys)?;
    let zipf_sums = zipf_sums(requests.keys(), args.zipf);
    let load = Arc::new(LoadGenerator {
        requests,
        connections: usize::from(args.connections),
        inflight: usize::from(args.inflight),
        rate: args.rate,
        zipf_sums,
        warmup: Duration::from_secs_f64(args.warmup.max(0.0)),
        measured: Duration::from_secs_f64(args.seconds),
        seed: args.seed,
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let totals = runtime.block_on(async {
        let totals = BenchTotals::default();
        tokio::select! {
            ran = load.run(&totals) => ran.map(|()| totals),
            never = progress(&totals) => match never {},
        }
    })?;
    let report = report(&args, &totals);
    if args.json {
        println!("{}", serde_json::to_string(&report)?)
    } else {
        print(&report)
    }
    Ok(if report.errors + report.not_sent > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One line that is written over each second, where somebody is looking.
async fn progress(totals: &BenchTotals) -> std::convert::Infallible {
    let mut seconds = time::interval(Duration::from_secs(1));
    let mut last = 0;
    loop {
        seconds.tick().await;
        let answered = totals.answered();
        if std::io::stderr().is_terminal() {
            eprint!("\r{answered} answered, {} in the last second, {} errors  ", answered - last, totals.errors());
            let _ = std::io::stderr().flush();
        }
        last = answered;
    }
}

fn report(args: &BenchArgs, totals: &BenchTotals) -> BenchReport {
    let seen = totals.seen();
    let ms = |quantile: f64| seen.times_us.value_at_quantile(quantile) as f64 / 1e3;
    BenchReport {
        loop_kind: if args.rate.is_some() { "open" } else { "closed" },
        seconds: args.seconds,
        requests_per_second: ((seen.ok + seen.over_limit) as f64 / args.seconds).round(),
        ok: seen.ok,
        over_limit: seen.over_limit,
        errors: seen.errors,
        not_sent: seen.not_sent,
        first_error: seen.first_error.clone(),
        p50_ms: ms(0.5),
        p90_ms: ms(0.9),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: seen.times_us.max() as f64 / 1e3,
    }
}

fn print(report: &BenchReport) {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    println!("{} loop, {} s: {} requests a second", report.loop_kind, report.seconds, report.requests_per_second);
    println!(
        "  admitted {}, denied {}, errors {}, not sent {}",
        report.ok, report.over_limit, report.errors, report.not_sent
    );
    println!(
        "  time to answer, ms: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        report.p50_ms, report.p90_ms, report.p99_ms, report.p999_ms, report.max_ms
    );
    if let Some(error) = &report.first_error {
        println!("  first error: {error}");
    }
}

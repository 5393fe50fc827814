//! `tollgate bench`: load on any servers of the rate limit service. A closed loop asks how much they can do, an open loop
//! how long answers take at a given rate: there a request's time counts from when it was due, so that a server that
//! stalls is charged for the queue it causes.

mod load;
mod report;
mod wire;

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::{runtime, time};

use super::exit::Exit;

use self::{
    load::{BenchTotals, LoadGenerator, zipf_sums},
    report::BenchReport,
    wire::{EncodedRequests, Server},
};

#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  \
    tollgate bench --domain api --descriptor user=u%k --keys 100000\n  \
    tollgate bench --domain api --descriptor user=u%k --rate 2000 --seconds 30 --json\n  \
    tollgate bench --addr 10.0.0.1:8081 --addr 10.0.0.2:8081 --connections 2 --domain api --descriptor user=u%k\n  \
    tollgate bench --domain api --descriptor user=u%k --seconds 600 --progress 2>progress.log\n\n\
    %k stands for a drawn key. Several addresses share the load: requests in flight are connections times inflight for \
    each of them, and a rate is over all of them. The answer has a line for each, then the total with its histogram. \
    Progress is shown each second where stderr is a terminal. Exit code 1 if any request was not answered.")]
pub(super) struct BenchArgs {
    /// Address of the service; may be given several times
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    addr: Vec<String>,
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
    /// Connections to each address
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Requests outstanding on each connection (closed loop)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    inflight: u16,
    /// Requests a second over all connections and addresses (open loop)
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
    /// Show progress each second even where stderr is no terminal
    #[arg(long)]
    progress: bool,
}

/// In seconds: nobody measures for longer.
const DAY: f64 = 86_400.0;

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

pub(super) fn run(args: BenchArgs) -> anyhow::Result<Exit> {
    let requests = EncodedRequests::new(&args.domain, &args.descriptors, args.keys)?;
    let servers: Vec<Server> = args.addr.iter().map(|addr| Server::new(addr)).collect::<Result<_, _>>()?;
    let zipf_sums = zipf_sums(requests.keys(), args.zipf);
    let load = Arc::new(LoadGenerator {
        servers,
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
    let totals: Vec<BenchTotals> = args.addr.iter().map(|_| BenchTotals::default()).collect();
    runtime.block_on(async {
        tokio::select! {
            ran = load.run(&totals) => ran,
            never = progress(&totals, args.progress) => match never {},
        }
    })?;
    let report = BenchReport::of(args.rate.is_some(), args.seconds, args.addr.iter().zip(&totals));
    if args.json {
        println!("{}", serde_json::to_string(&report)?)
    } else {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        print!("{report}")
    }
    Ok(if report.is_all_answered() { Exit::Done } else { Exit::Failed })
}

/// One line each second, where somebody is looking or `is_wanted`. On a terminal it is written over.
async fn progress(totals: &[BenchTotals], is_wanted: bool) -> std::convert::Infallible {
    let is_terminal = std::io::stderr().is_terminal();
    let mut seconds = time::interval(Duration::from_secs(1));
    let mut last = 0;
    for second in 0.. {
        seconds.tick().await;
        if second == 0 {
            continue;
        }
        let answered: u64 = totals.iter().map(BenchTotals::answered).sum();
        let errors: u64 = totals.iter().map(BenchTotals::errors).sum();
        let line = format!("{answered} answered, {} in the last second, {errors} errors, {second} s", answered - last);
        if is_terminal {
            eprint!("\r{line}  ");
            let _ = std::io::stderr().flush();
        } else if is_wanted {
            eprintln!("{line}");
        }
        last = answered;
    }
    std::future::pending().await
}

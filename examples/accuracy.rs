//! How close each algorithm comes to an exact log, on traffic of several kinds: what it admits as a share of what the log
//! admits, and the fullest true window as a share of the limit. Simulated time and fixed seeds: every run prints the same.
//! With `--store` the same is measured in real time, on replicas of the service that share a real store: see `accuracy/live.rs`.
//!
//! `cargo run --release --example accuracy` prints the tables of docs/src/why/accuracy.md; `-- --help` says what else there is.

#[path = "accuracy/live.rs"]
pub(crate) mod live;
#[path = "support/redis_servers.rs"]
mod redis_servers;

use std::{collections::VecDeque, process::ExitCode};

use clap::Parser;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tollgate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Limit, Micros, Unit, UnixMicros},
};

const REQUESTS: u32 = 100;
const WINDOW: u64 = Unit::Minute.window().0;

/// A round moment, so that windows aligned to the epoch begin where a simulated minute does.
const START: u64 = 29_395_117 * WINDOW;

/// One request: when, and whose.
type Arrival = (u64, usize);

#[derive(Parser)]
#[command(
    name = "accuracy",
    about = "How close each algorithm comes to an exact log",
    after_help = "Examples:\n  \
        cargo run --release --example accuracy                           simulated: the tables of docs/src/why/accuracy.md\n  \
        cargo run --example accuracy -- --store redis --replicas 3       in real time, on a redis-server\n  \
        cargo run --example accuracy -- --store cluster --replicas 3     on a Cluster of three\n  \
        cargo run --example accuracy -- --store memory --json\n\n\
        --store starts redis-server, which must be installed, on free ports of the loopback.\n\
        Exit code 1 if a sliding algorithm was seen to admit more than the limit in a true window."
)]
struct Args {
    /// Measure replicas of the service on a real store, instead of simulating
    #[arg(long)]
    store: Option<live::StoreKind>,
    /// Replicas that share the store, each with a thread and a connection of its own
    #[arg(long, default_value_t = 1, requires = "store", value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: u16,
    /// How long to send requests
    #[arg(long, default_value_t = 20, requires = "store", value_parser = clap::value_parser!(u16).range(4..=3_600))]
    seconds: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(store) = args.store {
        let report = live::measure(store, args.replicas, args.seconds)?;
        println!("{}", if args.json { report.json().to_string() } else { report.table() });
        return Ok(if report.keeps_the_bound() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let rows = rows();
    if args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::json!({ "limit": REQUESTS, "window_seconds": WINDOW / 1_000_000, "traffic": rows }));
    } else {
        println!("Limit {REQUESTS} a minute.\n\n{}", tables(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn tables(rows: &[Row]) -> String {
    let admitted = table("Admitted, % of what the exact log admits", rows, Row::admitted_share);
    admitted + &table("Fullest true window, % of the limit", rows, Row::peak_share)
}

pub(crate) fn rows() -> Vec<Row> {
    traffics().into_iter().map(Row::measure).collect()
}

/// What counts: an algorithm of Tollgate's, or the estimate that is usual elsewhere.
enum Counter {
    Step(Limit, State),
    TwoBuckets { index: u64, current: u64, previous: u64 },
}

/// Every contender, the log first: the others are measured by it.
fn contenders() -> Vec<(&'static str, Counter)> {
    let ours = |algorithm, sub_windows| {
        let limit = Limit { sub_windows, ..Limit::new(REQUESTS, Micros(WINDOW), algorithm) };
        Counter::Step(limit, State::Empty)
    };
    vec![
        ("sliding_log", ours(Algorithm::SlidingLog, 32)),
        ("sliding_window", ours(Algorithm::SlidingWindow, 32)),
        ("same, 8 parts", ours(Algorithm::SlidingWindow, 8)),
        ("two buckets", Counter::TwoBuckets { index: 0, current: 0, previous: 0 }),
        ("fixed_window", ours(Algorithm::FixedWindow, 32)),
        ("token_bucket", ours(Algorithm::TokenBucket, 32)),
        ("leaky_bucket", ours(Algorithm::LeakyBucket, 32)),
    ]
}

impl Counter {
    fn fresh(&self) -> Counter {
        match self {
            Counter::Step(limit, _) => Counter::Step(*limit, State::Empty),
            Counter::TwoBuckets { .. } => Counter::TwoBuckets { index: 0, current: 0, previous: 0 },
        }
    }

    fn admits(&mut self, now: u64) -> bool {
        match self {
            Counter::Step(limit, state) => {
                let cost = Cost { hits: 1, charge_denied: false };
                let (next, reading) = step(limit, std::mem::take(state), cost, UnixMicros(now));
                *state = next;
                reading.admitted
            }
            // The window before weighs as much as it overlaps, as if its hits had come evenly.
            Counter::TwoBuckets { index, current, previous } => {
                let turned = now / WINDOW - *index;
                if turned > 0 {
                    (*previous, *current) = (if turned == 1 { *current } else { 0 }, 0);
                    *index += turned;
                }
                let overlap = 1.0 - (now % WINDOW) as f64 / WINDOW as f64;
                let admitted = *previous as f64 * overlap + *current as f64 + 1.0 <= f64::from(REQUESTS);
                *current += u64::from(admitted);
                admitted
            }
        }
    }
}

/// A kind of traffic, and what each contender made of it, in their order.
pub(crate) struct Row {
    traffic: &'static str,
    arrivals: usize,
    admitted: Vec<u64>,
    peak: Vec<usize>,
}

impl Row {
    fn measure((traffic, keys, arrivals): (&'static str, usize, Vec<Arrival>)) -> Row {
        let (admitted, peak) = contenders().iter().map(|(_, counter)| play(counter, keys, &arrivals)).unzip();
        Row { traffic, arrivals: arrivals.len(), admitted, peak }
    }

    fn admitted_share(&self, of: usize) -> f64 {
        100.0 * self.admitted[of] as f64 / self.admitted[0] as f64
    }

    fn peak_share(&self, of: usize) -> f64 {
        100.0 * self.peak[of] as f64 / f64::from(REQUESTS)
    }

    fn json(&self) -> serde_json::Value {
        let algorithms = contenders().into_iter().enumerate().map(|(of, (name, _))| {
            serde_json::json!({
                "algorithm": name,
                "admitted": self.admitted[of],
                "admitted_percent_of_log": self.admitted_share(of),
                "peak_percent_of_limit": self.peak_share(of),
            })
        });
        serde_json::json!({
            "traffic": self.traffic,
            "requests": self.arrivals,
            "algorithms": algorithms.collect::<Vec<_>>(),
        })
    }
}

/// Puts the arrivals to a counter per key: how many were admitted, and the most in any true window of one key.
fn play(counter: &Counter, keys: usize, arrivals: &[Arrival]) -> (u64, usize) {
    let mut counters: Vec<_> = (0..keys).map(|_| (counter.fresh(), VecDeque::new())).collect();
    let (mut admitted, mut peak) = (0, 0);
    for &(now, key) in arrivals {
        let (counter, window) = &mut counters[key];
        if !counter.admits(now) {
            continue;
        }
        admitted += 1;
        window.push_back(now);
        while window.front().is_some_and(|first| first + WINDOW <= now) {
            window.pop_front();
        }
        peak = peak.max(window.len());
    }
    (admitted, peak)
}

fn table(what: &str, rows: &[Row], share: impl Fn(&Row, usize) -> f64) -> String {
    let names: Vec<_> = contenders().into_iter().map(|(name, _)| format!("{name:>14}")).collect();
    let mut text = format!("{what}:\n\n| {:<26} | {} |\n", "traffic", names.join(" | "));
    text += &format!("|{}|{}\n", "-".repeat(28), format!("{}:|", "-".repeat(15)).repeat(names.len()));
    for row in rows {
        let shares: Vec<_> = (0..names.len()).map(|of| format!("{:>14.1}", share(row, of))).collect();
        text += &format!("| {:<26} | {} |\n", row.traffic, shares.join(" | "));
    }
    text + "\n"
}

/// Name, number of keys, arrivals in order.
fn traffics() -> Vec<(&'static str, usize, Vec<Arrival>)> {
    let mut seeds = (0..).map(SmallRng::seed_from_u64);
    let mut rng = || seeds.next().expect("there is always a next seed");
    let on = |on: u64, off: u64| move |at: u64| if at % (on + off) < on { 3.0 } else { 0.0 };
    vec![
        ("steady, 0.8 x the limit", 1, random(rng(), 1_000, |_| 0.8)),
        ("steady, 1.2 x the limit", 1, random(rng(), 1_000, |_| 1.2)),
        ("steady, 3 x the limit", 1, random(rng(), 1_000, |_| 3.0)),
        ("on 30 s, off 30 s, 3 x", 1, random(rng(), 1_000, on(WINDOW / 2, WINDOW / 2))),
        ("on 90 s, off 50 s, 3 x", 1, random(rng(), 1_000, on(WINDOW * 3 / 2, WINDOW * 5 / 6))),
        ("Zipf over 2,000 keys", 2_000, zipf(rng(), 2_000, 30)),
        ("bursts of 100", 1, bursts(rng(), 500, 100)),
        ("bursts of 300", 1, bursts(rng(), 500, 300)),
        ("burst at an edge, flood", 1, edges(500)),
    ]
}

/// Requests at random, `rate(time)` times the limit, for that many windows.
fn random(mut rng: SmallRng, windows: u64, rate: impl Fn(u64) -> f64) -> Vec<Arrival> {
    // At three times the limit throughout, of which a share is kept: so the rate may change at any moment.
    let mean = WINDOW as f64 / (3.0 * f64::from(REQUESTS));
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    while at < (windows * WINDOW) as f64 {
        at += -mean * (1.0 - rng.random::<f64>()).ln();
        if rng.random::<f64>() * 3.0 < rate(at as u64) {
            arrivals.push((START + at as u64, 0));
        }
    }
    arrivals
}

/// Ten requests a key and window on average, but the k-th key gets 1/k of what the first gets.
fn zipf(mut rng: SmallRng, keys: usize, windows: u64) -> Vec<Arrival> {
    let mut sum = 0.0;
    let up_to: Vec<f64> = (1..=keys)
        .map(|key| {
            sum += 1.0 / key as f64;
            sum
        })
        .collect();
    let mean = WINDOW as f64 / (10 * keys) as f64;
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    while at < (windows * WINDOW) as f64 {
        at += -mean * (1.0 - rng.random::<f64>()).ln();
        let place = rng.random::<f64>() * sum;
        arrivals.push((START + at as u64, up_to.partition_point(|up_to| *up_to < place)));
    }
    arrivals
}

/// `size` requests within a second, then nothing for one to three windows.
fn bursts(mut rng: SmallRng, count: u64, size: u64) -> Vec<Arrival> {
    let mut start = START;
    let mut arrivals = Vec::new();
    for _ in 0..count {
        arrivals.extend((0..size).map(|nth| (start + nth * 1_000_000 / size, 0)));
        start += WINDOW + 1_000_000 + rng.random_range(0..2 * WINDOW);
    }
    arrivals
}

/// Who knows the clock: a full burst in the last 10 ms of a minute, a flood of ten times the limit through the next, and
/// then a minute's pause.
fn edges(rounds: u64) -> Vec<Arrival> {
    let flood = 10 * u64::from(REQUESTS);
    let round = |nth: u64| {
        let edge = START + (3 * nth + 1) * WINDOW;
        let burst = (0..u64::from(REQUESTS)).map(move |nth| edge - 10_000 + nth * 100);
        burst.chain((0..flood).map(move |nth| edge + nth * (WINDOW / flood)))
    };
    (0..rounds).flat_map(round).map(|at| (at, 0)).collect()
}

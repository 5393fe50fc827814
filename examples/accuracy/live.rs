//! The measurement in real time: replicas of the service, each with a thread and a connection of its own, get traffic of
//! several kinds for users who share nothing, and every answer is noted with when it was asked for and when it came. An
//! exact log is then played on the same arrivals.
//!
//! When exactly a counter was charged is not seen, only that it was between question and answer. So a window counts as
//! overfull only where it holds too many requests that were asked *and* answered within it: that is certain.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{runtime, sync::Barrier, task::JoinSet, time};
use tollgate::{
    Embedded,
    algorithm::{State, step},
    clock,
    front::api::{CheckRequest, Descriptor, Entry},
    limit::{Algorithm, Cost, Limit, Micros, UnixMicros},
    settings::{Flags, Settings},
};

use super::redis_servers::RedisServers;

const REQUESTS: u32 = 50;
const WINDOW: u64 = 2_000_000;
const DOMAIN: &str = "accuracy";
const CLUSTER_NODES: u16 = 3;

/// So long that nobody is answered by a policy only because the machine is busy.
const STORE_TIMEOUT: &str = "1s";
const START_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    Memory,
    Redis,
    Cluster,
}

/// An algorithm under test; its name is the key of its descriptors. The exact log comes first.
struct Contender {
    name: &'static str,
    algorithm: Algorithm,
    sub_windows: u8,
    /// Whether it promises that no true window holds more than the limit.
    is_bound: bool,
}

const CONTENDERS: [Contender; 6] = [
    Contender { name: "sliding_log", algorithm: Algorithm::SlidingLog, sub_windows: 32, is_bound: true },
    Contender { name: "sliding_window", algorithm: Algorithm::SlidingWindow, sub_windows: 32, is_bound: true },
    Contender { name: "same, 8 parts", algorithm: Algorithm::SlidingWindow, sub_windows: 8, is_bound: true },
    Contender { name: "fixed_window", algorithm: Algorithm::FixedWindow, sub_windows: 32, is_bound: false },
    Contender { name: "token_bucket", algorithm: Algorithm::TokenBucket, sub_windows: 32, is_bound: false },
    Contender { name: "leaky_bucket", algorithm: Algorithm::LeakyBucket, sub_windows: 32, is_bound: false },
];

impl Contender {
    fn limit(&self) -> Limit {
        Limit { sub_windows: self.sub_windows, ..Limit::new(REQUESTS, Micros(WINDOW), self.algorithm) }
    }

    fn rule(&self) -> String {
        let sub_windows = match self.algorithm {
            Algorithm::SlidingWindow => format!(", sub_windows: {}", self.sub_windows),
            _ => String::new(),
        };
        let (name, algorithm) = (self.name, self.algorithm.name());
        let limit = format!("requests: {REQUESTS}, window: {WINDOW}us, algorithm: {algorithm}{sub_windows}");
        format!("  - {{key: \"{name}\", on_store_failure: error, rate_limit: {{{limit}}}}}\n")
    }
}

/// One user's counter of one contender: its place among [`CONTENDERS`], the kind of traffic, and the user.
type Counter = (usize, &'static str, usize);

/// A request that is due so many microseconds after the start.
struct Arrival {
    due: u64,
    counter: Counter,
}

/// A request and its answer; no verdict where the store gave none in time.
#[derive(Clone, Copy)]
struct Answer {
    asked: u64,
    answered: u64,
    is_admitted: Option<bool>,
}

/// What one contender made of one kind of traffic.
struct Outcome {
    traffic: &'static str,
    requests: usize,
    admitted: u64,
    log_admits: u64,
    simulation_admits: u64,
    /// Most requests of one user that were certainly admitted within one true window.
    peak: usize,
}

pub(crate) struct Report {
    store: StoreKind,
    replicas: u16,
    seconds: u16,
    unanswered: usize,
    /// Time to answer, in µs.
    median: u64,
    longest: u64,
    /// For each contender, in their order, each kind of traffic.
    outcomes: Vec<Vec<Outcome>>,
}

/// Starts the store and the replicas, sends for so many seconds, and ends what it started.
pub(crate) fn measure(store: StoreKind, replicas: u16, seconds: u16) -> Result<Report> {
    let servers = match store {
        StoreKind::Memory => None,
        StoreKind::Redis => Some(RedisServers::one()?),
        StoreKind::Cluster => Some(RedisServers::cluster(CLUSTER_NODES)?),
    };
    let rules = tempfile::tempdir()?;
    let text: String = CONTENDERS.iter().map(Contender::rule).collect();
    fs::write(rules.path().join("accuracy.yaml"), format!("domain: {DOMAIN}\ndescriptors:\n{text}"))?;
    let flags = flags(rules.path(), servers.as_ref());

    let mut shares: Vec<Vec<Arrival>> = (0..replicas).map(|_| Vec::new()).collect();
    let mut rng = SmallRng::seed_from_u64(0);
    for arrival in arrivals(u64::from(seconds) * 1_000_000) {
        shares[rng.random_range(0..usize::from(replicas))].push(arrival);
    }
    let (all_ready, start) = (Barrier::new(usize::from(replicas)), OnceLock::new());
    let mut answers: BTreeMap<Counter, Vec<Answer>> = BTreeMap::new();
    thread::scope(|threads| {
        let replicas: Vec<_> =
            shares.into_iter().map(|share| threads.spawn(|| replica(&flags, share, &all_ready, &start))).collect();
        for replica in replicas {
            for (counter, answer) in replica.join().expect("a replica's thread only measures")? {
                answers.entry(counter).or_default().push(answer);
            }
        }
        anyhow::Ok(())
    })?;
    Ok(Report::new(store, replicas, seconds, answers))
}

fn flags(rules: &Path, servers: Option<&RedisServers>) -> Flags {
    Flags {
        rules: vec![rules.display().to_string()],
        redis_url: servers.map(RedisServers::url),
        redis_type: servers.map(|servers| servers.kind().to_owned()),
        store_timeout: Some(STORE_TIMEOUT.to_owned()),
        ..Flags::default()
    }
}

/// One replica of the service: it sends its share of the arrivals when they are due, and waits for every answer.
fn replica(
    flags: &Flags,
    share: Vec<Arrival>,
    all_ready: &Barrier,
    start: &OnceLock<u64>,
) -> Result<Vec<(Counter, Answer)>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = Arc::new(Embedded::open(&Settings::resolve(flags)?).await?);
        let ready = answers_from_its_store(&service).await;
        // Whoever fails says so after all have come, or the others would wait for ever.
        all_ready.wait().await;
        ready?;
        let start = *start.get_or_init(|| (clock::now().0 / WINDOW + 2) * WINDOW);
        let mut asked = JoinSet::new();
        for arrival in share {
            let wait = (start + arrival.due).saturating_sub(clock::now().0);
            time::sleep(Duration::from_micros(wait)).await;
            let service = Arc::clone(&service);
            asked.spawn(async move { (arrival.counter, ask(&service, arrival.counter).await) });
        }
        Ok(asked.join_all().await)
    })
}

async fn answers_from_its_store(service: &Embedded) -> Result<()> {
    let until = clock::instant() + START_PATIENCE;
    while ask(service, (0, "is it there", 0)).await.is_admitted.is_none() {
        ensure!(clock::instant() < until, "the store did not answer within {START_PATIENCE:?}");
        time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn ask(service: &Embedded, (contender, traffic, user): Counter) -> Answer {
    let entry = Entry { key: CONTENDERS[contender].name.to_owned(), value: format!("{traffic}/{user}") };
    let descriptors = vec![Descriptor { entries: vec![entry], hits: None }];
    let request = CheckRequest { domain: DOMAIN.to_owned(), descriptors, ..CheckRequest::default() };
    let asked = clock::now().0;
    let answer = service.check(request).await;
    let answered = clock::now().0;
    let is_admitted = answer.ok().filter(|answer| answer.degraded.is_empty()).map(|answer| answer.allowed);
    Answer { asked, answered, is_admitted }
}

impl Report {
    fn new(store: StoreKind, replicas: u16, seconds: u16, mut answers: BTreeMap<Counter, Vec<Answer>>) -> Report {
        let mut times: Vec<u64> = answers.values().flatten().map(|answer| answer.answered - answer.asked).collect();
        times.sort_unstable();
        let mut unanswered = 0;
        for answers in answers.values_mut() {
            let all = answers.len();
            answers.retain(|answer| answer.is_admitted.is_some());
            unanswered += all - answers.len();
            answers.sort_unstable_by_key(|answer| answer.asked);
        }
        let of = |contender| {
            let mut outcomes: Vec<Outcome> = Vec::new();
            for ((_, traffic, _), answers) in answers.iter().filter(|((of, ..), _)| *of == contender) {
                let outcome = outcome(&CONTENDERS[contender], traffic, answers);
                match outcomes.last_mut().filter(|last| last.traffic == *traffic) {
                    Some(last) => last.add(outcome),
                    None => outcomes.push(outcome),
                }
            }
            outcomes
        };
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let outcomes = (0..CONTENDERS.len()).map(of).collect();
        Report { store, replicas, seconds, unanswered, median, longest, outcomes }
    }

    /// Whether no true window of the sliding algorithms held more than the limit. Replicas that count for themselves
    /// promise nothing together.
    pub(crate) fn keeps_the_bound(&self) -> bool {
        (self.store == StoreKind::Memory && self.replicas > 1) || self.fullest_bounded_window() <= 100.0
    }

    /// The fullest true window of the algorithms that promise to bound it, as % of the limit.
    pub(crate) fn fullest_bounded_window(&self) -> f64 {
        let bounded = (0..CONTENDERS.len()).filter(|of| CONTENDERS[*of].is_bound);
        bounded.map(|of| self.peak_percent(of)).fold(0.0, f64::max)
    }

    /// How many requests got a verdict of the store.
    pub(crate) fn decided(&self) -> usize {
        self.outcomes.iter().flatten().map(|outcome| outcome.requests).sum()
    }

    /// The fullest window of a contender, over all kinds of traffic.
    fn peak_percent(&self, contender: usize) -> f64 {
        let peak = self.outcomes[contender].iter().map(|outcome| outcome.peak).max().unwrap_or_default();
        100.0 * peak as f64 / f64::from(REQUESTS)
    }

    /// Least and most over the kinds of traffic.
    fn range(&self, contender: usize, share: impl Fn(&Outcome) -> f64) -> (f64, f64) {
        let shares = self.outcomes[contender].iter().map(share);
        shares.fold((f64::MAX, f64::MIN), |(least, most), share| (least.min(share), most.max(share)))
    }

    pub(crate) fn table(&self) -> String {
        let requests = self.decided();
        let ms = |us: u64| us as f64 / 1e3;
        let mut text = format!(
            "{:?} store, {} replica(s): limit {REQUESTS} in {} s, {requests} requests in {} s, {} without an answer; \
                answered in {:.2} ms (median) to {:.1} ms\n\n",
            self.store,
            self.replicas,
            WINDOW / 1_000_000,
            self.seconds,
            self.unanswered,
            ms(self.median),
            ms(self.longest),
        );
        text += "| algorithm      | admitted, % of the log | admitted, % of the simulation | fullest true window, % of the limit |\n";
        text += "|----------------|-----------------------:|------------------------------:|------------------------------------:|\n";
        for (of, contender) in CONTENDERS.iter().enumerate() {
            let range = |(least, most): (f64, f64)| format!("{least:.1} to {most:.1}");
            let log = range(self.range(of, Outcome::log_share));
            let simulation = range(self.range(of, Outcome::simulation_share));
            let peak = self.peak_percent(of);
            text += &format!("| {:<14} | {log:>22} | {simulation:>29} | {peak:>35.0} |\n", contender.name);
        }
        text
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let algorithms = CONTENDERS.iter().zip(&self.outcomes).map(|(contender, outcomes)| {
            let traffic: Vec<_> = outcomes.iter().map(Outcome::json).collect();
            serde_json::json!({ "algorithm": contender.name, "traffic": traffic })
        });
        serde_json::json!({
            "store": format!("{:?}", self.store).to_lowercase(),
            "replicas": self.replicas,
            "seconds": self.seconds,
            "limit": REQUESTS,
            "window_seconds": WINDOW / 1_000_000,
            "unanswered": self.unanswered,
            "median_us": self.median,
            "longest_us": self.longest,
            "algorithms": algorithms.collect::<Vec<_>>(),
        })
    }
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.requests += other.requests;
        self.admitted += other.admitted;
        self.log_admits += other.log_admits;
        self.simulation_admits += other.simulation_admits;
        self.peak = self.peak.max(other.peak);
    }

    fn log_share(&self) -> f64 {
        100.0 * self.admitted as f64 / self.log_admits as f64
    }

    fn simulation_share(&self) -> f64 {
        100.0 * self.admitted as f64 / self.simulation_admits as f64
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "traffic": self.traffic,
            "requests": self.requests,
            "admitted": self.admitted,
            "admitted_percent_of_log": self.log_share(),
            "admitted_percent_of_simulation": self.simulation_share(),
            "peak_percent_of_limit": 100.0 * self.peak as f64 / f64::from(REQUESTS),
        })
    }
}

/// Of one user's answers, in the order in which they were asked for.
fn outcome(contender: &Contender, traffic: &'static str, answers: &[Answer]) -> Outcome {
    let admitted: Vec<Answer> = answers.iter().copied().filter(|answer| answer.is_admitted == Some(true)).collect();
    Outcome {
        traffic,
        requests: answers.len(),
        admitted: admitted.len() as u64,
        log_admits: play(&CONTENDERS[0], answers),
        simulation_admits: play(contender, answers),
        peak: peak(&admitted),
    }
}

/// How many of the same requests one counter in memory admits.
fn play(contender: &Contender, answers: &[Answer]) -> u64 {
    let (limit, mut state, mut admitted) = (contender.limit(), State::Empty, 0);
    for answer in answers {
        let cost = Cost { hits: 1, charge_denied: false };
        let (next, reading) = step(&limit, std::mem::take(&mut state), cost, UnixMicros(answer.asked));
        state = next;
        admitted += u64::from(reading.admitted);
    }
    admitted
}

/// Most requests that were asked and answered within one window, whenever it begins.
fn peak(admitted: &[Answer]) -> usize {
    let within = |first: usize| {
        let end = admitted[first].asked + WINDOW;
        let later = admitted[first..].iter().take_while(|answer| answer.asked < end);
        later.filter(|answer| answer.answered < end).count()
    };
    (0..admitted.len()).map(within).max().unwrap_or_default()
}

/// The arrivals of all kinds and contenders, in order. Each contender gets the same.
fn arrivals(length: u64) -> Vec<Arrival> {
    let mut seeds = (0..).map(SmallRng::seed_from_u64);
    let mut rng = || seeds.next().expect("there is always a next seed");
    let on = |on: u64, off: u64| move |at: u64| if at % (on + off) < on { 3.0 } else { 0.0 };
    let kinds: Vec<(&'static str, Vec<(u64, usize)>)> = vec![
        ("steady, 0.8 x the limit", random(rng(), length, |_| 0.8)),
        ("steady, 1.2 x the limit", random(rng(), length, |_| 1.2)),
        ("steady, 3 x the limit", random(rng(), length, |_| 3.0)),
        ("on 1 s, off 1 s, 3 x", random(rng(), length, on(WINDOW / 2, WINDOW / 2))),
        ("on 3 s, off 1.7 s, 3 x", random(rng(), length, on(WINDOW * 3 / 2, WINDOW * 5 / 6))),
        ("Zipf over 20 users", zipf(rng(), length, 20)),
        ("150 at once", at_once(rng(), length, 3 * REQUESTS)),
        ("burst at an edge, flood", edges(length)),
    ];
    let mut arrivals = Vec::new();
    for (traffic, times) in &kinds {
        for contender in 0..CONTENDERS.len() {
            arrivals
                .extend(times.iter().map(|(due, user)| Arrival { due: *due, counter: (contender, *traffic, *user) }));
        }
    }
    arrivals.sort_by_key(|arrival| arrival.due);
    arrivals
}

/// Requests at random, `rate(time)` times the limit, which is at most three.
fn random(mut rng: SmallRng, length: u64, rate: impl Fn(u64) -> f64) -> Vec<(u64, usize)> {
    let times = poisson(&mut rng, length, 3.0 * f64::from(REQUESTS));
    times.into_iter().filter(|at| rng.random::<f64>() * 3.0 < rate(*at)).map(|at| (at, 0)).collect()
}

/// A fifth of the limit for each user on average, but the k-th user asks 1/k as often as the first.
fn zipf(mut rng: SmallRng, length: u64, users: usize) -> Vec<(u64, usize)> {
    let sums: Vec<f64> = (1..=users)
        .scan(0.0, |sum, user| {
            *sum += 1.0 / user as f64;
            Some(*sum)
        })
        .collect();
    let times = poisson(&mut rng, length, users as f64 * f64::from(REQUESTS) / 5.0);
    let mut draw = || rng.random::<f64>() * sums[users - 1];
    times.into_iter().map(|at| (at, draw())).map(|(at, drawn)| (at, sums.partition_point(|sum| *sum < drawn))).collect()
}

fn poisson(rng: &mut SmallRng, length: u64, in_a_window: f64) -> Vec<u64> {
    let mean = WINDOW as f64 / in_a_window;
    let mut at = 0.0;
    let mut next = || {
        at += -mean * (1.0 - rng.random::<f64>()).ln();
        Some(at as u64).filter(|at| *at < length)
    };
    std::iter::from_fn(&mut next).collect()
}

/// All in the same moment, then nothing for one to three windows.
fn at_once(mut rng: SmallRng, length: u64, size: u32) -> Vec<(u64, usize)> {
    let mut at = 0;
    let mut arrivals = Vec::new();
    while at < length {
        arrivals.extend((0..size).map(|_| (at, 0)));
        at += WINDOW + rng.random_range(0..2 * WINDOW);
    }
    arrivals
}

/// Who knows the clock: a full burst just before a window of the clock ends, a flood of ten times the limit through the
/// next, and then a window's pause. The start is such an edge.
fn edges(length: u64) -> Vec<(u64, usize)> {
    let flood = 10 * u64::from(REQUESTS);
    let round = |nth: u64| {
        let edge = (3 * nth + 1) * WINDOW;
        let burst = (0..u64::from(REQUESTS)).map(move |nth| edge - 20_000 + nth * 100);
        burst.chain((0..flood).map(move |nth| edge + nth * (WINDOW / flood)))
    };
    (0..=length / (3 * WINDOW)).flat_map(round).filter(|at| *at < length).map(|at| (at, 0)).collect()
}

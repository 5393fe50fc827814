//! The two loops. Both run on one thread, which is plenty to saturate a core of any server.

use std::{
    cell::{Cell, Ref, RefCell},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    task::LocalSet,
    time::{self, Instant},
};

use super::wire::{EncodedRequests, Server};

#[cfg(test)]
mod tests;

/// Outstanding requests at which an open loop stops sending: a server this far behind won't catch up.
const OUTSTANDING_MAX: usize = 100_000;

/// An hour: a longer time is told as this.
const TIME_US_MAX: u64 = 3_600_000_000;

pub(super) struct LoadGenerator {
    pub servers: Vec<Server>,
    pub requests: EncodedRequests,
    /// To each server.
    pub connections: usize,
    pub inflight: usize,
    pub rate: Option<f64>,
    /// See [`zipf_sums`].
    pub zipf_sums: Vec<f64>,
    pub warmup: Duration,
    pub measured: Duration,
    pub seed: u64,
}

/// What one server has answered so far. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct BenchTotals(Rc<RefCell<BenchCounts>>);

pub(super) struct BenchCounts {
    pub ok: u64,
    pub over_limit: u64,
    pub errors: u64,
    pub not_sent: u64,
    pub first_error: Option<String>,
    pub times_us: Histogram<u64>,
}

impl Default for BenchCounts {
    fn default() -> BenchCounts {
        let times_us = Histogram::new_with_max(TIME_US_MAX, 3).expect("three digits are allowed");
        BenchCounts { ok: 0, over_limit: 0, errors: 0, not_sent: 0, first_error: None, times_us }
    }
}

impl BenchCounts {
    /// Adds what another server has answered.
    pub(super) fn add(&mut self, other: &BenchCounts) {
        self.ok += other.ok;
        self.over_limit += other.over_limit;
        self.errors += other.errors;
        self.not_sent += other.not_sent;
        self.first_error = self.first_error.take().or_else(|| other.first_error.clone());
        self.times_us.add(&other.times_us).expect("both have the same bounds");
    }
}

impl BenchTotals {
    pub(super) fn seen(&self) -> Ref<'_, BenchCounts> {
        self.0.borrow()
    }

    pub(super) fn answered(&self) -> u64 {
        let seen = self.seen();
        seen.ok + seen.over_limit
    }

    pub(super) fn errors(&self) -> u64 {
        self.seen().errors
    }

    fn add(&self, answer: anyhow::Result<bool>, took: Duration) {
        let mut seen = self.0.borrow_mut();
        match answer {
            Ok(true) => seen.ok += 1,
            Ok(false) => seen.over_limit += 1,
            Err(error) => {
                seen.errors += 1;
                seen.first_error.get_or_insert_with(|| format!("{error:#}"));
                return;
            }
        }
        seen.times_us.saturating_record(took.as_micros().max(1) as u64);
    }
}

/// A connection to one server, and where its answers are counted.
#[derive(Clone)]
struct BenchConnection {
    /// Index into [`LoadGenerator::servers`].
    server: usize,
    sender: SendRequest<Full<Bytes>>,
    totals: BenchTotals,
}

impl LoadGenerator {
    /// Runs the load. `totals` has one for each server.
    pub(super) async fn run(self: &Arc<LoadGenerator>, totals: &[BenchTotals]) -> anyhow::Result<()> {
        LocalSet::new()
            .run_until(async {
                // In turn, so that what an open loop sends one after the other goes to all servers.
                let mut connections = Vec::new();
                for _ in 0..self.connections {
                    for (server, totals) in totals.iter().enumerate() {
                        let sender = self.connect(server).await?;
                        connections.push(BenchConnection { server, sender, totals: totals.clone() });
                    }
                }
                match self.rate {
                    Some(rate) => self.open(connections, rate).await,
                    None => self.closed(connections).await,
                }
                Ok(())
            })
            .await
    }

    /// Asks once; `true` if admitted.
    async fn ask(&self, connection: &mut BenchConnection, key: usize) -> anyhow::Result<bool> {
        self.requests.send(&self.servers[connection.server], &mut connection.sender, key).await
    }

    async fn connect(&self, server: usize) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let addr = &self.servers[server].addr;
        let stream = TcpStream::connect(addr).await.with_context(|| format!("no connection to {addr}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    /// Always `inflight` requests outstanding on each connection.
    async fn closed(self: &Arc<LoadGenerator>, connections: Vec<BenchConnection>) {
        let from = Instant::now() + self.warmup;
        let until = from + self.measured;
        let slots = connections.iter().flat_map(|connection| std::iter::repeat_n(connection, self.inflight));
        let ask = |(slot, connection): (usize, &BenchConnection)| {
            let (load, mut connection) = (Arc::clone(self), connection.clone());
            let mut keys = KeySampler::new(&load, slot as u64);
            tokio::task::spawn_local(async move {
                while Instant::now() < until {
                    let started = Instant::now();
                    let answer = load.ask(&mut connection, keys.draw()).await;
                    let broken = answer.is_err();
                    if started >= from {
                        connection.totals.add(answer, started.elapsed());
                    }
                    if broken {
                        time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        };
        let tasks: Vec<_> = slots.enumerate().map(ask).collect();
        for task in tasks {
            let _ = task.await;
        }
    }

    /// A request whenever one is due, whatever became of those before.
    async fn open(self: &Arc<LoadGenerator>, connections: Vec<BenchConnection>, rate: f64) {
        let start = Instant::now();
        let (from, until) = (start + self.warmup, start + self.warmup + self.measured);
        // For each server, and over all.
        let outstanding: Rc<Vec<Cell<usize>>> = Rc::new(self.servers.iter().map(|_| Cell::default()).collect());
        let in_all = |outstanding: &[Cell<usize>]| outstanding.iter().map(Cell::get).sum::<usize>();
        let mut keys = KeySampler::new(self, 0);
        let mut due_times = pace(start, until, rate);
        while let Some((number, due)) = due_times.recv().await {
            let mut connection = connections[number % connections.len()].clone();
            if in_all(&outstanding) >= OUTSTANDING_MAX {
                connection.totals.0.borrow_mut().not_sent += 1;
                continue;
            }
            let server = connection.server;
            outstanding[server].set(outstanding[server].get() + 1);
            let (load, outstanding) = (Arc::clone(self), Rc::clone(&outstanding));
            let key = keys.draw();
            tokio::task::spawn_local(async move {
                let answer = load.ask(&mut connection, key).await;
                if due >= from {
                    connection.totals.add(answer, due.elapsed());
                }
                outstanding[server].set(outstanding[server].get() - 1);
            });
        }
        let patience = Instant::now() + Duration::from_secs(5);
        while in_all(&outstanding) > 0 && Instant::now() < patience {
            time::sleep(Duration::from_millis(1)).await;
        }
        for connection in &connections[..self.servers.len()] {
            connection.totals.0.borrow_mut().errors += outstanding[connection.server].get() as u64;
        }
    }
}

/// Numbers of requests and when each is due, said when it is: by a thread of its own, because tokio's timers know only
/// whole milliseconds, which at 2,000 requests a second would be most of what is measured. What is said late is said all
/// at once, and is still due when it was.
fn pace(start: Instant, until: Instant, rate: f64) -> Receiver<(usize, Instant)> {
    let (say, hear) = mpsc::channel(OUTSTANDING_MAX);
    let requests = (0..).map(move |number| (number, start + Duration::from_secs_f64(number as f64 / rate)));
    thread::spawn(move || {
        for (number, due) in requests.take_while(|(_, due)| *due < until) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if say.blocking_send((number, due)).is_err() {
                return;
            }
        }
    });
    hear
}

/// Draws keys, evenly or by a Zipf distribution.
struct KeySampler {
    rng: SmallRng,
    load: Arc<LoadGenerator>,
}

impl KeySampler {
    fn new(load: &Arc<LoadGenerator>, stream: u64) -> KeySampler {
        KeySampler { rng: SmallRng::seed_from_u64(load.seed.wrapping_add(stream)), load: Arc::clone(load) }
    }

    fn draw(&mut self) -> usize {
        let keys = self.load.requests.keys();
        match self.load.zipf_sums.last() {
            None => self.rng.random_range(0..keys),
            Some(total) => {
                let point = self.rng.random_range(0.0..*total);
                self.load.zipf_sums.partition_point(|sum| *sum <= point).min(keys - 1)
            }
        }
    }
}

/// Sums of a Zipf distribution's weights up to each key; none where keys are drawn evenly.
pub(super) fn zipf_sums(keys: usize, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let weights = (1..=keys).map(|rank| {
        sum += (rank as f64).powf(-exponent);
        sum
    });
    if exponent > 0.0 { weights.collect() } else { Vec::new() }
}

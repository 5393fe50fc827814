//! Measures the constants of the capacity model (docs/src/operating/capacity.md) on this machine, and holds the model against three
//! set-ups under load: what `tollgate` and Redis spend, as Linux and Redis count it.

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_servers.rs"]
mod redis_servers;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use tollgate::{
    capacity::{self, Load, Machine, Wait, constants as c},
    limit::{Algorithm, Cost, Entry, Limit, Micros, SUB_WINDOWS_DEFAULT, Unit, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Role,
        memory::{Memory, MemorySettings},
    },
};

use fleet::{Binaries, Fleet, Measured, Setup};

#[derive(Parser)]
#[command(
    name = "capacity",
    about = "Hold the capacity model against what is measured here",
    after_help = "Examples:\n  \
        cargo build --release --bin tollgate --example floor\n  \
        cargo run --example capacity -- check      the model against three set-ups: two minutes\n  \
        cargo run --example capacity -- measure    every constant of the model: two to three minutes\n\n\
        Needs Linux with two cores that have nothing else to do, taskset, redis-server and redis-benchmark.\n\
        Exit code of check: 1 if the model is off by more than 25 %."
)]
struct Args {
    what: What,
    /// The service, an optimized build
    #[arg(long, default_value = "target/release/tollgate")]
    tollgate: PathBuf,
    /// The floor, an optimized build of the example of that name
    #[arg(long, default_value = "target/release/examples/floor")]
    floor: PathBuf,
    /// How long to measure each set-up
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often `check` loads each set-up: of each figure the round counts that is off by the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Check,
    Measure,
}

/// Nodes of the Cluster.
const NODES: u16 = 3;

/// Requests outstanding where scripts are small, as those of a large fleet are.
const FEW: u16 = 8;

/// By how much the model may be off.
const OFF_MAX: f64 = 0.25;

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    for (binary, how) in [(&args.tollgate, "--bin tollgate"), (&args.floor, "--example floor")] {
        ensure!(binary.exists(), "{} isn't there: cargo build --release {how}", binary.display());
    }
    let bench = Bench {
        binaries: Binaries { tollgate: args.tollgate, floor: args.floor },
        base: Setup {
            nodes: 0,
            replicas: 1,
            descriptors: 1,
            algorithm: Algorithm::SlidingWindow,
            users: 100_000,
            in_flight: 128,
            seconds: args.seconds,
        },
    };
    match args.what {
        What::Measure => {
            let constants = bench.constants()?;
            print_constants(&constants, args.json);
            Ok(ExitCode::SUCCESS)
        }
        What::Check => {
            let rows = bench.check(args.rounds)?;
            print_rows(&rows, args.json);
            Ok(if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// What is measured, and how.
struct Bench {
    binaries: Binaries,
    base: Setup,
}

/// A figure of a set-up by the model, and as it was measured.
struct Row {
    setup: &'static str,
    what: &'static str,
    model: f64,
    measured: f64,
}

impl Row {
    fn off(&self) -> f64 {
        self.model / self.measured - 1.0
    }

    fn holds(&self) -> bool {
        self.off().abs() <= OFF_MAX
    }
}

impl Bench {
    fn check(&self, rounds: u8) -> Result<Vec<Row>> {
        let setups = [
            ("memory store, 1 descriptor", self.base.clone()),
            (
                "one Redis, 1 replica, 3 descriptors",
                Setup { nodes: 1, descriptors: 3, users: 33_333, ..self.base.clone() },
            ),
            ("Cluster of 3, 3 replicas, 1 descriptor", Setup { nodes: NODES, replicas: 3, ..self.base.clone() }),
        ];
        let mut rows = Vec::new();
        for (name, setup) in setups {
            let rounds: Vec<_> = (0..rounds).map(|_| self.round(name, &setup)).collect::<Result<_>>()?;
            rows.extend(medians(rounds));
        }
        Ok(rows)
    }

    fn round(&self, name: &'static str, setup: &Setup) -> Result<Vec<Row>> {
        // The machine's units just before and just after: its pace changes within minutes.
        let before = self.machine(setup)?;
        let measured = self.run(setup)?;
        let after = self.machine(setup)?;
        let machine = Machine {
            floor_us: (before.floor_us + after.floor_us) / 2.0,
            incr_us: (before.incr_us + after.incr_us) / 2.0,
        };
        Ok(compare(name, setup, &measured, machine))
    }

    fn run(&self, setup: &Setup) -> Result<Measured> {
        Fleet::start(&self.binaries, setup.clone())?.measure()
    }

    fn machine(&self, setup: &Setup) -> Result<Machine> {
        let incr_us = if setup.nodes == 0 { c::INCR.value } else { fleet::incr_us()? };
        // As many floors as replicas: processes that share a core take it from each other, which costs each of them.
        Ok(Machine { floor_us: self.floor_us(self.base.in_flight, setup.replicas)?, incr_us })
    }

    fn floor_us(&self, in_flight: u16, replicas: u16) -> Result<f64> {
        let setup = Setup { in_flight, replicas, ..self.base.clone() };
        let measured = Fleet::floor(&self.binaries, setup)?.measure()?;
        Ok(measured.tollgate_us / measured.requests)
    }

    /// Every constant that this measures, by name.
    fn constants(&self) -> Result<Vec<(&'static str, f64)>> {
        let mut constants = Vec::new();
        let base = &self.base;
        let redis = Setup { nodes: 1, ..base.clone() };
        let (floors, incrs) = ([self.floor_us(128, 1)?, self.floor_us(FEW, 1)?], [fleet::incr_us()?]);
        let memory = self.run(base)?;
        let memory_5 = self.run(&Setup { descriptors: 5, users: 20_000, ..base.clone() })?;
        let one = self.run(&redis)?;
        let five = self.run(&Setup { descriptors: 5, users: 20_000, ..redis.clone() })?;
        let few = self.run(&Setup { in_flight: FEW, ..redis.clone() })?;
        let cluster = self.run(&Setup { nodes: NODES, in_flight: 384, ..base.clone() })?;
        let mut others = Vec::new();
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::SlidingWindow) {
            others.push((c::counter(algorithm).name, self.run(&Setup { algorithm, ..redis.clone() })?));
        }
        let script = [fleet::script_us(50, 200_000)?, fleet::script_us(1, 30_000)?];
        let floors = [(floors[0] + self.floor_us(128, 1)?) / 2.0, (floors[1] + self.floor_us(FEW, 1)?) / 2.0];
        let incr = (incrs[0] + fleet::incr_us()?) / 2.0;
        constants.extend([(c::FLOOR.name, floors[0]), (c::INCR.name, incr)]);
        constants.extend(of_tollgate(floors, [&memory, &memory_5], [&one, &five, &few], &cluster));
        constants.extend(of_redis(incr, script, [&one, &five], &others, &cluster));
        constants.extend([(c::REPLICA_BYTES.name, one.replica_resident_bytes)]);
        constants.extend(of_memory());
        constants.extend(of_network(&one, &few));
        let asked = |descriptors| Fleet::start(&self.binaries, Setup { descriptors, ..base.clone() })?.request_bytes();
        let (asked_1, asked_5) = (asked(1)?, asked(5)?);
        constants.extend([
            (c::REQUEST_BYTES.name, asked_1.0),
            (c::REQUEST_DESCRIPTOR_BYTES.name, (asked_5.0 - asked_1.0) / 4.0),
            (c::ANSWER_BYTES.name, asked_1.1),
            (c::ANSWER_DESCRIPTOR_BYTES.name, (asked_5.1 - asked_1.1) / 4.0),
        ]);
        Ok(constants)
    }
}

/// In floors. `floors` are those of 128 and of [`FEW`] requests outstanding: fewer share less of what HTTP/2 costs.
fn of_tollgate(
    floors: [f64; 2],
    memory: [&Measured; 2],
    redis: [&Measured; 3],
    cluster: &Measured,
) -> Vec<(&'static str, f64)> {
    let each = |measured: &Measured| measured.tollgate_us / measured.requests / floors[0];
    let [one, five, few] = redis;
    let scripts = |measured: &Measured| measured.scripts / measured.requests;
    let fewer = floors[1] / floors[0];
    let script = (each(few) - fewer * each(one)) / (scripts(few) - fewer * scripts(one));
    let request = each(one) - script * scripts(one);
    vec![
        (c::MEMORY_REQUEST.name, each(memory[0])),
        (c::MEMORY_DESCRIPTOR.name, (each(memory[1]) - each(memory[0])) / 4.0),
        (c::REDIS_REQUEST.name, request),
        (c::REDIS_DESCRIPTOR.name, (each(five) - request - script * scripts(five)) / 4.0),
        (c::REDIS_SCRIPT.name, script),
        (c::CLUSTER_REQUEST.name, each(cluster) - request - script * scripts(cluster)),
    ]
}

/// In INCRs. `script` is what one that does nothing takes of a busy Redis and of one that sleeps in between, in µs.
fn of_redis(
    incr: f64,
    script: [f64; 2],
    [one, five]: [&Measured; 2],
    others: &[(&'static str, Measured)],
    cluster: &Measured,
) -> Vec<(&'static str, f64)> {
    let [busy, idle] = script.map(|us| us / incr);
    let each = |measured: &Measured| measured.redis_us / measured.counters / incr;
    // What is left of a counter's cost when its share of the script is taken off.
    let left_of = |measured: &Measured, nodes: f64| {
        let idle_share = 1.0 - measured.redis_us / 1e6 / measured.seconds / nodes;
        each(measured) - (busy + (idle - busy) * idle_share) * measured.scripts / measured.counters
    };
    let left = |measured: &Measured| left_of(measured, 1.0);
    let request = (left(one) - left(five)) / 0.8;
    let counter = left(one) - request;
    let of_cluster = [(c::CLUSTER_COUNTER.name, left_of(cluster, NODES.into()) - counter - request)];
    let others = others.iter().map(|(name, measured)| (*name, left(measured) - request));
    let own = [
        (c::SCRIPT.name, busy),
        (c::WAKING.name, idle - busy),
        (c::SCRIPT_REQUEST.name, request),
        (c::SLIDING_WINDOW.name, counter),
    ];
    own.into_iter().chain(others).chain(of_cluster).collect()
}

/// What counters take in a replica's memory, as it counts them itself.
fn of_memory() -> Vec<(&'static str, f64)> {
    const USERS: u64 = 20_000;
    const START: u64 = 1_800_000_000_000_000;
    let each = |algorithm, times: u64| {
        let memory = Memory::new(MemorySettings::default());
        let limit = Limit::new(1_000, Unit::Minute.window(), algorithm);
        let step = Unit::Minute.window().0 / 32;
        for (time, user) in (0..times).flat_map(|time| (0..USERS).map(move |user| (time, user))) {
            let value = format!("user-{user:05}");
            let entries = [Entry { key: "user", value: &value }];
            let key = Key { domain: "api", entries: &entries, shared: &[], limit_name: "", variable: 0 };
            let check = CounterCheck {
                key,
                rule: 1,
                limit,
                cost: Cost { hits: 1, charge_denied: false },
                role: Role::Enforced,
            };
            memory.apply(&[check], Gate::default(), UnixMicros(START + time * step));
        }
        memory.bytes() as f64 / USERS as f64
    };
    vec![
        (
            c::MEMORY_SUB_WINDOW_BYTES.name,
            (each(Algorithm::SlidingWindow, 32) - each(Algorithm::SlidingWindow, 1)) / 31.0,
        ),
        (c::MEMORY_LOG_ENTRY_BYTES.name, (each(Algorithm::SlidingLog, 32) - each(Algorithm::SlidingLog, 1)) / 31.0),
    ]
}

/// Of two runs whose scripts are of different sizes: what a counter takes, and what a script.
fn of_network(full: &Measured, small: &Measured) -> Vec<(&'static str, f64)> {
    let split = |bytes: fn(&Measured) -> f64| {
        let [full, small] = [full, small].map(|run| (bytes(run) / run.counters, run.scripts / run.counters));
        let script = (small.0 - full.0) / (small.1 - full.1);
        (full.0 - script * full.1, script)
    };
    let (to, from) = (split(|run| run.to_redis_bytes), split(|run| run.from_redis_bytes));
    vec![
        (c::TO_REDIS_COUNTER.name, to.0),
        (c::TO_REDIS_SCRIPT.name, to.1),
        (c::FROM_REDIS_COUNTER.name, from.0),
        (c::FROM_REDIS_SCRIPT.name, from.1),
    ]
}

/// Of each figure the round in which the model was off by the median.
fn medians(rounds: Vec<Vec<Row>>) -> Vec<Row> {
    let mut figures: Vec<Vec<Row>> = Vec::new();
    for row in rounds.into_iter().flatten() {
        match figures.iter_mut().find(|rows| rows[0].what == row.what) {
            Some(rows) => rows.push(row),
            None => figures.push(vec![row]),
        }
    }
    let median = |mut rows: Vec<Row>| {
        rows.sort_by(|a, b| a.off().total_cmp(&b.off()));
        rows.swap_remove((rows.len() - 1) / 2)
    };
    figures.into_iter().map(median).collect()
}

fn compare(name: &'static str, setup: &Setup, measured: &Measured, machine: Machine) -> Vec<Row> {
    let counters = if setup.nodes > 0 { measured.keys } else { (setup.users * setup.descriptors as u64) as f64 };
    let under_load = fleet::WARM_UP + measured.seconds;
    let load = Load {
        requests_per_second: measured.requests_per_second,
        descriptors: setup.descriptors as f64,
        users: counters / setup.descriptors as f64,
        algorithm: setup.algorithm,
        // So much of the limit's minute has gone by.
        window: Micros((under_load * 1e6) as u64),
        sub_windows: under_load / (60.0 / f64::from(SUB_WINDOWS_DEFAULT)),
        fleet: capacity::Fleet { replicas: setup.replicas.into(), workers: 1, nodes: setup.nodes.into() },
        wait: Wait::Mean(measured.wait_us / 1e6),
        machine,
    };
    let model = load.estimate();
    let row = |what, model, measured| Row { setup: name, what, model, measured };
    let mut rows = vec![
        row("requests a second (given)", measured.requests_per_second, measured.requests_per_second),
        row("Tollgate, cores", model.tollgate_cores, measured.tollgate_us / 1e6 / measured.seconds),
    ];
    if setup.nodes > 0 {
        // Those that are there: the model keeps those of two windows.
        let each = model.redis_memory / c::REDIS_OVERHEAD.value / model.counters;
        let redis_memory = counters * each / 1e6;
        rows.extend([
            row("Redis, cores", model.redis_cores, measured.redis_us / 1e6 / measured.seconds),
            row("to Redis, MB/s", model.to_redis / 1e6, measured.to_redis_bytes / 1e6 / measured.seconds),
            row("from Redis, MB/s", model.from_redis / 1e6, measured.from_redis_bytes / 1e6 / measured.seconds),
            row("counters in Redis, MB", redis_memory, measured.redis_bytes / 1e6),
        ]);
    }
    rows
}

fn print_constants(constants: &[(&'static str, f64)], as_json: bool) {
    if as_json {
        println!("{}", serde_json::Value::from_iter(constants.iter().copied()));
        return;
    }
    println!("{:<26} {:>12} {:>12}", "constant", "here", "in the model");
    for (name, value) in constants {
        let known = c::ALL.iter().find(|constant| constant.name == *name);
        let (model, unit) = known.map_or((f64::NAN, ""), |constant| (constant.value, constant.unit));
        println!("{name:<26} {value:>12.3} {model:>12.3} {unit}");
    }
}

fn print_rows(rows: &[Row], as_json: bool) {
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| serde_json::json!({ "setup": row.setup, "what": row.what, "model": row.model, "measured": row.measured }))
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return;
    }
    println!("| set-up | what | model | measured | off |\n|---|---|---:|---:|---:|");
    for row in rows {
        let Row { setup, what, model, measured } = row;
        let verdict = if row.holds() { "" } else { " FAILED" };
        println!("| {setup} | {what} | {model:.2} | {measured:.2} | {:+.0} %{verdict} |", 100.0 * row.off());
    }
}

//! What a decision costs the one Redis of a fleet, by the number of replicas: the same requests in flight over one, four and
//! twelve processes with one worker each. Starts a `redis-server` on a free port and the replicas, loads them with `tollgate
//! bench`, and reads Redis' own CPU time. Fails where a decision costs more than 1.5 times as much with the most replicas as
//! with the fewest.
//!
//! ```text
//! cargo build --release
//! cargo run --example replicas                                   # target/release/tollgate, three rounds
//! cargo run --example replicas -- --server old/tollgate --rounds 1 --replicas 1,12 --most 9
//! ```

use std::{
    collections::HashMap,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tollgate::clock;

const RULES: &str = "domain: bench\ndescriptors: [{key: user, rate_limit: 1000000/m}]\n";

/// In flight in all, a multiple of every number of replicas: a connection has 32 of them.
const CONNECTIONS: usize = 12;
const IN_FLIGHT: usize = 32;
const KEYS: usize = 100_000;
const PATIENCE: Duration = Duration::from_secs(20);

struct Settings {
    server: String,
    bench: String,
    replicas: Vec<usize>,
    rounds: usize,
    seconds: f64,
    most: f64,
}

/// What one spell of load took.
struct Spell {
    decisions_per_second: f64,
    /// Redis' CPU.
    us_per_decision: f64,
    /// Requests in one call of the script.
    batch: f64,
    p99_ms: f64,
}

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let settings = settings()?;
    let directory = tempfile::tempdir()?;
    let redis = free_port()?;
    let _redis = start_redis(redis, directory.path())?;
    let incr = incr_us(redis)?;
    println!("a plain INCR, 64 in a pipeline: {incr:.2} µs of Redis\n");
    println!("| replicas | decisions/s | Redis, µs a decision | × INCR | requests a batch | p99, ms |");
    println!("|---|---|---|---|---|---|");
    let mut costs: HashMap<usize, Vec<f64>> = HashMap::new();
    for _ in 0..settings.rounds {
        for &replicas in &settings.replicas {
            let Spell { decisions_per_second, us_per_decision, batch, p99_ms } =
                spell(&settings, replicas, redis, directory.path())?;
            let times = us_per_decision / incr;
            println!(
                "| {replicas} | {decisions_per_second:.0} | {us_per_decision:.2} | {times:.1} | {batch:.1} | {p99_ms:.1} |"
            );
            costs.entry(replicas).or_default().push(us_per_decision);
        }
    }
    let mut median = |replicas: usize| {
        let costs = costs.get_mut(&replicas).expect("each was measured");
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    let (fewest, most) = (settings.replicas[0], settings.replicas[settings.replicas.len() - 1]);
    let rise = median(most) / median(fewest);
    println!("\nfrom {fewest} to {most} replicas: {rise:.2} times as much (at most {})", settings.most);
    Ok(if rise <= settings.most { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settings() -> anyhow::Result<Settings> {
    let mut settings = Settings {
        server: "target/release/tollgate".to_owned(),
        bench: String::new(),
        replicas: vec![1, 4, 12],
        rounds: 3,
        seconds: 4.0,
        most: 1.5,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--server" => settings.server = value,
            "--bench" => settings.bench = value,
            "--replicas" => settings.replicas = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--rounds" => settings.rounds = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--most" => settings.most = value.parse()?,
            _ => bail!("--server PATH, --bench PATH, --replicas N,N, --rounds N, --seconds N, --most N; not {arg}"),
        }
    }
    if settings.bench.is_empty() {
        settings.bench.clone_from(&settings.server);
    }
    let divides = |replicas: &usize| *replicas > 0 && CONNECTIONS.is_multiple_of(*replicas);
    ensure!(settings.replicas.iter().all(divides), "{CONNECTIONS} connections are spread over the replicas evenly");
    ensure!(settings.rounds > 0 && !settings.replicas.is_empty(), "nothing would be measured");
    Ok(settings)
}

/// Starts the replicas, loads them for a second and then for as long as is measured.
fn spell(settings: &Settings, replicas: usize, redis: u16, directory: &Path) -> anyhow::Result<Spell> {
    let rules = directory.join("rules");
    std::fs::create_dir_all(&rules)?;
    std::fs::write(rules.join("bench.yaml"), RULES)?;
    let mut started = Vec::new();
    for _ in 0..replicas {
        started.push(start_replica(settings, redis, &rules)?);
    }
    let addresses: Vec<String> = started.iter().map(|(_, port)| format!("--addr=127.0.0.1:{port}")).collect();
    load(settings, &addresses, 1.0)?;
    let before = Usage::of(redis)?;
    let seen = load(settings, &addresses, settings.seconds)?;
    let after = Usage::of(redis)?;
    let number = |name: &str| seen[name].as_f64().with_context(|| format!("bench says no {name}: {seen}"));
    let decisions = number("ok")? + number("over_limit")?;
    Ok(Spell {
        decisions_per_second: decisions / settings.seconds,
        us_per_decision: (after.cpu_us - before.cpu_us) / decisions,
        batch: decisions / (after.batches - before.batches),
        p99_ms: number("p99_ms")?,
    })
}

fn load(settings: &Settings, addresses: &[String], seconds: f64) -> anyhow::Result<serde_json::Value> {
    let connections = CONNECTIONS / addresses.len();
    let mut bench = on_other_cores(&settings.bench);
    bench.args(["bench", "--domain", "bench", "--descriptor", "user=u%k", "--warmup", "0", "--json"]).args(addresses);
    bench.arg(format!("--connections={connections}")).arg(format!("--inflight={IN_FLIGHT}"));
    let output = bench.arg(format!("--keys={KEYS}")).arg(format!("--seconds={seconds}")).output()?;
    ensure!(output.status.success(), "bench failed: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn start_replica(settings: &Settings, redis: u16, rules: &Path) -> anyhow::Result<(Process, u16)> {
    let (grpc, http, admin) = (free_port()?, free_port()?, free_port()?);
    let mut replica = on_other_cores(&settings.server);
    replica.env("TOLLGATE_RULES", rules).env("REDIS_URL", format!("127.0.0.1:{redis}")).env("LOG_LEVEL", "error");
    replica.env("USE_PROMETHEUS", "false").env("USE_STATSD", "false");
    replica.env("TOLLGATE_WORKERS", "1").env("TOLLGATE_STORE_TIMEOUT", "200ms");
    for (name, port) in [("GRPC_PORT", grpc), ("PORT", http), ("DEBUG_PORT", admin)] {
        replica.env(name, port.to_string());
    }
    replica.env("GRPC_HOST", "127.0.0.1").env("HOST", "127.0.0.1").env("DEBUG_HOST", "127.0.0.1");
    let replica = Process(replica.stdout(Stdio::null()).spawn().with_context(|| settings.server.clone())?);
    wait_for(grpc)?;
    Ok((replica, grpc))
}

fn start_redis(port: u16, directory: &Path) -> anyhow::Result<Process> {
    let last = last_core().map_or_else(|| "0".to_owned(), |core| core.to_string());
    let mut redis = Command::new("taskset");
    redis.args(["-c", &last, "redis-server", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
    redis.arg("--dir").arg(directory).stdout(Stdio::null());
    let redis = Process(redis.spawn().context("taskset and redis-server must be installed")?);
    wait_for(port)?;
    Ok(redis)
}

/// A program on all cores but the last, which is Redis'.
fn on_other_cores(program: &str) -> Command {
    let cores = match last_core() {
        Some(last) if last > 0 => format!("0-{}", last - 1),
        _ => "0".to_owned(),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &cores, program]);
    command
}

fn last_core() -> Option<usize> {
    Some(std::thread::available_parallelism().ok()?.get() - 1)
}

/// What Redis has used since its start.
struct Usage {
    cpu_us: f64,
    /// Calls of the script that decides.
    batches: f64,
}

impl Usage {
    fn of(port: u16) -> anyhow::Result<Usage> {
        let mut redis = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?;
        let info: String = redis::cmd("INFO").arg("everything").query(&mut redis)?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let seconds = |name: &str| field(name).unwrap_or("0").parse::<f64>();
        let calls = field("cmdstat_evalsha").and_then(|stats| stats.strip_prefix("calls=")?.split(',').next());
        Ok(Usage {
            cpu_us: (seconds("used_cpu_user")? + seconds("used_cpu_sys")?) * 1e6,
            batches: calls.unwrap_or("0").parse()?,
        })
    }
}

/// What a plain INCR costs this Redis, sent 64 at a time: the median of three spells.
fn incr_us(port: u16) -> anyhow::Result<f64> {
    const CALLS: usize = 400_000;
    let mut costs = Vec::new();
    for _ in 0..4 {
        let before = Usage::of(port)?;
        let mut benchmark = on_other_cores("redis-benchmark");
        benchmark.args(["-q", "-c", "4", "-P", "64", "-p", &port.to_string(), "-n", &CALLS.to_string()]);
        benchmark.args(["-r", &KEYS.to_string(), "incr", "tg1:{17}:sw32:60s:bench:user=u__rand_int__"]);
        ensure!(benchmark.stdout(Stdio::null()).status()?.success(), "redis-benchmark failed");
        costs.push((Usage::of(port)?.cpu_us - before.cpu_us) / CALLS as f64);
    }
    // The first makes the keys.
    costs.remove(0);
    costs.sort_by(f64::total_cmp);
    let mut redis = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?;
    let () = redis::cmd("FLUSHALL").query(&mut redis)?;
    Ok(costs[1])
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16) -> anyhow::Result<()> {
    let begun = clock::instant();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

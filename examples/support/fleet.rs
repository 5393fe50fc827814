//! A fleet under load, measured from outside: redis-servers, the floor or replicas of the `tollgate` binary, and a load
//! generator (`tollgate bench`) for each. The servers under test run on the first core, all else on the second.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tollgate::limit::Algorithm;

use super::redis_servers::RedisServers;

const PAUSE: Duration = Duration::from_millis(20);
const LOOKS: usize = 500;

/// Seconds until nearly all users have counters, with so many requests outstanding at all replicas.
pub(crate) const WARM_UP: f64 = 4.0;
const WARM_IN_FLIGHT: u16 = 128;

/// What Linux counts CPU time in, by /proc.
const TICK_US: f64 = 10_000.0;

const SERVER_CORE: &str = "0";
const OTHER_CORE: &str = "1";

/// The binaries that are measured.
#[derive(Clone)]
pub(crate) struct Binaries {
    pub tollgate: PathBuf,
    pub floor: PathBuf,
}

/// What runs, and what is asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// 0: counters in memory. 1: one Redis. More: a Cluster.
    pub nodes: u16,
    pub replicas: u16,
    pub descriptors: usize,
    pub algorithm: Algorithm,
    pub users: u64,
    /// Requests outstanding at each replica, over four connections.
    pub in_flight: u16,
    pub seconds: f64,
}

/// What one run took, all replicas and all nodes together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub seconds: f64,
    pub requests: f64,
    pub requests_per_second: f64,
    pub tollgate_us: f64,
    pub redis_us: f64,
    pub scripts: f64,
    pub counters: f64,
    /// Mean time that a decision waits for Redis, in µs.
    pub wait_us: f64,
    pub to_redis_bytes: f64,
    pub from_redis_bytes: f64,
    /// By which the memory of all Redis grew, and by how many keys.
    pub redis_bytes: f64,
    pub keys: f64,
    pub replica_resident_bytes: f64,
}

pub(crate) struct Fleet {
    binaries: Binaries,
    setup: Setup,
    redis: Option<RedisServers>,
    servers: Vec<Server>,
    _rules: TempDir,
}

struct Server {
    child: Child,
    grpc: u16,
    metrics: Option<u16>,
}

impl Fleet {
    /// As many floors instead of the replicas; of the set-up only the load matters then.
    pub(crate) fn floor(binaries: &Binaries, setup: Setup) -> Result<Fleet> {
        let mut servers = Vec::new();
        for _ in 0..setup.replicas {
            let grpc = free_port()?;
            let mut command = pinned(SERVER_CORE, &binaries.floor);
            let child = command.arg(format!("127.0.0.1:{grpc}")).stdout(Stdio::null()).spawn();
            let child = child.with_context(|| format!("{} doesn't start", binaries.floor.display()))?;
            servers.push(Server::listening(child, grpc, None)?);
        }
        Ok(Fleet { binaries: binaries.clone(), setup, redis: None, servers, _rules: tempfile::tempdir()? })
    }

    pub(crate) fn start(binaries: &Binaries, setup: Setup) -> Result<Fleet> {
        let redis = match setup.nodes {
            0 => None,
            1 => Some(RedisServers::one()?),
            nodes => Some(RedisServers::cluster(nodes)?),
        };
        if let Some(redis) = &redis {
            redis.pin(OTHER_CORE)?;
        }
        let rules = tempfile::tempdir()?;
        let rule = |nth| {
            let limit = format!("requests: 10000, window: 1m, algorithm: {}", setup.algorithm.name());
            format!("  - {{key: key{nth}, rate_limit: {{{limit}}}}}\n")
        };
        let text: String = (0..setup.descriptors).map(rule).collect();
        fs::write(rules.path().join("bench.yaml"), format!("domain: bench\ndescriptors:\n{text}"))?;
        let mut servers = Vec::new();
        for _ in 0..setup.replicas {
            servers.push(Server::replica(binaries, rules.path(), redis.as_ref())?);
        }
        Ok(Fleet { binaries: binaries.clone(), setup, redis, servers, _rules: rules })
    }

    /// Loads it until every user has counters, and then measures.
    pub(crate) fn measure(&self) -> Result<Measured> {
        let empty = self.redis_memory()?;
        self.load(WARM_UP, (WARM_IN_FLIGHT / self.setup.replicas).max(self.setup.in_flight))?;
        let before = self.look()?;
        let rates = self.load(self.setup.seconds, self.setup.in_flight)?;
        let after = self.look()?;
        let grown = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
        let full = self.redis_memory()?;
        let waits = grown("tollgate_store_duration_seconds_count");
        Ok(Measured {
            seconds: self.setup.seconds,
            requests: rates.iter().map(|rate| rate * self.setup.seconds).sum(),
            requests_per_second: rates.iter().sum(),
            tollgate_us: grown("cpu_us"),
            redis_us: grown("redis_cpu_us"),
            scripts: grown("tollgate_redis_batches_total"),
            counters: grown("tollgate_redis_batch_counters_total"),
            wait_us: if waits > 0.0 { 1e6 * grown("tollgate_store_duration_seconds_sum") / waits } else { 0.0 },
            to_redis_bytes: grown("total_net_input_bytes"),
            from_redis_bytes: grown("total_net_output_bytes"),
            redis_bytes: full.0 - empty.0,
            keys: full.1 - empty.1,
            replica_resident_bytes: after["resident"] / self.servers.len() as f64,
        })
    }

    /// Bytes of a request and of its answer on the connection of the first replica, without TCP's and IP's headers.
    pub(crate) fn request_bytes(&self) -> Result<(f64, f64)> {
        let relay = Relay::start(self.servers[0].grpc)?;
        let requests = 2_000.0;
        let args = ["--rate", "1000", "--seconds", "2", "--warmup", "0", "--connections", "1"];
        self.bench(relay.port, &args)?.wait()?;
        Ok((relay.asked.load(Relaxed) as f64 / requests, relay.answered.load(Relaxed) as f64 / requests))
    }

    /// Runs a load generator for each replica at once; what each had a second.
    fn load(&self, seconds: f64, in_flight: u16) -> Result<Vec<f64>> {
        let (seconds, in_flight) = (seconds.to_string(), (in_flight / 4).max(1).to_string());
        let args = ["--connections", "4", "--inflight", &in_flight, "--seconds", &seconds, "--warmup", "0"];
        let start = |(seed, server): (usize, &Server)| {
            self.bench(server.grpc, &[&args[..], &["--seed", &(seed + 1).to_string()]].concat())
        };
        let loads: Result<Vec<_>> = self.servers.iter().enumerate().map(start).collect();
        loads?.into_iter().map(Load::rate).collect()
    }

    fn bench(&self, port: u16, args: &[&str]) -> Result<Load> {
        let mut command = pinned(OTHER_CORE, &self.binaries.tollgate);
        command.args(["bench", "--addr", &format!("127.0.0.1:{port}"), "--domain", "bench", "--json"]).args(args);
        command.args(["--keys", &self.setup.users.to_string()]);
        for nth in 0..self.setup.descriptors {
            command.args(["--descriptor", &format!("key{nth}=u%k")]);
        }
        Ok(Load(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("tollgate bench doesn't start")?))
    }

    /// Everything that is counted, summed over replicas and nodes.
    fn look(&self) -> Result<BTreeMap<String, f64>> {
        let mut seen: BTreeMap<String, f64> = BTreeMap::new();
        let mut add = |name: &str, value: f64| *seen.entry(name.to_owned()).or_default() += value;
        for server in &self.servers {
            let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id()))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            add("cpu_us", TICK_US * (fields[11].parse::<f64>()? + fields[12].parse::<f64>()?));
            add("resident", fields[21].parse::<f64>()? * 4096.0);
            let page = server.metrics.map_or(Ok(String::new()), http_get)?;
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                if let Some((name, value)) = line.rsplit_once(' ') {
                    add(name.split('{').next().unwrap_or(name), value.parse().unwrap_or(0.0));
                }
            }
        }
        for info in self.redis.iter().flat_map(RedisServers::infos) {
            let info = info?;
            let number = |name: &str| info_number(&info, name);
            add("redis_cpu_us", 1e6 * (number("used_cpu_sys") + number("used_cpu_user")));
            add("total_net_input_bytes", number("total_net_input_bytes"));
            add("total_net_output_bytes", number("total_net_output_bytes"));
        }
        Ok(seen)
    }

    /// Memory that the nodes use, and how many keys they have.
    fn redis_memory(&self) -> Result<(f64, f64)> {
        let mut sum = (0.0, 0.0);
        for info in self.redis.iter().flat_map(RedisServers::infos) {
            let info = info?;
            sum.0 += info_number(&info, "used_memory");
            let keys = info.split("keys=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
            sum.1 += keys.unwrap_or(0.0);
        }
        Ok(sum)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

impl Server {
    fn replica(binaries: &Binaries, rules: &Path, redis: Option<&RedisServers>) -> Result<Server> {
        let [grpc, http, admin, metrics] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let mut command = pinned(SERVER_CORE, &binaries.tollgate);
        command
            .env("TOLLGATE_RULES", rules)
            .envs([("GRPC_HOST", "127.0.0.1"), ("HOST", "127.0.0.1"), ("DEBUG_HOST", "127.0.0.1")])
            .envs([("TOLLGATE_WORKERS", "1"), ("LOG_LEVEL", "error"), ("TOLLGATE_REDIS_BUSY_POLL", "0")])
            .env("GRPC_PORT", grpc.to_string())
            .env("PORT", http.to_string())
            .env("DEBUG_PORT", admin.to_string())
            .env("PROMETHEUS_ADDR", format!("127.0.0.1:{metrics}"));
        if let Some(redis) = redis {
            command.env("REDIS_URL", redis.url()).env("REDIS_TYPE", redis.kind()).env("REDIS_SOCKET_TYPE", "tcp");
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("{} doesn't start", binaries.tollgate.display()))?;
        Server::listening(child, grpc, Some(metrics))
    }

    fn listening(child: Child, grpc: u16, metrics: Option<u16>) -> Result<Server> {
        let mut server = Server { child, grpc, metrics };
        for _ in 0..LOOKS {
            if TcpStream::connect(("127.0.0.1", grpc)).is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("a server ended with {status}");
            }
            thread::sleep(PAUSE);
        }
        bail!("a server did not listen")
    }
}

/// A load generator at work.
struct Load(Child);

impl Load {
    fn wait(self) -> Result<Value> {
        let output = self.0.wait_with_output()?;
        let report: Value = serde_json::from_slice(&output.stdout).context("tollgate bench prints JSON")?;
        if report["errors"] != 0 {
            bail!("requests were not answered: {report}");
        }
        Ok(report)
    }

    fn rate(self) -> Result<f64> {
        self.wait()?["requests_per_second"].as_f64().context("tollgate bench says how many requests it had a second")
    }
}

/// Hands bytes on to a port, and counts them.
struct Relay {
    port: u16,
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
}

impl Relay {
    fn start(to: u16) -> Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Relay { port: listener.local_addr()?.port(), asked: Arc::default(), answered: Arc::default() };
        let (asked, answered) = (Arc::clone(&relay.asked), Arc::clone(&relay.answered));
        thread::spawn(move || -> Result<()> {
            let (client, _) = listener.accept()?;
            let server = TcpStream::connect(("127.0.0.1", to))?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from, to) = (client.try_clone()?, server.try_clone()?);
            let asking = thread::spawn(move || hand_on(from, to, &asked));
            hand_on(server, client, &answered);
            let _ = asking.join();
            Ok(())
        });
        Ok(relay)
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        bytes.fetch_add(read as u64, Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// What a plain INCR costs a Redis: 100,000 keys, 64 in a pipeline. In µs.
pub(crate) fn incr_us() -> Result<f64> {
    let key = "tg1:{17}:sw32:60s:bench:key0=u__rand_int__";
    redis_us(&["-c", "4", "-P", "64", "-r", "100000"], 500_000, &["incr", key])
}

/// What a script that does nothing costs a Redis which that many clients keep busy, one after the other. In µs.
pub(crate) fn script_us(clients: u32, requests: u32) -> Result<f64> {
    redis_us(&["-c", &clients.to_string(), "-P", "1"], requests, &["eval", "return 0", "0"])
}

/// CPU of a Redis for a command of `redis-benchmark`: the median of three spells.
fn redis_us(load: &[&str], requests: u32, command: &[&str]) -> Result<f64> {
    let redis = RedisServers::one()?;
    redis.pin(OTHER_CORE)?;
    let url = redis.url();
    let (host, port) = url.split_once(':').context("host:port")?;
    let cpu = || -> Result<f64> {
        let info = redis.infos().next().context("one node")??;
        Ok(1e6 * (info_number(&info, "used_cpu_sys") + info_number(&info, "used_cpu_user")))
    };
    let mut costs = Vec::new();
    for requests in [requests / 5, requests, requests, requests] {
        let before = cpu()?;
        let mut benchmark = pinned(SERVER_CORE, Path::new("redis-benchmark"));
        benchmark.args(["-h", host, "-p", port, "-q", "-n", &requests.to_string()]).args(load).args(command);
        let status = benchmark.stdout(Stdio::null()).status().context("redis-benchmark doesn't start")?;
        ensure!(status.success(), "redis-benchmark failed");
        costs.push((cpu()? - before) / f64::from(requests));
    }
    Ok(median(&mut costs[1..]))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn info_number(info: &str, name: &str) -> f64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

fn http_get(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

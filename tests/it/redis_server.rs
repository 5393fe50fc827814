//! Starts real `redis-server` processes on free ports, each in a directory of its own, killed when dropped. It knows
//! nothing of Tollgate: tests ask it for an address, and to stop, freeze or restart what answers there.
//!
//! `TOLLGATE_TEST_REDIS` names another program than the `redis-server` on the path: an older or a newer Redis, or a
//! Valkey. `tests/redis-matrix.sh` runs the tests against each.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use tempfile::TempDir;

/// Another process may take a free port between the look and the bind: then the next one is tried.
const PORT_ATTEMPTS: usize = 20;
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The program that is started as server.
static PROGRAM: LazyLock<String> =
    LazyLock::new(|| std::env::var("TOLLGATE_TEST_REDIS").unwrap_or_else(|_| "redis-server".into()));

/// What the program says of itself, such as `Redis server v=7.0.15 sha=…`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let output = Command::new(&*PROGRAM).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{}, the Redis of the tests: {error}", *PROGRAM));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
});

/// The server's version, without what builds add to it.
pub(crate) fn version() -> &'static str {
    let found = VERSION.split_once(" v=").and_then(|(_, rest)| rest.split_whitespace().next());
    found.unwrap_or_else(|| panic!("{} --version says {:?}", *PROGRAM, *VERSION))
}

pub(crate) fn is_valkey() -> bool {
    VERSION.starts_with("Valkey")
}

/// Whether nodes of a Cluster can be told the port of their bus.
fn has_bus_port() -> bool {
    version().split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
}

/// One `redis-server`, empty, without persistence.
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    /// The port of a Cluster's nodes among each other.
    bus: u16,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// One that speaks RESP2 only, as an old one does.
    pub(crate) fn without_resp3() -> RedisServer {
        RedisServer::start_with(&["--rename-command", "HELLO", ""])
    }

    /// One that speaks RESP3, and one that doesn't.
    pub(crate) fn of_both_protocols() -> [RedisServer; 2] {
        [RedisServer::start(), RedisServer::without_resp3()]
    }

    /// `args` go to `redis-server` after the defaults, so that they can replace them. `{dir}` in them is the
    /// server's own directory, and `{bus}` the port of its bus.
    pub(crate) fn start_with(args: &[&str]) -> RedisServer {
        RedisServer::start_in(&[], args)
    }

    /// `env` adds to this process' environment.
    pub(crate) fn start_in(env: &[(&str, &str)], args: &[&str]) -> RedisServer {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args: Vec<String> = args.iter().map(|arg| arg.replace("{dir}", dir.path().to_str().unwrap())).collect();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let Some(bus) = bus_of(port) else { continue };
            let args: Vec<String> = args.iter().map(|arg| arg.replace("{bus}", &bus.to_string())).collect();
            if let Some(child) = spawn(port, &args, &env, dir.path()) {
                return RedisServer { child: Some(child), port, bus, args, env, dir };
            }
        }
        let program = &*PROGRAM;
        panic!("{program} did not start on any of {PORT_ATTEMPTS} ports (is it installed? args: {args:?})");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`, as REDIS_URL is written.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As `kill -9`: whoever is connected sees the end of the stream.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours to kill");
            child.wait().expect("a killed process ends");
        }
    }

    /// Starts again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.args, &self.env, self.dir.path());
        assert!(self.child.is_some(), "redis-server did not come back on port {}", self.port);
    }

    /// As [`RedisServer::restart`], with these arguments too.
    pub(crate) fn restart_with(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.restart();
    }

    /// Stops the process without closing its sockets: requests vanish, as with a dead network.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Runs `redis-cli` with `args` and returns what it printed.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(args)
            .output()
            .expect("redis-cli comes with redis-server");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A connection apart from the one under test, to look at what is stored and to damage it.
    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(format!("redis://{}/", self.address()))
            .expect("the address is well formed")
            .get_connection()
            .expect("the server is up")
    }

    fn knows_all_slots(&self, nodes: usize) -> bool {
        let info = self.cli(&["cluster", "info"]);
        info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{nodes}\r"))
    }

    /// Waits, with pauses, until what `redis-cli` prints is as it should be.
    pub(crate) fn wait_for(&self, args: &[&str], is_it: impl Fn(&str) -> bool) {
        let pause = Duration::from_millis(20);
        for _ in 0..START_PATIENCE.as_millis() / pause.as_millis() {
            if is_it(&self.cli(args)) {
                return;
            }
            std::thread::sleep(pause);
        }
        panic!("{args:?} is not as it should be within {START_PATIENCE:?}: {}", self.cli(args));
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill exists");
        assert!(status.success(), "kill {signal} failed");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A port for the bus of a node with this port. Before Redis 7 a bus has the port that is 10,000 above the node's.
fn bus_of(port: u16) -> Option<u16> {
    if has_bus_port() {
        return Some(free_port());
    }
    port.checked_add(10_000).filter(|bus| TcpListener::bind(("127.0.0.1", *bus)).is_ok())
}

/// A sentinel that watches `master` under the name `tollgate`, alone and quick to judge.
pub(crate) fn start_sentinel(master: &RedisServer) -> RedisServer {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let watch = format!("sentinel monitor tollgate 127.0.0.1 {} 1\n", master.port());
    let quick = "sentinel down-after-milliseconds tollgate 200\nsentinel failover-timeout tollgate 1000\n";
    std::fs::write(dir.path().join("sentinel.conf"), watch + quick).unwrap();
    let port = free_port();
    let mut command = Command::new(&*PROGRAM);
    command.args(["sentinel.conf", "--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
    let child = launch(command, dir.path()).expect("a sentinel starts");
    RedisServer { child: Some(child), port, bus: 0, args: Vec::new(), env: Vec::new(), dir }
}

/// Where a Cluster's nodes are reached besides 127.0.0.1.
pub(crate) const OTHER_ADDRESS: &str = "127.0.0.2";

/// The switches of a node of a Cluster. While a primary is gone, the others serve their slots.
fn cluster_switches() -> Vec<&'static str> {
    let mut switches = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    switches.extend(["--cluster-require-full-coverage", "no", "--bind", "127.0.0.1", OTHER_ADDRESS]);
    if has_bus_port() {
        switches.extend(["--cluster-port", "{bus}"]);
    }
    switches
}

/// Three primaries that share the slots evenly.
pub(crate) struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> RedisCluster {
        RedisCluster::start_in(&[])
    }

    /// `env` adds to the environment of the first node.
    pub(crate) fn start_in(env: &[(&str, &str)]) -> RedisCluster {
        let nodes = [env, &[], &[]].map(|env| RedisServer::start_in(env, &cluster_switches()));
        let cluster = RedisCluster { nodes: nodes.into() };
        let ranges = [0..=5460, 5461..=10922, 10923..=16383];
        for ((node, range), epoch) in cluster.nodes.iter().zip(ranges).zip(["1", "2", "3"]) {
            let slots: Vec<String> = range.map(|slot: u16| slot.to_string()).collect();
            node.cli(&[&["cluster", "addslots"][..], &slots.iter().map(String::as_str).collect::<Vec<_>>()].concat());
            node.cli(&["cluster", "set-config-epoch", epoch]);
        }
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.wait_until_whole();
        cluster
    }

    fn meet(&self, node: &RedisServer) {
        let (port, bus) = (node.port().to_string(), node.bus.to_string());
        self.nodes[0].cli(&["cluster", "meet", "127.0.0.1", &port, &bus]);
    }

    fn wait_until_whole(&self) {
        let pause = Duration::from_millis(20);
        let looks = START_PATIENCE.as_millis() / pause.as_millis();
        for _ in 0..looks {
            if self.is_whole() {
                return;
            }
            std::thread::sleep(pause);
        }
        panic!("the nodes did not meet within {START_PATIENCE:?}");
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| node.knows_all_slots(self.nodes.len()))
    }

    /// Adds a primary without slots.
    pub(crate) fn add_node(&mut self) {
        let node = RedisServer::start_in(&[], &cluster_switches());
        self.meet(&node);
        self.nodes.push(node);
        self.wait_until_whole();
    }

    /// Adds a replica of a node, and waits until it has what the node has.
    pub(crate) fn add_replica(&mut self, of: usize) {
        self.add_node();
        let replica = self.nodes.last().expect("it was added");
        replica.cli(&["cluster", "replicate", &self.nodes[of].cli(&["cluster", "myid"])]);
        replica.wait_for(&["info", "replication"], |info| {
            info.contains("role:slave") && info.contains("master_link_status:up")
        });
        let id = replica.cli(&["cluster", "myid"]);
        for node in &self.nodes {
            node.wait_for(&["cluster", "nodes"], |nodes| {
                nodes.lines().any(|line| line.starts_with(&id) && line.contains("slave"))
            });
        }
    }

    /// The node that a slot begins at.
    pub(crate) fn node_of(&self, slot: u16) -> usize {
        [5_461, 10_923].iter().filter(|first| slot >= **first).count()
    }

    /// From now on a slot is on both sides, as while an operator's tool moves it.
    pub(crate) fn set_moving(&self, slot: u16, from: usize, to: usize) {
        let id = |node: usize| self.nodes[node].cli(&["cluster", "myid"]);
        self.nodes[to].cli(&["cluster", "setslot", &slot.to_string(), "importing", &id(from)]);
        self.nodes[from].cli(&["cluster", "setslot", &slot.to_string(), "migrating", &id(to)]);
    }

    /// Moves a slot with what is in it, as an operator's tool does, calling `midway` while it is on both sides.
    pub(crate) fn move_slot(&self, slot: u16, from: usize, to: usize, midway: impl FnOnce()) {
        self.set_moving(slot, from, to);
        midway();
        let slot = slot.to_string();
        let port = self.nodes[to].port().to_string();
        for key in self.nodes[from].cli(&["cluster", "getkeysinslot", &slot, "1000"]).lines() {
            self.nodes[from].cli(&["migrate", "127.0.0.1", &port, key, "0", "5000"]);
        }
        let id = self.nodes[to].cli(&["cluster", "myid"]);
        for node in [to, from] {
            self.nodes[node].cli(&["cluster", "setslot", &slot, "node", &id]);
        }
    }
}

/// Waits for the line with which the server says that it listens; `None` where it ends instead (port taken).
fn spawn(port: u16, args: &[String], env: &[(String, String)], dir: &Path) -> Option<Child> {
    let mut command = Command::new(&*PROGRAM);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--logfile", "", "--loglevel", "notice", "--daemonize", "no"])
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)));
    launch(command, dir)
}

fn launch(mut command: Command, dir: &Path) -> Option<Child> {
    let mut child = command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let (ready, is_ready) = mpsc::channel();
    // Reads on to the end: a server whose pipe is full would stop answering.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("Ready to accept connections") || line.contains("monitor master") {
                let _ = ready.send(());
            }
        }
    });
    if is_ready.recv_timeout(START_PATIENCE).is_ok() {
        return Some(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// A self-signed authority and certificates by it for 127.0.0.1, as files of `dir`: `ca.pem`, `server.pem`, `client.pem`
/// and their keys `*.key`.
pub(crate) fn certificates(dir: &Path) {
    let openssl = |args: &str| {
        let status = Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        assert!(status.expect("openssl is installed").success(), "openssl {args}");
    };
    std::fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let by = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
        openssl(&format!("x509 -req -in {name}.csr {by} -out {name}.pem"));
    }
}

#[test]
fn a_server_answers_on_its_own_port_and_comes_back_empty() {
    let mut server = RedisServer::start();
    let mut connection = server.connection();
    let () = redis::cmd("SET").arg("k").arg("v").query(&mut connection).unwrap();
    server.restart();
    let found: Option<String> = redis::cmd("GET").arg("k").query(&mut server.connection()).unwrap();
    assert_eq!(found, None);
}

#[test]
fn the_tests_run_against_the_program_that_they_name() {
    let server = RedisServer::start();
    let info = server.cli(&["info", "server"]);
    // Valkey calls itself a Redis 7.2 besides, for clients that ask for one.
    let field = if is_valkey() { "valkey_version" } else { "redis_version" };
    let line = format!("{field}:{}", version());
    assert!(info.lines().any(|found| found.trim() == line), "no {line} in {info}");
}

//! Real `redis-server` processes on free ports of the loopback, without persistence, for examples that measure: one, or
//! the primaries of a Cluster. They end when this is dropped.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

const SLOTS: u16 = 16_384;

/// A node's bus is at its port plus 10,000, so ports above this one leave no room for it.
const PORT_MAX: u16 = 55_000;

/// Another process may take a free port between the look and the start.
const PORT_ATTEMPTS: usize = 20;

const PAUSE: Duration = Duration::from_millis(20);

/// How often something is looked at, with a pause in between, before it counts as failed.
const LOOKS: usize = 1_000;

pub(crate) struct RedisServers {
    nodes: Vec<Node>,
    is_cluster: bool,
}

struct Node {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl RedisServers {
    pub(crate) fn one() -> Result<RedisServers> {
        Ok(RedisServers { nodes: vec![Node::start(&[])?], is_cluster: false })
    }

    /// That many primaries, which share the slots evenly and know each other.
    pub(crate) fn cluster(nodes: u16) -> Result<RedisServers> {
        let switches = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        let nodes: Result<Vec<_>> = (0..nodes).map(|_| Node::start(&switches)).collect();
        let cluster = RedisServers { nodes: nodes?, is_cluster: true };
        let count = cluster.nodes.len() as u16;
        for (nth, node) in (0..).zip(&cluster.nodes) {
            let slots: Vec<u16> =
                (0..SLOTS).filter(|slot| u32::from(*slot) * u32::from(count) / u32::from(SLOTS) == nth).collect();
            let mut connection = node.connection()?;
            let () = redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots).query(&mut connection)?;
            let () = redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(nth + 1).query(&mut connection)?;
        }
        let mut first = cluster.nodes[0].connection()?;
        for node in &cluster.nodes[1..] {
            let () = redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port).query(&mut first)?;
        }
        for _ in 0..LOOKS {
            if cluster.nodes.iter().all(|node| node.knows(count).unwrap_or(false)) {
                return Ok(cluster);
            }
            thread::sleep(PAUSE);
        }
        bail!("the nodes of the Cluster did not meet")
    }

    /// As `REDIS_URL` is written.
    pub(crate) fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// As `REDIS_TYPE` is written.
    pub(crate) fn kind(&self) -> &'static str {
        if self.is_cluster { "cluster" } else { "single" }
    }
}

#[allow(dead_code, reason = "not every example measures the servers themselves")]
impl RedisServers {
    /// Lets all of them run on one core only.
    pub(crate) fn pin(&self, core: &str) -> Result<()> {
        for node in &self.nodes {
            let mut command = Command::new("taskset");
            command.args(["-a", "-c", "-p", core, &node.child.id().to_string()]).stdout(Stdio::null());
            ensure!(command.status().context("taskset doesn't start")?.success(), "taskset failed");
        }
        Ok(())
    }

    /// Each node's `INFO`.
    pub(crate) fn infos(&self) -> impl Iterator<Item = Result<String>> {
        self.nodes.iter().map(|node| Ok(redis::cmd("INFO").query(&mut node.connection()?)?))
    }
}

impl Node {
    fn start(switches: &[&str]) -> Result<Node> {
        for _ in 0..PORT_ATTEMPTS {
            let dir = tempfile::tempdir()?;
            let port = free_port()?;
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(switches)
                .current_dir(dir.path())
                .stdout(Stdio::null())
                .spawn()
                .context("redis-server doesn't start: is it installed?")?;
            for _ in 0..LOOKS {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Ok(Node { child, port, _dir: dir });
                }
                if child.try_wait()?.is_some() {
                    break;
                }
                thread::sleep(PAUSE);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        bail!("redis-server did not start on any of {PORT_ATTEMPTS} ports")
    }

    fn connection(&self) -> Result<redis::Connection> {
        Ok(redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?.get_connection()?)
    }

    /// Whether it sees a whole Cluster of so many nodes.
    fn knows(&self, nodes: u16) -> Result<bool> {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut self.connection()?)?;
        Ok(info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{nodes}\r")))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if port < PORT_MAX {
            return Ok(port);
        }
    }
}

//! What gives out first: each thing that a load fills, how full it is, and what to change.

use super::{Load, Wait, constants as c};

/// How large what it runs on is.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Bytes a second, each way, of a replica's and of a node's network.
    pub network: f64,
    /// Memory of a Redis node, in bytes.
    pub node_memory: f64,
}

impl Default for Host {
    fn default() -> Host {
        Host { network: 10e9 / 8.0, node_memory: 16.0 * 1024.0 * 1024.0 * 1024.0 }
    }
}

/// To a thousandth of what is looked for.
const HALVINGS: usize = 20;

/// Redis' own default of `maxclients`.
const CLIENTS_MAX: f64 = 10_000.0;

/// The default of `TOLLGATE_MAX_IN_FLIGHT`.
const IN_FLIGHT_MAX: f64 = 4_096.0;

/// The default of `TOLLGATE_MEMORY_MAX_BYTES`.
const MEMORY_MAX: f64 = 512.0 * 1024.0 * 1024.0;

/// How full a thing may be in daily work: what is left takes bursts, and the loss of a node or a replica.
pub const COMFORTABLE: f64 = 0.6;

/// Cores for the calls alone from which on something else than a call for each request should be considered: a judgement,
/// docs/src/operating/capacity.md says why.
pub const CORES_OF_CALLS_MAX: f64 = 50.0;

/// A thing that a load fills.
#[derive(Clone, Debug)]
pub struct Bound {
    pub what: &'static str,
    /// How full it is: from 1 on it is too small.
    pub share: f64,
    /// Requests a second with which it would be full, where it grows with them.
    pub full_at: Option<f64>,
    /// What to do about it.
    pub change: &'static str,
}

impl Load {
    /// What the load fills, the fullest first.
    pub fn bounds(&self, host: &Host) -> Vec<Bound> {
        let estimate = self.estimate();
        let grows = |what, share: &dyn Fn(&Load) -> f64, change| Bound {
            what,
            share: share(self),
            full_at: Some(self.full_at(share)),
            change,
        };
        let stands = |what, share, change| Bound { what, share, full_at: None, change };
        let mut bounds = vec![
            grows("CPU of a replica", &Load::replica_share, "more replicas, or cores and TOLLGATE_WORKERS"),
            grows("network of a replica", &|load| load.replica_bytes() / host.network, "more replicas"),
        ];
        if self.fleet.nodes == 0 {
            let counters = estimate.replica_memory - c::REPLICA_BYTES.value;
            let change = "TOLLGATE_MEMORY_MAX_BYTES, and the memory for it; a shorter window";
            bounds.push(stands("counters in a replica's memory", counters / MEMORY_MAX, change));
        } else {
            let workers = f64::from(self.fleet.replicas) * f64::from(self.fleet.workers);
            let waiting = self.requests_per_second * estimate.wait / workers;
            let change = "more nodes (REDIS_TYPE=cluster)";
            bounds.extend([
                grows("CPU of a Redis node", &Load::node_share, self.against_full_nodes()),
                grows("network of a Redis node", &|load| load.node_bytes() / host.network, change),
                stands(
                    "memory of a Redis node",
                    estimate.redis_memory / f64::from(self.fleet.nodes) / host.node_memory,
                    "more nodes or memory, maxmemory; a shorter window, fewer sub_windows",
                ),
                stands(
                    "connections of a Redis node",
                    estimate.connections_per_node / CLIENTS_MAX,
                    "Redis' maxclients; fewer replicas, fewer TOLLGATE_WORKERS",
                ),
                stands(
                    "requests that wait on a worker",
                    waiting / IN_FLIGHT_MAX,
                    "more replicas; TOLLGATE_MAX_IN_FLIGHT",
                ),
            ]);
        }
        bounds.sort_by(|one, other| other.share.total_cmp(&one.share));
        bounds
    }

    fn replica_share(&self) -> f64 {
        self.estimate().tollgate_cores / f64::from(self.fleet.replicas) / f64::from(self.fleet.workers)
    }

    /// Of the fuller direction.
    fn replica_bytes(&self) -> f64 {
        let estimate = self.estimate();
        let received = estimate.requests_in + estimate.from_redis;
        received.max(estimate.answers_out + estimate.to_redis) / f64::from(self.fleet.replicas)
    }

    fn node_bytes(&self) -> f64 {
        let estimate = self.estimate();
        estimate.to_redis.max(estimate.from_redis) / f64::from(self.fleet.nodes)
    }

    /// Of what a node can use of its one core before decisions wait for as long as `TOLLGATE_STORE_TIMEOUT`.
    fn node_share(&self) -> f64 {
        let usable = match self.wait {
            Wait::Idle(idle) => 1.0 - (idle / c::STORE_TIMEOUT).min(0.9),
            Wait::Mean(_) => 1.0,
        };
        self.estimate().redis_cores / f64::from(self.fleet.nodes) / usable
    }

    /// Requests a second with which something is full. Not in proportion: under more load scripts are fuller.
    fn full_at(&self, share: &dyn Fn(&Load) -> f64) -> f64 {
        let is_full = |requests_per_second| share(&Load { requests_per_second, ..*self }) >= 1.0;
        let (mut least, mut most) = (0.0, 1.0);
        while !is_full(most) {
            (least, most) = (most, most * 2.0);
        }
        for _ in 0..HALVINGS {
            let between = (least + most) / 2.0;
            *(if is_full(between) { &mut most } else { &mut least }) = between;
        }
        most
    }

    fn against_full_nodes(&self) -> &'static str {
        match self.fleet.nodes {
            1 => "a Cluster (REDIS_TYPE=cluster), or REDIS_PERSECOND for limits of a second; fixed_window",
            _ => "more nodes; fewer, larger replicas, whose scripts are fuller; fixed_window",
        }
    }

    /// Whether a call for each request takes so much that something else should be considered.
    pub fn calls_take_too_much(&self) -> bool {
        let estimate = self.estimate();
        estimate.tollgate_cores + estimate.redis_cores > CORES_OF_CALLS_MAX
    }
}

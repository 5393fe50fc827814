//! How much a fleet takes: from a load to cores, memory and bytes on the network, and what gives out first. Plain
//! arithmetic over [`constants`], each of which was measured; it starts nothing, measures nothing and reads no clock.

pub mod constants;
pub mod limits;
pub mod page;
mod sizing;
#[cfg(test)]
mod tests;

use self::constants as c;
pub use self::{
    limits::{Bound, Host},
    sizing::Sizes,
};
use crate::limit::{Algorithm, Micros};

/// Enough to find a number among the floating point's.
const HALVINGS: usize = 60;

/// What is asked, and by what it is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub requests_per_second: f64,
    /// Descriptors with a limit, of one request.
    pub descriptors: f64,
    /// Counters of one descriptor that are hit within a window: users, where the limit is one for each user.
    pub users: f64,
    pub algorithm: Algorithm,
    pub window: Micros,
    /// Into how many parts a `sliding_window` divides it.
    pub sub_windows: f64,
    pub fleet: Fleet,
    pub wait: Wait,
    pub machine: Machine,
}

/// How long a decision waits for Redis, in seconds (`tollgate_store_duration_seconds`).
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Where Redis has nothing else to do; the rest follows from how busy its nodes are.
    Idle(f64),
    /// On average, under the load itself, as measured.
    Mean(f64),
}

/// How many of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fleet {
    pub replicas: u32,
    /// Threads of each replica that decide, a core for each.
    pub workers: u32,
    /// 0: counters are in the replicas' memory. 1: one Redis. More: the primaries of a Cluster.
    pub nodes: u32,
}

/// The units of CPU time, in µs: how quick a core is.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// CPU of the floor for one request.
    pub floor_us: f64,
    /// CPU of Redis for a plain INCR.
    pub incr_us: f64,
}

impl Default for Machine {
    /// The machine that the constants were measured on.
    fn default() -> Machine {
        Machine { floor_us: c::FLOOR.value, incr_us: c::INCR.value }
    }
}

/// What a load takes. Rates are a second's; memory is in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Mean time that a decision waits for Redis, in seconds.
    pub wait: f64,
    /// CPU of all replicas, in cores.
    pub tollgate_cores: f64,
    /// CPU of all Redis nodes, in cores.
    pub redis_cores: f64,
    /// Counters that one script decides.
    pub counters_per_script: f64,
    /// Scripts that all nodes run.
    pub scripts: f64,
    pub replica_memory: f64,
    /// Of all nodes, with what Redis keeps besides.
    pub redis_memory: f64,
    /// Counters that are kept: of all descriptors, and of two windows.
    pub counters: f64,
    /// Between clients and all replicas, and between all replicas and all nodes; without the headers of TCP and IP.
    pub requests_in: f64,
    pub answers_out: f64,
    pub to_redis: f64,
    pub from_redis: f64,
    /// Connections that one node has.
    pub connections_per_node: f64,
}

impl Load {
    pub fn estimate(&self) -> Estimate {
        let wait = self.mean_wait();
        let counters_per_script = self.counters_per_script(wait);
        let scripts = self.counter_rate() / counters_per_script;
        let (rate, counter_rate) = (self.requests_per_second, self.counter_rate());
        let further = self.descriptors - 1.0;
        let of_store = |value: f64| if self.is_shared() { value } else { 0.0 };
        let nodes = f64::from(self.fleet.nodes);
        Estimate {
            wait: of_store(wait),
            tollgate_cores: rate * self.tollgate_us(counters_per_script) / 1e6,
            redis_cores: of_store(nodes * self.node_cores(wait)),
            counters_per_script: of_store(counters_per_script),
            scripts: of_store(scripts),
            replica_memory: self.replica_memory(),
            redis_memory: of_store(self.counters() * self.redis_counter_bytes() * c::REDIS_OVERHEAD.value),
            counters: self.counters(),
            requests_in: rate * (c::REQUEST_BYTES.value + further * c::REQUEST_DESCRIPTOR_BYTES.value),
            answers_out: rate * (c::ANSWER_BYTES.value + further * c::ANSWER_DESCRIPTOR_BYTES.value),
            to_redis: of_store(counter_rate * c::TO_REDIS_COUNTER.value + scripts * c::TO_REDIS_SCRIPT.value),
            from_redis: of_store(counter_rate * c::FROM_REDIS_COUNTER.value + scripts * c::FROM_REDIS_SCRIPT.value),
            connections_per_node: of_store(f64::from(self.fleet.replicas) * f64::from(self.fleet.workers + 1)),
        }
    }

    /// Scripts wait longer the busier a node is, and the longer they wait, the more requests share one: the longer wait is
    /// where both agree. At most [`c::STORE_TIMEOUT`], when policies answer instead.
    fn mean_wait(&self) -> f64 {
        let idle = match self.wait {
            Wait::Mean(wait) => return wait,
            Wait::Idle(idle) => idle,
        };
        let is_longer = |wait: f64| {
            let busy = self.node_cores(wait);
            busy >= 1.0 || idle / (1.0 - busy) > wait
        };
        let (mut shortest, mut longest) = (idle, c::STORE_TIMEOUT.max(idle));
        for _ in 0..HALVINGS {
            let wait = (shortest + longest) / 2.0;
            *(if is_longer(wait) { &mut shortest } else { &mut longest }) = wait;
        }
        longest
    }

    fn is_shared(&self) -> bool {
        self.fleet.nodes > 0
    }

    /// Counters that are checked in a second.
    fn counter_rate(&self) -> f64 {
        self.requests_per_second * self.descriptors
    }

    /// While one script is under way the next one gathers, so those who wait for Redis at a time leave together. An idle
    /// queue sends a request alone.
    fn counters_per_script(&self, wait: f64) -> f64 {
        let workers = f64::from(self.fleet.replicas) * f64::from(self.fleet.workers);
        let queues = workers * f64::from(self.fleet.nodes.max(1));
        let in_flight = self.requests_per_second * wait / queues;
        (in_flight.max(1.0) * self.descriptors).min(c::counters_per_script_max(self.algorithm).max(self.descriptors))
    }

    /// CPU that each node spends, in cores.
    fn node_cores(&self, wait: f64) -> f64 {
        let nodes = f64::from(self.fleet.nodes);
        let of_cluster = self.of_cluster(c::CLUSTER_COUNTER.value);
        let counters = self.counter_rate() * (c::counter(self.algorithm).value + of_cluster);
        let requests = self.requests_per_second * c::SCRIPT_REQUEST.value;
        let scripts = self.counter_rate() / self.counters_per_script(wait);
        let cores = |incrs: f64| incrs * self.machine.incr_us / 1e6 / nodes;
        let busy = cores(counters + requests + scripts * c::SCRIPT.value);
        if busy >= 1.0 {
            return busy;
        }
        // A busy node isn't woken: waking costs its idle share of it, which is less by what waking takes.
        let waking = cores(scripts * c::WAKING.value);
        (busy + waking) / (1.0 + waking)
    }

    /// CPU of Tollgate for one request.
    fn tollgate_us(&self, counters_per_script: f64) -> f64 {
        let further = self.descriptors - 1.0;
        let floors = if self.is_shared() {
            let scripts = self.descriptors / counters_per_script;
            let request = c::REDIS_REQUEST.value + self.of_cluster(c::CLUSTER_REQUEST.value);
            request + further * c::REDIS_DESCRIPTOR.value + scripts * c::REDIS_SCRIPT.value
        } else {
            c::MEMORY_REQUEST.value + further * c::MEMORY_DESCRIPTOR.value
        };
        floors * self.machine.floor_us
    }

    /// What only a Cluster takes.
    fn of_cluster(&self, value: f64) -> f64 {
        if self.fleet.nodes > 1 { value } else { 0.0 }
    }

    /// A counter outlives its window by up to another one; so those of two are kept, if each window has other users.
    fn counters(&self) -> f64 {
        2.0 * self.users * self.descriptors
    }

    /// Hits of one counter within a window.
    fn hits(&self) -> f64 {
        self.requests_per_second * (self.window.0 as f64 / 1e6) / self.users
    }

    /// How many of a sliding window's sub-windows have hits, if these come at random.
    fn sub_windows_hit(&self) -> f64 {
        let parts = self.sub_windows;
        (parts * (1.0 - (-self.hits() / parts).exp())).max(1.0)
    }

    fn redis_counter_bytes(&self) -> f64 {
        c::REDIS_COUNTER_BYTES.value
            + match self.algorithm {
                Algorithm::SlidingWindow => (self.sub_windows_hit() - 1.0) * c::REDIS_SUB_WINDOW_BYTES.value,
                Algorithm::SlidingLog => self.hits().clamp(1.0, c::LOG_MAX) * c::REDIS_LOG_ENTRY_BYTES.value,
                _ => 0.0,
            }
    }

    fn memory_counter_bytes(&self) -> f64 {
        c::MEMORY_COUNTER_BYTES.value
            + match self.algorithm {
                Algorithm::SlidingWindow => (self.sub_windows_hit() - 1.0) * c::MEMORY_SUB_WINDOW_BYTES.value,
                Algorithm::SlidingLog => self.hits().clamp(1.0, c::LOG_MAX) * c::MEMORY_LOG_ENTRY_BYTES.value,
                _ => 0.0,
            }
    }

    fn replica_memory(&self) -> f64 {
        let counters = if self.is_shared() {
            f64::from(self.fleet.workers) * c::DENIAL_CACHE_BYTES
        } else {
            // Each replica sees every user, unless clients choose a replica by user.
            self.counters() * self.memory_counter_bytes()
        };
        c::REPLICA_BYTES.value + counters
    }
}

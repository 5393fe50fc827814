//! Every constant of the model, in one table: its value, what it is, and the command that measured it. docs/src/operating/capacity.md has
//! the same table, and a test holds both equal. What only a Cluster has stands together, at the end.

use crate::limit::Algorithm;

/// A measured number.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub what: &'static str,
    pub command: &'static str,
}

const MEASURE: &str = "cargo run --example capacity -- measure";
const IDLE: &str = "cargo run --release --example memory_bounds -- idle";
const REDIS_MEMORY: &str = "cargo test --test it redis_memory";

macro_rules! constants {
    ($($name:ident = $value:literal $unit:literal, $what:literal, $command:expr;)*) => {
        $(pub const $name: Constant =
            Constant { name: stringify!($name), value: $value, unit: $unit, what: $what, command: $command };)*

        /// All of them, in the order of the page.
        pub const ALL: &[Constant] = &[$($name),*];
    };
}

constants! {
    FLOOR = 10.1 "µs", "CPU of the floor, a stock tonic server that decides nothing, for a request", MEASURE;
    INCR = 0.93 "µs", "CPU of Redis for a plain INCR, 64 in a pipeline", MEASURE;

    MEMORY_REQUEST = 0.63 "floors", "CPU of Tollgate for a request of one descriptor, memory store", MEASURE;
    MEMORY_DESCRIPTOR = 0.1 "floors", "the same for each further descriptor", MEASURE;
    REDIS_REQUEST = 0.66 "floors", "CPU of Tollgate for a request of one descriptor, Redis, without its script", MEASURE;
    REDIS_DESCRIPTOR = 0.07 "floors", "the same for each further descriptor", MEASURE;
    REDIS_SCRIPT = 5.9 "floors", "CPU of Tollgate for each script that is sent: writing it, being woken, reading its answer", MEASURE;

    SCRIPT = 9.7 "INCR", "CPU of a busy Redis for a script that does nothing, of 50 clients", MEASURE;
    WAKING = 18.0 "INCR", "what it takes besides where the node is idle and has to be woken", MEASURE;
    SCRIPT_REQUEST = 1.7 "INCR", "CPU of Redis for each request in a script", MEASURE;
    SLIDING_WINDOW = 2.1 "INCR", "CPU of Redis for each counter in a script, `sliding_window`", MEASURE;
    FIXED_WINDOW = 3.7 "INCR", "the same, `fixed_window`", MEASURE;
    SLIDING_LOG = 9.9 "INCR", "the same, `sliding_log`", MEASURE;
    TOKEN_BUCKET = 6.4 "INCR", "the same, `token_bucket`", MEASURE;
    LEAKY_BUCKET = 6.5 "INCR", "the same, `leaky_bucket`", MEASURE;

    REPLICA_BYTES = 24e6 "B", "resident memory of a replica, besides counters and the denial cache", MEASURE;
    MEMORY_COUNTER_BYTES = 77.0 "B", "a counter in a replica's memory, hit once", IDLE;
    MEMORY_SUB_WINDOW_BYTES = 5.9 "B", "each further sub-window of it that has hits", MEASURE;
    MEMORY_LOG_ENTRY_BYTES = 16.0 "B", "each entry of a log", MEASURE;
    REDIS_COUNTER_BYTES = 190.0 "B", "a counter in Redis, its TTL and places in tables included", REDIS_MEMORY;
    REDIS_SUB_WINDOW_BYTES = 10.4 "B", "each further sub-window of it that has hits", REDIS_MEMORY;
    REDIS_LOG_ENTRY_BYTES = 24.0 "B", "each entry of a log", REDIS_MEMORY;
    REDIS_OVERHEAD = 1.5 "times", "what Redis wants for all its counters: fragments, tables that grow, connections", REDIS_MEMORY;

    REQUEST_BYTES = 106.0 "B", "a request of one descriptor, without headers of TCP and IP", MEASURE;
    REQUEST_DESCRIPTOR_BYTES = 18.0 "B", "the same for each further descriptor", MEASURE;
    ANSWER_BYTES = 55.0 "B", "its answer", MEASURE;
    ANSWER_DESCRIPTOR_BYTES = 18.0 "B", "the same for each further descriptor", MEASURE;
    TO_REDIS_COUNTER = 43.0 "B", "to Redis for each counter", MEASURE;
    TO_REDIS_SCRIPT = 180.0 "B", "to Redis for each script", MEASURE;
    FROM_REDIS_COUNTER = 8.1 "B", "from Redis for each counter", MEASURE;
    FROM_REDIS_SCRIPT = 39.0 "B", "from Redis for each script", MEASURE;

    CLUSTER_REQUEST = 0.12 "floors", "CPU of Tollgate for a request in a Cluster, besides", MEASURE;
    CLUSTER_COUNTER = 2.0 "INCR", "CPU of Redis for a counter in a Cluster, besides", MEASURE;
}

/// The default of `TOLLGATE_STORE_TIMEOUT`, in seconds.
pub const STORE_TIMEOUT: f64 = 0.01;

/// Counters that a script decides at most: a log counts as four (docs/src/why/design.md).
pub fn counters_per_script_max(algorithm: Algorithm) -> f64 {
    if algorithm == Algorithm::SlidingLog { 32.0 } else { 128.0 }
}

/// How long a decision waits for a Redis that is idle, in seconds, where nobody says: one in the same zone.
pub const WAIT_IDLE: f64 = 0.0003;

/// The largest limit that a log may have, and so the most entries.
pub const LOG_MAX: f64 = 10_000.0;

/// The default of `TOLLGATE_DENIALS_MAX_BYTES`, of each worker.
pub const DENIAL_CACHE_BYTES: f64 = 8.0 * 1024.0 * 1024.0;

/// Of one counter.
pub fn counter(algorithm: Algorithm) -> Constant {
    match algorithm {
        Algorithm::SlidingWindow => SLIDING_WINDOW,
        Algorithm::FixedWindow => FIXED_WINDOW,
        Algorithm::SlidingLog => SLIDING_LOG,
        Algorithm::TokenBucket => TOKEN_BUCKET,
        Algorithm::LeakyBucket => LEAKY_BUCKET,
    }
}

//! A Redis whose clock jumps by an hour, as after a failover to a server with another clock: a real redis-server whose
//! wall clock stands where the test puts it, so that no answer depends on when it came.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;

use crate::{
    harness::{REDIS_CONNECTIONS, Rls, RulesDir, Tollgate, descriptor, request},
    redis_server::RedisServer,
};

const LIMIT: u32 = 10;
const HOUR: i64 = 3_600;

/// 2027-01-15 12:00:30.5 UTC, in the middle of a minute and of its sub-windows; in seconds, and the rest in µs.
const START: i64 = 1_800_014_430;
const REST_US: i64 = 500_000;

const ALGORITHMS: [&str; 5] = ["sliding_window", "fixed_window", "sliding_log", "token_bucket", "leaky_bucket"];

/// Units far shorter than the jump, as long, and far longer; their seconds.
const UNITS: [(&str, i64); 3] = [("minute", 60), ("hour", HOUR), ("day", 24 * HOUR)];

/// The file that holds a server's wall clock, and what makes the server read it.
pub(crate) struct Clock {
    dir: tempfile::TempDir,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let clock = Clock { dir: tempfile::tempdir().expect("a temporary directory") };
        std::fs::write(clock.file(), [0; 8]).expect("the directory is ours");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/redis_clock/clock.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-o"]).arg(clock.library()).arg(source).output();
        let built = built.expect("a C compiler is installed");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        clock.set(START);
        clock
    }

    fn set(&self, seconds: i64) {
        self.set_us((seconds * 1_000_000 + REST_US) as u64);
    }

    /// To so many µs since the epoch.
    pub(crate) fn set_us(&self, micros: u64) {
        self.write(micros as i64);
    }

    /// To go on as the kernel's does, so far behind it.
    pub(crate) fn goes_behind(&self, by: Duration) {
        self.write(-(by.as_micros() as i64));
    }

    fn write(&self, micros: i64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.file()).expect("it was made");
        file.write_all_at(&micros.to_le_bytes(), 0).expect("eight bytes are written at once");
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("now")
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("clock.so")
    }

    pub(crate) fn redis(&self) -> RedisServer {
        let env = self.env();
        RedisServer::start_in(&env.each_ref().map(|(name, value)| (*name, &**value)), &[])
    }

    /// What has a server read it.
    pub(crate) fn env(&self) -> [(&'static str, String); 2] {
        let text = |path: &'_ Path| path.to_str().expect("temporary paths are text").to_owned();
        [("LD_PRELOAD", text(&self.library())), ("CLOCK_FILE", text(&self.file()))]
    }
}

/// A Tollgate that counts in a Redis with such a clock.
struct Fleet {
    clock: Clock,
    redis: RedisServer,
    tollgate: Tollgate,
    client: Rls,
    _rules: RulesDir,
}

impl Fleet {
    async fn start() -> Fleet {
        let mut text = String::from("domain: api\ndescriptors:\n");
        for algorithm in ALGORITHMS {
            for (unit, _) in UNITS {
                let burst = if algorithm.ends_with("bucket") { format!(", burst: {LIMIT}") } else { String::new() };
                let limit = format!("requests_per_unit: {LIMIT}, unit: {unit}, algorithm: {algorithm}{burst}");
                text += &format!("  - key: {algorithm}_{unit}\n    rate_limit: {{{limit}}}\n");
            }
        }
        let rules = RulesDir::with("api.yaml", &text);
        let clock = Clock::new();
        let redis = clock.redis();
        // What is remembered of denials is held by this process' own clock, for a second at most.
        let env = [("REDIS_URL", redis.address()), ("TOLLGATE_DENIALS_MAX_BYTES", "0".to_owned())];
        let tollgate = Tollgate::start_with(rules.path(), &env.each_ref().map(|(name, value)| (*name, &**value))).await;
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
        let client = tollgate.client();
        Fleet { clock, redis, tollgate, client, _rules: rules }
    }

    /// How many of three limits' worth of hits are admitted, and the longest wait of those that are not.
    async fn admitted(&self, key: &str) -> (u32, Duration) {
        let (mut admitted, mut wait) = (0, Duration::ZERO);
        for _ in 0..3 * LIMIT {
            let ask = request("api", vec![descriptor(&[(key, "alice")])]);
            let answer = self.client.ask(ask).await.expect("a decision");
            if answer.overall_code() == Verdict::Ok {
                admitted += 1;
            } else {
                let reset = answer.statuses[0].duration_until_reset.expect("a refusal says how long");
                wait = wait.max(Duration::new(reset.seconds as u64, reset.nanos as u32));
            }
        }
        (admitted, wait)
    }

    async fn spend_all(&self) {
        for (key, _) in keys() {
            assert_eq!(self.admitted(&key).await.0, LIMIT, "{key}");
        }
    }
}

fn keys() -> impl Iterator<Item = (String, i64)> {
    UNITS.iter().flat_map(|(unit, seconds)| ALGORITHMS.map(|algorithm| (format!("{algorithm}_{unit}"), *seconds)))
}

#[tokio::test]
async fn a_clock_that_jumps_back_grants_nothing_and_blocks_for_two_windows_at_most() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.redis.cli(&["TIME"]), format!("{START}\n{REST_US}"), "the clock is the test's");
    fleet.spend_all().await;
    let back = START - HOUR;
    fleet.clock.set(back);
    for (key, window) in keys() {
        let (admitted, wait) = fleet.admitted(&key).await;
        assert_eq!(admitted, 0, "{key}");
        assert!(wait <= Duration::from_secs(2 * window as u64), "{key}: {wait:?}");
    }
    // Each unit in its turn, the shorter first, so that the clock only goes on.
    for (key, window) in keys() {
        fleet.clock.set(back + 2 * window);
        assert!(fleet.admitted(&key).await.0 > 0, "{key} after two windows");
    }
    assert!(fleet.tollgate.metric("tollgate_redis_set_back_counters_total").await > 1.0);
    let said = fleet.tollgate.process.log().matches("their time was moved to now").count();
    assert_eq!(said, 1, "one connection, one core, one line a minute");
}

#[tokio::test]
async fn a_clock_that_jumps_forward_grants_one_limit_once() {
    let fleet = Fleet::start().await;
    fleet.spend_all().await;
    fleet.clock.set(START + HOUR);
    for (key, window) in keys() {
        let (admitted, _) = fleet.admitted(&key).await;
        assert!(admitted <= LIMIT, "{key}: {admitted}");
        // A sliding window counts its last sub-window whole, so an hour later it may still be full.
        assert!(admitted > 0 || window >= HOUR, "{key} is many windows later");
    }
    // Neither then nor by going back to the first server.
    for at in [START + HOUR, START] {
        fleet.clock.set(at);
        for (key, _) in keys() {
            assert_eq!(fleet.admitted(&key).await.0, 0, "{key} at {at}");
        }
    }
}

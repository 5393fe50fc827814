//! What a million run-time overrides cost: fills a Redis, has a replica read them, loses them, and has them written back;
//! with the slow log at 5 ms all the while.
//!
//! ```text
//! redis-server --port 6400 --save '' &
//! cargo run --example million_overrides 127.0.0.1:6400 1000000
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::{
    clock,
    rules::{self, Defaults, Source, Sources},
    run_time::overrides::{ChangeRequest, Condition, Overrides},
    store::redis::{Address, CommandConnection, RedisSettings, Topology},
};

const DOMAIN: &str = "api";
const HASH: &str = "tg1:overrides:{api}";
const RULES: &str = "domain: api\ndescriptors: [{key: user, rate_limit: 5/s}]\n";

/// Nothing here may take longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().context("the address of an empty Redis, host:port")?;
    let rows: usize = args.next().map_or(Ok(1_000_000), |rows| rows.parse())?;
    let mut redis = redis::Client::open(format!("redis://{address}/"))?.get_connection()?;
    let size: usize = redis::cmd("DBSIZE").query(&mut redis)?;
    ensure!(size == 0, "the Redis at {address} isn't empty");
    fill(&mut redis, rows)?;
    let () = redis::cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(5_000).query(&mut redis)?;
    let () = redis::cmd("SLOWLOG").arg("RESET").query(&mut redis)?;

    let (host, port) = address.rsplit_once(':').context("host:port")?;
    let topology = Topology::Single(Address::Tcp { host: host.to_owned(), port: port.parse()? });
    let settings = RedisSettings::new(topology);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let channel = Some(Overrides::channel(&settings));
    let (side, heard) = CommandConnection::start(Arc::new(settings), channel, &tasks, stop.clone());
    let overrides = Arc::new(Overrides::in_redis(side));
    let files = vec![Source { path: "api.yaml".into(), bytes: RULES.as_bytes().to_vec() }];
    overrides.prepare(&rules::load(&Sources { files, ..Sources::default() }, &Defaults::default(), None).rules);

    let before = resident_kb()?;
    let begun = clock::instant();
    tasks.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&overrides).run(Some(heard))));
    until(|| known(&overrides) == (rows, true)).await?;
    println!("read           {:>9.2} s", begun.elapsed().as_secs_f64());
    println!("memory         {:>9} B each", (resident_kb()?.saturating_sub(before)) * 1024 / rows);

    let record = record(0);
    let (record, condition) = (Some(record.as_str()), Condition::None);
    let change = ChangeRequest { domain: DOMAIN, id: "one-more", record, condition, token: "example", reason: "" };
    let begun = clock::instant();
    overrides.write(&change, clock::now()).await?;
    println!("one write      {:>9.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    slow(&mut redis, "reading, writing")?;

    let begun = clock::instant();
    let () = redis::cmd("FLUSHALL").arg("ASYNC").query(&mut redis)?;
    let () = redis::cmd("SLOWLOG").arg("RESET").query(&mut redis)?;
    until(|| overrides.losses() > 0).await?;
    println!("loss noticed   {:>9.2} s", begun.elapsed().as_secs_f64());
    // Two more fields hold for all of the hash.
    let whole = async {
        loop {
            let there: usize = redis::cmd("HLEN").arg(HASH).query(&mut redis)?;
            let writes: Option<String> = redis::cmd("HGET").arg(HASH).arg("#restoring").query(&mut redis)?;
            if there == rows + 3 && writes.is_none() {
                return anyhow::Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, whole).await??;
    println!("written back   {:>9.2} s", begun.elapsed().as_secs_f64());
    slow(&mut redis, "writing back")?;
    stop.cancel();
    Ok(())
}

/// Rows, and whether they are known to be all.
fn known(overrides: &Overrides) -> (usize, bool) {
    let shown = overrides.shown(clock::now());
    shown.first().map_or((0, false), |of| (of.rows, of.generation > 0))
}

async fn until(mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let looking = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, looking).await.context("it takes too long")
}

/// As if each had been written by itself.
fn fill(redis: &mut redis::Connection, rows: usize) -> anyhow::Result<()> {
    for first in (0..rows).step_by(500) {
        let mut cmd = redis::cmd("HSET");
        cmd.arg(HASH);
        for nth in first..rows.min(first + 500) {
            cmd.arg(format!("user{nth}")).arg(format!("{}:{}", nth + 1, record(nth)));
        }
        let () = cmd.query(redis)?;
    }
    let () = redis::cmd("HSET").arg(HASH).arg(&["#generation", &rows.to_string(), "#born", "1"]).query(redis)?;
    let entry = ["set", "user0"];
    Ok(redis::cmd("XADD").arg(format!("{HASH}:changes")).arg(format!("{rows}-0")).arg(&entry).query(redis)?)
}

fn record(nth: usize) -> String {
    format!(
        r#"{{"override":{{"limit":"{}/m","match":{{"user":"user{nth}"}},"reason":"contract"}},"limits":[{{"requests":{},"window":60000000,"algorithm":"sliding_window","sub_windows":32}}],"by":"example","at":1}}"#,
        nth % 50 + 1,
        nth % 50 + 1,
    )
}

/// What took Redis longer than 5 ms.
fn slow(redis: &mut redis::Connection, while_doing: &str) -> anyhow::Result<()> {
    let slow: usize = redis::cmd("SLOWLOG").arg("LEN").query(redis)?;
    println!("slower than 5 ms while {while_doing}: {slow}");
    Ok(())
}

fn resident_kb() -> anyhow::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel writes VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

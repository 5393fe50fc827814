//! What a service takes that nobody asks: as a sidecar it runs a thousand times, and most of those have nothing to do.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use crate::harness::{RulesDir, Tollgate};

/// How long wakes are counted.
const SPELL: Duration = Duration::from_secs(2);

/// Of all threads in a [`SPELL`]. Two are usual; a task that looks ten times a second makes twenty more.
const WAKES_MAX: u64 = 12;

/// What the process has for itself alone, in kB, the program's code apart. 7,000 are usual; an allocator that asks for huge
/// pages takes 17,000.
const OWN_KB_MAX: u64 = 12_000;

/// How often each thread has gone to sleep so far, by its number.
fn wakes(tollgate: &Tollgate) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", tollgate.process.id())).expect("the process runs");
    let wakes = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse().ok()).expect("the kernel counts them")
    };
    // A thread that only helped with the start may end meanwhile.
    let read = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        Some((task.file_name().to_string_lossy().into_owned(), wakes(&status)))
    };
    tasks.filter_map(|task| read(task.ok()?)).collect()
}

#[tokio::test]
async fn a_service_that_nobody_asks_sleeps_and_takes_little_memory() {
    let mut rules = "domain: api\ndescriptors:\n".to_owned();
    for number in 0..10 {
        writeln!(rules, "  - key: key{number}\n    rate_limit: {{requests_per_unit: 3, unit: hour}}")
            .expect("a String");
    }
    // The directory above the rules is watched too, and other tests write beside this one's.
    let directory = RulesDir::empty();
    directory.write("above/rules/api.yaml", &rules);
    let tollgate = Tollgate::start(&directory.path().join("above/rules")).await;
    // A connection that has been served and is gone leaves nothing that wakes.
    tollgate.client().admits("api", &[("key0", "")]).await;
    let before = wakes(&tollgate);
    tokio::time::sleep(SPELL).await;
    let after = wakes(&tollgate);
    let woken: u64 = after.iter().filter_map(|(thread, wakes)| Some(wakes - before.get(thread)?)).sum();
    assert!(woken <= WAKES_MAX, "{woken} wakes in {SPELL:?}: {before:?} {after:?}");
    let own = tollgate.process.memory_kb("RssAnon");
    assert!(own <= OWN_KB_MAX, "{own} kB");
}

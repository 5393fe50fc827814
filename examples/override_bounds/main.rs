//! Measures what is promised of overrides in files: how long a million rows of CSV take to load, and what each takes of
//! memory; what a decision costs beside them; that no request is slow while a file is read again. Run with
//! `cargo run --release --example override_bounds -- load|decide|reload`; fails if a promise is broken.

#[path = "../../benches/support/limiter.rs"]
mod limiter;
mod reload;

use std::{fmt::Write as _, fs, hint::black_box, path::Path, process::ExitCode, sync::Arc, time::Duration};

use limiter::{limiter, memory};
use tollgate::{
    clock,
    limit::{Descriptor, Entry, Origin, Request, UnixMicros},
    limiter::Limiter,
    rules::{self, Defaults, DotFiles, Rules, Sources},
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MILLION: usize = 1_000_000;
const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("load") => load(),
        Some("decide") => decide(),
        Some("reload") => reload::run(),
        Some("tollgate") => return reload::tollgate(),
        _ => {
            eprintln!("usage: override_bounds load|decide|reload");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn user(number: usize) -> String {
    format!("user-{number:08}")
}

/// A rule file that names a CSV of so many rows.
fn write(directory: &Path, rows: usize, requests: u32) {
    let tiers = "tiers: {gold: {requests_per_unit: 4000000000, unit: hour}}";
    let rule = "{key: user, rate_limit: 4000000000/m, overrides_from: [users.csv]}";
    fs::write(directory.join("api.yaml"), format!("domain: api\n{tiers}\ndescriptors: [{rule}]\n")).expect("ours");
    let mut csv = "match.user,limit,expires,reason,owner\n".to_owned();
    for number in 0..rows {
        let limit = requests + number as u32 % 10;
        let _ = writeln!(csv, "{},{limit}/m,2099-01-{:02},contract {number},sales", user(number), number % 28 + 1);
    }
    fs::write(directory.join("users.csv"), csv).expect("ours");
}

fn read(directory: &Path) -> Sources {
    Sources::read(&[directory.to_owned()], DotFiles::Read).expect("it was just written")
}

fn loaded(directory: &Path) -> Rules {
    let load = rules::load(&read(directory), &Defaults::default(), None);
    assert!(load.problems.is_empty(), "{}", load.problems.render());
    load.rules
}

/// How long a million rows take, at best of three, and what they leave in memory.
fn load() {
    let directory = tempfile::tempdir().expect("a place for rules");
    write(directory.path(), MILLION, 4_000_000_000);
    let mut best = Duration::MAX;
    for round in 0..3 {
        let before = resident();
        let began = clock::instant();
        let rules = loaded(directory.path());
        let took = began.elapsed();
        best = best.min(took);
        let table = rules.domains()[0].overrides();
        let each = table.bytes() as f64 / table.len() as f64;
        let grown = resident().saturating_sub(before) as f64 / table.len() as f64;
        println!("{} rows in {took:.2?}; {each:.1} B each, resident {grown:.1} B each", table.len());
        assert!(each <= 150.0, "a row takes {each} B");
        // Later rounds find memory that earlier ones gave back.
        assert!(round > 0 || grown <= 150.0, "a row takes {grown} B of resident memory");
    }
    assert!(best <= Duration::from_secs(3), "a million rows take {best:?}");
}

fn ask(limiter: &Limiter, user: &str) {
    let entries = [Entry { key: "user", value: user }].into_iter().collect();
    let descriptor = Descriptor { entries, ..Descriptor::default() };
    let request = Request {
        domain: "api",
        descriptors: [descriptor].into_iter().collect(),
        hits: 1,
        caller_limit: None,
        origin: Origin::Envoy,
    };
    black_box(limiter.decide_now(black_box(&request), NOW).expect("it counts in memory").expect("well formed"));
}

/// What a decision costs with and without overrides, on the very same counters: those of a rule go on under an override.
fn decide() {
    const ROUNDS: usize = 400;
    const DECISIONS: usize = 5_000;
    let directory = tempfile::tempdir().expect("a place for rules");
    let counters = memory();
    write(directory.path(), 0, 4_000_000_000);
    let (without, _) = limiter(loaded(directory.path()), Arc::clone(&counters));
    write(directory.path(), MILLION, 4_000_000_000);
    let (with, _) = limiter(loaded(directory.path()), counters);
    let strangers: Vec<String> = (0..100).map(|number| format!("stranger-{number:04}")).collect();
    let few: Vec<String> = (0..100).map(|number| user(number * 9_973)).collect();
    let all: Vec<String> = (0..MILLION).map(|number| user(number * 611_953 % MILLION)).collect();
    let mut worst = 0.0f64;
    for (who, users) in [("100 users without an override", &strangers), ("100 users with one", &few)] {
        let ratio = compare(who, users, &without, &with, ROUNDS, DECISIONS);
        worst = worst.max(ratio);
    }
    // What of it is the look-up alone, and what it is where each user's row, like his counter, has to come from memory:
    // no bounds on these, but they should be known.
    compare("1 user with one", &few[1..2], &without, &with, ROUNDS, DECISIONS);
    compare("1,000,000 users with one, each once", &all, &without, &with, 5, MILLION);
    assert!(worst <= 1.05, "a decision with a million overrides costs {worst:.3} times one without");
}

/// The median of short rounds, each of both in turn, so that whatever else the machine does meets both alike.
fn compare(who: &str, users: &[String], without: &Limiter, with: &Limiter, rounds: usize, decisions: usize) -> f64 {
    let spell = |limiter: &Limiter| {
        let began = clock::instant();
        users.iter().cycle().take(decisions).for_each(|user| ask(limiter, user));
        began.elapsed().as_nanos() as f64 / decisions as f64
    };
    // Counters are made, and rules fetched from memory, before anything is timed.
    spell(without);
    spell(with);
    let mut took: Vec<[f64; 2]> = Vec::with_capacity(rounds);
    for round in 0..rounds {
        // Who comes second finds the counters nearer.
        took.push(if round % 2 == 0 {
            let none = spell(without);
            [none, spell(with)]
        } else {
            let million = spell(with);
            [spell(without), million]
        });
    }
    let ratio = median(took.iter().map(|[none, million]| million / none));
    let [none, million] = [0, 1].map(|which| median(took.iter().map(|pair| pair[which])));
    println!("{who}: {none:.1} ns without overrides, {million:.1} ns beside a million: {ratio:.3} ×");
    ratio
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Resident memory of this process in bytes, as the kernel counts it.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says how much memory a process has");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has resident memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
}

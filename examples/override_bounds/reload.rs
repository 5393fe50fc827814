//! How long requests take while a file of overrides is read again and again: the service as it is, over sockets, on two
//! cores, asked 2,000 times a second.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use super::write;

const ROWS: usize = 100_000;

/// Spells, each of both in turn, because what else the machine does moves the slowest requests most.
const ROUNDS: usize = 5;

/// Between two versions of the file: time for one reload, which waits until the file has stood still for 100 ms.
const EVERY: Duration = Duration::from_millis(500);

/// What this program is too, so that it needs no other.
pub(super) fn tollgate() -> ExitCode {
    tollgate::cli::run(std::env::args_os().skip(1)).unwrap_or_else(|error| {
        eprintln!("tollgate: {error:#}");
        ExitCode::FAILURE
    })
}

pub(super) fn run() {
    // The service watches the directory above the rules too. Where all programs keep their temporary files, setting that
    // watch holds a processor for milliseconds: the kernel walks over every name that it remembers there.
    let place = tempfile::tempdir().expect("a place for all");
    let at = |name: &str, requests| {
        let directory = place.path().join(name);
        fs::create_dir(&directory).expect("it is new");
        write(&directory, ROWS, requests);
        directory
    };
    let rules = at("rules", 4_000_000_000);
    let versions = [at("more", 4_000_000_000), at("less", 3_000_000_000)];
    let service = Service::start(&rules);
    let mut versions = versions.iter().cycle();
    let mut took: Vec<[f64; 2]> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let alone = service.slowest();
        let read = service.reloads.load(Relaxed);
        let (over, is_over) = mpsc::channel::<()>();
        let beside = thread::scope(|threads| {
            let (versions, file) = (&mut versions, rules.join("users.csv"));
            threads.spawn(move || {
                for version in versions {
                    replace(&version.join("users.csv"), &file);
                    if is_over.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                        break;
                    }
                }
            });
            let beside = service.slowest();
            drop(over);
            beside
        });
        let reloads = service.reloads.load(Relaxed) - read;
        println!("p99.9 alone {alone:.2} ms; while {ROWS} rows were read {reloads} times {beside:.2} ms");
        assert!(reloads > 5, "the file was read {reloads} times");
        took.push([alone, beside]);
    }
    let [alone, beside] = [0, 1].map(|which| super::median(took.iter().map(|pair| pair[which])));
    println!("medians: {alone:.2} and {beside:.2} ms, {:.2} ×", beside / alone);
    assert!(beside <= 2.0 * alone, "requests are slow during a reload");
}

/// All at once, as editors and ConfigMaps do it, and without work for the machine.
fn replace(version: &Path, file: &Path) {
    let new: PathBuf = file.with_extension("new");
    fs::hard_link(version, &new).expect("both are in one file system");
    fs::rename(&new, file).expect("it was just made");
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.arg("tollgate").args(args).stdout(Stdio::piped());
    command
}

/// A service in a process of its own, which ends with this.
struct Service {
    process: Child,
    address: SocketAddr,
    reloads: Arc<AtomicUsize>,
}

impl Service {
    fn start(rules: &Path) -> Service {
        let any = "127.0.0.1:0";
        let mut process = program(&["serve", "--rules"])
            .arg(rules)
            .envs([("GRPC_HOST", "127.0.0.1"), ("GRPC_PORT", "0"), ("PORT", "0"), ("DEBUG_PORT", "0")])
            .envs([("PROMETHEUS_ADDR", any), ("LOG_FORMAT", "json"), ("TOLLGATE_WORKERS", "2")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let log = BufReader::new(process.stderr.take().expect("it is piped"));
        let reloads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reloads);
        let (found, address) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "rules reloaded" {
                    counted.fetch_add(1, Relaxed);
                }
                if line["message"] == "listening" && line["listener"] == "grpc" {
                    let address = line["address"].as_str().and_then(|address| address.parse().ok());
                    let _ = found.send(address.expect("it says where it listens"));
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30)).expect("it listens within 30 s");
        Service { process, address, reloads }
    }

    /// The 99.9th percentile of a spell, in milliseconds from when each request was due.
    fn slowest(&self) -> f64 {
        let address = self.address.to_string();
        let load =
            ["bench", "--addr", &address, "--domain", "api", "--descriptor", "user=user-000%k", "--keys", "100000"];
        let spell = program(&load).args(["--rate", "2000", "--seconds", "8", "--json"]).output().expect("it starts");
        let report: Value = serde_json::from_slice(&spell.stdout).expect("a report");
        assert_eq!(report["errors"], 0, "{report}");
        report["p999_ms"].as_f64().expect("a time")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

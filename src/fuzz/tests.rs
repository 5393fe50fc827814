//! The fuzz targets' seeds and whatever they once failed on, through the same functions on the stable compiler; and cuts
//! and flips of each, so that something is tried that nobody wrote down.

use std::{
    cell::Cell,
    collections::BTreeSet,
    panic,
    path::{Path, PathBuf},
    sync::Once,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("api", fuzz::api),
    ("escape", fuzz::escape),
    ("grpc_request", fuzz::grpc_request),
    ("json", fuzz::json),
    ("override_csv", fuzz::override_csv),
    ("redis_reply", fuzz::redis_reply),
    ("rules", fuzz::rules),
];

/// Changes tried of each file.
const CHANGES: usize = 100;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn names(path: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder(path)).expect("the folder is there");
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_seeds_and_is_replayed_here() {
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), here);
    assert_eq!(names("corpus"), here);
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in here {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let calls = std::fs::read_to_string(folder(&format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(calls.contains(&format!("tollgate::fuzz::{name}(")), "{name}");
    }
}

thread_local! { static PANICKED: Cell<bool> = const { Cell::new(false) } }

/// Whether `run` panicked anywhere: the service catches what happens on a request's path, and the tests must not miss it.
fn panics(run: impl FnOnce()) -> bool {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
    PANICKED.set(false);
    let escaped = panic::catch_unwind(panic::AssertUnwindSafe(run)).is_err();
    escaped || PANICKED.get()
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(found, _)| *found == name).expect("a target");
    let mut random = SmallRng::seed_from_u64(7);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let seed = std::fs::read(&file).unwrap();
        assert!(!panics(|| target(&seed)), "{}", file.display());
        for _ in 0..CHANGES {
            let changed = changed(&seed, &mut random);
            assert!(
                !panics(|| target(&changed)),
                "{} changed to {:?}",
                file.display(),
                changed.escape_ascii().to_string()
            );
        }
    }
}

/// A few bytes turned into others, taken out, or said twice; or all after some place cut off.
fn changed(seed: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.random()),
            3 => {
                let end = random.random_range(at..bytes.len());
                bytes.extend_from_within(at..=end);
            }
            _ => bytes[at] = random.random(),
        }
    }
    bytes
}

#[test]
fn rule_files_are_rules_or_problems() {
    replay("rules");
}

#[test]
fn files_of_overrides_are_rows_or_problems() {
    replay("override_csv");
}

#[test]
fn values_that_differ_stay_apart() {
    replay("escape");
}

#[test]
fn calls_are_answered_without_a_panic() {
    replay("grpc_request");
}

#[test]
fn bodies_of_json_are_answered_without_a_panic() {
    replay("json");
}

#[test]
fn answers_of_redis_are_readings_or_nothing() {
    replay("redis_reply");
}

#[test]
fn a_panic_that_is_caught_is_seen() {
    assert!(panics(|| drop(panic::catch_unwind(|| panic!("seen")))));
    assert!(!panics(|| ()));
}

#[test]
fn calls_of_our_own_interface_are_answered_without_a_panic() {
    replay("api");
}

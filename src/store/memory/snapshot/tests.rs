//! Snapshots: what comes back, what doesn't, who may, and what happens to a damaged one.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::{
    limit::{Cost, Entry, Limit, Micros, SECOND},
    store::{CounterCheck, Gate, Key, Role, memory::capacity::COUNTER_BYTES},
};

const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);
const SETTINGS: MemorySettings = MemorySettings { max_bytes: 1 << 20 };

fn put(memory: &Memory, user: u64, algorithm: Algorithm, seconds: u64, hits: i64) -> u64 {
    let value = user.to_string();
    let entries = [Entry { key: "user", value: &value }];
    let key = Key { domain: "d", entries: &entries, shared: &[], limit_name: "", variable: 0 };
    let limit = Limit { burst: 10, ..Limit::new(10, Micros(seconds * SECOND.0), algorithm) };
    let cost = Cost { hits, charge_denied: false };
    memory.apply(&[CounterCheck { key, rule: 1, limit, cost, role: Role::Enforced }], Gate::default(), NOW)[0].remaining
}

/// A directory with a snapshot of some counters, not held by anybody.
fn saved() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(directory.path()).unwrap();
    let memory = Memory::new(SETTINGS);
    for user in 0..100 {
        put(&memory, user, Algorithm::FixedWindow, 3_600, 3);
    }
    assert_eq!(snapshots.save(&memory).unwrap(), 100);
    directory
}

fn load(directory: &Path) -> (Memory, RestoreReport) {
    Snapshots::open(directory).unwrap().load(SETTINGS, NOW).unwrap()
}

#[test]
fn every_count_of_every_algorithm_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(directory.path()).unwrap();
    let memory = Memory::new(SETTINGS);
    for algorithm in Algorithm::ALL {
        for user in 0..100 {
            put(&memory, user, algorithm, 3_600, 1 + user as i64 % 9);
        }
    }
    assert_eq!(snapshots.save(&memory).unwrap(), 500);
    let (again, loaded) = snapshots.load(SETTINGS, NOW).unwrap();
    assert_eq!(loaded, RestoreReport { counters: 500, left_out: 0, set_aside: false });
    assert_eq!(again.counters(), 500);
    assert!((500 * COUNTER_BYTES..=memory.bytes()).contains(&again.bytes()), "{}", again.bytes());
    for algorithm in Algorithm::ALL {
        for user in 0..100 {
            assert_eq!(put(&again, user, algorithm, 3_600, 0), 9 - user % 9, "{algorithm:?} {user}");
        }
    }
}

#[test]
fn counters_go_on_in_a_store_of_another_size() {
    let directory = saved();
    let settings = MemorySettings { max_bytes: 64 << 20 };
    let (memory, loaded) = Snapshots::open(directory.path()).unwrap().load(settings, NOW).unwrap();
    assert_eq!(loaded.counters, 100);
    assert!((0..100).all(|user| put(&memory, user, Algorithm::FixedWindow, 3_600, 0) == 7));
    let settings = MemorySettings { max_bytes: 4 << 10 };
    let (memory, loaded) = Snapshots::open(directory.path()).unwrap().load(settings, NOW).unwrap();
    assert!(loaded.left_out > 0 && loaded.counters + loaded.left_out == 100);
    assert!(memory.bytes() <= 4 << 10);
}

#[test]
fn expired_counters_stay_behind() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(directory.path()).unwrap();
    let memory = Memory::new(SETTINGS);
    put(&memory, 1, Algorithm::FixedWindow, 1, 3);
    put(&memory, 2, Algorithm::FixedWindow, 3_600, 3);
    snapshots.save(&memory).unwrap();
    let (_, loaded) = snapshots.load(SETTINGS, UnixMicros(NOW.0 + 2 * SECOND.0)).unwrap();
    assert_eq!(loaded.counters, 1);
}

#[test]
fn directory_is_held_by_one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let held = Snapshots::open(directory.path()).unwrap();
    assert!(matches!(Snapshots::open(directory.path()), Err(SnapshotError::InUse(_))));
    drop(held);
    Snapshots::open(directory.path()).unwrap();
}

#[test]
fn snapshot_is_readable_by_its_owner_alone_and_leaves_no_temporary_file() {
    let directory = saved();
    // A crash while writing leaves such a file, here with a mode that must not be taken over.
    let temporary = directory.path().join("counters.new");
    fs::write(&temporary, "half").unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).unwrap();
    let snapshots = Snapshots::open(directory.path()).unwrap();
    snapshots.save(&Memory::new(SETTINGS)).unwrap();
    let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, temporary.exists()), (0o600, false));
}

#[test]
fn damaged_snapshot_is_set_aside_whatever_byte_is_wrong() {
    let original = saved();
    let bytes = fs::read(original.path().join(FILE)).unwrap();
    for slot in (0..bytes.len()).step_by(23) {
        let directory = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[slot] ^= 0x10;
        fs::write(directory.path().join(FILE), damaged).unwrap();
        let (memory, loaded) = load(directory.path());
        assert_eq!((loaded.set_aside, loaded.counters, memory.counters()), (true, 0, 0), "byte {slot}");
        assert!(!directory.path().join(FILE).exists());
        assert!(directory.path().join(format!("{FILE}.damaged-{}", NOW.0)).exists());
    }
}

#[test]
fn snapshot_cut_off_anywhere_is_set_aside() {
    let original = saved();
    let bytes = fs::read(original.path().join(FILE)).unwrap();
    for length in (0..bytes.len()).step_by(37) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), &bytes[..length]).unwrap();
        assert!(load(directory.path()).1.set_aside, "{length} bytes");
    }
}

#[test]
fn missing_snapshot_is_an_empty_store_and_an_unreadable_one_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(load(&directory.path().join("new")).1, RestoreReport::default());
    fs::create_dir(directory.path().join(FILE)).unwrap();
    let snapshots = Snapshots::open(directory.path()).unwrap();
    assert!(matches!(snapshots.load(SETTINGS, NOW), Err(SnapshotError::Io(_))));
}

#[test]
fn pause_keeps_snapshots_below_a_twentieth_of_a_core() {
    assert_eq!(Snapshots::pause(Duration::from_millis(3)), Duration::from_secs(10));
    let took = Duration::from_secs(4);
    let part = took.as_secs_f64() / (took + Snapshots::pause(took)).as_secs_f64();
    assert!(part <= 0.05, "{part}");
}

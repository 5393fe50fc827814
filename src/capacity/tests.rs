use proptest::prelude::*;

use super::{Fleet, Host, Load, Machine, Sizes, Wait, constants as c, limits::COMFORTABLE, page};
use crate::limit::{Algorithm, SUB_WINDOWS_DEFAULT, Unit};

fn load(requests_per_second: f64, descriptors: f64, nodes: u32) -> Load {
    Load {
        requests_per_second,
        descriptors,
        users: 100_000.0,
        algorithm: Algorithm::SlidingWindow,
        window: Unit::Minute.window(),
        sub_windows: SUB_WINDOWS_DEFAULT.into(),
        fleet: Fleet { replicas: 4, workers: 4, nodes },
        wait: Wait::Idle(c::WAIT_IDLE),
        machine: Machine::default(),
    }
}

#[test]
fn cores_are_those_of_the_constants() {
    let memory = load(100_000.0, 1.0, 0).estimate();
    assert!((memory.tollgate_cores - 0.1 * c::MEMORY_REQUEST.value * c::FLOOR.value).abs() < 1e-9);
    assert_eq!((memory.redis_cores, memory.redis_memory, memory.to_redis), (0.0, 0.0, 0.0));
    // Full scripts: what a script takes is shared by 128 counters.
    let full = Load { wait: Wait::Mean(1.0), ..load(100_000.0, 1.0, 1) }.estimate();
    assert_eq!(full.counters_per_script, 128.0);
    let least = 0.1 * (c::SLIDING_WINDOW.value + c::SCRIPT_REQUEST.value) * c::INCR.value;
    assert!((least..=1.3 * least).contains(&full.redis_cores), "{full:?}");
}

#[test]
fn a_quicker_machine_takes_less_in_proportion() {
    let slow = Load { wait: Wait::Mean(0.001), ..load(50_000.0, 2.0, 3) };
    let quick = Load { machine: Machine { floor_us: c::FLOOR.value / 2.0, ..slow.machine }, ..slow };
    let halves = quick.estimate().tollgate_cores / slow.estimate().tollgate_cores;
    assert!((halves - 0.5).abs() < 1e-9, "{halves}");
    assert_eq!(quick.estimate().redis_cores, slow.estimate().redis_cores);
}

#[test]
fn memory_grows_with_the_sub_windows_that_are_hit() {
    let quiet = load(100.0, 1.0, 1);
    let busy = load(1_000_000.0, 1.0, 1);
    let each = |load: &Load| load.estimate().redis_memory / load.estimate().counters / c::REDIS_OVERHEAD.value;
    assert!((each(&quiet) - c::REDIS_COUNTER_BYTES.value).abs() < 1.0);
    let all = c::REDIS_COUNTER_BYTES.value + (f64::from(SUB_WINDOWS_DEFAULT) - 1.0) * c::REDIS_SUB_WINDOW_BYTES.value;
    assert!((each(&busy) - all).abs() < 1.0);
    let coarse = Load { sub_windows: 8.0, ..busy };
    assert!((each(&coarse) - c::REDIS_COUNTER_BYTES.value - 7.0 * c::REDIS_SUB_WINDOW_BYTES.value).abs() < 1.0);
    let fixed = Load { algorithm: Algorithm::FixedWindow, ..busy };
    assert!((each(&fixed) - c::REDIS_COUNTER_BYTES.value).abs() < 1.0);
}

#[test]
fn a_fleet_that_is_left_open_is_sized_so_that_nothing_is_too_full() {
    let host = Host::default();
    for requests in [1_000.0, 100_000.0, 2_000_000.0] {
        let sized = load(requests, 2.0, 1).sized(Sizes::default(), &host);
        let fullest = &sized.bounds(&host)[0];
        assert!(fullest.share <= COMFORTABLE, "{requests}: {:?} {fullest:?}", sized.fleet);
    }
    let small = load(1_000.0, 1.0, 1).sized(Sizes::default(), &host);
    assert_eq!((small.fleet.replicas, small.fleet.nodes), (2, 1));
    // More replicas hold no more counters each.
    let crowded =
        Load { users: 1e9, ..load(1_000.0, 1.0, 0) }.sized(Sizes { nodes: Some(0), ..Sizes::default() }, &host);
    assert_eq!(crowded.fleet.replicas, 2);
    let kept = load(2_000_000.0, 2.0, 1).sized(Sizes { replicas: Some(7), nodes: Some(5) }, &host);
    assert_eq!((kept.fleet.replicas, kept.fleet.nodes), (7, 5));
}

#[test]
fn a_load_with_which_a_bound_is_full_fills_it() {
    let host = Host::default();
    for nodes in [1, 3] {
        let load = load(20_000.0, 1.0, nodes);
        for bound in load.bounds(&host) {
            let Some(full_at) = bound.full_at else { continue };
            let full = Load { requests_per_second: full_at, ..load };
            let again = full.bounds(&host).into_iter().find(|other| other.what == bound.what).expect("it is there");
            assert!((0.99..=1.01).contains(&again.share), "{nodes}: {bound:?} {again:?}");
        }
    }
}

#[test]
fn an_overloaded_node_is_more_than_full_and_waits_for_the_timeout() {
    let over = load(10_000_000.0, 1.0, 1);
    let bounds = over.bounds(&Host::default());
    let node = bounds.iter().find(|bound| bound.what == "CPU of a Redis node").expect("it is there");
    assert!(node.share > 1.0 && node.full_at.is_some_and(|full_at| full_at < 10_000_000.0), "{node:?}");
    assert!(over.estimate().wait >= 0.99 * c::STORE_TIMEOUT);
    assert!(over.calls_take_too_much() && !load(10_000.0, 1.0, 1).calls_take_too_much());
}

#[test]
fn numbers_are_short() {
    assert_eq!([0.0, 999.0, 1_234.0, 206e9].map(page::bytes), ["0 B", "999 B", "1.2 kB", "206 GB"]);
    assert_eq!([7.0, 12_345.0, 5e6].map(page::count), ["7", "12,300", "5,000,000"]);
}

proptest! {
    /// Whatever is asked for has an answer of finite, positive numbers.
    #[test]
    fn every_load_has_an_answer(
        requests in 1.0..1e8f64, descriptors in 1u32..1_024, users in 1.0..1e10f64, replicas in 1u32..2_000,
        workers in 1u32..128, nodes in 0u32..500, algorithm in 0usize..5, window in 1u64..1 << 40,
    ) {
        let load = Load {
            users,
            algorithm: Algorithm::ALL[algorithm],
            window: crate::limit::Micros(window),
            fleet: Fleet { replicas, workers, nodes },
            ..load(requests, f64::from(descriptors), 1)
        };
        let estimate = load.estimate();
        prop_assert!(estimate.tollgate_cores > 0.0 && estimate.tollgate_cores.is_finite(), "{:?}", estimate);
        prop_assert!(estimate.redis_cores.is_finite() && (estimate.redis_cores > 0.0) == (nodes > 0), "{:?}", estimate);
        for bound in load.bounds(&Host::default()) {
            prop_assert!(bound.share.is_finite() && bound.share >= 0.0, "{:?}", bound);
        }
    }
}

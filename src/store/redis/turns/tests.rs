//! Who leaves when.

use super::*;
use crate::store::redis::settings::{Address, RedisSettings, Topology};

const MS: Duration = Duration::from_millis(1);

/// Lanes of one core, each with a round trip of 1 ms and a last batch of `size` requests.
fn takers<const N: usize>(size: usize) -> [TurnTaker; N] {
    let turns = Arc::new(Turns::default());
    let settings = RedisSettings::new(Topology::Single(Address::Tcp { host: "localhost".into(), port: 1 }));
    std::array::from_fn(|_| {
        let lane = Lane::with_turns(None, &settings, Arc::default(), ENOUGH);
        let mut taker = TurnTaker::new(turns.clone(), lane);
        taker.sent(size);
        taker.answered(MS);
        taker
    })
}

fn backlog(is_enough: bool, deadline: Instant) -> Backlog {
    Backlog { is_empty: false, is_full_batch: false, is_enough, earliest_deadline: Some(deadline) }
}

fn some(now: Instant) -> Backlog {
    backlog(false, now + 20 * MS)
}

fn has_been_woken(taker: &TurnTaker) -> bool {
    let mut arrived = Box::pin(taker.lane.arrived());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    arrived.as_mut().poll(&mut cx).is_ready()
}

#[test]
fn a_busy_lane_leaves_when_the_one_before_has_its_reply() {
    let [mut first, mut second, mut third] = takers(BUSY);
    let now = Instant::now();
    assert!(first.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now));
    assert!(!third.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now), "still");
    assert!(!has_been_woken(&second));
    first.pass_on();
    assert!(has_been_woken(&second) && !has_been_woken(&third));
    assert!(!first.may_leave(&some(now), now), "it comes after those who wait");
    assert!(!third.may_leave(&some(now), now));
    assert!(second.may_leave(&some(now), now));
    second.pass_on();
    assert!(has_been_woken(&third));
    assert!(third.may_leave(&some(now), now));
    third.pass_on();
    assert!(has_been_woken(&first));
}

#[test]
fn a_lane_that_is_not_busy_waits_for_nobody() {
    let [mut first, mut second, mut third] = takers(BUSY - 1);
    let now = Instant::now();
    for taker in [&mut first, &mut second, &mut third] {
        assert!(taker.may_leave(&some(now), now));
    }
    second.sent(BUSY);
    assert!(second.may_leave(&some(now), now), "and takes nobody's turn");
}

#[test]
fn a_batch_that_is_large_enough_leaves_out_of_turn() {
    let [mut first, mut second, mut third] = takers(BUSY);
    let now = Instant::now();
    assert!(first.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now));
    assert!(!third.may_leave(&some(now), now));
    assert!(second.may_leave(&backlog(true, now + 20 * MS), now));
    first.pass_on();
    assert!(has_been_woken(&third) && !has_been_woken(&second), "it waits no more");
}

#[test]
fn nobody_waits_for_longer_than_a_few_of_its_round_trips() {
    let [mut silent, mut second, mut third] = takers(BUSY);
    let now = Instant::now();
    assert!(silent.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now));
    assert_eq!(second.until(), Some(now + PATIENCE * MS));
    assert!(!second.may_leave(&some(now), now + MS));
    let later = now + PATIENCE * MS;
    assert!(second.may_leave(&some(later), later));
    assert_eq!(second.until(), None);
    silent.pass_on();
    assert!(!third.may_leave(&some(later), later), "the turn was taken from it");
    second.pass_on();
    assert!(third.may_leave(&some(later), later));
}

#[test]
fn nobody_waits_for_longer_than_half_of_its_time() {
    let [mut first, mut second] = takers(BUSY);
    let now = Instant::now();
    assert!(first.may_leave(&some(now), now));
    assert!(!second.may_leave(&backlog(false, now + 3 * MS), now));
    assert_eq!(second.until(), Some(now + 3 * MS / 2));
    assert!(second.may_leave(&backlog(false, now + 3 * MS), now + 3 * MS / 2));
}

#[test]
fn a_silent_node_delays_no_other_again() {
    let [mut silent, mut other] = takers(BUSY);
    let now = Instant::now();
    silent.was_given_up();
    assert!(silent.may_leave(&some(now), now), "to find out whether it still is");
    assert!(other.may_leave(&some(now), now), "it has no turn");
    silent.answered(MS);
    assert!(!silent.may_leave(&some(now), now), "it takes part again");
}

#[test]
fn a_lane_with_nothing_left_to_send_waits_no_more() {
    let [mut first, mut second, mut third] = takers(BUSY);
    let now = Instant::now();
    assert!(first.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now));
    assert!(!third.may_leave(&some(now), now));
    second.withdraw();
    assert_eq!(second.until(), None, "no timer is set for it");
    first.pass_on();
    assert!(has_been_woken(&third) && !has_been_woken(&second));
}

#[test]
fn a_lane_that_ends_is_waited_for_by_nobody() {
    let [mut first, mut second, mut third] = takers(BUSY);
    let now = Instant::now();
    assert!(first.may_leave(&some(now), now));
    assert!(!second.may_leave(&some(now), now));
    assert!(!third.may_leave(&some(now), now));
    drop(second);
    drop(first);
    assert!(has_been_woken(&third));
    assert!(third.may_leave(&some(now), now));
}

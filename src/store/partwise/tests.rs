use std::sync::Mutex;

use futures_util::FutureExt as _;
use tokio::sync::oneshot::{self, Sender};

use super::*;
use crate::{
    limit::{Algorithm, Entry, Limit, Micros, SECOND},
    store::Key,
};

type Answer = Result<Readings, &'static str>;

/// Three places, each with one counter of the request. Whoever tests answers for them.
#[derive(Default)]
struct Places {
    asked: Mutex<Vec<(usize, Sender<Answer>)>>,
    refunds: Mutex<Vec<usize>>,
}

impl PartDecider for Places {
    type Place = usize;
    type Failure = &'static str;

    const IS_CONCURRENT: bool = true;

    fn place(&self, nth: usize) -> usize {
        nth
    }

    fn finer(&self, _place: usize, _nth: usize) -> Option<usize> {
        None
    }

    fn decide(
        &self,
        place: usize,
        _part: &[usize],
        _gate: Gate,
        _is_denied: bool,
    ) -> impl Future<Output = Answer> + Send + Unpin {
        let (answer, answered) = oneshot::channel();
        self.asked.lock().unwrap().push((place, answer));
        answered.map(|answer| answer.expect("whoever tests answers all or ends the request"))
    }

    fn knows_denials(&self) -> bool {
        false
    }

    fn known_denial(&self, _place: usize, _part: &[usize], _gate: Gate) -> Option<Readings> {
        None
    }

    fn is_elsewhere(_: &&'static str) -> bool {
        false
    }

    fn refund(&self, nth: usize, _at: UnixMicros, _until: Instant) -> Refund {
        self.refunds.lock().unwrap().push(nth);
        tokio::spawn(async { Some((reading(9), UnixMicros(1))) })
    }
}

impl Places {
    fn answer(&self, place: usize, answer: Answer) {
        let mut asked = self.asked.lock().unwrap();
        let nth = asked.iter().position(|(of, _)| *of == place).expect("the place was asked");
        asked.remove(nth).1.send(answer).expect("the request waits");
    }

    fn refunds(&self) -> Vec<usize> {
        let mut refunds = self.refunds.lock().unwrap().clone();
        refunds.sort_unstable();
        refunds
    }
}

fn reading(remaining: u64) -> Reading {
    Reading { admitted: true, remaining, reset: Micros(1) }
}

fn admits() -> Answer {
    Ok(reading(9).into())
}

fn refuses() -> Answer {
    Ok(Reading { admitted: false, remaining: 0, reset: Micros(1) }.into())
}

const ENTRIES: [Entry<'_>; 1] = [Entry { key: "user", value: "alice" }];

fn checks() -> [CounterCheck<'static>; 3] {
    [CounterCheck {
        key: Key { domain: "d", entries: &ENTRIES, shared: &[], limit_name: "", variable: 0 },
        limit: Limit::new(10, SECOND, Algorithm::SlidingWindow),
        cost: Cost { hits: 1, charge_denied: false },
        rule: 0,
        role: Role::Enforced,
    }; 3]
}

fn decision<'a>(places: &'a Places, checks: &'a [CounterCheck<'a>]) -> PartwiseDecision<'a, Places> {
    PartwiseDecision::new(places, (checks, Gate::default()), Instant::now() + REFUND_PATIENCE)
}

#[tokio::test]
async fn what_is_answered_in_any_order_is_read_in_the_order_of_the_checks() {
    let (places, checks) = (Places::default(), checks());
    let mut run = Box::pin(decision(&places, &checks).run());
    assert!(run.as_mut().now_or_never().is_none());
    for (place, remaining) in [(2, 7), (0, 9), (1, 8)] {
        places.answer(place, Ok(reading(remaining).into()));
        run.as_mut().now_or_never().map_or_else(
            || assert_ne!(place, 1),
            |readings| {
                let left: Vec<u64> = readings.unwrap().iter().map(|reading| reading.remaining).collect();
                assert_eq!((place, left), (1, vec![9, 8, 7]));
            },
        );
    }
    assert!(places.refunds().is_empty());
}

#[tokio::test]
async fn a_caller_that_goes_away_is_given_back_what_was_answered_also_behind_a_part_that_was_not() {
    let (places, checks) = (Places::default(), checks());
    let mut run = Box::pin(decision(&places, &checks).run());
    assert!(run.as_mut().now_or_never().is_none());
    places.answer(1, admits());
    places.answer(2, refuses());
    drop(run);
    assert_eq!(places.refunds(), [1]);
}

#[tokio::test]
async fn a_part_that_fails_gives_back_what_all_others_charged() {
    let (places, checks) = (Places::default(), checks());
    let mut run = Box::pin(decision(&places, &checks).run());
    assert!(run.as_mut().now_or_never().is_none());
    places.answer(0, Err("away"));
    assert!(run.as_mut().now_or_never().is_none(), "the others may have charged");
    places.answer(1, admits());
    places.answer(2, admits());
    assert_eq!(run.await, Err("away"));
    assert_eq!(places.refunds(), [1, 2]);
}

#[tokio::test]
async fn a_denial_by_any_part_gives_back_what_the_others_charged() {
    let (places, checks) = (Places::default(), checks());
    let mut run = Box::pin(decision(&places, &checks).run());
    assert!(run.as_mut().now_or_never().is_none());
    places.answer(0, admits());
    places.answer(1, refuses());
    places.answer(2, admits());
    let admitted: Vec<bool> = run.await.unwrap().iter().map(|reading| reading.admitted).collect();
    assert_eq!((admitted, places.refunds()), (vec![true, false, true], vec![0, 2]));
}

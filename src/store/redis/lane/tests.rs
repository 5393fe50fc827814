//! Who leaves in which batch.

use super::*;
use crate::limit::{Algorithm, Cost, Entry, Limit, SECOND, UnixMicros};
use crate::store::redis::settings::{Address, Topology};
use crate::store::{CounterCheck, Gate, Key, Role};

fn lane() -> Arc<Lane> {
    let settings = RedisSettings::new(Topology::Single(Address::Tcp { host: "localhost".into(), port: 1 }));
    Lane::new(None, &settings, Arc::default())
}

const ENTRIES: [Entry<'_>; 1] = [Entry { key: "user", value: "alice" }];

fn ask(limit: Limit) -> CounterCheck<'static> {
    CounterCheck {
        key: Key { domain: "d", entries: &ENTRIES, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit,
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    }
}

/// Somebody waits for it until `deadline`; the receiver keeps the caller alive.
fn waiting(deadline: Instant, is_again: bool) -> (BoxedRequest, oneshot::Receiver<Answer>) {
    let check = ask(Limit::new(1, SECOND, Algorithm::SlidingWindow));
    waiting_for(Request::new(&[check], Gate::default(), false, 0, "", |_| 0), deadline, is_again)
}

fn waiting_for(request: Request, deadline: Instant, is_again: bool) -> (BoxedRequest, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    let queued = QueuedRequest {
        request,
        deadline: deadline.into(),
        queued_at: deadline,
        is_alone: false,
        is_retry: is_again,
        late_count: 0,
        redirect: None,
        answer: Some(answer),
        deferred: None,
        trace: None,
    };
    (Box::new(queued), answered)
}

#[tokio::test]
async fn those_of_a_late_batch_leave_without_newcomers_who_have_less_time() {
    let lane = lane();
    let now = Instant::now();
    let after = |ms| now + Duration::from_millis(ms);
    let (newcomer, _hears) = waiting(after(1), false);
    lane.queue.lock().push(newcomer, [128; 2]);
    let (again, _callers): (Vec<_>, Vec<_>) = [10, 0, 8].map(|ms| waiting(after(ms), true)).into_iter().unzip();
    lane.put_back(again);
    let batches: [Vec<Instant>; 3] =
        std::array::from_fn(|_| lane.take_batch(now).into_iter().map(|queued| queued.deadline.at).collect());
    assert_eq!(batches, [vec![after(10), after(8)], vec![after(1)], vec![]], "whose time is up has its answer");
    assert_eq!(lane.stats.timeouts.get(), 1);
}

/// How many requests leave in each batch, of so many that ask the same.
fn sizes(requests: usize, request: impl Fn() -> Request) -> Vec<usize> {
    let lane = lane();
    let now = Instant::now();
    let wait = || waiting_for(request(), now + Duration::from_secs(1), false);
    let (crowd, _callers): (Vec<_>, Vec<_>) = (0..requests).map(|_| wait()).unzip();
    for queued in crowd {
        lane.queue.lock().push(queued, [128; 2]);
    }
    let batches = std::iter::repeat_with(|| lane.take_batch(now).len());
    batches.take_while(|size| *size > 0).collect()
}

#[tokio::test]
async fn what_takes_more_of_redis_leaves_in_smaller_batches() {
    let of = |checks: usize, limit: Limit| {
        move || Request::new(&vec![ask(limit); checks], Gate::default(), false, 0, "", |_| 0)
    };
    let limit = |algorithm| Limit::new(1, SECOND, algorithm);
    for algorithm in [Algorithm::SlidingWindow, Algorithm::FixedWindow, Algorithm::TokenBucket, Algorithm::LeakyBucket]
    {
        assert_eq!(sizes(200, of(1, limit(algorithm))), [128, 72], "{algorithm:?}");
        assert_eq!(sizes(70, of(3, limit(algorithm))), [42, 28], "{algorithm:?}");
    }
    let finest = Limit { sub_windows: 64, ..limit(Algorithm::SlidingWindow) };
    assert_eq!(sizes(100, of(1, finest)), [64, 36]);
    let log = limit(Algorithm::SlidingLog);
    assert_eq!(sizes(70, of(1, log)), [32, 32, 6]);
    // All of a request is one step, whatever it takes.
    assert_eq!(sizes(3, of(256, log)), [1, 1, 1]);
    let undo = |requests| move || Request::undo(&ask(Limit { requests, ..log }), UnixMicros(5), 0, "", 0);
    assert_eq!(sizes(40, undo(1)), [32, 8]);
    assert_eq!(sizes(3, undo(10_000)), [1, 1, 1], "up to 10,000 sums are written again");
}

#[tokio::test]
async fn a_lane_that_is_not_needed_any_more_sends_all_that_waits_and_all_that_comes_elsewhere() {
    let lane = lane();
    let (queued, answered) = waiting(Instant::now() + Duration::from_secs(1), false);
    lane.queue.lock().push(queued, [128; 2]);
    lane.retire();
    let is_elsewhere = |answer| matches!(answer, Err(RequestFailure::Elsewhere));
    assert!(is_elsewhere(answered.await.expect("it is answered")));
    let request =
        || Request::new(&[ask(Limit::new(1, SECOND, Algorithm::SlidingWindow))], Gate::default(), false, 0, "", |_| 0);
    assert!(is_elsewhere(lane.submit(request(), Instant::now() + Duration::from_secs(1)).await));
    // What comes back from a batch in flight, because it was late.
    let (again, answered) = waiting(Instant::now() + Duration::from_secs(1), true);
    lane.put_back(vec![again]);
    assert!(is_elsewhere(answered.await.expect("it is answered")));
    lane.close();
    assert!(lane.is_retired(), "and it stays so");
}

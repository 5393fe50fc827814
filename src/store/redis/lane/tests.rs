//! Who leaves in which batch.

use super::*;
use crate::limit::{Algorithm, Cost, Entry, Limit, SECOND};
use crate::store::redis::settings::Topology;
use crate::store::{Ask, Gate, Key, Role};

fn lane() -> Arc<Lane> {
    let settings = RedisSettings::new(Topology::Single(Address::Tcp { host: "localhost".into(), port: 1 }));
    let (script, denials) = (Arc::new(Script::new()), Arc::new(Denials::new(0)));
    Lane::new(None, None, &settings, script, Arc::default(), denials, CancellationToken::new()).0
}

/// Somebody waits for it until `deadline`; the receiver keeps the caller alive.
fn waiting(deadline: Instant, is_again: bool) -> (Waiter, oneshot::Receiver<Answer>) {
    let entries = [Entry { key: "user", value: "alice" }];
    let ask = Ask {
        key: Key { domain: "d", entries: &entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(1, SECOND, Algorithm::SlidingWindow),
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    };
    let (answer, answered) = oneshot::channel();
    let waiting = Waiting {
        request: Request::new(&[ask], Gate::default(), false, 0, "", |_| 0),
        deadline,
        since: deadline,
        alone: false,
        is_again,
        lates: 0,
        ask: None,
        answer: Some(answer),
        debts: None,
        trace: None,
    };
    (Box::new(waiting), answered)
}

#[tokio::test]
async fn those_of_a_late_batch_leave_without_newcomers_who_have_less_time() {
    let lane = lane();
    let now = Instant::now();
    let after = |ms| now + Duration::from_millis(ms);
    let (newcomer, _hears) = waiting(after(1), false);
    lane.queue.lock().push(newcomer, 128);
    let (again, _callers): (Vec<_>, Vec<_>) = [10, 0, 8].map(|ms| waiting(after(ms), true)).into_iter().unzip();
    lane.put_back(again);
    let batches: [Vec<Instant>; 3] =
        std::array::from_fn(|_| lane.take_batch(now).into_iter().map(|waiting| waiting.deadline).collect());
    assert_eq!(batches, [vec![after(10), after(8)], vec![after(1)], vec![]], "whose time is up has its answer");
    assert_eq!(lane.tally.timeouts.get(), 1);
}

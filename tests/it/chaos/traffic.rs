//! An open-loop load on some replicas and the log of every answer: a request leaves when it is due, whatever became of
//! those before. Knows what was asked and answered, nothing of faults.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use envoy_types::pb::{
    envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code},
    google::protobuf::value::Kind,
};
use tokio::{runtime, task::LocalSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::harness::{Rls, aside, descriptor, request};

/// The rule keys of [`super::run::rules`]: one for each policy.
pub(super) const POLICIES: [&str; 4] = ["open", "closed", "local", "error"];

/// Users that ask far more than they may, so that every policy has something to refuse.
const HOT_USERS: u64 = 2;

/// No more wait at a time: a server that hangs must not fill the client's memory.
const OUTSTANDING_MAX: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Denied,
    Failed(tonic::Code),
}

/// One request and what came of it. Times are since the load began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Position in [`POLICIES`].
    pub(super) policy: usize,
    /// `None`: one of the many users who stay below their limits.
    pub(super) hot_user: Option<u64>,
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) answered: Duration,
    pub(super) verdict: Verdict,
    /// A policy answered in the store's place.
    pub(super) degraded: bool,
}

/// A running load.
pub(super) struct Traffic {
    begun: Instant,
    stop: CancellationToken,
    log: mpsc::Receiver<Vec<Answer>>,
}

impl Traffic {
    /// `rate` requests a second, dealt to the replicas in turn, from a thread of its own.
    pub(super) fn start(replicas: Vec<SocketAddr>, rate: u32) -> Traffic {
        let (stop, begun) = (CancellationToken::new(), Instant::now());
        let (done, log) = mpsc::channel();
        let until = stop.clone();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let answers = LocalSet::new().block_on(&runtime, generate(replicas, rate, begun, until));
            // Where the test has panicked, nobody reads it.
            let _ = done.send(answers);
        });
        Traffic { begun, stop, log }
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Lets what is under way be answered; every answer, in the order in which they were due.
    pub(super) async fn stop(self) -> Vec<Answer> {
        self.stop.cancel();
        let log = self.log;
        aside(move || log.recv().expect("the load ends by itself")).await
    }
}

async fn generate(replicas: Vec<SocketAddr>, rate: u32, begun: Instant, until: CancellationToken) -> Vec<Answer> {
    let clients: Vec<Rls> = replicas.into_iter().map(Rls::at).collect();
    let (answers, outstanding) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    for number in 0u64.. {
        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
        if until.run_until_cancelled(tokio::time::sleep_until(begun + due)).await.is_none() {
            break;
        }
        assert!(outstanding.get() < OUTSTANDING_MAX, "{OUTSTANDING_MAX} requests have no answer");
        outstanding.set(outstanding.get() + 1);
        let client = clients[number as usize % clients.len()].clone();
        let (answers, outstanding) = (Rc::clone(&answers), Rc::clone(&outstanding));
        tokio::task::spawn_local(async move {
            let (policy, hot_user, question) = question(number);
            let sent = begun.elapsed();
            let answer = client.ask(question).await;
            let (verdict, degraded) = match answer {
                Ok(answer) => (verdict(&answer), is_degraded(&answer)),
                Err(status) => (Verdict::Failed(status.code()), policy == error_policy()),
            };
            let answered = begun.elapsed();
            answers.borrow_mut().push(Answer { policy, hot_user, due, sent, answered, verdict, degraded });
            outstanding.set(outstanding.get() - 1);
        });
    }
    while outstanding.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut answers = answers.take();
    answers.sort_by_key(|answer| answer.due);
    answers
}

/// Half of the requests are of a few users who ask too much, half of many who don't.
fn question(number: u64) -> (usize, Option<u64>, RateLimitRequest) {
    // Replicas take turns by the lowest bit, so all else goes by the higher ones.
    let turn = number / 2;
    let policy = (turn % 4) as usize;
    let hot_user = (turn / 4).is_multiple_of(2).then_some(turn / 8 % HOT_USERS);
    let user = hot_user.map_or_else(|| format!("cold-{}", turn % 20_011), |user| format!("hot-{user}"));
    (policy, hot_user, request("chaos", vec![descriptor(&[(POLICIES[policy], &user)])]))
}

fn verdict(answer: &RateLimitResponse) -> Verdict {
    if answer.overall_code() == Code::Ok { Verdict::Admitted } else { Verdict::Denied }
}

pub(super) fn is_degraded(answer: &RateLimitResponse) -> bool {
    let grounds = answer.dynamic_metadata.as_ref().and_then(|metadata| metadata.fields.get("tollgate"));
    let Some(Kind::StructValue(grounds)) = grounds.and_then(|value| value.kind.as_ref()) else { return false };
    grounds.fields.contains_key("degraded")
}

/// Its errors are answers: what the policy promises.
pub(super) fn error_policy() -> usize {
    POLICIES.iter().position(|policy| *policy == "error").expect("it is one of them")
}

//! The task behind a lane: it sends the queue's batches to Redis, answers the requests, keeps their deadlines, and
//! decides what a failure means for the requests that it concerns. Nothing that Redis may have counted is ever sent
//! again.
//!
//! A request goes through these states:
//!
//! ```text
//! queued ── its batch leaves ──→ in flight ── a reply with readings ──→ answered
//!    ↑                               │
//!    └── Redis charged nothing ──────┤ late, MOVED, ASK, or an error that only some request of the batch has
//!                                    ├ any other error reply, or a lost connection ──→ answered with an error
//!                                    └ its deadline ──→ answered with a timeout; the batch goes on without it
//! ```
//!
//! *When a batch leaves.* At once, with all that is queued (up to one batch), if no batch is in flight. While some are,
//! only a full batch leaves, and only up to `in_flight_max` of them: that serves a Redis that is far away. A batch that
//! nobody waits for any more (all its requests timed out) doesn't hold up the next one.
//!
//! *Late.* A batch tells Redis the earliest deadline of its requests, by Redis' clock. Redis charges nothing after that,
//! and replies with its time alone. The requests that still have time go back to the front of the queue, and leave again
//! without newcomers, which may have less time left. A request whose own deadline made its batch late more than
//! [`LATES_MAX`] times is answered with a timeout.
//!
//! *Error replies* mean that nothing was charged. An error of the node opens its circuit breaker and fails the batch; an
//! error of the moment (Redis is out of memory) refuses the batch; any other may be the fault of one request, so each is
//! sent again in a batch of its own, and refused if that gets an error too. In a Cluster, MOVED stops the lane until it
//! is pointed at the slot's new node, and ASK sends a request to the node that is taking the slot over.
//!
//! Invariants: (1) each request is answered once, by its deadline or soon after, if its caller still waits; (2) a
//! request whose batch left is queued again only after a reply which says that nothing was charged; (3) denials of
//! refunded counters leave the cache before the refund is answered.
//!
//! Example, with a round trip of 1 ms and deadlines after 10 ms. A arrives at 0.0 ms and is sent alone. B (0.3 ms) and C
//! (0.6 ms) wait for A's reply, leave together at 1.0 ms and are answered at 2.0 ms. If Redis stalls from then to 16 ms,
//! B is answered with a timeout at 10.3 ms and C at 10.6 ms. At 16 ms Redis finds B's deadline passed, and charges
//! neither.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Verdict};
use super::busy_poll::BusyPoll;
use super::clock::RedisClock;
use super::denials::{Denials, When};
use super::faults::{self, Extent, failed};
use super::flight::{Flight, Reply, next_reply, soonest};
use super::lane::{Failure, Lane, Moved, ToGuide, Waiter};
use super::link::{Link, Live};
use super::links::redirected;
use super::script::Script;
use super::settings::RedisSettings;
use super::tally::Tally;
use crate::clock;
use crate::limit::UnixMicros;
use crate::store::readings::StoreError;

/// How often a request may make its batch late although it had time. Once or twice means that a clock was set, which
/// the reply corrects; more than that has another cause.
const LATES_MAX: u8 = 2;

pub(super) struct Runner {
    lane: Arc<Lane>,
    link: Option<Arc<Link>>,
    guide: Option<ToGuide>,
    script: Arc<Script>,
    tally: Arc<Tally>,
    denials: Arc<Denials>,
    channel: String,
    in_flight_max: usize,
    changes: watch::Receiver<Option<Live>>,
    /// The bucket has moved to another node: nothing is sent until it is known which.
    is_lost: bool,
    /// The connection in use, and its Redis' clock as seen from here.
    connection: Option<(Live, RedisClock)>,
    flights: Vec<Flight>,
    busy_poll: BusyPoll,
    timer: Pin<Box<Sleep>>,
    is_timer_set: bool,
}

impl Runner {
    pub(super) fn new(
        lane: Arc<Lane>,
        guide: Option<ToGuide>,
        script: Arc<Script>,
        tally: Arc<Tally>,
        denials: Arc<Denials>,
        settings: &RedisSettings,
    ) -> Runner {
        let link = lane.link();
        let changes = changes_of(link.as_deref());
        Runner {
            lane,
            link,
            guide,
            script,
            tally,
            denials,
            channel: settings.refunds_channel(),
            in_flight_max: settings.in_flight_max.max(1),
            changes,
            is_lost: false,
            connection: None,
            flights: Vec::new(),
            busy_poll: BusyPoll::new(settings.busy_poll, clock::instant()),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_timer_set: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        self.reconnect();
        loop {
            let lane = self.lane.clone();
            tokio::select! {
                biased;
                (nth, outcome) = next_reply(&mut self.flights) => self.land(nth, outcome),
                Ok(()) = self.changes.changed() => self.reconnect(),
                () = lane.rerouted() => self.follow(),
                () = &mut self.timer, if self.is_timer_set => self.expire(),
                () = lane.arrived() => {}
                () = self.busy_poll.watch(), if self.busy_poll.is_on() => self.busy_poll.was_in_vain(clock::instant()),
            }
            self.take_off();
            self.set_timer();
        }
    }

    /// Uses the node's new connection. Batches in flight over its old one can't be answered any more; those to another
    /// node can.
    fn reconnect(&mut self) {
        const WHY: &str = "the connection was lost";
        let live = self.changes.borrow_and_update().clone();
        let is_own = |flight: &Flight| {
            !flight.is_asking() && self.link.as_ref().is_some_and(|link| Arc::ptr_eq(&flight.link, link))
        };
        let (lost, flying): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flights).into_iter().partition(is_own);
        self.flights = flying;
        for flight in lost {
            flight.trace(Some(WHY));
            self.fail(flight.waiting, WHY);
        }
        if self.connection.take().is_some() || live.is_none() {
            self.lane.fail_all(WHY);
        }
        self.connection = live.map(known);
    }

    /// Uses the node that the lane is pointed at now. Queued requests go on waiting; batches in flight may still be
    /// answered.
    fn follow(&mut self) {
        let link = self.lane.link();
        self.is_lost = false;
        let is_same = match (&self.link, &link) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if is_same {
            return;
        }
        self.changes = changes_of(link.as_deref());
        self.link = link;
        self.connection = self.changes.borrow_and_update().clone().map(known);
    }

    /// Sends the batches that may leave: any if none is in flight, else only full ones, for a Redis that is far away.
    fn take_off(&mut self) {
        while let (Some((live, clock)), Some(own)) = (&self.connection, &self.link) {
            if self.is_lost {
                return;
            }
            let backlog = self.lane.backlog();
            let under_way = self.flights.iter().filter(|flight| !flight.is_given_up).count();
            if backlog.is_empty || (under_way > 0 && !(backlog.is_full_batch && under_way < self.in_flight_max)) {
                return;
            }
            let sent = Instant::now();
            let mut waiting = self.lane.take_batch(sent);
            let Some(first) = waiting.first() else { continue };
            let now = first.request.now;
            let deadline = soonest(&waiting);
            let by = match &first.ask {
                // A time that was passed in isn't Redis' time, so there is no deadline by Redis' clock either.
                _ if now > 0 => 0,
                None => clock.at(deadline),
                // By that node's clock. While it isn't connected, its clock isn't known, and this node's is better than
                // none.
                Some(link) => {
                    let theirs = link.watch().borrow().as_ref().map(|live| RedisClock::new(live.clock).at(deadline));
                    theirs.unwrap_or_else(|| clock.at(deadline))
                }
            };
            let requests = waiting.iter().map(|waiting| &waiting.request);
            let (batch, cmd) = Batch::new(requests, &self.script, &self.channel, now, by);
            self.tally.batches.add(1);
            self.tally.counters.add(batch.counters as u64);
            self.tally.requests.add(waiting.len() as u64);
            self.tally.merged.add(batch.merged as u64);
            let script = self.script.clone();
            let reply: Reply = match &first.ask {
                None => {
                    let connection = live.connection.clone();
                    Box::pin(async move { script.run(connection, cmd).await })
                }
                Some(link) => {
                    let mut changes = link.watch();
                    Box::pin(async move {
                        // The node that takes a slot over may be new to us, and may never come up.
                        let up = tokio::time::timeout_at(deadline, changes.wait_for(Option::is_some)).await;
                        let live = up.ok().and_then(Result::ok).and_then(|live| live.clone());
                        match live {
                            Some(live) => script.run_asking(live.connection, cmd).await,
                            None => {
                                (Err(failed("no connection to the node that takes the slot over".to_owned())), false)
                            }
                        }
                    })
                }
            };
            let (link, epoch) = match &first.ask {
                None => (own.clone(), live.epoch),
                Some(link) => (link.clone(), 0),
            };
            waiting.iter_mut().for_each(|waiting| waiting.sent());
            let generation = self.denials.generation();
            self.busy_poll.sent(waiting.len(), clock::instant());
            self.flights.push(Flight { batch, waiting, sent, link, epoch, generation, reply, is_given_up: false });
        }
    }

    fn land(&mut self, nth: usize, (outcome, was_loaded): (RedisResult<Value>, bool)) {
        let flight = self.flights.swap_remove(nth);
        self.busy_poll.answered(clock::instant());
        if was_loaded {
            self.tally.script_loads.add(1);
            flight.link.forgot_the_script();
        }
        flight.trace(outcome.as_ref().err().map(RedisError::to_string).as_deref());
        if outcome.as_ref().err().is_none_or(|error| error.code().is_some()) {
            flight.link.answered();
        }
        match outcome {
            Ok(Value::BulkString(bytes)) => self.deliver(flight, &bytes),
            Ok(other) => self.refuse(flight.waiting, &format!("unexpected answer: {other:?}")),
            Err(error) => self.judge(flight, &error),
        }
    }

    fn deliver(&mut self, flight: Flight, bytes: &[u8]) {
        let is_of_here = match (&self.link, &self.connection) {
            (Some(link), Some((live, _))) => flight.is_over(link, live.epoch),
            _ => false,
        };
        let Flight { batch, mut waiting, sent, generation, .. } = flight;
        let Some(reply) = batch.read(bytes) else {
            return self.refuse(waiting, "an answer of the wrong length");
        };
        let when = When { sent, heard: Instant::now(), generation };
        if let Some((_, clock)) = &mut self.connection
            && is_of_here
            && waiting.first().is_some_and(|first| first.request.now == 0)
        {
            clock.learn(reply.now, sent, when.heard);
            self.tally.clock_ahead_us.set(clock.ahead_us(when.heard, clock::now()));
        }
        match reply.verdict {
            Some(verdict) => {
                self.note_oddities(&verdict, &waiting);
                // Before any caller learns that hits were given back.
                for key in waiting.iter().flat_map(|waiting| waiting.request.refunded()) {
                    self.denials.forget(key);
                }
                for (nth, mut waiting) in waiting.into_iter().enumerate() {
                    let mut readings = batch.readings(&verdict, nth);
                    if let Some(debts) = waiting.debts.take() {
                        readings.drain(..debts.len());
                        debts.settled();
                    }
                    readings.at = UnixMicros(reply.now);
                    // Most answers are no denials, and nothing is copied for them.
                    let Some(life) = waiting.request.denial_holds(&readings) else {
                        waiting.reply(Ok(readings));
                        continue;
                    };
                    waiting.reply(Ok(readings.clone()));
                    self.denials.keep(waiting.request, readings, life, when);
                }
            }
            None => {
                self.tally.late.add(1);
                let deadline = soonest(&waiting);
                for waiting in &mut waiting {
                    waiting.unsent();
                    waiting.is_again = true;
                    waiting.lates += u8::from(waiting.deadline.sent == deadline);
                }
                let (again, over) = waiting.into_iter().partition(|waiting| waiting.lates <= LATES_MAX);
                self.lane.put_back(again);
                for waiting in over {
                    self.lane.time_out(waiting);
                }
            }
        }
    }

    fn note_oddities(&self, verdict: &Verdict, waiting: &[Waiter]) {
        if verdict.damaged > 0 {
            self.tally.damaged.add(verdict.damaged);
            let requests = waiting.iter().map(|waiting| &waiting.request);
            let key = Batch::key(requests, verdict.damaged_first).map(String::from_utf8_lossy);
            tracing::warn!(
                key = key.as_deref(),
                count = verdict.damaged,
                "a counter's value was damaged: it begins at zero"
            );
        }
        if verdict.ahead > 0 {
            self.tally.set_back.add(verdict.ahead);
            // After a failover to a Redis with another clock, each batch finds such counters.
            if self.tally.set_back_said.is_due(clock::now()) {
                tracing::warn!(count = verdict.ahead, "counters were ahead of Redis' clock (it was set back): their time was moved to now");
            }
        }
    }

    /// Decides what an error means for the requests of a batch. An error reply means that nothing was charged, and then
    /// one bad request must not fail the others of its batch.
    fn judge(&mut self, mut flight: Flight, error: &RedisError) {
        let extent = error.code().map(|_| faults::class_of(error).extent);
        if extent.is_some() {
            flight.link.name(error);
            flight.waiting.iter_mut().for_each(|waiting| waiting.unsent());
        }
        match error.code() {
            Some(code) if extent == Some(Extent::Node) => flight.complain(code),
            // The connection broke, so what Redis did is unknown.
            None => flight.complain(&error.to_string()),
            Some(_) => {}
        }
        let Flight { mut waiting, .. } = flight;
        match error.code() {
            Some("MOVED") if self.guide.is_some() => self.lose(waiting, error),
            Some("ASK" | "TRYAGAIN") if self.guide.is_some() && waiting.len() == 1 => self.ask(waiting, error),
            Some(_) if extent == Some(Extent::Node) => self.fail(waiting, &error.to_string()),
            Some(_) if extent == Some(Extent::Moment) => self.refuse(waiting, &error.to_string()),
            Some(_) if waiting.len() > 1 => {
                waiting.iter_mut().for_each(|waiting| waiting.alone = true);
                self.lane.put_back(waiting);
            }
            Some(_) => self.refuse(waiting, &error.to_string()),
            None => self.fail(waiting, &error.to_string()),
        }
    }

    /// The bucket is on another node: the requests are sent there once the lane is pointed at it.
    fn lose(&mut self, mut waiting: Vec<Waiter>, error: &RedisError) {
        waiting.iter_mut().for_each(|waiting| waiting.ask = None);
        self.lane.put_back(waiting);
        self.is_lost = true;
        if let Some((bucket, moved, _)) = &self.guide {
            // The receiver ends only with the store.
            let _ = moved.send(Moved { bucket: *bucket, to: redirected(error) });
        }
    }

    /// The bucket is moving and this counter has moved already, so the request is sent to the new node. If it has
    /// several counters, they may be on both nodes.
    fn ask(&mut self, mut waiting: Vec<Waiter>, error: &RedisError) {
        let is_one = waiting.iter().all(|waiting| waiting.request.asks() == 1);
        match (&self.guide, redirected(error)) {
            (Some((_, _, links)), Some(address)) if is_one => {
                let link = links.to(&address);
                waiting.iter_mut().for_each(|waiting| {
                    waiting.alone = true;
                    waiting.ask = Some(link.clone());
                });
                self.lane.put_back(waiting);
            }
            _ if is_one => self.refuse(waiting, &error.to_string()),
            _ => waiting.iter_mut().for_each(|waiting| waiting.reply(Err(Failure::Split))),
        }
    }

    /// Answers the requests whose deadlines have passed with a timeout. A batch whose requests have all timed out
    /// counts as one without a reply.
    fn expire(&mut self) {
        self.is_timer_set = false;
        let now = Instant::now();
        self.lane.expire(now);
        for flight in self.flights.iter_mut().filter(|flight| !flight.is_given_up) {
            for waiting in &mut flight.waiting {
                if waiting.deadline.sent <= now && waiting.answer.is_some() {
                    self.tally.timeouts.add(1);
                    waiting.reply(Err(StoreError::Timeout(waiting.deadline.sent - waiting.since).into()));
                }
            }
            if flight.waiting.iter().all(|waiting| waiting.answer.is_none()) {
                flight.is_given_up = true;
                if !flight.is_asking() && flight.link.unanswered(flight.sent, now) {
                    flight.complain("it does not answer in time");
                }
            }
        }
        // No request needs the late reply of a node that the lane has left, and a batch in flight keeps the connection
        // open.
        let own = self.link.clone();
        let is_left = |flight: &Flight| own.as_ref().is_none_or(|own| !Arc::ptr_eq(&flight.link, own));
        self.flights.retain(|flight| !(flight.is_given_up && is_left(flight)));
    }

    fn set_timer(&mut self) {
        let flights = self.flights.iter().flat_map(|flight| &flight.waiting);
        let flying = flights.filter(|waiting| waiting.answer.is_some()).map(|waiting| waiting.deadline.sent);
        let Some(soonest) = flying.chain(self.lane.backlog().soonest).min() else { return };
        // A timer that goes off early costs less than setting it for every batch.
        if !self.is_timer_set || soonest < self.timer.deadline() {
            self.timer.as_mut().reset(soonest);
            self.is_timer_set = true;
        }
    }

    fn fail(&self, waiting: Vec<Waiter>, why: &str) {
        for mut waiting in waiting.into_iter().filter(|waiting| waiting.answer.is_some()) {
            self.tally.unreachable.add(1);
            waiting.reply(Err(StoreError::Unreachable(why.to_owned()).into()));
        }
    }

    fn refuse(&self, waiting: Vec<Waiter>, why: &str) {
        for mut waiting in waiting.into_iter().filter(|waiting| waiting.answer.is_some()) {
            self.tally.refused.add(1);
            waiting.reply(Err(StoreError::Refused(why.to_owned()).into()));
        }
    }
}

impl Drop for Runner {
    /// Answers all queued requests however the runner ends. Batches in flight are dropped, which answers theirs.
    fn drop(&mut self) {
        self.lane.close();
    }
}

/// A new connection, with its Redis' clock as known from the greeting.
fn known(live: Live) -> (Live, RedisClock) {
    let clock = RedisClock::new(live.clock);
    (live, clock)
}

/// A receiver that never changes, for a lane without a node.
fn changes_of(link: Option<&Link>) -> watch::Receiver<Option<Live>> {
    link.map_or_else(|| watch::Sender::new(None).subscribe(), Link::watch)
}

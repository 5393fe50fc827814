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
//! [`LATE_MAX`] times is answered with a timeout.
//!
//! *Error replies* mean that nothing was charged. An error of the node opens its circuit breaker and fails the batch; an
//! error of the moment (Redis is out of memory) refuses the batch; any other may be the fault of one request, so each is
//! sent again in a batch of its own, and refused if that gets an error too. In a Cluster, MOVED stops the lane of a bucket
//! until it is pointed at the slot's new node, and ASK sends a request to the node that is taking the slot over. The lane of
//! a node follows no slot: requests over a counter that isn't there are answered as being *elsewhere*, and
//! their callers ask by slots.
//!
//! Invariants: (1) each request is answered once, by its deadline or soon after, if its caller still waits; (2) a
//! request whose batch left is queued again only after a reply which says that nothing was charged; (3) denials of
//! refunded counters leave the cache before the refund is answered.
//!
//! Example, with a round trip of 1 ms and deadlines after 10 ms. A arrives at 0.0 ms and is sent alone. B (0.3 ms) and C
//! (0.6 ms) wait for A's reply, leave together at 1.0 ms and are answered at 2.0 ms. If Redis stalls from then to 16 ms,
//! B is answered with a timeout at 10.3 ms and C at 10.6 ms. At 16 ms Redis finds B's deadline passed, and charges
//! neither.

mod elsewhere;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, BatchResult};
use super::busy_poll::BusyPoll;
use super::clock::RedisClock;
use super::denial_cache::{DenialCache, DenialTiming};
use super::faults::{self, Extent, failed};
use super::guide::Guide;
use super::in_flight::{InFlightBatch, PendingReply, earliest_deadline, next_reply};
use super::lane::{BoxedRequest, Lane, NO_CONNECTION};
use super::node_connection::{EstablishedConnection, NodeConnection};
use super::script::Script;
use super::settings::RedisSettings;
use super::stats::RedisStats;
use super::turns::TurnTaker;
use crate::clock;
use crate::limit::UnixMicros;
use crate::privacy::Privacy;
use crate::store::{key, readings::StoreError};

/// How often a request may make its batch late although it had time. Once or twice means that a clock was set, which
/// the reply corrects; more than that has another cause.
const LATE_MAX: u8 = 2;

pub(super) struct Runner {
    lane: Arc<Lane>,
    node: Option<Arc<NodeConnection>>,
    guide: Option<Guide>,
    script: Arc<Script>,
    stats: Arc<RedisStats>,
    denial_cache: Arc<DenialCache>,
    channel: String,
    privacy: Privacy,
    in_flight_max: usize,
    connection_changes: watch::Receiver<Option<EstablishedConnection>>,
    /// The bucket has moved to another node: nothing is sent until it is known which.
    is_moved: bool,
    /// Number of batches in a row of which the node decided nothing.
    barren: u32,
    /// The connection in use, and its Redis' clock as seen from here.
    connection: Option<(EstablishedConnection, RedisClock)>,
    in_flight: Vec<InFlightBatch>,
    /// In the lane of a Cluster's node: its part in the turns of the core.
    turn: Option<TurnTaker>,
    busy_poll: BusyPoll,
    timer: Pin<Box<Sleep>>,
    is_timer_set: bool,
}

impl Runner {
    pub(super) fn new(
        lane: Arc<Lane>,
        guide: Option<Guide>,
        script: Arc<Script>,
        stats: Arc<RedisStats>,
        denial_cache: Arc<DenialCache>,
        turn: Option<TurnTaker>,
        settings: &RedisSettings,
    ) -> Runner {
        let node = lane.node();
        let connection_changes = changes_of(node.as_deref());
        Runner {
            lane,
            node,
            guide,
            script,
            stats,
            denial_cache,
            channel: settings.refunds_channel(),
            privacy: settings.privacy.clone(),
            in_flight_max: settings.in_flight_max.max(1),
            connection_changes,
            is_moved: false,
            barren: 0,
            connection: None,
            in_flight: Vec::new(),
            turn,
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
        while !(self.lane.is_retired() && self.in_flight.is_empty()) {
            let lane = self.lane.clone();
            tokio::select! {
                biased;
                (nth, outcome) = next_reply(&mut self.in_flight) => self.handle_reply(nth, outcome),
                // Before its connection is closed: what is in flight to a node that the lane has left is answered.
                () = lane.rerouted() => self.switch_node(),
                Ok(()) = self.connection_changes.changed() => self.reconnect(),
                () = &mut self.timer, if self.is_timer_set => self.expire(),
                () = lane.arrived() => {}
                () = self.busy_poll.watch(), if self.busy_poll.is_on() => self.busy_poll.was_in_vain(clock::instant()),
            }
            self.fail_queued(NO_CONNECTION);
            self.send_batches();
            self.pass_turn_on();
            self.set_timer();
        }
    }

    /// Uses the node's new connection. Batches in flight over its old one can't be answered any more, unless the new one
    /// has only replaced it; those to another node can. What is queued was not sent, and waits where it may.
    fn reconnect(&mut self) {
        const WHY: &str = "the connection was lost";
        if !self.is_at_its_node() {
            // It was pointed elsewhere, and the old node's connection closed, before either was looked at.
            return self.switch_node();
        }
        let established = self.connection_changes.borrow_and_update().clone();
        if let (Some((old, _)), Some(new)) = (&self.connection, &established)
            && (new.epoch == old.epoch || new.is_successor && new.epoch == old.epoch + 1)
        {
            self.connection = established.map(with_clock);
            return;
        }
        let is_own = |in_flight: &InFlightBatch| {
            !in_flight.is_redirected() && self.node.as_ref().is_some_and(|node| Arc::ptr_eq(&in_flight.node, node))
        };
        let (lost, flying): (Vec<_>, Vec<_>) = std::mem::take(&mut self.in_flight).into_iter().partition(is_own);
        self.in_flight = flying;
        for in_flight in lost {
            in_flight.trace(Some(WHY));
            self.fail(in_flight.requests, WHY);
        }
        let had_one = self.connection.is_some();
        self.connection = established.map(with_clock);
        self.fail_queued(if had_one { WHY } else { NO_CONNECTION });
    }

    /// Answers what is queued with an error if there is no connection and none is waited for. A bucket that has moved has
    /// another node, whose connection counts.
    fn fail_queued(&self, why: &str) {
        let takes_requests = || self.node.as_ref().is_some_and(|node| node.takes_requests());
        if self.connection.is_none() && !self.is_moved && !takes_requests() {
            self.lane.fail_all(why);
        }
    }

    /// Whether it uses the node that the lane is pointed at.
    fn is_at_its_node(&self) -> bool {
        self.node.as_ref().map(Arc::as_ptr) == self.lane.node().as_ref().map(Arc::as_ptr)
    }

    /// Uses the node that the lane is pointed at now. Queued requests go on waiting; batches in flight may still be
    /// answered.
    fn switch_node(&mut self) {
        self.is_moved = false;
        if self.node.is_some() && self.is_at_its_node() {
            return;
        }
        let node = self.lane.node();
        self.connection_changes = changes_of(node.as_deref());
        self.node = node;
        self.connection = self.connection_changes.borrow_and_update().clone().map(with_clock);
    }

    /// Sends the batches that may leave: any if none is in flight, else only full ones, for a Redis that is far away.
    fn send_batches(&mut self) {
        while let (Some((established, clock)), Some(own)) = (&self.connection, &self.node) {
            if self.is_moved {
                return;
            }
            let backlog = self.lane.backlog();
            let under_way = self.in_flight.iter().filter(|in_flight| !in_flight.is_given_up).count();
            if backlog.is_empty || (under_way > 0 && !(backlog.is_full_batch && under_way < self.in_flight_max)) {
                return;
            }
            let sent = Instant::now();
            if let Some(turn) = &mut self.turn
                && under_way == 0
                && !turn.may_leave(&backlog, sent)
            {
                return;
            }
            let mut queued = self.lane.take_batch(sent);
            if let Some(turn) = &mut self.turn {
                turn.sent(queued.len());
            }
            let Some(first) = queued.first() else { continue };
            let now = first.request.now;
            let deadline = earliest_deadline(&queued);
            let by = match &first.redirect {
                // A time that was passed in isn't Redis' time, so there is no deadline by Redis' clock either.
                _ if now > 0 => 0,
                None => clock.at(deadline),
                // By that node's clock. While it isn't connected, its clock isn't known, and this node's is better than
                // none.
                Some(node) => {
                    let theirs = node
                        .watch()
                        .borrow()
                        .as_ref()
                        .map(|established| RedisClock::new(established.clock).at(deadline));
                    theirs.unwrap_or_else(|| clock.at(deadline))
                }
            };
            let requests = queued.iter().map(|queued| &queued.request);
            let (batch, cmd) = Batch::new(requests, &self.script, &self.channel, now, by);
            self.stats.batches.add(1);
            self.stats.counters.add(batch.counters as u64);
            self.stats.requests.add(queued.len() as u64);
            self.stats.merged.add(batch.merged as u64);
            let script = self.script.clone();
            let reply: PendingReply = match &first.redirect {
                None => {
                    let connection = established.connection.clone();
                    Box::pin(async move { script.run(connection, cmd).await })
                }
                Some(node) => {
                    let node = node.clone();
                    Box::pin(async move {
                        // The node that takes a slot over may be new to us, and may never come up.
                        let established = node.established_by(deadline).await;
                        match established {
                            Some(established) => script.run_with_asking(established.connection, cmd).await,
                            None => {
                                (Err(failed("no connection to the node that takes the slot over".to_owned())), false)
                            }
                        }
                    })
                }
            };
            let (node, epoch) = match &first.redirect {
                None => (own.clone(), established.epoch),
                Some(node) => (node.clone(), 0),
            };
            queued.iter_mut().for_each(|queued| queued.sent());
            let generation = self.denial_cache.generation();
            self.busy_poll.sent(queued.len(), clock::instant());
            self.in_flight.push(InFlightBatch {
                batch,
                requests: queued,
                sent,
                node,
                epoch,
                generation,
                reply,
                is_given_up: false,
            });
        }
    }

    /// Ends its turn if nothing is in flight, and its wait for one if nothing can be sent: its requests may have been
    /// answered without Redis, and the timer would go off again and again.
    fn pass_turn_on(&mut self) {
        if let Some(turn) = &mut self.turn
            && self.in_flight.iter().all(|in_flight| in_flight.is_given_up)
        {
            if turn.until().is_some() && (self.connection.is_none() || self.lane.backlog().is_empty) {
                turn.withdraw();
            }
            turn.pass_on();
        }
    }

    fn handle_reply(&mut self, nth: usize, (outcome, was_loaded): (RedisResult<Value>, bool)) {
        let in_flight = self.in_flight.swap_remove(nth);
        if let Some(turn) = &mut self.turn {
            turn.answered(in_flight.sent.elapsed());
        }
        self.pass_turn_on();
        self.busy_poll.answered(clock::instant());
        if was_loaded {
            self.stats.script_loads.add(1);
            in_flight.node.forgot_the_script();
        }
        in_flight.trace(outcome.as_ref().err().map(RedisError::to_string).as_deref());
        if outcome.as_ref().err().is_none_or(|error| error.code().is_some()) {
            in_flight.node.answered();
        }
        match outcome {
            Ok(Value::BulkString(bytes)) => self.answer_requests(in_flight, &bytes),
            Ok(other) => self.refuse(in_flight.requests, &format!("unexpected answer: {other:?}")),
            Err(error) => self.handle_error(in_flight, &error),
        }
    }

    fn answer_requests(&mut self, in_flight: InFlightBatch, bytes: &[u8]) {
        let is_of_here = match (&self.node, &self.connection) {
            (Some(node), Some((established, _))) => in_flight.was_sent_over(node, established.epoch),
            _ => false,
        };
        let InFlightBatch { batch, requests: mut queued, sent, node: in_flight_node, generation, .. } = in_flight;
        let Some(reply) = batch.read(bytes) else {
            return self.refuse(queued, "an answer of the wrong length");
        };
        let when = DenialTiming { sent, heard: Instant::now(), generation };
        if let Some((_, clock)) = &mut self.connection
            && is_of_here
            && queued.first().is_some_and(|first| first.request.now == 0)
        {
            clock.learn(reply.now, sent, when.heard);
            self.stats.clock_ahead_us.set(clock.ahead_us(when.heard, clock::now()));
        }
        match reply.result {
            Some(verdict) => {
                self.report_anomalies(&verdict, &queued);
                // Before any caller learns that hits were given back.
                for key in queued.iter().flat_map(|queued| queued.request.refunded()) {
                    self.denial_cache.invalidate(key);
                }
                if verdict.elsewhere().0 {
                    self.note_elsewhere(&in_flight_node, &verdict);
                } else {
                    self.barren = 0;
                }
                for (nth, mut queued) in queued.into_iter().enumerate() {
                    let Some(mut readings) = batch.readings(&verdict, nth) else {
                        self.send_elsewhere(queued);
                        continue;
                    };
                    if let Some(deferred_batch) = queued.deferred.take() {
                        readings.drain(..deferred_batch.len());
                        deferred_batch.settled();
                    }
                    readings.at = UnixMicros(reply.now);
                    // Most answers are no denials, and nothing is copied for them.
                    let Some(life) = queued.request.denial_holds(&readings) else {
                        queued.reply(Ok(readings));
                        continue;
                    };
                    queued.reply(Ok(readings.clone()));
                    self.denial_cache.insert(queued.request, readings, life, when);
                }
            }
            None => {
                self.stats.late.add(1);
                let deadline = earliest_deadline(&queued);
                for queued in &mut queued {
                    queued.unsent();
                    queued.is_retry = true;
                    queued.late_count += u8::from(queued.deadline.sent == deadline);
                }
                let (again, over) = queued.into_iter().partition(|queued| queued.late_count <= LATE_MAX);
                self.lane.put_back(again);
                for queued in over {
                    self.lane.time_out(queued);
                }
            }
        }
    }

    fn report_anomalies(&self, verdict: &BatchResult, queued: &[BoxedRequest]) {
        if verdict.damaged > 0 {
            self.stats.damaged.add(verdict.damaged);
            let requests = queued.iter().map(|queued| &queued.request);
            let key = Batch::key(requests, verdict.damaged_first).map(|key| key::shown(key, &self.privacy));
            tracing::warn!(
                key = key.as_deref(),
                count = verdict.damaged,
                "a counter's value was damaged: it begins at zero"
            );
        }
        if verdict.ahead > 0 {
            self.stats.set_back.add(verdict.ahead);
            // After a failover to a Redis with another clock, each batch finds such counters.
            if self.stats.set_back_log.is_due(clock::now()) {
                tracing::warn!(
                    count = verdict.ahead,
                    "counters were ahead of Redis' clock (it was set back): their time was moved to now"
                );
            }
        }
    }

    /// Decides what an error means for the requests of a batch. An error reply means that nothing was charged, and then
    /// one bad request must not fail the others of its batch.
    fn handle_error(&mut self, mut in_flight: InFlightBatch, error: &RedisError) {
        let extent = error.code().map(|_| faults::class_of(error).extent);
        if extent.is_some() {
            in_flight.node.log_error(error);
            in_flight.requests.iter_mut().for_each(|queued| queued.unsent());
        }
        match error.code() {
            Some(code) if extent == Some(Extent::Node) => in_flight.report_failure(code),
            // The connection broke, so what Redis did is unknown.
            None => in_flight.report_failure(&error.to_string()),
            Some(_) => {}
        }
        let InFlightBatch { requests: mut queued, node, .. } = in_flight;
        let is_of_node = self.guide.as_ref().is_some_and(Guide::is_of_node);
        match error.code() {
            Some(_) if is_of_node && self.is_for_slots(&node, error, queued.len()) => {
                queued.into_iter().for_each(|queued| self.send_elsewhere(queued));
            }
            Some("MOVED") if self.guide.is_some() => self.handle_moved(queued, error),
            Some("ASK" | "TRYAGAIN") if self.guide.is_some() && queued.len() == 1 => self.handle_ask(queued, error),
            Some(_) if extent == Some(Extent::Node) => self.fail(queued, &error.to_string()),
            Some(_) if extent == Some(Extent::Moment) => self.refuse(queued, &error.to_string()),
            Some(_) if queued.len() > 1 => {
                queued.iter_mut().for_each(|queued| queued.is_alone = true);
                self.lane.put_back(queued);
            }
            Some(_) => self.refuse(queued, &error.to_string()),
            None => self.fail(queued, &error.to_string()),
        }
    }

    /// Answers the requests whose deadlines have passed with a timeout. A batch whose requests have all timed out
    /// counts as one without a reply.
    fn expire(&mut self) {
        self.is_timer_set = false;
        let now = Instant::now();
        self.lane.expire(now);
        for in_flight in self.in_flight.iter_mut().filter(|in_flight| !in_flight.is_given_up) {
            for queued in &mut in_flight.requests {
                if queued.deadline.sent <= now && queued.answer.is_some() {
                    self.stats.timeouts.add(1);
                    queued.reply(Err(StoreError::Timeout(queued.deadline.sent - queued.queued_at).into()));
                }
            }
            if in_flight.requests.iter().all(|queued| queued.answer.is_none()) {
                in_flight.is_given_up = true;
                if let Some(turn) = &mut self.turn {
                    turn.was_given_up();
                }
                if !in_flight.is_redirected() && in_flight.node.unanswered(in_flight.sent, now) {
                    in_flight.report_failure("it does not answer in time");
                }
            }
        }
        // No request needs the late reply of a node that the lane has left, and a batch in flight keeps the connection
        // open.
        let own = self.node.clone();
        let is_left = |in_flight: &InFlightBatch| own.as_ref().is_none_or(|own| !Arc::ptr_eq(&in_flight.node, own));
        self.in_flight.retain(|in_flight| !(in_flight.is_given_up && is_left(in_flight)));
    }

    fn set_timer(&mut self) {
        let flights = self.in_flight.iter().flat_map(|in_flight| &in_flight.requests);
        let flying = flights.filter(|queued| queued.answer.is_some()).map(|queued| queued.deadline.sent);
        let turn = self.turn.as_ref().and_then(TurnTaker::until);
        let Some(soonest) = flying.chain(self.lane.backlog().earliest_deadline).chain(turn).min() else { return };
        // A timer that goes off early costs less than setting it for every batch.
        if !self.is_timer_set || soonest < self.timer.deadline() {
            self.timer.as_mut().reset(soonest);
            self.is_timer_set = true;
        }
    }

    fn fail(&self, queued: Vec<BoxedRequest>, why: &str) {
        for mut queued in queued.into_iter().filter(|queued| queued.answer.is_some()) {
            self.stats.unreachable.add(1);
            queued.reply(Err(StoreError::Unreachable(why.to_owned()).into()));
        }
    }

    fn refuse(&self, queued: Vec<BoxedRequest>, why: &str) {
        for mut queued in queued.into_iter().filter(|queued| queued.answer.is_some()) {
            self.stats.refused.add(1);
            queued.reply(Err(StoreError::Refused(why.to_owned()).into()));
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
fn with_clock(established: EstablishedConnection) -> (EstablishedConnection, RedisClock) {
    let clock = RedisClock::new(established.clock);
    (established, clock)
}

/// A receiver that never changes, for a lane without a node.
fn changes_of(node: Option<&NodeConnection>) -> watch::Receiver<Option<EstablishedConnection>> {
    node.map_or_else(|| watch::Sender::new(None).subscribe(), NodeConnection::watch)
}

//! One connection to one node of Redis, with its supervisor and its circuit breaker. The breaker is closed while the
//! node can be used; it opens when the connection is lost and closes after the first probe that the node passes. Probes
//! are made in the background: requests see the breaker's state at once and never wait for a probe. It doesn't know
//! what is sent over the connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::OpenBreaker;
use super::connection::Connection;
use super::denial_cache::DenialCache;
use super::dial::{self, Target, connection_age};
use super::faults::{self, failed};
use super::layout::record;
use super::routing::{self, SEVERAL};
use super::script::Scripts;
use super::server;
use super::settings::{ClusterBatch, RedisSettings, Topology};
use super::stats::RedisStats;
use crate::store::key::Buckets;
use crate::store::redis::tls_errors;

#[cfg(test)]
mod tests;

/// Time between probes of an open breaker, more or less a fifth, so that cores and replicas that lost Redis together
/// don't come back together.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Time until the first attempt after a connection was lost. It is short, because most losses are a restart that takes
/// a moment.
const SOON: Duration = Duration::from_millis(20);

/// Longest time between attempts while Redis refuses the connection itself (its password, too many clients). Attempts
/// are then a burden, and this far apart they still notice within a second that Redis is back.
const BACKOFF_MAX: Duration = Duration::from_millis(700);

/// Number of failed probes after which a connection is replaced: its name may lead to another node by now.
const PROBES_MAX: u32 = 5;

/// Time after which another attempt is begun beside one without an answer. The kernel repeats a packet that was lost
/// after 1, 3 and 7 seconds, and decisions should not wait for that. The first attempt goes on for as long as
/// `REDIS_TIMEOUT` allows, because a Redis with a slow handshake would otherwise never be reached.
const BESIDE_AFTER: Duration = Duration::from_millis(400);

/// A connection that broke sooner than this is not replaced at once: a node that accepts connections only to cut them
/// would be tried fifty times a second.
const STEADY: Duration = Duration::from_secs(1);

/// Time after which the log reports a Redis that was never reached and sends nothing, though the attempt goes on, and after
/// which requests don't wait for it any more.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Timeout of renewing the record of the buckets, in which time no message is heard.
const RENEWAL_PATIENCE: Duration = Duration::from_millis(100);

/// Redis' clock in microseconds, and an instant before it was read.
type Clock = (u64, Instant);

/// An established connection, with what was learned when it was made.
#[derive(Clone)]
pub(super) struct EstablishedConnection {
    pub connection: Connection,
    /// Number of the connection, so that a late failure of an old one doesn't end its successor.
    pub epoch: u64,
    pub clock: Clock,
    /// Whether it takes the place of the connection before it, over which what is in flight is still answered.
    pub is_successor: bool,
}

/// Shared by everything that sends to one node.
pub(super) struct NodeConnection {
    established: watch::Sender<Option<EstablishedConnection>>,
    /// Whether requests wait for the first connection: until it is made, or can't be, and until `held_until` at most.
    is_holding: AtomicBool,
    held_until: Instant,
    complaints: mpsc::UnboundedSender<(u64, String)>,
    target: Target,
    settings: Arc<RedisSettings>,
    /// Number of batches in a row without a reply, and when the last one was given up.
    unanswered: AtomicU32,
    given_up: Mutex<Option<Instant>>,
    /// Whether its batches hold one slot each. Once found out, it stays so.
    is_by_slot: AtomicBool,
    stats: Arc<RedisStats>,
}

impl NodeConnection {
    /// The connection to a node, and the future of its supervisor, which keeps it up until `stop`.
    pub(super) fn new(
        target: Target,
        settings: Arc<RedisSettings>,
        scripts: Scripts,
        stats: Arc<RedisStats>,
        denials: Arc<DenialCache>,
        stop: CancellationToken,
    ) -> (Arc<NodeConnection>, impl Future<Output = ()> + Send + 'static) {
        let (complaints, heard) = mpsc::unbounded_channel();
        let established = watch::Sender::new(None);
        let node = Arc::new(NodeConnection {
            established,
            is_holding: AtomicBool::new(true),
            held_until: Instant::now() + settings.connect_timeout.min(SILENT_AFTER),
            complaints,
            target: target.clone(),
            settings: settings.clone(),
            unanswered: AtomicU32::new(0),
            given_up: Mutex::default(),
            is_by_slot: AtomicBool::new(false),
            stats: stats.clone(),
        });
        let keeper = Supervisor { node: node.clone(), target, settings, scripts, stats, denial_cache: denials };
        let kept = node.clone();
        let keep = async move {
            stop.run_until_cancelled(keeper.run(heard)).await;
            kept.is_holding.store(false, Release);
            kept.established.send_replace(None);
        };
        (node, keep)
    }

    pub(super) fn is_up(&self) -> bool {
        self.established.borrow().is_some()
    }

    /// Whether requests are taken for it: it is up, or requests wait for its first connection. A node of a Cluster is heard
    /// of by the first request that is sent to it.
    pub(super) fn takes_requests(&self) -> bool {
        // In this order, because the holding ends only after the connection is there.
        self.is_holding() || self.is_up()
    }

    fn is_holding(&self) -> bool {
        self.is_holding.load(Acquire) && Instant::now() < self.held_until
    }

    /// Notes that the first connection can't be made for now, and wakes those who wait for it.
    fn fail_held(&self) {
        if self.is_holding.swap(false, AcqRel) {
            self.established.send_modify(|_| {});
        }
    }

    /// The connection, once it is there; `None` if there is none by `until`, or the node can't be connected to for now.
    pub(super) async fn established_by(&self, until: Instant) -> Option<EstablishedConnection> {
        let mut changes = self.watch();
        let decided = changes.wait_for(|established| established.is_some() || !self.is_holding());
        tokio::time::timeout_at(until, decided).await.ok()?.ok()?.clone()
    }

    pub(super) fn established(&self) -> Option<EstablishedConnection> {
        self.established.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<EstablishedConnection>> {
        self.established.subscribe()
    }

    /// Reports that the node can't be used over the connection `epoch`: the breaker opens.
    pub(super) fn report_failure(&self, epoch: u64, cause: &str) {
        // The supervisor ends only with the store, and then the node isn't needed.
        let _ = self.complaints.send((epoch, cause.to_owned()));
    }

    /// Notes that the node replied. While it always does, this costs one atomic load.
    pub(super) fn answered(&self) {
        if self.unanswered.load(Relaxed) > 0 {
            self.unanswered.store(0, Relaxed);
        }
    }

    /// Notes that a batch sent at `sent` got no reply, and returns whether that makes too many. Batches that waited at
    /// the same time, as those of a Cluster's lanes do, met the same silence, which counts once.
    pub(super) fn unanswered(&self, sent: Instant, now: Instant) -> bool {
        let mut given_up = self.given_up.lock();
        if self.unanswered.load(Relaxed) > 0 && given_up.is_some_and(|at| sent < at) {
            return false;
        }
        *given_up = Some(now);
        self.unanswered.fetch_add(1, Relaxed) + 1 >= self.settings.timeouts_max.max(1)
    }

    /// Whether scripts must not touch several of its slots.
    pub(super) fn is_by_slot(&self) -> bool {
        self.is_by_slot.load(Relaxed)
    }

    /// Notes that scripts must not touch several of its slots, and logs why, once.
    pub(super) fn batch_by_slot(&self, why: &str) {
        if !self.is_by_slot.swap(true, Relaxed) {
            self.stats.nodes_by_slot.add(1);
            self.settings.faults.log_by_slot(&self.target, why);
        }
    }

    /// Logs the node's error, once.
    pub(super) fn log_error(&self, error: &RedisError) {
        let is_cluster = matches!(self.settings.topology, Topology::Cluster { .. });
        self.settings.faults.log_error(&self.target, error, is_cluster, &self.settings.names);
    }

    /// Notes that the node had to be sent the script's text.
    pub(super) fn forgot_the_script(&self) {
        self.settings.faults.forgot_the_script(&self.target);
    }
}

impl Drop for NodeConnection {
    fn drop(&mut self) {
        if self.is_by_slot() {
            self.stats.nodes_by_slot.add(-1);
        }
    }
}

struct Supervisor {
    node: Arc<NodeConnection>,
    target: Target,
    settings: Arc<RedisSettings>,
    scripts: Scripts,
    stats: Arc<RedisStats>,
    denial_cache: Arc<DenialCache>,
}

/// A connection whose node was probed, whether or not the node can be used.
struct ProbedConnection {
    connection: Connection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    /// Whether the connection was found to lead to a single Redis and is subscribed to the channel.
    is_one: bool,
    is_listening: bool,
    /// Number of failed probes in a row.
    failed: u32,
}

/// How a connection was lost, so that the breaker opened.
struct ConnectionLoss {
    cause: String,
    is_closed: bool,
}

impl Supervisor {
    async fn run(self, mut complaints: mpsc::UnboundedReceiver<(u64, String)>) {
        let mut wire: Option<ProbedConnection> = None;
        let mut breaker: Option<OpenBreaker> = None;
        let mut backoff = PROBE_EVERY;
        let mut epoch = 0;
        loop {
            let wait = match self.probe(&mut wire).await {
                Ok((mut passed, clock)) => {
                    self.close(breaker.take());
                    let since = Instant::now();
                    let loss = self.serve(&mut passed, (&mut epoch, clock), &mut complaints).await;
                    epoch += 1;
                    breaker = Some(self.settings.breakers.open(&self.target, &loss.cause, &self.stats));
                    backoff = PROBE_EVERY;
                    let is_sudden = loss.is_closed && since.elapsed() >= STEADY;
                    wire = (!loss.is_closed).then_some(passed);
                    if is_sudden { SOON } else { PROBE_EVERY }
                }
                // A node that has just joined or taken over isn't ready for a moment.
                Err(error) if self.node.is_holding() && faults::may_pass(&error) => SOON,
                Err(error) => {
                    self.node.fail_held();
                    self.explain(&mut breaker, &error);
                    let is_refused = error.code().is_some() || self.stats.is_several.load(Relaxed);
                    let is_refused = is_refused && wire.is_none();
                    backoff = if is_refused { (backoff * 2).min(BACKOFF_MAX) } else { PROBE_EVERY };
                    backoff
                }
            };
            let wait = wait.mul_f64(rand::rng().random_range(0.8..1.2));
            tokio::time::sleep(wait).await;
        }
    }

    fn close(&self, breaker: Option<OpenBreaker>) {
        if let Some(breaker) = breaker {
            breaker.close();
        }
        self.settings.breakers.reached(&self.target);
        self.node.answered();
    }

    /// Logs what is wrong, if that isn't known yet: probes find the same error again and again.
    fn explain(&self, breaker: &mut Option<OpenBreaker>, error: &RedisError) {
        let open = |cause: &str| self.settings.breakers.open(&self.target, cause, &self.stats);
        match error.code() {
            Some(code) => {
                self.node.log_error(error);
                breaker.get_or_insert_with(|| open(code));
            }
            None => {
                let why = tls_errors::explained(error, &self.settings);
                match breaker {
                    // It was lost, and the line of the open breaker says so: that it is gone altogether is the same failure.
                    Some(_) if tls_errors::is_refused(error, &self.settings) => {}
                    Some(breaker) => breaker.explain(&why),
                    None => {
                        let breakers = &self.settings.breakers;
                        *breaker = Some(breakers.open_unconnected(&self.target, &why, &self.stats));
                    }
                }
            }
        }
    }

    /// Makes `wire` available to requests until it is lost, and a younger one in its place before it is too old.
    async fn serve(
        &self,
        wire: &mut ProbedConnection,
        (epoch, mut clock): (&mut u64, Clock),
        complaints: &mut mpsc::UnboundedReceiver<(u64, String)>,
    ) -> ConnectionLoss {
        let mut is_successor = false;
        let loss = loop {
            // Messages that were published while nothing listened are lost.
            self.denial_cache.clear();
            let (connection, epoch_now) = (wire.connection.clone(), *epoch);
            let established = EstablishedConnection { connection, epoch: epoch_now, clock, is_successor };
            self.node.established.send_replace(Some(established));
            self.node.is_holding.store(false, Release);
            tokio::select! {
                loss = self.until_lost(epoch_now, wire, complaints) => break loss,
                // What is in flight over the old one keeps it open until it is answered.
                (younger, its_clock) = self.successor() => {
                    (*wire, clock, is_successor) = (younger, its_clock, true);
                    *epoch += 1;
                }
            }
        };
        self.node.established.send_replace(None);
        self.denial_cache.clear();
        loss
    }

    /// The connection that replaces one which is made now, once that is old. While none can be made, the old one serves.
    async fn successor(&self) -> (ProbedConnection, Clock) {
        let Some(age) = connection_age(&self.settings) else { return std::future::pending().await };
        tokio::time::sleep(age).await;
        loop {
            match self.made().await {
                Ok((younger, Ok(clock))) => return (younger, clock),
                Ok((_, Err(error))) => self.node.log_error(&error),
                // If it lasts until the old one has ended, the breaker's line says why.
                Err(_) => {}
            }
            tokio::time::sleep(BACKOFF_MAX).await;
        }
    }

    /// A new connection with its node's reply to the first probe, within the time that connecting may take.
    async fn made(&self) -> RedisResult<(ProbedConnection, RedisResult<Clock>)> {
        let patience = self.settings.connect_timeout;
        let made = tokio::time::timeout(patience, self.heard()).await;
        let silence = || failed(format!("no answer within {patience:?}{}", tls_errors::silence(&self.settings)));
        let made = made.unwrap_or_else(|_| Err(silence()));
        let count = if made.is_ok() { &self.stats.connects } else { &self.stats.connect_failures };
        count.add(1);
        made
    }

    /// Probes the node over the connection that is established, else over a new one. If the node replies that it can't
    /// be used, its connection is left in `standing`, to be probed again.
    async fn probe(&self, standing: &mut Option<ProbedConnection>) -> RedisResult<(ProbedConnection, Clock)> {
        let (mut wire, greeted) = match self.probe_again(standing.take()).await {
            Some(asked) => asked,
            None => self.made().await?,
        };
        match greeted {
            Ok(clock) => {
                wire.failed = 0;
                Ok((wire, clock))
            }
            Err(error) => {
                wire.failed += 1;
                *standing = Some(wire);
                Err(error)
            }
        }
    }

    /// The node's reply to a probe over the established connection, if it is worth probing there.
    async fn probe_again(&self, standing: Option<ProbedConnection>) -> Option<(ProbedConnection, RedisResult<Clock>)> {
        // Only the sentinels know whether another node is the master by now.
        let is_node = matches!(self.target, Target::Node(_));
        let mut wire = standing.filter(|wire| is_node && wire.failed < PROBES_MAX)?;
        let greeted = tokio::time::timeout(BESIDE_AFTER, self.greet(&mut wire)).await.ok()?;
        let is_broken = greeted.as_ref().is_err_and(|error| error.code().is_none());
        (!is_broken).then_some((wire, greeted))
    }

    /// An attempt to connect. If it takes long, that is logged before the attempt is given up.
    async fn heard(&self) -> RedisResult<(ProbedConnection, RedisResult<Clock>)> {
        let mut attempt = pin!(self.attempt());
        tokio::select! {
            made = &mut attempt => return made,
            () = tokio::time::sleep(SILENT_AFTER) => {}
        }
        if !self.settings.breakers.was_reached(&self.target) {
            let why = tls_errors::silence(&self.settings);
            self.settings.faults.log_silence(&self.target, SILENT_AFTER, why.trim_start_matches(": "));
        }
        attempt.await
    }

    /// The first connection that is established, or the first error.
    async fn attempt(&self) -> RedisResult<(ProbedConnection, RedisResult<Clock>)> {
        let beside = async {
            tokio::time::sleep(BESIDE_AFTER).await;
            loop {
                if let Ok(ended) = tokio::time::timeout(BESIDE_AFTER, self.connect()).await {
                    return ended;
                }
            }
        };
        tokio::select! {
            ended = self.connect() => ended,
            ended = beside => ended,
        }
    }

    /// A connection, and its node's reply to the first probe. An error if there is no connection.
    async fn connect(&self) -> RedisResult<(ProbedConnection, RedisResult<Clock>)> {
        let (pushed, pushes) = mpsc::unbounded_channel();
        let connection = dial::dial(&self.target, &self.settings, pushed).await?;
        let mut wire = ProbedConnection { connection, pushes, is_one: false, is_listening: false, failed: 0 };
        match self.greet(&mut wire).await {
            Err(error) if error.code().is_none() => Err(error),
            greeted => Ok((wire, greeted)),
        }
    }

    /// Probes the node: all that decisions need must work, a write included, so that neither a replica nor a Redis that
    /// is still loading its data passes.
    async fn greet(&self, wire: &mut ProbedConnection) -> RedisResult<Clock> {
        let is_cluster = matches!(self.settings.topology, Topology::Cluster { .. });
        let connection = &mut wire.connection;
        if is_cluster {
            // Which buckets are in use is the Cluster's matter. What fails for everybody fails here.
            record::read(connection, &self.settings).await?;
            self.check_scripts_of_node(connection).await?;
        } else {
            self.agree(connection).await?;
            if !wire.is_one {
                wire.is_one = self.check_route(connection).await?;
            }
        }
        let script = &self.scripts.of_slot;
        let asked = Instant::now();
        let route = (!is_cluster).then(|| self.settings.layout_key());
        let now = match script.clock(connection, route.as_deref()).await {
            // The user has rights on some keys only, and there is no proxy between: then the route needs no key.
            Err(error) if error.code() == Some("NOPERM") => script.clock(connection, None).await?,
            read => read?,
        };
        if !wire.is_listening && self.settings.denials_bytes_max > 0 {
            // A user without the right to subscribe can't cache denials, but can count.
            let heard = connection.listen(&self.settings.refunds_channel()).await;
            self.denial_cache.set_listening(heard.is_ok());
            if let Err(error) = heard {
                tracing::warn!(redis = %self.target, %error, "can't subscribe to refunds: the denial cache is off");
            }
            wire.is_listening = true;
        }
        Ok((now, asked))
    }

    /// Whether the connection is known to lead to a single Redis; an error if it leads to several.
    async fn check_route(&self, connection: &mut Connection) -> RedisResult<bool> {
        let is_one = routing::is_one(connection, &self.settings.key_prefix).await?;
        let is_several = is_one == Some(false);
        self.stats.is_several.store(is_several, Relaxed);
        if is_several {
            return Err(failed(SEVERAL.to_owned()));
        }
        Ok(is_one.is_some())
    }

    /// Compares how this replica makes its keys with what others do; where nobody can say, it is the default.
    async fn agree(&self, connection: &mut Connection) -> RedisResult<()> {
        if !record::agree(connection, &self.settings, &self.stats, Buckets::DEFAULT).await? {
            record::assume(&self.settings, Buckets::DEFAULT);
        }
        Ok(())
    }

    /// Gives a node of a Cluster the script over all its slots, unless that must not be used here.
    async fn check_scripts_of_node(&self, connection: &mut Connection) -> RedisResult<()> {
        if self.settings.cluster_batch == ClusterBatch::Slot || self.node.is_by_slot() {
            return Ok(());
        }
        if let Some(why) = server::replays_wrongly(connection).await? {
            self.node.batch_by_slot(&why);
            return Ok(());
        }
        match self.scripts.of_node.clock(connection, None).await {
            Err(error) if faults::forbids_undeclared(&error.to_string()) => self.node.batch_by_slot(&error.to_string()),
            // An error that every script gets is that of the other script too.
            answered => drop(answered?),
        }
        Ok(())
    }

    /// Handles messages until the connection `epoch` ends, as seen by itself or by its users.
    async fn until_lost(
        &self,
        epoch: u64,
        wire: &mut ProbedConnection,
        complaints: &mut mpsc::UnboundedReceiver<(u64, String)>,
    ) -> ConnectionLoss {
        let is_cluster = matches!(self.settings.topology, Topology::Cluster { .. });
        let renewal = self.settings.layout_renewal;
        let mut next_renewal = pin!(tokio::time::sleep(renewal));
        let ProbedConnection { connection, pushes, .. } = wire;
        loop {
            tokio::select! {
                () = &mut next_renewal, if !is_cluster => {
                    // If it fails, there is time for others.
                    let _ = tokio::time::timeout(RENEWAL_PATIENCE, self.agree(connection)).await;
                    next_renewal.as_mut().reset(Instant::now() + renewal);
                }
                push = pushes.recv() => match push {
                    Some(PushInfo { kind: PushKind::Message, data }) => {
                        // The message has the channel, then the counter's key.
                        if let Some(Value::BulkString(key)) = data.get(1) {
                            self.denial_cache.invalidate(key);
                        }
                    }
                    Some(push) if push.kind != PushKind::Disconnection => {}
                    _ => return ConnectionLoss { cause: "the connection was lost".to_owned(), is_closed: true },
                },
                Some((about, cause)) = complaints.recv() => if about == epoch { return ConnectionLoss { cause, is_closed: false } },
            }
        }
    }
}

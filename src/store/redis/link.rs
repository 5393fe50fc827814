//! One connection to one Redis node, kept up in the background. Callers see at once whether it stands and never wait
//! for it; what is sent over it is not known here.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::denials::Denials;
use super::dial::{self, Target};
use super::invalidation::ALL;
use super::refused;
use super::script::Script;
use super::settings::{RedisSettings, Topology};
use super::tally::{Mismatch, Tally};

/// The first attempt after a loss comes soon, for most losses are a restart of a moment.
const BACKOFF_MIN: Duration = Duration::from_millis(25);

/// Even with the handshake, a Redis that answers again is in use within a second.
const BACKOFF_MAX: Duration = Duration::from_millis(800);

/// An attempt without an answer for so long gets others beside it, each for as long: the kernel repeats a packet that was
/// lost after 1, 3 and 7 seconds, and decisions shall not wait for that. The first goes on, as long as `REDIS_TIMEOUT`
/// lets it, for a Redis that takes longer over a handshake would otherwise never be reached.
const BESIDE_AFTER: Duration = Duration::from_millis(400);

/// A connection that broke sooner does not begin the backoff anew: a node that takes connections but no writes would
/// be asked forty times a second.
const STEADY: Duration = Duration::from_secs(1);

/// How long it is remembered how the first replica makes its keys.
const META_SECONDS: u64 = 86_400;

/// A connection that stands, with what was learned when it was made.
#[derive(Clone)]
pub(super) struct Live {
    pub connection: MultiplexedConnection,
    /// Counts connections, so that a late complaint about an old one doesn't end its successor.
    pub epoch: u64,
    /// Redis' clock in microseconds, and an instant before it was read.
    pub clock: (u64, Instant),
}

/// Shared by everything that sends to one node.
pub(super) struct Link {
    live: watch::Sender<Option<Live>>,
    complaints: mpsc::UnboundedSender<u64>,
    target: Target,
    settings: Arc<RedisSettings>,
}

impl Link {
    /// The link, and the future that keeps it up until `stop`.
    pub(super) fn new(
        target: Target,
        settings: Arc<RedisSettings>,
        script: Arc<Script>,
        tally: Arc<Tally>,
        denials: Arc<Denials>,
        stop: CancellationToken,
    ) -> (Arc<Link>, impl Future<Output = ()> + Send + 'static) {
        let (complaints, heard) = mpsc::unbounded_channel();
        let live = watch::Sender::new(None);
        let link = Arc::new(Link { live, complaints, target: target.clone(), settings: settings.clone() });
        let keeper = Keeper { link: link.clone(), target, settings, script, tally, denials };
        let kept = link.clone();
        let keep = async move {
            stop.run_until_cancelled(keeper.keep(heard)).await;
            kept.live.send_replace(None);
        };
        (link, keep)
    }

    pub(super) fn is_up(&self) -> bool {
        self.live.borrow().is_some()
    }

    pub(super) fn live(&self) -> Option<Live> {
        self.live.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Live>> {
        self.live.subscribe()
    }

    /// Says that the connection `epoch` is of no use: it is dropped and another one made.
    pub(super) fn complain(&self, epoch: u64) {
        // The keeper ends only with the whole store: then nobody needs another connection.
        let _ = self.complaints.send(epoch);
    }

    /// The node answered `error`: the log says it once.
    pub(super) fn name(&self, error: &RedisError) {
        let is_cluster = matches!(self.settings.topology, Topology::Cluster { .. });
        self.settings.faults.name(&self.target, error, is_cluster);
    }

    /// The node had to be given the script again.
    pub(super) fn forgot_the_script(&self) {
        self.settings.faults.forgot_the_script(&self.target);
    }
}

struct Keeper {
    link: Arc<Link>,
    target: Target,
    settings: Arc<RedisSettings>,
    script: Arc<Script>,
    tally: Arc<Tally>,
    denials: Arc<Denials>,
}

impl Keeper {
    async fn keep(self, mut complaints: mpsc::UnboundedReceiver<u64>) {
        let mut backoff = BACKOFF_MIN;
        // Each change of state is logged once, however many attempts it takes.
        let mut said_down = false;
        for epoch in 0.. {
            let begun = Instant::now();
            match tokio::time::timeout(self.settings.connect_timeout, self.attempt(epoch)).await {
                Ok(Ok((live, pushes))) => {
                    tracing::info!(redis = %self.target, "connected to Redis");
                    said_down = false;
                    self.tally.connects.add(1);
                    // What was said while nobody listened is lost.
                    self.denials.forget_all();
                    self.link.live.send_replace(Some(live));
                    let why = self.until_lost(epoch, pushes, &mut complaints).await;
                    self.link.live.send_replace(None);
                    self.denials.forget_all();
                    tracing::warn!(redis = %self.target, why, "lost the connection to Redis");
                    if begun.elapsed() >= STEADY {
                        backoff = BACKOFF_MIN;
                    }
                }
                failed => {
                    self.tally.connect_failures.add(1);
                    if let Ok(Err(error)) = &failed
                        && error.code().is_some()
                    {
                        self.link.name(error);
                    }
                    if !said_down {
                        let why = match failed {
                            Ok(Err(error)) => refused::explained(&error),
                            _ => format!("no answer within {:?}", self.settings.connect_timeout),
                        };
                        tracing::warn!(redis = %self.target, why, "can't connect to Redis, trying on");
                        said_down = true;
                    }
                }
            }
            // Jitter, so that the cores and replicas that lost Redis together don't come back together.
            let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The first connection that stands, or the first error.
    async fn attempt(&self, epoch: u64) -> RedisResult<(Live, mpsc::UnboundedReceiver<PushInfo>)> {
        let beside = async {
            tokio::time::sleep(BESIDE_AFTER).await;
            loop {
                if let Ok(ended) = tokio::time::timeout(BESIDE_AFTER, self.connect(epoch)).await {
                    return ended;
                }
            }
        };
        tokio::select! {
            ended = self.connect(epoch) => ended,
            ended = beside => ended,
        }
    }

    async fn connect(&self, epoch: u64) -> RedisResult<(Live, mpsc::UnboundedReceiver<PushInfo>)> {
        let (pushed, pushes) = mpsc::unbounded_channel();
        let mut connection = dial::dial(&self.target, &self.settings, pushed).await?;
        self.script.load(&mut connection).await?;
        if self.settings.denials_bytes_max > 0 {
            // A user without the right to listen can't remember denials, but can count.
            let heard = connection.subscribe(self.settings.refunds_channel()).await;
            self.denials.listens(heard.is_ok());
            if let Err(error) = heard {
                tracing::warn!(redis = %self.target, %error, "can't hear of refunds, so denials are not remembered");
            }
        }
        self.compare(&mut connection).await;
        let asked = Instant::now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await?;
        Ok((Live { connection, epoch, clock: (seconds * 1_000_000 + micros, asked) }, pushes))
    }

    /// Replicas whose keys are made otherwise count apart from us: the first writes down how it makes them. In a Cluster
    /// only one node has the record and the others answer with errors, which don't matter.
    async fn compare(&self, connection: &mut MultiplexedConnection) {
        let key = format!("{}tg1:meta", self.settings.key_prefix);
        let ours = format!("buckets={} algorithm={}", self.settings.buckets, self.settings.default_algorithm.name());
        let mut pipe = redis::pipe();
        // Not for ever, so that a change on purpose is complained about for a day at most.
        pipe.cmd("SET").arg(&key).arg(&ours).arg("EX").arg(META_SECONDS).arg("NX").ignore();
        pipe.cmd("GET").arg(&key);
        let theirs: RedisResult<(Option<String>,)> = pipe.query_async(connection).await;
        let Ok((Some(theirs),)) = theirs else { return };
        let differs = theirs != ours;
        if differs {
            self.tally.mismatches.add(1);
            tracing::warn!(ours, theirs, "another replica makes its keys otherwise: they count apart from ours");
        }
        *self.tally.mismatch.lock() = differs.then_some(Mismatch { ours, theirs });
    }

    /// Listens until the end of the connection `epoch`, seen by itself or by those who use it.
    async fn until_lost(
        &self,
        epoch: u64,
        mut pushes: mpsc::UnboundedReceiver<PushInfo>,
        complaints: &mut mpsc::UnboundedReceiver<u64>,
    ) -> &'static str {
        loop {
            tokio::select! {
                push = pushes.recv() => match push {
                    Some(PushInfo { kind: PushKind::Message, data }) => {
                        // The channel, then the counter's key.
                        match data.get(1) {
                            Some(Value::BulkString(key)) if key == ALL => self.denials.forget_all(),
                            Some(Value::BulkString(key)) => self.denials.forget(key),
                            _ => {}
                        }
                    }
                    Some(push) if push.kind != PushKind::Disconnection => {}
                    _ => return "it was closed",
                },
                Some(about) = complaints.recv() => if about == epoch { return "it failed its users" },
            }
        }
    }
}

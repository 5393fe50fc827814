//! A connection to Redis for what isn't a decision: commands that are rare and may take their time. It is separate from
//! the lanes, so that no command delays a decision. It finds the node of a key and listens to one channel; it doesn't
//! know what the commands and messages mean.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use redis::{Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::{Range, first_map, read_map};
use super::connection::Connection;
use super::dial::{self, Target, connection_age};
use super::faults::{self, Extent, failed};
use super::layout::BUCKETS_UNKNOWN;
use super::node_connections::redirected;
use super::routing::{self, SEVERAL};
use super::settings::{Address, RedisSettings, Topology};
use crate::store::hash_slot;
use crate::store::readings::StoreError;
use crate::store::redis::tls_errors;

const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_millis(800);

/// Timeout of a command. No decision waits for it, only a person or a task, and a Redis that is busy with another
/// client's script may take that long. It is also how long a write may take until Redis refuses it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Number of nodes that one command is sent to while slots move: the old node, the new one, and once more.
const REDIRECTS_MAX: usize = 5;

/// Time to wait before a command for a moving slot is sent again.
const MOVING: Duration = Duration::from_millis(20);

/// What happens on the channel.
#[derive(Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The channel is subscribed from now on; earlier messages are lost.
    Subscribed,
    /// The channel isn't subscribed until the next [`ChannelEvent::Subscribed`].
    Unsubscribed,
    Message(Vec<u8>),
}

/// A handle on the connection, cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct CommandConnection(Arc<CommandInner>);

struct CommandInner {
    settings: Arc<RedisSettings>,
    /// Servers to connect to, one after the other; outside a Cluster there is one.
    targets: Vec<Target>,
    /// The connection that is subscribed to the channel; outside a Cluster commands use it too.
    current: watch::Sender<Option<NumberedConnection>>,
    /// Number of the latest connection that was found to be useless and is replaced. A report about an older one comes
    /// too late.
    useless: watch::Sender<u64>,
    nodes: Option<ClusterNodes>,
    /// Whether the log has said that the channel can't be subscribed.
    was_deaf: AtomicBool,
}

/// A connection, and what is pushed over it.
type SubscribedConnection = (Connection, mpsc::UnboundedReceiver<PushInfo>);

/// A connection with its number, from 1.
#[derive(Clone)]
struct NumberedConnection {
    connection: Connection,
    number: u64,
}

/// The nodes of a Cluster.
struct ClusterNodes {
    seeds: Vec<Address>,
    map: Mutex<Vec<Range>>,
    /// Each with when it is too old, if ever.
    connections: Mutex<HashMap<Address, (Connection, Option<Instant>)>>,
}

impl CommandConnection {
    /// Starts the task that keeps the connection and is subscribed to `channel`, on the current runtime. Doesn't wait
    /// for Redis: until it is reached, every result is [`StoreError::Unreachable`].
    pub fn start(
        settings: Arc<RedisSettings>,
        channel: Option<String>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> (CommandConnection, mpsc::UnboundedReceiver<ChannelEvent>) {
        let (said, heard) = mpsc::unbounded_channel();
        let targets = match &settings.topology {
            Topology::Single(address) => vec![Target::Node(address.clone())],
            Topology::Sentinel { master, sentinels } => {
                vec![Target::Master { name: master.clone(), sentinels: sentinels.clone() }]
            }
            // A Cluster passes messages on to all its nodes, so one subscription is enough.
            Topology::Cluster { seeds } => seeds.iter().cloned().map(Target::Node).collect(),
        };
        let nodes = match &settings.topology {
            Topology::Cluster { seeds } => Some(ClusterNodes::new(seeds.clone())),
            _ => None,
        };
        let established = watch::Sender::new(None);
        let side = CommandConnection(Arc::new(CommandInner {
            settings,
            targets,
            current: established,
            useless: watch::Sender::new(0),
            nodes,
            was_deaf: AtomicBool::new(false),
        }));
        let inner = Arc::clone(&side.0);
        tasks.spawn(async move {
            stop.run_until_cancelled(inner.keep(channel.as_deref(), &said)).await;
            inner.current.send_replace(None);
        });
        (side, heard)
    }

    /// Runs commands on the node of `key`, and returns the replies in order. All keys of the commands must be in the
    /// slot of `key`. Send a write alone, because the other commands of a pipeline are run even if one is refused.
    /// [`StoreError::Refused`] means that the command wasn't run; any other error leaves that open.
    pub async fn run(&self, key: &[u8], pipe: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let established = self.0.current.borrow().clone();
        let number = established.as_ref().map_or(0, |established| established.number);
        let asked = match &self.0.nodes {
            None => timeout(PATIENCE, self.0.run_on(established, pipe)).await,
            Some(nodes) => timeout(PATIENCE, nodes.run(key, pipe, &self.0)).await,
        };
        match asked {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(self.0.judge(&error, number)),
            Err(_) => {
                self.0.report_failure(number);
                if let Some(nodes) = &self.0.nodes {
                    nodes.connections.lock().clear();
                }
                Err(StoreError::Timeout(PATIENCE))
            }
        }
    }

    /// Listens to `channel` over a connection of its own, to the node of `key`; a `sharded` channel is passed on by that node
    /// alone. The connection ends with what is returned.
    pub async fn listen(&self, key: &[u8], channel: &str, sharded: bool) -> Result<Listening, StoreError> {
        let (inner, settings) = (&self.0, &self.0.settings);
        let listening = async {
            let target = match &inner.nodes {
                None => inner.targets[0].clone(),
                Some(nodes) => Target::Node(nodes.node(hash_slot::of(key), settings).await?),
            };
            let (pushed, mut pushes) = mpsc::unbounded_channel();
            let mut connection = dial::dial(&target, settings, pushed).await?;
            match sharded {
                true => connection.listen_to_shard(channel, &mut pushes).await?,
                false => connection.listen(channel).await?,
            }
            Ok(Listening { _connection: connection, pushes })
        };
        match timeout(PATIENCE, listening).await {
            Ok(Ok(listening)) => Ok(listening),
            Ok(Err(error)) => Err(inner.judge(&error, 0)),
            Err(_) => Err(StoreError::Timeout(PATIENCE)),
        }
    }

    pub fn is_cluster(&self) -> bool {
        self.0.nodes.is_some()
    }

    pub fn is_up(&self) -> bool {
        self.0.current.borrow().is_some()
    }

    pub fn settings(&self) -> &Arc<RedisSettings> {
        &self.0.settings
    }

    /// An error while it isn't known which buckets a Cluster uses: then no counter can be named.
    pub(super) fn knows_buckets(&self) -> Result<(), StoreError> {
        if self.0.nodes.is_some() && self.0.settings.known_buckets().is_none() {
            return Err(StoreError::Unreachable(BUCKETS_UNKNOWN.to_owned()));
        }
        Ok(())
    }
}

/// A channel that is listened to.
pub struct Listening {
    _connection: Connection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Listening {
    /// The next message; `None` once the connection is lost.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let PushInfo { kind, data } = self.pushes.recv().await?;
            match (kind, data.into_iter().nth(1)) {
                // The push has the channel, then the message.
                (PushKind::Message | PushKind::SMessage, Some(Value::BulkString(message))) => return Some(message),
                (PushKind::Disconnection | PushKind::SUnsubscribe, _) => return None,
                _ => {}
            }
        }
    }
}

/// Attempts in a row that failed. Each change of state is logged once, however many attempts it takes.
#[derive(Default)]
struct Failures {
    unexplained: u32,
    is_logged: bool,
}

impl Failures {
    /// An attempt failed with `error`, or took too long. Where decisions have lost the same Redis, their breaker's line says
    /// so, perhaps a moment later: only the second failure that it doesn't explain is logged.
    fn add(&mut self, side: &CommandInner, target: &Target, error: Option<&RedisError>) {
        let is_several = error.is_some_and(|error| error.to_string().contains(SEVERAL));
        if side.settings.breakers.is_open(target) && !is_several {
            self.unexplained = 0;
            return;
        }
        self.unexplained += 1;
        if self.unexplained < 2 || self.is_logged {
            return;
        }
        self.is_logged = true;
        let settings = &side.settings;
        let error = error.map(|error| tls_errors::explained(error, settings)).unwrap_or_else(|| {
            format!("no answer within {:?}{}", settings.connect_timeout, tls_errors::silence(settings))
        });
        tracing::warn!(redis = %target, %error, "can't reach Redis for overrides and resets, retrying");
    }
}

impl CommandInner {
    async fn run_on(&self, established: Option<NumberedConnection>, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        let Some(NumberedConnection { mut connection, .. }) = established else {
            return Err(failed("there is no connection to Redis".to_owned()));
        };
        let asked = answers(connection.send_packed_commands(pipe, 0, pipe.len()).await?);
        asked.inspect_err(|error| self.log_error(&self.targets[0], error))
    }

    /// Converts an error by what the caller can do about it, and replaces a connection that leads to the wrong node.
    fn judge(&self, error: &RedisError, number: u64) -> StoreError {
        if error.code().is_some() && !is_of_node(error) {
            return StoreError::Refused(error.to_string());
        }
        if error.code().is_some() {
            self.report_failure(number);
        }
        StoreError::Unreachable(error.to_string())
    }

    /// Reports that the connection `number` can't be used.
    fn report_failure(&self, number: u64) {
        self.useless.send_if_modified(|latest| {
            let is_news = number > *latest;
            *latest = number.max(*latest);
            is_news
        });
    }

    /// Logs an error of `redis`, once.
    fn log_error(&self, redis: &dyn Display, error: &RedisError) {
        if error.code().is_some() {
            self.settings.faults.log_error(redis, error, self.nodes.is_some(), &self.settings.names);
        }
    }

    async fn keep(&self, channel: Option<&str>, said: &mpsc::UnboundedSender<ChannelEvent>) {
        let mut backoff = BACKOFF_MIN;
        let mut failures = Failures::default();
        let mut number = 0;
        for target in self.targets.iter().cycle() {
            match timeout(self.settings.connect_timeout, self.connect(target, channel)).await {
                Ok(Ok(mut made)) => {
                    (failures, backoff) = (Failures::default(), BACKOFF_MIN);
                    loop {
                        number += 1;
                        let (connection, mut pushes) = made;
                        // Reported before any command can be run, so that no change falls between the two.
                        let _ = said.send(ChannelEvent::Subscribed);
                        self.current.send_replace(Some(NumberedConnection { connection, number }));
                        tokio::select! {
                            () = self.until_lost(number, &mut pushes, said) => break,
                            younger = self.successor(target, channel) => made = younger,
                        }
                    }
                    self.current.send_replace(None);
                    let _ = said.send(ChannelEvent::Unsubscribed);
                }
                Ok(Err(error)) if error.code().is_some() => self.log_error(target, &error),
                Ok(Err(error)) => failures.add(self, target, Some(&error)),
                Err(_) => failures.add(self, target, None),
            }
            let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The connection that replaces one which is made now, once that is old. While none can be made, the old one serves.
    async fn successor(&self, target: &Target, channel: Option<&str>) -> SubscribedConnection {
        let Some(age) = connection_age(&self.settings) else { return std::future::pending().await };
        tokio::time::sleep(age).await;
        loop {
            if let Ok(Ok(younger)) = timeout(self.settings.connect_timeout, self.connect(target, channel)).await {
                return younger;
            }
            tokio::time::sleep(BACKOFF_MAX).await;
        }
    }

    async fn connect(&self, target: &Target, channel: Option<&str>) -> RedisResult<SubscribedConnection> {
        let (pushed, pushes) = mpsc::unbounded_channel();
        let mut connection = dial::dial(target, &self.settings, pushed).await?;
        if self.nodes.is_none() {
            match routing::is_one(&mut connection, &self.settings.key_prefix).await {
                // The data here is under several keys, so that several servers would mix it up.
                Ok(Some(false)) => return Err(failed(SEVERAL.to_owned())),
                Err(error) if error.code().is_none() => return Err(error),
                // A node that refuses everybody refuses each command with its own error.
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(channel) = channel
            && let Err(error) = connection.listen(channel).await
        {
            // A proxy, or a user without the right to subscribe: changes are then found at the next look.
            if error.code().is_none() || is_of_node(&error) {
                return Err(error);
            }
            if !self.was_deaf.swap(true, Relaxed) {
                tracing::warn!(redis = %target, %error, "can't subscribe to changes of overrides, so they are read every second");
            }
        }
        Ok((connection, pushes))
    }

    async fn until_lost(
        &self,
        number: u64,
        pushes: &mut mpsc::UnboundedReceiver<PushInfo>,
        said: &mpsc::UnboundedSender<ChannelEvent>,
    ) {
        let mut useless = self.useless.subscribe();
        loop {
            tokio::select! {
                push = pushes.recv() => match push {
                    Some(PushInfo { kind: PushKind::Message, data }) => {
                        // The push has the channel, then the message.
                        if let Some(Value::BulkString(message)) = data.into_iter().nth(1) {
                            let _ = said.send(ChannelEvent::Message(message));
                        }
                    }
                    Some(push) if push.kind != PushKind::Disconnection => {}
                    _ => return,
                },
                _ = useless.wait_for(|latest| *latest >= number) => return,
            }
        }
    }
}

impl ClusterNodes {
    fn new(seeds: Vec<Address>) -> ClusterNodes {
        ClusterNodes { seeds, map: Mutex::default(), connections: Mutex::default() }
    }

    async fn run(&self, key: &[u8], pipe: &Pipeline, inner: &CommandInner) -> RedisResult<Vec<Value>> {
        let settings = &inner.settings;
        let slot = hash_slot::of(key);
        let mut asking = None;
        for _ in 0..REDIRECTS_MAX {
            let address = match &asking {
                Some(address) => Address::clone(address),
                None => self.node(slot, settings).await?,
            };
            let mut connection = self.connection(&address, settings).await?;
            let answered = match asking.take() {
                Some(_) => run_with_asking(&mut connection, pipe).await,
                None => connection.send_packed_commands(pipe, 0, pipe.len()).await,
            };
            match answered.and_then(answers).inspect_err(|error| inner.log_error(&address, error)) {
                Err(error) if error.code() == Some("MOVED") => self.map.lock().clear(),
                Err(error) if error.code() == Some("ASK") => asking = redirected(&error),
                Err(error) if error.code() == Some("TRYAGAIN") => tokio::time::sleep(MOVING).await,
                Err(error) if error.code().is_none() || is_of_node(&error) => {
                    // Whether the node or only the connection is gone, the slot map may be newer by now.
                    self.connections.lock().remove(&address);
                    self.map.lock().clear();
                    return Err(error);
                }
                answered => return answered,
            }
        }
        Err(failed("the slot is on the move".to_owned()))
    }

    async fn node(&self, slot: u16, settings: &RedisSettings) -> RedisResult<Address> {
        let find = |map: &[Range]| {
            let range = map.iter().find(|range| (range.first..=range.last).contains(&slot));
            range.map(|range| range.primary.clone())
        };
        if let Some(address) = find(&self.map.lock()) {
            return Ok(address);
        }
        let connected: Vec<Address> = self.connections.lock().keys().cloned().collect();
        let ranges = first_map(connected.iter().chain(&self.seeds).map(|address| async move {
            let read = async { read_map(self.connection(address, settings).await?, address).await };
            let silent = |_| Err(failed(format!("{address} gave no answer")));
            let answered = timeout(PATIENCE / 4, read).await.unwrap_or_else(silent);
            answered.inspect_err(|_| drop(self.connections.lock().remove(address)))
        }))
        .await?;
        let found = find(&ranges);
        *self.map.lock() = ranges;
        found.ok_or_else(|| failed(format!("no node has slot {slot}")))
    }

    async fn connection(&self, address: &Address, settings: &RedisSettings) -> RedisResult<Connection> {
        if let Some((connection, until)) = self.connections.lock().get(address)
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(connection.clone());
        }
        let until = connection_age(settings).map(|age| Instant::now() + age);
        let connection = dial::plain(address, settings).await?;
        self.connections.lock().insert(address.clone(), (connection.clone(), until));
        Ok(connection)
    }
}

/// Whether the node replies with this error to everybody: then another node may be the right one.
fn is_of_node(error: &RedisError) -> bool {
    faults::class_of(error).extent == Extent::Node
}

/// Runs commands on a node that is taking the slot over: without ASKING before each command it would redirect to the
/// old one.
async fn run_with_asking(connection: &mut Connection, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut asking = redis::pipe();
    for cmd in pipe.cmd_iter() {
        asking.cmd("ASKING").add_command(cmd.clone());
    }
    let answers = connection.send_packed_commands(&asking, 0, asking.len()).await?;
    Ok(answers.into_iter().skip(1).step_by(2).collect())
}

/// The replies of a pipeline; if one is an error, the first of these.
fn answers(values: Vec<Value>) -> RedisResult<Vec<Value>> {
    values.into_iter().map(Value::extract_error).collect()
}

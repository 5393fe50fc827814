//! Which node of a Cluster has which bucket: reads the slot map, keeps a connection to each primary, and says where the
//! batch of a counter goes. It knows nothing of requests but that they are sent.

mod lanes;
mod slot_map;
pub(super) mod slots;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::lanes::ClusterLanes;
pub(super) use self::slot_map::SlotMap;
pub(super) use self::slots::{Range, first_map, read_map};
use super::connection::Connection;
use super::denial_cache::DenialCache;
use super::dial;
use super::faults::{self, failed};
use super::guide::SlotNews;
use super::lane::{Answer, Lane, RequestFailure};
use super::layout::record::{self, Record};
use super::node_connection::{EstablishedConnection, NodeConnection, SILENT_AFTER};
use super::node_connections::NodeConnections;
use super::place::Place;
use super::request::Request;
use super::script::Scripts;
use super::settings::{Address, ClusterBatch, RedisSettings};
use super::stats::RedisStats;
use crate::store::hash_slot::{self, SLOTS};
use crate::store::key::{self, Buckets};
use crate::store::readings::StoreError;

/// Time between readings of the slot map. It changes seldom, and a node that lost a slot says so; this only finds moves
/// of buckets without requests.
const REFRESH: Duration = Duration::from_secs(10);

/// The same while a node can't be reached: another node may take over, and the slot map says when.
const REFRESH_LOST: Duration = Duration::from_millis(100);

/// Shortest time between readings: a slot that moves makes several lanes report it at once, and one reading serves them
/// all. While readings bring nothing new the time grows, up to [`REFRESH_LOST`]: a slot may be on the move for long.
const REFRESH_MIN: Duration = Duration::from_millis(20);

/// The lanes of a Cluster, and the map by which they are chosen.
pub(super) struct Cluster {
    settings: Arc<RedisSettings>,
    nodes: Arc<NodeConnections>,
    lanes: Arc<ClusterLanes>,
    map: Arc<ArcSwap<SlotMap>>,
    is_mapped: watch::Receiver<bool>,
    first_map: FirstMap,
}

/// What requests wait for that come before the map has been read.
struct FirstMap {
    /// Whether the first readings are under way.
    is_awaited: watch::Receiver<bool>,
    until: Instant,
    waiting: Semaphore,
}

impl Cluster {
    /// Starts the task that reads the map. Lanes and connections are made when they are needed.
    pub(super) fn start(
        seeds: &[Address],
        settings: Arc<RedisSettings>,
        scripts: Scripts,
        stats: Arc<RedisStats>,
        denials: Arc<DenialCache>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Cluster {
        let nodes = {
            let (settings, scripts, stats, denials) =
                (settings.clone(), scripts.clone(), stats.clone(), denials.clone());
            Arc::new(NodeConnections::new(settings, scripts, stats, denials, tasks.clone(), stop.clone()))
        };
        let (news, told) = mpsc::unbounded_channel();
        let lanes = Arc::new(ClusterLanes {
            settings: settings.clone(),
            scripts,
            stats: stats.clone(),
            denial_cache: denials,
            tasks: tasks.clone(),
            runtime: Handle::current(),
            stop: stop.clone(),
            news,
            nodes: nodes.clone(),
            turns: Default::default(),
            by_bucket: Default::default(),
        });
        let map = Arc::new(ArcSwap::from_pointee(SlotMap::empty()));
        let (says_mapped, is_mapped) = watch::channel(false);
        let (awaits_map, is_awaited) = watch::channel(true);
        let until = Instant::now() + settings.connect_timeout.min(SILENT_AFTER);
        let first_map = FirstMap { is_awaited, until, waiting: Semaphore::new(settings.queue_max) };
        let in_use =
            MapInUse { nodes: nodes.clone(), lanes: lanes.clone(), map: map.clone(), followed: Mutex::default() };
        let keeper = SlotMapKeeper {
            seeds: seeds.to_vec(),
            in_use: Arc::new(in_use),
            stats,
            is_mapped: says_mapped,
            awaits_map,
            is_used: Vec::new(),
            agreed: None,
        };
        tasks.spawn(async move {
            stop.run_until_cancelled(keeper.run(told)).await;
        });
        Cluster { settings, nodes, lanes, map, is_mapped, first_map }
    }

    pub(super) fn map(&self) -> Arc<SlotMap> {
        self.map.load_full()
    }

    /// Waits for the first map and the buckets, which a process that has just started doesn't know: until they are there,
    /// can't be read, or `deadline`. An error if too many wait.
    pub(super) async fn started(&self, deadline: Instant) -> Result<(), StoreError> {
        let FirstMap { is_awaited, until, waiting } = &self.first_map;
        if *is_awaited.borrow() {
            let Ok(_place) = waiting.try_acquire() else { return Err(StoreError::Overloaded) };
            // Whoever waits finds by itself what is known by then.
            let _ = timeout_at(deadline.min(*until), is_awaited.clone().wait_for(|is_awaited| !is_awaited)).await;
        }
        Ok(())
    }

    /// Where a bucket's counters are decided: by its node, unless that forbids scripts over several slots.
    pub(super) fn place(&self, map: &SlotMap, bucket: u32) -> Place {
        match map.node_of(self.slot(bucket)) {
            Some((number, node))
                if self.settings.cluster_batch == ClusterBatch::Node && !node.connection.is_by_slot() =>
            {
                Place::Node(number)
            }
            _ => Place::Bucket(bucket),
        }
    }

    /// The lane that sends what is decided at a place of this map.
    pub(super) fn lane(&self, map: &SlotMap, place: Place) -> Arc<Lane> {
        match place {
            Place::Node(number) => self.lanes.of_node(&map.nodes()[usize::from(number)]),
            // By the newest map: what is sent by its slot may just have been sent away by a node of an older one.
            Place::Bucket(bucket) | Place::Check(bucket, _) => self.lanes.of_bucket(bucket, || self.connection(bucket)),
        }
    }

    /// Sends a request for one counter to where its bucket is, by its slot if its node sends it elsewhere.
    pub(super) async fn submit(&self, bucket: u32, request: Request, until: Instant) -> Answer {
        let map = self.map();
        let place = self.place(&map, bucket);
        let again = matches!(place, Place::Node(_)).then(|| request.clone());
        match (self.lane(&map, place).submit(request, until).await, again) {
            (Err(RequestFailure::Elsewhere), Some(request)) => {
                self.lane(&map, Place::Bucket(bucket)).submit(request, until).await
            }
            (answer, _) => answer,
        }
    }

    /// The connection to the node of a bucket.
    pub(super) fn connection(&self, bucket: u32) -> Option<Arc<NodeConnection>> {
        self.map.load().node_of(self.slot(bucket)).map(|(_, node)| node.connection.clone())
    }

    fn slot(&self, bucket: u32) -> u16 {
        key::slot_of_bucket(&self.settings.key_prefix, bucket)
    }

    /// The established connections, by node.
    pub(super) fn established(&self) -> Vec<(Address, EstablishedConnection)> {
        self.nodes.established()
    }

    /// Whether every bucket has a node that is connected.
    pub(super) fn is_up(&self) -> bool {
        *self.is_mapped.borrow() && self.map.load().is_up()
    }

    /// Resolves once every bucket has had a node, and each node a connection.
    pub(super) async fn up(&self) {
        // The senders end only with the store, and then there is nothing to wait for.
        let _ = self.is_mapped.clone().wait_for(|is_mapped| *is_mapped).await;
        for node in self.map().nodes() {
            let _ = node.connection.watch().wait_for(Option::is_some).await;
        }
    }
}

/// The map that is in use, with what must follow it.
struct MapInUse {
    nodes: Arc<NodeConnections>,
    lanes: Arc<ClusterLanes>,
    map: Arc<ArcSwap<SlotMap>>,
    /// Slots that were followed since the last reading of the map began: it may not know of them.
    followed: Mutex<Vec<(u16, Address)>>,
}

/// Keeps the map true, and the lanes of buckets pointed at the right nodes.
struct SlotMapKeeper {
    seeds: Vec<Address>,
    in_use: Arc<MapInUse>,
    stats: Arc<RedisStats>,
    is_mapped: watch::Sender<bool>,
    awaits_map: watch::Sender<bool>,
    /// For each slot whether a bucket lies in it; empty until the buckets are known.
    is_used: Vec<bool>,
    /// When the record of the buckets was last compared and renewed.
    agreed: Option<Instant>,
}

impl MapInUse {
    /// Follows buckets that have moved while something else goes on, since their requests wait. Returns the result of the
    /// other, and whether there was news that asks for another reading of the map.
    async fn follow_during<T>(
        &self,
        news: &mut mpsc::UnboundedReceiver<SlotNews>,
        other: impl Future<Output = T>,
    ) -> (T, bool) {
        let mut other = pin!(other);
        let mut has_news = false;
        loop {
            tokio::select! {
                ended = &mut other => return (ended, has_news),
                Some(first) = news.recv() => {
                    has_news = true;
                    self.follow(first, news);
                }
            }
        }
    }

    /// Waits for news, and follows it. Returns whether there was any.
    async fn heard_within(&self, news: &mut mpsc::UnboundedReceiver<SlotNews>, wait: Duration) -> bool {
        let Ok(Some(first)) = timeout(wait, news.recv()).await else { return false };
        self.follow(first, news);
        true
    }

    /// Follows buckets that have moved: at once if the node said where to, because the slot map will say the same.
    fn follow(&self, first: SlotNews, news: &mut mpsc::UnboundedReceiver<SlotNews>) {
        let mut moved: Option<SlotMap> = None;
        for news in std::iter::once(first).chain(std::iter::from_fn(|| news.try_recv().ok())) {
            let SlotNews::Moved { bucket, to: Some(to) } = news else { continue };
            let slot = key::slot_of_bucket(&self.nodes.settings().key_prefix, bucket);
            let map = moved.get_or_insert_with(|| SlotMap::clone(&self.map.load()));
            map.move_slot(slot, &to, |address| self.nodes.to(address));
            self.followed.lock().push((slot, to));
        }
        // Also if the map says so already: a lane sends nothing until it is pointed at its node.
        if let Some(map) = moved {
            self.use_map(map);
        }
    }

    /// Uses a map from now on. Nodes that have no buckets any more are left.
    fn use_map(&self, map: SlotMap) {
        let map = Arc::new(map);
        let old = self.map.swap(map.clone());
        let prefix = &self.nodes.settings().key_prefix;
        self.lanes.reroute(|bucket| {
            let (_, node) = map.node_of(key::slot_of_bucket(prefix, bucket))?;
            Some(node.connection.clone())
        });
        for node in old.nodes() {
            if !map.nodes().iter().any(|kept| Arc::ptr_eq(kept, node)) {
                node.retire();
            }
        }
        let used: Vec<Address> = map.nodes().iter().map(|node| node.address.clone()).collect();
        self.nodes.keep_only(&used);
    }
}

impl SlotMapKeeper {
    async fn run(mut self, mut news: mpsc::UnboundedReceiver<SlotNews>) {
        let in_use = self.in_use.clone();
        let mut said = false;
        let mut pause = REFRESH_MIN;
        loop {
            let (refreshed, has_news) = in_use.follow_during(&mut news, self.refresh()).await;
            if !refreshed.as_ref().is_err_and(faults::may_pass) {
                self.awaits_map.send_replace(false);
            }
            match refreshed {
                Ok(true) => (said, pause) = (false, REFRESH_MIN),
                Ok(false) => (said, pause) = (false, (2 * pause).min(REFRESH_LOST)),
                Err(error) if !said => {
                    tracing::warn!(%error, "can't read the Cluster's map of slots, retrying");
                    said = true;
                }
                Err(_) => {}
            }
            let refreshed = Instant::now();
            let is_whole = *self.is_mapped.borrow() && in_use.map.load().is_up();
            let wait = if is_whole { REFRESH.min(in_use.nodes.settings().layout_renewal) } else { REFRESH_LOST };
            if has_news || in_use.heard_within(&mut news, wait).await {
                in_use.follow_during(&mut news, tokio::time::sleep_until(refreshed + pause)).await;
            } else if is_whole {
                in_use.lanes.retire_idle();
            }
        }
    }

    /// Reads the map again. Returns whether it has changed.
    async fn refresh(&mut self) -> RedisResult<bool> {
        self.in_use.followed.lock().clear();
        let ranges = self.read().await?;
        if self.is_used.is_empty() {
            let settings = self.in_use.nodes.settings().clone();
            if settings.known_buckets().is_none() {
                self.agree(&ranges, settings.connect_timeout).await?;
            }
            self.is_used = used_slots(&settings, settings.buckets_or_default());
        }
        let connect = |address: &Address| self.in_use.nodes.to(address);
        let mut map = self.in_use.map.load().with_ranges(&ranges, &self.is_used, connect);
        for (slot, to) in &*self.in_use.followed.lock() {
            map.move_slot(*slot, to, connect);
        }
        let is_whole = map.is_whole(&self.is_used);
        let has_changed = !map.is_like(&self.in_use.map.load());
        if has_changed {
            // The new node of the record may have lost it.
            self.agreed = None;
        }
        self.in_use.use_map(map);
        self.is_mapped.send_replace(is_whole);
        // If the record's node is silent, the next map matters more.
        let _ = self.agree(&ranges, REFRESH_LOST).await;
        Ok(has_changed)
    }

    /// The slot map from any node that replies: the connected nodes first, then the seeds.
    async fn read(&self) -> RedisResult<Vec<Range>> {
        let settings = self.in_use.nodes.settings();
        let connected = self
            .in_use
            .nodes
            .established()
            .into_iter()
            .map(|(address, established)| (address, Some(established.connection)));
        let seeds = self.seeds.iter().map(|seed| (seed.clone(), None));
        first_map(connected.chain(seeds).map(|(address, connection)| async move {
            let patience = settings.connect_timeout;
            let read = async {
                let connection = match connection {
                    Some(connection) => connection,
                    None => dial::plain(&address, settings).await?,
                };
                read_map(connection, &address).await
            };
            let silent = |_| Err(failed(format!("{address} gave no answer within {patience:?}")));
            tokio::time::timeout(patience, read).await.unwrap_or_else(silent)
        }))
        .await
    }

    /// Finds out which buckets are in use, and compares and renews the record of it now and then.
    async fn agree(&mut self, ranges: &[Range], patience: Duration) -> RedisResult<()> {
        let settings = self.in_use.nodes.settings().clone();
        if self.agreed.is_some_and(|at| at.elapsed() < settings.layout_renewal) {
            return Ok(());
        }
        let agreed = tokio::time::timeout(patience, self.agree_with(ranges, &settings)).await;
        agreed
            .unwrap_or_else(|_| Err(failed(format!("{} gave no answer within {patience:?}", settings.layout_key()))))?;
        self.agreed = Some(Instant::now());
        Ok(())
    }

    async fn agree_with(&self, ranges: &[Range], settings: &RedisSettings) -> RedisResult<()> {
        let mut connection = self.to_node_of(ranges, &settings.layout_key()).await?;
        let otherwise = match settings.known_buckets() {
            Some(buckets) => buckets,
            None => match record::read(&mut connection, settings).await? {
                // Only if the record expires in this instant.
                Record::Found(_) => Buckets::DEFAULT,
                // Who may not read the record is nobody's first replica.
                Record::Unreadable => {
                    record::assume(settings, Buckets::DEFAULT);
                    return Ok(());
                }
                Record::Absent => self.first_buckets(ranges, settings).await?,
            },
        };
        record::agree(&mut connection, settings, &self.stats, otherwise).await.map(drop)
    }

    /// The buckets of a Cluster without a record. Replicas of older releases don't renew theirs, so that it may be gone
    /// while they live.
    async fn first_buckets(&self, ranges: &[Range], settings: &RedisSettings) -> RedisResult<Buckets> {
        let key = settings.replicas_key();
        let mut connection = self.to_node_of(ranges, &key).await?;
        let living: RedisResult<u64> = redis::cmd("ZCARD").arg(&key).query_async(&mut *connection).await;
        match living {
            Ok(0) if settings.cluster_batch == ClusterBatch::Node => Ok(Buckets::EachSlot),
            Err(error) if error.code().is_none() => Err(error),
            _ => Ok(Buckets::DEFAULT),
        }
    }

    async fn to_node_of(&self, ranges: &[Range], key: &str) -> RedisResult<Connection> {
        let slot = hash_slot::of(key.as_bytes());
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        let range: &Range = range.ok_or_else(|| -> RedisError { failed(format!("no node has slot {slot}")) })?;
        dial::plain(&range.primary, self.in_use.nodes.settings()).await
    }
}

fn used_slots(settings: &RedisSettings, buckets: Buckets) -> Vec<bool> {
    let mut is_used = vec![false; usize::from(SLOTS)];
    for bucket in buckets.all() {
        is_used[usize::from(key::slot_of_bucket(&settings.key_prefix, bucket))] = true;
    }
    is_used
}

//! This replica's beats on the fleet's blackboard: where the numbers of its record come from, and when they are written.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tracing::warn;

use super::tasks::Tasks;
use crate::{
    blocking::blocking,
    clock,
    limit::UnixMicros,
    limiter::{Snapshot, top::TopLists},
    metrics::{Metrics, RequestTotals},
    run_time::{
        RunTime,
        fleet::{Heard, LISTS_MAX, RatesSeen, ReplicaRecord, RulesSeen, StoreSeen},
    },
    store::{Store, StoreError},
};

/// What this replica is called, and where it can be reached.
pub(super) struct Identity {
    name: Box<str>,
    addresses: Vec<Box<str>>,
}

impl Identity {
    /// `named` by a setting, else after the pod, else after the host and the port of the first address.
    pub(super) fn new(named: Option<&str>, listening: &[SocketAddr]) -> Identity {
        let host = host_name();
        let name = match (named, std::env::var_os("KUBERNETES_SERVICE_HOST"), listening.first()) {
            (Some(named), ..) => named.to_owned(),
            (None, None, Some(first)) => format!("{host}:{}", first.port()),
            _ => host.clone(),
        };
        let shown = |address: &SocketAddr| match address.ip().is_unspecified() {
            true => format!("{host}:{}", address.port()).into(),
            false => address.to_string().into(),
        };
        Identity { name: name.into(), addresses: listening.iter().map(shown).collect() }
    }
}

impl Identity {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn host_name() -> String {
    let of_pod =
        ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let of_host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    of_pod.or_else(|| of_host().ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// Where the numbers of a record come from.
pub(super) struct Heart {
    pub identity: Identity,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    pub run_time: RunTime,
    pub store: Store,
    /// `None` if nothing is counted for them.
    pub top: Option<Arc<TopLists>>,
}

/// Shortest time over which rates are counted: a switch makes a beat right after another, and in a millisecond nobody asks.
const RATES_OVER: Duration = Duration::from_secs(1);

/// Bytes of one replica's lists, however few there are.
const LISTS_OF_ONE_MAX: usize = 128 << 10;

/// Beats until the process stops, and then takes the record off the blackboard.
pub(super) fn start(heart: Heart, tasks: &Tasks) {
    let stopping = tasks.stopping().clone();
    tasks.spawn_to_finish("the fleet's blackboard", async move {
        let fleet = Arc::clone(&heart.run_time.fleet);
        stopping.run_until_cancelled(heart.beat()).await;
        fleet.leave().await;
    });
}

impl Heart {
    async fn beat(self) {
        let fleet = Arc::clone(&self.run_time.fleet);
        let started = clock::now();
        let mut switched = self.run_time.overrides.switched();
        let mut rates =
            Rates { before: self.metrics.totals_of_requests(), counted: clock::instant(), seen: RatesSeen::default() };
        let mut is_said = false;
        loop {
            let rates = rates.at(self.metrics.totals_of_requests(), clock::instant());
            let asked = fleet.heard();
            let lists = if asked.lists_are_wanted { self.lists(&asked).await } else { None };
            let has_lists = lists.is_some();
            match fleet.beat(self.record(fleet.id(), started, rates), lists).await {
                Ok(heard) => {
                    is_said = false;
                    // Whoever asked for them is waiting.
                    let is_of_all = has_lists && heard.limits.iter().all(|limit| asked.limits.contains(limit));
                    if heard.lists_are_wanted && !is_of_all && self.top.is_some() {
                        fleet.beat_soon();
                    }
                }
                // That Redis can't be reached is said by the store.
                Err(StoreError::Refused(error)) if !is_said => {
                    warn!(error, "can't tell the fleet of this replica: `tollgate status` of others doesn't show it");
                    is_said = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = fleet.until_next_beat() => {}
                // Others wait to see that a switch is in force here.
                _ = switched.changed() => {}
                () = self.run_time.overrides.called() => {}
            }
        }
    }

    /// This replica's lists, in its share of what all may take.
    async fn lists(&self, asked: &Heard) -> Option<Vec<u8>> {
        let top = Arc::clone(self.top.as_ref()?);
        let bytes_max = LISTS_OF_ONE_MAX.min(LISTS_MAX / asked.replicas.max(1) as usize);
        let limits = asked.limits.clone();
        Some(blocking(move || top.encode(clock::now(), bytes_max, &limits)).await)
    }

    fn record(&self, id: &str, started: UnixMicros, rates: RatesSeen) -> ReplicaRecord {
        let snapshot = self.snapshot.load();
        let overrides = &self.run_time.overrides;
        let places = snapshot.problems.errors().map(|problem| {
            let file = problem.path.display();
            match problem.line {
                0 => file.to_string().into(),
                line => format!("{file}:{line}").into(),
            }
        });
        let switched = overrides.switched().borrow().iter().map(|(domain, upto)| ((**domain).into(), *upto)).collect();
        ReplicaRecord {
            id: id.into(),
            name: self.identity.name.clone(),
            addresses: self.identity.addresses.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: started.0,
            at: overrides.wall(clock::now()).0,
            rules: RulesSeen {
                hash: snapshot.rules.hash().into(),
                version: snapshot.version,
                loaded: snapshot.loaded_at.0,
                problems: snapshot.problems.errors().count() as u32,
                places: places.take(3).collect(),
            },
            store: StoreSeen {
                kind: self.store.name().into(),
                answers: self.metrics.stores_answer(),
                breakers_open: self.metrics.breakers_open(),
            },
            rates,
            overrides_generation: overrides.newest_generation(),
            switched: Some(switched),
            knows_shares: true,
            switched_here: overrides.count_switched_here(),
        }
    }
}

/// The rates of this replica's requests. They stay as they are until [`RATES_OVER`] has passed.
struct Rates {
    before: RequestTotals,
    counted: Instant,
    seen: RatesSeen,
}

impl Rates {
    fn at(&mut self, totals: RequestTotals, now: Instant) -> RatesSeen {
        let passed = now.duration_since(self.counted);
        if passed >= RATES_OVER {
            // Two digits are enough, and keep the record short.
            let rate = |before: u64, now: u64| ((now - before) as f64 / passed.as_secs_f64() * 100.0).round() / 100.0;
            self.seen = RatesSeen {
                requests: rate(self.before.answered, totals.answered),
                refused: rate(self.before.refused, totals.refused),
                degraded: rate(self.before.degraded, totals.degraded),
            };
            (self.before, self.counted) = (totals, now);
        }
        self.seen
    }
}

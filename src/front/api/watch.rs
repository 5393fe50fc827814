//! Watches of decisions: who may see what, and the events that a watcher is sent, of this replica and of all others. It
//! knows nothing of gRPC or HTTP.

#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Api, ApiError, WatchDecisionsRequest, WatchDecisionsResponse, WatchStarted, bounds, top::require_limit};
use crate::{
    clock,
    limit::{Micros, SECOND, UnixMicros, moment, written},
    limiter::{
        Snapshot,
        decision_feed::{DecisionFeed, DecisionWatch},
    },
    privacy::Privacy,
    rules,
    run_time::fleet::{
        self, Board, Fleet, LINES_PER_SECOND, Listening, PUBLISH_EVERY, PostError, PostedWatch, Published, WATCH_LIFE,
        WATCHES_MAX, WatchFilter, WatchedKind,
    },
    store::StoreError,
};

/// How long a watch lasts that doesn't say it.
const LASTS: Micros = Micros(300 * SECOND.0);

/// The longest: a watch that somebody forgot costs something on every replica.
const LASTS_MAX: Micros = Micros(3_600 * SECOND.0);

/// Events that wait for a watcher that reads slowly; what comes then is left out.
const WAITING_MAX: usize = 1_024;

/// How often a watch is renewed on the blackboard.
const RENEW_EVERY: Duration = Duration::from_secs(WATCH_LIFE.as_secs() / 3);

/// What a watcher is sent.
#[derive(Debug, PartialEq)]
pub enum WatchEvent {
    Started(WatchStarted),
    /// A line of JSON.
    Decision(Arc<str>),
    LeftOut(u64),
    /// Why.
    Ended(&'static str),
}

impl From<WatchEvent> for WatchDecisionsResponse {
    fn from(event: WatchEvent) -> WatchDecisionsResponse {
        let nothing = WatchDecisionsResponse::default();
        match event {
            WatchEvent::Started(started) => WatchDecisionsResponse { started: Some(started), ..nothing },
            WatchEvent::Decision(line) => WatchDecisionsResponse { decision: line.to_string(), ..nothing },
            WatchEvent::LeftOut(left_out) => WatchDecisionsResponse { left_out, ..nothing },
            WatchEvent::Ended(why) => WatchDecisionsResponse { ended: why.to_owned(), ..nothing },
        }
    }
}

/// The events of a watch, which ends when this is dropped.
#[derive(Debug)]
pub struct Watching(mpsc::Receiver<WatchEvent>);

impl Stream for Watching {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.0.poll_recv(cx)
    }
}

/// Begins a watch of these `domains` (`None` is all).
pub(super) async fn begin(
    api: &Api,
    snapshot: &Snapshot,
    request: &WatchDecisionsRequest,
    domains: Option<Vec<&str>>,
) -> Result<Watching, ApiError> {
    let (filter, lasts) = read(request, domains.as_deref(), &api.insight.privacy)?;
    if !request.limit.is_empty() {
        require_limit(&request.limit, snapshot, domains.as_deref())?;
    }
    let feed = Arc::clone(&api.insight.feed);
    let fleet = api.limiter.run_time().map(|run_time| Arc::clone(&run_time.fleet));
    let id: Box<str> = format!("{:016x}", rand::random::<u64>()).into();
    let watch = Arc::new(DecisionWatch::new(&id, filter.clone()));
    // For what happens before the first look.
    watch.take(fleet::lines_per_look(fleet.as_ref().map_or(1, |fleet| fleet.heard().replicas)));
    let begun = feed.begin_one_of(Arc::clone(&watch), WATCHES_MAX);
    let guard = EndOfWatch { feed: begun.then_some(feed), id: id.clone() };
    if !begun {
        return Err(too_many());
    }
    let (posted, replicas, partial) = match fleet.as_ref().and_then(|fleet| Some((fleet, fleet.board()?))) {
        None => (None, 1, String::new()),
        Some((fleet, board)) => match post(fleet, board, id, filter).await {
            Ok((posted, replicas)) => (Some(posted), replicas, String::new()),
            Err(PostError::TooMany) => return Err(too_many()),
            Err(PostError::Store(error)) => (None, 1, fleet::why_partial(&error)),
        },
    };
    let ends = UnixMicros(api.limiter.wall(clock::now()).0 + lasts.0);
    let started = WatchStarted { fleet: api.insight.fleet.to_string(), replicas, ends: moment::write(ends), partial };
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    sender.try_send(WatchEvent::Started(started)).expect("there is room for the first");
    let fleet = fleet.filter(|_| posted.is_some());
    let watching = WatchTask { watch, guard, fleet, posted, sender, left_out: 0, sent: Sent::default() };
    tokio::spawn(watching.run(Instant::now() + lasts.as_duration(), api.ending.clone()));
    Ok(Watching(receiver))
}

fn too_many() -> ApiError {
    ApiError::TooMany(format!("{WATCHES_MAX} watches are under way already: end one, or wait until one is over"))
}

/// Makes a watch known to the other replicas; the number of all comes with it. What keeps it from them is found out here, and
/// not by silence.
async fn post(fleet: &Fleet, board: &Board, id: Box<str>, filter: WatchFilter) -> Result<(Posted, u32), PostError> {
    let mut watch = PostedWatch { id, by: fleet.id().into(), filter, sharded: board.is_sharded() };
    let listening = match board.listen(&watch).await {
        // An older Cluster, or a user that may not: then all nodes pass the lines on.
        Err(StoreError::Refused(_)) if watch.sharded => {
            watch.sharded = false;
            board.listen(&watch).await?
        }
        listening => listening?,
    };
    let replicas = board.post(&watch).await?;
    let tried = async {
        board.publish(&watch, &Published::default().encode()).await?;
        board.call_fleet().await
    };
    if let Err(error) = tried.await {
        board.withdraw(&watch.id).await;
        return Err(error.into());
    }
    Ok((Posted { watch, listening: Some(listening) }, replicas))
}

/// A watch that the other replicas know.
struct Posted {
    watch: PostedWatch,
    /// `None` while the connection is lost.
    listening: Option<Listening>,
}

impl Posted {
    /// What others sent; the connection is made again at the next renewal.
    async fn heard(&mut self) -> Published {
        loop {
            let Some(listening) = &mut self.listening else { return std::future::pending().await };
            match listening.next().await {
                Some(message) => return Published::decode(&message),
                None => self.listening = None,
            }
        }
    }

    async fn renew(&mut self, fleet: &Fleet) {
        let Some(board) = fleet.board() else { return };
        // Without Redis there are no others to hear of; it is tried again.
        let _ = board.post(&self.watch).await;
        if self.listening.is_none() {
            self.listening = board.listen(&self.watch).await.ok();
        }
    }
}

/// Ends a watch on this replica when it is dropped.
struct EndOfWatch {
    feed: Option<Arc<DecisionFeed>>,
    id: Box<str>,
}

impl Drop for EndOfWatch {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.end(&self.id);
        }
    }
}

/// What sends a watcher its events.
struct WatchTask {
    watch: Arc<DecisionWatch>,
    guard: EndOfWatch,
    /// The fleet that knows of it, if it does.
    fleet: Option<Arc<Fleet>>,
    posted: Option<Posted>,
    sender: mpsc::Sender<WatchEvent>,
    left_out: u64,
    sent: Sent,
}

/// Lines that were sent in the current second.
#[derive(Default)]
struct Sent {
    looks: u32,
    lines: u32,
}

impl WatchTask {
    async fn run(mut self, until: Instant, ending: CancellationToken) {
        let mut look = time::interval(PUBLISH_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew = time::interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                () = self.sender.closed() => break None,
                () = ending.cancelled() => break Some("the service is stopping"),
                () = time::sleep_until(until) => break Some("its time is over"),
                _ = look.tick() => self.look(),
                published = heard(&mut self.posted) => self.send_all(published.lines, published.left_out),
                _ = renew.tick() => {
                    if let (Some(posted), Some(fleet)) = (&mut self.posted, &self.fleet) {
                        posted.renew(fleet).await;
                    }
                }
            }
        };
        self.look();
        drop(self.guard);
        if let Some(why) = why {
            // A watcher that doesn't read sees the end of the stream.
            let _ = self.sender.try_send(WatchEvent::Ended(why));
        }
        drop(self.sender);
        if let (Some(posted), Some(board)) = (&self.posted, self.fleet.as_ref().and_then(|fleet| fleet.board())) {
            board.withdraw(&posted.watch.id).await;
            let _ = board.call_fleet().await;
        }
    }

    /// Sends what happened here since the last look.
    fn look(&mut self) {
        let replicas = self.fleet.as_ref().map_or(1, |fleet| fleet.heard().replicas);
        let (lines, left_out) = self.watch.take(fleet::lines_per_look(replicas));
        self.sent.looks += 1;
        if self.sent.looks >= fleet::LOOKS_PER_SECOND {
            self.sent = Sent::default();
        }
        self.send_all(lines, left_out);
    }

    fn send_all(&mut self, lines: Vec<Arc<str>>, left_out: u64) {
        self.left_out += left_out;
        for line in lines {
            // Replicas that don't know yet how many they are send too many.
            let is_sent =
                self.sent.lines < LINES_PER_SECOND && self.sender.try_send(WatchEvent::Decision(line)).is_ok();
            match is_sent {
                true => self.sent.lines += 1,
                false => self.left_out += 1,
            }
        }
        if self.left_out > 0 && self.sender.try_send(WatchEvent::LeftOut(self.left_out)).is_ok() {
            self.left_out = 0;
        }
    }
}

async fn heard(posted: &mut Option<Posted>) -> Published {
    match posted {
        Some(posted) => posted.heard().await,
        None => std::future::pending().await,
    }
}

/// What a request asks for, and for how long.
fn read(
    request: &WatchDecisionsRequest,
    domains: Option<&[&str]>,
    privacy: &Privacy,
) -> Result<(WatchFilter, Micros), ApiError> {
    let WatchDecisionsRequest { limit, entry, only, r#for: lasts, .. } = request;
    let entry = match entry.is_empty() {
        true => None,
        false => {
            let entry =
                written::parse_entry(entry).map_err(|what| ApiError::invalid("entry", what, "such as user=alice"))?;
            let (key, value) = (entry.entry().key, entry.entry().value);
            Some((key.into(), privacy.shown(key, value).into()))
        }
    };
    let only = match &**only {
        "" => None,
        text => Some(WatchedKind::parse(text).ok_or_else(|| {
            let what = format!("nothing is watched as `{}`", bounds::shown(text));
            let hint = format!("it is one of {}", WatchedKind::ALL.map(WatchedKind::name).join(", "));
            ApiError::invalid("only", what, hint)
        })?),
    };
    let lasts = match &**lasts {
        "" => LASTS,
        text => {
            let hint = "from 1s to 1h, such as 5m";
            match rules::duration(text).map_err(|what| ApiError::invalid("for", what, hint))? {
                lasts if (SECOND..=LASTS_MAX).contains(&lasts) => lasts,
                _ => {
                    return Err(ApiError::invalid("for", "a watch lasts a second at least, and an hour at most", hint));
                }
            }
        }
    };
    let domains = domains.map(|domains| domains.iter().map(|domain| Box::from(*domain)).collect());
    Ok((WatchFilter { domains, limit: limit.as_str().into(), entry, only }, lasts))
}

//! Who waits for a node that is connected to for the first time, and until when. The node is played here, because a real
//! one can't be stopped halfway through a greeting.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::*;
use crate::limit::{Algorithm, Cost, Entry, Limit, SECOND};
use crate::store::redis::lane::{Answer, Lane, NO_CONNECTION, RequestFailure};
use crate::store::redis::request::Request;
use crate::store::redis::runner::Runner;
use crate::store::redis::settings::Address;
use crate::store::{CounterCheck, Gate, Key, Role, StoreError};

/// What a node does when it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It takes connections and sends nothing.
    Silent,
    /// It greets, and answers the first probe with this error.
    Failing(&'static str),
    Ready,
}

/// What a node that is ready replies to a batch: that way a test sees that the batch has come to it.
const TO_BATCHES: &str = "-OOM of the node that is ready\r\n";

struct Played {
    stage: watch::Sender<Stage>,
    address: Address,
}

impl Played {
    async fn in_stage(stage: Stage) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let stage = watch::Sender::new(stage);
        let followed = stage.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(replies(client, followed.clone()));
            }
        });
        Played { stage, address: Address::Tcp { host: "127.0.0.1".into(), port } }
    }
}

/// Replies to the commands of one client for as long as it sends any.
async fn replies(client: TcpStream, mut stage: watch::Receiver<Stage>) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut clock_was_read = false;
    loop {
        let words = command(&mut client).await?;
        stage.wait_for(|stage| *stage != Stage::Silent).await.ok()?;
        let now = *stage.borrow();
        let reply = match (words[0].as_slice(), now) {
            (b"HELLO", _) => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            (b"CLIENT", _) => b"+OK\r\n".to_vec(),
            (_, Stage::Failing(error)) => format!("-{error}\r\n").into_bytes(),
            (b"GET", _) => b"$-1\r\n".to_vec(),
            (b"EVALSHA", _) if !std::mem::replace(&mut clock_was_read, true) => {
                [&b"$8\r\n"[..], &1e15_f64.to_le_bytes(), b"\r\n"].concat()
            }
            _ => TO_BATCHES.as_bytes().to_vec(),
        };
        client.get_mut().write_all(&reply).await.ok()?;
    }
}

/// The next command: a list of words, each with its length before it.
async fn command(client: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..number(client).await? {
        let mut word = vec![0; number(client).await? + 2];
        client.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

async fn number(client: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// A lane of a node, whose first connection is being made.
struct OfNode {
    lane: Arc<Lane>,
    stats: Arc<RedisStats>,
    _stop: tokio_util::sync::DropGuard,
}

impl OfNode {
    fn begin(address: Address, connect_timeout: Duration) -> OfNode {
        let seeds = vec![address.clone()];
        let cluster_batch = ClusterBatch::Slot;
        let settings = RedisSettings::new(Topology::Cluster { seeds });
        let settings = RedisSettings { connect_timeout, cluster_batch, denials_bytes_max: 0, queue_max: 2, ..settings };
        let settings = Arc::new(settings);
        let (stats, denials) = (Arc::<RedisStats>::default(), Arc::new(DenialCache::new(0)));
        let (stop, tasks, scripts) = (CancellationToken::new(), TaskTracker::new(), Scripts::new());
        let (target, stop_node) = (Target::Node(address), stop.clone());
        let (node, keep) =
            NodeConnection::new(target, settings.clone(), scripts.clone(), stats.clone(), denials.clone(), stop_node);
        let lane = Lane::new(Some(node), &settings, stats.clone());
        let runner = Runner::new(lane.clone(), None, scripts.of_slot, stats.clone(), denials, None, &settings);
        tasks.spawn(keep);
        tasks.spawn(runner.run(stop.clone()));
        OfNode { lane, stats, _stop: stop.drop_guard() }
    }

    /// Sends a request that waits for so long.
    fn send(&self, patience: Duration) -> JoinHandle<Answer> {
        let lane = self.lane.clone();
        tokio::spawn(async move { lane.submit(request(), Instant::now() + patience).await })
    }

    /// Queues two requests, as many as there is room for.
    async fn filled(&self) -> Vec<JoinHandle<Answer>> {
        let waiting = vec![self.send(LONG), self.send(LONG)];
        tokio::task::yield_now().await;
        waiting
    }
}

const LONG: Duration = Duration::from_secs(30);

fn request() -> Request {
    const ENTRIES: [Entry<'_>; 1] = [Entry { key: "user", value: "alice" }];
    let check = CounterCheck {
        key: Key { domain: "d", entries: &ENTRIES, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(1, SECOND, Algorithm::SlidingWindow),
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    };
    Request::new(&[check], Gate::default(), false, 0, "", |_| 0)
}

/// Why the store has no answer.
fn why(answer: Answer) -> StoreError {
    match answer.expect_err("no node here decides anything") {
        RequestFailure::Store(error) => error,
        RequestFailure::Elsewhere => panic!("no lane here retires"),
    }
}

fn is_by_the_node(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(why) if why.contains("of the node that is ready"))
}

fn is_without_connection(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable(why) if why == NO_CONNECTION)
}

#[tokio::test]
async fn requests_wait_in_a_bounded_queue_for_a_connection_that_is_being_made() {
    let node = Played::in_stage(Stage::Silent).await;
    let of_node = OfNode::begin(node.address, LONG);
    let waiting = of_node.filled().await;
    assert!(!of_node.lane.is_up());
    let one_more = why(of_node.lane.submit(request(), Instant::now() + LONG).await);
    assert_eq!(one_more, StoreError::Overloaded, "the queue has a bound");
    node.stage.send_replace(Stage::Ready);
    for answer in waiting {
        let error = why(answer.await.expect("no panic"));
        assert!(is_by_the_node(&error), "{error}");
    }
    assert_eq!(of_node.stats.unreachable.get(), 0);
}

#[tokio::test]
async fn a_request_waits_no_longer_than_its_own_time() {
    let node = Played::in_stage(Stage::Silent).await;
    let of_node = OfNode::begin(node.address, LONG);
    let error = why(of_node.send(Duration::from_millis(5)).await.expect("no panic"));
    assert!(matches!(error, StoreError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_node_that_refuses_ends_the_waiting_at_once() {
    let begun = Instant::now();
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("it was bound");
    let nobody = Address::Tcp { host: "127.0.0.1".into(), port: closed.port() };
    let wrong = Played::in_stage(Stage::Failing("WRONGPASS invalid username-password pair")).await;
    for address in [nobody, wrong.address] {
        let of_node = OfNode::begin(address.clone(), LONG);
        for answer in of_node.filled().await {
            let error = why(answer.await.expect("no panic"));
            assert!(is_without_connection(&error), "{address}: {error}");
        }
        let later = why(of_node.lane.submit(request(), Instant::now() + LONG).await);
        assert!(is_without_connection(&later), "{address}, later: {later}");
        assert_eq!(of_node.stats.unreachable.get(), 3);
    }
    assert!(begun.elapsed() < LONG, "nobody waited until the end");
}

#[tokio::test]
async fn a_node_that_is_not_ready_yet_is_waited_for() {
    for error in
        ["LOADING Redis is loading the dataset in memory", "CLUSTERDOWN The cluster is down", "MASTERDOWN Link"]
    {
        let node = Played::in_stage(Stage::Failing(error)).await;
        let of_node = OfNode::begin(node.address, LONG);
        let mut connects = 0;
        let waiting = of_node.filled().await;
        while connects == 0 {
            connects = of_node.stats.connects.get();
            tokio::task::yield_now().await;
        }
        assert!(waiting.iter().all(|answer| !answer.is_finished()), "{error}");
        node.stage.send_replace(Stage::Ready);
        for answer in waiting {
            let answered = why(answer.await.expect("no panic"));
            assert!(is_by_the_node(&answered), "{error}: {answered}");
        }
        assert_eq!(of_node.stats.breaker_opens.get(), 0, "{error}: no policy has decided");
    }
}

#[tokio::test]
async fn a_node_that_does_not_become_ready_is_waited_for_only_so_long() {
    let patience = Duration::from_millis(150);
    for stage in [Stage::Silent, Stage::Failing("LOADING Redis is loading the dataset in memory")] {
        let node = Played::in_stage(stage).await;
        let begun = Instant::now();
        let of_node = OfNode::begin(node.address, patience);
        let waiting = of_node.send(LONG);
        // Whoever comes while it lasts has a timeout of its own.
        let later = loop {
            let error = why(of_node.lane.submit(request(), Instant::now() + Duration::from_millis(5)).await);
            if !matches!(error, StoreError::Timeout(_)) {
                break error;
            }
        };
        assert!(is_without_connection(&later), "{stage:?}: {later}");
        assert!(begun.elapsed() >= patience, "{stage:?}: {:?}", begun.elapsed());
        let error = why(waiting.await.expect("no panic"));
        assert!(is_without_connection(&error), "{stage:?}: {error}");
        assert!(begun.elapsed() < LONG, "{stage:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_later_is_not_waited_for() {
    let node = Played::in_stage(Stage::Ready).await;
    let of_node = OfNode::begin(node.address, LONG);
    assert!(is_by_the_node(&why(of_node.send(LONG).await.expect("no panic"))));
    let connection = of_node.lane.node().expect("it has one");
    node.stage.send_replace(Stage::Failing("LOADING Redis is loading the dataset in memory"));
    let epoch = connection.established().expect("it is up").epoch;
    connection.report_failure(epoch, "a test says so");
    connection.watch().wait_for(Option::is_none).await.expect("the supervisor goes on");
    let error = why(of_node.lane.submit(request(), Instant::now() + LONG).await);
    assert!(is_without_connection(&error), "{error}");
}

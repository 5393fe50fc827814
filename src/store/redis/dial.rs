//! Finds the server of an address, directly or through sentinels, and connects to it with the right credentials. It
//! doesn't know what is sent over the connection.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rand::Rng as _;
use redis::{PushInfo, RedisConnectionInfo, RedisError, RedisResult, Value};
use tokio::sync::mpsc;

use super::connection::{ConnectOptions, Connection};
use super::faults::{SENTINEL, failed};
use super::settings::{Address, Auth, RedisSettings};

/// Time between asking one sentinel and the next.
const SENTINEL_AFTER: Duration = Duration::from_millis(50);

/// The server that a connection leads to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Node(Address),
    /// The node that the sentinels name.
    Master {
        name: String,
        sentinels: Vec<Address>,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(address) => address.fmt(f),
            Target::Master { name, .. } => write!(f, "master {name}"),
        }
    }
}

/// After how long a connection that is made now is to be replaced, if ever: up to a tenth sooner than it must, so that
/// those of all cores and replicas, which were made together, aren't replaced together.
pub(super) fn connection_age(settings: &RedisSettings) -> Option<Duration> {
    Some(settings.max_connection_age?.mul_f64(rand::rng().random_range(0.9..1.0)))
}

/// Connects and greets. The end of the connection is sent to `pushed`, even while no command is running.
pub(super) async fn dial(
    target: &Target,
    settings: &RedisSettings,
    pushed: mpsc::UnboundedSender<PushInfo>,
) -> RedisResult<Connection> {
    match target {
        Target::Node(address) => node(address, settings, pushed).await,
        Target::Master { name, sentinels } => {
            let address = master(name, sentinels, settings).await?;
            let mut connection = node(&address, settings, pushed).await?;
            // Sentinels learn of a failover a moment after it; a demoted node says so itself.
            match redis::cmd("ROLE").query_async(&mut *connection).await.and_then(role) {
                Ok(role) if role != "master" => Err(failed(format!("{address} is a {role}, not the master"))),
                _ => Ok(connection),
            }
        }
    }
}

async fn node(
    address: &Address,
    settings: &RedisSettings,
    pushed: mpsc::UnboundedSender<PushInfo>,
) -> RedisResult<Connection> {
    let info = redis_info(&settings.auth, settings).await?.set_db(settings.database);
    Connection::open(ConnectOptions { address: address.clone(), tls: settings.tls.clone(), info }, pushed).await
}

/// A connection for a few commands, whose end is not reported.
pub(super) async fn plain(address: &Address, settings: &RedisSettings) -> RedisResult<Connection> {
    let (pushed, _) = mpsc::unbounded_channel();
    node(address, settings, pushed).await
}

/// The first answer of the sentinels: the one that was lost together with the master must not hold up the others.
async fn master(name: &str, sentinels: &[Address], settings: &RedisSettings) -> RedisResult<Address> {
    let ways = sentinels.iter().map(|sentinel| ask_sentinel(sentinel, name, settings));
    first_answer(ways, SENTINEL_AFTER, "no sentinel is configured").await
}

/// The first answer that one of these ways of asking brings, or the last error. Each way is given the time `after` before
/// the next is begun too. `nobody` is the error where there is no way.
pub(super) async fn first_answer<T, F>(ways: impl Iterator<Item = F>, after: Duration, nobody: &str) -> RedisResult<T>
where
    F: Future<Output = RedisResult<T>>,
{
    let mut last = failed(nobody.to_owned());
    let mut asked: FuturesUnordered<_> = (0..)
        .zip(ways)
        .map(|(nth, options)| async move {
            tokio::time::sleep(after * nth).await;
            options.await
        })
        .collect();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask_sentinel(sentinel: &Address, name: &str, settings: &RedisSettings) -> RedisResult<Address> {
    let info = redis_info(&settings.sentinel_auth, settings).await?;
    let (pushed, _) = mpsc::unbounded_channel();
    let options = ConnectOptions { address: sentinel.clone(), tls: settings.tls.clone(), info };
    // A sentinel's password is another one than the nodes', so the error must not be taken for theirs.
    let refused = |error: RedisError| match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
            redis::make_extension_error(SENTINEL.to_owned(), Some(format!("Sentinel {sentinel}: {error}")))
        }
        _ => error,
    };
    let mut connection = Connection::open(options, pushed).await.map_err(refused)?;
    let found: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("get-master-addr-by-name")
        .arg(name)
        .query_async(&mut *connection)
        .await
        .map_err(refused)?;
    let (host, port) = found.ok_or_else(|| failed(format!("sentinel {sentinel} knows no master {name}")))?;
    Ok(Address::Tcp { host, port })
}

/// ROLE replies with lists of different shapes; the first item is the role.
fn role(answer: Value) -> RedisResult<String> {
    match answer {
        Value::Array(items) if !items.is_empty() => {
            Ok(redis::from_redis_value(items.into_iter().next().expect("not empty"))?)
        }
        other => Err(failed(format!("unexpected answer to ROLE: {other:?}"))),
    }
}

async fn redis_info(auth: &Auth, settings: &RedisSettings) -> RedisResult<RedisConnectionInfo> {
    let info = RedisConnectionInfo::default();
    let read;
    let auth = match auth {
        Auth::File(path) => {
            read = Auth::parse(std::fs::read_to_string(path).map_err(|error| at(path, error))?.trim_end());
            &read
        }
        given => given,
    };
    Ok(match auth {
        Auth::Password { user: Some(user), password } => info.set_username(user).set_password(password),
        Auth::Password { user: None, password } => info.set_password(password),
        Auth::AwsIam(tokens) => {
            // Sooner than the attempt is given up, which would be taken for a Redis that is silent.
            let token = tokens.token(settings.connect_timeout / 2).await?;
            info.set_username(tokens.user()).set_password(token)
        }
        Auth::None | Auth::File(_) => info,
    })
}

fn at(path: &std::path::Path, error: std::io::Error) -> RedisError {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display())).into()
}

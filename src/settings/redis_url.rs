//! Reads the addresses and secrets of Redis: envoyproxy/ratelimit's forms of REDIS_URL, and `rediss://`.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::partners::idle;
use crate::store::key::Buckets;
use crate::store::redis::{
    Address, Auth, AwsIam, ClusterBatch, RedisSettings, RedisTls, SettingNames, TokenSource, Topology,
};

const PORT: u16 = 6379;

/// The settings of one Redis, with its address and its secrets still as they were written.
#[derive(Clone, Default)]
pub(super) struct RedisFlags {
    /// How the names of its variables begin.
    pub(super) prefix: &'static str,
    pub(super) kind: RedisKind,
    pub(super) url: String,
    pub(super) socket_type: Option<SocketType>,
    pub(super) auth: Option<String>,
    pub(super) auth_file: Option<PathBuf>,
    pub(super) sentinel_auth: Option<String>,
    /// `None` where nothing says so.
    pub(super) tls: Option<bool>,
    pub(super) tls_cacert: Option<PathBuf>,
    pub(super) tls_client_cert: Option<PathBuf>,
    pub(super) tls_client_key: Option<PathBuf>,
    pub(super) tls_skip_hostname_verification: bool,
    pub(super) connect_timeout: Duration,
    pub(super) key_prefix: String,
    /// `None` takes those in use.
    pub(super) buckets: Option<Buckets>,
    pub(super) cluster_batch: ClusterBatch,
    /// How long an idle core watches for an answer before it sleeps.
    pub(super) busy_poll: Duration,
    /// Tokens of AWS IAM in place of a password.
    pub(super) iam: Option<AwsIam>,
    pub(super) max_connection_age: Option<Duration>,
    /// Of each core; 0 remembers none.
    pub(super) denials_max_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RedisKind {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketType {
    Tcp,
    Unix,
}

/// One line on what is wrong; never with a password in it.
pub(super) fn redis_settings(flags: &RedisFlags) -> Result<RedisSettings, String> {
    let (topology, url) = topology(flags).map_err(|what| format!("{}_URL{what}", flags.prefix))?;
    let (auth, whose) = match (&flags.iam, &flags.auth_file, &flags.auth) {
        (Some(iam), ..) => (Auth::AwsIam(TokenSource::new(iam.clone())), OF_IAM),
        (_, Some(file), _) => (Auth::File(file.clone()), OF_FILE),
        (_, None, Some(auth)) => (Auth::parse(auth), if auth.contains(':') { OF_USER } else { "REDIS_AUTH" }),
        (_, None, None) if url.has_password() => (url.auth, OF_URL),
        (_, None, None) => (Auth::None, "REDIS_AUTH or REDIS_AUTH_FILE"),
    };
    braces(flags)?;
    let tls = RedisTls {
        ca_file: flags.tls_cacert.clone(),
        certificate_file: flags.tls_client_cert.clone(),
        key_file: flags.tls_client_key.clone(),
        any_host_name: flags.tls_skip_hostname_verification,
    };
    let is_secret = flags.tls == Some(true) || url.tls == Some(true);
    if is_secret && topology.has_socket() {
        let prefix = flags.prefix;
        return Err(format!(
            "{prefix}_TLS: true is not for a Unix socket, which is spoken to in the clear ({prefix}_URL)"
        ));
    }
    if flags.iam.is_some() && !is_secret {
        let prefix = flags.prefix;
        return Err(format!("{prefix}_TLS: true is needed where {prefix}_AWS_IAM_AUTH is true: a token is a password"));
    }
    Ok(RedisSettings {
        tls: is_secret.then_some(tls),
        auth,
        database: url.database,
        names: SettingNames { prefix: flags.prefix, auth: whose },
        key_prefix: flags.key_prefix.clone(),
        buckets: flags.buckets,
        cluster_batch: flags.cluster_batch,
        busy_poll: flags.busy_poll,
        denials_bytes_max: flags.denials_max_bytes,
        connect_timeout: flags.connect_timeout,
        max_connection_age: flags.max_connection_age,
        sentinel_auth: flags.sentinel_auth.as_deref().map_or(Auth::None, Auth::parse),
        ..RedisSettings::new(topology)
    })
}

/// What of these flags does nothing because another comes first, a line each; never with a password in it.
pub(super) fn outdone(flags: &RedisFlags) -> Vec<String> {
    // A URL that can't be read is refused by name.
    let Ok((_, url)) = topology(flags) else { return Vec::new() };
    let variable = |name: &str| format!("{}_{name}", flags.prefix);
    let mut lines = Vec::new();
    if flags.tls == Some(false) && url.tls == Some(true) {
        lines
            .push(idle(&[format!("{}=false", variable("TLS"))], &format!("{} begins with rediss://", variable("URL"))));
    }
    let first = match (&flags.auth_file, &flags.auth) {
        _ if flags.iam.is_some() => Some("AWS_IAM_AUTH"),
        (Some(_), _) => Some("AUTH_FILE"),
        (None, Some(_)) => Some("AUTH"),
        (None, None) => None,
    };
    if let Some(first) = first.filter(|_| url.has_password()) {
        let password = format!("the password in {}", variable("URL"));
        lines.push(idle(&[password], &format!("{} is set, and comes first", variable(first))));
    }
    lines
}

/// Whose user and password they are, for the message that Redis refuses them.
const OF_URL: &str = "REDIS_URL (where % , @ / and ? of a password are written %25 %2C %40 %2F and %3F)";
const OF_USER: &str = "REDIS_AUTH (what stands before its first colon is the user: a password that has a colon is written \
    default:PASSWORD)";
const OF_FILE: &str = "the file of REDIS_AUTH_FILE (what stands before its first colon is the user: a password that has a \
    colon is written default:PASSWORD)";

const OF_IAM: &str = "REDIS_AWS_IAM_USER_ID (is it in the cache's user group, may this role elasticache:Connect to both, and \
    are REDIS_AWS_IAM_CACHE_NAME and the region the cache's?)";

/// Reports braces in a Cluster's key prefix. A Cluster places a key by the text between its first `{` and the next `}`,
/// which must be our hash tag: otherwise the keys of one script would be on several nodes (CROSSSLOT).
fn braces(flags: &RedisFlags) -> Result<(), String> {
    let Some((_, behind)) = flags.key_prefix.split_once('{') else { return Ok(()) };
    let is_tag = behind.split_once('}').is_some_and(|(tag, _)| !tag.is_empty());
    if flags.kind != RedisKind::Cluster || is_tag {
        return Ok(());
    }
    let what = "has a { with nothing behind it up to a }, so that a Cluster would place each key apart: leave it out";
    Err(format!("CACHE_KEY_PREFIX (--cache-key-prefix): '{}': {what}", flags.key_prefix))
}

/// What is behind the address, and the URL whose secrets and database hold for all: the only one, or the first. The
/// error is the text behind the variable's name.
fn topology(flags: &RedisFlags) -> Result<(Topology, Url), String> {
    // By its number and never by its text: a comma in a password splits the address inside the password.
    let numbered = (1..).zip(flags.url.split(',').map(str::trim));
    let mut parts = numbered.filter(|(_, part)| !part.is_empty());
    match flags.kind {
        RedisKind::Single => {
            let one = url(&flags.url, flags.socket_type).map_err(|what| format!(": {what}"))?;
            if matches!(&one.address, Address::Tcp { host, .. } if host.contains(',')) {
                let kind = format!("{}_TYPE", flags.prefix);
                return Err(format!(": several addresses are for {kind}=cluster or sentinel, and {kind} is single"));
            }
            Ok((Topology::Single(one.address.clone()), one))
        }
        RedisKind::Sentinel => {
            let master = parts.next().map_or_else(String::new, |(_, name)| name.to_string());
            // The log names the master, so a text that looks like an address, and may have a password in it, is
            // refused.
            if master.contains("://") || master.contains('@') {
                return Err(": number 1 of those with a comma between them: expected the master's name".into());
            }
            let (sentinels, first) = several(parts, flags, "sentinel write master,host:port,host:port")?;
            Ok((Topology::Sentinel { master, sentinels }, first))
        }
        RedisKind::Cluster => {
            let (seeds, first) = several(parts, flags, "cluster write host:port,host:port")?;
            if first.database != 0 {
                return Err(": a cluster has no database but 0".into());
            }
            Ok((Topology::Cluster { seeds }, first))
        }
    }
}

/// All addresses, and the URL of the first; `hint` says how to write them.
fn several<'a>(
    parts: impl Iterator<Item = (usize, &'a str)>,
    flags: &RedisFlags,
    hint: &str,
) -> Result<(Vec<Address>, Url), String> {
    let read = |(number, part)| {
        let named = |what| format!(": number {number} of those with a comma between them: {what}");
        url(part, flags.socket_type).map_err(named)
    };
    let urls = parts.map(read).collect::<Result<Vec<_>, _>>()?;
    let mut first = urls.first().cloned().ok_or_else(|| format!(": for {}_TYPE={hint}", flags.prefix))?;
    let (secret, clear) = (Some(true), Some(false));
    if urls.iter().any(|url| url.tls == secret) {
        if urls.iter().any(|url| url.tls == clear) {
            return Err(
                ": one address begins with redis:// and another with rediss://, and all are spoken to alike".into()
            );
        }
        first.tls = secret;
    }
    if urls[1..].iter().any(|url| url.database != first.database && url.database != 0) {
        return Err(": the database of the first address is that of all, and another names another".into());
    }
    if urls[1..].iter().any(|url| url.has_password() && !url.comes_as(&first)) {
        return Err(": the password of the first address is that of all, and another has one of its own".into());
    }
    Ok((urls.into_iter().map(|url| url.address).collect(), first))
}

#[derive(Clone, Debug)]
struct Url {
    address: Address,
    auth: Auth,
    database: i64,
    /// Whether the scheme asks for TLS; `None` without a scheme.
    tls: Option<bool>,
}

impl Url {
    fn has_password(&self) -> bool {
        matches!(self.auth, Auth::Password { .. })
    }

    /// Whether both have the same user and password.
    fn comes_as(&self, other: &Url) -> bool {
        match (&self.auth, &other.auth) {
            (Auth::Password { user, password }, Auth::Password { user: theirs, password: other }) => {
                user == theirs && password == other
            }
            _ => false,
        }
    }
}

/// Reads `host:port`, `host`, `/a/socket`, `unix:///a/socket`, `redis[s]://[user:password@]host[:port][/database]`. An
/// error never repeats a part of the text: if the host was forgotten, or a character of the password has a meaning in
/// URLs, any part of it may be the password.
fn url(text: &str, socket_type: Option<SocketType>) -> Result<Url, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return socket(path);
    }
    let (tls, rest) = match text.split_once("://") {
        Some(("redis", rest)) => (Some(false), rest),
        Some(("rediss", rest)) => (Some(true), rest),
        Some(_) => return Err("what comes before :// is not known; use redis://, rediss:// or unix://".into()),
        None if socket_type == Some(SocketType::Unix) || text.starts_with('/') => {
            return socket(text);
        }
        None => (None, text),
    };
    let (who, rest) = rest.rsplit_once('@').map_or((None, rest), |(who, rest)| (Some(who), rest));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, database) = place.split_once('/').unwrap_or((place, ""));
    let mut url = Url { address: address(place)?, auth: Auth::None, database: 0, tls };
    let (mut user, mut password) = match who.map(|who| who.split_once(':').unwrap_or(("", who))) {
        Some((user, password)) => (decoded(user), decoded(password)),
        None => (String::new(), String::new()),
    };
    let mut number = database.to_string();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "username" => user = decoded(value),
            "password" => password = decoded(value),
            "db" => number = value.to_string(),
            _ => return Err("of what comes behind ? one is not known; use username, password or db".into()),
        }
    }
    if !number.is_empty() {
        url.database = number.parse().map_err(|_| "the database is not a number".to_string())?;
    }
    if !password.is_empty() {
        url.auth = Auth::Password { user: Some(user).filter(|user| !user.is_empty()), password };
    }
    Ok(url)
}

fn socket(path: &str) -> Result<Url, String> {
    // The log names the path. It may have an @ in it, but not behind a colon that comes before any slash.
    if path.split('/').next().and_then(|first| first.split_once('@')).is_some_and(|(who, _)| who.contains(':')) {
        return Err("expected the path of a socket alone; its password goes into REDIS_AUTH".into());
    }
    Ok(Url { address: Address::Unix(PathBuf::from(path)), auth: Auth::None, database: 0, tls: None })
}

const FORM: &str = "expected host:port or redis://user:password@host:port; \
    in a password write % , @ / and ? as %25 %2C %40 %2F and %3F";

fn address(place: &str) -> Result<Address, String> {
    let wrong = || FORM.to_string();
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        // An address with colons of its own, and no port.
        None if is_ipv6(place) => (place, None),
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
    let is_name = !host.contains(|c: char| c.is_whitespace() || c.is_control());
    if host.is_empty() || !is_name || (host.contains([':', '%']) && !is_ipv6(host) && !host.contains(',')) {
        return Err(wrong());
    }
    Ok(Address::Tcp { host: host.to_string(), port })
}

/// Whether this is an IPv6 address, with or without the name of an interface behind a `%`.
fn is_ipv6(host: &str) -> bool {
    host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Decodes `%40` and the like; anything that isn't an escape stays as it is.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;

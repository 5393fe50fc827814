//! From the settings' text to the addresses and secrets that the Redis store connects with: the reference's forms of
//! REDIS_URL, and `rediss://` besides.

use std::path::PathBuf;

use crate::{
    settings::{RedisFlags, RedisKind, SocketType},
    store::redis::{Address, Auth, RedisSettings, Tls, Topology},
};

const PORT: u16 = 6379;

/// One line on what is wrong; never with a password in it.
pub(super) fn redis_settings(flags: &RedisFlags) -> Result<RedisSettings, String> {
    let (topology, url) = topology(flags)?;
    let auth = match (&flags.auth_file, &flags.auth) {
        (Some(file), _) => Auth::File(file.clone()),
        (None, Some(auth)) => Auth::parse(auth),
        (None, None) => url.auth,
    };
    let tls = Tls {
        ca_file: flags.tls_cacert.clone(),
        certificate_file: flags.tls_client_cert.clone(),
        key_file: flags.tls_client_key.clone(),
        any_host_name: flags.tls_skip_hostname_verification,
    };
    Ok(RedisSettings {
        tls: (url.tls || flags.tls).then_some(tls),
        auth,
        database: url.database,
        key_prefix: flags.key_prefix.clone(),
        buckets: flags.buckets,
        busy_poll: flags.busy_poll,
        denials_bytes_max: flags.denials_max_bytes,
        connect_timeout: flags.connect_timeout,
        sentinel_auth: flags.sentinel_auth.as_deref().map_or(Auth::None, Auth::parse),
        ..RedisSettings::new(topology)
    })
}

/// What stands behind REDIS_URL, and the URL whose secrets and database hold for all: the one, or the first.
fn topology(flags: &RedisFlags) -> Result<(Topology, Url), String> {
    // By its number and never by its text: a comma in a password parts the address in the midst of it.
    let numbered = (1..).zip(flags.url.split(',').map(str::trim));
    let mut parts = numbered.filter(|(_, part)| !part.is_empty());
    match flags.kind {
        RedisKind::Single => {
            let one = url(&flags.url, flags.socket_type).map_err(|what| format!("REDIS_URL: {what}"))?;
            Ok((Topology::Single(one.address.clone()), one))
        }
        RedisKind::Sentinel => {
            let master = parts.next().map_or_else(String::new, |(_, name)| name.to_string());
            // The log names the master, so what must be an address, and may have a password in it, is none.
            if master.contains("://") || master.contains('@') {
                return Err("REDIS_URL: number 1 of those with a comma between them: expected the master's name".into());
            }
            let (sentinels, first) = several(parts, flags, "sentinel write master,host:port,host:port")?;
            Ok((Topology::Sentinel { master, sentinels }, first))
        }
        RedisKind::Cluster => {
            let (seeds, first) = several(parts, flags, "cluster write host:port,host:port")?;
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
        let named = |what| format!("REDIS_URL: number {number} of those with a comma between them: {what}");
        url(part, flags.socket_type).map_err(named)
    };
    let urls = parts.map(read).collect::<Result<Vec<_>, _>>()?;
    let first = urls.first().cloned().ok_or_else(|| format!("REDIS_URL: for REDIS_TYPE={hint}"))?;
    Ok((urls.into_iter().map(|url| url.address).collect(), first))
}

#[derive(Clone, Debug)]
struct Url {
    address: Address,
    auth: Auth,
    database: i64,
    tls: bool,
}

/// `host:port`, `host`, `/a/socket`, `unix:///a/socket`, `redis[s]://[user:password@]host[:port][/database]`. What is
/// wrong is told without a word of the text: where the host was forgotten, or a sign of the password means something to
/// an URL, any part of it may be the password.
fn url(text: &str, socket_type: Option<SocketType>) -> Result<Url, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return socket(path);
    }
    let (tls, rest) = match text.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        Some(_) => return Err("what comes before :// is not known; use redis://, rediss:// or unix://".into()),
        None if socket_type == Some(SocketType::Unix) || text.starts_with('/') => {
            return socket(text);
        }
        None => (false, text),
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
    // The log names the path. An @ may well be in one; behind a colon, and before any slash, it isn't.
    if path.split('/').next().and_then(|first| first.split_once('@')).is_some_and(|(who, _)| who.contains(':')) {
        return Err("expected the path of a socket alone; its password goes into REDIS_AUTH".into());
    }
    Ok(Url { address: Address::Unix(PathBuf::from(path)), auth: Auth::None, database: 0, tls: false })
}

const FORM: &str = "expected host:port or redis://user:password@host:port; \
    in a password write % , @ / and ? as %25 %2C %40 %2F and %3F";

fn address(place: &str) -> Result<Address, String> {
    let wrong = || FORM.to_string();
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Address::Tcp { host: host.to_string(), port })
}

/// `%40` and the like; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        let cases = [
            ("redis:7000", None, tcp("redis", 7000)),
            ("redis", None, tcp("redis", 6379)),
            ("[::1]:7000", None, tcp("::1", 7000)),
            ("redis://redis:7000/3", None, tcp("redis", 7000)),
            ("/var/run/redis.sock", None, Address::Unix("/var/run/redis.sock".into())),
            ("redis.sock", Some(SocketType::Unix), Address::Unix("redis.sock".into())),
            ("unix:///a/b", None, Address::Unix("/a/b".into())),
        ];
        for (text, socket_type, address) in cases {
            assert_eq!(url(text, socket_type).map(|url| url.address), Ok(address), "{text}");
        }
    }

    #[test]
    fn secrets_and_database_come_from_the_url_or_its_query() {
        for text in ["redis://me:p%40ss@redis/3", "redis://redis?username=me&password=p%40ss&db=3"] {
            let url = url(text, None).expect("well formed");
            assert_eq!(url.database, 3, "{text}");
            assert!(!url.tls);
            let Auth::Password { user, password } = url.auth else { panic!("{text} has a password") };
            assert_eq!((user.as_deref(), password.as_str()), (Some("me"), "p@ss"), "{text}");
        }
        assert!(url("rediss://redis", None).expect("well formed").tls);
    }

    #[test]
    fn sentinels_are_a_master_and_where_to_ask_for_it() {
        let flags = |url: &str| RedisFlags { kind: RedisKind::Sentinel, url: url.into(), ..RedisFlags::default() };
        let settings = redis_settings(&flags("main, s1:26379,s2")).expect("well formed");
        let sentinels = vec![tcp("s1", 26379), tcp("s2", 6379)];
        assert_eq!(settings.topology, Topology::Sentinel { master: "main".into(), sentinels });
        assert!(redis_settings(&flags("main")).is_err_and(|error| error.contains("master,host:port")));
    }

    #[test]
    fn cluster_is_where_to_ask_for_its_nodes() {
        let flags = |url: &str| RedisFlags { kind: RedisKind::Cluster, url: url.into(), ..RedisFlags::default() };
        let settings = redis_settings(&flags("rediss://:secret@c1:7000, c2")).expect("well formed");
        assert_eq!(settings.topology, Topology::Cluster { seeds: vec![tcp("c1", 7000), tcp("c2", 6379)] });
        assert!(settings.tls.is_some());
        assert!(redis_settings(&flags(" ")).is_err_and(|error| error.contains("host:port,host:port")));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_telling_the_password() {
        use RedisKind::{Cluster, Sentinel, Single};
        let cases = [
            (Single, "redis:port"),
            (Single, "http://redis"),
            (Single, "redis://:hunter2@redis:x"),
            (Single, "redis://redis?sb=1"),
            (Single, ":6379"),
            (Single, "redis/x"),
            // The host was forgotten, or a sign in the password means something to the URL.
            (Single, "redis://user:hunter2"),
            (Single, "redis://:hunter2"),
            (Single, "default:hunter2://a@redis:6379"),
            (Single, "redis://user?hunter2=b"),
            (Single, "redis://[hunter2]x"),
            (Cluster, "redis://:hunter2,x@c1:7000"),
            (Cluster, "redis://:x,hunter2://y@c1:7000"),
            (Sentinel, "main, redis://:hunter2,x@s1:26379"),
            // The master's name was forgotten, which the log would say.
            (Sentinel, "redis://:hunter2@s1:26379,s2:26379"),
            (Sentinel, ":hunter2@s1:26379,s2:26379"),
            (Single, "unix://:hunter2@/run/redis.sock"),
        ];
        for (kind, text) in cases {
            let flags = RedisFlags { kind, url: text.into(), ..RedisFlags::default() };
            let error = redis_settings(&flags).expect_err(text);
            assert!(error.starts_with("REDIS_URL: ") && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}

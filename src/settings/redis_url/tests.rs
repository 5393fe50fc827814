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
        assert_eq!(url.tls, Some(false));
        let Auth::Password { user, password } = url.auth else { panic!("{text} has a password") };
        assert_eq!((user.as_deref(), password.as_str()), (Some("me"), "p@ss"), "{text}");
    }
    assert_eq!(url("rediss://redis", None).expect("well formed").tls, Some(true));
}

#[test]
fn sentinels_are_a_master_and_where_to_ask_for_it() {
    let flags =
        |url: &str| RedisFlags { prefix: "REDIS", kind: RedisKind::Sentinel, url: url.into(), ..RedisFlags::default() };
    let settings = redis_settings(&flags("main, s1:26379,s2")).expect("well formed");
    let sentinels = vec![tcp("s1", 26379), tcp("s2", 6379)];
    assert_eq!(settings.topology, Topology::Sentinel { master: "main".into(), sentinels });
    assert!(redis_settings(&flags("main")).is_err_and(|error| error.contains("master,host:port")));
}

#[test]
fn cluster_is_where_to_ask_for_its_nodes() {
    let flags =
        |url: &str| RedisFlags { prefix: "REDIS", kind: RedisKind::Cluster, url: url.into(), ..RedisFlags::default() };
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
        let flags = RedisFlags { prefix: "REDIS", kind, url: text.into(), ..RedisFlags::default() };
        let error = redis_settings(&flags).expect_err(text);
        assert!(error.starts_with("REDIS_URL: ") && !error.contains("hunter2"), "{text}: {error}");
    }
}

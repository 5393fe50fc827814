use std::time::Duration;

use super::*;

fn resolved(change: impl FnOnce(&mut Flags)) -> Settings {
    let mut flags = Flags::default();
    change(&mut flags);
    Settings::resolve(&flags).expect("these settings are right")
}

fn text(value: &str) -> Option<String> {
    Some(value.to_string())
}

#[test]
fn without_any_setting_the_memory_store_serves_the_config_directory() {
    let settings = resolved(|_| {});
    assert_eq!(settings.store.kind, StoreKind::Memory);
    assert_eq!(settings.rules.paths, [PathBuf::from("config")]);
    assert_eq!(settings.listeners.grpc.to_string(), "0.0.0.0:8081");
    assert_eq!(settings.listeners.admin.to_string(), "127.0.0.1:6070");
    assert_eq!(settings.decisions.store_timeout, Duration::from_millis(10));
}

#[test]
fn the_store_is_redis_where_a_url_is_given_and_memory_where_memory_is_asked_for() {
    let cases = [
        (None, None, StoreKind::Memory),
        (None, Some("redis:6379"), StoreKind::Redis),
        (Some("memory"), Some("redis:6379"), StoreKind::Memory),
        (Some("Redis"), Some("redis:6379"), StoreKind::Redis),
        (Some(""), Some(""), StoreKind::Memory),
    ];
    for (backend, url, expected) in cases {
        let settings = resolved(|flags| {
            flags.backend_type = backend.map(String::from);
            flags.redis_url = url.map(String::from);
        });
        assert_eq!(settings.store.kind, expected, "BACKEND_TYPE {backend:?}, REDIS_URL {url:?}");
    }
}

#[test]
fn runtime_directories_are_joined_and_given_rules_beat_them() {
    let settings = resolved(|flags| {
        flags.runtime_root = text("/data");
        flags.runtime_subdirectory = text("ratelimit");
    });
    assert_eq!(settings.rules.paths, [PathBuf::from("/data/ratelimit/config")]);
    let settings = resolved(|flags| {
        flags.runtime_root = text("/data");
        flags.rules = vec!["a.yaml".into(), "b".into()];
    });
    assert_eq!(settings.rules.paths, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
}

#[test]
fn every_wrong_setting_is_named_at_once() {
    let flags = Flags {
        grpc_port: text("80810"),
        store_timeout: text("10"),
        algorithm: text("sliding"),
        quota_mode: text("perhaps"),
        backend_type: text("memcache"),
        ..Flags::default()
    };
    let Invalid(wrong) = Settings::resolve(&flags).expect_err("five settings are wrong");
    assert_eq!(wrong.len(), 5, "{wrong:#?}");
    assert!(wrong.contains(&"GRPC_PORT (--grpc-port): '80810': expected a port, 0 to 65535".to_string()), "{wrong:#?}");
}

#[test]
fn two_listeners_on_one_address_are_refused_before_they_are_bound() {
    let flags = Flags { host: text("127.0.0.1"), port: text("6070"), ..Flags::default() };
    let Invalid(wrong) = Settings::resolve(&flags).expect_err("PORT and DEBUG_PORT are the same");
    assert_eq!(wrong, ["DEBUG_PORT: 127.0.0.1:6070 is taken by another listener of these settings"]);
}

#[test]
fn durations_are_read_as_go_reads_them() {
    let cases = [
        ("10ms", Some(10_000)),
        ("1h30m", Some(5_400_000_000)),
        ("1.5s", Some(1_500_000)),
        ("150us", Some(150)),
        ("0", Some(0)),
        ("10", None),
        ("", None),
        ("-1s", None),
        ("s", None),
        ("1d", None),
    ];
    for (text, micros) in cases {
        assert_eq!(parse::duration(text).ok(), micros.map(Duration::from_micros), "{text:?}");
    }
}

#[test]
fn bytes_take_units_of_1024() {
    for (text, bytes) in
        [("1024", Some(1024)), ("512MiB", Some(512 << 20)), ("2G", Some(2 << 30)), ("1T", None), ("x", None)]
    {
        assert_eq!(parse::bytes(text).ok(), bytes, "{text:?}");
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let settings = resolved(|flags| {
        flags.redis_url = text("redis://:hunter2@redis:6379");
        flags.redis_auth = text("hunter2");
    });
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_wrong_setting_that_may_hold_a_secret_is_named_and_not_repeated() {
    let of_plane = Flags {
        config_type: text("GRPC_XDS_SOTW"),
        config_grpc_xds_server_url: text("http://me:hunter2@plane:18001"),
        config_grpc_xds_node_metadata: text("token hunter2"),
        config_grpc_xds_client_additional_headers: text("authorization Bearer hunter2"),
        ..Flags::default()
    };
    // A comma in a secret: what comes behind it looks like the name of one more header.
    let comma = Flags {
        config_type: text("GRPC_XDS_SOTW"),
        config_grpc_xds_client_additional_headers: text("a:b,hunter2 c:d"),
        ..Flags::default()
    };
    let of_collector = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization hunter2"),
    ];
    let mut traced = Flags::default();
    traced.tracing.tracing_enabled = text("true");
    let comma_there = [("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2 c=d")];
    let cases =
        [(of_plane, &[][..], 3), (comma, &[], 1), (traced.clone(), &of_collector, 2), (traced, &comma_there, 1)];
    for (flags, set, count) in cases {
        let Invalid(wrong) = Settings::read(&flags, &environment(set)).expect_err("they are wrong");
        assert_eq!(wrong.len(), count, "{wrong:#?}");
        for line in wrong {
            assert!(line.contains("expected") && !line.contains("hunter2"), "{line}");
        }
    }
}

#[test]
fn compat_chooses_three_settings_and_explicit_ones_beat_it() {
    let compat = resolved(|flags| flags.compat = text("envoyproxy")).decisions;
    assert_eq!(
        (compat.algorithm, compat.count_denied, compat.on_store_failure),
        (Algorithm::FixedWindow, CountDenied::Always, FailurePolicy::Error)
    );
    let mixed = resolved(|flags| {
        flags.compat = text("envoyproxy");
        flags.algorithm = text("token_bucket");
        flags.on_store_failure = text("local");
    });
    assert_eq!(
        (mixed.decisions.algorithm, mixed.decisions.count_denied, mixed.decisions.on_store_failure),
        (Algorithm::TokenBucket, CountDenied::Always, FailurePolicy::Local)
    );
    for when in CountDenied::ALL {
        assert_eq!(resolved(|flags| flags.count_denied = text(when.name())).decisions.count_denied, when);
    }
    let Invalid(wrong) = Settings::resolve(&Flags { compat: text("limitador"), ..Flags::default() }).unwrap_err();
    assert_eq!(wrong, ["TOLLGATE_COMPAT (--compat): 'limitador': expected one of envoyproxy"]);
}

#[test]
fn headers_are_off_until_enabled_and_retry_after_takes_a_switch_or_a_name() {
    let plain = resolved(|flags| {
        flags.limit_limit_header = text("X-Limit");
        flags.limit_response_headers_enabled = text("false");
    });
    let plain = plain.responses;
    assert!(plain.is_plain(), "{plain:?}");
    let named = resolved(|flags| {
        flags.limit_limit_header = text("X-Limit");
        flags.limit_response_headers_enabled = text("t");
    });
    let headers = named.responses.limit_headers.expect("enabled");
    assert_eq!(
        [&*headers.limit, &*headers.remaining, &*headers.reset],
        ["X-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    );
    for (given, header) in
        [("true", Some("Retry-After")), ("yes", Some("Retry-After")), ("off", None), ("X-Wait", Some("X-Wait"))]
    {
        let settings = resolved(|flags| flags.retry_after_header = text(given)).responses;
        assert_eq!(settings.retry_after_header.as_deref(), header, "{given}");
    }
    let wrong = Flags {
        limit_response_headers_enabled: text("false"),
        limit_reset_header: text("a b"),
        retry_after_header: text("a:b"),
        ..Flags::default()
    };
    assert_eq!(Settings::resolve(&wrong).expect_err("two names are none").0.len(), 2);
}

#[test]
fn whole_numbers_are_read_as_go_reads_them() {
    let cases = [
        ("12", Some(12)),
        ("-3", Some(-3)),
        ("+7", Some(7)),
        ("0x1f", Some(31)),
        ("0b11", Some(3)),
        ("0o17", Some(15)),
        ("017", Some(15)),
        ("0x1_f", Some(31)),
        ("0", Some(0)),
        ("", None),
        ("1.5", None),
        ("ten", None),
        ("--1", None),
        ("09", None),
        ("99999999999999999999", None),
    ];
    for (text, number) in cases {
        assert_eq!(parse::int(text).ok(), number, "{text:?}");
    }
}

#[test]
fn listeners_take_names_and_addresses() {
    for (text, ip) in [("localhost", Some("127.0.0.1")), ("[::1]", Some("::1")), ("0.0.0.0", Some("0.0.0.0"))] {
        assert_eq!(parse::host(text).ok().map(|ip| ip.to_string()).as_deref(), ip, "{text}");
    }
    assert_eq!(parse::listen_address(":9090").map(|address| address.to_string()), Ok("0.0.0.0:9090".into()));
    assert_eq!(parse::listen_address("[::1]:90").map(|address| address.to_string()), Ok("[::1]:90".into()));
    assert!(parse::listen_address("9090").is_err());
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn variables_that_do_nothing_are_told_of_and_empty_ones_are_not_set() {
    let set = environment(&[
        ("REDIS_POOL_SIZE", "10"),
        ("TRACING_SERVICE_NAME", ""),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("GRPC_PORT", "8081"),
        ("HOME", "/root"),
    ]);
    let (_, warnings) = Settings::read(&Flags::default(), &set).expect("nothing is wrong");
    let named: Vec<_> = warnings.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(named, ["OTEL_METRICS_EXPORTER", "REDIS_POOL_SIZE"]);
    assert!(warnings.iter().all(|line| line.contains(" does nothing here: ")), "{warnings:?}");
}

#[test]
fn a_second_redis_beside_the_memory_store_is_told_of() {
    let warnings = |first_redis: &str| {
        let flags = Flags {
            backend_type: text(if first_redis.is_empty() { "memory" } else { "redis" }),
            redis_url: text(first_redis),
            redis_persecond: text("true"),
            redis_persecond_url: text("redis:6380"),
            ..Flags::default()
        };
        Settings::read(&flags, &environment(&[])).expect("nothing is wrong").1
    };
    assert_eq!(warnings("redis:6379"), Vec::<String>::new());
    let [line] = &warnings("")[..] else { panic!("{:?}", warnings("")) };
    assert!(line.starts_with("REDIS_PERSECOND does nothing here: limits are counted in memory"), "{line}");
}

#[test]
fn what_is_sent_to_statsd_servers_is_read_and_what_is_wrong_of_it_named() {
    let mut flags = Flags::default();
    flags.stats.use_dog_statsd = text("true");
    flags.stats.extra_tags = text("zone:b,app:a:c");
    flags.stats.use_dog_statsd_mogrifiers = text("hits");
    let set = environment(&[
        ("DOG_STATSD_MOGRIFIER_HITS_PATTERN", "(a)"),
        ("DOG_STATSD_MOGRIFIER_HITS_NAME", "$1"),
        ("DOG_STATSD_MOGRIFIER_HITS_TAGS", "k:$1"),
    ]);
    let (settings, _) = Settings::read(&flags, &set).expect("nothing is wrong");
    let tags: Vec<_> = settings.stats.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!((tags, settings.stats.mogrifiers.len()), (vec!["app=a:c".to_string(), "zone=b".into()], 1));

    flags.stats.extra_tags = text("zone");
    flags.stats.stats_flush_interval = text("0");
    flags.stats.near_limit_ratio = text("80");
    let set = environment(&[("DOG_STATSD_MOGRIFIER_HITS_PATTERN", "(")]);
    let wrong = Settings::read(&flags, &set).expect_err("four things are wrong").to_string();
    for name in ["EXTRA_TAGS", "STATS_FLUSH_INTERVAL", "NEAR_LIMIT_RATIO", "DOG_STATSD_MOGRIFIER_HITS_PATTERN: '('"] {
        assert!(wrong.contains(name), "{name} in {wrong}");
    }
}

#[test]
fn without_stats_nothing_is_served_or_sent() {
    let settings = resolved(|flags| {
        flags.use_prometheus = text("true");
        flags.stats.use_statsd = text("true");
        flags.stats.disable_stats = text("true");
    });
    assert_eq!((settings.listeners.metrics, settings.stats.on_page, settings.stats.statsd), (None, false, false));
}

#[test]
fn any_runtime_variable_means_the_references_directories() {
    let settings = resolved(|flags| flags.runtime_watch_root = text("false"));
    assert_eq!(settings.rules.paths, [PathBuf::from("/srv/runtime_data/current/config")]);
}

#[test]
fn a_control_plane_is_asked_only_where_it_is_meant_to_be() {
    let from_files = resolved(|flags| {
        flags.config_grpc_xds_server_url = text("plane:1");
        flags.config_type = text("FILE");
    });
    assert!(from_files.rules.control_plane.is_none());
    let settings = resolved(|flags| {
        flags.config_type = text("GRPC_XDS_SOTW");
        flags.config_grpc_xds_server_url = text("dns:///plane:18001");
        flags.config_grpc_xds_node_metadata = text("zone=a, token=x=y");
        flags.config_grpc_xds_client_additional_headers = text("authorization:Bearer a:b,x-tenant:blue");
        flags.xds_client_backoff_jitter = text("false");
    });
    let settings = settings.rules.control_plane.expect("it was asked for");
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(settings.server, "plane:18001");
    assert_eq!(settings.node_id, "default");
    assert_eq!(settings.node_metadata, [pair("zone", "a"), pair("token", "x=y")]);
    assert_eq!(settings.headers, [pair("authorization", "Bearer a:b"), pair("x-tenant", "blue")]);
    assert_eq!(settings.backoff.jitter, 0.0);
    assert_eq!(settings.backoff.max, Duration::from_secs(60));
    assert_eq!(settings.max_message_bytes, 4 << 20);
    assert!(settings.tls.is_none());
    assert!(!format!("{settings:?}").contains("Bearer"), "a header's value is a secret");
}

#[test]
fn every_wrong_setting_of_a_control_plane_is_named() {
    let flags = Flags {
        config_type: text("grpc_xds_sotw"),
        config_grpc_xds_server_url: text("http://plane:18001"),
        config_grpc_xds_node_metadata: text("zone:a"),
        config_grpc_xds_client_additional_headers: text("bad name:x"),
        config_grpc_xds_server_use_tls: text("true"),
        config_grpc_xds_client_tls_cert: text("/certs/tls.crt"),
        xds_client_backoff_random_factor: text("2"),
        xds_client_backoff_max_interval: text("0"),
        xds_client_max_msg_size_in_bytes: text("4MiB"),
        ..Flags::default()
    };
    let Invalid(wrong) = Settings::resolve(&flags).expect_err("eight settings are wrong");
    assert_eq!(wrong.len(), 8, "{wrong:#?}");
}

#[test]
fn a_core_is_not_kept_busy_for_a_redis_that_is_far() {
    let flags =
        |window: &str| Flags { redis_url: text("redis:6379"), redis_busy_poll: text(window), ..Flags::default() };
    for (window, micros) in [("", 500), ("0", 0), ("10ms", 10_000)] {
        let settings = Settings::resolve(&flags(window)).expect("it is right");
        let redis = settings.store.redis.expect("it has an address");
        assert_eq!(redis.busy_poll, Duration::from_micros(micros), "{window}");
    }
    let invalid = Settings::resolve(&flags("11ms")).expect_err("it is too long").to_string();
    assert!(invalid.contains("TOLLGATE_REDIS_BUSY_POLL") && invalid.contains("at most 10ms"), "{invalid}");
}

#[test]
fn a_time_of_nothing_is_refused_where_it_means_neither_never_nor_at_once() {
    let zero = || text("0s");
    let flags = Flags {
        store_timeout: zero(),
        rules_poll: text("0"),
        redis_url: text("redis:6379"),
        redis_timeout: zero(),
        redis_persecond: text("true"),
        redis_persecond_url: text("redis:6380"),
        redis_persecond_timeout: zero(),
        ..Flags::default()
    };
    let Invalid(wrong) = Settings::resolve(&flags).expect_err("four settings are wrong");
    let variables = ["TOLLGATE_RULES_POLL", "TOLLGATE_STORE_TIMEOUT", "REDIS_TIMEOUT", "REDIS_PERSECOND_TIMEOUT"];
    assert_eq!(wrong.len(), variables.len(), "{wrong:#?}");
    for variable in variables {
        let line = wrong.iter().find(|line| line.starts_with(&format!("{variable} ")));
        assert!(line.is_some_and(|line| line.contains("expected more than 0, such as 10ms")), "{variable}: {wrong:#?}");
    }
    // Here it has a meaning: it never ends, and it ends at once.
    let settings = resolved(|flags| (flags.grpc_max_connection_age, flags.shutdown_timeout) = (zero(), zero()));
    assert!(settings.listeners.max_connection_age.is_zero() && settings.process.shutdown_timeout.is_zero());
}

#[test]
fn of_two_settings_that_contradict_each_other_a_line_says_which_comes_first() {
    let given = |tls: &str, auth: &str, file: &str, url: &str| Flags {
        redis_url: text(url),
        redis_tls: text(tls),
        redis_auth: text(auth),
        redis_auth_file: text(file),
        ..Flags::default()
    };
    let tls = "REDIS_TLS=false does nothing here: REDIS_URL begins with rediss://";
    let auth = "the password in REDIS_URL does nothing here: REDIS_AUTH is set, and comes first";
    let file = "the password in REDIS_URL does nothing here: REDIS_AUTH_FILE is set, and comes first";
    let cases = [
        (given("off", "", "", "rediss://redis"), vec![tls], true),
        (given("", "", "", "rediss://redis"), vec![], true),
        (given("on", "", "", "redis://redis"), vec![], true),
        (given("off", "", "", "redis://redis"), vec![], false),
        (given("", "other", "", "redis://:hunter2@redis"), vec![auth], false),
        (given("", "", "/run/auth", "redis://:hunter2@redis"), vec![file], false),
        (given("off", "other", "", "rediss://:hunter2@redis"), vec![tls, auth], true),
        (given("", "other", "", "redis://redis"), vec![], false),
    ];
    for (flags, lines, is_secret) in cases {
        let mut read = SettingsReader::default();
        let settings = Settings::resolve_with(&flags, &mut read);
        assert_eq!(
            (read.idle, read.wrong.len()),
            (lines.into_iter().map(str::to_owned).collect(), 0),
            "{:?}",
            flags.redis_url
        );
        assert_eq!(settings.store.redis.expect("it has an address").tls.is_some(), is_secret, "{:?}", flags.redis_url);
    }
}

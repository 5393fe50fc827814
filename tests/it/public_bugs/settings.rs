//! Settings that are set by half, misspelt, or not known.

use std::{collections::BTreeSet, process::Output};

use crate::harness::{RulesDir, Tollgate, run_to_end};

type Env<'a> = &'a [(&'a str, &'a str)];

/// What is set, and the setting that is missing beside it.
const HALVES: &[(Env<'_>, &[&str])] = &[
    // The gRPC listener.
    (&[("GRPC_CLIENT_TLS_CACERT", "/certs/ca.crt")], &["GRPC_SERVER_USE_TLS"]),
    (&[("GRPC_SERVER_TLS_CA_CERT", "/certs/ca.crt")], &["GRPC_SERVER_USE_TLS"]),
    (&[("GRPC_CLIENT_TLS_SAN", "envoy")], &["GRPC_SERVER_USE_TLS", "GRPC_CLIENT_TLS_CACERT"]),
    (&[("GRPC_CLIENT_TLS_CACERT", "/certs/ca.crt"), ("GRPC_SERVER_USE_TLS", "false")], &["GRPC_SERVER_USE_TLS"]),
    (
        &[("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"), ("GRPC_SERVER_TLS_KEY", "/certs/tls.key")],
        &["GRPC_SERVER_USE_TLS"],
    ),
    (&[("GRPC_SERVER_TLS_CERT", "/certs/tls.crt")], &["GRPC_SERVER_USE_TLS"]),
    (&[("GRPC_SERVER_USE_TLS", "true")], &["GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY"]),
    (&[("GRPC_SERVER_USE_TLS", "true"), ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt")], &["GRPC_SERVER_TLS_KEY"]),
    // The HTTP listener.
    (&[("TOLLGATE_HTTP_TLS_CERT", "/certs/tls.crt")], &["TOLLGATE_HTTP_TLS_KEY"]),
    (&[("TOLLGATE_HTTP_TLS_KEY", "/certs/tls.key")], &["TOLLGATE_HTTP_TLS_CERT"]),
    (&[("TOLLGATE_HTTP_CLIENT_TLS_CACERT", "/certs/ca.crt")], &["TOLLGATE_HTTP_TLS_CERT", "TOLLGATE_HTTP_TLS_KEY"]),
    (
        &[("TOLLGATE_HTTP_TLS_CERT", "/certs/tls.crt"), ("TOLLGATE_HTTP_CLIENT_TLS_SAN", "envoy")],
        &["TOLLGATE_HTTP_TLS_KEY", "TOLLGATE_HTTP_CLIENT_TLS_CACERT"],
    ),
    // Redis.
    (&[("REDIS_TYPE", "cluster")], &["REDIS_URL"]),
    (&[("REDIS_SOCKET_TYPE", "tcp")], &["REDIS_URL"]),
    (&[("REDIS_AUTH", "secret")], &["REDIS_URL"]),
    (&[("REDIS_AUTH_FILE", "/run/auth")], &["REDIS_URL"]),
    (&[("REDIS_SENTINEL_AUTH", "secret")], &["REDIS_URL"]),
    (&[("REDIS_TLS", "yes")], &["REDIS_URL"]),
    (&[("REDIS_TLS_CACERT", "/certs/ca.crt")], &["REDIS_URL"]),
    (&[("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", "redis:6379")], &["REDIS_URL"]),
    (&[("BACKEND_TYPE", "redis")], &["REDIS_URL"]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_TLS_CACERT", "/certs/ca.crt")], &["REDIS_TLS"]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "on")], &["REDIS_TLS"]),
    (&[("REDIS_URL", "rediss://redis:6379"), ("REDIS_TLS_CLIENT_CERT", "/certs/tls.crt")], &["REDIS_TLS_CLIENT_KEY"]),
    (&[("REDIS_URL", "rediss://redis"), ("REDIS_TLS_CLIENT_KEY", "/certs/tls.key")], &["REDIS_TLS_CLIENT_CERT"]),
    (
        &[("REDIS_URL", "redis:6379"), ("REDIS_TLS_CLIENT_KEY", "/certs/tls.key")],
        &["REDIS_TLS_CLIENT_CERT", "REDIS_TLS "],
    ),
    (&[("REDIS_URL", "/run/redis.sock"), ("REDIS_TLS", "true")], &["REDIS_TLS"]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_SENTINEL_AUTH", "secret")], &["REDIS_TYPE"]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_PERSECOND", "true")], &["REDIS_PERSECOND_URL"]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_PERSECOND_URL", "redis:6380")], &["REDIS_PERSECOND "]),
    (&[("REDIS_URL", "redis:6379"), ("REDIS_PERSECOND_AUTH", "secret")], &["REDIS_PERSECOND "]),
    (
        &[
            ("REDIS_URL", "redis:6379"),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", "redis:6380"),
            ("REDIS_PERSECOND_SENTINEL_AUTH", "secret"),
        ],
        &["REDIS_PERSECOND_TYPE"],
    ),
    (&[("REDIS_TYPE", "cluster"), ("REDIS_URL", "redis://c1:7000,rediss://c2:7000")], &["REDIS_URL"]),
    (&[("REDIS_TYPE", "cluster"), ("REDIS_URL", "c1:7000,redis://:secret@c2:7000")], &["REDIS_URL"]),
    (&[("REDIS_TYPE", "cluster"), ("REDIS_URL", "redis://c1:7000/3")], &["REDIS_URL"]),
    // The control plane.
    (&[("CONFIG_GRPC_XDS_SERVER_URL", "plane:18001")], &["CONFIG_TYPE"]),
    (&[("CONFIG_GRPC_XDS_NODE_ID", "limits")], &["CONFIG_TYPE"]),
    (&[("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "30s")], &["CONFIG_TYPE"]),
    (
        &[("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/certs/ca.crt")],
        &["CONFIG_GRPC_XDS_SERVER_USE_TLS"],
    ),
    (
        &[("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/certs/tls.crt")],
        &["CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "CONFIG_GRPC_XDS_SERVER_USE_TLS"],
    ),
    // Metrics, traces, headers and tokens.
    (&[("STATSD_HOST", "statsd")], &["USE_STATSD"]),
    (&[("STATSD_PORT", "8125")], &["USE_STATSD"]),
    (
        &[("USE_STATSD", "true"), ("USE_DOG_STATSD_MOGRIFIERS", "hits")],
        &["USE_DOG_STATSD ", "DOG_STATSD_MOGRIFIER_HITS_PATTERN"],
    ),
    (&[("USE_DOG_STATSD", "true"), ("DOG_STATSD_MOGRIFIER_HITS_NAME", "$1")], &["USE_DOG_STATSD_MOGRIFIERS"]),
    (&[("TRACING_SAMPLING_RATE", "0.1")], &["TRACING_ENABLED"]),
    (
        &[("TRACING_ENABLED", "on"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/certs/tls.key")],
        &["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    ),
    (
        &[
            ("TRACING_ENABLED", "on"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/certs/ca.crt"),
        ],
        &["OTEL_EXPORTER_OTLP_ENDPOINT"],
    ),
    (&[("LIMIT_RESET_HEADER", "X-Reset")], &["LIMIT_RESPONSE_HEADERS_ENABLED"]),
    (&[("TOLLGATE_API_AUTH", "all")], &["TOLLGATE_API_TOKEN_FILE"]),
];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check(args: &[&str], env: Env<'_>) -> (Option<i32>, String) {
    let output = run_to_end(&[&["check", "--settings"], args].concat(), env);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

/// Settings that are right are followed by rules that aren't there, so that the process ends in any case.
fn serve(env: Env<'_>) -> (Option<i32>, String) {
    let output = run_to_end(&["serve"], &[env, &[("TOLLGATE_RULES", "/nowhere")]].concat());
    (output.status.code(), stderr(&output))
}

#[test]
fn half_a_pair_of_settings_started_without_a_word() {
    for (env, missing) in HALVES {
        for (code, said) in [serve(env), check(&[], env)] {
            assert!(code == Some(1) && !said.contains("/nowhere"), "{env:?}: {code:?} {said}");
            for name in *missing {
                let named = |line: &str| line.trim_start().trim_start_matches("error: ").starts_with(name.trim_end());
                assert!(said.lines().any(named), "{env:?} doesn't name {name}: {said}");
            }
            let quoted = env.iter().filter(|(_, value)| *value == "secret" && said.contains("secret"));
            assert_eq!(quoted.count(), 0, "{said}");
        }
    }
}

#[test]
fn a_mistake_in_redis_url_came_alone_and_after_the_rules_were_loaded() {
    for (env, named) in [
        (&[("REDIS_URL", "redis:port")][..], "REDIS_URL: "),
        (&[("REDIS_TYPE", "cluster"), ("REDIS_URL", " ")], "REDIS_URL: "),
        (
            &[("REDIS_URL", "redis"), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", "http://a")],
            "REDIS_PERSECOND_URL: ",
        ),
    ] {
        let (code, said) = serve(&[env, &[("GRPC_PORT", "seventy")]].concat());
        assert!(code == Some(1) && said.contains(named) && said.contains("GRPC_PORT"), "{said}");
        assert!(!said.contains("/nowhere"), "the rules were read: {said}");
    }
}

#[test]
fn a_list_of_addresses_was_taken_for_one_host() {
    for (kind, url) in [("", "a:6379,b:6379"), ("single", "a,b"), ("single", "redis://:secret@a:1,b:2")] {
        let (code, said) = check(&[], &[("REDIS_TYPE", kind), ("REDIS_URL", url)]);
        assert!(code == Some(1) && said.contains("REDIS_TYPE=cluster or sentinel"), "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    for url in ["a b:6379", "a:1:2", "redis://a\t:1"] {
        let (code, said) = check(&[], &[("REDIS_URL", url)]);
        assert!(code == Some(1) && said.contains("expected host:port"), "{url}: {said}");
    }
    for url in ["::1", "[::1]:6379", "fe80::1%eth0", "a", "redis://:p,w@a"] {
        assert_eq!(check(&[], &[("REDIS_URL", url)]).0, Some(0), "{url}");
    }
}

#[test]
fn a_prefix_with_empty_braces_was_crossslot_for_ever() {
    let cluster = [("REDIS_TYPE", "cluster"), ("REDIS_URL", "c1:7000")];
    let second = [
        ("REDIS_URL", "redis"),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_TYPE", "cluster"),
        ("REDIS_PERSECOND_URL", "c1:7000"),
    ];
    for prefix in ["{}", "limits{}:", "limits{", "a{}{b}"] {
        for env in [&cluster[..], &second] {
            let (code, said) = serve(&[env, &[("CACHE_KEY_PREFIX", prefix)]].concat());
            assert!(
                code == Some(1) && said.contains("CACHE_KEY_PREFIX") && !said.contains("/nowhere"),
                "{prefix}: {said}"
            );
            assert_eq!(said.matches("CACHE_KEY_PREFIX").count(), 1, "{said}");
        }
        let (code, said) = check(&[], &[("REDIS_URL", "redis"), ("CACHE_KEY_PREFIX", prefix)]);
        assert_eq!(code, Some(0), "a single Redis places nothing: {said}");
    }
    for prefix in ["{limits}", "limits}", "limits:"] {
        assert_eq!(check(&[], &[&cluster[..], &[("CACHE_KEY_PREFIX", prefix)]].concat()).0, Some(0), "{prefix}");
    }
}

#[test]
fn all_halves_are_named_at_once_and_with_them_what_cannot_be_read() {
    let env = [
        ("GRPC_CLIENT_TLS_CACERT", "/certs/ca.crt"),
        ("REDIS_URL", "redis:port"),
        ("REDIS_TLS_CLIENT_CERT", "/certs/tls.crt"),
        ("STATSD_HOST", "statsd"),
        ("GRPC_PORT", "seventy"),
    ];
    for (code, said) in [serve(&env), check(&[], &env)] {
        assert_eq!(code, Some(1), "{said}");
        for name in ["GRPC_SERVER_USE_TLS", "REDIS_URL: ", "REDIS_TLS_CLIENT_KEY", "USE_STATSD", "GRPC_PORT"] {
            assert!(said.contains(name), "no {name} in {said}");
        }
    }
}

#[test]
fn what_was_switched_off_outright_starts_and_says_what_does_nothing() {
    let off: &[(Env<'_>, &str)] = &[
        (&[("GRPC_SERVER_USE_TLS", "false"), ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt")], "GRPC_SERVER_TLS_CERT"),
        (&[("BACKEND_TYPE", "memory"), ("REDIS_AUTH", "a"), ("REDIS_TYPE", "cluster")], "REDIS_TYPE and REDIS_AUTH"),
        (&[("REDIS_URL", "redis"), ("REDIS_TLS", "no"), ("REDIS_TLS_CACERT", "/certs/ca.crt")], "REDIS_TLS_CACERT"),
        (&[("REDIS_URL", "redis"), ("REDIS_PERSECOND", "0"), ("REDIS_PERSECOND_URL", "b")], "REDIS_PERSECOND_URL"),
        (&[("CONFIG_TYPE", "FILE"), ("CONFIG_GRPC_XDS_SERVER_URL", "a:1")], "CONFIG_GRPC_XDS_SERVER_URL"),
        (&[("USE_STATSD", "false"), ("STATSD_HOST", "statsd")], "STATSD_HOST"),
        (&[("TRACING_ENABLED", "off"), ("TRACING_SAMPLING_RATE", "1")], "TRACING_SAMPLING_RATE"),
        (&[("REDIS_URL", "redis"), ("REDIS_AUTH", "a"), ("REDIS_AUTH_FILE", "/run/auth")], "REDIS_AUTH"),
        (&[("TOLLGATE_RULES", "/rules"), ("RUNTIME_ROOT", "/data")], "RUNTIME_ROOT"),
        (&[("TOLLGATE_RULES", "/rules"), ("CONFIG_TYPE", "GRPC_XDS_SOTW")], "TOLLGATE_RULES"),
        (&[("REDIS_TIMEOUT", "1s")], "REDIS_TIMEOUT"),
    ];
    for (env, idle) in off {
        let (code, said) = check(&[], env);
        let verb = if idle.contains(" and ") { "do" } else { "does" };
        assert!(code == Some(0) && said.contains(&format!("warning: {idle} {verb} nothing here: ")), "{env:?}: {said}");
    }
}

#[test]
fn a_second_redis_in_the_clear_beside_one_with_tls_is_spoken_of() {
    let both = [("REDIS_URL", "rediss://a"), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", "b")];
    let (code, said) = check(&[], &both);
    assert!(code == Some(0) && said.starts_with("warning: REDIS_PERSECOND_TLS isn't set"), "{said}");
    let (_, said) = check(&[], &[&both[..], &[("REDIS_PERSECOND_TLS", "false")]].concat());
    assert_eq!(said, "ok: settings\n");
}

#[test]
fn no_and_off_named_a_header_and_were_refused_elsewhere() {
    let (yes, no) =
        (["1", "t", "True", "YES", "y", "On", "enabled"], ["0", "F", "false", "No", "n", "oFF", "disabled"]);
    let help = String::from_utf8(run_to_end(&["serve", "--help"], &[]).stdout).expect("help is text");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    // Every switch, by the name of its value; and the one that takes a header's name too.
    let switches: BTreeSet<&str> = help
        .split(" --")
        .filter(|part| part.contains("<BOOL>]") || part.contains("<BOOL> ") || part.starts_with("retry-after-header"))
        .filter_map(|part| part.split_once("[env: ")?.1.split(['=', ']']).next())
        .collect();
    assert!(switches.len() > 20 && switches.contains("TOLLGATE_RETRY_AFTER_HEADER"), "{switches:?}");
    for word in yes.into_iter().chain(no) {
        // All at once: what can't be read is named, whatever else is wrong beside it.
        let env: Vec<(&str, &str)> = switches.iter().map(|name| (*name, word)).collect();
        let (_, said) = check(&[], &env);
        assert!(!said.contains("expected"), "{word}: {said}");
    }
    let (code, said) = check(&[], &[("SHADOW_MODE", "perhaps"), ("TOLLGATE_RETRY_AFTER_HEADER", "a b")]);
    assert!(code == Some(1) && said.matches("expected").count() == 2, "{said}");
    for (word, is_skipped) in [("disabled", false), ("OFF", false), ("on", true), ("enabled", true)] {
        let rules = RulesDir::with(".hidden.yaml", "domain: a\ndescriptors: [{key: k, rate_limit: 1/s}]\n");
        let path = rules.path().to_str().expect("a test's path is text");
        let said = run_to_end(&["check", path], &[("RUNTIME_IGNOREDOTFILES", word)]).stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(said.contains("1 domain"), !is_skipped, "{word}: {said}");
    }
}

#[tokio::test]
async fn no_header_is_called_no() {
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors: [{key: user, rate_limit: {requests_per_unit: 0, unit: minute}}]\n",
    );
    for (word, header) in [("yes", Some("Retry-After")), ("on", Some("Retry-After")), ("no", None), ("Off", None)] {
        let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_RETRY_AFTER_HEADER", word)]).await;
        let request = crate::harness::request("api", vec![crate::harness::descriptor(&[("user", "a")])]);
        let RateLimitResponse { response_headers_to_add, .. } =
            tollgate.client().ask(request).await.expect("an answer");
        let names: Vec<_> = response_headers_to_add.iter().map(|header| &*header.key).collect();
        assert_eq!(names, header.into_iter().collect::<Vec<_>>(), "{word}");
    }
}

#[test]
fn a_misspelt_variable_was_ignored() {
    let meant = [
        ("REDIS_URI", "REDIS_URL"),
        ("REDIS_PASSWORD", "REDIS_AUTH"),
        ("REDIS_PER_SECOND_URL", "REDIS_PERSECOND_URL"),
        ("TOLLGATE_REDIS_URL", "REDIS_URL"),
        ("REDIS_BUCKETS", "TOLLGATE_REDIS_BUCKETS"),
        ("GRPC_SERVER_TLS_CACERT", "GRPC_SERVER_TLS_CA_CERT"),
        ("LIMIT_RESPONSE_HEADER_ENABLED", "LIMIT_RESPONSE_HEADERS_ENABLED"),
        ("CONFIG_GRPC_XDS_URL", ""),
        ("XDS_CLIENT_MAX_MSG_SIZE", ""),
        ("USE_STATS", "USE_STATSD"),
        ("MEMCACHE_TTL", "MEMCACHE_TLS"),
        ("TOLLGATE_STORE_TIMEOUTS", "TOLLGATE_STORE_TIMEOUT"),
        ("TOLLGATE_FUTURE", ""),
        ("REDIS_SOMETHING_NEW", ""),
        // Of others only what is nearly a name of ours.
        ("RUNTIME_SUBDIRECTORIES", ""),
        ("SHADOW_MODES", "SHADOW_MODE"),
    ];
    for (name, meant) in meant {
        let (code, said) = check(&[], &[(name, "hunter2")]);
        let hint = match meant {
            "" if name.starts_with("RUNTIME") => {
                assert!(!said.contains(name), "{said}");
                continue;
            }
            "" => "newer than this version knows".to_owned(),
            meant => format!("did you mean {meant}?"),
        };
        let line = said.lines().find(|line| line.contains(&format!("{name} does nothing here")));
        assert!(code == Some(0) && line.is_some_and(|line| line.contains(&hint)), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_kubernetes_and_grpc_set_is_not_spoken_of() {
    let env = [
        ("REDIS_SERVICE_HOST", "10.0.0.7"),
        ("REDIS_SERVICE_PORT", "6379"),
        ("REDIS_SERVICE_PORT_TCP_REDIS", "6379"),
        ("REDIS_PORT", "tcp://10.0.0.7:6379"),
        ("REDIS_PORT_6379_TCP", "tcp://10.0.0.7:6379"),
        ("REDIS_PORT_6379_TCP_PROTO", "tcp"),
        ("REDIS_PORT_6379_TCP_PORT", "6379"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.7"),
        ("REDIS_TLS_PORT", "tcp://10.0.0.8:6379"),
        ("TOLLGATE_SERVICE_HOST", "10.0.0.9"),
        ("TOLLGATE_PORT", "tcp://10.0.0.9:8081"),
        ("TOLLGATE_PORT_8081_TCP_ADDR", "10.0.0.9"),
        ("GRPC_VERBOSITY", "info"),
        ("GRPC_TRACE", "all"),
        ("GRPC_GO_LOG_SEVERITY_LEVEL", "info"),
        ("GRPC_DNS_RESOLVER", "native"),
        ("GRPC_XDS_BOOTSTRAP", "/etc/bootstrap.json"),
        ("TOLLGATE_TOKEN", "for `tollgate overrides`"),
        ("PATH", "/bin"),
        ("HOSTNAME", "limits-0"),
        ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
    ];
    assert_eq!(check(&[], &env), (Some(0), "ok: settings\n".to_owned()));
    // A name of ours that Kubernetes takes for its own is an error, which says where it comes from.
    let (code, said) = check(&[], &[("STATSD_PORT", "tcp://10.0.0.7:8125"), ("USE_STATSD", "true")]);
    assert!(code == Some(1) && said.contains("enableServiceLinks"), "{said}");
}

/// What one subcommand reads is known to serving, so that nobody is told that nothing reads it.
#[test]
fn no_variable_of_any_subcommand_is_called_unknown() {
    let mut names = BTreeSet::new();
    for command in ["serve", "check", "test", "explain", "call", "overrides list", "bench"] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = String::from_utf8(run_to_end(&args, &[]).stdout).expect("help is text");
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        names.extend(help.split("[env: ").skip(1).filter_map(|rest| Some(rest.split(['=', ']']).next()?.to_owned())));
    }
    assert!(names.contains("TOLLGATE_ADDR") && names.contains("REDIS_URL"), "{names:?}");
    for name in &names {
        let (_, said) = check(&[], &[(name.as_str(), "x")]);
        assert!(!said.contains("nothing reads it"), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_start_says_in_its_log_what_nothing_reads() {
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let tollgate =
        Tollgate::start_with(rules.path(), &[("REDIS_URI", "redis:6379"), ("REDIS_SERVICE_HOST", "a")]).await;
    let log = tollgate.process.log();
    let warned: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"")).collect();
    assert!(warned.len() == 1 && warned[0].contains("REDIS_URI") && warned[0].contains("REDIS_URL?"), "{log}");
}

#[test]
fn settings_are_checked_before_a_rollout_by_flags_too_and_for_programs() {
    let (code, said) = check(&["--redis-tls", "true", "--format", "json"], &[("REDIS_URI", "a")]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["ok"]), (Some(1), &false.into()), "{said}");
    let severities: Vec<_> = said["problems"].as_array().expect("a list").iter().map(|one| &one["severity"]).collect();
    assert_eq!(severities, ["error", "warning"], "{said}");
    let (code, said) = check(&["--format", "github", "--grpc-port", "x"], &[]);
    assert!(code == Some(1) && said.starts_with("::error::GRPC_PORT (--grpc-port): 'x'"), "{said}");
    let (code, said) = check(&["--redis-url", "redis:6379"], &[]);
    assert_eq!((code, &*said), (Some(0), "ok: settings\n"));
    let (code, said) = check(&["--grpc-prot", "1", "--port", "x"], &[]);
    assert!(code == Some(2) && said.contains("--grpc-port?") && said.contains("PORT (--port): 'x'"), "{said}");
}

#[test]
fn certificates_of_a_client_in_the_clear_are_refused() {
    let call = run_to_end(&["overrides", "list", "--addr", "127.0.0.1:1", "--cacert", "/certs/ca.crt"], &[]);
    let said = stderr(&call);
    assert!(call.status.code() == Some(2) && said.contains("https://") && said.contains("--cacert"), "{said}");
}

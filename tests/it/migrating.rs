//! The page on coming from envoyproxy/ratelimit: its table of variables is the program's own, and complete.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use tollgate::settings::{Fate, VARIABLES};

use crate::{
    harness::{Process, REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, request, run_to_end},
    redis_server::RedisServer,
};

/// Variable, fate and remark of each row of the page's table.
fn rows() -> Vec<[&'static str; 3]> {
    let page = include_str!("../../docs/src/guides/moving-variables.md");
    let section = page.split_once("## Variables\n").expect("a section").1.split("\n#").next().expect("its text");
    let row = |line: &'static str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let (fate, remark) = rest.trim_end().strip_suffix('|')?.split_once('|')?;
        Some([name, fate.trim(), remark.trim()])
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_table_has_each_variable_once_with_the_programs_own_words() {
    let known: BTreeMap<_, _> = VARIABLES.iter().map(|variable| (variable.name, variable.fate)).collect();
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(|[name, ..]| *name).collect();
    assert_eq!(named.len(), rows.len(), "a variable has two rows");
    assert_eq!(named, known.keys().copied().collect(), "the page and the program know different variables");
    for [name, fate, remark] in rows {
        match known[name] {
            Fate::Honoured => assert_eq!(fate, "honoured", "{name}"),
            Fate::Replaced(_, sentence) => assert_eq!([fate, remark], ["does nothing", sentence], "{name}"),
            Fate::Refused(sentence) => assert_eq!([fate, remark], ["refused", sentence], "{name}"),
        }
    }
}

/// The 114 of the reference's settings, two that were merged there since, and those that its libraries, its documentation and Envoy Gateway add (30 of them
/// OpenTelemetry's, with one for all others of its): a row that
/// is lost would be a variable that is silently ignored.
#[test]
fn no_variable_of_the_reference_is_missing() {
    assert_eq!(VARIABLES.len(), 155);
}

#[test]
fn every_honoured_variable_is_a_setting() {
    let help = String::from_utf8(run_to_end(&["serve", "--help"], &[]).stdout).expect("help is text");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let honoured = VARIABLES.iter().filter(|variable| variable.fate == Fate::Honoured);
    let unread: Vec<_> = honoured
        .map(|variable| variable.name)
        .filter(|name| !help.contains(&format!("[env: {name}=")) && !help.contains(&format!("[env: {name}]")))
        // Their names are the user's, so no flag has them; statsd.rs shows that they are read.
        .filter(|name| *name != "DOG_STATSD_MOGRIFIER_*")
        // OpenTelemetry's are in the environment only; the settings' own tests show that they are read.
        .filter(|name| !name.starts_with("OTEL_"))
        .collect();
    assert_eq!(unread, Vec::<&str>::new(), "called honoured, but nothing reads them");
}

#[tokio::test]
async fn what_does_nothing_is_said_in_one_line_each_and_the_differences_in_one_more() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    let env =
        [("REDIS_POOL_SIZE", "10"), ("REDIS_PIPELINE_WINDOW", "150us"), ("LOCAL_CACHE_SIZE_IN_BYTES", "0x100000")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for (name, _) in env {
        assert_eq!(lines(&tollgate.process, "WARN", name), 1, "{name}");
    }
    assert_eq!(lines(&tollgate.process, "WARN", ""), env.len(), "{}", tollgate.process.log());
    assert_eq!(lines(&tollgate.process, "INFO", "eight defaults differ"), 1);
}

/// Started by its own flags and variables, with or without one of envoyproxy/ratelimit's besides.
#[tokio::test]
async fn the_differences_are_said_only_where_a_variable_of_the_reference_is_set() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    let directory = rules.path().to_str().expect("temporary paths are text");
    for (variable, times) in [(("LOG_LEVEL", "info"), 0), (("USE_STATSD", "false"), 1), (("RUNTIME_ROOT", "/data"), 1)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "--rules", directory, "--log-format", "json", "--prometheus-addr", "127.0.0.1:0"]);
        for listener in ["--grpc-", "--", "--debug-"] {
            command.args([format!("{listener}host"), "127.0.0.1".into(), format!("{listener}port"), "0".into()]);
        }
        let process = Process::spawn("tollgate", command.env_clear().envs([variable]));
        process.line("that it is ready", |line| line.contains("answering requests").then_some(())).await;
        assert_eq!(lines(&process, "INFO", "defaults differ"), times, "{variable:?}: {}", process.log());
    }
}

/// How many lines of the log have this level and this in them.
fn lines(process: &Process, level: &str, text: &str) -> usize {
    let level = format!("\"level\":\"{level}\"");
    process.log().lines().filter(|line| line.contains(&level) && line.contains(text)).count()
}

#[test]
fn wrong_values_of_variables_that_do_nothing_are_named_with_the_others_and_exit_with_1() {
    let wrong = [
        ("REDIS_POOL_SIZE", "ten"),
        ("TRACING_SAMPLING_RATE", "half"),
        ("MEMCACHE_TLS", "perhaps"),
        ("REDIS_STARTUP_MAX_INTERVAL", "30"),
        ("GRPC_PORT", "seventy"),
        ("BACKEND_TYPE", "memcache"),
    ];
    let output = run_to_end(&[], &wrong);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (name, value) in wrong {
        assert!(said.contains(name) && said.contains(&format!("'{value}'")), "no {name} in:\n{said}");
    }
}

#[tokio::test]
async fn log_levels_are_spelled_as_there() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    // What a listener says of itself is INFO: a level above it must be known and must hide it.
    for level in ["warning", "WARN", "error", "fatal", "panic"] {
        let said = run_to_end(&["serve", "--rules", "/nowhere"], &[("LOG_LEVEL", level)]);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("/nowhere") && !said.contains("LOG_LEVEL") && !said.contains("eight"), "{level}: {said}");
    }
    for level in ["INFO", "debug", "trace"] {
        Tollgate::start_with(rules.path(), &[("LOG_LEVEL", level)]).await;
    }
}

/// What is answered to costs of 2, 2 and 1 of a limit of 3: the second is denied.
async fn costs_of_two_two_and_one(env: &[(&str, &str)]) -> ([bool; 3], String) {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors: [{key: user, rate_limit: {requests_per_unit: 3, unit: year}}]\n",
    );
    let tollgate = Tollgate::start_with(rules.path(), &[&[("TOLLGATE_COMPAT", "envoyproxy")], env].concat()).await;
    if env.iter().any(|(name, _)| *name == "REDIS_URL") {
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    }
    let client = tollgate.client();
    let mut admitted = [false; 3];
    for (hits, admitted) in [2, 2, 1].into_iter().zip(&mut admitted) {
        let request = RateLimitRequest { hits_addend: hits, ..request("api", vec![descriptor(&[("user", "a")])]) };
        *admitted = client.ask(request).await.expect("an answer").overall_code() == Code::Ok;
    }
    (admitted, tollgate.process.log())
}

#[tokio::test]
async fn denied_hits_count_with_compat_unless_the_reference_was_told_to_stop() {
    const STOP: &str = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT";
    let redis = RedisServer::start();
    let url = redis.address();
    for store in [&[][..], &[("REDIS_URL", &*url), ("CACHE_KEY_PREFIX", "a")]] {
        let (counted, _) = costs_of_two_two_and_one(store).await;
        assert_eq!(counted, [true, false, false], "{store:?}");
    }
    for store in [&[][..], &[("REDIS_URL", &*url), ("CACHE_KEY_PREFIX", "b")]] {
        let (free, log) = costs_of_two_two_and_one(&[store, &[(STOP, "true")]].concat()).await;
        assert_eq!(free, [true, false, true], "{store:?}");
        assert!(!log.contains(STOP), "it does what it says: {log}");
    }
    // What is said outright beats it, and the log says so.
    let (counted, log) = costs_of_two_two_and_one(&[(STOP, "true"), ("TOLLGATE_COUNT_DENIED", "true")]).await;
    assert_eq!(counted, [true, false, false]);
    assert!(log.contains(&format!("{STOP} does nothing here: TOLLGATE_COUNT_DENIED is true")), "{log}");
    let said = run_to_end(&["check", "--settings"], &[(STOP, "true")]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains(&format!("{STOP} does nothing here: without TOLLGATE_COMPAT it is always so")), "{said}");
}

#[test]
fn months_of_the_calendar_were_ignored_silently() {
    let check = |value| {
        let output = run_to_end(&["check", "--settings"], &[("USE_CALENDAR_MONTH_RATE_LIMIT", value)]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check("true");
    assert!(code == Some(1) && said.contains("no windows of calendar months yet"), "{said}");
    assert_eq!(check("false"), (Some(0), "ok: settings\n".to_owned()));
    let serve = run_to_end(&["serve"], &[("USE_CALENDAR_MONTH_RATE_LIMIT", "1"), ("TOLLGATE_RULES", "/nowhere")]);
    let said = String::from_utf8_lossy(&serve.stderr).into_owned();
    assert!(serve.status.code() == Some(1) && said.contains("calendar months") && !said.contains("/nowhere"), "{said}");
    let readonly = run_to_end(&["check", "--settings"], &[("REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR", "true")]);
    let said = String::from_utf8_lossy(&readonly.stdout).into_owned();
    assert!(said.contains("does nothing here: it is always so"), "{said}");
}

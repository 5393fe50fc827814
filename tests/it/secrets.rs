//! Passwords of Redis and of its sentinels: used, and shown nowhere.

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, eventually, run_to_end},
    redis_server::{RedisServer, start_sentinel},
};

const SECRET: &str = "hunter2";

#[test]
fn help_shows_no_value_of_a_setting_that_may_hold_a_password() {
    let help = |env: &[(&str, &str)]| {
        let output = run_to_end(&["serve", "--help"], env);
        String::from_utf8(output.stdout).expect("help is text")
    };
    // Each setting's placeholder, and the variable behind it.
    let (mut secrets, mut placeholder) = (Vec::new(), "");
    let text = help(&[]);
    for line in text.lines() {
        if let Some((_, after)) = line.split_once("--").and_then(|(_, flag)| flag.split_once('<')) {
            placeholder = after.trim_end_matches('>');
        }
        if let Some((_, variable)) = line.split_once("[env: ")
            && ["SECRET", "URL"].contains(&placeholder)
        {
            secrets.push(variable.trim_end_matches([']', '=']));
        }
    }
    for known in ["REDIS_URL", "REDIS_AUTH", "REDIS_SENTINEL_AUTH", "REDIS_PERSECOND_URL", "REDIS_PERSECOND_AUTH"] {
        assert!(secrets.contains(&known), "{known} is not among {secrets:?}");
    }
    let mut env: Vec<(&str, &str)> = secrets.iter().map(|name| (*name, SECRET)).collect();
    env.push(("REDIS_AUTH_FILE", "/run/a-file"));
    let text = help(&env);
    assert!(text.contains("/run/a-file"), "where a file lies is shown:\n{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn an_address_that_cannot_be_read_is_named_and_not_repeated() {
    let url = format!("redis://:{SECRET},x@c1:7000,c2:7000");
    let told = |env: &[(&str, &str)]| {
        let output = run_to_end(&["serve", "--rules", "config"], env);
        assert_eq!(output.status.code(), Some(1), "{env:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
    };
    let first = told(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url)]);
    let second = [("REDIS_PERSECOND_TYPE", "cluster"), ("REDIS_PERSECOND_URL", url.as_str())];
    let second = told(&[&[("REDIS_URL", "redis"), ("REDIS_PERSECOND", "true")][..], &second].concat());
    for (name, said) in [("REDIS_URL: number 1 ", first), ("REDIS_PERSECOND_URL: number 1 ", second)] {
        assert!(said.contains(name) && said.contains("host:port") && !said.contains(SECRET), "{said}");
    }
}

#[tokio::test]
async fn a_master_and_its_sentinel_are_given_their_passwords_and_the_log_is_not() {
    const OF_THE_SENTINEL: &str = "correct-horse";
    let master = RedisServer::start();
    let sentinel = start_sentinel(&master);
    sentinel.cli(&["sentinel", "set", "tollgate", "auth-pass", SECRET]);
    master.cli(&["config", "set", "requirepass", SECRET]);
    sentinel.cli(&["acl", "setuser", "default", "resetpass", &format!(">{OF_THE_SENTINEL}")]);

    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let url = format!("tollgate,{}", sentinel.address());
    let with = |of_the_sentinel: &'static str| {
        let env = [
            ("REDIS_TYPE", "sentinel"),
            ("REDIS_URL", url.as_str()),
            ("REDIS_AUTH", SECRET),
            ("REDIS_SENTINEL_AUTH", of_the_sentinel),
            ("LOG_LEVEL", "trace"),
        ];
        let rules = rules.path();
        async move { Tollgate::start_with(rules, &env).await }
    };
    let [good, wrong] = [with(OF_THE_SENTINEL).await, with("battery-staple").await];
    good.redis_connections_are(REDIS_CONNECTIONS).await;
    for admitted in [true, true, true, false] {
        assert_eq!(good.client().admits("api", &[("user", "alice")]).await, admitted);
    }
    eventually("attempts with the wrong password", || async {
        (wrong.metric("tollgate_redis_connect_failures_total").await > REDIS_CONNECTIONS).then_some(())
    })
    .await;
    assert_eq!(wrong.metric("tollgate_redis_connections").await, 0.0);
    for tollgate in [&good, &wrong] {
        let log = tollgate.process.log();
        for secret in [SECRET, OF_THE_SENTINEL, "battery-staple"] {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

#[tokio::test]
async fn a_secret_in_arguments_is_warned_of_and_not_repeated_and_one_in_the_environment_is_not() {
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let url = format!("redis://:{SECRET}@127.0.0.1:1");
    let node = ["--redis-auth", SECRET, "--redis-url", &url];
    let sentinel = ["--redis-type", "sentinel", "--redis-url", "master,127.0.0.1:1", "--redis-sentinel-auth", SECRET];
    for (args, flags) in [(&node[..], &["--redis-auth ", "--redis-url "][..]), (&sentinel, &["--redis-sentinel-auth "])]
    {
        let seen = Tollgate::start_with_args(rules.path(), args, &[]).await;
        for flag in flags {
            let line = seen.process.line(flag, |line| line.contains(flag).then(|| line.to_owned())).await;
            assert!(line.contains("WARN") && line.contains("list of processes"), "{line}");
        }
        let log = seen.process.log();
        assert!(log.contains("in the environment"), "{log}");
        assert!(!log.contains(SECRET), "{log}");
    }

    let env = [("REDIS_AUTH", SECRET), ("REDIS_URL", &url), ("REDIS_PERSECOND", "true")];
    let unseen = Tollgate::start_with_args(rules.path(), &["--redis-persecond-url", "127.0.0.1:1"], &env).await;
    assert!(!unseen.process.log().contains("list of processes"), "{}", unseen.process.log());
}

/// The line that says what to do about the password.
async fn advice(env: &[(&str, &str)]) -> String {
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), env).await;
    let said = |line: &str| line.contains("Redis answers with an error").then(|| line.to_owned());
    tollgate.process.line("what to do about the password", said).await
}

#[tokio::test]
async fn a_wrong_password_is_blamed_on_the_setting_that_has_it() {
    let redis = RedisServer::start_with(&["--requirepass", SECRET]);
    let (address, good) = (redis.address(), format!("redis://:{SECRET}@{}", redis.address()));
    let wrong = format!("redis://:wrong@{address}");
    let file = RulesDir::with("auth", "wrong\n");
    let file = file.path().join("auth");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("REDIS_URL", &address)], "set REDIS_AUTH or REDIS_AUTH_FILE"),
        (&[("REDIS_URL", &wrong)], "password of REDIS_URL (where % "),
        (&[("REDIS_URL", &address), ("REDIS_AUTH", "wrong")], "password of REDIS_AUTH\""),
        (
            &[("REDIS_URL", &address), ("REDIS_AUTH", "wr:ong")],
            "password of REDIS_AUTH (what stands before its first colon",
        ),
        (
            &[("REDIS_URL", &address), ("REDIS_AUTH_FILE", file.to_str().unwrap())],
            "password of the file of REDIS_AUTH_FILE (",
        ),
        (
            &[("REDIS_URL", &good), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &wrong)],
            "password of REDIS_PERSECOND_URL (",
        ),
    ];
    for (env, expected) in cases {
        let line = advice(env).await;
        assert!(line.contains(expected), "{env:?}: {line}");
        assert!(!line.contains("wr:ong") && !line.contains(SECRET), "{line}");
    }
}

#[tokio::test]
async fn a_sentinels_password_is_asked_for_by_its_own_name() {
    let master = RedisServer::start();
    let sentinel = start_sentinel(&master);
    sentinel.cli(&["acl", "setuser", "default", "resetpass", ">other"]);
    let url = format!("tollgate,{}", sentinel.address());
    let env = [("REDIS_TYPE", "sentinel"), ("REDIS_URL", url.as_str()), ("REDIS_AUTH", SECRET)];
    for more in [&[][..], &[("REDIS_SENTINEL_AUTH", "wrong")]] {
        let line = advice(&[&env[..], more].concat()).await;
        assert!(line.contains("set REDIS_SENTINEL_AUTH") && !line.contains("REDIS_AUTH "), "{line}");
        assert!(line.contains(&sentinel.address()), "{line}");
    }
}

#[tokio::test]
async fn the_end_of_a_line_behind_a_secret_is_none_of_it() {
    let redis = RedisServer::start_with(&["--requirepass", SECRET]);
    let (address, ended) = (redis.address(), format!("{SECRET}\n"));
    let url = format!("redis://:{SECRET}@{address}\r\n");
    for env in [&[("REDIS_URL", &*address), ("REDIS_AUTH", &*ended)][..], &[("REDIS_URL", &*url)]] {
        let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
        let tollgate = Tollgate::start_with(rules.path(), env).await;
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    }
}

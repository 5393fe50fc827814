//! A Redis that takes tokens of AWS IAM as its password: real ones, over TLS, whose user has the tokens of the next minutes
//! as passwords, made by the tests' own signing. Credentials come from services of AWS that the tests play.

mod aws;

use std::time::Duration;

use self::aws::{Aws, Mood, token};
use crate::{
    harness::{Load, REDIS_CONNECTIONS, RulesDir, Tollgate, aside, descriptor, eventually, request},
    redis_server::RedisServer,
    redis_topology::{tls_port, tls_server},
};

const RULES: &str =
    "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 4000000, unit: day}\n";

/// Tokens are of one second each: those of a test's time, and more.
const SECONDS: u64 = 150;

/// A Redis with the user `tollgate`, whose passwords are the tokens that the holder of `key` may make for `cache`.
fn cache(key: &str) -> RedisServer {
    let server = tls_server(false);
    let now = tollgate::clock::now().0 / 1_000_000;
    let passwords: Vec<String> = (0..SECONDS).map(|second| format!(">{}", token(key, now - 2 + second))).collect();
    let mut command = vec!["acl", "setuser", "tollgate", "on", "~*", "&*", "+@all"];
    command.extend(passwords.iter().map(String::as_str));
    assert_eq!(server.cli(&command), "OK");
    // Whoever shows no token has no rights.
    server
}

/// Settings of a Tollgate whose Redis this is.
fn env(server: &RedisServer) -> Vec<(&'static str, String)> {
    vec![
        ("REDIS_URL", format!("127.0.0.1:{}", tls_port(server))),
        ("REDIS_TLS", "true".into()),
        ("REDIS_TLS_CACERT", server.dir().join("ca.pem").to_str().expect("a path").into()),
        ("REDIS_AWS_IAM_AUTH", "true".into()),
        ("REDIS_AWS_IAM_CACHE_NAME", "limits".into()),
        ("REDIS_AWS_IAM_USER_ID", "tollgate".into()),
    ]
}

async fn started(env: &[(&'static str, String)], more: &[(&str, &str)]) -> (Tollgate, RulesDir) {
    let rules = RulesDir::with("api.yaml", RULES);
    let env: Vec<(&str, &str)> =
        env.iter().map(|(name, value)| (*name, &**value)).chain(more.iter().copied()).collect();
    (Tollgate::start_with(rules.path(), &env).await, rules)
}

/// Waits until decisions are made in Redis, by the user that has tokens and no other.
async fn decides_in(server: &RedisServer, tollgate: &Tollgate) {
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let answer = tollgate.client().ask(request("api", vec![descriptor(&[("user", "alice")])])).await;
    answer.expect("it is answered");
    let clients = server.cli(&["client", "list"]);
    assert!(clients.lines().any(|line| line.contains("user=tollgate")), "{clients}");
}

#[tokio::test]
async fn the_role_of_an_instance_signs_the_token_of_each_connection() {
    let aws = Aws::start().await;
    let server = cache("instance");
    let (tollgate, _rules) = started(&env(&server), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &aws.url())]).await;
    decides_in(&server, &tollgate).await;
    // One task asks for all connections.
    assert_eq!(aws.asked_for_credentials(), 1);
}

#[tokio::test]
async fn a_web_identity_and_a_container_sign_tokens_too_and_so_does_the_environment() {
    let aws = Aws::start().await;
    let identity = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&identity, "of a pod").expect("it is ours");
    let (url, container) = (aws.url(), format!("{}/container", aws.url()));
    let sources: [(&str, &[(&str, &str)]); 3] = [
        (
            "web",
            &[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", identity.path().to_str().expect("a path")),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/limits"),
                ("AWS_ENDPOINT_URL_STS", &url),
            ],
        ),
        ("container", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)]),
        ("environment", &[("AWS_ACCESS_KEY_ID", "environment"), ("AWS_SECRET_ACCESS_KEY", aws::SECRET)]),
    ];
    for (key, settings) in sources {
        let server = cache(key);
        let settings = [settings, &[("REDIS_AWS_IAM_REGION", aws::REGION)]].concat();
        let (tollgate, _rules) = started(&env(&server), &settings).await;
        decides_in(&server, &tollgate).await;
    }
}

/// First the service is silent, then it refuses: requests are answered by the failure policy meanwhile, in their time.
#[tokio::test]
async fn a_metadata_service_that_fails_holds_up_no_request_and_is_logged_once() {
    let aws = Aws::start().await;
    aws.set(Mood::Silent);
    let server = cache("instance");
    let more = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url()), ("REDIS_AWS_IAM_REGION", aws::REGION.to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, &**value));
    let (tollgate, _rules) = started(&env(&server), &[&more[..], &[("REDIS_TIMEOUT", "300ms")]].concat()).await;
    let asked = || async {
        let began = tollgate::clock::instant();
        let answer = tollgate.client().ask(request("api", vec![descriptor(&[("user", "alice")])])).await;
        answer.expect("the policy answers");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    };
    asked().await;
    aws.set(Mood::Failing);
    let said = |line: &str| line.contains("can't connect to Redis: no credentials of AWS").then_some(());
    tollgate.process.line("that there is no connection", said).await;
    let said = |line: &str| line.contains("can't fetch the credentials of AWS").then(|| line.to_owned());
    let line = tollgate.process.line("why there are no credentials", said).await;
    // A request that the silence has overtaken ends with the chain, one that is refused with its reason.
    assert!(line.contains("IMDS") || line.contains("no providers in chain"), "{line}");
    asked().await;
    aws.set(Mood::Fair);
    decides_in(&server, &tollgate).await;
    let log = tollgate.process.log();
    assert_eq!(log.matches("can't fetch the credentials of AWS").count(), 1, "{log}");
    assert_eq!(log.matches("no credentials of AWS").count(), 1, "{log}");
    assert!(!log.contains("provider failed") && !log.contains(aws::SECRET), "{log}");
}

#[tokio::test]
async fn a_token_that_redis_refuses_is_logged_with_what_to_look_at() {
    let aws = Aws::start().await;
    // Another's tokens.
    let server = cache("stranger");
    let (tollgate, _rules) = started(&env(&server), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &aws.url())]).await;
    // Another core may open its circuit breaker before the one that explains the error has done so.
    let said = |line: &str| {
        (line.contains("Redis answers with an error") && line.contains("WRONGPASS")).then(|| line.to_owned())
    };
    let line = tollgate.process.line("who is refused", said).await;
    assert!(line.contains("REDIS_AWS_IAM_USER_ID (is it in the cache's user group"), "{line}");
}

/// The sidecar of docs/src/operating/which-redis.md, whose file is read as REDIS_AUTH_FILE.
#[tokio::test]
async fn the_sidecar_writes_googles_and_azures_tokens_with_their_users() {
    let aws = Aws::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("auth");
    let run = |args: &[&str]| {
        let mut script = std::process::Command::new("examples/redis-token/token.sh");
        script
            .args([args[0], file.to_str().expect("a path")])
            .args(&args[1..])
            .envs([("METADATA", &*aws.url()), ("RENEW", "0")]);
        aside(move || script.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("sh and curl are installed"))
    };
    for (args, expected) in
        [(&["google"][..], "default:ya29.of-google\n"), (&["azure", "6f2c-11"], "6f2c-11:eyJ.of.azure\n")]
    {
        let ran = run(args).await;
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("it was written"), expected);
    }
    // What stood there stays where no token comes.
    aws.set(Mood::Failing);
    assert!(!run(&["google"]).await.status.success());
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "6f2c-11:eyJ.of.azure\n");
}

/// Connections are replaced many times under load, as every eleven hours before AWS would end them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_replaced_before_they_are_too_old_without_a_failed_request() {
    let server = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [
        ("REDIS_URL", server.address()),
        ("TOLLGATE_REDIS_MAX_CONNECTION_AGE", "300ms".into()),
        // No answer is the policy's.
        ("TOLLGATE_ON_STORE_FAILURE", "error".into()),
        ("TOLLGATE_STORE_TIMEOUT", "20s".into()),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env.each_ref().map(|(name, value)| (*name, &**value))).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    let load = Load::start(4, move || {
        let client = client.clone();
        async move { client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await }
    });
    eventually("each was replaced several times", || async {
        (tollgate.metric("tollgate_redis_connects_total").await >= 5.0 * REDIS_CONNECTIONS).then_some(())
    })
    .await;
    for answer in load.stop().await {
        answer.expect("every request is answered");
    }
    assert_eq!(tollgate.metric("tollgate_redis_connections ").await, REDIS_CONNECTIONS, "the old ones are gone");
    let log = tollgate.process.log();
    assert!(!log.contains("WARN"), "{log}");
    // Those of decisions, of overrides, and the one that looks.
    let clients = server.cli(&["client", "list"]).lines().count();
    assert!(clients <= 3 * REDIS_CONNECTIONS as usize, "{clients} connections are open");
}

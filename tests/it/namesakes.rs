//! The binary called by the names of envoyproxy/ratelimit's commands, as the image links them.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::harness::{Process, RulesDir, Tollgate, get};

/// A directory with links as in the image's `/bin`.
fn bin() -> TempDir {
    let bin = tempfile::tempdir().expect("a temporary directory");
    for name in names() {
        symlink(env!("CARGO_BIN_EXE_tollgate"), bin.path().join(name)).expect("the name is free");
    }
    bin
}

/// Those that the Dockerfile links.
fn names() -> Vec<&'static str> {
    let names = include_str!("../../Dockerfile").split_once("for name in ").expect("a loop").1;
    names.split_once(';').expect("its end").0.split_whitespace().collect()
}

fn call(name: &str, args: &[&str]) -> Output {
    let bin = bin();
    Command::new(bin.path().join(name)).args(args).env_clear().output().expect("it was linked")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_image_has_the_references_commands() {
    assert_eq!(names(), ["ratelimit", "ratelimit_client", "ratelimit_config_check"]);
}

#[tokio::test]
async fn ratelimit_serves_without_arguments() {
    let bin = bin();
    let root = tempfile::tempdir().expect("a temporary directory");
    let config = root.path().join("ratelimit/config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("api.yaml"), super::serve::PER_USER).unwrap();
    let mut command = Command::new(bin.path().join("ratelimit"));
    command.env_clear().envs([("PORT", "0"), ("GRPC_PORT", "0"), ("DEBUG_PORT", "0"), ("PROMETHEUS_ADDR", ":0")]);
    command.envs([("LOG_FORMAT", "json"), ("RUNTIME_SUBDIRECTORY", "ratelimit")]).env("RUNTIME_ROOT", root.path());
    let process = Process::spawn("ratelimit", &mut command);
    let find = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let port = line["address"].as_str()?.rsplit_once(':')?.1.parse::<u16>().ok()?;
        (line["listener"] == "http").then_some(port)
    };
    let port = process.line("where its HTTP listener is", find).await;
    let health = get(([127, 0, 0, 1], port).into(), "/healthcheck", &[]).await.expect("it serves");
    assert_eq!((health.status, health.body.as_str()), (200, "OK"));
}

#[tokio::test]
async fn ratelimit_client_prints_the_response_as_text() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let address = tollgate.grpc.to_string();
    let client = |more: &[&str]| call("ratelimit_client", &[&["-dial_string", &address][..], more].concat());
    let output = client(&["-domain=api", "-descriptors", "user=alice", "--descriptors", "nobody=a=b"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let response = text.lines().last().expect("lines");
    let start = "response: overall_code:OK statuses:{code:OK current_limit:{requests_per_unit:";
    assert!(response.starts_with(start) && response.ends_with(" statuses:{code:OK}"), "{text}");
    assert!(response.contains(" duration_until_reset:{seconds:"), "{text}");

    let refused = client(&["-domain", "", "-descriptors", "user=alice"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("domain must not be empty"), "{}", said(&refused));
    let unknown = call("ratelimit_client", &["-dail_string", "x"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).starts_with("flag provided but not defined: -dail_string"), "{}", said(&unknown));
    assert_eq!(call("ratelimit_client", &["-help"]).status.code(), Some(0));
}

#[test]
fn ratelimit_config_check_says_what_the_reference_says_and_names_every_problem() {
    let check = |dir: &Path, more: &[&str]| {
        let dir = dir.to_str().expect("temporary paths are text");
        call("ratelimit_config_check", &[&["-config_dir", dir][..], more].concat())
    };
    let rules = RulesDir::with("one.yaml", super::serve::PER_USER);
    let good = check(rules.path(), &[]);
    let text = said(&good);
    assert_eq!(good.status.code(), Some(0), "{text}");
    for line in ["checking rate limit configs...", "loading config directory: ", "opening config file: ", "all rate"] {
        assert!(text.lines().any(|said| said.starts_with(line)), "no '{line}' in:\n{text}");
    }

    rules.write("two.yaml", &super::serve::PER_USER.replace("user", "account"));
    let twice = check(rules.path(), &[]);
    assert_eq!(twice.status.code(), Some(1), "{}", said(&twice));
    assert!(said(&twice).contains("error loading rate limit configs:"), "{}", said(&twice));
    for merge in ["-merge_domain_configs", "--merge_domain_configs=true"] {
        assert_eq!(check(rules.path(), &[merge]).status.code(), Some(0), "{merge}");
    }

    rules.write("three.yaml", "domain: three\ndescriptors:\n  - kee: a\n");
    rules.write("four.yaml", "domain: [\n");
    let bad = check(rules.path(), &["-merge_domain_configs"]);
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
    for named in ["three.yaml", "kee", "four.yaml"] {
        assert!(said(&bad).contains(named), "no {named} in:\n{}", said(&bad));
    }
}

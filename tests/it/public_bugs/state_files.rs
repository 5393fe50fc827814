//! Files of the state directory that were spoiled: by a planted link, a flipped bit, a write that was cut off.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;

use crate::{
    api::{client::call, with_tokens},
    harness::{Process, RulesDir, Tollgate, eventually},
    xds::{
        control_plane::{ControlPlane, domain},
        follow_at,
    },
};

const RULES: &str = "domain: api\ndescriptors:\n  - {key: user, rate_limit: 5/day}\n";

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

async fn started(rules: &RulesDir, state: &Path) -> Tollgate {
    Tollgate::start_with(rules.path(), &[("TOLLGATE_STATE_DIR", text(state))]).await
}

/// What a start says that ends with exit code 1.
async fn refusal(rules: &RulesDir, state: &Path) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().envs([("TOLLGATE_RULES", text(rules.path())), ("TOLLGATE_STATE_DIR", text(state))]);
    command.envs([("PORT", "0"), ("GRPC_PORT", "0"), ("DEBUG_PORT", "0"), ("PROMETHEUS_ADDR", ":0")]);
    let mut process = Process::spawn("tollgate", &mut command);
    assert_eq!(process.end().await.code(), Some(1), "it starts");
    process.log()
}

async fn appears(path: &Path) {
    eventually("the file is there", || async { path.exists().then_some(()) }).await;
}

#[tokio::test]
async fn a_planted_link_is_not_followed_and_every_state_file_is_its_owners_alone() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().unwrap());
    let victim = state.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    for file in ["rules.json", "counters"] {
        for planted in [file.to_owned(), format!("{file}.new")].into_iter().skip(usize::from(file == "counters")) {
            std::os::unix::fs::symlink(&victim, state.path().join(planted)).unwrap();
        }
    }
    let mut tollgate = started(&rules, state.path()).await;
    let kept = state.path().join("rules.json");
    eventually("the rules are kept", || async { kept.symlink_metadata().is_ok_and(|it| it.is_file()).then_some(()) })
        .await;
    tollgate.process.signal("TERM");
    assert!(tollgate.process.end().await.success());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    let mut names = Vec::new();
    for entry in fs::read_dir(state.path()).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path != victim {
            assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name:?}");
            names.push(name.into_string().unwrap());
        }
    }
    names.sort();
    assert_eq!(names, ["audit.ndjson", "counters", "lock", "overrides.ndjson", "rules.json"]);

    // A file that is written on, and not anew, is refused where it is a link.
    fs::remove_file(state.path().join("overrides.ndjson")).unwrap();
    std::os::unix::fs::symlink(&victim, state.path().join("overrides.ndjson")).unwrap();
    let said = refusal(&rules, state.path()).await;
    assert!(said.contains("overrides.ndjson: it is a link"), "{said}");
}

#[tokio::test]
async fn last_good_rules_with_a_flipped_bit_are_told_and_not_used() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().unwrap());
    let kept = state.path().join("rules.json");
    let mut tollgate = started(&rules, state.path()).await;
    appears(&kept).await;
    tollgate.process.kill();
    rules.write("api.yaml", "domain: api\ndescriptors: 5\n");
    let whole = fs::read_to_string(&kept).unwrap();
    for (damaged, why) in [
        (whole.replace("5/day", "7/day"), "its checksum is wrong"),
        (whole[..whole.len() - 10].to_owned(), "its checksum is wrong"),
        ("[{".to_owned(), "rules.json"),
    ] {
        fs::write(&kept, damaged).unwrap();
        let said = refusal(&rules, state.path()).await;
        let is_told = |line: &str| line.contains("WARN") && line.contains("last good rules") && line.contains(why);
        assert!(said.lines().any(is_told), "no WARN says {why:?}:\n{said}");
    }
    // Whole again, it is what the start goes on with.
    fs::write(&kept, whole).unwrap();
    let tollgate = started(&rules, state.path()).await;
    assert_eq!(tollgate.client().limit_of("api", &[("user", "alice")]).await, Some(5));
}

#[tokio::test]
async fn an_override_with_a_flipped_bit_is_told_and_not_used() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().unwrap());
    let mut tollgate = with_tokens(&rules, &[("TOLLGATE_STATE_DIR", text(state.path()))]).await;
    let body = json!({"match": {"user": "alice"}, "limit": "6/day"}).to_string();
    let written = call(tollgate.http, "PUT /v1/domains/api/overrides/alice", Some("secret"), &body).await;
    assert_eq!(written.status, 201, "{}", written.body);
    assert_eq!(tollgate.client().limit_of("api", &[("user", "alice")]).await, Some(6));
    tollgate.process.kill();
    let journal = state.path().join("overrides.ndjson");
    let whole = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, whole.replace("6/day", "7/day")).unwrap();
    let mut tollgate = started(&rules, state.path()).await;
    assert_eq!(tollgate.client().limit_of("api", &[("user", "alice")]).await, Some(5));
    let is_told = |line: &str| (line.contains("ERROR") && line.contains("overrides.ndjson")).then_some(());
    tollgate.process.line("that a line can't be read", is_told).await;
    tollgate.process.kill();
    fs::write(&journal, whole).unwrap();
    let tollgate = started(&rules, state.path()).await;
    assert_eq!(tollgate.client().limit_of("api", &[("user", "alice")]).await, Some(6));
}

#[tokio::test]
async fn a_control_planes_set_with_a_flipped_bit_is_told_and_not_used() {
    let state = tempfile::tempdir().unwrap();
    let env = [("TOLLGATE_STATE_DIR", text(state.path()))];
    let mut plane = ControlPlane::start().await;
    let mut tollgate = follow_at(&plane.address.to_string(), &env).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 65)]).await;
    tollgate.process.kill();
    let address = plane.stop().to_string();
    let kept = state.path().join("control-plane.pb");
    let whole = fs::read(&kept).unwrap();
    // The number of the limit, in the message's last bytes.
    let place = whole.iter().rposition(|byte| *byte == 65).expect("the limit");
    let mut damaged = whole.clone();
    damaged[place] ^= 1;
    fs::write(&kept, damaged).unwrap();
    let mut tollgate = follow_at(&address, &env).await;
    let is_told = |line: &str| {
        (line.contains("can't read the saved rules of the control plane") && line.contains("checksum")).then_some(())
    };
    tollgate.process.line("that the kept rules are damaged", is_told).await;
    assert_eq!(tollgate.metric("tollgate_rules_domains").await, 0.0);
    tollgate.process.kill();
    fs::write(&kept, whole).unwrap();
    let tollgate = follow_at(&address, &env).await;
    // It listens before it has read them.
    eventually("the kept rules", || async { (tollgate.metric("tollgate_rules_domains").await == 1.0).then_some(()) })
        .await;
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(65));
}

//! What a control plane sent last, kept in the state directory for a start without it.

use super::{
    control_plane::{ControlPlane, domain},
    follow, follow_at,
};

#[tokio::test]
async fn a_start_without_the_control_plane_goes_on_with_the_last_good_set() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().expect("temporary paths are text");
    // It would wait for ever for rules that nobody sends.
    let env = [("TOLLGATE_STATE_DIR", dir), ("FORCE_START_WITHOUT_INITIAL_CONFIG", "false")];
    let mut plane = ControlPlane::start().await;
    let force = [("TOLLGATE_STATE_DIR", dir), ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")];
    let mut tollgate = follow(&plane, &force).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10), domain("two", 20)]).await;
    stream.put("2", &[domain("one", 11)]).await;
    // What is refused is not kept.
    let mut bad = domain("one", 12);
    bad.descriptors[0].key.clear();
    stream.send("3", &[bad]);
    assert!(stream.request().await.error_detail.is_some(), "it has no key");
    tollgate.process.kill();
    let address = plane.stop();

    let tollgate = follow_at(&address.to_string(), &env).await;
    let client = tollgate.client();
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(11));
    assert_eq!(client.limit_of("two", &[("user", "alice")]).await, None);
    assert_eq!(tollgate.metric("tollgate_control_plane_connected").await, 0.0);

    let mut plane = ControlPlane::start_at(address, None).await;
    let mut stream = plane.stream().await;
    assert_eq!(stream.request().await.version_info, "", "the set is asked for, whatever its version is");
    stream.put("2", &[domain("one", 13)]).await;
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(13));
}

#[tokio::test]
async fn a_kept_set_that_is_damaged_is_said_and_not_used() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("control-plane.pb"), "no message").unwrap();
    let dir = state.path().to_str().expect("temporary paths are text");
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[("TOLLGATE_STATE_DIR", dir)]).await;
    let said = |line: &str| line.contains("can't read the saved rules of the control plane").then_some(());
    tollgate.process.line("that the kept rules are damaged", said).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(10));
}

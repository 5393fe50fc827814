//! Connections are dealt to the core that has the fewest, each core serves its own, and each may bring thousands of
//! requests at once.

use tokio::io::AsyncReadExt;

use super::PER_USER;
use crate::harness::{RawHttp2, RulesDir, Tollgate};

/// How long each of the process' threads that serve gRPC has run, in ns, in order of their numbers.
fn ran(tollgate: &Tollgate) -> Vec<u64> {
    let tasks = format!("/proc/{}/task", tollgate.process.id());
    let read = |path: &std::path::Path, file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
    let mut cores: Vec<(String, u64)> = std::fs::read_dir(tasks)
        .expect("the process runs")
        .map(|task| task.expect("a thread").path())
        .filter(|task| read(task, "comm").starts_with("core-"))
        .map(|task| {
            let ran = read(&task, "schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
            (read(&task, "comm"), ran.expect("the kernel counts it"))
        })
        .collect();
    cores.sort();
    cores.into_iter().map(|(_, ran)| ran).collect()
}

#[tokio::test]
async fn connections_are_dealt_to_the_core_with_the_fewest_and_stay_with_it() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_WORKERS", "3")]).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let client = tollgate.client();
        client.admits("api", &[("user", "first")]).await;
        clients.push(client);
    }
    let mut served = [0; 3];
    for client in &clients {
        let before = ran(&tollgate);
        assert_eq!(before.len(), served.len());
        for _ in 0..100 {
            client.admits("api", &[("user", "alice")]).await;
        }
        let busy: Vec<u64> = ran(&tollgate).iter().zip(&before).map(|(after, before)| after - before).collect();
        let core = (0..busy.len()).max_by_key(|&core| busy[core]).expect("there are cores");
        let others: u64 = busy.iter().sum::<u64>() - busy[core];
        assert!(busy[core] > 4 * others, "one core has all of a connection: {busy:?}");
        served[core] += 1;
    }
    assert_eq!(served, [2; 3], "six connections on three cores");
}

#[tokio::test]
async fn a_connection_is_told_that_it_may_have_4096_requests_under_way() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    // The first frame is the server's SETTINGS: length, kind 4, no flags, stream 0; then 6 bytes for each setting.
    let mut head = [0; 9];
    raw.read.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3..], [4, 0, 0, 0, 0, 0]);
    let mut settings = vec![0; usize::from(head[2])];
    raw.read.read_exact(&mut settings).await.expect("its settings");
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    let told = settings.chunks(6).find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS).expect("it is told");
    assert_eq!(told[2..], 4_096u32.to_be_bytes());
}

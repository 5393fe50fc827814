//! docs/src/guides/rollout.md as a story, with real parts: an hour of 200,000 requests of 5,000 users is replayed through a new limit, and
//! then played to a running service sixty times as fast, with windows a sixtieth as long. What the replay predicts happens.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tollgate::limit::ClientPart;

use super::{HourRequest, Played, RecordedHour, json, log, recorded_hour::HOUR_BEGINS, text};
use crate::{
    asking::Ran,
    harness::{Rls, Tollgate, eventually},
};

/// So many times as fast as it was recorded.
const FASTER: u64 = 60;

/// Five minutes, so much shorter.
const WINDOW: &str = "5s";

const REQUESTS: usize = 200_000;

const LIMIT: u32 = 60;

fn rules(enforce: &str) -> String {
    format!(
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit:\n      - {{name: new, requests: {LIMIT}, window: {WINDOW}, \
         algorithm: sliding_log, enforce: {enforce}}}\n"
    )
}

/// The recorded hour in a minute.
fn minute() -> Vec<HourRequest> {
    let hour = RecordedHour { requests: REQUESTS, users: 5_000, seed: 11 };
    let faster = |at: u64| HOUR_BEGINS + (at - HOUR_BEGINS) / FASTER;
    hour.requests().into_iter().map(|request| HourRequest { at: faster(request.at), ..request }).collect()
}

/// Plays the requests at their times over some connections, and returns the refusals of each user.
async fn play(tollgate: &Tollgate, requests: &[HourRequest]) -> BTreeMap<String, u64> {
    let clients: Arc<Vec<Rls>> = Arc::new((0..8).map(|_| tollgate.client()).collect());
    // The connections are there before the clock runs.
    join_all(clients.iter().map(|client| client.admits("api", &[("other", "x")]))).await;
    let (began, mut refused) = (tollgate::clock::instant(), BTreeMap::new());
    let mut asked = tokio::task::JoinSet::new();
    for (nth, request) in requests.iter().copied().enumerate() {
        let due = began + Duration::from_micros(request.at - HOUR_BEGINS);
        if tollgate::clock::instant() < due {
            tokio::time::sleep_until(due.into()).await;
        }
        let clients = Arc::clone(&clients);
        asked.spawn(async move {
            let user = request.user_name();
            let is_admitted = clients[nth % clients.len()].admits("api", &[("user", &user)]).await;
            (user, is_admitted)
        });
        while let Some(answered) = asked.try_join_next() {
            count(answered.expect("it doesn't panic"), &mut refused);
        }
    }
    while let Some(answered) = asked.join_next().await {
        count(answered.expect("it doesn't panic"), &mut refused);
    }
    refused
}

fn count((user, is_admitted): (String, bool), refused: &mut BTreeMap<String, u64>) {
    if !is_admitted {
        *refused.entry(user).or_default() += 1;
    }
}

/// The refusals of each user, as a replay lists them.
fn predicted(answer: &Value) -> BTreeMap<String, u64> {
    let listed = answer["most_refused"].as_array().expect("a list").iter();
    let user = |counter: &Value| counter["descriptor"].as_str().unwrap().trim_start_matches("user=").to_owned();
    listed.map(|counter| (user(counter), counter["requests"].as_u64().unwrap())).collect()
}

/// By how many refusals two counts differ, over all users.
fn difference(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>) -> u64 {
    let users: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let of = |counts: &BTreeMap<String, u64>, user: &String| counts.get(user).copied().unwrap_or_default();
    users.iter().map(|user| of(one, user).abs_diff(of(other, user))).sum()
}

async fn serve(played: &Played, enforce: &str, log: &Path) -> Tollgate {
    let directory = format!("rules-{}", enforce.trim_end_matches('%'));
    std::fs::create_dir_all(played.path(&directory)).expect("a directory");
    std::fs::write(played.path(&directory).join("api.yaml"), rules(enforce)).expect("written");
    // One core, so that the log's order is that of the decisions: of two cores, either may log a moment later.
    let env = [("TOLLGATE_DECISION_LOG", text(log)), ("TOLLGATE_MAX_IN_FLIGHT", "100000"), ("TOLLGATE_WORKERS", "1")];
    Tollgate::start_with(&played.path(&directory), &env).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it plays for a minute at its own times: tests/run.sh runs it alone"]
async fn what_a_replay_predicts_of_a_recorded_hour_happens() {
    let requests = minute();
    let played = Played::new(&log(&requests));
    std::fs::write(played.path("new.yaml"), rules("true")).expect("written");
    let new = played.path("new.yaml");

    // Whom will it refuse?
    let prediction = played.json(&["--rules", text(&new), "--top", "5000"]);
    let foreseen = predicted(&prediction);
    let refusals: u64 = foreseen.values().sum();
    assert_eq!(prediction["requests"], REQUESTS as u64);
    assert!(refusals > REQUESTS as u64 / 100 && foreseen.len() > 10, "{refusals} of {} users", foreseen.len());

    // The same requests, to a service.
    let decisions = played.path("decisions.ndjson");
    let tollgate = serve(&played, "true", &decisions).await;
    let refused = play(&tollgate, &requests).await;
    let off = difference(&refused, &foreseen);
    assert!(
        off as f64 <= REQUESTS as f64 * 0.005,
        "{off} of {REQUESTS} requests were answered otherwise: {} refused, {refusals} foreseen",
        refused.values().sum::<u64>()
    );
    let logged = REQUESTS + 8;
    eventually("the decision log has all", || async {
        (tollgate.metric("tollgate_decision_log_lines_total").await == logged as f64).then_some(())
    })
    .await;

    // At the log's own times it is exact: to what was answered, a replay has nothing to add.
    let exact = Ran::with(&["replay", text(&decisions), "--rules", text(&new), "--json"], &[]).json();
    let all = json!({
        "requests": logged, "refused": refused.values().sum::<u64>(), "newly_refused": 0, "newly_admitted": 0
    });
    assert_eq!((&exact["before"], &exact["compared_with"]), (&all, &json!("log")));
    drop(tollgate);

    // At 10 % exactly the hashed part: a tenth of the time is enough to see it.
    let tenth = &requests[..requests.partition_point(|request| request.at < HOUR_BEGINS + 12_000_000)];
    let tollgate = serve(&played, "10%", &played.path("part.ndjson")).await;
    let refused = play(&tollgate, tenth).await;
    let part = |user: &str| ClientPart::of("api/user#new", "user", user).number();
    let outside: Vec<&String> = refused.keys().filter(|user| part(user) >= 1_000).collect();
    assert!(outside.is_empty(), "they are not in the tenth: {outside:?}");
    std::fs::write(played.path("tenth.ndjson"), log(tenth)).expect("written");
    let tenth_log = played.path("tenth.ndjson");
    let foreseen = predicted(
        &Ran::with(&["replay", text(&tenth_log), "--rules", text(&new), "--top", "5000", "--json"], &[]).json(),
    );
    let inside: BTreeMap<String, u64> = foreseen.into_iter().filter(|(user, _)| part(user) < 1_000).collect();
    assert!(!inside.is_empty(), "nobody is in the tenth");
    let off = difference(&refused, &inside);
    assert!(off as f64 <= tenth.len() as f64 * 0.005, "{off} of {}: {refused:?}, foreseen {inside:?}", tenth.len());
}

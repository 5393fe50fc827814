//! Clients that retry, and budgets that are spent by many requests at once, over simulated time.

use std::collections::BTreeSet;

use super::*;
use crate::algorithm::{State, step};
use crate::limit::Cost;
use proptest::{prelude::*, sample::select, test_runner::RngSeed};

const SECOND: u64 = 1_000_000;

fn rules(algorithm: Algorithm, count_denied: &str, requests: u32) -> String {
    let burst = if algorithm.has_burst() { format!(", burst: {requests}") } else { String::new() };
    let name = algorithm.name();
    let manner = format!("algorithm: {name}{burst}, count_denied: {count_denied}");
    format!("domain: api\ndescriptors: [{{key: user, rate_limit: {{requests: {requests}, window: 5s, {manner}}}}}]")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(0x7011_6a7e),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Ten windows of a client whose requests carry their cost, as Envoy sends them before a request.
    #[test]
    fn a_client_that_retries_at_any_pace_gets_what_it_would_get_if_refused_hits_did_not_count(
        algorithm in select(Algorithm::ALL.to_vec()),
        requests in select(vec![10, 11]),
        cost in select(vec![1, 2, 3, 7]),
        gaps in prop::collection::vec(1..SECOND, 50..400),
    ) {
        let asked = asked(&rules(algorithm, "auto", requests), MODES);
        let limit = Limit { burst: requests, ..Limit::new(requests, Micros(5 * SECOND), algorithm) };
        let (mut now, mut state) = (NOW.0, State::Empty);
        for gap in gaps.iter().cycle() {
            now += gap;
            if now > NOW.0 + 50 * SECOND {
                break;
            }
            let descriptor = Descriptor { hits: Some(cost), ..descriptor("user=a") };
            let (after, reading) = step(&limit, state, Cost { hits: cost, charge_denied: false }, UnixMicros(now));
            state = after;
            let passed = asked.ask_at(descriptor, UnixMicros(now)).overall == Code::Ok;
            prop_assert_eq!(passed, reading.admitted, "at {}", now - NOW.0);
        }
    }
}

/// Of clients of one budget: each looks, and where it may, spends for a while and then reports what it spent.
struct Spending {
    clients: u64,
    /// What its looks cost: a descriptor's own 0, or 1 that isn't its own.
    look: Option<i64>,
}

impl Spending {
    /// All that is spent in ten windows.
    fn spent(&self, asked: &Asked) -> u64 {
        let mut random = 0x7011_6a7e_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        // When, who, and what is reported then; 0 is a look.
        let mut due: BTreeSet<(u64, u64, i64)> = (0..self.clients).map(|client| (client, client, 0)).collect();
        let mut spent = 0;
        while let Some((at, client, report)) = due.pop_first().filter(|(at, ..)| *at < 50 * SECOND) {
            let now = UnixMicros(NOW.0 + at);
            let own = if report == 0 { self.look } else { Some(report) };
            let passed = asked.ask_at(Descriptor { hits: own, ..descriptor("user=a") }, now).overall == Code::Ok;
            let after = at + 1_000 + next(SECOND / 2);
            if report == 0 && passed {
                due.insert((after, client, 20 + next(60) as i64));
            } else {
                spent += report as u64;
                due.insert((after, client, 0));
            }
        }
        spent
    }
}

/// `reported` is what `auto` was before it learned: refused hits of a descriptor's own are charged, always.
#[test]
fn a_budget_that_is_looked_at_is_overspent_by_no_more_than_one_that_is_said_to_be_one() {
    for algorithm in Algorithm::ALL {
        for (clients, lookup) in [1, 10, 100].into_iter().flat_map(|clients| [(clients, Some(0)), (clients, None)]) {
            let spent = |when| Spending { clients, look: lookup }.spent(&asked(&rules(algorithm, when, 1_000), MODES));
            let [auto, reported, never] = ["auto", "reported", "false"].map(spent);
            assert!(auto > 0);
            assert!(auto <= reported, "{algorithm:?} {clients} {lookup:?}: {auto} of {reported}");
            // So that the comparison says something: dropped reports are a leak.
            assert!(clients < 100 || never > reported, "{algorithm:?} {clients} {lookup:?}: {never} of {reported}");
        }
    }
}

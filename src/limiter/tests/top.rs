//! What decisions leave in the lists of the counters that are refused most, hit most, and would be refused.

use super::*;
use crate::{
    limiter::top::{RankedKey, TopFilter, TopLists, TopMeasure, TopSpan},
    privacy::Privacy,
};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 2, window: 1m}
    overrides:
      - {match: {user: vip}, limit: 3/m}
      - {match: {user: free}, limit: unlimited}
    descriptors:
      - {key: path, value: /login, rate_limit: {requests: 1, window: 1m}}
  - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1m}}
  - key: two
    rate_limit:
      - {name: hard, requests: 1, window: 1m}
      - {name: soft, requests: 1, window: 1h, enforce: false}
  - {key: shared, value: '/a/*', share_threshold: true, rate_limit: {requests: 2, window: 1m}}
  - {key: any, value: '/a/*', rate_limit: {requests: 9, window: 1m}}
  - {key: odd, overrides: [{match: {odd: x}, limit: 1/m}]}
";

struct Counted {
    asked: Asked,
    lists: Arc<TopLists>,
}

fn counted_with(modes: Modes, privacy: Privacy) -> Counted {
    let Asked { limiter } = asked(RULES, modes);
    let lists = TopLists::new(8 << 20, 1, privacy).expect("not 0");
    Counted { asked: Asked { limiter: limiter.with_top(Some(lists.core())) }, lists }
}

fn counted() -> Counted {
    counted_with(MODES, Privacy::default())
}

impl Counted {
    fn ask(&self, descriptors: &[&'static str]) {
        self.asked.ask(descriptors);
    }

    fn put(&self, text: &str, hits: i64) {
        self.asked.ask_at(Descriptor { hits: Some(hits), ..descriptor(text) }, NOW);
    }

    fn ranked(&self, filter: &TopFilter, by: TopMeasure) -> Vec<RankedKey> {
        self.lists.read(TopSpan::Minute, filter, NOW).ranked(by, 100).keys
    }

    /// Limit, descriptor and counts, by the limit's id.
    fn all(&self) -> Vec<(String, String, [u64; 3])> {
        let mut all: Vec<_> = TopMeasure::ALL
            .into_iter()
            .flat_map(|by| self.ranked(&TopFilter::default(), by))
            .map(|key| (key.limit.into_string(), key.descriptor.into_string(), key.counts))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

fn entry(limit: &str, descriptor: &str, counts: [u64; 3]) -> (String, String, [u64; 3]) {
    (limit.to_owned(), descriptor.to_owned(), counts)
}

#[test]
fn refusals_hits_and_would_be_refusals_are_counted_by_limit_and_values() {
    let counted = counted();
    (0..5).for_each(|_| counted.ask(&["user=alice"]));
    counted.ask(&["user=bob"]);
    (0..3).for_each(|_| counted.ask(&["tried=x"]));
    (0..3).for_each(|_| counted.ask(&["two=x"]));
    counted.ask(&["user=bob,path=/login", "nobody=x"]);
    let expected = [
        // [denied, hits, shadow]
        entry("api/tried", "tried=x", [0, 3, 2]),
        entry("api/two#hard", "two=x", [2, 3, 0]),
        // Nothing was charged to it by the requests that the other denied.
        entry("api/two#soft", "two=x", [0, 3, 2]),
        entry("api/user", "user=alice", [3, 5, 0]),
        entry("api/user", "user=bob", [0, 1, 0]),
        entry("api/user/path=/login", "user=bob,path=/login", [0, 1, 0]),
    ];
    assert_eq!(counted.all(), expected);
    let denied = counted.ranked(&TopFilter::default(), TopMeasure::Denied);
    assert_eq!(denied.iter().map(|key| &*key.descriptor).collect::<Vec<_>>(), ["user=alice", "two=x"]);
    assert!(denied.iter().all(|key| key.errors == [0; 3]));
}

#[test]
fn hits_are_what_was_asked_for_and_a_refusal_is_one_whatever_it_costs() {
    let counted = counted();
    counted.put("user=alice", 2);
    counted.put("user=alice", 100);
    // Looks of 0 are refused only where nothing more would pass, and cost nothing; refunds are no hits.
    counted.put("user=alice", 0);
    counted.put("user=alice", -1);
    counted.put("user=alice", -7);
    assert_eq!(counted.all(), [entry("api/user", "user=alice", [1, 102, 0])]);
}

#[test]
fn overrides_count_under_the_limit_whose_place_they_take_and_requests_limits_apart() {
    let counted = counted();
    (0..5).for_each(|_| counted.ask(&["user=vip"]));
    counted.ask(&["user=free"]);
    (0..2).for_each(|_| counted.ask(&["odd=x"]));
    let own = || Descriptor { limit: Some((1, Unit::Minute)), ..descriptor("user=alice") };
    (0..3).for_each(|_| drop(counted.asked.ask_at(own(), NOW)));
    let expected = [
        entry("api/(override)", "odd=x", [1, 2, 0]),
        entry("api/(request)", "user=alice", [2, 3, 0]),
        entry("api/user", "user=vip", [2, 5, 0]),
    ];
    assert_eq!(counted.all(), expected);
}

#[test]
fn values_that_share_a_counter_are_one_entry_and_others_are_not() {
    let counted = counted();
    (0..2).for_each(|_| counted.ask(&["shared=/a/1"]));
    counted.ask(&["shared=/a/2"]);
    counted.ask(&["any=/a/1"]);
    counted.ask(&["any=/a/2"]);
    let expected = [
        entry("api/any=%2Fa%2F*", "any=/a/1", [0, 1, 0]),
        entry("api/any=%2Fa%2F*", "any=/a/2", [0, 1, 0]),
        entry("api/shared=%2Fa%2F*", "shared=/a/*", [1, 3, 0]),
    ];
    let all = counted.all().into_iter().map(|(limit, descriptor, counts)| {
        // How an id writes a slash isn't this test's matter.
        (limit.replace("=/a/*", "=%2Fa%2F*"), descriptor, counts)
    });
    assert_eq!(all.collect::<Vec<_>>(), expected);
}

#[test]
fn under_global_shadow_mode_nobody_is_refused() {
    let counted = counted_with(Modes { shadow: true, ..MODES }, Privacy::default());
    (0..5).for_each(|_| counted.ask(&["user=alice"]));
    assert_eq!(counted.all(), [entry("api/user", "user=alice", [0, 5, 3])]);
}

#[test]
fn a_list_is_of_one_limit_or_of_some_domains() {
    let counted = counted();
    counted.ask(&["user=alice", "two=x"]);
    let of = |filter: TopFilter| -> Vec<String> {
        counted.ranked(&filter, TopMeasure::Hits).into_iter().map(|key| key.limit.into_string()).collect()
    };
    assert_eq!(of(TopFilter::default()).len(), 3);
    assert_eq!(of(TopFilter::default().of_limit("api/two#soft")), ["api/two#soft"]);
    assert_eq!(of(TopFilter::default().of_limit("api/two")), [""; 0]);
    assert_eq!(of(TopFilter::default().of_domains(["api", "other"])).len(), 3);
    assert_eq!(of(TopFilter::default().of_domains(["other"])), [""; 0]);
}

#[test]
fn values_of_hashed_keys_are_shown_as_a_hash_but_those_that_rules_name() {
    let keys = ["user", "path", "shared"].map(Box::from);
    let privacy = Privacy::new(keys, b"0123456789abcdef0123456789abcdef").expect("long enough");
    let alice = format!("user={}", privacy.shown("user", "alice"));
    let counted = counted_with(MODES, privacy);
    counted.ask(&["user=alice", "shared=/a/1", "user=alice,path=/login"]);
    let expected = [
        entry("api/shared=/a/*", "shared=/a/*", [0, 1, 0]),
        entry("api/user", &alice, [0, 1, 0]),
        entry("api/user/path=/login", &format!("{alice},path=/login"), [0, 1, 0]),
    ];
    assert_eq!(counted.all(), expected);
}

#[test]
fn a_request_for_a_listed_counter_allocates_nothing_for_it() {
    let (plain, counted) = (asked(RULES, MODES), counted());
    let allocations = |asked: &Asked| {
        let decide = || drop(asked.limiter.decide_now(&request_for("api", &["user=alice"]), NOW));
        // Until it is refused, and listed as that too.
        (0..3).for_each(|_| decide());
        allocation_counter::measure(|| (0..100).for_each(|_| decide())).count_total
    };
    assert_eq!(allocations(&counted.asked), allocations(&plain));
}

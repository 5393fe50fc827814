use std::sync::Arc;

use super::{Breakers, RedisStats};

const REDIS: &str = "redis:6379";

#[test]
fn breakers_of_several_cores_are_one_until_the_last_closes_or_goes() {
    let (breakers, tallies) = (Arc::new(Breakers::default()), [(); 2].map(|()| Arc::new(RedisStats::default())));
    let is_open = || breakers.nodes.lock()[REDIS].since.is_some();
    let [first, second] = tallies.each_ref().map(|stats| breakers.open(&REDIS, "it is gone", stats));
    let other = breakers.open(&"redis:6380", "it is gone", &tallies[0]);
    assert_eq!(tallies.each_ref().map(|stats| stats.breakers_open.get()), [2, 1]);
    first.close();
    assert!(is_open(), "the second core still does without it");
    drop(second);
    assert!(!is_open());
    other.close();
    assert_eq!(tallies.each_ref().map(|stats| stats.breakers_open.get()), [0, 0]);
    assert_eq!(tallies.each_ref().map(|stats| stats.breaker_opens.get()), [2, 1]);
}

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;

fn name(hash: u64) -> CounterName {
    CounterName { limit_id: "api/user".into(), descriptor: format!("user={:05}", hash % 100_000).into() }
}

/// The first are those that a list of everybody has, whatever the order in which they come and however many are equal.
#[test]
fn the_first_are_those_of_all() {
    let mut random = SmallRng::seed_from_u64(5);
    for (who, turns) in [(5, 100), (3_000, 3_000), (400, 60_000), (100_000, 100_000)] {
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut ranking = Ranking::new(20);
        for _ in 0..turns {
            // Some are far ahead, and most are equal.
            let hash = (random.random::<f64>().powi(2) * f64::from(who)) as u64;
            let count = counts.entry(hash).or_default();
            *count += 1;
            ranking.note(hash, *count, || name(hash));
            assert!(ranking.named.len() <= SLACK * 20 + SLACK);
        }
        let mut all: Vec<Ranked> =
            counts.into_iter().map(|(hash, count)| Ranked { count, counter: name(hash) }).collect();
        all.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.counter.cmp(&other.counter)));
        all.truncate(20);
        assert_eq!(ranking.first(), all, "{who} and {turns}");
    }
}

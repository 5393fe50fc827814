//! That comparing sets of letters first loses no likeness.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;

/// What [`meant`] says of likenesses, without comparing sets of letters.
fn nearest(name: &str) -> Option<&'static str> {
    let near =
        KNOWN.iter().filter(|known| !known.ends_with('*')).map(|known| (strsim::osa_distance(name, known), known));
    near.min().filter(|(changes, _)| *changes <= NEAR).map(|(_, known)| known.as_str())
}

#[test]
fn names_with_a_few_changes_are_likened_as_if_each_were_compared_with_all() {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    let mut random = SmallRng::seed_from_u64(1);
    let known: Vec<&String> = KNOWN.iter().filter(|name| (10..=60).contains(&name.len())).collect();
    for round in 0..400 {
        let mut name = known[random.random_range(0..known.len())].clone().into_bytes();
        for _ in 0..random.random_range(1..=3) {
            let (place, letter) = (random.random_range(1..name.len()), LETTERS[random.random_range(0..LETTERS.len())]);
            match random.random_range(0..4) {
                0 => name.insert(place, letter),
                1 => _ = name.remove(place),
                2 => name[place] = letter,
                _ => name.swap(place - 1, place),
            }
        }
        let name = String::from_utf8(name).expect("ASCII");
        let has_other_reason = ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == name)
            || KNOWN.contains(name.strip_prefix("TOLLGATE_").unwrap_or(&format!("TOLLGATE_{name}")));
        if !has_other_reason {
            assert_eq!(meant(&name), nearest(&name), "round {round}: {name}");
        }
    }
}

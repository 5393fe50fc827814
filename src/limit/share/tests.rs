use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;

/// Clients' names are drawn with it, so that the bounds below hold or don't hold once and for all.
const SEED: u64 = 24;

fn clients(number: usize) -> Vec<String> {
    let mut random = SmallRng::seed_from_u64(SEED);
    (0..number).map(|at| format!("client-{at}-{:x}", random.random::<u32>())).collect()
}

fn share(text: &str) -> EnforcedShare {
    EnforcedShare::parse(text).expect("a share")
}

/// `echo $((0x$(printf 'api/user\nuser=alice' | sha256sum | cut -c1-8) % 10000))` prints the first.
#[test]
fn a_client_is_in_the_same_part_in_every_release() {
    for (limit_id, key, value, part) in [
        ("api/user", "user", "alice", 9708),
        ("api/user#new", "user", "alice", 2733),
        ("api/user", "user", "", 9471),
        ("api/tenant/user", "tenant", "käse=1", 3368),
    ] {
        assert_eq!(ClientPart::of(limit_id, key, value).number(), part, "{limit_id}, {key}={value}");
    }
}

#[test]
fn a_share_has_the_size_that_it_says_and_a_larger_one_only_adds_clients() {
    let clients = clients(100_000);
    let parts: Vec<ClientPart> = clients.iter().map(|client| ClientPart::of("api/user", "user", client)).collect();
    let mut before = EnforcedShare::NONE;
    for text in ["0%", "0.01%", "1%", "10%", "25%", "50%", "99%", "99.99%", "100%"] {
        let share = share(text);
        let inside = parts.iter().filter(|part| share.contains(**part)).count() as f64;
        let (number, p) = (parts.len() as f64, f64::from(share.parts()) / f64::from(PARTS));
        let deviation = (number * p * (1.0 - p)).sqrt();
        assert!((inside - number * p).abs() <= 4.0 * deviation, "{text}: {inside} of {number}");
        assert!(parts.iter().all(|part| share.contains(*part) || !before.contains(*part)), "{text} loses a client");
        before = share;
    }
}

/// Or the same tenth of the clients would be first with every rollout.
#[test]
fn limits_divide_the_same_clients_apart() {
    let clients = clients(100_000);
    let share = share("10%");
    let is_in = |limit_id: &str, client: &String| share.contains(ClientPart::of(limit_id, "user", client));
    let both = clients.iter().filter(|client| is_in("api/user", client) && is_in("api/user#new", client)).count();
    let (expected, deviation) = (1_000.0, (100_000.0 * 0.01 * 0.99_f64).sqrt());
    assert!((both as f64 - expected).abs() <= 4.0 * deviation, "{both} of {expected}");
}

#[test]
fn a_share_is_read_as_it_is_written() {
    for (text, parts) in
        [("0%", 0), ("0.01%", 1), ("0.25%", 25), ("0.5%", 50), ("7%", 700), ("12.05%", 1205), ("100%", PARTS)]
    {
        assert_eq!((share(text).parts(), share(text).to_string().as_str()), (parts, text));
    }
    for (text, parts) in [(" 10 % ", 1_000), ("10.50%", 1_050), ("010%", 1_000), ("5.000%", 500)] {
        assert_eq!(share(text).parts(), parts, "{text}");
    }
    for (text, says) in [
        ("10", "written as 10%"),
        ("%", "written as 10%"),
        (".5%", "written as 10%"),
        ("5.%", "written as 10%"),
        ("-1%", "written as 10%"),
        ("+1%", "written as 10%"),
        ("1e1%", "written as 10%"),
        ("0.005%", "smallest share is 0.01%"),
        ("100.01%", "at most 100%"),
        ("101%", "at most 100%"),
        ("99999999999%", "at most 100%"),
    ] {
        let error = EnforcedShare::parse(text).expect_err("it is wrong");
        assert!(error.contains(says), "{text}: {error}");
    }
    assert!([EnforcedShare::of_bool(true), EnforcedShare::of_bool(false)] == [share("100%"), share("0%")]);
}

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

fn read(text: &str) -> Vec<(String, String)> {
    parse_entries(text).expect("well formed").into_iter().map(|e| (e.key, e.value)).collect()
}

#[test]
fn entries_split_at_the_first_equals_sign_and_commas_can_be_escaped() {
    let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
    assert_eq!(read("user=a=b,path=/x"), [pair("user", "a=b"), pair("path", "/x")]);
    assert_eq!(read(r"list=1\,2"), [pair("list", "1,2")]);
    assert_eq!(read("empty="), [pair("empty", "")]);
    assert!(parse_entries("user").is_err());
    assert!(parse_entries("=x").is_err());
}

#[test]
fn a_backslash_is_itself_but_right_before_a_comma() {
    let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
    assert_eq!(read(r"w=c:\x"), [pair("w", r"c:\x")]);
    assert_eq!(read(r"w=c:\\x\"), [pair("w", r"c:\\x\")]);
    assert_eq!(read(r"w=c:\\,u=a"), [pair("w", r"c:\"), pair("u", "a")]);
    assert_eq!(read(r"w=c:\\\,u=a"), [pair("w", r"c:\,u=a")]);
    let one = |text: &str| parse_entry(text).expect("well formed").value;
    assert_eq!((one(r"w=c:\x"), one("l=1,2"), one(r"l=1\,2")), (r"c:\x".into(), "1,2".into(), "1,2".into()));
}

/// Texts in which what has a meaning is frequent.
fn text(least: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just("\\"), Just(","), Just("="), Just("*"), Just("a"), Just("é"), Just(" "), Just("\n")];
    proptest::collection::vec(piece, least..8).prop_map(|pieces| pieces.concat())
}

/// The same cases every time, unless a seed is given.
fn config() -> ProptestConfig {
    let config = ProptestConfig { cases: 500, ..ProptestConfig::default() };
    match config.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(22), failure_persistence: None, ..config },
        RngSeed::Fixed(_) => config,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read_back(entries in proptest::collection::vec((text(1), text(0)), 1..4)) {
        // The first `=` ends a key.
        let entries: Vec<(String, String)> =
            entries.into_iter().map(|(key, value)| (format!("k{}", key.replace('=', "")), value)).collect();
        let written = write_entries(entries.iter().map(|(key, value)| Entry { key, value }));
        prop_assert_eq!(read(&written), entries.clone(), "{}", written);
        if let [(key, value)] = entries.as_slice() {
            let one = parse_entry(&written).expect("well formed");
            prop_assert_eq!((&one.key, &one.value), (key, value), "{}", written);
        }
    }

    #[test]
    fn what_is_read_and_written_is_read_the_same(text in text(1)) {
        let text = format!("k={text}");
        if let Ok(first) = parse_entries(&text) {
            let written = write_entries(first.iter().map(OwnedEntry::entry));
            prop_assert_eq!(parse_entries(&written).expect("it was written"), first);
        }
    }
}

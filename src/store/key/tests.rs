use std::collections::HashMap;

use super::*;
use crate::limit::{Entry, Micros};

fn text(domain: &str, entries: &[(&str, &str)]) -> String {
    named(domain, entries, &[], "")
}

fn named(domain: &str, entries: &[(&str, &str)], shared: &[Option<Box<str>>], limit_name: &str) -> String {
    let entries: Vec<Entry<'_>> = entries.iter().map(|&(key, value)| Entry { key, value }).collect();
    let key = Key { domain, entries: &entries, shared, limit_name, variable: 0 };
    let mut out = Vec::new();
    write(&mut out, "pre:", 7, &key, &Limit::new(10, SECOND, Algorithm::FixedWindow));
    String::from_utf8(out).expect("ascii in, ascii out")
}

#[test]
fn a_key_reads_like_the_descriptor_it_counts() {
    assert_eq!(
        text("api", &[("user", "alice"), ("endpoint", "/checkout")]),
        "pre:tg1:{7}:fw:1s:api:user=alice:endpoint=/checkout"
    );
}

#[test]
fn a_sliding_key_says_its_sub_windows() {
    let key = Key { domain: "d", entries: &[], shared: &[], limit_name: "", variable: 0 };
    let mut out = Vec::new();
    write(&mut out, "", 0, &key, &Limit::new(1, Micros(5), Algorithm::SlidingWindow));
    assert_eq!(out, b"tg1:{0}:sw32:5us:d");
}

#[test]
fn different_counters_have_different_keys() {
    let long = "x".repeat(PART_MAX + 1);
    let longer = "x".repeat(PART_MAX + 2);
    let hashed = format!("{}%~{}", "x".repeat(PART_SHOWN), "0".repeat(64));
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("d", &[("a", "b_c")]),
        ("d", &[("a_b", "c")]),
        ("d", &[("a", "b:c=d")]),
        ("d", &[("a", "b"), ("c", "d")]),
        ("d", &[("a", "")]),
        ("d", &[("", "a")]),
        ("d", &[("a=", "b")]),
        ("d", &[("a", "=b")]),
        ("d", &[]),
        ("d", &[("", "")]),
        ("d:", &[("", "")]),
        ("d", &[("a", "%3a")]),
        ("d", &[("a", ":")]),
        ("d", &[("a", "b#n")]),
        ("d", &[("a", "{9}")]),
        ("d", &[("a", &long)]),
        ("d", &[("a", &longer)]),
        ("d", &[("a", &hashed)]),
    ];
    let mut seen = HashMap::new();
    for case in cases {
        if let Some(other) = seen.insert(text(case.0, case.1), case) {
            panic!("{case:?} and {other:?} share a key");
        }
    }
}

#[test]
fn the_name_of_a_limit_is_told_from_a_value() {
    assert_eq!(named("d", &[("a", "b")], &[], "n"), "pre:tg1:{7}:fw:1s:d:a=b#n");
    assert_ne!(named("d", &[("a", "b")], &[], "n"), text("d", &[("a", "b#n")]));
}

#[test]
fn a_shared_counter_is_not_that_of_a_client_who_sends_the_pattern() {
    let shared = [Some("al*".into())];
    assert_eq!(named("d", &[("a", "alice")], &shared, ""), named("d", &[("a", "albert")], &shared, ""));
    assert_ne!(named("d", &[("a", "alice")], &shared, ""), text("d", &[("a", "al*")]));
    assert_ne!(named("d", &[("a", "alice")], &shared, ""), text("d", &[("a", "~al*")]));
}

#[test]
fn a_key_never_holds_a_second_brace_or_a_blank() {
    let every: String = (0u8..=127).map(char::from).collect();
    let key = text("a b{c}", &[(&every[..64], &every[64..])]);
    assert_eq!(key.matches(['{', '}']).count(), 2, "only the bucket's own: {key}");
    assert!(!key.contains(char::is_whitespace) && !key.contains('\0'));
}

#[test]
fn users_spread_over_buckets_and_their_counters_stay_together() {
    let of = |entries: &[(&str, &str)], variable| {
        let entries: Vec<Entry<'_>> = entries.iter().map(|&(key, value)| Entry { key, value }).collect();
        bucket(&Key { domain: "d", entries: &entries, shared: &[], limit_name: "", variable }, Buckets::DEFAULT)
    };
    let used: std::collections::HashSet<u32> =
        (0..2_000).map(|user| of(&[("route", "r"), ("user", &user.to_string())], 1)).collect();
    assert!(used.len() > 240, "2,000 users fell into {} of 256 buckets", used.len());
    assert_eq!(of(&[("route", "r"), ("user", "7")], 1), of(&[("route", "s"), ("user", "7"), ("x", "y")], 1));
}

#[test]
fn buckets_are_the_same_in_every_release() {
    let key = Key {
        domain: "api",
        entries: &[Entry { key: "user", value: "alice" }],
        shared: &[],
        limit_name: "",
        variable: 0,
    };
    assert_eq!(bucket(&key, Buckets::DEFAULT), 60, "changing this strands every counter that replicas share");
    assert_eq!(bucket(&key, Buckets::EachSlot), 478, "and so does this");
    let sum =
        Buckets::EachSlot.all().iter().fold(0u64, |sum, &bucket| sum.wrapping_mul(31).wrapping_add(bucket.into()));
    assert_eq!(sum, 13536670272240196212, "and any other table of buckets");
}

#[test]
fn each_slot_has_one_bucket_and_so_a_hundred_nodes_have_the_same_number() {
    let buckets = Buckets::EachSlot.all();
    let slots: Vec<u16> = buckets.iter().map(|&bucket| slot_of_bucket("", bucket)).collect();
    assert_eq!(slots, (0..hash_slot::SLOTS).collect::<Vec<_>>());
    for (prefix, bucket) in [("", 177), ("limits:", 0), ("a}b", 12_345), ("{tag}:", 5), ("x{", 7)] {
        let mut key = Vec::new();
        write_bucket(&mut key, prefix, bucket);
        assert_eq!(slot_of_bucket(prefix, bucket), hash_slot::of(&key), "{prefix}");
    }
}

#[test]
fn buckets_are_read_as_they_are_written() {
    for (text, buckets) in
        [("256", Some(Buckets::DEFAULT)), ("1", Some(Buckets::Hashed(1))), ("slots", Some(Buckets::EachSlot))]
    {
        assert_eq!(Buckets::parse(text), buckets);
        assert_eq!(buckets.map(|buckets| buckets.to_string()).as_deref(), Some(text));
    }
    for text in ["", "0", "-1", "4294967296", "Slots", "256 "] {
        assert_eq!(Buckets::parse(text), None, "{text:?}");
    }
}

#[test]
fn long_names_of_domains_in_any_script_have_keys_of_their_own() {
    let long: Vec<String> = [43, 44].map(|times| "日".repeat(times)).into();
    let keys: Vec<String> = long.iter().map(|domain| of_domain("pre:", "overrides", domain)).collect();
    assert_ne!(keys[0], keys[1]);
    for key in &keys {
        // Five characters of three bytes, and a sixth that is cut.
        assert!(key.starts_with("pre:tg1:overrides:{日日日日日\u{fffd}%~") && key.ends_with('}'), "{key}");
    }
    assert_eq!(of_domain("", "overrides", "日"), "tg1:overrides:{日}");
}

#[test]
fn a_shown_key_has_hashes_in_the_place_of_values_that_nobody_should_read() {
    let privacy = Privacy::new(["user".into(), "a b".into()], &[7; 32]).expect("long enough");
    let shown = |key: String| super::shown(key.as_bytes(), &privacy);
    let (alice, odd) = (privacy.shown("user", "alice"), privacy.shown("user", "a:b=c"));
    assert_eq!(
        shown(named("api", &[("user", "alice"), ("path", "/x")], &[], "hourly")),
        format!("pre:tg1:{{7}}:fw:1s:api:user={alice}:path=/x#hourly")
    );
    assert_eq!(shown(named("api", &[("user", "a:b=c")], &[], "n")), format!("pre:tg1:{{7}}:fw:1s:api:user={odd}#n"));
    assert_eq!(
        shown(text("api", &[("a b", "x")])),
        format!("pre:tg1:{{7}}:fw:1s:api:a%20b={}", privacy.shown("a b", "x"))
    );
    assert_eq!(shown(text("api", &[("user", &"x".repeat(500))])), "pre:tg1:{7}:fw:1s:api:user=~");
    let shared = named("api", &[("user", "/a/1")], &[Some("/a/*".into())], "");
    assert_eq!(shown(shared.clone()), shared, "a pattern is the rule's");
    assert_eq!(super::shown(shared.as_bytes(), &Privacy::default()), shared);
}

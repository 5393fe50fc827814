use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::*;

/// The seed is fixed, so that a run can be repeated.
fn config() -> Config {
    Config { rng_seed: RngSeed::Fixed(0x00e5_ca9e), failure_persistence: None, cases: 1_000, ..Config::default() }
}

/// What an escape stands for.
fn meant(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if begins_escape(rest) {
            let digits = std::str::from_utf8(&rest[2..4]).expect("two digits");
            out.push(u8::from_str_radix(digits, 16).expect("two digits"));
            rest = &rest[4..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

#[test]
fn bytes_are_shown_as_people_write_them_and_other_text_as_it_is() {
    let table: [(&[u8], &str); 12] = [
        (b"", ""),
        ("caf\u{e9} \\ / 😀".as_bytes(), "café \\ / 😀"),
        (b"caf\xe9", r"caf\xe9"),
        (b"\xff\xfe", r"\xff\xfe"),
        // A character that breaks off, and half of a surrogate pair.
        (b"\xf0\x9f\x98", r"\xf0\x9f\x98"),
        (b"a\xed\xa0\xbdb", r"a\xed\xa0\xbdb"),
        (br"caf\xe9", r"caf\x5cxe9"),
        (b"\\\xe9\\x", r"\\xe9\x"),
        // Looks like none of the escapes that there are.
        (br"\\x C:\xampp \x41 \xE9 \x7f", r"\\x C:\xampp \x41 \xE9 \x7f"),
        (br"\x5c", r"\x5cx5c"),
        (br"\\xe9", r"\\x5cxe9"),
        (b"\\xe\xe9", r"\xe\xe9"),
    ];
    for (raw, shown) in table {
        assert_eq!(bytes(raw), shown);
        assert_eq!(meant(shown), raw);
    }
}

#[test]
fn strings_of_json_are_the_text_that_stands_for_what_they_hold() {
    let table: [(&[u8], &str); 10] = [
        (b"caf\xe9", r"caf\xe9"),
        (br"caf\\xe9", r"caf\x5cxe9"),
        (br"caf\u005C\u0078e9", r"caf\x5cxe9"),
        (br"\\\\x", r"\\x"),
        (br"\\\u0079\n", "\\y\n"),
        (br#"\"\xff"#, "no JSON"),
        (br"\ud83d\ude00", "😀"),
        (br"\ud83d", r"\xed\xa0\xbd"),
        (br"\ude00\ud83d\ud83d\ude00", "\\xed\\xb8\\x80\\xed\\xa0\\xbd😀"),
        (b"\\\xe9", "no JSON"),
    ];
    for (written, read) in table {
        let body = [b"[ \"", written, b"\" ]"].concat();
        match serde_json::from_slice::<[String; 1]>(&json(&body)) {
            Ok([text]) => assert_eq!(text, read),
            Err(error) => assert_eq!(read, "no JSON", "{}: {error}", body.escape_ascii()),
        }
    }
    // Outside of strings nothing is changed, and so nothing becomes JSON that was none.
    for body in [&b"\xff"[..], b"[\\x41]", b"{\"a\": \xe9}", b"\"a", b"\"\\", b"\"\\u12"] {
        assert!(serde_json::from_slice::<serde_json::Value>(&json(body)).is_err(), "{}", body.escape_ascii());
    }
}

/// Bytes that escapes are made of, beside any others.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let of_escapes = prop::sample::select(b"\\xe95c\xe9\xff".to_vec());
    prop::collection::vec(prop_oneof![3 => of_escapes, 1 => any::<u8>()], 0..24)
}

/// A string of JSON that holds these bytes, each written in one of the ways that there are.
fn written(bytes: &[u8], ways: &[bool]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for (byte, is_by_number) in bytes.iter().zip(ways) {
        match byte {
            byte if byte.is_ascii() && (*is_by_number || *byte < 0x20) => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            }
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_differs_outside_differs_inside(raw in any_bytes()) {
        prop_assert_eq!(meant(&bytes(&raw)), raw);
    }

    #[test]
    fn text_without_an_escape_stays_as_it_is_and_what_stands_for_it_is_text(text in "\\PC{0,24}") {
        let shown = bytes(text.as_bytes());
        prop_assert_eq!(is_plain(text.as_bytes()), !has_escape(text.as_bytes()));
        prop_assert_eq!(*shown == *text, !has_escape(text.as_bytes()));
        prop_assert_eq!(self::text(&text), shown);
    }

    #[test]
    fn json_is_read_as_the_same_bytes_are_elsewhere(raw in any_bytes(), ways in prop::collection::vec(any::<bool>(), 24)) {
        let body = written(&raw, &ways);
        let read: String = serde_json::from_slice(&json(&body)).expect("a string of JSON");
        prop_assert_eq!(read, bytes(&raw));
    }
}

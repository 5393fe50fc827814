//! Different rows have different names where a name is whole, and the same row always has the same.

use std::collections::HashMap;

use super::*;

#[test]
fn whole_names_of_different_shapes_and_values_differ() {
    let mut names: HashMap<([u64; 2], u32), (u32, String)> = HashMap::new();
    // Every text of up to 16 bytes that has one or two other bytes among equal ones, or a length of its own.
    for length in 0..=WHOLE_MAX {
        let mut texts = vec!["a".repeat(length)];
        for (one, two) in (0..length).flat_map(|one| (one..length).map(move |two| (one, two))) {
            let mut text = "a".repeat(length).into_bytes();
            (text[one], text[two]) = (b'b', b'c');
            texts.push(String::from_utf8(text).expect("it is ASCII"));
        }
        for (shape, text) in
            [0, 1, 77, (1 << SHAPE_BITS) - 1].into_iter().flat_map(|s| texts.iter().map(move |t| (s, t)))
        {
            let name = RowKey::of_one(shape, text);
            assert!(name.is_exact());
            assert_eq!(name.kind & RowKey::SPARE, 0);
            let other = names.insert((name.words, name.kind), (shape, text.clone()));
            assert_eq!(other, None, "shape {shape}, {text}");
        }
    }
}

#[test]
fn a_zero_byte_is_not_nothing() {
    let whole = ["", "\0", "\0\0", "\0\0\0", "\0\0\0\0", "\0\0\0\0\0\0\0\0"].map(|text| RowKey::of_one(0, text));
    for (index, name) in whole.iter().enumerate() {
        assert!(name.is_exact() && *name != RowKey::NONE);
        assert!(whole[..index].iter().all(|other| other != name));
    }
}

#[test]
fn what_has_no_room_is_hashed() {
    let long = "a".repeat(WHOLE_MAX + 1);
    for name in [RowKey::of_one(0, &long), RowKey::of_one(1 << SHAPE_BITS, "a"), RowKey::of(0, ["a", "b"].into_iter())]
    {
        assert!(!name.is_exact());
        assert_eq!(name.kind & RowKey::SPARE, 0);
    }
    assert!(RowKey::of_one(0, &long) != RowKey::of_one(1, &long), "the shape is hashed too");
}

#[test]
fn one_value_has_one_name_however_it_comes() {
    for value in ["", "alice", "a value that is longer than a name"] {
        assert!(RowKey::of(3, [value].into_iter()) == RowKey::of_one(3, value));
    }
}

#[test]
fn the_example_of_the_head_is_true() {
    let (alice, bob) = (RowKey::of_one(3, "alice"), RowKey::of_one(3, "bob"));
    assert_eq!((alice.words, alice.kind), ([0x6369_6c61, 0x6563_696c], 0x306));
    assert_eq!((bob.words, bob.kind), ([0x6f62, 0x62], 0x304));
}

//! Whatever is put in is found, however crowded its line is; and nothing else.

use super::*;

fn head(row: u32) -> IndexedRow {
    IndexedRow { row, limits: row + 1, ends: ExpirySeconds(row + 2) }
}

/// As full as a table gets, with names that are whole and names that are hashes; each hash stands for two rows.
fn crowd(rows: u32) -> (RowIndex, Vec<RowKey>) {
    let mut heads = RowIndex::with_capacity(rows as usize);
    let names: Vec<RowKey> = (0..rows)
        .map(|row| match row % 4 {
            0 | 1 => RowKey::of_one(7, &format!("user-{row}")),
            _ => RowKey::of_one(7, &format!("a user whose name is long, {}", row / 4)),
        })
        .collect();
    names.iter().zip(0..).for_each(|(name, row)| heads.insert(*name, head(row)));
    (heads, names)
}

#[test]
fn rows_are_all_found_on_their_line_or_those_after_it() {
    for rows in [1, 2, 3, 10, 1_000, 20_000] {
        let (heads, names) = crowd(rows);
        for (name, row) in names.into_iter().zip(0..) {
            assert_eq!(heads.find(name, |other| other == row), Some(&head(row)), "{row} of {rows}");
        }
        for row in 0..rows {
            assert_eq!(heads.find(RowKey::of_one(7, &format!("nobody-{row}")), |_| true), None);
            assert_eq!(heads.find(RowKey::of_one(6, &format!("user-{row}")), |_| true), None, "of another shape");
        }
    }
}

#[test]
fn a_hash_is_no_proof() {
    let (heads, names) = crowd(1_000);
    assert_eq!(heads.find(names[2], |_| false), None);
    assert!(heads.find(names[0], |_| false).is_some(), "a whole name is");
}

#[test]
fn a_row_that_replaces_another_is_found_in_its_place() {
    let (mut heads, names) = crowd(1_000);
    for row in [0, 6, 999] {
        let name = names[row as usize];
        heads.replace(name, head(row), head(row + 5_000));
        assert_eq!(heads.find(name, |found| found == row + 5_000), Some(&head(row + 5_000)));
    }
}

#[test]
fn who_has_no_row_nearly_always_learns_it_from_the_marks() {
    let (heads, _) = crowd(20_000);
    let looks_like_one = |number: &u32| {
        let (word, bits) = heads.bloom_bits(RowKey::of_one(7, &format!("nobody-{number}")).hash());
        heads.bloom[word] & bits == bits
    };
    let mistaken = (0..20_000).filter(looks_like_one).count();
    assert!((1..600).contains(&mistaken), "{mistaken} of 20,000");
}

#[test]
fn a_table_for_nobody_finds_nobody() {
    let heads = RowIndex::with_capacity(0);
    assert_eq!(heads.size(), 0);
    assert_eq!(heads.find(RowKey::of_one(0, ""), |_| true), None);
    assert_eq!(heads.find(RowKey::NONE, |_| true), None);
}

#[test]
fn an_end_is_told_in_seconds_wherever_they_tell_it() {
    let end = ExpirySeconds::of(UnixMicros(5_500_000));
    let told = [4_999_999, 5_000_000, 5_500_000, 5_999_999, 6_000_000].map(|now| end.is_after(UnixMicros(now)));
    assert_eq!(told, [Some(true), None, None, None, Some(false)], "in its own second the row must be asked");
    // 2106 is the last year that whole seconds reach.
    let far = ExpirySeconds::of(UnixMicros(u64::MAX - 1));
    assert_eq!(far.is_after(UnixMicros(1_800_000_000_000_000)), Some(true));
    assert_eq!(far.is_after(UnixMicros(u64::from(u32::MAX) * 1_000_000)), None);
    assert_eq!(ExpirySeconds::of(NEVER), ExpirySeconds::NEVER);
}

#[test]
fn the_example_of_the_head_is_true() {
    let heads = RowIndex::with_capacity(10);
    assert_eq!((heads.lines.len(), heads.bloom.len()), (10, 2));
    let hash = 0x0000_3081_8000_0000;
    assert_eq!((heads.first_line(hash), heads.bloom_bits(hash)), (5, (1, 0b1110)));
}

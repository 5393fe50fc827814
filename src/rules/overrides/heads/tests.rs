//! Whatever is put in is found, however crowded its line is; and nothing else.

use super::*;

/// Rows whose hashes say the same line, `of` a table's lines, and whose homes and tags differ little.
fn crowd(of: usize, rows: u32) -> (Heads, Vec<u64>) {
    let mut heads = Heads::with_room_for(of * 5);
    let hashes: Vec<u64> = (0..rows).map(|row| u64::from(row % 7) << 48 | u64::from(row) << 40 | 0xffff_ffff).collect();
    hashes.iter().zip(0..).for_each(|(hash, row)| heads.insert(*hash, Head::new(row, row + 1)));
    (heads, hashes)
}

fn find(heads: &Heads, hash: u64, row: u32) -> Option<Head> {
    let place = heads.place(hash);
    let at_home = heads.at_home(place).filter(|head| head.row() == row);
    at_home.or_else(|| {
        if heads.has_others(place) { heads.find(place.line, place.tag, |other| other == row) } else { None }
    })
}

#[test]
fn rows_of_a_crowded_line_are_all_found_on_the_lines_after_it() {
    let (heads, hashes) = crowd(10, 50);
    for (hash, row) in hashes.into_iter().zip(0..) {
        let head = find(&heads, hash, row).expect("it was put in");
        assert_eq!((head.row(), head.grant()), (row, row + 1));
        assert!(find(&heads, hash, row + 1_000).is_none(), "nothing else is");
    }
}

#[test]
fn a_row_that_replaces_another_is_found_in_its_place() {
    let (mut heads, hashes) = crowd(10, 50);
    for row in [0, 6, 49] {
        let (hash, first) = (hashes[row as usize], Head::new(row, row + 1));
        heads.replace(hash, first, Head::new(row + 100, 7));
        assert!(find(&heads, hash, row).is_none());
        assert_eq!(find(&heads, hash, row + 100).map(Head::grant), Some(7));
    }
}

#[test]
fn a_table_for_nobody_finds_nobody() {
    let heads = Heads::with_room_for(0);
    assert_eq!(heads.size(), 0);
    assert!(find(&heads, u64::MAX, 0).is_none());
}

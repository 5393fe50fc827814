//! What is written is read, whatever its length.

use super::*;

#[test]
fn rows_are_read_as_they_were_written() {
    let numbers = |row: u32| RecordHeader {
        source: row,
        at: Location { line: row + 1, column: row + 2, width: row + 3 },
        next: NONE,
        limits: row + 4,
        shape: row + 5,
        expires: UnixMicros(u64::MAX - u64::from(row)),
    };
    let told =
        |RecordHeader { source: origin, at, next, limits, shape, expires }| (origin, at, next, limits, shape, expires);
    let texts: Vec<[String; 3]> =
        [0, 1, 127, 128, 16_383, 16_384, 100_000].map(|length| ["x".repeat(length), String::new(), "é".into()]).into();
    let mut records = Records::default();
    let rows: Vec<u32> = (0..)
        .zip(&texts)
        .map(|(row, texts)| records.add(&numbers(row), texts.iter().map(String::as_str)).expect("there is room"))
        .collect();
    assert_eq!(records.len(), texts.len());
    assert_eq!(records.each(|_| 3).collect::<Vec<_>>(), rows);
    records.set_next(rows[2], 77);
    for (index, row) in (0..).zip(&rows) {
        let (read, words) = records.of(*row);
        let next = if index == 2 { 77 } else { NONE };
        assert_eq!(told(read), told(RecordHeader { next, ..numbers(index) }));
        let words: Vec<&[u8]> = words.take(3).collect();
        assert_eq!(words, texts[index as usize].each_ref().map(|text| text.as_bytes()));
    }
}

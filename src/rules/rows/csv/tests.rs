use proptest::prelude::*;

use super::*;

/// All records, each cell as text.
fn read(text: &str) -> Result<Vec<Vec<String>>, CsvError> {
    let (mut reader, mut cells, mut records) = (CsvReader::new(text), Vec::new(), Vec::new());
    while reader.next(&mut cells)? {
        records.push(cells.iter().map(|cell| cell.text.to_string()).collect());
    }
    Ok(records)
}

#[test]
fn records_are_read_as_they_were_written() {
    let table: [(&str, &[&[&str]]); 8] = [
        ("a,b\n1,2\n", &[&["a", "b"], &["1", "2"]]),
        ("a,b\r\n1,2\r\n", &[&["a", "b"], &["1", "2"]]),
        ("a,b\n1,2", &[&["a", "b"], &["1", "2"]]),
        ("a , b\n\n\n 1,\t2\n", &[&["a", "b"], &["1", "2"]]),
        ("a,,\n,\n", &[&["a", "", ""], &["", ""]]),
        ("\"a,b\",\"c\"\"d\"\"\",\"\"", &[&["a,b", "c\"d\"", ""]]),
        ("\" a \",\"line\nline\"\nnext", &[&[" a ", "line\nline"], &["next"]]),
        ("", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(read(text).expect("well formed"), expected, "{text:?}");
    }
}

#[test]
fn what_is_broken_is_told_at_its_place() {
    let table = [
        ("a\n\"b", 2, 1, "this quote is never closed"),
        ("a\nö,\"b\nc", 2, 3, "this quote is never closed"),
        ("a\n\"b\"c", 2, 4, "text after the closing quote"),
        ("a\n\"b\n\"c", 3, 2, "text after the closing quote"),
        ("ö b\"c", 1, 4, "a quote inside a cell"),
        ("a, \"b\"", 1, 4, "a quote inside a cell"),
    ];
    for (text, line, column, what) in table {
        let broken = read(text).expect_err("it is broken");
        assert_eq!((broken.at.line, broken.at.column, &*broken.what), (line, column, what), "{text:?}");
    }
}

#[test]
fn a_cell_knows_its_place() {
    let text = "a,b\n\"x\ny\", ö ,\"c\"";
    let (mut reader, mut cells) = (CsvReader::new(text), Vec::new());
    let mut places = Vec::new();
    while reader.next(&mut cells).expect("well formed") {
        places.extend(cells.iter().map(|cell| cell.location(text)).map(|at| (at.line, at.column, at.width)));
    }
    assert_eq!(places, [(1, 1, 1), (1, 3, 1), (2, 1, 2), (3, 5, 1), (3, 8, 3)]);
}

proptest! {
    #[test]
    fn quoted_cells_come_back(records in prop::collection::vec(prop::collection::vec("[a-c,\"\n\r ö]{0,5}", 1..4), 0..5)) {
        let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |record: &Vec<String>| record.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
        let text: String = records.iter().map(line).collect();
        prop_assert_eq!(read(&text).expect("well formed"), records);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a,\"\n\r ö]{0,30}") {
        let (mut reader, mut cells) = (CsvReader::new(&text), Vec::new());
        while let Ok(true) = reader.next(&mut cells) {
            cells.iter().for_each(|cell| _ = cell.location(&text));
        }
    }
}

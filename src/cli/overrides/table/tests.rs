use super::*;

fn wrong(text: &str) -> Vec<(u32, u32, String)> {
    let Err(wrong) = read_csv(text, "api") else { panic!("it is wrong: {text}") };
    wrong.into_iter().map(|RowError { line, column, what }| (line, column, what)).collect()
}

#[test]
fn rows_that_are_exported_are_read_back_as_they_were() {
    let text =
        "\u{feff}match.user,limit,expires,reason\r\nalice,300/m,2027-01-01,\"a, \"\"b\"\"\"\r\nbob,unlimited,,\r\n";
    let rows = read_csv(text, "api").expect("good");
    assert_eq!(rows.iter().map(|row| &*row.id).collect::<Vec<_>>(), ["user:alice", "user:bob"]);
    let overrides: Vec<Override> = rows
        .iter()
        .map(|row| Override { id: row.id.clone(), spec: Some(row.spec.clone()), ..Override::default() })
        .collect();
    for again in
        [read_csv(&csv(&overrides, true).expect("room"), "api"), read_ndjson(&ndjson(&overrides).expect("JSON"), "api")]
    {
        let again = again.expect("good");
        assert_eq!(again.len(), rows.len());
        for (one, other) in rows.iter().zip(&again) {
            assert_eq!((&one.id, &one.spec), (&other.id, &other.spec));
        }
    }
}

#[test]
fn every_wrong_row_is_told_with_its_place() {
    assert_eq!(wrong(""), [(1, 1, "the file is empty".to_owned())]);
    let header = wrong("match.user,limits\n");
    assert_eq!((header[0].0, header[0].1), (1, 12));
    let text =
        "match.user,requests_per_unit,unit\nalice,ten,minute\n,5,minute\nbob,,\nbob,5\nal,5,minute\nal,6,minute\n";
    assert_eq!(
        wrong(text),
        [
            (2, 7, "`requests_per_unit` must be a whole number, not `ten`".to_owned()),
            (3, 1, "it matches nothing: no match.<key> has a value".to_owned()),
            (4, 1, "it has no limit".to_owned()),
            (
                5,
                5,
                "this row has 2 cells, and the first line names 3 columns (write an empty cell where there is nothing \
                 to say; text with a comma must be in quotes)"
                    .to_owned()
            ),
            (7, 1, "`user:al` is here a second time: first in line 6".to_owned()),
        ]
    );
}

#[test]
fn every_wrong_line_is_told_with_its_place_and_in_words_of_json() {
    let text = "\u{feff}{\"match\": {\"user\": \"é\"}, \"limit\": \"5/s\", \"id\": \"e\"}\n\n\
                {\"match\": {\"user\": \"é\"}, \"limit\": {\"requests\": -5}}\n{match: {user: a}}\n\
                {\"match\": {\"user\": \"é\"}, \"limits\": \"5/s\"}\n{\"id\": 5}\n[]\n\
                {\"match\": {\"user\": \"b\"}, \"limit\": \"5/s\", \"id\": \"e\"}\n";
    let Err(wrong) = read_ndjson(text, "api") else { panic!("it is wrong") };
    let told: Vec<(u32, u32, &str)> = wrong.iter().map(|it| (it.line, it.column, &*it.what)).collect();
    assert_eq!(
        told,
        [
            (3, 49, "expected a whole number from 0 to 4294967295, not integer `-5`"),
            (4, 2, "key must be a string"),
            (
                5,
                33,
                "unknown field `limits`, expected one of `match`, `rule`, `limit`, `expires`, `for`, `reason`, `owner`"
            ),
            (6, 8, "invalid type: integer `5`, expected a string"),
            (7, 1, "expected an object, not a list"),
            (8, 1, "`e` is here a second time: first in line 1"),
        ]
    );
}

#[test]
fn what_has_no_room_in_a_row_is_refused_not_lost() {
    let limit = Limit { short: "5/s".into(), ..Limit::default() };
    let spec = OverrideSpec {
        r#match: vec![Entry { key: "user".into(), value: "alice".into() }],
        limit: vec![limit.clone(), limit],
        ..OverrideSpec::default()
    };
    let two = Override { id: "two".into(), spec: Some(spec), ..Override::default() };
    let error = csv(&[two], true).expect_err("one limit a row");
    assert!(error.to_string().contains("`two`") && error.to_string().contains("--ndjson"), "{error}");
}

#[test]
fn no_cell_of_a_safe_export_is_a_formula_and_each_is_read_as_it_was() {
    let values = [
        "=HYPERLINK(\"http://x\")",
        "+1",
        "-1",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "'=1",
        "''-1",
        "'",
        "it's",
        "' =",
        "a=1",
        "alice",
    ];
    let row = |value: &&str| Override {
        id: format!("-{}", value.len()),
        spec: Some(OverrideSpec {
            r#match: vec![Entry { key: "user".into(), value: (*value).to_owned() }],
            limit: vec![Limit { short: "5/s".into(), ..Limit::default() }],
            reason: (*value).to_owned(),
            ..OverrideSpec::default()
        }),
        ..Override::default()
    };
    for value in &values {
        let overrides = [row(value)];
        let safe = csv(&overrides, true).expect("room");
        let (mut reader, mut cells) = (csv::CsvReader::new(&safe), Vec::new());
        while reader.next(&mut cells).expect("CSV") {
            for cell in &cells {
                assert!(!cell.text.starts_with(['=', '+', '-', '@', '\t', '\r']), "{safe}");
            }
        }
        let read = read_csv(&safe, "api").expect("good");
        assert_eq!((&*read[0].id, Some(&read[0].spec)), (&*overrides[0].id, overrides[0].spec.as_ref()), "{safe}");
    }
    assert!(csv(&[row(&"=1")], false).expect("room").contains("\n=1,"), "as it is, where that is asked for");
}

use super::*;
use crate::limit::Entry;

const FIELDS: &str = "time: \"{time}\"\ndomain: \"{shop}\"\nhits: \"{cost}\"\nanswer: \"{code}\"\ndescriptors:\n\
    - {user: \"{jwt.sub}\", path: \"{method} {path}\"}\n- {kind: all, host: \"{host}\"}\n";

fn of_fields(text: &str) -> Rc<LogFields> {
    let (fields, problems) = LogFields::read(&Source { path: "fields.yaml".into(), bytes: text.into() });
    Rc::new(fields.unwrap_or_else(|| panic!("{}", problems.render())))
}

/// A line's request as text, or why there is none.
fn told(format: &mut impl LineFormat, line: &str) -> String {
    let mut recorded = Recorded::default();
    match format.read(line.as_bytes(), &mut recorded) {
        Ok(LineRead::Request) => {
            let request = recorded.request();
            let entries = |entries: &[Entry<'_>]| crate::limit::written::write_entries(entries.iter().copied());
            let descriptors: Vec<String> = request.descriptors.iter().map(|it| entries(&it.entries)).collect();
            let code = recorded.code.map_or(String::new(), |code| format!(" {code:?}"));
            format!("{} {} {} x{}{code}", recorded.at.0, request.domain, descriptors.join(" + "), request.hits)
        }
        Ok(LineRead::Nothing) => "nothing".to_owned(),
        Ok(LineRead::Heading) => "heading".to_owned(),
        Err(why) => why,
    }
}

#[test]
fn lines_of_json_have_fields_and_fields_within_them() {
    let mut log = EnvoyLog::new(of_fields(FIELDS)).expect("the format is Envoy's");
    for (line, expected) in [
        (
            r#"{"time":"2026-01-05T09:00:00.250Z","shop":"api","jwt":{"sub":"alice"},"method":"GET","path":"/a","host":"h","code":429,"cost":3}"#,
            "1767603600250000 api user=alice,path=GET /a + kind=all,host=h x3 OverLimit",
        ),
        (
            r#"{"time":1767603600.5,"shop":"api","jwt.sub":"bob","method":"GET","path":"/a","host":"-","code":"200"}"#,
            "1767603600500000 api user=bob,path=GET /a x1 Ok",
        ),
        (r#"{"time":1,"shop":"api","jwt":{"sub":null},"host":""}"#, "nothing"),
        (r#"{"shop":"api","host":"h"}"#, "there is no time"),
        (
            r#"{"time":"noon","shop":"api","host":"h"}"#,
            "`noon` is no time: write it as 2027-01-01 or 2027-01-01T08:30:00Z",
        ),
        (r#"{"time":1,"host":"h"}"#, "there is no domain"),
        (r#"{"time":1,"shop":"a","host":"h","cost":"much"}"#, "`hits` are no whole number: much"),
        (r#"{"time":1"#, "this is no JSON: EOF while parsing an object at column 9"),
    ] {
        assert_eq!(told(&mut log, line), expected, "{line}");
    }
}

#[test]
fn lines_of_text_are_in_envoys_format_or_another() {
    let fields = "time: \"{START_TIME}\"\ndomain: api\nanswer: \"{RESPONSE_CODE}\"\ndescriptors:\n\
        - {agent: \"{REQ(USER-AGENT)}\"}\n- {path: \"{REQ(X-ENVOY-ORIGINAL-PATH?:PATH)}\"}\n";
    let mut log = EnvoyLog::new(of_fields(fields)).expect("the format is Envoy's");
    let line = r#"[2026-01-05T09:00:00.250Z] "GET /status/429?a=b HTTP/1.1" 429 - 0 15 3 2 "10.0.0.1" "curl 8" "5f" "api" "10.1.1.1:80""#;
    assert_eq!(told(&mut log, line), "1767603600250000 api agent=curl 8 + path=/status/429?a=b x1 OverLimit");
    let nobody = line.replace("\"curl 8\"", "\"-\"");
    assert_eq!(told(&mut log, &nobody), "1767603600250000 api path=/status/429?a=b x1 OverLimit");
    assert_eq!(told(&mut log, "[2026] GET"), "the line isn't in the format, from %START_TIME% on");

    let other = "format: \"%START_TIME(%s.%3f)% user=%REQ(X-USER):20%;\"\ntime: \"{START_TIME}\"\ndomain: api\n\
        descriptors: [{user: \"{REQ(X-USER):20}\"}]\n";
    let mut log = EnvoyLog::new(of_fields(other)).expect("a format");
    assert_eq!(told(&mut log, "1767603600.250 user=alice;"), "1767603600250000 api user=alice x1");
    let unknown = other.replace("{user: \"{REQ(X-USER):20}\"}", "{user: \"{REQ(X-USER)}\"}");
    let mut log = EnvoyLog::new(of_fields(&unknown)).expect("a format");
    let expected = "the format has no %REQ(X-USER)%: it has START_TIME(%s.%3f), REQ(X-USER):20";
    assert_eq!(told(&mut log, "1767603600.250 user=alice;"), expected);
    for (format, why) in [
        ("none", "it has no operator such as %START_TIME%"),
        ("%START_TIME", "an operator has no end: %START_TIME"),
        ("%A%%B%", "there must be some text behind %A%"),
    ] {
        assert_eq!(TextFormat::parse(format), Err(why.to_owned()));
    }
}

#[test]
fn csv_has_its_columns_in_the_first_record() {
    let fields = "time: \"{t}\"\ndomain: api\ndescriptors: [{user: \"{who}\"}]\n";
    let mut csv = Csv::new(of_fields(fields));
    assert_eq!(told(&mut csv, "\u{feff}who,t"), "heading");
    assert_eq!(told(&mut csv, "\"al \"\"x\"\", ice\",5.25"), "5250000 api user=al \"x\"\\, ice x1");
    assert_eq!(told(&mut csv, ",6"), "nothing");
    assert_eq!(told(&mut csv, "a,b,c"), "there are 3 values, and 2 columns");
    assert!(csv.goes_on(b"a,\"b\n") && !csv.goes_on(b"a,\"b\"\n"));
    let mut csv = Csv::new(of_fields(fields));
    assert_eq!(told(&mut csv, "user,t"), "there is no column `who`: the first line has user, t");
}

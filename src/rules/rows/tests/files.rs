//! Files of overrides in each of their formats, and every mistake with its file, line and column.

use super::*;
use crate::rules::DotFiles;

const RULES: &str = "domain: d
tiers: {gold: {requests: 100, window: 1s, algorithm: token_bucket}} # tollgate: allow unused-tier
descriptors:
- key: user
  overrides_from: [o.csv]
  descriptors: [{key: endpoint}]
";

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), bytes: text.as_bytes().to_vec() }
}

#[test]
fn every_format_says_the_same() {
    let csv = "match.user,match.endpoint,limit,expires,reason,owner\n\
               alice,,5/s,2027-01-01,\"contract 42, annex\",sales\nbob,/x,unlimited,,,\n";
    let ndjson = r#"{"match": {"user": "alice"}, "limit": "5/s", "expires": "2027-01-01", "reason": "contract 42, annex", "owner": "sales"}

{"match": {"user": "bob", "endpoint": "/x"}, "limit": {"unlimited": true}}
"#;
    let yaml = "- match: {user: alice}\n  limit: 5/s\n  expires: 2027-01-01\n  reason: contract 42, annex\n  \
                owner: sales\n- {match: {user: bob, endpoint: /x}, limit: unlimited}\n";
    let rows = |name: &str, text: &str| {
        let rules = format!(
            "domain: d\noverrides_from: [{name}]\ndescriptors: [{{key: user, descriptors: [{{key: endpoint}}]}}]"
        );
        let rules = good(&rules, &[(name, text)]);
        let row = |row: RowRef<'_>| {
            let (reason, owner) = (row.reason().to_owned(), row.owner().to_owned());
            (row.to_string(), row.limits().limits().len(), row.expires(), reason, owner)
        };
        rules.domains()[0].overrides().rows().map(row).collect::<Vec<_>>()
    };
    let expected = rows("o.csv", csv);
    assert_eq!(expected.len(), 2);
    assert_eq!((expected[0].0.as_str(), expected[1].0.as_str()), ("user=alice", "endpoint=/x,user=bob"));
    assert_eq!((expected[0].3.as_str(), expected[0].4.as_str()), ("contract 42, annex", "sales"));
    assert_eq!(rows("o.ndjson", ndjson), expected);
    assert_eq!(rows("o.yaml", yaml), expected);
    assert_eq!(rows("o.csv", &format!("\u{feff}{}", csv.replace('\n', "\r\n"))), expected);
}

#[test]
fn a_limit_may_be_written_in_parts() {
    let csv = "match.user,requests_per_unit,unit,unit_multiplier,algorithm,burst,tier\n\
               a,30,minute,5,,,\nb,10,second,,token_bucket,50,\nc,,,,,7,gold\nd,9,,,,,gold\n";
    let rules = good(RULES, &[("o.csv", csv)]);
    let limits: Vec<(u32, u64, u32)> = rules.domains()[0]
        .overrides()
        .rows()
        .map(|row| row.limits().limits()[0].limit)
        .map(|limit| (limit.requests, limit.window.0 / 1_000_000, limit.burst))
        .collect();
    assert_eq!(limits, [(30, 300, 30), (10, 1, 50), (100, 1, 7), (9, 1, 9)]);
}

#[test]
fn a_mistake_in_csv_is_told_at_its_place() {
    let table = [
        ("", "1:1: the file is empty: its first line must name the columns"),
        ("match.user,limit\n\"al\"ice,5/s\n", "2:5: text after the closing quote"),
        ("match.user,limit\n\"alice,5/s\nbob,5/s\n", "2:1: this quote is never closed"),
        ("match.user,limit\nalice\n", "2:1: this row has 1 cell, and the first line names 2 columns"),
        ("match.user,limit\na,5/s,x\n", "2:7: this row has 3 cells, and the first line names 2 columns"),
        ("match.user,limit\na,\n", "2:3: `limit` is empty"),
        (
            "match.user,requests_per_unit,unit\na,,minute\n",
            "2:3: `requests_per_unit` is empty, and an empty number is not 0",
        ),
        ("match.user,requests_per_unit,unit\na,5,\n", "2:1: a limit must have a `unit`"),
        (
            "match.user,requests_per_unit,unit\na,five,minute\n",
            "2:3: `requests_per_unit` must be a whole number from 0 to 4294967295, not `five`",
        ),
        ("match.user,limit\n,5/s\n", "2:1: this override names no key: it would be for everybody"),
        ("match.user,limit\na,5/s\nb,6/s\na,7/s\n", "4:1: `user=a` is here a second time: first in line 2"),
        ("limit,match.user\n5/s,a\n6/s,a\n", "3:5: `user=a` is here a second time: first in line 2"),
        ("match.user,limit\na,-5/s\n", "2:3: `-5/s` is no limit: `-5` isn't a whole number from 0 to 4294967295"),
        ("match.user,limit,expires\na,5/s,soon\n", "2:7: `soon` is no moment"),
        ("match.user,tier\na,glod\n", "2:3: there is no tier `glod`"),
        ("match.usr,limit\na,5/s\nb,5/s\n", "1:1: this rule's path has no key `usr`"),
        ("match.,limit\na,5/s\n", "1:1: this rule's path has no key ``"),
        ("user,limit\na,5/s\n", "1:1: unknown column `user`"),
        ("match.user,limt\na,5/s\n", "1:12: unknown column `limt`"),
        ("match.user,limit,limit\na,5/s,5/s\n", "1:18: column `limit` is here a second time"),
        ("limit\n5/s\n", "1:1: no column says whom a row is for"),
        ("match.user\na\n", "1:1: no column says what a row grants"),
        ("match.user,limit,tier\na,5/s,\n", "1:1: `limit` and the columns of its parts are of different forms"),
    ];
    for (csv, expected) in table {
        let located = said(RULES, &[("o.csv", csv)]);
        assert_eq!(located.len(), 1, "{csv:?}: {located:?}");
        assert!(located[0].starts_with(&format!("o.csv:{expected}")), "{csv:?}: {located:?}");
    }
    let semicolons = said(RULES, &[("o.csv", "match.user;limit\na;5/s\n")]);
    assert!(semicolons[0].contains("(cells are separated by commas)"), "{semicolons:?}");
    assert!(said(RULES, &[("o.csv", "match.user,limit\n")]).is_empty(), "nobody has an override yet");
    let wide = vec!["reason"; 65].join(",");
    assert!(said(RULES, &[("o.csv", &wide)])[0].contains("65 columns are more than 64"));
}

#[test]
fn every_mistake_of_a_file_is_told() {
    let located = said(RULES, &[("o.csv", "match.user,limit\na,x\nb,5/s\n,5/s\nc\nb,6/s\n")]);
    let lines: Vec<&str> = located.iter().map(|located| located.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "4", "5", "6"], "{located:?}");
}

#[test]
fn a_mistake_in_the_other_formats_is_told_at_its_place() {
    let rules = |name: &str| RULES.replace("o.csv", name);
    let good_row = r#"{"match": {"user": "a"}, "limit": "5/s"}"#;
    let table = [
        ("o.ndjson", format!("{good_row}\n[]\n"), "o.ndjson:2:1: each line must be a JSON object"),
        ("o.ndjson", format!("\n{}\n", good_row.replace("5/s", "5")), "o.ndjson:2:35: `5` is no limit"),
        ("o.ndjson", good_row.replace("\"}", "\""), "o.ndjson:1:"),
        (
            "o.ndjson",
            format!("{good_row}\n{{match: {{user: b}}, limit: 5/s}}\n"),
            "o.ndjson:2:2: not JSON: key must be a string (keys and text stand in double quotes;",
        ),
        ("o.ndjson", good_row.replace("\"a\"", "b"), "o.ndjson:1:20: not JSON: expected value"),
        ("o.ndjson", format!("{good_row} # for alice"), "o.ndjson:1:42: not JSON: trailing characters"),
        ("o.yaml", "a: b\n".to_owned(), "o.yaml:1:1: overrides must be a list, not a map"),
        (
            "o.yaml",
            "- {match: {user: a}, limit: 5/s}\n- {match: {user: a}, limit: 5/s}\n".to_owned(),
            "o.yaml:2:3: `user=a` is here a second time: first in line 1",
        ),
    ];
    for (name, text, expected) in table {
        let located = said(&rules(name), &[(name, &text)]);
        assert_eq!(located.len(), 1, "{text}: {located:?}");
        assert!(located[0].starts_with(expected), "{text}: {located:?}");
    }
}

#[test]
fn characters_of_two_escapes_are_read_as_json_means_them() {
    let rules = RULES.replace("o.csv", "o.ndjson");
    let text = r#"{"match": {"user": "\ud83d\ude00 \\ud83d"}, "limit": "5/s"}"#;
    let rules = good(&rules, &[("o.ndjson", text)]);
    assert_eq!(found(&rules, &[("user", "\u{1f600} \\ud83d")], 0).map(|(_, requests)| requests), Some(Some(5)));
}

#[test]
fn a_file_that_cannot_be_used_is_told_where_it_is_named() {
    let named = |list: &str| {
        let located = said(&RULES.replace("[o.csv]", list), &[("o.csv", "match.user,limit\n")]);
        located.iter().map(|located| located.split(" (").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named("[p.csv]"), ["a.yaml:5:20: `p.csv` can't be read: it isn't among the files"]);
    assert_eq!(named("[o.txt]"), ["a.yaml:5:20: `o.txt` can't be told by its name"]);
    assert_eq!(named("[o.csv, ./o.csv]"), ["a.yaml:5:27: `./o.csv` is named twice"]);
    assert_eq!(named("o.csv"), ["a.yaml:5:19: `overrides_from` must be a list, not a value"]);
}

#[test]
fn a_later_file_beats_an_earlier_one_with_a_warning_and_a_rule_file_beats_both_without() {
    let yaml = RULES.replace("[o.csv]", "[o.csv, p.csv]\n  overrides: [{match: {user: b}, limit: 9/s}]");
    let files = [("o.csv", "match.user,limit\na,1/s\nb,1/s\n"), ("p.csv", "match.user,limit\nx,2/s\na,2/s\n")];
    assert_eq!(
        said(&yaml, &files),
        [
            "p.csv:3:1: `user=a` stands in o.csv:2 too; this row wins [beaten-override] (the file that is named later wins)"
        ]
    );
    let rules = good(&yaml, &files);
    assert_eq!(found(&rules, &[("user", "a")], 0), Some(("user=a".to_owned(), Some(2))));
    assert_eq!(found(&rules, &[("user", "b")], 0), Some(("user=b".to_owned(), Some(9))));
}

#[test]
fn a_row_that_has_ended_is_warned_of_and_loads() {
    let sources = Sources {
        files: vec![source("a.yaml", RULES)],
        overrides: vec![source("o.csv", "match.user,limit,expires\na,5/s,1970-01-02\nb,5/s,1970-01-03\n")],
        read_at: UnixMicros(86_400_000_000),
        ..Sources::default()
    };
    let load = load(&sources, &Defaults::default(), None);
    let located: Vec<String> = load.problems.iter().map(ToString::to_string).collect();
    assert_eq!(located.len(), 1, "{located:?}");
    assert!(
        located[0].starts_with("o.csv:2:7: this override ended at 1970-01-02T00:00:00Z: it has no effect"),
        "{located:?}"
    );
    assert!(!load.problems.has_errors());
    assert_eq!(load.rules.count().overrides, 2);
}

#[test]
fn a_bad_row_keeps_the_domains_last_good_rules() {
    let sources = |csv: &str| Sources {
        files: vec![source("a.yaml", RULES), source("b.yaml", "domain: e")],
        overrides: vec![source("o.csv", csv)],
        ..Sources::default()
    };
    let first = load(&sources("match.user,limit\na,5/s\n"), &Defaults::default(), None);
    let broken = load(&sources("match.user,limit\na,6/s\nb,six\n"), &Defaults::default(), Some(&first.rules));
    assert_eq!(broken.kept_domains, [Box::<str>::from("d")]);
    assert_eq!(found(&broken.rules, &[("user", "a")], 0).and_then(|(_, requests)| requests), Some(5));
    let mended = load(&sources("match.user,limit\na,6/s\n"), &Defaults::default(), Some(&broken.rules));
    assert!(mended.problems.is_empty());
    assert_ne!(mended.rules.hash(), first.rules.hash(), "another table is another set of rules");
    assert_eq!(found(&mended.rules, &[("user", "a")], 0).and_then(|(_, requests)| requests), Some(6));
}

#[test]
fn files_that_are_named_are_read_from_wherever_they_are_and_are_no_rule_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the directory is ours");
        std::fs::write(path, text).expect("the directory is ours");
    };
    write(
        "rules/api.yaml",
        "domain: d\noverrides_from: [people.yaml, ../elsewhere/more.csv, gone.csv]\ndescriptors: [{key: user}]",
    );
    write("rules/people.yaml", "- {match: {user: a}, limit: 5/s}");
    write("rules/unnamed.csv", "x");
    write("elsewhere/more.csv", "match.user,limit\nb,6/s\n");
    let rules = directory.path().join("rules");
    let sources = Sources::read(std::slice::from_ref(&rules), DotFiles::Read).expect("it can be read");
    assert_eq!(sources.files.len(), 1);
    assert_eq!(sources.skipped, [rules.join("unnamed.csv")]);
    assert_eq!(sources.override_paths().count(), 3);
    let located: Vec<String> =
        load(&sources, &Defaults::default(), None).problems.iter().map(|it| it.what.clone()).collect();
    assert_eq!(located.len(), 2, "{located:?}");
    assert!(located[0].starts_with("`gone.csv` can't be read: "), "{located:?}");
    assert!(located[1].starts_with("it isn't read: "), "unnamed.csv: {located:?}");

    let before = sources.digest();
    write("rules/gone.csv", "match.user,limit\nc,7/s\n");
    let sources = Sources::read(&[rules], DotFiles::Read).expect("it can be read");
    assert_ne!(sources.digest(), before);
    let load = load(&sources, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{}", load.problems.render());
    let of = |user: &str| found(&load.rules, &[("user", user)], 0).and_then(|(_, requests)| requests);
    assert_eq!(["a", "b", "c"].map(of), [Some(5), Some(6), Some(7)]);
}

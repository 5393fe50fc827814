use super::*;

fn finding(path: Option<&str>, text: &str) -> Finding {
    Finding { kind: "rules", is_error: true, path: path.map(str::to_owned), line: 3, column: 5, text: text.to_owned() }
}

#[test]
fn what_would_end_a_command_or_an_element_is_escaped() {
    let odd = finding(Some("a:b,c.yaml"), "100% <\"&>\nmore\u{1b}[31m\u{fffe}");
    let line = github(&odd);
    assert!(line.starts_with("::error file=a%3Ab%2Cc.yaml,line=3,col=5::100%25 <\"&>%0Amore"), "{line}");
    assert!(!line.contains('\u{1b}') && line.ends_with('\n') && line.lines().count() == 1, "{line}");
    let xml = junit(&junit_of_check(&[odd], "rules"));
    assert!(xml.contains("100% &lt;&quot;&amp;&gt;") && !xml.contains(['\u{1b}', '\u{fffe}']), "{xml}");
}

#[test]
fn a_finding_of_no_file_has_no_place() {
    let of_settings = finding(None, "no");
    assert_eq!(github(&of_settings), "::error::no\n");
    let log: Value = serde_json::from_str(&sarif(&[of_settings]).expect("JSON")).expect("JSON");
    assert!(log["runs"][0]["results"][0]["locations"].is_null(), "{log}");
}

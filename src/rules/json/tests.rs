use proptest::prelude::*;

use super::*;
use crate::rules::{metadata, node::NodeValue, yaml};

/// A tree as one line: each node with its place, scalars in quotes where they had some.
fn shown(node: &Node<'_>) -> String {
    let Location { line, column, width } = node.at;
    let value = match &node.value {
        NodeValue::Scalar { text, plain: true } => text.to_string(),
        NodeValue::Scalar { text, plain: false } => format!("{text:?}"),
        NodeValue::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        NodeValue::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{} {}", shown(key), shown(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
        }
    };
    format!("{line}:{column}+{width}{value}")
}

fn read(document: Document<'_>) -> String {
    assert!(document.faults.is_empty(), "{:?}", document.faults);
    shown(&document.root.expect("a tree"))
}

#[test]
fn it_reads_as_yaml_does_and_at_the_same_places() {
    for text in [
        r#"{"match": {"user": "alice"}, "limit": "5/s"}"#,
        "{\n  \"a\" : [1, -2.5e3,true , null,\"\"],\n\"b\":{},\"c\":[ ]\n}",
        r#"  {"é😀": "ü\"\\\/\u00e9\n", "k": {"k": [[{"x": "y"}]]}}"#,
        r#"{"a": 1, "a": 2}"#,
        r#""alone""#,
        "12",
    ] {
        let moved = format!("{}{text}", "\n".repeat(6));
        assert_eq!(read(parse(text, 7)), read(yaml::parse(&moved)), "{text}");
    }
}

#[test]
fn what_yaml_refuses_is_read_as_json_has_it() {
    let strange = "a\u{7f}\u{80}\u{9f}\u{feff}\u{fffe}\u{2028}b";
    let long = "k".repeat(4_096);
    let written = serde_json::json!({ long.as_str(): strange }).to_string();
    assert!(!yaml::parse(&written).faults.is_empty());
    let document = parse(&written, 1);
    assert!(document.faults.is_empty(), "{:?}", document.faults);
    let Some(Node { value: NodeValue::Map(entries), .. }) = &document.root else { panic!("a map") };
    let [(key, value)] = entries.as_slice() else { panic!("an entry") };
    for (node, wanted) in [(key, &*long), (value, strange)] {
        assert!(matches!(&node.value, NodeValue::Scalar { text, plain: false } if *text == *wanted), "{node:?}");
    }
    assert_eq!(read(parse(r#"["\ud83d\ude00"]"#, 1)), "1:1+1[1:2+14\"😀\"]");
}

/// Location, words and hint of what keeps a text from being JSON.
fn refused(text: &str) -> (u32, u32, String) {
    let document = parse(text, 3);
    assert!(document.root.is_none(), "{text}");
    let [fault] = document.faults.as_slice() else { panic!("one fault: {text}") };
    (fault.at.line, fault.at.column, format!("{} ({})", fault.what, fault.hint.unwrap_or_default()))
}

#[test]
fn what_is_no_json_is_said_to_be_none_where_it_is_wrong() {
    let quotes = "keys and text stand in double quotes; numbers, true, false and null in none";
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    for (text, line, column, what) in [
        ("{match: {user: alice}}", 3, 2, &*format!("not JSON: key must be a string ({quotes})")),
        ("{\"é\": alice}", 3, 7, &format!("not JSON: expected value ({quotes})")),
        ("{'a': 1}", 3, 2, &format!("not JSON: key must be a string ({quotes})")),
        ("{\"a\": 1} # relaxed", 3, 10, "not JSON: trailing characters ()"),
        ("{\"a\": 1,}", 3, 9, "not JSON: trailing comma ()"),
        ("{\"a\": [1,\n 2", 4, 2, "not JSON: EOF while parsing a list ()"),
        ("{\"ü\": \"\\ud83d\"}", 3, 14, "not JSON: unexpected end of hex escape ()"),
        ("{\"a\": 01}", 3, 8, "not JSON: invalid number ()"),
        ("{\"a\": \"b\tc\"}", 3, 9, "not JSON: control character (\\u0000-\\u001F) found while parsing a string ()"),
        (&deep, 3, 128, "not JSON: nested deeper than 127 levels ()"),
        ("", 3, 1, "not JSON: EOF while parsing a value ()"),
    ] {
        assert_eq!(refused(text), (line, column, what.replace("not JSON: nested", "nested")), "{text}");
    }
    assert!(parse(&deep[1..deep.len() - 1], 1).faults.is_empty());
    assert!(!parse(&"[".repeat(100_000), 1).faults.is_empty());
}

#[test]
fn a_number_is_kept_as_it_is_written_and_so_is_a_key_that_stands_twice() {
    let text = r#"{"n": [18446744073709551616, 1.0, 1e3, -0], "n": "\u0000"}"#;
    assert_eq!(
        read(parse(text, 1)),
        "1:1+1{1:2+3\"n\" 1:7+1[1:8+20\"18446744073709551616\" 1:30+3\"1.0\" 1:35+3\"1e3\" 1:40+2\"-0\"] "
            .replace("\"18446744073709551616\"", "18446744073709551616")
            .replace("\"1.0\"", "1.0")
            .replace("\"1e3\"", "1e3")
            .replace("\"-0\"", "-0")
            + "1:45+3\"n\" 1:50+8\"\\0\"}"
    );
}

proptest! {
    /// What `serde_json` writes is read as it was meant, in one line and in many, and as a value that is no text.
    #[test]
    fn what_is_written_is_read_as_it_was_meant(tree in crate::rules::tests::reading::trees()) {
        for text in [tree.to_string(), serde_json::to_string_pretty(&tree).expect("it can be written")] {
            let document = parse(&text, 1);
            prop_assert!(document.faults.is_empty(), "{text}\n{:?}", document.faults);
            prop_assert_eq!(&metadata::to_json(&document.root.expect("a tree")), &tree, "{}", text);
        }
        let (document, _) = super::tree(&tree);
        prop_assert_eq!(&metadata::to_json(&document.root.expect("a tree")), &tree);
    }
}

#[test]
fn nodes_of_a_value_are_known_by_the_paths_of_their_fields() {
    let value = serde_json::json!({"a": [{"b": 1}, [true]], "c": {"d": null}});
    let (document, fields) = super::tree(&value);
    let mut seen = Vec::new();
    fn visit(node: &Node<'_>, fields: &FieldPaths, seen: &mut Vec<String>) {
        seen.push(fields.of(node.at));
        match &node.value {
            NodeValue::Scalar { .. } => {}
            NodeValue::List(items) => items.iter().for_each(|item| visit(item, fields, seen)),
            NodeValue::Map(entries) => entries.iter().for_each(|(_, value)| visit(value, fields, seen)),
        }
    }
    visit(&document.root.expect("a tree"), &fields, &mut seen);
    assert_eq!(seen, ["", "a", "a[0]", "a[0].b", "a[1]", "a[1][0]", "c", "c.d"]);
}

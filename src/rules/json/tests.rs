use super::*;
use crate::rules::yaml::Value;

/// A tree as one line: each node with its place, scalars in quotes where they had some.
fn shown(node: &Node<'_>) -> String {
    let Place { line, column, width } = node.at;
    let value = match &node.value {
        Value::Scalar { text, plain: true } => text.to_string(),
        Value::Scalar { text, plain: false } => format!("{text:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
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
        assert_eq!(read(parse_from(text, 7)), read(yaml::parse_from(text, 7)), "{text}");
    }
}

#[test]
fn what_yaml_refuses_is_read_as_json_has_it() {
    let strange = "a\u{7f}\u{80}\u{9f}\u{feff}\u{fffe}\u{2028}b";
    let long = "k".repeat(4_096);
    let written = serde_json::json!({ long.as_str(): strange }).to_string();
    assert!(!yaml::parse(&written).faults.is_empty());
    let document = parse_from(&written, 1);
    assert!(document.faults.is_empty(), "{:?}", document.faults);
    let Some(Node { value: Value::Map(entries), .. }) = &document.root else { panic!("a map") };
    let [(key, value)] = entries.as_slice() else { panic!("an entry") };
    for (node, wanted) in [(key, &*long), (value, strange)] {
        assert!(matches!(&node.value, Value::Scalar { text, plain: false } if *text == *wanted), "{node:?}");
    }
    assert_eq!(read(parse_from(r#"["\ud83d\ude00"]"#, 1)), "1:1+1[1:2+14\"😀\"]");
}

#[test]
fn what_is_no_json_is_yaml_or_said_to_be_none() {
    assert_eq!(read(parse_from("{match: {user: alice}} # relaxed", 1)), read(yaml::parse("{match: {user: alice}}")));
    for broken in [r#"{"a": 1"#, r#"{"a": "\ud83d"}"#, &"[".repeat(10_000)] {
        assert!(!parse_from(broken, 1).faults.is_empty(), "{}", &broken[..broken.len().min(20)]);
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(!parse_from(&deep, 1).faults.is_empty());
}

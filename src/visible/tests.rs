use super::*;

/// A title of the window, a line, another alphabet's order, and a character that is none of these.
const HOSTILE: &str = "a\u{1b}]0;x\u{7}\nb\u{202e}c\u{9b}2Jé\u{7f}\u{e0041}";

#[test]
fn what_does_something_is_written_out_and_the_rest_stays() {
    assert_eq!(text(HOSTILE), r"a\u{1b}]0;x\u{7}\nb\u{202e}c\u{9b}2Jé\u{7f}\u{e0041}");
    assert_eq!(lines(HOSTILE), "a\\u{1b}]0;x\\u{7}\nb\\u{202e}c\\u{9b}2Jé\\u{7f}\\u{e0041}");
    for plain in ["", "alice, 300/m", "größe", "日本語", "🙂", "a\\nb"] {
        assert!(matches!(text(plain), Cow::Borrowed(same) if same == plain), "{plain}");
    }
    assert_eq!((text("a\tb"), lines("a\tb")), ("a\\tb".into(), "a\tb".into()));
}

#[test]
fn json_means_what_it_meant() {
    let value = serde_json::json!({"reason": HOSTILE, HOSTILE: [1]});
    let pretty = serde_json::to_string_pretty(&value).expect("a value");
    let seen = json(&pretty);
    assert!(!seen.contains(|c| is_unseen(c) && c != '\n'), "{seen}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&seen).expect("JSON"), value);
}

//! The texts of files: what lines are, what is cut, and how much is kept.

use super::*;

fn sources(files: &[(&str, &[u8])]) -> Sources {
    let source = |(path, bytes): &(&str, &[u8])| Source { path: path.into(), bytes: bytes.to_vec() };
    Sources { files: files.iter().map(source).collect(), ..Sources::default() }
}

fn text(bytes: &[u8]) -> Arc<RuleText> {
    let texts = RuleTexts::of(&sources(&[("rules.yaml", bytes)]), &RuleTexts::default());
    Arc::clone(texts.get(Path::new("rules.yaml")).expect("it is kept"))
}

/// Lines that no compression makes small.
fn noise(bytes: usize) -> Vec<u8> {
    let digests = (0_u64..).flat_map(|number| hex::encode(Sha256::digest(number.to_le_bytes())).into_bytes());
    digests.take(bytes).collect()
}

#[test]
fn lines_are_those_that_an_editor_counts() {
    for (bytes, lines) in [
        (&b""[..], &[][..]),
        (b"\n", &[""]),
        (b"a", &["a"]),
        (b"a\n", &["a"]),
        (b"a\r\nb\n\nc", &["a", "b", "", "c"]),
        (b"\xff<script>\n", &["\u{fffd}<script>"]),
    ] {
        let text = text(bytes);
        assert_eq!(text.read(1, 1_000), lines, "{bytes:?}");
        assert_eq!(text.lines() as usize, lines.len(), "{bytes:?}");
    }
}

#[test]
fn any_range_of_a_file_of_many_blocks_has_the_lines_of_the_file() {
    let all: Vec<String> = (1..=30_000).map(|number| format!("  - {{key: k{number}, rate_limit: 5/h}}")).collect();
    let text = text(all.join("\n").as_bytes());
    assert!(text.blocks.len() > 10 && text.bytes() < 300_000, "{} in {} blocks", text.bytes(), text.blocks.len());
    assert_eq!(text.lines(), 30_000);
    let borders = text.blocks.iter().flat_map(|block| block.line.saturating_sub(2)..block.line + 2);
    for first in borders.chain([1, 29_999, 30_000]).filter(|first| *first > 0) {
        let end = (first as usize + 2).min(all.len());
        assert_eq!(text.read(first, 3), all[first as usize - 1..end], "from {first}");
    }
    assert_eq!(text.read(30_001, 3), Vec::<String>::new());
    assert_eq!(text.read(u32::MAX, u32::MAX), Vec::<String>::new());
    assert_eq!(text.read(0, 1), text.read(1, 1));
}

#[test]
fn a_long_line_is_cut_and_many_of_them_are_fewer_in_an_answer() {
    let line = "ß".repeat(3_000);
    let text = text(format!("{line}\n").repeat(1_000).as_bytes());
    let lines = text.read(1, 1_000);
    assert_eq!(lines[0], format!("{}…", "ß".repeat(2_000)));
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!((ANSWER_BYTES_MAX / 2..=ANSWER_BYTES_MAX).contains(&bytes), "{bytes}");
    // The next answer begins where this one ended.
    assert_eq!(text.read(lines.len() as u32 + 1, 1).len(), 1);
}

#[test]
fn what_is_kept_is_bounded_and_rule_files_come_before_override_rows() {
    let large = noise(3 << 20);
    let mut both =
        sources(&[("a.yaml", b"domain: a"), ("b.yaml", &large), ("c.yaml", &large), ("d.yaml", b"domain: d")]);
    both.overrides = sources(&[("rows.csv", &large), ("small.csv", b"match.user,limit")]).files;
    let texts = RuleTexts::of(&both, &RuleTexts::default());
    // Noise in hex takes half of its bytes: two files have room, the third has none.
    let kept: Vec<&Path> = texts.0.iter().map(|text| &*text.path).collect();
    assert_eq!(kept, ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "small.csv"].map(Path::new));
    assert!(texts.0.iter().map(|text| text.bytes()).sum::<usize>() <= KEPT_BYTES_MAX);
    let huge = vec![b'\n'; READ_BYTES_MAX + 1];
    assert!(RuleTexts::of(&sources(&[("huge.yaml", &huge)]), &texts).0.is_empty());
}

#[test]
fn a_text_that_stays_is_not_compressed_again() {
    let before = RuleTexts::of(&sources(&[("a.yaml", b"domain: a"), ("b.yaml", b"domain: b")]), &RuleTexts::default());
    let after = RuleTexts::of(&sources(&[("a.yaml", b"domain: a"), ("b.yaml", b"domain: c")]), &before);
    let is_same = |path: &str| Arc::ptr_eq(before.get(Path::new(path)).unwrap(), after.get(Path::new(path)).unwrap());
    assert_eq!((is_same("a.yaml"), is_same("b.yaml")), (true, false));
    assert!(before.has_same(&after, Path::new("a.yaml")));
    assert!(!before.has_same(&after, Path::new("b.yaml")));
    let mixed = after.with(&before, |path| path == Path::new("b.yaml"));
    assert_eq!(mixed.get(Path::new("b.yaml")).unwrap().read(1, 1), ["domain: b"]);
    assert_eq!(mixed.0.len(), 2);
}

//! The pictures of the book: each is used and described, and those of a terminal show what commands print today.
//!
//! `tests/pictures/terminal.md` has the commands. With `TOLLGATE_BLESS` set their pictures are drawn anew (`tests/pictures.sh`).

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use regex::{Captures, Regex};

use super::{assert_none, page::Page, pages, session, source};
use crate::examples::project;

/// How wide a character of the picture is, in px; `FONT_SIZE` times what all fonts of one width are about.
const CHARACTER: f64 = 7.9;
const FONT_SIZE: usize = 13;
/// From one line of the picture to the next, and from its edge to the text, in px.
const LINE: usize = 18;
const EDGE: usize = 14;

/// Classes instead of attributes, so that a picture is light or dark as its reader's system is.
const STYLE: &str = "rect { fill: #f6f8fa; stroke: #d0d7de } text { fill: #1f2328; white-space: pre }
    .strong { font-weight: bold } .good { fill: #1a7f37 } .bad { fill: #cf222e } .attention { fill: #9a6700 } .prompt { fill: #59636e }
    @media (prefers-color-scheme: dark) {
      rect { fill: #151b23; stroke: #3d444d } text { fill: #d1d7e0 }
      .good { fill: #57ab5a } .bad { fill: #f47067 } .attention { fill: #daaa3f } .prompt { fill: #9198a1 }
    }";

fn folder() -> PathBuf {
    source().join("pictures")
}

/// A terminal in which `command` printed `text`, whose colours are those of ANSI.
fn terminal(command: &str, text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let plain = plain(text);
    let longest = plain.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    let columns = longest.max(command.chars().count() + 2);
    let width = (columns as f64 * CHARACTER).ceil() as usize + 2 * EDGE;
    let height = (lines.len() + 1) * LINE + 2 * EDGE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"{FONT_SIZE}\">\n  \
         <title>{0}</title>\n  <style>\n    {STYLE}\n  </style>\n  \
         <rect x=\"0.5\" y=\"0.5\" width=\"{1}\" height=\"{2}\" rx=\"6\"/>\n",
        escaped(command),
        width - 1,
        height - 1,
    );
    let typed = format!("<tspan class=\"prompt\">$</tspan> {}", escaped(command));
    for (nth, line) in std::iter::once(typed).chain(lines.into_iter().map(coloured)).enumerate() {
        let _ = writeln!(svg, "  <text x=\"{EDGE}\" y=\"{}\">{line}</text>", EDGE + FONT_SIZE + nth * LINE);
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line with the program's four tones as the classes of `STYLE`.
fn coloured(line: &str) -> String {
    let tone = Regex::new("\u{1b}\\[(1|31|32|33)m(.*?)\u{1b}\\[0m").expect("a pattern");
    let class = |found: &Captures<'_>| {
        let class = match &found[1] {
            "1" => "strong",
            "31" => "bad",
            "32" => "good",
            _ => "attention",
        };
        format!("<tspan class=\"{class}\">{}</tspan>", &found[2])
    };
    let drawn = tone.replace_all(&escaped(line), class).into_owned();
    assert!(!drawn.contains('\u{1b}'), "a colour that pictures don't know: {drawn:?}");
    drawn
}

fn plain(text: &str) -> String {
    Regex::new("\u{1b}\\[\\d*m").expect("a pattern").replace_all(text, "").into_owned()
}

/// What a picture says, without what is another at each run: times and rates, how often and in which order lines come, and
/// into how many parts of a window the same hits fall.
fn says(svg: &str) -> BTreeSet<String> {
    let line = Regex::new("<text[^>]*>(.*)</text>").expect("a pattern");
    let tag = Regex::new("<[^>]*>").expect("a pattern");
    let texts = line.captures_iter(svg).map(|found| tag.replace_all(&found[1], "").into_owned());
    let changing = Regex::new(r"at least \d+|\b(?:\d+(?:ms|[hms]))+\b").expect("a pattern");
    let lasting = texts.filter(|text| !text.contains(" since "));
    let timeless = lasting.map(|text| changing.replace_all(&session::timeless(&text), "#").into_owned());
    timeless.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn pictures_of_terminals_show_what_is_printed() {
    let page = Page::read(&project("tests/pictures/terminal.md"));
    let (printed, said) = session::print(&page);
    let names = page.blocks.iter().filter(|block| block.is_console()).map(|block| block.file.as_deref());
    let commands: Vec<_> = page.commands().collect();
    assert!(
        commands.len() == printed.len() && commands.iter().all(|command| command.alone),
        "a picture has one command"
    );
    let mut mistakes: Vec<String> = session::never(&said).map(str::to_owned).into_iter().collect();
    let mut drawn = BTreeSet::new();
    for ((name, command), printed) in names.zip(&commands).zip(printed) {
        let path = folder().join("terminal").join(name.expect("the line above a block names its picture"));
        let (text, failed) = session::ended(&printed);
        let picture = terminal(&command.text, text);
        if failed != command.fails {
            mistakes.push(format!("{}: $ {}\n{text}\n{said}", path.display(), command.text));
        } else if std::env::var_os("TOLLGATE_BLESS").is_some() {
            fs::write(&path, &picture).expect("tests run where the crate is");
        } else if says(&fs::read_to_string(&path).unwrap_or_default()) != says(&picture) {
            mistakes
                .push(format!("{} isn't what is printed (tests/pictures.sh draws it anew):\n{text}", path.display()));
        }
        drawn.insert(path);
    }
    assert_none(&mistakes);
    let there = fs::read_dir(folder().join("terminal")).expect("it is there");
    assert_eq!(there.map(|entry| entry.expect("it can be listed").path()).collect::<BTreeSet<_>>(), drawn);
}

#[test]
fn every_picture_is_there_used_and_described() {
    let mut used = BTreeSet::new();
    let mut mistakes = Vec::new();
    let readme = Page::read(&project("README.md"));
    for page in pages().into_iter().chain([readme]) {
        for (line, description, target) in &page.pictures {
            let path = page.path.parent().expect("a page is in a folder").join(target);
            match path.canonicalize() {
                Ok(path) => drop(used.insert(path)),
                Err(error) => mistakes.push(format!("{}:{line}: {target}: {error}", page.path.display())),
            }
            if description.chars().count() < 20 {
                mistakes.push(format!("{}:{line}: {target} wants words for who can't see it", page.path.display()));
            }
        }
    }
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            let is_picture = path.extension().is_some_and(|extension| extension == "png" || extension == "svg");
            if path.is_dir() {
                folders.push(path);
            } else if is_picture && !used.contains(&path.canonicalize().expect("it is there")) {
                mistakes.push(format!("{}: no page shows it", path.display()));
            }
        }
    }
    assert_none(&mistakes);
}

#[test]
fn a_terminal_is_drawn_with_its_colours() {
    let drawn = terminal("tollgate call", "\u{1b}[31mOVER_LIMIT\u{1b}[0m\n  a<b: 0 of 3 remaining, reset in 61 s\n");
    assert!(drawn.contains("<tspan class=\"bad\">OVER_LIMIT</tspan>") && drawn.contains("a&lt;b"), "{drawn}");
    let later = drawn.replace("61 s", "9 s").replace("  a&", " a&");
    assert_eq!(says(&drawn), says(&later));
    assert_ne!(says(&drawn), says(&drawn.replace("0 of 3", "1 of 3")));
}

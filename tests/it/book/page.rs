//! A page of the book: its headings, links and fenced blocks.

use std::path::{Path, PathBuf};

use regex::Regex;

/// What a fence says of its block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Commands with what they print. The last one `fails`, where the fence says so.
    Console {
        fails: bool,
    },
    /// Rules, cases or another program's YAML; with problems, where the fence says `refused`.
    Yaml {
        refused: bool,
    },
    /// Which fields of a log are what, for `tollgate replay`.
    LogFields,
    Json,
    /// Commands of programs that tests have not.
    Shell,
    Other,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// The file that the line above the block names, as in "Save this as `rules/api.yaml`:".
    pub(super) file: Option<String>,
    /// The line of the fence, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// A command of a console block, and the lines that it is shown to print.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) shown: Vec<String>,
    pub(super) fails: bool,
    /// The only one of its block, as a server in a terminal of its own is.
    pub(super) alone: bool,
}

pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) lines: usize,
    pub(super) headings: Vec<String>,
    /// Targets within the repository, each with its line.
    pub(super) links: Vec<(usize, String)>,
    pub(super) blocks: Vec<Block>,
    /// Each with its line and what stands in its place for who can't see it.
    pub(super) pictures: Vec<(usize, String, String)>,
    /// Commands between blocks that a reader does otherwise (`<!-- run: … -->`), such as ending a server by Ctrl-C.
    pub(super) hidden: Vec<(usize, String)>,
    /// Anchors that stand there as HTML.
    ids: Vec<String>,
}

impl Page {
    pub(super) fn read(path: &Path) -> Page {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let links = Regex::new(r"(?:\]\(|src=.|srcset=.|href=.)([^)\s\x22']+)").expect("a pattern");
        let pictures = Regex::new(r"!\[([^\]]*)\]\(([^)]+)\)").expect("a pattern");
        let ids = Regex::new(r#"<a (?:id|name)="([^"]+)""#).expect("a pattern");
        let named = Regex::new(r"`([\w./-]+)`:$").expect("a pattern");
        let mut page = Page {
            path: path.to_owned(),
            lines: text.lines().count(),
            headings: Vec::new(),
            links: Vec::new(),
            blocks: Vec::new(),
            pictures: Vec::new(),
            hidden: Vec::new(),
            ids: ids.captures_iter(&text).map(|found| found[1].to_owned()).collect(),
        };
        let mut above = "";
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            if let Some(fence) = line.strip_prefix("```") {
                let inside: String = lines
                    .by_ref()
                    .map(|(_, line)| line)
                    .take_while(|line| *line != "```")
                    .fold(String::new(), |text, line| text + line + "\n");
                let file = named.captures(above).map(|found| found[1].to_owned());
                page.blocks.push(Block { kind: kind(fence), file, line: at + 1, text: inside });
                continue;
            }
            if let Some(heading) = line.strip_prefix('#') {
                page.headings.push(heading.trim_start_matches('#').trim().to_owned());
            }
            if let Some(command) = line.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->")) {
                page.hidden.push((at + 1, command.to_owned()));
            }
            let targets = links.captures_iter(line).map(|found| found[1].to_owned());
            page.links.extend(targets.filter(|target| !target.contains("://")).map(|target| (at + 1, target)));
            let shown = pictures.captures_iter(line);
            page.pictures.extend(shown.map(|found| (at + 1, found[1].to_owned(), found[2].to_owned())));
            if !line.trim().is_empty() {
                above = line;
            }
        }
        page
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = Command> {
        self.blocks.iter().flat_map(commands)
    }

    pub(super) fn has_anchor(&self, wanted: &str) -> bool {
        self.ids.iter().any(|id| id == wanted) || self.headings.iter().any(|heading| anchor(heading) == wanted)
    }

    /// Links of the page that lead nowhere.
    pub(super) fn broken_links(&self) -> Vec<String> {
        let folder = self.path.parent().expect("a page is in a folder");
        let broken = self.links.iter().filter(|(_, target)| {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { self.path.clone() } else { folder.join(file) };
            !path.exists()
                || !fragment.is_empty() && file.ends_with(".md") && !Page::read(&path).has_anchor(fragment)
                || !fragment.is_empty() && file.is_empty() && !self.has_anchor(fragment)
        });
        broken.map(|(line, target)| format!("{}:{line}: {target}", self.path.display())).collect()
    }
}

impl Block {
    pub(super) fn is_console(&self) -> bool {
        matches!(self.kind, Kind::Console { .. })
    }
}

fn kind(fence: &str) -> Kind {
    let mut words = fence.split_whitespace();
    let (language, rest) = (words.next().unwrap_or_default(), words.next());
    match language {
        "console" => Kind::Console { fails: rest == Some("fails") },
        "yaml" if rest == Some("fields") => Kind::LogFields,
        "yaml" => Kind::Yaml { refused: rest == Some("refused") },
        "json" => Kind::Json,
        "sh" => Kind::Shell,
        "text" | "rust" | "js" | "python" | "csv" | "lua" | "toml" | "http" | "promql" => Kind::Other,
        unknown => panic!("a block is fenced as {unknown:?}: tests don't know what that is"),
    }
}

fn commands(block: &Block) -> Vec<Command> {
    let Kind::Console { fails } = block.kind else { return Vec::new() };
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for (nth, line) in block.text.lines().enumerate() {
        if let Some(text) = line.strip_prefix("$ ") {
            let at = block.line + nth + 1;
            commands.push(Command { line: at, text: text.into(), shown: Vec::new(), fails: false, alone: false });
        } else {
            let last = commands.last_mut().unwrap_or_else(|| panic!("line {}: output before a command", block.line));
            if goes_on {
                last.text = format!("{}\n{line}", last.text);
            } else {
                last.shown.push(line.to_owned());
            }
        }
        goes_on = line.ends_with('\\') && (goes_on || line.starts_with("$ "));
    }
    let alone = commands.len() == 1;
    if let Some(last) = commands.last_mut() {
        (last.fails, last.alone) = (fails, alone);
    }
    commands
}

/// The anchor of a heading, as GitHub and mdBook both make it.
pub(super) fn anchor(heading: &str) -> String {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").expect("a pattern");
    let plain = link.replace_all(heading, "$1").to_lowercase();
    let kept = plain.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn a_page_is_read_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.md");
    let text = "# One\n\nSave as `rules/a.yaml`:\n\n```yaml\na: b\n```\n\n## `two` of [them](gone.md#x)\n\n```console fails\n\
                $ one \\\n    more\nprinted\n$ two\n```\n<!-- run: stop -->\n[up](#one) [no](#zero) <https://a.example>\n";
    std::fs::write(&path, text).unwrap();
    let page = Page::read(&path);
    assert_eq!(page.headings, ["One", "`two` of [them](gone.md#x)"]);
    assert_eq!((&*page.blocks[0].text, page.blocks[0].file.as_deref()), ("a: b\n", Some("rules/a.yaml")));
    let commands: Vec<Command> = page.commands().collect();
    assert_eq!(
        (&*commands[0].text, &*commands[0].shown, commands[0].fails),
        ("one \\\n    more", &["printed".to_owned()][..], false)
    );
    assert_eq!((&*commands[1].text, commands[1].fails, commands[1].alone), ("two", true, false));
    assert_eq!(page.hidden, [(17, "stop".to_owned())]);
    assert_eq!(page.broken_links().len(), 2, "{:?}", page.broken_links());
    assert_eq!(anchor("`two` of [them](gone.md#x), 3 a.m."), "two-of-them-3-am");
}

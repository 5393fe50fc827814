//! The book in `docs/src`: what its pages show is run and read as it stands there.
//!
//! Each page is a session of its own: its console blocks are run from top to bottom (`session`), its YAML and JSON are
//! given to the program, and its links lead somewhere (`page`). The recipes of the cookbook are files beside their pages.

mod cli;
mod page;
mod pictures;
mod session;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use page::{Kind, Page};
use regex::Regex;
use tollgate::rules::{self, CaseFile, Defaults, LogFields, Source, Sources};

use crate::{examples::project, harness::run_to_end};

/// A page that is longer wants two.
const LONGEST: usize = 300;

/// What a block fenced as `sh` may call: programs that need a cluster, an engine, systemd or the network, which tests have
/// not. Everything else goes into a `console` block, which is run.
const NOT_RUN: &[&str] = &[
    "kubectl",
    "docker",
    "helm",
    "istioctl",
    "cargo",
    "git",
    "mdbook",
    "pip",
    "python3 -m grpc_tools.protoc",
    "grpcurl",
    "systemctl",
    "aws",
    "tests/",
    // Clouds.
    "examples/redis-token/",
    // Measurements: of the release build, which takes minutes to make, and by instructions.
    "target/release/tollgate",
    "valgrind",
    "callgrind_annotate",
];

/// How blocks of commands and their output begin that no test runs as they stand: these compare with the service of before.
const NOT_RUN_AS_SHOWN: &[&str] = &["$ page() { curl"];

/// Pages whose commands are run by a test of their own, because they need more than one machine's default ports:
/// `incident::page` has three replicas in the midst of an incident.
const RUN_ELSEWHERE: &[&str] = &["guides/on-call.md"];

/// Pages that are run beside each other: most of their time is spent waiting for servers to start.
const SESSIONS: usize = 3;

fn source() -> PathBuf {
    project("docs/src")
}

/// Every page of the book, with its path below `docs/src`.
fn pages() -> Vec<Page> {
    let mut folders = vec![source()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the book is there") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(Page::read(&path));
            }
        }
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(pages.len() > 2, "the book has pages");
    pages
}

fn assert_none(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
}

/// `<name>` of a path below `docs/src`.
fn name(page: &Page) -> String {
    page.path.strip_prefix(source()).expect("it is of the book").display().to_string()
}

#[test]
fn every_page_is_in_the_summary_and_every_line_of_the_summary_is_a_page() {
    let all = pages();
    let (summary, rest): (Vec<&Page>, Vec<&Page>) = all.iter().partition(|page| name(page) == "SUMMARY.md");
    let listed: Vec<String> = summary[0].links.iter().map(|(_, target)| target.clone()).collect();
    let there: BTreeSet<String> = rest.iter().map(|page| name(page)).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(listed.len(), there.len(), "a page is listed twice");
}

#[test]
fn no_page_is_long_and_none_has_a_heading_twice() {
    let mut mistakes = Vec::new();
    for page in pages() {
        if page.lines > LONGEST {
            mistakes.push(format!("{}: {} lines", name(&page), page.lines));
        }
        let mut seen = BTreeSet::new();
        let twice = page.headings.iter().filter(|heading| !seen.insert(page::anchor(heading)));
        mistakes.extend(twice.map(|heading| format!("{}: the heading {heading:?} twice", name(&page))));
    }
    assert_none(&mistakes);
}

#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    let readme = Page::read(&project("README.md"));
    assert!(readme.lines <= 120, "{} lines", readme.lines);
    assert!(readme.links.len() > 20, "{:?}", readme.links);
    assert_none(&readme.broken_links());
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    assert_none(&pages().iter().flat_map(Page::broken_links).collect::<Vec<_>>());
}

/// Comments, messages and examples send readers into the book, to a page and heading that are there; only alerts keep the
/// addresses that they always had, which are stubs.
#[test]
fn whatever_names_a_page_names_one_of_the_book() {
    let named = Regex::new(r"docs/[\w/-]+\.md(?:#([\w-]+))?").expect("a pattern");
    let mut mistakes = Vec::new();
    let mut found = 0;
    for path in [
        "src",
        "tests",
        "examples",
        "config",
        "deploy",
        "benches",
        "fuzz/src",
        "fuzz/fuzz_targets",
        "README.md",
        "SECURITY.md",
    ]
    .into_iter()
    .flat_map(|name| files_below(&project(name)))
    {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let is_of_before = path.starts_with(project("deploy/prometheus")) || path.ends_with("tests/it/alerts.rs");
        for names in named.captures_iter(&text).filter(|names| &names[0] != "docs/page.md") {
            found += 1;
            let page = project(names[0].split('#').next().expect("a split has a first part"));
            let is_there = page.exists() && (is_of_before || page.starts_with(source()));
            let anchor = names.get(1).filter(|_| is_there).map(|anchor| anchor.as_str());
            if !is_there || anchor.is_some_and(|anchor| !Page::read(&page).has_anchor(anchor)) {
                mistakes.push(format!("{}: {}", path.display(), &names[0]));
            }
        }
    }
    assert!(found > 50, "{found}");
    assert_none(&mistakes);
}

/// All files of a folder and those below it; a file itself.
fn files_below(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() || path.ends_with("node_modules") {
        return if path.is_file() { vec![path.to_owned()] } else { Vec::new() };
    }
    let entries = fs::read_dir(path).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    entries.flat_map(|entry| files_below(&entry)).collect()
}

/// What mdBook makes of the pages stands in `target/book`, which is as deep as `docs/src`. So a link to a file of the
/// repository leads there from both, if it goes by the repository's root. A Markdown file outside of the book it doesn't:
/// mdBook makes each such link one to HTML.
#[test]
fn links_out_of_the_book_lead_to_the_same_file_in_html() {
    let mut mistakes = Vec::new();
    for page in pages() {
        let page_name = name(&page);
        let up = "../".repeat(page_name.matches('/').count() + 2);
        for (line, target) in &page.links {
            let path =
                page.path.parent().expect("a page is in a folder").join(target.split('#').next().unwrap_or(target));
            let Ok(path) = path.canonicalize() else { continue };
            if !path.starts_with(source()) && (!target.starts_with(&up) || target.ends_with(".md")) {
                mistakes.push(format!("{page_name}:{line}: {target}"));
            }
        }
    }
    assert_none(&mistakes);
}

/// Whoever has an address of before finds the page: alerts, runbooks and bookmarks name these.
#[test]
fn old_pages_lead_into_the_book() {
    let old = fs::read_dir(project("docs")).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let old: Vec<PathBuf> = old.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    assert_eq!(old.len(), 20, "{old:?}");
    let mut mistakes = Vec::new();
    for path in old {
        let text = fs::read_to_string(&path).expect("it is text");
        let mut lines = text.lines().skip(2).filter(|line| !line.is_empty());
        if !lines.next().unwrap_or_default().contains("is now part of the [book](src/SUMMARY.md): begin at [") {
            mistakes.push(format!("{}: what isn't in docs/src isn't in the book", path.display()));
        }
        mistakes.extend(
            lines.filter(|line| !line.starts_with("- <a id=")).map(|line| format!("{}: {line}", path.display())),
        );
        mistakes.extend(Page::read(&path).broken_links());
    }
    assert_none(&mistakes);
}

#[test]
fn rules_cases_and_other_data_on_pages_are_what_they_seem() {
    let mut mistakes = Vec::new();
    for page in pages() {
        for block in &page.blocks {
            if let Err(problem) = check(block) {
                mistakes.push(format!("{}:{}: {problem}", name(&page), block.line));
            }
        }
    }
    assert_none(&mistakes);
}

fn check(block: &page::Block) -> Result<(), String> {
    let text = &block.text;
    match &block.kind {
        Kind::Yaml { refused } => check_yaml(text, *refused),
        Kind::Json => serde_json::from_str::<serde_json::Value>(text).map(|_| ()).map_err(|error| error.to_string()),
        Kind::Shell => {
            let whole = text.replace("\\\n", " ");
            let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let programs = lines.map(without_variables);
            let mut ours = programs.filter(|line| !NOT_RUN.iter().any(|program| line.starts_with(program)));
            ours.next().map_or(Ok(()), |line| Err(format!("a test can run {line:?}: fence it as console")))
        }
        Kind::LogFields => {
            let (_, problems) = LogFields::read(&Source { path: "page.yaml".into(), bytes: text.as_bytes().to_vec() });
            if problems.is_empty() { Ok(()) } else { Err(problems.render()) }
        }
        Kind::Other => {
            let is_allowed = NOT_RUN_AS_SHOWN.iter().any(|shown| text.starts_with(shown));
            let command = text.lines().find(|line| line.starts_with("$ ")).filter(|_| !is_allowed);
            command.map_or(Ok(()), |line| Err(format!("nothing runs {line:?}: fence it as console")))
        }
        Kind::Console { .. } => Ok(()),
    }
}

/// A command line from its program on: without the variables that are set for it.
fn without_variables(line: &str) -> &str {
    let is_variable = |word: &str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_of_a_name));
    let mut rest = line;
    while let Some((_, after)) = rest.split_once(' ').filter(|(word, _)| is_variable(word)) {
        rest = after.trim_start();
    }
    rest
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
}

fn check_yaml(text: &str, refused: bool) -> Result<(), String> {
    let value: yaml_serde::Value = yaml_serde::from_str(text).map_err(|error| error.to_string())?;
    let bytes = || text.as_bytes().to_vec();
    let says = if value.get("cases").is_some() {
        CaseFile::read(Source { path: Path::new("page.test.yaml").into(), bytes: bytes() }).1.render()
    } else if value.get("domain").is_some() {
        let files = vec![Source { path: "page.yaml".into(), bytes: bytes() }];
        let overrides = named_files(&value);
        rules::load(&Sources { files, overrides, ..Sources::default() }, &Defaults::default(), None).problems.render()
    } else {
        String::new()
    };
    if says.is_empty() == refused { Err(format!("{says}\n(refused: {refused})")) } else { Ok(()) }
}

/// An empty file of overrides in the place of each that the rules name: which rows it has is for the page's session.
fn named_files(value: &yaml_serde::Value) -> Vec<Source> {
    let own = value.get("overrides_from").into_iter();
    let nested = value["descriptors"].as_sequence().into_iter().flatten();
    let named = own.chain(nested.filter_map(|one| one.get("overrides_from")));
    let names = named.filter_map(|names| names.as_sequence()).flatten().filter_map(|name| name.as_str());
    names.map(|name| Source { path: name.into(), bytes: b"match.user,limit\nnobody,1/m\n".to_vec() }).collect()
}

/// The recipes: rule files with their cases.
fn recipes() -> Vec<PathBuf> {
    let files = fs::read_dir(source().join("cookbook")).expect("the cookbook is there");
    let paths = files.map(|entry| entry.expect("a folder can be listed").path());
    let mut recipes: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(".yaml")).collect();
    recipes.sort();
    recipes
}

#[test]
fn the_cookbooks_rules_are_checked_without_a_word_and_do_what_their_cases_say() {
    let folder = source().join("cookbook");
    let folder = folder.to_str().expect("the repository's path is text");
    for command in ["check", "test"] {
        let output = run_to_end(&[command, folder], &[]);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("warning"), "tollgate {command}:\n{said}");
    }
}

#[test]
fn every_recipe_has_cases_and_is_shown_whole_on_a_page() {
    let (cases, rules): (Vec<_>, Vec<_>) =
        recipes().into_iter().partition(|path| path.to_string_lossy().ends_with(".test.yaml"));
    assert!(rules.len() >= 12, "{rules:?}");
    assert_eq!(rules.iter().map(|path| path.with_extension("test.yaml")).collect::<Vec<_>>(), cases);
    let pages = pages();
    let shown: BTreeSet<&str> = pages.iter().flat_map(|page| &page.blocks).map(|block| &*block.text).collect();
    for recipe in rules.iter().chain(&cases) {
        let text = fs::read_to_string(recipe).expect("it is text");
        assert!(shown.contains(&*text), "no page shows {} as it is", recipe.display());
    }
}

/// `TOLLGATE_TEST_PAGE` names the one page that is run, such as `start/quick-start.md`.
#[test]
fn every_command_of_every_page_prints_what_the_page_shows() {
    let only = std::env::var("TOLLGATE_TEST_PAGE").ok();
    let mut pages: Vec<Page> = pages().into_iter().filter(|page| page.commands().next().is_some()).collect();
    pages.retain(|page| !RUN_ELSEWHERE.contains(&&*name(page)));
    pages.retain(|page| only.as_ref().is_none_or(|only| *only == name(page)));
    assert!(!pages.is_empty(), "no page has commands");
    let next = AtomicUsize::new(0);
    let work = || {
        let taken = std::iter::repeat_with(|| pages.get(next.fetch_add(1, Ordering::Relaxed))).map_while(|page| page);
        taken.filter_map(|page| session::run(page).err()).collect::<Vec<_>>()
    };
    let mistakes: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a session ends")).collect()
    });
    assert_none(&mistakes);
}

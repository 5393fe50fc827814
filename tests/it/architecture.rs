//! The map of `src/lib.rs` is true: no file imports a room that the map doesn't allow its room, no two rooms and no two
//! files of a room import each other, and what only some rooms know is named by no other. The tables of the map are the
//! only ones there are: this test reads them.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use source::{Source, is_within};

/// Where a path of one file leads: the line it stands on, and the module that it names something of.
struct Import<'a> {
    from: &'a Source,
    line: usize,
    to: String,
}

/// What the doc of `lib.rs` says.
#[derive(Debug)]
struct Map {
    /// Each room with those that it may import.
    rooms: BTreeMap<String, BTreeSet<String>>,
    /// What only some modules may name: paths that begin with one of these …, named only in these modules.
    absences: Vec<(Vec<String>, Vec<String>)>,
}

#[test]
fn every_import_is_one_that_the_map_allows() {
    let (map, sources) = (Map::read(MAP), source::read(&src()));
    let wrong = map.forbidden_imports(&sources);
    assert!(wrong.is_empty(), "src/lib.rs doesn't allow:\n{wrong}");
}

#[test]
fn the_map_allows_nothing_that_no_file_needs() {
    let (map, sources) = (Map::read(MAP), source::read(&src()));
    let used: BTreeSet<_> = imports(&sources).map(|import| (room(&import.from.module), room(&import.to))).collect();
    let mut unused = String::new();
    for (from, allowed) in &map.rooms {
        for to in allowed.iter().filter(|to| !used.contains(&(from.clone(), (*to).clone()))) {
            let _ = writeln!(unused, "`{from}` may import `{to}`, and doesn't");
        }
    }
    assert!(unused.is_empty(), "src/lib.rs says more than is true:\n{unused}");
}

#[test]
fn the_map_names_every_room() {
    let (map, sources) = (Map::read(MAP), source::read(&src()));
    let rooms: BTreeSet<_> = sources.keys().filter(|module| !module.is_empty()).map(|module| room(module)).collect();
    let named: BTreeSet<_> = map.rooms.keys().cloned().collect();
    assert_eq!(rooms, named, "the modules of src/ and the rooms of the map");
}

#[test]
fn no_two_rooms_import_each_other() {
    let sources = source::read(&src());
    let arrows = imports(&sources).map(|import| (room(&import.from.module), room(&import.to))).collect();
    let circles = circles(&arrows);
    assert!(circles.is_empty(), "these rooms import each other: {circles:?}");
}

#[test]
fn no_two_files_of_a_room_import_each_other() {
    let sources = source::read(&src());
    let arrows = imports(&sources)
        .map(|import| (import.from.module.clone(), import.to))
        .filter(|(from, to)| room(from) == room(to) && !is_within(from, to) && !is_within(to, from))
        .collect();
    let circles = circles(&arrows);
    assert!(circles.is_empty(), "these files import each other: {circles:?}");
}

#[test]
fn what_only_some_rooms_know_is_named_by_no_other() {
    let (map, sources) = (Map::read(MAP), source::read(&src()));
    let wrong = map.forbidden_names(&sources);
    assert!(wrong.is_empty(), "src/lib.rs says who may name these:\n{wrong}");
}

#[test]
fn a_wrong_import_is_found_with_its_file_and_line() {
    let directory = tempfile::tempdir().expect("a directory");
    for (file, text) in [
        ("lib.rs", "pub mod low; pub mod high;"),
        ("high.rs", "use crate::low::Low;"),
        ("low.rs", "//! Low.\nmod inner;\npub struct Low;\n#[cfg(test)]\nmod tests { use crate::high::High; }"),
        ("low/inner.rs", "use std::time::SystemTime;\n\nuse super::super::{\n    high::{self, High},\n};\n"),
    ] {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    let map = Map::read(
        "//! | room | owns | may import |\n//! |---|---|---|\n//! | [`high`] | high | `low` |\n//! | `low` | low | |\n//!\n\
         //! | only these | name | as |\n//! |---|---|---|\n//! | `high` | clocks | `std::time::SystemTime` |\n",
    );
    let sources = source::read(directory.path());
    let wrong = map.forbidden_imports(&sources);
    assert_eq!(wrong.lines().count(), 2, "{wrong}");
    assert!(wrong.contains("low/inner.rs:4: `low` imports `high`"), "{wrong}");
    let wrong = map.forbidden_names(&sources);
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
    assert!(wrong.contains("low/inner.rs:1: `std::time::SystemTime` (clocks)"), "{wrong}");
    let arrows = imports(&sources).map(|import| (room(&import.from.module), room(&import.to))).collect();
    assert_eq!(circles(&arrows), [["high", "low"]]);
}

const MAP: &str = include_str!("../../src/lib.rs");

fn src() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

impl Map {
    /// Reads the two tables of the doc: rooms with what they may import, and who alone may name what.
    fn read(lib: &str) -> Self {
        let (mut rooms, mut absences, mut header) = (BTreeMap::new(), Vec::new(), String::new());
        for line in lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim) {
            let Some(row) = line.strip_prefix('|') else {
                header.clear();
                continue;
            };
            let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            match (header.as_str(), cells.as_slice()) {
                ("", [first, ..]) => header = (*first).to_owned(),
                (_, [dashes, ..]) if dashes.starts_with("---") => {}
                ("room", [names, _, allowed]) => {
                    for name in code(names) {
                        rooms.insert(name, code(allowed).into_iter().collect());
                    }
                }
                ("only these", [modules, what, names]) => {
                    let mut named = code(names);
                    named.insert(0, (*what).to_owned());
                    absences.push((named, code(modules)));
                }
                (header, cells) => panic!("src/lib.rs: a table of {header:?} has a row {cells:?}"),
            }
        }
        assert!(!rooms.is_empty() && !absences.is_empty(), "src/lib.rs has no map");
        Self { rooms, absences }
    }

    fn forbidden_imports(&self, sources: &BTreeMap<String, Source>) -> String {
        let mut wrong = String::new();
        for import in imports(sources).filter(|import| !import.from.module.is_empty()) {
            let (from, to) = (room(&import.from.module), room(&import.to));
            if from != to && !self.rooms.get(&from).is_some_and(|allowed| allowed.contains(&to)) {
                let _ = writeln!(wrong, "{}:{}: `{from}` imports `{to}`", import.from.file.display(), import.line);
            }
        }
        wrong
    }

    fn forbidden_names(&self, sources: &BTreeMap<String, Source>) -> String {
        let mut wrong = String::new();
        for source in sources.values().filter(|source| !source.module.is_empty()) {
            for (named, modules) in &self.absences {
                if modules.iter().any(|module| is_within(&source.module, module)) {
                    continue;
                }
                let [what, names @ ..] = named.as_slice() else { continue };
                for (path, line) in source.paths.iter().filter(|(path, _)| !source.is_local(path, sources)) {
                    let path = path.join("::");
                    if let Some(name) = names.iter().find(|name| is_within(&path, name)) {
                        let _ = writeln!(wrong, "{}:{line}: `{name}` ({what})", source.file.display());
                    }
                }
            }
        }
        wrong
    }
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn room(module: &str) -> String {
    module.split("::").next().unwrap_or_default().to_owned()
}

/// Every path within the crate, led to the deepest module that it names.
fn imports(sources: &BTreeMap<String, Source>) -> impl Iterator<Item = Import<'_>> {
    sources.values().flat_map(move |from| {
        from.paths.iter().filter_map(move |(path, line)| {
            let mut module: Vec<&str> = from.module.split("::").filter(|part| !part.is_empty()).collect();
            let mut rest = path.iter().map(String::as_str).peekable();
            match rest.next()? {
                "crate" => module.clear(),
                "super" => drop(module.pop()?),
                "self" => {}
                _ => return None,
            }
            while rest.next_if_eq(&"super").is_some() {
                module.pop()?;
            }
            for part in rest {
                let deeper = [module.as_slice(), &[part]].concat();
                match sources.contains_key(&deeper.join("::")) {
                    true => module = deeper,
                    false => break,
                }
            }
            let to = module.join("::");
            (to != from.module && !to.is_empty()).then_some(Import { from, line: *line, to })
        })
    })
}

/// Groups whose members reach each other along the arrows.
fn circles(arrows: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in arrows.iter().map(|(from, _)| from.as_str()) {
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for (_, to) in arrows.iter().filter(|(from, _)| from == at) {
                if reached.entry(start).or_default().insert(to) {
                    open.push(to);
                }
            }
        }
    }
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
    let mut circles: Vec<Vec<String>> = Vec::new();
    for member in reached.keys().filter(|member| reaches(member, member)) {
        match circles.iter_mut().find(|circle| reaches(member, &circle[0]) && reaches(&circle[0], member)) {
            Some(circle) if circle[0] == *member => {}
            Some(circle) => circle.push((*member).to_owned()),
            None => circles.push(vec![(*member).to_owned()]),
        }
    }
    circles.retain(|circle| circle.len() > 1);
    circles
}

//! Rule files and exactly what is said of them: every file of `tests/rules/bad` is refused in the words that stand beside
//! it, every file of `tests/rules/good` and each of the starter rules loads without a word.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tollgate::rules::{self, Defaults, DotFiles, Load, Sources};

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .expect("it is in the repository")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{directory} holds rule files");
    files
}

fn load(path: &Path) -> Load {
    let sources = Sources::read(&[path.to_owned()], DotFiles::Read).expect("readable");
    rules::load(&sources, &Defaults::default(), None)
}

/// With `TOLLGATE_BLESS` set the words are written down anew; what changed is then for `git diff` to show.
fn assert_golden(path: &Path, said: &str) {
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        fs::write(path, said).expect("the repository is ours");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(said, expected, "{} (TOLLGATE_BLESS=1 writes it anew)", path.display());
}

#[test]
fn every_bad_file_is_refused_in_the_words_beside_it() {
    for path in files("tests/rules/bad") {
        let load = load(&path);
        assert!(load.problems.has_errors(), "{} is refused", path.display());
        assert_eq!(load.rules.count().domains, 0, "{}", path.display());
        assert_golden(&path.with_extension("txt"), &load.problems.render());
    }
}

#[test]
fn every_good_file_loads_and_its_warnings_are_the_words_beside_it() {
    for path in files("tests/rules/good") {
        let load = load(&path);
        assert!(!load.problems.has_errors(), "{}", load.problems.render());
        assert_eq!(load.rules.count().domains, 1, "{}", path.display());
        let words = path.with_extension("txt");
        if words.exists() || !load.problems.is_empty() {
            assert_golden(&words, &load.problems.render());
        }
    }
}

#[test]
fn the_starter_rules_load_without_a_word() {
    for path in files("config") {
        let load = load(&path);
        assert!(load.problems.is_empty(), "{}", load.problems.render());
    }
}

//! Which files are rules, on a real file system.

use std::{fs, os::unix::fs::symlink};

use super::*;

/// The names of what is read and of what is passed over, below the directory.
fn read(directory: &Path, dot_files: DotFiles) -> (Vec<String>, Vec<String>) {
    let sources = Sources::read(&[directory.to_owned()], dot_files).expect("readable");
    assert!(sources.unreadable.is_empty(), "{:?}", sources.unreadable);
    let name = |path: &Path| path.strip_prefix(directory).expect("below").display().to_string();
    let read = sources.files.iter().map(|source| name(&source.path)).collect();
    (read, sources.skipped.iter().map(|path| name(path)).collect())
}

fn directory_with(files: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for file in files {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().expect("it is below")).expect("ours");
        fs::write(path, "domain: d\n").expect("ours");
    }
    directory
}

#[test]
fn rule_files_are_read_at_any_depth_and_others_passed_over() {
    let directory =
        directory_with(&["b.yml", "a.yaml", "team/deep/c.yaml", "README.md", "a.yaml~", ".d.yaml", "..e.yaml"]);
    let (files, skipped) = read(directory.path(), DotFiles::Read);
    assert_eq!(files, [".d.yaml", "a.yaml", "b.yml", "team/deep/c.yaml"]);
    assert_eq!(skipped, ["README.md", "a.yaml~"]);
    assert_eq!(read(directory.path(), DotFiles::Ignore).0, ["a.yaml", "b.yml", "team/deep/c.yaml"]);
}

#[test]
fn a_config_map_is_read_once() {
    let directory = directory_with(&["..2026_01/a.yaml"]);
    symlink("..2026_01", directory.path().join("..data")).unwrap();
    symlink("..data/a.yaml", directory.path().join("a.yaml")).unwrap();
    assert_eq!(read(directory.path(), DotFiles::Read), (vec!["a.yaml".to_owned()], Vec::new()));
}

#[test]
fn a_file_that_is_named_itself_is_read_whatever_its_name() {
    let directory = directory_with(&["rules.conf"]);
    let sources = Sources::read(&[directory.path().join("rules.conf")], DotFiles::Read).expect("readable");
    assert_eq!(sources.files.len(), 1);
}

#[test]
fn an_editors_lock_is_no_error_but_a_rule_file_that_leads_nowhere_is() {
    let directory = directory_with(&["a.yaml"]);
    symlink("me@host.123", directory.path().join(".#a.yaml")).unwrap();
    assert_eq!(read(directory.path(), DotFiles::Read), (vec!["a.yaml".to_owned()], Vec::new()));

    symlink("nowhere", directory.path().join("b.yaml")).unwrap();
    let sources = Sources::read(&[directory.path().to_owned()], DotFiles::Read).expect("the directory is readable");
    let load = load(&sources, &Defaults::default(), None);
    assert!(load.problems.has_errors() && load.problems.to_string().contains("b.yaml"), "{}", load.problems);
    assert_eq!(load.rules.count().domains, 1, "the others go on");
}

#[test]
fn a_file_that_cannot_be_read_keeps_the_domain_that_it_gave() {
    let directory = directory_with(&["a.yaml"]);
    let paths = [directory.path().to_owned()];
    let last = load(&Sources::read(&paths, DotFiles::Read).unwrap(), &Defaults::default(), None).rules;
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    symlink("nowhere", directory.path().join("a.yaml")).unwrap();
    let load = load(&Sources::read(&paths, DotFiles::Read).unwrap(), &Defaults::default(), Some(&last));
    assert_eq!((load.kept_domains.len(), load.rules.count().domains), (1, 1));
}

#[test]
fn every_path_that_cannot_be_read_is_named() {
    let directory = directory_with(&[]);
    let paths = [directory.path().join("one"), directory.path().join("two.yaml")];
    let problems = Sources::read(&paths, DotFiles::Read).expect_err("neither is there");
    let named: Vec<&PathBuf> = problems.errors().map(|problem| &problem.path).collect();
    assert_eq!(named, [&paths[0], &paths[1]]);
}

#[test]
fn a_file_beyond_64_mib_is_refused_unread() {
    let directory = directory_with(&["a.yaml"]);
    let file = fs::OpenOptions::new().write(true).open(directory.path().join("a.yaml")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let sources = Sources::read(&[directory.path().to_owned()], DotFiles::Read).expect("the directory is readable");
    assert_eq!(sources.files.len(), 0);
    assert!(sources.unreadable[0].1.contains("more than 64 MiB"), "{:?}", sources.unreadable);
}

#[test]
fn directories_that_hold_themselves_come_to_an_end() {
    let directory = directory_with(&["a.yaml"]);
    symlink(".", directory.path().join("self")).unwrap();
    let sources = Sources::read(&[directory.path().to_owned()], DotFiles::Read).expect("the directory is readable");
    assert!(!sources.unreadable.is_empty());
}

#[test]
fn test_cases_beside_the_rules_are_passed_over_whether_named_or_found() {
    let directory = directory_with(&["a.yaml"]);
    let path = directory.path().join("a.test.yaml");
    fs::write(&path, "domain: d\ncases:\n  - {name: x, requests: [{descriptor: a=b, expect: ok}]}\n").unwrap();
    for paths in [vec![directory.path().to_owned()], vec![directory.path().join("a.yaml"), path.clone()]] {
        let sources = Sources::read(&paths, DotFiles::Read).expect("readable");
        assert_eq!((sources.files.len(), &sources.cases), (1, &vec![path.clone()]));
    }
}

/// The reference reads rules from a file of any name.
#[test]
fn rules_in_a_file_that_is_named_like_test_cases_are_rules() {
    let directory = directory_with(&[]);
    let rules = "domain: d\ndescriptors:\n  - {key: a, rate_limit: 5/s}\n";
    let flow = "{domain: e, descriptors: [{key: a, rate_limit: 5/s}]}";
    for (file, text) in [("a.test.yaml", rules), ("b.test.yml", flow)] {
        fs::write(directory.path().join(file), text).unwrap();
    }
    let sources = Sources::read(&[directory.path().to_owned()], DotFiles::Read).expect("readable");
    let load = load(&sources, &Defaults::default(), None);
    assert!(load.problems.is_empty(), "{}", load.problems);
    assert_eq!((load.rules.count().domains, load.rules.count().rules), (2, 2));
}

#[test]
fn cases_that_are_not_yaml_are_still_no_rules() {
    let directory = directory_with(&["a.yaml"]);
    fs::write(directory.path().join("a.test.yaml"), "domain: d\ncases:\n  - {name: [\n").unwrap();
    let sources = Sources::read(&[directory.path().to_owned()], DotFiles::Read).expect("readable");
    let load = load(&sources, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{}", load.problems);
}

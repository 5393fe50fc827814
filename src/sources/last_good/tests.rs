use super::*;

fn rules(directory: &Path, limit: &str) -> Rules {
    let path = directory.join("api.yaml");
    fs::write(&path, format!("domain: api\ndescriptors:\n  - {{key: user, rate_limit: {limit}}}\n"))
        .expect("the directory is ours");
    let sources = Sources { files: vec![Source::read(&path).expect("it is there")], ..Sources::default() };
    rules::load(&sources, &Defaults::default(), None).rules
}

#[test]
fn an_older_version_is_not_kept_after_a_newer_one() {
    let (directory, state) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let (saved_files, defaults) = (LastGood::new(state.path()), Defaults::default());
    let newer = rules(directory.path(), "7/h");
    saved_files.save(3, &newer, &defaults).expect("it is kept");
    let older = rules(directory.path(), "5/h");
    saved_files.clone().save(2, &older, &defaults).expect("it is passed over");
    let load = || saved_files.load(&defaults).expect("it can be read").expect("it is there");
    assert_eq!(load().0.hash(), newer.hash());
    saved_files.save(4, &older, &defaults).expect("it is kept");
    assert_eq!(load().0.hash(), older.hash());
}

#[test]
fn what_was_kept_and_cannot_be_used_is_an_error_that_says_why() {
    let (directory, state) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let (saved_files, defaults) = (LastGood::new(state.path()), Defaults::default());
    let why = |text: &str| {
        fs::write(state.path().join(FILE), text).expect("the directory is ours");
        saved_files.load(&defaults).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(saved_files.load(&defaults).expect("there is nothing").is_none());
    assert!(why("[{]").contains("rules.json: key must be a string"), "{}", why("[{]"));
    let bad = r#"[{"path":"api.yaml","text":"domain: api\ndescriptors: 5\n"}]"#;
    assert!(why(bad).contains("rules.json: its rules have errors: api.yaml:2"), "{}", why(bad));
    // What a version without checksums kept.
    assert_eq!(why(r#"[{"path":"api.yaml","text":"domain: api\n"}]"#), "");
    saved_files.save(1, &rules(directory.path(), "5/h"), &defaults).expect("it is kept");
    let text = fs::read_to_string(state.path().join(FILE)).expect("it is there");
    assert!(why(&text.replace("5/h", "7/h")).contains("its checksum is wrong"));
}

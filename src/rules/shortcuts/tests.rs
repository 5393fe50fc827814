use crate::rules::{Defaults, LoadedRules, Rules, Shortcuts, Source, Sources, load};

fn load_all(texts: &[&str]) -> LoadedRules {
    let files = texts
        .iter()
        .enumerate()
        .map(|(number, text)| Source { path: format!("{number}.yaml").into(), bytes: text.as_bytes().to_vec() });
    let sources = Sources { files: files.collect(), ..Sources::default() };
    load(&sources, &Defaults { merge_domains: true, ..Defaults::default() }, None)
}

fn shortcuts(rules: &Rules) -> &Shortcuts {
    rules.domains()[0].shortcuts()
}

fn text(written: &[Box<[Box<str>]>]) -> Vec<String> {
    written.iter().map(|keys| keys.join(",")).collect()
}

#[test]
fn forms_that_are_not_named_keep_their_defaults() {
    for (file, user, endpoint, action) in [
        ("domain: d", ["user"], vec!["user,endpoint"], ["user,action"]),
        ("domain: d\nshortcuts: {user: [client_id]}", ["client_id"], vec!["user,endpoint"], ["user,action"]),
        ("domain: d\nshortcuts: {endpoint: [[user], [u, path]]}", ["user"], vec!["user", "u,path"], ["user,action"]),
    ] {
        let load = load_all(&[file]);
        assert!(load.problems.is_empty(), "{}", load.problems.render());
        let located = shortcuts(&load.rules);
        assert_eq!(
            (text(&located.user), text(&located.endpoint), text(&located.action)),
            (vec![user[0].into()], endpoint.iter().map(|t| t.to_string()).collect(), vec![action[0].into()])
        );
    }
}

#[test]
fn what_is_no_list_of_keys_is_refused_in_its_place() {
    for (wrong, located) in [
        ("{usr: [user]}", "unknown key `usr` in `shortcuts`"),
        ("[user]", "`shortcuts` must be a map, not a list"),
        ("{user: user}", "`user` must be a list of keys"),
        ("{user: []}", "`user` must be a list of keys"),
        ("{user: [user, endpoint]}", "a descriptor of `user` has 1 to 1 keys, not 2"),
        ("{action: [a, b, c]}", "a descriptor of `action` has 1 to 2 keys, not 3"),
        ("{action: [[a], b]}", "this must be text, not a list"),
        ("{action: [[a], []]}", "a descriptor of `action` has 1 to 2 keys, not 0"),
        ("{user: [\"\"]}", "a key must not be empty"),
    ] {
        let load = load_all(&[&format!("domain: d\nshortcuts: {wrong}")]);
        let problem = load.problems.iter().next().unwrap_or_else(|| panic!("{wrong} was taken"));
        assert_eq!((problem.line, problem.what.as_str()), (2, located), "{wrong}");
        assert!(load.rules.domains().is_empty(), "{wrong}");
    }
}

#[test]
fn files_of_a_domain_must_agree() {
    let (one, other) = ("domain: d\nshortcuts: {user: [a]}", "domain: d\nshortcuts: {user: [b]}");
    assert_eq!(text(&shortcuts(&load_all(&[one, "domain: d", one]).rules).user), ["a"]);
    let load = load_all(&[one, other]);
    let located: Vec<_> = load.problems.iter().map(|problem| problem.to_string()).collect();
    assert_eq!(located, ["1.yaml:2:12: `shortcuts` holds for the whole domain, and differs from 0.yaml:2"]);
}

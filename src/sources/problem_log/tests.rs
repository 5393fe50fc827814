use super::*;
use crate::rules::{Defaults, Source, Sources, load};

#[test]
fn warnings_with_a_place_are_one_count_and_others_are_single_lines() {
    let text = "domain: d\ntiers: {t: 5/s, u: 5/s}\ndescriptors:\n- {key: a, rate_limit: {unit: day}}\n";
    let files = vec![Source { path: "a.yaml".into(), bytes: text.as_bytes().to_vec() }];
    let sources = Sources { files, skipped: vec!["b.json".into()], ..Sources::default() };
    let problems = load(&sources, &Defaults::default(), None).problems;
    assert!(!problems.has_errors() && problems.iter().count() == 4, "{}", problems.render());
    let (counted, single): (Vec<&Problem>, Vec<&Problem>) = problems.iter().partition(|problem| is_counted(problem));
    assert_eq!(counts(&counted).as_deref(), Some("3 warnings (2 unused-tier, 1 zero-limit)"));
    assert_eq!(single.iter().map(|problem| problem.path.display().to_string()).collect::<Vec<_>>(), ["b.json"]);
    assert_eq!(counts(&[]), None);
    assert_eq!(counts(&counted[..1]).as_deref(), Some("1 warning (1 unused-tier)"));
}

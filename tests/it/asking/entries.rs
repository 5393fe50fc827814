//! Entries and descriptors as arguments: two entries in the place of one are refused, and what `top` prints is taken.

use super::{RULES, Ran};
use crate::{api::with_tokens, harness::RulesDir};

const WHY: [&str; 2] = ["--reason", "ticket 42"];

#[tokio::test]
async fn two_entries_in_one_argument_are_refused_with_the_way_out() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let (at, two) = (tollgate.http.to_string(), "user=alice,endpoint=/login");
    let set = ["overrides", "set", "--domain", "api", "--limit", "5/h", "--addr", &at, "--match"];
    let reset = ["reset", "--domain", "api", "--addr", &at, WHY[0], WHY[1], "--entry"];
    let (explain, top) = (["explain", "--domain", "api", "--entry"], ["top", "--entry"]);
    let tail = ["tail", "--for", "1s", "--entry"];
    for args in [&set[..], &reset, &explain, &top, &tail] {
        let refused = Ran::of(&[args, &[two]].concat());
        let says =
            r"these are 2 entries, and each stands behind a flag of its own; a comma within a value is written `\,`";
        assert!(refused.code == 2 && refused.err.contains(says), "{args:?}: {refused:?}");
    }
    // A comma that begins no entry is one of the value, with a backslash or without.
    for entry in ["user=Smith, Ann", r"user=Smith\, Ann", r"user=a\,b=c"] {
        let taken = Ran::of(&[&set[..], &[entry, "--dry-run"]].concat());
        assert!(taken.code == 0 && taken.out.contains("5 in 3600 s"), "{taken:?}");
    }
}

#[tokio::test]
async fn a_reset_takes_a_descriptor_as_top_prints_it() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    descriptors: [{key: endpoint, rate_limit: 1/h}]\n",
    );
    let tollgate = with_tokens(&rules, &[]).await;
    let (http, admin, client) = (tollgate.http.to_string(), tollgate.admin.to_string(), tollgate.client());
    let entries = [("user", "alice"), ("endpoint", "/a,b=c")];
    assert!(client.admits("api", &entries).await && !client.admits("api", &entries).await);
    let listed = Ran::with(&["top", "--json", "--admin", &admin], &[]).json();
    let descriptor = listed["entries"][0]["descriptor"].as_str().expect("a text").to_owned();
    let reset = ["reset", "--addr", &http, WHY[0], WHY[1], "--descriptor", &descriptor];
    let done = Ran::of(&reset);
    assert!(done.code == 0 && done.out.contains("reset api/user/endpoint: counter "), "{done:?}");
    assert!(client.admits("api", &entries).await);
}

#[test]
fn an_unknown_flag_is_told_with_the_usage_of_its_own_command() {
    for (args, usage) in [
        (&["reset", "--descriptors", "user=alice"][..], "Usage: tollgate reset "),
        (&["limits", "shadow", "api/user", "--since", "1h"], "Usage: tollgate limits shadow "),
        (&["--no-such-flag"], "Usage: tollgate [OPTIONS]"),
    ] {
        let refused = Ran::of(args);
        assert!(refused.code == 2 && refused.err.contains(usage), "{args:?}: {refused:?}");
    }
}

//! The exit codes of every subcommand: 0 done, 1 failed, 2 a command line that can't be meant so, 3 answered, and the answer
//! is no. `docs/src/reference/exit-codes.md` has the table.

use super::{RULES, Ran};
use crate::{api::with_tokens, harness::RulesDir};

const CASES: &str = "cases:\n  - name: the second is refused\n    domain: api\n    requests:\n      \
    - {descriptors: [{user: alice}], expect: OK}\n";

#[tokio::test]
async fn each_subcommand_ends_as_the_table_of_the_docs_has_it() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let (at, grpc, admin) = (tollgate.http.to_string(), tollgate.grpc.to_string(), tollgate.admin.to_string());
    let files = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path.to_str().expect("text").to_owned()
    };
    let (good, bad) = (file("good.yaml", RULES), file("bad.yaml", "domain: api\ndescriptors: 7\n"));
    let (rows, wrong) =
        (file("rows.csv", "match.user,limit\nzoe,5/h\n"), file("wrong.csv", "match.user,limit\nzoe,5\n"));
    let nowhere = "127.0.0.1:1";
    let call = ["call", "--domain", "api", "--descriptor", "user=alice", "--addr", &*at];
    let explain = ["explain", "--entry", "user=alice", "--admin", &*admin];
    let bench = ["bench", "--domain", "api", "--descriptor", "user=%k", "--seconds", "0.1", "--warmup", "0"];
    let why = ["--for", "1h", "--reason", "ticket 42"];
    let set = ["overrides", "set", "--match", "user=bob", "--limit", "5/h", "--addr", &*at];
    let cases: Vec<(i32, Vec<&str>)> = vec![
        (0, vec!["--version"]),
        (0, vec!["--help"]),
        (2, vec!["no-such-command"]),
        (1, vec!["serve", "--rules", &bad]),
        (1, vec!["serve", "--rules", &good, "--api-token-file", "/nowhere"]),
        (2, vec!["serve", "--no-such-flag"]),
        (0, vec!["check", &good]),
        (1, vec!["check", &bad]),
        (1, vec!["check", "/nowhere"]),
        (2, vec!["check", "--format", "xml", &good]),
        (0, vec!["check", "--settings"]),
        (1, vec!["check", "--settings", "--port", "x"]),
        (2, vec!["check", "--settings", "--no-such-flag"]),
        (2, vec!["test", "--no-such-flag"]),
        (1, vec!["test", &bad]),
        (0, call.to_vec()),
        (3, call.to_vec()),
        (3, [&call[..], &["--exit-code"]].concat()),
        (1, [&call[..5], &["--addr", nowhere]].concat()),
        (2, [&call[..3], &["--descriptor", "user"]].concat()),
        (2, [&call[..5], &["--addr", "limits"]].concat()),
        (0, explain.to_vec()),
        (3, [&explain[..], &["--exit-code"]].concat()),
        (1, vec!["explain", "--entry", "user=alice", "--admin", nowhere]),
        (2, vec!["explain", "--entry", "user"]),
        (2, vec!["explain", "--descriptor", "user"]),
        (2, vec!["explain", "--entry", "user=alice", "--admin", "https://127.0.0.1:1"]),
        (0, vec!["explain", "--entry", "user=alice", "--rules", &good]),
        (1, vec!["explain", "--entry", "user=alice", "--rules", &bad]),
        (0, set.to_vec()),
        (1, [&set[..], &["--create-only"]].concat()),
        (2, [&set[..], &["--for", "4 hours"]].concat()),
        (2, [&set[..], &["--addr", "ftp://127.0.0.1:1"]].concat()),
        (2, [&set[..], &["--cacert", "/certs/ca.crt"]].concat()),
        (0, vec!["overrides", "get", "user:bob", "--addr", &at]),
        (1, vec!["overrides", "get", "user:eve", "--addr", &at]),
        (0, vec!["overrides", "list", "--admin", &admin]),
        (1, vec!["overrides", "list", "--addr", nowhere]),
        (2, vec!["overrides", "list", "--value-prefix", "al", "--addr", &at]),
        (0, vec!["overrides", "import", &rows, "--addr", &at]),
        (1, vec!["overrides", "import", &wrong, "--addr", &at]),
        (1, vec!["overrides", "import", "/nowhere.csv", "--addr", &at]),
        (2, vec!["overrides", "export", "--addr", &at, "--addr", &grpc]),
        (0, vec!["overrides", "delete", "user:bob", "--addr", &at]),
        (1, vec!["overrides", "delete", "user:bob", "--addr", &at]),
        (2, vec!["overrides", "delete"]),
        (0, vec!["reset", "--entry", "user=alice", "--dry-run", "--addr", &at]),
        (0, vec!["reset", "--entry", "user=alice", "--addr", &at]),
        (1, vec!["reset", "--entry", "nobody=alice", "--addr", &at]),
        (2, vec!["reset"]),
        (0, vec!["top", "--admin", &admin]),
        (1, vec!["top", "--limit", "api/usr", "--admin", &admin]),
        (1, vec!["top", "--admin", nowhere]),
        (2, vec!["top", "--since", "5m", "--admin", &admin]),
        (2, vec!["top", "-n", "0", "--admin", &admin]),
        (0, vec!["status", "--admin", &admin]),
        (1, vec!["status", "--admin", nowhere]),
        (1, vec!["status", "--domain", "nowhere", "--admin", &admin]),
        (2, vec!["status", "--no-such-flag"]),
        (0, vec!["changes", "--since", "90m", "--admin", &admin]),
        (1, vec!["changes", "--admin", nowhere]),
        (2, vec!["changes", "--since", "90", "--admin", &admin]),
        (0, [&["limits", "off", "api/user"], &why[..], &["--addr", &at, "--dry-run"]].concat()),
        (0, [&["limits", "off", "api/user"], &why[..], &["--addr", &at]].concat()),
        (0, vec!["limits", "list", "--admin", &admin]),
        (1, vec!["limits", "list", "--admin", nowhere]),
        (0, vec!["limits", "restore", "api/user", "--reason", "over", "--addr", &at]),
        (1, vec!["limits", "restore", "api/user", "--reason", "over", "--addr", &at]),
        (1, [&["limits", "off", "api/usr"], &why[..], &["--addr", &at]].concat()),
        (2, vec!["limits", "off", "api/user", "--for", "1h", "--addr", &at]),
        (0, [&bench[..], &["--addr", &grpc]].concat()),
        (1, [&bench[..], &["--addr", nowhere]].concat()),
        (2, vec!["bench", "--no-such-flag"]),
        (0, vec!["completions", "bash"]),
        (2, vec!["completions", "tcsh"]),
    ];
    for (code, args) in cases {
        let ran = Ran::of(&args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.is_empty() || code != 0 || args[0] == "bench", "{args:?}: {ran:?}");
    }
    let beside = RulesDir::with("api.yaml", RULES);
    let path = beside.path().to_str().expect("text").to_owned();
    for (code, expected) in [(0, "OK"), (1, "OVER_LIMIT")] {
        beside.write("api.test.yaml", &CASES.replace("OK", expected));
        let ran = Ran::of(&["test", &path]);
        assert_eq!(ran.code, code, "{ran:?}");
    }
}

#[test]
fn the_docs_have_the_table() {
    let docs = include_str!("../../../docs/src/reference/exit-codes.md");
    let section = docs.split_once("## Exit codes\n").expect("the section").1.split("\n## ").next().expect("its text");
    for row in ["| 0 |", "| 1 |", "| 2 |", "| 3 |"] {
        assert!(section.contains(row), "no row {row}");
    }
    for command in [
        "serve",
        "check",
        "test",
        "explain",
        "call",
        "overrides",
        "reset",
        "top",
        "status",
        "limits",
        "changes",
        "bench",
        "completions",
        "diff",
        "tail",
    ] {
        assert!(section.contains(&format!("`{command}`")), "nothing of {command}");
    }
}

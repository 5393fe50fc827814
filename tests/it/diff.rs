//! `tollgate diff`, by its words and exit codes: each kind of difference, each format, each kind of side.

use std::{path::Path, process::Command};

use bytes::Bytes;

use crate::{
    api::token_line,
    harness::{RulesDir, Tollgate, run_to_end, send},
    rules_golden::assert_golden,
};

/// What is printed, and the exit code.
fn diff(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["diff", "--at", "2026-06-01"], args].concat(), &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// What is said of a command that fails, and the exit code.
fn refused(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["diff"], args].concat(), &[]);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stderr).expect("text"), output.status.code())
}

const SIDES: [&str; 2] = ["tests/diff/old", "tests/diff/new"];

#[test]
fn each_kind_of_difference_is_told_in_the_words_beside_the_rules() {
    for (format, ending) in [("text", "txt"), ("json", "json"), ("markdown", "md")] {
        let (said, code) = diff(&[&["--format", format], &SIDES[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert_golden(format!("tests/diff/expected.{ending}").as_ref(), &said);
    }
}

#[test]
fn json_is_what_format_json_prints() {
    assert_eq!(diff(&[&["--json"], &SIDES[..]].concat()), diff(&[&["--format", "json"], &SIDES[..]].concat()));
}

#[test]
fn a_difference_is_exit_code_3_only_where_that_is_asked() {
    assert_eq!(diff(&[&["--exit-code"], &SIDES[..]].concat()).1, Some(3));
    assert_eq!(diff(&SIDES).1, Some(0));
    assert_eq!(diff(&["--exit-code", SIDES[0], SIDES[0]]), ("no difference\n".to_owned(), Some(0)));
}

/// A file of the directory is the same rules as the directory where it is all that is there.
#[test]
fn a_file_is_a_side_as_a_directory_is() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors:\n- {key: user, rate_limit: 5/s}\n");
    let (directory, file) = (rules.path().to_owned(), rules.path().join("api.yaml"));
    let (said, _) = diff(&[directory.to_str().expect("text"), file.to_str().expect("text")]);
    assert_eq!(said, "no difference\n");
}

#[test]
fn rules_with_errors_are_refused_with_every_problem() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors:\n- {key: user, rate_limit: 5/x}\n");
    let (said, code) = refused(&["config", rules.path().to_str().expect("text")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`5/x` is no limit") && said.contains("nothing to compare"), "{said}");
    let (said, code) = refused(&["config", "no/such/place"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no/such/place") && said.contains("can't be read"), "{said}");
}

/// A million lines must not make a comment that nobody takes, and what matters most must be in it.
#[test]
fn a_comment_has_at_most_60_000_characters_and_says_what_it_leaves_out() {
    let rules = |limit: &str, prefix: &str| {
        let rules: String =
            (0..3_000).map(|rule| format!("- {{key: '{prefix}{rule}', rate_limit: {limit}}}\n")).collect();
        let rows: String = (0..3_000).map(|user| format!("- {{match: {{user: u{user}}}, limit: {limit}}}\n")).collect();
        let user = "- {key: user, rate_limit: 5/s}\n";
        RulesDir::with("api.yaml", &format!("domain: api\ndescriptors:\n{user}{rules}overrides:\n{rows}"))
    };
    let (old, new) = (rules("5/s", "```old"), rules("6/s", "new"));
    let sides = [old.path().to_str().expect("text"), new.path().to_str().expect("text")];
    let (said, _) = diff(&["--format", "markdown", "--top", "5000", sides[0], sides[1]]);
    assert!(said.chars().count() <= 60_000, "{}", said.chars().count());
    assert!(said.contains("(```old0=x) met api/```old0, now nothing"), "{said}");
    assert!(said.contains("````diff\n"), "a fence must be longer than any run of backticks");
    for section in ["#### Requests that meet another rule", "#### Limits", "#### Overrides"] {
        let section = said.split_once(section).expect("each section is there").1;
        let section = section.split("\n#### ").next().expect("a split has a first part");
        assert!(section.contains("more lines are left out here"), "{section}");
    }
}

/// A repository with two commits of a directory, and what a branch changes since. The file of overrides lies beside it.
fn repository() -> RulesDir {
    let rows = |limit: &str| format!("match.user,limit\nbob,{limit}\n");
    let rules = |limit: &str| {
        format!(
            "domain: api\ndescriptors:\n- {{key: user, rate_limit: {limit}}}\noverrides_from: [../rows/users.csv]\n"
        )
    };
    let directory = RulesDir::with("rules/api.yaml", &rules("5/s"));
    directory.write("rows/users.csv", &rows("7/s"));
    directory.write("flat.yaml", "domain: flat\ndescriptors:\n- {key: user, rate_limit: 1/s}\n");
    for args in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "."],
        &["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "--quiet", "-m", "first"],
    ] {
        let done = Command::new("git").args(args).current_dir(directory.path()).output().expect("git is installed");
        assert!(done.status.success(), "{done:?}");
    }
    directory.write("rules/api.yaml", &rules("6/s"));
    directory.write("rows/users.csv", &rows("8/s"));
    directory
}

/// In a directory of the repository.
fn diff_in(directory: &Path, args: &[&str], path: Option<&str>) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("diff").args(args).current_dir(directory).env_clear().envs(path.map(|path| ("PATH", path)));
    let output = command.output().expect("the binary was built with the tests");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}

const CHANGED: &str = "limits:\n  api/user: 5 → 6 a second, counts go on\noverrides:\n  \
    api: user=bob: changed, 7 → 8 a second, counts go on\n  (1 changed; 1 in force before and 1 after)\n\
    differs: 1 limit, 1 override\n";

#[test]
fn a_revision_of_git_is_a_side_with_the_files_that_its_rules_name() {
    let repository = repository();
    let root = repository.path();
    let (said, error, code) = diff_in(root, &["git:main:rules", "rules"], Some("/usr/bin:/bin"));
    assert_eq!((said.as_str(), error.as_str(), code), (CHANGED, "", Some(0)));
    // A file, from the root wherever it is asked, and from here with `./`.
    for (here, old) in
        [("rules", "git:HEAD:rules/api.yaml"), ("rules", "git:HEAD:./api.yaml"), ("rows", "git:HEAD:../rules")]
    {
        let (said, error, code) = diff_in(&root.join(here), &[old, "../rules/api.yaml"], Some("/usr/bin:/bin"));
        assert_eq!((said.as_str(), error.as_str(), code), (CHANGED, "", Some(0)), "{old}");
    }
    let (said, error, _) = diff_in(root, &["git:main:flat.yaml", "git:main~0:flat.yaml"], Some("/usr/bin:/bin"));
    assert_eq!((said.as_str(), error.as_str()), ("no difference\n", ""));
    // The index of the repository is as it was.
    let status = Command::new("git").args(["status", "--porcelain"]).current_dir(root).output().expect("git");
    assert_eq!(String::from_utf8_lossy(&status.stdout), " M rows/users.csv\n M rules/api.yaml\n");
}

#[test]
fn what_git_does_not_have_is_told_with_the_way_out() {
    let repository = repository();
    let elsewhere = RulesDir::empty();
    let everywhere = Some("/usr/bin:/bin");
    for (directory, old, path, code, why) in [
        (repository.path(), "git:nope:rules", everywhere, 1, "no revision `nope`"),
        (repository.path(), "git:main:nowhere", everywhere, 1, "has no file there"),
        (repository.path(), "git:main:rows", everywhere, 1, "no rules were read"),
        (repository.path(), "git:main:../rules", everywhere, 1, "within the repository"),
        (repository.path(), "git:--help:rules", everywhere, 1, "no revision `--help`"),
        (repository.path(), "git:main", everywhere, 2, "git:REVISION:PATH"),
        (elsewhere.path(), "git:main:rules", everywhere, 1, "not a git repository"),
        (repository.path(), "git:main:rules", Some("/nowhere"), 1, "needs the git program"),
    ] {
        let (said, error, was) = diff_in(directory, &[old, "."], path);
        assert!(error.contains(why), "{old}: {error}");
        assert_eq!((said.as_str(), was), ("", Some(code)), "{old}");
    }
}

const SERVED: &str = "domain: api\ntiers: {gold: 50/m}\ndescriptors:\n- key: user\n  rate_limit: 5/s\n  \
    overrides: [{match: {user: carol}, limit: 9/s, reason: contract}]\n- {key: plan, rate_limit: {tier: gold}}\n\
    - {key: health}\noverrides:\n- {match: {user: bob}, limit: {tier: gold}, expires: 2100-01-01}\n";

/// Over the admin listener, over HTTP and over gRPC: a service is a side, and differs in nothing from its own files.
#[tokio::test]
async fn a_service_is_a_side_as_its_files_are() {
    let rules = RulesDir::with("api.yaml", SERVED);
    let tokens = RulesDir::with("tokens", &token_line("ci", "secret", "rules.read"));
    let (file, secret) = (tokens.path().join("tokens"), tokens.path().join("secret"));
    std::fs::write(&secret, "secret").expect("the directory is ours");
    // The service's own defaults hold for the files that it is compared with.
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("text")), ("TOLLGATE_ALGORITHM", "fixed_window")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let changed = RulesDir::with("api.yaml", &SERVED.replace("limit: 9/s", "limit: 11/s").replace("50/m", "60/m"));
    let [rules, changed] = [&rules, &changed].map(|rules| rules.path().to_str().expect("text").to_owned());
    let (admin, http, grpc) = (tollgate.admin.to_string(), tollgate.http.to_string(), tollgate.grpc.to_string());
    let (of_admin, of_api) = (format!("http://{admin}/rules"), format!("http://{http}"));
    let token = ["--token-file", secret.to_str().expect("text")];
    let expected = "limits:\n  api/plan: 50 → 60 a minute, counts go on\ntiers:\n  \
        api: gold: 50 → 60 a minute; reaches api/plan and 1 override\noverrides:\n  \
        api: user=carol of api/user: changed, 9 → 11 a second, counts go on\n  \
        api: user=bob: changed, 50 → 60 a minute, counts go on\n  \
        (2 changed; 2 in force before and 2 after)\ndiffers: 1 limit, 1 tier, 2 overrides\n";
    for service in [
        &["--admin", admin.as_str()][..],
        &["--addr", http.as_str(), token[0], token[1]][..],
        &["--addr", grpc.as_str(), token[0], token[1]][..],
        &[of_admin.as_str()][..],
        &[token[0], token[1], of_api.as_str()][..],
    ] {
        assert_eq!(diff(&[service, &[rules.as_str()]].concat()).0, "no difference\n", "{service:?}");
        assert_eq!(diff(&[service, &[changed.as_str()]].concat()).0, expected, "{service:?}");
    }
    assert_eq!(diff(&[of_admin.as_str(), of_admin.as_str()]).0, "no difference\n");
    let (said, code) = refused(&["--addr", &http, &rules]);
    assert!(said.contains("token") && code == Some(1), "{said}");
    let (said, code) = refused(&["--addr", &http, &rules, &rules]);
    assert!(said.contains("two sides are named") && code == Some(2), "{said}");
    // Whoever has no rules says so, and is no Tollgate.
    let (said, code) = refused(&[&format!("http://{}/rules", tollgate.metrics), &rules]);
    assert!(code == Some(1) && said.contains("http://"), "{said}");
}

/// A token of one domain sees that domain.
#[tokio::test]
async fn the_rules_of_a_domain_are_for_who_may_read_them() {
    let rules = RulesDir::with("api.yaml", SERVED);
    rules.write("shop.yaml", "domain: shop\ndescriptors:\n- {key: user, rate_limit: 5/s}\n");
    let tokens = token_line("shop", "shop", "rules.read@shop") + &token_line("other", "other", "insight.read,explain");
    let tokens = RulesDir::with("tokens", &tokens);
    let file = tokens.path().join("tokens");
    let tollgate =
        Tollgate::start_with(rules.path(), &[("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("text"))]).await;
    for (token, query, status, domains) in [
        ("shop", "", 200, &["shop"][..]),
        ("shop", "?domain=shop", 200, &["shop"]),
        ("shop", "?domain=api", 403, &[]),
        ("shop", "?domain=nowhere", 403, &[]),
        ("other", "", 403, &[]),
        ("", "", 401, &[]),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = send(tollgate.http, "GET", &format!("/v1/rules{query}"), headers, Bytes::new()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{token} {query}");
        if status == 200 {
            let told = answer.json();
            let names: Vec<&str> =
                told["domains"].as_array().expect("a list").iter().filter_map(|of| of["domain"].as_str()).collect();
            assert_eq!(names, domains);
        }
    }
    // The admin listener tells all, and with it what `/rules` always told.
    let told = send(tollgate.admin, "GET", "/rules?full=true", &[], Bytes::new()).await.expect("an answer").json();
    let short = send(tollgate.admin, "GET", "/rules", &[], Bytes::new()).await.expect("an answer").json();
    for key in ["version", "hash", "files", "problems"] {
        assert_eq!(told[key], short[key], "{key}");
    }
    let api = &told["domains"][0];
    assert_eq!((&api["domain"], &api["limits"]), (&short["domains"][0]["domain"], &short["domains"][0]["limits"]));
    assert_eq!(api["full"]["rules"][2]["id"], "api/health", "a rule without a limit is told too");
    assert_eq!(api["full"]["tiers"]["gold"]["requests"], 50);
    assert_eq!(api["full"]["overrides"].as_array().map(Vec::len), Some(2));
}

/// Every command of the page, run in a repository with the files that it names, prints what the page shows.
#[test]
fn every_command_of_the_page_prints_what_it_shows() {
    let repository = RulesDir::empty();
    let setup = "mkdir -p tests && cp -r \"$ROOT/config\" . && cp -r \"$ROOT/tests/diff\" tests && git init --quiet && git add . \
        && git -c user.name=n -c user.email=e@example.com commit --quiet -m first";
    let run = |command: &str, path: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", command]).current_dir(repository.path()).env_clear().env("PATH", path);
        let output = bash.env("ROOT", env!("CARGO_MANIFEST_DIR")).output().expect("bash runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    run(setup, "/usr/local/bin:/usr/bin:/bin");
    let page = include_str!("../../docs/src/guides/diff.md");
    let blocks = page.split("```console\n$ ").skip(1).map(|rest| rest.split_once("```").expect("a block ends").0);
    let blocks: Vec<&str> = blocks.collect();
    assert_eq!(blocks.len(), 4);
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().expect("it is in a directory");
    for block in blocks {
        let (command, shown) = block.split_once('\n').expect("a command, then what it prints");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.display());
        assert_eq!(run(command, &path), shown, "{command}");
    }
}

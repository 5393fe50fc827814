//! What is there for pipelines does what it says, as far as that goes without GitHub, GitLab and pre-commit: the steps of
//! `action.yml` and the job of the GitLab example run in a repository of git with the binary that was built, with stand-ins for
//! nothing but the service that they write a comment to.

mod repository;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use sha2::{Digest as _, Sha256};
use yaml_serde::Value;

use crate::examples::{project, read};
use repository::{Ran, Repository, script};

fn action() -> Value {
    yaml_serde::from_str(&read("action.yml")).expect("action.yml is YAML")
}

fn steps(action: &Value) -> Vec<&Value> {
    action["runs"]["steps"].as_sequence().expect("a list of steps").iter().collect()
}

fn string(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_mapping().expect("a map").keys().map(|key| string(key).to_owned()).collect()
}

/// The expressions within `${{ … }}`.
fn expressions(text: &str) -> Vec<&str> {
    text.split("${{").skip(1).map(|rest| rest.split("}}").next().expect("a part").trim()).collect()
}

/// A step's environment, with what the inputs and the event say.
fn environment(step: &Value, contexts: &BTreeMap<&str, String>) -> Vec<(String, String)> {
    let value = |text: &str| match expressions(text).first() {
        None => text.to_owned(),
        // `a || b`: the first that says anything.
        Some(expression) => {
            let known = |name: &str| contexts.get(name.trim()).cloned().unwrap_or_default();
            expression.split("||").map(known).find(|value| !value.is_empty()).unwrap_or_default()
        }
    };
    let map = step["env"].as_mapping();
    map.into_iter().flatten().map(|(name, text)| (string(name).to_owned(), value(string(text)))).collect()
}

/// What the inputs say where nobody says otherwise.
fn defaults(action: &Value) -> BTreeMap<String, String> {
    let inputs = action["inputs"].as_mapping().expect("inputs");
    inputs
        .iter()
        .map(|(name, input)| (format!("inputs.{}", string(name)), string(&input["default"]).to_owned()))
        .collect()
}

/// Runs a step of the action by its id.
fn run_step(repository: &Repository, id: &str, given: &[(&str, &str)]) -> Ran {
    let action = action();
    let defaults = defaults(&action);
    let mut contexts: BTreeMap<&str, String> =
        defaults.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    contexts.extend(given.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let step = steps(&action).into_iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id}"));
    assert_eq!(step["shell"], "bash", "a step of a composite action must name its shell");
    repository.run(string(&step["run"]), &environment(step, &contexts))
}

#[test]
fn the_action_has_the_shape_of_a_composite_action() {
    let action = action();
    assert_eq!(action["runs"]["using"], "composite");
    assert!(["name", "description"].iter().all(|key| action[*key].is_string()));
    let (inputs, mut used, mut ids) = (keys(&action["inputs"]), BTreeSet::new(), BTreeSet::new());
    for step in steps(&action) {
        let known = ["id", "name", "if", "shell", "env", "run"];
        assert!(keys(step).iter().all(|key| known.contains(&key.as_str())), "{step:?}");
        assert_eq!(step["shell"], "bash");
        let run = string(&step["run"]);
        // What a pull request says must never become a part of a script.
        assert_eq!(expressions(run), [""; 0], "values come as variables");
        let condition = step["if"].as_str().map(str::to_owned).into_iter();
        let variables = environment_texts(step).into_iter().chain(condition);
        for expression in
            variables.flat_map(|text| expressions(&text).into_iter().map(str::to_owned).collect::<Vec<_>>())
        {
            let words = expression.split(|character: char| !(character.is_alphanumeric() || "._-".contains(character)));
            for word in words.map(str::to_owned) {
                if let Some(input) = word.strip_prefix("inputs.") {
                    assert!(inputs.contains(input), "there is no input {input}");
                    used.insert(input.to_owned());
                }
                if let Some(step) = word.strip_prefix("steps.") {
                    assert!(
                        ids.contains(step.split('.').next().expect("a part")),
                        "no step before has this id: {step}"
                    );
                }
            }
        }
        for (name, _) in step["env"].as_mapping().into_iter().flatten() {
            let name = string(name);
            assert!(
                run.contains(&format!("${name}")) || run.contains(&format!("${{{name}")) || name == "GH_TOKEN",
                "{name}"
            );
        }
        assert!(ids.insert(string(&step["id"]).to_owned()), "ids differ");
    }
    assert_eq!(used, inputs, "every input is used");
    for (_, output) in action["outputs"].as_mapping().expect("outputs") {
        let value = string(&output["value"]);
        let [expression] = expressions(value)[..] else { panic!("{value}") };
        assert!(ids.contains(expression.split('.').nth(1).expect("steps.ID.outputs.NAME")), "{expression}");
    }
}

fn environment_texts(step: &Value) -> Vec<String> {
    step["env"].as_mapping().into_iter().flatten().map(|(_, text)| string(text).to_owned()).collect()
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).expect("the file is there"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_action_takes_a_program_that_is_there_or_downloads_one_that_it_knows() {
    let repository = Repository::new();
    let program = repository.outside("a-tollgate", "#!/bin/sh\necho tollgate 9.9.9\n");
    let path = program.to_str().expect("temporary paths are text");
    let ran = run_step(&repository, "binary", &[("inputs.binary", path)]);
    assert!(ran.code == 0 && ran.out.contains("tollgate 9.9.9"), "{ran:?}");
    assert!(repository.run("tollgate", &[]).out.contains("9.9.9"), "later steps find it");

    let url = format!("file://{path}");
    let (good, bad) = (sha256(&program), "0".repeat(64));
    for (sha256, code) in [(good.as_str(), 0), (bad.as_str(), 1), ("", 1)] {
        let repository = Repository::new();
        let ran = run_step(&repository, "binary", &[("inputs.download", &url), ("inputs.sha256", sha256)]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(repository.run("command -v tollgate", &[]).code == 0, code == 0, "only a known one is used");
    }
    // The third way is a build of some minutes: that there is what it names.
    assert!(read("Cargo.toml").contains("name = \"tollgate\"") && project("Cargo.lock").exists());
}

#[test]
fn the_action_checks_rules_and_runs_their_cases() {
    let repository = Repository::with_rules();
    let ran = run_step(&repository, "check", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    let ran = run_step(&repository, "test", &[]);
    assert_eq!(ran.code, 0, "{ran:?}");

    repository.write("config/api.yaml", &repository::RULES.replace("unit: minute", "unit: minut"));
    let ran = run_step(&repository, "check", &[]);
    assert!(ran.code == 1 && ran.out.starts_with("::error file=config/api.yaml,line=4,"), "{ran:?}");

    repository.write("config/api.yaml", &repository::RULES.replace("requests_per_unit: 3, ", ""));
    let ran = run_step(&repository, "check", &[]);
    assert!(ran.code == 1 && ran.out.contains("title=zero-limit"), "warnings fail: {ran:?}");
    let ran = run_step(&repository, "check", &[("inputs.strict", "false")]);
    assert!(ran.code == 0 && ran.out.starts_with("::warning "), "{ran:?}");
    let ran = run_step(&repository, "check", &[("inputs.allow", "expired-override zero-limit")]);
    assert!(ran.code == 0 && ran.out.starts_with("::warning "), "{ran:?}");
    let ran = run_step(&repository, "test", &[]);
    assert!(ran.code == 1 && ran.out.contains("::error file=config/api.test.yaml"), "{ran:?}");

    fs::remove_file(repository.path().join("config/api.test.yaml")).expect("it was there");
    let ran = run_step(&repository, "test", &[]);
    assert!(ran.code == 0 && ran.out.starts_with("::notice::no test cases"), "{ran:?}");
}

/// A repository whose newest commit has these rules, and the commit before.
fn compared(rules: &str) -> (Repository, String) {
    let repository = Repository::with_rules();
    repository.note_calls("diff");
    let base = repository.commit();
    repository.write("config/api.yaml", rules);
    repository.commit();
    (repository, base)
}

/// A limit for an hour where it was for a minute.
fn changed_rules() -> String {
    repository::RULES.replace("unit: minute", "unit: hour")
}

/// What the comparison says of it.
const DIFFERENCE: &str = "! api/user: 3 a minute → 3 an hour";

#[test]
fn the_action_compares_with_the_base_and_says_whether_anything_differs() {
    for (rules, changed, step) in [
        (repository::RULES.to_owned(), "changed=false\n", 0),
        (changed_rules(), "changed=true\n", 0),
        (repository::RULES.replace("unit: minute", "unit: minut"), "", 1),
    ] {
        let (repository, base) = compared(&rules);
        let ran = run_step(&repository, "diff", &[("github.event.pull_request.base.sha", &base)]);
        assert_eq!((ran.code, repository.outside_text("output").as_str()), (step, changed), "{ran:?}");
        let asked = match step {
            0 => format!("diff\ngit:{base}:config\nconfig\n--format\nmarkdown\n--exit-code\n"),
            // Whether it is the base that can't be read.
            _ => format!("diff\ngit:{base}:config\ngit:{base}:config\n"),
        };
        assert_eq!(repository.outside_text("asked"), asked);
        assert_eq!(repository.outside_text("summary").contains(DIFFERENCE), changed.contains("true"), "{ran:?}");
    }
}

/// Who mends what is broken must be let through.
#[test]
fn rules_that_mend_a_broken_base_pass() {
    let repository = Repository::with_rules();
    repository.note_calls("diff");
    repository.write("config/api.yaml", &repository::RULES.replace("unit: minute", "unit: minut"));
    let base = repository.commit();
    repository.write("config/api.yaml", repository::RULES);
    repository.commit();
    let ran = run_step(&repository, "diff", &[("github.event.pull_request.base.sha", &base)]);
    assert!(ran.code == 0 && ran.out.contains("nothing to compare with"), "{ran:?}");
    assert_eq!(repository.outside_text("output"), "", "whether anything differs is not known");

    let (file, tollgate) = (gitlab(), repository.tollgate());
    let env = [
        ("RULES", "config".to_owned()),
        ("TOLLGATE_URL", format!("file://{}", tollgate.display())),
        ("TOLLGATE_SHA256", sha256(&tollgate)),
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", base),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    let ran = repository.run(&whole(&file["rate-limits"]), &env);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn the_action_compares_nothing_where_there_is_no_base() {
    let (repository, base) = compared(&changed_rules());
    for given in [("github.event.before", "0000000000000000000000000000000000000000"), ("inputs.base", "")] {
        let ran = run_step(&repository, "diff", &[given]);
        assert!(ran.code == 0 && ran.out.contains("nothing to compare with"), "{ran:?}");
    }
    let ran = run_step(&repository, "diff", &[("inputs.base", &base), ("inputs.rules", "elsewhere")]);
    assert!(ran.code == 0 && ran.out.contains("all rules are new"), "{ran:?}");
    assert_eq!(repository.outside_text("asked"), "");

    // A checkout that has the newest commit alone gets the other.
    let shallow = repository.shallow_clone();
    let ran = run_step(&shallow, "diff", &[("github.event.before", &base)]);
    assert_eq!((ran.code, shallow.outside_text("output").as_str()), (0, "changed=true\n"), "{ran:?}");
}

#[test]
fn the_action_writes_one_comment_and_brings_it_up_to_date() {
    let event = [("github.event.pull_request.number", "7")];
    for (changed, before, expected) in [
        ("true", "", Some("POST repos/owner/rules/issues/7/comments")),
        ("true", "41\n42\n", Some("PATCH repos/owner/rules/issues/comments/41")),
        ("false", "41\n", Some("PATCH repos/owner/rules/issues/comments/41")),
        ("false", "", None),
    ] {
        let repository = Repository::with_rules();
        fs::write(repository.temporary().join("tollgate-diff.md"), "## 1 limit changes\n").expect("it is ours");
        repository.outside("comments", before);
        repository.program(
            "gh",
            "if [[ \"$*\" == *--jq* ]]; then cat \"$OUTSIDE/comments\"; echo \"$*|$MARK\" > \"$OUTSIDE/listed\"; exit; fi\n\
             [ -z \"$(cat \"$OUTSIDE/refuses\" 2> /dev/null)\" ] || { echo 'HTTP 403' >&2; exit 1; }; shift 3; echo \"$1 $2\" > \"$OUTSIDE/sent\"; cp \"${4#body=@}\" \"$OUTSIDE/body\"",
        );
        let given = [event[0], ("steps.diff.outputs.changed", changed)];
        let ran = run_step(&repository, "comment", &given);
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
        let listed = repository.outside_text("listed");
        assert!(
            listed.contains("repos/owner/rules/issues/7/comments")
                && listed.contains("|<!-- tollgate diff: config -->")
        );
        assert_eq!(repository.outside_text("sent").trim_end(), expected.unwrap_or_default());
        if expected.is_some() {
            let body = repository.outside_text("body");
            assert_eq!(body, "<!-- tollgate diff: config -->\n## 1 limit changes\n");
            // A fork's token may not write.
            repository.outside("refuses", "yes");
            let ran = run_step(&repository, "comment", &given);
            assert!(ran.code == 0 && ran.out.starts_with("::warning::the comment could not be written"), "{ran:?}");
        }
    }
}

/// Takes one request and answers 201; what came is given back.
fn one_request() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/api/v4", listener.local_addr().expect("it is bound"));
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).expect("a request");
            request.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").expect("it is read");
                return text;
            }
        }
    });
    (url, served)
}

fn gitlab() -> Value {
    yaml_serde::from_str(&read("examples/gitlab/.gitlab-ci.yml")).expect("YAML")
}

/// What a job of GitLab runs.
fn whole(job: &Value) -> String {
    let lines = |key: &str| job[key].as_sequence().expect("a list").iter().map(string).collect::<Vec<_>>().join("\n");
    script(&[lines("before_script"), lines("script")])
}

#[test]
fn the_job_of_gitlab_checks_tests_compares_and_writes_a_note() {
    let file = gitlab();
    let job = &file["rate-limits"];
    let whole = whole(job);
    let reports = &job["artifacts"]["reports"]["junit"];
    let reports: Vec<&str> = reports.as_sequence().expect("a list").iter().map(string).collect();

    for (rules, code, note) in [(changed_rules(), 0, true), (repository::RULES.replace("minute", "minut"), 1, false)] {
        let (repository, base) = compared(&rules);
        let tollgate = repository.tollgate();
        let (api, served) = one_request();
        let mut env = vec![
            ("RULES".to_owned(), string(&file["variables"]["RULES"]).to_owned()),
            ("TOLLGATE_URL".to_owned(), format!("file://{}", tollgate.display())),
            ("TOLLGATE_SHA256".to_owned(), sha256(&tollgate)),
            ("CI_MERGE_REQUEST_DIFF_BASE_SHA".to_owned(), base.clone()),
            ("CI_API_V4_URL".to_owned(), api.clone()),
            ("CI_PROJECT_ID".to_owned(), "5".to_owned()),
        ];
        if note {
            env.extend([
                ("CI_MERGE_REQUEST_IID".to_owned(), "9".to_owned()),
                ("GITLAB_NOTES_TOKEN".to_owned(), "t".to_owned()),
            ]);
        }
        let ran = repository.run(&whole, &env);
        assert_eq!(ran.code, code, "{ran:?}");
        for report in &reports {
            let xml = fs::read_to_string(repository.path().join(report)).expect("a report");
            assert!(xml.starts_with("<?xml") && xml.ends_with("</testsuites>\n"), "{report}: {xml}");
        }
        let diff = fs::read_to_string(repository.path().join("diff.md")).expect("the artifact");
        assert_eq!(diff.contains(DIFFERENCE), note, "{diff}");
        if note {
            let request = served.join().expect("it ends");
            assert!(request.starts_with("POST /api/v4/projects/5/merge_requests/9/notes "), "{request}");
            assert!(request.contains("api%2Fuser") && request.contains("hour"), "{request}");
        }
    }
}

#[test]
fn the_hooks_of_pre_commit_run_what_they_name() {
    let hooks: Value = yaml_serde::from_str(&read(".pre-commit-hooks.yaml")).expect("YAML");
    let hooks = hooks.as_sequence().expect("a list");
    let ids: Vec<&str> = hooks.iter().map(|hook| string(&hook["id"])).collect();
    assert_eq!(ids, ["tollgate-check", "tollgate-test"]);
    for hook in hooks {
        let known = ["id", "name", "description", "language", "entry", "args", "files", "pass_filenames"];
        assert!(keys(hook).iter().all(|key| known.contains(&key.as_str())), "{hook:?}");
        assert_eq!((string(&hook["language"]), &hook["pass_filenames"]), ("rust", &Value::Bool(false)));
        let args: Vec<&str> = hook["args"].as_sequence().expect("a list").iter().map(string).collect();
        let command = format!("{} {}", string(&hook["entry"]), args.join(" "));
        let repository = Repository::with_rules();
        let ran = repository.run(&command, &[]);
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        repository.write("config/api.yaml", &repository::RULES.replace("requests_per_unit: 3", "requests_per_unit: 2"));
        let fails = string(&hook["id"]) == "tollgate-test";
        assert_eq!(repository.run(&command, &[]).code, i32::from(fails), "{command}");
        repository.write("config/api.yaml", "domain: api\ndescriptors: [{key: user, limit: 5/s}]\n");
        assert_eq!(repository.run(&command, &[]).code, 1, "{command}");
    }
}

/// Makes a file that is run.
fn make_program(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).expect("the directory is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path.to_owned()
}

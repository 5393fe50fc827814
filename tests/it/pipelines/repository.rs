//! A repository of git with rules, and a shell in it as a pipeline has one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::make_program;

pub(super) const RULES: &str = "domain: api\n\
    descriptors:\n\
    - key: user\n  \
      rate_limit: {requests_per_unit: 3, unit: minute}\n";

const CASES: &str = "domain: api\n\
    cases:\n\
    - name: three a minute\n  \
      requests:\n  \
      - {descriptor: user=alice, times: 3, expect: ok}\n  \
      - {descriptor: user=alice, expect: over_limit}\n";

/// With a directory beside it for what a runner has outside of the checkout.
pub(super) struct Repository {
    directory: tempfile::TempDir,
}

#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    /// For the messages of failed tests.
    #[allow(dead_code, reason = "it is printed")]
    pub(super) err: String,
}

/// Lines as GitLab runs them: any that fails ends the job.
pub(super) fn script(parts: &[String]) -> String {
    parts.join("\n")
}

impl Repository {
    pub(super) fn new() -> Repository {
        let repository = Repository { directory: tempfile::tempdir().expect("a temporary directory") };
        for directory in ["checkout", "outside/bin", "temporary"] {
            fs::create_dir_all(repository.directory.path().join(directory)).expect("the directory is ours");
        }
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository
    }

    /// Rules and their cases, committed, and the program in the path.
    pub(super) fn with_rules() -> Repository {
        let repository = Repository::new();
        repository.write("config/api.yaml", RULES);
        repository.write("config/api.test.yaml", CASES);
        repository.commit();
        let built = env!("CARGO_BIN_EXE_tollgate");
        repository.program("tollgate", &format!("exec {built} \"$@\""));
        repository
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("checkout")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.directory.path().join("temporary")
    }

    fn outside_path(&self, name: &str) -> PathBuf {
        self.directory.path().join("outside").join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the checkout")).expect("the directory is ours");
        fs::write(path, text).expect("the directory is ours");
    }

    /// Writes a file that isn't in the checkout.
    pub(super) fn outside(&self, name: &str, text: &str) -> PathBuf {
        make_program(&self.outside_path(name), text)
    }

    /// Empty if it isn't there.
    pub(super) fn outside_text(&self, name: &str) -> String {
        fs::read_to_string(self.outside_path(name)).unwrap_or_default()
    }

    /// Puts a program into the path.
    pub(super) fn program(&self, name: &str, script: &str) {
        self.outside(&format!("bin/{name}"), &format!("#!/usr/bin/env bash\nset -e\n{script}\n"));
    }

    /// Writes down how one subcommand of the program is called; the binary that was built answers all.
    pub(super) fn note_calls(&self, subcommand: &str) {
        let (built, outside) = (env!("CARGO_BIN_EXE_tollgate"), self.outside_path(""));
        let asked = outside.join("asked");
        self.program(
            "tollgate",
            &format!(
                "if [ \"$1\" = {subcommand} ]; then printf '%s\\n' \"$@\" > {}; fi\nexec {built} \"$@\"",
                asked.display()
            ),
        );
    }

    pub(super) fn tollgate(&self) -> PathBuf {
        self.outside_path("bin/tollgate")
    }

    /// Commits everything; returns the commit.
    pub(super) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "rules"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A checkout of the newest commit alone, with the same programs.
    pub(super) fn shallow_clone(&self) -> Repository {
        let clone = Repository::new();
        fs::remove_dir_all(clone.path()).expect("the directory is ours");
        // Servers of git give single commits; this one is a directory.
        self.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        let from = format!("file://{}", self.path().display());
        let to = clone.path();
        let ran = git(clone.directory.path()).args(["clone", "--quiet", "--depth", "1", &from]).arg(to).output();
        assert!(ran.expect("git runs").status.success());
        fs::copy(self.tollgate(), clone.tollgate()).expect("the program");
        clone
    }

    fn git(&self, args: &[&str]) -> String {
        let output = git(&self.path()).args(args).output().expect("git is installed");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Runs a script in the checkout as a runner does: it ends at the first command that fails.
    pub(super) fn run(&self, script: &str, env: &[(String, String)]) -> Ran {
        let outside = self.outside_path("");
        // What earlier steps put into the path, the last before the others.
        let added = self.outside_text("path");
        let paths = added.lines().rev().map(str::to_owned);
        let own = outside.join("bin").display().to_string();
        let system = std::env::var("PATH").unwrap_or_default();
        let path = paths.chain([own, system]).collect::<Vec<_>>().join(":");
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(self.path());
        bash.env("PATH", path).env("OUTSIDE", &outside).env("RUNNER_TEMP", self.temporary());
        for (name, file) in [("GITHUB_PATH", "path"), ("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary")] {
            bash.env(name, outside.join(file));
        }
        bash.env("GITHUB_REPOSITORY", "owner/rules").envs(env.iter().map(|(name, value)| (name, value)));
        let output = bash.output().expect("bash is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Whatever the settings of whoever runs the tests are.
fn git(directory: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Someone").env(format!("GIT_{role}_EMAIL"), "someone@example.com");
    }
    git
}

//! A child process with its log. Killed when dropped, and its log printed when that happens in a failing test.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use super::PATIENCE;

pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Changes with every line; closed when the process has closed its output, which it does by ending.
    changed: watch::Receiver<()>,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't be started ({command:?}): {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (notify, changed) = watch::channel(());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        follow(stdout, lines.clone(), notify.clone());
        follow(stderr, lines.clone(), notify);
        Process { name: name.to_owned(), child, lines, changed }
    }

    /// Waits for the first line in which `find` finds something, from the process' first line on.
    pub(crate) async fn line<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let mut seen = 0;
        let looking = async {
            loop {
                changed.borrow_and_update();
                {
                    let lines = self.lines.lock().unwrap();
                    if let Some(found) = lines[seen..].iter().find_map(|line| find(line)) {
                        return Some(found);
                    }
                    seen = lines.len();
                }
                if changed.changed().await.is_err() {
                    return self.lines.lock().unwrap()[seen..].iter().find_map(|line| find(line));
                }
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{} ended without {what}", self.name),
            Err(_) => panic!("{} has not logged {what} within {PATIENCE:?}", self.name),
        }
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let mut changed = self.changed.clone();
        let closing = async { while changed.changed().await.is_ok() {} };
        if tokio::time::timeout(PATIENCE, closing).await.is_err() {
            panic!("{} has not ended within {PATIENCE:?}", self.name);
        }
        self.child.wait().expect("the child is ours")
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `name` without SIG, as `kill` takes it.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill exists");
        assert!(status.success(), "kill -s {name} {} failed", self.name);
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("the child is ours");
    }

    /// A figure in kB of `/proc/<pid>/status`.
    pub(crate) fn memory_kb(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel writes the field");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- what {} logged ---\n{}\n--- end of {} ---", self.name, self.log(), self.name);
        }
    }
}

/// Reads on to the end: a process whose pipe is full would stop.
fn follow(output: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>, notify: watch::Sender<()>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
            notify.send_replace(());
        }
    });
}

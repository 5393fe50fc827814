//! Real files in real directories, changed as editors, kubelets and careless scripts change them. Each test waits for
//! what the reloader delivers; the poll is far away unless it is what is tested.

use std::{fs, future, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
};

use super::*;

const FAR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(30);

/// A reloader that runs, and what it delivers.
struct Running {
    loads: UnboundedReceiver<LoadedRules>,
    asked: Arc<Notify>,
    task: JoinHandle<Infallible>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(path: &Path, change: impl FnOnce(&mut ReloadSettings)) -> Running {
        let mut settings = ReloadSettings {
            paths: vec![path.to_owned()],
            selection: Selection::default(),
            defaults: Defaults::default(),
            poll: FAR,
            allow_empty: false,
        };
        change(&mut settings);
        let sources = Sources::read(&settings.paths, settings.selection).expect("readable");
        let first = rules::load(&sources, &settings.defaults, None);
        assert!(first.problems.is_empty(), "{}", first.problems);
        let reloader = Reloader::new(settings, &sources, &first);
        let (sender, loads) = mpsc::unbounded_channel();
        let asked = Arc::new(Notify::new());
        let task = tokio::spawn(reloader.run(Arc::clone(&asked), move |load| {
            drop(sender.send(load));
            future::ready(())
        }));
        Running { loads, asked, task }
    }

    async fn next(&mut self) -> LoadedRules {
        time::timeout(PATIENCE, self.loads.recv()).await.expect("something is delivered").expect("it runs")
    }
}

fn rule_file(domain: &str, requests: u32) -> String {
    format!("domain: {domain}\ndescriptors: [{{key: a, rate_limit: {requests}/h}}]\n")
}

/// Every domain with the requests of its limits.
fn limits(load: &LoadedRules) -> Vec<(String, Vec<u32>)> {
    let of = |domain: &rules::Domain| {
        domain.rules().iter().flat_map(|rule| &rule.limits).map(|limit| limit.limit.requests).collect()
    };
    load.rules.domains().iter().map(|domain| (domain.name().to_owned(), of(domain))).collect()
}

fn one(domain: &str, requests: u32) -> Vec<(String, Vec<u32>)> {
    vec![(domain.to_owned(), vec![requests])]
}

fn directory_with(files: &[(&str, String)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (file, text) in files {
        fs::write(directory.path().join(file), text).expect("ours");
    }
    directory
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_taken_up() {
    let directory = directory_with(&[("a.yaml", rule_file("a", 1))]);
    let mut running = Running::start(directory.path(), |_| ());
    for requests in 2..5 {
        fs::write(directory.path().join("a.yaml"), rule_file("a", requests)).unwrap();
        assert_eq!(limits(&running.next().await), one("a", requests));
    }
}

#[tokio::test]
async fn an_editors_rename_is_taken_up_each_time() {
    let directory = directory_with(&[("a.yaml", rule_file("a", 1))]);
    let file = directory.path().join("a.yaml");
    let mut running = Running::start(&file, |_| ());
    for requests in 2..5 {
        let new = directory.path().join("a.yaml~");
        fs::write(&new, rule_file("a", requests)).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(limits(&running.next().await), one("a", requests));
    }
}

/// A folder for each version, `..data` pointing at the newest, each file a link through it; the old folder goes.
fn mount_config_map(directory: &Path, version: u32) {
    let folder = directory.join(format!("..{version}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), rule_file("a", version)).unwrap();
    symlink(format!("..{version}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    if version == 1 {
        symlink("..data/a.yaml", directory.join("a.yaml")).unwrap();
    } else {
        fs::remove_dir_all(directory.join(format!("..{}", version - 1))).unwrap();
    }
}

#[tokio::test]
async fn every_swap_of_a_config_map_is_taken_up_by_directory_and_by_file() {
    let directory = tempfile::tempdir().unwrap();
    mount_config_map(directory.path(), 1);
    let mut by_directory = Running::start(directory.path(), |_| ());
    let mut by_file = Running::start(&directory.path().join("a.yaml"), |_| ());
    for version in 2..5 {
        mount_config_map(directory.path(), version);
        assert_eq!(limits(&by_directory.next().await), one("a", version));
        assert_eq!(limits(&by_file.next().await), one("a", version));
    }
}

#[tokio::test]
async fn a_swapped_root_is_taken_up_each_time() {
    let base = tempfile::tempdir().unwrap();
    let swap = |version: u32| {
        let config = base.path().join(format!("v{version}/ratelimit/config"));
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("a.yaml"), rule_file("a", version)).unwrap();
        symlink(format!("v{version}"), base.path().join("next")).unwrap();
        fs::rename(base.path().join("next"), base.path().join("current")).unwrap();
    };
    swap(1);
    let mut running = Running::start(&base.path().join("current/ratelimit/config"), |_| ());
    for version in 2..5 {
        swap(version);
        assert_eq!(limits(&running.next().await), one("a", version));
    }
}

/// Writes a file piece by piece. False if the machine was so slow that a piece stood still for long.
async fn write_in_pieces(file: &Path, whole: &str) -> bool {
    let mut steady = true;
    for (at, _) in whole.match_indices('\n') {
        let begin = time::Instant::now();
        fs::write(file, &whole[..=at]).unwrap();
        time::sleep(SETTLED / 5).await;
        steady &= begin.elapsed() < SETTLED / 2;
    }
    steady
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_waited_for() {
    // Each piece is valid YAML by itself.
    let whole = "domain: a\ndescriptors:\n- {key: a, rate_limit: 2/h}\n- {key: b, rate_limit: 3/h}\n";
    loop {
        let directory = directory_with(&[("a.yaml", rule_file("a", 1))]);
        let mut running = Running::start(directory.path(), |_| ());
        if write_in_pieces(&directory.path().join("a.yaml"), whole).await {
            assert_eq!(limits(&running.next().await), vec![("a".to_owned(), vec![2, 3])]);
            return;
        }
    }
}

#[tokio::test]
async fn a_broken_domain_keeps_its_rules_until_it_is_mended() {
    let directory = directory_with(&[("a.yaml", rule_file("a", 1)), ("b.yaml", rule_file("b", 1))]);
    let mut running = Running::start(directory.path(), |_| ());
    let write = |file: &str, text: &str| {
        let new = directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, directory.path().join(file)).unwrap();
    };

    write("a.yaml", "domain: a\ndescriptors: [{kee: x}]");
    let load = running.next().await;
    assert_eq!(limits(&load), vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![1])]);
    assert_eq!(load.kept_domains, [Box::from("a")]);
    assert!(load.problems.has_errors());

    write("b.yaml", &rule_file("b", 2));
    let load = running.next().await;
    assert_eq!(limits(&load), vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])]);
    assert!(load.problems.has_errors(), "the problem is told as long as it is there");

    write("a.yaml", &rule_file("a", 3));
    let load = running.next().await;
    assert_eq!(limits(&load), vec![("a".to_owned(), vec![3]), ("b".to_owned(), vec![2])]);
    assert!(load.problems.is_empty() && load.kept_domains.is_empty());
}

#[tokio::test]
async fn rules_are_not_all_removed_unless_that_is_allowed() {
    for allow_empty in [false, true] {
        let directory = directory_with(&[("a.yaml", rule_file("a", 1))]);
        let mut running = Running::start(directory.path(), |settings| settings.allow_empty = allow_empty);
        fs::remove_file(directory.path().join("a.yaml")).unwrap();
        let load = running.next().await;
        assert_eq!(limits(&load), if allow_empty { Vec::new() } else { one("a", 1) });
        assert_eq!(load.problems.has_errors(), !allow_empty);
    }
}

#[tokio::test]
async fn a_directory_that_is_gone_takes_no_rules_along() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("rules");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), rule_file("a", 1)).unwrap();
    let mut running = Running::start(&directory, |settings| settings.allow_empty = true);

    fs::remove_dir_all(&directory).unwrap();
    let load = running.next().await;
    assert_eq!(limits(&load), one("a", 1));
    assert!(load.problems.to_string().contains("can't be read"), "{}", load.problems);

    let new = base.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("a.yaml"), rule_file("a", 2)).unwrap();
    fs::rename(new, &directory).unwrap();
    assert_eq!(limits(&running.next().await), one("a", 2));
}

/// A link to a file elsewhere: what happens there is no event here.
fn linked() -> (TempDir, TempDir) {
    let elsewhere = directory_with(&[("real.yaml", rule_file("a", 1))]);
    let directory = tempfile::tempdir().unwrap();
    symlink(elsewhere.path().join("real.yaml"), directory.path().join("a.yaml")).unwrap();
    (elsewhere, directory)
}

#[tokio::test]
async fn the_poll_finds_what_no_event_tells() {
    let (elsewhere, directory) = linked();
    let mut running = Running::start(directory.path(), |settings| settings.poll = Duration::from_millis(20));
    fs::write(elsewhere.path().join("real.yaml"), rule_file("a", 2)).unwrap();
    assert_eq!(limits(&running.next().await), one("a", 2));
}

#[tokio::test]
async fn who_asks_gets_an_answer_changed_or_not() {
    let (elsewhere, directory) = linked();
    let mut running = Running::start(directory.path(), |_| ());
    running.asked.notify_one();
    assert_eq!(limits(&running.next().await), one("a", 1));
    fs::write(elsewhere.path().join("real.yaml"), rule_file("a", 2)).unwrap();
    running.asked.notify_one();
    assert_eq!(limits(&running.next().await), one("a", 2));
}

#[tokio::test]
async fn new_directories_and_files_below_are_taken_up() {
    let directory = directory_with(&[("a.yaml", rule_file("a", 1))]);
    let mut running = Running::start(directory.path(), |_| ());
    fs::create_dir_all(directory.path().join("team/deep")).unwrap();
    fs::write(directory.path().join("team/deep/b.yaml"), rule_file("b", 2)).unwrap();
    assert_eq!(limits(&running.next().await), vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])]);
    fs::write(directory.path().join("team/deep/b.yaml"), rule_file("b", 3)).unwrap();
    assert_eq!(limits(&running.next().await), vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![3])]);
}

/// The number of the one override that there is.
fn granted(load: &LoadedRules) -> u32 {
    let rows = load.rules.domains().iter().flat_map(|domain| domain.overrides().rows());
    let numbers: Vec<u32> = rows.map(|row| row.limits().limits()[0].limit.requests).collect();
    let [number] = numbers.as_slice() else { panic!("one override: {numbers:?}") };
    *number
}

#[tokio::test]
async fn a_file_of_overrides_is_watched_wherever_it_is() {
    let (directory, elsewhere) = (directory_with(&[]), directory_with(&[]));
    let csv = elsewhere.path().join("people.csv");
    let write = |requests: u32| fs::write(&csv, format!("match.a,limit\nx,{requests}/h\n")).unwrap();
    let rules =
        |names: &str| format!("domain: a\ndescriptors: [{{key: a, rate_limit: 1/h, overrides_from: [{names}]}}]\n");
    let api = directory.path().join("a.yaml");
    fs::write(&api, rules("")).unwrap();
    let mut running = Running::start(directory.path(), |_| ());
    write(2);
    fs::write(&api, rules(csv.to_str().unwrap())).unwrap();
    assert_eq!(granted(&running.next().await), 2, "as soon as it is named");
    for requests in 3..6 {
        write(requests);
        assert_eq!(granted(&running.next().await), requests);
    }
    fs::write(&csv, "match.a,limit\nx,six/h\n").unwrap();
    let broken = running.next().await;
    assert_eq!((granted(&broken), broken.problems.errors().count()), (5, 1), "the last good ones stay");
    fs::remove_file(&csv).unwrap();
    let gone = running.next().await;
    assert_eq!((granted(&gone), gone.kept_domains.len()), (5, 1));
    write(7);
    assert_eq!(granted(&running.next().await), 7, "a file that comes back is seen");
}

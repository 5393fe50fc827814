//! docs/src/operating/capacity.md is what the model says, and `tollgate capacity` prints it. Whether the model is true is what
//! `examples/capacity.rs` checks, on a machine that has nothing else to do.

use tollgate::capacity::page;

use crate::harness::run_to_end;

const PAGE: &str = "docs/src/operating/capacity.md";
const COMMAND: &str = "tollgate capacity --requests 1000000 --descriptors 2 --users 5m --replicas 20 --nodes 6";

fn run(command: &str) -> (String, Option<i32>) {
    let args: Vec<&str> = command.split_whitespace().skip(1).collect();
    let output = run_to_end(&args, &[]);
    assert!(output.stderr.is_empty(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// The table whose first line begins as `made` does, replaced by it.
fn with_table(page: &str, made: &str) -> String {
    let head = made.split('|').nth(1).expect("a table");
    let start = page.find(&format!("\n|{head}|")).unwrap_or_else(|| panic!("{PAGE} has no table of {head:?}")) + 1;
    let end = start + page[start..].find("\n\n").expect("text goes on after a table") + 1;
    format!("{}{made}{}", &page[..start], &page[end..])
}

/// With `TOLLGATE_BLESS` set the tables are written anew; what changed is then for `git diff` to show.
#[test]
fn the_page_has_what_the_model_says() {
    let written = std::fs::read_to_string(PAGE).expect("tests run where the crate is");
    let tables = [page::scales(), page::constants(), page::assumptions()];
    let mut made = tables.iter().fold(written.clone(), |page, table| with_table(&page, table));
    let (start, end) = made.split_once(&format!("$ {COMMAND}\n")).expect("the page shows the command");
    let rest = end.split_once("```").expect("a block ends").1;
    made = format!("{start}$ {COMMAND}\n{}```{rest}", run(COMMAND).0);
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        std::fs::write(PAGE, &made).expect("tests run where the crate is");
        return;
    }
    assert_eq!(written, made, "{PAGE} (TOLLGATE_BLESS=1 writes it anew)");
}

#[test]
fn every_example_of_the_help_runs() {
    let (help, code) = run("tollgate capacity --help");
    assert_eq!(code, Some(0));
    let examples: Vec<&str> =
        help.lines().map(str::trim).filter(|line| line.starts_with("tollgate capacity ")).collect();
    assert_eq!(examples.len(), 3, "{help}");
    for example in examples {
        let (printed, code) = run(example);
        assert!(
            matches!(code, Some(0 | 3)) && printed.contains("bounds") | printed.contains("What breaks first"),
            "{printed}"
        );
    }
}

#[test]
fn json_says_what_words_say_and_the_exit_code_whether_it_fits() {
    let json = |command: &str| -> (serde_json::Value, Option<i32>) {
        let (printed, code) = run(command);
        (serde_json::from_str(&printed).expect("JSON"), code)
    };
    let (fits, code) = json("tollgate capacity --requests 50k --users 1m --json");
    assert_eq!((fits["requests_per_second"].as_f64(), fits["users"].as_f64()), (Some(50e3), Some(1e6)));
    assert!(fits["bounds"][0]["share"].as_f64().expect("a number") <= 0.6, "{fits}");
    assert_eq!(code, Some(0));
    let (over, code) = json("tollgate capacity --requests 5m --replicas 1 --nodes 1 --json");
    assert!(over["bounds"][0]["share"].as_f64().expect("a number") > 1.0, "{over}");
    assert_eq!(code, Some(3));
    let (memory, _) = json("tollgate capacity --requests 20k --nodes 0 --json");
    assert_eq!((memory["redis_cores"].as_f64(), memory["nodes"].as_u64()), (Some(0.0), Some(0)));
}

#[test]
fn a_number_that_is_none_is_refused_with_the_way_out() {
    for (wrong, said) in [
        ("--users=many", "such as 250000, 250k or 2.5m"),
        ("--users=0", "expected a number from 1"),
        ("--algorithm=leaky", "expected one of sliding_window"),
        ("--window=soon", "write it as 30s, 5m, 1h or 7d"),
    ] {
        let output = run_to_end(&["capacity", "--requests", "1", wrong], &[]);
        let printed = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.contains(said), "{wrong}: {printed}");
        assert_eq!(output.status.code(), Some(2));
    }
}

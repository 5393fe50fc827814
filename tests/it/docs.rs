//! The documentation's claims that a program can check: settings, metrics, the README's rule and its commands' output.

use std::collections::BTreeSet;

use crate::harness::{RulesDir, Tollgate, run_to_end};

/// The names in backticks in the first column of a text's table rows.
fn tabled(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

/// Every setting that the page on settings has in its tables.
fn documented_settings() -> BTreeSet<String> {
    tabled(include_str!("../../docs/src/reference/settings.md"))
}

/// Every metric that metrics.md has in its tables.
pub(crate) fn documented_metrics() -> BTreeSet<String> {
    tabled(include_str!("../../docs/src/reference/metrics-all.md"))
}

#[test]
fn every_setting_is_documented_and_no_other() {
    let help = run_to_end(&["serve", "--help"], &[]).stdout;
    let help = String::from_utf8(help).expect("help is text").split_whitespace().collect::<Vec<_>>().join(" ");
    let settings = help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned());
    assert_eq!(documented_settings(), settings.collect());
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    let mut served = BTreeSet::new();
    // Each store has its own, a control plane and traces; a Redis and a control plane that aren't there will do.
    let plane = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "127.0.0.1:1"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        // Nothing is asked, so that nothing is told to the collector that isn't there.
        ("TRACING_ENABLED", "true"),
    ];
    let redis = [
        ("REDIS_URL", "127.0.0.1:1"),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", "127.0.0.1:1"),
        ("USE_PROMETHEUS", "true"),
    ];
    for env in [&[("USE_PROMETHEUS", "true")][..], &redis, &plane] {
        let tollgate = Tollgate::start_with(rules.path(), env).await;
        let page = tollgate.metrics().await;
        served
            .extend(page.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())));
    }
    assert_eq!(documented_metrics(), served);
}

/// With `TOLLGATE_BLESS` set the page is written anew; what changed is then for `git diff` to show.
#[test]
fn every_metric_is_documented_as_the_table_of_the_program_has_it() {
    let (path, made) = ("docs/src/reference/metrics-all.md", tollgate::metrics::reference_document());
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        std::fs::write(path, &made).expect("tests run where the crate is");
    }
    let written = std::fs::read_to_string(path).expect("the page is there");
    assert_eq!(written, made, "{path} (TOLLGATE_BLESS=1 writes it anew)");
}

/// The first block fenced as `language` after `heading`.
fn readme_block(heading: &str, language: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let section = readme.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    let block = section.split_once(&format!("```{language}\n")).expect("a block").1;
    block.split_once("```").expect("its end").0
}

#[test]
fn the_readmes_rule_is_that_of_the_envoy_example() {
    let [explained, example]: [yaml_serde::Value; 2] =
        [readme_block("## One rule", "yaml"), include_str!("../../examples/envoy/rules/api.yaml")]
            .map(|text| yaml_serde::from_str(text).expect("YAML"));
    assert_eq!(explained, example);
}

#[tokio::test]
async fn the_readmes_calls_print_what_it_shows() {
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let tollgate = Tollgate::start(&rules).await;
    let address = tollgate.grpc.to_string();
    let block = readme_block("In another terminal", "console");
    let (command, shown) = block.split_once('\n').expect("a command, then what it prints");
    let call = command.split_once("target/release/tollgate ").expect("the command calls").1.split(';').next().unwrap();
    let times = command.split_once(" in ").unwrap().1.split(';').next().unwrap().split_whitespace().count();

    let mut printed = String::new();
    for _ in 0..times {
        let args: Vec<&str> = call.split_whitespace().chain(["--addr", &address]).collect();
        printed += &String::from_utf8(run_to_end(&args, &[]).stdout).expect("text");
    }
    // The seconds are those of the day on which it was written.
    let timeless =
        |text: &str| text.lines().map(|line| line.split(", reset in").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(timeless(&printed), timeless(shown));
    assert!(shown.contains("OK") && shown.contains("OVER_LIMIT"), "{shown}");
}

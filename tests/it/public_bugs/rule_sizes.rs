//! Rule files of two megabytes that took gigabytes of memory.

use std::process::Command;

use crate::harness::{RulesDir, Tollgate, eventually};

const MIB: usize = 1 << 20;

/// What a check or a reload may take at most.
const PEAK_MAX: usize = 256 * MIB;

/// Files of two megabytes, each with what is said of it.
fn files() -> Vec<(&'static str, String, &'static str)> {
    let long = "k".repeat(MIB);
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let head = "domain: d\ndescriptors:\n";
    let aliased = |quote: &str, text: &str| {
        let rest = lines(40_000, &|number| format!("- {{key: *k, value: v{number}}}\n"));
        format!("{head}- {{key: &k {quote}{text}{quote}, value: v}}\n{rest}")
    };
    let below = |number: usize| format!("  - key: c{number}\n");
    let metadata = |number: usize| format!("- {{key: a{number}, metadata: {{text: *k}}}}\n");
    let twice = "*r,".repeat(600_000);
    vec![
        ("a long key that aliases repeat", aliased("", &long), "aliases unfold to more"),
        (
            "one with an escape, which is a copy each time",
            aliased("\"", &format!("{long}\\t")),
            "aliases unfold to more",
        ),
        (
            "a long text in metadata that aliases repeat",
            format!("{head}- {{key: a, metadata: {{text: &k {long}}}}}\n{}", lines(30_000, &metadata)),
            "aliases unfold to more",
        ),
        (
            "a long key above many rules",
            format!("{head}- key: {long}\n  descriptors:\n{}", lines(70_000, &below)),
            "the ids of all rules together are too long",
        ),
        ("a rule that aliases repeat", format!("domain: d\ndescriptors: [&r {{key: a}},{twice}]\n"), "a second time"),
    ]
}

#[test]
fn two_megabytes_of_rules_are_checked_in_a_bounded_memory() {
    for (what, text, said) in files() {
        let rules = RulesDir::with("big.yaml", &text);
        // Python knows what its children took at most.
        let script = "import resource, subprocess, sys\n\
            done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)\n\
            print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
            print(done.stdout.decode())";
        let mut command = Command::new("python3");
        command.args(["-c", script, env!("CARGO_BIN_EXE_tollgate"), "check"]).arg(rules.path());
        let output = command.output().expect("python3 is installed: tests/run.sh does it");
        let text = String::from_utf8(output.stdout).expect("text");
        let (numbers, answer) = text.split_once('\n').expect("a line of numbers");
        let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers[0], 1, "{what}: {answer}");
        assert!(answer.contains(said), "{what}: {answer}");
        assert!(numbers[1] << 10 < PEAK_MAX, "{what}: {} MiB", numbers[1] >> 10);
    }
}

#[tokio::test]
async fn two_megabytes_of_rules_are_reloaded_in_a_bounded_memory() {
    let good = "domain: d\ndescriptors:\n- {key: user, rate_limit: 5/day}\n";
    let rules = RulesDir::with("big.yaml", good);
    let tollgate = Tollgate::start(rules.path()).await;
    let is_successful = || async { tollgate.metric("tollgate_rules_last_reload_successful").await == 1.0 };
    for (what, text, said) in files() {
        rules.write("big.yaml", &text);
        tollgate.process.signal("HUP");
        eventually(what, || async { (!is_successful().await).then_some(()) }).await;
        let shown = crate::harness::get(tollgate.admin, "/rules", &[]).await.expect("it is shown").body;
        assert!(shown.contains(said), "{what}");
        assert_eq!(tollgate.client().limit_of("d", &[("user", "alice")]).await, Some(5), "{what}");
        rules.write("big.yaml", good);
        tollgate.process.signal("HUP");
        eventually("it is good again", || async { is_successful().await.then_some(()) }).await;
    }
    let kilobytes = tollgate.process.memory_kb("VmHWM");
    assert!((kilobytes as usize) << 10 < PEAK_MAX, "{} MiB", kilobytes >> 10);
}

/// Many rules by few aliases, as people write them.
#[test]
fn honest_aliases_are_taken() {
    let rules: String = (0..20_000).map(|number| format!("- {{key: user, value: u{number}, <<: *limits}}\n")).collect();
    let base = "- {key: user, rate_limit: &limit {requests_per_unit: 5, unit: hour}}\n";
    let merged = "- &limits {key: team, rate_limit: *limit, detailed_metric: true, metadata: {owner: the team of the gateway}}\n";
    let rules = RulesDir::with("many.yaml", &format!("domain: d\ndescriptors:\n{base}{merged}{rules}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.arg("check").arg(rules.path()).env_clear().output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

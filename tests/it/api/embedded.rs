//! `examples/embedded.rs`, run: the four calls within another program.

use std::{path::Path, process::Command};

/// What the example prints.
fn run() -> Vec<String> {
    let examples = Path::new(env!("CARGO_BIN_EXE_tollgate")).with_file_name("examples");
    if !examples.join("embedded").exists() {
        // `cargo test` builds it with the tests, but `cargo test --test it` doesn't.
        let built = Command::new(env!("CARGO")).args(["build", "--locked", "--example", "embedded"]).status();
        assert!(built.expect("cargo runs").success(), "the example can't be built");
    }
    let output = Command::new(examples.join("embedded")).env_clear().output();
    let output = output.expect("the example was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn the_example_prints_three_admissions_a_refusal_and_a_limit_of_her_own() {
    assert_eq!(
        run(),
        [
            "1. is_allowed: true",
            "2. is_allowed: true",
            "3. is_allowed: true",
            "4. is_allowed: false",
            "allow_request: true",
            "rate_limit: true, 4 remaining",
            "is_allowed, with a limit of her own: true",
        ]
    );
}

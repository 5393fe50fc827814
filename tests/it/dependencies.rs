//! What `deny.toml` promises of licences, bans and sources, read from Cargo's own account of the dependencies, so that CI
//! holds it without another tool. Advisories need the network: `cargo deny check` fetches them.

use std::process::Command;

use serde_json::Value;

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// The texts in quotes between `begin` and the next `]` of deny.toml.
fn listed(begin: &str) -> Vec<&'static str> {
    let file = include_str!("../../deny.toml");
    let list = file.split_once(begin).unwrap_or_else(|| panic!("no {begin}")).1.split("\n]").next().unwrap();
    let list = if begin.ends_with("[{") { list.split(']').next().unwrap() } else { list };
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

/// SPDX expressions, one level of brackets deep, as crates write them.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    // Older crates write a slash for OR.
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for word in expression.replace('(', "( ").replace(')', " )").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AND" if depth == 0 => parts.push(String::new()),
            word => {
                let part = parts.last_mut().expect("there is always one");
                *part += " ";
                *part += word;
            }
        }
    }
    parts.iter().all(|part| part.split(" OR ").any(|licence| allowed.contains(&licence.trim())))
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_crates_io() {
    let (allowed, banned) = (listed("allow = ["), listed("deny = [{"));
    assert!(allowed.len() > 5 && banned.contains(&"openssl-sys"), "{allowed:?} {banned:?}");
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(is_allowed(licence, &allowed), "{name} is under {licence}");
        assert!(!banned.contains(&name), "{name}");
        match package["source"].as_str() {
            Some(source) => assert!(source.starts_with("registry+"), "{name} comes from {source}"),
            None => assert_eq!(name, "tollgate"),
        }
    }
}

#[test]
fn an_expression_needs_one_of_each_alternative() {
    let allowed = ["MIT", "Unicode-3.0"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(GPL-2.0 OR GPL-3.0) AND Unicode-3.0", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

/// `forbid` can't be lifted by an attribute further in.
#[test]
fn unsafe_code_is_forbidden() {
    assert!(include_str!("../../Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
}

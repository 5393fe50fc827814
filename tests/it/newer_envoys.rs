//! `enable_retry_after_header` exists from Envoy 1.40 on. An older Envoy refuses its whole configuration with it, Istio's
//! proxy the whole filter, and then nothing is limited: so the examples and pages for Istio don't have it, and whatever
//! names it says from which version on it may be used.

use std::path::{Path, PathBuf};

use yaml_serde::Value;

use crate::examples::project;

const FIELD: &str = "enable_retry_after_header";
const SINCE: &str = "1.40";

/// So many lines above or below the field may name the version.
const BESIDE: usize = 3;

/// The files in `root` that somebody copies from or learns from.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["README.md", "docker-compose.yml"].map(|name| root.join(name)).into();
    let mut folders: Vec<PathBuf> = ["config", "deploy", "docs", "examples"].map(|name| root.join(name)).into();
    files.retain(|file| file.exists());
    folders.retain(|folder| folder.exists());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// The text without YAML's comments.
fn uncommented(text: &str) -> String {
    text.lines().map(|line| line.split(" #").next().unwrap_or(line)).filter(|line| !line.starts_with('#')).collect()
}

fn is_of_istio(text: &str) -> bool {
    text.to_ascii_lowercase().contains("istio")
}

/// The YAML blocks of a page that Istio would read: those in sections that speak of it, block or prose.
fn blocks_for_istio(page: &str) -> Vec<String> {
    let (mut sections, mut is_fenced) = (vec![(String::new(), Vec::new())], false);
    for line in page.lines() {
        let is_fence = line.trim_start().starts_with("```");
        if line.starts_with('#') && !is_fenced {
            sections.push((String::new(), Vec::new()));
        }
        let (text, blocks) = sections.last_mut().expect("the first begins with the page");
        *text += line;
        if is_fence && !is_fenced {
            blocks.push(String::new());
        } else if let (false, true, Some(block)) = (is_fence, is_fenced, blocks.last_mut()) {
            *block += &format!("{line}\n");
        }
        is_fenced ^= is_fence;
    }
    sections.into_iter().filter(|(text, _)| is_of_istio(text)).flat_map(|(_, blocks)| blocks).collect()
}

/// What is wrong in `root`.
fn mistakes(root: &Path) -> Vec<String> {
    let mut mistakes = Vec::new();
    for file in files(root) {
        // Whatever is no text names nothing.
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let name = file.strip_prefix(root).expect("it is in there").display().to_string();
        let for_istio = match file.extension().and_then(|extension| extension.to_str()) {
            Some("md") => blocks_for_istio(&text),
            Some("yaml" | "yml") if is_of_istio(&name) || is_of_istio(&uncommented(&text)) => vec![text.clone()],
            _ => Vec::new(),
        };
        if for_istio.iter().any(|text| uncommented(text).contains(FIELD)) {
            mistakes.push(format!("{name}: gives Istio {FIELD}"));
        }
        let lines: Vec<&str> = text.lines().collect();
        for (nth, _) in lines.iter().enumerate().filter(|(_, line)| line.contains(FIELD)) {
            let beside = &lines[nth.saturating_sub(BESIDE)..lines.len().min(nth + BESIDE + 1)];
            if !beside.iter().any(|line| line.contains(SINCE)) {
                mistakes.push(format!("{name}:{}: {FIELD} without {SINCE}", nth + 1));
            }
        }
        if name.ends_with("istio/tollgate.yaml") && !sets_retry_after(&text) {
            mistakes.push(format!("{name}: doesn't set TOLLGATE_RETRY_AFTER_HEADER"));
        }
    }
    mistakes
}

/// Whether a Deployment has Tollgate say itself when to come again.
fn sets_retry_after(text: &str) -> bool {
    use serde::Deserialize;
    yaml_serde::Deserializer::from_str(text).any(|document| {
        let object = Value::deserialize(document).expect("the example is YAML");
        let env = &object["spec"]["template"]["spec"]["containers"][0]["env"];
        let mut variables = env.as_sequence().into_iter().flatten();
        variables.any(|one| one["name"] == "TOLLGATE_RETRY_AFTER_HEADER" && one["value"] == "true")
    })
}

#[test]
fn no_example_or_page_gives_istio_what_only_newer_envoys_know_and_each_says_since_when() {
    let root = project("");
    let named =
        files(&root).iter().filter(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(FIELD))).count();
    assert!(named >= 2, "Envoy's example and the page on headers name it: {named}");
    assert_eq!(mistakes(&root), Vec::<String>::new());
}

/// What the test above holds would be found: each mistake in a tree of its own.
#[test]
fn each_such_mistake_is_found() {
    let deployed =
        "spec: {template: {spec: {containers: [{env: [{name: TOLLGATE_RETRY_AFTER_HEADER, value: \"true\"}]}]}}}\n";
    let filter = "# Envoy 1.40\nenable_retry_after_header: true\n";
    let cases: [(&str, &str, &[&str]); 8] = [
        ("examples/istio/tollgate.yaml", deployed, &[]),
        (
            "examples/istio/tollgate.yaml",
            "spec: {}\n",
            &["examples/istio/tollgate.yaml: doesn't set TOLLGATE_RETRY_AFTER_HEADER"],
        ),
        ("examples/istio/filter.yaml", filter, &["examples/istio/filter.yaml: gives Istio enable_retry_after_header"]),
        (
            "examples/mesh.yaml",
            "apiVersion: networking.istio.io/v1alpha3\nvalue:\n  # 1.40\n  enable_retry_after_header: true\n",
            &["examples/mesh.yaml: gives Istio enable_retry_after_header"],
        ),
        ("examples/envoy/envoy.yaml", filter, &[]),
        (
            "examples/envoy/envoy.yaml",
            "enable_retry_after_header: true\n",
            &["examples/envoy/envoy.yaml:1: enable_retry_after_header without 1.40"],
        ),
        (
            "docs/page.md",
            "# Envoy\n```yaml\nenable_retry_after_header: true # 1.40\n```\n\n# Istio\n```yaml\na: b\n```\n",
            &[],
        ),
        (
            "docs/page.md",
            "# Envoy\n\n## Istio\n```yaml\nenable_retry_after_header: true # 1.40\n```\n",
            &["docs/page.md: gives Istio enable_retry_after_header"],
        ),
    ];
    for (name, text, found) in cases {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(name);
        std::fs::create_dir_all(file.parent().expect("it is in a folder")).unwrap();
        std::fs::write(file, text).unwrap();
        assert_eq!(mistakes(root.path()), found, "{name}:\n{text}");
    }
}

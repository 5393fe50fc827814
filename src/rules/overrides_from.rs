//! What rule files name in `overrides_from`: which files may be named there, and which ones a rule file names, so that they
//! are read with it. Reads none of them itself.

use std::path::Path;

use super::{
    node::{Node, NodeValue},
    yaml,
};

/// The format of a file, by its name.
#[derive(Clone, Copy)]
pub(super) enum FileFormat {
    Csv,
    Ndjson,
    Yaml,
}

impl FileFormat {
    pub(super) fn of(path: &Path) -> Option<FileFormat> {
        match path.extension()?.to_str()? {
            "csv" => Some(FileFormat::Csv),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            "yaml" | "yml" => Some(FileFormat::Yaml),
            _ => None,
        }
    }
}

/// Whether a file may be named in `overrides_from`.
pub(super) fn is_override_file(path: &Path) -> bool {
    FileFormat::of(path).is_some()
}

/// The names in a rule file's `overrides_from`, as far as a broken file can be read: its mistakes are reported when it
/// is loaded.
pub(super) fn names_of_files(bytes: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    // Few files name any, and the others needn't be parsed twice.
    if !text.contains("overrides_from") {
        return Vec::new();
    }
    let mut names = Vec::new();
    if let Some(root) = yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text)).root {
        collect_names(&root, &mut names);
    }
    names
}

fn collect_names(node: &Node<'_>, names: &mut Vec<String>) {
    let NodeValue::Map(entries) = &node.value else { return };
    for (key, value) in entries.iter() {
        let (NodeValue::Scalar { text: key, .. }, NodeValue::List(items)) = (&key.value, &value.value) else {
            continue;
        };
        for item in items.iter() {
            match (&**key, &item.value) {
                ("overrides_from", NodeValue::Scalar { text, .. }) => names.push(text.to_string()),
                ("descriptors", _) => collect_names(item, names),
                _ => {}
            }
        }
    }
}

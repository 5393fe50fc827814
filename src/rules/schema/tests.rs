use super::*;

const KINDS: [SchemaOf; 3] = [SchemaOf::Rules, SchemaOf::Tests, SchemaOf::Overrides];

#[test]
fn every_key_that_the_reader_knows_has_a_value_and_the_words_of_the_docs() {
    for of in KINDS {
        let schema = schema(of);
        for (name, map) in schema["$defs"].as_object().expect("maps") {
            for (key, property) in map["properties"].as_object().expect("keys") {
                let place = format!("{of:?}: {name}.{key}");
                assert!(property["description"].is_string(), "{place} has no words");
                let is_free = property["deprecated"] == true;
                assert!(is_free || property.as_object().is_some_and(|keys| keys.len() > 1), "{place} takes anything");
            }
        }
    }
}

/// A cell of a table, without its links.
fn cell(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.trim();
    while let Some((before, link)) = rest.split_once('[') {
        match link.split_once("](").and_then(|(words, target)| Some((words, target.split_once(')')?.1))) {
            Some((words, after)) => {
                out.extend([before, words]);
                rest = after;
            }
            None => {
                out.extend([before, "["]);
                rest = link;
            }
        }
    }
    out + rest
}

#[test]
fn the_words_are_those_of_the_docs() {
    let page = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        std::fs::read_to_string(path).expect("it is in the repository")
    };
    let pages =
        ["src/reference/rules.md", "src/reference/limits.md", "src/reference/overrides.md", "src/reference/testing.md"]
            .map(page);
    let rows = pages.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with("| `"));
    let rows: Vec<(&str, String)> =
        rows.filter_map(|line| line[2..].split_once(" | ")).map(|(keys, rest)| (keys, cell(rest))).collect();
    for (map, key, words) in words::WORDS {
        let is_it = |(keys, rest): &(&str, String)| {
            let names_key = keys.contains(&format!("`{key}`")) || keys.contains(&format!("`{key}:"));
            names_key && rest.starts_with(&format!("{words} |"))
        };
        assert!(rows.iter().any(is_it), "{map}: `{key}`: {words}: no row of the docs says so");
    }
}

#[test]
fn every_reference_leads_to_a_map() {
    for of in KINDS {
        let schema = schema(of);
        let text = schema.to_string();
        for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(schema.pointer(reference).is_some(), "{of:?}: #{reference}");
        }
    }
}

//! What a source file imports: every path that begins with `crate`, `super` or `self`, and every other name that a path
//! begins with, with the line. Tests are left out: they may look into everything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One file of `src/`.
pub(super) struct Source {
    pub(super) file: PathBuf,
    /// `serve::listen::core`; empty for `lib.rs` and `main.rs`.
    pub(super) module: String,
    /// Every path that the file names, and its line: `["crate", "limit", "Limit"]`.
    pub(super) paths: Vec<(Vec<String>, usize)>,
}

impl Source {
    /// Whether a path begins with a module below this one, or with a name that this file imports: it is no crate's.
    pub(super) fn is_local(&self, path: &[String], sources: &BTreeMap<String, Source>) -> bool {
        let Some(first) = path.first() else { return true };
        sources.contains_key(&format!("{}::{first}", self.module))
            || self.paths.iter().any(|(other, _)| {
                let name = other.strip_suffix(&["self".to_owned()]).unwrap_or(other);
                name.len() > 1 && name.last() == Some(first)
            })
    }
}

/// All files of `src/` that the program is built from, by module.
pub(super) fn read(src: &Path) -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    let mut only_tests = Vec::new();
    for file in files(src) {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let module = module_of(file.strip_prefix(src).expect("below src"));
        let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { module: &module, paths: Vec::new(), only_tests: &mut only_tests };
        reader.items(tokens);
        let paths = reader.paths;
        sources.insert(module.clone(), Source { file, module, paths });
    }
    sources.retain(|module, _| !only_tests.iter().any(|tests| is_within(module, tests)));
    sources
}

/// Whether a module is another one or lies below it.
pub(super) fn is_within(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("src is a directory") {
        let path = entry.expect("an entry of src").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn module_of(file: &Path) -> String {
    let parts: Vec<_> = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.as_slice() {
        [root] if root == "lib" || root == "main" => String::new(),
        parts => parts.join("::"),
    }
}

struct Reader<'a> {
    module: &'a str,
    paths: Vec<(Vec<String>, usize)>,
    /// Modules that only tests are built with.
    only_tests: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn items(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_for_tests(&tokens[at..]) {
                at = self.pass_over(&tokens, at + 2);
                continue;
            }
            match &tokens[at] {
                TokenTree::Group(group) => self.items(group.stream()),
                TokenTree::Ident(name) if !follows_path(&tokens, at) && begins_path(&tokens, at) => {
                    let line = name.span().start().line;
                    at = self.path(&tokens, at, &[], line);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads one path, or the tree of a `use`; returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, before: &[String], line: usize) -> usize {
        let mut path = before.to_vec();
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.tree(group.stream(), &path);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            match is_colons(tokens, at) {
                true => at += 2,
                false => break,
            }
        }
        self.paths.push((path, line));
        at
    }

    fn tree(&mut self, tokens: TokenStream, before: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for branch in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
            if let Some(first) = branch.first() {
                self.path(branch, 0, before, first.span().start().line);
            }
        }
    }

    /// Passes over an item that only tests are built with, and remembers it if it is a module of its own file.
    fn pass_over(&mut self, tokens: &[TokenTree], mut at: usize) -> usize {
        let mut name = None;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(word) if word == "mod" => name = tokens.get(at).map(ToString::to_string),
                TokenTree::Punct(end) if end.as_char() == ';' => {
                    if let Some(name) = name {
                        self.only_tests.push(format!("{}::{name}", self.module).trim_start_matches("::").to_owned());
                    }
                    break;
                }
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
        at
    }
}

/// `#[cfg(test)]`
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return false };
    hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at..at + 2), Some([TokenTree::Punct(one), TokenTree::Punct(two)])
        if one.as_char() == ':' && two.as_char() == ':')
}

/// A name after `::` goes on a path that began before.
fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colons(tokens, at - 2)
}

fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    is_colons(tokens, at + 1)
}
